"""From a depth image to the marks of its blocks: every ray, or one ray per voxel of surface."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.memory.octree import dense, kernels, pixels
from embodied_mem.memory.octree import depth as deep
from embodied_mem.memory.octree.scan import ByteMap, Marks, mark
from embodied_mem.memory.octree.types import as_labels
from embodied_mem.memory.octree.view import View, prepare_work
from embodied_mem.types import Intrinsics

MODES = ("exact", "discretized")
MANY = 100_000
"""In images of fewer pixels it is quicker to follow the rays than to ask the voxels; same marks."""


class Lifted(NamedTuple):
    """A depth image in the map.

    Attributes:
        points: (3, H * W) float32 [m], the ends of the rays.
        kinds: (H * W,) uint8: 0 no ray, 1 clears, 2 hits.
        reach: (H, W) float32 planar depth of the ends, -1 where there is no ray.
        lo: (3,) int64 first voxel that a ray touches.
        hi: (3,) int64 last one.
        dropped: pixels without a ray.
    """

    points: NDArray[np.float32]
    kinds: NDArray[np.uint8]
    reach: NDArray[np.float32]
    lo: NDArray[np.int64]
    hi: NDArray[np.int64]
    dropped: int


def check_image(
    depth: NDArray[np.float32], view: Intrinsics, labels: NDArray[np.int32] | None
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Checks a depth image and its labels against the camera.

    Raises:
        InputError: shapes or dtypes are wrong, or the image is distorted.
    """
    image = np.asarray(depth)
    if image.shape != (view.height, view.width) or image.dtype.kind != "f":
        raise InputError(
            f"depth must be ({view.height}, {view.width}) floats in metres, not {image.shape} {image.dtype}"
        )
    if view.is_distorted:
        raise InputError("depth must be rectified first: the camera has distortion coefficients")
    names = np.asarray(labels) if labels is not None else None
    if names is not None and names.shape != image.shape:
        raise InputError(f"labels must be {image.shape}, like the depth image, not {names.shape}")
    flat = as_labels(None if names is None else np.maximum(names, 0).reshape(-1), image.size)
    return np.ascontiguousarray(image, np.float32), flat


def lift(
    depth: NDArray[np.float32],
    view: Intrinsics,
    pose: Pose,
    reach: float,
    cut: float,
    resolution: float,
    drop_flying: bool,
    byte_map: ByteMap,
) -> Lifted:
    """Finds where the rays of a depth image end; surfaces farther than `cut` [m] end there."""
    kinds = pixels.pixel_kinds(depth, 1 if np.isfinite(reach) else 0, drop_flying)
    dropped = int(kinds.size - np.count_nonzero(kinds))
    points = byte_map.scratch("points", (3, *depth.shape), np.float32)
    ends = byte_map.scratch("reach", depth.shape, np.float32)
    origin = pose.position.astype(np.float32)
    rotation, position = pose.rotation(), np.array(pose.position)
    # Beyond the range even after a point has moved to the centre of its voxel.
    horizon = reach * 1.001 + 2.0 * resolution if np.isfinite(reach) else 1.0
    fx, fy, cx, cy = float(view.fx), float(view.fy), float(view.cx), float(view.cy)
    pixels.lift_depth(depth, kinds, fx, fy, cx, cy, rotation, position, origin, cut, horizon, points, ends)
    flat = points.reshape(3, -1)
    lo = np.minimum(flat.min(axis=1), origin).astype(np.float64) / resolution
    hi = np.maximum(flat.max(axis=1), origin).astype(np.float64) / resolution
    if max(np.abs(lo).max(), np.abs(hi).max()) >= kernels.WORLD:
        raise InputError("the depth image reaches beyond the world of the octree")
    first, last = np.floor(lo).astype(np.int64) - 1, np.floor(hi).astype(np.int64) + 1
    return Lifted(flat, kinds.reshape(-1), ends, first, last, dropped)


def mark_exact(
    lifted: Lifted,
    view: Intrinsics,
    pose: Pose,
    labels: NDArray[np.int32],
    resolution: float,
    byte_map: ByteMap,
) -> Marks:
    """Marks the voxels that the rays of all pixels pass and those in which they end."""
    origin = pose.position.astype(np.float32)
    if len(lifted.kinds) < MANY or not byte_map.fits(lifted.lo, lifted.hi):
        used = np.flatnonzero(lifted.kinds)
        points, hit = np.ascontiguousarray(lifted.points[:, used].T), lifted.kinds[used] == 2
        names = labels[used] if len(labels) else labels
        marks = mark(points, hit, names, origin, np.inf, resolution, True, byte_map)
        return marks._replace(dropped=marks.dropped + lifted.dropped)
    cells = byte_map.cover(lifted.lo, lifted.hi)
    frame = byte_map.frame(origin, np.inf, resolution)
    ends = byte_map.scratch("ends", lifted.kinds.shape, np.int32)
    pixels.mark_surfaces(lifted.points, lifted.kinds, frame.lo, frame.strides, frame.inverse, cells, ends)
    offsets, size = pixels.pyramid_layout(view.height, view.width)
    pyramid = byte_map.scratch("pyramid", (size,), np.float32)
    pixels.farthest_pyramid(lifted.reach, pyramid, offsets)
    # float32 coordinates are coarser far from the map's origin: doubt more there.
    coarse = 2.5e-7 * float(max(np.abs(lifted.lo).max(), np.abs(lifted.hi).max()))
    camera = View(
        view.width,
        view.height,
        float(view.fx),
        float(view.fy),
        float(view.cx),
        float(view.cy),
        pose.rotation(),
        frame.at,
        resolution,
        3.0 * frame.eps + coarse,
    )
    doubtful = np.zeros(len(lifted.kinds), np.bool_)
    size = int(byte_map.shape.prod())
    parts = np.linspace(0, size, 1 + (8 * byte_map.threads if byte_map.threads > 1 else 1)).astype(int)

    def mark_part(first: int, last: int) -> None:
        deep.mark_view(
            camera,
            prepare_work(camera),
            lifted.reach,
            pyramid,
            offsets,
            byte_map.shape,
            byte_map.strides,
            cells,
            doubtful,
            first,
            last,
        )

    byte_map.spread(mark_part, [(int(i), int(j)) for i, j in pairwise(parts)])
    walk = np.flatnonzero(doubtful & (lifted.kinds > 0))
    if len(walk):
        points = np.ascontiguousarray(lifted.points[:, walk].T)
        dense.mark_rays(points, np.zeros(len(walk), np.bool_), frame, cells, np.empty(len(walk), np.int32))
    keys, marks, names = byte_map.take(cells, ends, labels)
    return Marks(keys, marks, names, lifted.dropped)


def mark_discretized(
    lifted: Lifted,
    pose: Pose,
    labels: NDArray[np.int32],
    max_range: float,
    resolution: float,
    byte_map: ByteMap,
) -> Marks:
    """Marks the voxels of one ray to the centre of each voxel in which rays end.

    `lifted` must not be cut at the maximum range: as in OctoMap the points are discretised
    first and held against the range then.
    """
    voxels, names = byte_map.distinct(lifted.points, lifted.kinds, 2, labels, lifted, resolution)
    hit = np.ones(len(voxels), np.bool_)
    if (lifted.kinds == 1).any():
        clear, _ = byte_map.distinct(lifted.points, lifted.kinds, 1, labels[:0], lifted, resolution)
        voxels = np.concatenate([voxels, clear])
        hit = np.concatenate([hit, np.zeros(len(clear), np.bool_)])
        names = np.concatenate([names, np.zeros(len(clear) if len(labels) else 0, np.int32)])
    points = ((voxels + 0.5) * resolution).astype(np.float32)
    origin = pose.position.astype(np.float32)
    marks = mark(points, hit, names, origin, max_range, resolution, True, byte_map)
    return marks._replace(dropped=lifted.dropped)

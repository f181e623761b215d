"""From a depth image to the marks of its blocks: every ray, or one ray per voxel of surface."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.memory.octree import dense, kernels, pixels, surface
from embodied_mem.memory.octree import depth as deep
from embodied_mem.memory.octree.scan import FEW, ByteMap, Marks, mark
from embodied_mem.memory.octree.types import as_labels
from embodied_mem.memory.octree.view import View, prepare_work
from embodied_mem.types import Intrinsics

MODES = ("exact", "hybrid", "discretized")
WIDE = 6.0
"""Voxels that look wider than so many pixels are asked; beyond them it is quicker to follow rays."""
FOLLOW = 0.3
"""In small images it is quicker, farther than this [m], to follow the rays through unsettled voxels too."""
MANY = 100_000
"""Pixels of an image that is not small."""

SPARSE = 4
"""Hybrid mode follows the rays of one pixel in so many of one row in so many."""


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
    horizon = _horizon(reach, resolution)
    fx, fy, cx, cy = float(view.fx), float(view.fy), float(view.cx), float(view.cy)

    def lift_rows(first: int, last: int) -> None:
        pixels.lift_depth(
            depth, kinds, fx, fy, cx, cy, rotation, position, origin, cut, horizon, points, ends, first, last
        )

    byte_map.spread(lift_rows, len(depth))
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
    settle: bool = True,
) -> Marks:
    """Marks the voxels that the rays of all pixels pass and those in which they end.

    Without `settle` those voxels are marked free that the pixel at their centre
    or the ray of one in SPARSE^2 pixels shows to be free.
    """
    origin = pose.position.astype(np.float32)
    if len(lifted.kinds) < FEW or not byte_map.fits(lifted.lo, lifted.hi):
        used = np.flatnonzero(lifted.kinds)
        points, hit = np.ascontiguousarray(lifted.points[:, used].T), lifted.kinds[used] == 2
        names = labels[used] if len(labels) else labels
        marks = mark(points, hit, names, origin, np.inf, resolution, True, byte_map)
        return marks._replace(dropped=marks.dropped + lifted.dropped)
    cells = byte_map.cover(lifted.lo, lifted.hi)
    frame = byte_map.frame(origin, np.inf, resolution)
    ends = byte_map.scratch("ends", lifted.kinds.shape, np.int32)

    def mark_ends(i: int, j: int) -> None:
        where, kinds = lifted.points[:, i:j], lifted.kinds[i:j]
        pixels.mark_surfaces(where, kinds, frame.lo, frame.strides, frame.inverse, cells, ends[i:j])

    byte_map.spread(mark_ends, len(ends))
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
    near = resolution * min(camera.fx, camera.fy) / WIDE
    starts = byte_map.scratch("starts", lifted.reach.shape, np.float32)
    starts.fill(near)
    if not settle:
        starts[::SPARSE, ::SPARSE] = 0.0
    # Threads would lose each other's lowered starts; what else they write is the same for all.
    follow = FOLLOW if len(lifted.kinds) < MANY and byte_map.threads == 1 else np.inf

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
            starts.reshape(-1),
            first,
            last,
            near,
            follow,
            settle,
        )

    byte_map.spread(mark_part, int(byte_map.shape.prod()), 8)
    points, skips = pixels.select_rays(lifted.points, lifted.reach.reshape(-1), starts.reshape(-1))
    if len(points):
        hit, unused = np.zeros(len(points), np.bool_), np.empty(len(points), np.int32)
        dense.mark_rays(points, hit, skips, frame, cells, unused)
    keys, marks, names = byte_map.take(cells, ends, labels)
    return Marks(keys, marks, names, lifted.dropped)


def mark_discretized(
    depth: NDArray[np.float32],
    view: Intrinsics,
    pose: Pose,
    labels: NDArray[np.int32],
    max_range: float,
    resolution: float,
    drop_flying: bool,
    byte_map: ByteMap,
) -> Marks:
    """Marks the voxels of one ray to the centre of each voxel in which rays end.

    As in OctoMap the points are discretised first and held against the range then.
    """
    kinds = pixels.pixel_kinds(depth, 1 if np.isfinite(max_range) else 0, drop_flying)
    lens = surface.Lens(
        (np.arange(view.width) - float(view.cx)) / float(view.fx),
        (np.arange(view.height) - float(view.cy)) / float(view.fy),
        pose.rotation(),
        np.array(pose.position, np.float64),
        1.0 / resolution,
        _horizon(max_range, resolution),
    )
    found = _distinct(depth, kinds, 2, lens, labels, resolution, byte_map)
    hit = np.ones(len(found[0]), np.bool_)
    if (kinds == 1).any():
        clear, _ = _distinct(depth, kinds, 1, lens, labels[:0], resolution, byte_map)
        none = np.zeros(len(clear) if len(labels) else 0, np.int32)
        found = np.concatenate([found[0], clear]), np.concatenate([found[1], none])
        hit = np.concatenate([hit, np.zeros(len(clear), np.bool_)])
    origin = pose.position.astype(np.float32)
    marks = mark(found[0], hit, found[1], origin, max_range, resolution, True, byte_map)
    return marks._replace(dropped=int(kinds.size - np.count_nonzero(kinds)))


def _horizon(reach: float, resolution: float) -> float:
    """Returns a depth beyond the range even after a point has moved to the centre of its voxel [m]."""
    return reach * 1.001 + 2.0 * resolution if np.isfinite(reach) else 1.0


def _distinct(
    depth: NDArray[np.float32],
    kinds: NDArray[np.uint8],
    kind: int,
    lens: surface.Lens,
    labels: NDArray[np.int32],
    resolution: float,
    byte_map: ByteMap,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Lists the centres of the voxels in which pixels of a kind lie, and their labels.

    Raises:
        InputError: a pixel lies outside the world.
    """
    lower, upper = surface.view_bounds(depth, kinds, lens)
    limit = np.abs(np.stack([lower, upper])).max() / resolution
    if limit < kernels.WORLD:
        lo = np.floor(lower / resolution).astype(np.int64) - 1
        hi = np.floor(upper / resolution).astype(np.int64) + 1
        if byte_map.fits(lo, hi):
            byte_map.cover(lo, hi)
            cells = byte_map.scratch("cells", depth.shape, np.int32)
            # Roundings of numbers as large as the byte map, and of float32 points as large as the map.
            eps = float(byte_map.shape.max() * 8) * 1e-6 + 2.5e-7 * float(limit) + 1e-6

            def find_cells(i: int, j: int) -> None:
                part = lens._replace(rows=lens.rows[i:j])
                lo, strides = byte_map.lo, byte_map.strides
                surface.surface_cells(depth[i:j], kinds[i:j], kind, part, lo, strides, eps, cells[i:j])

            byte_map.spread(find_cells, len(depth))
            found = byte_map.scratch("found", (cells.size,), np.int32)
            return surface.distinct_cells(
                cells.reshape(-1), labels, byte_map.first(), found, byte_map.lo, byte_map.strides, resolution
            )
    v, u = np.nonzero(kinds == kind)
    z = depth[v, u].astype(np.float64) if kind == 2 else np.full(len(v), lens.horizon)
    x, y, r = lens.columns[u] * z, lens.rows[v] * z, lens.rotation
    points = [r[a, 0] * x + r[a, 1] * y + r[a, 2] * z + lens.position[a] for a in range(3)]
    scaled = np.stack(points, axis=-1).astype(np.float32).astype(np.float64) * lens.inverse
    if len(scaled) and np.abs(scaled).max() >= kernels.WORLD:
        raise InputError("the depth image reaches beyond the world of the octree")
    voxels = np.floor(scaled).astype(np.int64)
    distinct, member = np.unique(voxels, axis=0, return_inverse=True)
    names = labels
    if len(labels):
        chosen = labels[v * depth.shape[1] + u]
        names = np.zeros(len(distinct), np.int32)
        pairs, votes = np.unique(
            member.reshape(-1)[chosen > 0] << 16 | chosen[chosen > 0], return_counts=True
        )
        order = np.lexsort((-(pairs & 0xFFFF), votes, pairs >> 16))
        names[pairs[order] >> 16] = pairs[order] & 0xFFFF
    return ((distinct + 0.5) * resolution).astype(np.float32), names

"""From a depth image to the marks of the voxels that the rays of all its pixels pass."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.memory.octree import kernels, pixels, pyramid
from embodied_mem.memory.octree.crew import give_up, make_gates
from embodied_mem.memory.octree.frame import Frame
from embodied_mem.memory.octree.scan import FEW, ByteMap, Marks, mark
from embodied_mem.memory.octree.sweep import GATES, Choice, Rays, Sight, sweep
from embodied_mem.memory.octree.types import as_labels
from embodied_mem.memory.octree.view import View, prepare_work, share_work
from embodied_mem.types import Intrinsics

MODES = ("exact", "hybrid", "discretized")
WIDE = 6.0
"""Voxels that look narrower than so many pixels are settled by following rays; it is quicker there."""
TAILED = 0.4
"""Where more of the rays than this end beyond there, the last voxels of all of those are followed."""


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


def horizon(reach: float, resolution: float) -> float:
    """Returns a depth beyond the range even after a point has moved to the centre of its voxel [m]."""
    return reach * 1.001 + 2.0 * resolution if math.isfinite(reach) else 1.0


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
    kinds = byte_map.scratch("kinds", depth.shape, np.uint8)
    points = byte_map.scratch("points", (3, *depth.shape), np.float32)
    # The depths of the ends are the first level of a pyramid of them: see `_look`.
    sight = byte_map.scratch("sight", (pyramid.pyramid_layout(*depth.shape)[1],), np.float32)
    ends = sight[: depth.size].reshape(depth.shape)
    origin = pose.position.astype(np.float32)
    rotation, position = pose.rotation(), np.array(pose.position)
    clear, far = 1 if math.isfinite(reach) else 0, horizon(reach, resolution)
    fx, fy, cx, cy = float(view.fx), float(view.fy), float(view.cx), float(view.cy)
    found: list[tuple[float, ...]] = []

    def lift_rows(gates: NDArray[np.int64]) -> None:
        part = (rotation, position, origin, cut, far, points, ends, gates)
        found.append(pixels.lift_rows(depth, clear, drop_flying, kinds, fx, fy, cx, cy, *part))

    byte_map.join(lift_rows, 3.0 * depth.size)
    lo, hi, rays = pixels.join_bounds(np.array(found), resolution, float(kernels.WORLD))
    if rays < 0:
        raise InputError("the depth image reaches beyond the world of the octree")
    return Lifted(points.reshape(3, -1), kinds.reshape(-1), ends, lo, hi, kinds.size - rays)


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

    Without `settle` those voxels are marked free that the pixel at their centre shows to be free,
    or one of the rays that `pyramid.sample_rays` chooses.
    """
    origin = pose.position.astype(np.float32)
    cells = byte_map.cover(lifted.lo, lifted.hi) if len(lifted.kinds) >= FEW else None
    if cells is None:
        used = np.flatnonzero(lifted.kinds)
        points, hit = np.ascontiguousarray(lifted.points[:, used].T), lifted.kinds[used] == 2
        names = labels[used] if len(labels) else labels
        marks = mark(points, hit, names, origin, np.inf, resolution, True, byte_map)
        return marks._replace(dropped=marks.dropped + lifted.dropped)
    frame = byte_map.frame(origin, np.inf, resolution)
    ends = byte_map.scratch("ends", lifted.kinds.shape, np.int32)
    camera = _camera(lifted, view, pose, frame)
    _sweep(lifted, camera, frame, cells, ends, byte_map, settle)
    keys, marks, names = byte_map.take(cells, ends, labels)
    return Marks(keys, marks, names, lifted.dropped)


def _camera(lifted: Lifted, view: Intrinsics, pose: Pose, frame: Frame) -> View:
    """Returns the camera in the byte map's voxels."""
    # float32 coordinates are coarser far from the map's origin: doubt more there.
    coarse = 2.5e-7 * max(map(abs, lifted.lo.tolist() + lifted.hi.tolist()))
    return View(
        view.width,
        view.height,
        float(view.fx),
        float(view.fy),
        float(view.cx),
        float(view.cy),
        pose.rotation(),
        frame.at,
        frame.resolution,
        3.0 * frame.eps + coarse,
    )


def _sweep(
    lifted: Lifted,
    camera: View,
    frame: Frame,
    cells: NDArray[np.uint8],
    ends: NDArray[np.int32],
    byte_map: ByteMap,
    settle: bool,
) -> None:
    """Marks the voxels that the rays pass, and those in which they end, on the threads there are."""
    work, size, scratch = prepare_work(camera), len(ends), byte_map.scratch
    hands = byte_map.hands(5000.0 * math.prod(byte_map.shape.tolist()))
    levels, room = pyramid.pyramid_layout(camera.height, camera.width)
    rays = Rays(
        lifted.points,
        lifted.kinds,
        ends,
        scratch("starts", (hands, size), np.float32),
        scratch("left", (hands, size), np.int64),
        np.empty(hands, np.int64),
    )
    # `lift` has filled the first level of `sight`.
    near, rest, least = (scratch(name, (room,), np.float32) for name in ("sight", "rest", "least"))
    seen, opened = (scratch(name, (2 * room,), np.float32) for name in ("seen", "opened"))
    sight = Sight(levels, near, rest, least, seen, opened, np.empty(4))
    voxel = camera.resolution * min(camera.fx, camera.fy)
    choice = Choice(voxel, max(voxel / WIDE, 3.0 * camera.resolution), TAILED, settle)
    gates, desks = make_gates(GATES), byte_map.desks(hands)
    works = [work, *(share_work(work) for _ in range(1, hands))]
    same = frame, byte_map.shape, cells

    def part(hand: int) -> None:
        try:
            sweep(rays, sight, choice, camera, works[hand], *same, desks[hand], gates, hand, hands)
        except BaseException:
            give_up(gates)
            raise

    try:
        byte_map.share(part, hands)
    except BaseException:
        byte_map.forget()
        raise

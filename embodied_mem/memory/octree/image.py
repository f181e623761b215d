"""From a depth image to the marks of the voxels that the rays of all its pixels pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.memory.octree import asking, dense, kernels, pixels, settling
from embodied_mem.memory.octree.frame import Frame
from embodied_mem.memory.octree.scan import FEW, ByteMap, Marks, mark
from embodied_mem.memory.octree.types import as_labels
from embodied_mem.memory.octree.view import View, Work, prepare_work, renew_scratch
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
    return reach * 1.001 + 2.0 * resolution if np.isfinite(reach) else 1.0


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
    ends = byte_map.scratch("reach", depth.shape, np.float32)
    origin = pose.position.astype(np.float32)
    rotation, position = pose.rotation(), np.array(pose.position)
    clear, far = 1 if np.isfinite(reach) else 0, horizon(reach, resolution)
    fx, fy, cx, cy = float(view.fx), float(view.fy), float(view.cx), float(view.cy)
    corners = [origin]
    found: list[int] = []

    def lift_rows(first: int, last: int) -> None:
        pixels.judge_pixels(depth, clear, drop_flying, kinds, first, last)
        pixels.lift_depth(
            depth, kinds, fx, fy, cx, cy, rotation, position, origin, cut, far, points, ends, first, last
        )
        part = points[:, first:last].reshape(3, -1)
        corners.extend([part.min(axis=1), part.max(axis=1)])
        found.append(int(np.count_nonzero(kinds[first:last])))

    byte_map.spread(lift_rows, len(depth), 3 * depth.shape[1])
    lo = np.min(corners, axis=0).astype(np.float64) / resolution
    hi = np.max(corners, axis=0).astype(np.float64) / resolution
    if max(np.abs(lo).max(), np.abs(hi).max()) >= kernels.WORLD:
        raise InputError("the depth image reaches beyond the world of the octree")
    first, last = np.floor(lo).astype(np.int64) - 1, np.floor(hi).astype(np.int64) + 1
    return Lifted(points.reshape(3, -1), kinds.reshape(-1), ends, first, last, kinds.size - sum(found))


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
    or one of the rays that `pixels.sample_rays` chooses.
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

    byte_map.spread(mark_ends, len(ends), 1)
    starts = _ask(lifted, _camera(lifted, view, pose, frame), byte_map, cells, settle)
    _follow(lifted, starts, frame, byte_map, cells)
    keys, marks, names = byte_map.take(cells, ends, labels)
    return Marks(keys, marks, names, lifted.dropped)


def _camera(lifted: Lifted, view: Intrinsics, pose: Pose, frame: Frame) -> View:
    """Returns the camera in the byte map's voxels."""
    # float32 coordinates are coarser far from the map's origin: doubt more there.
    coarse = 2.5e-7 * float(max(np.abs(lifted.lo).max(), np.abs(lifted.hi).max()))
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


def _ask(
    lifted: Lifted, camera: View, byte_map: ByteMap, cells: NDArray[np.uint8], settle: bool
) -> NDArray[np.float32]:
    """Marks the voxels that pixels show to be free; returns the depths (N,) from which to follow rays."""
    work = prepare_work(camera)
    follow = max(camera.resolution * min(camera.fx, camera.fy) / WIDE, 3.0 * camera.resolution)
    count = len(lifted.kinds)
    reach = lifted.reach.reshape(-1)
    starts = [byte_map.scratch(f"starts {k}", (count,), np.float32) for k in range(byte_map.threads)]
    for own in starts:
        own.fill(work.certain)
    tailed = bool(np.count_nonzero(reach > follow) > count * TAILED)
    settle = settle or tailed
    if not settle:
        width = camera.resolution * min(camera.fx, camera.fy)
        pixels.sample_rays(lifted.reach, width, starts[0].reshape(lifted.reach.shape))
    sight, seen, levels = _depths_around(lifted.reach, work, follow if tailed else None, starts[0], byte_map)
    free = list(zip(starts, [work, *(renew_scratch(work) for _ in starts[1:])], byte_map.unsettled()))
    shape, strides = byte_map.shape, byte_map.strides

    def ask_part(first: int, last: int) -> None:
        # What threads lower and list, each lowers and lists in arrays of its own.
        own = mine, scratch, left = free.pop()
        while first < last:
            first, found = asking.ask_blocks(
                camera, scratch, reach, sight, seen, levels, shape, strides, cells, first, last,
                work.certain, left,
            )  # fmt: skip
            if settle:
                settling.settle_voxels(
                    camera, scratch, reach, sight, levels, cells, mine, left, found, follow
                )
        free.append(own)

    byte_map.spread(ask_part, int(byte_map.shape.prod()), 5000, 8)
    for own in starts[1:]:
        np.minimum(starts[0], own, out=starts[0])
    return starts[0]


def _depths_around(
    reach: NDArray[np.float32],
    work: Work,
    follow: float | None,
    starts: NDArray[np.float32],
    byte_map: ByteMap,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Builds the pyramids of the largest depths: of the image, and of what rays do not follow.

    With `follow` the tails of the rays that end beyond it [m] are chosen to be followed.
    """
    levels, size = pixels.pyramid_layout(*reach.shape)
    sight = byte_map.scratch("sight", (size,), np.float32)
    sight[: reach.size] = reach.reshape(-1)
    pixels.farthest_pyramid(sight, levels)
    rest = sight
    if follow is not None:
        rest = byte_map.scratch("rest", (size,), np.float32)
        back = 2.0 * float(work.half[2]) + 2e-5
        shown = rest[: reach.size].reshape(reach.shape)
        pixels.lay_tails(reach, back, follow, starts.reshape(reach.shape), shown)
        pixels.farthest_pyramid(rest, levels)
    seen = byte_map.scratch("seen", (2 * size,), np.float32)
    near = min(work.certain, float(sight[-1]))
    finest, _ = asking.scale_for(float(work.half[2]), work.widths, work.heights, near, len(levels))
    pixels.spread_pyramid(rest, levels, finest, seen)
    return sight, seen, levels


def _follow(
    lifted: Lifted,
    starts: NDArray[np.float32],
    frame: Frame,
    byte_map: ByteMap,
    cells: NDArray[np.uint8],
) -> None:
    """Marks the voxels that rays pass from `starts` on."""
    reach = lifted.reach.reshape(-1)
    left = byte_map.scratch("left", starts.shape, np.int64)
    long: list[NDArray[np.int64]] = []

    def follow_part(first: int, last: int) -> None:
        count = dense.mark_tails(lifted.points, reach, starts, frame, cells, first, last, left[first:last])
        long.append(left[first : first + count])

    byte_map.spread(follow_part, len(starts), 3)
    rays = np.concatenate(long)
    if len(rays):
        points = np.ascontiguousarray(lifted.points[:, rays].T)
        skips = np.maximum(starts[rays] - np.float32(1e-3), np.float32(0.0)) / reach[rays]
        hit, unused = np.zeros(len(rays), np.bool_), np.empty(len(rays), np.int32)
        dense.mark_rays(points, hit, skips, frame, cells, unused)

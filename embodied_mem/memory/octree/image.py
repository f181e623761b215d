"""From a depth image to the marks of the voxels that the rays of all its pixels pass."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.memory.octree import asking, kernels, pixels, pyramid, tails
from embodied_mem.memory.octree.frame import Frame
from embodied_mem.memory.octree.scan import FEW, ByteMap, Marks, mark
from embodied_mem.memory.octree.types import as_labels
from embodied_mem.memory.octree.view import View, Work, prepare_work, share_work
from embodied_mem.types import Intrinsics

MODES = ("exact", "hybrid", "discretized")
WIDE = 6.0
"""Voxels that look narrower than so many pixels are settled by following rays; it is quicker there."""
TAILED = 0.4
"""Where more of the rays than this end beyond there, the last voxels of all of those are followed."""


PARTS, LARGE = 8, 6
"""In how many parts blocks are asked for each thread, and how many of those it does at first."""


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


class Sight(NamedTuple):
    """What a depth image is asked with.

    Attributes:
        work: what `prepare_work` made of the camera.
        starts: for each thread that asks (H * W,) float32, the depths from which on rays are followed [m].
        limit: what lies wholly beyond this depth is not asked about [m].
        follow: rays are followed through what lies beyond this depth and is not settled [m].
        settle: whether to find out about each voxel, in which rays that are not followed may be.
        sight: pyramid of the largest depths of the image, of which level 0 is the image itself.
        seen: of `spread_pyramid`, of what rays that are not followed see.
        opened: likewise, of the negated depths: how far all of them see.
        firsts: (2,) int64, the first level for which `seen` is filled, and `opened`.
        levels: of `pyramid_layout`.
    """

    work: Work
    starts: list[NDArray[np.float32]]
    limit: float
    follow: float
    settle: bool
    sight: NDArray[np.float32]
    seen: NDArray[np.float32]
    opened: NDArray[np.float32]
    firsts: NDArray[np.int64]
    levels: NDArray[np.int64]


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

    def lift_rows(first: int, last: int) -> None:
        part = (rotation, position, origin, cut, far, points, ends, first, last)
        found.append(pixels.lift_rows(depth, clear, drop_flying, kinds, fx, fy, cx, cy, *part))

    byte_map.spread(lift_rows, len(depth), 3 * depth.shape[1])
    columns = list(zip(*found))
    lo, hi = (
        [f(column) / resolution for column in part] for f, part in ((min, columns[:3]), (max, columns[3:6]))
    )
    if not -kernels.WORLD < min(lo) <= max(hi) < kernels.WORLD:
        raise InputError("the depth image reaches beyond the world of the octree")
    first, last = np.array([math.floor(c) - 1 for c in lo]), np.array([math.floor(c) + 1 for c in hi])
    dropped = kinds.size - int(sum(columns[6]))
    return Lifted(points.reshape(3, -1), kinds.reshape(-1), ends, first, last, dropped)


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
    if len(lifted.kinds) < FEW or not byte_map.fits(lifted.lo, lifted.hi):
        used = np.flatnonzero(lifted.kinds)
        points, hit = np.ascontiguousarray(lifted.points[:, used].T), lifted.kinds[used] == 2
        names = labels[used] if len(labels) else labels
        marks = mark(points, hit, names, origin, np.inf, resolution, True, byte_map)
        return marks._replace(dropped=marks.dropped + lifted.dropped)
    cells = byte_map.cover(lifted.lo, lifted.hi)
    frame = byte_map.frame(origin, np.inf, resolution)
    ends = byte_map.scratch("ends", lifted.kinds.shape, np.int32)
    camera = _camera(lifted, view, pose, frame)
    sights: list[Sight] = []
    byte_map.together(
        lambda: pixels.mark_surfaces(
            lifted.points, lifted.kinds, frame.lo, frame.strides, frame.inverse, cells, ends
        ),
        lambda: sights.append(_look(lifted, camera, byte_map, settle)),
    )
    _ask(camera, sights[0], byte_map, cells)
    _follow(lifted, sights[0].starts, frame, byte_map, cells)
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


def _look(lifted: Lifted, camera: View, byte_map: ByteMap, settle: bool) -> Sight:
    """Prepares to ask what pixels show, and chooses the rays that are to be followed in any case."""
    work, image = prepare_work(camera), lifted.reach.shape
    voxel = camera.resolution * min(camera.fx, camera.fy)
    follow = max(voxel / WIDE, 3.0 * camera.resolution)
    hands = byte_map.hands(5000.0 * math.prod(byte_map.shape.tolist()))
    starts = [byte_map.scratch(f"starts {k}", lifted.kinds.shape, np.float32) for k in range(hands)]
    levels, size = pyramid.pyramid_layout(*image)
    sight, rest, least = (byte_map.scratch(name, (size,), np.float32) for name in ("sight", "rest", "least"))
    seen, opened = (byte_map.scratch(name, (2 * size,), np.float32) for name in ("seen", "opened"))
    tailed, limit, *firsts = pyramid.look(  # `lift` has filled the first level of `sight`
        sight,
        levels,
        work,
        voxel,
        follow,
        TAILED,
        settle,
        starts[0].reshape(image),
        rest,
        least,
        seen,
        opened,
    )
    first = np.array(firsts)
    return Sight(work, starts, limit, follow, settle or tailed, sight, seen, opened, first, levels)


def _ask(camera: View, view: Sight, byte_map: ByteMap, cells: NDArray[np.uint8]) -> None:
    """Marks the voxels that pixels show to be free; lowers the depths from which to follow rays."""
    work, sight, levels = view.work, view.sight, view.levels
    reach = sight[: camera.width * camera.height]
    hands, shape, strides = len(view.starts), byte_map.shape, byte_map.strides
    desks = byte_map.desks(hands)
    large, small = _share_out(hands)

    def ask_part(hand: int, _: int) -> None:
        # What threads lower and list, each lowers and lists in arrays of its own.
        mine, (asked, left) = view.starts[hand], desks[hand]
        own = work if hand == 0 else share_work(work)
        if hand:
            mine.fill(work.certain)
        share = large[hand]
        while True:
            asking.ask_share(
                camera, own, reach, sight, view.seen, view.opened, view.firsts, levels, shape, strides, cells,
                share, view.limit, view.follow, view.settle, mine, asked, left,
            )  # fmt: skip
            try:
                share = small.pop()
            except IndexError:
                return

    byte_map.spread(ask_part, hands, np.inf)


def _share_out(hands: int) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """Returns a large share of the blocks for each thread, and small ones for whoever is done first."""
    if hands == 1:
        return [np.array([0, 1, 1])], []
    total = PARTS * hands
    large = [np.array([k * LARGE, LARGE, total]) for k in range(hands)]
    return large, [np.array([k, 1, total]) for k in range(hands * LARGE, total)]


def _follow(
    lifted: Lifted,
    starts: list[NDArray[np.float32]],
    frame: Frame,
    byte_map: ByteMap,
    cells: NDArray[np.uint8],
) -> None:
    """Marks the voxels that rays pass from the lowest of `starts` on."""
    reach, begins = lifted.reach.reshape(-1), starts[0]
    left = byte_map.scratch("left", begins.shape, np.int64)
    long: list[NDArray[np.int64]] = []

    def follow_part(first: int, last: int) -> None:
        part = begins[first:last]
        for own in starts[1:]:
            np.minimum(part, own[first:last], out=part)
        count = tails.mark_tails(lifted.points, reach, begins, frame, cells, first, last, left[first:last])
        long.append(left[first : first + count])

    byte_map.spread(follow_part, len(begins), 3)
    for rays in long:
        tails.mark_left(lifted.points, reach, begins, frame, cells, rays)

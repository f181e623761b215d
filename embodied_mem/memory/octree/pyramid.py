"""Numba kernels on pyramids of depths: how far, and how near, parts of a depth image see."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.nodes import finest_level
from embodied_mem.memory.octree.view import Work

Array = NDArray[Any]

STRIDE = 16
"""At most so many pixels are between two rays of hybrid mode."""
AROUND = 4
"""Pixels to each side whose rays decide where the tail of a ray starts: `lay_tails` counts on four."""


@cache
def pyramid_layout(height: int, width: int) -> tuple[NDArray[np.int64], int]:
    """Returns start, height and width of each level (L, 3) down to a single node, and the size of all."""
    layout, size = [(0, height, width)], height * width
    while height > 1 or width > 1:
        height, width = (height + 1) // 2, (width + 1) // 2
        layout.append((size, height, width))
        size += height * width
    return np.array(layout, np.int64), size


@njit(cache=True, nogil=True)
def farthest_pyramid(sight: Array, levels: Array) -> None:
    """Builds the levels of largest depths: level l has one number for 2^l x 2^l pixels.

    Args:
        sight: flat float32, filled from level 1 on; level 0 is the image itself.
        levels: (L, 3) int64: start of each level, its height and width.
    """
    pair = np.empty(levels[0, 2] + 1, np.float32)
    for level in range(1, levels.shape[0]):
        at, rows, columns = levels[level, 0], levels[level, 1], levels[level, 2]
        below, h, w = levels[level - 1, 0], levels[level - 1, 1], levels[level - 1, 2]
        for v in range(rows):
            top = sight[below + 2 * v * w : below + 2 * v * w + w]
            bottom = sight[below + (2 * v + 1) * w : below + (2 * v + 2) * w] if 2 * v + 1 < h else top
            for u in range(w):
                pair[u] = max(top[u], bottom[u])
            pair[w] = pair[w - 1]
            out = sight[at + v * columns : at + (v + 1) * columns]
            for u in range(columns):
                out[u] = max(pair[2 * u], pair[2 * u + 1])


@njit(cache=True, nogil=True, inline="always")
def _row(nodes: Array, v: int, rows: int, columns: int) -> Array:
    """Returns row v of a flat image, the nearest one where there is none."""
    first = min(max(v, 0), rows - 1) * columns
    return nodes[first : first + columns]


@njit(cache=True, nogil=True)
def _join_rows(a: Array, b: Array, c: Array, d: Array, e: Array, most: Array) -> None:
    """Fills (N,) float32 with the largest of five."""
    for u in range(most.shape[0]):
        most[u] = max(max(max(a[u], b[u]), max(c[u], d[u])), e[u])


@njit(cache=True, nogil=True)
def spread_pyramid(sight: Array, levels: Array, first: int, outside: float, seen: Array) -> None:
    """Spreads the largest depths over the two, and over the three, nodes to each side.

    Args:
        sight: of `farthest_pyramid`.
        levels: likewise.
        first: finest level that is needed.
        outside: what there is beside the image, not more than in it.
        seen: flat float32, filled: as `sight` with two nodes, then again with three.
    """
    size = sight.shape[0]
    lines = np.empty((2, levels[0, 2] + 6), np.float32)
    for level in range(first, levels.shape[0]):
        at, rows, columns = levels[level, 0], levels[level, 1], levels[level, 2]
        nodes = sight[at : at + rows * columns]
        lines[:] = np.float32(outside)  # so it stays beside the image
        near, far = lines[0], lines[1]
        for v in range(rows):
            # At the border rows are taken twice. Few at a time, or compilers do not see that none overlap.
            inner = near[3 : 3 + columns]
            _join_rows(
                _row(nodes, v - 2, rows, columns), _row(nodes, v - 1, rows, columns),
                _row(nodes, v + 1, rows, columns), _row(nodes, v + 2, rows, columns),
                _row(nodes, v, rows, columns), inner,
            )  # fmt: skip
            above, below = _row(nodes, v - 3, rows, columns), _row(nodes, v + 3, rows, columns)
            for u in range(columns):
                far[3 + u] = max(max(above[u], below[u]), inner[u])
            out = seen[at + v * columns : at + (v + 1) * columns]
            for u in range(columns):
                out[u] = max(max(max(near[u + 1], near[u + 2]), max(near[u + 4], near[u + 5])), near[u + 3])
            out = seen[size + at + v * columns : size + at + (v + 1) * columns]
            for u in range(columns):
                ends = max(max(far[u], far[u + 1]), max(far[u + 5], far[u + 6]))
                out[u] = max(max(max(far[u + 2], far[u + 3]), far[u + 4]), ends)


@njit(cache=True, nogil=True)
def _nearest_rows(a: Array, b: Array, c: Array, d: Array, e: Array, least: Array) -> None:
    """Fills (N,) float32 with the smallest of five."""
    for u in range(least.shape[0]):
        least[u] = min(min(min(a[u], b[u]), min(c[u], d[u])), e[u])


@njit(cache=True, nogil=True)
def lay_tails(reach: Array, back: float, follow: float, starts: Array, sight: Array) -> None:
    """Chooses the rays' tails that are followed anyway, most of which pass voxels that pixels cannot settle.

    A tail starts `back` before the nearest end of the rays around: none of them hides a voxel before that.

    Args:
        reach: (H, W) float32 planar depth of the rays' ends [m].
        back: [m].
        follow: rays that end nearer have no tail [m].
        starts: (H, W) float32, lowered to where the tails start [m].
        sight: (H, W) float32, filled with the depths up to which rays are not followed [m].
    """
    height, width = reach.shape
    lines = np.full((3, width + 2 * AROUND), np.float32(np.inf))
    column, pairs, fours, flat = lines[0], lines[1], lines[2], reach.reshape(height * width)
    for v in range(height):
        nearest = column[AROUND : AROUND + width]
        _nearest_rows(
            _row(flat, v - 4, height, width), _row(flat, v - 3, height, width),
            _row(flat, v - 2, height, width), _row(flat, v - 1, height, width),
            _row(flat, v, height, width), pairs[:width],
        )  # fmt: skip
        _nearest_rows(
            _row(flat, v + 4, height, width), _row(flat, v + 3, height, width),
            _row(flat, v + 2, height, width), _row(flat, v + 1, height, width),
            pairs[:width], nearest,
        )  # fmt: skip
        for u in range(width + 2 * AROUND - 1):
            pairs[u] = min(column[u], column[u + 1])
        for u in range(width + 2 * AROUND - 3):
            fours[u] = min(pairs[u], pairs[u + 2])
        ends, begins, seen = reach[v], starts[v], sight[v]
        for u in range(width):
            around = min(min(fours[u], fours[u + 4]), column[u + 8])
            begin = around - np.float32(back)
            tail = (ends[u] > np.float32(follow)) & (begin > np.float32(0.0))
            begin = begin if tail else ends[u]
            begins[u] = min(begins[u], begin)
            seen[u] = min(begins[u], ends[u])


@njit(cache=True, nogil=True)
def sample_rays(reach: Array, width: float, starts: Array) -> None:
    """Chooses the rays that hybrid mode follows: half a voxel to a voxel apart where they end.

    Args:
        reach: (H, W) float32 planar depth of the rays' ends [m], -1 where there is no ray.
        width: of a voxel as seen from 1 m [px].
        starts: (H, W) float32, 0 for the rays chosen.
    """
    for v in range(reach.shape[0]):
        row, begins = reach[v], starts[v]
        for u in range(reach.shape[1]):
            apart = 1
            while apart < STRIDE and np.float32(2 * apart) * row[u] <= np.float32(width):
                apart *= 2
            if (u | v) & (apart - 1) == 0:
                begins[u] = np.float32(0.0)


@njit(cache=True, nogil=True)
def count_beyond(reach: Array, depth: float) -> int:
    """Counts the rays of (N,) float32 planar depths that end beyond a depth [m]."""
    limit, count = np.float32(depth), np.int32(0)
    for i in range(reach.shape[0]):
        count += np.int32(reach[i] > limit)
    return count


@njit(cache=True, nogil=True)
def look_far(
    sight: Array, levels: Array, work: Work, voxel: float, follow: float, share: float, settle: bool,
    starts: Array, rest: Array, seen: Array
) -> tuple[bool, float, int]:  # fmt: skip
    """Prepares what voxels are asked with, from the depths of the rays' ends.

    Args:
        sight: of `farthest_pyramid`, the upper levels of which are filled here.
        levels: of `pyramid_layout`.
        work: the view's constants.
        voxel: width of a voxel as seen from 1 m [px].
        follow: of `lay_tails` [m].
        share: where more of the rays than this end beyond `follow`, tails are followed.
        settle: whether voxels that pixels do not settle are settled; where they are not, and tails
            are not followed, some rays are followed as a whole: `sample_rays`.
        starts: (H, W) float32, filled with the depth from which on each ray is followed [m].
        rest: like `sight`, filled where tails are followed: of the depths up to which they are not.
        seen: of `spread_pyramid`, from what is not followed.

    Returns:
        whether tails are followed; up to which depth voxels are asked about [m]; the first level for
        which `seen` is filled.
    """
    height, width = levels[0, 1], levels[0, 2]
    reach, shown = sight[: height * width], sight
    image = reach.reshape((height, width))
    starts[:] = np.float32(work.certain)
    tailed = count_beyond(reach, follow) > share * reach.shape[0]
    if not (settle or tailed):
        sample_rays(image, voxel, starts)
    farthest_pyramid(sight, levels)
    limit = min(work.certain, np.float64(sight[-1]))  # no ray goes beyond the largest depth
    finest = finest_level(work, 1, limit, levels.shape[0])
    if tailed:
        shown = rest
        back = 2.0 * work.half[2] + 2e-5
        lay_tails(image, back, follow, starts, rest[: height * width].reshape((height, width)))
        farthest_pyramid(rest, levels)
    spread_pyramid(shown, levels, finest, -1.0, seen)
    return tailed, limit, finest


@njit(cache=True, nogil=True)
def look_near(reach: Array, levels: Array, work: Work, least: Array, opened: Array) -> int:
    """Prepares what nodes larger than voxels are asked with beside `look_far`, from the nearest depths.

    Args:
        reach: (H * W,) float32 planar depth of the rays' ends [m], -1 where there is no ray.
        levels: of `pyramid_layout`.
        work: the view's constants.
        least: like `sight` of `look_far`, filled from the negated depths.
        opened: of `spread_pyramid`, from those.

    Returns:
        the first level for which `opened` is filled.
    """
    most, bits = np.zeros(1, np.int32), reach.view(np.int32)  # positive floats are ordered like their bits
    farthest = np.int32(0)
    for i in range(reach.shape[0]):
        farthest = np.int32(max(farthest, bits[i]))
        least[i] = -reach[i]
    most[0] = farthest
    limit = min(work.certain, np.float64(most.view(np.float32)[0]))
    coarser = finest_level(work, 2, limit, levels.shape[0])
    farthest_pyramid(least, levels)
    spread_pyramid(least, levels, coarser, -np.inf, opened)
    return coarser

"""Numba kernels for depth images: which voxels do pixels see through?

Rays of neighbouring pixels pass the same voxels over and over. So it is the voxels
that are asked here, a block at a time, not the rays: a voxel is free if the ray of
the pixel at its centre passes it and ends beyond it, and it is left alone if no pixel
around its centre sees that far. The few between are listed, for `settling`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.view import Unsettled, View, Work

Array = NDArray[Any]

PAD = 64
"""As in `dense`."""
RUN = 2
"""Neighbouring blocks that one thread asks before it leaves as many to each of the others."""
_LOW = np.uint64(0x0101010101010101)
"""The lowest bit of each byte."""


@njit(cache=True, nogil=True, inline="always")
def _farthest(sight: Array, levels: Array, u0: int, u1: int, v0: int, v1: int, nodes: int) -> float:
    """Returns an upper bound of the depths in a rectangle of pixels, from at most nodes^2 numbers."""
    level = 0
    while max((u1 >> level) - (u0 >> level), (v1 >> level) - (v0 >> level)) >= nodes:
        level += 1
    at, columns = levels[level, 0], levels[level, 2]
    best = np.float32(-1.0)
    for v in range(v0 >> level, (v1 >> level) + 1):
        for u in range(u0 >> level, (u1 >> level) + 1):
            best = max(best, sight[at + v * columns + u])
    return best


@njit(cache=True, nogil=True)
def _outline(view: View, x: int, y: int, z: int) -> tuple[int, int, int, int, float, float, bool]:
    """Projects a block whose first voxel is (x, y, z); clips the rectangle to the image.

    Returns:
        first and last column, first and last row (first > last where it is outside), smallest
        and largest depth [m]; all of the image where the block reaches behind the camera; and
        whether all of the block projects into the image.
    """
    r, res = view.rotation, view.resolution
    u0, v0, near = np.inf, np.inf, np.inf
    u1, v1, far = -np.inf, -np.inf, -np.inf
    behind = False
    # Signed distances to the planes through the camera and the sides of the image.
    left, right, top, bottom = -np.inf, np.inf, -np.inf, np.inf
    for corner in range(8):
        a = (x + 8.0 * (corner >> 2) - view.at[0]) * res
        b = (y + 8.0 * ((corner >> 1) & 1) - view.at[1]) * res
        c = (z + 8.0 * (corner & 1) - view.at[2]) * res
        depth = r[0, 2] * a + r[1, 2] * b + r[2, 2] * c
        near, far = min(near, depth), max(far, depth)
        u = view.fx * (r[0, 0] * a + r[1, 0] * b + r[2, 0] * c) + view.cx * depth
        v = view.fy * (r[0, 1] * a + r[1, 1] * b + r[2, 1] * c) + view.cy * depth
        left, right = max(left, u), min(right, u - (view.width - 1.0) * depth)
        top, bottom = max(top, v), min(bottom, v - (view.height - 1.0) * depth)
        if depth < 1e-3:
            behind = True
            continue
        u, v = u / depth, v / depth
        u0, u1, v0, v1 = min(u0, u), max(u1, u), min(v0, v), max(v1, v)
    outside = far < 1e-6 or left < -1e-5 or right > 1e-5 or top < -1e-5 or bottom > 1e-5
    if behind or outside:
        return (1 if outside else 0), (0 if outside else view.width - 1), 0, view.height - 1, near, far, False
    whole = u0 >= 0.0 and v0 >= 0.0 and u1 <= view.width - 1.0 and v1 <= view.height - 1.0
    # A hundredth of a pixel covers what rounding may do.
    first_u = np.int64(max(np.ceil(u0 - 0.01), 0.0))
    last_u = np.int64(min(np.floor(u1 + 0.01), view.width - 1.0))
    first_v = np.int64(max(np.ceil(v0 - 0.01), 0.0))
    last_v = np.int64(min(np.floor(v1 + 0.01), view.height - 1.0))
    if first_v > last_v:
        first_u, last_u = 1, 0
    return first_u, last_u, first_v, last_v, near, far, whole


@njit(cache=True, nogil=True, inline="always")
def scale_for(thick: float, widths: Array, heights: Array, near: float, count: int) -> tuple[int, int]:
    """Chooses a level, and how many of its nodes to each side span the outline of a voxel: two or three.

    Args:
        thick: half a voxel's depth [m].
        widths: of `Work`.
        heights: likewise.
        near: smallest depth of the voxel [m].
        count: number of levels; the last one is a single node, which spans everything.
    """
    if near < 1e-2:
        return count - 1, 2
    c = near + thick
    wide, tall = widths[0] + widths[1] / c, heights[0] + heights[1] / c
    pixels = max(wide, tall) / near + 1.0
    level = 0
    while level < count - 1 and 3.0 * (1 << level) < pixels:
        level += 1
    return level, (2 if 2.0 * (1 << level) >= pixels else 3)


@njit(cache=True, nogil=True, error_model="numpy")
def _locate_whole(
    view: View, level: int, columns: int, x: int, y: int, z: int, depth: Array, pixel: Array, node: Array
) -> None:  # fmt: skip
    """Computes where the centres of the voxels of a block are that is in view as a whole, all at once.

    Fills the last three, of `Work`, as `_locate_block` does.
    """
    r, res = view.rotation, np.float64(view.resolution)
    a, b, c = (x + 0.5 - view.at[0]) * res, (y + 0.5 - view.at[1]) * res, (z + 0.5 - view.at[2]) * res
    d0 = np.float32(r[0, 2] * a + r[1, 2] * b + r[2, 2] * c)
    s0 = np.float32(view.fx * (r[0, 0] * a + r[1, 0] * b + r[2, 0] * c))
    t0 = np.float32(view.fy * (r[0, 1] * a + r[1, 1] * b + r[2, 1] * c))
    f, g = view.fx * res, view.fy * res
    sx, sy, sz = np.float32(r[0, 0] * f), np.float32(r[1, 0] * f), np.float32(r[2, 0] * f)
    tx, ty, tz = np.float32(r[0, 1] * g), np.float32(r[1, 1] * g), np.float32(r[2, 1] * g)
    dx, dy, dz = np.float32(r[0, 2] * res), np.float32(r[1, 2] * res), np.float32(r[2, 2] * res)
    cx, cy = np.float32(view.cx + 0.5), np.float32(view.cy + 0.5)
    stride, across, shift = np.int32(view.width), np.int32(columns), np.int32(level)
    one = np.float32(1.0)
    for k in range(np.int32(512)):
        i, j, m = np.float32(k >> 6), np.float32((k >> 3) & 7), np.float32(k & 7)
        d = d0 + i * dx + j * dy + m * dz
        per = one / d
        depth[k] = d
        column = np.int32((s0 + i * sx + j * sy + m * sz) * per + cx)
        row = np.int32((t0 + i * tx + j * ty + m * tz) * per + cy)
        pixel[k] = np.int32(row * stride + column)
        node[k] = np.int32(np.int32(row >> shift) * across + np.int32(column >> shift))


@njit(cache=True, nogil=True, error_model="numpy")
def _locate_block(
    view: View, thick: float, level: int, columns: int, x: int, y: int, z: int, side: Array, down: Array,
    depth: Array, inside: Array, pixel: Array, node: Array
) -> None:  # fmt: skip
    """Computes where the centres of a block's voxels are in the image, all at once.

    Fills the last six, of `Work`; `pixel` and `node` are of the nearest pixel in the image, and of
    its node in a level with so many columns. `thick` is half a voxel's depth [m].
    """
    r, res = view.rotation, np.float64(view.resolution)
    a, b, c = (x + 0.5 - view.at[0]) * res, (y + 0.5 - view.at[1]) * res, (z + 0.5 - view.at[2]) * res
    s0 = np.float32(r[0, 0] * a + r[1, 0] * b + r[2, 0] * c)
    t0 = np.float32(r[0, 1] * a + r[1, 1] * b + r[2, 1] * c)
    d0 = np.float32(r[0, 2] * a + r[1, 2] * b + r[2, 2] * c)
    sx, sy, sz = np.float32(r[0, 0] * res), np.float32(r[1, 0] * res), np.float32(r[2, 0] * res)
    tx, ty, tz = np.float32(r[0, 1] * res), np.float32(r[1, 1] * res), np.float32(r[2, 1] * res)
    dx, dy, dz = np.float32(r[0, 2] * res), np.float32(r[1, 2] * res), np.float32(r[2, 2] * res)
    fx, fy = np.float32(view.fx), np.float32(view.fy)
    cx, cy = np.float32(view.cx + 0.5), np.float32(view.cy + 0.5)
    width, height = np.float32(view.width), np.float32(view.height)
    stride, across, shift = np.int32(view.width), np.int32(columns), np.int32(level)
    front, one, zero = np.float32(thick + 1e-3), np.float32(1.0), np.float32(0.0)
    first, most_u, most_v = np.float32(0.5), width - np.float32(0.75), height - np.float32(0.75)
    for k in range(np.int32(512)):
        i, j, m = np.float32(k >> 6), np.float32((k >> 3) & 7), np.float32(k & 7)
        s = s0 + i * sx + j * sy + m * sz
        t = t0 + i * tx + j * ty + m * tz
        d = d0 + i * dx + j * dy + m * dz
        side[k], down[k], depth[k] = s, t, d
        ahead = d > front
        per = one / (d if ahead else one)
        u, v = fx * s * per + cx, fy * t * per + cy
        inside[k] = np.int32(ahead & (u > zero) & (u < width) & (v > zero) & (v < height))
        u, v = u if u > first else first, v if v > first else first
        u, v = u if u < most_u else most_u, v if v < most_v else most_v
        column, row = np.int32(u), np.int32(v)
        pixel[k] = np.int32(row * stride + column)
        node[k] = np.int32(np.int32(row >> shift) * across + np.int32(column >> shift))


@njit(cache=True, nogil=True)
def _look_up(image: Array, places: Array, found: Array) -> None:
    """Reads an image at (512,) int32 places: a loop by itself, so that those around it are vectorised."""
    where = places.view(np.uint32)
    for k in range(512):
        found[k] = image[where[k]]


@njit(cache=True, nogil=True, error_model="numpy")
def _ask_whole(half: float, depth: Array, here: Array, around: Array, states: Array) -> None:
    """Fills the `states` of the voxels of a block that is in view as a whole: see `_ask_block`."""
    thick, tiny = np.float32(half), np.float32(1e-5)
    for k in range(512):
        d = depth[k]
        state = np.int32(0) if around[k] < d - thick - (tiny + d * tiny) else np.int32(2)
        states[k] = np.int32(1) if here[k] > d + thick else state


@njit(cache=True, nogil=True, error_model="numpy")
def _ask_block(
    view: View, half: float, surely: float, margins: Array, limit: float, side: Array, down: Array,
    depth: Array, inside: Array, here: Array, around: Array, states: Array
) -> None:  # fmt: skip
    """Fills the `states` of a block's voxels: what `_locate_block` found, against the depths there.

    Args:
        view: the camera.
        half: half a voxel's depth [m].
        surely: `certain` of `Work`.
        margins: of `Work`.
        limit: what lies wholly beyond this depth need not be settled [m].
        side: of `Work`, as filled by `_locate_block`.
        down: likewise.
        depth: likewise.
        inside: likewise.
        here: (512,) float32, the depths at the voxels' centres [m].
        around: (512,) float32, the largest depths in their outlines [m].
        states: (512,) uint8.
    """
    fx, fy, cx, cy = np.float32(view.fx), np.float32(view.fy), np.float32(view.cx), np.float32(view.cy)
    right, bottom = np.float32(view.width - 1) - cx, np.float32(view.height - 1) - cy
    thick, certain, last = np.float32(half), np.float32(surely), np.float32(limit)
    front, tiny = np.float32(half + 1e-3), np.float32(1e-5)
    m0, m1 = np.float32(margins[0]), np.float32(margins[1])
    m2, m3 = np.float32(margins[2]), np.float32(margins[3])
    rough = np.float32(1e-6 * (view.fx + view.fy + view.width + view.height))
    for k in range(512):
        d, s, t = depth[k], side[k], down[k]
        free = (inside[k] != 0) & (d < certain) & (here[k] > d + thick)
        hidden = (d > front) & (around[k] < d - thick - (tiny + d * tiny))
        slack = rough * (abs(s) + abs(t) + abs(d))
        beside = (fx * s + cx * d < -m0 - slack) | (fx * s - right * d > m1 + slack)
        beside |= (fy * t + cy * d < -m2 - slack) | (fy * t - bottom * d > m3 + slack)
        out = hidden | beside | (d < -thick) | (d > last)
        state = np.int32(0) if out else np.int32(2)
        states[k] = np.int32(1) if free else state


@njit(cache=True, nogil=True)
def _mark_block(
    words: Array, corner: int, sx: int, sy: int, states: Array, view: View, x: float, y: float, z: float,
    count: int, left: Unsettled
) -> int:  # fmt: skip
    """Marks a block's free voxels; lists those that are neither free nor hit nor out of sight.

    Args:
        words: the byte map, eight cells at a time.
        corner: the block's first word.
        sx: words per voxel along x.
        sy: words per voxel along y.
        states: (64,) uint64, of `_ask_block`.
        view: the camera.
        x: the block's corner from the camera [voxels].
        y: likewise.
        z: likewise.
        count: voxels listed so far.
        left: where to list them.

    Returns:
        how many are listed now.
    """
    before = count
    for i in range(64):
        state = states[i]
        if state == 0:
            continue
        at = corner + (i >> 3) * sx + (i & 7) * sy
        word = words[at] | (state & _LOW)
        words[at] = word
        todo = (state >> np.uint64(1)) & ~(word | (word >> np.uint64(1))) & _LOW
        if todo:
            for j in range(8):
                if (todo >> np.uint64(8 * j)) & np.uint64(1):
                    left.cells[count] = at * 8 + j
                    left.low[0, count], left.low[1, count] = x + (i >> 3), y + (i & 7)
                    left.low[2, count] = z + j
                    count += 1
    r, res = view.rotation, np.float64(view.resolution)
    for n in range(before, count):
        a, b = (np.float64(left.low[0, n]) + 0.5) * res, (np.float64(left.low[1, n]) + 0.5) * res
        c = (np.float64(left.low[2, n]) + 0.5) * res
        left.side[n] = r[0, 0] * a + r[1, 0] * b + r[2, 0] * c
        left.down[n] = r[0, 1] * a + r[1, 1] * b + r[2, 1] * c
        left.depth[n] = r[0, 2] * a + r[1, 2] * b + r[2, 2] * c
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def ask_blocks(
    view: View, work: Work, reach: Array, sight: Array, seen: Array, levels: Array, shape: Array,
    strides: Array, cells: Array, first: int, share: Array, limit: float, left: Unsettled
) -> tuple[int, int]:  # fmt: skip
    """Marks FREE the voxels that the pixels at their centres see through, in a part of the byte map.

    Blocks do not depend on each other: threads may take different ones, with `work` of their own.
    Shares take turns, RUN blocks for each of their parts, so that about as much is in each part.

    Args:
        view: the camera.
        work: what `prepare_work` made of it.
        reach: (H * W,) float32 planar depth of the rays' ends, -1 where there is no ray.
        sight: of `farthest_pyramid`.
        seen: of `spread_pyramid`.
        levels: of `pyramid_layout`.
        shape: (3,) int64 blocks of the byte map along each axis.
        strides: (3,) int64 cells per voxel along each axis.
        cells: the byte map, in which the rays' ends are marked HIT already.
        first: the share's block to begin with.
        share: (3,) int64: its first part, how many it has, and how many parts there are in all.
        limit: what lies beyond this depth is left to the rays [m].
        left: filled with the voxels that are not settled.

    Returns:
        the share's block to go on with, -1 unless there was no more room in `left`; and how many
        voxels are not settled.
    """
    # Every call below takes what it needs: to hand over all of `work` costs as much as the work.
    sx, sy, words, states = strides[0], strides[1], cells.view(np.uint64), work.states
    side, down, depth, inside, here, around = (
        work.side, work.down, work.depth, work.inside, work.here, work.around
    )  # fmt: skip
    pixel, node, thick, certain, margins = work.pixel, work.node, work.half[2], work.certain, work.margins
    widths, heights, eights = work.widths, work.heights, work.states.view(np.uint64)
    count, total = 0, shape[0] * shape[1] * shape[2]
    own, turn = share[1] * RUN, share[2] * RUN
    for i in range(first, (total // turn + 1) * own):
        block = i // own * turn + share[0] * RUN + i % own  # counted z fastest
        if block >= total:
            break
        if count + 512 > left.cells.shape[0]:
            return i, count
        x = block // (shape[2] * shape[1]) * 8
        y, z = block // shape[2] % shape[1] * 8, block % shape[2] * 8
        u0, u1, v0, v1, near, far, whole = _outline(view, x, y, z)
        if u0 > u1 or far < 0.0 or near > limit or _farthest(sight, levels, u0, u1, v0, v1, 4) < near:
            continue
        level, nodes = scale_for(thick, widths, heights, near, levels.shape[0])
        at, columns = levels[level, 0] + (nodes - 2) * sight.shape[0], levels[level, 2]
        whole = whole and far < min(limit, certain)
        if whole:
            _locate_whole(view, level, columns, x, y, z, depth, pixel, node)
        else:
            _locate_block(view, thick, level, columns, x, y, z, side, down, depth, inside, pixel, node)
        _look_up(reach, pixel, here)
        _look_up(seen[at:], node, around)
        if whole:
            _ask_whole(thick, depth, here, around, states)
        else:
            _ask_block(
                view, thick, certain, margins, limit + thick, side, down, depth, inside, here, around, states
            )
        corner = (PAD + x * sx + y * sy + z) >> 3
        a, b, c = x - view.at[0], y - view.at[1], z - view.at[2]
        count = _mark_block(words, corner, sx >> 3, sy >> 3, eights, view, a, b, c, count, left)
    return -1, count

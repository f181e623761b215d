"""Numba kernels that ask pixels about voxels: those of octants of 2^3, one of the eight of all at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.nodes import Nodes, Sheet, level_of
from embodied_mem.memory.octree.view import Unsettled, View, Work

Array = NDArray[Any]

PAD = 64
"""As in `dense`."""


class Voxels(NamedTuple):
    """Octants whose voxels are asked about.

    Attributes:
        corner: (N,) int32, where their first voxels are in the byte map, two cells at a time.
        side, down, depth: (N,) float32, their centres in the camera's frame [m].
        level, start, across: (N,) int32: a level of the pyramid, where it starts, its columns.
        far: (N,) float32, the depth of the voxels that are being asked about [m].
        inside, out: (N,) int32, whether those are in the image, and out of sight.
        pixel, node: (N,) int32, the pixels at their centres and those pixels' nodes.
        here, around: (N,) float32, the depths there.
        free, left: (N,) int32, a bit for each of the eight voxels: free, and not settled.
        some: (N,) int32, the octants that have voxels which are not settled.
    """

    corner: Array
    side: Array
    down: Array
    depth: Array
    level: Array
    start: Array
    across: Array
    far: Array
    inside: Array
    out: Array
    pixel: Array
    node: Array
    here: Array
    around: Array
    free: Array
    left: Array
    some: Array


def voxel_sheet(count: int) -> Sheet:
    """Returns room for the voxels of so many octants."""
    return Sheet(np.empty((11, count), np.int32), np.empty((6, count), np.float32))


@njit(cache=True, nogil=True)
def voxels_on(sheet: Sheet) -> Voxels:
    """Returns the octants of a sheet of `voxel_sheet`."""
    w, r = sheet.whole, sheet.real
    return Voxels(
        w[0], r[0], r[1], r[2], w[1], w[2], w[3], r[3], w[4], w[5], w[6], w[7], r[4], r[5], w[8], w[9], w[10]
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _take_nodes(
    sx: int, sy: int, first: int, levels: Array, size: int, nodes: Nodes, chosen: Array, count: int,
    voxels: Voxels
) -> None:  # fmt: skip
    """Copies what there is to know of chosen octants; `size` is that of one half of `seen`."""
    inner, last, which = nodes.inner.view(np.int32), levels.shape[0] - 1, chosen.view(np.uint32)
    xs, ys, zs, sides, downs, depths = nodes.x, nodes.y, nodes.z, nodes.side, nodes.down, nodes.depth
    corner, side, down, depth = voxels.corner, voxels.side, voxels.down, voxels.depth
    level, start, across = voxels.level, voxels.start, voxels.across
    for k in range(np.uint64(count)):  # unsigned indices spare a check for negative ones
        n = which[k]
        corner[k] = np.int32((PAD >> 1) + xs[n] * sx + ys[n] * sy + (zs[n] >> 1))
        side[k], down[k], depth[k] = sides[n], downs[n], depths[n]
        finest, wide = level_of(inner[n], first, last)
        row = np.uint64(finest)
        level[k], across[k] = finest, levels[row, 2]
        start[k] = levels[row, 0] + (size if wide else 0)
    voxels.free[:count] = 0
    voxels.left[:count] = 0


@njit(cache=True, nogil=True)
def _look_up(image: Array, places: Array, count: int, found: Array) -> None:
    """Reads an image at int32 places: a loop by itself, so that those around it are vectorised."""
    where = places.view(np.uint32)
    for k in range(count):
        found[k] = image[where[k]]


@njit(cache=True, nogil=True, error_model="numpy")
def _locate_whole(view: View, s0: float, t0: float, d0: float, count: int, voxels: Voxels) -> None:
    """Finds where one voxel of each octant is, which is in view as a whole; see `_locate_part`."""
    ds, dt, dd = np.float32(s0), np.float32(t0), np.float32(d0)
    fx, fy, one = np.float32(view.fx), np.float32(view.fy), np.float32(1.0)
    cx, cy, stride = np.float32(view.cx + 0.5), np.float32(view.cy + 0.5), np.int32(view.width)
    side, down, depth = voxels.side[:count], voxels.down[:count], voxels.depth[:count]
    level, start, across = voxels.level[:count], voxels.start[:count], voxels.across[:count]
    far, pixel, node = voxels.far[:count], voxels.pixel[:count], voxels.node[:count]
    for k in range(count):
        d = depth[k] + dd
        per = one / d
        far[k] = d
        column = np.int32(fx * (side[k] + ds) * per + cx)
        row = np.int32(fy * (down[k] + dt) * per + cy)
        pixel[k] = np.int32(row * stride + column)
        shift = level[k] & 31  # or AVX2 shifts 64 bits
        node[k] = np.int32(start[k] + np.int32(row >> shift) * across[k] + np.int32(column >> shift))


@njit(cache=True, nogil=True, error_model="numpy")
def _locate_part(
    view: View, work: Work, limit: float, s0: float, t0: float, d0: float, count: int, voxels: Voxels
) -> None:  # fmt: skip
    """Finds where one voxel of each octant is: how deep, in or beside the image, in which pixel and node.

    Args:
        view: the camera.
        work: what `prepare_work` made of it.
        limit: what lies wholly beyond this depth need not be settled [m].
        s0: from the octant's centre to the voxel's, in the camera's frame [m].
        t0: likewise.
        d0: likewise.
        count: octants.
        voxels: filled.
    """
    ds, dt, dd = np.float32(s0), np.float32(t0), np.float32(d0)
    fx, fy, cx, cy = np.float32(view.fx), np.float32(view.fy), np.float32(view.cx), np.float32(view.cy)
    width, height, stride = np.float32(view.width), np.float32(view.height), np.int32(view.width)
    right, bottom, half = width - np.float32(1.0) - cx, height - np.float32(1.0) - cy, np.float32(0.5)
    m0, m1 = np.float32(work.margins[0]), np.float32(work.margins[1])
    m2, m3 = np.float32(work.margins[2]), np.float32(work.margins[3])
    rough = np.float32(1e-6 * (view.fx + view.fy + view.width + view.height))
    thick, certain, last = (
        np.float32(work.half[2]),
        np.float32(work.certain),
        np.float32(limit + work.half[2]),
    )
    front, one, zero = np.float32(work.half[2] + 1e-3), np.float32(1.0), np.float32(0.0)
    most_u, most_v = width - np.float32(0.75), height - np.float32(0.75)
    side, down, depth = voxels.side[:count], voxels.down[:count], voxels.depth[:count]
    level, start, across = voxels.level[:count], voxels.start[:count], voxels.across[:count]
    far, pixel, node = voxels.far[:count], voxels.pixel[:count], voxels.node[:count]
    inside, out = voxels.inside[:count], voxels.out[:count]
    for k in range(count):
        s, t, d = side[k] + ds, down[k] + dt, depth[k] + dd
        far[k] = d
        ahead = d > front
        per = one / (d if ahead else one)
        fs, ft = fx * s, fy * t
        u, v = fs * per + cx + half, ft * per + cy + half
        inside[k] = np.int32(ahead & (d < certain) & (u > zero) & (u < width) & (v > zero) & (v < height))
        u, v = u if u > half else half, v if v > half else half
        u, v = u if u < most_u else most_u, v if v < most_v else most_v
        column, row = np.int32(u), np.int32(v)
        pixel[k] = np.int32(row * stride + column)
        shift = level[k] & 31  # or AVX2 shifts 64 bits
        node[k] = np.int32(start[k] + np.int32(row >> shift) * across[k] + np.int32(column >> shift))
        slack = rough * (abs(s) + abs(t) + abs(d))
        beside = (fs + cx * d < -m0 - slack) | (fs - right * d > m1 + slack)
        beside |= (ft + cy * d < -m2 - slack) | (ft - bottom * d > m3 + slack)
        # What is not ahead cannot be hidden.
        out[k] = np.int32(1) if beside | (d < -thick) | (d > last) else np.int32(0 if ahead else 2)


@njit(cache=True, nogil=True)
def _judge_whole(half: float, bit: int, count: int, voxels: Voxels) -> None:
    """Sets a bit of `free` or `left`: what `_locate_whole` found, against the depths there."""
    thick, tiny, one = np.float32(half), np.float32(1e-5), np.int32(bit)
    far, here, around = voxels.far[:count], voxels.here[:count], voxels.around[:count]
    free, left = voxels.free[:count], voxels.left[:count]
    for k in range(count):
        d = far[k]
        passes = here[k] > d + thick
        hidden = around[k] < d - thick - (tiny + d * tiny)
        free[k] |= one if passes else np.int32(0)
        left[k] |= np.int32(0) if passes | hidden else one


@njit(cache=True, nogil=True)
def _judge_part(half: float, bit: int, count: int, voxels: Voxels) -> None:
    """Sets a bit of `free` or `left`: what `_locate_part` found, against the depths there."""
    thick, tiny, one = np.float32(half), np.float32(1e-5), np.int32(bit)
    far, here, around = voxels.far[:count], voxels.here[:count], voxels.around[:count]
    inside, out = voxels.inside[:count], voxels.out[:count]
    free, left = voxels.free[:count], voxels.left[:count]
    for k in range(count):
        d = far[k]
        passes = (inside[k] != 0) & (here[k] > d + thick)
        hidden = (out[k] == 0) & (around[k] < d - thick - (tiny + d * tiny))
        free[k] |= one if passes else np.int32(0)
        left[k] |= np.int32(0) if passes | hidden | (out[k] == 1) else one


@njit(cache=True, nogil=True)
def _mark_free(pairs: Array, sx: int, sy: int, size: int, voxels: Voxels) -> int:
    """Marks free voxels; fills `some`, and returns how many.

    Args:
        pairs: the byte map, two cells at a time.
        sx: pairs per voxel along x.
        sy: pairs per voxel along y.
        size: octants.
        voxels: judged.
    """
    corners, frees, todos, some = voxels.corner, voxels.free, voxels.left, voxels.some
    steps = (np.uint64(0), np.uint64(sy), np.uint64(sx), np.uint64(sx + sy))
    one, two, up, high = np.uint64(1), np.uint64(2), np.uint64(7), np.uint64(256)
    found = np.uint64(0)
    for k in range(np.uint64(size)):
        corner, free = np.uint64(corners[k]), np.uint64(frees[k])
        for step in steps:
            pairs[corner + step] |= np.uint16((free & one) | ((free << up) & high))
            free >>= two
        some[found] = k
        found += np.uint64(todos[k] != 0)
    return np.int64(found)


@njit(cache=True, nogil=True)
def _list_left(
    view: View, pairs: Array, sx: int, sy: int, nodes: Nodes, chosen: Array, size: int, voxels: Voxels,
    count: int, left: Unsettled
) -> int:  # fmt: skip
    """Lists the voxels of `some` octants that are neither free nor hit nor out of sight.

    Args:
        view: the camera.
        pairs: of `_mark_free`.
        sx: likewise.
        sy: likewise.
        nodes: of `ask_voxels`.
        chosen: likewise.
        size: how many octants are in `some`.
        voxels: judged, and the free ones marked.
        count: voxels listed so far.
        left: where to list them.

    Returns:
        how many are listed now.
    """
    listed, (lx, ly, lz), last = left.cells, left.low, np.uint64(count)
    x0, y0, z0 = view.at[0], view.at[1], view.at[2]
    xs, ys, zs, corners, todos = nodes.x, nodes.y, nodes.z, voxels.corner, voxels.left
    some, which = voxels.some.view(np.uint32), chosen.view(np.uint32)
    nothing, one, eight, marked = np.uint64(0), np.uint64(1), np.uint64(8), np.uint64(3)
    for m in range(np.uint64(size)):
        k = some[m]
        n, corner, todo = which[k], np.uint64(corners[k]), np.uint64(todos[k])
        a, b, c = xs[n] - x0, ys[n] - y0, zs[n] - z0
        for p in range(4):
            at = corner + np.uint64((p >> 1) * sx + (p & 1) * sy)
            pair = np.uint64(pairs[at])
            for j in range(2):  # without a branch: what is not wanted is written over
                listed[last] = (at << one) + np.uint64(j)
                lx[last], ly[last], lz[last] = a + (p >> 1), b + (p & 1), c + j
                last += todo & np.uint64((pair & marked) == nothing) & one
                todo >>= one
                pair >>= eight
    _place_left(view, left, count, np.int64(last))
    return np.int64(last)


@njit(cache=True, nogil=True)
def _place_left(view: View, left: Unsettled, first: int, last: int) -> None:
    """Computes where voxels of a list, from `first` to before `last`, are in the camera's frame."""
    r, res = view.rotation, np.float64(view.resolution)
    for n in range(first, last):
        a, b = (np.float64(left.low[0, n]) + 0.5) * res, (np.float64(left.low[1, n]) + 0.5) * res
        c = (np.float64(left.low[2, n]) + 0.5) * res
        left.side[n] = r[0, 0] * a + r[1, 0] * b + r[2, 0] * c
        left.down[n] = r[0, 1] * a + r[1, 1] * b + r[2, 1] * c
        left.depth[n] = r[0, 2] * a + r[1, 2] * b + r[2, 2] * c


@njit(cache=True, nogil=True, error_model="numpy")
def ask_voxels(
    view: View, work: Work, whole: bool, nodes: Nodes, chosen: Array, size: int, first: int, levels: Array,
    reach: Array, seen: Array, limit: float, pairs: Array, sx: int, sy: int, voxels: Voxels, count: int,
    left: Unsettled
) -> int:  # fmt: skip
    """Asks about the voxels of octants: marks the free ones, lists those that are not settled.

    Args:
        view: the camera.
        work: what `prepare_work` made of it.
        whole: whether all the octants are in view as a whole and near enough for the pixels at
            voxels' centres.
        nodes: octants, judged.
        chosen: (N,) int32, which of them.
        size: how many.
        first: the first level for which `seen` is filled.
        levels: of `ask_blocks`.
        reach: likewise.
        seen: likewise.
        limit: likewise.
        pairs: the byte map, two cells at a time.
        sx: pairs per voxel along x.
        sy: pairs per voxel along y.
        voxels: scratch.
        count: voxels listed so far.
        left: where to list them.

    Returns:
        how many are listed now.
    """
    _take_nodes(sx, sy, first, levels, seen.shape[0] >> 1, nodes, chosen, size, voxels)
    r, half = view.rotation, 0.5 * np.float64(view.resolution)
    pixel, node, here, around, thick = voxels.pixel, voxels.node, voxels.here, voxels.around, work.half[2]
    for i in range(8):
        a, b, c = half * (2 * (i >> 2) - 1), half * (2 * ((i >> 1) & 1) - 1), half * (2 * (i & 1) - 1)
        s = r[0, 0] * a + r[1, 0] * b + r[2, 0] * c
        t = r[0, 1] * a + r[1, 1] * b + r[2, 1] * c
        d = r[0, 2] * a + r[1, 2] * b + r[2, 2] * c
        if whole:
            _locate_whole(view, s, t, d, size, voxels)
        else:
            _locate_part(view, work, limit, s, t, d, size, voxels)
        _look_up(reach, pixel, size, here)
        _look_up(seen, node, size, around)
        if whole:
            _judge_whole(thick, 1 << i, size, voxels)
        else:
            _judge_part(thick, 1 << i, size, voxels)
    some = _mark_free(pairs, sx, sy, size, voxels)
    return _list_left(view, pairs, sx, sy, nodes, chosen, some, voxels, count, left)

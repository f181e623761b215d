"""Numba kernels that mark the voxels which rays pass near their ends, many rays in lockstep.

What they pass before that is known already where a depth image has been asked. Rays are
sorted by how many voxels are left of them, so that those in lockstep have about as many.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.crew import take_side
from embodied_mem.memory.octree.dense import TILE, address_origin, mark_rays, prepare_rays
from embodied_mem.memory.octree.frame import Frame

Array = NDArray[Any]

_FREE = np.uint8(1)
"""FREE of `kernels`."""
LENGTHS = (1.5, 3.0, 4.5, 6.0, 8.0, 12.0, 20.0, 35.0, 60.0)
"""Rays in lockstep are followed for about as many voxels: those of each bin for up to so many."""
LONG = len(LENGTHS)
"""The bin of rays with longer tails, which are left."""


class Tails(NamedTuple):
    """Scratch for a tile of rays in lockstep: see `dense.prepare_rays`, `_want` and `_cross_back`.

    Attributes:
        lines: (22 * TILE,) float32.
        goals, kinds: (TILE,) int32.
        stops: (3 * TILE,) float32.
        found: (2 * TILE,) int32, the cells found.
        unsure: (TILE,) int32.
    """

    lines: Array
    goals: Array
    kinds: Array
    stops: Array
    found: Array
    unsure: Array


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"}, error_model="numpy")
def _cross_back(
    lines: Array, at: int, deep: int, stops: Array, start: float, su: float, sv: float, sw: float,
    limit: float, goals: Array, out: Array, unsure: Array, cells: Array
) -> None:  # fmt: skip
    """Marks FREE the voxels that the rays of a tile enter at their last crossings of a family.

    Args:
        lines: what `prepare_rays` filled.
        at: row of `lines` where the number of crossings is.
        deep: how many crossings, from the last one backwards.
        stops: (TILE,) float32, crossings before this one are not wanted.
        start: as in `_cross`.
        su: likewise.
        sv: likewise.
        sw: likewise.
        limit: likewise.
        goals: (TILE,) int32 cells of the ends, which are left out.
        out: (2 * TILE,) int32, scratch.
        unsure: (TILE,) int32, set where a crossing is not to be trusted.
        cells: the byte map.
    """
    counts, signs = lines[at : at + TILE], lines[at + TILE : at + 2 * TILE]
    v0, w0 = lines[at + 2 * TILE : at + 3 * TILE], lines[at + 3 * TILE : at + 4 * TILE]
    dv, dw = lines[at + 4 * TILE : at + 5 * TILE], lines[at + 5 * TILE : at + 6 * TILE]
    one, most, where = np.float32(1.0), np.float32(limit), out.view(np.uint32)
    for k in range(0, deep, 2):  # two at a time: what they are computed from is loaded once
        less, nearer, later = np.float32(k + 1), np.float32(k + 2), out[TILE:]
        for j in range(TILE):
            last, goal, far, sign = counts[j], goals[j], stops[j], signs[j] * su
            step, before = last - less, last - nearer
            v, w = v0[j] + step * dv[j], w0[j] + step * dw[j]
            x, y = v0[j] + before * dv[j], w0[j] + before * dw[j]
            fv, fw, fx, fy = np.rint(v), np.rint(w), np.rint(x), np.rint(y)
            a, b, c, d = abs(v - fv), abs(w - fw), abs(x - fx), abs(y - fy)
            wanted, sure = step >= far, (a if a > b else b) <= most
            asked, clear = before >= far, (c if c > d else d) <= most
            cell = np.int32(start + (step + one) * sign + fv * sv + fw * sw)
            other = np.int32(start + (before + one) * sign + fx * sv + fy * sw)
            out[j] = cell if wanted & sure & (cell != goal) else np.int32(0)
            later[j] = other if asked & clear & (other != goal) else np.int32(0)
            unsure[j] = np.int32(unsure[j] | np.int32((wanted & (not sure)) | (asked & (not clear))))
        for j in range(2 * TILE):  # a loop by itself, so that the other one is vectorised
            cells[where[j]] = _FREE


@njit(cache=True, nogil=True, error_model="numpy")
def _want(lines: Array, parts: Array, size: int, frame: Frame, stops: Array) -> tuple[int, int, int]:
    """Finds which crossings of the rays of a tile are wanted: those after the part that is left out.

    Args:
        lines: what `prepare_rays` filled.
        parts: (TILE,) float32, the part of each ray that is left out at its start.
        size: rays of the tile.
        frame: the byte map's geometry.
        stops: (3 * TILE,) float32, filled by family with the first crossing that is wanted.

    Returns:
        the largest number of crossings wanted, by family.
    """
    inverse = np.float32(frame.inverse)
    zero, one, none = np.float32(0.0), np.float32(1.0), np.float32(1e9)
    deep = np.zeros(3, np.int64)
    for f in range(3):
        # How far the first plane is, for rays that go up and those that go down the axis; a
        # hundredth of a voxel covers what rounding may do.
        down = np.float32(frame.at[f] - frame.start[f] + 0.01)
        up = np.float32(frame.start[f] + 1.0 - frame.at[f] + 0.01)
        at = (4 + 6 * f) * TILE
        aims, lengths = lines[f * TILE : (f + 1) * TILE], lines[3 * TILE : 4 * TILE]
        counts, signs = lines[at : at + TILE], lines[at + TILE : at + 2 * TILE]
        firsts = stops[f * TILE : (f + 1) * TILE]
        for j in range(size):
            gap = up if signs[j] > zero else down
            first = np.floor(parts[j] * lengths[j] * inverse * abs(aims[j]) - gap) + one
            firsts[j] = first if first > zero else zero
        for j in range(size, TILE):
            firsts[j] = none
        most = np.int32(0)
        for j in range(size):  # of integers: the order of floats would matter to the compiler
            most = max(most, np.int32(counts[j] - firsts[j]))
        deep[f] = most
    return deep[0], deep[1], deep[2]


@njit(cache=True, nogil=True, error_model="numpy")
def _mark_tile(
    tile: Array, parts: Array, size: int, frame: Frame, cells: Array, scratch: Tails, skipped: Array
) -> None:
    """Marks FREE the last voxels that the rays of a tile pass, all rays in lockstep.

    Args:
        tile: (3, TILE) float32, the ends of the rays [m].
        parts: (TILE,) float32, the part of each that is left out at its start.
        size: rays of the tile.
        frame: the byte map's geometry.
        cells: the byte map.
        scratch: arrays to write to.
        skipped: (TILE,) bool, filled: the ray is too near to an edge for this.
    """
    lines, goals, kinds, stops, found, unsure = scratch
    sx, sy, sz, hx, hy, hz, home, limit = address_origin(frame)
    skipped[:] = False
    prepare_rays(tile, skipped[:size], frame, lines, goals, kinds)
    deep = _want(lines, parts, size, frame, stops)
    for j in range(size):
        unsure[j] = np.int32(kinds[j] >= np.int32(4))
    for f in range(3):
        firsts = stops[f * TILE : (f + 1) * TILE]
        for j in range(size):  # where it is in doubt how many crossings there are, none is wanted
            firsts[j] = np.float32(1e9) if unsure[j] != np.int32(0) else firsts[j]
    for f in range(3):
        a, stop = (4 + 6 * f) * TILE, stops[f * TILE : (f + 1) * TILE]
        start = hx if f == 0 else (hy if f == 1 else hz)
        su = sx if f == 0 else (sy if f == 1 else sz)
        sv = sy if f == 0 else (sz if f == 1 else sx)
        sw = sz if f == 0 else (sx if f == 1 else sy)
        _cross_back(lines, a, deep[f], stop, start, su, sv, sw, limit, goals, found, unsure, cells)
    starts = np.int32(0)
    for j in range(size):
        skipped[j] = unsure[j] != np.int32(0)
        whole = (parts[j] == np.float32(0.0)) & (unsure[j] == np.int32(0))
        starts |= np.int32(whole & (goals[j] != np.int32(home)))
    if starts:
        cells[home] = _FREE


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _left_out(begin: float, end: float) -> float:
    """Returns the part of a ray that is left out at its start, a millimetre of depth less to be sure."""
    edge = np.float32(1e-3)
    return (begin - edge if begin > edge else np.float32(0.0)) / end


@njit(cache=True, nogil=True, error_model="numpy")
def _sort_tails(
    points: Array, reach: Array, starts: Array, frame: Frame, first: int, size: int, bins: Array
) -> None:
    """Finds how much of some rays is followed: which bin of tails each belongs to.

    Args:
        points: of `follow_tails`.
        reach: likewise.
        starts: likewise.
        frame: likewise.
        first: first ray.
        size: how many.
        bins: (TILE,) int32, filled; LONG for rays that are left, and after it that of those not followed.
    """
    ox, oy, oz = frame.origin[0], frame.origin[1], frame.origin[2]
    inverse, one, last = np.float32(frame.inverse), np.float32(1.0), first + size
    px, py, pz = points[0, first:last], points[1, first:last], points[2, first:last]
    ends, begins = reach[first:last], starts[first:last]
    for j in range(size):
        most = max(max(abs(px[j] - ox), abs(py[j] - oy)), abs(pz[j] - oz))
        need = (one - _left_out(begins[j], ends[j])) * most * inverse
        b = np.int32(0)
        for n in LENGTHS:
            b += np.int32(need > np.float32(n))
        bins[j] = b if ends[j] > begins[j] else np.int32(LONG + 1)


@njit(cache=True, nogil=True, error_model="numpy")
def _gather_tails(
    points: Array, reach: Array, starts: Array, which: Array, size: int, tile: Array, parts: Array
) -> None:
    """Fills a tile with the ends of rays, and the part of each that is left out at its start."""
    rays = which.view(np.uint32)
    for n in range(size):
        i = rays[n]
        tile[0, n], tile[1, n], tile[2, n] = points[0, i], points[1, i], points[2, i]
        parts[n] = _left_out(starts[i], reach[i])


class Bins(NamedTuple):
    """Rays that wait until as many of about the same length are there as a tile has.

    Attributes:
        which: (LONG + 2, TILE) int32, the rays that wait in each bin; the last two are not marked.
        sizes: (LONG + 2,) int64, how many those are.
        tile: (3, TILE) float32, scratch.
        parts: (TILE,) float32, scratch.
        bins: (TILE,) int32, scratch.
        skipped: (TILE,) bool, scratch.
    """

    which: Array
    sizes: Array
    tile: Array
    parts: Array
    bins: Array
    skipped: Array


@njit(cache=True, nogil=True)
def follow_tails(
    points: Array, reach: Array, starts: Array, frame: Frame, cells: Array, gates: Array, gate: int,
    chunk: int, hand: int, left: Array
) -> int:  # fmt: skip
    """Marks FREE the voxels that rays pass from a certain depth on, where that is not far.

    Only the voxel in which a ray ends may lose a mark of it, or a HIT.

    Args:
        points: (3, N) float32, the ends of the rays [m].
        reach: (N,) float32, their planar depth [m]; -1 where there is no ray.
        starts: (N,) float32, the depth from which on each ray is to be followed [m].
        frame: the byte map's geometry.
        cells: the byte map.
        gates: of `crew.make_gates`.
        gate: where threads take their parts.
        chunk: rays of a part, a multiple of TILE.
        hand: number of this thread.
        left: (N,) int64, filled with the rays that are left to `mark_left`.

    Returns:
        how many are left.
    """
    total, count = reach.shape[0], 0
    bins = Bins(
        np.empty((LONG + 2, TILE), np.int32),
        np.zeros(LONG + 2, np.int64),
        np.zeros((3, TILE), np.float32),
        np.zeros(TILE, np.float32),
        np.empty(TILE, np.int32),
        np.zeros(TILE, np.bool_),
    )
    scratch = Tails(
        np.zeros(22 * TILE, np.float32),
        np.zeros(TILE, np.int32),
        np.zeros(TILE, np.int32),
        np.zeros(3 * TILE, np.float32),
        np.zeros(2 * TILE, np.int32),
        np.zeros(TILE, np.int32),
    )
    turns = (total + chunk - 1) // chunk
    turn = take_side(gates, gate, turns, hand)
    while turn >= 0:
        first, last = turn * chunk, min((turn + 1) * chunk, total)
        for at in range(first, last, TILE):
            size = min(TILE, last - at)
            _sort_tails(points, reach, starts, frame, at, size, bins.bins)
            count = _mark_full(points, reach, starts, at, size, frame, cells, bins, scratch, left, count)
        turn = take_side(gates, gate, turns, hand)
    return _mark_rest(points, reach, starts, frame, cells, bins, scratch, left, count)


@njit(cache=True, nogil=True)
def _mark_full(
    points: Array, reach: Array, starts: Array, at: int, size: int, frame: Frame, cells: Array,
    waiting: Bins, scratch: Tails, left: Array, count: int
) -> int:  # fmt: skip
    """Puts rays in their bins, and marks those of full ones; returns how many are in `left` now."""
    which, sizes, bins = waiting.which, waiting.sizes, waiting.bins
    for j in range(size):
        b = np.uint32(bins[j])
        n = sizes[b]
        which[b, n] = at + j
        sizes[b] = n + 1
        if n + 1 == TILE:
            count = _mark_bin(points, reach, starts, b, frame, cells, waiting, scratch, left, count)
    return count


@njit(cache=True, nogil=True)
def _mark_bin(
    points: Array, reach: Array, starts: Array, b: int, frame: Frame, cells: Array, waiting: Bins,
    scratch: Tails, left: Array, count: int
) -> int:  # fmt: skip
    """Marks the tails in a bin, and empties it; returns as `_mark_full`."""
    which, sizes, tile, parts, _, skipped = waiting
    rays, size = which[b], sizes[b]
    sizes[b] = 0
    if size == 0 or b > LONG:
        return count
    if b < LONG:
        _gather_tails(points, reach, starts, rays, size, tile, parts)
        _mark_tile(tile, parts, size, frame, cells, scratch, skipped)
    else:
        skipped[:] = True
    return _leave(skipped, rays, size, left, count)


@njit(cache=True, nogil=True)
def _mark_rest(
    points: Array, reach: Array, starts: Array, frame: Frame, cells: Array, waiting: Bins, scratch: Tails,
    left: Array, count: int
) -> int:  # fmt: skip
    """Marks what is left in the bins together, shortest tails first; returns as `_mark_full`."""
    which, sizes = waiting.which, waiting.sizes
    n = sizes[0]
    for b in range(1, LONG):
        for j in range(sizes[b]):
            if n == TILE:
                sizes[0] = n
                count = _mark_bin(points, reach, starts, 0, frame, cells, waiting, scratch, left, count)
                n = 0
            which[0, n] = which[b, j]
            n += 1
    sizes[0] = n
    count = _mark_bin(points, reach, starts, 0, frame, cells, waiting, scratch, left, count)
    return _mark_bin(points, reach, starts, LONG, frame, cells, waiting, scratch, left, count)


@njit(cache=True, nogil=True, error_model="numpy")
def mark_left(points: Array, reach: Array, starts: Array, frame: Frame, cells: Array, left: Array) -> None:
    """Marks FREE the voxels that the rays pass which `follow_tails` left; arguments as there."""
    count = left.shape[0]
    ends, skips = np.empty((count, 3), np.float32), np.empty(count, np.float32)
    for k in range(count):
        i = left[k]
        ends[k, 0], ends[k, 1], ends[k, 2] = points[0, i], points[1, i], points[2, i]
        skips[k] = _left_out(starts[i], reach[i])
    mark_rays(ends, np.zeros(count, np.bool_), skips, frame, cells, np.empty(count, np.int32))


@njit(cache=True, nogil=True)
def _leave(skipped: Array, which: Array, size: int, left: Array, count: int) -> int:
    """Lists the rays of a tile that were skipped after `count` others; returns how many are listed."""
    some, flags = np.uint8(0), skipped.view(np.uint8)  # mostly none: that is soon found out, many at once
    for j in range(size):
        some |= flags[j]
    if some == np.uint8(0):
        return count
    for j in range(size):
        if skipped[j]:
            left[count] = which[j]
            count += 1
    return count

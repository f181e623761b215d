"""Numba kernels that keep a field of nearest places up to date where a map has changed.

Every cell of the field holds the least path distance to a place and the lowest id among the
places at that distance. So it follows from the map and the places alone, in whatever order
they came, and only the cells that a change concerns need be looked at again (Ramalingam and
Reps, 1996: what hung on a lost cell is let go, and grows back from what stayed).

Distances are integers, as in `grid_kernels`. Diagonal steps never cut a corner.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]
_STRAIGHT, _DIAGONAL = 12, 17
_FAR = np.int32(2**30)
_LOW = np.int64(0xFFFFFFFF)


@njit(cache=True, nogil=True)
def _note(cell: int, own: Array, mark: Array, touched: Any, before: Any) -> None:
    if mark[cell] & 1 == 0:
        mark[cell] |= 1
        touched.append(cell)
        before.append(np.int64(own[cell]))


@njit(cache=True, nogil=True)
def _flow(
    heap: Any,
    cells: Array,
    dist: Array,
    own: Array,
    mark: Array,
    diagonal: bool,
    reach: int,
    touched: Any,
    before: Any,
) -> None:
    """Dijkstra from the cells in the heap on, lowest distance first, then lowest id."""
    height, width = cells.shape
    flat_dist, flat_own, flat_mark = dist.reshape(-1), own.reshape(-1), mark.reshape(-1)
    while len(heap) > 0:
        key = heapq.heappop(heap)
        came, cell = np.int32(key >> 32), key & _LOW
        if flat_dist[cell] != came:
            continue
        owner = flat_own[cell]
        y, x = cell // width, cell % width
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                ny, nx = y + dy, x + dx
                if (dy == 0 and dx == 0) or ny < 0 or nx < 0 or ny >= height or nx >= width:
                    continue
                if cells[ny, nx] != 0:
                    continue
                slanted = dy != 0 and dx != 0
                if slanted and not (diagonal and cells[y, nx] == 0 and cells[ny, x] == 0):
                    continue
                n = ny * width + nx
                step = np.int32(came + (_DIAGONAL if slanted else _STRAIGHT))
                if step > reach or step > flat_dist[n] or (step == flat_dist[n] and owner >= flat_own[n]):
                    continue
                _note(n, flat_own, flat_mark, touched, before)
                flat_dist[n] = step
                flat_own[n] = owner
                heapq.heappush(heap, (np.int64(step) << 32) | n)


@njit(cache=True, nogil=True)
def _let_go(cell: int, width: int, dist: Array, own: Array, mark: Array, lost: Any, t: Any, b: Any) -> None:
    """Makes a cell nobody's and puts it, with what it was, on the stack."""
    if own[cell] >= 0:
        lost.append((cell, dist[cell], own[cell]))
        _note(cell, own, mark, t, b)
        dist[cell] = _FAR
        own[cell] = -1


@njit(cache=True, nogil=True)
def _block(
    cell: int, height: int, width: int, dist: Array, own: Array, mark: Array, lost: Any, t: Any, b: Any
) -> None:
    """Lets go a cell that is free no more, and those reached by slanted steps past it."""
    if dist[cell] > 0:
        _let_go(cell, width, dist, own, mark, lost, t, b)
    y, x = cell // width, cell % width
    for k in range(4):  # slanted steps past this cell are no longer allowed
        ay, cx = y + (1 if k & 1 else -1), x + (1 if k & 2 else -1)
        if ay < 0 or cx < 0 or ay >= height or cx >= width:
            continue
        a, c = ay * width + x, y * width + cx
        if own[a] >= 0 and own[a] == own[c]:
            if dist[c] == dist[a] + _DIAGONAL:
                _let_go(c, width, dist, own, mark, lost, t, b)
            elif dist[a] == dist[c] + _DIAGONAL:
                _let_go(a, width, dist, own, mark, lost, t, b)


@njit(cache=True, nogil=True)
def repair(
    cells: Array,
    dist: Array,
    own: Array,
    mark: Array,
    changed: Array,
    gone: Array,
    seeds: Array,
    ids: Array,
    diagonal: bool,
    reach: int,
) -> tuple[Array, Array]:
    """Brings the field in line with changed cells and places.

    Args:
        cells: (H, W) int8, 0 free, already changed.
        dist: (H, W) int32, changed in place.
        own: (H, W) int32 ids, changed in place; -1 where no place is near.
        mark: (H, W) uint8, zeros before and after.
        changed: (C,) int64 flat cells that are no longer what they were.
        gone: (G,) int64 flat cells of places that count no more.
        seeds: (S,) int64 flat cells of all places in and around the changed cells.
        ids: (S,) int32 of these places.
        diagonal: whether diagonal steps are allowed.
        reach: farther cells are nobody's.

    Returns:
        (T,) int64 flat cells whose owner or distance is another or was reckoned anew, and the
        (T,) int64 owners that they had.
    """
    height, width = cells.shape
    flat, fdist, fown, fmark = cells.reshape(-1), dist.reshape(-1), own.reshape(-1), mark.reshape(-1)
    touched, before = [np.int64(0)], [np.int64(0)]
    touched.pop()
    before.pop()
    heap = [np.int64(0)]
    heap.pop()
    lost = [(np.int64(0), np.int32(0), np.int32(0))]
    lost.pop()
    sources = [np.int64(0)]
    sources.pop()
    for cell in gone:
        _let_go(cell, width, fdist, fown, fmark, lost, touched, before)
    for cell in changed:
        if flat[cell] != 0:
            _block(cell, height, width, fdist, fown, fmark, lost, touched, before)
    while len(lost) > 0:
        cell, came, owner = lost.pop()
        y, x = cell // width, cell % width
        for ny in range(max(y - 1, 0), min(y + 2, height)):
            for nx in range(max(x - 1, 0), min(x + 2, width)):
                n = ny * width + nx
                step = came + (_DIAGONAL if ny != y and nx != x else _STRAIGHT)
                if n != cell and fown[n] == owner and fdist[n] == step:
                    _let_go(n, width, fdist, fown, fmark, lost, touched, before)
    for i in range(seeds.shape[0]):
        cell = seeds[i]
        if fdist[cell] > 0 or fown[cell] > ids[i]:
            _note(cell, fown, fmark, touched, before)
            fdist[cell], fown[cell] = 0, ids[i]
            heapq.heappush(heap, np.int64(cell))
    for i in range(len(touched) + changed.shape[0]):
        cell = touched[i] if i < len(touched) else changed[i - len(touched)]
        y, x = cell // width, cell % width
        for ny in range(max(y - 1, 0), min(y + 2, height)):
            for nx in range(max(x - 1, 0), min(x + 2, width)):
                n = ny * width + nx
                if fown[n] >= 0 and fmark[n] & 2 == 0:
                    heapq.heappush(heap, (np.int64(fdist[n]) << 32) | n)
                    fmark[n] |= 2
                    sources.append(n)
    _flow(heap, cells, dist, own, mark, diagonal, reach, touched, before)
    for cell in touched:
        fmark[cell] = 0
    for cell in sources:
        fmark[cell] = 0
    return np.array(touched, dtype=np.int64), np.array(before, dtype=np.int64)


@njit(cache=True, nogil=True)
def uncovered(cells: Array, dist: Array, y0: int, x0: int, y1: int, x1: int, spacing: float) -> Array:
    """Returns (N,) int64 flat free cells in [y0, y1) x [x0, x1) farther than `spacing` from a place."""
    found = np.empty((y1 - y0) * (x1 - x0), np.int64)
    count = 0
    for y in range(y0, y1):
        for x in range(x0, x1):
            if cells[y, x] == 0 and dist[y, x] > spacing:
                found[count] = y * cells.shape[1] + x
                count += 1
    return found[:count].copy()


@njit(cache=True, nogil=True)
def cover(
    cells: Array,
    dist: Array,
    own: Array,
    mark: Array,
    candidates: Array,
    room: Array,
    spacing: float,
    first: int,
    diagonal: bool,
    reach: int,
) -> tuple[Array, Array, Array]:
    """Adds places until none of the candidates is farther than `spacing` from one.

    Each time the candidate with the most room becomes a place, the first of equals.

    Args:
        cells: as in `repair`.
        dist: as in `repair`.
        own: as in `repair`.
        mark: as in `repair`.
        candidates: (N,) int64 flat free cells with room enough for a place.
        room: (N,) float64 their clearance.
        spacing: as `dist`.
        first: id of the first new place.
        diagonal: as in `repair`.
        reach: as in `repair`.

    Returns:
        flat cells of the new places, and as `repair`.
    """
    fdist, fown, fmark = dist.reshape(-1), own.reshape(-1), mark.reshape(-1)
    touched, before, found = [np.int64(0)], [np.int64(0)], [np.int64(0)]
    touched.pop()
    before.pop()
    found.pop()
    heap = [np.int64(0)]
    heap.pop()
    while True:
        best = -1
        for i in range(candidates.shape[0]):
            if fdist[candidates[i]] > spacing and (best < 0 or room[i] > room[best]):
                best = i
        if best < 0:
            break
        cell = candidates[best]
        _note(cell, fown, fmark, touched, before)
        fdist[cell], fown[cell] = 0, first + len(found)
        found.append(cell)
        heapq.heappush(heap, np.int64(cell))
        _flow(heap, cells, dist, own, mark, diagonal, reach, touched, before)
    for cell in touched:
        fmark[cell] = 0
    return (
        np.array(found, dtype=np.int64),
        np.array(touched, dtype=np.int64),
        np.array(before, dtype=np.int64),
    )


@njit(cache=True, nogil=True)
def borders(
    cells: Array, dist: Array, own: Array, y0: int, x0: int, y1: int, x1: int, chosen: Array, diagonal: bool
) -> Array:
    """Returns (T, 5) int64: pairs of places (lower id first), path lengths, cells that touch.

    One at least of a pair is chosen; it comes up at every pair of cells at which it touches.

    Args:
        cells: as in `repair`.
        dist: as in `repair`.
        own: as in `repair`.
        y0: first row to look at.
        x0: first column.
        y1: end of the rows.
        x1: end of the columns.
        chosen: (M,) bool by place id.
        diagonal: whether diagonal steps are allowed.
    """
    result = np.empty((256, 5), np.int64)
    count = 0
    for y in range(y0, y1):
        for x in range(x0, x1):
            a = own[y, x]
            if a < 0:
                continue
            for k in range(4):
                ny = y + (0 if k == 0 else 1)
                nx = x + (1 if k == 0 else k - 2)
                if ny >= y1 or nx < x0 or nx >= x1:
                    continue
                b = own[ny, nx]
                if (
                    b < 0
                    or b == a
                    or not (chosen[a] or chosen[b])
                    or not (cells[y, x] == 0 or cells[ny, nx] == 0)
                ):
                    continue
                slanted = k == 1 or k == 3
                if slanted and not (diagonal and cells[y, nx] == 0 and cells[ny, x] == 0):
                    continue
                if count == len(result):
                    grown = np.empty((2 * count, 5), np.int64)
                    grown[:count] = result
                    result = grown
                step = _DIAGONAL if slanted else _STRAIGHT
                result[count, 0], result[count, 1] = min(a, b), max(a, b)
                result[count, 2] = dist[y, x] + dist[ny, nx] + step
                result[count, 3], result[count, 4] = y * own.shape[1] + x, ny * own.shape[1] + nx
                count += 1
    return result[:count].copy()


@njit(cache=True, nogil=True)
def rooms_around(cells: Array, ys: Array, xs: Array, most: int) -> Array:
    """Returns (N,) float64 distances [cells] to the nearest cell that is not free, at most `most`.

    Beyond the array nothing is free.
    """
    height, width = cells.shape
    result = np.empty(ys.shape[0])
    for i in range(ys.shape[0]):
        best = most * most
        r = 0
        while r * r < best:
            for y in range(ys[i] - r, ys[i] + r + 1):
                edge = y == ys[i] - r or y == ys[i] + r
                for x in range(xs[i] - r, xs[i] + r + 1, 1 if edge or r == 0 else 2 * r):
                    inside = 0 <= y < height and 0 <= x < width
                    if not inside or cells[y, x] != 0:
                        best = min(best, (y - ys[i]) ** 2 + (x - xs[i]) ** 2)
            r += 1
        result[i] = np.sqrt(float(best))
    return result


@njit(cache=True, nogil=True)
def narrow_passages(cells: Array) -> Array:
    """Returns (H, W) bool: free cells between two obstacles, on which one can only go straight on."""
    height, width = cells.shape
    result = np.zeros((height, width), np.bool_)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if cells[y, x] != 0:
                continue
            upright = cells[y - 1, x] > 0 and cells[y + 1, x] > 0
            level = cells[y, x - 1] > 0 and cells[y, x + 1] > 0
            if upright != level:
                result[y, x] = (
                    (cells[y, x - 1] == 0 and cells[y, x + 1] == 0)
                    if upright
                    else (cells[y - 1, x] == 0 and cells[y + 1, x] == 0)
                )
    return result

"""Numba kernels for lines and strings of cells: what can be walked straight on, and where to turn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]
_STRAIGHT, _DIAGONAL = 12, 17
PULLS = 2
"""Strings are pulled so many times more from either end."""
BERTH = 1
"""Where they turn they keep this far from what they turn about, if there is room [cells]."""


@njit(cache=True, nogil=True)
def _is_open(cells: Array, own: Array, a: int, b: int, y: int, x: int) -> bool:
    return cells[y, x] == 0 and (a < 0 or own[y, x] == a or own[y, x] == b)


@njit(cache=True, nogil=True)
def is_clear(cells: Array, own: Array, a: int, b: int, y: int, x: int, ty: int, tx: int) -> bool:
    """Whether all cells that the line between two cells' centres touches are free, corners included.

    And, where `a` is not negative, whether they are all owned by place `a` or `b`.
    """
    across, along = abs(tx - x), abs(ty - y)
    sx, sy = 1 if tx > x else -1, 1 if ty > y else -1
    error = across - along
    while True:
        if not _is_open(cells, own, a, b, y, x):
            return False
        if y == ty and x == tx:
            return True
        if error > 0:
            x += sx
            error -= 2 * along
        elif error < 0:
            y += sy
            error += 2 * across
        else:
            if not (_is_open(cells, own, a, b, y, x + sx) and _is_open(cells, own, a, b, y + sy, x)):
                return False
            x += sx
            y += sy
            error += 2 * across - 2 * along


@njit(cache=True, nogil=True)
def line(width: int, start: int, end: int) -> Array:
    """Returns the flat cells of a straight line between two cells, each beside the one before."""
    y, x, ty, tx = start // width, start % width, end // width, end % width
    count = max(abs(ty - y), abs(tx - x))
    cells = np.empty(count + 1, np.int64)
    cells[0] = start
    for i in range(1, count + 1):
        sy = (2 * (ty - y) * i + count) // (2 * count)
        sx = (2 * (tx - x) * i + count) // (2 * count)
        cells[i] = (y + sy) * width + x + sx
    return cells


@njit(cache=True, nogil=True)
def _descend(cells: Array, dist: Array, own: Array, cell: int, diagonal: bool, path: Any) -> None:
    """Appends the cells from one to its place, the first of equals each time."""
    height, width = cells.shape
    path.append(cell)
    y, x = cell // width, cell % width
    while dist[y, x] > 0:
        by, bx = -1, -1
        for ny in range(max(y - 1, 0), min(y + 2, height)):
            for nx in range(max(x - 1, 0), min(x + 2, width)):
                slanted = ny != y and nx != x
                step = _DIAGONAL if slanted else _STRAIGHT
                if by >= 0 or own[ny, nx] != own[y, x] or dist[ny, nx] + step != dist[y, x]:
                    continue
                if slanted and not (diagonal and cells[y, nx] == 0 and cells[ny, x] == 0):
                    continue
                by, bx = ny, nx
        if by < 0:
            return  # no field that `repair` made
        y, x = by, bx
        path.append(y * width + x)


@njit(cache=True, nogil=True)
def pull(cells: Array, own: Array, a: int, b: int, path: Array) -> Array:
    """Returns the cells of a path at which it has to turn, its ends included: a pulled string.

    Args:
        cells: (H, W) int8, 0 free.
        own: (H, W) int32 places that own the cells.
        a: place in whose cells the string must stay; -1 for anywhere.
        b: another such place.
        path: (N,) int64 flat cells, each beside the one before.
    """
    width = cells.shape[1]
    kept = np.empty(path.shape[0], np.int64)
    kept[0] = path[0]
    count, last = 1, 0
    for i in range(1, path.shape[0]):
        p, q = path[last], path[i]
        if i - last > 1 and not is_clear(cells, own, a, b, p // width, p % width, q // width, q % width):
            last = i - 1
            kept[count] = path[last]
            count += 1
    if path.shape[0] > 1:
        kept[count] = path[-1]
        count += 1
    return kept[:count].copy()


@njit(cache=True, nogil=True)
def tighten(cells: Array, own: Array, a: int, b: int, path: Array) -> Array:
    """Pulls a string again from its other end, and back: as `pull`, and shorter."""
    width = cells.shape[1]
    kept = pull(cells, own, a, b, path)
    for _ in range(2 * PULLS):
        dense = [kept[-1]]
        for i in range(kept.shape[0] - 1, 0, -1):
            p, q = kept[i], kept[i - 1]
            if is_clear(cells, own, a, b, p // width, p % width, q // width, q % width):
                for cell in line(width, p, q)[1:]:
                    dense.append(cell)
            else:  # a step that was walked, whatever the map says
                dense.append(q)
        kept = pull(cells, own, a, b, np.array(dense))
    return stand_off(cells, own, a, b, kept)


@njit(cache=True, nogil=True)
def _room(cells: Array, y: int, x: int) -> int:
    """Returns the squared distance [cells] to the nearest cell that is not free, at most that of `BERTH`."""
    height, width = cells.shape
    least = (BERTH + 1) ** 2
    for dy in range(-BERTH, BERTH + 1):
        for dx in range(-BERTH, BERTH + 1):
            ny, nx = y + dy, x + dx
            inside = 0 <= ny < height and 0 <= nx < width
            if not (inside and cells[ny, nx] == 0):
                least = min(least, dy * dy + dx * dx)
    return least


@njit(cache=True, nogil=True)
def _are_joined(cells: Array, own: Array, a: int, b: int, p: int, q: int) -> bool:
    width = cells.shape[1]
    return is_clear(cells, own, a, b, p // width, p % width, q // width, q % width)


@njit(cache=True, nogil=True)
def stand_off(cells: Array, own: Array, a: int, b: int, kept: Array) -> Array:
    """Moves the turns of a pulled string away from the corners they touch: the map errs by a cell or two.

    The same from either end. Turns without room to both sides stay.

    Args:
        cells: as for `pull`.
        own: as there.
        a: as there.
        b: as there.
        kept: (N,) int64 flat cells at which the string turns, its ends included.
    """
    width, last = cells.shape[1], kept.shape[0] - 1
    moved = kept.copy()
    for i in range(1, last):
        y, x = kept[i] // width, kept[i] % width
        most, away = _room(cells, y, x), 0
        for dy in range(-BERTH, BERTH + 1):
            for dx in range(-BERTH, BERTH + 1):
                ny, nx, off = y + dy, x + dx, dy * dy + dx * dx
                if not (0 <= ny < cells.shape[0] and 0 <= nx < width) or cells[ny, nx] != 0:
                    continue
                room = _room(cells, ny, nx)
                if room < most or (room == most and off >= away):
                    continue
                cell = ny * width + nx
                if _are_joined(cells, own, a, b, kept[i - 1], cell) and _are_joined(
                    cells, own, a, b, cell, kept[i + 1]
                ):
                    most, away, moved[i] = room, off, cell
    settled = False
    while not settled:
        settled = True
        for i in range(last):
            both = moved[i] == kept[i] and moved[i + 1] == kept[i + 1]
            if not both and not _are_joined(cells, own, a, b, moved[i], moved[i + 1]):
                moved[i], moved[i + 1] = kept[i], kept[i + 1]
                settled = False
    return moved


@njit(cache=True, nogil=True)
def bends(
    cells: Array, dist: Array, own: Array, first: Array, second: Array, diagonal: bool, tight: bool
) -> tuple[Array, Array]:
    """Returns the ways from place to place through pairs of cells that touch, perhaps as pulled strings.

    Args:
        cells: as in `repair`.
        dist: as in `repair`.
        own: as in `repair`.
        first: (E,) int64 flat cells.
        second: (E,) int64 flat cells that touch them, of other places.
        diagonal: as in `repair`.
        tight: whether the strings are pulled.

    Returns:
        flat cells of all ways, from the place of `first` to that of `second`, and (E + 1,) int64 where
        they begin and end.
    """
    starts = np.zeros(first.shape[0] + 1, np.int64)
    result = [np.int64(0)]
    result.pop()
    for i in range(first.shape[0]):
        path = [np.int64(0)]
        path.pop()
        _descend(cells, dist, own, first[i], diagonal, path)
        way = path[::-1]
        path = [np.int64(0)]
        path.pop()
        _descend(cells, dist, own, second[i], diagonal, path)
        for cell in path:
            way.append(cell)
        array = np.array(way)
        a, b = own.reshape(-1)[first[i]], own.reshape(-1)[second[i]]
        for cell in tighten(cells, own, a, b, array) if tight else array:
            result.append(cell)
        starts[i + 1] = len(result)
    return np.array(result, dtype=np.int64), starts


@njit(cache=True, nogil=True)
def sightlines(cells: Array, ys: Array, xs: Array, most: float) -> Array:
    """Returns (E, 3) int64: indices i < j of cells with a clear line between them, squared lengths.

    Args:
        cells: (H, W) int8, 0 free.
        ys: (N,) int64.
        xs: (N,) int64.
        most: longest line [cells].
    """
    count = ys.shape[0]
    result = np.empty((1024, 3), np.int64)
    found = 0
    for i in range(count):
        for j in range(i + 1, count):
            squared = (ys[i] - ys[j]) ** 2 + (xs[i] - xs[j]) ** 2
            if squared <= most * most and is_clear(cells, cells, -1, -1, ys[i], xs[i], ys[j], xs[j]):
                if found == len(result):
                    grown = np.empty((2 * found, 3), np.int64)
                    grown[:found] = result
                    result = grown
                result[found, 0], result[found, 1], result[found, 2] = i, j, squared
                found += 1
    return result[:found].copy()

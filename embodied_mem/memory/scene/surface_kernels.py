"""Numba kernels on upright surfaces: sums over the points in hashed cells, and a scan's fit to them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]
CELL = 0.2
"""Edge of a cell [m]."""
MOST = 400.0
"""Sums are over about so many points; older ones fade."""
LEAST = 10.0
"""So many points tell where a surface is."""
THIN = 0.03
"""What is thicker is no surface: standard deviation across it [m]."""
LONG = 4.0
"""A surface is so many times wider than thick, squared."""
GATE = 0.12
"""A point farther from a surface than this is of something else [m]."""
BITS = 21
OFFSET = np.int64(1) << (BITS - 1)
GRAIN = 0.003
"""Standard deviation of a depth camera's range at 1 m; it grows with the square of the range [m]."""
ROUGH = 0.01
"""And that of everything else [m]."""


@njit(cache=True, nogil=True)
def key_of(x: float, y: float, z: float) -> int:
    """Returns the key of the cell that holds a point [m]."""
    ix = np.int64(np.floor(x / CELL)) + OFFSET
    iy = np.int64(np.floor(y / CELL)) + OFFSET
    iz = np.int64(np.floor(z / CELL)) + OFFSET
    return (((ix << BITS) | iy) << BITS) | iz


@njit(cache=True, nogil=True)
def slot_of(table: Array, key: int) -> int:
    """Returns where a key stands in a table, or would stand."""
    last = table.shape[0] - 1
    slot = ((key ^ (key >> 31)) * np.int64(-7046029254386353131) >> 32) & last
    while table[slot, 0] != -1 and table[slot, 0] != key:
        slot = (slot + 1) & last
    return slot


@njit(cache=True, nogil=True)
def enter(table: Array, sums: Array, count: int, key: int) -> tuple[Array, Array, int, int]:
    """Returns table, sums and their number with a row for a key, and that row."""
    slot = slot_of(table, key)
    if table[slot, 0] == key:
        return table, sums, count, table[slot, 1]
    table[slot, 0], table[slot, 1] = key, count
    row, count = count, count + 1
    if 2 * count > table.shape[0]:
        larger = np.full((2 * table.shape[0], 2), -1, np.int64)
        for i in range(table.shape[0]):
            if table[i, 0] != -1:
                to = slot_of(larger, table[i, 0])
                larger[to, 0], larger[to, 1] = table[i, 0], table[i, 1]
        table = larger
    if count > sums.shape[0]:
        grown = np.zeros((2 * sums.shape[0], 6), np.float32)
        grown[: sums.shape[0]] = sums
        sums = grown
    return table, sums, count, row


@njit(cache=True, nogil=True)
def enter_all(table: Array, sums: Array, count: int, keys: Array, values: Array) -> tuple[Array, Array, int]:
    """Returns table, sums and their number with the (N, 6) sums of (N,) cells set.

    Args:
        table: as for `add_points`.
        sums: as there.
        count: of the rows in use.
        keys: (N,) int64 of the cells.
        values: (N, 6) float32 their sums.
    """
    for i in range(keys.shape[0]):
        table, sums, count, row = enter(table, sums, count, keys[i])
        sums[row] = values[i]
    return table, sums, count


@njit(cache=True, nogil=True)
def cell_key(x: int, y: int, z: int, place: int, bits: int) -> int:
    """Returns the key of a cell in a block of 2^bits cells to an edge, whose first cell is (x, y, z)."""
    last = (1 << bits) - 1
    ix = np.int64(x) + (place >> 2 * bits)
    iy = np.int64(y) + ((place >> bits) & last)
    return (((ix << BITS) | iy) << BITS) | (np.int64(z) + (place & last))


@njit(cache=True, nogil=True)
def rows_in(table: Array, x: int, y: int, z: int, bits: int) -> tuple[Array, Array]:
    """Returns (N,) places of the cells of a block that are in a table, ascending, and (N,) their rows."""
    places, rows = np.empty(1 << 3 * bits, np.int64), np.empty(1 << 3 * bits, np.int64)
    n = 0
    for place in range(1 << 3 * bits):
        key = cell_key(x, y, z, place, bits)
        slot = slot_of(table, key)
        if table[slot, 0] == key:
            places[n], rows[n] = place, table[slot, 1]
            n += 1
    return places[:n], rows[:n]


@njit(cache=True, nogil=True)
def add_points(
    table: Array,
    sums: Array,
    count: int,
    points: Array,
    hit: Array,
    stride: int,
    r: Array,
    t: Array,
    low: float,
    reach: float,
) -> tuple[Array, Array, int, Array]:
    """Adds the points of a scan to the sums of their cells; returns table, sums, their number, the keys met.

    Args:
        table: (S, 2) int64 keys, -1 for none, and rows of the sums.
        sums: (C, 6) float32 of each cell: number of points, sums of x, y, x x, x y, y y from its centre [m].
        count: of the rows in use.
        points: (N, 3) float32 in the base frame [m].
        hit: (N,) bool, which are of surfaces.
        stride: every n-th point is taken.
        r: (3, 3) rotation to the map.
        t: (3,) shift to the map [m].
        low: points this high above the base or lower are left out [m].
        reach: and those farther away [m].
    """
    met = np.empty((points.shape[0] + stride - 1) // stride, np.int64)
    n, last = 0, np.int64(-1)
    for i in range(0, points.shape[0], stride):
        a, b, c = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        up = r[2, 0] * a + r[2, 1] * b + r[2, 2] * c
        if not hit[i] or up < low or a * a + b * b + c * c > reach * reach:
            continue
        x = r[0, 0] * a + r[0, 1] * b + r[0, 2] * c + t[0]
        y = r[1, 0] * a + r[1, 1] * b + r[1, 2] * c + t[1]
        key = key_of(x, y, up + t[2])
        table, sums, count, row = enter(table, sums, count, key)
        x -= (np.floor(x / CELL) + 0.5) * CELL
        y -= (np.floor(y / CELL) + 0.5) * CELL
        s = sums[row]
        if s[0] >= MOST:
            for k in range(6):
                s[k] *= np.float32(1.0 - 1.0 / (MOST + 1.0))
        s[0] += np.float32(1.0)
        s[1] += np.float32(x)
        s[2] += np.float32(y)
        s[3] += np.float32(x * x)
        s[4] += np.float32(x * y)
        s[5] += np.float32(y * y)
        if key != last:
            met[n], last = key, key
            n += 1
    return table, sums, count, met[:n]


@njit(cache=True, nogil=True)
def _surface(s: Array) -> tuple[float, float, float, float, float]:
    """Returns a surface in a cell: a point on it and its normal, from above, and its variance across.

    The variance is negative where there is no upright surface.
    """
    n = np.float64(s[0])
    mx, my = s[1] / n, s[2] / n
    xx, xy, yy = s[3] / n - mx * mx, s[4] / n - mx * my, s[5] / n - my * my
    half, skew = 0.5 * (xx + yy), 0.5 * (xx - yy)
    root = np.sqrt(skew * skew + xy * xy)
    across, along = half - root, half + root
    if across > THIN * THIN or along < LONG * across or along < 1e-4:
        return 0.0, 0.0, 0.0, 0.0, -1.0
    nx, ny = across - yy, xy
    if abs(xy) < 1e-9:
        nx, ny = (1.0, 0.0) if xx < yy else (0.0, 1.0)
    length = np.sqrt(nx * nx + ny * ny)
    return mx, my, nx / length, ny / length, max(across, 1e-5)


@njit(cache=True, nogil=True)
def fit(
    table: Array,
    sums: Array,
    points: Array,
    hit: Array,
    stride: int,
    r: Array,
    t: Array,
    error: Array,
    low: float,
    reach: float,
) -> tuple[Array, Array]:
    """Returns the normal equations of a scan's distances to known surfaces: (3, 3) and (3,).

    The unknowns are the error of the pose in x and y [m] and of its heading [rad]; residuals are weighted by
    their variances, and outliers by Geman and McClure's function.

    Args:
        table: as for `add_points`.
        sums: as there.
        points: as there.
        hit: as there.
        stride: as there.
        r: (3, 3) rotation of the pose with its error.
        t: (3,) its position [m].
        error: (3,) the error as far as it is known.
        low: as for `add_points`.
        reach: as there.
    """
    information, gradient = np.zeros((3, 3)), np.zeros(3)
    cos, sin = np.cos(error[2]), np.sin(error[2])
    j = np.empty(3)
    for i in range(0, points.shape[0], stride):
        a, b, c = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        squared = a * a + b * b + c * c
        up = r[2, 0] * a + r[2, 1] * b + r[2, 2] * c
        if not hit[i] or up < low or squared > reach * reach:
            continue
        x = r[0, 0] * a + r[0, 1] * b + r[0, 2] * c
        y = r[1, 0] * a + r[1, 1] * b + r[1, 2] * c
        x, y = cos * x + sin * y, cos * y - sin * x
        px, py = x + t[0] - error[0], y + t[1] - error[1]
        slot = slot_of(table, key_of(px, py, up + t[2]))
        if table[slot, 0] == -1:
            continue
        s = sums[table[slot, 1]]
        if s[0] < LEAST:
            continue
        mx, my, nx, ny, variance = _surface(s)
        if variance < 0.0:
            continue
        dx, dy = px - (np.floor(px / CELL) + 0.5) * CELL - mx, py - (np.floor(py / CELL) + 0.5) * CELL - my
        off = nx * dx + ny * dy
        if off * off > GATE * GATE:
            continue
        weight = 1.0 / (variance + (GRAIN * squared) ** 2 + ROUGH * ROUGH)
        weight /= (1.0 + 0.25 * off * off * weight) ** 2
        j[0], j[1], j[2] = -nx, -ny, nx * y - ny * x
        for k in range(3):
            gradient[k] += weight * j[k] * off
            for m in range(3):
                information[k, m] += weight * j[k] * j[m]
    return information, gradient

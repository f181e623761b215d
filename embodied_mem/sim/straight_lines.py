"""Numba kernels of the controller: how far a path can be cut short, and obstacles made wider."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def _is_clear(cells: Array, x0: float, y0: float, resolution: float, a: Array, b: Array) -> bool:
    """Whether the straight line between two points, without the first, is over free cells of the map."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    count = max(2, int(2 * np.hypot(dx, dy) / resolution))
    step = 1.0 / count
    for k in range(1, count + 1):
        along = 1.0 if k == count else k * step
        ix = np.int64(np.floor((a[0] + along * dx - x0) / resolution))
        iy = np.int64(np.floor((a[1] + along * dy - y0) / resolution))
        if ix < 0 or iy < 0 or ix >= cells.shape[1] or iy >= cells.shape[0] or cells[iy, ix] != 0:
            return False
    return True


@njit(cache=True, nogil=True)
def farthest_in_sight(
    cells: Array, x0: float, y0: float, resolution: float, here: Array, path: Array, count: int
) -> int:
    """Returns the row of the farthest point of a path to which the straight line is over free cells.

    Every second point is looked at, from `count` on; 2, or the last one, where there is none.

    Args:
        cells: (H, W) int8 of a grid map.
        x0: x of its origin [m].
        y0: y of its origin [m].
        resolution: edge of a cell [m].
        here: (3,) float64 [m]; its own cell may be too narrow by the map's margin: who stands there has to
            leave it anyway.
        path: (M, 3) float64 points [m].
        count: row of the farthest point that is looked at.
    """
    index = count
    while index > 1:
        if _is_clear(cells, x0, y0, resolution, here, path[index]):
            return index
        index -= 2
    return min(path.shape[0] - 1, 2)


@njit(cache=True, nogil=True)
def widened(cells: Array) -> Array:
    """Returns (H, W) int8 cells whose obstacles, 100, are wider by a cell on all four sides."""
    height, width = cells.shape
    result = cells.copy()
    for y in range(height):
        for x in range(width):
            if cells[y, x] == 100:
                result[max(y - 1, 0), x] = result[min(y + 1, height - 1), x] = 100
                result[y, max(x - 1, 0)] = result[y, min(x + 1, width - 1)] = 100
    return result

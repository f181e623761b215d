"""Thinning of scans: one point for each voxel in which rays end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def _first_of_each(points: Array, hit: Array, scale: float, table: Array, owner: Array, chosen: Array) -> int:
    mask = len(table) - 1
    count = 0
    for i in range(points.shape[0]):
        x = np.int64(np.floor(points[i, 0] * scale))
        y = np.int64(np.floor(points[i, 1] * scale))
        z = np.int64(np.floor(points[i, 2] * scale))
        key = ((x & 0xFFFFF) << 41) | ((y & 0xFFFFF) << 21) | ((z & 0xFFFFF) << 1) | np.int64(hit[i])
        slot = ((key * 0x2545F4914F6CDD1D) >> 20) & mask
        while table[slot] != -1 and table[slot] != key:
            slot = (slot + 1) & mask
        if table[slot] == -1:
            table[slot] = key
            owner[count] = i
            count += 1
    for i in range(count):
        chosen[i] = owner[i]
    return count


def one_per_voxel(
    points: NDArray[np.float32], hit: NDArray[np.bool_], resolution: float
) -> NDArray[np.int64]:
    """Returns the indices of the first point in each voxel, hits and misses apart, ascending.

    Args:
        points: (N, 3) float32 [m].
        hit: (N,) bool.
        resolution: edge of a voxel [m].
    """
    size = 1 << max(int(2 * len(points) - 1).bit_length(), 4)
    table, owner = np.full(size, -1, np.int64), np.empty(len(points), np.int64)
    chosen = np.empty(len(points), np.int64)
    count = _first_of_each(points, hit, 1.0 / resolution, table, owner, chosen)
    return chosen[:count].copy()

"""Thinning of scans: one point for each voxel in which rays end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def _slot(table: Array, key: int) -> int:
    """Finds where a key is in a table, or where there is room for it."""
    mask = len(table) - 1
    slot = ((key * 0x2545F4914F6CDD1D) >> 20) & mask
    while table[slot] != -1 and table[slot] != key:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def _first_of_each(points: Array, hit: Array, scale: float) -> Array:
    table = np.full(4096, np.int64(-1))  # it grows with the voxels: a small one stays in the cache
    keys, owner = np.empty(len(points), np.int64), np.empty(len(points), np.int64)
    count, last = 0, np.int64(-1)
    for i in range(points.shape[0]):
        x = np.int64(np.floor(points[i, 0] * scale))
        y = np.int64(np.floor(points[i, 1] * scale))
        z = np.int64(np.floor(points[i, 2] * scale))
        key = ((x & 0xFFFFF) << 41) | ((y & 0xFFFFF) << 21) | ((z & 0xFFFFF) << 1) | np.int64(hit[i])
        if key == last:
            continue
        last = key
        slot = _slot(table, key)
        if table[slot] == key:
            continue
        table[slot] = key
        keys[count], owner[count] = key, i
        count += 1
        if 2 * count > len(table):
            table = np.full(2 * len(table), np.int64(-1))
            for k in range(count):
                table[_slot(table, keys[k])] = keys[k]
    return owner[:count].copy()


def one_per_voxel(
    points: NDArray[np.float32], hit: NDArray[np.bool_], resolution: float
) -> NDArray[np.int64]:
    """Returns the indices of the first point in each voxel, hits and misses apart, ascending.

    Args:
        points: (N, 3) float32 [m].
        hit: (N,) bool.
        resolution: edge of a voxel [m].
    """
    return np.asarray(_first_of_each(points, hit, 1.0 / resolution))

"""Thinning of scans: one point for each voxel in which rays end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]
DENSE = 1 << 23
"""Boxes of up to so many voxels get two bits for each of them: 2 MB."""


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


@njit(cache=True, nogil=True)
def _bounds(points: Array, scale: float) -> tuple[Array, Array]:
    """Returns the lowest and the highest voxel of points, (3,) float64 each; NaN where points are."""
    low, high = np.full(3, np.inf, np.float32), np.full(3, -np.inf, np.float32)
    for i in range(points.shape[0]):
        for a in range(3):
            p = points[i, a]
            if not np.isfinite(p):
                return np.full(3, np.nan), np.full(3, np.nan)
            low[a], high[a] = min(low[a], p), max(high[a], p)
    return np.floor(low * scale), np.floor(high * scale)


@njit(cache=True, nogil=True)
def _first_in_box(points: Array, hit: Array, scale: float, low: Array, shape: Array) -> Array:
    """As `_first_of_each`, for points in a box of so few voxels that each can have a bit."""
    size = shape[0] * shape[1] * shape[2]
    seen = np.zeros(2 * (size // 64 + 1), np.uint64)
    owner = np.empty(points.shape[0], np.int64)
    count = 0
    lx, ly, lz, ny, nz = low[0], low[1], low[2], shape[1], shape[2]
    for i in range(points.shape[0]):
        x = np.int64(np.floor(points[i, 0] * scale) - lx)
        y = np.int64(np.floor(points[i, 1] * scale) - ly)
        z = np.int64(np.floor(points[i, 2] * scale) - lz)
        cell = ((x * ny + y) * nz + z) * 2 + np.int64(hit[i])
        bit = np.uint64(1) << np.uint64(cell & 63)
        if seen[cell >> 6] & bit:
            continue
        seen[cell >> 6] |= bit
        owner[count] = i
        count += 1
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
    scale = 1.0 / resolution
    low, high = _bounds(points, scale)
    shape = high - low + 1.0
    if len(points) and 0.0 < shape[0] * shape[1] * shape[2] <= DENSE:
        return np.asarray(_first_in_box(points, hit, scale, low, shape.astype(np.int64)))
    return np.asarray(_first_of_each(points, hit, scale))

"""A dense directory of blocks: large batches of queries find their blocks without a hash."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.octants import UNKNOWN, LogOdds
from embodied_mem.memory.octree.words import count_bits

Array = NDArray[Any]

SPARSE = 16
"""A box with more blocks' places than so many times the blocks it holds gets no directory."""
WORTH = 16
"""Batches of fewer points than so many times the blocks are not worth making a directory."""
LANE = 256


class Directory:
    """Rows of blocks by their place in the box around all of them.

    Attributes:
        grid: (X, Y, Z) int32 row of the block at each place, -1 none; 0 x 0 x 0 before it is made.
        lo: (3,) int64 block coordinates of grid[0, 0, 0].
        count: blocks that it knows.
    """

    def __init__(self) -> None:
        self.grid = np.empty((0, 0, 0), np.int32)
        self.lo = np.zeros(3, np.int64)
        self.count = 0

    def make(self, coords: NDArray[np.int64]) -> None:
        """Makes it for the blocks at (B, 3) int64 coordinates, by row; empty where they lie too far apart."""
        self.count = len(coords)
        self.grid = np.empty((0, 0, 0), np.int32)
        if not len(coords):
            return
        self.lo = coords.min(axis=0)
        shape = coords.max(axis=0) - self.lo + 1
        if float(shape[0]) * float(shape[1]) * float(shape[2]) > SPARSE * len(coords):
            return
        self.grid = np.full(shape, -1, np.int32)
        self.grid[tuple((coords - self.lo).T)] = np.arange(len(coords), dtype=np.int32)


@njit(cache=True, nogil=True)
def _places(points: Array, inverse: float, shape: Array, lo: Array, place: Array, local: Array) -> None:
    """Finds where points lie: in which place of the grid, -1 outside, and where in the block there.

    `local` gets the number of the octant, times eight, plus that of the voxel in it.
    """
    ny, nz = np.int32(shape[1]), np.int32(shape[2])
    lx, ly, lz = np.float64(lo[0] * 8), np.float64(lo[1] * 8), np.float64(lo[2] * 8)
    hx, hy, hz = np.float64(shape[0] * 8), np.float64(ny * 8), np.float64(nz * 8)
    for i in range(points.shape[0]):
        x = np.floor(np.float64(points[i, 0]) * inverse) - lx
        y = np.floor(np.float64(points[i, 1]) * inverse) - ly
        z = np.floor(np.float64(points[i, 2]) * inverse) - lz
        inside = (x >= 0) & (y >= 0) & (z >= 0) & (x < hx) & (y < hy) & (z < hz)  # False for NaN
        vx = np.int32(x if inside else 0.0)
        vy = np.int32(y if inside else 0.0)
        vz = np.int32(z if inside else 0.0)
        at = np.int32(np.int32(np.int32((vx >> 3) * ny) + (vy >> 3)) * nz) + (vz >> 3)
        place[i] = np.int32(at) if inside else np.int32(-1)
        octant = ((vx & 6) << 3) | ((vy & 6) << 1) | ((vz & 6) >> 1)
        local[i] = np.int32((octant << 3) | ((vx & 1) << 2) | ((vy & 1) << 1) | (vz & 1))


@njit(cache=True, nogil=True)
def query_directory(
    points: Array, inverse: float, grid: Array, lo: Array, log_odds: LogOdds, unit: float
) -> Array:
    """Looks up the log-odds of voxels, without a branch that depends on where the points are.

    Args:
        points: (N, 3) float32 [m].
        inverse: 1 / resolution [1/m].
        grid: (X, Y, Z) int32 of `Directory`.
        lo: (3,) int64 of `Directory`.
        log_odds: the map's.
        unit: log-odds of one step.

    Returns:
        (N,) float32, NaN where unknown.
    """
    n = points.shape[0]
    out = np.empty(n, np.float32)
    rows, evens = grid.reshape(-1), log_odds.even.reshape(-1)
    shape = np.array(grid.shape)
    place, local = np.empty(LANE, np.int32), np.empty(LANE, np.int32)
    one = np.uint64(1)
    for first in range(0, n, LANE):
        size = min(LANE, n - first)
        _places(points[first : first + size], inverse, shape, lo, place, local)
        for i in range(size):
            found = rows[np.uint32(max(place[i], 0))]
            row = np.uint64(max(found, 0))
            octant, within = np.uint64(np.uint32(local[i] >> 3)), np.uint64(np.uint32(local[i] & 7))
            uneven = log_odds.uneven[row] >> octant
            below = log_odds.uneven[row] & ((one << octant) - one)
            at = np.uint64(log_odds.starts[row]) + np.uint64(count_bits(below))
            word = log_odds.words[at if uneven & one else np.uint64(0)]
            apart = np.int8(np.uint8((word >> (within << np.uint64(3))) & np.uint64(0xFF)))
            step = apart if uneven & one else evens[(row << np.uint64(6)) + octant]
            known = (place[i] >= 0) & (found >= 0) & (step != np.int8(UNKNOWN))
            out[first + i] = np.float32(step) * unit if known else np.float32(np.nan)
    return out

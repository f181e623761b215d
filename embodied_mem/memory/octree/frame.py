"""The geometry of a scan's byte map: what the kernels of `dense` need to know of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.kernels import WORLD

Array = NDArray[Any]


class Frame(NamedTuple):
    """The geometry of a scan's byte map.

    Attributes:
        origin: (3,) float32 [m], where the rays start.
        at: (3,) float64, the origin in voxels from the first voxel of the map.
        start: (3,) int64, its voxel from the first voxel of the map.
        lo: (3,) int64 first voxel of the map, a multiple of 8.
        strides: (3,) int64 cells per voxel along each axis; the last is 1.
        resolution: edge of a voxel [m].
        inverse: 1 / resolution.
        max_range: [m].
        eps: float32 crossings nearer to a voxel's edge than this are in doubt [voxels].
        world: largest voxel index that can be stored.
    """

    origin: Array
    at: Array
    start: Array
    lo: Array
    strides: Array
    resolution: float
    inverse: float
    max_range: float
    eps: float
    world: float


@njit(cache=True, nogil=True)
def frame_of(
    lo: Array, shape: Array, strides: Array, origin: Array, resolution: float, max_range: float
) -> Frame:
    """Returns the geometry of a byte map for rays.

    Args:
        lo: (3,) int64, its first voxel.
        shape: (3,) int64, its blocks along each axis.
        strides: (3,) int64, its cells per voxel along each axis.
        origin: (3,) float32, where the rays start [m].
        resolution: edge of a voxel [m].
        max_range: [m].
    """
    inverse, at, start, most = 1.0 / resolution, np.empty(3), np.empty(3, np.int64), np.int64(0)
    for i in range(3):
        scaled = np.float64(origin[i]) * inverse
        at[i] = scaled - lo[i]
        start[i] = np.int64(np.floor(scaled)) - lo[i]
        most = max(most, shape[i])
    # Four roundings of numbers as large as the map, and a margin for OctoMap's own.
    eps = most * 8 * 2.5e-7 + 1e-6
    return Frame(origin, at, start, lo, strides, resolution, inverse, max_range, eps, float(WORLD))

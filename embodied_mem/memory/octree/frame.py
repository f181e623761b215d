"""The geometry of a scan's byte map: what the kernels of `dense` need to know of it."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

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

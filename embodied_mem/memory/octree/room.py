"""Where a depth image lies in the map: the byte map around its rays, and its camera in there."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.frame import Frame
from embodied_mem.memory.octree.gathering import span_blocks
from embodied_mem.memory.octree.kernels import WORLD
from embodied_mem.memory.octree.pixels import Picture, join_bounds
from embodied_mem.memory.octree.view import View

Array = NDArray[Any]

FRESH, READY, SMALL, OUTSIDE = range(4)
"""States of a room: not known yet; known; the cells are too few for it; beyond the world of the octree."""
_STATE, _RAYS, _FARTHEST, _BLOCKS = range(4)


class Room(NamedTuple):
    """The byte map of a depth image.

    Attributes:
        resolution: edge of a voxel [m].
        lo: (3,) int64, its first voxel.
        shape: (3,) int64, its blocks along each axis.
        strides: (3,) int64, its cells per voxel along each axis.
        cells: (1,) float64, how many it has: may be more than an integer can hold.
        facts: (4,) int64: its state, the image's rays, the largest index of a voxel, and how many
            blocks have marks.
    """

    resolution: float
    lo: Array
    shape: Array
    strides: Array
    cells: Array
    facts: Array

    @classmethod
    def make(cls, resolution: float) -> Room:
        """Returns one that is `FRESH`."""
        lo, shape, strides = np.zeros((3, 3), np.int64)
        return cls(resolution, lo, shape, strides, np.zeros(1), np.zeros(4, np.int64))

    @property
    def state(self) -> int:
        """One of FRESH, READY, SMALL and OUTSIDE."""
        return int(self.facts[_STATE])

    @property
    def rays(self) -> int:
        """How many pixels have a ray."""
        return int(self.facts[_RAYS])

    @property
    def blocks(self) -> int:
        """How many blocks have marks."""
        return int(self.facts[_BLOCKS])


@njit(cache=True, nogil=True)
def is_ready(room: Room) -> bool:
    """Tells whether the byte map is known and fits."""
    return room.facts[_STATE] == READY


@njit(cache=True, nogil=True)
def count_blocks(room: Room, count: int) -> None:
    """Notes how many blocks have marks."""
    room.facts[_BLOCKS] = count


@njit(cache=True, nogil=True)
def blocks_in(room: Room) -> int:
    """Returns how many blocks have marks."""
    return room.facts[_BLOCKS]


@njit(cache=True, nogil=True)
def span_room(found: Array, cells: int, room: Room) -> None:
    """Finds the blocks around the rays of a depth image.

    Args:
        found: (T, 7) float64, what `lift_rows` returned in each thread.
        cells: how many there are.
        room: filled.
    """
    low, high, rays = join_bounds(found, room.resolution, float(WORLD))
    facts = room.facts
    facts[_RAYS] = rays
    if rays < 0:
        facts[_STATE] = OUTSIDE
        return
    lo, shape, strides, size = span_blocks(low, high)
    farthest = np.int64(0)
    for i in range(3):
        room.lo[i], room.shape[i], room.strides[i] = lo[i], shape[i], strides[i]
        farthest = max(farthest, abs(low[i]), abs(high[i]))
    facts[_FARTHEST], room.cells[0] = farthest, size
    facts[_STATE] = READY if size <= cells else SMALL


@njit(cache=True, nogil=True)
def camera_in(room: Room, frame: Frame, picture: Picture) -> View:
    """Returns the camera in the byte map's voxels."""
    # float32 coordinates are coarser far from the map's origin: doubt more there.
    eps = 3.0 * frame.eps + 2.5e-7 * room.facts[_FARTHEST]
    height, width = picture.depth.shape
    return View(
        width, height, picture.fx, picture.fy, picture.cx, picture.cy, picture.rotation, frame.at,
        frame.resolution, eps,
    )  # fmt: skip

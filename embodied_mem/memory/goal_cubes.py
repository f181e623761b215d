"""Cubes of the octree that hold voxels of wanted labels: where something is that never became an object."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.octree.types import LabelledBlocks

LEVEL = 3
"""Level of the cubes, the octree's blocks: 0.4 m where voxels have 5 cm."""
BIAS = 1 << 19


class Labelled(Protocol):
    """What is needed of an octree.

    Attributes:
        resolution: edge of a voxel [m].
    """

    resolution: float

    def labelled_blocks(self, labels: Iterable[int]) -> LabelledBlocks:
        """Returns the 8^3 blocks that hold occupied voxels of some label ids, sorted by z, y and x."""


@dataclass(frozen=True, eq=False)
class Cubes:
    """Cubes of one level, sorted by z, y and x.

    Attributes:
        ids: (C, ) int64, made of the cube's indices.
        positions: (C, 3) float64 [m], middles of the boxes around the wanted voxels in the map frame.
        extents: (C, 3) float64 [m], edges of these boxes.
        labels: (C,) int32 label id of a wanted voxel.
        counts: (C,) int64, wanted voxels.
        stamps: (C,) int64 [ns], when the newest of them was observed.
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.float64]
    extents: NDArray[np.float64]
    labels: NDArray[np.int32]
    counts: NDArray[np.int64]
    stamps: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


def goal_cubes(octree: Labelled, labels: Iterable[int]) -> Cubes:
    """Returns the cubes with occupied voxels of some label ids."""
    found = octree.labelled_blocks(labels)
    x, y, z = (found.coords[:, axis] + BIAS for axis in range(3))
    lo, hi = found.lo.astype(np.float64), found.hi.astype(np.float64)
    extents = hi - lo + octree.resolution
    return Cubes(z << 42 | y << 21 | x, (lo + hi) / 2, extents, found.labels, found.counts, found.stamps)

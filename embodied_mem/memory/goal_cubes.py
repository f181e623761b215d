"""Cubes of the octree that hold voxels of wanted labels: where something is that never became an object."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.octree.types import Voxels

LEVEL = 3
"""Level of the cubes: 0.4 m where voxels have 5 cm."""
BIAS = 1 << 19


class Labelled(Protocol):
    """What is needed of an octree.

    Attributes:
        resolution: edge of a voxel [m].
    """

    resolution: float

    def labelled(self, labels: Iterable[int]) -> Voxels:
        """Returns the occupied voxels that have one of some label ids."""


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
    found = octree.labelled(labels)
    if not len(found.centers):
        none = np.empty(0, np.int64)
        return Cubes(none, np.empty((0, 3)), np.empty((0, 3)), found.labels, none, found.stamps)
    centers = found.centers.astype(np.float64)  # (M, 3)
    cubes = np.floor(centers / (octree.resolution * 2**LEVEL)).astype(np.int64) + BIAS
    keys = cubes[:, 2] << 42 | cubes[:, 1] << 21 | cubes[:, 0]
    order = np.argsort(keys, kind="stable")
    ids, first, counts = np.unique(keys[order], return_index=True, return_counts=True)
    lo, hi = (f.reduceat(centers[order], first, axis=0) for f in (np.minimum, np.maximum))
    stamps = np.maximum.reduceat(found.stamps[order], first)
    extents = hi - lo + octree.resolution
    return Cubes(ids, (lo + hi) / 2, extents, found.labels[order][first], counts, stamps)

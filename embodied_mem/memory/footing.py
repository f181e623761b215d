"""How high the floor is under the base: where the base is carried, the map tells."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.octree import Octree

UNDER, ABOVE = 0.15, 0.1
"""Something to stand on this far below or above the base is its floor, near enough [m]."""
NEAR, FAR, DEEP = 1.5, 2.0, 2.0
"""Where that is looked for, and otherwise the floor around and below a base that is carried [m]."""
PITCH = 0.2
"""Columns are looked at so densely [m]."""
FEW, SOME = 3, 12
"""So many columns show that there is something to stand on, near the base and below it."""
SHARE = 0.3
"""The floor is the lowest surface with so much of the columns of the largest one: tables are smaller."""


def floor_height(octree: Octree, position: NDArray[np.float64], last: float | None = None) -> float:
    """Returns the height of the floor that a base stands on or is carried over, in whole voxels [m].

    Args:
        octree: the map.
        position: (3,) [m] of the base, map frame.
        last: the height before; a base that is carried stays over that floor while the map shows some of it.
    """
    resolution, z = octree.resolution, float(position[2])
    own = math.floor(z / resolution + 0.5)
    low, high = math.floor((z - UNDER) / resolution), math.floor((z + ABOVE) / resolution)
    if int(_surfaces(octree, position, _ring(), low, high, False).any(axis=1).sum()) >= FEW:
        return own * resolution
    low = math.floor((z - DEEP) / resolution)
    counts = _surfaces(octree, position, _disk(), low, high, True).sum(axis=0)
    kept = -1 if last is None else math.floor(last / resolution + 0.5) - low - 1
    if last is not None and 0 <= kept < len(counts) and counts[max(kept - 1, 0) : kept + 2].sum() >= FEW:
        return last
    if int(counts.max(initial=0)) < SOME:
        return own * resolution
    found = low + int(np.argmax(counts >= SHARE * counts.max())) + 1
    return (own if abs(found - own) * resolution <= 2 * UNDER else found) * resolution


def _surfaces(
    octree: Octree,
    position: NDArray[np.float64],
    around: NDArray[np.float64],
    low: int,
    high: int,
    seen: bool,
) -> NDArray[np.bool_]:
    """Returns (N, high - low + 1) bool: columns and layers that are occupied, with none above.

    Args:
        octree: the map.
        position: (3,) [m].
        around: (N, 2) [m] x and y of the columns from it.
        low: first layer of voxels.
        high: last layer.
        seen: what is above must be known to be free.
    """
    heights = (np.arange(low, high + 2) + 0.5) * octree.resolution
    points = np.empty((len(around), len(heights), 3), np.float32)
    points[:, :, :2] = (position[:2] + around)[:, None]
    points[:, :, 2] = heights
    odds = octree.query(points.reshape(-1, 3)).reshape(points.shape[:2])
    with np.errstate(invalid="ignore"):
        above = odds[:, 1:] < 0.0 if seen else ~(odds[:, 1:] >= 0.0)
        return np.asarray((odds[:, :-1] >= 0.0) & above)


@lru_cache(maxsize=1)
def _ring() -> NDArray[np.float64]:
    turn = np.arange(12) * (math.pi / 6)
    reach = np.linspace(NEAR / 5, NEAR, 5)
    return np.stack([np.outer(reach, f).ravel() for f in (np.cos(turn), np.sin(turn))], axis=1)


@lru_cache(maxsize=1)
def _disk() -> NDArray[np.float64]:
    edge = np.arange(-FAR, FAR + PITCH / 2, PITCH)
    x, y = (part.ravel() for part in np.meshgrid(edge, edge))
    inside = x * x + y * y <= FAR * FAR
    return np.stack([x[inside], y[inside]], axis=1)

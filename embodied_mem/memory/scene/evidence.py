"""What a frame says about objects before they are matched, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.scene.sightings import Sightings
from embodied_mem.memory.scene.stays import SceneEvent
from embodied_mem.types import LabelMap, Percept, Scan

MOSTLY = 0.6
"""A place was empty if this part of the points in it was free."""
SURELY_EMPTY = 100
"""A place whose voxels were free counts as seen empty so many times."""
_CORE = np.stack(np.meshgrid(*[np.array([-0.25, 0.0, 0.25])] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
"""(27, 3) points of the inner half of a box with edges of length 1."""


class HasVoxels(Protocol):
    """What the scene graph needs of an octree."""

    @property
    def resolution(self) -> float:
        """Edge of a voxel [m]."""

    def query(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns (N,) log-odds at (N, 3) points; NaN where unknown."""


@dataclass(frozen=True)
class SceneChanges:
    """What one write did to the scene graph.

    Attributes:
        new_objects: ids of objects seen for the first time.
        seen_objects: ids of all objects seen, in the order of the detections.
        place_id: the place the agent is at, or -1 before there is a map.
        new_place: whether the agent came to this place for the first time.
        room_id: the room the agent is in, or -1.
        events: what changed, in words.
        missed_objects: ids of objects whose place showed itself without them.
        dropped: detections that were unusable (NaN, infinite or negative numbers).
    """

    new_objects: tuple[int, ...]
    seen_objects: tuple[int, ...]
    place_id: int
    new_place: bool
    room_id: int
    events: tuple[SceneEvent, ...]
    missed_objects: tuple[int, ...] = ()
    dropped: int = 0


def was_empty(seen: Sightings, rows: NDArray[np.int64], octree: HasVoxels) -> NDArray[np.bool_]:
    """Returns (D,) bool: where no object is known, the place had been seen free before this frame.

    One hit does not make a voxel occupied that was seen free several times, and the inside of a
    thing is never hit: so most of its box is still free in the octree if it came only now.

    Args:
        seen: sightings.
        rows: (D,) int64, -1 for new objects.
        octree: with this frame's scans.
    """
    result = np.zeros(len(seen), bool)
    new = np.flatnonzero(rows < 0)
    if len(new) == 0:
        return result
    at = seen.positions[new, None, :] + _CORE * seen.extents[new, None, :]  # (N, 27, 3)
    odds = octree.query(at.reshape(-1, 3).astype(np.float32)).reshape(len(new), -1)
    with np.errstate(invalid="ignore"):
        result[new] = (odds < 0.0).sum(axis=1) >= MOSTLY * odds.shape[1]
    return result


@lru_cache(maxsize=64)
def dynamic_labels(labels: LabelMap, words: tuple[str, ...]) -> frozenset[int]:
    """Returns the ids of labels whose names hold one of some words."""
    return frozenset(i for word in words for i in labels.matching(word))


def without_moving(percept: Percept, words: tuple[str, ...]) -> Percept:
    """Returns a percept without the points of what moves by itself: it is no part of the map.

    Args:
        percept: with labels of the memory.
        words: of the labels of what moves.
    """
    labels = sorted(dynamic_labels(percept.labels, words))
    if not labels or not any(np.isin(scan.labels, labels).any() for scan in percept.scans):
        return percept
    scans = []
    for scan in percept.scans:
        keep = ~np.isin(scan.labels, labels)
        scans.append(Scan(scan.points[keep], scan.hit[keep], scan.labels[keep], scan.origin))
    return replace(percept, scans=tuple(scans))

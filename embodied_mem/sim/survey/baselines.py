"""What the scene graph is compared with: nearest neighbours without doubt, and the last write wins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.scene.changes import SceneChange
from embodied_mem.memory.scene.sightings import Sightings
from embodied_mem.memory.scene.stays import SceneObject
from embodied_mem.types import LabelMap, Percept


@dataclass(frozen=True)
class Seen:
    """Ids that a percept's detections were taken for."""

    seen_objects: tuple[int, ...]


@dataclass(eq=False)
class _Record:
    label: int
    position: NDArray[np.float64]
    extent: NDArray[np.float64]
    first: int
    last: int
    count: int
    track: list[tuple[int, NDArray[np.float64]]]


class GreedyNearest:
    """One detection after another takes the nearest object of its label within a gate, or makes a new one.

    Positions are running means; nothing is ever doubted, merged or moved.

    Args:
        gate: [m].
    """

    aliases: dict[int, int] = {}

    def __init__(self, gate: float = 0.5) -> None:
        self.gate = gate
        self.labels = LabelMap()
        self.records: list[_Record] = []

    def update(self, percept: Percept, octree: Any, grid_map: Any) -> Seen:
        """Takes in one percept."""
        self.labels = percept.labels
        seen = Sightings.of(percept.detections, percept.map_T_base, 1e-6)
        ids: list[int] = []
        for d in range(len(seen)):
            label, position = int(seen.labels[d]), seen.positions[d]
            best = self._nearest(label, position, ids)
            if best < 0:
                best = len(self.records)
                extent = seen.extents[d].copy()
                self.records.append(
                    _Record(label, position.copy(), extent, percept.stamp, percept.stamp, 0, [])
                )
            self._write(self.records[best], seen, d, percept.stamp)
            ids.append(best)
        return Seen(tuple(ids))

    def _nearest(self, label: int, position: NDArray[np.float64], taken: list[int]) -> int:
        best, least = -1, self.gate
        for i, record in enumerate(self.records):
            away = float(np.sqrt(((record.position - position) ** 2).sum()))
            if record.label == label and away <= least and i not in taken:
                best, least = i, away
        return best

    def _write(self, record: _Record, seen: Sightings, d: int, stamp: int) -> None:
        record.count += 1
        record.last = stamp
        record.position = record.position + (seen.positions[d] - record.position) / record.count
        record.extent = record.extent + (seen.extents[d] - record.extent) / record.count
        record.track.append((stamp, record.position))

    def objects(self) -> list[SceneObject]:
        """Returns everything ever seen."""
        return [
            SceneObject(
                id=i,
                label=r.label,
                name=self.labels.name(r.label),
                position=r.position,
                extent=r.extent,
                covariance=np.eye(3),
                state="",
                existence=1.0,
                first_seen=r.first,
                last_seen=r.last,
                count=r.count,
                place_id=-1,
                room_id=-1,
                history=(),
            )
            for i, r in enumerate(self.records)
        ]

    def changes(self, since: int) -> list[SceneChange]:
        """Returns what was first seen after a time, and what lies elsewhere than before it."""
        found = []
        for i, r in enumerate(self.records):
            name = self.labels.name(r.label)
            before = [p for stamp, p in r.track if stamp <= since]
            if not before:
                found.append(SceneChange("appeared", i, name, None, r.position, -1, r.first, ()))
            elif float(np.sqrt(((before[-1] - r.position) ** 2).sum())) > 0.25:
                found.append(SceneChange("moved", i, name, before[-1], r.position, r.first, r.last, ()))
        return found


class LastWriteWins(GreedyNearest):
    """The nearest object of a label within a wide gate is overwritten by each detection.

    Args:
        gate: [m].
    """

    def __init__(self, gate: float = 1.5) -> None:
        super().__init__(gate)

    def _write(self, record: _Record, seen: Sightings, d: int, stamp: int) -> None:
        record.count += 1
        record.last = stamp
        record.position, record.extent = seen.positions[d].copy(), seen.extents[d].copy()
        record.track.append((stamp, record.position))

"""The past told again: which object each sighting shows, decided anew where the poses were wrong.

While the odometry was off, a twin can have been taken for the thing beside it, one thing for two, and a
place have been seen empty that was another. Moving what was made of that mends nothing: the sightings that
keyframes keep are taken in once more, in their order and at the poses they have now, by a scene graph of
their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.memory.octree import Octree
from embodied_mem.memory.scene.absence import miss_objects
from embodied_mem.memory.scene.graph import SceneGraph
from embodied_mem.memory.scene.objects import Objects
from embodied_mem.memory.submaps.keyframe import Keyframe
from embodied_mem.types import Detection, LabelMap, Percept

NEAR = 8.0
"""Keyframes farther than this from all that is in doubt tell nothing of it [m]."""

Told = tuple[int, int, int]
"""Which sighting of a keyframe, and the ids of what it was taken for: in the memory, and told again."""


class _Known(NamedTuple):
    """What an object of the memory is taken for, in which state it is, and what it looks like."""

    label: int
    state: str
    look: NDArray[np.float32] | None


@dataclass(frozen=True)
class Retold:
    """What keyframes show, told again.

    Attributes:
        scene: made of them alone.
        seen: by entry id, what its sightings were taken for.
        shares: (id in the memory, id in `scene`) -> how many sightings they have in common.
        missed, confirmed: by id in the memory, in how many keyframes its place was seen without it, and in
            how many of these still where it is now.
    """

    scene: SceneGraph
    seen: Mapping[int, list[Told]]
    shares: Counter[tuple[int, int]]
    missed: Counter[int]
    confirmed: Counter[int]


class Retelling:
    """A scene graph that takes in keyframes, and what its objects are in the memory.

    It copies what it needs, so that it can go on on another thread.

    Args:
        scene: of the memory, its objects moved; not changed.
        labels: names of the label ids.
        octree: an empty one; what was free when the keyframes were made is not known any more.
        doubts: ids of the objects that may be others; at least one.
    """

    def __init__(self, scene: SceneGraph, labels: LabelMap, octree: Octree, doubts: Iterable[int]) -> None:
        table = scene.object_table
        self.doubts = sorted(doubts)
        self.scene = SceneGraph(replace(scene.config, negative_evidence=False))
        self._labels, self._octree = labels, octree
        rows = [row for i in self.doubts if (row := table.index(i)) >= 0]
        self._places = table.positions[rows, :2]
        self._known: dict[int, _Known] = {}
        self._seen: dict[int, list[Told]] = {}
        self._own: dict[int, set[int]] = {}
        self._missed: Counter[int] = Counter()
        self._confirmed: Counter[int] = Counter()
        self.know(scene)

    def know(self, scene: SceneGraph) -> None:
        """Takes note of what the memory's objects are and look like; what is not there stays out."""
        table = scene.object_table
        known = zip(table.ids.tolist(), table.labels.tolist(), table.states, table.embeddings)
        self._known = {i: _Known(label, state, look) for i, label, state, look in known}
        self._known |= {a: self._known[b] for a, b in table.aliases.items() if b in self._known}

    def take(self, entry_id: int, keyframe: Keyframe, pose: Pose) -> None:
        """Takes in a keyframe at the pose `map_T_base` that it has now, unless it is far from all doubts."""
        away = self._places - pose.position[:2]
        if not ((away * away).sum(axis=1) <= NEAR * NEAR).any():
            return
        which, detections = self._named(keyframe)
        percept = Percept(
            keyframe.stamp, 0, pose, labels=self._labels, scans=keyframe.scans, detections=tuple(detections)
        )
        told = self.scene.update(percept, self._octree, None).seen_objects
        self._seen[entry_id] = [(k, own, other) for (k, own), other in zip(which, told)]
        for _, own, other in self._seen[entry_id]:
            self._own.setdefault(other, set()).add(own)
        self._miss(percept, keyframe, told)

    def _named(self, keyframe: Keyframe) -> tuple[list[tuple[int, int]], list[Detection]]:
        """Returns which sightings of a keyframe are of objects there are, of which, and what they are.

        A keyframe does not keep what its sightings looked like: they look as their objects do.
        """
        which, detections = [], []
        for k, (object_id, seen) in enumerate(zip(keyframe.objects.tolist(), keyframe.detections())):
            known = self._known.get(object_id)
            if known is not None:
                label = seen.label if len(keyframe.labels) else known.label
                which.append((k, object_id))
                detections.append(replace(seen, label=label, state=known.state, embedding=known.look))
        return which, detections

    def _miss(self, percept: Percept, keyframe: Keyframe, told: tuple[int, ...]) -> None:
        """Misses what was missed, where its place is seen without it at this pose too.

        That alone would not do: the scans are thinned, so that too many rays seem to look through things.
        """
        missed = self._known.keys() & set(keyframe.missed.tolist())
        self._missed.update(missed)
        objects = self.scene.object_table
        now = objects.aliases
        owners: dict[int, set[int]] = {}
        for other, own in self._own.items():
            if own & missed:
                owners.setdefault(now.get(other, other), set()).update(own & missed)
        if not owners:
            return
        among = np.array([objects.index(i) for i in owners], np.int64)
        seen = np.array([objects.index(i) for i in told], np.int64)
        origin = percept.map_T_base.transform(keyframe.origin)
        _, found = miss_objects(objects, percept, origin, seen, self._octree.resolution, among)
        self._confirmed.update(own for i in found for own in owners[i])
        self.scene.identity.settle([], found)

    def result(self, table: Objects) -> Retold:
        """Returns what has been told, in the ids that the memory's objects have by now.

        Args:
            table: the memory's objects.
        """
        now = self.scene.object_table.aliases
        own = {i: int(table.ids[row]) for i in self._known if (row := table.index(i)) >= 0}
        seen = {
            entry_id: [(k, own[a], now.get(b, b)) for k, a, b in found if a in own]
            for entry_id, found in self._seen.items()
        }
        missed, confirmed = Counter[int](), Counter[int]()
        for a in own.keys() & self._missed.keys():
            missed[own[a]] += self._missed[a]
            confirmed[own[a]] += self._confirmed[a]
        shares = Counter((a, b) for found in seen.values() for _, a, b in found)
        return Retold(self.scene, seen, shares, missed, confirmed)

"""The scene graph: objects, places and rooms that stay themselves, and the agent's trajectory.

`SceneGraph.update`, with `align` before it, is the only way in beside `forget_object`; whatever
the digest covers depends on the writes alone. What a grid map implies (which place owns which cell) is a
cache, so that reading never changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.memory.navigation import Point
from embodied_mem.memory.octree.types import GridMap
from embodied_mem.memory.scene.absence import looks_before, miss_objects
from embodied_mem.memory.scene.alignment import Alignment
from embodied_mem.memory.scene.changes import SceneChange, changes_since
from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.memory.scene.coverage import Coverage
from embodied_mem.memory.scene.evidence import HasVoxels, SceneChanges, dynamic_labels
from embodied_mem.memory.scene.exports import to_networkx, to_spark_dsg, write_json
from embodied_mem.memory.scene.floor import Box
from embodied_mem.memory.scene.footprints import Body, Standing
from embodied_mem.memory.scene.identity import Identity
from embodied_mem.memory.scene.listing import object_of, places_of, rooms_of
from embodied_mem.memory.scene.objects import Objects
from embodied_mem.memory.scene.passers import Passers
from embodied_mem.memory.scene.places import Place
from embodied_mem.memory.scene.relations import Relation, relations_of
from embodied_mem.memory.scene.rooms import Room
from embodied_mem.memory.scene.rows import Row, SceneRows
from embodied_mem.memory.scene.sightings import Sightings
from embodied_mem.memory.scene.space import Space
from embodied_mem.memory.scene.stays import SceneEvent, SceneObject, Stay
from embodied_mem.memory.scene.trajectory import Trajectory
from embodied_mem.types import LabelMap, Percept

__all__ = ["Place", "Room", "SceneChanges", "SceneConfig", "SceneEvent", "SceneGraph", "SceneObject", "Stay"]


class SceneGraph:
    """Layers room > place and room > object over one storey, plus the trajectory.

    Args:
        config: how objects, places and rooms are told apart.
    """

    def __init__(self, config: SceneConfig | None = None) -> None:
        self.config = config or SceneConfig()
        self.labels = LabelMap()
        """Names of the label ids, as of the last write."""
        self.version = 0
        """Grows with every change."""
        self.agent_place = -1
        self.grid_map: GridMap | None = None
        """The grid map of the last write, or what `use_grid_map` was given."""
        self.object_table = Objects(self.config)
        self.identity = Identity(self.object_table, self.config)
        self.space = Space(self.config)
        self.place_table, self.room_table = self.space.places, self.space.rooms
        self.trajectory_table = Trajectory(self.config.trajectory_spacing)
        self.coverage = Coverage()
        self.alignment = Alignment(self.config)
        self.passers = Passers()
        self._writes = 0
        self._boundary: tuple[tuple[str, ...], NDArray[np.bool_]] = ((), np.zeros(1, bool))
        self._rows = SceneRows(
            self.object_table, self.space, self.trajectory_table, self.coverage, self.alignment
        )

    # ---- writing

    def align(self, percept: Percept) -> Percept:
        """Returns a percept whose pose fits what is known around it, if that is asked for (`align_sigma`).

        Called by `Memory.write` before the octree takes in the scans. Of the detections nothing is looked at.

        Args:
            percept: what is written next.
        """
        return self.alignment.correct(percept) if percept.map_T_base.is_finite else percept

    def update(
        self,
        percept: Percept,
        octree: HasVoxels,
        grid_map: GridMap | None,
        where: tuple[int, int, int, int] | None = None,
        walls: GridMap | None = None,
        body: Body | None = None,
    ) -> SceneChanges:
        """Takes in one percept; called by `Memory.write` after the octree has taken in its scans.

        Args:
            percept: with detections whose labels are ids of `percept.labels`, which must be the
                memory's own LabelMap (it may grow from write to write, ids keep their names).
            octree: the octree the scans went into; it tells which places had been seen empty.
            grid_map: traversable space at the agent's floor after this percept; None or empty
                where there is none yet. It must depend on the writes only.
            where: cells (first y, x, end y, x) from the map's origin outside which the grid map is as at
                the last update; None where that is not known.
            walls: what is as high as walls around the agent, if rooms are told apart by it.
            body: the robot's, and what would hit it at the agent's floor, if more than the grid map tells
                where the floor is free (`furniture`, `driven`).

        Raises:
            InputError: the pose is not finite; nothing is changed.
        """
        pose = percept.map_T_base
        if not pose.is_finite:
            raise InputError("the pose of the percept is not finite")
        self.version += 1
        self.labels = percept.labels
        o = self.object_table
        detections = [d for d in percept.detections if not self._is_dynamic(d.label)]
        moving = [d for d in percept.detections if self._is_dynamic(d.label)]
        origin = next((scan.origin for scan in percept.scans if scan.origin is not None), None)
        seen = Sightings.of(detections, pose, self.config.position_floor**2, origin)
        known = o.next_id
        rows = o.associate(seen)
        rows, events = o.observe(seen, rows, looks_before(self.coverage, seen, rows, octree), percept.stamp)
        self._rows.touch("coverage", self.coverage.add(percept.scans, pose), self.version)
        ids = o.ids[rows].tolist()
        missed: list[int] = []
        if self.config.negative_evidence:
            gone, missed = miss_objects(o, percept, seen.origin, rows, octree.resolution)
            events += gone
            self._rows.touch("object", missed, self.version)
        settled, dead = self.identity.settle(ids, missed)
        events = [e for e in events if e.object_id not in dead] + settled
        self._rows.remove("object", dead, self.version)
        ids = [o.aliases.get(i, i) for i in ids]
        place_id, new_place = self._update_places(grid_map, where, percept, body)
        self._update_rooms(walls)
        chunk = self.trajectory_table.append(percept.stamp, pose.position)
        self._rows.touch("trajectory", [chunk] if chunk >= 0 else [], self.version)
        self._rows.touch("object", [*ids, *(e.object_id for e in settled)], self.version)
        self._writes += 1
        return SceneChanges(
            new_objects=tuple(i for i in dict.fromkeys(ids) if i >= known),
            seen_objects=tuple(ids),
            place_id=place_id,
            new_place=new_place,
            room_id=self.room_at(pose.position),
            events=(*map(self._worded, events), *self.passers.see(moving, self.labels, percept.stamp)),
            missed_objects=tuple(missed),
            dropped=seen.dropped,
        )

    def forget_object(self, object_id: int) -> bool:
        """Removes an object and its history; its id is never given again. False where there is none."""
        ids = self.object_table.forget(object_id)
        if not ids:
            return False
        self.version += 1
        self.identity.forget(ids[0])
        self._rows.remove("object", ids[:1], self.version)
        return True

    def forget_trajectory(self, count: int) -> int:
        """Removes about `count` of the oldest positions of the trajectory; returns how many."""
        before = len(self.trajectory_table)
        if chunks := self.trajectory_table.drop_oldest(count):
            self.version += 1
            self._rows.remove("trajectory", chunks, self.version)
        return before - len(self.trajectory_table)

    def use_grid_map(self, grid_map: GridMap | None) -> None:
        """Sets the grid map that reading uses, after `import_rows`; changes nothing remembered."""
        self.grid_map = grid_map if grid_map is not None and grid_map.cells.size else None

    def touch(self, kind: str, numbers: list[int], gone: bool = False) -> None:
        """Notes that rows have changed from outside, such as by a correction of the poses, or are no more."""
        (self._rows.remove if gone else self._rows.touch)(kind, numbers, self.version)

    def forget_coverage(self) -> None:
        """Lets go of which surfaces were seen, and of where: they are elsewhere now."""
        self._rows.remove("surface", self.alignment.forget(), self.version)
        self._rows.remove("coverage", list(self.coverage.payloads()), self.version)
        self.coverage.restore({})

    def forget_grid(self) -> None:
        """Lets go of the grid map: the next one makes places and rooms anew, their ids stay."""
        self.grid_map = None
        self.space.forget_map()

    def _is_dynamic(self, label: int) -> bool:
        """Whether things of a label move by themselves."""
        return label in dynamic_labels(self.labels, self.config.dynamic)

    def _update_places(
        self,
        grid_map: GridMap | None,
        where: tuple[int, int, int, int] | None,
        percept: Percept,
        body: Body | None,
    ) -> tuple[int, bool]:
        places, position = self.place_table, percept.map_T_base.position
        if grid_map is not None and grid_map.cells.size:
            standing = None if body is None or not self.config.stands else self._standing(body)
            gone = self.space.update(grid_map, None if where is None else Box(*where), position, standing)
            self._rows.remove("place", gone, self.version)
            self.grid_map = grid_map
        elif not places.covers(position):
            places.add_at(position, None)
        place = places.at(position)
        # A new episode or a jump of the localisation is no walk from one place to the next.
        leapt = percept.is_first or self.trajectory_table.moved(position) > self.config.place_spacing
        previous = -1 if leapt else self.agent_place
        first = bool(places.visits[places.index(place)] == 0)
        before = self.trajectory_table.last
        step = None if before is None else np.stack([before, position])
        places.visit(place, previous, percept.stamp, step)
        self.agent_place = place
        return place, first

    def _standing(self, body: Body) -> Standing:
        """Returns what tells of free floor beside the grid map."""
        o, longest = self.object_table, self.config.furniture
        here = (o.since >= 0) & (o.log_odds >= 0.0) & (o.counts >= self.config.least_count)
        here &= (o.extents[:, :2].max(axis=1, initial=0.0) >= longest) & ~self._is_boundary(o.labels)
        rows = np.flatnonzero(here if longest > 0.0 else np.zeros(0, bool))
        boxes = o.ids[rows], o.positions[rows], o.extents[rows], o.yaws[rows]
        return Standing(body, *boxes, self.trajectory_table if self.config.driven else None)

    def _update_rooms(self, walls: GridMap | None) -> None:
        """Finds rooms anew where the floor or its doors have changed; a fixed pace, so that replay agrees."""
        if self.grid_map is None or self._writes % self.config.room_every:
            return
        o = self.object_table
        doors = self._is_boundary(o.labels) & (o.log_odds >= 0.0)
        gone = self.space.find_rooms(o.positions[doors], o.extents[doors], walls)
        self._rows.remove("room", gone, self.version)

    def _is_boundary(self, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Returns which labels separate rooms; ids without a name do not."""
        names, table = self._boundary
        if names is not self.labels.names:
            table = np.zeros(len(self.labels) + 1, bool)
            for words in self.config.boundary:
                table[list(self.labels.matching(words))] = True
            self._boundary = (self.labels.names, table)
        known = (labels >= 0) & (labels < len(self.labels))
        return table[np.where(known, labels, len(self.labels))]

    def _worded(self, event: SceneEvent) -> SceneEvent:
        row = self.object_table.index(event.object_id)
        return event.worded(self.labels.name(int(self.object_table.labels[row])))

    # ---- reading

    def objects(
        self, label: str | int | None = None, as_of: int | None = None, labels: LabelMap | None = None
    ) -> list[SceneObject]:
        """Returns objects, in the order of their ids; those believed gone have an existence below 0.5.

        Args:
            label: words that the label's name must hold, or a label id.
            as_of: answer as of this time [ns]: where each object was then, in which state. Objects
                not seen by then are left out; existence is 0 where it was known to be gone;
                counts and extents are today's.
            labels: names of the labels; those of the last write where None.
        """
        names, o = labels or self.labels, self.object_table
        rows: Iterable[int] = range(len(o))
        if label is not None:
            wanted = (label,) if isinstance(label, int) else names.matching(label)
            rows = np.flatnonzero(np.isin(o.labels, wanted)).tolist()
        found = (self._object(row, as_of, names) for row in rows)
        return [thing for thing in found if thing is not None]

    def object(self, object_id: int) -> SceneObject | None:
        """Returns one object, or None where there is no such id."""
        row = self.object_table.index(object_id)
        return self._object(row, None, self.labels) if row >= 0 else None

    def changes(self, since: int) -> list[SceneChange]:
        """Returns what appeared, moved and disappeared since a time [ns], each with the evidence.

        What is merely seen for the first time is no change: its place must have been seen empty before.
        """
        return changes_since(self.object_table, self.labels, since, self.config.least_move)

    def _object(self, row: int, as_of: int | None, names: LabelMap) -> SceneObject | None:
        return object_of(self.object_table, row, self.place_table, self.room_table, names, as_of)

    def places(self) -> list[Place]:
        """Returns all places, in the order of their ids."""
        return places_of(self.place_table, self.room_table)

    def edges(self) -> list[tuple[int, int, float]]:
        """Returns the edges between places: (a, b, length [m]) with a < b, sorted."""
        return self.place_table.edges()

    def path(self, place_a: int, place_b: int) -> list[int]:
        """Returns the ids of the places on a shortest path, both included; empty where there is none."""
        return self.place_table.path(place_a, place_b)

    def way(self, place_a: int, place_b: int) -> NDArray[np.float64]:
        """Returns (M, 3) float64 [m]: where to turn on the path between two places; empty without one."""
        return self.place_table.way(place_a, place_b)

    @property
    def floor_height(self) -> float | None:
        """Height of the floor the agent is on [m]; None before there is a map."""
        floors = self.space.floors
        return floors[floors.current].height if len(floors) else None

    def place_at(self, position: Point) -> int:
        """Returns the id of the place that is nearest along a path to a map position, or -1."""
        return self.place_table.at(position)

    def rooms(self) -> list[Room]:
        """Returns all rooms, in the order of their ids."""
        return rooms_of(self.room_table, self.place_table, self._names_by_room())

    def _names_by_room(self) -> dict[int, list[str]]:
        o = self.object_table
        inside: dict[int, list[str]] = {}
        for row in np.flatnonzero(~self._is_boundary(o.labels) & (o.log_odds >= 0.0)).tolist():
            room = self.room_table.at(o.positions[row])
            inside.setdefault(room, []).append(self.labels.name(int(o.labels[row])))
        return inside

    def room_of(self, object_id: int) -> int:
        """Returns the id of the room an object is in, or -1."""
        row = self.object_table.index(object_id)
        return self.room_table.at(self.object_table.positions[row]) if row >= 0 else -1

    def room_at(self, position: Point) -> int:
        """Returns the id of the room at a map position, or of the nearest within `room_reach`, or -1."""
        return self.room_table.at(position)

    def trajectory(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Returns (N,) int64 stamps [ns] and (N, 3) float64 positions [m] of the agent, map frame.

        A position holds until the next stamp; moves below `trajectory_spacing` are left out.
        """
        return self.trajectory_table.stamps, self.trajectory_table.positions.copy()

    @property
    def aliases(self) -> dict[int, int]:
        """Ids that proved to be another object's: id -> that object's."""
        return self.object_table.aliases

    def relations(self, object_id: int) -> list[Relation]:
        """Returns what an object is in (its room first), on and next to; empty where there is no such id."""
        o, room = self.object_table, self.room_of(object_id)
        rooms = np.array([self.room_table.at(p) for p in o.positions], np.int64)
        return relations_of(o, object_id, room, rooms == room)

    def to_json(self, path: str | Path | None = None) -> str:
        """Returns rooms > objects > relations as readable JSON text, and writes it where a path is given."""
        return write_json(self, path)

    def to_networkx(self) -> Any:
        """Returns a networkx.DiGraph of rooms, places and objects; see `exports.to_networkx`."""
        return to_networkx(self)

    def to_spark_dsg(self, path: str | Path | None = None) -> Any:
        """Returns a spark_dsg.DynamicSceneGraph, saved where a path is given (package spark-dsg)."""
        return to_spark_dsg(self, path)

    # ---- persistence

    def digest(self) -> bytes:
        """Returns a sha256 over everything that is remembered."""
        return self._rows.digest(self._meta())

    def export_rows(self, since_version: int = 0) -> list[Row]:
        """Returns what changed after a version, for the store.

        Args:
            since_version: `version` as of an earlier export; 0 for everything.

        Returns:
            (kind, id, payload) sorted by kind and id; an empty payload where a row is no more.
        """
        return self.take_rows(since_version)()

    def take_rows(self, since_version: int = 0) -> Callable[[], list[Row]]:
        """Copies what `export_rows` needs; returns what makes the rows of it, on any thread."""
        return self._rows.export(self._meta(), self.version, since_version)

    def import_rows(self, rows: Iterable[Row]) -> None:
        """Replaces everything by exported rows; what is written next goes on as if never interrupted.

        Raises:
            StoreError: a row that no export has written.
        """
        self.__init__(self.config)  # type: ignore[misc]
        meta = self._rows.load(rows)
        if meta is None:
            return
        self.version, self._writes = int(meta["version"]), int(meta["writes"])
        self.agent_place = int(meta["agent_place"])
        self.labels = LabelMap(tuple(meta["labels"]))
        self.object_table.aliases = {int(a): int(b) for a, b in meta.get("aliases", [])}
        self.passers.last = {int(a): int(b) for a, b in meta.get("passers", [])}
        self.alignment.restore_facts(meta.get("alignment", []))
        self.identity.together.update({(int(a), int(b)): int(n) for a, b, n in meta.get("together", [])})

    def _meta(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "writes": self._writes,
            "agent_place": self.agent_place,
            "labels": list(self.labels.names),
            "aliases": sorted(self.object_table.aliases.items()),
            "passers": sorted(self.passers.last.items()),
            **({"alignment": self.alignment.facts()} if self.config.aligns else {}),
            "together": sorted((a, b, n) for (a, b), n in self.identity.together.items()),
        }

"""What a memory holds, as one thing: octree, scene graph, episodes, labels and where it stands.

All of it goes to the file together (`export`) and comes back together (`restore`), so that
its parts are never out of step.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from embodied_mem.errors import StoreError
from embodied_mem.geometry import Pose
from embodied_mem.memory.config import MemoryConfig
from embodied_mem.memory.embedders import Embedders
from embodied_mem.memory.episodes.chunks import ALIVE, HEADS
from embodied_mem.memory.episodes.details import FetchPart
from embodied_mem.memory.episodes.entries import Episodes
from embodied_mem.memory.octree import Octree
from embodied_mem.memory.octree.contents import Contents as Blocks
from embodied_mem.memory.octree.payloads import newest, pack_blocks
from embodied_mem.memory.scene.graph import SceneGraph
from embodied_mem.memory.submaps.rebuild import Rebuild
from embodied_mem.memory.submaps.submaps import Submaps
from embodied_mem.types import NS_PER_S, LabelMap, Percept

COUNTS = (
    "writes",
    "rejected",
    "commands",
    "snapshots",
    "submap_bytes",
    "dropped_points",
    "dropped_detections",
    "dropped_embeddings",
    "evicted_entries",
    "evicted_objects",
    "evicted_blocks",
    "evicted_positions",
    "evicted_encounters",
    "evicted_submaps",
)
RUN_GAP = NS_PER_S
"""From the newest stamp to the first of a run whose clock has started again [ns]."""
QUARANTINED = 32
"""So many of the newest rejected writes are listed."""
LOADED = ("meta", "graph", "episodes", HEADS, ALIVE, "encounters", "octree")
"""Tables that are read when a memory is opened; the others are fetched when they are asked for."""


@dataclass(frozen=True)
class Marks:
    """Versions of the parts that have been exported; 0 where nothing has."""

    octree: int = 0
    scene: int = 0
    episodes: int = 0
    encounters: int = 0
    submaps: int = 0
    gone: int = 0


@dataclass(eq=False)
class Contents:
    """The contents of a memory.

    Attributes:
        config: its settings.
        map_id: identity of the map; not digested, since two replays are the same memory.
        labels: names of the label ids.
        pose: `map_T_base` of the newest accepted write.
        stamp: its stamp [ns], None before the first.
        sequence: number of the newest write or command.
        counts: how many writes, rejections, ..., by the names in `COUNTS`.
        last_rejection: why the newest rejected write was rejected, or "".
        offset: from the clock of the run that is being written to the memory's time [ns].
        runs: (first stamp in the memory's time, offset) [ns] of each run that had to be moved.
        quarantine: the newest rejected writes: stamp, step, source and reason of each, oldest first.
        rebuild: the octree that is being built after a correction, or None.
        rebuild_left: writes until it takes the old one's place.
        doubts: ids of the objects that are told again with it.
        gone_version: grows when the octree is replaced.
        gone_blocks: keys of octree blocks that are no more -> the `gone_version` then.
        embedders: what made the embeddings.
        is_full: what never goes had filled the budget when that was last looked at.
    """

    config: MemoryConfig
    map_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    labels: LabelMap = field(default_factory=LabelMap)
    pose: Pose = field(default_factory=Pose)
    stamp: int | None = None
    sequence: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    last_rejection: str = ""
    offset: int = 0
    runs: list[tuple[int, int]] = field(default_factory=list)
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    rebuild: Rebuild | None = None
    rebuild_left: int = 0
    doubts: tuple[int, ...] = ()
    gone_version: int = 0
    gone_blocks: dict[int, int] = field(default_factory=dict)
    embedders: Embedders = field(default_factory=Embedders)
    is_full: bool = False

    def __post_init__(self) -> None:
        self.octree = self.new_octree()
        self.submaps = Submaps()
        self.scene = SceneGraph(self.config.scene)
        self.episodes = Episodes(self.config.episodes)

    def reject(self, percept: Percept, reason: str) -> None:
        """Notes a write that was not let in."""
        self.counts["rejected"] += 1
        self.last_rejection = reason
        facts = {"stamp": percept.stamp, "step": percept.step, "source": percept.source, "reason": reason}
        self.quarantine = [*self.quarantine, facts][-QUARANTINED:]

    def new_octree(self) -> Octree:
        """Returns an empty octree with the memory's settings."""
        o = self.config.octree
        return Octree(o.resolution, hit=o.hit, miss=o.miss, clamp=o.clamp)

    def object_name(self, object_id: int) -> str:
        """Returns the name of an object's label; "" where there is no such object."""
        table = self.scene.object_table
        row = table.index(object_id)
        return self.labels.name(int(table.labels[row])) if row >= 0 else ""

    def in_time(self, percept: Percept) -> Percept:
        """Returns a percept with its stamp in the memory's time, which never goes back.

        A run whose clock starts again (its first percept is not after the newest stamp) is laid
        `RUN_GAP` after it; the offset holds until the next first percept. A clock that has gone on
        is taken as it is.
        """
        if percept.is_first and self.stamp is not None:
            if percept.stamp > self.stamp:
                self.offset = 0
            elif percept.stamp + self.offset <= self.stamp:
                self.offset = self.stamp + RUN_GAP - percept.stamp
                self.runs.append((percept.stamp + self.offset, self.offset))
        return replace(percept, stamp=percept.stamp + self.offset) if self.offset else percept

    def digest(self) -> str:
        """Returns the SHA-256 over octree, scene graph, episodes and labels, in hexadecimal."""
        sha = hashlib.sha256()
        for part in (self.octree.digest(), self.scene.digest(), self.episodes.digest()):
            sha.update(part)
        sha.update(self.labels.to_json().encode())
        if self.rebuild_left:  # the octree is not yet what it will be
            sha.update(f"rebuild {self.rebuild_left}".encode())
        return sha.hexdigest()

    def marks(self) -> Marks:
        """Returns the versions of the parts as they are now."""
        return Marks(
            self.octree.version,
            self.scene.version,
            self.episodes.version,
            self.episodes.encounters.version,
            self.submaps.version,
            self.gone_version,
        )

    def export(self, since: Marks) -> dict[str, Sequence[tuple[Any, ...]]]:
        """Returns the rows of all tables that changed after some marks; an empty payload removes a row."""
        return self.take(since)()

    def take(
        self, since: Marks, staged: Sequence[Blocks] = ()
    ) -> Callable[[], dict[str, Sequence[tuple[Any, ...]]]]:
        """Copies what changed after some marks; returns what makes its rows of it, on any thread.

        The copying is all that the thread which writes the memory has to wait for.

        Args:
            since: versions of what has been taken before.
            staged: blocks of the octree that were copied before `since`, oldest first.
        """
        octree = [*staged, self.octree.take_blocks(since.octree)]
        graph, episodes = self.scene.take_rows(since.scene), self.episodes.take_rows(since.episodes)
        tables: dict[str, Sequence[tuple[Any, ...]]] = {
            "meta": [("state", json.dumps(self._state()).encode())],
            "encounters": self.episodes.encounters.export_rows(since.encounters),
            "submaps": self.submaps.export_rows(since.submaps),
        }
        gone = self._gone_rows(since.gone)
        return lambda: {
            **tables,
            "graph": graph(),
            **episodes(),
            "octree": [*pack_blocks(newest(octree)), *gone],
        }

    def _gone_rows(self, since: int) -> list[tuple[int, bytes]]:
        keys = sorted(key for key, version in self.gone_blocks.items() if version > since)
        if not keys:
            return []
        back = self.octree.holds(np.array(keys, np.int64))
        return [(key, b"") for key, is_back in zip(keys, back.tolist()) if not is_back]

    def settle(self, marks: Marks) -> None:
        """Lets go of lists of changes that have been exported."""
        self.episodes.settle(marks.episodes)
        self.episodes.encounters.settle(marks.encounters)
        self.submaps.settle(marks.submaps)
        self.gone_blocks = {k: v for k, v in self.gone_blocks.items() if v > marks.gone}

    def restore(
        self, tables: Mapping[str, Sequence[tuple[Any, ...]]], fetch: FetchPart | None = None
    ) -> None:
        """Takes over what `export(Marks())` of another memory gave.

        Args:
            tables: rows by table, those of `LOADED`.
            fetch: reads rows of the other tables by their keys when they are needed.

        Raises:
            StoreError: the rows contradict themselves.
        """
        state = dict(tables["meta"]).get("state")
        if state is None:
            raise StoreError("the memory's state is missing")
        try:
            self.octree.import_blocks(tables["octree"])
            self.scene.import_rows(tables["graph"])
            self.episodes.restore(tables, fetch)
            self.episodes.encounters.import_rows(tables["encounters"])
            self._take_state(json.loads(state))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"the memory's parts do not fit together ({error!r})") from error

    def _state(self) -> dict[str, Any]:
        keyframe = self.episodes.keyframe
        return {
            "sequence": self.sequence,
            "stamp": self.stamp,
            "pose": self.pose.to_list(),
            "labels": self.labels.names,
            "counts": self.counts,
            "last_rejection": self.last_rejection,
            "offset": self.offset,
            "runs": self.runs,
            "quarantine": self.quarantine,
            "embedders": self.embedders.to_state(),
            "rebuild_left": self.rebuild_left,
            "doubts": self.doubts,
            "first_submap": self.submaps.first,
            "newest": self.episodes.newest,
            "keyframe": None if keyframe is None else keyframe.to_list(),
            "next_episode": self.episodes.next_id,
            "consolidated": self.episodes.consolidated,
            "next_encounter": self.episodes.encounters.next_id,
            "episodes": len(self.episodes),
            "encounters": len(self.episodes.encounters),
        }

    def _take_state(self, state: Mapping[str, Any]) -> None:
        self.sequence = int(state["sequence"])
        self.stamp = state["stamp"]
        self.pose = Pose.from_list(state["pose"])
        self.labels = LabelMap(tuple(state["labels"]))
        self.counts.update(state["counts"])
        self.last_rejection = state["last_rejection"]
        self.offset = int(state.get("offset", 0))
        self.runs = [(int(since), int(offset)) for since, offset in state.get("runs", ())]
        self.quarantine = list(state.get("quarantine", ()))
        self.embedders = Embedders.of_state(state.get("embedders"))
        self.rebuild_left = int(state.get("rebuild_left", 0))
        self.doubts = tuple(map(int, state.get("doubts", ())))
        self.submaps.first = int(state.get("first_submap", 0))
        episodes = self.episodes
        keyframe, newest = state["keyframe"], state["newest"]
        episodes.keyframe = None if keyframe is None else Pose.from_list(keyframe)
        episodes.newest = None if newest is None else (int(newest[0]), int(newest[1]))
        episodes.next_id = int(state["next_episode"])
        episodes.consolidated = int(state.get("consolidated", 0))
        episodes.encounters.next_id = int(state["next_encounter"])
        if (len(episodes), len(episodes.encounters)) != (state["episodes"], state["encounters"]):
            raise StoreError("entries are missing")

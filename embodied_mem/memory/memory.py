"""The memory: octree, scene graph and episodes behind one door.

memory = Memory.open("home.emem")
memory.write(percept)                      # gate -> octree -> scene graph -> episodes -> file
tokens = memory.read(map_T_base, goal)
answers = memory.recall(Query(label="key", kind="object"))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError, StoreError
from embodied_mem.geometry import Pose
from embodied_mem.memory import reanchoring
from embodied_mem.memory.asked import Asked
from embodied_mem.memory.budget import overfull, parse_bytes, with_limit
from embodied_mem.memory.commands import COMMANDS, KEEP_FRESH
from embodied_mem.memory.config import MemoryConfig
from embodied_mem.memory.contents import Contents
from embodied_mem.memory.episodes.entries import Episodes
from embodied_mem.memory.episodes.snapshots import decode_jpeg, encode_jpeg
from embodied_mem.memory.facts import facts
from embodied_mem.memory.filed import Filed
from embodied_mem.memory.gate import Gate, check_shapes, clean
from embodied_mem.memory.ground import Ground
from embodied_mem.memory.labels import Relabel
from embodied_mem.memory.octree import GridMap, Octree
from embodied_mem.memory.reading import read_tokens
from embodied_mem.memory.recall.recent import RecentRecalls
from embodied_mem.memory.scene.evidence import without_moving
from embodied_mem.memory.scene.graph import SceneGraph
from embodied_mem.memory.store.archive import Archive, create_archive, open_archive
from embodied_mem.memory.submaps.keyframe import Keyframe, pack_keyframe
from embodied_mem.memory.submaps.rebuild import integrate_scans
from embodied_mem.memory.upkeep import upkeep
from embodied_mem.memory.walls import Walls
from embodied_mem.types import (
    Command,
    Goal,
    LabelMap,
    MemoryTokens,
    Percept,
    Receipt,
)


class Memory(Asked, Filed):
    """What an agent remembers: in RAM, or in RAM and in an `.emem` file (`Memory.open`).

    Args:
        config: settings of the parts.

    Attributes:
        encoder: makes embeddings of images for `Query.like`; None where only embeddings are given.
        on_command: called with every `Command` that has changed the memory, exactly once, whether
            it came through `apply` or through a method of its own.
    """

    def __init__(self, config: MemoryConfig | None = None) -> None:
        self._start(Contents(config or MemoryConfig()), None)

    def _start(self, contents: Contents, archive: Archive | None) -> None:
        self.on_command: list[Callable[[Command], None]] = []
        self.on_recall = []
        self._contents = contents
        self._archive = archive
        self._gate = Gate(contents.config.gate)
        self._relabel = Relabel(contents.labels)
        self._snapshots: dict[int, bytes] = {}  # without a file
        self._ground, self._walls = Ground(contents.config.navigation), Walls(contents.config.scene)
        self._recent = RecentRecalls()
        self.encoder = None
        self._closed = False
        self._is_lost = archive is not None and contents.stamp is not None and contents.config.gate.relocalize
        if archive is not None:
            contents.submaps.fetch = archive.submaps
        if contents.rebuild_left:  # closed, or killed, before it was done
            reanchoring.begin(contents, contents.submaps.packed())
            reanchoring.finish(contents)
        if contents.stamp is not None:
            self.scene.use_grid_map(self.grid_map())

    @classmethod
    def open(
        cls,
        path: str | Path,
        config: MemoryConfig | None = None,
        *,
        read_only: bool = False,
        budget: str | int | None = None,
    ) -> Memory:
        """Opens a memory file, or creates it where there is none.

        Args:
            path: an `.emem` file.
            config: settings; those of the file, or the defaults, where None. The octree's settings
                in a file that exists cannot change.
            read_only: nothing can be written; another program may be writing the file meanwhile.
            budget: how large the file may grow from now on, such as "2 GB"; that of the config or
                the file where None.

        Raises:
            StoreError: foreign, damaged, of a newer schema, being written by another program, or
                missing where `read_only`.
            ConfigError: the file's octree has other settings.
        """
        path = Path(path)
        is_new = not path.exists() or (path.is_file() and path.stat().st_size == 0)
        limit = None if budget is None else parse_bytes(budget)
        if is_new and not read_only:
            archive = create_archive(path, Contents(with_limit(config or MemoryConfig(), limit)))
        else:
            archive = open_archive(path, config, read_only, limit)
        memory = cls.__new__(cls)
        try:
            memory._start(archive.contents, archive)
        except BaseException:
            archive.close()
            raise
        return memory

    def __enter__(self) -> Memory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except StoreError:
            if error is None:  # what went wrong first is what the user must read
                raise

    # ---- parts

    @property
    def config(self) -> MemoryConfig:
        """The settings."""
        return self._contents.config

    @property
    def octree(self) -> Octree:
        """Occupancy, labels and stamps by voxel."""
        return self._contents.octree

    @property
    def scene(self) -> SceneGraph:
        """Objects, places, rooms and the trajectory."""
        return self._contents.scene

    @property
    def episodes(self) -> Episodes:
        """Episodic entries."""
        return self._contents.episodes

    @property
    def labels(self) -> LabelMap:
        """Names of the label ids in this memory; it grows, ids keep their names."""
        return self._contents.labels

    @property
    def stamp(self) -> int:
        """Stamp of the newest accepted write [ns]; 0 before the first."""
        return self._contents.stamp or 0

    @property
    def map_T_base(self) -> Pose:
        """Pose of the newest accepted write."""
        return self._contents.pose

    @property
    def map_id(self) -> str:
        """Identity of the map, a UUID; it travels in the file and is not digested."""
        return self._contents.map_id

    # ---- writing

    def write(self, percept: Percept) -> Receipt:
        """Remembers a percept, or says why not.

        A rejected percept changes nothing but the counts in `info`. NaN points, detections and
        embeddings in an otherwise good percept are dropped and counted.

        Args:
            percept: with stamps later than any before. Where the clock starts again with a new run
                (`is_first`, as in a simulator), the run is laid 1 s after the newest stamp.

        Raises:
            StoreError: the memory is read-only, closed, or its file cannot be written.
            InputError: an array has the wrong shape or type.
        """
        self._check_writable()
        held = self._contents
        check_shapes(percept)
        percept = held.in_time(percept)
        self._credit(percept)
        lost = (
            "this memory was reopened; call relocalize(map_T_base) with a pose in its map first"
            if self._is_lost
            else ""
        )
        reason = lost or self._gate.objection(percept, held.stamp, held.pose) or overfull(held)
        if reason:
            held.reject(percept, reason)
            return self._done("rejected", reason)
        cleaned = clean(percept, held.episodes.embedding_size, held.embedders)
        percept = without_moving(self._relabel.percept(cleaned.percept), self.config.scene.dynamic)
        percept = self.scene.align(percept)
        held.labels = percept.labels
        reach, mode = self.config.octree.max_range, self.config.octree.depth_mode
        pose, stamp = percept.map_T_base, percept.stamp
        dropped = integrate_scans(self.octree, percept.scans, pose, stamp, reach, mode)
        held.pose, held.stamp = percept.map_T_base, percept.stamp
        # Between a correction and the new octree, places and rooms wait for a map that fits them.
        grid_map = where = walls = body = None
        if not held.rebuild_left:
            here = self.octree, self.labels, held.pose, self.scene.floor_height
            (grid_map, where), walls = self._ground.take(*here), self._walls.take(*here)
            body = self._ground.body()
        changes = held.scene.update(percept, held.octree, grid_map, where, walls, body)
        entry_id = held.episodes.observe(percept, changes)
        if entry_id >= 0:
            scans, resolution = self.config.submaps.scans, self.config.octree.resolution
            seen, missed = changes.seen_objects, changes.missed_objects
            payload = pack_keyframe(Keyframe.of(percept, seen, missed, resolution, scans))
            held.submaps.add(entry_id, payload)
            held.counts["submap_bytes"] += len(payload)
            if held.rebuild is not None:
                held.rebuild.late[entry_id] = payload
        if reanchoring.tick(held):
            self.map_changed()
        if entry_id >= 0 and percept.snapshot is not None and self.config.episodes.snapshot_quality:
            self._keep_snapshot(entry_id, percept.snapshot)
        held.counts["writes"] += 1
        for gone in upkeep(held):
            self.drop_images(gone)
        held.counts["dropped_points"] += cleaned.points + dropped
        held.counts["dropped_detections"] += cleaned.detections + changes.dropped
        held.counts["dropped_embeddings"] += cleaned.embeddings
        return self._done("accepted", "", entry_id)

    def _keep_snapshot(self, entry_id: int, image: NDArray[np.uint8]) -> None:
        settings = self.config.episodes
        self._contents.counts["snapshots"] += 1
        if self._archive is None:
            self._snapshots[entry_id] = encode_jpeg(image, settings.snapshot_quality, settings.snapshot_size)
        else:
            self._archive.keep_snapshot(entry_id, image)

    def _done(self, verdict: str, reason: str = "", entry_id: int = -1) -> Receipt:
        """Numbers a change and hands it to the file."""
        self._contents.sequence += 1
        if self._archive is None:
            self._contents.settle(self._contents.marks())
        else:
            self._archive.wrote()
        return Receipt(self._contents.sequence, verdict, reason, entry_id)

    # ---- commands

    def apply(self, command: Command) -> None:
        """Carries out a command, such as one from a log's ledger.

        Raises:
            InputError: no such command, or arguments that do not fit it.
        """
        action = COMMANDS.get(command.name)
        if action is None:
            raise InputError(f'no command "{command.name}"; there are: {", ".join(COMMANDS)}')
        self._check_writable()
        try:
            bound = inspect.signature(action).bind(self, **command.arguments)
        except TypeError as error:
            raise InputError(f'command "{command.name}": {error}') from error
        action(*bound.args, **bound.kwargs)
        self._contents.counts["commands"] += 1
        self._done("accepted")
        for listener in self.on_command:
            listener(command)

    def forget(self, kind: str | int, id: int | None = None) -> None:
        """Removes one thing and everything that was derived from it.

        Args:
            kind: "object" (with what entries say of it) or "episode" (with its snapshot); or the id of
                an episodic entry, alone.
            id: whose.

        Raises:
            InputError: there is no such thing.
        """
        if id is None:
            if isinstance(kind, str):
                raise InputError(f'forget needs an id: forget("{kind}", 12), or forget(12) for an entry')
            self.apply(Command("forget", {"kind": "episode", "id": int(kind)}))
        else:
            self.apply(Command("forget", {"kind": kind, "id": int(id)}))

    def note(self, text: str) -> int:
        """Adds a note in words at the newest pose and stamp; returns the id of its entry."""
        self.apply(Command("note", {"text": text}))
        return self.episodes.next_id - 1

    def consolidate(self, keep: int = KEEP_FRESH) -> tuple[int, ...]:
        """Makes summaries of entries that have none yet; they link to their evidence, which stays.

        Args:
            keep: so many of the newest entries are left for later.

        Returns:
            ids of the summaries made.
        """
        first = self.episodes.next_id
        self.apply(Command("consolidate", {"keep": int(keep)}))
        return tuple(range(first, self.episodes.next_id))

    def correct(self, anchor_poses: Mapping[int, Pose]) -> None:
        """Moves everything with its keyframes, whose poses are now known better (a loop was closed).

        Entries, objects, places and the trajectory move at once; the octree is rebuilt in the
        background and takes the old one's place `submaps.swap_after` writes later.

        Args:
            anchor_poses: corrected `map_T_base` by stamp [ns]; what lies between is interpolated.

        Raises:
            InputError: no anchors, or stamps outside the time that is remembered.
        """
        rows = [[int(stamp), *pose.to_list()] for stamp, pose in sorted(anchor_poses.items())]
        self.apply(Command("correct", {"anchors": rows}))

    def relocalize(self, map_T_base: Pose) -> Receipt:
        """Says where in its map a reopened memory's agent is; it is read-only until that is accepted.

        Args:
            map_T_base: at most `gate.relocalize_reach` from where the agent has been.
        """
        reason = self._gate.misplaced(map_T_base, self.episodes.positions)
        if reason:
            return Receipt(self.sequence, "rejected", reason)
        self.apply(Command("relocalize", {"pose": map_T_base.to_list()}))
        self._is_lost = False
        return Receipt(self.sequence, "accepted")

    def object_name(self, object_id: int) -> str:
        """Returns the name of an object's label; "" where there is no such object."""
        return self._contents.object_name(object_id)

    @property
    def contents(self) -> Contents:
        """What is in it, for the parts of a memory; changes go through `write` and `apply`."""
        return self._contents

    def map_changed(self) -> None:
        """Lets go of what was made from the octree; part of `correct`."""
        self._ground, self._walls = Ground(self.config.navigation), Walls(self.config.scene)

    def drop_images(self, entry_id: int) -> None:
        """Removes the snapshot and the submap of an entry, where it has them; part of `forget`."""
        self._contents.submaps.remove(entry_id)
        if self._archive is None:
            self._snapshots.pop(entry_id, None)
        else:
            self._archive.keep_snapshot(entry_id, None)

    # ---- reading

    def grid_map(self) -> GridMap:
        """Returns traversable space at the agent's floor; 0 x 0 cells where nothing is known."""
        return self._ground.grid_map(self.octree, self.labels, self.map_T_base, self.scene.floor_height)

    def read(self, map_T_base: Pose, goal: Goal | None = None) -> MemoryTokens:
        """Returns the entries that matter at a pose, for a policy; changes nothing.

        Args:
            map_T_base: where the agent is; the newest accepted pose where it is not finite.
            goal: what it is after; `goal.label` is an id of the labels of the newest percept.
        """
        pose = map_T_base if map_T_base.is_finite else self.map_T_base
        if goal is not None and goal.label:
            goal = replace(goal, label=self._relabel.label(goal.label))
        return read_tokens(
            self.octree, self.scene, self.episodes, pose, goal, self.config.read, self.stamp, self.grid_map()
        )

    def _has_snapshot(self, entry_id: int) -> bool:
        return entry_id in self._snapshots if self._archive is None else self._archive.has_snapshot(entry_id)

    def snapshot(self, entry_id: int) -> NDArray[np.uint8] | None:
        """Returns the (H, W, 3) uint8 RGB image kept with an episodic entry, or None."""
        data = self._snapshots.get(entry_id) if self._archive is None else self._archive.snapshot(entry_id)
        return None if data is None else decode_jpeg(data)

    def digest(self) -> str:
        """Returns the SHA-256 over octree, scene graph, episodes and labels, in hexadecimal."""
        return self._contents.digest()

    def info(self) -> dict[str, Any]:
        """Returns JSON-ready facts: what is in it, from when to when, how large, with which settings."""
        return {
            **facts(self._contents),
            "bytes_on_disk": 0 if self._archive is None else self._archive.store.size,
            "evicted_snapshots": 0 if self._archive is None else self._archive.store.trimmed,
            "durable_sequence": self.durable_seq,
        }

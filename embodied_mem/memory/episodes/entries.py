"""Episodes: append-only entries of what happened when and where, made at keyframes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.memory.config import EpisodeConfig
from embodied_mem.memory.episodes.chunks import CHUNK, SEALED_BYTES
from embodied_mem.memory.episodes.columns import EntryColumns
from embodied_mem.memory.episodes.details import ROW_BYTES, Details, FetchPart, pack
from embodied_mem.memory.episodes.encounters import Encounters
from embodied_mem.memory.episodes.index import EntryIndex
from embodied_mem.memory.episodes.row import HEAD, Episode, EpisodeRow
from embodied_mem.memory.episodes.sealing import Sealing, Tables
from embodied_mem.memory.episodes.vectors import Vectors, quantise
from embodied_mem.memory.scene.graph import SceneChanges
from embodied_mem.types import NS_PER_S, Percept

__all__ = ["Episode", "Episodes"]


class Episodes(EntryColumns):
    """All episodic entries, in the order of their ids: columns, and lists beside them.

    Args:
        config: when an entry is made.
    """

    def __init__(self, config: EpisodeConfig | None = None) -> None:
        super().__init__()
        self.config = config or EpisodeConfig()
        self.version = 1
        """Grows with every change."""
        self.next_id = 0
        self.encounters = Encounters(round(self.config.gap * NS_PER_S))
        self.keyframe: Pose | None = None
        """Pose of the newest keyframe."""
        self.consolidated = 0
        """Entries before this id have been gone through for summaries."""
        self.vectors = Vectors(lambda: self.ids)
        """Embeddings, in the order of the entries."""
        self.evidence: dict[int, tuple[int, ...]] = {}
        """Summary -> ids of the entries it rests on."""
        self.details = Details(lambda: self.ids, self.evidence)
        """The varying parts of the entries, in the same order."""
        self._index = EntryIndex(self, self.details, self.evidence)
        self._sealing = Sealing(self)
        self._touched: dict[int, int] = {}
        self._turn = math.cos(self.config.angle / 2)

    @property
    def embeddings(self) -> NDArray[np.int8]:
        """(N, D) int8 directions, zero where an entry has none; D = 0 before the first."""
        return self.vectors.rows

    # ---- writing

    def observe(self, percept: Percept, changes: SceneChanges) -> int:
        """Takes in a percept that was accepted; returns the id of the entry made of it, or -1.

        An entry is made where the agent has moved or turned far enough, sees something that it
        did not see just before, comes to a new place, or where something happened.

        Args:
            percept: whose labels are the memory's.
            changes: what the percept did to the scene graph.
        """
        pose = percept.map_T_base
        self.version += 1
        self.newest = (percept.stamp, percept.step)
        met = self.encounters.observe(changes.seen_objects, percept.stamp)
        happened = bool(percept.event or percept.text or changes.events or percept.reward != 0)
        novel = bool(met or changes.new_objects or changes.new_place or percept.is_first)
        if not (happened or novel or self._moved(pose)):
            return -1
        self.keyframe = pose
        return self._append(
            Episode(
                id=self.next_id,
                stamp=percept.stamp,
                step=percept.step,
                pose=pose,
                place_id=changes.place_id,
                room_id=changes.room_id,
                object_ids=tuple(sorted(set(changes.seen_objects))),
                embedding=quantise(percept.embedding),
                action=percept.action,
                reward=float(percept.reward),
                event=percept.event,
                text=percept.text,
                changes=tuple((event.object_id, event.text) for event in changes.events),
                source=percept.source,
                trust=1.0,
            )
        )

    def note(self, text: str, pose: Pose, place_id: int, room_id: int, source: str) -> int:
        """Adds an entry in words at the newest stamp; returns its id; see `Episode`."""
        self.version += 1
        stamp, step = self.newest or (0, -1)
        return self._append(
            Episode(
                id=self.next_id,
                stamp=stamp,
                step=step,
                pose=pose,
                place_id=place_id,
                room_id=room_id,
                event="note",
                text=text,
                source=source,
            )
        )

    def add(self, entry: Episode) -> int:
        """Adds an entry made elsewhere, such as a summary, whose id is the next; returns that id."""
        self.version += 1
        return self._append(entry)

    def learn(self, entry_ids: Iterable[int], value: float, rate: float) -> None:
        """Moves the utility of entries, those that exist, towards a value by a rate in [0, 1]."""
        self.version += 1
        rows = self._existing(entry_ids)
        held = self._heads["utility"]
        held[rows] += rate * (value - held[rows])
        self._touch(self.ids[rows])

    def use(self, entry_ids: Iterable[int], stamp: int) -> None:
        """Notes that entries, those that exist, were recalled at a stamp [ns]."""
        self.version += 1
        rows = self._existing(entry_ids)
        self._heads["used"][rows] = np.maximum(self._heads["used"][rows], stamp)
        self._touch(self.ids[rows])

    def _existing(self, entry_ids: Iterable[int]) -> NDArray[np.int64]:
        rows = [self.index(entry_id) for entry_id in dict.fromkeys(entry_ids)]
        return np.array([row for row in rows if row >= 0], np.int64)

    def move(self, poses: NDArray[np.float64]) -> None:
        """Replaces the (N, 7) poses `map_T_base` of all entries."""
        self.version += 1
        self._heads["pose"][: self._count] = poses
        self._touch(self.ids)

    def _touch(self, entry_ids: NDArray[np.int64], what: str = "heads") -> None:
        """Notes what has changed of entries: "heads", "rest", or whether they are still "alive"."""
        self._sealing.changed(entry_ids, what)
        rows = entry_ids[entry_ids >= self._sealing.first_row]
        self._touched.update(dict.fromkeys(rows.tolist(), self.version))

    def summaries(self) -> dict[int, tuple[int, ...]]:
        """Returns the evidence of each summary, by the id of the summary."""
        return self.evidence

    @property
    def summary_rows(self) -> NDArray[np.int64]:
        """(S,) int64 rows of the summaries, ascending."""
        known = np.array(sorted(self.evidence), np.int64)
        return np.asarray(np.searchsorted(self.ids, known), np.int64)

    def summarised(self) -> set[int]:
        """Returns the ids of the entries that a summary covers."""
        return {i for evidence in self.evidence.values() for i in evidence}

    def derived_from(self, entry_id: int) -> tuple[int, ...]:
        """Returns the ids of the summaries that rest on an entry."""
        return tuple(i for i, evidence in self.evidence.items() if entry_id in evidence)

    def forget(self, entry_id: int) -> bool:
        """Removes an entry; its id is never given again. False where there is none."""
        if self.index(entry_id) < 0:
            return False
        self.remove(np.array([entry_id]))
        self._sealing.forgotten(entry_id)
        return True

    def remove(self, entry_ids: NDArray[np.int64]) -> None:
        """Removes entries, all of which must exist, in one pass; their ids are never given again."""
        self.version += 1
        keep = np.ones(self._count, bool)
        keep[np.searchsorted(self.ids, entry_ids)] = False
        self._keep_heads(keep)
        self.vectors.keep(keep)
        self.details.keep(keep)
        self._index.remove(entry_ids)
        self._touch(entry_ids, "alive")

    def rename(self, row: int, object_ids: Iterable[int]) -> None:
        """Sets which objects the entry of a row saw; its encounters stay."""
        self.version += 1
        rest = self.details.edit(row)
        self._sizes[row] -= rest.nbytes
        rest.object_ids = tuple(sorted(set(object_ids)))
        self._sizes[row] += rest.nbytes
        self._touch(self.ids[[row]], "rest")
        self._index.forget()

    def forget_object(self, object_id: int) -> None:
        """Removes an object from all entries and encounters."""
        self.version += 1
        self.encounters.forget_object(object_id)
        rows = {self.index(i) for i in self._index.seen_in(object_id).tolist()}
        summaries = (self.index(i) for i in self.evidence)
        rows.update(row for row in summaries if object_id in self.object_ids(row))
        spoken = np.flatnonzero(self.has_words).tolist()
        rows.update(row for row in spoken if any(i == object_id for i, _ in self.details[row].changes))
        for row in sorted(rows):
            rest = self.details.edit(row)
            self._sizes[row] -= rest.nbytes
            rest.object_ids = tuple(i for i in rest.object_ids if i != object_id)
            rest.changes = tuple(change for change in rest.changes if change[0] != object_id)
            self._sizes[row] += rest.nbytes
            self._spoken[row] = rest.is_spoken
        self._touch(self.ids[sorted(rows)], "rest")
        self._index.forget()

    def _moved(self, pose: Pose) -> bool:
        last = self.keyframe
        if last is None:
            return True
        delta = pose.position - last.position
        if float((delta * delta).sum()) >= self.config.distance**2 - 1e-9:
            return True
        # |<q1, q2>| is the cosine of half the angle between two orientations.
        return abs(float((pose.orientation * last.orientation).sum())) <= self._turn + 1e-9

    def _append(self, entry: Episode) -> int:
        rest = EpisodeRow.of(entry)
        row = self._add_head(entry.head())
        vector = 0 if entry.embedding is None else len(entry.embedding)
        self._sizes[row] = HEAD.itemsize + ROW_BYTES + vector + rest.nbytes
        self._spoken[row] = rest.is_spoken
        self.vectors.append(entry.embedding)
        self.details.append(rest)
        self._index.add(entry.id, rest)
        self.next_id = entry.id + 1
        self._touched[entry.id] = self.version
        return entry.id

    # ---- reading

    @property
    def embedding_size(self) -> int:
        """Size D of the embeddings, 0 before the first."""
        return self.vectors.size

    def entry(self, entry_id: int) -> Episode | None:
        """Returns one entry, or None where there is no such id."""
        row = self.index(entry_id)
        return self.at(row) if row >= 0 else None

    def at(self, row: int) -> Episode:
        """Returns the entry of a row."""
        return self.details[row].episode(self._heads[row], self.vectors.at(row))

    def __iter__(self) -> Iterator[Episode]:
        return (self.at(row) for row in range(self._count))

    def seen_in(self, object_id: int, since: int | None = None, until: int | None = None) -> tuple[int, ...]:
        """Returns the ids of the entries in which an object was seen, newest first.

        Args:
            object_id: whose.
            since: [ns], inclusive; None is open.
            until: likewise.
        """
        found = self._index.seen_in(object_id)
        stamps = self.stamps[np.searchsorted(self.ids, found)]
        keep = np.ones(len(found), bool)
        if since is not None:
            keep &= stamps >= since
        if until is not None:
            keep &= stamps <= until
        return tuple(found[keep][::-1].tolist())

    def with_word(self, word: str) -> Sequence[int]:
        """Returns the ids of the entries whose event, text or changes hold a word, oldest first."""
        return self._index.with_word(word).tolist()

    def ids_with_word(self, word: str) -> NDArray[np.int64]:
        """Returns what `with_word` does, as an array."""
        return self._index.with_word(word)

    def object_ids(self, row: int) -> tuple[int, ...]:
        """Returns the ids of the objects seen in the entry of a row, ascending."""
        return self.details.object_ids(row)

    def strangers(self, known: int) -> list[tuple[int, int]]:
        """Returns (entry, object) where an entry names an object that never was: ids from `known` on."""
        found = []
        for entries, objects in self.details.seen():
            wrong = (objects < 0) | (objects >= known)
            found += list(zip(entries[wrong].tolist(), objects[wrong].tolist()))
        for row in range(self.details.sealed, len(self)):
            wrong_here = [i for i in self.object_ids(row) if not 0 <= i < known]
            found += [(int(self.ids[row]), i) for i in wrong_here[:1]]
        return found

    def text(self, row: int) -> str:
        """Returns the note in words of a row, or ""."""
        return self.details[row].text

    def sentence(self, row: int) -> str:
        """Returns all that the entry of a row says in words: event, note and changes."""
        rest = self.details[row]
        return "; ".join(part for part in (rest.event, rest.text, *(w for _, w in rest.changes)) if part)

    # ---- persistence

    def digest(self) -> bytes:
        """Returns the SHA-256 over all entries and encounters; snapshots are not part of it."""
        sha = hashlib.sha256()
        for _, payload in self._payloads():
            sha.update(len(payload).to_bytes(8, "little"))
            sha.update(payload)
        sha.update(self.encounters.digest_bytes())
        return sha.digest()

    def _payloads(self) -> Iterator[tuple[int, bytes]]:
        has, rows, heads = self.vectors.has.tolist(), self.vectors.rows, self.heads
        for row, entry_id in enumerate(self.ids.tolist()):
            yield entry_id, pack(heads[row], self.details.take(row), rows[row] if has[row] else None)

    @property
    def content_bytes(self) -> int:
        """Bytes of all entries as rows of the file, about."""
        return int(self.sizes.sum(dtype=np.int64))

    @property
    def stored_bytes(self) -> int:
        """Bytes of all entries in the file, about: but for the newest, sealed in chunks."""
        old = int(np.searchsorted(self.ids, self.next_id - 3 * CHUNK))
        return self.content_bytes - old * (HEAD.itemsize + ROW_BYTES - SEALED_BYTES)

    @property
    def backlog(self) -> int:
        """How many chunks wait to be sealed: `take_rows` seals only some of them each time."""
        return self._sealing.backlog

    def export_rows(self) -> list[tuple[int, bytes]]:
        """Returns (id, payload) of all entries."""
        return list(self._payloads())

    def take_rows(self, since_version: int = 0) -> Callable[[], Tables]:
        """Copies what changed after a version; returns what makes the rows of all tables, on any thread.

        b"" stands for what is no more. At 0 it is all there is, else old entries are sealed in chunks.
        """
        chunks = self._sealing.take(since_version)
        first = self._sealing.complete(since_version)
        if since_version <= 0:
            changed = self.ids[self.ids >= first].copy()
        else:
            changed = np.array(sorted(i for i, v in self._touched.items() if v > since_version), np.int64)
        sealed = changed[changed < first].tolist()  # just now, or removed before they could be
        rows = self._sealing.take_rows(changed[changed >= first])

        def make() -> Tables:
            tables = chunks()
            gone = [(entry_id, b"") for entry_id in sealed]
            return {**tables, "episodes": [*tables.get("episodes", ()), *gone, *rows()]}

        return make

    def settle(self, version: int) -> None:
        """Lets go of the list of changes up to a version, once somebody has exported them."""
        self._sealing.settle(version)
        self._touched = {i: v for i, v in self._touched.items() if v > version}

    def import_rows(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Restores what `export_rows` gave, into an empty table; `next_id` is set by the caller.

        Raises:
            StoreError: a payload is damaged.
        """
        self.restore({"episodes": list(rows)})

    def restore(
        self, tables: Mapping[str, Sequence[tuple[Any, ...]]], fetch: FetchPart | None = None
    ) -> None:
        """Restores what `take_rows` gave, into an empty table; `next_id` is set by the caller.

        Args:
            tables: the rows of entries, and of the heads of chunks with what is left of them.
            fetch: reads rows of the other tables when they are needed.

        Raises:
            StoreError: a payload is damaged.
        """
        self._sealing.restore(tables, fetch)
        self._index.forget()

    def load(self, heads: NDArray[Any], sizes: NDArray[np.uint32], spoken: NDArray[np.bool_]) -> None:
        """Takes the columns of all entries; part of `restore`."""
        self._load_heads(heads, sizes, spoken)

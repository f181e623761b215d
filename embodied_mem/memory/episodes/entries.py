"""Episodes: append-only entries of what happened when and where, made at keyframes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.memory.config import EpisodeConfig
from embodied_mem.memory.episodes.details import Details, columns_of, pack
from embodied_mem.memory.episodes.encounters import Encounters
from embodied_mem.memory.episodes.index import EntryIndex
from embodied_mem.memory.episodes.row import HEAD, Episode, EpisodeRow
from embodied_mem.memory.episodes.vectors import Vectors, quantise
from embodied_mem.memory.scene.graph import SceneChanges
from embodied_mem.types import NS_PER_S, Percept

__all__ = ["Episode", "Episodes"]

ROW_BYTES = 64
"""What the file needs for a row beside its contents: lengths, key, checksum, room in pages."""


class Episodes:
    """All episodic entries, in the order of their ids: one packed array, and lists beside it.

    Args:
        config: when an entry is made.
    """

    def __init__(self, config: EpisodeConfig | None = None) -> None:
        self.config = config or EpisodeConfig()
        self.version = 0
        """Grows with every change."""
        self.next_id = 0
        self.encounters = Encounters(round(self.config.gap * NS_PER_S))
        self.keyframe: Pose | None = None
        """Pose of the newest keyframe."""
        self.newest: tuple[int, int] | None = None
        """Stamp [ns] and step of the newest write, entry or not."""
        self._heads = np.empty(64, HEAD)
        self._count = 0
        self._rest = Details()
        self.vectors = Vectors()
        """Embeddings, in the order of the entries."""
        self._index = EntryIndex(lambda: self.ids, self._rest)
        self._touched: dict[int, int] = {}
        self.content_bytes = 0
        """Bytes of all entries as they are stored, about."""
        self._turn = math.cos(self.config.angle / 2)

    def __len__(self) -> int:
        return self._count

    # ---- columns, all in the order of the entries

    @property
    def ids(self) -> NDArray[np.int64]:
        """(N,) int64 ids, ascending, never reused."""
        return self._heads["id"][: self._count]

    @property
    def stamps(self) -> NDArray[np.int64]:
        """(N,) int64 [ns], not descending."""
        return self._heads["stamp"][: self._count]

    @property
    def steps(self) -> NDArray[np.int64]:
        """(N,) int64 steps of the world's run."""
        return self._heads["step"][: self._count]

    @property
    def positions(self) -> NDArray[np.float64]:
        """(N, 3) float64 [m], the base in the map frame."""
        return self._heads["pose"][: self._count, :3]

    @property
    def poses(self) -> NDArray[np.float64]:
        """(N, 7) float64: x, y, z [m], qx, qy, qz, qw; `map_T_base`."""
        return self._heads["pose"][: self._count]

    @property
    def place_ids(self) -> NDArray[np.int64]:
        """(N,) int64 ids of the places the agent was at, or -1."""
        return self._heads["place"][: self._count]

    @property
    def room_ids(self) -> NDArray[np.int64]:
        """(N,) int64 ids of the rooms the agent was in, as they were known then, or -1."""
        return self._heads["room"][: self._count]

    @property
    def rewards(self) -> NDArray[np.float64]:
        """(N,) float64 rewards."""
        return self._heads["reward"][: self._count]

    @property
    def trusts(self) -> NDArray[np.float64]:
        """(N,) float64 in [0, 1]."""
        return self._heads["trust"][: self._count]

    @property
    def utilities(self) -> NDArray[np.float64]:
        """(N,) float64 learned usefulness, 0 before any feedback."""
        return self._heads["utility"][: self._count]

    @property
    def has_words(self) -> NDArray[np.bool_]:
        """(N,) bool, True where an entry has an event, a text, or says what changed."""
        return np.fromiter((bool(r.event or r.text or r.changes) for r in self._rest), bool, self._count)

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
        for entry_id in entry_ids:
            row = self.index(entry_id)
            if row >= 0:
                held = self._heads["utility"]
                held[row] += rate * (value - held[row])
                self._touched[entry_id] = self.version

    def move(self, poses: NDArray[np.float64]) -> None:
        """Replaces the (N, 7) poses `map_T_base` of all entries."""
        self.version += 1
        self._heads["pose"][: self._count] = poses
        self._touched.update(dict.fromkeys(self.ids.tolist(), self.version))

    def summaries(self) -> dict[int, tuple[int, ...]]:
        """Returns the evidence of each summary, by the id of the summary."""
        return self._index.summaries

    def summarised(self) -> set[int]:
        """Returns the ids of the entries that a summary covers."""
        return {i for evidence in self._index.summaries.values() for i in evidence}

    def derived_from(self, entry_id: int) -> tuple[int, ...]:
        """Returns the ids of the summaries that rest on an entry."""
        return tuple(i for i, evidence in self._index.summaries.items() if entry_id in evidence)

    def forget(self, entry_id: int) -> bool:
        """Removes an entry; its id is never given again. False where there is none."""
        row = self.index(entry_id)
        if row < 0:
            return False
        self.remove(np.array([entry_id]))
        return True

    def remove(self, entry_ids: NDArray[np.int64]) -> None:
        """Removes entries, all of which must exist, in one pass; their ids are never given again."""
        self.version += 1
        rows = np.searchsorted(self.ids, entry_ids)
        self.content_bytes -= sum(self._size(row) for row in rows.tolist())
        self._index.remove(entry_ids.tolist(), rows.tolist())
        keep = np.ones(self._count, bool)
        keep[rows] = False
        self._heads = self._heads[: self._count][keep]
        self.vectors.keep(keep)
        self._rest.keep(keep)
        self._count -= len(rows)
        self._touched.update(dict.fromkeys(entry_ids.tolist(), self.version))

    def forget_object(self, object_id: int) -> None:
        """Removes an object from all entries and encounters."""
        self.version += 1
        self.encounters.forget_object(object_id)
        for entry_id in self._index.seen_in.pop(object_id, []):
            rest = self._rest.edit(self.index(entry_id))
            self.content_bytes -= 8
            rest.object_ids = tuple(i for i in rest.object_ids if i != object_id)
            self._touched[entry_id] = self.version
        for row, rest in enumerate(self._rest):
            if any(i == object_id for i, _ in rest.changes):
                self._forget_changes(row, object_id)

    def _forget_changes(self, row: int, object_id: int) -> None:
        rest, entry_id = self._rest.edit(row), int(self.ids[row])
        before = rest.words()
        self.content_bytes -= rest.nbytes
        rest.changes = tuple(change for change in rest.changes if change[0] != object_id)
        self.content_bytes += rest.nbytes
        for token in set(before) - set(rest.words()):
            self._index.by_word[token].remove(entry_id)
        self._touched[entry_id] = self.version

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
        self._put(entry)
        self.next_id = entry.id + 1
        self._touched[entry.id] = self.version
        return entry.id

    def _put(self, entry: Episode) -> None:
        row = self._count
        if row == len(self._heads):
            self._heads = np.concatenate([self._heads, np.empty(max(row, 64), HEAD)])
        self._heads[row] = entry.head()
        self.vectors.append(entry.embedding)
        self._rest.append(EpisodeRow.of(entry))
        self._count += 1
        self.content_bytes += self._size(row)
        self._index.add(entry.id, self._rest[row])

    def _size(self, row: int) -> int:
        vector = self.vectors.size if self.vectors.holds(row) else 0
        return HEAD.itemsize + ROW_BYTES + vector + self._rest.nbytes(row)

    # ---- reading

    @property
    def embedding_size(self) -> int:
        """Size D of the embeddings, 0 before the first."""
        return self.vectors.size

    @property
    def first_stamp(self) -> int:
        """Stamp of the oldest entry [ns]; 0 where there is none."""
        return int(self.stamps[0]) if self._count else 0

    def index(self, entry_id: int) -> int:
        """Returns the row of an id, or -1."""
        row = int(np.searchsorted(self.ids, entry_id))
        return row if row < self._count and self.ids[row] == entry_id else -1

    def entry(self, entry_id: int) -> Episode | None:
        """Returns one entry, or None where there is no such id."""
        row = self.index(entry_id)
        return self.at(row) if row >= 0 else None

    def at(self, row: int) -> Episode:
        """Returns the entry of a row."""
        return self._rest[row].episode(self._heads[row], self.vectors.at(row))

    def __iter__(self) -> Iterator[Episode]:
        return (self.at(row) for row in range(self._count))

    def seen_in(self, object_id: int, since: int | None = None, until: int | None = None) -> tuple[int, ...]:
        """Returns the ids of the entries in which an object was seen, newest first.

        Args:
            object_id: whose.
            since: [ns], inclusive; None is open.
            until: likewise.
        """
        found = np.array(self._index.seen_in.get(object_id, ()), np.int64)
        stamps = self.stamps[np.searchsorted(self.ids, found)]
        keep = np.ones(len(found), bool)
        if since is not None:
            keep &= stamps >= since
        if until is not None:
            keep &= stamps <= until
        return tuple(found[keep][::-1].tolist())

    def with_word(self, word: str) -> Sequence[int]:
        """Returns the ids of the entries whose event, text or changes hold a word, oldest first."""
        return self._index.by_word.get(word, ())

    def object_ids(self, row: int) -> tuple[int, ...]:
        """Returns the ids of the objects seen in the entry of a row, ascending."""
        return self._rest[row].object_ids

    def text(self, row: int) -> str:
        """Returns the note in words of a row, or ""."""
        return self._rest[row].text

    def sentence(self, row: int) -> str:
        """Returns all that the entry of a row says in words: event, note and changes."""
        rest = self._rest[row]
        return "; ".join(part for part in (rest.event, rest.text, *(w for _, w in rest.changes)) if part)

    def step_of(self, stamp: int) -> int:
        """Returns the step at a stamp [ns], interpolated between entries; -1 where there is no entry."""
        stamps, steps = self._knots()
        row = int(np.searchsorted(stamps, stamp, side="right")) - 1
        if row < 0:
            return int(steps[0]) if len(steps) else -1
        if row + 1 == len(stamps) or steps[row + 1] <= steps[row]:
            return int(steps[row])
        span, ahead = int(stamps[row + 1] - stamps[row]), int(stamp - stamps[row])
        return int(steps[row]) + (2 * ahead * int(steps[row + 1] - steps[row]) + span) // (2 * span)

    def stamp_of_step(self, step: int) -> int:
        """Returns the stamp [ns] of a step of the newest run, interpolated between entries.

        Steps beyond the newest, or before the oldest, are counted on at the pace of the nearest
        entries. 0 where there is no entry.
        """
        stamps, steps = self._knots()
        if not len(stamps):
            return 0
        starts = np.flatnonzero(np.diff(steps) < 0) + 1  # the step counts anew: another run
        first = int(starts[-1]) if len(starts) else 0
        steps, keep = np.unique(steps[first:], return_index=True)
        stamps = stamps[first:][keep]
        if len(stamps) == 1:
            return int(stamps[0]) + (step > steps[0]) - (step < steps[0])
        left = int(np.clip(np.searchsorted(steps, step, side="right") - 1, 0, len(steps) - 2))
        span = int(steps[left + 1] - steps[left])
        return int(stamps[left]) + (step - int(steps[left])) * int(stamps[left + 1] - stamps[left]) // span

    def _knots(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        stamps, steps = self.stamps, self.steps
        if self.newest is not None and (not self._count or self.newest[0] > stamps[-1]):
            stamps = np.append(stamps, self.newest[0])
            steps = np.append(steps, self.newest[1])
        return stamps, steps

    # ---- persistence

    def digest(self) -> bytes:
        """Returns the SHA-256 over all entries and encounters; snapshots are not part of it."""
        sha = hashlib.sha256()
        for _, payload in self.export_rows():
            sha.update(len(payload).to_bytes(8, "little"))
            sha.update(payload)
        sha.update(self.encounters.digest_bytes())
        return sha.digest()

    def export_rows(self, since_version: int = 0) -> list[tuple[int, bytes]]:
        """Returns (id, payload) of the entries changed after a version; b"" where one is no more."""
        return self.take_rows(since_version)()

    def take_rows(self, since_version: int = 0) -> Callable[[], list[tuple[int, bytes]]]:
        """Copies what `export_rows` needs; returns what makes the rows of it, on any thread."""
        if since_version <= 0:
            changed = self.ids.copy()
        else:
            changed = np.array(sorted(i for i, v in self._touched.items() if v > since_version), np.int64)
        rows = np.searchsorted(self.ids, changed)
        there = np.append(self.ids, -1)[rows] == changed
        rows = rows[there]
        heads, details = self._heads[rows], self._rest.take(rows.tolist())
        vectors = self.vectors.rows[rows]
        gone = [(i, b"") for i in changed[~there].tolist()]

        def pack_rows() -> list[tuple[int, bytes]]:
            some = vectors.any(axis=1).tolist()
            packed = [
                (int(head["id"]), pack(head, row, vector if has else None))
                for head, row, vector, has in zip(heads, details, vectors, some)
            ]
            return sorted(packed + gone)

        return pack_rows

    def settle(self, version: int) -> None:
        """Lets go of the list of changes up to a version, once somebody has exported them."""
        self._touched = {i: v for i, v in self._touched.items() if v > version}

    def import_rows(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Restores what `export_rows` gave, into an empty table; `next_id` is set by the caller.

        Raises:
            StoreError: a payload is damaged.
        """
        ordered = sorted(rows)
        ids, payloads = [entry_id for entry_id, _ in ordered], [payload for _, payload in ordered]
        self._heads, vectors, summaries = columns_of(ids, payloads)
        self._count = len(ids)
        self.vectors.load(vectors)
        self._rest.load(payloads)
        self._index.wait({ids[row]: self._rest[row].evidence for row in summaries})
        self.content_bytes = sum(map(len, payloads)) + ROW_BYTES * len(ids)
        self.version = max(self.version, 1)  # at 0 `export_rows` gives all there is, and tells no removals

"""What of the entries goes to the file when: new ones as rows of their own, old ones sealed in chunks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import StoreError
from embodied_mem.memory.episodes.chunks import (
    ALIVE,
    CHUNK,
    DETAILS,
    HEADS,
    OBJECTS,
    PARTS,
    SHIFT,
    VECTORS,
    Heads,
    count_of,
    living,
    pack_alive,
    pack_heads,
    pack_objects,
    pack_texts,
    pack_vectors,
    unpack_heads,
    unpack_vectors,
)
from embodied_mem.memory.episodes.details import FetchPart, columns_of, pack
from embodied_mem.memory.episodes.row import HEAD, EpisodeRow

if TYPE_CHECKING:
    from embodied_mem.memory.episodes.entries import Episodes

AT_ONCE = 8
"""At most so many chunks are sealed, or written anew, in one batch: the WAL stays small."""
WORN = 0.75
"""A chunk with fewer than this share of its entries left is written anew."""
Rows = list[tuple[int, bytes]]
Tables = dict[str, Rows]


@dataclass
class _Chunk:
    """State of a sealed chunk.

    Attributes:
        slots: entries that its vectors, objects and details in the file hold.
        heads, rest, alive: versions of the entries at which each has last changed.
    """

    slots: int
    heads: int = 0
    rest: int = 0
    alive: int = 0

    @property
    def newest(self) -> int:
        """Version of the newest change."""
        return max(self.heads, self.rest, self.alive)


class Sealing:
    """Knows which chunks of some entries are sealed, and what of them has changed.

    Args:
        episodes: the entries.
    """

    def __init__(self, episodes: Episodes) -> None:
        self._episodes = episodes
        self._chunks: dict[int, _Chunk] = {}
        self._next = 0  # the first chunk that is not sealed
        self._touched: set[int] = set()  # chunks of which something has changed
        self._suspects: set[int] = set()  # chunks that may be worn
        self._done: list[tuple[int, dict[int, EpisodeRow], bytes, bytes]] = []

    @property
    def first_row(self) -> int:
        """Id of the first entry that is a row of its own in the file."""
        return self._next << SHIFT

    @property
    def backlog(self) -> int:
        """How many chunks are complete, and old enough, but not sealed: a batch takes only so many."""
        # The newest stay rows of their own for a while: they change most.
        return max((self._episodes.next_id >> SHIFT) - self._next - 1, 0)

    def changed(self, entry_ids: NDArray[np.int64], what: str) -> None:
        """Notes that "heads", "rest" (which heads go with) or "alive" of sealed entries have changed."""
        for chunk in np.unique(entry_ids[entry_ids < self.first_row] >> SHIFT).tolist():
            setattr(self._chunks[chunk], what, self._episodes.version)
            self._touched.add(chunk)
            if what == "alive":
                self._suspects.add(chunk)

    def forgotten(self, entry_id: int) -> None:
        """Has the chunk of an entry that is no more written anew, so that the file says nothing of it."""
        state = self._chunks.get(entry_id >> SHIFT)
        if state is not None and entry_id < self.first_row:
            state.slots = 2 * CHUNK

    def settle(self, version: int) -> None:
        """Lets go of the list of changes up to a version, once somebody has taken them."""
        self._touched = {c for c in self._touched if c in self._chunks and self._chunks[c].newest > version}

    # ---- to the file

    def take(self, since: int) -> Callable[[], Tables]:
        """Seals what is complete, and copies what changed after a version; returns what makes rows of it.

        Args:
            since: the version; before the first, all there is is taken, and nothing is sealed.
        """
        if since <= 0:
            return self._take_all()
        for chunk, values, objects, details in self._done:
            self._episodes.details.packed(chunk, values, objects, details)
        self._done = []
        makers: list[Callable[[], Tables]] = [*self._seal_complete(), *self._renew_worn()]
        for chunk in sorted(self._touched & self._chunks.keys()):
            if self._chunks[chunk].newest > since:
                makers.append(self._changes_of(chunk, self._chunks[chunk], since))
        return lambda: _merged(maker() for maker in makers)

    def _take_all(self) -> Callable[[], Tables]:
        last = self._episodes.next_id >> SHIFT
        makers = [self._whole(chunk, keep=False) for chunk in range(last) if self._count(chunk)]
        return lambda: _merged(maker() for maker in makers)

    def complete(self, since: int) -> int:
        """Returns the id before which all entries are in chunks once `take` has been called."""
        return (self._episodes.next_id >> SHIFT) << SHIFT if since <= 0 else self.first_row

    def _rows_of(self, chunk: int) -> slice:
        first, last = np.searchsorted(self._episodes.ids, (chunk << SHIFT, (chunk + 1) << SHIFT))
        return slice(int(first), int(last))

    def _count(self, chunk: int) -> int:
        rows = self._rows_of(chunk)
        return rows.stop - rows.start

    def _seal_complete(self) -> Iterable[Callable[[], Tables]]:
        makers: list[Callable[[], Tables]] = []
        while self.backlog and len(makers) < 2 * AT_ONCE:
            chunk, count = self._next, self._count(self._next)
            self._next += 1
            if not count:
                continue
            ids = self._episodes.ids[self._rows_of(chunk)].tolist()
            self._episodes.details.seal(chunk, count)
            self._chunks[chunk] = _Chunk(count)
            makers += [self._whole(chunk), partial(_gone, ["episodes"], ids)]
        return makers

    def _renew_worn(self) -> Iterable[Callable[[], Tables]]:
        makers: list[Callable[[], Tables]] = []
        for chunk in sorted(self._suspects):
            count = self._count(chunk)
            if not count:
                del self._chunks[chunk]
                self._episodes.details.drop(chunk)
                makers.append(partial(_gone, [*PARTS, ALIVE], [chunk]))
            elif count < WORN * self._chunks[chunk].slots:
                if len(makers) >= AT_ONCE:
                    continue
                self._chunks[chunk] = _Chunk(count)
                makers.append(self._whole(chunk))
            self._suspects.discard(chunk)
        return makers

    def _changes_of(self, chunk: int, state: _Chunk, since: int) -> Callable[[], Tables]:
        rows = self._rows_of(chunk)
        if state.rest > since:
            values = self._episodes.details.values(chunk)
            offsets, listed = np.array(list(values), np.uint16), list(values.values())
            heads = self._heads(rows)
            return lambda: {
                HEADS: [(chunk, pack_heads(heads))],
                OBJECTS: [(chunk, pack_objects(offsets, listed))],
                DETAILS: [(chunk, pack_texts(offsets, listed))],
                ALIVE: [(chunk, b"")],
            }
        if state.heads > since:
            heads = self._heads(rows)
            return lambda: {HEADS: [(chunk, pack_heads(heads))], ALIVE: [(chunk, b"")]}
        ids = self._episodes.ids[rows].copy()
        return lambda: {ALIVE: [(chunk, pack_alive(ids))]}

    def _whole(self, chunk: int, *, keep: bool = True) -> Callable[[], Tables]:
        """Copies a chunk; returns what makes all its parts. `keep`: in RAM it is bytes from then on."""
        episodes, rows = self._episodes, self._rows_of(chunk)
        heads = self._heads(rows)
        if keep:
            values = episodes.details.values(chunk)
        else:
            ids = episodes.ids[rows].tolist()
            values = {
                i & (CHUNK - 1): episodes.details[row] for i, row in zip(ids, range(rows.start, rows.stop))
            }
        offsets = np.array(list(values), np.uint16)
        vectors, _ = episodes.vectors.some(np.arange(rows.start, rows.stop))
        owners, vectors = offsets[heads.has], vectors[rows][heads.has]

        def make() -> Tables:
            listed = list(values.values())
            objects, details = pack_objects(offsets, listed), pack_texts(offsets, listed)
            if keep:
                self._done.append((chunk, values, objects, details))
            return {
                HEADS: [(chunk, pack_heads(heads))],
                VECTORS: [(chunk, pack_vectors(owners, vectors) if len(owners) else b"")],
                OBJECTS: [(chunk, objects)],
                DETAILS: [(chunk, details)],
                ALIVE: [(chunk, b"")],
            }

        return make

    def _heads(self, rows: slice) -> Heads:
        e = self._episodes
        ids = e.ids[rows].tolist()
        evidence = {i: e.evidence[i] for i in e.evidence.keys() & set(ids)}
        has = e.vectors.has[rows].copy()
        size = e.vectors.size if has.any() else 0
        return Heads(
            e.heads[rows].copy(), e.sizes[rows].copy(), e.has_words[rows].copy(), size, has, evidence
        )

    def take_rows(self, entry_ids: NDArray[np.int64]) -> Callable[[], Rows]:
        """Copies entries that are rows of their own; returns what makes the rows; b"" where one is gone."""
        e = self._episodes
        wanted: list[int] = entry_ids.tolist()
        # Not by numpy, which searches and takes several vectors without the interpreter's lock: that may
        # cost a switch of threads.
        first = bisect_left(e.ids, wanted[0]) if wanted else len(e.ids)
        row_of = {entry_id: row for row, entry_id in enumerate(e.ids[first:].tolist(), start=first)}
        rows = np.array([row_of[i] for i in wanted if i in row_of], np.int64)
        heads, details = e.heads[rows], [e.details.take(row) for row in rows.tolist()]
        held, _ = e.vectors.some(rows)
        some, vectors = e.vectors.has[rows].tolist(), [held[row].copy() for row in rows.tolist()]
        gone = [(i, b"") for i in wanted if i not in row_of]

        def pack_rows() -> Rows:
            packed = [
                (int(head["id"]), pack(head, row, vector if has else None))
                for head, row, vector, has in zip(heads, details, vectors, some)
            ]
            return sorted(packed + gone)

        return pack_rows

    # ---- from the file

    def restore(self, tables: Mapping[str, Sequence[tuple[Any, ...]]], fetch: FetchPart | None) -> None:
        """Fills empty entries from the tables of a file.

        Raises:
            StoreError: a payload is damaged.
        """
        e = self._episodes
        ordered = sorted(tables.get("episodes", ()))
        ids, payloads = [entry_id for entry_id, _ in ordered], [payload for _, payload in ordered]
        tail = columns_of(ids, payloads)
        held, heads = self._restore_chunks(tables, tail.heads)
        if ids and ids[0] < self.first_row:
            raise StoreError(f"episodic entry {ids[0]} is in the file twice")
        sizes = np.concatenate([*(part.sizes for part in held.values()), tail.sizes])
        spoken = np.concatenate([*(part.spoken for part in held.values()), tail.spoken])
        has = np.concatenate([*(part.has for part in held.values()), np.zeros(len(ids), bool)])
        found = {part.size for part in held.values()} | {tail.vectors.shape[1]}
        if len(found - {0}) > 1:
            raise StoreError("the embeddings of the episodic entries have different sizes")
        e.load(heads, sizes, spoken)
        absent = [chunk for chunk, part in held.items() if part.size]
        e.vectors.defer(has, max(found), absent, None if fetch is None else _vectors_of(fetch))
        sealed = len(heads) - len(ids)
        if tail.vectors.shape[1]:
            e.vectors.put(sealed, tail.vectors)
        e.details.load(payloads, self._chunks, sealed, fetch)
        for row in tail.summaries:
            e.evidence[ids[row]] = e.details[sealed + row].evidence

    def _restore_chunks(
        self, tables: Mapping[str, Sequence[tuple[Any, ...]]], tail: NDArray[Any]
    ) -> tuple[dict[int, Heads], NDArray[Any]]:
        """Returns what is left of each chunk, and the heads of all entries in one array."""
        alive, packed = dict(tables.get(ALIVE, ())), sorted(tables.get(HEADS, ()))
        counts = [count_of(chunk, payload) for chunk, payload in packed]
        # One array, filled in place: to touch fresh memory takes longer than to fill it.
        heads, at = np.empty(sum(counts) + len(tail), HEAD), 0
        held: dict[int, Heads] = {}
        for (chunk, payload), count in zip(packed, counts):
            whole = unpack_heads(chunk, payload, heads[at : at + count])
            part = held[chunk] = living(chunk, whole, alive.get(chunk))
            left = len(part.heads)
            heads[at : at + left] = part.heads
            at += left
            self._chunks[chunk] = _Chunk(count)
            if left < count:
                self._suspects.add(chunk)
            self._episodes.evidence.update(part.evidence)
        heads[at : at + len(tail)] = tail
        self._next = max(held, default=-1) + 1
        return held, heads[: at + len(tail)]


def _gone(names: Sequence[str], keys: Sequence[int]) -> Tables:
    return {name: [(key, b"") for key in keys] for name in names}


def _vectors_of(fetch: FetchPart) -> Callable[[list[int]], Iterable[tuple[int, Any]]]:
    return lambda chunks: ((c, unpack_vectors(c, payload)) for c, payload in fetch(VECTORS, chunks))


def _merged(found: Iterable[Tables]) -> Tables:
    merged: Tables = {}
    for tables in found:
        for name, rows in tables.items():
            merged.setdefault(name, []).extend(rows)
    return merged

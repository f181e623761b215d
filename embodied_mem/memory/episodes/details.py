"""The varying parts of entries: as values, or as the file's bytes until somebody looks at them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import StoreError
from embodied_mem.memory.episodes.chunks import (
    CHUNK,
    DETAILS,
    OBJECTS,
    SHIFT,
    SeenObjects,
    Texts,
    unpack_objects,
    unpack_texts,
)
from embodied_mem.memory.episodes.row import HEAD, PARTS, EpisodeRow, pack_row, unpack_details

FetchPart = Callable[[str, list[int]], Iterable[tuple[int, bytes]]]
"""Reads the rows of a table by their keys; those that are missing are left out."""
NOTHING_SEEN = SeenObjects(np.empty(0, np.uint16), np.empty(0, np.int64), np.empty(0, np.int64))
NO_TEXTS = Texts(np.empty(0, np.uint16), np.empty((5, 0), np.int64), b"")

SLICE = 1 << 16
"""Rows that are read at a time."""
_SPOKEN, _VECTOR, _EVIDENCE = [2, 3, 4], 6, 7
"""Event, text and changes, the embedding, and the ids of the evidence among the parts of a payload."""
ROW_BYTES = 64
"""What the file needs for a row beside its contents: lengths, key, checksum, room in pages."""


class Columns(NamedTuple):
    """What payloads of entries hold in columns.

    Attributes:
        heads: (N,) of `HEAD`.
        vectors: (N, D) int8, zero where an entry has none; D = 0 where none has one.
        summaries: rows of entries that rest on others.
        sizes: (N,) uint32 bytes of each as a row of the file.
        spoken: (N,) bool, whether an entry has words.
    """

    heads: NDArray[Any]
    vectors: NDArray[np.int8]
    summaries: list[int]
    sizes: NDArray[np.uint32]
    spoken: NDArray[np.bool_]


class _Chunk:
    """The varying parts of a sealed chunk: as values, or as the file's bytes until they are looked at.

    Attributes:
        values: row by offset, while they are values.
        seen, texts: what has been read of the file's bytes.
    """

    def __init__(self, values: dict[int, EpisodeRow] | None = None) -> None:
        self.values = values
        self.seen: SeenObjects | None = None
        self.texts: Texts | None = None


class Details:
    """One `EpisodeRow` per entry, in the order of the entries.

    Args:
        ids: gives the ids of all entries, ascending.
        evidence: summary -> ids of the entries it rests on.
    """

    def __init__(self, ids: Callable[[], NDArray[np.int64]], evidence: Mapping[int, tuple[int, ...]]) -> None:
        self._ids = ids
        self._evidence = evidence
        self._sealed = 0  # so many rows are of sealed chunks
        self._chunks: dict[int, _Chunk] = {}
        self._tail: list[EpisodeRow | bytes] = []
        self._fetch: FetchPart | None = None

    @property
    def sealed(self) -> int:
        """How many rows are of sealed chunks: the first ones."""
        return self._sealed

    def __getitem__(self, row: int) -> EpisodeRow:
        if row >= self._sealed:
            held = self._tail[row - self._sealed]
            return unpack_details(held) if isinstance(held, bytes) else held
        entry_id = int(self._ids()[row])
        chunk, offset = self._chunks[entry_id >> SHIFT], entry_id & (CHUNK - 1)
        if chunk.values is not None:
            return chunk.values[offset]
        texts = self._texts(entry_id >> SHIFT)
        index, evidence = _place(texts.offsets, offset), self._evidence.get(entry_id, ())
        objects = self._objects_in(entry_id >> SHIFT, offset)
        if index < 0:  # the part was damaged and has been removed
            return EpisodeRow(objects, b"", "", "", (), "", evidence)
        return texts.row(index, objects, evidence)

    def __iter__(self) -> Iterator[EpisodeRow]:
        return (self[row] for row in range(self._sealed + len(self._tail)))

    def object_ids(self, row: int) -> tuple[int, ...]:
        """Returns the ids of the objects seen in the entry of a row, ascending."""
        if row >= self._sealed:
            return self[row].object_ids
        entry_id = int(self._ids()[row])
        held = self._chunks[entry_id >> SHIFT].values
        offset = entry_id & (CHUNK - 1)
        return self._objects_in(entry_id >> SHIFT, offset) if held is None else held[offset].object_ids

    def _objects_in(self, chunk: int, offset: int) -> tuple[int, ...]:
        seen = self._seen(chunk)
        index = _place(seen.offsets, offset)
        if index < 0:
            return ()
        first = int(seen.ends[index - 1]) if index else 0
        return tuple(seen.ids[first : int(seen.ends[index])].tolist())

    def seen(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Returns pairs of (m,) entry ids and the (m,) ids of objects seen in them, by sealed chunk."""
        unread = [c for c, held in self._chunks.items() if held.values is None and held.seen is None]
        found = dict(self._read(OBJECTS, unread))
        for number, held in sorted(self._chunks.items()):
            if held.values is not None:
                yield _pairs(held.values, number), _objects(held.values)
                continue
            seen = held.seen or found.get(number)
            if seen is not None:
                times = np.diff(seen.ends, prepend=0)
                yield np.repeat(seen.offsets.astype(np.int64) + (number << SHIFT), times), seen.ids

    def edit(self, row: int) -> EpisodeRow:
        """Returns the value of a row to be changed in place; who has taken it before keeps the old one."""
        value = replace(self[row])
        if row >= self._sealed:
            self._tail[row - self._sealed] = value
            return value
        entry_id = int(self._ids()[row])
        chunk = entry_id >> SHIFT
        self._chunks[chunk] = _Chunk({**self.values(chunk), entry_id & (CHUNK - 1): value})
        return value

    def append(self, row: EpisodeRow) -> None:
        """Adds a row."""
        self._tail.append(row)

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Removes all rows but those where the (N,) mask is True."""
        self._tail = list(itertools.compress(self._tail, rows[self._sealed :].tolist()))
        self._sealed = int(np.count_nonzero(rows[: self._sealed]))

    def load(
        self, payloads: list[bytes], chunks: Iterable[int], sealed: int, fetch: FetchPart | None
    ) -> None:
        """Starts with rows as the bytes of whole entries, which `columns_of` has looked at.

        Args:
            payloads: of the entries after the sealed chunks.
            chunks: those that are sealed; they are fetched when they are needed.
            sealed: how many entries they hold.
            fetch: reads parts of chunks.
        """
        self._tail = list(payloads)
        self._chunks = {chunk: _Chunk() for chunk in chunks}
        self._sealed, self._fetch = sealed, fetch

    # ---- sealed chunks

    def seal(self, chunk: int, count: int) -> dict[int, EpisodeRow]:
        """Makes a chunk of the first rows after the sealed ones; returns them by offset."""
        first = self._sealed
        ids = self._ids()[first : first + count].tolist()
        values = {i & (CHUNK - 1): self[first + n] for n, i in enumerate(ids)}
        self._chunks[chunk] = _Chunk(values)
        del self._tail[:count]
        self._sealed += count
        return values

    def values(self, chunk: int) -> dict[int, EpisodeRow]:
        """Returns the rows of a sealed chunk by offset."""
        held = self._chunks[chunk].values
        if held is not None:
            return held
        ids = self._ids()
        first, last = np.searchsorted(ids, (chunk << SHIFT, (chunk + 1) << SHIFT)).tolist()
        return {int(ids[row]) & (CHUNK - 1): self[row] for row in range(first, last)}

    def packed(self, chunk: int, values: dict[int, EpisodeRow], objects: bytes, details: bytes) -> None:
        """Takes the bytes of a chunk in the place of its values, unless they have changed since."""
        held = self._chunks.get(chunk)
        if held is not None and held.values is values:
            held.seen, held.texts = unpack_objects(chunk, objects), unpack_texts(chunk, details)
            held.values = None

    def drop(self, chunk: int) -> None:
        """Lets go of a chunk none of whose entries is left."""
        del self._chunks[chunk]

    def _seen(self, chunk: int) -> SeenObjects:
        held = self._chunks[chunk]
        if held.seen is None:
            held.seen = dict(self._read(OBJECTS, [chunk])).get(chunk, NOTHING_SEEN)
        return held.seen

    def _texts(self, chunk: int) -> Texts:
        held = self._chunks[chunk]
        if held.texts is None:
            held.texts = dict(self._read(DETAILS, [chunk])).get(chunk, NO_TEXTS)
        return held.texts

    def spoken(self, has_words: NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
        """Returns (entry id, all it says) of entries, ascending.

        Args:
            has_words: (N,) bool, which entries say something.
        """
        self.read_texts()
        rows = np.flatnonzero(has_words)
        ids = self._ids()[rows]
        sealed = int(np.searchsorted(rows, self._sealed))
        chunks, starts = np.unique(ids[:sealed] >> SHIFT, return_index=True)
        for chunk, some in zip(chunks.tolist(), np.split(ids[:sealed], starts[1:])):
            values = self._chunks[chunk].values
            if values is None:
                yield from self._texts(chunk).spoken(chunk, some)
            else:
                yield from ((i, values[i & (CHUNK - 1)].said) for i in some.tolist())
        for row, entry_id in zip(rows[sealed:].tolist(), ids[sealed:].tolist()):
            yield entry_id, self[row].said

    def read_texts(self) -> None:
        """Reads the details of all chunks that are not here yet."""
        wanted = [c for c, held in self._chunks.items() if held.values is None and held.texts is None]
        for chunk, texts in self._read(DETAILS, wanted):
            self._chunks[chunk].texts = texts

    def _read(self, table: str, chunks: list[int]) -> Iterator[tuple[int, Any]]:
        unpack = unpack_objects if table == OBJECTS else unpack_texts
        rows = self._fetch(table, chunks) if self._fetch is not None and chunks else ()
        return ((chunk, unpack(chunk, payload)) for chunk, payload in rows)

    def take(self, row: int) -> EpisodeRow | bytes:
        """Returns a row as it is held, for `pack`."""
        return self._tail[row - self._sealed] if row >= self._sealed else self[row]


def _place(offsets: NDArray[np.uint16], offset: int) -> int:
    at = int(np.searchsorted(offsets, offset))
    return at if at < len(offsets) and offsets[at] == offset else -1


def _pairs(values: dict[int, EpisodeRow], chunk: int) -> NDArray[np.int64]:
    return np.array([(chunk << SHIFT) + o for o, row in values.items() for _ in row.object_ids], np.int64)


def _objects(values: dict[int, EpisodeRow]) -> NDArray[np.int64]:
    return np.array([i for row in values.values() for i in row.object_ids], np.int64)


def pack(head: Any, row: EpisodeRow | bytes, vector: NDArray[np.int8] | None) -> bytes:
    """Returns an entry as bytes (`pack_row`)."""
    if isinstance(row, bytes):
        return bytes(head.tobytes() + row[HEAD.itemsize :])
    return pack_row(head, row, vector)


def columns_of(ids: list[int], payloads: list[bytes]) -> Columns:
    """Reads the columns of many entries at once.

    Args:
        ids: ascending.
        payloads: what `pack_row` made of each.

    Raises:
        StoreError: a payload is damaged.
    """
    parts = [
        _slice_columns(ids[at : at + SLICE], payloads[at : at + SLICE]) for at in range(0, len(ids), SLICE)
    ]
    size = max((part.vectors.shape[1] for part in parts), default=0)
    if any(part.vectors.shape[1] not in (0, size) for part in parts):
        raise StoreError("the embeddings of the episodic entries have different sizes")
    heads = np.concatenate([part.heads for part in parts]) if parts else np.empty(0, HEAD)
    sizes = np.concatenate([np.empty(0, np.uint32), *(part.sizes for part in parts)])
    spoken = np.concatenate([np.empty(0, bool), *(part.spoken for part in parts)])
    vectors = np.zeros((len(ids), size), np.int8)
    summaries: list[int] = []
    for number, part in enumerate(parts):
        summaries += [number * SLICE + row for row in part.summaries]
        if part.vectors.shape[1]:
            vectors[number * SLICE : number * SLICE + len(part.vectors)] = part.vectors
    return Columns(heads, vectors, summaries, sizes, spoken)


def _slice_columns(ids: list[int], payloads: list[bytes]) -> Columns:
    sizes = np.fromiter(map(len, payloads), np.int64, len(payloads))
    ends = np.cumsum(sizes)
    starts, lengths, ats = _walk(np.frombuffer(b"".join(payloads), np.uint8), ends - sizes, ends, ids)
    heads = np.frombuffer(b"".join([p[: HEAD.itemsize] for p in payloads]), HEAD)
    strangers = np.flatnonzero(heads["id"] != ids)
    if len(strangers):
        raise StoreError(f"episodic entry {ids[strangers[0]]} is damaged")
    has = lengths[:, _VECTOR] > 0
    size = int(lengths[:, _VECTOR].max(initial=0))
    if (lengths[has, _VECTOR] != size).any():
        raise StoreError("the embeddings of the episodic entries have different sizes")
    vectors = np.zeros((len(ids), size), np.int8)
    if size:
        firsts = (ats[:, _VECTOR] - starts).tolist()
        found = b"".join([p[a : a + size] for p, a, some in zip(payloads, firsts, has.tolist()) if some])
        vectors[has] = np.frombuffer(found, np.int8).reshape(-1, size)
    spoken = np.asarray((lengths[:, _SPOKEN] > 0).any(axis=1), bool)
    bytes_of = (sizes + ROW_BYTES).astype(np.uint32)
    return Columns(heads, vectors, np.flatnonzero(lengths[:, _EVIDENCE]).tolist(), bytes_of, spoken)


def _walk(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], ids: list[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Returns (N,) starts and (N, PARTS) lengths and places of the parts; all payloads are whole."""
    lengths = np.zeros((len(starts), PARTS), np.int64)
    ats = np.zeros_like(lengths)
    at = starts + HEAD.itemsize
    for part in range(PARTS):
        short = np.flatnonzero(at + 4 > ends)
        if len(short):
            raise StoreError(f"episodic entry {ids[short[0]]} is damaged")
        lengths[:, part] = sum(data[at + k].astype(np.int64) << (8 * k) for k in range(4))
        ats[:, part] = at + 4
        at = at + 4 + lengths[:, part]
    wrong = np.flatnonzero(at != ends)
    if len(wrong):
        raise StoreError(f"episodic entry {ids[wrong[0]]} is damaged")
    return starts, lengths, ats

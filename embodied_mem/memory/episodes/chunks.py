"""Sealed chunks: 1,024 consecutive entries as a few blobs of columns, so that a million open at once.

A chunk has four parts, each a row of a table of its own: `entry_heads` (all of fixed length, and what
summaries rest on), read when a memory is opened; `entry_vectors`, `entry_objects` and
`entry_details`, read when somebody asks for them. Each part names its entries by their offset in the
chunk, so that parts of different ages still fit: `entry_alive` says which entries there still are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

from embodied_mem.errors import StoreError
from embodied_mem.memory.episodes.row import HEAD, EpisodeRow, changes_from, changes_to

SHIFT = 10
CHUNK = 1 << SHIFT
"""Entries whose ids share all bits above `SHIFT` are of one chunk."""
SEALED_BYTES = 64
"""What the head of an entry needs in a chunk: a pose of seven random doubles, and a little."""
HEADS, VECTORS, OBJECTS, DETAILS, ALIVE = (
    "entry_heads", "entry_vectors", "entry_objects", "entry_details", "entry_alive",
)  # fmt: skip
PARTS = (HEADS, VECTORS, OBJECTS, DETAILS)

_LEVEL = 3
_HEADS = struct.Struct("<BIIII")
_VECTORS = struct.Struct("<BII")
_OBJECTS = struct.Struct("<BI")
_DETAILS = struct.Struct("<BI")
_FORMAT = 1
_COUNTED = ("stamp", "step", "place", "room")
"""Columns of which the steps from entry to entry are kept: they are small."""
_PLAIN = ("reward", "trust", "utility")
_TEXTS = 5
"""Parts of varying length of an entry's details: action, event, text, changes, source."""

Array = NDArray[Any]


class Heads(NamedTuple):
    """What is read of a chunk when a memory is opened.

    Attributes:
        heads: (n,) of `HEAD`.
        sizes: (n,) uint32.
        spoken: (n,) bool, whether an entry has words.
        size: D of the embeddings; 0 where the chunk has none.
        has: (n,) bool, whether an entry has an embedding.
        evidence: summary -> ids of the entries it rests on.
    """

    heads: Array
    sizes: NDArray[np.uint32]
    spoken: NDArray[np.bool_]
    size: int
    has: NDArray[np.bool_]
    evidence: dict[int, tuple[int, ...]]


def offsets_of(ids: NDArray[np.int64]) -> NDArray[np.uint16]:
    """Returns (n,) uint16 places of entries in their chunk."""
    return np.asarray(ids & (CHUNK - 1), np.uint16)


def pack_alive(ids: NDArray[np.int64]) -> bytes:
    """Returns which entries of a chunk there still are: one bit each."""
    there = np.zeros(CHUNK, bool)
    there[offsets_of(ids)] = True
    return np.packbits(there).tobytes()


def unpack_alive(chunk: int, payload: bytes) -> NDArray[np.bool_]:
    """Reads what `pack_alive` made, as (1024,) bool; `StoreError` where it is damaged."""
    if len(payload) != CHUNK // 8:
        raise _damaged(ALIVE, chunk)
    return np.unpackbits(np.frombuffer(payload, np.uint8)).astype(bool)


def pack_heads(part: Heads) -> bytes:
    """Returns the heads of a chunk's entries as bytes: column by column, zstd-compressed."""
    heads, evidence = part.heads, part.evidence
    told = [np.array(evidence[i], np.int64) for i in sorted(evidence)]
    flat = np.concatenate(told) if told else np.empty(0, np.int64)
    columns = [
        offsets_of(heads["id"]).astype("<u2"),
        *(np.diff(heads[name], prepend=0).astype("<i8") for name in _COUNTED),
        (heads["used"] - heads["stamp"]).astype("<i8"),
        *(heads[name].astype("<f8") for name in _PLAIN),
        np.ascontiguousarray(heads["pose"].T, "<f8"),
        part.sizes.astype("<u4"),
        part.spoken.astype("u1"),
        part.has.astype("u1"),
        offsets_of(np.array(sorted(evidence), np.int64)).astype("<u2"),
        np.array([len(ids) for ids in told], "<u4"),
        np.diff(flat, prepend=0).astype("<i8"),
    ]
    head = _HEADS.pack(_FORMAT, len(heads), part.size, len(told), len(flat))
    return head + _squeeze(b"".join(column.tobytes() for column in columns))


def count_of(chunk: int, payload: bytes) -> int:
    """Returns how many entries `pack_heads` was given; `StoreError` where it cannot be."""
    if len(payload) < _HEADS.size or (count := _HEADS.unpack_from(payload)[1]) > CHUNK:
        raise _damaged(HEADS, chunk)
    return int(count)


def unpack_heads(chunk: int, payload: bytes, into: Array | None = None) -> Heads:
    """Reads what `pack_heads` made.

    Args:
        chunk: its number.
        payload: the bytes.
        into: (n,) of `HEAD` to read into; a new array where None.

    Raises:
        StoreError: the payload is damaged.
    """
    try:
        form, count, size, told, length = _HEADS.unpack_from(payload)
        take = _Taker(payload, _HEADS.size, form)
        heads = np.empty(count, HEAD) if into is None else into
        heads["id"] = take("<u2", count).astype(np.int64) + (chunk << SHIFT)
        for name in _COUNTED:
            heads[name] = np.cumsum(take("<i8", count))
        heads["used"] = take("<i8", count) + heads["stamp"]
        for name in _PLAIN:
            heads[name] = take("<f8", count)
        heads["pose"] = take("<f8", 7 * count).reshape(7, count).T
        sizes, spoken, has = take("<u4", count), take("u1", count), take("u1", count)
        summaries = (take("<u2", told).astype(np.int64) + (chunk << SHIFT)).tolist()
        ends = np.cumsum(take("<u4", told)).tolist()
        flat = np.cumsum(take("<i8", length)).tolist()
        evidence = {
            summary: tuple(flat[first:last]) for summary, first, last in zip(summaries, [0, *ends], ends)
        }
        take.end()
    except (zstandard.ZstdError, struct.error, ValueError) as error:
        raise _damaged(HEADS, chunk) from error
    return Heads(heads, sizes.astype(np.uint32), spoken.astype(bool), size, has.astype(bool), evidence)


def living(chunk: int, part: Heads, payload: bytes | None) -> Heads:
    """Returns what is left of the heads of a chunk, by what `pack_alive` made; all where None."""
    if payload is None:
        return part
    keep = unpack_alive(chunk, payload)[offsets_of(part.heads["id"])]
    left = set(part.heads["id"][keep].tolist())
    evidence = {i: ids for i, ids in part.evidence.items() if i in left}
    return Heads(part.heads[keep], part.sizes[keep], part.spoken[keep], part.size, part.has[keep], evidence)


def pack_vectors(offsets: NDArray[np.uint16], vectors: NDArray[np.int8]) -> bytes:
    """Returns (n, D) int8 embeddings and whose they are as bytes."""
    head = _VECTORS.pack(_FORMAT, *vectors.shape)
    return head + offsets.astype("<u2").tobytes() + vectors.tobytes()


def unpack_vectors(chunk: int, payload: bytes) -> tuple[NDArray[np.uint16], NDArray[np.int8]]:
    """Reads what `pack_vectors` made; `StoreError` where it is damaged."""
    try:
        form, count, size = _VECTORS.unpack_from(payload)
        at = _VECTORS.size + 2 * count
        if form != _FORMAT or len(payload) != at + count * size:
            raise ValueError
        offsets = np.frombuffer(payload, "<u2", count, _VECTORS.size)
        return offsets, np.frombuffer(payload, np.int8, count * size, at).reshape(count, size)
    except (struct.error, ValueError) as error:
        raise _damaged(VECTORS, chunk) from error


class SeenObjects(NamedTuple):
    """Which objects the entries of a chunk saw.

    Attributes:
        offsets: (n,) whose.
        ends: (n,) int64 where the ids of each end.
        ids: (m,) int64 object ids.
    """

    offsets: NDArray[np.uint16]
    ends: NDArray[np.int64]
    ids: NDArray[np.int64]


def pack_objects(offsets: NDArray[np.uint16], rows: Sequence[EpisodeRow]) -> bytes:
    """Returns which objects some entries saw as bytes."""
    counts = np.array([len(row.object_ids) for row in rows], "<u4")
    ids = np.array([i for row in rows for i in row.object_ids], "<i8")
    head = _OBJECTS.pack(_FORMAT, len(rows))
    return head + _squeeze(offsets.astype("<u2").tobytes() + counts.tobytes() + ids.tobytes())


def unpack_objects(chunk: int, payload: bytes) -> SeenObjects:
    """Reads what `pack_objects` made; `StoreError` where it is damaged."""
    try:
        form, count = _OBJECTS.unpack_from(payload)
        take = _Taker(payload, _OBJECTS.size, form)
        offsets, ends = take("<u2", count), np.cumsum(take("<u4", count).astype(np.int64))
        ids = take("<i8", int(ends[-1]) if count else 0).astype(np.int64)
        take.end()
    except (zstandard.ZstdError, struct.error, ValueError) as error:
        raise _damaged(OBJECTS, chunk) from error
    return SeenObjects(offsets, ends, ids)


class Texts(NamedTuple):
    """The details of the entries of a chunk, not yet read.

    Attributes:
        offsets: (n,) whose.
        ends: (5, n) int64 where each part of each entry ends in `data`.
        data: all parts: those of one kind together, in the order of the entries.
    """

    offsets: NDArray[np.uint16]
    ends: NDArray[np.int64]
    data: bytes

    def part(self, kind: int, index: int) -> bytes:
        """Returns one part of the entry at an index."""
        last = int(self.ends[kind, index])
        before = self.ends[kind, index - 1] if index else (self.ends[kind - 1, -1] if kind else 0)
        return self.data[int(before) : last]

    def spoken(self, chunk: int, entry_ids: NDArray[np.int64]) -> Iterator[tuple[int, str]]:
        """Returns (entry id, `EpisodeRow.said`) of some entries of the chunk that are here."""
        at = np.minimum(np.searchsorted(self.offsets, offsets_of(entry_ids)), len(self.offsets) - 1)
        there = self.offsets[at] == offsets_of(entry_ids) if len(self.offsets) else at < 0
        # Where each part begins and ends, those of one kind one after the other.
        ends = np.concatenate([[0], self.ends.reshape(-1)])
        spans = [
            (ends[part * len(self.offsets) + at[there]].tolist(), self.ends[part, at[there]].tolist())
            for part in (1, 2, 3)
        ]
        data = self.data
        try:
            for entry_id, *bounds in zip(entry_ids[there].tolist(), *(zip(*span) for span in spans)):
                event, text, changes = (data[first:last] for first, last in bounds)
                said = (words for _, words in changes_from(changes))
                yield entry_id, " ".join((event.decode(), text.decode(), *said))
        except (ValueError, TypeError) as error:
            raise _damaged(DETAILS, chunk) from error

    def row(self, index: int, objects: tuple[int, ...], evidence: tuple[int, ...]) -> EpisodeRow:
        """Returns the entry at an index as a value."""
        action, event, text, changes, source = (self.part(kind, index) for kind in range(_TEXTS))
        try:
            said = (event.decode(), text.decode(), changes_from(changes), source.decode())
        except (ValueError, TypeError) as error:
            raise StoreError("an episodic entry is damaged; restore the memory from a copy") from error
        return EpisodeRow(objects, action, *said, evidence)


def pack_texts(offsets: NDArray[np.uint16], rows: Sequence[EpisodeRow]) -> bytes:
    """Returns action, event, text, changes and source of some entries as bytes."""
    parts = [
        [row.action for row in rows],
        [row.event.encode() for row in rows],
        [row.text.encode() for row in rows],
        [changes_to(row.changes) for row in rows],
        [row.source.encode() for row in rows],
    ]
    lengths = np.array([[len(part) for part in kind] for kind in parts], "<u4")
    head = _DETAILS.pack(_FORMAT, len(rows))
    data = b"".join(part for kind in parts for part in kind)
    return head + _squeeze(offsets.astype("<u2").tobytes() + lengths.tobytes() + data)


def unpack_texts(chunk: int, payload: bytes) -> Texts:
    """Reads what `pack_texts` made; `StoreError` where it is damaged."""
    try:
        form, count = _DETAILS.unpack_from(payload)
        take = _Taker(payload, _DETAILS.size, form)
        offsets, lengths = take("<u2", count), take("<u4", _TEXTS * count)
        ends = np.cumsum(lengths.astype(np.int64)).reshape(_TEXTS, count)
        data = take("u1", int(ends[-1, -1]) if count else 0).tobytes()
        take.end()
    except (zstandard.ZstdError, struct.error, ValueError) as error:
        raise _damaged(DETAILS, chunk) from error
    return Texts(offsets, ends, data)


class _Taker:
    """Takes one array after another from compressed bytes."""

    def __init__(self, payload: bytes, first: int, form: int) -> None:
        if form != _FORMAT:
            raise ValueError("of another release")
        self._data = zstandard.ZstdDecompressor().decompress(memoryview(payload)[first:])
        self._at = 0

    def __call__(self, kind: str, count: int) -> Array:
        found = np.frombuffer(self._data, kind, count, self._at)
        self._at += found.nbytes
        return found

    def end(self) -> None:
        """Raises `ValueError` where something is left."""
        if self._at != len(self._data):
            raise ValueError("too long")


def _squeeze(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=_LEVEL).compress(data)


def _damaged(table: str, chunk: int) -> StoreError:
    return StoreError(f"{table} {[chunk]} is damaged; restore the memory from a copy")

"""The varying parts of entries: as values, or as the file's bytes until somebody looks at them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import StoreError
from embodied_mem.memory.episodes.row import HEAD, PARTS, EpisodeRow, pack_row, unpack_details

SLICE = 1 << 16
"""Rows that are read at a time."""
_VECTOR, _EVIDENCE = 6, 7
"""The embedding and the ids of the evidence among the parts of a payload."""


class Columns(NamedTuple):
    """What payloads of entries hold in columns.

    Attributes:
        heads: (N,) of `HEAD`.
        vectors: (N, D) int8, zero where an entry has none; D = 0 where none has one.
        summaries: rows of entries that rest on others.
    """

    heads: NDArray[Any]
    vectors: NDArray[np.int8]
    summaries: list[int]


class Details:
    """One `EpisodeRow` per entry, in the order of the entries."""

    def __init__(self) -> None:
        self._rows: list[EpisodeRow | bytes] = []

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> EpisodeRow:
        held = self._rows[row]
        return unpack_details(held) if isinstance(held, bytes) else held

    def __iter__(self) -> Iterator[EpisodeRow]:
        return (self[row] for row in range(len(self._rows)))

    def edit(self, row: int) -> EpisodeRow:
        """Returns the value of a row to be changed in place; who has taken it before keeps the old one."""
        self._rows[row] = value = replace(self[row])
        return value

    def append(self, row: EpisodeRow) -> None:
        """Adds a row."""
        self._rows.append(row)

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Removes all rows but those where the (N,) mask is True."""
        self._rows = list(itertools.compress(self._rows, rows.tolist()))

    def load(self, payloads: list[bytes]) -> None:
        """Adds rows as the bytes of whole entries, which `columns_of` has looked at."""
        self._rows += payloads

    def nbytes(self, row: int) -> int:
        """Bytes of a row as it is stored, without its head and its vector."""
        return self[row].nbytes

    def take(self, rows: list[int]) -> list[EpisodeRow | bytes]:
        """Returns rows as they are held, for `pack`."""
        return [self._rows[row] for row in rows]


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
    size = max((vectors.shape[1] for _, vectors, _ in parts), default=0)
    if any(vectors.shape[1] not in (0, size) for _, vectors, _ in parts):
        raise StoreError("the embeddings of the episodic entries have different sizes")
    heads = np.concatenate([heads for heads, _, _ in parts]) if parts else np.empty(0, HEAD)
    vectors = np.zeros((len(ids), size), np.int8)
    summaries: list[int] = []
    for number, (_, some, rest_on) in enumerate(parts):
        summaries += [number * SLICE + row for row in rest_on]
        if some.shape[1]:
            vectors[number * SLICE : number * SLICE + len(some)] = some
    return Columns(heads, vectors, summaries)


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
    return Columns(heads, vectors, np.flatnonzero(lengths[:, _EVIDENCE]).tolist())


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

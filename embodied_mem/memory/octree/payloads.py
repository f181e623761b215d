"""Blocks as bytes for the store: kernels without the interpreter's lock, so that no loop waits for them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.errors import StoreError
from embodied_mem.memory.octree.blocks import NEVER
from embodied_mem.memory.octree.contents import RECORD_TYPES, Contents
from embodied_mem.memory.octree.octants import UNKNOWN
from embodied_mem.memory.octree.records import count_records

FORMAT = 1
"""Of the payload of a block."""
_HEAD = struct.Struct("<BqH")
_FIXED = _HEAD.size + 512 + 64
_RECORD_BYTES = 15
_WIDTHS = (2, 1, 8, 4)
_CRC_BYTES = 4
_DAMAGED, _FOREIGN = 1, 2
_UNKNOWN_BLOCK = _HEAD.pack(FORMAT, NEVER, 0) + struct.pack("<512b", *[UNKNOWN] * 512) + bytes(64)
_UNKNOWN_BLOCK += struct.pack("<I", zlib.crc32(_UNKNOWN_BLOCK))

Array = NDArray[Any]


def _crc_table() -> NDArray[np.uint32]:
    """Returns the table of CRC-32 (polynomial 0xEDB88320), as zlib's."""
    words = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        words = np.where(words & 1, (words >> 1) ^ np.uint32(0xEDB88320), words >> 1).astype(np.uint32)
    return words


_TABLE = _crc_table()


@njit(cache=True, nogil=True)
def _crc(data: Array, first: int, last: int, table: Array) -> int:
    crc = np.uint32(0xFFFFFFFF)
    for i in range(first, last):
        crc = table[(crc ^ np.uint32(data[i])) & np.uint32(255)] ^ (crc >> np.uint32(8))
    return np.uint32(crc ^ np.uint32(0xFFFFFFFF))


@njit(cache=True, nogil=True)
def _lay(
    heads: Array, log_odds: Array, noted: Array, records: Any, counts: Array, ends: Array, table: Array,
    out: Array,
) -> None:  # fmt: skip
    """Writes all payloads one after another into `out`; `ends` are where they end."""
    labels, weights, stamps, references = records
    first = 0
    for i in range(len(counts)):
        start = ends[i - 1] if i else 0
        at = start
        for part, row in ((heads, i), (log_odds, i), (noted, i)):
            for k in range(part.shape[1]):
                out[at] = part[row, k]
                at += 1
        for column in (labels, weights, stamps, references):
            for r in range(first, first + counts[i]):
                for k in range(column.shape[1]):
                    out[at] = column[r, k]
                    at += 1
        first += counts[i]
        crc = _crc(out, start, at, table)
        for k in range(4):
            out[at + k] = np.uint8((crc >> np.uint32(8 * k)) & np.uint32(255))


@njit(cache=True, nogil=True)
def _take(
    data: Array, ends: Array, table: Array, heads: Array, log_odds: Array, noted: Array, ats: Array,
    records: Any,
) -> tuple[int, int]:  # fmt: skip
    """Reads payloads back; returns (what is wrong, in which payload)."""
    labels, weights, stamps, references = records
    first = 0
    for i in range(len(ends)):
        start, end = (ends[i - 1] if i else 0), ends[i] - 4
        crc = np.uint32(0)
        for k in range(4):
            crc |= np.uint32(data[end + k]) << np.uint32(8 * k)
        if _crc(data, start, end, table) != crc:
            return 1, i
        at = start
        for part in (heads, log_odds, noted):
            for k in range(part.shape[1]):
                part[i, k] = data[at]
                at += 1
        if heads[i, 0] != 1:
            return 2, i
        count = np.int64(heads[i, 9]) + 256 * np.int64(heads[i, 10])
        if end - at != 15 * count:
            return 2, i
        for column in (labels, weights, stamps, references):
            for r in range(first, first + count):
                for k in range(column.shape[1]):
                    column[r, k] = data[at]
                    at += 1
        first += count
        ats[i] = count
    return 0, 0


def _bytes(array: NDArray[Any], kind: str, width: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array, kind).view(np.uint8).reshape(-1, width)


def pack_blocks(contents: Contents) -> list[tuple[int, bytes]]:
    """Returns (key, payload) of each block; b"" of one in which nothing is known.

    A payload is little-endian: version u8, stamp i64, number of records u16, 512 log-odds
    steps i8, noted mask 8 x u64, the records' labels u16, weights u8, stamps i64, references
    i32, and the CRC-32 of all that.
    """
    counts = count_records(contents.noted)
    ends = np.cumsum(_FIXED + _RECORD_BYTES * counts + _CRC_BYTES)
    heads = np.zeros(len(counts), np.dtype([("version", "u1"), ("stamp", "<i8"), ("count", "<u2")]))
    heads["version"], heads["stamp"], heads["count"] = FORMAT, contents.stamps, counts
    out = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    _lay(
        heads.view(np.uint8).reshape(-1, _HEAD.size),
        _bytes(contents.log_odds, "<i1", 512),
        _bytes(contents.noted, "<u8", 64),
        tuple(_bytes(np.asarray(a), k, w) for a, k, w in zip(contents[4:], RECORD_TYPES, _WIDTHS)),
        counts,
        ends,
        _TABLE,
        out,
    )
    data, starts = out.tobytes(), np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    known = (contents.log_odds != UNKNOWN).any(axis=1)
    return [
        (key, data[a:b] if some else b"")
        for key, a, b, some in zip(contents.keys.tolist(), starts.tolist(), ends.tolist(), known.tolist())
    ]


def unpack_blocks(rows: Iterable[tuple[int, bytes]]) -> Contents:
    """Reads what `pack_blocks` made; an empty payload is a block in which nothing is known.

    Raises:
        StoreError: a payload is damaged or of another version.
    """
    kept = [(key, payload or _UNKNOWN_BLOCK) for key, payload in rows]
    keys = [key for key, _ in kept]
    sizes = np.array([len(payload) for _, payload in kept], np.int64)
    short = np.flatnonzero(sizes < _FIXED + _CRC_BYTES)
    if len(short):
        raise StoreError(f"octree block {keys[short[0]]} is damaged; restore the memory from a copy")
    data = np.frombuffer(b"".join(payload for _, payload in kept), np.uint8)
    total = int(((sizes - _FIXED - _CRC_BYTES) // _RECORD_BYTES).sum())
    heads = np.empty((len(kept), _HEAD.size), np.uint8)
    log_odds, noted = np.empty((len(kept), 512), np.uint8), np.empty((len(kept), 64), np.uint8)
    records: tuple[Any, ...] = tuple(np.empty((total, width), np.uint8) for width in _WIDTHS)
    counts = np.empty(len(kept), np.int64)
    wrong, at = _take(data, np.cumsum(sizes), _TABLE, heads, log_odds, noted, counts, records)
    if wrong == _DAMAGED:
        raise StoreError(f"octree block {keys[at]} is damaged; restore the memory from a copy")
    if wrong == _FOREIGN:
        raise StoreError(f"octree block {keys[at]} has format {heads[at, 0]}; this release reads {FORMAT}")
    masks = np.ascontiguousarray(noted.view("<u8"), np.uint64)
    unequal = np.flatnonzero(count_records(masks) != counts)
    if len(unequal):
        raise StoreError(
            f"octree block {keys[unequal[0]]} contradicts itself; restore the memory from a copy"
        )
    return Contents(
        np.array(keys, np.int64),
        log_odds.view(np.int8),
        masks,
        np.ascontiguousarray(heads[:, 1:9]).view("<i8").ravel().astype(np.int64),
        *(
            a.view(kind).ravel().astype(np.dtype(kind).newbyteorder("="))
            for a, kind in zip(records, RECORD_TYPES)
        ),
    )


def newest(parts: Sequence[Contents]) -> Contents:
    """Joins copies of blocks that were taken one after another: of each block the last one.

    Args:
        parts: in the order in which they were taken.

    Returns:
        contents sorted by key.
    """
    joined = Contents(*(np.concatenate(columns) for columns in zip(*parts)))
    count = len(joined.keys)
    keys, last = np.unique(joined.keys[::-1], return_index=True)
    rows = count - 1 - last
    counts = count_records(joined.noted)
    starts, sizes = np.cumsum(counts) - counts, counts[rows]
    within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    slots = np.repeat(starts[rows], sizes) + within
    return Contents(
        keys,
        joined.log_odds[rows],
        joined.noted[rows],
        joined.stamps[rows],
        joined.labels[slots],
        joined.weights[slots],
        joined.record_stamps[slots],
        joined.references[slots],
    )

"""Octree bytes: the payload of one block for the store, and the file of a whole octree."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

from embodied_mem.errors import StoreError
from embodied_mem.memory.octree import masks, merge
from embodied_mem.memory.octree.blocks import BlockStore

MAGIC = b"EMOCTREE"
FORMAT = 1
_HEAD = struct.Struct("<BqH")
_RECORD_TYPES = ("<u2", "<u1", "<i8", "<i4")
_RECORD_BYTES = 15


class Contents(NamedTuple):
    """What is worth keeping of M blocks, in one order of blocks and of voxels within them.

    Attributes:
        keys: (M,) int64.
        log_odds: (M, 512) int8.
        noted: (M, 8) uint64.
        stamps: (M,) int64.
        labels, weights, record_stamps, references: (R,) records of the noted voxels.
    """

    keys: NDArray[np.int64]
    log_odds: NDArray[np.int8]
    noted: NDArray[np.uint64]
    stamps: NDArray[np.int64]
    labels: NDArray[np.uint16]
    weights: NDArray[np.uint8]
    record_stamps: NDArray[np.int64]
    references: NDArray[np.int32]


_CONTENT_TYPES = ("<i8", "<i1", "<u8", "<i8", *_RECORD_TYPES)
_STATE_TYPES = ("<i8", "<u8", "<u8")


def contents_of(store: BlockStore, rows: NDArray[np.int64]) -> Contents:
    """Gathers the contents of rows, in their order."""
    blocks, records = store.blocks, store.records
    _, slots = merge.list_records(rows, blocks)
    return Contents(
        store.keys[rows],
        blocks.log_odds[rows],
        blocks.noted[rows],
        blocks.stamps[rows],
        records.labels[slots],
        records.weights[slots],
        records.stamps[slots],
        records.references[slots],
    )


def put_contents(store: BlockStore, contents: Contents, version: int) -> None:
    """Replaces blocks by contents, or adds them."""
    rows = store.insert(contents.keys)
    blocks = store.blocks
    blocks.log_odds[rows] = contents.log_odds
    blocks.stamps[rows] = contents.stamps
    blocks.versions[rows] = version
    need = merge.restore_masks(rows, blocks, contents.noted)
    seen = np.zeros_like(contents.noted)
    store.lay_records(rows, seen, contents.noted, np.empty((0, 512), np.int32), need, 0)
    _, slots = merge.list_records(rows, blocks)
    store.records.labels[slots] = contents.labels
    store.records.weights[slots] = contents.weights
    store.records.stamps[slots] = contents.record_stamps
    store.records.references[slots] = contents.references


def digest_of(contents: Contents, header: bytes) -> bytes:
    """Returns the SHA-256 of a header and contents that are sorted by key."""
    sha = hashlib.sha256(header)
    for array, kind in zip(contents, _CONTENT_TYPES):
        sha.update(np.ascontiguousarray(array, dtype=kind).tobytes())
    return sha.digest()


def pack_blocks(contents: Contents) -> list[tuple[int, bytes]]:
    """Returns (key, payload) of each block.

    A payload is little-endian: version u8, stamp i64, number of records u16, 512 log-odds
    steps i8, noted mask 8 x u64, the records' labels u16, weights u8, stamps i64, references
    i32, and the CRC-32 of all that.
    """
    counts = np.array([masks.count_voxels(m[None]) for m in contents.noted], np.int64)
    ends = np.cumsum(counts)
    rows: list[tuple[int, bytes]] = []
    records = [np.ascontiguousarray(a, kind) for a, kind in zip(contents[4:], _RECORD_TYPES)]
    for i, key in enumerate(contents.keys.tolist()):
        part = slice(int(ends[i] - counts[i]), int(ends[i]))
        body = b"".join(
            (
                _HEAD.pack(FORMAT, int(contents.stamps[i]), int(counts[i])),
                contents.log_odds[i].tobytes(),
                contents.noted[i].astype("<u8").tobytes(),
                *(a[part].tobytes() for a in records),
            )
        )
        rows.append((key, body + struct.pack("<I", zlib.crc32(body))))
    return rows


def unpack_blocks(rows: Iterable[tuple[int, bytes]]) -> Contents:
    """Reads what `pack_blocks` made.

    Raises:
        StoreError: a payload is damaged or of another version.
    """
    columns: list[list[Any]] = [[] for _ in _CONTENT_TYPES]
    for key, payload in rows:
        body, fixed = payload[:-4], _HEAD.size + 512 + 64
        intact = len(payload) >= fixed + 4 and zlib.crc32(body) == struct.unpack("<I", payload[-4:])[0]
        if not intact:
            raise StoreError(f"octree block {key} is damaged; restore the memory from a copy")
        version, stamp, count = _HEAD.unpack_from(body)
        if version != FORMAT or len(body) != fixed + _RECORD_BYTES * count:
            raise StoreError(f"octree block {key} has format {version}; this release reads {FORMAT}")
        at = _HEAD.size
        parts: list[Any] = [np.array([key])]
        parts.append(np.frombuffer(body, "<i1", 512, at))
        parts.append(np.frombuffer(body, "<u8", 8, at + 512))
        parts.append(np.array([stamp]))
        at = fixed
        for kind in _RECORD_TYPES:
            parts.append(np.frombuffer(body, kind, count, at))
            at += np.dtype(kind).itemsize * count
        if int(masks.count_voxels(parts[2].astype(np.uint64)[None])) != count:
            raise StoreError(f"octree block {key} contradicts itself; restore the memory from a copy")
        for column, part in zip(columns, parts):
            column.append(part)
    return _assemble([np.concatenate(c) if c else np.empty(0) for c in columns])


def _assemble(columns: list[NDArray[Any]]) -> Contents:
    native = [np.ascontiguousarray(a, np.dtype(k).newbyteorder("=")) for a, k in zip(columns, _CONTENT_TYPES)]
    native[1] = native[1].reshape(-1, 512)
    native[2] = native[2].reshape(-1, 8)
    return Contents(*native)


def _states_of(contents: Contents) -> list[NDArray[Any]]:
    """Returns key differences, occupied masks and known masks: all that three states need."""
    steps = contents.log_odds
    bits = [np.packbits(b, axis=1, bitorder="little") for b in (steps >= 0, steps != merge.UNKNOWN)]
    return [np.diff(contents.keys, prepend=np.int64(0)), *(b.view("<u8") for b in bits)]


def _from_states(columns: list[NDArray[Any]], lowest: int, highest: int) -> Contents:
    """Builds contents of three states: occupied and free voxels are as certain as they can be."""
    differences, occupied, known = columns
    a, b = (
        np.unpackbits(m.view(np.uint8).reshape(-1, 64), axis=1, bitorder="little").astype(bool)
        for m in (occupied, known)
    )
    steps = np.where(a, highest, np.where(b, lowest, merge.UNKNOWN)).astype(np.int8)
    records = int(np.count_nonzero(a))
    return Contents(
        np.cumsum(differences).astype(np.int64),
        steps,
        occupied.astype(np.uint64).reshape(-1, 8),
        np.zeros(len(differences), np.int64),
        np.zeros(records, np.uint16),
        np.zeros(records, np.uint8),
        np.zeros(records, np.int64),
        np.full(records, -1, np.int32),
    )


def write_file(path: Path, settings: dict[str, Any], contents: Contents, three_state: bool = False) -> None:
    """Writes an octree file: magic, header length, JSON header, zstd body, SHA-256 of all.

    The file appears whole or not at all.

    Raises:
        StoreError: the file cannot be written.
    """
    settings = {**settings, "three_state": three_state}
    columns = _states_of(contents) if three_state else list(contents)
    kinds = _STATE_TYPES if three_state else _CONTENT_TYPES
    arrays = [np.ascontiguousarray(a, k) for a, k in zip(columns, kinds)]
    header = json.dumps({**settings, "format": FORMAT, "sizes": [a.size for a in arrays]}).encode()
    body = zstandard.ZstdCompressor(level=19 if three_state else 3).compress(
        b"".join(a.tobytes() for a in arrays)
    )
    data = b"".join((MAGIC, struct.pack("<I", len(header)), header, body))
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            file.write(data + hashlib.sha256(data).digest())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write the octree {path}: {error.strerror}") from error


def read_file(path: Path) -> tuple[dict[str, Any], Contents]:
    """Reads what `write_file` wrote.

    Raises:
        StoreError: the file is missing, foreign, damaged or of a newer format.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"cannot read the octree {path}: {error.strerror}") from error
    if not data.startswith(MAGIC):
        raise StoreError(f"{path} is not an octree file")
    if len(data) < 44 or hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise StoreError(f"{path} is cut short or damaged; restore it from a copy")
    (length,) = struct.unpack_from("<I", data, 8)
    settings = json.loads(data[12 : 12 + length])
    if settings["format"] != FORMAT:
        raise StoreError(f"{path} has octree format {settings['format']}; this release reads {FORMAT}")
    body = zstandard.ZstdDecompressor().decompress(data[12 + length : -32])
    columns, at = [], 0
    for size, kind in zip(settings["sizes"], _STATE_TYPES if settings["three_state"] else _CONTENT_TYPES):
        columns.append(np.frombuffer(body, kind, size, at))
        at += np.dtype(kind).itemsize * size
    if settings["three_state"]:
        return settings, _from_states(columns, *settings["clamp_steps"])
    return settings, _assemble(columns)

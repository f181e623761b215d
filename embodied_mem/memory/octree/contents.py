"""What is worth keeping of blocks, as columns: taken from the map, put back into it, digested."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.blocks import BlockStore
from embodied_mem.memory.octree.octants import LogOdds, load_blocks
from embodied_mem.memory.octree.records import count_records, list_records

Array = NDArray[Any]

FEW = 64
"""Of so many blocks the contents are gathered without giving up the interpreter's lock."""
RECORD_TYPES = ("<u2", "<u1", "<i8", "<i4")
"""Of the columns of a record: label, weight, stamp, reference."""
CONTENT_TYPES = ("<i8", "<i1", "<u8", "<i8", *RECORD_TYPES)
"""Of the columns of `Contents`."""


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


@njit(cache=True)
def _gather(
    rows: Array, keys: Array, stamps: Array, log_odds: LogOdds, noted: Array, starts: Array
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Gathers keys, log-odds, noted masks and stamps of blocks, their records, and a block's stamp for each.

    In one call that keeps the interpreter's lock. Where another thread works, such as the one that writes
    the file, each time that the lock is given up may cost a switch of threads, which takes longer than
    to copy a few blocks; numpy gives it up to take rows of a table, however few.
    """
    counts, slots = list_records(rows, noted, starts)
    masks, repeated = np.empty((rows.shape[0], noted.shape[1]), noted.dtype), np.empty(len(slots), np.int64)
    n = 0
    for i in range(rows.shape[0]):
        masks[i] = noted[rows[i]]
        repeated[n : n + counts[i]] = stamps[rows[i]]
        n += counts[i]
    return keys[rows], load_blocks(rows, log_odds), masks, stamps[rows], slots, repeated


def by_key(keys: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns rows in the order of their keys; of few, without giving up the interpreter's lock."""
    own = keys[rows]
    if len(rows) <= FEW:
        return rows[sorted(range(len(rows)), key=own.tolist().__getitem__)]
    return rows[np.argsort(own, kind="stable")]


def contents_of(store: BlockStore, rows: NDArray[np.int64]) -> Contents:
    """Gathers the contents of rows, in their order."""
    labels, weights, stamps, references, starts = store.records.columns
    has, noted = store.records.has, store.masks.noted
    if len(rows) <= FEW:
        some = _gather(rows, store.keys, store.stamps, store.log_odds, noted, starts)
        keys, log_odds, masks, blocks, slots, repeated = some
    else:
        counts, slots = store.list_records(rows)
        keys, blocks = store.keys[rows], store.stamps[rows]
        log_odds, masks = load_blocks(rows, store.log_odds), noted[rows]
        repeated = np.repeat(blocks, counts)
    return Contents(
        keys,
        log_odds,
        masks,
        blocks,
        labels[slots] if has("labels") else np.zeros(len(slots), np.uint16),
        weights[slots] if has("labels") else np.zeros(len(slots), np.uint8),
        store.records.stamps[stamps[slots]] if has("stamps") else repeated,
        references[slots] if has("references") else np.full(len(slots), -1, np.int32),
    )


def put_contents(store: BlockStore, contents: Contents, version: int) -> None:
    """Replaces blocks by contents, or adds them; their keys must be distinct."""
    occupied = np.packbits(contents.log_odds >= 0, axis=1, bitorder="little").view("<u8")
    counts = count_records(contents.noted)
    if contents.labels.any() or contents.weights.any() or (contents.noted != occupied).any():
        store.keep_labels()
    if (contents.record_stamps != np.repeat(contents.stamps, counts)).any():
        store.keep_stamps()
    if (contents.references >= 0).any():
        store.keep_references()
    rows = store.replace(contents.keys, contents.log_odds, contents.noted, contents.stamps, version)
    records = store.records
    _, slots = store.list_records(rows)
    if records.has("labels"):
        records.columns.labels[slots] = contents.labels
        records.columns.weights[slots] = contents.weights
    if records.has("stamps"):
        records.columns.stamps[slots] = records.stamps.numbers(contents.record_stamps)
    if records.has("references"):
        records.columns.references[slots] = contents.references


def digest_of(contents: Contents, header: bytes) -> bytes:
    """Returns the SHA-256 of a header and contents that are sorted by key."""
    sha = hashlib.sha256(header)
    for array, kind in zip(contents, CONTENT_TYPES):
        sha.update(np.ascontiguousarray(array, dtype=kind).tobytes())
    return sha.digest()

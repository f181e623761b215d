"""What is worth keeping of blocks, as columns: taken from the map, put back into it, digested."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.octree.blocks import BlockStore
from embodied_mem.memory.octree.octants import load_blocks
from embodied_mem.memory.octree.records import count_records

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


def contents_of(store: BlockStore, rows: NDArray[np.int64]) -> Contents:
    """Gathers the contents of rows, in their order."""
    counts, slots = store.list_records(rows)
    labels, weights, stamps, references, _ = store.records.columns
    has, blocks = store.records.has, store.stamps[rows]
    return Contents(
        store.keys[rows],
        load_blocks(rows, store.log_odds),
        store.masks.noted[rows],
        blocks,
        labels[slots] if has("labels") else np.zeros(len(slots), np.uint16),
        weights[slots] if has("labels") else np.zeros(len(slots), np.uint8),
        store.records.stamps[stamps[slots]] if has("stamps") else np.repeat(blocks, counts),
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

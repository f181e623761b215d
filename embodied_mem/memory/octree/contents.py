"""What is worth keeping of blocks, as columns: taken from the map, put back into it, digested."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.octree import merge
from embodied_mem.memory.octree.blocks import BlockStore

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
    for array, kind in zip(contents, CONTENT_TYPES):
        sha.update(np.ascontiguousarray(array, dtype=kind).tobytes())
    return sha.digest()

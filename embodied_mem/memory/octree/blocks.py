"""The arrays of the octree: blocks, their hash, their records; they grow, and forget nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.octree import kernels, merge
from embodied_mem.memory.octree.directory import WORTH, Directory

NEVER = np.iinfo(np.int64).min
"""The stamp of a block that was never observed."""

WASTE = 1.25
"""The pool of records is compacted, rather than grown, when it is so many times what the blocks hold."""


def block_coords(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Unpacks (M,) block keys to (M, 3) int64 block coordinates."""
    mask = (1 << 21) - 1
    parts = (keys >> 42, (keys >> 21) & mask, keys & mask)
    return np.stack(parts, axis=-1) - kernels.BIAS


def block_keys(coords: NDArray[np.int64]) -> NDArray[np.int64]:
    """Packs (M, 3) block coordinates to (M,) int64 keys."""
    biased = coords + kernels.BIAS
    return (biased[..., 0] << 42) | (biased[..., 1] << 21) | biased[..., 2]


class BlockStore:
    """8^3-voxel blocks by row, found through a hash of their packed coordinates.

    Attributes:
        count: rows in use.
        tail: records ever allotted.
        table: (S, 2) int64 open-addressing hash, load <= 0.5.
        keys: (capacity,) int64 packed key of each row.
        blocks: the arrays of the blocks, by row.
        records: the pool of records.
    """

    def __init__(self) -> None:
        self.count = 0
        self.tail = 0
        self.table = np.full((256, 2), kernels.EMPTY, np.int64)
        self.keys = np.empty(64, np.int64)
        self.blocks = _empty_blocks(64)
        self.records = _empty_records(256)
        self._directory = Directory()

    def directory(self, points: int) -> Directory | None:
        """Returns the directory of the blocks; None where it does not help a batch of so many points."""
        if self._directory.count != self.count:
            if points < WORTH * self.count:
                return None
            self._directory.make(self.coords(np.arange(self.count)))
        return self._directory if self._directory.grid.size else None

    def find(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns (M,) rows of packed keys, -1 where absent."""
        return kernels.find_rows(self.table, keys)

    def insert(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns (M,) rows of packed keys, made where absent."""
        before = self.count
        wanted = before + len(keys)
        if wanted * 2 > len(self.table):
            slots = 1 << int(wanted * 2 - 1).bit_length()
            self.table = kernels.rehash(self.keys[:before], slots)
        rows, self.count = kernels.insert_rows(self.table, keys, before)
        if self.count > len(self.keys):
            self._grow_blocks(max(self.count, len(self.keys) * 3 // 2))
        self.keys[rows] = keys
        return rows

    def _grow_blocks(self, capacity: int) -> None:
        old, size = self.blocks, len(self.keys)
        self.keys = np.concatenate([self.keys, np.empty(capacity - size, np.int64)])
        more = _empty_blocks(capacity - size)
        self.blocks = merge.Blocks(*(np.concatenate(pair) for pair in zip(old, more)))

    def reserve_records(self, need: int) -> None:
        """Makes room for `need` more records at the tail of the pool; closes its gaps before it grows."""
        size = len(self.records.labels)
        if self.tail + need <= size:
            return
        sizes = self.blocks.sizes[: self.count].astype(np.int64)
        if self.tail > WASTE * sizes.sum():
            self._compact_records(sizes)
            if self.tail + need <= size:
                return
        more = _empty_records(max(self.tail + need - size, size // 4))
        old = self.records
        grown = merge.Records(*(np.concatenate(pair) for pair in zip(old, more)))
        self.records = grown._replace(heads=old.heads)

    def _compact_records(self, sizes: NDArray[np.int64]) -> None:
        """Moves the blocks' segments together, each as large as it is."""
        starts = np.cumsum(sizes) - sizes
        self.tail = int(sizes.sum())
        within = np.arange(self.tail) - np.repeat(starts, sizes)
        slots = np.repeat(self.blocks.starts[: self.count], sizes) + within
        for column in self.records[:-1]:
            column[: self.tail] = column[slots]
        self.records.heads[:] = -1
        self.blocks.starts[: self.count] = starts

    def lay_records(self, rows: Any, seen: Any, noted: Any, names: Any, need: int, stamp: int) -> None:
        """Brings the records of blocks in line with their new noted masks (`update_records`)."""
        self.reserve_records(need)
        self.tail = merge.update_records(
            rows, seen, noted, names, self.blocks, self.records, self.tail, stamp
        )

    def coords(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns (M, 3) int64 block coordinates of rows."""
        return block_coords(self.keys[rows])

    def known(self, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Returns (M, 8) uint64 masks of the known voxels of rows."""
        known: NDArray[np.uint64] = np.bitwise_or(self.blocks.occupied[rows], self.blocks.free[rows])
        return known

    def sorted_rows(self) -> NDArray[np.int64]:
        """Returns all rows in the order of their keys."""
        return np.argsort(self.keys[: self.count], kind="stable")

    @property
    def nbytes(self) -> int:
        """Bytes in use: rows, records, the hash and the directory; room kept for growth is not counted."""
        per_block = sum(a[:1].nbytes for a in self.blocks) + self.keys.itemsize
        per_record = sum(a.itemsize for a in self.records[:-1])
        fixed = self.table.nbytes + self._directory.grid.nbytes
        return int(self.count * per_block + self.tail * per_record + fixed)


def _empty_blocks(count: int) -> merge.Blocks:
    return merge.Blocks(
        log_odds=np.full((count, 512), merge.UNKNOWN, np.int8),
        occupied=np.zeros((count, 8), np.uint64),
        free=np.zeros((count, 8), np.uint64),
        noted=np.zeros((count, 8), np.uint64),
        starts=np.zeros(count, np.int64),
        sizes=np.zeros(count, np.int32),
        stamps=np.full(count, NEVER, np.int64),
        versions=np.zeros(count, np.int64),
    )


def _empty_records(count: int) -> merge.Records:
    return merge.Records(
        labels=np.zeros(count, np.uint16),
        weights=np.zeros(count, np.uint8),
        stamps=np.zeros(count, np.int64),
        references=np.full(count, -1, np.int32),
        heads=np.full(512 // merge.UNIT + 1, -1, np.int64),
    )

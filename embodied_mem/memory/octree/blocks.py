"""The arrays of the octree: blocks, their hash, their log-odds and records; they grow, and forget nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.octree import evidence, kernels, octants, records
from embodied_mem.memory.octree.directory import WORTH, Directory
from embodied_mem.memory.octree.scan import ByteMap
from embodied_mem.memory.octree.segments import Segments, lengthen, roomy

NEVER = np.iinfo(np.int64).min
"""The stamp of a block that was never observed."""

ROWS, WORDS = 384, 4096
"""Room is made for at least so many more blocks, and words of log-odds: young maps grow with every scan."""

Spread = Callable[..., None]
"""Calls work(first, last) on parts of a range, on several threads if there are."""
Join = Callable[..., None]
"""Calls work(gates) on several threads if there are."""

_NO_INTAKE: tuple[Any, tuple[Any, ...]] = None, (None,)
_NO_NAMES, _NO_MASKS = np.empty((0, 512), np.int32), np.empty((0, 8), np.uint64)


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
        table: (S, 2) int64 open-addressing hash, load <= 0.5.
        keys: (capacity,) int64 packed key of each row.
        stamps: (capacity,) int64 [ns] when the block was last observed.
        versions: (capacity,) int64 version of the tree that last changed the block.
        log_odds: those of all blocks.
        masks: which voxels are occupied, free and noted.
        records: what noted voxels have of their own.
    """

    def __init__(self) -> None:
        self._used = np.zeros(1, np.int64)
        self.table = np.full((128, 2), kernels.EMPTY, np.int64)
        self.keys = np.empty(0, np.int64)
        self.stamps = np.empty(0, np.int64)
        self.versions = np.empty(0, np.int64)
        self.masks = octants.Masks(*(np.empty((0, 8), np.uint64) for _ in range(3)))
        self.records = records.Records(0)
        self._directory = Directory()
        self._segments = Segments(octants.UNIT, 0)
        self.log_odds = octants.LogOdds(
            np.empty(0, np.uint64), np.empty((0, 64), np.int8), self._segments.starts, self._segments.sizes,
            np.empty(64, np.uint64),
        )  # fmt: skip
        self._order = np.empty(0, np.int32)
        self._taken = _NO_INTAKE
        self._grow(64)

    @property
    def count(self) -> int:
        """How many rows are in use."""
        return int(self._used[0])

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
        before, rows = self.count, np.empty(len(keys), np.int64)
        if before + len(keys) >= len(self.table):
            self._rehash(before + int(np.count_nonzero(self.find(keys) < 0)))
        _, self._used[0] = kernels.insert_rows(self.table, keys, rows, before, len(self.table))
        if self.count > len(self.keys):
            self._grow(roomy(self.count, ROWS))
        self.keys[rows] = keys
        self._rehash(self.count)
        return rows

    def _rehash(self, count: int) -> None:
        """Makes the hash large enough for so many blocks."""
        if count * 2 > len(self.table):
            self._taken = _NO_INTAKE  # or what is replaced would stay
            slots = 1 << int(count * 2 - 1).bit_length()
            self.table = kernels.rehash(self.keys[: self.count], slots)

    def _grow(self, capacity: int) -> None:
        self._taken = _NO_INTAKE
        self.keys, self.versions = lengthen(self.keys, capacity, 0), lengthen(self.versions, capacity, 0)
        self.stamps = lengthen(self.stamps, capacity, NEVER)
        occupied, free, noted = self.masks
        shared = noted is occupied or not len(noted)
        occupied, free = lengthen(occupied, capacity, 0), lengthen(free, capacity, 0)
        self.masks = octants.Masks(occupied, free, occupied if shared else lengthen(noted, capacity, 0))
        self.records.grow(capacity)
        self._segments.grow(capacity)
        self.log_odds = self.log_odds._replace(
            uneven=lengthen(self.log_odds.uneven, capacity, 0),
            even=lengthen(self.log_odds.even, capacity, octants.UNKNOWN),
            starts=self._segments.starts,
            sizes=self._segments.sizes,
        )

    def _fit(self, rows: NDArray[np.int64], words: NDArray[np.uint64], wanted: NDArray[np.int64]) -> None:
        """Keeps the log-odds of those blocks whose segment did not fit."""
        segments, pool = self._segments, self.log_odds.words
        slots = segments.refit(rows, wanted, len(pool))
        if slots is not None:
            pool[: len(slots)] = pool[slots]
        if segments.tail > len(pool):
            self._taken = _NO_INTAKE
            grown = np.empty(roomy(segments.tail, WORDS), np.uint64)
            grown[: len(pool)] = pool
            self.log_odds = self.log_odds._replace(words=grown)
        octants.store_blocks(rows, words, wanted, self.log_odds)

    def keep_labels(self) -> None:
        """Makes room for labels: of free voxels too."""
        self.records.keep("labels", self.masks.noted[: self.count])
        if self.masks.noted is self.masks.occupied:
            self.masks = self.masks._replace(noted=self.masks.occupied.copy())

    def keep_references(self) -> None:
        """Makes room for references of voxels to objects."""
        self.records.keep("references", self.masks.noted[: self.count])

    def keep_stamps(self) -> None:
        """Makes room for stamps of voxels that are older than their block's."""
        if self.records.has("stamps"):
            return
        self.records.keep("stamps", self.masks.noted[: self.count])
        counts, slots = self.list_records(np.arange(self.count))
        numbers = self.records.stamps.numbers(np.repeat(self.stamps[: self.count], counts))
        self.records.columns.stamps[slots] = numbers

    def observe(
        self,
        keys: NDArray[np.int64],
        marks: NDArray[np.uint8],
        names: NDArray[np.int32],
        steps: NDArray[np.int64],
        stamp: int,
        version: int,
        spread: Spread,
        join: Join,
    ) -> tuple[int, int]:
        """Adds a scan's evidence to its blocks, made where they are absent.

        Args:
            keys: (M,) int64.
            marks: (M, 512) uint8; overwritten.
            names: (M, 512) int32 labels voted for, or (0, 512).
            steps: (4,) int64: hit, miss, lower and upper clamp.
            stamp: [ns] of the scan.
            version: that the blocks get.
            spread: calls work on the threads that there are.
            join: likewise; they share it among themselves.

        Returns:
            voxels that got a miss, voxels that got a hit.
        """
        rows = self.insert(keys)
        if not self.records.has("stamps") and records.some_older(rows, self.stamps, self.masks.noted, stamp):
            self.keep_stamps()  # from now on voxels may be older than their block
        seen = self._see(marks, spread) if len(names) or self.records.used else _NO_MASKS
        named, names = self._name(names, seen, spread)
        before = self.masks.noted[rows] if self.records.used else seen
        wanted = np.empty(len(rows), np.int64)
        counts: list[tuple[int, int]] = []

        def add(gates: NDArray[np.int64]) -> None:
            counts.append(evidence.add_marks(rows, marks, self.log_odds, self.masks, steps, wanted, gates))

        join(add, 250.0 * len(rows))
        self._fit(rows, marks.view(np.uint64), wanted)
        self._record(rows, before, seen, named, names, stamp, version)
        misses, hits = (sum(column) for column in zip(*counts))
        return misses, hits

    def intake(
        self, steps: NDArray[np.int64], stamp: int, labelled: bool, blocks: int, byte_map: ByteMap
    ) -> tuple[evidence.Intake, evidence.Notes]:
        """Returns where threads may add a scan's evidence as soon as they have it, for `complete`.

        Where the map is not ready for it, or there is one thread, the scan is not taken.

        Args:
            steps: (4,) int64: hit, miss, lower and upper clamp.
            stamp: [ns] of the scan.
            labelled: whether it has labels.
            blocks: how many it may touch, or it is not taken.
            byte_map: whose threads these are; it keeps the notes.
        """
        # One thread has nobody to wake, and to hand over a map that grows costs more.
        if byte_map.threads == 1 or (labelled and not self.records.has("labels")):
            return evidence.no_intake()
        recorded, stamped = self.records.used, self.records.has("stamps")
        key = blocks, blocks if recorded else 0, byte_map.threads
        notes = byte_map.keep("notes", lambda: evidence.Notes.make(*key), *key)
        notes.facts[:] = 0, stamp, 0
        parts = (
            self.table, self.keys, self.stamps, self._used, self.log_odds, self.masks, steps, recorded,
            stamped, notes,
        )  # fmt: skip
        if not all(part is held for part, held in zip(parts, self._taken[1])):
            self._taken = evidence.make_intake(*parts), parts
        return self._taken[0], notes

    def complete(
        self,
        notes: evidence.Notes,
        marks: NDArray[np.uint8],
        names: NDArray[np.int32],
        version: int,
        spread: Spread,
    ) -> tuple[int, int]:
        """Keeps what was taken in of a scan; the other arguments and what is returned are as of `observe`."""
        part = slice(len(marks))
        rows, seen = notes.rows[part], notes.seen[part]
        self._fit(rows, marks.view(np.uint64), notes.wanted[part])
        named, names = self._name(names, seen, spread)
        self._record(rows, notes.before[part], seen, named, names, notes.stamp, version)
        misses, hits = map(sum, zip(*notes.counts.tolist()))
        return misses, hits

    def _see(self, marks: NDArray[np.uint8], spread: Spread) -> NDArray[np.uint64]:
        """Returns the masks of voxels observed."""
        seen = np.empty((len(marks), 8), np.uint64)
        spread(lambda i, j: evidence.see_voxels(marks[i:j], seen[i:j]), len(marks), 50.0)
        return seen

    def _name(
        self, names: NDArray[np.int32], seen: NDArray[np.uint64], spread: Spread
    ) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
        """Returns the masks of voxels labelled, and the labels: (0, 8) and (0, 512) where there is none."""
        if not len(names):
            return _NO_MASKS, _NO_NAMES
        named = np.empty_like(seen)
        spread(lambda i, j: records.name_voxels(seen[i:j], names[i:j], named[i:j]), len(seen), 50.0)
        if not named.any():
            return _NO_MASKS, _NO_NAMES
        self.keep_labels()
        return named, names

    def _record(
        self,
        rows: NDArray[np.int64],
        before: NDArray[np.uint64],
        seen: NDArray[np.uint64],
        named: NDArray[np.uint64],
        names: NDArray[np.int32],
        stamp: int,
        version: int,
    ) -> None:
        """Keeps records of the voxels that are noted now, and of when their blocks were observed."""
        if self.records.used:
            noted = self.masks.occupied[rows] | (before & ~seen)
            if len(named):
                noted |= named
            self._note(rows, before, noted)
            self.records.observe(rows, seen, noted, names, stamp)
        self.versions[rows] = version
        self.stamps[rows] = stamp

    def _note(self, rows: NDArray[np.int64], before: NDArray[np.uint64], noted: NDArray[np.uint64]) -> None:
        """Gives blocks other noted masks, and their voxels' records other places."""
        self.masks.noted[rows] = noted
        self.records.lay(rows, before, noted)

    def erase(self, rows: NDArray[np.int64], erased: NDArray[np.uint64], version: int) -> int:
        """Makes voxels unknown; returns how many.

        Args:
            rows: (M,) int64, each once.
            erased: (M, 8) uint64 masks of known voxels.
            version: that the blocks get.
        """
        before = self.masks.noted[rows]
        wanted, words = np.empty(len(rows), np.int64), np.empty((len(rows), 64), np.uint64)
        count = octants.erase_voxels(rows, erased, self.log_odds, self.masks, wanted, words)
        self._fit(rows, words, wanted)
        self._note(rows, before, before & ~erased)
        self.versions[rows] = version
        return int(count)

    def replace(
        self,
        keys: NDArray[np.int64],
        log_odds: NDArray[np.int8],
        noted: NDArray[np.uint64],
        stamps: NDArray[np.int64],
        version: int,
    ) -> NDArray[np.int64]:
        """Replaces blocks, or adds them; what records their voxels had they keep.

        Args:
            keys: (M,) int64, each once.
            log_odds: (M, 512) int8.
            noted: (M, 8) uint64; other voxels than the occupied ones only where there are labels.
            stamps: (M,) int64 [ns].
            version: that the blocks get.

        Returns:
            (M,) int64 rows.
        """
        rows = self.insert(keys)
        before = self.masks.noted[rows]
        values = np.ascontiguousarray(log_odds).view(np.uint64)
        wanted, words = np.empty(len(rows), np.int64), np.empty_like(values)
        octants.replace_blocks(rows, values, self.log_odds, self.masks, wanted, words)
        self._fit(rows, words, wanted)
        self._note(rows, before, noted)
        self.stamps[rows] = stamps
        self.versions[rows] = version
        return rows

    def slots(self, rows: NDArray[np.int64], local: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the (N,) int64 records of voxels, -1 where there is none."""
        return records.record_slots(rows, local, self.masks.noted, self.records.columns.starts)

    def slots_of(self, rows: NDArray[np.int64], chosen: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Returns the records of the voxels of blocks' (M, 8) uint64 masks, int64 in order, -1 none."""
        return records.list_slots(rows, chosen, self.masks.noted, self.records.columns.starts)

    def labels(self, slots: NDArray[np.int64]) -> NDArray[np.int32]:
        """Returns the labels of records, 0 where there is none."""
        if not self.records.has("labels"):
            return np.zeros(len(slots), np.int32)
        return np.where(slots >= 0, self.records.columns.labels[slots], 0).astype(np.int32)

    def stamps_of(self, slots: NDArray[np.int64], blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the stamps of records (N,), the blocks' (N,) int64 where there is none."""
        if not self.records.has("stamps"):
            return blocks
        return np.where(slots >= 0, self.records.stamps[self.records.columns.stamps[slots]], blocks)

    def references(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the references of records, -1 where there is none."""
        if not self.records.has("references"):
            return np.full(len(slots), -1, np.int64)
        return np.where(slots >= 0, self.records.columns.references[slots], -1).astype(np.int64)

    def list_records(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns how many noted voxels (M,) int64 blocks have, and their records, int64 in order."""
        return records.list_records(rows, self.masks.noted, self.records.columns.starts)

    def coords(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns (M, 3) int64 block coordinates of rows."""
        return block_coords(self.keys[rows])

    def known(self, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Returns (M, 8) uint64 masks of the known voxels of rows."""
        known: NDArray[np.uint64] = np.bitwise_or(self.masks.occupied[rows], self.masks.free[rows])
        return known

    def sorted_rows(self) -> NDArray[np.int64]:
        """Returns all rows in the order of their keys."""
        if len(self._order) != self.count:
            self._order = np.argsort(self.keys[: self.count], kind="stable").astype(np.int32)
        return self._order.astype(np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes allocated: blocks, log-odds, records, the hash and the directory, with room for growth."""
        blocks = (self.table, self.keys, self.stamps, self.versions, self._order, self._directory.grid)
        masks = self.masks[: 2 if self.masks.noted is self.masks.occupied else 3]
        log_odds = (self.log_odds.uneven, self.log_odds.even, self.log_odds.words)
        arrays = sum(a.nbytes for part in (blocks, masks, log_odds) for a in part)
        return arrays + self._segments.nbytes + self.records.nbytes

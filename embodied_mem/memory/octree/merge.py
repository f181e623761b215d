"""Numba kernels that merge a scan into the blocks, and keep the voxels' records.

A block holds the log-odds of all its voxels; label, weight, last-observed stamp
and object reference are kept only for *noted* voxels: those that are occupied,
and free ones whose last evidence carried a label. A block's records lie together
in one pool, in the order of the bits of its noted mask.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

UNKNOWN = -128
"""The log-odds step of a voxel that was never observed."""
HIT = 2
"""As in `kernels`."""
UNIT = 4
"""Records are allotted to blocks in multiples of this."""


class Blocks(NamedTuple):
    """The arrays of all blocks, one row each; word x of a mask has bit y * 8 + z.

    Attributes:
        log_odds: (B, 512) int8 steps of log-odds, UNKNOWN where never observed.
        occupied, free: (B, 8) uint64 masks; known is their union.
        noted: (B, 8) uint64 mask of voxels that have a record.
        starts: (B,) int64 first record of the block.
        sizes: (B,) int32 records allotted to the block.
        stamps: (B,) int64 [ns] when the block was last observed.
        versions: (B,) int64 version of the tree that last changed the block.
    """

    log_odds: Array
    occupied: Array
    free: Array
    noted: Array
    starts: Array
    sizes: Array
    stamps: Array
    versions: Array


class Records(NamedTuple):
    """The pool of records.

    Attributes:
        labels: (R,) uint16 label ids, 0 unknown.
        weights: (R,) uint8, by how many scans the label leads (at most 255).
        stamps: (R,) int64 [ns] when the voxel was last observed.
        references: (R,) int32 object ids, -1 none.
        heads: (512 / UNIT + 1,) int64 first free segment of each size, -1 none; a free
            segment names the next one in its first stamp.
    """

    labels: Array
    weights: Array
    stamps: Array
    references: Array
    heads: Array


@njit(cache=True, nogil=True)
def popcount(w: int) -> int:
    """Counts the bits of a uint64."""
    w = w - ((w >> np.uint64(1)) & np.uint64(0x5555555555555555))
    w = (w & np.uint64(0x3333333333333333)) + ((w >> np.uint64(2)) & np.uint64(0x3333333333333333))
    w = (w + (w >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((w * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(cache=True, nogil=True)
def _units(count: int) -> int:
    return (count + UNIT - 1) // UNIT


@njit(cache=True, nogil=True)
def _misfits(count: int, size: int) -> bool:
    """True where a block should be given another segment for `count` records."""
    return count > size or 2 * _units(count) * UNIT < size


@njit(cache=True, nogil=True)
def _pack_bits(word: int) -> int:
    """Gathers the highest bit of each byte of a uint64 into its lowest eight bits."""
    ones = (word >> np.uint64(7)) & np.uint64(0x0101010101010101)
    return (ones * np.uint64(0x0102040810204080)) >> np.uint64(56)


@njit(cache=True, nogil=True)
def _block_masks(values: Array, row: int, x: int) -> tuple[int, int]:
    """Derives word x of a block's occupied and free masks from its log-odds.

    Args:
        values: (B, 64) uint64, the log-odds eight at a time.
        row: the block.
        x: 0 to 7.
    """
    occupied, free = np.uint64(0), np.uint64(0)
    for y in range(8):
        word = values[row, x * 8 + y]
        low = word & np.uint64(0x7F7F7F7F7F7F7F7F)
        known = (low + np.uint64(0x7F7F7F7F7F7F7F7F)) & word  # negative, and not -128
        occupied |= _pack_bits(~word) << np.uint64(8 * y)
        free |= _pack_bits(known) << np.uint64(8 * y)
    return occupied, free


@njit(cache=True, nogil=True)
def _add_evidence(values: Array, row: int, marks: Array, i: int, table: Array) -> None:
    """Adds a scan's marks to the log-odds of a block, without a branch."""
    hit, miss = np.int16(table[0]), np.int16(table[1])
    lowest, highest = np.int16(table[2]), np.int16(table[3])
    for k in range(512):
        mark, before = marks[i, k], np.int16(values[row, k])
        after = np.int16(0) if before == np.int16(UNKNOWN) else before
        after = np.int16(after + (hit if mark & np.uint8(HIT) else miss))
        after = min(max(after, lowest), highest)
        values[row, k] = np.int8(after if mark else before)


@njit(cache=True, nogil=True)
def update_blocks(
    rows: Array, marks: Array, names: Array, blocks: Blocks, steps: Array, seen: Array, noted: Array
) -> tuple[int, int, int]:
    """Adds a scan's evidence to the log-odds and masks of its blocks.

    Args:
        rows: (M,) int64 row of each block of the scan.
        marks: (M, 512) uint8; HIT wins over FREE.
        names: (M, 512) int32 labels voted for, or (0, 512).
        blocks: the map, changed in place.
        steps: (4,) int64: hit, miss, lower and upper clamp, in steps of log-odds.
        seen: (M, 8) uint64, filled with the voxels observed.
        noted: (M, 8) uint64, filled with the noted mask that each block should get.

    Returns:
        voxels that got a miss, voxels that got a hit, records that may have to be allotted.
    """
    observed, hits, need = 0, 0, 0
    values = blocks.log_odds.view(np.uint64)
    words = marks.view(np.uint64)
    for i in range(rows.shape[0]):
        r = rows[i]
        _add_evidence(blocks.log_odds, r, marks, i, steps)
        total = 0
        for x in range(8):
            any_mark, ends = np.uint64(0), np.uint64(0)
            for y in range(8):
                word = words[i, x * 8 + y]
                any_mark |= _pack_bits((word << np.uint64(7)) | (word << np.uint64(6))) << np.uint64(8 * y)
                ends |= _pack_bits(word << np.uint64(6)) << np.uint64(8 * y)
            named = np.uint64(0)
            if names.shape[0] > 0:
                for j in range(64):
                    named |= np.uint64(names[i, x * 64 + j] > 0) << np.uint64(j)
            occupied, free = _block_masks(values, r, x)
            blocks.occupied[r, x] = occupied
            blocks.free[r, x] = free
            seen[i, x] = any_mark
            noted[i, x] = occupied | (named & any_mark) | (blocks.noted[r, x] & ~any_mark)
            observed += popcount(any_mark)
            hits += popcount(ends)
            total += popcount(noted[i, x])
        if _misfits(total, blocks.sizes[r]):
            need += _units(total) * UNIT
    return observed - hits, hits, need


@njit(cache=True, nogil=True)
def erase_blocks(rows: Array, erased: Array, blocks: Blocks, noted: Array) -> tuple[int, int]:
    """Makes voxels unknown again.

    Args:
        rows: (M,) int64.
        erased: (M, 8) uint64, the voxels to forget; known ones only.
        blocks: the map, changed in place.
        noted: (M, 8) uint64, filled with the noted mask that each block should get.

    Returns:
        voxels erased, records that may have to be allotted.
    """
    count, need = 0, 0
    for i in range(rows.shape[0]):
        r = rows[i]
        total = 0
        for x in range(8):
            gone = erased[i, x]
            for j in range(64):
                if (gone >> np.uint64(j)) & np.uint64(1):
                    blocks.log_odds[r, x * 64 + j] = UNKNOWN
            count += popcount(gone)
            blocks.occupied[r, x] &= ~gone
            blocks.free[r, x] &= ~gone
            noted[i, x] = blocks.noted[r, x] & ~gone
            total += popcount(noted[i, x])
        if _misfits(total, blocks.sizes[r]):
            need += _units(total) * UNIT
    return count, need


@njit(cache=True, nogil=True)
def restore_masks(rows: Array, blocks: Blocks, noted: Array) -> int:
    """Derives the occupied and free masks from the log-odds; returns the records needed."""
    need = 0
    values = blocks.log_odds.view(np.uint64)
    for i in range(rows.shape[0]):
        r = rows[i]
        total = 0
        for x in range(8):
            blocks.occupied[r, x], blocks.free[r, x] = _block_masks(values, r, x)
            total += popcount(noted[i, x])
        if _misfits(total, blocks.sizes[r]):
            need += _units(total) * UNIT
    return need


@njit(cache=True, nogil=True)
def _allot(records: Records, tail: int, r: int, blocks: Blocks, count: int) -> int:
    """Gives block `r` a segment for `count` records; returns the new tail of the pool."""
    if blocks.sizes[r] > 0:
        units = blocks.sizes[r] // UNIT
        records.stamps[blocks.starts[r]] = records.heads[units]
        records.heads[units] = blocks.starts[r]
    units = _units(count)
    blocks.sizes[r] = units * UNIT
    if units == 0:
        blocks.starts[r] = 0
        return tail
    if records.heads[units] >= 0:
        blocks.starts[r] = records.heads[units]
        records.heads[units] = records.stamps[blocks.starts[r]]
        return tail
    blocks.starts[r] = tail
    return tail + units * UNIT


@njit(cache=True, nogil=True)
def _relay(records: Records, tail: int, r: int, blocks: Blocks, noted: Array) -> int:
    """Moves the records of block `r` to where its new noted mask wants them."""
    labels = np.zeros(512, np.uint16)
    weights = np.zeros(512, np.uint8)
    stamps = np.zeros(512, np.int64)
    references = np.full(512, -1, np.int32)
    old, new = 0, 0
    for x in range(8):
        before, after = blocks.noted[r, x], noted[x]
        either = before | after
        while either:
            bit = either & (~either + np.uint64(1))
            either ^= bit
            if before & bit:
                if after & bit:
                    s = blocks.starts[r] + old
                    labels[new] = records.labels[s]
                    weights[new] = records.weights[s]
                    stamps[new] = records.stamps[s]
                    references[new] = records.references[s]
                old += 1
            if after & bit:
                new += 1
    if _misfits(new, blocks.sizes[r]):
        tail = _allot(records, tail, r, blocks, new)
    for k in range(new):
        s = blocks.starts[r] + k
        records.labels[s] = labels[k]
        records.weights[s] = weights[k]
        records.stamps[s] = stamps[k]
        records.references[s] = references[k]
    for x in range(8):
        blocks.noted[r, x] = noted[x]
    return tail


@njit(cache=True, nogil=True)
def update_records(
    rows: Array,
    seen: Array,
    noted: Array,
    names: Array,
    blocks: Blocks,
    records: Records,
    tail: int,
    stamp: int,
) -> int:
    """Gives every noted voxel its record, and stamps and labels those observed.

    A label is a running majority: a scan that agrees raises its weight by one, one that
    disagrees lowers it, and at zero the new label takes over.

    Args:
        rows: (M,) int64.
        seen: (M, 8) uint64 voxels observed by this scan.
        noted: (M, 8) uint64 the noted masks to get.
        names: (M, 512) int32 labels voted for by this scan, or (0, 512).
        blocks: the map, changed in place.
        records: the pool, which must have room; changed in place.
        tail: first record of the pool that was never allotted.
        stamp: [ns] of the scan.

    Returns:
        the new tail.
    """
    for i in range(rows.shape[0]):
        r = rows[i]
        for x in range(8):
            if noted[i, x] != blocks.noted[r, x]:
                tail = _relay(records, tail, r, blocks, noted[i])
                break
        s = blocks.starts[r]
        for x in range(8):
            todo = noted[i, x]
            while todo:
                bit = todo & (~todo + np.uint64(1))
                todo ^= bit
                if seen[i, x] & bit:
                    records.stamps[s] = stamp
                    if names.shape[0] > 0:
                        name = names[i, x * 64 + popcount(bit - np.uint64(1))]
                        if name > 0 and name == records.labels[s]:
                            records.weights[s] = min(records.weights[s] + 1, 255)
                        elif name > 0 and records.weights[s] <= 1:
                            records.labels[s] = name
                            records.weights[s] = 1
                        elif name > 0:
                            records.weights[s] -= 1
                s += 1
    return tail


@njit(cache=True, nogil=True)
def record_slots(rows: Array, local: Array, blocks: Blocks) -> Array:
    """Finds the records of voxels.

    Args:
        rows: (N,) int64, -1 for none.
        local: (N,) int64 index within the block.
        blocks: the map.

    Returns:
        (N,) int64 index into the pool, -1 where the voxel has no record.
    """
    slots = np.full(rows.shape[0], -1, np.int64)
    for i in range(rows.shape[0]):
        r = rows[i]
        if r < 0:
            continue
        word, shift = local[i] >> 6, np.uint64(local[i] & 63)
        if (blocks.noted[r, word] >> shift) & np.uint64(1):
            rank = blocks.starts[r]
            for x in range(word):
                rank += popcount(blocks.noted[r, x])
            below = (np.uint64(1) << shift) - np.uint64(1)
            slots[i] = rank + popcount(blocks.noted[r, word] & below)
    return slots


@njit(cache=True, nogil=True)
def list_records(rows: Array, blocks: Blocks) -> tuple[Array, Array]:
    """Lists the records of blocks, in order.

    Returns:
        counts (M,) int64 of records per block, and slots (sum of counts,) int64 in the pool.
    """
    counts = np.zeros(rows.shape[0], np.int64)
    for i in range(rows.shape[0]):
        for x in range(8):
            counts[i] += popcount(blocks.noted[rows[i], x])
    slots = np.empty(counts.sum(), np.int64)
    n = 0
    for i in range(rows.shape[0]):
        for k in range(counts[i]):
            slots[n] = blocks.starts[rows[i]] + k
            n += 1
    return counts, slots


@njit(cache=True, nogil=True)
def label_masks(rows: Array, wanted: Array, blocks: Blocks, records: Records) -> Array:
    """Builds the masks of noted voxels whose label is wanted.

    Args:
        rows: (M,) int64.
        wanted: (65536,) bool by label id.
        blocks: the map.
        records: the pool.

    Returns:
        (M, 8) uint64.
    """
    masks = np.zeros((rows.shape[0], 8), np.uint64)
    for i in range(rows.shape[0]):
        s = blocks.starts[rows[i]]
        for x in range(8):
            todo = blocks.noted[rows[i], x]
            while todo:
                bit = todo & (~todo + np.uint64(1))
                todo ^= bit
                if wanted[records.labels[s]]:
                    masks[i, x] |= bit
                s += 1
    return masks

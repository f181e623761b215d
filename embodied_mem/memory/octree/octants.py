"""Numba kernels on the log-odds of blocks, of which only what differs is kept voxel by voxel.

A block is 64 *octants* of 2^3 voxels, the octree's nodes of level 1. An octant whose
voxels all have the same log-odds is one byte of the block; of an *uneven* one the eight
bytes are a word of a pool, in which a block's words lie together, in the order of the
bits of its mask of uneven octants. Log-odds are worked on as 64 words: word x * 8 + y
has the voxels z = 0 to 7, the first one in its lowest byte.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.lanes import bits_between, gather_octants, spread_octants
from embodied_mem.memory.octree.segments import FITS
from embodied_mem.memory.octree.words import count_bits, trailing_zeros

Array = NDArray[Any]

UNKNOWN = -128
"""The log-odds step of a voxel that was never observed."""
UNIT = 2
"""Words are allotted to blocks in multiples of this."""
_LANE = 0xFFFF
_ZERO, _ONE = np.uint64(0), np.uint64(1)


class LogOdds(NamedTuple):
    """The log-odds of all blocks.

    Attributes:
        uneven: (B,) uint64 mask of uneven octants; bit X * 16 + Y * 4 + Z.
        even: (B, 64) int8 steps of log-odds of the other octants, UNKNOWN where never observed.
        starts: (B,) int32 the block's first word of the pool.
        sizes: (B,) int16 words that it has.
        words: (P,) uint64 the pool; byte x * 4 + y * 2 + z of a word is a voxel.
    """

    uneven: Array
    even: Array
    starts: Array
    sizes: Array
    words: Array


class Masks(NamedTuple):
    """States of all blocks' voxels, a bit each: word x of a row has bit y * 8 + z.

    Attributes:
        occupied, free: (B, 8) uint64; known is their union.
        noted: (B, 8) uint64 voxels with a label, a stamp and a reference of their own: those
            that are occupied, and free ones whose last evidence carried a label. The same
            array as `occupied` as long as there are no labels.
    """

    occupied: Array
    free: Array
    noted: Array


@njit(cache=True, nogil=True)
def _first_pair(octant: int) -> int:
    """Returns where an octant's first two voxels are among the pairs of a block's voxels."""
    return ((octant >> 4) << 6) | ((octant & 12) << 1) | (octant & 3)


@njit(cache=True, nogil=True)
def load_block(log_odds: LogOdds, r: int, values: Array) -> None:
    """Lays the log-odds of block r out as 64 words."""
    steps, pairs = values.view(np.int8), values.view(np.uint16)
    for x in range(4):
        spread_octants(log_odds.even[r], 16 * x, steps, 128 * x)
    uneven, k = log_odds.uneven[r], np.int64(log_odds.starts[r])
    while uneven:
        at, word = _first_pair(trailing_zeros(uneven)), log_odds.words[k]
        pairs[at], pairs[at + 4] = np.uint16(word), np.uint16(word >> np.uint64(16))
        pairs[at + 32], pairs[at + 36] = np.uint16(word >> np.uint64(32)), np.uint16(word >> np.uint64(48))
        uneven &= uneven - _ONE
        k += 1


@njit(cache=True, nogil=True)
def _pack(log_odds: LogOdds, r: int, values: Array, packed: Array) -> int:
    """Splits the new log-odds of block r into those of even octants, kept, and of uneven ones.

    Args:
        log_odds: the map's.
        r: the block.
        values: (64,) uint64.
        packed: (64,) uint64, its first places filled with the words of uneven octants.

    Returns:
        how many those are.
    """
    steps, pairs = values.view(np.int8), values.view(np.uint16)
    uneven, count = _ZERO, 0
    for x in range(4):
        some = gather_octants(steps, 128 * x, log_odds.even[r], 16 * x)
        some |= some >> np.uint64(8)
        some = (some | (some >> _ONE)) & np.uint64(0x0055005500550055)  # a bit for each octant
        some = (some | (some >> _ONE)) & np.uint64(0x0033003300330033)
        some = (some | (some >> np.uint64(2))) & np.uint64(0x000F000F000F000F)
        some = (some | (some >> np.uint64(12))) & np.uint64(0x000000FF000000FF)
        some = (some | (some >> np.uint64(24))) & np.uint64(_LANE)
        uneven |= some << np.uint64(16 * x)
    log_odds.uneven[r] = uneven
    while uneven:
        at = _first_pair(trailing_zeros(uneven))
        packed[count] = (
            np.uint64(pairs[at])
            | np.uint64(pairs[at + 4]) << np.uint64(16)
            | np.uint64(pairs[at + 32]) << np.uint64(32)
            | np.uint64(pairs[at + 36]) << np.uint64(48)
        )
        uneven &= uneven - _ONE
        count += 1
    return count


@njit(cache=True, nogil=True)
def _put(log_odds: LogOdds, r: int, packed: Array, count: int) -> None:
    """Keeps the words of uneven octants of block r, whose segment must have room."""
    first = np.int64(log_odds.starts[r])
    for k in range(count):
        log_odds.words[first + k] = packed[k]


@njit(cache=True, nogil=True)
def settle_block(log_odds: LogOdds, r: int, values: Array, masks: Masks, packed: Array) -> int:
    """Keeps the new log-odds of block r and their masks.

    Returns:
        FITS; or, where the block needs another segment, of how many words: its log-odds are
        not kept then.
    """
    steps = values.view(np.int8)
    for x in range(8):
        masks.occupied[r, x] = bits_between(steps, 64 * x, 0, 127)
        masks.free[r, x] = bits_between(steps, 64 * x, UNKNOWN + 1, -1)
    count, size = _pack(log_odds, r, values, packed), np.int64(log_odds.sizes[r])
    if count > size or size - count >= (2 * UNIT if count > 0 else 1):
        return count
    _put(log_odds, r, packed, count)
    return FITS


@njit(cache=True, nogil=True)
def erase_voxels(
    rows: Array, erased: Array, log_odds: LogOdds, masks: Masks, wanted: Array, words: Array
) -> int:
    """Makes voxels unknown again.

    Args:
        rows: (M,) int64.
        erased: (M, 8) uint64, the voxels to forget; known ones only.
        log_odds: of the map, changed in place.
        masks: of the map, changed in place.
        wanted: (M,) int64, filled with FITS or the words that a block needs.
        words: (M, 64) uint64, filled with the words of the blocks that do not fit.

    Returns:
        voxels erased.
    """
    count = 0
    values, packed = np.empty(64, np.uint64), np.empty(64, np.uint64)
    steps = values.view(np.int8)
    for i in range(rows.shape[0]):
        load_block(log_odds, rows[i], values)
        for x in range(8):
            count += count_bits(erased[i, x])
            for j in range(64):
                if (erased[i, x] >> np.uint64(j)) & _ONE:
                    steps[x * 64 + j] = np.int8(UNKNOWN)
        wanted[i] = settle_block(log_odds, rows[i], values, masks, packed)
        if wanted[i] != FITS:
            words[i, : wanted[i]] = packed[: wanted[i]]
    return count


@njit(cache=True, nogil=True)
def replace_blocks(
    rows: Array, values: Array, log_odds: LogOdds, masks: Masks, wanted: Array, words: Array
) -> None:
    """Replaces the log-odds of blocks, and derives their masks.

    Args:
        rows: (M,) int64.
        values: (M, 64) uint64.
        log_odds: of the map, changed in place.
        masks: of the map, changed in place.
        wanted: (M,) int64, filled with FITS or the words that a block needs.
        words: (M, 64) uint64, filled with the words of the blocks that do not fit.
    """
    packed = np.empty(64, np.uint64)
    for i in range(rows.shape[0]):
        wanted[i] = settle_block(log_odds, rows[i], values[i], masks, packed)
        if wanted[i] != FITS:
            words[i, : wanted[i]] = packed[: wanted[i]]


@njit(cache=True, nogil=True)
def store_blocks(rows: Array, words: Array, wanted: Array, log_odds: LogOdds) -> None:
    """Keeps the words of uneven octants of blocks which have got segments with room.

    Args:
        rows: (M,) int64.
        words: (M, 64) uint64, as the kernels above left them.
        wanted: (M,) int64, how many words each has; FITS: they are kept already.
        log_odds: of the map, changed in place.
    """
    for i in range(rows.shape[0]):
        if wanted[i] != FITS:
            _put(log_odds, rows[i], words[i], wanted[i])


@njit(cache=True, nogil=True)
def load_blocks(rows: Array, log_odds: LogOdds) -> Array:
    """Returns the log-odds of blocks, (M, 512) int8."""
    words = np.empty((rows.shape[0], 64), np.uint64)
    for i in range(rows.shape[0]):
        load_block(log_odds, rows[i], words[i])
    return words.view(np.int8)


@njit(cache=True, nogil=True)
def voxel_steps(log_odds: LogOdds, row: int, local: int) -> int:
    """Returns the log-odds step of one voxel of a block, by its index within the block."""
    octant = ((local >> 7) << 4) | (((local >> 4) & 3) << 2) | ((local >> 1) & 3)
    bit = _ONE << np.uint64(octant)
    uneven = log_odds.uneven[row]
    if uneven & bit:
        word = log_odds.words[np.int64(log_odds.starts[row]) + count_bits(uneven & (bit - _ONE))]
        place = ((local >> 4) & 4) | ((local >> 2) & 2) | (local & 1)
        return np.int8(np.uint8((word >> np.uint64(8 * place)) & np.uint64(0xFF)))
    return log_odds.even[row, octant]


@njit(cache=True, nogil=True)
def list_steps(rows: Array, chosen: Array, log_odds: LogOdds) -> Array:
    """Lists the log-odds of voxels of blocks, in order.

    Args:
        rows: (M,) int64.
        chosen: (M, 8) uint64 masks.
        log_odds: the map's.

    Returns:
        (V,) int8.
    """
    count = 0
    for i in range(rows.shape[0]):
        for x in range(8):
            count += count_bits(chosen[i, x])
    out = np.empty(count, np.int8)
    values = np.empty(64, np.uint64)
    steps = values.view(np.int8)
    n = 0
    for i in range(rows.shape[0]):
        load_block(log_odds, rows[i], values)
        for x in range(8):
            todo = chosen[i, x]
            while todo:
                out[n] = steps[x * 64 + trailing_zeros(todo)]
                todo &= todo - _ONE
                n += 1
    return out


@njit(cache=True, nogil=True)
def read_steps(rows: Array, local: Array, log_odds: LogOdds) -> Array:
    """Reads the log-odds of voxels.

    Args:
        rows: (N,) int64, -1 for absent blocks.
        local: (N,) int64 index within the block.
        log_odds: the map.

    Returns:
        (N,) int8, UNKNOWN where the block is absent.
    """
    out = np.full(rows.shape[0], np.int8(UNKNOWN))
    for i in range(rows.shape[0]):
        if rows[i] >= 0:
            out[i] = voxel_steps(log_odds, rows[i], local[i])
    return out


@njit(cache=True, nogil=True)
def node_maxima(rows: Array, local: Array, level: int, log_odds: LogOdds) -> Array:
    """Finds the largest log-odds of the node of 2^level voxels, level 1 to 3, around voxels.

    Args:
        rows: (N,) int64, -1 for absent blocks.
        local: (N,) int64 index within the block.
        level: 1 to 3.
        log_odds: the map.

    Returns:
        (N,) int8, UNKNOWN where all of a node is unknown.
    """
    out = np.full(rows.shape[0], np.int8(UNKNOWN))
    edge = 1 << (level - 1)  # in octants
    keep = ~(edge - 1)
    for i in range(rows.shape[0]):
        r = rows[i]
        if r < 0:
            continue
        x0, y0, z0 = (local[i] >> 7) & keep, ((local[i] >> 4) & 3) & keep, ((local[i] >> 1) & 3) & keep
        best = np.int8(UNKNOWN)
        for x in range(x0, x0 + edge):
            for y in range(y0, y0 + edge):
                for z in range(z0, z0 + edge):
                    best = max(best, _octant_maximum(log_odds, r, (x << 4) | (y << 2) | z))
        out[i] = best
    return out


@njit(cache=True, nogil=True)
def _octant_maximum(log_odds: LogOdds, r: int, octant: int) -> int:
    bit = _ONE << np.uint64(octant)
    uneven = log_odds.uneven[r]
    best = log_odds.even[r, octant]
    if uneven & bit:
        word = log_odds.words[np.int64(log_odds.starts[r]) + count_bits(uneven & (bit - _ONE))]
        for _ in range(8):
            best = max(best, np.int8(np.uint8(word & np.uint64(0xFF))))
            word >>= np.uint64(8)
    return best

"""Numba kernels on 64 bits at a time: a word of a block's mask, or eight of its voxels' log-odds.

Kernels of other files inline these, and Numba's on-disk cache, which is keyed by the file a
kernel is in, would not notice a change here: change the name with the meaning.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def count_bits(w: int) -> int:
    """Counts the bits of a uint64."""
    w = w - ((w >> np.uint64(1)) & np.uint64(0x5555555555555555))
    w = (w & np.uint64(0x3333333333333333)) + ((w >> np.uint64(2)) & np.uint64(0x3333333333333333))
    w = (w + (w >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((w * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(cache=True, nogil=True)
def transpose_bits(word: int) -> int:
    """Swaps bit 8 * a + b of a uint64 with bit 8 * b + a (Warren, "Hacker's Delight", 7-3)."""
    t = (word ^ (word >> np.uint64(7))) & np.uint64(0x00AA00AA00AA00AA)
    word ^= t ^ (t << np.uint64(7))
    t = (word ^ (word >> np.uint64(14))) & np.uint64(0x0000CCCC0000CCCC)
    word ^= t ^ (t << np.uint64(14))
    t = (word ^ (word >> np.uint64(28))) & np.uint64(0x00000000F0F0F0F0)
    return word ^ t ^ (t << np.uint64(28))


@njit(cache=True, nogil=True)
def double_bytes(four: int) -> int:
    """Spreads four bytes of a uint64 to eight, each twice."""
    w = (four | (four << np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    w = (w | (w << np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    return w | (w << np.uint64(8))


@njit(cache=True, nogil=True)
def even_bytes(word: int) -> int:
    """Gathers bytes 0, 2, 4 and 6 of a uint64 into its lowest four; the inverse of `double_bytes`."""
    w = word & np.uint64(0x00FF00FF00FF00FF)
    w = (w | (w >> np.uint64(8))) & np.uint64(0x0000FFFF0000FFFF)
    return (w | (w >> np.uint64(16))) & np.uint64(0xFFFFFFFF)

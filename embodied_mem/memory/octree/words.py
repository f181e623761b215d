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

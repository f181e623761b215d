"""Numba kernels that code what is occupied, free and unknown in a fraction of a bit per voxel.

An adaptive binary arithmetic coder (Witten, Neal and Cleary, "Arithmetic Coding for
Data Compression", 1987) asks of each voxel: is it known? is it occupied? The
probabilities are learnt per context, which is the states of the voxels around it
that were coded before it. Integers only, so that every machine decodes the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

CONTEXTS = 3**7
_TOP = 0xFFFFFFFF
_PATIENCE = 120
"""A probability is an average over about so many of its context's last decisions."""


def preceding(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns (M, 3) the index of the blocks at x-1, y-1 and z-1 of sorted keys, -1 none."""
    wanted = keys[:, None] - np.array([1 << 42, 1 << 21, 1])
    found = np.searchsorted(keys, wanted)
    there = np.append(keys, -1)[found] == wanted
    return np.where(there, found, -1)


@njit(cache=True, nogil=True)
def _surround(states: Array, before: Array, i: int, around: Array) -> None:
    """Lays the faces of the preceding blocks around block i: `around` is (9, 9, 10)."""
    around[:] = 0
    xm, ym, zm = before[i, 0], before[i, 1], before[i, 2]
    for a in range(8):
        for b in range(8):
            if xm >= 0:
                around[0, a + 1, b + 1] = states[xm, 448 + a * 8 + b]
            if ym >= 0:
                around[a + 1, 0, b + 1] = states[ym, a * 64 + 56 + b]
            if zm >= 0:
                around[a + 1, b + 1, 0] = states[zm, a * 64 + b * 8 + 7]


@njit(cache=True, nogil=True)
def _context(around: Array, x: int, y: int, z: int) -> int:
    """Numbers the states of seven voxels that precede voxel (x, y, z)."""
    near = around[x, y + 1, z + 1] * 9 + around[x + 1, y, z + 1] * 3 + around[x + 1, y + 1, z]
    far = around[x, y, z + 1] * 9 + around[x, y + 1, z] * 3 + around[x + 1, y, z]
    return np.int64((near * 27 + far) * 3 + around[x, y + 1, z + 2])


@njit(cache=True, nogil=True)
def _split(model: Array, context: int, low: int, high: int) -> int:
    """Returns the last number of the part of the interval that stands for 1."""
    return low + (high - low >> 16) * model[context, 0] + ((high - low & 0xFFFF) * model[context, 0] >> 16)


@njit(cache=True, nogil=True)
def _learn(model: Array, context: int, bit: int) -> None:
    count = model[context, 1]
    target = 65500 if bit else 36
    model[context, 0] += (target - model[context, 0]) * 2 // (2 * count + 3)
    model[context, 1] = min(count + 1, _PATIENCE)


@njit(cache=True, nogil=True)
def encode_states(states: Array, before: Array) -> Array:
    """Codes the states of blocks that are sorted by key.

    Args:
        states: (M, 512) uint8: 0 unknown, 1 free, 2 occupied.
        before: (M, 3) int64 of `preceding`.

    Returns:
        (B,) uint8.
    """
    out = np.empty(states.size * 3 + 8, np.uint8)  # a decision costs less than 11 bits
    models = np.zeros((2, CONTEXTS, 2), np.int64)
    models[:, :, 0] = 32768
    around = np.empty((9, 9, 10), np.int64)
    low, high, n = np.int64(0), np.int64(_TOP), 0
    for i in range(states.shape[0]):
        _surround(states, before, i, around)
        for k in range(512):
            state = np.int64(states[i, k])
            context = _context(around, k >> 6, (k >> 3) & 7, k & 7)
            for question in range(2 if state else 1):
                bit = state > question
                middle = _split(models[question], context, low, high)
                low, high = (low, middle) if bit else (middle + 1, high)
                _learn(models[question], context, bit)
                while (low ^ high) & 0xFF000000 == 0:
                    out[n] = high >> 24
                    n += 1
                    low, high = (low << 8) & _TOP, ((high << 8) & _TOP) | 0xFF
            around[(k >> 6) + 1, ((k >> 3) & 7) + 1, (k & 7) + 1] = state
    for shift in (24, 16, 8, 0):
        out[n] = (high >> shift) & 0xFF
        n += 1
    return out[:n].copy()


@njit(cache=True, nogil=True)
def decode_states(data: Array, before: Array) -> Array:
    """Decodes what `encode_states` coded.

    Args:
        data: (B,) uint8.
        before: (M, 3) int64 of `preceding`.

    Returns:
        (M, 512) uint8.
    """
    states = np.zeros((before.shape[0], 512), np.uint8)
    models = np.zeros((2, CONTEXTS, 2), np.int64)
    models[:, :, 0] = 32768
    around = np.empty((9, 9, 10), np.int64)
    low, high, n, code = np.int64(0), np.int64(_TOP), 0, np.int64(0)
    for _ in range(4):
        code = (code << 8) | (np.int64(data[n]) if n < data.shape[0] else 0)
        n += 1
    for i in range(before.shape[0]):
        _surround(states, before, i, around)
        for k in range(512):
            state = 0
            context = _context(around, k >> 6, (k >> 3) & 7, k & 7)
            for question in range(2):
                middle = _split(models[question], context, low, high)
                bit = code <= middle
                low, high = (low, middle) if bit else (middle + 1, high)
                _learn(models[question], context, bit)
                while (low ^ high) & 0xFF000000 == 0:
                    low, high = (low << 8) & _TOP, ((high << 8) & _TOP) | 0xFF
                    code = ((code << 8) & _TOP) | (np.int64(data[n]) if n < data.shape[0] else 0)
                    n += 1
                if not bit:
                    break
                state += 1
            states[i, k] = state
            around[(k >> 6) + 1, ((k >> 3) & 7) + 1, (k & 7) + 1] = state
    return states

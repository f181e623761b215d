"""Numba kernels that read the map block by block through its bit masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

_Z0 = np.uint64(0x0101010101010101)
_Z7 = np.uint64(0x8080808080808080)


@njit(cache=True, nogil=True)
def _count_bits(w: int) -> int:
    w = w - ((w >> np.uint64(1)) & np.uint64(0x5555555555555555))
    w = (w & np.uint64(0x3333333333333333)) + ((w >> np.uint64(2)) & np.uint64(0x3333333333333333))
    w = (w + (w >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((w * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(cache=True, nogil=True)
def box_masks(coords: Array, lo: Array, hi: Array) -> Array:
    """Builds the masks of the voxels of blocks that lie in a box.

    Args:
        coords: (M, 3) int64 block coordinates.
        lo: (3,) int64 first voxel index of the box.
        hi: (3,) int64 last voxel index of the box, inclusive.

    Returns:
        (M, 8) uint64; word x has bit y * 8 + z.
    """
    masks = np.zeros((coords.shape[0], 8), np.uint64)
    for i in range(coords.shape[0]):
        x0, x1 = max(lo[0] - coords[i, 0] * 8, 0), min(hi[0] - coords[i, 0] * 8, 7)
        y0, y1 = max(lo[1] - coords[i, 1] * 8, 0), min(hi[1] - coords[i, 1] * 8, 7)
        z0, z1 = max(lo[2] - coords[i, 2] * 8, 0), min(hi[2] - coords[i, 2] * 8, 7)
        if x0 > x1 or y0 > y1 or z0 > z1:
            continue
        z = ((np.uint64(1) << np.uint64(z1 - z0 + 1)) - np.uint64(1)) << np.uint64(z0)
        plane = np.uint64(0)
        for y in range(y0, y1 + 1):
            plane |= z << np.uint64(8 * y)
        for x in range(x0, x1 + 1):
            masks[i, x] = plane
    return masks


@njit(cache=True, nogil=True)
def frontier_masks(free: Array, known: Array, neighbours: Array) -> Array:
    """Finds the free voxels that have an unknown 6-neighbour.

    Args:
        free: (M, 8) uint64 masks.
        known: (M, 8) uint64 masks.
        neighbours: (M, 6) int64 index into these M of the blocks at x-1, x+1, y-1, y+1, z-1,
            z+1; -1 where there is none.

    Returns:
        (M, 8) uint64.
    """
    out = np.zeros_like(free)
    for i in range(free.shape[0]):
        xm, xp, ym = neighbours[i, 0], neighbours[i, 1], neighbours[i, 2]
        yp, zm, zp = neighbours[i, 3], neighbours[i, 4], neighbours[i, 5]
        for x in range(8):
            k = known[i, x]
            inner = known[i, x - 1] if x > 0 else (known[xm, 7] if xm >= 0 else np.uint64(0))
            inner &= known[i, x + 1] if x < 7 else (known[xp, 0] if xp >= 0 else np.uint64(0))
            inner &= (k << np.uint64(8)) | (known[ym, x] >> np.uint64(56) if ym >= 0 else np.uint64(0))
            inner &= (k >> np.uint64(8)) | (known[yp, x] << np.uint64(56) if yp >= 0 else np.uint64(0))
            below = (known[zm, x] >> np.uint64(7)) & _Z0 if zm >= 0 else np.uint64(0)
            above = (known[zp, x] << np.uint64(7)) & _Z7 if zp >= 0 else np.uint64(0)
            inner &= ((k << np.uint64(1)) & ~_Z0) | below
            inner &= ((k >> np.uint64(1)) & ~_Z7) | above
            out[i, x] = free[i, x] & ~inner
    return out


@njit(cache=True, nogil=True)
def list_voxels(masks: Array) -> tuple[Array, Array]:
    """Lists the set bits of masks, in order.

    Args:
        masks: (M, 8) uint64.

    Returns:
        (V,) int64 index of the block, and (V,) int64 index of the voxel within it.
    """
    total = 0
    for i in range(masks.shape[0]):
        for x in range(8):
            total += _count_bits(masks[i, x])
    which = np.empty(total, np.int64)
    local = np.empty(total, np.int64)
    n = 0
    for i in range(masks.shape[0]):
        for x in range(8):
            w = masks[i, x]
            while w:
                bit = w & (~w + np.uint64(1))
                w ^= bit
                which[n] = i
                local[n] = x * 64 + _count_bits(bit - np.uint64(1))
                n += 1
    return which, local


@njit(cache=True, nogil=True)
def list_centers(masks: Array, order: Array, keys: Array, bias: int, resolution: float) -> Array:
    """Lists the centres of the set bits of masks.

    Args:
        masks: (M, 8) uint64.
        order: (M,) int64 order in which to list the blocks.
        keys: (M,) int64 packed block keys, in three parts of 21 bits.
        bias: what was added to each block coordinate.
        resolution: edge of a voxel [m].

    Returns:
        (V, 3) float32 [m].
    """
    total = 0
    for i in range(masks.shape[0]):
        for x in range(8):
            total += _count_bits(masks[i, x])
    out = np.empty((total, 3), np.float32)
    part = np.int64((1 << 21) - 1)
    ys, zs = np.empty(8, np.float32), np.empty(8, np.float32)
    n = 0
    for i in order:
        x0, y0, z0 = keys[i] >> 42, (keys[i] >> 21) & part, keys[i] & part
        for k in range(8):
            ys[k] = ((y0 - bias) * 8 + k + 0.5) * resolution
            zs[k] = ((z0 - bias) * 8 + k + 0.5) * resolution
        for x in range(8):
            w = masks[i, x]
            cx = np.float32(((x0 - bias) * 8 + x + 0.5) * resolution)
            while w:
                bit = w & (~w + np.uint64(1))
                w ^= bit
                local = _count_bits(bit - np.uint64(1))
                out[n, 0], out[n, 1], out[n, 2] = cx, ys[local >> 3], zs[local & 7]
                n += 1
    return out


@njit(cache=True, nogil=True)
def fill_columns(coords: Array, free: Array, blocked: Array, first: Array, grid: Array) -> None:
    """Projects voxels onto a ground grid: blocked wins over free, free over unknown.

    Args:
        coords: (M, 3) int64 block coordinates.
        free: (M, 8) uint64 voxels of the band that an agent can pass.
        blocked: (M, 8) uint64 voxels of the band that it cannot.
        first: (2,) int64 voxel index (x, y) of grid[0, 0].
        grid: (H, W) int8 indexed [iy, ix], -1 unknown; changed in place to 0 free and 100 blocked.
    """
    for i in range(coords.shape[0]):
        for x in range(8):
            for y in range(8):
                ix = coords[i, 0] * 8 + x - first[0]
                iy = coords[i, 1] * 8 + y - first[1]
                if ix < 0 or iy < 0 or iy >= grid.shape[0] or ix >= grid.shape[1]:
                    continue
                shift = np.uint64(8 * y)
                if (blocked[i, x] >> shift) & np.uint64(0xFF):
                    grid[iy, ix] = 100
                elif (free[i, x] >> shift) & np.uint64(0xFF) and grid[iy, ix] < 0:
                    grid[iy, ix] = 0


@njit(cache=True, nogil=True)
def fill_patches(which: Array, free: Array, blocked: Array, patches: Array) -> None:
    """Projects voxels onto patches of ground, one per column of blocks, as `fill_columns`.

    Args:
        which: (M,) int64 patch of each block.
        free: (M, 8) uint64.
        blocked: (M, 8) uint64.
        patches: (N, 8, 8) int8 indexed [patch, y, x], changed in place.
    """
    for i in range(which.shape[0]):
        for x in range(8):
            for y in range(8):
                shift = np.uint64(8 * y)
                if (blocked[i, x] >> shift) & np.uint64(0xFF):
                    patches[which[i], y, x] = 100
                elif (free[i, x] >> shift) & np.uint64(0xFF) and patches[which[i], y, x] < 0:
                    patches[which[i], y, x] = 0


@njit(cache=True, nogil=True)
def widen(ys: Array, xs: Array, new: Array, offsets: Array, raw: Array, near: Array, cells: Array) -> None:
    """Sets cells of a ground plan and keeps free cells near obstacles blocked.

    Args:
        ys: (C,) int64 rows of the cells.
        xs: (C,) int64 columns.
        new: (C,) int8, -1 unknown, 0 free, 100 obstacle.
        offsets: (K, 2) int64 y and x of what is near.
        raw: (H, W) int8 without what is near, changed in place.
        near: (H, W) int32 number of obstacles near each cell, changed in place.
        cells: (H, W) int8 the plan, changed in place.
    """
    for i in range(ys.shape[0]):
        y, x = ys[i], xs[i]
        change = (1 if new[i] > 0 else 0) - (1 if raw[y, x] > 0 else 0)
        raw[y, x] = new[i]
        if change != 0:
            for k in range(offsets.shape[0]):
                ny, nx = y + offsets[k, 0], x + offsets[k, 1]
                near[ny, nx] += change
                cells[ny, nx] = 100 if raw[ny, nx] == 0 and near[ny, nx] > 0 else raw[ny, nx]
        cells[y, x] = 100 if raw[y, x] == 0 and near[y, x] > 0 else raw[y, x]


@njit(cache=True, nogil=True)
def count_voxels(masks: Array) -> int:
    """Counts the set bits of (M, 8) uint64 masks."""
    total = 0
    for i in range(masks.shape[0]):
        for x in range(8):
            total += _count_bits(masks[i, x])
    return total


@njit(cache=True, nogil=True)
def tight_bounds(coords: Array, masks: Array) -> tuple[Array, Array]:
    """Finds the smallest box around the set voxels of blocks.

    Args:
        coords: (M, 3) int64 block coordinates.
        masks: (M, 8) uint64.

    Returns:
        first and last voxel index, (3,) int64 each, inclusive; first > last where none is set.
    """
    lo = np.full(3, np.int64(1) << 40)
    hi = np.full(3, -(np.int64(1) << 40))
    for i in range(coords.shape[0]):
        for x in range(8):
            w = masks[i, x]
            if w == 0:
                continue
            lo[0] = min(lo[0], coords[i, 0] * 8 + x)
            hi[0] = max(hi[0], coords[i, 0] * 8 + x)
            for k in range(8):
                if (w >> np.uint64(8 * k)) & np.uint64(0xFF):
                    lo[1] = min(lo[1], coords[i, 1] * 8 + k)
                    hi[1] = max(hi[1], coords[i, 1] * 8 + k)
                if w & (_Z0 << np.uint64(k)):
                    lo[2] = min(lo[2], coords[i, 2] * 8 + k)
                    hi[2] = max(hi[2], coords[i, 2] * 8 + k)
    return lo, hi


@njit(cache=True, nogil=True)
def node_maxima(log_odds: Array, rows: Array, local: Array, level: int) -> Array:
    """Finds the largest log-odds of the node of 2^level voxels, level <= 3, around voxels.

    Args:
        log_odds: (B, 512) int8.
        rows: (N,) int64, -1 for absent blocks.
        local: (N,) int64 index within the block.
        level: 0 to 3.

    Returns:
        (N,) int8, -128 where all of a node is unknown.
    """
    out = np.full(rows.shape[0], np.int8(-128))
    edge = 1 << level
    keep = ~(edge - 1)
    for i in range(rows.shape[0]):
        if rows[i] < 0:
            continue
        if level == 0:
            out[i] = log_odds[rows[i], local[i]]
            continue
        x0, y0, z0 = (local[i] >> 6) & keep, (local[i] >> 3) & 7 & keep, local[i] & 7 & keep
        best = np.int8(-128)
        for x in range(x0, x0 + edge):
            for y in range(y0, y0 + edge):
                for z in range(z0, z0 + edge):
                    best = max(best, log_odds[rows[i], (x << 6) | (y << 3) | z])
        out[i] = best
    return out

"""Numba kernels that read the map block by block through its bit masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.words import count_bits, trailing_zeros

Array = NDArray[Any]

_Z0 = np.uint64(0x0101010101010101)
_Z7 = np.uint64(0x8080808080808080)


@njit(cache=True, nogil=True)
def count_voxels(masks: Array) -> int:
    """Counts the set bits of (M, 8) uint64 masks."""
    total = 0
    for i in range(masks.shape[0]):
        for x in range(8):
            total += count_bits(masks[i, x])
    return total


@njit(cache=True, nogil=True)
def box_keys(low: Array, high: Array, bias: int) -> Array:
    """Lists the packed keys of all blocks of a box, sorted.

    Args:
        low: (3,) int64 coordinates of its first block.
        high: (3,) int64 of its last one, inclusive.
        bias: what is added to each coordinate.

    Returns:
        (M,) int64.
    """
    size = 1
    for a in range(3):
        size *= max(high[a] - low[a] + 1, 0)
    keys = np.empty(size, np.int64)
    n = 0
    for x in range(low[0] + bias, high[0] + bias + 1):
        for y in range(low[1] + bias, high[1] + bias + 1):
            for z in range(low[2] + bias, high[2] + bias + 1):
                keys[n] = (x << 42) | (y << 21) | z
                n += 1
    return keys[:n]


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
def _neighbours(keys: Array) -> Array:
    """Finds the neighbours of blocks among them, by walking through their sorted keys.

    Args:
        keys: (M,) int64 packed block keys, sorted.

    Returns:
        (M, 6) uint32 index of the blocks at x-1, x+1, y-1, y+1, z-1, z+1; M where there is none.
    """
    n = keys.shape[0]
    out = np.full((n, 6), np.uint32(n))
    for axis in range(3):
        offset = np.int64(1) << np.int64(42 - 21 * axis)
        j = 0
        for i in range(n):
            wanted = keys[i] + offset
            while j < n and keys[j] < wanted:
                j += 1
            if j < n and keys[j] == wanted:
                out[i, 2 * axis + 1] = j
                out[j, 2 * axis] = i
    return out


@njit(cache=True, nogil=True)
def frontier_masks(order: Array, keys: Array, occupied: Array, free: Array) -> Array:
    """Finds the free voxels that have an unknown 6-neighbour.

    Args:
        order: (M,) int64 rows of all blocks in the order of their keys.
        keys: (B,) int64 packed block keys.
        occupied: (B, 8) uint64 masks.
        free: (B, 8) uint64 masks.

    Returns:
        (M, 8) uint64 in that order.
    """
    n = order.shape[0]
    known = np.empty((n + 1, 8), np.uint64)
    known[n] = np.uint64(0)  # stands for blocks that are absent
    for i in range(n):
        for x in range(8):
            known[i, x] = occupied[order[i], x] | free[order[i], x]
    beside = _neighbours(keys[order])  # unsigned: so the compiler need not look for negative ones
    out = np.empty((n, 8), np.uint64)
    for i in range(n):
        xm, xp, ym = beside[i, 0], beside[i, 1], beside[i, 2]
        yp, zm, zp = beside[i, 3], beside[i, 4], beside[i, 5]
        before, k = known[xm, 7], known[i, 0]
        for x in range(np.uint64(8)):
            after = known[i, x + np.uint64(1)] if x < np.uint64(7) else known[xp, 0]
            both = ((k << np.uint64(8)) | (known[ym, x] >> np.uint64(56))) & (
                (k >> np.uint64(8)) | (known[yp, x] << np.uint64(56))
            )
            both &= ((k << np.uint64(1)) & ~_Z0) | ((known[zm, x] >> np.uint64(7)) & _Z0)
            both &= ((k >> np.uint64(1)) & ~_Z7) | ((known[zp, x] << np.uint64(7)) & _Z7)
            out[i, x] = free[order[i], x] & ~(both & before & after)
            before, k = k, after
    return out


@njit(cache=True, nogil=True)
def list_voxels(masks: Array) -> tuple[Array, Array]:
    """Lists the set bits of masks, in order.

    Args:
        masks: (M, 8) uint64.

    Returns:
        (V,) int64 index of the block, and (V,) int64 index of the voxel within it.
    """
    total = count_voxels(masks)
    which = np.empty(total, np.int64)
    local = np.empty(total, np.int64)
    n = 0
    for i in range(masks.shape[0]):
        for x in range(8):
            w = masks[i, x]
            while w:
                which[n] = i
                local[n] = x * 64 + trailing_zeros(w)
                w &= w - np.uint64(1)
                n += 1
    return which, local


@njit(cache=True, nogil=True)
def list_centers(masks: Array, rows: Array, keys: Array, bias: int, resolution: float) -> Array:
    """Lists the centres of the set bits of masks.

    Args:
        masks: (M, 8) uint64.
        rows: (M,) int64, whose masks they are.
        keys: (B,) int64 packed block keys, in three parts of 21 bits.
        bias: what was added to each block coordinate.
        resolution: edge of a voxel [m].

    Returns:
        (V, 3) float32 [m].
    """
    out = np.empty(3 * count_voxels(masks), np.float32)
    part = np.int64((1 << 21) - 1)
    xs, ys, zs = np.empty(8, np.float32), np.empty(8, np.float32), np.empty(8, np.float32)
    n, one, two, three = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)
    for i in range(masks.shape[0]):
        key = keys[rows[i]]
        x0, y0, z0 = key >> 42, (key >> 21) & part, key & part
        for k in range(8):
            xs[k] = ((x0 - bias) * 8 + k + 0.5) * resolution
            ys[k] = ((y0 - bias) * 8 + k + 0.5) * resolution
            zs[k] = ((z0 - bias) * 8 + k + 0.5) * resolution
        for x in range(8):
            w, along = masks[i, x], xs[x]
            while w:
                local = np.uint64(trailing_zeros(w))
                w &= w - one
                out[n], out[n + one], out[n + two] = along, ys[local >> three], zs[local & np.uint64(7)]
                n += three
    return out.reshape((-1, 3))


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
def box_centers(masks: Array, rows: Array, keys: Array, bias: int, resolution: float) -> tuple[Array, Array]:
    """Finds the lowest and the highest centres of the set bits of masks, which each have some.

    Arguments as for `list_centers`.

    Returns:
        (M, 3) float32 each [m].
    """
    lo, hi = np.empty((masks.shape[0], 3), np.float32), np.empty((masks.shape[0], 3), np.float32)
    part = np.int64((1 << 21) - 1)
    for i in range(masks.shape[0]):
        key = keys[rows[i]]
        together, across = np.uint64(0), 0
        for x in range(8):
            together |= masks[i, x]
            across |= (1 << x) if masks[i, x] else 0
        for a in range(3):
            bits = across
            if a > 0:
                bits = 0
                for k in range(8):
                    line = np.uint64(0xFF) << np.uint64(8 * k) if a == 1 else _Z0 << np.uint64(k)
                    bits |= (1 << k) if together & line else 0
            first, last = 0, 7
            while first < 7 and not (bits >> first) & 1:
                first += 1
            while last > 0 and not (bits >> last) & 1:
                last -= 1
            start = (((key >> (42 - 21 * a)) & part) - bias) * 8
            lo[i, a], hi[i, a] = (start + first + 0.5) * resolution, (start + last + 0.5) * resolution
    return lo, hi


@njit(cache=True, nogil=True)
def changed_columns(versions: Array, keys: Array, since: int, heights: Array) -> Array:
    """Lists the columns of blocks in which a block has changed.

    Args:
        versions: (B,) int64 of blocks.
        keys: (B,) int64 packed block keys.
        since: version after which changes count.
        heights: (L,) int64 z of the blocks that count, biased.

    Returns:
        (N,) int64 keys without z, sorted.
    """
    found = np.empty(versions.shape[0], np.int64)
    count = 0
    for i in range(versions.shape[0]):
        if versions[i] > since:
            z = keys[i] & ((1 << 21) - 1)
            for k in range(heights.shape[0]):
                if heights[k] == z:
                    found[count] = keys[i] >> 21
                    count += 1
                    break
    found = np.sort(found[:count])
    unique = 0
    for i in range(count):
        if i == 0 or found[i] != found[i - 1]:
            found[unique] = found[i]
            unique += 1
    return found[:unique]


@njit(cache=True, nogil=True)
def project_patches(
    rows: Array, heights: Array, layers: Array, occupied: Array, free: Array, passable: Array
) -> Array:
    """Projects columns of blocks onto patches of ground: blocked wins over free, free over unknown.

    Args:
        rows: (N, L) int64 rows of the blocks, -1 where there is none.
        heights: (L,) int64 z of the blocks.
        layers: (2, 2) int64 first and last layer of voxels that can be in the way, and that must not be free.
        occupied: (B, 8) uint64 masks.
        free: (B, 8) uint64 masks.
        passable: (N * L, 8) uint64 masks of occupied voxels that can be passed, or (0, 8).

    Returns:
        (N, 8, 8) int8 indexed [patch, y, x], -1 unknown, 0 free, 100 obstacle.
    """
    patches = np.full((rows.shape[0], 8, 8), np.int8(-1))
    bands = np.zeros((heights.shape[0], 2), np.uint64)
    for k in range(heights.shape[0]):
        for j in range(2):
            z0, z1 = max(layers[j, 0] - heights[k] * 8, 0), min(layers[j, 1] - heights[k] * 8, 7)
            for z in range(z0, z1 + 1):
                bands[k, j] |= _Z0 << np.uint64(z)
    line = np.uint64(0xFF)
    for i in range(rows.shape[0]):
        for k in range(heights.shape[0]):
            row = rows[i, k]
            if row < 0:
                continue
            for x in range(8):
                at, can = occupied[row, x] & bands[k, 0], free[row, x] & bands[k, 0]
                if passable.shape[0] > 0:
                    open_ = passable[i * heights.shape[0] + k, x] & at
                    at, can = at & ~open_, can | open_
                at |= free[row, x] & bands[k, 1]
                if not at | can:
                    continue
                for y in range(8):
                    shift = np.uint64(8 * y)
                    if (at >> shift) & line:
                        patches[i, y, x] = 100
                    elif (can >> shift) & line and patches[i, y, x] < 0:
                        patches[i, y, x] = 0
    return patches


@njit(cache=True, nogil=True)
def changed_cells(
    columns: Array, patches: Array, lower: Array, raw: Array
) -> tuple[bool, Array, Array, Array]:
    """Compares patches with a ground plan.

    Args:
        columns: (N, 2) int64 block coordinates x and y of the patches.
        patches: (N, 8, 8) int8.
        lower: (2,) int64 x and y of the plan's first cell.
        raw: (H, W) int8 the plan; it holds all patches.

    Returns:
        whether something known is unknown now; and y, x (C,) int64 and states (C,) int8 of what differs.
    """
    size = columns.shape[0] * 64
    ys, xs, new = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int8)
    count, forgot = 0, False
    for i in range(columns.shape[0]):
        for v in range(8):
            for u in range(8):
                y, x = columns[i, 1] * 8 + v, columns[i, 0] * 8 + u
                old = raw[y - lower[1], x - lower[0]]
                if old != patches[i, v, u]:
                    forgot |= old >= 0 and patches[i, v, u] < 0
                    ys[count], xs[count], new[count] = y, x, patches[i, v, u]
                    count += 1
    return forgot, ys[:count], xs[:count], new[:count]


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

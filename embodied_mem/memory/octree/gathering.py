"""Numba kernels on the cells of a byte map: what it spans, and taking the marks out of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

PAD = 64
"""As in `dense`."""
_HIT = np.uint8(2)
"""HIT of `kernels`."""


class Touched(NamedTuple):
    """The blocks of a byte map that have marks; there is room for more.

    Attributes:
        which: (M,) int64 number of each, x-major.
        first: (M,) int64 its first eight cells, in words of eight cells.
        keys: (M,) int64 its packed key.
        marks: (M, 64) uint64 its marks, eight at a time.
    """

    which: Array
    first: Array
    keys: Array
    marks: Array

    @classmethod
    def room_for(cls, count: int) -> Touched:
        """Returns arrays for so many blocks."""
        which, first, keys = np.empty((3, count), np.int64)
        return cls(which, first, keys, np.empty((count, 64), np.uint64))

    def part(self, count: int) -> Touched:
        """Returns the first so many of them."""
        return Touched(self.which[:count], self.first[:count], self.keys[:count], self.marks[:count])


@njit(cache=True, nogil=True)
def scan_bounds(
    points: Array, origin: Array, max_range: float, resolution: float, world: float
) -> tuple[Array, Array, int]:
    """Finds the voxels that the rays of a scan span.

    Args:
        points: (N, 3) float32 [m].
        origin: (3,) float32 [m].
        max_range: [m].
        resolution: edge of a voxel [m].
        world: largest voxel index that can be stored.

    Returns:
        first and last voxel index, (3,) int64 each, and the number of points that are not
        finite or outside the world.
    """
    inverse = 1.0 / resolution
    lo = np.empty(3, np.int64)
    hi = np.empty(3, np.int64)
    low = origin.copy()
    high = origin.copy()
    dropped = 0
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        furthest = max(abs(np.float64(x)), abs(np.float64(y)), abs(np.float64(z)))
        if furthest * inverse < world and x == x and y == y and z == z:
            low[0], high[0] = min(low[0], x), max(high[0], x)
            low[1], high[1] = min(low[1], y), max(high[1], y)
            low[2], high[2] = min(low[2], z), max(high[2], z)
        else:
            dropped += 1
    for a in range(3):
        reach = max_range * (1.0 + 1e-6)
        near = max(np.float64(low[a]), np.float64(origin[a]) - reach)
        far = min(np.float64(high[a]), np.float64(origin[a]) + reach)
        lo[a] = np.int64(np.floor(near * inverse)) - 1
        hi[a] = np.int64(np.floor(far * inverse)) + 1
    return lo, hi, dropped


@njit(cache=True, nogil=True)
def span_blocks(lo: Array, hi: Array) -> tuple[Array, Array, Array, float]:
    """Finds the byte map of the blocks around the voxels from lo to hi, (3,) int64 each.

    Returns:
        (3,) int64 first voxel, blocks along each axis, cells per voxel along each axis; how many cells.
    """
    first, shape, strides = np.empty(3, np.int64), np.empty(3, np.int64), np.ones(3, np.int64)
    size = np.float64(PAD)  # may be more than an integer can hold
    for i in range(3):
        first[i] = (lo[i] >> 3) << 3
        shape[i] = (hi[i] >> 3) - (lo[i] >> 3) + 1
    strides[1] = 8 * shape[2]
    strides[0] = 8 * shape[1] * strides[1]
    return first, shape, strides, size + 8.0 * shape[0] * (8.0 * shape[1]) * (8.0 * shape[2])


@njit(cache=True, nogil=True)
def move_marks(source: Array, cells: Array) -> None:
    """Adds the marks of one byte map to another of the same frame and leaves it zeroed."""
    ours, theirs = cells.view(np.uint64), source.view(np.uint64)
    for i in range(ours.shape[0]):
        ours[i] |= theirs[i]
        theirs[i] = 0


@njit(cache=True, nogil=True)
def mark_ends(cells: Array, ends: Array) -> None:
    """Marks HIT the cells in which rays end; hits win."""
    for i in range(ends.shape[0]):
        cells[ends[i]] = _HIT


@njit(cache=True, nogil=True)
def touched_blocks(cells: Array, shape: Array, lo: Array, bias: int, found: Touched) -> int:
    """Lists the blocks of a byte map that have marks.

    Args:
        cells: the byte map.
        shape: (3,) int64 number of blocks along each axis.
        lo: (3,) int64 first voxel of the byte map.
        bias: what is added to each block coordinate in a packed key.
        found: filled, but for its marks.

    Returns:
        how many there are.
    """
    words = cells.view(np.uint64)
    nx, ny, nz = shape[0], shape[1], shape[2]
    which, first, keys = found.which, found.first, found.keys
    bx0, by0, bz0 = (lo[0] >> 3) + bias, (lo[1] >> 3) + bias, (lo[2] >> 3) + bias
    count, plane = 0, ny * 8 * nz
    touched = np.empty(plane, np.uint64)
    for bx in range(nx):
        touched[:] = 0
        for x in range(8):  # whole planes at once: long loops are vectorised
            at = PAD // 8 + (bx * 8 + x) * plane
            row = words[at : at + plane]
            for k in range(plane):
                touched[k] |= row[k]
        for by in range(ny):
            for bz in range(nz):
                any_ = np.uint64(0)
                for y in range(8):
                    any_ |= touched[(by * 8 + y) * nz + bz]
                if any_:
                    which[count] = (bx * ny + by) * nz + bz
                    first[count] = PAD // 8 + bx * 8 * plane + by * 8 * nz + bz
                    keys[count] = (bx0 + bx) << 42 | (by0 + by) << 21 | (bz0 + bz)
                    count += 1
    return count


@njit(cache=True, nogil=True)
def take_blocks(cells: Array, shape: Array, found: Touched, start: int, stop: int) -> None:
    """Moves the marks of blocks out of a byte map, which is zero there afterwards.

    Args:
        cells: the byte map.
        shape: (3,) int64 number of blocks along each axis.
        found: the blocks; their marks are filled in.
        start: the first one.
        stop: the one after the last one.
    """
    words, first, marks = cells.view(np.uint64), found.first, found.marks
    sy, sx = shape[2], shape[2] * shape[1] * 8
    for i in range(start, stop):
        for x in range(8):
            for y in range(8):
                at = first[i] + x * sx + y * sy
                marks[i, x * 8 + y] = words[at]
                words[at] = 0


@njit(cache=True, nogil=True)
def vote_labels(
    ends: Array, labels: Array, which: Array, shape: Array, slots: Array, names: Array, votes: Array
) -> None:
    """Finds the labels of the voxels in which rays end (Boyer-Moore majority, in their order).

    Args:
        ends: (N,) int32 cells, 0 none.
        labels: (N,) int32, 0 unknown.
        which: (M,) int64 numbers of the touched blocks, those of all ends among them.
        shape: (3,) int64 number of blocks along each axis.
        slots: (B,) int32 by number of a block, scratch.
        names: (M, 512) int32 zeros, filled.
        votes: (M, 512) int32 zeros, scratch.
    """
    ny, nz = shape[1], shape[2]
    for i in range(which.shape[0]):
        slots[which[i]] = i
    for i in range(ends.shape[0]):
        if ends[i] <= 0 or labels[i] <= 0:
            continue
        cell = np.uint32(ends[i] - PAD)
        line, z = cell // np.uint32(nz * 8), cell % np.uint32(nz * 8)
        x, y = line // np.uint32(ny * 8), line % np.uint32(ny * 8)
        m = slots[(np.int64(x >> 3) * ny + np.int64(y >> 3)) * nz + np.int64(z >> 3)]
        v = np.int64((x & 7) << 6 | (y & 7) << 3 | (z & 7))
        if votes[m, v] == 0:
            names[m, v], votes[m, v] = labels[i], 1
        else:
            votes[m, v] += 1 if names[m, v] == labels[i] else -1

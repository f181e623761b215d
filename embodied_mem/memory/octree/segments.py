"""Segments of a pool: each block has one, as long as what it keeps there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.memory.octree.words import trailing_zeros

Array = NDArray[Any]

LARGEST = 512
"""No block keeps more than so many things: one for each voxel."""
WASTE = 1.125
"""A pool is compacted, rather than grown, when it is so many times what the blocks hold."""
HOLES = 512
"""Room is made for at least so many more holes."""
FITS = -1
"""Instead of a number of things: a block's segment will do."""
_FULL = 2**31 - LARGEST
_TAIL, _SPARE, _SPARES = 0, 1, 2


def roomy(count: int, least: int = 0) -> int:
    """Returns how long an array that has to hold so many things should become, for `least` more or so."""
    return count + max(count // 16, least)


def lengthen(column: Array, capacity: int, fill: int) -> Array:
    """Returns a column of so many things or rows: those of another one, and after them `fill`."""
    grown, before = np.empty((capacity, *column.shape[1:]), column.dtype), len(column)
    grown[:before] = column
    grown[before:] = fill
    return grown


class Segments:
    """Which part of a pool each block has, and the holes between those parts.

    Attributes:
        unit: segments are multiples of so many.
        starts: (B,) int32 first place of each block's segment.
        sizes: (B,) int16 its length; 0 none.
        held: places that blocks have; the others up to the tail are holes.
    """

    def __init__(self, unit: int, rows: int) -> None:
        self.unit = unit
        self.starts = np.zeros(rows, np.int32)
        self.sizes = np.zeros(rows, np.int16)
        self.held = 0
        self._empty_holes(0)

    def _empty_holes(self, tail: int) -> None:
        # Holes of k units are a list: `heads[k]` is the first one's row of `holes`, -1 none; a
        # row holds where the hole starts and the row of the next one. Spare rows are a list too.
        # Bit k of `some` is set where there may be holes of k units.
        self._heads = np.full(LARGEST // self.unit + 1, -1, np.int32)
        self._some = np.zeros((LARGEST // self.unit + 64) // 64, np.uint64)
        self._holes = np.empty((0, 2), np.int32)
        self._state = np.array([tail, -1, 0], np.int64)

    @property
    def tail(self) -> int:
        """Places of the pool that were ever given away."""
        return int(self._state[_TAIL])

    def grow(self, rows: int) -> None:
        """Makes room for so many blocks."""
        self.starts, self.sizes = lengthen(self.starts, rows, 0), lengthen(self.sizes, rows, 0)

    def misfits(self, rows: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Returns (M,) bool: whose segment is too small, or far too large, for so many things."""
        sizes = self.sizes[rows].astype(np.int64)
        slack = np.where(counts > 0, 2 * self.unit, 1)
        return (counts > sizes) | (sizes - counts >= slack)

    def refit(
        self, rows: NDArray[np.int64], counts: NDArray[np.int64], capacity: int
    ) -> NDArray[np.int64] | None:
        """Gives blocks other segments; what was in theirs is lost.

        The other segments are moved together where the pool would have to grow though much of
        it is holes.

        Args:
            rows: (M,) int64, each once.
            counts: (M,) int64 things that each will keep; FITS: it keeps its segment.
            capacity: of the pool; it has to grow to `tail` where that is more.

        Returns:
            (K,) int64, where in the pool its first K places are to be filled from; None for nowhere.

        Raises:
            InputError: the pool is as large as it can be.
        """
        holes = self._heads, self._some, self._holes, self._state
        limits = capacity, WASTE, self.held
        done, more = _refit(rows, counts, self.unit, *limits, self.starts, self.sizes, *holes)
        if done:
            self.held += more
            return None
        misfits, need, _ = _count_misfits(rows, counts, self.unit, self.sizes)
        if self.tail + need > _FULL:
            raise InputError("the octree is full: clear parts of it, or start another one")
        self._release(rows, counts, misfits)
        slots = None
        if self.tail + need > capacity and self.tail > WASTE * self.held:
            slots = self._compact()
        holes = self._heads, self._some, self._holes, self._state
        self.held += _allot(rows, counts, self.unit, self.starts, self.sizes, *holes)
        return slots

    def _release(self, rows: NDArray[np.int64], counts: NDArray[np.int64], misfits: int) -> None:
        spares = int(self._state[_SPARES])
        if misfits > spares:
            more, first = max(misfits - spares, len(self._holes) // 8, HOLES), len(self._holes)
            self._holes = np.concatenate([self._holes, np.empty((more, 2), np.int32)])
            self._holes[first:, 1] = np.arange(first + 1, first + more + 1)
            self._holes[-1, 1] = self._state[_SPARE]
            self._state[_SPARE], self._state[_SPARES] = first, spares + more
        holes = self._heads, self._some, self._holes, self._state
        self.held -= _release(rows, counts, self.unit, self.starts, self.sizes, *holes)

    def _compact(self) -> NDArray[np.int64]:
        slots = np.empty(self.held, np.int64)
        _compact(self.starts, self.sizes, slots)
        self._empty_holes(self.held)
        return slots

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return (
            self.starts.nbytes
            + self.sizes.nbytes
            + self._heads.nbytes
            + self._some.nbytes
            + self._holes.nbytes
        )


@njit(cache=True, nogil=True)
def _next_hole(units: int, heads: Array, some: Array) -> int:
    """Returns the smallest size of a hole of at least so many units; 0 where there is none."""
    at = units >> 6
    word = some[at] & ~((np.uint64(1) << np.uint64(units & 63)) - np.uint64(1))
    while True:
        while word:
            wide = 64 * at + trailing_zeros(word)
            if heads[wide] >= 0:
                return wide
            some[at] &= ~(word & (~word + np.uint64(1)))
            word &= word - np.uint64(1)
        at += 1
        if at == some.shape[0]:
            return 0
        word = some[at]


@njit(cache=True, nogil=True)
def _allot(
    rows: Array,
    counts: Array,
    unit: int,
    starts: Array,
    sizes: Array,
    heads: Array,
    some: Array,
    holes: Array,
    state: Array,
) -> int:
    """Gives each block but those that FIT the smallest hole that is large enough, or else a part of the tail.

    Returns:
        how many places that were given.
    """
    given = 0
    for i in range(rows.shape[0]):
        if counts[i] == FITS:
            continue
        r, units = rows[i], (counts[i] + unit - 1) // unit
        sizes[r] = units * unit
        given += units * unit
        starts[r] = 0
        if units == 0:
            continue
        wide = _next_hole(units, heads, some)
        if wide == 0:
            starts[r] = state[_TAIL]
            state[_TAIL] += units * unit
            continue
        hole = heads[wide]
        starts[r] = holes[hole, 0]
        heads[wide] = holes[hole, 1]
        if wide > units:  # what is left of the hole is a hole
            holes[hole, 0] += units * unit
            holes[hole, 1] = heads[wide - units]
            heads[wide - units] = hole
            some[(wide - units) >> 6] |= np.uint64(1) << np.uint64((wide - units) & 63)
        else:
            holes[hole, 1] = state[_SPARE]
            state[_SPARE] = hole
            state[_SPARES] += 1
    return given


@njit(cache=True, nogil=True)
def _compact(starts: Array, sizes: Array, slots: Array) -> None:
    """Lets segments follow one another; `slots` is filled with where each place was."""
    n = 0
    for r in range(starts.shape[0]):
        first, size = np.int64(starts[r]), np.int64(sizes[r])
        for k in range(size):
            slots[n + k] = first + k
        starts[r] = n
        n += size


@njit(cache=True, nogil=True)
def _count_misfits(rows: Array, counts: Array, unit: int, sizes: Array) -> tuple[int, int, int]:
    """Looks at blocks that do not FIT.

    Returns:
        how many have segments, the most places that other ones take, and the places that they have.
    """
    misfits, need, places = 0, 0, 0
    for i in range(counts.shape[0]):
        if counts[i] != FITS:
            size = np.int64(sizes[rows[i]])
            misfits += np.int64(size > 0)
            places += size
            need += counts[i] + unit
    return misfits, need, places


@njit(cache=True, nogil=True)
def _release(
    rows: Array,
    counts: Array,
    unit: int,
    starts: Array,
    sizes: Array,
    heads: Array,
    some: Array,
    holes: Array,
    state: Array,
) -> int:
    """Makes holes, which must be spare, of the segments of blocks that do not FIT; returns their places."""
    taken = 0
    for i in range(rows.shape[0]):
        if counts[i] == FITS:
            continue
        r = rows[i]
        units = sizes[r] // unit
        taken += units * unit
        sizes[r] = 0
        if units > 0:
            hole = state[_SPARE]
            state[_SPARE] = holes[hole, 1]
            state[_SPARES] -= 1
            holes[hole, 0] = starts[r]
            holes[hole, 1] = heads[units]
            heads[units] = hole
            some[units >> 6] |= np.uint64(1) << np.uint64(units & 63)
    return taken


@njit(cache=True, nogil=True)
def _refit(
    rows: Array,
    counts: Array,
    unit: int,
    capacity: int,
    waste: float,
    held: int,
    starts: Array,
    sizes: Array,
    heads: Array,
    some: Array,
    holes: Array,
    state: Array,
) -> tuple[bool, int]:
    """Does what `_release` and `_allot` do, if enough holes are spare and nothing is to be moved together.

    Returns:
        whether it did, and how many more places are held.
    """
    misfits, need, places = _count_misfits(rows, counts, unit, sizes)
    last = state[_TAIL] + need
    if misfits > state[_SPARES] or last > _FULL:
        return False, 0
    if last > capacity and state[_TAIL] > waste * (held - places):
        return False, 0
    taken = _release(rows, counts, unit, starts, sizes, heads, some, holes, state)
    return True, _allot(rows, counts, unit, starts, sizes, heads, some, holes, state) - taken

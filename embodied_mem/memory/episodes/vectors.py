"""Embeddings as rows of int8: an eighth of float64, and similarity over them is exact integer work."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.episodes.chunks import SHIFT

Fetch = Callable[[list[int]], Iterable[tuple[int, tuple[NDArray[np.uint16], NDArray[np.int8]]]]]
"""Reads the vectors of chunks: offset of each entry in its chunk, and (n, D) int8."""
AT_ONCE = 8
"""So many chunks are fetched at a time."""
STEPS = 127
"""The largest component of a vector becomes +-STEPS."""


def quantise(vector: NDArray[np.floating] | None) -> NDArray[np.int8] | None:
    """Returns a finite vector as (D,) int8, its direction kept to about half a step; None as it is."""
    if vector is None:
        return None
    wide = np.asarray(vector, np.float64)
    return np.rint(wide * (STEPS / np.abs(wide).max())).astype(np.int8)


def unit(vector: NDArray[np.int8]) -> NDArray[np.float32]:
    """Returns what `quantise` gave as (D,) float32 of unit length."""
    wide = vector.astype(np.float64)
    return (wide / np.sqrt((wide * wide).sum())).astype(np.float32)


class Vectors:
    """One int8 vector per row, zero where a row has none.

    The size D is that of the first vector; before it, rows take no space. Those of sealed chunks are
    fetched when they are needed.

    Args:
        ids: gives the ids of all rows, ascending; only needed where vectors are fetched.
    """

    def __init__(self, ids: Callable[[], NDArray[np.int64]] | None = None) -> None:
        self._count = 0
        self._rows = np.empty((0, 0), np.int8)
        self._scales = np.empty(0, np.float32)
        self._has = np.empty(0, bool)
        self._ids = ids
        self._absent: set[int] = set()
        self._fetch: Fetch | None = None

    def __len__(self) -> int:
        return self._count

    @property
    def size(self) -> int:
        """Size D of the vectors, 0 before the first."""
        return int(self._rows.shape[1])

    @property
    def rows(self) -> NDArray[np.int8]:
        """(N, D) int8; (N, 0) before the first vector."""
        self.need()
        return self._rows[: self._count] if self.size else np.empty((self._count, 0), np.int8)

    @property
    def scales(self) -> NDArray[np.float32]:
        """(N,) float32 by which a row becomes a unit vector; 0 where a row has none."""
        self.need()
        return self._scales[: self._count] if self.size else np.zeros(self._count, np.float32)

    def some(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Returns `rows` and `scales`, of which only those of (M,) rows, ascending, need be right."""
        self.need(rows)
        if not self.size:
            return np.empty((self._count, 0), np.int8), np.zeros(self._count, np.float32)
        return self._rows[: self._count], self._scales[: self._count]

    def at(self, row: int) -> NDArray[np.int8] | None:
        """Returns a copy of one vector, or None where the row has none."""
        if not self.holds(row):
            return None
        self.need(np.array([row]))
        return self._rows[row].copy() if self.holds(row) else None

    def holds(self, row: int) -> bool:
        """Whether a row has a vector."""
        return bool(self.size and self._has[row])

    @property
    def has(self) -> NDArray[np.bool_]:
        """(N,) bool, whether a row has a vector."""
        return self._has[: self._count] if self.size else np.zeros(self._count, bool)

    def append(self, vector: NDArray[np.int8] | None) -> None:
        """Adds a row; None has no vector."""
        if vector is not None and not self.size:
            self._make(max(64, self._count + 1), len(vector))
        if self.size and self._count == len(self._rows):
            more = max(len(self._rows), 64)
            self._rows = np.concatenate([self._rows, np.zeros((more, self.size), np.int8)])
            self._scales = np.concatenate([self._scales, np.zeros(more, np.float32)])
            self._has = np.concatenate([self._has, np.zeros(more, bool)])
        if self.size:
            row, self._has[self._count] = self._count, vector is not None
            self._rows[row] = 0 if vector is None else vector
            self._scales[row] = 0.0 if vector is None else _scale(vector)
        self._count += 1

    def _make(self, capacity: int, size: int) -> None:
        self._rows = np.zeros((capacity, size), np.int8)
        self._scales, self._has = np.zeros(capacity, np.float32), np.zeros(capacity, bool)

    def load(self, rows: NDArray[np.int8]) -> None:
        """Takes (N, D) int8 rows, zero where there is no vector, as all there is."""
        self.defer(np.zeros(len(rows), bool), rows.shape[1], (), None)
        if rows.shape[1]:
            self._rows = rows
            self._scales = _scales(rows)
            self._has = self._scales > 0

    def defer(self, has: NDArray[np.bool_], size: int, absent: Iterable[int], fetch: Fetch | None) -> None:
        """Starts with rows whose vectors are fetched when they are needed.

        Args:
            has: (N,) bool, which rows have a vector.
            size: D; 0 where no row has one.
            absent: chunks whose vectors are not here.
            fetch: reads the vectors of chunks; None where none is absent.
        """
        self._count = len(has)
        self._absent = set(absent) if size else set()
        self._fetch = fetch
        if size:
            # Not zeros: numpy asks for huge pages for empty arrays only, and these fill ten times faster.
            self._rows = np.empty((self._count, size), np.int8)
            self._scales, self._has = np.zeros(self._count, np.float32), has.copy()
            self._rows[~has] = 0

    def put(self, first: int, rows: NDArray[np.int8]) -> None:
        """Replaces rows from `first` on by (M, D) int8, zero where there is no vector."""
        last = first + len(rows)
        self._rows[first:last] = rows
        self._scales[first:last] = _scales(rows)
        self._has[first:last] = self._scales[first:last] > 0

    def need(self, rows: NDArray[np.int64] | None = None) -> None:
        """Fetches the vectors of (M,) rows, ascending, that are not here; of all where None.

        Raises:
            StoreError: they are damaged in the file.
        """
        if not self._absent or self._fetch is None or self._ids is None or not self._count:
            return
        ids = self._ids()
        wanted = self._absent
        if rows is not None:
            chunks = ids[rows] >> SHIFT
            wanted = wanted & set(chunks[np.flatnonzero(np.diff(chunks, prepend=-1))].tolist())
        nothing = np.empty(0, np.uint16), np.empty((0, self.size), np.int8)
        chunks_wanted = sorted(wanted)
        for at in range(0, len(chunks_wanted), AT_ONCE):  # so that their bytes lie where the last ones lay
            some = chunks_wanted[at : at + AT_ONCE]
            found = dict(self._fetch(some))
            for chunk in some:
                self._fill(chunk, ids, *found.get(chunk, nothing))
                self._absent.discard(chunk)

    def _fill(
        self, chunk: int, ids: NDArray[np.int64], offsets: NDArray[np.uint16], vectors: NDArray[np.int8]
    ) -> None:
        first, last = np.searchsorted(ids, (chunk << SHIFT, (chunk + 1) << SHIFT)).tolist()
        mine = ids[first:last] - (chunk << SHIFT)
        if np.array_equal(mine, offsets) and vectors.shape[1] == self.size:
            self.put(first, vectors)
            return
        # Some entries have gone since, or have none.
        at = np.minimum(np.searchsorted(offsets, mine), max(len(offsets) - 1, 0))
        there = offsets[at] == mine if len(offsets) and vectors.shape[1] == self.size else mine < 0
        rows = np.zeros((last - first, self.size), np.int8)
        rows[there] = vectors[at[there]]
        self.put(first, rows)

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Removes all rows but those where the (N,) mask is True."""
        if self.size:
            self._rows = self._rows[: self._count][rows]
            self._scales = self._scales[: self._count][rows]
            self._has = self._has[: self._count][rows]
        self._count = int(np.count_nonzero(rows))


@njit(cache=True, nogil=True)
def _square_sums(rows: NDArray[np.int8], sums: NDArray[np.int64]) -> None:
    for i in range(rows.shape[0]):
        total = np.int32(0)
        for j in range(rows.shape[1]):
            total = np.int32(total + np.int32(np.int32(rows[i, j]) * np.int32(rows[i, j])))
        sums[i] = total


def _scales(rows: NDArray[np.int8]) -> NDArray[np.float32]:
    sums = np.zeros(len(rows), np.int64)
    _square_sums(np.ascontiguousarray(rows), sums)
    scales = np.zeros(len(rows), np.float32)
    some = sums > 0
    scales[some] = (1.0 / np.sqrt(sums[some].astype(np.float64))).astype(np.float32)
    return scales


def _scale(vector: NDArray[np.int8]) -> float:
    wide = vector.astype(np.int64)
    return float(1.0 / np.sqrt(float((wide * wide).sum())))

"""The distinct stamps of a map, so that a voxel's is a number of four bytes instead of eight."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SLACK = 256
"""Stamps that no voxel has are forgotten when there may be so many of them, and as many as others."""


class Stamps:
    """A table of stamps [ns], in the order in which they came."""

    def __init__(self) -> None:
        self._values = np.empty(64, np.int64)
        self._count = 0
        self._kept = 0

    def number(self, stamp: int) -> int:
        """Returns the number of a stamp; that of the last one where they are equal."""
        if self._count == 0 or self._values[self._count - 1] != stamp:
            self._add(np.array([stamp], np.int64))
        return self._count - 1

    def numbers(self, stamps: NDArray[np.int64]) -> NDArray[np.int32]:
        """Returns the (N,) int32 numbers of stamps."""
        distinct, which = np.unique(stamps, return_inverse=True)
        first = self._count
        self._add(distinct)
        return (first + which.reshape(-1)).astype(np.int32)

    def __getitem__(self, numbers: NDArray[Any]) -> NDArray[np.int64]:
        """Returns the (N,) int64 stamps of numbers."""
        # Indices of another type than its own numpy converts without the interpreter's lock, however few.
        return self._values[numbers.astype(np.intp)]

    @property
    def values(self) -> NDArray[np.int64]:
        """(S,) int64 all of them, by number [ns]."""
        return self._values[: self._count]

    def forget(self, column: NDArray[np.int32]) -> None:
        """Forgets the stamps that are not in a column of numbers, where that is worth it.

        Args:
            column: (R,) int32, all numbers in use; changed to the new ones.
        """
        if self._count <= 2 * self._kept + max(SLACK, len(column) // 1024):
            return
        used = np.zeros(self._count, np.bool_)
        used[column] = True
        column[:] = (np.cumsum(used) - 1)[column]
        self._values = self._values[: self._count][used]
        self._count = self._kept = len(self._values)

    def _add(self, stamps: NDArray[np.int64]) -> None:
        wanted = self._count + len(stamps)
        if wanted > len(self._values):
            more = max(wanted - len(self._values), len(self._values) // 8)
            self._values = np.concatenate([self._values, np.empty(more, np.int64)])
        self._values[self._count : wanted] = stamps
        self._count = wanted

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self._values.nbytes

"""Embeddings as rows of int8: an eighth of float64, and similarity over them is exact integer work."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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

    The size D is that of the first vector; before it, rows take no space.
    """

    def __init__(self) -> None:
        self._count = 0
        self._rows = np.empty((0, 0), np.int8)
        self._scales = np.empty(0, np.float32)

    def __len__(self) -> int:
        return self._count

    @property
    def size(self) -> int:
        """Size D of the vectors, 0 before the first."""
        return int(self._rows.shape[1])

    @property
    def rows(self) -> NDArray[np.int8]:
        """(N, D) int8; (N, 0) before the first vector."""
        return self._rows[: self._count] if self.size else np.empty((self._count, 0), np.int8)

    @property
    def scales(self) -> NDArray[np.float32]:
        """(N,) float32 by which a row becomes a unit vector; 0 where a row has none."""
        return self._scales[: self._count] if self.size else np.zeros(self._count, np.float32)

    def at(self, row: int) -> NDArray[np.int8] | None:
        """Returns a copy of one vector, or None where the row has none."""
        return self._rows[row].copy() if self.holds(row) else None

    def holds(self, row: int) -> bool:
        """Whether a row has a vector."""
        return bool(self.size and self._scales[row] > 0)

    def append(self, vector: NDArray[np.int8] | None) -> None:
        """Adds a row; None has no vector."""
        if vector is not None and not self.size:
            capacity = max(64, self._count + 1)
            self._rows = np.zeros((capacity, len(vector)), np.int8)
            self._scales = np.zeros(capacity, np.float32)
        if self.size and self._count == len(self._rows):
            more = max(len(self._rows), 64)
            self._rows = np.concatenate([self._rows, np.zeros((more, self.size), np.int8)])
            self._scales = np.concatenate([self._scales, np.zeros(more, np.float32)])
        if self.size:
            self._rows[self._count] = 0 if vector is None else vector
            self._scales[self._count] = 0.0 if vector is None else _scale(vector)
        self._count += 1

    def load(self, rows: NDArray[np.int8]) -> None:
        """Takes (N, D) int8 rows, zero where there is no vector, as all there is."""
        self._count = len(rows)
        if not rows.shape[1]:
            return
        self._rows = rows
        self._scales = np.zeros(len(rows), np.float32)
        for at in range(0, len(rows), 1 << 16):
            wide = rows[at : at + (1 << 16)].astype(np.int32)
            squares = np.einsum("ij,ij->i", wide, wide).astype(np.float64)  # integers: exact
            some = squares > 0
            self._scales[at : at + len(wide)][some] = (1.0 / np.sqrt(squares[some])).astype(np.float32)

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Removes all rows but those where the (N,) mask is True."""
        if self.size:
            self._rows = self._rows[: self._count][rows]
            self._scales = self._scales[: self._count][rows]
        self._count = int(np.count_nonzero(rows))


def _scale(vector: NDArray[np.int8]) -> float:
    wide = vector.astype(np.int64)
    return float(1.0 / np.sqrt(float((wide * wide).sum())))

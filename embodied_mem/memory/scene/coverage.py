"""Which surfaces have been looked at, and how often: a place seen before without a thing was without it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.types import Scan

CELL = 0.25
"""Edge of a cell [m]."""
BLOCK = 8
"""Cells along the edge of a block, which is one row of the store."""
REACH = 3.0
"""Looks from farther away do not count [m]."""
RAYS = 2500
"""A denser scan is thinned to about this many rays."""
AROUND = np.array(
    [
        (0, 0, 0),
        (0, 0, -1),
        (1, 0, 0),
        (-1, 0, 0),
        (0, 1, 0),
        (0, -1, 0),
        (1, 0, -1),
        (-1, 0, -1),
        (0, 1, -1),
    ],
    np.float64,
)
"""Points at and just outside of a box, as parts of its half edges."""
_HALF = 1 << 15
_SIZE = BLOCK**3

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def _cells(points: Array, hit: Array, origin: Array, r: Array, t: Array, stride: int) -> Array:
    """Returns (N,) int64 numbers of the cells in which rays end near the sensor, sorted, each once."""
    count = (points.shape[0] + stride - 1) // stride
    keys = np.empty(count, np.int64)
    n, last = 0, np.int64(-1)
    for k in range(0, points.shape[0], stride):
        if not hit[k]:
            continue
        x, y, z = np.float64(points[k, 0]), np.float64(points[k, 1]), np.float64(points[k, 2])
        away = (x - origin[0]) ** 2 + (y - origin[1]) ** 2 + (z - origin[2]) ** 2
        if not away <= REACH * REACH:
            continue
        block, inside = np.int64(0), np.int64(0)
        for i in range(3):
            cell = np.int64(np.floor((r[i, 0] * x + r[i, 1] * y + r[i, 2] * z + t[i]) / CELL))
            block = block * 2 * _HALF + (cell // BLOCK + _HALF)
            inside = inside * BLOCK + cell % BLOCK
        key = block * _SIZE + inside
        if key != last:  # neighbouring rays often end in one cell
            keys[n], last = key, key
            n += 1
    keys = np.sort(keys[:n])
    unique = 0
    for k in range(n):
        if k == 0 or keys[k] != keys[k - 1]:
            keys[unique] = keys[k]
            unique += 1
    return keys[:unique]


def _number(blocks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns one number for each (N, 3) block."""
    shifted = blocks + _HALF
    return (shifted[:, 0] * 2 * _HALF + shifted[:, 1]) * 2 * _HALF + shifted[:, 2]


def _address(cells: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the blocks' numbers and the places in them of (N, 3) cells."""
    blocks = cells // BLOCK
    inside = cells - blocks * BLOCK
    return _number(blocks), (inside[:, 0] * BLOCK + inside[:, 1]) * BLOCK + inside[:, 2]


@njit(cache=True, nogil=True)
def _count(keys: Array, starts: Array, rows: Array, table: Array) -> None:
    """Counts cells of blocks once more, up to 255.

    Args:
        keys: (N,) int64 numbers of cells, sorted.
        starts: (M,) int64 where the cells of each block begin.
        rows: (M,) int64 of the blocks.
        table: (B, SIZE) uint8, changed in place.
    """
    block = -1
    for k in range(keys.shape[0]):
        if block + 1 < starts.shape[0] and starts[block + 1] == k:
            block += 1
        cell = keys[k] % _SIZE
        if table[rows[block], cell] < 255:
            table[rows[block], cell] += np.uint8(1)


class Coverage:
    """Counts in how many keyframes each piece of surface was seen from nearby."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        """Has counted nothing."""
        self._rows: dict[int, int] = {}
        """By number of a block, its row in the table."""
        self._table = np.zeros((16, _SIZE), np.uint8)

    def __len__(self) -> int:
        return len(self._rows)

    def _row(self, number: int) -> int:
        """Returns the row of a block, made where there is none."""
        row = self._rows.get(number)
        if row is None:
            row = self._rows[number] = len(self._rows)
            if row == len(self._table):
                self._table = np.concatenate([self._table, np.zeros_like(self._table)])
        return row

    def add(self, scans: tuple[Scan, ...], map_T_base: Pose) -> list[int]:
        """Counts the scans of one keyframe; returns the blocks that have changed."""
        rotation, shift = map_T_base.rotation(), map_T_base.position
        found = [
            _cells(s.points, s.hit, s.origin, rotation, shift, -(-len(s.points) // RAYS))
            for s in scans
            if s.origin is not None and len(s.points)
        ]
        if not found:
            return []
        keys = found[0] if len(found) == 1 else np.unique(np.concatenate(found))
        blocks = keys // _SIZE
        starts = np.flatnonzero(np.diff(blocks, prepend=-1))
        changed: list[int] = blocks[starts].tolist()
        rows = np.array([self._row(number) for number in changed], np.int64)
        _count(keys, starts, rows, self._table)
        return changed

    def looks(self, positions: NDArray[np.float64], extents: NDArray[np.float64]) -> NDArray[np.int64]:
        """Returns (N,) int64: in how many keyframes the surface at boxes was seen.

        Args:
            positions: (N, 3) centres [m].
            extents: (N, 3) edges [m].
        """
        if len(positions) == 0:
            return np.zeros(0, np.int64)
        half = extents[:, None, :] / 2 + 0.04
        points = positions[:, None, :] + AROUND * half  # (N, P, 3)
        cells = np.floor(points.reshape(-1, 3) / CELL).astype(np.int64)
        blocks, inside = _address(cells)
        counts = [
            int(self._table[self._rows[b], i]) if b in self._rows else 0
            for b, i in zip(blocks.tolist(), inside.tolist())
        ]
        return np.array(counts, np.int64).reshape(len(positions), -1).max(axis=1)

    def payloads(self) -> dict[int, bytes]:
        """Returns the blocks by number."""
        return {number: self._table[row].tobytes() for number, row in self._rows.items()}

    def payload(self, number: int) -> bytes:
        """Returns one block."""
        return self._table[self._rows[number]].tobytes()

    def restore(self, payloads: dict[int, bytes]) -> None:
        """Replaces everything by blocks of `payloads`.

        Raises:
            ValueError: a block of another size.
        """
        self._clear()
        for number, payload in payloads.items():
            block = np.frombuffer(payload, np.uint8).copy()
            if len(block) != _SIZE:
                raise ValueError(f"a block of {len(block)} cells")
            row = self._row(number)
            self._table[row] = block

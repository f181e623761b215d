"""Where the agent has been."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CHUNK = 64
"""Positions in one row of the store."""
CELL = 0.05
"""Edge of the squares of which the agent was in each at most once, for those who only ask where [m]."""


class Trajectory:
    """Stamped positions of the agent; a position holds until the next one.

    Args:
        spacing: moves shorter than this are left out [m].
    """

    def __init__(self, spacing: float) -> None:
        self.spacing = spacing
        self._stamps: list[int] = []
        self._table = np.empty((CHUNK, 3))
        """The positions, and room for more."""
        self._first = 0  # chunks that were dropped
        self._visited = np.empty((0, 3))
        self._cells: set[tuple[float, float]] = set()
        self._looked = 0  # positions that these two know
        self.revision = 0
        """Grows whenever positions that were there change or go; later ones change none."""

    def __len__(self) -> int:
        return len(self._stamps)

    @property
    def _positions(self) -> NDArray[np.float64]:
        return self._table[: len(self._stamps)]

    @property
    def stamps(self) -> NDArray[np.int64]:
        """(N,) int64 [ns]."""
        return np.array(self._stamps, np.int64)

    @property
    def positions(self) -> NDArray[np.float64]:
        """(N, 3) float64 [m] in the map frame; not to be changed, later positions do not change it."""
        return self._positions

    @property
    def visited(self) -> NDArray[np.float64]:
        """(V, 3) float64 [m]: the first position in each square of edge `CELL`; a long life adds none."""
        table, fresh = self._positions[self._looked :], []
        for row, (x, y) in enumerate(np.floor(table[:, :2] / CELL).tolist()):
            if (x, y) not in self._cells:
                self._cells.add((x, y))
                fresh.append(row)
        if fresh:
            self._visited = np.concatenate([self._visited, table[fresh]])
        self._looked = len(self)
        return self._visited

    def _look_again(self) -> None:
        self.revision += 1
        self._visited, self._looked = np.empty((0, 3)), 0
        self._cells.clear()

    @property
    def start(self) -> int:
        """Stamp of the first position [ns]; 0 where there is none."""
        return self._stamps[0] if self._stamps else 0

    @property
    def last(self) -> NDArray[np.float64] | None:
        """(3,) float64 [m], the newest position; None where there is none."""
        return self._positions[-1].copy() if len(self) else None

    def moved(self, position: NDArray[np.float64]) -> float:
        """Returns how far a position is from the last one kept [m]; 0 where there is none."""
        if not len(self):
            return 0.0
        (ax, ay, az), (bx, by, bz) = position.tolist(), self._positions[-1].tolist()
        return float(np.sqrt((ax - bx) ** 2 + (ay - by) ** 2 + (az - bz) ** 2))

    def append(self, stamp: int, position: NDArray[np.float64]) -> int:
        """Keeps a position if the agent has moved; returns the chunk it went to, or -1."""
        count = len(self)
        if count and self.moved(position) < self.spacing:
            return -1
        if count == len(self._table):
            self._table = np.concatenate([self._table, np.empty((max(count, CHUNK), 3))])
        self._table[count] = position
        self._stamps.append(stamp)
        return self._first + (len(self._stamps) - 1) // CHUNK

    def move(self, positions: NDArray[np.float64]) -> None:
        """Replaces the (N, 3) positions [m]; the stamps stay."""
        self._table = np.array(positions, np.float64)
        self._look_again()

    def payloads(self) -> dict[int, bytes]:
        """Returns the chunks by number: (n, 4) little-endian 8-byte words, stamp and x, y, z."""
        return {self._first + i: self.payload(self._first + i) for i in range(-(-len(self) // CHUNK))}

    def payload(self, chunk: int) -> bytes:
        """Returns one chunk of `payloads`."""
        part = slice((chunk - self._first) * CHUNK, (chunk - self._first + 1) * CHUNK)
        stamps = np.array(self._stamps[part], "<i8")
        words = np.empty((len(stamps), 4), "<f8")
        words[:, 0] = stamps.view("<f8")
        words[:, 1:] = self._positions[part]
        return words.tobytes()

    def restore(self, payloads: dict[int, bytes]) -> None:
        """Replaces all positions by those of `payloads`."""
        self._first = min(payloads, default=0)
        words = np.frombuffer(b"".join(payloads[i] for i in sorted(payloads)), "<f8").reshape(-1, 4)
        self._stamps = words[:, 0].copy().view("<i8").tolist()
        self._table = words[:, 1:].copy()
        self._look_again()

    def drop_oldest(self, count: int) -> list[int]:
        """Removes whole chunks of the oldest positions, at most `count` positions; returns the chunks."""
        chunks = min(count, max(len(self) - 1, 0)) // CHUNK
        self._table = self._positions[chunks * CHUNK :].copy()
        del self._stamps[: chunks * CHUNK]
        self._look_again()
        self._first += chunks
        return list(range(self._first - chunks, self._first))

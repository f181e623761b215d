"""The parts of fixed length of all entries, as columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.episodes.row import HEAD


class EntryColumns:
    """One packed array over all entries, in the order of their ids, and two columns beside it."""

    def __init__(self) -> None:
        self._heads = np.empty(64, HEAD)
        self._sizes = np.empty(64, np.uint32)
        self._spoken = np.empty(64, bool)
        self._count = 0
        self.newest: tuple[int, int] | None = None
        """Stamp [ns] and step of the newest write, entry or not."""

    def __len__(self) -> int:
        return self._count

    @property
    def heads(self) -> NDArray[Any]:
        """(N,) of `HEAD`."""
        return self._heads[: self._count]

    @property
    def ids(self) -> NDArray[np.int64]:
        """(N,) int64 ids, ascending, never reused."""
        return self._heads["id"][: self._count]

    @property
    def stamps(self) -> NDArray[np.int64]:
        """(N,) int64 [ns], not descending."""
        return self._heads["stamp"][: self._count]

    @property
    def used(self) -> NDArray[np.int64]:
        """(N,) int64 when each was written or last recalled, whichever is later [ns]."""
        return self._heads["used"][: self._count]

    @property
    def steps(self) -> NDArray[np.int64]:
        """(N,) int64 steps of the world's run."""
        return self._heads["step"][: self._count]

    @property
    def positions(self) -> NDArray[np.float64]:
        """(N, 3) float64 [m], the base in the map frame."""
        return self._heads["pose"][: self._count, :3]

    @property
    def poses(self) -> NDArray[np.float64]:
        """(N, 7) float64: x, y, z [m], qx, qy, qz, qw; `map_T_base`."""
        return self._heads["pose"][: self._count]

    @property
    def place_ids(self) -> NDArray[np.int64]:
        """(N,) int64 ids of the places the agent was at, or -1."""
        return self._heads["place"][: self._count]

    @property
    def room_ids(self) -> NDArray[np.int64]:
        """(N,) int64 ids of the rooms the agent was in, as they were known then, or -1."""
        return self._heads["room"][: self._count]

    @property
    def rewards(self) -> NDArray[np.float64]:
        """(N,) float64 rewards."""
        return self._heads["reward"][: self._count]

    @property
    def trusts(self) -> NDArray[np.float64]:
        """(N,) float64 in [0, 1]."""
        return self._heads["trust"][: self._count]

    @property
    def utilities(self) -> NDArray[np.float64]:
        """(N,) float64 learned usefulness, 0 before any feedback."""
        return self._heads["utility"][: self._count]

    @property
    def has_words(self) -> NDArray[np.bool_]:
        """(N,) bool, True where an entry has an event, a text, or says what changed."""
        return self._spoken[: self._count]

    @property
    def sizes(self) -> NDArray[np.uint32]:
        """(N,) uint32 bytes of each as a row of the file, about."""
        return self._sizes[: self._count]

    def index(self, entry_id: int) -> int:
        """Returns the row of an id, or -1."""
        row = int(np.searchsorted(self.ids, entry_id))
        return row if row < self._count and self.ids[row] == entry_id else -1

    @property
    def first_stamp(self) -> int:
        """Stamp of the oldest entry [ns]; 0 where there is none."""
        return int(self.stamps[0]) if self._count else 0

    def step_of(self, stamp: int) -> int:
        """Returns the step at a stamp [ns], interpolated between entries; -1 where there is no entry."""
        stamps, steps = self._knots()
        row = int(np.searchsorted(stamps, stamp, side="right")) - 1
        if row < 0:
            return int(steps[0]) if len(steps) else -1
        if row + 1 == len(stamps) or steps[row + 1] <= steps[row]:
            return int(steps[row])
        span, ahead = int(stamps[row + 1] - stamps[row]), int(stamp - stamps[row])
        return int(steps[row]) + (2 * ahead * int(steps[row + 1] - steps[row]) + span) // (2 * span)

    def stamp_of_step(self, step: int) -> int:
        """Returns the stamp [ns] of a step of the newest run, interpolated between entries.

        Steps beyond the newest, or before the oldest, are counted on at the pace of the nearest
        entries. 0 where there is no entry.
        """
        stamps, steps = self._knots()
        if not len(stamps):
            return 0
        starts = np.flatnonzero(np.diff(steps) < 0) + 1  # the step counts anew: another run
        first = int(starts[-1]) if len(starts) else 0
        steps, keep = np.unique(steps[first:], return_index=True)
        stamps = stamps[first:][keep]
        if len(stamps) == 1:
            return int(stamps[0]) + (step > steps[0]) - (step < steps[0])
        left = int(np.clip(np.searchsorted(steps, step, side="right") - 1, 0, len(steps) - 2))
        span = int(steps[left + 1] - steps[left])
        return int(stamps[left]) + (step - int(steps[left])) * int(stamps[left + 1] - stamps[left]) // span

    def _knots(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        stamps, steps = self.stamps, self.steps
        if self.newest is not None and (not self._count or self.newest[0] > stamps[-1]):
            stamps = np.append(stamps, self.newest[0])
            steps = np.append(steps, self.newest[1])
        return stamps, steps

    def _add_head(self, head: tuple[Any, ...]) -> int:
        row = self._count
        if row == len(self._heads):
            more = max(row, 64)
            self._heads = np.concatenate([self._heads, np.empty(more, HEAD)])
            self._sizes = np.concatenate([self._sizes, np.empty(more, np.uint32)])
            self._spoken = np.concatenate([self._spoken, np.empty(more, bool)])
        self._heads[row] = head
        self._count += 1
        return row

    def _keep_heads(self, keep: NDArray[np.bool_]) -> None:
        count = self._count
        self._heads, self._sizes = self._heads[:count][keep], self._sizes[:count][keep]
        self._spoken = self._spoken[:count][keep]
        self._count = len(self._heads)

    def _load_heads(self, heads: NDArray[Any], sizes: NDArray[np.uint32], spoken: NDArray[np.bool_]) -> None:
        self._heads, self._sizes, self._spoken, self._count = heads, sizes, spoken, len(heads)

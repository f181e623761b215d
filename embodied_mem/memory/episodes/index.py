"""Which entries saw an object, hold a word, or are summaries; made when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.episodes.details import Details
from embodied_mem.memory.episodes.row import EpisodeRow


class EntryIndex:
    """Lists of entry ids, ascending, by object and by word; what each summary rests on.

    Of entries that came from a file, the lists are made when they are first asked for.

    Args:
        ids: gives the ids of all entries, in the order of `details`.
        details: of all entries.

    Attributes:
        summaries: summary -> ids of its evidence.
    """

    def __init__(self, ids: Callable[[], NDArray[np.int64]], details: Details) -> None:
        self.summaries: dict[int, tuple[int, ...]] = {}
        self._ids = ids
        self._details = details
        self._waits = False
        self._seen_in: dict[int, list[int]] = {}
        self._by_word: dict[str, list[int]] = {}

    @property
    def seen_in(self) -> dict[int, list[int]]:
        """Object id -> ids of the entries in which it was seen."""
        self._make()
        return self._seen_in

    @property
    def by_word(self) -> dict[str, list[int]]:
        """Word of an event, text or change -> ids of the entries that hold it."""
        self._make()
        return self._by_word

    def wait(self, summaries: dict[int, tuple[int, ...]]) -> None:
        """Notes that the entries have come from a file, with these summaries among them."""
        self.summaries.update(summaries)
        self._waits = True

    def _make(self) -> None:
        if self._waits:
            self._waits = False
            for entry_id, row in zip(self._ids().tolist(), self._details):
                self._list(entry_id, row)

    def add(self, entry_id: int, row: EpisodeRow) -> None:
        """Takes in an entry whose id is the greatest."""
        if row.evidence:
            self.summaries[entry_id] = row.evidence
        if not self._waits:
            self._list(entry_id, row)

    def _list(self, entry_id: int, row: EpisodeRow) -> None:
        for object_id in row.object_ids:
            self._seen_in.setdefault(object_id, []).append(entry_id)
        if row.event or row.text or row.changes:
            for word in row.words():
                self._by_word.setdefault(word, []).append(entry_id)

    def remove(self, entry_ids: Sequence[int], rows: Sequence[int]) -> None:
        """Takes entries out, before their rows go; each list that names one is gone through once."""
        gone = set(entry_ids)
        for entry_id in gone & self.summaries.keys():
            del self.summaries[entry_id]
        if self._waits:
            return
        objects: set[int] = set()
        words: set[str] = set()
        for row in (self._details[number] for number in rows):
            objects.update(row.object_ids)
            words.update(row.words())
        for held in (*(self._seen_in[i] for i in objects), *(self._by_word[word] for word in words)):
            held[:] = [entry_id for entry_id in held if entry_id not in gone]

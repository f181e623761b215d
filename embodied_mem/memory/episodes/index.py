"""Which entries saw an object, hold a word, or are summaries; made when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.episodes.details import Details
from embodied_mem.memory.episodes.row import EpisodeRow


class EntryIndex:
    """Lists of entry ids, ascending, by object and by word; what each summary rests on.

    Attributes:
        seen_in: object id -> entry ids.
        by_word: word of an event, text or change -> entry ids.
        summaries: summary -> ids of its evidence.
    """

    def __init__(self) -> None:
        self.seen_in: dict[int, list[int]] = {}
        self.by_word: dict[str, list[int]] = {}
        self.summaries: dict[int, tuple[int, ...]] = {}

    @classmethod
    def of(cls, ids: NDArray[np.int64], details: Details) -> EntryIndex:
        """Makes the index of entries that are there already."""
        index = cls()
        for entry_id, row in zip(ids.tolist(), details):
            index.add(entry_id, row)
        return index

    def add(self, entry_id: int, row: EpisodeRow) -> None:
        """Takes in an entry whose id is the greatest."""
        if row.evidence:
            self.summaries[entry_id] = row.evidence
        for object_id in row.object_ids:
            self.seen_in.setdefault(object_id, []).append(entry_id)
        if row.event or row.text or row.changes:
            for word in row.words():
                self.by_word.setdefault(word, []).append(entry_id)

    def remove(self, entry_ids: Sequence[int], rows: Iterable[EpisodeRow]) -> None:
        """Takes entries out; each list that names one of them is gone through once."""
        gone = set(entry_ids)
        objects: set[int] = set()
        words: set[str] = set()
        for row in rows:
            objects.update(row.object_ids)
            words.update(row.words())
        for entry_id in gone & self.summaries.keys():
            del self.summaries[entry_id]
        for held in (*(self.seen_in[i] for i in objects), *(self.by_word[word] for word in words)):
            held[:] = [entry_id for entry_id in held if entry_id not in gone]

"""Which entries saw an object, hold a word, or are summaries; made when it is first asked for."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.episodes.columns import EntryColumns
from embodied_mem.memory.episodes.details import Details
from embodied_mem.memory.episodes.row import EpisodeRow
from embodied_mem.memory.recall.words import WordReader

_NONE = np.empty(0, np.int64)


class EntryIndex:
    """Ids of entries, ascending, by object and by word; what each summary rests on.

    Both lists are made over all entries when they are first asked for, and added to from then on.
    Entries that are removed stay in them, and are left out of what is answered; the lists are made
    anew once half of them is stale.

    Args:
        columns: of all entries.
        details: of all entries, in the same order.
        evidence: summary -> ids of the entries it rests on; kept up to date here.
    """

    def __init__(self, columns: EntryColumns, details: Details, evidence: dict[int, tuple[int, ...]]) -> None:
        self.evidence = evidence
        self._columns = columns
        self._details = details
        self._removed = 0
        self._seen: _Postings | None = None
        self._said: dict[str, array[int]] | None = None

    def seen_in(self, object_id: int) -> NDArray[np.int64]:
        """Returns the ids of the entries in which an object was seen, ascending, without summaries."""
        if self._seen is None:
            self._seen = _Postings()
            summaries = np.array(sorted(self.evidence), np.int64)
            for entries, objects in self._details.seen():
                there = self._exist(entries) & ~np.isin(entries, summaries)
                self._seen.extend(entries[there], objects[there])
            for row in range(self._details.sealed, len(self._columns)):
                entry_id = int(self._columns.ids[row])
                if entry_id not in self.evidence:
                    self._see(entry_id, self._details.object_ids(row))
        return self._existing(self._seen.of(object_id))

    def with_word(self, word: str) -> NDArray[np.int64]:
        """Returns the ids of the entries whose event, text or changes hold a word, ascending."""
        if self._said is None:
            self._said = {}
            read = WordReader()
            for entry_id, text in self._details.spoken(self._columns.has_words):
                self._say(entry_id, read(text))
        return self._existing(np.array(self._said.get(word, ()), np.int64))

    def _existing(self, found: NDArray[np.int64]) -> NDArray[np.int64]:
        return found[self._exist(found)] if self._removed else found

    def _exist(self, found: NDArray[np.int64]) -> NDArray[np.bool_]:
        ids = self._columns.ids
        if not len(ids):
            return np.zeros(len(found), bool)
        return np.asarray(ids[np.minimum(np.searchsorted(ids, found), len(ids) - 1)] == found)

    def add(self, entry_id: int, row: EpisodeRow) -> None:
        """Takes in an entry whose id is the greatest."""
        if row.evidence:
            self.evidence[entry_id] = row.evidence
        if self._seen is not None and not row.evidence:
            self._see(entry_id, row.object_ids)
        if self._said is not None and row.is_spoken:
            self._say(entry_id, row.words())

    def _see(self, entry_id: int, object_ids: tuple[int, ...]) -> None:
        assert self._seen is not None
        for object_id in object_ids:
            self._seen.newer.setdefault(object_id, []).append(entry_id)

    def _say(self, entry_id: int, words: Iterable[str]) -> None:
        assert self._said is not None
        for word in words:
            held = self._said.get(word)
            if held is None:
                self._said[word] = array("q", (entry_id,))
            elif held[-1] != entry_id:
                held.append(entry_id)

    def remove(self, entry_ids: NDArray[np.int64]) -> None:
        """Notes that entries are no more."""
        for entry_id in self.evidence.keys() & set(entry_ids.tolist()):
            del self.evidence[entry_id]
        self._removed += len(entry_ids)
        if self._removed > len(self._columns):
            self.forget()

    def forget(self) -> None:
        """Lets go of the lists; they are made anew when they are asked for."""
        self._seen, self._said, self._removed = None, None, 0


class _Postings:
    """Entry ids by object: one sorted table of those there were, and lists of those that came since."""

    def __init__(self) -> None:
        self.newer: dict[int, list[int]] = {}
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self._entries = self._objects = _NONE

    def extend(self, entries: NDArray[np.int64], objects: NDArray[np.int64]) -> None:
        """Adds (m,) entries that saw (m,) objects, later than any before."""
        self._parts.append((entries, objects))

    def of(self, object_id: int) -> NDArray[np.int64]:
        """Returns the ids of the entries that saw an object, ascending."""
        if self._parts:
            entries, objects = (np.concatenate(column) for column in zip(*self._parts))
            order = np.argsort(objects, kind="stable")
            self._entries, self._objects, self._parts = entries[order], objects[order], []
        first, last = np.searchsorted(self._objects, (object_id, object_id + 1)).tolist()
        newer = self.newer.get(object_id, ())
        return np.concatenate([self._entries[first:last], np.array(newer, np.int64)])

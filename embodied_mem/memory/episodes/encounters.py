"""Encounters: from when to when each object was in view, without a gap."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import StoreError

_ROW = struct.Struct("<qqq")


class Encounters:
    """Times during which an object was seen again and again, at most `gap` apart.

    They answer "what did I see between t1 and t2" to within `gap`, in 24 bytes per encounter,
    although episodic entries are made at keyframes only.

    Args:
        gap: an object unseen for longer than this is met anew when it returns [ns].
    """

    def __init__(self, gap: int) -> None:
        self.gap = gap
        self.next_id = 0
        self.version = 0
        self._objects: dict[int, int] = {}  # encounter id -> object id
        self._first: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._of: dict[int, list[int]] = {}  # object id -> encounter ids, oldest first
        self._touched: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def observe(self, object_ids: Iterable[int], stamp: int) -> tuple[int, ...]:
        """Takes note of the objects in view at a stamp [ns]; returns those that were not in view before."""
        self.version += 1
        met = []
        for object_id in dict.fromkeys(object_ids):
            mine = self._of.setdefault(object_id, [])
            if mine and stamp - self._last[mine[-1]] <= self.gap:
                number = mine[-1]
            else:
                number = self.next_id
                self.next_id += 1
                mine.append(number)
                self._objects[number] = object_id
                self._first[number] = stamp
                met.append(object_id)
            self._last[number] = stamp
            self._touched[number] = self.version
        return tuple(met)

    def last_between(self, object_id: int, since: int | None, until: int | None) -> tuple[int, int] | None:
        """Returns when an object was last in view within [since, until], and when that encounter began.

        Args:
            object_id: whose.
            since: [ns], inclusive; None is open.
            until: likewise.

        Returns:
            (last, first) stamps [ns]; None where it was not in view then.
        """
        for number in reversed(self._of.get(object_id, ())):
            first, last = self._first[number], self._last[number]
            if until is not None and first > until:
                continue
            if since is not None and last < since:
                return None
            return (last if until is None else min(last, until)), first
        return None

    def forget_object(self, object_id: int) -> None:
        """Removes all encounters with an object."""
        numbers = self._of.pop(object_id, [])
        if numbers:
            self.version += 1
        for number in numbers:
            del self._objects[number], self._first[number], self._last[number]
            self._touched[number] = self.version

    def drop_oldest(self, count: int) -> int:
        """Removes the oldest encounters, but none that is an object's last; returns how many."""
        last = {numbers[-1] for numbers in self._of.values()}
        gone = [number for number in sorted(self._objects) if number not in last][:count]
        if gone:
            self.version += 1
        for number in gone:
            self._of[self._objects[number]].remove(number)
            del self._objects[number], self._first[number], self._last[number]
            self._touched[number] = self.version
        return len(gone)

    def digest_bytes(self) -> bytes:
        """Returns all encounters as bytes, in the order of their ids."""
        return b"".join(self._payload(number) for number in sorted(self._objects))

    def export_rows(self, since_version: int = 0) -> list[tuple[int, bytes]]:
        """Returns (id, payload) of the encounters changed after a version; b"" where one is no more."""
        if since_version <= 0:
            return [(number, self._payload(number)) for number in sorted(self._objects)]
        changed = sorted(n for n, version in self._touched.items() if version > since_version)
        return [(n, self._payload(n) if n in self._objects else b"") for n in changed]

    def settle(self, version: int) -> None:
        """Lets go of the list of changes up to a version, once somebody has exported them."""
        self._touched = {n: v for n, v in self._touched.items() if v > version}

    def import_rows(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Restores what `export_rows` gave; `next_id` is set by the caller.

        Raises:
            StoreError: a payload has the wrong length.
        """
        for number, payload in sorted(rows):
            if len(payload) != _ROW.size:
                raise StoreError(f"encounter {number} is damaged")
            object_id, self._first[number], self._last[number] = _ROW.unpack(payload)
            self._objects[number] = object_id
            self._of.setdefault(object_id, []).append(number)
        self.version = max(self.version, 1)  # at 0 `export_rows` gives all there is, and tells no removals

    def spans(self, object_id: int) -> NDArray[np.int64]:
        """Returns (E, 2) int64 first and last stamps [ns] of an object's encounters, oldest first."""
        pairs = [(self._first[n], self._last[n]) for n in self._of.get(object_id, ())]
        return np.array(pairs, np.int64).reshape(-1, 2)

    def _payload(self, number: int) -> bytes:
        return _ROW.pack(self._objects[number], self._first[number], self._last[number])

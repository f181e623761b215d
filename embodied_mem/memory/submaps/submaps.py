"""All submaps: packed, by the id of the entry that their keyframe is."""

from __future__ import annotations

from collections.abc import Callable, Iterable


class Submaps:
    """Packed keyframes by entry id; those of an earlier session are fetched when they are needed.

    Attributes:
        version: grows with every change.
        fetch: reads (entry id, payload) of everything in the file; None without one.
        first: entries with a lower id have none any more.
    """

    def __init__(self) -> None:
        self.version = self.first = 0
        self.fetch: Callable[[], Iterable[tuple[int, bytes]]] | None = None
        self._packed: dict[int, bytes] = {}
        self._gone: set[int] = set()
        self._touched: dict[int, int] = {}

    def add(self, entry_id: int, payload: bytes) -> None:
        """Keeps a keyframe's submap, packed (`keyframe.pack_keyframe`)."""
        self.version += 1
        self._packed[entry_id] = payload
        self._touched[entry_id] = self.version

    def remove(self, entry_id: int) -> None:
        """Lets go of a keyframe's submap; nothing happens where there is none."""
        self.version += 1
        self._packed.pop(entry_id, None)
        self._gone.add(entry_id)
        self._touched[entry_id] = self.version

    @property
    def nbytes(self) -> int:
        """Bytes of the packed submaps that are held in RAM."""
        return sum(map(len, self._packed.values()))

    def packed(self) -> dict[int, bytes]:
        """Returns all payloads by entry id, ascending; those only in the file are read from it."""
        found = dict(self.fetch()) if self.fetch is not None else {}
        found.update(self._packed)
        return {i: found[i] for i in sorted(found) if i not in self._gone}

    def export_rows(self, since_version: int = 0) -> list[tuple[int, bytes]]:
        """Returns (entry id, payload) of what changed after a version; b"" where one is no more."""
        if since_version <= 0:
            return list(self._packed.items())
        changed = sorted(i for i, version in self._touched.items() if version > since_version)
        return [(i, self._packed.get(i, b"")) for i in changed]

    def settle(self, version: int) -> None:
        """Lets go of the list of changes up to a version, once somebody has exported them.

        With a file to fetch from, what has been exported is no longer held in RAM either.
        """
        if self.fetch is not None:
            for entry_id in [i for i, v in self._touched.items() if v <= version]:
                self._packed.pop(entry_id, None)
        self._touched = {i: v for i, v in self._touched.items() if v > version}

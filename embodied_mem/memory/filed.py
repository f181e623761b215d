"""The side of a memory that is in a file: what is on the disk, checking, compacting, saving, closing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from embodied_mem.errors import StoreError
from embodied_mem.memory.contents import Contents
from embodied_mem.memory.store.archive import Archive, create_archive
from embodied_mem.memory.store.check import Report, check_file


class Filed:
    """Keeps contents in a file, where there is one; a base of `Memory`."""

    _contents: Contents
    _archive: Archive | None
    _snapshots: dict[int, bytes]
    _closed: bool

    @property
    def durable_seq(self) -> int:
        """Number of the newest write that is on the disk; 0 for a memory without a file."""
        return 0 if self._archive is None else self._archive.durable

    @property
    def sequence(self) -> int:
        """Number of the newest write or command."""
        return self._contents.sequence

    def flush(self) -> None:
        """Waits until every write is on the disk; raises `StoreError` if that fails."""
        if self._archive is not None and not self._closed:
            self._archive.flush()

    def check(self) -> Report:
        """Looks at every row of the file: checksums, formats and references (`embodied-mem check`).

        Raises:
            StoreError: the memory has no file.
        """
        if self._archive is None:
            raise StoreError("a memory without a file has nothing to check; save it first")
        self.flush()
        return check_file(self._archive.store.path)

    def compact(self) -> None:
        """Writes the file anew without the room that removed entries have left, as small as it gets."""
        self._check_writable()
        self.flush()
        if self._archive is not None:
            self._archive.compact()

    def save(self, path: str | Path) -> None:
        """Writes the memory as it is now into a new file.

        Raises:
            StoreError: the file exists already, or cannot be written.
        """
        snapshots: Mapping[int, bytes] = self._snapshots
        if self._archive is not None:
            found = ((int(i), self._archive.snapshot(int(i))) for i in self._contents.episodes.ids)
            snapshots = {i: data for i, data in found if data is not None}
        create_archive(Path(path), self._contents, snapshots).close()

    def close(self) -> None:
        """Writes what is left and closes the file; reading and recall go on working.

        Raises:
            StoreError: the file could not be written.
        """
        if not self._closed:
            self._closed = self._archive is not None
            if self._archive is not None:
                self._archive.close()

    def _check_writable(self) -> None:
        if self._closed:
            raise StoreError("this memory is closed; open it again to write")
        if self._archive is not None:
            self._archive.check()

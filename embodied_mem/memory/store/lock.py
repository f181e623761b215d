"""One writer at a time: a lock beside the memory file, freed by the system when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from embodied_mem.errors import StoreError


class StoreLock:
    """Holds `<file>-lock` until `release`.

    Not a lock on the database itself: closing any handle of that file would drop SQLite's own
    (POSIX advisory locks belong to the process).

    Args:
        path: the memory file.

    Raises:
        StoreError: another program, or another `Memory` of this one, has it open for writing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + "-lock")
        while True:
            try:
                handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise StoreError(f"cannot write beside {path}: {error.strerror}") from None
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(handle)
                raise StoreError(
                    f"{path} is being written by another program; close that one, or open this read-only"
                ) from None
            if self._is_current(handle):
                self._handle = handle
                return
            os.close(handle)  # removed by its last holder between our open and our lock

    def _is_current(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), self.path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Removes the lock; nothing happens the second time."""
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                self.path.unlink()
            os.close(self._handle)
            self._handle = -1

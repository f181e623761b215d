"""The memory file behind the server: opened once, and again when another program has written it."""

from __future__ import annotations

from pathlib import Path
from threading import RLock

from embodied_mem.memory import Memory


class MemorySource:
    """Gives the memory of a file as it is now.

    Args:
        path: an .emem file.
        writable: open it for writing; no other program can write it then.

    Raises:
        StoreError: it cannot be opened.
    """

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        self.path = path
        self.writable = writable
        self.lock = RLock()
        """Held by whoever uses the memory: requests come on several threads."""
        self._seen = self._state()
        self._memory = Memory.open(path, read_only=not writable)

    @property
    def memory(self) -> Memory:
        """The memory; read anew where another program has changed the file."""
        with self.lock:
            state = self._state()
            if not self.writable and state != self._seen:
                fresh = Memory.open(self.path, read_only=True)
                self._memory.close()
                self._memory, self._seen = fresh, state
            return self._memory

    def close(self) -> None:
        """Closes the file; what was written is on the disk then."""
        with self.lock:
            self._memory.close()

    def _state(self) -> tuple[tuple[int, int], ...]:
        """Returns size and time of the database and its write-ahead log."""
        files = (self.path, Path(f"{self.path}-wal"))
        found = [file.stat() for file in files if file.exists()]
        return tuple((stat.st_size, stat.st_mtime_ns) for stat in found)

"""The thread that writes: one batch after another, each in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from embodied_mem.errors import StoreError
from embodied_mem.memory.store.store import Store, Tables


@dataclass(frozen=True, eq=False)
class Batch:
    """What one transaction writes.

    Attributes:
        sequence: number of the newest write in it.
        tables: makes the rows; called on the writer's thread, so that costly encoding is done there.
    """

    sequence: int
    tables: Callable[[], Tables]


class StoreWriter:
    """Owns a store from a thread of its own; at most one batch is being written and one waits.

    Args:
        store: open for writing.
        sequence: number of the newest write that the file holds already.
    """

    def __init__(self, store: Store, sequence: int) -> None:
        self.store = store
        self.durable = sequence
        """Number of the newest write that is on the disk."""
        self._waiting: Batch | None = None
        self._busy = False
        self._closing = False
        self._failure: StoreError | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="embodied-mem writer", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """True where a batch would be taken up at once."""
        return not self._busy and self._waiting is None

    def submit(self, batch: Batch) -> None:
        """Hands over a batch; waits while another is waiting (back-pressure).

        Raises:
            StoreError: an earlier batch could not be written.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is None or self._failure is not None)
            self.check()
            self._waiting = batch
            self._changed.notify_all()

    def flush(self) -> None:
        """Waits until everything handed over is on the disk.

        Raises:
            StoreError: it could not be written.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.idle or self._failure is not None)
        self.check()

    def check(self) -> None:
        """Raises the `StoreError` of the batch that could not be written, if there was one."""
        if self._failure is not None:
            raise StoreError(str(self._failure))

    def close(self) -> None:
        """Writes what waits, ends the thread and closes the store; nothing happens the second time."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self.store.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or self._closing)
                batch, self._waiting = self._waiting, None
                if batch is None or self._failure is not None:
                    return
                self._busy = True
                self._changed.notify_all()
            failure = None
            try:
                self.store.put(batch.tables())
            except StoreError as error:
                failure = error
            except Exception as error:  # whatever it was, the loop must hear of it and not wait for ever
                failure = StoreError(f"cannot write {self.store.path}: {error!r}")
            with self._changed:
                self._busy = False
                self._failure = failure
                if failure is None:
                    self.durable = batch.sequence
                self._changed.notify_all()
                if failure is not None:
                    return

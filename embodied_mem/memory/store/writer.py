"""The thread that writes: images become JPEG as they come, batches are written one by one.

The loop's thread only hands over: copies of what has changed, and pixels. Packing, compression
and the disk are the writer's; where it falls behind, the loop waits (back-pressure).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import StoreError
from embodied_mem.memory.store.store import Store, Tables

Image = NDArray[np.uint8]
_SPARE = 32
"""Buffers kept for the next images: memory that was used before need not be mapped anew."""


@dataclass(frozen=True, eq=False)
class Batch:
    """What one transaction writes.

    Attributes:
        sequence: number of the newest write in it.
        tables: makes the rows; called on the writer's thread, so that costly encoding is done there.
    """

    sequence: int
    tables: Callable[[], Tables]


@dataclass(frozen=True, eq=False)
class _Snapshot:
    """An image that waits to be encoded, or the bytes of one (empty: it is to be removed)."""

    entry_id: int
    image: Image | bytes


class StoreWriter:
    """Owns a store from a thread of its own.

    Jobs are done in the order in which they came; at most one batch waits.

    Args:
        store: open for writing.
        sequence: number of the newest write that the file holds already.
        encode: makes the bytes of a snapshot; called on the writer's thread.
        room: bytes of images that may wait.
        limit: bytes that the file may have; 0 is without limit.
    """

    def __init__(
        self,
        store: Store,
        sequence: int,
        encode: Callable[[Image], bytes],
        room: float = 64e6,
        limit: int = 0,
    ) -> None:
        self.store = store
        self.durable = sequence
        """Number of the newest write that is on the disk."""
        self._encode = encode
        self._room = room
        self._limit = limit
        if limit:
            store.bound(limit)
        self._jobs: deque[Batch | _Snapshot] = deque()
        self._batches = 0  # waiting or being written
        self._image_bytes = 0
        self._spare: list[Image] = []
        self._snapshots: dict[int, bytes] = {}  # encoded, for the next batch
        self._busy = False
        self._closing = False
        self._failure: StoreError | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="embodied-mem writer", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """True where no batch is waiting or being written."""
        return self._batches == 0

    def keep_snapshot(self, entry_id: int, image: Image | bytes) -> None:
        """Takes over a copy of an entry's image for the next batch; b"" removes the entry's image.

        Waits while too many images wait to be encoded.

        Raises:
            StoreError: an earlier batch could not be written.
        """
        if isinstance(image, np.ndarray):
            with self._changed:
                self._changed.wait_for(lambda: self._image_bytes < self._room or self._failure is not None)
                self._image_bytes += image.nbytes
                buffer = next((b for b in self._spare if b.shape == image.shape), None)
                if buffer is not None:
                    self._spare = [b for b in self._spare if b is not buffer]
            if buffer is None:
                buffer = np.empty_like(image, order="C")
            np.copyto(buffer, image)
            image = buffer
        self._add(_Snapshot(entry_id, image))

    def submit(self, batch: Batch) -> None:
        """Hands over a batch; waits while another is waiting.

        Raises:
            StoreError: an earlier batch could not be written.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._batches < 2 or self._failure is not None)
            self._batches += 1
        self._add(batch)

    def _add(self, job: Batch | _Snapshot) -> None:
        with self._changed:
            self.check()
            self._jobs.append(job)
            self._changed.notify_all()

    def flush(self) -> None:
        """Waits until everything handed over is on the disk.

        Raises:
            StoreError: it could not be written.
        """
        with self._changed:
            self._changed.wait_for(lambda: not (self._jobs or self._busy) or self._failure is not None)
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
                self._changed.wait_for(lambda: bool(self._jobs) or self._closing)
                if not self._jobs or self._failure is not None:
                    return
                job = self._jobs.popleft()
                self._busy = True
            failure = None
            try:
                if isinstance(job, Batch):
                    self._write(job)
                else:
                    self._take_snapshot(job)
            except StoreError as error:
                failure = error
            except Exception as error:  # whatever it was, the loop must hear of it and not wait for ever
                failure = StoreError(f"cannot write {self.store.path}: {error!r}")
            self._done(job, failure)
            if failure is not None:
                return

    def _take_snapshot(self, job: _Snapshot) -> None:
        image = job.image
        self._snapshots[job.entry_id] = image if isinstance(image, bytes) else self._encode(image)

    def _write(self, batch: Batch) -> None:
        tables: dict[str, Any] = dict(batch.tables())
        tables["snapshots"] = [*tables.get("snapshots", ()), *self._snapshots.items()]
        if self._limit:
            coming = sum(len(row[-1]) for rows in tables.values() for row in rows)
            self.store.trim(self._limit, coming)
        self.store.put(tables)
        self._snapshots = {}
        if self._limit:
            self.store.trim(self._limit)

    def _done(self, job: Batch | _Snapshot, failure: StoreError | None) -> None:
        with self._changed:
            self._busy = False
            self._failure = failure
            if isinstance(job, Batch):
                self._batches -= 1
                if failure is None:
                    self.durable = job.sequence
            elif isinstance(job.image, np.ndarray):
                self._image_bytes -= job.image.nbytes
                if len(self._spare) < _SPARE:
                    self._spare.append(job.image)
            self._changed.notify_all()

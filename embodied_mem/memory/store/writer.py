"""The thread that writes: images become JPEG as they come, batches are written one by one.

The loop's thread only hands over: copies of what has changed, and pixels. Packing, compression
and the disk are the writer's; where it falls behind, the loop waits (back-pressure).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import StoreError
from embodied_mem.memory.store.store import Row, Store, Tables

Image = NDArray[np.uint8]
PAGE, ROW = 4096, 128
"""What a change costs the WAL: a page of the database; less for a row beside one that is changed too."""
BATCH = 1 / 32
"""Share of the limit that one batch may bring, about: batches go through the WAL whole."""
NEAR = 4
"""Rows whose keys are at most so far apart lie beside each other."""
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
    """An image that waits to be encoded, or the bytes of one (empty: it is to be removed).

    Attributes:
        entry_id: whose.
        data: pixels, or the bytes of an image.
        shape: of the pixels; empty where it is encoded already.
    """

    entry_id: int
    data: bytearray | Image | bytes
    shape: tuple[int, ...] = ()

    @property
    def pixel_bytes(self) -> int:
        """Bytes of pixels that wait."""
        return self.data.nbytes if isinstance(self.data, np.ndarray) else len(self.data) if self.shape else 0


class StoreWriter:
    """Owns a store from a thread of its own.

    Jobs are done in the order in which they came; at most one batch waits. Handing over neither takes
    a lock nor gives up the interpreter's: either would let the writer in, and the loop would get it
    back when the writer next lets go, up to `sys.getswitchinterval` later.

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
            self._room = min(room, limit * BATCH)
        self._jobs: SimpleQueue[Batch | _Snapshot | None] = SimpleQueue()
        # Each is counted up by one thread alone: what the loop has put in, and what is done of it.
        self._put_jobs = self._put_batches = self._put_bytes = 0
        self._done_jobs = self._done_batches = self._done_bytes = 0
        self._spare: deque[bytearray] = deque(maxlen=_SPARE)
        self._snapshots: dict[int, bytes] = {}  # encoded, for the next batch
        self._encoded_bytes = 0
        self._failure: StoreError | None = None
        self._is_awaited = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="embodied-mem writer", daemon=True)
        self._thread.start()

    @property
    def is_full(self) -> bool:
        """True where so many encoded images wait for a batch that it would be large beside the limit."""
        return bool(self._limit) and self._encoded_bytes > self._limit * BATCH

    @property
    def idle(self) -> bool:
        """True where no batch is waiting or being written."""
        return self._put_batches == self._done_batches

    def keep_snapshot(self, entry_id: int, image: Image | bytes) -> None:
        """Takes over a copy of an entry's image for the next batch; b"" removes the entry's image.

        An image that nobody can change, such as one out of a message or a log, is taken as it is.
        Waits while too many images wait to be encoded.

        Raises:
            StoreError: an earlier batch could not be written.
        """
        if isinstance(image, bytes):
            self._add(_Snapshot(entry_id, image))
        else:
            if self._put_bytes - self._done_bytes >= self._room:
                self._wait(lambda: self._put_bytes - self._done_bytes < self._room)
            self._put_bytes += image.nbytes
            pixels = image if _is_frozen(image) else self._copy(image)
            self._add(_Snapshot(entry_id, pixels, image.shape))

    def _copy(self, image: Image) -> bytearray:
        try:
            buffer = self._spare.pop()  # the one used last, which the processor's cache still holds
        except IndexError:
            buffer = bytearray(image.nbytes)
        if len(buffer) != image.nbytes:
            buffer = bytearray(image.nbytes)
        if not image.flags.c_contiguous:
            image = np.ascontiguousarray(image)
        # By views, since numpy's own copying gives up the interpreter's lock, and a bytearray that takes
        # anything but a bytearray makes one of it first.
        memoryview(buffer)[:] = image.data.cast("B")
        return buffer

    def submit(self, batch: Batch) -> None:
        """Hands over a batch; waits while another is waiting.

        Raises:
            StoreError: an earlier batch could not be written.
        """
        if self._put_batches - self._done_batches >= 2:
            self._wait(lambda: self._put_batches - self._done_batches < 2)
        self._put_batches += 1
        self._add(batch)

    def _add(self, job: Batch | _Snapshot) -> None:
        self.check()
        self._put_jobs += 1
        self._jobs.put(job)

    def _wait(self, is_so: Callable[[], bool]) -> None:
        """Waits until something is so, or a batch could not be written."""
        with self._changed:
            # The writer looks at this after it has counted what it has done.
            self._is_awaited = True
            self._changed.wait_for(lambda: is_so() or self._failure is not None)
            self._is_awaited = False

    def flush(self) -> None:
        """Waits until everything handed over is on the disk.

        Raises:
            StoreError: it could not be written.
        """
        self._wait(lambda: self._done_jobs == self._put_jobs)
        self.check()

    def check(self) -> None:
        """Raises the `StoreError` of the batch that could not be written, if there was one."""
        if self._failure is not None:
            raise StoreError(str(self._failure))

    def close(self) -> None:
        """Writes what waits, ends the thread and closes the store; nothing happens the second time."""
        self._jobs.put(None)
        self._thread.join()
        self.store.close()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
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
        data = job.data
        if not isinstance(data, bytes):
            pixels = data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
            data = self._encode(pixels.reshape(job.shape))
        self._snapshots[job.entry_id] = data
        self._encoded_bytes += len(data)

    def _write(self, batch: Batch) -> None:
        tables: dict[str, Any] = dict(batch.tables())
        tables["snapshots"] = [*tables.get("snapshots", ()), *self._snapshots.items()]
        if self._limit:
            self.store.trim(self._limit, _coming(tables))
        self.store.put(tables)
        self._snapshots = {}
        self._encoded_bytes = 0
        if self._limit:
            self.store.trim(self._limit)

    def _done(self, job: Batch | _Snapshot, failure: StoreError | None) -> None:
        if isinstance(job, Batch):
            if failure is None:
                self.durable = job.sequence
            self._done_batches += 1
        else:
            self._done_bytes += job.pixel_bytes
            if isinstance(job.data, bytearray):
                self._spare.append(job.data)
        self._failure = failure
        self._done_jobs += 1
        if self._is_awaited:
            with self._changed:
                self._changed.notify_all()


def _coming(tables: Tables) -> int:
    """Returns how many bytes rows cost the WAL, about: each its page, which it shares with the next ones."""
    coming = 0
    for rows in tables.values():
        before: Row = ()
        for row in rows:
            beside = bool(before) and row[:-2] == before[:-2] and isinstance(row[-2], int)
            near = beside and 0 < row[-2] - before[-2] <= NEAR
            coming += len(row[-1]) + (ROW if near else PAGE)
            before = row
    return coming


def _is_frozen(image: Image) -> bool:
    """Whether nobody can change the pixels: neither the array nor what it is a view of can be written."""
    holder: Any = image
    while isinstance(holder, np.ndarray):
        if holder.flags.writeable:
            return False
        holder = holder.base
    if isinstance(holder, memoryview):
        holder = holder.obj
    return holder is None or isinstance(holder, bytes)

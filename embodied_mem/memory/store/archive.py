"""Between a memory and its file: what to hand over when, what became durable, and reopening."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.configs import from_mapping, to_mapping
from embodied_mem.errors import ConfigError, EmbodiedMemError, StoreError
from embodied_mem.memory.budget import with_limit
from embodied_mem.memory.config import MemoryConfig
from embodied_mem.memory.contents import LOADED, Contents, Marks
from embodied_mem.memory.episodes.details import FetchPart
from embodied_mem.memory.episodes.snapshots import encode_jpeg
from embodied_mem.memory.octree.contents import Contents as Blocks
from embodied_mem.memory.store.store import Store
from embodied_mem.memory.store.writer import BATCH, Batch, StoreWriter

WRITE_BYTES = 8192
"""What a write costs the WAL without its image, about."""
STAGED_EVERY = 4
"""Writes from one copying of changed blocks to the next: one write touches much of what the last did."""


class _Reader:
    """Reads single rows of a memory file, also while a writer has it open; opened when it is needed.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """The file, open for reading."""
        if self._store is None:
            self._store = Store(self._path, read_only=True)
        return self._store

    def fetch(self, name: str, keys: list[int]) -> list[tuple[int, bytes]]:
        """Returns (key, payload) of some rows of a table."""
        return self.store.fetch(name, keys)

    def close(self) -> None:
        """Closes the file; the next question opens it again."""
        if self._store is not None:
            self._store.close()
            self._store = None


class Archive:
    """The file side of a memory.

    Changes gather in the contents, which know what changed since when; they are handed to the
    writer as one batch, now and then, at the end of a write. While the writer is busy they go
    on gathering, so that the loop waits only when far too much has gathered.

    Args:
        store: an open memory file.
        contents: what it holds, or is going to.
        marks: versions of the contents that the file holds already.
        reader: reads single rows; made here where None.
    """

    def __init__(self, store: Store, contents: Contents, marks: Marks, reader: _Reader | None = None) -> None:
        self.store = store
        self.contents = contents
        self._marks = marks
        self._kept: dict[int, bool] = {}  # of this session: whether an entry has an image
        self._pending = 0
        most, limit = contents.config.store.max_pending, contents.config.budget.limit
        self._most = max(min(most, int(limit * BATCH) // WRITE_BYTES), 1) if limit else most
        self._staged: list[Blocks] = []
        self._staged_bytes = 0
        self._handed_at = -np.inf
        self._writer = None if store.read_only else _writer(store, contents)
        self._reader = reader or _Reader(store.path)

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written."""
        return self._writer is None

    @property
    def durable(self) -> int:
        """Number of the newest write that is on the disk."""
        return self.contents.sequence if self._writer is None else self._writer.durable

    def check(self) -> None:
        """Raises `StoreError` where nothing can be written, or something could not be."""
        if self._writer is None:
            raise StoreError(f"{self.store.path} was opened read-only; open it without read_only to write")
        self._writer.check()

    def keep_snapshot(self, entry_id: int, image: NDArray[np.uint8] | bytes | None) -> None:
        """Keeps the image of an entry for the next batch; None removes the entry's image."""
        assert self._writer is not None
        self._writer.keep_snapshot(entry_id, b"" if image is None else image)
        self._kept[entry_id] = image is not None

    def has_snapshot(self, entry_id: int) -> bool:
        """Whether an entry has an image, on the disk or on its way there."""
        if entry_id in self._kept:
            return self._kept[entry_id]
        return self._reader.store.has("snapshots", entry_id)

    def wrote(self) -> None:
        """Notes one more change, and hands over a batch where it is time for one."""
        config, writer = self.contents.config.store, self._writer
        assert writer is not None
        self._pending += 1
        if self._pending % STAGED_EVERY == 0:
            self._stage()
        full = self._pending >= self._most or self._staged_bytes >= config.max_pending_mb * 1e6
        due = time.monotonic() - self._handed_at >= config.commit_interval
        if full or writer.is_full or (due and writer.idle):
            self._hand_over(writer)

    def _stage(self) -> None:
        """Copies the octree's blocks every few writes: a little each time, and never much at once."""
        blocks = self.contents.octree.take_blocks(self._marks.octree)
        if len(blocks.keys):
            self._staged.append(blocks)
            self._staged_bytes += sum(column.nbytes for column in blocks)
            self._marks = replace(self._marks, octree=self.contents.octree.version)

    def _hand_over(self, writer: StoreWriter) -> None:
        marks = self.contents.marks()
        writer.submit(Batch(self.contents.sequence, self.contents.take(self._marks, self._staged)))
        self.contents.settle(marks)
        self._marks = marks
        self._staged = []
        self._pending = self._staged_bytes = 0
        self._handed_at = time.monotonic()

    def flush(self) -> None:
        """Waits until every change is on the disk; raises `StoreError` if it cannot be."""
        if self._writer is not None:
            if self._pending:
                self._hand_over(self._writer)
            self._writer.flush()

    def _seal(self) -> None:
        """Seals what a burst of writes has left unsealed, a few chunks a transaction: the WAL stays small."""
        if self._writer is not None:
            while self.contents.episodes.backlog:
                self._hand_over(self._writer)
                self._writer.flush()

    def compact(self) -> None:
        """Writes the file anew without unused room; everything must have been flushed."""
        self._seal()
        self._reader.close()
        self.store.compact()

    def snapshot(self, entry_id: int) -> bytes | None:
        """Returns the JPEG of an entry, or None."""
        self.flush()
        return self._reader.store.get("snapshots", entry_id)

    def submaps(self) -> list[tuple[int, bytes]]:
        """Returns (entry id, payload) of all submaps."""
        self.flush()
        return [
            (int(number), payload) for number, payload in self._reader.store.load(("submaps",))["submaps"]
        ]

    def close(self) -> None:
        """Writes what is left and closes the file; raises `StoreError` if that fails."""
        try:
            self.flush()
            self._seal()
        finally:
            self._reader.close()
            if self._writer is not None:
                self._writer.close()
            else:
                self.store.close()


def _writer(store: Store, contents: Contents) -> StoreWriter:
    config, episodes = contents.config.store, contents.config.episodes

    def encode(image: NDArray[np.uint8]) -> bytes:
        return encode_jpeg(image, episodes.snapshot_quality, episodes.snapshot_size)

    limit = contents.config.budget.limit
    return StoreWriter(store, contents.sequence, encode, config.max_pending_mb * 1e6, limit)


def create_archive(path: Path, contents: Contents, snapshots: Mapping[int, bytes] | None = None) -> Archive:
    """Makes a new memory file of some contents.

    Raises:
        StoreError: the file exists already, or cannot be written.
    """
    config = contents.config
    marks = contents.marks()
    tables = contents.export(Marks())
    identity = [("map_id", contents.map_id.encode()), _config_row(config)]
    store = Store.create(
        path,
        {
            **tables,
            "meta": [*identity, *tables["meta"]],
            "snapshots": list((snapshots or {}).items()),
            "submaps": list(contents.submaps.packed().items()),
        },
        compression=config.store.compression,
    )
    return Archive(store, contents, marks)


def _config_row(config: MemoryConfig) -> tuple[str, bytes]:
    return "config", json.dumps(to_mapping(config)).encode()


def open_archive(
    path: Path, config: MemoryConfig | None, read_only: bool, limit: int | None = None
) -> Archive:
    """Opens a memory file and reads its contents.

    Args:
        path: the file.
        config: settings to use from now on; those of the file where None. The octree's must agree.
        read_only: whether nothing will be written.
        limit: bytes that the file may have from now on; as in the settings where None.

    Raises:
        StoreError: missing, foreign, damaged, of a newer schema, or being written elsewhere.
        ConfigError: the octree in the file was made with other settings.
    """
    compression = (config or MemoryConfig()).store.compression
    store = Store(path, read_only=read_only, compression=compression)
    reader = _Reader(path)
    try:
        contents = _read(path, store.load(LOADED), config, reader.fetch)
        contents.config = with_limit(contents.config, limit)
        if (config is not None or limit is not None) and not read_only:
            store.put({"meta": [_config_row(contents.config)]})
    except BaseException:
        store.close()
        raise
    return Archive(store, contents, contents.marks(), reader)


def _read(path: Path, tables: Mapping[str, Any], config: MemoryConfig | None, fetch: FetchPart) -> Contents:
    meta = dict(tables["meta"])
    try:
        stored = from_mapping(MemoryConfig, json.loads(meta["config"]))
        map_id = meta["map_id"].decode()
    except (KeyError, ValueError, EmbodiedMemError) as error:
        raise StoreError(f"{path}: its settings cannot be read by this release ({error})") from error
    if config is not None and config.octree != stored.octree:
        raise ConfigError(
            f"{path} was made with {stored.octree}, which cannot change; open it without a config"
        )
    contents = Contents(config or stored, map_id)
    try:
        contents.restore(tables, fetch)
    except StoreError as error:
        raise StoreError(f"{path} is damaged: {error}; restore it from a copy") from error
    return contents

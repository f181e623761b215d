"""The `.emem` file: one SQLite database that survives kill -9, power cuts and full disks.

It knows tables, rows and checksums and nothing of what they mean. While it is open for
writing it is in WAL mode with synchronous=FULL, so that what a commit has returned from is
on the disk; closed properly it is a single file again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import zstandard

from embodied_mem.errors import StoreError
from embodied_mem.memory.store.explained import explained, plain
from embodied_mem.memory.store.lock import StoreLock
from embodied_mem.memory.store.migrations import NEW_TABLES, migrate

APPLICATION_ID = 0x656D656D
"""SQLite's application id of a memory file ("emem")."""
SCHEMA = 3
"""Version of the rows; a file with a newer one is refused, one with an older one is brought up to it."""
TABLES: dict[str, tuple[str, ...]] = {
    "meta": ("name TEXT",),
    "graph": ("kind TEXT", "id INTEGER"),
    "episodes": ("id INTEGER",),
    "entry_heads": ("id INTEGER",),
    "entry_vectors": ("id INTEGER",),
    "entry_objects": ("id INTEGER",),
    "entry_details": ("id INTEGER",),
    "entry_alive": ("id INTEGER",),
    "encounters": ("id INTEGER",),
    "octree": ("id INTEGER",),
    "snapshots": ("id INTEGER",),
    "submaps": ("id INTEGER",),
}
"""The key columns of each table; beside them each has a payload and its CRC-32."""
COMPRESSED = "octree"
"""The table whose payloads are zstd-compressed."""

Row = tuple[Any, ...]
"""The values of a table's key columns, then the payload; an empty payload removes the row."""
Tables = Mapping[str, Sequence[Row]]

_BUSY_S = 2.0
_WAL_LIMIT = 4 << 20
_ROWS = 64
_LEAST_STEP = 1 << 16
_KEPT = 0.96
"""Share of a limit that rows may take; the rest is for the WAL."""


class Store:
    """An open memory file; used by one thread at a time.

    Args:
        path: the file.
        read_only: nothing is written, and another program may be writing.
        compression: zstd level.

    Raises:
        StoreError: missing, foreign, damaged, of a newer schema, or being written elsewhere.
    """

    def __init__(self, path: Path, *, read_only: bool = False, compression: int = 3) -> None:
        self.path = path
        self.read_only = read_only
        self.trimmed = 0
        """Snapshots that had to go because the file was too large."""
        self._compressor = zstandard.ZstdCompressor(level=compression)
        self._decompressor = zstandard.ZstdDecompressor()
        if not path.is_file():
            raise StoreError(f"no such file: {path}" if not path.exists() else f"{path} is not a file")
        self._lock = None if read_only else StoreLock(path)
        self._database: sqlite3.Connection | None = None
        try:
            with explained(path):
                self._check_header()
                self._database = _connect(path, "ro" if read_only else "rw")
                if not read_only:
                    self._database.execute("PRAGMA journal_mode = WAL").fetchone()
                    self._database.execute("PRAGMA synchronous = FULL")
                    # Some builds overwrite what is removed, which costs the WAL all its pages; whole
                    # pages that are free are given back at the latest when the file is closed.
                    self._database.execute("PRAGMA secure_delete = FAST").fetchone()
                    self._database.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
                    self._migrate()
                self.trimmed = int((self.get("meta", "trimmed") or b"0").decode())
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, path: Path, tables: Tables, *, compression: int = 3) -> Store:
        """Makes a new file that holds `tables` and opens it for writing.

        It appears whole or not at all.

        Raises:
            StoreError: the file exists already, or cannot be written.
        """
        if not path.parent.is_dir():
            raise StoreError(f"no such folder: {path.parent}")
        if path.exists() and (not path.is_file() or path.stat().st_size):
            raise StoreError(f"{path} exists already; choose another name")
        lock, fresh = StoreLock(path), path.with_name(path.name + "-new")
        try:
            with explained(path):
                fresh.unlink(missing_ok=True)
                with contextlib.closing(_connect(fresh, "rwc")) as database:
                    database.execute("PRAGMA auto_vacuum = INCREMENTAL")
                    database.execute("PRAGMA synchronous = FULL")
                    database.execute("BEGIN")
                    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    database.execute(f"PRAGMA user_version = {SCHEMA}")
                    _make_tables(database)
                    compressor = zstandard.ZstdCompressor(level=compression)
                    for name, rows in tables.items():
                        _put_rows(database, compressor, name, rows)
                    database.execute("COMMIT")
                # A WAL of an earlier file of this name would be taken for this one's.
                for ending in ("-wal", "-shm"):
                    path.with_name(path.name + ending).unlink(missing_ok=True)
                fresh.replace(path)
                _sync_folder(path.parent)
        finally:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            lock.release()
        return cls(path, compression=compression)

    def _check_header(self) -> None:
        if self.path.stat().st_size == 0:
            raise StoreError(f"{self.path} is empty, not a memory file")
        with contextlib.closing(_connect(self.path, "ro")) as database:
            (application,) = database.execute("PRAGMA application_id").fetchone()
            (schema,) = database.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise StoreError(f"{self.path} is not a memory file")
        if schema > SCHEMA:
            raise StoreError(
                f"{self.path} has schema {schema}, newer than {SCHEMA}, the newest this release reads; "
                "update embodied-mem"
            )
        if schema < 1:
            raise StoreError(f"{self.path} is damaged: schema {schema}; restore it from a copy")
        self.schema = schema

    def _migrate(self) -> None:
        """Brings a file of an older schema up to today's, in one transaction."""
        if self.schema == SCHEMA:
            return
        self._db.execute("BEGIN IMMEDIATE")
        _make_tables(self._db)
        for name in TABLES:
            _put_rows(self._db, self._compressor, name, list(self._rows(name)))
        self._db.execute(f"PRAGMA user_version = {SCHEMA}")
        self._db.execute("COMMIT")
        self.schema = SCHEMA

    @property
    def _db(self) -> sqlite3.Connection:
        if self._database is None:
            raise StoreError(f"{self.path} is closed")
        return self._database

    def put(self, tables: Tables) -> None:
        """Adds, replaces and removes rows, in one transaction that is on the disk when this returns.

        Raises:
            StoreError: the disk is full or failed; nothing of it is in the file then.
        """
        with explained(self.path):
            database = self._db
            database.execute("BEGIN IMMEDIATE")
            try:
                for name, rows in tables.items():
                    _put_rows(database, self._compressor, name, rows)
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        database.execute("ROLLBACK")
                raise

    def bound(self, limit: int) -> None:
        """Keeps the WAL small beside a limit of bytes."""
        with explained(self.path):
            (page,) = self._db.execute("PRAGMA page_size").fetchone()
            wal = min(_WAL_LIMIT, limit // 64)
            self._db.execute(f"PRAGMA journal_size_limit = {wal}")
            self._db.execute(f"PRAGMA wal_autocheckpoint = {max(wal // page, 16)}")

    def trim(self, limit: int, coming: int = 0) -> None:
        """Removes the oldest snapshots until the file is within a limit; gives free pages back.

        Args:
            limit: bytes of database and WAL together.
            coming: bytes that are about to be written: once into the WAL, and from there into the
                database.

        Raises:
            StoreError: the disk is full or failed.
        """
        with explained(self.path):
            # What is removed or moved goes through the WAL: a little at a time, so that it stays small.
            step = max(limit // 64, _LEAST_STEP)
            while (excess := self._used() + 2 * coming - int(_KEPT * limit)) > 0:
                if not self._drop_snapshots(min(excess, step)):
                    break
                self._checkpoint(step)
            self._vacuum(step, left=step)
            self._checkpoint(step)

    def _used(self) -> int:
        return self._pragma("page_size") * (self._pragma("page_count") - self._pragma("freelist_count"))

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    def _vacuum(self, step: int, left: int = 0) -> None:
        """Gives free pages back, about `step` bytes at a time, until at most `left` bytes are free."""
        page = self._pragma("page_size")
        free = self._pragma("freelist_count")
        while page * free > left:
            # A script, since of other statements that return no columns Python makes one step: one page.
            self._db.executescript(f"PRAGMA incremental_vacuum({max(step // page, 1)})")
            self._checkpoint(step)
            before, free = free, self._pragma("freelist_count")
            if free >= before:
                return

    def _checkpoint(self, least: int) -> None:
        """Writes the WAL into the database and empties it, where it has more bytes than `least`."""
        wal = self.path.with_name(self.path.name + "-wal")
        if wal.exists() and wal.stat().st_size > least:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _drop_snapshots(self, excess: int) -> bool:
        """Removes the oldest snapshots, about so many bytes of them; False where there are none."""
        found = self._db.execute("SELECT id, length(payload) FROM snapshots ORDER BY id")
        last, count = None, 0
        for number, size in found:
            if excess <= 0:
                break
            last, count, excess = number, count + 1, excess - size
        if last is None:
            return False
        self.trimmed += count
        told = ("trimmed", str(self.trimmed).encode())
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("DELETE FROM snapshots WHERE id <= ?", (last,))
        _put_rows(self._db, self._compressor, "meta", [told])
        self._db.execute("COMMIT")
        return True

    def compact(self) -> None:
        """Writes the database anew without unused room; it stays whole if that is interrupted.

        Raises:
            StoreError: the disk is full or failed.
        """
        with explained(self.path):
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def load(self, names: Sequence[str]) -> dict[str, list[Row]]:
        """Returns all rows of some tables as of one moment, in the order of their keys.

        Raises:
            StoreError: the file is damaged.
        """
        with explained(self.path):
            self._db.execute("BEGIN")
            try:
                return {name: self._all(name) for name in names}
            finally:
                self._db.execute("COMMIT")

    def _all(self, name: str) -> list[Row]:
        """Returns all rows of a table; a million plain ones in a second or two."""
        if TABLES[name] == ("id INTEGER",) and name != COMPRESSED and self.schema == SCHEMA:
            found = self._db.execute(f"SELECT id, payload, crc FROM {name} ORDER BY id").fetchall()
            crc = zlib.crc32
            if all(type(p) is bytes and crc(p, crc(b"(%d,)" % key)) == held for key, p, held in found):
                return [(key, payload) for key, payload, _ in found]
        return list(self._rows(name))  # which also says which row is damaged

    def get(self, name: str, key: int | str) -> bytes | None:
        """Returns the payload of one row of a table with a single key, or None.

        Raises:
            StoreError: the row is damaged.
        """
        with explained(self.path):
            return next((row[-1] for row in self._rows(name, key)), None)

    def integrity(self) -> list[str]:
        """Returns what SQLite finds wrong with the database itself, one line each."""
        with explained(self.path):
            said = [str(row[0]) for row in self._db.execute("PRAGMA integrity_check(20)")]
        return [] if said == ["ok"] else [f"database: {plain(Exception(line))}" for line in said]

    def scan(self, name: str) -> tuple[list[Row], list[Row]]:
        """Returns the rows of a table that are whole, and the keys of those that are not."""
        whole: list[Row] = []
        broken: list[Row] = []
        with explained(self.path):
            keys = self._db.execute(f"SELECT {_names(name)} FROM {name} ORDER BY {_names(name)}").fetchall()
            for key in keys:
                try:
                    whole += list(self._rows(name, *key))
                except (StoreError, zstandard.ZstdError, ValueError):
                    broken.append(key)
        return whole, broken

    def fetch(self, name: str, keys: Sequence[int]) -> list[tuple[int, bytes]]:
        """Returns (key, payload) of some rows of a table with a single key, those that there are.

        Raises:
            StoreError: a row is damaged.
        """
        with explained(self.path):
            return [(row[0], row[-1]) for key in keys for row in self._rows(name, key)]

    def has(self, name: str, key: int) -> bool:
        """Whether a table with a single key has a row."""
        with explained(self.path):
            found = self._db.execute(f"SELECT 1 FROM {name} WHERE {_names(name)} = ?", (key,))
            return found.fetchone() is not None

    def _rows(self, name: str, *key: int | str) -> Iterator[Row]:
        if any(name in names for since, names in NEW_TABLES.items() if since >= self.schema):
            return
        unpack = self._decompressor.decompress if name == COMPRESSED else bytes
        where = " AND ".join(f"{column} = ?" for column in _names(name).split(", "))
        found = self._db.execute(
            f"SELECT * FROM {name}{f' WHERE {where}' if key else ''} ORDER BY {_names(name)}", key
        )
        for *values, payload, crc in found:
            if not isinstance(payload, bytes) or _crc(tuple(values), payload) != crc:
                raise StoreError(
                    f"{self.path} is damaged: {name} {values}; restore it from a copy, or see what "
                    "`embodied-mem check` can repair"
                )
            plain = unpack(payload)
            yield (*values, plain if self.schema == SCHEMA else migrate(self.schema, name, plain))

    def close(self) -> None:
        """Writes the WAL back into the file and lets go of it; nothing happens the second time."""
        if self._database is not None:
            if not self.read_only:
                with contextlib.suppress(sqlite3.Error):
                    self._vacuum(_WAL_LIMIT // 4)
                    self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                    # Refused while a reader has it open; then the WAL files stay until the next close.
                    self._database.execute("PRAGMA busy_timeout = 0")
                    self._database.execute("PRAGMA journal_mode = DELETE").fetchone()
            self._database.close()
            self._database = None
        if self._lock is not None:
            self._lock.release()

    @property
    def size(self) -> int:
        """Bytes on disk: the database and its WAL."""
        names = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(path.stat().st_size for path in names if path.exists())


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_S,
        isolation_level=None,
        check_same_thread=False,  # the writer thread takes over what the opener has made
    )


def _make_tables(database: sqlite3.Connection) -> None:
    for name, keys in TABLES.items():
        columns = f"{', '.join(keys)}, payload BLOB NOT NULL, crc INTEGER NOT NULL"
        database.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns}, PRIMARY KEY ({_names(name)}))")


def _names(table: str) -> str:
    return ", ".join(column.split()[0] for column in TABLES[table])


def _put_rows(
    database: sqlite3.Connection, compressor: zstandard.ZstdCompressor, name: str, rows: Sequence[Row]
) -> None:
    keys = _names(name).split(", ")
    gone = [row[:-1] for row in rows if not row[-1]]
    kept = [row for row in rows if row[-1]]
    payloads: list[Any] = [row[-1] for row in kept]
    if name == COMPRESSED and payloads:
        packed = compressor.multi_compress_to_buffer(payloads)
        payloads = [packed[i].tobytes() for i in range(len(packed))]
    marks = f"({', '.join('?' * (len(keys) + 2))})"
    # Many rows a call: SQLite and zstd give up the interpreter's lock in every call, and where the
    # loop is busy each time may cost a switch of threads.
    for first in range(0, len(kept), _ROWS):
        values: list[Any] = []
        for row, data in zip(kept[first : first + _ROWS], payloads[first : first + _ROWS]):
            values += (*row[:-1], data, _crc(row[:-1], data))
        count = len(values) // (len(keys) + 2)
        database.execute(f"INSERT OR REPLACE INTO {name} VALUES {', '.join([marks] * count)}", values)
    where = " AND ".join(f"{key} = ?" for key in keys)
    database.executemany(f"DELETE FROM {name} WHERE {where}", gone)


def _crc(key: Row, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(repr(key).encode()))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

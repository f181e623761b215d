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
from embodied_mem.memory.store.lock import StoreLock

APPLICATION_ID = 0x656D656D
"""SQLite's application id of a memory file ("emem")."""
SCHEMA = 1
"""Version of the tables; a file with a newer one is refused."""
TABLES: dict[str, tuple[str, ...]] = {
    "meta": ("name TEXT",),
    "graph": ("kind TEXT", "id INTEGER"),
    "episodes": ("id INTEGER",),
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
        self._compressor = zstandard.ZstdCompressor(level=compression)
        self._decompressor = zstandard.ZstdDecompressor()
        if not path.is_file():
            raise StoreError(f"no such file: {path}" if not path.exists() else f"{path} is not a file")
        self._lock = None if read_only else StoreLock(path)
        self._database: sqlite3.Connection | None = None
        try:
            with _explained(path):
                self._check_header()
                self._database = _connect(path, "ro" if read_only else "rw")
                if not read_only:
                    self._database.execute("PRAGMA journal_mode = WAL").fetchone()
                    self._database.execute("PRAGMA synchronous = FULL")
                    self._database.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
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
            with _explained(path):
                fresh.unlink(missing_ok=True)
                with contextlib.closing(_connect(fresh, "rwc")) as database:
                    database.execute("PRAGMA auto_vacuum = INCREMENTAL")
                    database.execute("PRAGMA synchronous = FULL")
                    database.execute("BEGIN")
                    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    database.execute(f"PRAGMA user_version = {SCHEMA}")
                    for name, keys in TABLES.items():
                        columns = f"{', '.join(keys)}, payload BLOB NOT NULL, crc INTEGER NOT NULL"
                        database.execute(f"CREATE TABLE {name} ({columns}, PRIMARY KEY ({_names(name)}))")
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
        with _explained(self.path):
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

    def load(self, names: Sequence[str]) -> dict[str, list[Row]]:
        """Returns all rows of some tables as of one moment, in the order of their keys.

        Raises:
            StoreError: the file is damaged.
        """
        with _explained(self.path):
            self._db.execute("BEGIN")
            try:
                return {name: list(self._rows(name)) for name in names}
            finally:
                self._db.execute("COMMIT")

    def get(self, name: str, key: int) -> bytes | None:
        """Returns the payload of one row of a table with a single key, or None.

        Raises:
            StoreError: the row is damaged.
        """
        with _explained(self.path):
            return next((row[-1] for row in self._rows(name, key)), None)

    def has(self, name: str, key: int) -> bool:
        """Whether a table with a single key has a row."""
        with _explained(self.path):
            found = self._db.execute(f"SELECT 1 FROM {name} WHERE {_names(name)} = ?", (key,))
            return found.fetchone() is not None

    def _rows(self, name: str, key: int | None = None) -> Iterator[Row]:
        unpack = self._decompressor.decompress if name == COMPRESSED else bytes
        where = "" if key is None else f" WHERE {_names(name)} = ?"
        found = self._db.execute(
            f"SELECT * FROM {name}{where} ORDER BY {_names(name)}", () if key is None else (key,)
        )
        for *values, payload, crc in found:
            if not isinstance(payload, bytes) or _crc(tuple(values), payload) != crc:
                raise StoreError(f"{self.path} is damaged: {name} {values}; restore it from a copy")
            yield (*values, unpack(payload))

    def close(self) -> None:
        """Writes the WAL back into the file and lets go of it; nothing happens the second time."""
        if self._database is not None:
            if not self.read_only:
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("PRAGMA incremental_vacuum").fetchall()
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


def _plain(error: Exception) -> str:
    """Returns an error's text as one short line: SQLite quotes damaged text as it is."""
    return " ".join(ascii(str(error))[1:-1].replace("\\n", " ").split())[:120]


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what SQLite, zstd and the system say into one clear line."""
    try:
        yield
    except zstandard.ZstdError:
        raise StoreError(
            f"{path} is damaged: a block cannot be decompressed; restore it from a copy"
        ) from None
    except ValueError as error:  # text that is not UTF-8, in the schema or in a key
        raise StoreError(f"{path} is damaged: {_plain(error)}; restore it from a copy") from None
    except OSError as error:
        raise StoreError(f"cannot use {path}: {error.strerror}") from None
    except sqlite3.Error as error:
        text = _plain(error)
        if "not a database" in text:
            raise StoreError(f"{path} is not a memory file") from None
        if "full" in text:
            raise StoreError(
                f"cannot write {path}: the disk is full; free some space and open it again, "
                "all that was acknowledged is in it"
            ) from None
        if "locked" in text or "busy" in text:
            raise StoreError(f"{path} is in use by another program; close that one and try again") from None
        if "readonly" in text or "unable to open" in text:
            raise StoreError(f"cannot open {path} ({text}); check its permissions") from None
        if isinstance(error, sqlite3.OperationalError) and "I/O" in text:
            raise StoreError(f"cannot use {path}: {text}; check the disk") from None
        raise StoreError(f"{path} is damaged: {text}; restore it from a copy") from None

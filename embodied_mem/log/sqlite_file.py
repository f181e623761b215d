"""One rosbag2 SQLite file (.db3), read in log order."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path

from embodied_mem.errors import LogError
from embodied_mem.log.mcap_file import RawMessage, TopicInfo

MAGIC = b"SQLite format 3\0"


class SqliteFile:
    """Reads one .db3 file; all schema versions of rosbag2 have the tables it needs.

    Args:
        path: the file; it is opened read-only.
        warnings: gets a line for everything that could not be read.

    Attributes:
        topics: by name.
        start, end: log time [ns] of the first and the last message; 0 where there is none.

    Raises:
        LogError: it is not a rosbag2 file, or too damaged to open.
    """

    def __init__(self, path: Path, warnings: list[str]) -> None:
        self._path = path
        self._warnings = warnings
        self._ids: dict[int, str] = {}
        self.topics: dict[str, TopicInfo] = {}
        # immutable: a bag on read-only media has no place for SQLite's lock files; but it would
        # hide what a crashed recorder left in a write-ahead log.
        immutable = "" if path.with_name(path.name + "-wal").exists() else "&immutable=1"
        try:
            uri = f"{path.resolve().as_uri()}?mode=ro{immutable}"
            self._connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
            self._open()
        except sqlite3.DatabaseError as error:
            raise LogError(f"{path} is not a rosbag2 recording ({error})") from None

    def _open(self) -> None:
        rows = self._connection.execute("SELECT id, name, type, serialization_format FROM topics ORDER BY id")
        for id_, name, type_name, serialization in rows:
            self._ids[id_] = name
            self.topics[name] = TopicInfo(name, type_name, serialization=serialization)
        counts = self._connection.execute("SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id")
        for id_, count in counts:
            if id_ in self._ids:
                self.topics[self._ids[id_]].count += count
        first, last = self._connection.execute(
            "SELECT MIN(timestamp), MAX(timestamp) FROM messages"
        ).fetchone()
        self.start, self.end = first or 0, last or 0

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Yields messages in the order of their log time; equal times in file order.

        Args:
            topics: only these; all where None.
        """
        ids = sorted(id_ for id_, name in self._ids.items() if topics is None or name in topics)
        marks = ",".join("?" * len(ids))
        where = f"WHERE topic_id IN ({marks}) ORDER BY timestamp, id"
        try:
            for id_, time, data in self._connection.execute(
                f"SELECT topic_id, timestamp, data FROM messages {where}", ids
            ):
                yield RawMessage(self._ids[id_], time, data)
        except sqlite3.DatabaseError as error:
            warning = f"{self._path} is damaged: read up to there ({error})"
            if warning not in self._warnings:
                self._warnings.append(warning)

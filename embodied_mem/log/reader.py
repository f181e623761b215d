"""One reader over every log there is: an MCAP file, a rosbag2 folder, a bare .db3."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from embodied_mem.errors import LogError
from embodied_mem.log import mcap_file, sqlite_file
from embodied_mem.log.mcap_file import McapFile, RawMessage, TopicInfo
from embodied_mem.log.sqlite_file import SqliteFile

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ROS1_MAGIC = b"#ROSBAG V"


class LogReader:
    """Reads a log in the order in which its messages were logged.

    Args:
        path: an MCAP file, a rosbag2 folder (MCAP or SQLite, one file or several), or a .db3.

    Attributes:
        path: as given.
        format: "mcap" or "sqlite3".
        topics: by name.
        start, end: log time [ns] of the first and the last message; 0 where there is none.
        warnings: what could not be read, one line each; grows while reading.

    Raises:
        LogError: no such file, an empty one, or one that is not a log.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.warnings: list[str] = []
        self.topics: dict[str, TopicInfo] = {}
        self._unpacked: Path | None = None
        self._files: list[McapFile | SqliteFile] = []
        try:
            self._open_all(self._find_files())
        except BaseException:
            self.close()
            raise
        self.format = "mcap" if isinstance(self._files[0], McapFile) else "sqlite3"
        self.start = min((f.start for f in self._files if f.start), default=0)
        self.end = max(f.end for f in self._files)
        for opened in self._files:
            for name, info in opened.topics.items():
                mine = self.topics.setdefault(name, TopicInfo(name, info.type, 0, info.serialization))
                mine.count += info.count

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the log's files."""
        for file in self._files:
            file.close()
        if self._unpacked is not None:
            shutil.rmtree(self._unpacked, ignore_errors=True)
            self._unpacked = None

    @property
    def count(self) -> int:
        """Number of messages."""
        return sum(info.count for info in self.topics.values())

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Yields messages in the order of their log time; equal times in file order.

        Args:
            topics: only these; all where None.
        """
        for file in self._files:
            for message in file.messages(topics):
                # CDR never starts like this: rosbag2 has compressed the message (its mode "message").
                if message.data.startswith(ZSTD_MAGIC):
                    message = message._replace(data=mcap_file.decompress(message.data, "zstd"))
                yield message

    def _find_files(self) -> list[Path]:
        if not self.path.exists():
            raise LogError(f"no such log: {self.path}")
        if not self.path.is_dir():
            return [self.path]
        files = self._listed_files() if (self.path / "metadata.yaml").exists() else []
        if not files:
            kinds = ("*.mcap", "*.db3", "*.mcap.zstd", "*.db3.zstd")
            files = sorted(
                (f for kind in kinds for f in self.path.glob(kind)), key=lambda f: (len(f.name), f.name)
            )
            if not files:
                raise LogError(f"{self.path} is not a rosbag2 folder: it holds neither .mcap nor .db3 files")
            self.warnings.append(f"{self.path} has no usable metadata.yaml: its files are read by name")
        return files

    def _listed_files(self) -> list[Path]:
        """Returns the files that metadata.yaml lists and that exist, in order."""
        import yaml

        try:
            info: Any = yaml.safe_load((self.path / "metadata.yaml").read_text())
            info = info["rosbag2_bagfile_information"]
            # Early versions list paths relative to the folder's parent.
            listed = [self.path / PurePosixPath(p).name for p in info["relative_file_paths"]]
        except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
            return []
        missing = [f.name for f in listed if not f.exists()]
        if missing:
            self.warnings.append(f"{self.path} lacks files that its metadata lists: {', '.join(missing)}")
        return [f for f in listed if f.exists()]

    def _open_all(self, paths: list[Path]) -> None:
        for path in paths:
            try:
                self._files.append(self._open(path))
            except LogError as error:
                if len(paths) == 1:
                    raise
                # The last file of a crashed recording is often empty; the others are good.
                self.warnings.append(str(error))
        if not self._files:
            raise LogError(self.warnings[-1])

    def _open(self, path: Path) -> McapFile | SqliteFile:
        try:
            with path.open("rb") as file:
                head = file.read(16)
        except OSError as error:
            raise LogError(f"cannot read {path}: {error.strerror}") from None
        if not head:
            raise LogError(f"{path} is empty")
        if head.startswith(ZSTD_MAGIC):
            return self._open(self._unpack(path))
        if head.startswith(mcap_file.MAGIC):
            return McapFile(path, self.warnings)
        if head.startswith(sqlite_file.MAGIC):
            return SqliteFile(path, self.warnings)
        if head.startswith(ROS1_MAGIC):
            raise LogError(f"{path} is a ROS 1 bag: convert it with `rosbags-convert --src {path}`")
        raise LogError(f"{path} is not a log: expected an MCAP file, a rosbag2 folder or a .db3")

    def _unpack(self, path: Path) -> Path:
        """Decompresses a file that rosbag2 compressed whole; returns where it lies now."""
        import zstandard

        if self._unpacked is None:
            self._unpacked = Path(tempfile.mkdtemp(prefix="embodied_mem_"))
        target = self._unpacked / path.stem
        with path.open("rb") as source, target.open("wb") as sink:
            try:
                zstandard.ZstdDecompressor().copy_stream(source, sink)
            except zstandard.ZstdError as error:
                self.warnings.append(f"{path} is damaged: read up to there ({error})")
        return target

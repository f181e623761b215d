"""Messages as they came, as one MCAP file: what `ros2 bag record` would have written."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, BinaryIO

from embodied_mem.errors import LogError
from embodied_mem.log import messages

CHUNK_BYTES = 256 * 1024


def start_mcap(path: Path, chunk_bytes: int) -> tuple[BinaryIO, Any]:
    """Makes an MCAP file of ROS 2 messages in zstd chunks of some bytes; returns it and its writer.

    Raises:
        LogError: the file cannot be written.
    """
    from mcap.writer import CompressionType, Writer

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
    except OSError as error:
        raise LogError(f"cannot write the log {path}: {error.strerror}") from None
    writer = Writer(file, chunk_size=chunk_bytes, compression=CompressionType.ZSTD)
    writer.start(profile="ros2", library="embodied-mem")
    return file, writer


class RawWriter:
    """Writes serialised messages; at most `every` seconds of them can be lost to a power cut.

    Args:
        path: the file; one that exists is replaced.
        every: what has been written goes to the disk this often [s].

    Raises:
        LogError: the file cannot be written.
    """

    def __init__(self, path: str | Path, every: float = 1.0) -> None:
        self.path, self.every = Path(path), every
        self._file, self._mcap = start_mcap(self.path, CHUNK_BYTES)
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._flushed = time.monotonic()
        self.count = 0

    @property
    def is_closed(self) -> bool:
        """True after `close`, or after the file could not be written on."""
        return bool(self._file.closed)

    @property
    def is_due(self) -> bool:
        """True where something has waited for the disk for long enough."""
        return time.monotonic() - self._flushed > self.every

    def write(self, topic: str, type_name: str, data: bytes, log_time: int, qos: str = "") -> None:
        """Writes a message.

        Args:
            topic: name in the graph.
            type_name: ROS 2 type.
            data: CDR bytes.
            log_time: when it came [ns].
            qos: profile as rosbag2 writes it.

        Raises:
            LogError: the disk is full, or gone; what was written before stays.
        """
        channel = self._channels.get(topic)
        if channel is None:
            channel = self._channels[topic] = self._register(topic, type_name, qos)
        self._guard(self._mcap.add_message, channel, log_time, data, log_time)
        self.count += 1
        if self.is_due:
            self.flush()

    def _register(self, topic: str, type_name: str, qos: str) -> int:
        if type_name not in self._schemas:
            text = messages.definition(type_name).encode()
            self._schemas[type_name] = self._mcap.register_schema(type_name, "ros2msg", text)
        metadata = {"offered_qos_profiles": qos, "topic_type_hash": messages.type_hash(type_name)}
        return int(self._mcap.register_channel(topic, "cdr", self._schemas[type_name], metadata))

    def flush(self) -> None:
        """Ends the chunk in progress and hands it to the system.

        Raises:
            LogError: the disk is full, or gone.
        """
        # The package ends a chunk by its size alone; small messages would wait for hours.
        self._guard(self._mcap._Writer__finalize_chunk)
        self._guard(self._file.flush)
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Ends the file with its index; doing it twice changes nothing.

        Raises:
            LogError: the disk is full, or gone.
        """
        if not self.is_closed:
            self._guard(self._mcap.finish)
            self._guard(self._file.close)

    def _guard(self, action: Any, *values: Any) -> None:
        if self.is_closed:
            raise LogError(f"the log {self.path} is closed")
        try:
            action(*values)
        except OSError as error:
            with contextlib.suppress(OSError):  # it is told once
                self._file.close()
            raise LogError(
                f"the log {self.path} ends here: {error.strerror}; what it holds can be replayed"
            ) from None

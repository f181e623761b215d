"""One MCAP file, read in log order: with its index, or without one, or cut off half-way.

The official `mcap` package reads the records. What is added here is that a file without a usable
summary (a crash, a full disk, a preset that writes none) is scanned once and then read like any
other, without loading it whole, and that a chunk cut in the middle gives what it still holds.
Format: https://mcap.dev/spec
"""

from __future__ import annotations

import heapq
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from embodied_mem.errors import LogError

MAGIC = b"\x89MCAP0\r\n"

_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0F
_RECORD = struct.Struct("<BQ")
_MESSAGE_HEAD = struct.Struct("<HIQQ")
_CHUNK_HEAD = struct.Struct("<QQQII")
_RUN_BYTES = 1 << 20
"""Messages outside chunks are taken in runs of about this size."""


class RawMessage(NamedTuple):
    """A message as it lies in the log: topic, time it was logged [ns], serialised bytes."""

    topic: str
    log_time: int
    data: bytes


@dataclass
class TopicInfo:
    """A topic of a log.

    Attributes:
        name, type: of the topic.
        count: number of messages.
        serialization: "cdr" for ROS 2.
    """

    name: str
    type: str
    count: int = 0
    serialization: str = "cdr"


class _Segment(NamedTuple):
    """A chunk, or a run of messages outside chunks."""

    start: int  # [ns] log time of its first message
    end: int
    offset: int
    size: int
    channels: frozenset[int] | None  # None: not known


class McapFile:
    """Reads one MCAP file.

    Args:
        path: the file.
        warnings: gets a line for everything that could not be read.

    Attributes:
        topics: by name.
        start, end: log time [ns] of the first and the last message; 0 where there is none.

    Raises:
        LogError: it is not an MCAP file.
    """

    def __init__(self, path: Path, warnings: list[str]) -> None:
        self._path = path
        self._warnings = warnings
        self._file = path.open("rb")
        self._size = path.stat().st_size
        if self._file.read(len(MAGIC)) != MAGIC:
            self._file.close()
            raise LogError(f"{path} is not an MCAP file")
        self._schemas: dict[int, Any] = {}
        self._channels: dict[int, Any] = {}
        self._segments: list[_Segment] = []
        self._counts: Counter[int] = Counter()
        if not self._read_summary():
            self._scan()
        self._segments.sort()
        self.start = min((s.start for s in self._segments), default=0)
        self.end = max((s.end for s in self._segments), default=0)
        self.topics = self._list_topics()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _list_topics(self) -> dict[str, TopicInfo]:
        topics: dict[str, TopicInfo] = {}
        for id_, channel in sorted(self._channels.items()):
            schema = self._schemas.get(channel.schema_id)
            name = schema.name if schema is not None else ""
            info = topics.setdefault(
                channel.topic, TopicInfo(channel.topic, name, serialization=channel.message_encoding)
            )
            info.count += self._counts[id_]
        return topics

    def _read_summary(self) -> bool:
        from mcap.reader import SeekingReader

        self._file.seek(0)
        try:
            summary = SeekingReader(self._file).get_summary()
        except Exception:  # any damage: the scan finds out what is still there
            return False
        if summary is None or summary.statistics is None or not summary.channels:
            return False
        indexed = summary.chunk_indexes
        if not indexed and summary.statistics.message_count:
            return False
        self._schemas, self._channels = summary.schemas, summary.channels
        self._counts.update(summary.statistics.channel_message_counts)
        self._segments = [
            _Segment(
                c.message_start_time,
                c.message_end_time,
                c.chunk_start_offset,
                c.chunk_length,
                frozenset(c.message_index_offsets) or None,
            )
            for c in indexed
        ]
        return True

    def _scan(self) -> None:
        """Finds chunks and loose messages one after another, up to the end or the cut."""
        offset, run = len(MAGIC), -1
        while True:
            self._file.seek(offset)
            head = self._file.read(_RECORD.size)
            opcode, length = _RECORD.unpack(head) if len(head) == _RECORD.size else (0, 0)
            end = offset + _RECORD.size + length
            cut = len(head) < _RECORD.size or end > self._size
            # Loose messages form a run until anything else comes, or the run is long enough.
            if run >= 0 and (cut or opcode != _MESSAGE or offset - run > _RUN_BYTES):
                self._add_segment(run, offset - run)
                run = -1
            if cut:
                if opcode == _CHUNK:
                    self._add_segment(offset, self._size - offset)
                self._warnings.append(
                    f"{self._path} is cut off: read up to the cut at {self._size / 1e6:.3f} MB"
                )
                return
            if opcode == _DATA_END:
                self._check_tail()
                return
            if opcode == _CHUNK:
                self._add_segment(offset, end - offset)
            elif opcode == _MESSAGE and run < 0:
                run = offset
            elif opcode in (_SCHEMA, _CHANNEL):
                self._file.seek(offset + _RECORD.size)
                self._learn(opcode, self._file.read(length))
            offset = end

    def _check_tail(self) -> None:
        self._file.seek(max(0, self._size - len(MAGIC)))
        if self._file.read() != MAGIC:
            self._warnings.append(f"{self._path} is cut off in its index; all its messages are there")

    def _add_segment(self, offset: int, size: int) -> None:
        times, channels = [], set()
        for channel, time, _ in self._load(_Segment(0, 0, offset, size, None), None):
            times.append(time)
            channels.add(channel)
            self._counts[channel] += 1
        if times:
            self._segments.append(_Segment(min(times), max(times), offset, size, frozenset(channels)))

    def _learn(self, opcode: int, content: bytes) -> None:
        from mcap.data_stream import ReadDataStream
        from mcap.records import Channel, Schema

        stream = ReadDataStream(BytesIO(content))
        if opcode == _SCHEMA:
            schema = Schema.read(stream)
            self._schemas[schema.id] = schema
        else:
            channel = Channel.read(stream)
            self._channels[channel.id] = channel

    def _load(
        self, segment: _Segment, wanted: Collection[int] | None
    ) -> Iterator[tuple[int, int, memoryview]]:
        """Yields channel, log time and data of a segment's messages, in file order."""
        self._file.seek(segment.offset)
        raw = self._file.read(segment.size)
        if raw[:1] == bytes([_CHUNK]):
            raw = self._chunk_content(raw[_RECORD.size :], segment.offset)
        view, position = memoryview(raw), 0
        while position + _RECORD.size <= len(view):
            opcode, length = _RECORD.unpack_from(view, position)
            position += _RECORD.size
            if position + length > len(view):
                return  # cut within this record
            if opcode == _MESSAGE:
                channel, _, log_time, _ = _MESSAGE_HEAD.unpack_from(view, position)
                if wanted is None or channel in wanted:
                    yield channel, log_time, view[position + _MESSAGE_HEAD.size : position + length]
            elif opcode in (_SCHEMA, _CHANNEL) and wanted is None:
                self._learn(opcode, bytes(view[position : position + length]))
            position += length

    def _chunk_content(self, record: bytes, offset: int) -> bytes:
        """Returns a chunk's records; of a damaged or cut chunk, as much as can be had."""
        if len(record) < _CHUNK_HEAD.size:
            return b""
        _, _, size, crc, name_length = _CHUNK_HEAD.unpack_from(record)
        position = _CHUNK_HEAD.size + name_length
        if len(record) < position + 8:
            return b""
        compression = record[_CHUNK_HEAD.size : position].decode(errors="replace")
        data = record[position + 8 :]
        content = decompress(data, compression)
        is_cut = len(data) < struct.unpack_from("<Q", record, position)[0]
        if is_cut or (len(content) == size and (crc == 0 or zlib.crc32(content) == crc)):
            return content
        self._warn_once(f"{self._path} has a damaged chunk at byte {offset}: left out")
        return b""

    def _warn_once(self, warning: str) -> None:
        if warning not in self._warnings:
            self._warnings.append(warning)

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Yields messages in the order of their log time; equal times in file order.

        Args:
            topics: only these; all where None.
        """
        names = {id_: c.topic for id_, c in self._channels.items() if topics is None or c.topic in topics}
        segments = [s for s in self._segments if s.channels is None or not s.channels.isdisjoint(names)]
        heap: list[tuple[int, int, int, str, memoryview]] = []
        for index, segment in enumerate(segments):
            for position, (channel, time, data) in enumerate(self._load(segment, names)):
                heapq.heappush(heap, (time, segment.offset, position, names[channel], data))
            # A message may go once no chunk to come starts before it, or at the same time.
            bound = segments[index + 1].start if index + 1 < len(segments) else None
            while heap and (bound is None or heap[0][0] < bound):
                time, _, _, topic, data = heapq.heappop(heap)
                yield RawMessage(topic, time, bytes(data))


def decompress(data: bytes, compression: str) -> bytes:
    """Decompresses "zstd", "lz4" or "" data; of cut or damaged data, as much as can be had.

    Raises:
        LogError: an unknown compression.
    """
    if compression == "":
        return data
    if compression == "zstd":
        import zstandard

        try:
            decoder = zstandard.ZstdDecompressor().decompressobj()
            return bytes(decoder.decompress(data))
        except zstandard.ZstdError:
            return b""
    if compression == "lz4":
        import lz4.frame

        try:
            return bytes(lz4.frame.LZ4FrameDecompressor().decompress(data))
        except RuntimeError:
            return b""
    raise LogError(f'chunks compressed with "{compression}" cannot be read; convert the log to zstd')

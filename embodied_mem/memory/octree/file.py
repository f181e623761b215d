"""The file of a whole octree."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from embodied_mem.errors import StoreError
from embodied_mem.memory.octree import states
from embodied_mem.memory.octree.contents import CONTENT_TYPES, Contents
from embodied_mem.memory.octree.octants import UNKNOWN

MAGIC = b"EMOCTREE"
FILE_FORMAT = 2
_STATE_TYPES = ("<i8", "<u1")


def _assemble(columns: list[NDArray[Any]]) -> Contents:
    native = [np.ascontiguousarray(a, np.dtype(k).newbyteorder("=")) for a, k in zip(columns, CONTENT_TYPES)]
    native[1] = native[1].reshape(-1, 512)
    native[2] = native[2].reshape(-1, 8)
    return Contents(*native)


def _states_of(contents: Contents) -> list[NDArray[Any]]:
    """Returns key differences and coded states: all that three states need."""
    steps = contents.log_odds
    three = (steps != UNKNOWN).astype(np.uint8) + (steps >= 0)
    coded = states.encode_states(three, states.preceding(contents.keys))
    return [np.diff(contents.keys, prepend=np.int64(0)), coded]


def _from_states(columns: list[NDArray[Any]], lowest: int, highest: int) -> Contents:
    """Builds contents of three states: occupied and free voxels are as certain as they can be."""
    keys = np.cumsum(columns[0]).astype(np.int64)
    three = states.decode_states(columns[1], states.preceding(keys))
    occupied = three == 2
    records = int(np.count_nonzero(occupied))
    return Contents(
        keys,
        np.array([UNKNOWN, lowest, highest], np.int8)[three],
        np.packbits(occupied, axis=1, bitorder="little").view("<u8").astype(np.uint64),
        np.zeros(len(keys), np.int64),
        np.zeros(records, np.uint16),
        np.zeros(records, np.uint8),
        np.zeros(records, np.int64),
        np.full(records, -1, np.int32),
    )


def write_file(path: Path, settings: dict[str, Any], contents: Contents, three_state: bool = False) -> None:
    """Writes an octree file: magic, header length, JSON header, zstd body, SHA-256 of all.

    The file appears whole or not at all.

    Raises:
        StoreError: the file cannot be written.
    """
    settings = {**settings, "three_state": three_state}
    columns = _states_of(contents) if three_state else list(contents)
    kinds = _STATE_TYPES if three_state else CONTENT_TYPES
    arrays = [np.ascontiguousarray(a, k) for a, k in zip(columns, kinds)]
    header = json.dumps({**settings, "format": FILE_FORMAT, "sizes": [a.size for a in arrays]}).encode()
    body = zstandard.ZstdCompressor(level=3).compress(b"".join(a.tobytes() for a in arrays))
    data = b"".join((MAGIC, struct.pack("<I", len(header)), header, body))
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            file.write(data + hashlib.sha256(data).digest())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write the octree {path}: {error.strerror}") from error


def read_file(path: Path) -> tuple[dict[str, Any], Contents]:
    """Reads what `write_file` wrote.

    Raises:
        StoreError: the file is missing, foreign, damaged or of a newer format.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"cannot read the octree {path}: {error.strerror}") from error
    if not data.startswith(MAGIC):
        raise StoreError(f"{path} is not an octree file")
    if len(data) < 44 or hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise StoreError(f"{path} is cut short or damaged; restore it from a copy")
    (length,) = struct.unpack_from("<I", data, 8)
    settings = json.loads(data[12 : 12 + length])
    if settings["format"] != FILE_FORMAT:
        raise StoreError(f"{path} has octree format {settings['format']}; this release reads {FILE_FORMAT}")
    body = zstandard.ZstdDecompressor().decompress(data[12 + length : -32])
    columns, at = [], 0
    for size, kind in zip(settings["sizes"], _STATE_TYPES if settings["three_state"] else CONTENT_TYPES):
        columns.append(np.frombuffer(body, kind, size, at))
        at += np.dtype(kind).itemsize * size
    if settings["three_state"]:
        return settings, _from_states(columns, *settings["clamp_steps"])
    return settings, _assemble(columns)

"""Rows of older schemas, as they are written today."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from embodied_mem.memory.episodes.row import HEAD
from embodied_mem.memory.episodes.vectors import quantise

_LENGTH = struct.Struct("<I")
_HEAD_2 = np.dtype([(name, HEAD[name]) for name in HEAD.names or () if name != "used"])
_HEAD_1 = np.dtype([(name, HEAD[name]) for name in _HEAD_2.names or () if name != "utility"])


def _episode_1(payload: bytes) -> bytes:
    """Entries of schema 1 had no utility and no evidence, and embeddings of float16."""
    before = np.frombuffer(payload, _HEAD_1, 1)[0]
    head: Any = np.zeros(1, _HEAD_2)[0]
    for name in _HEAD_1.names or ():
        head[name] = before[name]
    at, parts = _HEAD_1.itemsize, []
    for _ in range(7):
        (length,) = _LENGTH.unpack_from(payload, at)
        at += _LENGTH.size + length
        parts.append(payload[at - length : at])
    vector = quantise(np.frombuffer(parts[6], "<f2").astype(np.float32)) if parts[6] else None
    parts[6] = b"" if vector is None else vector.tobytes()
    return head.tobytes() + b"".join(_LENGTH.pack(len(part)) + part for part in (*parts, b""))


def _episode_2(payload: bytes) -> bytes:
    """Entries of schema 2 did not know when they were last recalled."""
    before = np.frombuffer(payload, _HEAD_2, 1)[0]
    head: Any = np.zeros(1, HEAD)[0]
    for name in _HEAD_2.names or ():
        head[name] = before[name]
    head["used"] = before["stamp"]
    return head.tobytes() + payload[_HEAD_2.itemsize :]


MIGRATIONS: dict[int, dict[str, Callable[[bytes], bytes]]] = {
    1: {"episodes": _episode_1},
    2: {"episodes": _episode_2},
}
"""By schema and table: what makes a payload of the next schema."""

NEW_TABLES = {
    1: ("submaps",),
    2: ("entry_heads", "entry_vectors", "entry_objects", "entry_details", "entry_alive"),
}
"""By schema: the tables that it did not have."""


def migrate(schema: int, table: str, payload: bytes) -> bytes:
    """Returns a payload of an older schema as it is written today; one of today's as it is."""
    for version in sorted(v for v in MIGRATIONS if v >= schema):
        step = MIGRATIONS[version].get(table)
        payload = payload if step is None else step(payload)
    return payload

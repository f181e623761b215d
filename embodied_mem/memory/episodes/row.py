"""One episodic entry: as a value, as columns in the table, and as bytes in the file."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import StoreError
from embodied_mem.geometry import Pose
from embodied_mem.memory.recall.words import words_of

HEAD = np.dtype(
    [
        ("id", "<i8"),
        ("stamp", "<i8"),
        ("step", "<i8"),
        ("place", "<i8"),
        ("room", "<i8"),
        ("reward", "<f8"),
        ("trust", "<f8"),
        ("utility", "<f8"),
        ("used", "<i8"),
        ("pose", "<f8", (7,)),
    ]
)
"""The fixed part of an entry, as it lies in memory and in the file."""

_LENGTH = struct.Struct("<I")
PARTS = 8
"""Parts of a payload after its head."""


@dataclass(frozen=True, eq=False)
class Episode:
    """What happened at one moment.

    Attributes:
        id: stable, never reused.
        stamp: [ns].
        step: step of the world's run, or -1.
        pose: `map_T_base`.
        place_id, room_id: where the agent was, or -1.
        object_ids: the objects seen at that moment, ascending.
        embedding: (D,) int8, a direction (`vectors.quantise`), or None.
        action: the action that led here, or None.
        reward: the reward that came with it.
        event: what happened, in a word, or "".
        text: a note in words.
        changes: what changed about objects: (object id, words).
        source: who wrote it.
        trust: in [0, 1].
        evidence: ids of the entries that a summary was made of, ascending; else empty.
        utility: learned usefulness, 0 before any feedback.
        used: when it was last recalled [ns], where recalls are noted; else its stamp.
    """

    id: int
    stamp: int
    step: int
    pose: Pose
    place_id: int = -1
    room_id: int = -1
    object_ids: tuple[int, ...] = ()
    embedding: NDArray[np.int8] | None = None
    action: NDArray[np.float64] | int | None = None
    reward: float = 0.0
    event: str = ""
    text: str = ""
    changes: tuple[tuple[int, str], ...] = ()
    source: str = ""
    trust: float = 1.0
    evidence: tuple[int, ...] = ()
    utility: float = 0.0
    used: int = -1

    def head(self) -> tuple[Any, ...]:
        """Returns the values of `HEAD`."""
        where = self.pose.to_list()
        return (
            self.id, self.stamp, self.step, self.place_id, self.room_id,
            self.reward, self.trust, self.utility, max(self.used, self.stamp), where,
        )  # fmt: skip


@dataclass(eq=False)
class EpisodeRow:
    """The part of an entry that varies in length; the action is kept as bytes."""

    object_ids: tuple[int, ...]
    action: bytes
    event: str
    text: str
    changes: tuple[tuple[int, str], ...]
    source: str
    evidence: tuple[int, ...] = ()

    @classmethod
    def of(cls, entry: Episode) -> EpisodeRow:
        """Takes the varying part of an entry."""
        action = _action_bytes(entry.action)
        return cls(
            entry.object_ids, action, entry.event, entry.text, entry.changes, entry.source, entry.evidence
        )

    @property
    def nbytes(self) -> int:
        """Bytes of it as it is stored, with the lengths of the parts."""
        words = len(self.event.encode()) + len(self.text.encode()) + len(self.source.encode())
        numbers = 8 * (len(self.object_ids) + len(self.evidence))
        return PARTS * _LENGTH.size + numbers + len(self.action) + words + len(changes_to(self.changes))

    @property
    def is_spoken(self) -> bool:
        """Whether it says anything in words."""
        return bool(self.event or self.text or self.changes)

    def words(self) -> tuple[str, ...]:
        """Returns the distinct words of event, text and changes."""
        return words_of(self.said)

    @property
    def said(self) -> str:
        """Event, text and changes, one after the other."""
        return " ".join((self.event, self.text, *(words for _, words in self.changes)))

    def episode(self, head: Any, embedding: NDArray[np.int8] | None) -> Episode:
        """Returns the entry of a `HEAD` record and this."""
        return Episode(
            id=int(head["id"]),
            stamp=int(head["stamp"]),
            step=int(head["step"]),
            pose=Pose.from_list(head["pose"]),
            place_id=int(head["place"]),
            room_id=int(head["room"]),
            object_ids=self.object_ids,
            embedding=embedding,
            action=_action_value(self.action),
            reward=float(head["reward"]),
            event=self.event,
            text=self.text,
            changes=self.changes,
            source=self.source,
            trust=float(head["trust"]),
            evidence=self.evidence,
            utility=float(head["utility"]),
            used=int(head["used"]),
        )


def changes_to(changes: tuple[tuple[int, str], ...]) -> bytes:
    """Returns what changed about objects as JSON; b"" where nothing did."""
    return json.dumps(changes, separators=(",", ":")).encode() if changes else b""


def changes_from(data: bytes) -> tuple[tuple[int, str], ...]:
    """Reads what `changes_to` made; `ValueError` or `TypeError` where it is damaged."""
    return tuple((int(i), str(words)) for i, words in json.loads(data)) if data else ()


def pack_row(head: Any, row: EpisodeRow, embedding: NDArray[np.int8] | None) -> bytes:
    """Returns an entry as bytes: `HEAD`, then the parts, each after its length (u32, little-endian).

    The parts are the objects' ids (i64), action, event, text, changes (JSON), source, embedding (i8),
    ids of its evidence (i64).
    """
    vector = b"" if embedding is None else embedding.tobytes()
    parts = (
        np.array(row.object_ids, "<i8").tobytes(),
        row.action,
        row.event.encode(),
        row.text.encode(),
        changes_to(row.changes),
        row.source.encode(),
        vector,
        np.array(row.evidence, "<i8").tobytes(),
    )
    return head.tobytes() + b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def unpack_details(payload: bytes) -> EpisodeRow:
    """Reads the varying part of what `pack_row` made; `StoreError` where it is damaged."""
    return _read_parts(payload)[0]


def unpack_row(entry_id: int, payload: bytes) -> Episode:
    """Reads what `pack_row` made.

    Raises:
        StoreError: the payload is damaged.
    """
    row, vector = _read_parts(payload)
    entry = row.episode(
        np.frombuffer(payload, HEAD, 1)[0], np.frombuffer(vector, np.int8).copy() if vector else None
    )
    if entry.id != entry_id:
        raise StoreError(f"episodic entry {entry_id} is damaged")
    return entry


def _read_parts(payload: bytes) -> tuple[EpisodeRow, bytes]:
    """Returns the varying part, and the bytes of the embedding."""
    try:
        at, parts = HEAD.itemsize, []
        for _ in range(PARTS):
            (length,) = _LENGTH.unpack_from(payload, at)
            at += _LENGTH.size + length
            parts.append(payload[at - length : at])
        objects, action, event, text, changes, source, vector, evidence = parts
        row = EpisodeRow(
            tuple(np.frombuffer(objects, "<i8").tolist()),
            action,
            event.decode(),
            text.decode(),
            changes_from(changes),
            source.decode(),
            tuple(np.frombuffer(evidence, "<i8").tolist()) if evidence else (),
        )
    except (ValueError, TypeError, struct.error) as error:
        raise StoreError("an episodic entry is damaged; restore the memory from a copy") from error
    if at != len(payload):
        raise StoreError("an episodic entry is damaged; restore the memory from a copy")
    return row, vector


def _action_bytes(action: Any) -> bytes:
    if action is None:
        return b""
    values = np.asarray(action)
    if values.ndim == 0 and values.dtype.kind in "iub":
        return b"i" + struct.pack("<q", int(values))
    return b"f" + values.astype("<f8").tobytes()


def _action_value(action: bytes) -> NDArray[np.float64] | int | None:
    if not action:
        return None
    if action[:1] == b"i":
        return int(struct.unpack("<q", action[1:])[0])
    return np.frombuffer(action[1:], "<f8").astype(np.float64)

"""What the tools answer with: plain values, whose names and meanings the protocol tells the planner."""

from __future__ import annotations

from dataclasses import dataclass

from embodied_mem.memory import Memory
from embodied_mem.memory.recall.ask import Answer as InWords
from embodied_mem.memory.scene.graph import Room, SceneObject
from embodied_mem.types import NS_PER_S, Recall


@dataclass(frozen=True)
class Answer:
    """One thing that the memory recalls.

    Attributes:
        kind: object, place, room or episode.
        id: within its kind; what `forget` takes.
        text: the answer in words.
        position: x, y, z in the map frame [m].
        seconds: when, since the memory's first entry [s].
        age: how long ago, by the memory's own clock [s].
        score: how well it matches.
        why: why it matched.
        existence: probability that it still is there.
        evidence: ids of the episodic entries that show it.
    """

    kind: str
    id: int
    text: str
    position: tuple[float, float, float]
    seconds: float
    age: float
    score: float
    why: str
    existence: float
    evidence: list[int]

    @classmethod
    def of(cls, found: Recall, memory: Memory) -> Answer:
        """Returns a result of `Memory.recall` as an answer."""
        return cls(
            kind=found.kind,
            id=found.id,
            text=found.text,
            position=_point(found.position),
            seconds=seconds(memory, found.stamp),
            age=found.age,
            score=found.score,
            why=found.why,
            existence=found.existence,
            evidence=list(found.evidence),
        )


@dataclass(frozen=True)
class Reply:
    """The answer to a question in words.

    Attributes:
        understood: what was asked for; "" where only the words could be looked for.
        sentence: the answer.
        answers: what it rests on, best first.
    """

    understood: str
    sentence: str
    answers: list[Answer]

    @classmethod
    def of(cls, reply: InWords, memory: Memory) -> Reply:
        """Returns what `Memory.ask` gave as plain values."""
        return cls(reply.understood, reply.sentence, [Answer.of(found, memory) for found in reply.answers])


@dataclass(frozen=True)
class Thing:
    """An object.

    Attributes:
        id: stable, never reused.
        label: what it is.
        state: a state in words, such as "open", or "".
        position: x, y, z of its centre in the map frame [m].
        size: edges of the box around it [m].
        room: name of the room it is in, or "".
        existence: probability that it still is there.
        last_seen: since the memory's first entry [s].
    """

    id: int
    label: str
    state: str
    position: tuple[float, float, float]
    size: tuple[float, float, float]
    room: str
    existence: float
    last_seen: float

    @classmethod
    def of(cls, thing: SceneObject, memory: Memory, rooms: dict[int, str]) -> Thing:
        """Returns an object of the scene graph as plain values."""
        return cls(
            id=thing.id,
            label=thing.name,
            state=thing.state,
            position=_point(thing.position),
            size=_point(thing.extent),
            room=rooms.get(thing.room_id, ""),
            existence=thing.existence,
            last_seen=seconds(memory, thing.last_seen),
        )


@dataclass(frozen=True)
class RoomFacts:
    """A room.

    Attributes:
        id: stable, never reused.
        name: from the objects in it.
        position: x, y, z of its middle in the map frame [m].
        area: of its floor as far as it is known [m^2].
        objects: labels of what is in it.
    """

    id: int
    name: str
    position: tuple[float, float, float]
    area: float
    objects: list[str]

    @classmethod
    def of(cls, room: Room, things: list[SceneObject]) -> RoomFacts:
        """Returns a room of the scene graph as plain values."""
        inside = sorted(thing.name for thing in things if thing.room_id == room.id)
        return cls(room.id, room.name, _point(room.position), room.area, inside)


@dataclass(frozen=True)
class Change:
    """Something that changed.

    Attributes:
        seconds: when it was noticed, since the memory's first entry [s].
        text: what changed, in words.
        object_id: whose change it is.
        entry: id of the episodic entry that shows it.
    """

    seconds: float
    text: str
    object_id: int
    entry: int


def seconds(memory: Memory, stamp: int) -> float:
    """Returns a stamp as seconds since the memory's first entry."""
    return (stamp - memory.episodes.first_stamp) / NS_PER_S


def _point(values: object) -> tuple[float, float, float]:
    x, y, z = (round(float(v), 3) for v in values)  # type: ignore[attr-defined]
    return x, y, z

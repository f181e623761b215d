"""What changes a memory beside `write`: commands, by the names that stand in a log's ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.memory import reanchoring
from embodied_mem.memory.clearing import Region, clear_map, forget_surface
from embodied_mem.memory.episodes import consolidation

if TYPE_CHECKING:
    from embodied_mem.memory.memory import Memory

FORGETTABLE = ("object", "episode")
KEEP_FRESH = 32
"""The newest entries that consolidation leaves alone, unless it is told otherwise."""


def forget(memory: Memory, kind: str, id: int) -> None:
    """Removes one thing and everything that was derived from it."""
    if kind not in FORGETTABLE:
        raise InputError(f'cannot forget "{kind}"; what can be forgotten: {", ".join(FORGETTABLE)}')
    held = memory.scene.object(id) if kind == "object" else memory.episodes.entry(id)
    if held is None:
        raise InputError(f"there is no {kind} {id} in this memory")
    if kind == "object":
        _forget_object(memory, id)
    else:
        _forget_episode(memory, id)


def _forget_object(memory: Memory, object_id: int) -> None:
    episodes = memory.episodes
    told = [i for i in episodes.summaries() if object_id in _seen(memory, i)]
    _forget_thing(memory, object_id)
    for summary in told:
        _forget_episode(memory, summary)


def _forget_episode(memory: Memory, entry_id: int) -> None:
    episodes = memory.episodes
    seen = _seen(memory, entry_id)
    is_evidence = not episodes.summaries().get(entry_id)
    for summary in episodes.derived_from(entry_id):
        _forget_episode(memory, summary)
    episodes.forget(entry_id)
    memory.drop_images(entry_id)
    if not is_evidence:
        return
    for object_id in seen:  # what nothing else tells of came from this entry alone
        if not episodes.seen_in(object_id):
            _forget_thing(memory, object_id)


def _forget_thing(memory: Memory, object_id: int) -> None:
    """Removes an object, its surface and what entries say of it."""
    thing = memory.scene.object(object_id)
    if thing is not None:
        forget_surface(memory.contents, thing)
        memory.scene.forget_object(object_id)
        memory.episodes.forget_object(object_id)


def _seen(memory: Memory, entry_id: int) -> tuple[int, ...]:
    entry = memory.episodes.entry(entry_id)
    return () if entry is None else entry.object_ids


def note(memory: Memory, text: str) -> None:
    """Adds a note in words at the newest pose and stamp."""
    if not isinstance(text, str) or not text.strip():
        raise InputError("a note needs words")
    position = memory.map_T_base.position
    place_id, room_id = memory.scene.place_at(position), memory.scene.room_at(position)
    memory.episodes.note(text, memory.map_T_base, place_id, room_id, "note")


def feedback(memory: Memory, entries: Sequence[int], value: float) -> None:
    """Moves the utility of entries towards a value: 1 useful, -1 misleading, or a reward."""
    if not entries or not all(isinstance(i, int) for i in entries):
        raise InputError("feedback needs the ids of entries")
    if not isinstance(value, (int, float)) or not abs(value) < float("inf"):
        raise InputError(f"feedback needs a finite value, got {value}")
    memory.episodes.learn(entries, float(value), memory.config.recall.utility_rate)


def recalled(memory: Memory, entries: Sequence[int]) -> None:
    """Notes that entries were recalled just now, which decides what is evicted under "lru"."""
    if not entries or not all(isinstance(i, int) for i in entries):
        raise InputError("recalled needs the ids of entries")
    memory.episodes.use(entries, memory.stamp)


def consolidate(memory: Memory, keep: int = KEEP_FRESH) -> None:
    """Makes summaries of entries that have none yet, except of the newest `keep`."""
    if not isinstance(keep, int) or keep < 0:
        raise InputError(f"keep must be zero or positive, got {keep}")
    consolidation.consolidate(memory.episodes, keep, memory.object_name)


def correct(memory: Memory, anchors: Sequence[Sequence[float]]) -> None:
    """Moves everything with its keyframes: rows of stamp [ns], x, y, z, qx, qy, qz, qw."""
    rows = [list(row) for row in anchors]
    if any(len(row) != 8 for row in rows):
        raise InputError("each anchor needs a stamp and a pose: stamp, x, y, z, qx, qy, qz, qw")
    poses = [(int(row[0]), Pose.from_list(row[1:])) for row in rows]
    reanchoring.correct(memory.contents, poses)
    memory.map_changed()


def relocalize(memory: Memory, pose: Sequence[float]) -> None:
    """Accepts a pose in the map of a reopened memory: x, y, z, qx, qy, qz, qw."""
    memory.contents.pose = Pose.from_list(list(pose))


def clear_region(
    memory: Memory,
    polygon: Sequence[Sequence[float]],
    low: float | None = None,
    high: float | None = None,
    objects: bool = False,
) -> None:
    """Makes the map unknown on a polygon of corners [x, y] between two heights; the map frame, metres.

    What was seen later than this comes back as it is seen; objects there are forgotten where asked for.
    """
    region = Region.of(polygon, low, high)
    clear_map(memory.contents, region)
    if objects:
        found = [item for item in memory.scene.objects() if region.contains(item.position[None])[0]]
        for item in found:
            _forget_object(memory, item.id)
    memory.map_changed()


COMMANDS: dict[str, Callable[..., None]] = {
    "forget": forget,
    "note": note,
    "feedback": feedback,
    "recalled": recalled,
    "consolidate": consolidate,
    "correct": correct,
    "relocalize": relocalize,
    "clear_region": clear_region,
}
"""What `Memory.apply` knows, by name."""

"""The byte budget: what goes when a memory has grown too large.

It is decided at the end of a write, from what the memory holds and never from the file or the
writer's timing, so that a replay forgets the same. Snapshots are the exception: they are no part
of the digest, and the store drops the oldest where the file itself has grown too large.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError

if TYPE_CHECKING:
    from embodied_mem.memory.config import MemoryConfig
    from embodied_mem.memory.contents import Contents

EVERY = 64
"""Writes from one look at the sizes to the next."""
SPARE = 0.05
"""Share of its part that is freed at once, so that it is not done at every look."""
VOXELS, HISTORY, OBJECTS = 0.4, 0.15, 0.15
"""At most so much of the budget is for voxels, for trajectory and encounters, and for objects."""
FILL = 0.9
"""How much of the budget is planned for: indexes, free pages and the WAL need the rest."""
BLOCK_BYTES, RECORD_BYTES, POSITION_BYTES, ENCOUNTER_BYTES = 290, 8, 34, 48
OBJECT_BYTES, PLACE_BYTES = 1200, 350
_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True)
class BudgetConfig:
    """How large a memory may grow, and what goes then."""

    limit: int = 0
    """Bytes of the file, its WAL included; 0 is without limit, 1 MB the least. Under 2 MB one batch of
    writes in the WAL is a large part of it: 8 % more than the limit were seen, for moments."""
    evict: Literal["place", "fifo", "lru", "utility"] = "place"
    """Which entries go first. "place": of the places with the most entries, entries without words
    first, the oldest first, and never the last one of a place; "fifo": the oldest; "lru": those
    written or recalled longest ago; "utility": the least useful."""
    snapshots: float = 0.5
    """Share that is left to snapshots, once there are any."""

    def __post_init__(self) -> None:
        if self.limit < 0 or 0 < self.limit < 10**6:
            raise ConfigError(f"budget.limit must be 0 or at least 1000000 (1 MB), got {self.limit}")
        if not 0.0 <= self.snapshots <= 0.9:
            raise ConfigError(f"budget.snapshots must be in 0..0.9, got {self.snapshots}")


def parse_bytes(text: str | int) -> int:
    """Returns a number of bytes: "2 GB", "500 MiB", 1000000.

    Raises:
        ConfigError: it is none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]i?b)?\s*", str(text).lower())
    if found is None:
        raise ConfigError(f'"{text}" is no size; write it as "2 GB" or "500 MB"')
    return int(float(found[1]) * _UNITS[found[2] or ""])


def with_limit(config: MemoryConfig, limit: int | None) -> MemoryConfig:
    """Returns settings with another limit in bytes; the same where None."""
    return config if limit is None else replace(config, budget=replace(config.budget, limit=limit))


@dataclass
class Evicted:
    """What one look has removed.

    Attributes:
        entries: ids, ascending.
        objects: ids of objects.
        blocks: octree blocks.
        positions: positions of the trajectory.
        encounters: encounters.
        submaps: ids of entries that lost their submap alone.
    """

    entries: NDArray[np.int64]
    objects: tuple[int, ...] = ()
    blocks: int = 0
    positions: int = 0
    encounters: int = 0
    submaps: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def some(self) -> bool:
        """Whether anything went."""
        lists = len(self.entries) or len(self.objects) or len(self.submaps)
        return bool(lists or self.blocks or self.positions or self.encounters)


def enforce(contents: Contents) -> Evicted | None:
    """Removes what no longer fits; returns what that was, or None where all fits.

    Args:
        contents: of a memory that has a budget.
    """
    config, counts = contents.config.budget, contents.counts
    planned = FILL * config.limit
    # What never goes comes first; where it is much, less is left for the rest.
    floor = floor_bytes(contents)
    share = min(max(planned - floor, 0.0) / planned / (VOXELS + HISTORY + OBJECTS), 1.0)
    gone = Evicted(np.empty(0, np.int64))
    voxels, most = contents.octree.content_bytes(BLOCK_BYTES, RECORD_BYTES), share * VOXELS * planned
    if voxels > most:
        gone.blocks = contents.octree.drop_oldest(min((voxels - (1.0 - SPARE) * most) / voxels, 1.0))
        voxels = contents.octree.content_bytes(BLOCK_BYTES, RECORD_BYTES)
    history = _trim_history(contents, share * HISTORY * planned, gone)
    objects = _trim_objects(contents, share * OBJECTS * planned, gone)
    room = planned * (1.0 - (config.snapshots if counts["snapshots"] else 0.0))
    places = PLACE_BYTES * len(contents.scene.place_table)
    room = max(room - voxels - history - objects - places, 0.1 * planned, floor - places)
    used = contents.episodes.stored_bytes + counts["submap_bytes"]
    if used > room:
        _trim_entries(contents, (used - (1.0 - SPARE) * room) / used, gone)
        _trim_submaps(contents, room - contents.episodes.stored_bytes, gone)
    contents.is_full = floor > planned
    return gone if gone.some else None


def floor_bytes(contents: Contents) -> float:
    """Returns about how many bytes never go: those of places, and of the last entry of each."""
    episodes = contents.episodes
    bytes_ = float(PLACE_BYTES * len(contents.scene.place_table))
    if contents.config.budget.evict == "place" and len(episodes):
        bytes_ += len(np.unique(episodes.place_ids)) * episodes.stored_bytes / len(episodes)
    return bytes_


def overfull(contents: Contents) -> str:
    """Returns why nothing more can be written, in words; "" where there is room, or can be made."""
    if not contents.is_full:
        return ""
    limit, places = contents.config.budget.limit, len(contents.scene.place_table)
    contents.is_full = floor_bytes(contents) > FILL * limit
    if not contents.is_full:
        return ""
    return (
        f"the budget of {limit / 1e6:g} MB is full: {places} places, and what was last there, never go; "
        "open the memory with a larger one"
    )


def _trim_entries(contents: Contents, share: float, gone: Evicted) -> None:
    """Drops a share of the entries, as far as they may go."""
    episodes, counts = contents.episodes, contents.counts
    gone.entries = choose(contents, int(np.ceil(share * len(episodes))))
    # Submaps may lie in the file alone: an entry's share of their bytes is the mean.
    have = _with_submaps(contents)
    had = int(np.isin(have, gone.entries, assume_unique=True).sum())
    counts["submap_bytes"] -= counts["submap_bytes"] * had // max(len(have), 1)
    episodes.remove(gone.entries)


def _with_submaps(contents: Contents) -> NDArray[np.int64]:
    """Returns the ids of the entries that have submaps, ascending: summaries have none."""
    episodes = contents.episodes
    own = np.ones(len(episodes), bool)
    own[episodes.summary_rows] = False
    return np.asarray(episodes.ids[own & (episodes.ids >= contents.submaps.first)])


def _trim_submaps(contents: Contents, room: float, gone: Evicted) -> None:
    """Drops the oldest submaps where entries could not go: of them a correction moves all but the voxels."""
    counts, submaps = contents.counts, contents.submaps
    ids = _with_submaps(contents)
    excess = counts["submap_bytes"] - max(room, 0.0)
    if excess <= 0 or not len(ids):
        return
    share = min(excess / counts["submap_bytes"] + SPARE, 1.0)
    gone.submaps = ids[: int(np.ceil(share * len(ids)))]
    counts["submap_bytes"] -= counts["submap_bytes"] * len(gone.submaps) // len(ids)
    for entry_id in gone.submaps.tolist():
        submaps.remove(entry_id)
    submaps.first = int(gone.submaps[-1]) + 1


def _trim_objects(contents: Contents, room: float, gone: Evicted) -> float:
    """Drops objects: those believed gone first, then those unseen for longest; returns bytes of what is left.

    What is in view now stays, and so do places: paths lead over them.
    """
    table = contents.scene.object_table
    excess = OBJECT_BYTES * len(table) - room
    if excess > 0:
        order = np.lexsort((table.ids, table.last_seen, table.existence >= 0.5))
        order = order[table.last_seen[order] < (contents.stamp or 0)]
        count = int(np.ceil((excess + SPARE * room) / OBJECT_BYTES))
        gone.objects = tuple(table.ids[order[:count]].tolist())
        for object_id in gone.objects:
            contents.scene.forget_object(object_id)
            contents.episodes.encounters.forget_object(object_id)
    return OBJECT_BYTES * float(len(table))


def _trim_history(contents: Contents, room: float, gone: Evicted) -> float:
    """Drops the oldest positions and encounters; returns the bytes of those left."""
    scene, encounters = contents.scene, contents.episodes.encounters

    def used() -> float:
        return POSITION_BYTES * len(scene.trajectory_table) + ENCOUNTER_BYTES * len(encounters)

    if used() > room:
        share = (used() - (1.0 - SPARE) * room) / used()
        gone.positions = scene.forget_trajectory(int(np.ceil(share * len(scene.trajectory_table))))
        gone.encounters = encounters.drop_oldest(int(np.ceil(share * len(encounters))))
    return used()


def choose(contents: Contents, count: int) -> NDArray[np.int64]:
    """Returns the ids of the `count` entries that go first, ascending; fewer where all others must stay."""
    episodes, evict = contents.episodes, contents.config.budget.evict
    ids = episodes.ids
    if evict == "place":
        return np.sort(ids[_crowded(contents, count)])
    if evict == "utility":
        order = np.lexsort((ids, episodes.utilities))
    elif evict == "lru":
        order = np.lexsort((ids, episodes.used))
    else:
        order = np.arange(len(ids))
    return np.sort(ids[order[:count]])


def _crowded(contents: Contents, count: int) -> NDArray[np.int64]:
    """Returns rows of entries to remove so that the fullest places lose theirs, none its last."""
    episodes = contents.episodes
    _, where, sizes = np.unique(episodes.place_ids, return_inverse=True, return_counts=True)
    where = where.reshape(-1)
    keep = _level(sizes, len(where) - count)
    # Worth within a place: entries with words, then useful ones, then the newest.
    order = np.lexsort((-episodes.ids, -episodes.utilities, ~episodes.has_words, where))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    leave = rank >= np.minimum(sizes, keep)[where[order]]
    rows = order[leave]
    return rows[np.lexsort((rows, -rank[leave]))][:count]


def _level(sizes: NDArray[np.int64], total: int) -> int:
    """Returns the most entries that a place may keep (at least one) so that at most `total` are left."""
    low, high = 1, int(sizes.max(initial=1))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(sizes, middle).sum() <= total else (low, middle - 1)
    return low

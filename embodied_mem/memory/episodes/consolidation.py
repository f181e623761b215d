"""Consolidation: stretches of entries in one room become summaries that link to their evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.episodes.entries import Episode, Episodes
from embodied_mem.memory.episodes.vectors import quantise
from embodied_mem.types import NS_PER_S

SHORTEST = 4
"""Fewer entries than this are not worth a summary."""
LONGEST = 64
"""A summary is made of at most so many entries."""
PAUSE_NS = 300 * NS_PER_S
"""A stretch ends where nothing was remembered for so long."""


def consolidate(episodes: Episodes, keep: int, name_of: Callable[[int], str]) -> tuple[int, ...]:
    """Makes summaries of what has none yet, except of the newest entries; returns their ids.

    Entries of one stretch follow each other, in one room, without a long pause.

    Args:
        episodes: changed in place; the entries summarised stay as they are.
        keep: so many of the newest entries are left for later.
        name_of: object id -> the name of its label.
    """
    covered = episodes.summarised()
    made = []
    for rows in _stretches(episodes, max(len(episodes) - keep, 0), covered):
        made.append(episodes.add(_summary(episodes, rows, name_of)))
    return tuple(made)


def _stretches(episodes: Episodes, last: int, covered: set[int]) -> list[list[int]]:
    """Returns rows by stretch, those long enough for a summary."""
    ids, rooms, stamps = episodes.ids.tolist(), episodes.room_ids.tolist(), episodes.stamps.tolist()
    summaries = episodes.summaries()
    stretches: list[list[int]] = []
    current: list[int] = []
    for row in range(last):
        if ids[row] in summaries or ids[row] in covered:
            continue
        if current:
            before = current[-1]
            ends = rooms[row] != rooms[before] or stamps[row] - stamps[before] > PAUSE_NS
            if ends or len(current) == LONGEST:
                stretches.append(current)
                current = []
        current.append(row)
    return [stretch for stretch in [*stretches, current] if len(stretch) >= SHORTEST]


def _summary(episodes: Episodes, rows: list[int], name_of: Callable[[int], str]) -> Episode:
    entries = [episodes.at(row) for row in rows]
    seen = Counter(i for entry in entries for i in entry.object_ids)
    middle = entries[len(entries) // 2]
    newest = entries[-1]
    return Episode(
        id=episodes.next_id,
        stamp=int(episodes.stamps[-1]),
        step=int(episodes.steps[-1]),
        pose=middle.pose,
        place_id=Counter(e.place_id for e in entries).most_common(1)[0][0],
        room_id=newest.room_id,
        object_ids=tuple(sorted(seen)),
        embedding=_mean(episodes.embeddings[rows]),
        reward=0.0,
        event="summary",
        text=_words(entries, seen, name_of),
        source="consolidation",
        trust=min(entry.trust for entry in entries),
        evidence=tuple(entry.id for entry in entries),
    )


def _words(entries: list[Episode], seen: Counter[int], name_of: Callable[[int], str]) -> str:
    first, last = entries[0], entries[-1]
    seconds = (last.stamp - first.stamp) / NS_PER_S
    parts = [f"steps {first.step} to {last.step} ({seconds:.0f} s)"]
    if last.room_id >= 0:
        parts[0] += f" in room {last.room_id}"
    names = [name_of(i) for i, _ in sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:12]]
    if names:
        parts.append("saw " + ", ".join(dict.fromkeys(names)))
    parts += list(dict.fromkeys(words for entry in entries for _, words in entry.changes))[:12]
    parts += list(dict.fromkeys(entry.text for entry in entries if entry.text))[:12]
    reward = sum(entry.reward for entry in entries)
    if reward:
        parts.append(f"reward {reward:g}")
    return "; ".join(parts)


def _mean(rows: NDArray[np.int8]) -> NDArray[np.int8] | None:
    if not rows.shape[1]:
        return None
    total = rows.astype(np.float64).sum(axis=0)
    return quantise(total) if total.any() else None

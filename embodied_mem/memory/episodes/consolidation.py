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


def consolidate(
    episodes: Episodes, keep: int, name_of: Callable[[int], str], *, whole: bool = False
) -> tuple[int, ...]:
    """Makes summaries of what has none yet, except of the newest entries; returns their ids.

    Entries of one stretch follow each other, in one room, without a long pause. What has been gone
    through is not gone through again (`Episodes.consolidated`).

    Args:
        episodes: changed in place; the entries summarised stay as they are.
        keep: so many of the newest entries are left for later.
        name_of: object id -> the name of its label.
        whole: leave the last stretch for later, as it may go on.
    """
    last = max(len(episodes) - keep, 0)
    stretches, open_stretch = _stretches(episodes, last)
    if not whole and len(open_stretch) >= SHORTEST:
        stretches, open_stretch = [*stretches, open_stretch], []
    if open_stretch:
        last = open_stretch[0]
    before = int(episodes.ids[last]) if last < len(episodes) else episodes.next_id
    made = tuple(episodes.add(_summary(episodes, rows, name_of)) for rows in stretches)
    episodes.consolidated = max(episodes.consolidated, before)
    return made


def _stretches(episodes: Episodes, last: int) -> tuple[list[list[int]], list[int]]:
    """Returns rows by stretch, those long enough for a summary, and the rows of the last one."""
    first = int(np.searchsorted(episodes.ids, episodes.consolidated))
    ids, rooms, stamps = (
        column[first:last].tolist() for column in (episodes.ids, episodes.room_ids, episodes.stamps)
    )
    summaries = episodes.summaries()
    covered = episodes.summarised() if episodes.consolidated == 0 else set()
    stretches: list[list[int]] = []
    current: list[int] = []
    for at in range(len(ids)):
        if ids[at] in summaries or ids[at] in covered:
            continue
        if current:
            before = current[-1]
            ends = rooms[at] != rooms[before] or stamps[at] - stamps[before] > PAUSE_NS
            if ends or len(current) == LONGEST:
                stretches.append(current)
                current = []
        current.append(at)
    long = [[first + at for at in stretch] for stretch in stretches if len(stretch) >= SHORTEST]
    return long, [first + at for at in current]


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
        embedding=_mean(episodes.vectors.some(np.array(rows))[0][rows]),
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

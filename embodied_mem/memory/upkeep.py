"""What is done now and then at the end of a write: summaries, and room for what comes.

When it is done depends on the number of writes and entries alone, so that a replay does the same.
"""

from __future__ import annotations

from embodied_mem.memory import budget
from embodied_mem.memory.commands import KEEP_FRESH
from embodied_mem.memory.contents import Contents
from embodied_mem.memory.episodes import consolidation


def upkeep(contents: Contents) -> list[int]:
    """Does what is due after a write; returns the ids of entries that were evicted."""
    episodes, every = contents.episodes, contents.config.episodes.consolidate
    if every and episodes.next_id - episodes.consolidated >= every + KEEP_FRESH:
        consolidation.consolidate(episodes, KEEP_FRESH, contents.object_name, whole=True)
    if contents.config.budget.limit and contents.counts["writes"] % budget.EVERY == 0:
        return make_room(contents)
    return []


def make_room(contents: Contents) -> list[int]:
    """Removes what no longer fits the budget, and counts it; returns the ids of the entries among it."""
    gone = budget.enforce(contents)
    if gone is None:
        return []
    counts = contents.counts
    counts["evicted_entries"] += len(gone.entries)
    counts["evicted_objects"] += len(gone.objects)
    counts["evicted_blocks"] += gone.blocks
    counts["evicted_positions"] += gone.positions
    counts["evicted_encounters"] += gone.encounters
    counts["evicted_submaps"] += len(gone.submaps)
    return gone.entries.tolist()

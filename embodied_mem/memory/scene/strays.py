"""Sightings of an object a little elsewhere than it is believed to be: errors, or it has moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.scene.fusion import displacement
from embodied_mem.memory.scene.sightings import Sightings
from embodied_mem.types import NS_PER_S

if TYPE_CHECKING:
    from embodied_mem.memory.scene.objects import Objects

STRAY, STRAYS = 0.2, 3
"""What is seen so far from its place [m], so many times in a row, has moved."""
FAR = 0.3
"""What is seen this far from its place [m] needs to be seen there once less."""
PARTLY = 2
"""And so many times more where only a part of it was seen."""
PORTABLE, MOSTLY = 0.7, 0.75
"""What is smaller [m] may be put elsewhere by hand; it must be visible to this part."""


def is_elsewhere(objects: Objects, row: int, seen: Sightings, d: int, stamp: int) -> bool:
    """Returns whether a sighting is too far from where an object is believed to be fused; it is kept in mind.

    Args:
        objects: with the object.
        row: of the object.
        seen: the sighting is its row `d`.
        d: a row.
        stamp: [ns].
    """
    o = objects
    is_whole = min(float(seen.visible[d]), float(o.best_views[row])) >= MOSTLY
    free = 0.5 if is_whole else 1.0
    off = displacement(o.positions[row], o.extents[row], seen.positions[d], seen.extents[d], free)
    a, b = float(seen.extents[d].max()), float(o.extents[row].max())
    if off < STRAY or o.counts[row] < 2 or max(a, b) > PORTABLE:
        return False
    if (is_whole and min(a, b) >= 0.6 * max(a, b)) or off >= FAR:
        if o.stray_count[row] == 0:
            o.stray_since[row] = stamp
            o.stray_gap[row] = stamp - o.last_seen[row]
        o.stray_count[row] += 1
        mean = o.stray_at[row]
        o.stray_at[row] = mean + (seen.positions[d] - mean) / float(o.stray_count[row])
    return True


def follow(objects: Objects, row: int, seen: Sightings, d: int) -> bool:
    """Moves an object to where it was seen several times in a row; returns whether it has moved.

    Args:
        objects: with the object; changed in place.
        row: of the object.
        seen: the last of these sightings is its row `d`.
        d: a row.
    """
    o = objects
    at = o.stray_at[row].copy()
    off = at - o.positions[row]
    is_far = float((off * off).sum()) >= FAR * FAR
    whole = min(float(seen.visible[d]), float(o.best_views[row])) >= MOSTLY
    # What nobody saw for long may have moved: then parts of it tell that as well.
    may_move = 0.0 < o.config.moment * NS_PER_S <= int(o.stray_gap[row])
    if o.stray_count[row] < STRAYS - int(is_far) + PARTLY * (not whole and not may_move):
        return False
    since = int(o.stray_since[row])
    if 0 <= o.since[row] < since:
        o.end_stay(row, since)
    o.start_stay(row, o.states[row], since)
    put(o, row, seen, d, at)
    return True


def put(objects: Objects, row: int, seen: Sightings, d: int, at: NDArray[np.float64]) -> None:
    """Puts an object elsewhere; its box may have grown over both places, unless it is now seen whole.

    Args:
        objects: with the object; changed in place.
        row: of the object.
        seen: the last sighting of it there is its row `d`.
        d: a row.
        at: (3,) [m].
    """
    objects.positions[row] = at
    if float(seen.visible[d]) >= MOSTLY:
        objects.extents[row] = seen.extents[d]
    objects.stray_count[row] = 0

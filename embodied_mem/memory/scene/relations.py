"""How objects stand to each other and to rooms, from geometry alone: in, on, next to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.scene.objects import Objects

Array = NDArray[Any]
GAP = 0.15
"""What lies on something has its underside this close to the other's top, or to a shelf inside it [m]."""
BESIDE = 0.5
"""What is next to something has at most this much air between them, seen from above [m]."""


@dataclass(frozen=True)
class Relation:
    """One relation.

    Attributes:
        kind: "in" (a room, or the box of an object), "on" or "next to".
        subject: id of the object.
        other: id of the other object, or of the room.
        is_room: whether `other` is a room.
    """

    kind: str
    subject: int
    other: int
    is_room: bool = False


def relations_of(
    objects: Objects, object_id: int, room_id: int, same_room: NDArray[np.bool_]
) -> list[Relation]:
    """Returns the relations of one object to its room and to what is believed to be there.

    Args:
        objects: all objects.
        object_id: whose.
        room_id: the room it is in, or -1.
        same_room: (O,) bool, what is in the same room.
    """
    row = objects.index(object_id)
    if row < 0:
        return []
    own = int(objects.ids[row])
    found = [Relation("in", own, room_id, True)] if room_id >= 0 else []
    lo, hi = objects.positions - objects.extents / 2, objects.positions + objects.extents / 2
    others = (objects.log_odds >= 0.0) & same_room
    others[row] = False
    p, size = objects.positions[row], objects.extents[row]
    over = (np.abs(objects.positions - p)[:, :2] <= objects.extents[:, :2] / 2 + 0.05).all(axis=1)
    larger = objects.extents[:, 0] * objects.extents[:, 1] > size[0] * size[1]
    under, top = lo[row, 2], hi[row, 2]
    holds = others & over & larger
    inside = holds & (lo[:, 2] - GAP <= under) & (top <= hi[:, 2] + 0.02)
    on = holds & ~inside & (np.abs(hi[:, 2] - under) <= GAP + 0.25 * size[2])
    # Of several things below it lies on the highest; of several around it is in the smallest.
    if on.any():
        best = max(np.flatnonzero(on).tolist(), key=lambda i: (hi[i, 2], -i))
        found.append(Relation("on", own, int(objects.ids[best])))
    elif inside.any():
        volume = objects.extents[:, 0] * objects.extents[:, 1] * objects.extents[:, 2]
        best = min(np.flatnonzero(inside).tolist(), key=lambda i: (volume[i], i))
        found.append(Relation("in", own, int(objects.ids[best])))
    gap = np.maximum(np.maximum(lo - hi[row], lo[row] - hi), 0.0)
    away = np.sqrt(gap[:, 0] ** 2 + gap[:, 1] ** 2)
    beside = others & ~holds & (away <= BESIDE) & (gap[:, 2] <= 0.0)
    beside &= ~((np.abs(objects.positions - p)[:, :2] <= size[:2] / 2 + 0.05).all(axis=1))
    order = np.flatnonzero(beside)
    order = order[np.lexsort((order, away[order]))]
    return found + [Relation("next to", own, int(objects.ids[i])) for i in order.tolist()]

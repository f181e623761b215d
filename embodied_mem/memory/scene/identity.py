"""Which objects are one: duplicates that prove to be the same, and things that have moved."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.scene.association import SAME_LOOK, likeness, overlap
from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.memory.scene.fusing import WHOLE
from embodied_mem.memory.scene.objects import MARGIN, Objects
from embodied_mem.memory.scene.stays import SceneEvent
from embodied_mem.types import NS_PER_S

NEAR = 1.0
"""Objects of one label this near to each other may be taken for one another [m]."""
SAME_PLACE = 0.3
"""Boxes that share this part of their union are one object's."""
NO_ROOM = 0.5
"""Two things cannot be in one place: boxes that share so much are one object's, even seen side by side."""
HELD = 0.6
"""A box of which this part lies within another's of the same label is a part of it."""
TAKEN_FOR = 0.25
"""What was taken for something else has at most this part of the other's votes."""
PIECE_COUNT, PIECE_SIZE, PIECE_GAP = 3, 0.6, 0.2
"""A piece was seen so few times, has so small a part of the other's longest edge, and is this near [m]."""
DOUBTED, LITTLE_DOUBTED = 0.5, 3.0
"""Below such log-odds of existence what was missed can be what came elsewhere; the latter: what came near."""
MISSED = 2
"""So often it must have been missed; what came near, once."""
LOOKED = 2
"""The new place of what has moved had been seen without it so many times."""
SAME_SIZE = 0.5
"""After a move the longest edge is at least this part of what it was, or the other way round."""


class Identity:
    """Keeps which objects were seen side by side, merges duplicates and finds what has moved.

    Args:
        objects: the objects.
        config: what is allowed.
    """

    def __init__(self, objects: Objects, config: SceneConfig) -> None:
        self.objects = objects
        self.config = config
        self.together: dict[tuple[int, int], int] = {}
        """(a, b) with a < b: ids of near objects of one label -> how often they were seen in one frame."""

    def settle(self, seen: list[int], missed: list[int]) -> tuple[list[SceneEvent], list[int]]:
        """Merges and moves after a frame.

        Args:
            seen: ids of the objects seen in it, one per detection.
            missed: ids of those whose place it showed without them.

        Returns:
            what happened, without texts' names, and the ids that are no more.
        """
        events: list[SceneEvent] = []
        dead: list[int] = []
        if self.config.merging:
            self._see_together(seen)
            self._merge(seen, events, dead)
        if self.config.moves:
            for object_id in dict.fromkeys([*missed, *seen]):
                self._move(object_id, events, dead)
        return events, dead

    def forget(self, object_id: int) -> None:
        """Forgets an object that is no more."""
        for pair in [p for p in self.together if object_id in p]:
            del self.together[pair]

    def _see_together(self, seen: list[int]) -> None:
        o = self.objects
        ids = sorted(set(seen))
        rows = [o.index(i) for i in ids]
        for i in range(len(ids)):
            for j in range(i):
                a, b = rows[j], rows[i]
                if o.labels[a] == o.labels[b] and _away(o.positions[a], o.positions[b]) < NEAR:
                    pair = (ids[j], ids[i])
                    self.together[pair] = self.together.get(pair, 0) + 1

    def _merge(self, seen: list[int], events: list[SceneEvent], dead: list[int]) -> None:
        o = self.objects
        for object_id in sorted(set(seen)):
            row = o.index(object_id)
            if row < 0 or o.ids[row] != object_id:
                continue
            near = o.within(o.positions[row] - MARGIN, o.positions[row] + MARGIN)
            gap = np.abs(o.positions[near] - o.positions[row]) - (o.extents[near] + o.extents[row]) / 2
            for other_id in o.ids[near[(gap <= PIECE_GAP).all(axis=1)]].tolist():
                first, second = o.index(object_id), o.index(other_id)
                if other_id == object_id or min(first, second) < 0 or not self._is_one(first, second):
                    continue
                keep, drop = self._order(first, second)
                gone = int(o.ids[drop])
                self._join(keep, drop)
                dead.append(gone)
                events.append(SceneEvent("merged", int(o.aliases[gone]), ""))
                if gone == object_id:
                    break

    def _is_one(self, a: int, b: int) -> bool:
        o = self.objects
        if o.since[a] < 0 or o.since[b] < 0:
            return False
        pair = (min(int(o.ids[a]), int(o.ids[b])), max(int(o.ids[a]), int(o.ids[b])))
        union, held = overlap(o.positions[a], o.extents[a], o.positions[b], o.extents[b])
        if o.labels[a] == o.labels[b]:
            if union >= NO_ROOM:
                return True
            # Seen side by side more often than the weaker was seen alone: they are two.
            weaker = min(int(o.counts[a]), int(o.counts[b]))
            if self.together.get(pair, 0) > 0.3 * weaker:
                return False
            return union >= SAME_PLACE or held >= HELD or self._is_piece(a, b)
        if self.config.label_noise <= 0.0:
            return False
        few, many = sorted((float(sum(o.votes[a].values())), float(sum(o.votes[b].values()))))
        part = held >= HELD and likeness(o.embeddings[a], o.embeddings[b], 0.0) >= SAME_LOOK
        return few <= TAKEN_FOR * many and (union >= SAME_PLACE or part)

    def _is_piece(self, a: int, b: int) -> bool:
        """Whether one is a piece of the other, seen a few times from where the rest was hidden."""
        o = self.objects
        if o.extents[a].max() > o.extents[b].max():
            a, b = b, a
        if o.counts[a] > PIECE_COUNT or o.best_views[a] >= WHOLE:
            return False
        gap = np.abs(o.positions[a] - o.positions[b]) - (o.extents[a] + o.extents[b]) / 2
        small = float(o.extents[a].max()) <= PIECE_SIZE * float(o.extents[b].max())
        return bool(small and gap.max() <= PIECE_GAP)

    def _order(self, a: int, b: int) -> tuple[int, int]:
        """Returns which row stays and which goes: the elder, if it is not only a false label."""
        o = self.objects
        if o.labels[a] != o.labels[b] and o.counts[a] != o.counts[b]:
            return (a, b) if o.counts[a] > o.counts[b] else (b, a)
        return min(a, b), max(a, b)

    def _join(self, keep: int, drop: int) -> None:
        o = self.objects
        heavy = keep if o.counts[keep] >= o.counts[drop] else drop
        for name in ("positions", "extents", "covariances", "yaws", "best_views"):
            getattr(o, name)[keep] = getattr(o, name)[heavy]
        for name in ("log_odds", "best_odds", "last_seen", "looked_at"):
            array: NDArray[Any] = getattr(o, name)
            array[keep] = max(array[keep], array[drop])
        o.first_seen[keep] = min(o.first_seen[keep], o.first_seen[drop])
        o.since[keep] = min(o.since[keep], o.since[drop])
        o.sides[keep] |= o.sides[drop]
        o.fresh[keep] = min(o.fresh[keep], o.fresh[drop])
        self.forget(int(o.ids[drop]))
        o.absorb(keep, drop)

    def _move(self, object_id: int, events: list[SceneEvent], dead: list[int]) -> None:
        """Looks for the other half of a move: where a gone object went, or where a new one came from."""
        o = self.objects
        row = o.index(object_id)
        if row < 0 or o.ids[row] != object_id:
            return
        best: tuple[float, float, int, int] | None = None
        for before, after in self._pairs(row):
            if not self._could_move(before, after):
                continue
            like = likeness(o.embeddings[before], o.embeddings[after])
            if like >= self.config.move_likeness:
                key = (-round(like, 2), _away(o.positions[before], o.positions[after]), before, after)
                best = key if best is None or key < best else best
        if best is None:
            return
        before, after = best[2], best[3]
        lost, moved = int(o.ids[after]), int(o.ids[before])
        self.forget(lost)
        if o.since[before] >= 0:
            o.leave(before, int(o.first_seen[after]))
        o.take_over(before, after)
        dead.append(lost)
        events.append(SceneEvent("moved", moved, ""))

    def _pairs(self, row: int) -> list[tuple[int, int]]:
        """Returns rows (before, after) of one label, one of them this: one left, the other came later."""
        o = self.objects
        # Gone, or missed so often that another that looks the same elsewhere settles it.
        left, came = (o.since < 0) | ((o.looks > 0) & (o.log_odds < LITTLE_DOUBTED)), o.since >= 0
        same = o.labels == o.labels[row]
        befores = np.flatnonzero(same & left & came[row]).tolist() if came[row] else []
        afters = np.flatnonzero(same & came & left[row]).tolist() if left[row] else []
        return [(b, row) for b in befores if b < row] + [(row, a) for a in afters if a > row]

    def _could_move(self, before: int, after: int) -> bool:
        o = self.objects
        doubted = o.looks[before] >= MISSED and o.log_odds[before] < DOUBTED
        if o.since[before] >= 0 and not doubted:
            # Hardly missed: only where the other is near, and never showed itself beside it.
            near = _away(o.positions[before], o.positions[after]) < NEAR and o.counts[after] >= PIECE_COUNT
            if not near or (int(o.ids[before]), int(o.ids[after])) in self.together:
                return False
        new = o.first_seen[after] > o.last_seen[before]
        if not (new and o.fresh[after] >= LOOKED and o.log_odds[after] >= 0.0):
            return False
        away = (int(o.first_seen[after]) - int(o.last_seen[before])) / NS_PER_S
        if away < self.config.moment:  # another was overlooked more likely
            return False
        a, b = float(o.extents[before].max()), float(o.extents[after].max())
        return min(a, b) >= SAME_SIZE * max(a, b)


def _away(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    d = a - b
    return float(np.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2))

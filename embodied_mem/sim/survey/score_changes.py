"""How well reported changes agree with those of the night."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from embodied_mem.memory.scene.changes import SceneChange
from embodied_mem.sim.house.thing import Thing
from embodied_mem.sim.survey.recording import Survey
from embodied_mem.sim.survey.score import NEAR, SHOWN_FRAMES, SHOWN_PIXELS, Score, shown

SAME_SPOT = 0.25
"""Where one thing left and another that looks the same came this close, the eye sees no change [m]."""


@dataclass
class _Ends:
    """Where things left from and came to that nobody can tell apart.

    Attributes:
        left, came: the things, in their places.
        left_seen, came_seen: whether that could be seen: what left had been known and its place was
            looked through; what came showed itself.
    """

    label: str
    left: list[Thing] = field(default_factory=list)
    came: list[Thing] = field(default_factory=list)
    left_seen: list[bool] = field(default_factory=list)
    came_seen: list[bool] = field(default_factory=list)

    def settle(self) -> None:
        """Takes out what cannot be seen: one left, and another that looks the same came there."""
        for i in reversed(range(len(self.left))):
            for j in range(len(self.came)):
                if math.dist(self.left[i].center, self.came[j].center) <= SAME_SPOT:
                    del self.left[i], self.left_seen[i], self.came[j], self.came_seen[j]
                    break

    def due(self) -> dict[str, int]:
        """Returns how many changes of each kind are to be reported."""
        left, came = sum(self.left_seen), sum(self.came_seen)
        more = len(self.left) - len(self.came)
        moved = min(left, came)
        return {
            "moved": moved,
            "disappeared": min(max(more, 0), left - moved),
            "appeared": min(max(-more, 0), came - moved),
        }

    def agrees(self, told: SceneChange, used: set[tuple[str, int]]) -> bool:
        """Whether a report is right; each end can be reported once."""
        ends: list[tuple[str, int]] = []
        for name, things, position in (("left", self.left, told.before), ("came", self.came, told.after)):
            if position is None:
                continue
            near = [
                (math.dist(t.center, position.tolist()), i)
                for i, t in enumerate(things)
                if (name, i) not in used
            ]
            away, i = min(near, default=(math.inf, -1))
            if away > NEAR:
                return False
            ends.append((name, i))
        # Where the other end could not be seen, what has moved is gone, or new, as far as anyone knows.
        if told.kind == "disappeared" and sum(self.came_seen) >= len(self.left):
            return False
        if told.kind == "appeared" and sum(self.left_seen) >= len(self.came):
            return False
        used.update(ends)
        return True


def score_changes(score: Score, survey: Survey, told: Sequence[SceneChange]) -> None:
    """Compares reported changes with those of the night.

    A change is to be reported where it could be seen: the old place of what left, and what came. Of things
    that look the same nobody can tell which went where: their ends are compared, in any pairing.

    Args:
        score: is added to.
        survey: has the truth.
        told: reported changes.
    """
    if not survey.changes:
        score.static_changes += len(told)
        score.static_objects += len(survey.after.things)
        return
    score.told_changes += len(told)
    left = list(told)
    for ends in _ends(survey):
        used: set[tuple[str, int]] = set()
        right = dict.fromkeys(("moved", "disappeared", "appeared"), 0)
        for change in list(left):
            if change.label == ends.label and ends.agrees(change, used):
                right[change.kind] += 1
                left = [c for c in left if c is not change]
        score.right_changes += sum(right.values())
        for kind, count in ends.due().items():
            score.true_changes += count
            score.noticed += min(count, right[kind])


def _ends(survey: Survey) -> list[_Ends]:
    """Returns the ends of the night's changes: of one thing each, or of all that look the same."""
    first = int(np.searchsorted(survey.frames["stamp"], survey.resumed))
    in_view = shown(survey, first)
    groups: dict[object, _Ends] = {}
    painted = {t.id: t.color for t in survey.after.things}
    for change in survey.changes:
        thing = change.before or change.after
        assert thing is not None
        # A new thing of a label of which none is left has a colour of its own, unlike those that left.
        color = painted[thing.id] if change.before is None else thing.color
        key: object = (thing.label, color) if thing.label in survey.twins else thing.id
        ends = groups.setdefault(key, _Ends(thing.label))
        if change.before is not None:
            ends.left.append(change.before)
            ends.left_seen.append(_was_known(survey, change.before, first))
        if change.after is not None:
            ends.came.append(change.after)
            ends.came_seen.append(change.after.id in in_view)
    for ends in groups.values():
        ends.settle()
    return list(groups.values())


def _was_known(survey: Survey, thing: Thing, first: int) -> bool:
    """Whether a thing showed itself before the last tour, and its place was looked through in it."""
    rows = survey.frames["pixels"]
    mine = rows[(rows[:, 1] == thing.id) & (rows[:, 0] < first) & (rows[:, 2] >= SHOWN_PIXELS)]
    if len(mine) < SHOWN_FRAMES:
        return False
    count = 0
    for i in range(first, len(survey)):
        count += survey.looks_through(i, np.array(thing.center))
        if count >= SHOWN_FRAMES:
            return True
    return False

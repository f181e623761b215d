"""How a scene graph compares with the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from embodied_mem.memory.scene.stays import SceneObject
from embodied_mem.sim.house.house import House
from embodied_mem.sim.survey.recording import Survey

NEAR = 0.5
"""A thing is found where an object of its label is believed this close to it [m]."""
SHOWN_PIXELS, SHOWN_FRAMES = 200, 3
"""What showed so many pixels in so many keyframes is to be known."""
GRID = 0.1
"""Pitch of the points at which rooms are compared [m]."""


@dataclass
class Score:
    """Counts, which add up over houses.

    Attributes:
        found, missed, extra, double: things found, not found, objects that are nothing, and known twice.
        errors: distances of what was found [m].
        sightings, switches: detections of things that are known, and those with another id than before.
        true_changes, told_changes, right_changes, noticed: changes that were in view again, changes
            reported, those of them that are right, and true ones that were reported.
        static_objects, static_changes: objects of houses in which nothing changed, and changes reported.
        ious: of rooms.
    """

    found: int = 0
    missed: int = 0
    extra: int = 0
    double: int = 0
    errors: list[float] = field(default_factory=list)
    sightings: int = 0
    switches: int = 0
    true_changes: int = 0
    told_changes: int = 0
    right_changes: int = 0
    noticed: int = 0
    static_objects: int = 0
    static_changes: int = 0
    ious: list[float] = field(default_factory=list)
    room_updates: int = 0
    room_kept: int = 0

    def add(self, other: Score) -> None:
        """Adds the counts of another house."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def report(self) -> dict[str, Any]:
        """Returns the figures by name."""
        true, believed = self.found + self.missed, self.found + self.extra + self.double
        return {
            "objects": {
                "f1": 2 * self.found / max(true + believed, 1),
                "precision": self.found / max(believed, 1),
                "recall": self.found / max(true, 1),
                "position_error": float(np.median(self.errors)) if self.errors else math.nan,
                "switches": self.switches / max(self.sightings, 1),
                "duplicates": self.double / max(believed, 1),
                "count": true,
            },
            "changes": {
                "precision": self.right_changes / max(self.told_changes, 1),
                "recall": self.noticed / max(self.true_changes, 1),
                "count": self.true_changes,
                "false_per_100_static_objects": 100 * self.static_changes / max(self.static_objects, 1),
            },
        }


def shown(survey: Survey, first: int = 0) -> set[int]:
    """Returns the ids of things that showed enough pixels in enough keyframes from one on."""
    rows = survey.frames["pixels"]
    rows = rows[(rows[:, 0] >= first) & (rows[:, 2] >= SHOWN_PIXELS)]
    ids, counts = np.unique(rows[:, 1], return_counts=True)
    return set(ids[counts >= SHOWN_FRAMES].tolist())


def score_objects(score: Score, survey: Survey, objects: Sequence[SceneObject]) -> None:
    """Compares believed objects with the things of the house, one to one within `NEAR`, by label."""
    from scipy.optimize import linear_sum_assignment

    first = int(np.searchsorted(survey.frames["stamp"], survey.resumed))
    # What changed overnight and did not show again cannot be known; what is gone can be.
    known = shown(survey) if not survey.changes else shown(survey, first)
    stayed = {c.before.id for c in survey.changes if c.before} | {
        c.after.id for c in survey.changes if c.after
    }
    known |= shown(survey) - stayed
    things = list(survey.after.things)
    believed = [o for o in objects if o.existence >= 0.5]
    cost = np.full((len(things), len(believed)), 1e6)
    for i, thing in enumerate(things):
        for j, thing_known in enumerate(believed):
            away = math.dist(thing.center, thing_known.position.tolist())
            if thing.label == thing_known.name and away <= NEAR:
                cost[i, j] = away - (10.0 if thing.id in known else 0.0)
    matched: set[int] = set()
    for i, j in zip(*linear_sum_assignment(cost)):
        if cost[i, j] < 1e5:
            matched.add(int(j))
            if things[i].id in known:
                score.found += 1
                score.errors.append(float(cost[i, j]) + 10.0)
    score.missed += sum(t.id in known for t in things) - sum(
        1 for i, j in zip(*linear_sum_assignment(cost)) if cost[i, j] < 1e5 and things[i].id in known
    )
    for j in range(len(believed)):
        if j not in matched:
            if (cost[:, j] < 1e5).any():
                score.double += 1
            else:
                score.extra += 1


def score_identity(score: Score, survey: Survey, tracks: Sequence[Sequence[int]]) -> None:
    """Counts how often a thing is taken for another object than the last time.

    Args:
        score: is added to.
        survey: has the truth.
        tracks: by keyframe the ids of the objects that its detections were taken for; ids that proved
            to be another object's are that object's.
    """
    last: dict[int, int] = {}
    # Nobody can tell which of several that look the same went where during the night.
    swapped = {thing.id for c in survey.changes for thing in (c.before, c.after) if thing is not None}
    swapped &= {thing.id for thing in survey.after.things if thing.label in survey.twins}
    first = int(np.searchsorted(survey.frames["stamp"], survey.resumed))
    for frame, ids in enumerate(tracks):
        if frame == first:
            last = {source: own for source, own in last.items() if source not in swapped}
        for source, own in zip(survey.sources(frame).tolist(), ids):
            if source <= 0:
                continue
            score.sightings += source in last
            score.switches += source in last and last[source] != own
            last[source] = own


def room_ious(house: House, at: Any) -> list[float]:
    """Returns the intersection over union of each of a house's rooms and the room known there.

    Args:
        house: the house.
        at: (x, y, z) -> id of a room or -1.
    """
    from scipy.optimize import linear_sum_assignment

    width, depth = house.layout.size
    xs, ys = np.arange(GRID / 2, width, GRID), np.arange(GRID / 2, depth, GRID)
    plan = house.floor_plan
    true, told = [], []
    for y in ys.tolist():
        for x in xs.tolist():
            if plan.main_part[plan.cell_of((x, y))]:
                true.append(house.layout.room_at(x, y))
                told.append(at((x, y, 0.0)))
    a, b = np.array(true), np.array(told)
    ids = np.unique(b[b >= 0])
    iou = np.zeros((len(house.rooms), len(ids)))
    for i, room in enumerate(house.rooms):
        for j, own in enumerate(ids):
            iou[i, j] = ((a == room.id) & (b == own)).sum() / max(((a == room.id) | (b == own)).sum(), 1)
    best = np.zeros(len(house.rooms))
    for i, j in zip(*linear_sum_assignment(-iou)):
        best[i] = iou[i, j]
    return best.tolist()

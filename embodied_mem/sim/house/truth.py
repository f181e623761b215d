"""What is true of a house at a step, for evaluators only: nothing of it reaches the robot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embodied_mem.sim.house.catalog import FURNITURE_LABELS, OBJECT_LABELS

if TYPE_CHECKING:
    from embodied_mem.sim.house.house_nav import HouseNav

RANGE = 4.5
"""What is farther away than this is not counted as in view [m]."""


def ground_truth(env: HouseNav, whole: bool) -> dict[str, Any]:
    """Returns JSON-ready facts: where the robot is and what it can see, by the simulator's own account.

    Args:
        env: a task in a house.
        whole: with all things and rooms, as at the beginning of a day.
    """
    house, view, robot = env.house, env.view, env.robot
    x, y = (float(v) for v in robot.position)
    near = np.where(np.isfinite(view.depth) & (view.depth <= RANGE), view.instance, 0)
    ids, pixels = np.unique(near, return_counts=True)
    things = {thing.id for thing in house.things}
    facts: dict[str, Any] = {
        "robot": [x, y, float(robot.yaw)],
        "room": int(house.layout.room_at(x, y)),
        "visible": [[int(i), int(n)] for i, n in zip(ids, pixels) if int(i) in things],
    }
    if whole:
        known = {*FURNITURE_LABELS, *OBJECT_LABELS}
        facts["rooms"] = [{"id": r.id, "type": r.type, "rect": list(r.rect)} for r in house.rooms]
        facts["things"] = [
            {"id": t.id, "label": t.label, "center": list(t.center), "rect": list(t.rect), "room": t.room}
            for t in house.things
            if t.label in known
        ]
    return facts

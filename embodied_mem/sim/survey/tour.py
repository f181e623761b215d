"""A guided tour of a house: stops in every room, and the way between them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from embodied_mem.sim.house.floor_plan import FloorPlan
from embodied_mem.sim.house.house import House
from embodied_mem.sim.house.thing import Thing
from embodied_mem.sim.survey.config import SurveyConfig

View = tuple[float, float, float, float]
"""x, y [m], heading and tilt [rad] of a keyframe."""


def with_twins(
    house: House, share: float, labels: tuple[str, ...] | None = None
) -> tuple[House, tuple[str, ...]]:
    """Paints all things of some labels alike, so that they cannot be told apart by label and colour.

    Args:
        house: the house.
        share: at least this fraction of its things get such a label, where there are enough.
        labels: the labels, drawn from the house's seed where None.

    Returns:
        the house, and the labels.
    """
    counts: dict[str, int] = {}
    for thing in house.things:
        counts[thing.label] = counts.get(thing.label, 0) + 1
    if labels is None:
        several = sorted(name for name, count in counts.items() if count > 1)
        order = np.random.default_rng([house.seed, 7]).permutation(len(several)).tolist()
        chosen: list[str] = []
        while order and sum(counts[name] for name in chosen) < share * len(house.things):
            chosen.append(several[order.pop()])
        labels = tuple(sorted(chosen))
    colors: dict[str, tuple[int, int, int]] = {}
    things: list[Thing] = []
    for thing in house.things:
        if thing.label in labels:
            thing = dataclasses.replace(thing, color=colors.setdefault(thing.label, thing.color))
        things.append(thing)
    return dataclasses.replace(house, things=tuple(things)), labels


def tour(house: House, config: SurveyConfig, seed: int) -> Iterator[View]:
    """Yields the keyframes of one tour.

    Args:
        house: the house.
        config: how densely it is looked at.
        seed: draws where it starts, the stops and the order of the rooms.
    """
    rng = np.random.default_rng([house.seed, seed, 11])
    plan = house.floor_plan
    left = [stop for room in house.rooms for stop in _stops(house, room.id, config, rng)]
    stops = [left.pop(int(rng.integers(len(left))))]
    while left:  # the nearest along the floor comes next
        field = plan.distance_field(np.array([plan.nearest_free(stops[-1])]))
        stops.append(left.pop(int(np.argmin([plan.look_up(field, stop) for stop in left]))))
    at, heading = stops[0], float(rng.uniform(-math.pi, math.pi))
    for number, stop in enumerate(stops):
        for x, y, heading in _walk(plan, at, stop, config.step):
            yield x, y, heading, math.radians(config.tilts[0] / 2)
        at = stop
        for turn in range(config.turns):
            tilt = config.tilts[(turn + number) % len(config.tilts)]
            yield stop[0], stop[1], heading, math.radians(tilt)
            heading += 2 * math.pi / config.turns


def _stops(
    house: House, room: int, config: SurveyConfig, rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Returns stops within `config.stops` of everywhere in a room that the robot can be."""
    plan = house.floor_plan
    x0, y0, x1, y1 = house.rooms[room].rect
    centers = plan.centers[np.flatnonzero(plan.main_part)]
    inside = (centers[:, 0] > x0) & (centers[:, 0] < x1) & (centers[:, 1] > y0) & (centers[:, 1] < y1)
    cells = centers[inside]
    if len(cells) == 0:
        return []
    roomy = cells[plan.clearance(cells) >= min(0.35, float(plan.clearance(cells).max()))]
    stops = [roomy[int(rng.integers(len(roomy)))]]
    while True:
        away = np.min([np.hypot(*(cells - stop).T) for stop in stops], axis=0)
        near = np.min([np.hypot(*(roomy - stop).T) for stop in stops], axis=0)
        if away.max() <= config.stops or near.max() < 0.5:
            return stops
        stops.append(roomy[int(np.argmax(near))])


def _walk(
    plan: FloorPlan, a: NDArray[np.float64], b: NDArray[np.float64], step: float
) -> Iterator[tuple[float, float, float]]:
    """Yields x, y and heading along the shortest way from a to b."""
    path = plan.shortest_path(a, b)
    for first, last in itertools.pairwise(path):
        delta = last - first
        length = math.hypot(*delta.tolist())
        heading = math.atan2(delta[1], delta[0])
        for i in range(math.ceil(length / step) if length > 1e-6 else 0):
            x, y = first + delta * (i * step / length)
            yield float(x), float(y), heading

"""The house changed overnight: things moved, came and went, and the truth about it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from embodied_mem.sim.house.config import ChangeConfig, ObjectRule
from embodied_mem.sim.house.furnishing import Furnisher
from embodied_mem.sim.house.house import House, changed
from embodied_mem.sim.house.layout import Room
from embodied_mem.sim.house.thing import Thing

LEAST_MOVE = 0.3
"""A thing that has moved lies at least this far from where it was [m]."""


@dataclass(frozen=True)
class Change:
    """What happened to one thing.

    Attributes:
        kind: "moved", "added" or "removed".
        before: the thing in the evening, None where it was added.
        after: the thing in the morning, None where it was removed.
    """

    kind: Literal["moved", "added", "removed"]
    before: Thing | None
    after: Thing | None


def change_house(
    house: House, seed: int, config: ChangeConfig | None = None
) -> tuple[House, tuple[Change, ...]]:
    """Returns the house of the next morning and what has changed.

    Only objects change, furniture stays. They move, and new ones come, to where their kind is kept by
    the house's own rules; a moved thing keeps its id, a new one gets an id that no thing had before.
    Where there are fewer objects or free places than the config wants, less changes.

    Args:
        house: the house in the evening.
        seed: of the night.
        config: how much changes.
    """
    config = config or ChangeConfig()
    rng = np.random.default_rng([house.seed, seed, 3])
    objects = [t for t in house.things if _rules(house, t.label)]
    order = [objects[i] for i in rng.permutation(len(objects)).tolist()]
    removed = order[: config.removed]
    gone = {t.id for t in removed}
    furnisher = Furnisher(
        house.config, house.layout, tuple(t for t in house.things if t.id not in gone), house.next_id
    )
    changes = [Change("removed", thing, None) for thing in removed]
    for thing in order[config.removed :]:
        if sum(c.kind == "moved" for c in changes) == config.moved:
            break
        after = _move(house, furnisher, thing, config, rng)
        if after is not None:
            changes.append(Change("moved", thing, after))
    for _ in range(config.added):
        rule = house.config.objects[int(rng.integers(len(house.config.objects)))]
        new = _place(house, furnisher, [rule], None, None, rng)
        if new is not None:
            changes.append(Change("added", None, new))
    return changed(house, tuple(furnisher.things), furnisher.next_id), tuple(changes)


def _rules(house: House, label: str) -> list[ObjectRule]:
    return [rule for rule in house.config.objects if rule.label == label]


def _move(
    house: House, furnisher: Furnisher, thing: Thing, config: ChangeConfig, rng: np.random.Generator
) -> Thing | None:
    """Puts a thing elsewhere; leaves it where it is and returns None where it finds no other place."""
    furnisher.things.remove(thing)
    own = None if rng.random() < config.to_other_room else house.rooms[thing.room]
    after = _place(house, furnisher, _rules(house, thing.label), own, thing, rng)
    if after is None:
        furnisher.things.append(thing)
    return after


def _place(
    house: House,
    furnisher: Furnisher,
    rules: list[ObjectRule],
    room: Room | None,
    thing: Thing | None,
    rng: np.random.Generator,
) -> Thing | None:
    """Puts a thing, or a new one where None, by one of some rules into a room, or into any where None."""
    rooms = house.rooms if room is None else (room,)
    choices = [(rule, r) for rule in rules for r in rooms if rule.room == r.type]
    for index in rng.permutation(len(choices)).tolist():
        rule, where = choices[index]
        next_id = furnisher.next_id
        placed = furnisher.place_object(where, rule, rng, 0 if thing is None else thing.id, thing)
        if placed is None:
            continue
        if (thing is None or _apart(thing, placed) >= LEAST_MOVE) and _is_good(house, furnisher, placed):
            return placed
        furnisher.things.remove(placed)
        furnisher.next_id = next_id
    return None


def _apart(a: Thing, b: Thing) -> float:
    return math.dist(a.position, b.position)


def _is_good(house: House, furnisher: Furnisher, placed: Thing) -> bool:
    """True where everything can still be reached with a thing in its new place."""
    after = changed(house, tuple(furnisher.things), furnisher.next_id)
    plan = after.floor_plan
    whole = plan.main_part.sum() >= 0.99 * plan.free.sum() or plan.main_part.sum() >= 0.98 * (
        house.floor_plan.main_part.sum()
    )
    return bool(whole and all(after.is_reachable(t) for t in after.things))

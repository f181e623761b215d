"""What is where in a house can be learned from other houses."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import numpy as np

from embodied_mem.sim.house.catalog import CATEGORIES, OBJECT_LABELS
from embodied_mem.sim.house.config import ROOM_TYPES, HouseConfig
from embodied_mem.sim.house.house import SPLITS, House, make_house

LABELS = tuple(sorted(CATEGORIES))


@lru_cache(maxsize=1)
def houses() -> tuple[tuple[House, ...], tuple[House, ...]]:
    """Houses to learn from, and houses of another split."""
    return (
        tuple(make_house(seed) for seed in SPLITS["train"][:40]),
        tuple(make_house(seed) for seed in SPLITS["val"][:20]),
    )


def rooms_of(some: tuple[House, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Returns which categories are in which room, (R, L) bool, and the rooms' types, (R,)."""
    kinds, types = [], []
    for house in some:
        for room in house.rooms:
            here = {thing.label for thing in house.things if thing.room == room.id}
            kinds.append([label in here for label in LABELS])
            types.append(ROOM_TYPES.index(room.type))
    return np.array(kinds), np.array(types)


def rates(kinds: np.ndarray, types: np.ndarray) -> np.ndarray:
    """Returns how often a category is in a room of a type, (T, L), with one room of each added."""
    return np.array(
        [(kinds[types == t].sum(axis=0) + 0.5) / ((types == t).sum() + 1) for t in range(len(ROOM_TYPES))]
    )


def test_the_type_of_a_room_is_told_by_what_is_in_it() -> None:
    (kinds, types), (held_kinds, held_types) = (rooms_of(part) for part in houses())
    p = rates(kinds, types)
    prior = np.bincount(types, minlength=len(ROOM_TYPES)) + 1.0
    score = np.log(prior) + held_kinds @ np.log(p).T + ~held_kinds @ np.log(1 - p).T  # naive Bayes, (R, T)
    chance = (held_types == prior.argmax()).mean()
    assert (score.argmax(axis=1) == held_types).mean() > 0.9 > 2 * chance


def test_what_is_in_a_room_is_told_by_its_type() -> None:
    (kinds, types), (held_kinds, held_types) = (rooms_of(part) for part in houses())
    p, anywhere = rates(kinds, types)[held_types], (kinds.sum(axis=0) + 0.5) / (len(kinds) + 1)

    def surprise(q: np.ndarray) -> float:
        return float(-np.where(held_kinds, np.log(q), np.log(1 - q)).sum(axis=1).mean())

    assert surprise(p) < 0.6 * surprise(np.broadcast_to(anywhere, p.shape))
    # Where to look first: the room in which the category is likeliest, against any of the house's rooms.
    right, blind, first = [], [], 0
    for house in houses()[1]:
        count = len(house.rooms)
        here = slice(first, first + count)
        first += count
        for column in np.flatnonzero(held_kinds[here].any(axis=0)).tolist():
            right.append(bool(held_kinds[here][p[here, column].argmax(), column]))
            blind.append(float(held_kinds[here, column].mean()))
    assert np.mean(right) > 0.75 and np.mean(blind) < 0.35


def test_what_a_thing_lies_on_is_told_by_its_kind() -> None:
    def supports(some: tuple[House, ...]) -> list[tuple[str, str]]:
        found = []
        for house in some:
            labels = {thing.id: thing.label for thing in house.things}
            found += [(t.label, labels.get(t.support, "")) for t in house.things if t.label in OBJECT_LABELS]
        return found

    known, held = (supports(part) for part in houses())
    best = {kind: Counter(s for k, s in known if k == kind).most_common(1)[0][0] for kind, _ in known}
    usual = Counter(s for _, s in known).most_common(1)[0][0]
    told = np.mean([best.get(kind) == support for kind, support in held])
    assert told > 0.6 > 2 * np.mean([support == usual for _, support in held])


def test_other_distributions_give_other_houses() -> None:
    plain = HouseConfig()
    no_kettles = tuple(rule for rule in plain.objects if rule.label != "kettle")
    with_, without = (
        sum("kettle" in make_house(seed, config).labels for seed in range(8))
        for config in (plain, HouseConfig(objects=no_kettles))
    )
    assert with_ > without == 0

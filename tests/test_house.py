"""Procedural houses: plans, furniture, objects and changes overnight."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from embodied_mem.errors import ConfigError
from embodied_mem.sim.house.catalog import CATEGORIES, OBJECT_LABELS
from embodied_mem.sim.house.config import ChangeConfig, FurnitureRule, HouseConfig, ObjectRule
from embodied_mem.sim.house.house import SPLITS, House, make_house
from embodied_mem.sim.house.overnight import change_house
from embodied_mem.sim.house.thing import FLOOR, WALL, inside, overlap

SEEDS = range(40)


@pytest.fixture(scope="module")
def houses() -> list[House]:
    return [make_house(seed) for seed in SEEDS]


def test_the_same_seed_gives_the_same_house_and_another_seed_another(houses: list[House]):
    for house in houses[:5]:
        again = make_house(house.seed)
        assert again.things == house.things and again.rooms == house.rooms and again.doors == house.doors
        assert np.array_equal(again.layout.walls, house.layout.walls)
    assert len({house.things for house in houses}) == len(houses)


@pytest.mark.parametrize("count", range(2, 13))
def test_houses_have_as_many_rooms_as_wanted_and_tile_their_ground(count: int):
    config = HouseConfig(rooms=(count, count))
    for seed in range(3):
        house = make_house(seed, config)
        types = Counter(room.type for room in house.rooms)
        assert types.pop("corridor", 0) == (count >= config.corridor_from)
        assert types == Counter(config.room_order[:count])
        outlines = [room.outline for room in house.rooms]
        assert not any(overlap(a, b, -1e-9) for i, a in enumerate(outlines) for b in outlines[:i])
        ground = (house.layout.size[0] - 0.05) * (house.layout.size[1] - 0.05)
        covered = sum((r[2] - r[0]) * (r[3] - r[1]) for r in outlines)
        assert covered == pytest.approx(ground)


def test_every_room_can_be_reached_from_every_other(houses: list[House]):
    for house in houses:
        plan = house.floor_plan
        for room in house.rooms:
            x0, y0, x1, y1 = room.rect
            x, y = plan.centers.reshape(*plan.shape, 2)[plan.main_part].T
            reachable = ((x0 < x) & (x < x1) & (y0 < y) & (y < y1)).sum() * 0.05**2
            assert reachable > 0.15 * room.area, (house.seed, room)
        linked = {0}
        for _ in house.rooms:
            linked |= {r for door in house.doors if linked & set(door.rooms) for r in door.rooms}
        assert len(linked) == len(house.rooms)


def test_everything_in_a_house_can_be_a_goal(houses: list[House]):
    for house in houses:
        assert all(len(house.goal_cells(label, 1.0)) for label in house.labels)
        assert all(house.is_reachable(thing) for thing in house.things)


def test_nothing_stands_in_a_wall_in_a_door_or_in_something_else(houses: list[House]):
    for house in houses:
        standing = [t for t in house.things if t.support == FLOOR]
        for thing in house.things:
            assert inside(thing.rect, house.rooms[thing.room].rect), (house.seed, thing)
            assert thing.top < house.config.height
        for i, thing in enumerate(standing):
            doors = [door for door in house.doors if thing.room in door.rooms]
            assert not any(overlap(thing.rect, door.rect, 0.5) for door in doors)
            assert not any(overlap(thing.rect, other.rect) for other in standing[:i])


def test_objects_lie_on_a_surface_of_their_support_and_not_in_each_other(houses: list[House]):
    seen = 0
    for house in houses:
        lying = [t for t in house.things if t.support not in (FLOOR, WALL)]
        for i, thing in enumerate(lying):
            support = house.thing(thing.support)
            heights = [s * support.size[2] for s in CATEGORIES[support.label].surfaces]
            assert thing.room == support.room and inside(thing.rect, support.rect)
            assert min(abs(thing.position[2] - h) for h in heights) < 1e-9
            for other in lying[:i]:
                apart = other.position[2] >= thing.top or thing.position[2] >= other.top
                assert apart or other.support != thing.support or not overlap(thing.rect, other.rect)
            seen += 1
    assert seen > 300


def test_pictures_hang_on_a_wall(houses: list[House]):
    hanging = [(house, t) for house in houses for t in house.things if t.support == WALL]
    assert len(hanging) > 40
    for house, thing in hanging:
        x0, y0, x1, y1 = house.rooms[thing.room].rect
        gaps = (thing.rect[1] - y0, x1 - thing.rect[2], y1 - thing.rect[3], thing.rect[0] - x0)
        assert gaps[thing.facing] < 0.03


def test_there_are_at_least_twenty_categories_in_use(houses: list[House]):
    used = {label for house in houses for label in house.labels}
    assert len(used) >= 35
    assert sum(len(house.labels) for house in houses) / len(houses) >= 20


def test_things_are_kept_where_the_config_says_and_as_often(houses: list[House]):
    config = HouseConfig()
    allowed = {(r.room, r.label) for r in (*config.furniture, *config.objects)}
    rooms: Counter[str] = Counter()
    with_label: Counter[tuple[str, str]] = Counter()
    for house in houses:
        rooms.update(room.type for room in house.rooms)
        for room in house.rooms:
            here = {t.label for t in house.things if t.room == room.id}
            assert {(room.type, label) for label in here} <= allowed
            with_label.update((room.type, label) for label in here)
    for rule in config.furniture:
        if rule.where not in ("wall", "center") or rooms[rule.room] < 30:
            continue
        same = [r for r in config.furniture if (r.room, r.label) == (rule.room, rule.label)]
        expected = 1.0 - np.prod([(1.0 - r.probability) ** r.most for r in same])
        share = with_label[rule.room, rule.label] / rooms[rule.room]
        sigma = np.sqrt(max(expected * (1 - expected), 0.01) / rooms[rule.room])
        assert share <= expected + 4 * sigma, rule
        assert share >= 0.75 * expected - 4 * sigma, rule  # some find no place


def test_living_rooms_are_larger_than_bathrooms_and_kitchens_are_beside_living_rooms(houses: list[House]):
    beside = 0
    for house in houses:
        area = {t: [r.area for r in house.rooms if r.type == t] for t in ("living room", "bathroom")}
        assert min(area["living room"]) >= max(area["bathroom"])
        living = next(r.outline for r in house.rooms if r.type == "living room")
        kitchen = next(r.outline for r in house.rooms if r.type == "kitchen")
        beside += overlap(living, kitchen, 1e-6)
    assert beside >= 0.8 * len(houses)


def test_the_splits_share_no_house():
    train, val, test = (set(SPLITS[name]) for name in ("train", "val", "test"))
    assert not train & val and not train & test and not val & test
    assert min(len(train), len(val), len(test)) >= 1000


def test_a_negative_seed_and_impossible_settings_are_refused_in_one_line():
    with pytest.raises(ConfigError, match="must not be negative, got -1"):
        make_house(-1)
    with pytest.raises(ConfigError, match="2 <= fewest <= most <= 12"):
        HouseConfig(rooms=(1, 3))
    with pytest.raises(ConfigError, match="door_width must lie between"):
        HouseConfig(door_width=0.4)
    with pytest.raises(ConfigError, match='no room type "cellar"'):
        FurnitureRule("cellar", "bed")
    with pytest.raises(ConfigError, match='no category "ghost"'):
        ObjectRule("bedroom", "ghost", "bed")


def test_overnight_changes_are_exactly_those_that_are_told(houses: list[House]):
    kinds: Counter[str] = Counter()
    for house in houses[:12]:
        after, changes = change_house(house, 5, ChangeConfig(moved=3, added=1, removed=2))
        kinds.update(change.kind for change in changes)
        expected = {thing.id: thing for thing in house.things}
        for change in changes:
            if change.before is not None:
                assert expected.pop(change.before.id) == change.before
            if change.after is not None:
                expected[change.after.id] = change.after
            if change.kind == "moved":
                assert change.before.id == change.after.id and change.before.label == change.after.label
                assert math.dist(change.before.position, change.after.position) >= 0.3
                assert change.before.size == change.after.size
            assert (change.before or change.after).label in OBJECT_LABELS
        assert expected == {thing.id: thing for thing in after.things}
        assert all(change.after.id >= house.next_id for change in changes if change.kind == "added")
        assert all(after.is_reachable(thing) for thing in after.things)
        assert change_house(house, 5, ChangeConfig(3, 1, 2))[1] == changes
        assert change_house(house, 6, ChangeConfig(3, 1, 2))[1] != changes
    assert kinds["removed"] == 24 and kinds["moved"] >= 30 and kinds["added"] >= 9

"""A house: rooms, doors, walls and things, as a function of a seed and a config."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError
from embodied_mem.sim.house.config import HouseConfig
from embodied_mem.sim.house.floor_plan import CELL, FloorPlan, rect_distance
from embodied_mem.sim.house.furnishing import Furnisher
from embodied_mem.sim.house.layout import Door, Layout, Room, make_layout
from embodied_mem.sim.house.thing import FLOOR, Thing

SPLITS = {"train": range(0, 10_000), "val": range(10_000, 11_000), "test": range(11_000, 12_000)}
"""Seeds of the houses to learn in, to choose by and to report on."""
KNEE = 0.03
"""What is lower than this does not block the robot [m]."""


@dataclass(frozen=True, eq=False)
class House:
    """A furnished house; its frame has x and y along the walls, z up, the floor at z = 0.

    Attributes:
        seed: that it was drawn with.
        config: that it was drawn from.
        layout: rooms, doors and walls.
        things: furniture and objects, by id.
        next_id: the id that the next new thing would get.
    """

    seed: int
    config: HouseConfig
    layout: Layout
    things: tuple[Thing, ...]
    next_id: int

    @property
    def rooms(self) -> tuple[Room, ...]:
        """Its rooms, by id."""
        return self.layout.rooms

    @property
    def doors(self) -> tuple[Door, ...]:
        """Its door openings."""
        return self.layout.doors

    def thing(self, id: int) -> Thing:
        """Returns the thing with an id.

        Raises:
            ConfigError: there is none.
        """
        for thing in self.things:
            if thing.id == id:
                return thing
        raise ConfigError(f"the house has no thing {id}")

    @property
    def obstacles(self) -> tuple[Thing, ...]:
        """The things that are in a robot's way, with the boxes around them."""
        height = self.config.robot_height
        return tuple(t for t in self.things if t.top > KNEE and t.position[2] < height)

    @cached_property
    def floor_plan(self) -> FloorPlan:
        """Where the robot can be."""
        walls = self.layout.walls
        low = walls[walls[:, 2] < self.config.robot_height][:, [0, 1, 3, 4]]
        boxes = np.concatenate([low, np.array([t.rect for t in self.obstacles]).reshape(-1, 4)])
        return FloorPlan(boxes, self.layout.size, self.config.robot_radius)

    def goal_cells(self, label: str, radius: float) -> NDArray[np.intp]:
        """Returns the flat cells of the floor plan from which something of a label counts as found.

        Args:
            label: category.
            radius: largest distance from the thing, seen from above, in its own room [m].
        """
        plan = self.floor_plan
        found = np.zeros(plan.shape, bool)
        for thing in self.things:
            if thing.label == label:
                found.flat[self._cells_near(thing, radius)] = True
        return np.flatnonzero(found)

    def _cells_near(self, thing: Thing, radius: float) -> NDArray[np.intp]:
        plan = self.floor_plan
        x0, y0, x1, y1 = self.rooms[thing.room].rect
        rows = slice(max(0, int(y0 / CELL)), int(y1 / CELL) + 1)
        columns = slice(max(0, int(x0 / CELL)), int(x1 / CELL) + 1)
        window = np.zeros(plan.shape, bool)
        window[rows, columns] = plan.main_part[rows, columns]
        cells = np.flatnonzero(window)
        centers = plan.centers[cells]
        near = (rect_distance(centers, thing.rect) <= radius) & (
            rect_distance(centers, (x0, y0, x1, y1)) == 0
        )
        return cells[near]

    @cached_property
    def _distances(self) -> dict[tuple[str, float], NDArray[np.float64]]:
        return {}

    def distances_to(self, label: str, radius: float) -> NDArray[np.float64]:
        """Returns (H, W) shortest ways [m] to where something of a label counts as found; kept."""
        key = (label, radius)
        if key not in self._distances:
            self._distances[key] = self.floor_plan.distance_field(self.goal_cells(label, radius))
        return self._distances[key]

    def is_reachable(self, thing: Thing, radius: float = 1.0) -> bool:
        """True where the robot can get within `radius` [m] of a thing, in its room."""
        return len(self._cells_near(thing, radius)) > 0

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Categories of the things in it, sorted."""
        return tuple(sorted({thing.label for thing in self.things}))


def make_house(seed: int, config: HouseConfig | None = None) -> House:
    """Draws a house.

    Every room and every thing in it can be reached by the robot: furniture that would cut the free
    space in two is taken out again.

    Args:
        seed: not negative; the same one gives the same house.
        config: the distributions.

    Raises:
        ConfigError: a negative seed, or settings that no house fits.
    """
    if seed < 0:
        raise ConfigError(f"the seed of a house must not be negative, got {seed}")
    config = config or HouseConfig()
    layout_rng, furniture_rng, object_rng = (np.random.default_rng([seed, i]) for i in range(3))
    layout = make_layout(config, layout_rng)
    furnisher = Furnisher(config, layout)
    furnisher.furnish(furniture_rng)
    furnisher.things = list(_connected(config, layout, tuple(furnisher.things)))
    furnisher.put_objects(object_rng)
    things = _connected(config, layout, tuple(furnisher.things))
    return House(seed, config, layout, things, furnisher.next_id)


@lru_cache(maxsize=16)
def shared_house(seed: int, config: HouseConfig) -> House:
    """Returns the house of a seed, the same object to all who ask: environments share its meshes."""
    return make_house(seed, config)


def _connected(config: HouseConfig, layout: Layout, things: tuple[Thing, ...]) -> tuple[Thing, ...]:
    """Takes out things until the free space is connected and everything can be reached."""
    while True:
        house = House(0, config, layout, things, 0)
        bad = _isolated_room(house)
        if bad >= 0:
            # The smallest thing that stands there is the likeliest to have been in the way last.
            standing = [t for t in things if t.room == bad and t.support == FLOOR]
            drop = min(standing, key=lambda t: (t.size[0] * t.size[1], -t.id)).id
        else:
            lost = [t.id for t in things if not house.is_reachable(t)]
            if not lost:
                return things
            drop = lost[0]
        things = tuple(t for t in things if drop not in (t.id, t.support))


def _isolated_room(house: House) -> int:
    """Returns a room one of whose doors, or much of whose free floor, is cut off; -1 where none is."""
    plan = house.floor_plan
    for door in house.doors:
        for room_id in door.rooms:
            x0, y0, x1, y1 = house.rooms[room_id].rect
            x, y = (door.rect[0] + door.rect[2]) / 2, (door.rect[1] + door.rect[3]) / 2
            before = (min(max(x, x0 + 0.25), x1 - 0.25), min(max(y, y0 + 0.25), y1 - 0.25))
            if not plan.main_part[plan.cell_of(before)]:
                return room_id
    for room in house.rooms:
        x0, y0, x1, y1 = (round(v / CELL) for v in room.rect)
        free, main = plan.free[y0:y1, x0:x1], plan.main_part[y0:y1, x0:x1]
        if main.sum() < 0.9 * free.sum():
            return room.id
    return -1


def changed(house: House, things: tuple[Thing, ...], next_id: int) -> House:
    """Returns the house with other things in it."""
    return dataclasses.replace(house, things=tuple(sorted(things, key=lambda t: t.id)), next_id=next_id)

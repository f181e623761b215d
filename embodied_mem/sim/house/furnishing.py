"""Furniture finds its place in the rooms, and objects theirs on furniture, floor and walls."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from embodied_mem.sim.house.catalog import CATEGORIES
from embodied_mem.sim.house.config import FurnitureRule, HouseConfig, ObjectRule
from embodied_mem.sim.house.layout import Layout, Rect, Room
from embodied_mem.sim.house.thing import FLOOR, WALL, Thing, covered, draw_look, front_of, inside, overlap

TRIES = 40
"""Places tried for a thing before it is left out."""
DOOR_CLEAR = 0.8
"""Nothing stands this close in front of a door opening [m]."""
FRONT_CLEAR = 0.5
"""Furniture is used from its front, which stays free this far [m]."""
WALL_GAP = 0.02
"""Between furniture and the wall behind it [m]."""
SIDE_GAP = 0.03
"""Between two pieces of furniture [m]."""
PICTURE_HEIGHT = (1.35, 1.6)
"""Lowest and highest underside of what hangs on a wall [m]."""
BESIDE_LIMIT = 0.04
"""What lies on something stays this far inside its edge [m]."""


class Furnisher:
    """Furnishes a plan; also finds new places for things in a house that is furnished already.

    Args:
        config: the distributions.
        layout: the plan.
        things: what is there already.
        next_id: the next thing's id.
    """

    def __init__(
        self, config: HouseConfig, layout: Layout, things: tuple[Thing, ...] = (), next_id: int = 1
    ) -> None:
        self.config = config
        self.layout = layout
        self.things = list(things)
        self.next_id = next_id

    def furnish(self, rng: np.random.Generator) -> None:
        """Draws and places the furniture of every room."""
        for room in self.layout.rooms:
            for rule in self.config.furniture:
                if rule.room == room.type:
                    for _ in range(int(rng.binomial(rule.most, rule.probability))):
                        self.place_furniture(room, rule, rng)

    def put_objects(self, rng: np.random.Generator) -> None:
        """Draws and places the objects of every room."""
        for room in self.layout.rooms:
            for rule in self.config.objects:
                if rule.room == room.type:
                    for _ in range(int(rng.binomial(rule.most, rule.probability))):
                        self.place_object(room, rule, rng)

    def place_furniture(self, room: Room, rule: FurnitureRule, rng: np.random.Generator) -> Thing | None:
        """Places one piece of furniture, or returns None where no free place was found."""
        size, color = draw_look(CATEGORIES[rule.label], rng)
        if rule.where == "wall":
            places = self._along_walls(room, size, rng)
        elif rule.where == "center":
            places = self._in_the_middle(room, size, rng)
        elif rule.where == "floor":
            places = self._anywhere(room, size, rng)
        else:
            places = self._beside(room, rule.where, size, rng)
        for x, y, facing in places:
            if self._is_free(room, covered(x, y, size, facing), facing, rule.where == "wall"):
                return self._add(rule.label, (x, y, 0.0), size, facing, room.id, FLOOR, color)
        return None

    def place_object(
        self, room: Room, rule: ObjectRule, rng: np.random.Generator, id: int = 0, look: Thing | None = None
    ) -> Thing | None:
        """Places one object, or returns None where no free place was found.

        Args:
            room: in which room.
            rule: what, and on what.
            rng: draws the place.
            id: of the thing, a new one where 0.
            look: a thing whose size and colour it keeps.
        """
        size, color = draw_look(CATEGORIES[rule.label], rng) if look is None else (look.size, look.color)
        if rule.support == "floor":
            for x, y, facing in self._along_walls(room, size, rng):
                if self._is_free(room, covered(x, y, size, facing), facing, False):
                    return self._add(rule.label, (x, y, 0.0), size, facing, room.id, FLOOR, color, id)
            return None
        if rule.support == "wall":
            return self._hang(room, rule.label, size, color, rng, id)
        supports = [t for t in self.things if t.room == room.id and t.label == rule.support]
        for index in rng.permutation(len(supports)).tolist():
            support = supports[index]
            for position in self._on(support, size, rng):
                return self._add(rule.label, position, size, support.facing, room.id, support.id, color, id)
        return None

    def _add(
        self,
        label: str,
        position: tuple[float, float, float],
        size: tuple[float, float, float],
        facing: int,
        room: int,
        support: int,
        color: tuple[int, int, int],
        id: int = 0,
    ) -> Thing:
        if id == 0:
            id = self.next_id
            self.next_id += 1
        thing = Thing(id, label, position, size, facing, room, support, color)
        self.things.append(thing)
        return thing

    def _is_free(self, room: Room, rect: Rect, facing: int, needs_front: bool) -> bool:
        """True where a thing can stand: in the room, clear of doors, of others and of their fronts."""
        if not inside(rect, room.rect):
            return False
        for door in self.layout.doors:
            if room.id in door.rooms and overlap(rect, door.rect, DOOR_CLEAR):
                return False
        front = front_of(rect, facing, FRONT_CLEAR)
        if needs_front and not inside(front, room.rect):
            return False
        for other in self.things:
            if other.room != room.id or other.support != FLOOR:
                continue
            if overlap(rect, other.rect, SIDE_GAP) or (needs_front and overlap(front, other.rect)):
                return False
            keeps_front = other.label not in ("chair", "plant", "lamp", "basket")
            if keeps_front and needs_front and overlap(rect, front_of(other.rect, other.facing, FRONT_CLEAR)):
                return False
        return True

    def _along_walls(
        self, room: Room, size: tuple[float, float, float], rng: np.random.Generator
    ) -> Iterator[tuple[float, float, int]]:
        """Draws places with the back to a wall, half of them in a corner."""
        x0, y0, x1, y1 = room.rect
        for _ in range(TRIES):
            facing = int(rng.integers(4))
            along, half, back = rng.random(), size[0] / 2 + WALL_GAP, size[1] / 2 + WALL_GAP
            if rng.random() < 0.5:
                along = float(rng.random() < 0.5)
            if facing % 2 == 0:
                x = x0 + half + along * (x1 - x0 - 2 * half)
                yield x, (y0 + back if facing == 0 else y1 - back), facing
            else:
                y = y0 + half + along * (y1 - y0 - 2 * half)
                yield (x1 - back if facing == 1 else x0 + back), y, facing

    def _in_the_middle(
        self, room: Room, size: tuple[float, float, float], rng: np.random.Generator
    ) -> Iterator[tuple[float, float, int]]:
        x0, y0, x1, y1 = room.rect
        for _ in range(TRIES):
            x = (x0 + x1) / 2 + rng.uniform(-0.2, 0.2) * (x1 - x0)
            y = (y0 + y1) / 2 + rng.uniform(-0.2, 0.2) * (y1 - y0)
            yield x, y, int(rng.integers(4))

    def _anywhere(
        self, room: Room, size: tuple[float, float, float], rng: np.random.Generator
    ) -> Iterator[tuple[float, float, int]]:
        x0, y0, x1, y1 = room.rect
        for _ in range(TRIES):
            yield float(rng.uniform(x0, x1)), float(rng.uniform(y0, y1)), int(rng.integers(4))

    def _beside(
        self, room: Room, label: str, size: tuple[float, float, float], rng: np.random.Generator
    ) -> Iterator[tuple[float, float, int]]:
        """Draws places at the sides of a table, or before a desk, looking at it."""
        others = [t for t in self.things if t.room == room.id and t.label == label]
        for _ in range(TRIES if others else 0):
            other = others[int(rng.integers(len(others)))]
            side = int(rng.integers(4)) if label == "table" else other.facing
            x0, y0, x1, y1 = other.rect
            gap, along = size[1] / 2 + 0.05, rng.uniform(0.25, 0.75)
            x, y = x0 + along * (x1 - x0), y0 + along * (y1 - y0)
            if side % 2 == 0:
                y = y1 + gap if side == 0 else y0 - gap
            else:
                x = x0 - gap if side == 1 else x1 + gap
            yield x, y, (side + 2) % 4

    def _on(
        self, support: Thing, size: tuple[float, float, float], rng: np.random.Generator
    ) -> Iterator[tuple[float, float, float]]:
        """Draws free places on a piece of furniture."""
        x0, y0, x1, y1 = support.rect
        own = covered(0.0, 0.0, size, support.facing)
        half_x, half_y = own[2] + BESIDE_LIMIT, own[3] + BESIDE_LIMIT
        lying = [t for t in self.things if t.support == support.id]
        for _ in range(TRIES if x1 - x0 > 2 * half_x and y1 - y0 > 2 * half_y else 0):
            surfaces = CATEGORIES[support.label].surfaces
            z = support.size[2] * surfaces[int(rng.integers(len(surfaces)))]
            x, y = rng.uniform(x0 + half_x, x1 - half_x), rng.uniform(y0 + half_y, y1 - half_y)
            rect = covered(x, y, size, support.facing)
            if not any(
                overlap(rect, t.rect, 0.02) and t.position[2] < z + size[2] and z < t.top for t in lying
            ):
                yield float(x), float(y), float(z)

    def _hang(
        self,
        room: Room,
        label: str,
        size: tuple[float, float, float],
        color: tuple[int, int, int],
        rng: np.random.Generator,
        id: int,
    ) -> Thing | None:
        """Hangs something on a wall, where neither door nor tall furniture is in the way."""
        for x, y, facing in self._along_walls(room, size, rng):
            z = float(rng.uniform(*PICTURE_HEIGHT))
            push = WALL_GAP - 0.001  # against the wall
            x -= (0.0, -1.0, 0.0, 1.0)[facing] * push
            y -= (1.0, 0.0, -1.0, 0.0)[facing] * push
            rect = covered(x, y, size, facing)
            blocked = any(overlap(rect, door.rect, 0.15) for door in self.layout.doors)
            for other in self.things:
                close = other.room == room.id and overlap(rect, other.rect, 0.05)
                blocked |= close and other.top > z and other.position[2] < z + size[2]
            if not blocked:
                return self._add(label, (x, y, z), size, facing, room.id, WALL, color, id)
        return None

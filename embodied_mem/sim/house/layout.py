"""The plan of a house: rooms by binary space partition, a corridor, doors, walls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError
from embodied_mem.sim.house.config import HouseConfig

UNIT = 0.05
"""Walls and doors lie on a lattice of this pitch [m], so that equal coordinates are equal."""
DOOR_MARGIN = 4
"""Least distance of a door opening from the end of the shared wall, in units."""
DRAWS = 200

Cells = tuple[int, int, int, int]
"""x0, y0, x1, y1 in units, along the middle of the walls."""
Rect = tuple[float, float, float, float]
"""x0, y0, x1, y1 [m]."""


@dataclass(frozen=True)
class Room:
    """A room.

    Attributes:
        id: its index in the house.
        type: one of `ROOM_TYPES`.
        rect: its floor between the walls [m].
        outline: the same up to the middle of the walls: outlines tile the house [m].
    """

    id: int
    type: str
    rect: Rect
    outline: Rect

    @property
    def area(self) -> float:
        """Floor area [m^2]."""
        return (self.rect[2] - self.rect[0]) * (self.rect[3] - self.rect[1])


@dataclass(frozen=True)
class Door:
    """An opening in the wall between two rooms.

    Attributes:
        rooms: ids of the rooms on both sides.
        rect: the floor of the opening, as deep as the wall [m].
        axis: 0 where one walks through it along x, 1 along y.
    """

    rooms: tuple[int, int]
    rect: Rect
    axis: int


@dataclass(frozen=True, eq=False)
class Layout:
    """The plan of a house.

    Attributes:
        rooms: its rooms.
        doors: openings; all rooms are connected by them.
        walls: (W, 6) float64, boxes x0, y0, z0, x1, y1, z1 [m], lintels included.
        size: outer length along x and y [m]; one outer corner is the origin.
    """

    rooms: tuple[Room, ...]
    doors: tuple[Door, ...]
    walls: NDArray[np.float64]
    size: tuple[float, float]

    def room_at(self, x: float, y: float) -> int:
        """Returns the id of the room whose outline holds a point, or -1."""
        for room in self.rooms:
            x0, y0, x1, y1 = room.outline
            if x0 <= x <= x1 and y0 <= y <= y1:
                return room.id
        return -1


def make_layout(config: HouseConfig, rng: np.random.Generator) -> Layout:
    """Draws the plan of a house.

    Raises:
        ConfigError: no plan fits the config.
    """
    count = int(rng.integers(config.rooms[0], config.rooms[1] + 1))
    for draw in range(DRAWS):
        cells = _partition(config, count, 1.0 + 0.01 * draw, rng)
        if cells is None:
            continue
        corridor = len(cells) - 1 if count >= config.corridor_from else -1
        walls = _shared_walls(cells, round(config.door_width / UNIT))
        links = _links(len(cells), corridor, walls, config.extra_door, rng)
        if links is not None:
            types = _types(config, cells, corridor, walls, rng)
            return _build(config, cells, types, {pair: walls[pair] for pair in links}, rng)
    raise ConfigError("no house fits these settings; allow larger rooms or smaller sides")


def _partition(config: HouseConfig, count: int, scale: float, rng: np.random.Generator) -> list[Cells] | None:
    """Divides a rectangle into rooms; the corridor, where there is one, comes last."""
    area = rng.uniform(*config.room_area) * scale
    least = round(config.smallest_side / UNIT)
    if count < config.corridor_from:
        length = np.sqrt(count * area * rng.uniform(1.1, 1.7))
        whole = (0, 0, round(length / UNIT), round(count * area / length / UNIT))
        return _split(_turned([whole], rng.random() < 0.5)[0], count, least, rng)
    sides = ((count + 1) // 2, count // 2)
    depth = rng.uniform(3.0, 4.2) * (1.0 if count <= 8 else 1.6)
    length = sides[0] * area / depth
    x1, y1 = round(length / UNIT), round(depth / UNIT)
    y2 = y1 + round(rng.uniform(*config.corridor_width) / UNIT) + round(config.wall_thickness / UNIT)
    y3 = y2 + round(sides[1] * area / length / UNIT)
    if y3 - y2 < least:
        return None
    below = _split((0, 0, x1, y1), sides[0], least, rng)
    above = _split((0, y2, x1, y3), sides[1], least, rng)
    if below is None or above is None:
        return None
    return _turned([*below, *above, (0, y1, x1, y2)], rng.random() < 0.5)


def _turned(cells: list[Cells], turn: bool) -> list[Cells]:
    return [(c[1], c[0], c[3], c[2]) for c in cells] if turn else cells


def _split(cell: Cells, count: int, least: int, rng: np.random.Generator) -> list[Cells] | None:
    """Divides a cell into `count` rooms across its longer side; None where they would be too narrow."""
    if count == 1:
        return [cell]
    x0, y0, x1, y1 = cell
    first = count // 2 if rng.random() < 0.5 else count - count // 2
    share = first / count + rng.uniform(-0.08, 0.08)
    if x1 - x0 >= y1 - y0:
        cut = x0 + round((x1 - x0) * share)
        parts = (x0, y0, cut, y1), (cut, y0, x1, y1)
    else:
        cut = y0 + round((y1 - y0) * share)
        parts = (x0, y0, x1, cut), (x0, cut, x1, y1)
    if any(min(p[2] - p[0], p[3] - p[1]) < least for p in parts):
        return None
    halves = [_split(part, n, least, rng) for part, n in zip(parts, (first, count - first))]
    return None if halves[0] is None or halves[1] is None else halves[0] + halves[1]


def _shared_walls(cells: list[Cells], door: int) -> dict[tuple[int, int], tuple[int, int, int, int]]:
    """Returns (axis, where, from, to) of every wall between two cells that has room for a door."""
    found = {}
    for i, a in enumerate(cells):
        for j in range(i + 1, len(cells)):
            b = cells[j]
            for axis in (0, 1):
                low = max(a[1 - axis], b[1 - axis])
                high = min(a[3 - axis], b[3 - axis])
                touching = a[axis + 2] == b[axis] or b[axis + 2] == a[axis]
                if touching and high - low >= door + 2 * DOOR_MARGIN:
                    found[i, j] = (axis, b[axis] if a[axis + 2] == b[axis] else a[axis], low, high)
    return found


def _links(
    count: int,
    corridor: int,
    walls: dict[tuple[int, int], tuple[int, int, int, int]],
    extra: float,
    rng: np.random.Generator,
) -> list[tuple[int, int]] | None:
    """Chooses which neighbours have a door: a spanning tree, from the corridor first, and some more."""
    cost = {pair: rng.random() + (0.0 if corridor in pair else 1.0) for pair in walls}
    reached = {corridor if corridor >= 0 else 0}
    links: list[tuple[int, int]] = []
    while len(reached) < count:
        open_pairs = [pair for pair in walls if (pair[0] in reached) != (pair[1] in reached)]
        if not open_pairs:
            return None
        best = min(open_pairs, key=lambda pair: cost[pair])
        links.append(best)
        reached.update(best)
    links += [p for p in walls if p not in links and corridor not in p and rng.random() < extra]
    return sorted(links)


def _types(
    config: HouseConfig,
    cells: list[Cells],
    corridor: int,
    walls: dict[tuple[int, int], tuple[int, int, int, int]],
    rng: np.random.Generator,
) -> list[str]:
    """Gives rooms their types: living rooms are large, bathrooms small, kitchens beside living rooms."""
    area = [(c[2] - c[0]) * (c[3] - c[1]) for c in cells]
    left = sorted((i for i in range(len(cells)) if i != corridor), key=lambda i: (-area[i], i))
    types = ["corridor"] * len(cells)
    wanted = list(config.room_order[: len(left)])

    def give(type_name: str, room: int) -> None:
        types[room] = type_name
        left.remove(room)
        wanted.remove(type_name)

    def beside(type_name: str) -> list[int]:
        owners = {i for i, t in enumerate(types) if t == type_name}
        return [r for r in left if any((min(r, o), max(r, o)) in walls for o in owners)] or left

    for _ in range(wanted.count("living room")):
        give("living room", left[0])
    for type_name, neighbour in (("kitchen", "living room"), ("dining room", "kitchen")):
        for _ in range(wanted.count(type_name)):
            give(type_name, beside(neighbour)[0])
    for _ in range(wanted.count("bathroom")):
        give("bathroom", left[-1])
    for type_name, room in zip(rng.permutation(wanted).tolist(), list(left)):
        types[room] = type_name
    return types


def _build(
    config: HouseConfig,
    cells: list[Cells],
    types: list[str],
    links: dict[tuple[int, int], tuple[int, int, int, int]],
    rng: np.random.Generator,
) -> Layout:
    """Turns cells and links into rooms, doors and walls in metres."""
    half = config.wall_thickness / 2
    width = round(config.door_width / UNIT)
    rooms = tuple(
        Room(
            i,
            types[i],
            (c[0] * UNIT + half, c[1] * UNIT + half, c[2] * UNIT - half, c[3] * UNIT - half),
            (c[0] * UNIT, c[1] * UNIT, c[2] * UNIT, c[3] * UNIT),
        )
        for i, c in enumerate(cells)
    )
    doors, openings = [], []
    for pair, (axis, where, low, high) in links.items():
        start = int(rng.integers(low + DOOR_MARGIN, high - DOOR_MARGIN - width + 1))
        openings.append((axis, where, start, start + width))
        across = (where * UNIT - half, where * UNIT + half)
        along = (start * UNIT, (start + width) * UNIT)
        x, y = (across, along) if axis == 0 else (along, across)
        doors.append(Door(pair, (x[0], y[0], x[1], y[1]), axis))
    size = (max(c[2] for c in cells) * UNIT + half, max(c[3] for c in cells) * UNIT + half)
    return Layout(rooms, tuple(doors), _walls(config, cells, openings), size)


def _walls(
    config: HouseConfig, cells: list[Cells], openings: list[tuple[int, int, int, int]]
) -> NDArray[np.float64]:
    """Returns the wall boxes: the union of all outlines, less the openings, plus lintels."""
    lines: dict[tuple[int, int], set[int]] = {}
    for x0, y0, x1, y1 in cells:
        for axis, where, low, high in ((0, x0, y0, y1), (0, x1, y0, y1), (1, y0, x0, x1), (1, y1, x0, x1)):
            lines.setdefault((axis, where), set()).update(range(low, high))
    half, boxes = config.wall_thickness / 2, []

    def add(axis: int, where: int, low: float, high: float, z0: float) -> None:
        across = (where * UNIT - half, where * UNIT + half)
        x, y = (across, (low, high)) if axis == 0 else ((low, high), across)
        boxes.append((x[0], y[0], z0, x[1], y[1], config.height))

    for (axis, where), units in sorted(lines.items()):
        here = [(low, high) for a, w, low, high in openings if (a, w) == (axis, where)]
        for low, high in here:
            units -= set(range(low, high))
            add(axis, where, low * UNIT, high * UNIT, config.door_height)
        edges = {high for _, high in here}
        for low, high in _runs(sorted(units)):
            # Walls overlap in the corners; they end flush at a door.
            start = low * UNIT - (0.0 if low in edges else half)
            stop = high * UNIT + (0.0 if high in {low for low, _ in here} else half)
            add(axis, where, start, stop, 0.0)
    return np.array(boxes)


def _runs(units: list[int]) -> list[tuple[int, int]]:
    """Returns [first, last + 1) of every run of consecutive numbers."""
    runs: list[tuple[int, int]] = []
    for unit in units:
        if runs and runs[-1][1] == unit:
            runs[-1] = (runs[-1][0], unit + 1)
        else:
            runs.append((unit, unit + 1))
    return runs

"""A small world in letters, seen in part: what the tests of the scene graph walk through."""

from __future__ import annotations

from collections import deque

import numpy as np

from embodied_mem.geometry import Pose
from embodied_mem.memory.octree import Octree
from embodied_mem.memory.octree.types import GridMap
from embodied_mem.memory.scene.space import Space
from embodied_mem.types import Detection, LabelMap, Percept, Scan

LABELS = LabelMap(("unknown", "wall", "grey door", "green key", "red ball", "goal"))
THINGS = {"D": "grey door", "k": "green key", "b": "red ball", "g": "goal"}
STEP_NS = 100_000_000

TWO_ROOMS = """
###########
#....#....#
#.k..#....#
#....D..b.#
#....#....#
###########
"""

FOUR_ROOMS = """
##############
#.....#......#
#.....#......#
#.k...D......#
#.....#......#
###D#####D####
#......#.....#
#......#..b..#
#......D.....#
#g.....#.....#
##############
"""


def cells_of(text: str) -> np.ndarray:
    """(H, W) letters, the last line at y = 0."""
    return np.array([list(line) for line in text.strip().splitlines()][::-1])


def grid_of(text: str, origin=(0.0, 0.0), resolution: float = 1.0) -> GridMap:
    """A grid map: '#' obstacle, '?' unknown, things are obstacles but for doors and goals."""
    letters = cells_of(text)
    cells = np.zeros(letters.shape, np.int8)
    cells[np.isin(letters, ["#", "k", "b"])] = 100
    cells[letters == "?"] = -1
    return GridMap(cells, np.array(origin, np.float64), resolution, 0.0)


def detection(label: int, x: float, y: float, state: str = "", z: float = 0.5, **kwargs) -> Detection:
    """A detection with the identity as base pose in mind."""
    covariance = np.diag(np.full(3, kwargs.pop("sigma", 0.01) ** 2))
    return Detection(label, np.array([x, y, z]), np.ones(3), covariance, state=state, **kwargs)


def percept(step: int = 0, x: float = 0.5, y: float = 0.5, *, yaw: float = 0.0, **kwargs) -> Percept:
    """A percept at a pose."""
    kwargs.setdefault("labels", LABELS)
    return Percept(step * STEP_NS, step, Pose.from_xyz_yaw(x, y, 0.0, yaw), is_first=step == 0, **kwargs)


def copy(space: Space, other: Space) -> None:
    """Saves a space into another."""
    tiles = {f.key(tile): f.payload(tile) for f in space.floors for tile in f.tiles()}
    rows = [list(table.payloads().values()) for table in (space.places, space.rooms)]
    other.restore(space.meta(), tiles, *rows)
    other.places.next_id, other.rooms.next_id = space.places.next_id, space.rooms.next_id


class AsciiWorld:
    """Sees the free cells it could walk to within `sight` cells, and what borders them."""

    def __init__(self, text: str, start: tuple[int, int], sight: int = 3) -> None:
        self.letters = cells_of(text)
        self.open: set[tuple[int, int]] = set()
        self.at, self.sight, self.step = start, sight, 0  # (x, y)
        self.tree = Octree(1.0, hit=3.5, miss=-3.5)

    def blocks(self, x: int, y: int) -> bool:
        letter = self.letters[y, x]
        return letter in "#kb" or (letter == "D" and (x, y) not in self.open)

    def seen(self) -> list[tuple[int, int]]:
        found, queue = {self.at}, deque([self.at])
        while queue:
            x, y = queue.popleft()
            if self.blocks(x, y):
                continue
            for nx, ny in [(x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]:
                near = max(abs(nx - self.at[0]), abs(ny - self.at[1])) <= self.sight
                if near and (nx, ny) not in found:
                    found.add((nx, ny))
                    queue.append((nx, ny))
        return sorted(found)

    def observe(self) -> tuple[Percept, GridMap]:
        """What the agent sees, in the base frame, and the grid map after it."""
        pose = Pose.from_xyz_yaw(self.at[0] + 0.5, self.at[1] + 0.5, 0.0, 0.0)
        cells = self.seen()
        points = np.array([(x + 0.5, y + 0.5, 0.5) for x, y in cells])
        hit = np.array([self.blocks(x, y) for x, y in cells])
        names = [THINGS.get(self.letters[y, x], "wall" if self.blocks(x, y) else "unknown") for x, y in cells]
        labels = np.array([LABELS.names.index(name) for name in names], np.int32)
        detections = tuple(
            detection(
                int(label),
                x - self.at[0],
                y - self.at[1],
                {"D": "open" if (x, y) in self.open else "closed"}.get(self.letters[y, x], ""),
            )
            for (x, y), label in zip(cells, labels)
            if self.letters[y, x] in THINGS and (x, y) != self.at
        )
        base_points = (points - pose.position).astype(np.float32)
        scan = Scan(base_points, hit, labels)
        self.tree.integrate_cells(points.astype(np.float32), hit, labels=labels, stamp=self.step * STEP_NS)
        grid = self.tree.traversable(0.0, robot_height=1.0, step_height=0.0, passable_labels=(2,))
        seen = percept(self.step, *pose.position[:2], scans=(scan,), detections=detections)
        self.step += 1
        return seen, grid

    def walk(self, x: int, y: int) -> None:
        """Steps to a cell, or opens the door in the way."""
        if self.letters[y, x] == "D" and (x, y) not in self.open:
            self.open.add((x, y))
        elif not self.blocks(x, y):
            self.at = (x, y)

    def remove(self, letter: str) -> None:
        """Takes a thing away."""
        self.letters[self.letters == letter] = "."

"""One piece of furniture or one object of a house."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embodied_mem.sim.house.catalog import Category
from embodied_mem.sim.house.layout import Rect

FLOOR, WALL = -1, -2
"""What things rest on that do not rest on another thing."""


@dataclass(frozen=True)
class Thing:
    """A thing in its place.

    Attributes:
        id: its instance id, from 1 on; never given to another thing of the house.
        label: its category.
        position: middle of its underside [m].
        size: width, depth and height in its own frame [m].
        facing: its front looks along +y (0), -x (1), -y (2) or +x (3).
        room: id of its room.
        support: id of the thing it lies on, `FLOOR` or `WALL`.
        color: 8-bit RGB.
    """

    id: int
    label: str
    position: tuple[float, float, float]
    size: tuple[float, float, float]
    facing: int
    room: int
    support: int
    color: tuple[int, int, int]

    @property
    def rect(self) -> Rect:
        """What it covers, seen from above [m]."""
        return covered(self.position[0], self.position[1], self.size, self.facing)

    @property
    def center(self) -> tuple[float, float, float]:
        """Its middle [m]."""
        return (self.position[0], self.position[1], self.top - self.size[2] / 2)

    @property
    def top(self) -> float:
        """Height of its upper side [m]."""
        return self.position[2] + self.size[2]


def covered(x: float, y: float, size: tuple[float, float, float], facing: int) -> Rect:
    """Returns the rectangle that a thing at (x, y) covers."""
    w, d = (size[0], size[1]) if facing % 2 == 0 else (size[1], size[0])
    return (x - w / 2, y - d / 2, x + w / 2, y + d / 2)


def overlap(a: Rect, b: Rect, gap: float = 0.0) -> bool:
    """True where two rectangles are nearer to each other than `gap` along both axes [m]."""
    return a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap


def inside(a: Rect, b: Rect) -> bool:
    """True where rectangle `a` lies within `b`."""
    return b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3]


def front_of(rect: Rect, facing: int, depth: float) -> Rect:
    """Returns the rectangle of a given depth in front of a thing [m]."""
    x0, y0, x1, y1 = rect
    return (
        (x0, y1, x1, y1 + depth),
        (x0 - depth, y0, x0, y1),
        (x0, y0 - depth, x1, y0),
        (x1, y0, x1 + depth, y1),
    )[facing]


def draw_look(
    category: Category, rng: np.random.Generator
) -> tuple[tuple[float, float, float], tuple[int, int, int]]:
    """Draws the size [m] and the colour of one thing of a category."""
    w, d, h = (s * (1.0 + category.spread * rng.uniform(-1, 1)) for s in category.size)
    r, g, b = (int(np.clip(c + rng.integers(-22, 23), 8, 247)) for c in category.color)
    return (w, d, h), (r, g, b)

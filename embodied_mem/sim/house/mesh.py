"""The triangles of a house, and what each of them belongs to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from embodied_mem.sim.house.catalog import CATEGORIES, HOUSE_LABELS, SHAPES, Part
from embodied_mem.sim.house.house import House
from embodied_mem.sim.house.thing import Thing

Triangles = NDArray[np.float64]
"""(T, 3, 3) corners, counter-clockwise seen from outside."""

LIGHT = (0.55, 0.3, 0.78)
"""Where the light comes from; not along an axis, so that every side of a box has its own shade."""
AMBIENT = 0.45
STRUCTURE_COLORS = {"wall": (214, 208, 196), "ceiling": (240, 240, 238)}
FLOOR_COLORS = {
    "living room": (168, 128, 90),
    "kitchen": (150, 156, 160),
    "bedroom": (158, 132, 108),
    "bathroom": (128, 150, 162),
    "office": (122, 112, 104),
    "dining room": (176, 142, 104),
    "corridor": (140, 124, 112),
}
SIDES = 8
"""Sides of a prism that stands for something round."""

FLOOR_ID, WALL_ID, CEILING_ID = 1_000_001, 1_000_002, 1_000_003
"""Instance ids of what is no thing."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """The triangles of a house.

    Attributes:
        vertices: (V, 3) float32 [m].
        triangles: (T, 3) uint32, counter-clockwise seen from outside.
        label: (T,) int32 label ids of `HOUSE_LABELS`.
        instance: (T,) int32 ids of things, or `FLOOR_ID`, `WALL_ID`, `CEILING_ID`.
        color: (T, 3) uint8 RGB, unshaded.
        shaded: (T, 3) uint8 RGB, shaded by the triangle's normal.
    """

    vertices: NDArray[np.float32]
    triangles: NDArray[np.uint32]
    label: NDArray[np.int32]
    instance: NDArray[np.int32]
    color: NDArray[np.uint8]
    shaded: NDArray[np.uint8]


def build_mesh(house: House) -> Mesh:
    """Makes the triangles of a house: floor by room, walls, ceiling, then its things by id."""
    pieces: list[tuple[Triangles, str, int, tuple[int, int, int], float]] = []
    for room in house.rooms:
        x0, y0, x1, y1 = room.outline
        pieces.append((_floor(x0, y0, x1, y1), "floor", FLOOR_ID, FLOOR_COLORS[room.type], 1.0))
    for x0, y0, z0, x1, y1, z1 in house.layout.walls.tolist():
        piece = _box((x0, y0, z0), (x1, y1, z1))
        pieces.append((piece, "wall", WALL_ID, STRUCTURE_COLORS["wall"], 1.0))
    w, d = house.layout.size
    ceiling = _floor(0.0, 0.0, w, d)[:, ::-1] + (0.0, 0.0, house.config.height)
    pieces.append((ceiling, "ceiling", CEILING_ID, STRUCTURE_COLORS["ceiling"], 1.0))
    for thing in house.things:
        for part, bright in thing_triangles(thing):
            pieces.append((part, thing.label, thing.id, thing.color, bright))
    return _assemble(pieces)


def _assemble(pieces: list[tuple[Triangles, str, int, tuple[int, int, int], float]]) -> Mesh:
    counts = [len(piece[0]) for piece in pieces]
    corners = np.concatenate([piece[0] for piece in pieces])  # (T, 3, 3)
    color = np.array([np.clip(np.multiply(c, b), 0, 255) for _, _, _, c, b in pieces])
    color = np.repeat(color, counts, axis=0)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.sqrt((normal * normal).sum(axis=-1, keepdims=True)), 1e-12)
    light = np.array(LIGHT) / math.sqrt(sum(v * v for v in LIGHT))
    # Half Lambert: sides that are turned away from the light still differ from each other.
    shade = AMBIENT + (1.0 - AMBIENT) * (0.5 + 0.5 * (normal * light).sum(axis=-1, keepdims=True))
    vertices, index = np.unique(corners.reshape(-1, 3).astype(np.float32), axis=0, return_inverse=True)
    return Mesh(
        vertices=vertices,
        triangles=index.reshape(-1, 3).astype(np.uint32),
        label=np.repeat([HOUSE_LABELS.id(label) for _, label, *_ in pieces], counts).astype(np.int32),
        instance=np.repeat([piece[2] for piece in pieces], counts).astype(np.int32),
        color=color.astype(np.uint8),
        shaded=np.clip(color * shade, 0, 255).astype(np.uint8),
    )


def thing_triangles(thing: Thing) -> list[tuple[Triangles, float]]:
    """Returns the parts of a thing in the house frame, each with its brightness."""
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[thing.facing]
    placed = []
    for part in SHAPES[CATEGORIES[thing.label].shape]:
        local = (_unit_part(part) - (0.5, 0.5, 0.0)) * thing.size
        x, y = local[..., 0], local[..., 1]
        turned = np.stack([cosine * x - sine * y, sine * x + cosine * y, local[..., 2]], axis=-1)
        placed.append((turned + thing.position, part[7]))
    return placed


@cache
def _unit_part(part: Part) -> Triangles:
    lo, hi = np.array(part[1:4]), np.array(part[4:7])
    if part[0] == "box":
        return _box(lo, hi)
    unit = _prism() if part[0] == "prism" else _ball()
    return lo + unit * (hi - lo)


def _floor(x0: float, y0: float, x1: float, y1: float) -> Triangles:
    """Returns a rectangle at z = 0 that is seen from above."""
    a, b, c, d = (x0, y0, 0.0), (x1, y0, 0.0), (x1, y1, 0.0), (x0, y1, 0.0)
    return np.array([[a, b, c], [a, c, d]])


def _box(lo: object, hi: object) -> Triangles:
    lower, upper = np.asarray(lo, dtype=np.float64), np.asarray(hi, dtype=np.float64)
    return lower + _unit_box() * (upper - lower)


@cache
def _unit_box() -> Triangles:
    faces = []
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        for side in (0.0, 1.0):
            quad = np.zeros((4, 3))
            quad[:, axis] = side
            quad[[1, 2], u] = 1.0
            quad[[2, 3], v] = 1.0
            if side == 0.0:
                quad = quad[::-1]
            faces += [quad[[0, 1, 2]], quad[[0, 2, 3]]]
    return np.array(faces)


@cache
def _prism() -> Triangles:
    """Returns a standing prism that fills the unit cube."""
    ring = [_on_circle(i) for i in range(SIDES)]
    triangles = []
    for i, (ax, ay) in enumerate(ring):
        bx, by = ring[(i + 1) % SIDES]
        a0, b0, a1, b1 = (ax, ay, 0.0), (bx, by, 0.0), (ax, ay, 1.0), (bx, by, 1.0)
        triangles += [(a0, b0, b1), (a0, b1, a1)]
        triangles += [((0.5, 0.5, 1.0), a1, b1), ((0.5, 0.5, 0.0), b0, a0)]
    return np.array(triangles)


@cache
def _ball(rings: int = 5) -> Triangles:
    """Returns a ball that fills the unit cube."""

    def point(ring: int, i: int) -> tuple[float, float, float]:
        angle = math.pi * ring / rings
        x, y = _on_circle(i)
        r = math.sin(angle)
        return (0.5 + (x - 0.5) * r, 0.5 + (y - 0.5) * r, 0.5 - 0.5 * math.cos(angle))

    triangles = []
    for ring in range(rings):
        for i in range(SIDES):
            a, b = point(ring, i), point(ring, i + 1)
            c, d = point(ring + 1, i + 1), point(ring + 1, i)
            if ring > 0:
                triangles.append((a, b, c))
            if ring < rings - 1:
                triangles.append((a, c, d))
    return np.array(triangles)


def _on_circle(i: int) -> tuple[float, float]:
    angle = 2.0 * math.pi * (i + 0.5) / SIDES
    reach = 0.5 / math.cos(math.pi / SIDES)  # flat sides touch the cube
    return 0.5 + reach * math.cos(angle), 0.5 + reach * math.sin(angle)

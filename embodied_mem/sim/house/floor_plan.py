"""Where a robot can be in a house, how it moves there, and how far it is from anywhere.

Everything that reaches into the robot's height is a box that stands along the axes. The robot's body is the
regular polygon of `SIDES` sides around its circle, so that what it cannot be in are convex polygons (boxes
with bevelled corners): collisions are exact, and a navigation mesh can hold the very same floor.
Distances come from a fine grid whose paths are pulled straight.
"""

from __future__ import annotations

import itertools
import math
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label as connected_parts
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from embodied_mem.sim.house.layout import Rect

CELL = 0.05
"""Pitch of the grid [m]."""
SIDES = 16
"""Of the robot's body; its corners stick out of the circle by 2 % of the radius."""
SKIN = 0.005
"""A robot stops this far before it would touch something ahead [m]: in a navigation mesh nobody can leave an
edge who stands right on it."""
EPSILON = 1e-9
TIGHTENINGS = 4
"""How often paths are pulled forth and back at most."""

_ANGLES = np.arange(SIDES) * (2 * math.pi / SIDES)
NORMALS = np.round(np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1), 15)
"""(SIDES, 2) outward normals of the body's sides; those along the axes are exact."""

Point = tuple[float, float] | NDArray[np.float64]

_MOVES = tuple(
    (dy, dx) for dy in range(4) for dx in range(-3, 4) if math.gcd(dy, abs(dx)) == 1 and (dy > 0 or dx > 0)
)
"""Half of the 32 directions in which grid cells are linked: their lengths are within 1.4 % of straight."""


class FloorPlan:
    """The free space of a robot among boxes.

    Args:
        boxes: (B, 4) x0, y0, x1, y1 [m] of what blocks the way.
        size: length of the house along x and y [m].
        radius: of the robot [m].

    Attributes:
        free: (H, W) bool, cells [iy, ix] whose centres the robot can be at; cell [0, 0] has its corner
            at the origin.
    """

    def __init__(self, boxes: NDArray[np.float64], size: tuple[float, float], radius: float) -> None:
        self.boxes = np.ascontiguousarray(boxes, dtype=np.float64).reshape(-1, 4)
        self.radius = radius
        width, height = (max(1, math.ceil(s / CELL)) for s in size)
        y, x = np.indices((height, width))
        self.centers = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=-1) * CELL  # (H*W, 2)
        self.shape = (height, width)
        self.free = self._free_cells()

    def _free_cells(self) -> NDArray[np.bool_]:
        free = np.ones(self.shape, bool)
        r = self.radius
        for x0, y0, x1, y1 in self.boxes:
            rows = slice(max(0, int((y0 - r) / CELL) - 1), max(0, int((y1 + r) / CELL) + 2))
            columns = slice(max(0, int((x0 - r) / CELL) - 1), max(0, int((x1 + r) / CELL) + 2))
            centers = self.centers.reshape(*self.shape, 2)[rows, columns]
            dx = np.maximum(np.maximum(x0 - centers[..., 0], centers[..., 0] - x1), 0.0)
            dy = np.maximum(np.maximum(y0 - centers[..., 1], centers[..., 1] - y1), 0.0)
            free[rows, columns] &= _room(dx, dy) >= r
        return free

    @cached_property
    def offsets(self) -> NDArray[np.float64]:
        """(B, SIDES) float64: how far the sides of what the robot cannot be in are from the origin [m]."""
        low, high = self.boxes[:, None, :2], self.boxes[:, None, 2:]
        farthest = np.where(NORMALS >= 0, high, low)  # (B, SIDES, 2): the box's corner on that side
        return np.asarray((farthest * NORMALS).sum(axis=-1) + self.radius)

    @cached_property
    def outlines(self) -> NDArray[np.float64]:
        """(B, SIDES, 2) float64: corners of what the robot cannot be in, counter-clockwise [m]."""
        # Where a side (normal n, offset o) meets the next one (m, p): Cramer's rule.
        n, m = NORMALS, np.roll(NORMALS, -1, axis=0)
        o, p = self.offsets, np.roll(self.offsets, -1, axis=1)
        corners = np.stack([o * m[:, 1] - p * n[:, 1], p * n[:, 0] - o * m[:, 0]], axis=-1)
        return corners / math.sin(2 * math.pi / SIDES)

    def clearance(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns (N,) distances [m] of (N, 2) points to the nearest box; negative where inside one."""
        p = np.asarray(points, dtype=np.float64)[:, None, :]  # (N, 1, 2)
        outside = np.maximum(self.boxes[:, :2] - p, p - self.boxes[:, 2:])  # (N, B, 2)
        gap = np.maximum(outside, 0.0)
        distance = np.sqrt(gap[..., 0] ** 2 + gap[..., 1] ** 2) + np.minimum(outside.max(axis=-1), 0.0)
        return np.asarray(distance.min(axis=1))

    def is_free(self, point: Point) -> bool:
        """True where the robot can stand at a point."""
        p = np.asarray(point, dtype=np.float64)[:2]
        gap = np.maximum(np.maximum(self.boxes[:, :2] - p, p - self.boxes[:, 2:]), 0.0)
        return bool(_room(gap[:, 0], gap[:, 1]).min(initial=np.inf) >= self.radius - EPSILON)

    def _contact(self, start: NDArray[np.float64], ahead: NDArray[np.float64], reach: float) -> float:
        """Returns how far away along a unit vector the robot touches something [m], inf beyond reach."""
        margin = reach + 1.1 * self.radius + EPSILON
        near = ((start > self.boxes[:, :2] - margin) & (start < self.boxes[:, 2:] + margin)).all(axis=1)
        beyond = (NORMALS * start).sum(axis=-1) - self.offsets[near] + EPSILON  # (B, SIDES)
        rate = (NORMALS * ahead).sum(axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = -beyond / rate
        enter = np.where(rate < 0, t, np.where((rate == 0) & (beyond >= 0), np.inf, -np.inf)).max(axis=1)
        leave = np.where(rate > 0, t, np.inf).min(axis=1)
        hit = (enter < leave) & (leave > 0.0) & (enter < reach)
        return max(0.0, float(enter[hit].min())) if hit.any() else math.inf

    def advance(self, start: Point, heading: float, length: float) -> tuple[NDArray[np.float64], bool]:
        """Moves the robot straight ahead until it almost touches something; it does not slide.

        Args:
            start: (2,) [m].
            heading: [rad].
            length: [m].

        Returns:
            where it ends, and whether it was stopped.
        """
        start = np.asarray(start, dtype=np.float64)
        ahead = np.array([math.cos(heading), math.sin(heading)])
        free = max(0.0, self._contact(start, ahead, length + SKIN) - SKIN)
        if free >= length - EPSILON:
            return start + length * ahead, False
        return start + free * ahead, True

    def sees(self, a: Point, b: Point) -> bool:
        """True where the robot can go straight from one point to another."""
        a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
        length = math.hypot(*(b - a).tolist())
        if length == 0.0:
            return self.is_free(a)
        return self._contact(a, (b - a) / length, length) == math.inf

    @cached_property
    def parts(self) -> NDArray[np.int32]:
        """(H, W) int32: which cells are connected, 0 where the robot cannot be."""
        return np.asarray(connected_parts(self.free)[0], np.int32)

    @cached_property
    def main_part(self) -> NDArray[np.bool_]:
        """(H, W) bool: the largest connected free space."""
        counts = np.bincount(self.parts.ravel())
        counts[0] = 0
        return self.free & (self.parts == int(np.argmax(counts)))

    @cached_property
    def _links(self) -> Any:
        """Sparse matrix of the distances between neighbouring cells [m]."""
        height, width = self.shape
        index = np.arange(height * width).reshape(height, width)
        rows, columns, lengths = [], [], []
        for dy, dx in _MOVES:
            open_ = self._open_between(dy, dx)
            a = index[: height - dy, max(0, -dx) : width - max(0, dx)][open_]
            rows.append(a)
            columns.append(a + dy * width + dx)
            lengths.append(np.full(len(a), math.hypot(dy, dx) * CELL))
        matrix = (np.concatenate(lengths), (np.concatenate(rows), np.concatenate(columns)))
        return csr_matrix(matrix, shape=(height * width, height * width))

    def _open_between(self, dy: int, dx: int) -> NDArray[np.bool_]:
        """Tells for every cell whether all cells that the straight line to (+dy, +dx) touches are free."""
        height, width = self.shape
        left = max(0, -dx)
        rows, columns = height - dy, width - left - max(0, dx)
        open_ = np.ones((max(rows, 0), max(columns, 0)), bool)
        for t in np.linspace(0.0, 1.0, 2 * max(dy, abs(dx)) + 1):
            for iy in {math.floor(dy * t), math.ceil(dy * t)}:
                for ix in {math.floor(dx * t), math.ceil(dx * t)}:
                    open_ &= self.free[iy : iy + rows, left + ix : left + ix + columns]
        return open_

    def cell_of(self, point: Point) -> tuple[int, int]:
        """Returns (iy, ix) of the cell that holds a point, at the edge of the grid where it is outside."""
        height, width = self.shape
        iy = min(max(math.floor(float(point[1]) / CELL), 0), height - 1)
        return iy, min(max(math.floor(float(point[0]) / CELL), 0), width - 1)

    def nearest_free(self, point: Point) -> int:
        """Returns the flat index of the free cell whose centre is nearest to a point and in its sight."""
        iy, ix = self.cell_of(point)
        reach = 4
        y0, x0 = max(iy - reach, 0), max(ix - reach, 0)
        local = np.argwhere(self.free[y0 : iy + reach + 1, x0 : ix + reach + 1]) + np.array([y0, x0])
        flat = local[:, 0] * self.shape[1] + local[:, 1] if len(local) else np.flatnonzero(self.free)
        away = ((self.centers[flat] - np.asarray(point)[:2]) ** 2).sum(axis=-1)
        return int(flat[np.argmin(away)])

    def distance_field(self, cells: NDArray[np.intp]) -> NDArray[np.float64]:
        """Returns (H, W) distances [m] to the nearest of some flat cells; inf where there is no way."""
        if len(cells) == 0:
            return np.full(self.shape, np.inf)
        # Links are undirected: what leads to the goal leads from it.
        field = dijkstra(self._links, directed=False, indices=cells, min_only=True)
        return np.asarray(field).reshape(self.shape)

    def look_up(self, field: NDArray[np.float64], point: Point) -> float:
        """Returns a field's value at a point, from the cells around it, or from farther ones."""
        iy, ix = self.cell_of(point)
        value = math.inf
        for reach in (1, 4):  # between things there are nooks narrower than a cell
            y0, x0 = max(iy - reach, 0), max(ix - reach, 0)
            window = field[y0 : iy + reach + 1, x0 : ix + reach + 1]
            y = (np.arange(y0, y0 + window.shape[0]) + 0.5) * CELL - float(point[1])
            x = (np.arange(x0, x0 + window.shape[1]) + 0.5) * CELL - float(point[0])
            value = float((window + np.sqrt(y[:, None] ** 2 + x[None, :] ** 2)).min(initial=math.inf))
            if math.isfinite(value):
                break
        return value

    def shortest_path(self, start: Point, goal: Point) -> NDArray[np.float64]:
        """Returns (M, 2) corners of a short path [m], start and goal included; empty where none.

        Its corners are centres of cells, a little away from what it goes around.
        """
        swap = tuple(map(float, goal[:2])) < tuple(map(float, start[:2]))
        a, b = (goal, start) if swap else (start, goal)  # so that both ways are the same way
        a, b = np.asarray(a, dtype=np.float64)[:2], np.asarray(b, dtype=np.float64)[:2]
        first, last = self.nearest_free(a), self.nearest_free(b)
        if self.parts.flat[first] != self.parts.flat[last]:
            return np.empty((0, 2))
        _, previous = dijkstra(self._links, directed=False, indices=first, return_predecessors=True)
        chain = [last]
        while chain[-1] != first:
            chain.append(int(previous[chain[-1]]))
        points = np.concatenate([a[None], self.centers[chain[::-1]], b[None]])
        path = self._pull(points)
        return path[::-1] if swap else path

    def _tighten(self, path: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pulls a path whose corners are cells tight around what it goes around."""
        length = path_length(path)
        for _ in range(TIGHTENINGS):
            if len(path) == 2:
                break
            path = self._pull(_dense(self._pull(_dense(path))[::-1]))[::-1]
            before, length = length, path_length(path)
            if before - length < 1e-3 * before:
                break
        return path

    def _pull(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Leaves out every point of a path that can be passed by in a straight line."""
        kept, at = [points[0]], 0
        while at < len(points) - 1:
            low, high = at + 1, len(points) - 1
            if not self.sees(points[at], points[high]):
                while high - low > 1:  # the farthest point in sight, by halving
                    middle = (low + high) // 2
                    low, high = (middle, high) if self.sees(points[at], points[middle]) else (low, middle)
                high = low
            kept.append(points[high])
            at = high
        return np.array(kept)

    def geodesic(self, start: Point, goal: Point) -> float:
        """Returns the length of a shortest path [m], inf where there is none."""
        swap = tuple(map(float, goal[:2])) < tuple(map(float, start[:2]))
        path = self.shortest_path(goal, start) if swap else self.shortest_path(start, goal)
        return path_length(self._tighten(path)) if len(path) else math.inf


def path_length(path: NDArray[np.float64]) -> float:
    """Returns the length of a polyline (M, 2) [m]."""
    steps = np.diff(path, axis=0)
    return math.fsum(np.sqrt((steps * steps).sum(axis=-1)).tolist())  # the same in both directions


def _dense(path: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns a polyline with more points, one in a centimetre."""
    pieces = [path[:1]]
    for a, b in itertools.pairwise(path):
        count = max(1, math.ceil(math.hypot(*(b - a).tolist()) / (CELL / 5)))
        t = np.arange(1, count + 1)[:, None] / count
        pieces.append((1.0 - t) * a + t * b)  # ends in b exactly
    return np.concatenate(pieces)


def rect_distance(points: NDArray[np.float64], rect: Rect) -> NDArray[np.float64]:
    """Returns (N,) distances [m] of (N, 2) points to a rectangle, 0 inside."""
    lo, hi = np.array(rect[:2]), np.array(rect[2:])
    gap = np.maximum(np.maximum(lo - points, points - hi), 0.0)
    return np.asarray(np.sqrt((gap * gap).sum(axis=-1)))


def _room(dx: NDArray[np.float64], dy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the radius of the body that just touches what is (dx, dy) away, both not negative."""
    quarter = NORMALS[: SIDES // 4 + 1]
    room = quarter[0, 0] * dx + quarter[0, 1] * dy
    for x, y in quarter[1:].tolist():
        room = np.maximum(room, x * dx + y * dy)
    return np.asarray(room)

"""What is known of the floor beside the grid map: what furniture stands on it, and where the base has been.

Rays that graze a table's top wear its voxels away, and in a narrow gap the map's error leaves no room for
the robot that has just driven through. Both are known better: the table as an object, the gap by trajectory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.types import GridMap
from embodied_mem.memory.scene.floor import Box, Floor
from embodied_mem.memory.scene.floors import STOREY
from embodied_mem.memory.scene.grid_kernels import Array
from embodied_mem.memory.scene.trajectory import Trajectory

CORE = 0.7
"""What is measured within this part of the robot's radius from where its base is said to have been is there:
poses err; the rest is what the map may err by. Half was too little where a pose was 14 cm off."""
GAP = 0.75
"""Between positions that are farther apart nobody knows where the base has been [m]."""
TRACK = 0.8
"""Cells whose centres are this close to its way were under the base [cells]; their sides touch, then."""
HEM, NARROW = 0.1, 6.0
"""A thing may end so far within the box that is known of it [m]; what is narrow, by this part of an edge."""
SLANTED = 0.3
"""Where the cosine of twice a box's yaw is smaller, its edges cannot be told from the box around it."""


@dataclass(frozen=True, eq=False)
class Body:
    """The robot's body, and what would hit it.

    Attributes:
        obstacles: what stands between `low` and `high`, without the robot's radius; as large as the grid map.
        radius: of the robot, with the margin that it keeps [m].
        low, high: heights above the floor between which it would hit something [m].
    """

    obstacles: GridMap
    radius: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Standing:
    """What speaks for and against free floor, beside the grid map.

    Attributes:
        body: the robot's.
        ids: (N,) int64 of furniture, rising.
        positions: (N, 3) float64 [m] of its centres, map frame.
        extents: (N, 3) float64 [m] of the boxes around it.
        yaws: (N,) float64 [rad] of its own boxes.
        trajectory: where the base has been; None where that tells nothing of the floor.
    """

    body: Body
    ids: NDArray[np.int64]
    positions: NDArray[np.float64]
    extents: NDArray[np.float64]
    yaws: NDArray[np.float64]
    trajectory: Trajectory | None


@njit(cache=True, nogil=True)
def _cover(beside: Array, covered: Array, at: tuple[int, int], box: Array, sign: int) -> None:
    """Counts the cells near a box.

    Args:
        beside: (H, W) int16, changed in place: boxes that are nearer than the robot's radius.
        covered: (H, W) int16, changed in place: those that the cell lies in.
        at: y and x of the first cell.
        box: (6,) float64 centre x and y, half edges [cells], yaw, and the robot's radius [cells].
        sign: 1 to count, -1 to take back.
    """
    c, s, reach = np.cos(box[4]), np.sin(box[4]), box[5]
    dx, dy = box[2] * abs(c) + box[3] * abs(s) + reach, box[2] * abs(s) + box[3] * abs(c) + reach
    for y in range(max(np.int64(np.floor(box[1] - dy)) - at[0], 0), beside.shape[0]):
        v = y + at[0] + 0.5 - box[1]
        if v > dy:
            break
        for x in range(max(np.int64(np.floor(box[0] - dx)) - at[1], 0), beside.shape[1]):
            u = x + at[1] + 0.5 - box[0]
            if u > dx:
                break
            along = max(abs(c * u + s * v) - box[2], 0.0)
            across = max(abs(c * v - s * u) - box[3], 0.0)
            away = along * along + across * across
            beside[y, x] += np.int16(sign * (away < reach * reach))
            covered[y, x] += np.int16(sign * (away == 0.0))


@njit(cache=True, nogil=True)
def _drive(driven: Array, at: tuple[int, int], ways: Array, wide: float) -> None:
    """Marks the cells within `wide` of (N, 4) ways from x, y to x, y, all in cells."""
    for k in range(ways.shape[0]):
        ax, ay, bx, by = ways[k, 0], ways[k, 1], ways[k, 2], ways[k, 3]
        ex, ey = bx - ax, by - ay
        length2 = ex * ex + ey * ey
        y0, x0 = np.int64(np.floor(min(ay, by) - wide)), np.int64(np.floor(min(ax, bx) - wide))
        y1, x1 = np.int64(np.floor(max(ay, by) + wide)), np.int64(np.floor(max(ax, bx) + wide))
        for y in range(max(y0 - at[0], 0), min(y1 - at[0] + 1, driven.shape[0])):
            for x in range(max(x0 - at[1], 0), min(x1 - at[1] + 1, driven.shape[1])):
                u, v = x + at[1] + 0.5 - ax, y + at[0] + 0.5 - ay
                part = min(max((u * ex + v * ey) / length2, 0.0), 1.0) if length2 > 0.0 else 0.0
                du, dv = u - part * ex, v - part * ey
                if du * du + dv * dv <= wide * wide:
                    driven[y, x] = 1


class Footprints:
    """Draws furniture and trajectory on the floors, and only what is new of them.

    What is drawn follows from the objects, the trajectory and the body alone: it is not stored.
    """

    def __init__(self) -> None:
        self._boxes: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
        """By storey: ids and (N, 6) boxes with the radius that is drawn."""
        self._driven: dict[int, tuple[int, int]] = {}
        """By storey: the trajectory's revision, and how many of its positions are drawn."""

    def draw(self, floor: Floor, height: float, standing: Standing) -> Box | None:
        """Brings what is drawn on a floor up to date; the floor grows where it has to.

        Args:
            floor: the storey.
            height: of the floor [m].
            standing: what is to be drawn.

        Returns:
            a box around all cells that have changed; None where none has.
        """
        parts = [self._draw_boxes(floor, height, standing), self._draw_track(floor, standing.trajectory)]
        boxes = [part for part in parts if part is not None]
        return None if not boxes else boxes[0] if len(boxes) == 1 else boxes[0].joined(boxes[1])

    def _draw_boxes(self, floor: Floor, height: float, standing: Standing) -> Box | None:
        body, low = standing.body, standing.positions[:, 2] - standing.extents[:, 2] / 2 - height
        hits = (low < body.high) & (low + standing.extents[:, 2] > body.low)
        boxes = _boxes(standing, floor.resolution)[hits]
        ids = standing.ids[hits]
        fits = _room(floor, boxes)
        ids, boxes = ids[fits], boxes[fits]
        old_ids, old = self._boxes.get(floor.number, (np.empty(0, np.int64), np.empty((0, 6))))
        gone, new = _unlike(old_ids, old, ids, boxes), _unlike(ids, boxes, old_ids, old)
        self._boxes[floor.number] = ids, boxes
        field = floor.beside, floor.covered, (floor.box.y0, floor.box.x0)
        for rows, sign in ((gone, -1), (new, 1)):
            for row in rows:
                _cover(*field, row, sign)
        changed = np.concatenate([gone, new])
        return _around(changed) if len(changed) else None

    def _draw_track(self, floor: Floor, trajectory: Trajectory | None) -> Box | None:
        if trajectory is None:
            return None
        revision, count = self._driven.get(floor.number, (trajectory.revision, 0))
        self._driven[floor.number] = trajectory.revision, len(trajectory)
        fresh = None
        if revision != trajectory.revision:
            floor.driven[:] = 0
            count, fresh = 0, floor.box
        at = trajectory.positions[max(count - 1, 0) :]
        if count == len(trajectory) or len(at) < 2:
            return fresh
        step = np.diff(at, axis=0)
        known = (step * step).sum(axis=1) <= GAP * GAP
        on = np.abs(at[:, 2] - floor.level) < STOREY
        known &= on[:-1] & on[1:]
        ways = np.concatenate([at[:-1, :2], at[1:, :2]], axis=1)[known] / floor.resolution
        if not len(ways):
            return fresh
        low, high = ways.reshape(-1, 2).min(axis=0) - TRACK, ways.reshape(-1, 2).max(axis=0) + TRACK
        ends = np.stack([low, high])
        floor.hold(np.column_stack([ends, np.zeros(2)]) * floor.resolution)
        _drive(floor.driven, (floor.box.y0, floor.box.x0), ways, TRACK)
        (x0, y0), (x1, y1) = np.floor(ends).astype(np.int64).tolist()
        return Box(y0, x0, y1 + 1, x1 + 1).joined(fresh)


def _boxes(standing: Standing, resolution: float) -> NDArray[np.float64]:
    """Returns (N, 6) [cells]: centre x and y, half edges and yaw of boxes less their hem; the robot's radius.

    In half cells and steps of 3 degrees, so that what is seen again a little better is not drawn anew.
    """
    a, b = standing.extents[:, 0], standing.extents[:, 1]
    c, s, slant = np.abs(np.cos(standing.yaws)), np.abs(np.sin(standing.yaws)), np.cos(2 * standing.yaws)
    with np.errstate(divide="ignore", invalid="ignore"):
        long, wide = (a * c - b * s) / slant, (b * c - a * s) / slant
    square = (a + b) / 2 / (c + s)
    told = (np.abs(slant) >= SLANTED) & (long > 0.0) & (wide > 0.0)
    edges = np.stack([np.where(told, long, square), np.where(told, wide, square)], axis=1)
    halves = edges / 2 - np.minimum(HEM, edges / NARROW)
    step = np.radians(3.0)
    result = np.empty((len(a), 6))
    result[:, :2] = np.round(standing.positions[:, :2] / resolution * 2) / 2
    result[:, 2:4] = np.round(halves / resolution * 2) / 2
    result[:, 4] = np.round(standing.yaws / step) * step
    result[:, 5] = standing.body.radius / resolution
    return result


def _spans(boxes: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns (N, 4) int64 first y and x, end y and x of the cells that (N, 6) boxes reach."""
    reach = (np.sqrt((boxes[:, 2:4] ** 2).sum(axis=1)) + boxes[:, 5] + 1.0)[:, None]
    at = boxes[:, [1, 0]]
    low, high = np.floor(at - reach).astype(np.int64), np.floor(at + reach).astype(np.int64)
    return np.concatenate([low, high + 1], axis=1)


def _around(boxes: NDArray[np.float64]) -> Box:
    """Returns a box around all cells that boxes reach."""
    spans = _spans(boxes)
    return Box(*spans[:, :2].min(axis=0).tolist(), *spans[:, 2:].max(axis=0).tolist())


def _room(floor: Floor, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Makes room for boxes; returns which of them fit: what is far from everything known does not."""
    spans = _spans(boxes)

    def inside() -> NDArray[np.bool_]:
        b = floor.box
        low = (spans[:, 0] >= b.y0) & (spans[:, 1] >= b.x0)
        return np.asarray(low & (spans[:, 2] <= b.y1) & (spans[:, 3] <= b.x1))

    for y0, x0, y1, x1 in spans[~inside()].tolist():
        floor.hold(np.array([[x0 + 0.5, y0 + 0.5, 0.0], [x1 - 0.5, y1 - 0.5, 0.0]]) * floor.resolution)
    return inside()


def _unlike(
    ids: NDArray[np.int64],
    boxes: NDArray[np.float64],
    other_ids: NDArray[np.int64],
    others: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Returns those of the boxes that are not among the others with their id."""
    if not len(other_ids):
        return boxes
    at = np.minimum(np.searchsorted(other_ids, ids), len(other_ids) - 1)
    return boxes[(other_ids[at] != ids) | (others[at] != boxes).any(axis=1)]

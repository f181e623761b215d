"""Rooms: regions of free space between narrow passages and doors, with ids that stay.

Morphological segmentation (survey: Bormann et al., ICRA 2016): free space that is wide
enough is split into connected pieces, and these grow back into the narrow parts. Doors
are cut out. A piece takes the id of the earlier room it overlaps most.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.navigation import Point, centers_of, clearance
from embodied_mem.memory.octree.types import GridMap
from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.memory.scene.grid_kernels import FAR, spread
from embodied_mem.memory.scene.region_kernels import (
    components,
    joined,
    mark_boxes,
    measure,
    nearest_label,
    overlaps,
    renumber,
)

ROOM_WORDS = {
    "kitchen": {"stove", "oven", "fridge", "refrigerator", "sink", "microwave", "dishwasher", "kettle"},
    "bedroom": {"bed", "nightstand", "wardrobe", "pillow"},
    "bathroom": {"toilet", "bathtub", "shower", "washbasin"},
    "living room": {"sofa", "couch", "tv", "television", "armchair"},
    "office": {"desk", "monitor", "printer", "keyboard"},
    "dining room": {"diningtable"},
}
"""Words of object labels that tell what a room is for."""

WIDE_BORDER = 1.5
"""Pieces whose common border is longer than this many passage widths are one room."""

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Room:
    """A region of free space.

    Attributes:
        id: stable, never reused.
        position: (3,) float64 [m], the centre of its roomiest cell, map frame.
        extent: (3,) float64 [m], edges of the box around it; no height.
        area: [m^2] of floor known so far.
        place_ids: the places in it.
        name: from the objects in it, or "room 3".
    """

    id: int
    position: NDArray[np.float64]
    extent: NDArray[np.float64]
    area: float
    place_ids: tuple[int, ...]
    name: str


def boundary_mask(
    grid: GridMap, positions: NDArray[np.float64], extents: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Returns (H, W) bool: the cells under doors, at least one each.

    Args:
        grid: the grid map.
        positions: (N, 3) float64 [m] of the doors' centres, map frame.
        extents: (N, 3) float64 [m] of the boxes around them.
    """
    mask = np.zeros(grid.cells.shape, bool)
    corner = np.asarray(grid.origin, np.float64)
    mark_boxes(mask, positions, extents, corner, 1.0 / grid.resolution)
    return mask


def segment(
    free: NDArray[np.bool_], wide: NDArray[np.bool_], least: float, border: float
) -> tuple[NDArray[np.int32], int]:
    """Splits free space into rooms.

    Args:
        free: (H, W) bool, free cells without doors.
        wide: (H, W) bool, cells with room around them.
        least: fewest cells of a room.
        border: pieces that share more pairs of cells are one room: what lies between them is
            furniture with several gaps, and not a door.

    Returns:
        (H, W) int32 labels from 0 in reading order, -1 for none, and their number.
    """
    seeds = np.full(free.shape, -1, np.int32)
    count = components(free & wide, 0.25 * least, seeds, 0)
    labels = _grown(free, seeds)
    if count > 1:
        roots = np.append(joined(labels, count, border), np.int32(-1))
        seeds, labels = roots[seeds], roots[labels]
    small = np.append(np.bincount(labels[labels >= 0], minlength=count) < least, False)
    if small[seeds].any():
        seeds[small[seeds]] = -1  # their cells go to the neighbours
        labels = _grown(free, seeds)
    count = components(free & (labels < 0), least, labels, count)
    return labels, renumber(labels, count)


def _grown(free: NDArray[np.bool_], seeds: NDArray[np.int32]) -> NDArray[np.int32]:
    """Returns the label of the seed that is nearest to each free cell along a path."""
    cells = np.flatnonzero(seeds >= 0)
    labels = np.full(free.shape, -1, np.int32)
    spread(free, cells, seeds.reshape(-1)[cells], False, np.full(free.shape, FAR, np.int32), labels)
    return labels


class Rooms:
    """The rooms of one storey, as a raster of their rows.

    Args:
        config: width of passages, least area, reach.
    """

    def __init__(self, config: SceneConfig) -> None:
        self.config = config
        self.next_id = 0
        self.resolution = 1.0
        self.ids = np.empty(0, np.int64)
        """Ascending; `raster` holds indices into it, -1 where there is no room."""
        self.raster = np.empty((0, 0), np.int32)
        self.corner = (0, 0)
        """(y, x) of the raster's first cell, counted in cells from the map's origin."""
        self.positions = np.empty((0, 3))
        self.boxes = np.empty((0, 4), np.int64)
        """Lowest and highest y, lowest and highest x, in cells from the map's origin."""
        self.sizes = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def update(self, grid: GridMap, doors: NDArray[np.bool_]) -> list[int]:
        """Finds the rooms of a changed map; returns the ids of rooms that are no more.

        Args:
            grid: the grid map.
            doors: (H, W) bool, cells under doors.
        """
        config, resolution = self.config, grid.resolution
        room = clearance(grid.cells > 0, resolution)
        free = (grid.cells == 0) & ~doors
        wide = room >= config.passage_width / 2
        border = WIDE_BORDER * config.passage_width / resolution
        labels, count = segment(free, wide, config.room_area / resolution**2, border)
        corner = (_cells(grid.origin[1], resolution), _cells(grid.origin[0], resolution))
        found = self._identify(labels, count, corner)
        gone = sorted(set(self.ids.tolist()) - set(found.tolist()))
        order = np.argsort(found)
        rank = np.empty(count + 1, np.int32)
        rank[order], rank[count] = np.arange(count), -1
        measures = measure(labels, count, room)[order]
        self.ids = found[order]
        self.raster, self.corner, self.resolution = rank[labels], corner, resolution
        self.sizes = measures[:, 0]
        self.positions = centers_of(grid, measures[:, 1])
        self.boxes = measures[:, 2:] + np.array([corner[0], corner[0], corner[1], corner[1]])
        return gone

    def _identify(self, labels: Array, count: int, corner: tuple[int, int]) -> NDArray[np.int64]:
        """Returns (count,) int64 ids: that of the earlier room with the largest overlap, or new ones."""
        dy, dx = corner[0] - self.corner[0], corner[1] - self.corner[1]
        shared = overlaps(labels, count, self.raster, dy, dx, len(self.ids))
        new, old = np.nonzero(shared)
        result = np.full(count, -1, np.int64)
        taken: set[int] = set()
        for i in np.lexsort((new, old, -shared[new, old])).tolist():
            if result[new[i]] < 0 and int(old[i]) not in taken:
                taken.add(int(old[i]))
                result[new[i]] = self.ids[old[i]]
        for i in np.flatnonzero(result < 0).tolist():
            result[i] = self.next_id
            self.next_id += 1
        return result

    def at(self, position: Point) -> int:
        """Returns the id of the room at a position, or of the nearest one within `room_reach`, or -1."""
        px, py = float(position[0]), float(position[1])
        if len(self.ids) == 0 or not (math.isfinite(px) and math.isfinite(py)):
            return -1
        y = math.floor(py / self.resolution) - self.corner[0]
        x = math.floor(px / self.resolution) - self.corner[1]
        row = nearest_label(self.raster, y, x, self.config.room_reach / self.resolution)
        return int(self.ids[row]) if row >= 0 else -1

    def rows(self, positions: NDArray[np.float64]) -> NDArray[np.int64]:
        """Returns (N,) int64 rows of the rooms whose floor (N, 3) positions are on, -1 for none."""
        height, width = self.raster.shape
        y = np.floor(positions[:, 1] / self.resolution).astype(np.int64) - self.corner[0]
        x = np.floor(positions[:, 0] / self.resolution).astype(np.int64) - self.corner[1]
        inside = (y >= 0) & (x >= 0) & (y < height) & (x < width)
        result = np.full(len(positions), -1, np.int64)
        result[inside] = self.raster[y[inside], x[inside]]
        return result

    def index(self, room_id: int) -> int:
        """Returns the row of an id, or -1."""
        row = int(np.searchsorted(self.ids, room_id))
        return row if row < len(self.ids) and self.ids[row] == room_id else -1

    def extents(self) -> NDArray[np.float64]:
        """Returns (R, 3) float64 [m]: edges of the boxes around the rooms; no height."""
        result = np.zeros((len(self.ids), 3))
        result[:, 0] = (self.boxes[:, 3] - self.boxes[:, 2] + 1) * self.resolution
        result[:, 1] = (self.boxes[:, 1] - self.boxes[:, 0] + 1) * self.resolution
        return result

    def payloads(self) -> dict[int, dict[str, Any]]:
        """Returns every room by id as plain values; its cells as runs (y, first x, last x)."""
        padded = np.pad(self.raster, ((0, 0), (1, 1)), constant_values=-1)
        change = padded[:, 1:] != padded[:, :-1]
        starts = np.argwhere(change & (padded[:, 1:] >= 0))
        ends = np.argwhere(change & (padded[:, :-1] >= 0))
        rows = self.raster[starts[:, 0], starts[:, 1]] if len(starts) else np.empty(0, np.int32)
        runs = np.stack([starts[:, 0], starts[:, 1], ends[:, 1] - 1], axis=1)
        runs += np.array([self.corner[0], self.corner[1], self.corner[1]])
        return {
            room_id: {
                "id": room_id,
                "resolution": self.resolution,
                "position": self.positions[row].tolist(),
                "runs": runs[rows == row].ravel().tolist(),
            }
            for row, room_id in enumerate(self.ids.tolist())
        }

    def restore(self, payloads: list[dict[str, Any]]) -> None:
        """Replaces all rooms by those of `payloads`, in any order."""
        self.__init__(self.config)  # type: ignore[misc]
        if not payloads:
            return
        ordered = sorted(payloads, key=lambda p: int(p["id"]))
        runs = [np.array(p["runs"], np.int64).reshape(-1, 3) for p in ordered]
        self.boxes = np.array([[r[:, 0].min(), r[:, 0].max(), r[:, 1].min(), r[:, 2].max()] for r in runs])
        self.sizes = np.array([int((r[:, 2] - r[:, 1] + 1).sum()) for r in runs], np.int64)
        self.ids = np.array([p["id"] for p in ordered], np.int64)
        self.positions = np.array([p["position"] for p in ordered])
        self.resolution = float(ordered[0]["resolution"])
        low, high = self.boxes.min(axis=0), self.boxes.max(axis=0)
        self.corner = (int(low[0]), int(low[2]))
        self.raster = np.full((high[1] - low[0] + 1, high[3] - low[2] + 1), -1, np.int32)
        for row, r in enumerate(runs):
            for y, x0, x1 in (r - np.array([low[0], low[2], low[2]])).tolist():
                self.raster[y, x0 : x1 + 1] = row


def room_name(room_id: int, inside: Sequence[str], elsewhere: Sequence[str]) -> str:
    """Names a room after the things in it.

    Args:
        room_id: its id, for "room 3" where nothing tells it apart.
        inside: label names of the objects in it, without doors.
        elsewhere: label names of the objects in other rooms.

    Returns:
        what it is for ("kitchen") where its things tell, or the first, by name, of the things
        that only it has ("green key room").
    """
    votes: Counter[str] = Counter()
    for name in inside:
        words = set(re.findall(r"\w+", name.lower()))
        votes.update(use for use, telling in ROOM_WORDS.items() if words & telling)
    if votes:
        return min(votes, key=lambda use: (-votes[use], use))
    own = sorted(set(inside) - set(elsewhere))
    return f"{own[0]} room" if own else f"room {room_id}"


def _cells(metres: float, resolution: float) -> int:
    return int(np.floor(float(metres) / resolution + 0.5))

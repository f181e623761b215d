"""Rooms: regions of free space between narrow passages and doors, with ids that stay.

Morphological segmentation (survey: Bormann et al., ICRA 2016): free space that is wide
enough is split into connected pieces, and these grow back into the narrow parts. Doors
are cut out. A piece takes the id of the earlier room it overlaps most. Where walls can be
told from furniture by their height, a room is what lies between walls, furniture included.
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

from embodied_mem.memory.navigation import Point, clearance
from embodied_mem.memory.octree.types import GridMap
from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.memory.scene.field_kernels import narrow_passages
from embodied_mem.memory.scene.floor import Box, Floor, box_of
from embodied_mem.memory.scene.floors import Floors
from embodied_mem.memory.scene.region_kernels import gateways, measure, nearest_label, overlaps
from embodied_mem.memory.scene.segmentation import segment

ROOM_WORDS = {
    "kitchen": {"stove", "oven", "fridge", "refrigerator", "sink", "microwave", "dishwasher", "kettle"},
    "bedroom": {"bed", "nightstand", "wardrobe", "pillow"},
    "bathroom": {"toilet", "bathtub", "shower", "washbasin"},
    "living room": {"sofa", "couch", "tv", "television", "armchair"},
    "office": {"desk", "monitor", "printer", "keyboard"},
    "dining room": {"diningtable"},
}
"""Words of object labels that tell what a room is for."""

REACH = 6.0
"""Rooms are found anew up to this far from what has changed; what they have beyond it stays theirs [m]."""
FOR_SURE = 1 << 40
"""More cells than any overlap has."""
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
        area: [m^2] of floor known so far, with what stands on it where rooms lie between walls.
        place_ids: the places in it.
        name: from the objects in it, or "room 3".
    """

    id: int
    position: NDArray[np.float64]
    extent: NDArray[np.float64]
    area: float
    place_ids: tuple[int, ...]
    name: str


def door_boxes(
    resolution: float, positions: NDArray[np.float64], extents: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Returns (N, 4) int64: the cells under doors, at least one each: lowest and highest y, then x.

    Args:
        resolution: edge of a cell [m].
        positions: (N, 3) float64 [m] of the doors' centres, map frame.
        extents: (N, 3) float64 [m] of the boxes around them.
    """
    middle, half = positions[:, :2] / resolution, 0.5 * extents[:, :2] / resolution
    own = np.floor(middle)
    low = np.minimum(own, np.ceil(middle - half - 0.5 - 1e-6)).astype(np.int64)
    high = np.maximum(own, np.floor(middle + half - 0.5 + 1e-6)).astype(np.int64)
    return np.stack([low[:, 1], high[:, 1], low[:, 0], high[:, 0]], axis=1)


def mark_doors(window: Box, doors: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns (H, W) bool: which cells of a window are under doors (`door_boxes`)."""
    mask = np.zeros((window.y1 - window.y0, window.x1 - window.x0), bool)
    for y0, y1, x0, x1 in doors[window.meets(doors)].tolist():
        cells = Box(y0, x0, y1 + 1, x1 + 1).within(window)
        mask[cells.y0 - window.y0 : cells.y1 - window.y0, cells.x0 - window.x0 : cells.x1 - window.x0] = True
    return mask


def beyond(floor: Floor, window: Box, rooms: NDArray[np.int64]) -> NDArray[np.int32] | None:
    """Returns (H, W) int32: where rooms go on beyond a window, as indices into (R,) rooms, else -1.

    None where none does.
    """
    ring = window.grown(1).within(floor.box)
    outer = np.full((window.y1 - window.y0 + 2, window.x1 - window.x0 + 2), -1, np.int64)
    at = slice(ring.y0 - window.y0 + 1, ring.y1 - window.y0 + 1)
    across = slice(ring.x0 - window.x0 + 1, ring.x1 - window.x0 + 1)
    outer[at, across] = floor.rooms[floor.slices(ring)]
    inner = outer[1:-1, 1:-1]
    result = np.full(inner.shape, -1, np.int32)
    ends: tuple[tuple[Any, Array], ...] = (
        ((0, slice(None)), outer[0, 1:-1]),
        ((-1, slice(None)), outer[-1, 1:-1]),
        ((slice(None), 0), outer[1:-1, 0]),
        ((slice(None), -1), outer[1:-1, -1]),
    )
    for edge, other in ends:
        on = (inner[edge] == other) & np.isin(other, rooms)
        result[edge] = np.where(on, np.searchsorted(rooms, other), result[edge])
    return result if (result >= 0).any() else None


def between(
    cells: NDArray[np.int8], window: Box, walls: GridMap
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Returns (H, W) bool, what lies between walls, and (H, W) float64 [m], how far it is from them.

    Where nothing is known as high as walls, the grid map tells.

    Args:
        cells: (H, W) int8 of the grid map in a window.
        window: where they lie.
        walls: what is as high as walls.
    """
    high = np.full(cells.shape, -1, np.int8)
    whole = box_of(walls) if walls.cells.size else Box(0, 0, 0, 0)
    both = whole.within(window)
    if both.size:
        part = walls.cells[both.y0 - whole.y0 : both.y1 - whole.y0, both.x0 - whole.x0 : both.x1 - whole.x0]
        high[both.y0 - window.y0 : both.y1 - window.y0, both.x0 - window.x0 : both.x1 - window.x0] = part
    blocked = (high > 0) | ((high < 0) & (cells > 0))
    return ~blocked & ((high == 0) | (cells == 0)), clearance(blocked, walls.resolution)


class Rooms:
    """The rooms of all storeys; which cell belongs to which is on the floors.

    Args:
        config: width of passages, least area, reach.
        floors: where they lie.
    """

    def __init__(self, config: SceneConfig, floors: Floors) -> None:
        self.config, self.floors = config, floors
        self.next_id = 0
        self.ids = np.empty(0, np.int64)
        """Ascending."""
        self.storeys = np.empty(0, np.int64)
        """(R,) numbers of the floors they lie on."""
        self.positions = np.empty((0, 3))
        self.boxes = np.empty((0, 4), np.int64)
        """Lowest and highest y, lowest and highest x, in cells from the map's origin."""
        self.sizes = np.empty(0, np.int64)
        self.gateways = np.empty(0, np.int64)
        """(G,) flat cells on the floor of the last update: the middles of passages from room to room."""
        self.changed: set[int] = set()
        """Ids of rooms that are no longer as the last export had them."""

    def __len__(self) -> int:
        return len(self.ids)

    def update(
        self, floor: Floor, where: Box, doors: NDArray[np.int64], walls: GridMap | None = None
    ) -> list[int]:
        """Finds the rooms anew whose floor has changed; returns the ids of rooms that are no more.

        Rooms that have no cell near the change stay as they are.

        Args:
            floor: the storey.
            where: all cells that have changed lie in it.
            doors: (D, 4) int64 cells under doors: lowest and highest y, lowest and highest x.
            walls: what is as high as walls, of the floor's resolution; None where that is not looked at.
        """
        config, resolution = self.config, floor.resolution
        width = config.passage_width / resolution
        halo = math.ceil(width / 2) + 1
        near = where.grown(halo).within(floor.box)
        met = np.zeros(self.next_id + 1, bool)
        met[floor.rooms[floor.slices(near)]] = True
        old = np.flatnonzero(met[:-1])
        rows = np.searchsorted(self.ids, old)
        window = near
        if len(rows):
            low, high = self.boxes[rows].min(axis=0), self.boxes[rows].max(axis=0)
            window = window.joined(Box(int(low[0]), int(low[2]), int(high[1]) + 1, int(high[3]) + 1))
        window = window.grown(halo + 1).within(floor.box)
        window = window.within(near.grown(math.ceil(REACH / resolution)))
        at = floor.slices(window)
        cells, raster = floor.cells[at], floor.rooms[at]
        room = clearance(cells > 0, resolution)
        open_, inner = (cells == 0, room) if walls is None else between(cells, window, walls)
        free = open_ & ~mark_doors(window, doors)
        place = np.full(self.next_id + 1, -1, np.int32)  # of each id in `old`; the last for cells of no room
        place[old] = np.arange(len(old))
        before = place[raster]
        free &= (raster < 0) | (before >= 0)
        wide = inner >= config.passage_width / 2
        if width <= 1.5:  # a gap in a wall is one cell wide: no clearance tells it from a room
            wide &= ~narrow_passages(np.ascontiguousarray(cells))
        anchors = beyond(floor, window, old)
        least, border = config.room_area / resolution**2, WIDE_BORDER * width
        labels, count = segment(free, wide, least, border, anchors)
        found = self._identify(labels, count, before, old, anchors)
        gates = gateways(labels, count, room)
        across = window.x1 - window.x0
        self.gateways = floor.flat(gates // across + window.y0, gates % across + window.x0)
        measures = measure(labels, count, room)
        names = np.append(found, -1).astype(np.int32)
        mine = free | (before >= 0)
        raster[mine] = names[labels[mine]]
        return self._replace(floor, window, old, found, measures)

    def _identify(
        self, labels: Array, count: int, rows: Array, old: Array, anchors: Array | None
    ) -> NDArray[np.int64]:
        """Returns (count,) int64 ids: that of the earlier room with the largest overlap, or new ones."""
        shared = overlaps(labels, count, rows, 0, 0, len(old))
        if anchors is not None:  # what goes on beyond the window is the room that it goes on as
            held = (anchors >= 0) & (labels >= 0)
            shared[labels[held], anchors[held]] += FOR_SURE
        new, earlier = np.nonzero(shared)
        result = np.full(count, -1, np.int64)
        taken: set[int] = set()
        for i in np.lexsort((new, earlier, -shared[new, earlier])).tolist():
            if result[new[i]] < 0 and int(earlier[i]) not in taken:
                taken.add(int(earlier[i]))
                result[new[i]] = old[earlier[i]]
        for i in np.flatnonzero(result < 0).tolist():
            result[i] = self.next_id
            self.next_id += 1
        return result

    def _replace(self, floor: Floor, window: Box, old: Array, found: Array, measures: Array) -> list[int]:
        """Puts the found rooms in the place of the old ones; returns the ids of those that are no more."""
        rows = np.searchsorted(self.ids, old)
        before = {
            room_id: (self.boxes[row], self.positions[row])
            for room_id, row in zip(old.tolist(), rows.tolist())
        }
        width = window.x1 - window.x0
        y, x = measures[:, 1] // width + window.y0, measures[:, 1] % width + window.x0
        fresh = {
            "ids": found,
            "storeys": np.full(len(found), floor.number, np.int64),
            "positions": floor.centers(floor.flat(y, x)),
            "boxes": measures[:, 2:] + np.array([window.y0, window.y0, window.x0, window.x0]),
            "sizes": measures[:, 0],
        }
        keep = ~np.isin(self.ids, old)
        joined = {name: np.concatenate([getattr(self, name)[keep], fresh[name]]) for name in fresh}
        order = np.argsort(joined["ids"])
        for name, array in joined.items():
            setattr(self, name, array[order])
        for room_id in np.intersect1d(old, found).tolist():
            self._measure_beyond(floor, window, before[room_id], self.index(room_id))
        gone = sorted(set(old.tolist()) - set(found.tolist()))
        self.changed.update(found.tolist())
        self.changed.difference_update(gone)
        return gone

    def _measure_beyond(self, floor: Floor, window: Box, before: tuple[Array, Array], row: int) -> None:
        """Measures a room again that is larger than the window in which it was found anew."""
        (y0, y1, x0, x1), position = before[0].tolist(), before[1]
        old = Box(y0, x0, y1 + 1, x1 + 1)
        if old.within(window) == old:
            return
        (y0, y1, x0, x1) = self.boxes[row].tolist()
        whole = old.joined(Box(y0, x0, y1 + 1, x1 + 1))
        mine = floor.rooms[floor.slices(whole)] == self.ids[row]
        down, right = np.flatnonzero(mine.any(axis=1)), np.flatnonzero(mine.any(axis=0))
        self.sizes[row] = int(mine.sum())
        self.boxes[row] = [
            whole.y0 + down[0],
            whole.y0 + down[-1],
            whole.x0 + right[0],
            whole.x0 + right[-1],
        ]
        y, x = (int(v[0]) for v in floor.cells_of(position[None]))
        if not (window.y0 <= y < window.y1 and window.x0 <= x < window.x1):
            self.positions[row] = position

    def at(self, position: Point) -> int:
        """Returns the id of the room at a position, or of the nearest one within `room_reach`, or -1."""
        px, py = float(position[0]), float(position[1])
        floor = self.floors.at(position)
        if floor is None or len(self.ids) == 0 or not (math.isfinite(px) and math.isfinite(py)):
            return -1
        return int(
            nearest_label(floor.rooms, *floor.cell_of(px, py), self.config.room_reach / floor.resolution)
        )

    def rows(self, positions: NDArray[np.float64]) -> NDArray[np.int64]:
        """Returns (N,) int64 rows of the rooms whose floor (N, 3) positions are on, -1 for none."""
        if len(self.floors) == 1:
            return self._rows_on(self.floors[0], positions)
        result = np.full(len(positions), -1, np.int64)
        on = np.array([-1 if (f := self.floors.at(p)) is None else f.number for p in positions], np.int64)
        for number in np.unique(on[on >= 0]).tolist():
            some = np.flatnonzero(on == number)
            result[some] = self._rows_on(self.floors[number], positions[some])
        return result

    def _rows_on(self, floor: Floor, positions: NDArray[np.float64]) -> NDArray[np.int64]:
        """Returns (N,) int64 rows of the rooms in which (N, 3) positions are on a floor, -1 for none."""
        if not floor.rooms.size:
            return np.full(len(positions), -1, np.int64)
        flat = floor.flat(*floor.cells_of(positions))
        ids = np.where(flat >= 0, floor.rooms.reshape(-1)[flat], -1)
        return np.where(ids >= 0, self.ids.searchsorted(ids), -1)

    def index(self, room_id: int) -> int:
        """Returns the row of an id, or -1."""
        row = int(np.searchsorted(self.ids, room_id))
        return row if row < len(self.ids) and self.ids[row] == room_id else -1

    def resolution(self, row: int) -> float:
        """Returns the edge of a room's cells [m]."""
        return self.floors[int(self.storeys[row])].resolution

    def areas(self) -> NDArray[np.float64]:
        """Returns (R,) float64 [m^2]: floor known of each room."""
        edges = np.array([self.resolution(row) for row in range(len(self))])
        return self.sizes * edges**2

    def extents(self) -> NDArray[np.float64]:
        """Returns (R, 3) float64 [m]: edges of the boxes around the rooms; no height."""
        edges = np.array([self.resolution(row) for row in range(len(self))])
        result = np.zeros((len(self.ids), 3))
        result[:, 0] = (self.boxes[:, 3] - self.boxes[:, 2] + 1) * edges
        result[:, 1] = (self.boxes[:, 1] - self.boxes[:, 0] + 1) * edges
        return result

    def payload(self, room_id: int) -> dict[str, Any]:
        """Returns a room as plain values; its cells as runs (y, first x, last x)."""
        row = self.index(room_id)
        floor = self.floors[int(self.storeys[row])]
        y0, y1, x0, x1 = self.boxes[row].tolist()
        mine = floor.rooms[floor.slices(Box(y0, x0, y1 + 1, x1 + 1))] == room_id
        padded = np.pad(mine, ((0, 0), (1, 1)))
        starts = np.argwhere(padded[:, 1:] & ~padded[:, :-1])
        ends = np.argwhere(~padded[:, 1:] & padded[:, :-1])
        runs = np.stack([starts[:, 0] + y0, starts[:, 1] + x0, ends[:, 1] - 1 + x0], axis=1)
        return {
            "id": room_id,
            "storey": floor.number,
            "position": self.positions[row].tolist(),
            "runs": runs.ravel().tolist(),
        }

    def payloads(self) -> dict[int, dict[str, Any]]:
        """Returns every room by id as plain values."""
        return {room_id: self.payload(room_id) for room_id in self.ids.tolist()}

    def restore(self, payloads: list[dict[str, Any]]) -> None:
        """Replaces all rooms by those of `payloads`, in any order; the floors must be there."""
        self.__init__(self.config, self.floors)  # type: ignore[misc]
        if not payloads:
            return
        ordered = sorted(payloads, key=lambda p: int(p["id"]))
        runs = [np.array(p["runs"], np.int64).reshape(-1, 3) for p in ordered]
        self.boxes = np.array([[r[:, 0].min(), r[:, 0].max(), r[:, 1].min(), r[:, 2].max()] for r in runs])
        self.sizes = np.array([int((r[:, 2] - r[:, 1] + 1).sum()) for r in runs], np.int64)
        self.ids = np.array([p["id"] for p in ordered], np.int64)
        self.positions = np.array([p["position"] for p in ordered])
        self.storeys = np.array([p.get("storey", 0) for p in ordered], np.int64)
        for room_id, box, storey, r in zip(self.ids.tolist(), self.boxes.tolist(), self.storeys, runs):
            floor = self.floors[int(storey)]
            floor.reserve(Box(box[0], box[2], box[1] + 1, box[3] + 1))
            for y, x0, x1 in (r - np.array([floor.box.y0, floor.box.x0, floor.box.x0])).tolist():
                floor.rooms[y, x0 : x1 + 1] = room_id


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

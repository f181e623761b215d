"""Places: a sparse topological graph of the free space, kept up to date where the map changes.

Every place owns the free cells that are nearest to it along a path (a geodesic Voronoi
diagram). Two places are joined by an edge where the straight line between them is free, or
where their cells touch: so every edge can be walked, and places that can be reached from
each other through roomy space are connected.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.navigation import Point, clearance, nearest_traversable
from embodied_mem.memory.octree.types import GridMap
from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.memory.scene.field_kernels import borders, cover, repair, rooms_around, uncovered
from embodied_mem.memory.scene.floor import Box, Floor
from embodied_mem.memory.scene.floors import Floors
from embodied_mem.memory.scene.grid_kernels import STRAIGHT
from embodied_mem.memory.scene.line_kernels import bends, sightlines
from embodied_mem.memory.scene.links import Links, least
from embodied_mem.memory.scene.plain import plain_rows, rows_of
from embodied_mem.memory.scene.ways import trace, walked

REACH = 1.5
"""Cells farther than this from every place, in spacings along a path, are nobody's."""
ROOMY = 1.5
"""More clearance than this makes no difference [m]."""
SIGHT = 2.5
"""Places are joined by straight edges up to this many spacings long."""
ASIDE = 0.3
"""Where something stands in the way of a place, free floor this near is as good [m]."""
GATEWAY = 0.4
"""A passage with a place this near needs none of its own [m]."""

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Place:
    """A node of the topological graph.

    Attributes:
        id: stable, never reused.
        position: (3,) float64 [m], a cell's centre on the floor, map frame.
        clearance: distance to the nearest cell that is not known to be free [m], at most `ROOMY`.
        visits: how often the agent came here.
        last_visit: when it was last here [ns]; -1 where never.
        room_id: the room it is in, or -1.
        level: height of the floor it is on [m].
    """

    id: int
    position: NDArray[np.float64]
    clearance: float
    visits: int
    last_visit: int
    room_id: int
    level: float = 0.0


class Places:
    """All places, as parallel arrays in the order of their ids, and the edges between them.

    Args:
        config: spacing and clearance.
        floors: where they lie; the fields on them are kept here.
    """

    def __init__(self, config: SceneConfig, floors: Floors) -> None:
        self.config, self.floors = config, floors
        self.next_id = 0
        self.ids = np.empty(0, np.int64)
        self.positions = np.empty((0, 3))
        self.clearances = np.empty(0)
        self.visits = np.empty(0, np.int64)
        self.last_visits = np.empty(0, np.int64)
        self.storeys = np.empty(0, np.int64)
        """(P,) numbers of the floors they lie on."""
        self.links = Links()
        self.changed: set[int] = set()
        """Ids of places that are no longer as the last export had them."""

    def __len__(self) -> int:
        return len(self.ids)

    def index(self, place_id: int) -> int:
        """Returns the row of an id, or -1."""
        row = int(np.searchsorted(self.ids, place_id))
        return row if row < len(self.ids) and self.ids[row] == place_id else -1

    def cells(self, floor: Floor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns (N,) int64 rows of the places on a floor and their flat cells."""
        rows = np.flatnonzero(self.storeys == floor.number)
        flat = floor.flat(*floor.cells_of(self.positions[rows]))
        return rows[flat >= 0], flat[flat >= 0]

    def settle(self, floor: Floor, changed: Array, position: NDArray[np.float64] | None) -> list[int]:
        """Brings places and edges in line with cells that have changed; returns ids of removed places.

        Places that were never visited and turn out to be blocked are removed; those that were visited move
        to free floor, if some is near. The agent's own position and all roomy free space are covered by
        places at most `place_spacing` apart.

        Args:
            floor: has the changed cells.
            changed: (C,) int64 their flat indices.
            position: (3,) [m] of the agent, map frame; None where it needs no place here.
        """
        box = floor.around(changed) or Box(0, 0, 0, 0)
        rows, y, x = self._near(floor, box)
        flat = floor.flat(y, x)
        blocked = floor.cells.reshape(-1)[flat] > 0
        turned = np.zeros(0, np.int64)
        gone: list[int] = []
        if len(changed) and blocked.any():
            turned = flat[blocked & np.isin(flat, changed)]
            lost = rows[blocked & (self.visits[rows] == 0)]
            gone = self.ids[lost].tolist()
        seeds, ids = flat[~blocked], self.ids[rows[~blocked]]
        aside = self._step_aside(floor, rows[blocked & (self.visits[rows] > 0)])
        seeds, ids = np.concatenate([seeds, aside[0]]), np.concatenate([ids, aside[1]])
        if gone:
            self._remove(gone)
        touched, before = self._repair(floor, changed, turned, seeds, ids)
        if position is not None and not self.covers(position):
            self.add_at(position, floor)
            flat = floor.flat(*floor.cells_of(self.positions[-1:]))
            flat = flat[flat >= 0]
            more, was = self._repair(
                floor, np.empty(0, np.int64), turned[:0], flat, self.ids[-1:][: len(flat)]
            )
            touched, before = np.concatenate([touched, more]), np.concatenate([before, was])
        around = floor.around(np.concatenate([changed, touched]))
        if around is None:
            return gone
        more, was = self._cover(floor, around)
        touched, before = np.concatenate([touched, more]), np.concatenate([before, was])
        around = around.joined(floor.around(more))
        self._measure(floor, around)
        self._join(floor, around, before, gone)
        return gone

    def add_gateways(self, floor: Floor, cells: Array) -> None:
        """Makes places in passages from room to room, where there is none near: ways lead straight through.

        Args:
            floor: the storey.
            cells: (G,) int64 flat cells of the passages.
        """
        none = np.empty(0, np.int64)
        parts = []
        for cell in cells.tolist():
            near = floor.dist.reshape(-1)[cell] * floor.resolution / STRAIGHT <= GATEWAY
            if near or floor.cells.reshape(-1)[cell] != 0:
                continue
            seed = np.array([cell], np.int64)
            self._append(floor.centers(seed)[0], floor.number)
            parts.append(self._repair(floor, none, none, seed, self.ids[-1:]))
        if not parts:
            return
        touched, before = (np.concatenate(part) for part in zip(*parts))
        around = floor.around(touched)
        assert around is not None
        self._measure(floor, around)
        self._join(floor, around, before, [])

    def _step_aside(self, floor: Floor, rows: Array) -> tuple[Array, Array]:
        """Moves blocked places to free floor near them; returns flat cells and ids of those that moved."""
        origin = np.array([floor.box.x0, floor.box.y0]) * floor.resolution
        grid = GridMap(floor.cells, origin, floor.resolution, floor.height)
        cells = [nearest_traversable(grid, position, ASIDE) for position in self.positions[rows]]
        flat = np.array(cells, np.int64)
        found = (flat >= 0) & (floor.dist.reshape(-1)[flat] > 0)  # and no other place is there
        self.positions[rows[found]] = floor.centers(flat[found])
        self.changed.update(self.ids[rows[found]].tolist())
        return flat[found], self.ids[rows[found]]

    def _repair(
        self, floor: Floor, changed: Array, gone: Array, seeds: Array, ids: Array
    ) -> tuple[Array, Array]:
        field = floor.cells, floor.dist, floor.own, floor.mark
        ids = np.asarray(ids, np.int32)
        return repair(*field, changed, gone, seeds, ids, self.config.diagonal, self.reach(floor))

    def _spacing(self, floor: Floor) -> float:
        return self.config.place_spacing / floor.resolution * STRAIGHT

    def _cover(self, floor: Floor, around: Box) -> tuple[Array, Array]:
        """Makes places where roomy free cells near a box are too far from one; returns touched cells."""
        config, resolution = self.config, floor.resolution
        none = np.empty(0, np.int64)
        look = around.grown(int(config.place_clearance / resolution) + 2).within(floor.box)
        y, x = floor.slices(look)
        spacing = self._spacing(floor)
        free = uncovered(floor.cells, floor.dist, y.start, x.start, y.stop, x.stop, spacing)
        near = floor.around(free)
        if near is None:
            return none, none
        window = near.grown(math.ceil(ROOMY / resolution) + 1).within(floor.box)
        blocked = floor.cells[floor.slices(window)] != 0
        room = np.minimum(clearance(blocked, resolution), ROOMY)
        width = floor.cells.shape[1]
        fy, fx = floor.slices(window)
        candidates = room[free // width - fy.start, free % width - fx.start]
        roomy = candidates >= config.place_clearance
        free, candidates = free[roomy], candidates[roomy]
        field = floor.cells, floor.dist, floor.own, floor.mark
        found, touched, before = cover(
            *field, free, candidates, spacing, self.next_id, config.diagonal, self.reach(floor)
        )
        for center in floor.centers(found):
            self._append(center, floor.number)
        return touched, before

    def _measure(self, floor: Floor, around: Box) -> None:
        """Measures the clearance of the places near a box."""
        most = math.ceil(ROOMY / floor.resolution)
        rows, y, x = self._near(floor, around.grown(most + 1))
        rooms = rooms_around(floor.cells, y - floor.box.y0, x - floor.box.x0, most + 1)
        rooms = np.minimum(np.maximum(rooms - 0.5, 0.0) * floor.resolution, ROOMY)
        other = rooms != self.clearances[rows]
        self.clearances[rows] = rooms
        self.changed.update(self.ids[rows[other]].tolist())

    def _near(self, floor: Floor, box: Box) -> tuple[Array, Array, Array]:
        """Returns rows of the places of a floor in a box, and the y and x of their cells."""
        box, scale = box.within(floor.box), 1.0 / floor.resolution
        y, x = self.positions[:, 1] * scale, self.positions[:, 0] * scale
        inside = (y >= box.y0) & (y < box.y1) & (x >= box.x0) & (x < box.x1)
        rows = np.flatnonzero(inside & (self.storeys == floor.number))
        return rows, *floor.cells_of(self.positions[rows])

    def _join(self, floor: Floor, around: Box, before: Array, gone: list[int]) -> None:
        """Makes the edges anew that may have changed with the cells of a box."""
        look = around.grown(1).within(floor.box)
        chosen = np.zeros(self.next_id + 1, bool)  # the last for the cells that are nobody's
        chosen[floor.own[floor.slices(look)]] = chosen[before] = chosen[gone] = True
        chosen = chosen[:-1]
        chosen_ids = np.flatnonzero(chosen)
        rows = np.searchsorted(self.ids, chosen_ids)
        rows = rows[(rows < len(self)) & (self.ids[np.minimum(rows, len(self) - 1)] == chosen_ids)]
        if len(rows):
            y, x = floor.cells_of(self.positions[rows])
            reach = self.reach(floor) // STRAIGHT + 1
            box = Box(int(y.min()), int(x.min()), int(y.max()) + 1, int(x.max()) + 1)
            sy, sx = floor.slices(box.grown(reach + 1).within(floor.box))
            field = floor.cells, floor.dist, floor.own, sy.start, sx.start, sy.stop, sx.stop
            touching = least(borders(*field, chosen, self.config.diagonal))
            pairs, lengths = touching[:, :2], self._lengths(floor, touching)
        else:
            pairs, lengths = np.empty((0, 2), np.int64), np.empty(0)
        self.links.replace(self.links.bent, chosen, True, pairs, lengths)
        if self.config.diagonal:
            sight = SIGHT * self.config.place_spacing / floor.resolution
            rows, y, x = self._near(floor, around.grown(math.ceil(sight)))
            lines = sightlines(floor.cells, y - floor.box.y0, x - floor.box.x0, sight)
            chosen[:] = False
            chosen[self.ids[rows]] = chosen[gone] = True
            pairs = self.ids[rows][lines[:, :2]]
            lengths = np.sqrt(lines[:, 2].astype(np.float64)) * floor.resolution
            self.links.replace(self.links.seen, chosen, False, pairs, lengths)
        self.links.remove(gone)

    def _lengths(self, floor: Floor, touching: Array) -> NDArray[np.float64]:
        """Returns (E,) float64 [m] of the ways through (E, 5) borders."""
        if not self.config.diagonal:
            return np.asarray(touching[:, 2] / STRAIGHT * floor.resolution)
        field = floor.cells, floor.dist, floor.own
        ways, starts = bends(*field, touching[:, 3], touching[:, 4], True, True)
        width = floor.cells.shape[1]
        dy, dx = np.diff(ways // width, append=0), np.diff(ways % width, append=0)
        steps = np.sqrt((dy * dy + dx * dx).astype(np.float64))
        steps[starts[1:] - 1] = 0.0
        return np.add.reduceat(steps, starts[:-1]) * floor.resolution if len(ways) else np.empty(0)

    def covers(self, position: Point) -> bool:
        """Whether a place is within `place_spacing` of a position."""
        return self.at(position, self.config.place_spacing) >= 0

    def add_at(self, position: NDArray[np.float64], floor: Floor | None) -> None:
        """Makes a place at the cell of a position, or at the position itself where there is no map."""
        center = np.array(position, np.float64)
        if floor is not None:
            flat = floor.flat(*floor.cells_of(center[None]))
            center = floor.centers(flat)[0] if flat[0] >= 0 else center
        self._append(center, 0 if floor is None else floor.number)

    def at(self, position: Point, reach: float = np.inf) -> int:
        """Returns the id of the place nearest to a position along a path, or -1.

        Where the position is on no free cell that a place is known to own: the nearest place of its
        storey in a straight line, at most `place_spacing` away.

        Args:
            position: (2,) or (3,) [m] in the map frame.
            reach: longest path [m].
        """
        px, py = float(position[0]), float(position[1])
        if len(self) == 0 or not (math.isfinite(px) and math.isfinite(py)):
            return -1
        floor = self.floors.at(position)
        if floor is not None:
            y, x = floor.cell_of(px, py)
            if 0 <= y < floor.own.shape[0] and 0 <= x < floor.own.shape[1] and floor.own[y, x] >= 0:
                length = int(floor.dist[y, x]) / STRAIGHT * floor.resolution
                return int(floor.own[y, x]) if length <= reach else -1
        squared = (self.positions[:, 0] - px) ** 2 + (self.positions[:, 1] - py) ** 2
        if floor is not None:
            squared = np.where(self.storeys == floor.number, squared, np.inf)
        row = int(np.argmin(squared))
        return int(self.ids[row]) if squared[row] <= min(reach, self.config.place_spacing) ** 2 else -1

    def visit(
        self, place_id: int, previous: int, stamp: int, step: NDArray[np.float64] | None = None
    ) -> None:
        """Notes that the agent is at a place, and that it walked there from the previous one.

        Args:
            place_id: where the agent is.
            previous: where it was at the write before, -1 where it was nowhere near.
            stamp: [ns].
            step: (2, 3) [m] where the agent was then and is now; the places themselves where None.
        """
        row = self.index(place_id)
        self.last_visits[row] = stamp
        self.changed.add(place_id)
        if place_id == previous:
            return
        self.visits[row] += 1
        before = self.index(previous)
        if before >= 0:
            ends = self.positions[[before, row]]
            self.links.walk(previous, place_id, ends, ends if step is None else step, stamp)

    def edges(self) -> list[tuple[int, int, float]]:
        """Returns (a, b, length [m]) with a < b, sorted: edges of the map, and those only ever walked."""
        return self.links.all(self._is_open)

    def path(self, start: int, goal: int) -> list[int]:
        """Returns the ids of the places on a shortest path, both ends included; empty where none is."""
        if self.index(start) < 0 or self.index(goal) < 0:
            return []
        return self.links.path(start, goal, self._is_open)

    def _is_open(self, a: int, b: int) -> bool:
        """Whether the map leads from two places to where the agent walked from one to the other."""
        return walked(self, a, b) is not None

    def way(self, start: int, goal: int) -> NDArray[np.float64]:
        """Returns (M, 3) float64 [m]: where to turn on the path between two places, both included.

        The path over the graph, along the cells of its edges, drawn tight like a string where the
        straight line is free. Empty where there is none.
        """
        return self.trace(self.path(start, goal))

    def trace(self, path: list[int]) -> NDArray[np.float64]:
        """Returns the way over places, each joined to the next by an edge, as `way` does."""
        return trace(self, path)

    def reach(self, floor: Floor) -> int:
        """Returns the path distance beyond which cells are nobody's, in `STRAIGHT`ths of a cell."""
        return int(REACH * self._spacing(floor))

    def grow_fields(self) -> None:
        """Makes the fields of all floors anew from their cells: the same as they were, by construction."""
        none = np.empty(0, np.int64)
        for floor in self.floors:
            floor.hold(self.positions[self.storeys == floor.number])
            rows, flat = self.cells(floor)
            open_cell = floor.cells.reshape(-1)[flat] <= 0
            self._repair(floor, none, none, flat[open_cell], self.ids[rows[open_cell]])

    def _append(self, position: NDArray[np.float64], storey: int) -> None:
        self.changed.add(self.next_id)
        self._add_row({"ids": self.next_id, "positions": position, "last_visits": -1, "storeys": storey})
        self.next_id += 1

    def _add_row(self, values: dict[str, Any]) -> None:
        for name in _ARRAYS:
            array = getattr(self, name)
            row = np.asarray(values.get(name, 0), array.dtype).reshape((1, *array.shape[1:]))
            setattr(self, name, np.concatenate([array, row]))

    def _remove(self, gone: list[int]) -> None:
        keep = ~np.isin(self.ids, gone)
        for name in _ARRAYS:
            setattr(self, name, getattr(self, name)[keep])
        self.changed.difference_update(gone)

    def payloads(self) -> dict[int, dict[str, Any]]:
        """Returns places by id as plain values, with their edges to those of higher id."""
        return self.take_payloads(self.ids.tolist())()

    def take_payloads(self, place_ids: list[int]) -> Callable[[], dict[int, dict[str, Any]]]:
        """Copies what `payloads` needs of some places; returns what makes it, on any thread."""
        rows = rows_of(self.ids, place_ids)
        columns = [plain_rows(getattr(self, name), rows) for name in _ARRAYS]
        links = [self.links.take_payload(i) for i in place_ids]

        def make() -> dict[int, dict[str, Any]]:
            found = (dict(zip(_ARRAYS, values)) for values in zip(*columns))
            return {i: values | edges() for i, values, edges in zip(place_ids, found, links)}

        return make

    def restore(self, payloads: list[dict[str, Any]]) -> None:
        """Replaces all places and edges by those of `payloads`, in any order."""
        self.__init__(self.config, self.floors)  # type: ignore[misc]
        for payload in sorted(payloads, key=lambda p: int(p["ids"])):
            self._add_row(payload)
            self.links.restore(int(payload["ids"]), payload)


_ARRAYS = ("ids", "positions", "clearances", "visits", "last_visits", "storeys")

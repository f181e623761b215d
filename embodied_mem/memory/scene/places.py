"""Places: a sparse topological graph of the free space.

Every place owns the free cells that are nearest to it along a path; two places whose
cells touch are joined by an edge, whose length is that of a path through the touching
cells. So every edge can be walked, and places that can be reached from each other are
connected (the dual of the geodesic Voronoi diagram).
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.navigation import Point, cell_of, centers_of, clearance
from embodied_mem.memory.octree.types import GridMap
from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.memory.scene.grid_kernels import FAR, STRAIGHT, cover, spread, touching

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Place:
    """A node of the topological graph.

    Attributes:
        id: stable, never reused.
        position: (3,) float64 [m], a cell's centre on the floor, map frame.
        clearance: distance to the nearest cell that is not known to be free [m].
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

    `positions`, `visits` and the walked edges are memory; the field over the grid map
    (which place owns which cell) is recomputed from it whenever the map has changed.

    Args:
        config: spacing and clearance.
    """

    def __init__(self, config: SceneConfig) -> None:
        self.config = config
        self.next_id = 0
        self.ids = np.empty(0, np.int64)
        self.positions = np.empty((0, 3))
        self.clearances = np.empty(0)
        self.visits = np.empty(0, np.int64)
        self.last_visits = np.empty(0, np.int64)
        self.walked: dict[tuple[int, int], float] = {}
        """Edges the agent has walked, whatever the map says: (a, b) with a < b -> length [m]."""
        self.links = np.empty((0, 2), np.int64)
        """Edges of the map: ids (a, b) with a < b, sorted."""
        self.link_lengths = np.empty(0)
        self._grid: GridMap | None = None
        self._distance = np.empty((0, 0), np.int32)
        self._owner = np.empty((0, 0), np.int32)

    def __len__(self) -> int:
        return len(self.ids)

    def index(self, place_id: int) -> int:
        """Returns the row of an id, or -1."""
        row = int(np.searchsorted(self.ids, place_id))
        return row if row < len(self.ids) and self.ids[row] == place_id else -1

    def cells(self, grid: GridMap) -> NDArray[np.int64]:
        """Returns (P,) int64 flat cells of all places in a grid, -1 for those outside it."""
        height, width = grid.cells.shape
        scale = 1.0 / grid.resolution
        ix = np.floor((self.positions[:, 0] - float(grid.origin[0])) * scale).astype(np.int64)
        iy = np.floor((self.positions[:, 1] - float(grid.origin[1])) * scale).astype(np.int64)
        inside = (ix >= 0) & (iy >= 0) & (ix < width) & (iy < height)
        return np.where(inside, iy * width + ix, -1)

    def use_grid(self, grid: GridMap) -> None:
        """Computes from a grid map which place owns which cell; changes nothing that is remembered."""
        flat = self.cells(grid)
        blocked = grid.cells.reshape(-1)[flat] > 0
        rows = np.flatnonzero((flat >= 0) & ~blocked)
        self._distance = np.full(grid.cells.shape, FAR, np.int32)
        self._owner = np.full(grid.cells.shape, -1, np.int32)
        spread(
            grid.cells == 0,
            flat[rows],
            rows.astype(np.int32),
            self.config.diagonal,
            self._distance,
            self._owner,
        )
        self._grid = grid

    def forget_grid(self) -> None:
        """Lets go of the grid map; until the next one, the nearest place counts."""
        self._grid = None
        self._distance = np.empty((0, 0), np.int32)
        self._owner = np.empty((0, 0), np.int32)

    def update(self, grid: GridMap, position: NDArray[np.float64]) -> list[int]:
        """Brings places and edges up to date with a changed grid map; returns ids of removed places.

        Places that were never visited and turn out to be blocked are removed. The agent's own
        position and all roomy free space are covered by places at most `place_spacing` apart.

        Args:
            grid: the grid map.
            position: (3,) [m] of the agent, map frame.
        """
        config = self.config
        gone = self._remove_blocked(grid)
        self.use_grid(grid)
        if not self.covers(position):
            self.add_at(position)
        free = grid.cells == 0
        room = clearance(~free, grid.resolution)
        spacing = config.place_spacing / grid.resolution * STRAIGHT
        least, field = config.place_clearance, (self._distance, self._owner)
        cells = cover(free, room, spacing, least, config.diagonal, len(self), *field)
        for center in centers_of(grid, cells):
            self._append(center)
        if len(cells):
            self.use_grid(grid)  # ties between owners must not depend on the order of arrival
        inside = self.cells(grid)
        self.clearances[inside >= 0] = room.reshape(-1)[inside[inside >= 0]]
        self._link(free)
        return gone

    def covers(self, position: Point) -> bool:
        """Whether a place is within `place_spacing` of a position."""
        return self.at(position, self.config.place_spacing) >= 0

    def add_at(self, position: NDArray[np.float64]) -> None:
        """Makes a place at the cell of a position, or at the position itself outside the grid."""
        center = np.array(position, np.float64)
        if self._grid is not None:
            iy, ix = cell_of(self._grid, position)
            height, width = self._grid.cells.shape
            if 0 <= iy < height and 0 <= ix < width:
                center = centers_of(self._grid, np.array([iy * width + ix]))[0]
        self._append(center)
        if self._grid is not None:
            self.use_grid(self._grid)

    def at(self, position: Point, reach: float = np.inf) -> int:
        """Returns the id of the place nearest to a position along a path, or -1.

        Where the position is on no free cell that a place is known to own: the nearest place in a
        straight line, at most `place_spacing` away.

        Args:
            position: (3,) [m] in the map frame.
            reach: longest path [m].
        """
        px, py = float(position[0]), float(position[1])
        if len(self) == 0 or not (math.isfinite(px) and math.isfinite(py)):
            return -1
        if self._grid is not None:
            iy, ix = cell_of(self._grid, position)
            height, width = self._owner.shape
            if 0 <= iy < height and 0 <= ix < width and self._owner[iy, ix] >= 0:
                length = int(self._distance[iy, ix]) / STRAIGHT * self._grid.resolution
                return int(self.ids[self._owner[iy, ix]]) if length <= reach else -1
        squared = (self.positions[:, 0] - px) ** 2 + (self.positions[:, 1] - py) ** 2
        row = int(np.argmin(squared))
        return int(self.ids[row]) if squared[row] <= min(reach, self.config.place_spacing) ** 2 else -1

    def visit(self, place_id: int, previous: int, stamp: int) -> None:
        """Notes that the agent is at a place, and that it walked there from the previous one.

        Args:
            place_id: where the agent is.
            previous: where it was at the write before, -1 where it was nowhere near.
            stamp: [ns].
        """
        row = self.index(place_id)
        self.last_visits[row] = stamp
        if place_id == previous:
            return
        self.visits[row] += 1
        before = self.index(previous)
        if before >= 0:
            delta = self.positions[row] - self.positions[before]
            length = float(np.sqrt(delta[0] ** 2 + delta[1] ** 2 + delta[2] ** 2))
            self.walked[min(place_id, previous), max(place_id, previous)] = length

    def edges(self) -> list[tuple[int, int, float]]:
        """Returns (a, b, length [m]) with a < b, sorted: edges of the map, and those only ever walked."""
        found = dict(self.walked)
        for (a, b), length in zip(self.links.tolist(), self.link_lengths.tolist()):
            found[a, b] = length
        return [(a, b, length) for (a, b), length in sorted(found.items())]

    def path(self, start: int, goal: int) -> list[int]:
        """Returns the ids of the places on a shortest path, both ends included; empty where none is."""
        near: dict[int, list[tuple[int, float]]] = {}
        for a, b, length in self.edges():
            near.setdefault(a, []).append((b, length))
            near.setdefault(b, []).append((a, length))
        if self.index(start) < 0 or self.index(goal) < 0:
            return []
        done: dict[int, int] = {}
        heap = [(0.0, start, start)]
        while heap:
            length, place, came = heapq.heappop(heap)
            if place in done:
                continue
            done[place] = came
            if place == goal:
                break
            for other, step in near.get(place, []):
                if other not in done:
                    heapq.heappush(heap, (length + step, other, place))
        if goal not in done:
            return []
        path = [goal]
        while path[-1] != start:
            path.append(done[path[-1]])
        return path[::-1]

    def _append(self, position: NDArray[np.float64]) -> None:
        self._add_row({"ids": self.next_id, "positions": position, "last_visits": -1})
        self.next_id += 1

    def _add_row(self, values: dict[str, Any]) -> None:
        for name in _ARRAYS:
            array = getattr(self, name)
            row = np.asarray(values.get(name, 0), array.dtype).reshape((1, *array.shape[1:]))
            setattr(self, name, np.concatenate([array, row]))

    def _remove_blocked(self, grid: GridMap) -> list[int]:
        flat = self.cells(grid)
        blocked = (flat >= 0) & (grid.cells.reshape(-1)[flat] > 0) & (self.visits == 0)
        gone = self.ids[blocked].tolist()
        for name in _ARRAYS:
            setattr(self, name, getattr(self, name)[~blocked])
        return gone

    def _link(self, free: NDArray[np.bool_]) -> None:
        pairs, lengths = touching(free, self.config.diagonal, self._distance, self._owner)
        order = np.lexsort((lengths, pairs[:, 1], pairs[:, 0]))
        pairs, lengths = pairs[order], lengths[order]
        first = np.ones(len(pairs), bool)
        first[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
        assert self._grid is not None
        self.links = self.ids[pairs[first]]
        self.link_lengths = lengths[first] / STRAIGHT * self._grid.resolution

    def payloads(self) -> dict[int, dict[str, Any]]:
        """Returns every place by id as plain values, with its edges to places of higher id."""
        columns = [getattr(self, name).tolist() for name in _ARRAYS]
        result: dict[int, dict[str, Any]] = {}
        for values in zip(*columns):
            result[values[0]] = {**dict(zip(_ARRAYS, values)), "links": [], "walked": []}
        for (a, b), length in zip(self.links.tolist(), self.link_lengths.tolist()):
            result[a]["links"].append([b, length])
        for (a, b), length in sorted(self.walked.items()):
            result[a]["walked"].append([b, length])
        return result

    def restore(self, payloads: list[dict[str, Any]]) -> None:
        """Replaces all places and edges by those of `payloads`, in any order."""
        self.__init__(self.config)  # type: ignore[misc]
        ordered = sorted(payloads, key=lambda p: int(p["ids"]))
        for payload in ordered:
            self._add_row(payload)
        links = [(p["ids"], b, length) for p in ordered for b, length in p["links"]]
        self.links = np.array([(a, b) for a, b, _ in links], np.int64).reshape(-1, 2)
        self.link_lengths = np.array([length for _, _, length in links], np.float64)
        self.walked = {(p["ids"], b): length for p in ordered for b, length in p["walked"]}


_ARRAYS = ("ids", "positions", "clearances", "visits", "last_visits")

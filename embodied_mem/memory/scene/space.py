"""Free space of all storeys: floors, places and rooms, brought up to date together where the map changed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.octree.types import GridMap
from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.memory.scene.floor import Box, Floor, box_of
from embodied_mem.memory.scene.floors import Floors
from embodied_mem.memory.scene.footprints import CORE, Footprints, Standing
from embodied_mem.memory.scene.places import Places
from embodied_mem.memory.scene.rooms import Rooms, door_boxes

Boxes = frozenset[tuple[int, ...]]


class Space:
    """Floors, places and rooms, and what of them is still to be done.

    The work of an update is bounded by `tiles_per_update`, in cells and never in time, so that a
    replay does the same: tiles of the map that are over it wait, and the newest go first.

    Args:
        config: how places and rooms are told apart.
    """

    def __init__(self, config: SceneConfig) -> None:
        self.config = config
        self.floors = Floors()
        self.places = Places(config, self.floors)
        self.rooms = Rooms(config, self.floors)
        self.footprints = Footprints()
        self._stale: dict[int, Box] = {}  # by storey: where rooms are to be found anew
        self._doors: dict[int, Boxes] = {}  # by storey: the doors that its rooms were found with

    def update(
        self,
        grid: GridMap,
        where: Box | None,
        position: NDArray[np.float64],
        standing: Standing | None = None,
    ) -> list[int]:
        """Takes in a grid map; returns ids of places that are no more.

        Args:
            grid: traversable space at the agent's floor.
            where: all cells in which it differs from the one before lie in this box; None: anywhere.
            position: (3,) [m] of the agent, map frame.
            standing: what else speaks for and against free floor; None: the grid map alone.
        """
        before = self.floors.current, len(self.floors)
        floor = self.floors.enter(grid)
        if (self.floors.current, len(self.floors)) != before:
            where = None  # what changed since this floor was last looked at is not known
        floor.reserve(box_of(grid))
        floor.hold(position[None])  # before cells get numbers, which change when the floor grows
        obstacles, core = None, 0.0
        if standing is not None:
            obstacles, core = standing.body.obstacles.cells, CORE * standing.body.radius / floor.resolution
            drawn = self.footprints.draw(floor, float(grid.floor_z), standing)
            if where is not None and drawn is not None:
                where = drawn.joined(where) if where.size else drawn
        changed = floor.take(grid, where, self.config.tiles_per_update, obstacles, core)
        around = floor.around(changed)
        if around is None and self.places.covers(position):
            return []
        if around is not None:
            self._stale[floor.number] = around.joined(self._stale.get(floor.number))
        return self.places.settle(floor, changed, position)

    def find_rooms(
        self, positions: NDArray[np.float64], extents: NDArray[np.float64], walls: GridMap | None = None
    ) -> list[int]:
        """Finds the rooms anew where the floor or its doors have changed; returns ids of those no more.

        Args:
            positions: (N, 3) float64 [m] of the doors' centres, map frame.
            extents: (N, 3) float64 [m] of the boxes around them.
            walls: what is as high as walls on this floor; None: rooms are told apart by the grid map.
        """
        floor = self.floors[self.floors.current]
        on = np.array([self._is_on(floor, p) for p in positions], bool)
        boxes = door_boxes(floor.resolution, positions[on], extents[on])
        doors = frozenset(map(tuple, boxes.tolist()))
        stale = self._stale.pop(floor.number, None)
        for y0, y1, x0, x1 in doors ^ self._doors.get(floor.number, frozenset()):
            stale = Box(y0, x0, y1 + 1, x1 + 1).joined(stale)
        if stale is None:
            return []
        self._doors[floor.number] = doors
        gone = self.rooms.update(floor, stale, boxes, walls)
        if self.config.diagonal:  # in a grid world a passage is a cell, and its place stands in it already
            self.places.add_gateways(floor, self.rooms.gateways)
        return gone

    def _is_on(self, floor: Floor, position: NDArray[np.float64]) -> bool:
        return len(self.floors) == 1 or self.floors.at(position) is floor

    def forget_map(self) -> None:
        """Lets go of the map: the next one makes places and rooms anew, their ids stay."""
        for floor in self.floors:
            floor.forget()
        self.places.grow_fields()

    def meta(self) -> dict[str, Any]:
        """Returns what is kept besides places, rooms and cells, as plain values."""
        return {
            **self.floors.meta(),
            "stale": [[number, *box] for number, box in sorted(self._stale.items())],
            "doors": [[number, sorted(boxes)] for number, boxes in sorted(self._doors.items())],
        }

    def restore(
        self,
        meta: dict[str, Any],
        tiles: dict[int, bytes],
        places: list[dict[str, Any]],
        rooms: list[dict[str, Any]],
    ) -> None:
        """Replaces everything by what was exported; the counters of ids come after."""
        if rooms and not meta.get("floors"):  # written before floors were kept
            meta = {"floors": [[0.0, rooms[0]["resolution"], [], 0.0]]}
        self.floors.restore(meta, tiles)
        self.places.restore(places)
        self.places.grow_fields()
        self.rooms.restore(rooms)
        self._stale = {number: Box(*box) for number, *box in meta.get("stale", [])}
        self._doors = {n: frozenset(map(tuple, boxes)) for n, boxes in meta.get("doors", [])}

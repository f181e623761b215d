"""The storeys of a building, each with its own floor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from embodied_mem.memory.navigation import Point
from embodied_mem.memory.octree.types import GridMap
from embodied_mem.memory.scene.floor import Floor

STOREY = 0.3
"""Floors whose heights differ by less are one [m]: thresholds, and how a base sways."""


BESIDE = 1.0
"""What stands on a floor has free floor at most this far beside it [m]."""


class Floors:
    """All floors, in the order in which the agent came to them; ramps and stairs have their own."""

    def __init__(self) -> None:
        self.current = 0
        """Number of the floor the agent is on."""
        self._floors: list[Floor] = []

    def __len__(self) -> int:
        return len(self._floors)

    def __iter__(self) -> Iterator[Floor]:
        return iter(self._floors)

    def __getitem__(self, number: int) -> Floor:
        return self._floors[number]

    def enter(self, grid: GridMap) -> Floor:
        """Returns the floor that a grid map is of, which is the current one from now on.

        The agent stays on its floor while the map's is less than `STOREY` away; else it goes to the
        nearest within that, or a new one.
        """
        height = float(grid.floor_z)
        if self._floors:
            order = [self.current, *sorted(range(len(self)), key=lambda n: (self._away(n, height), n))]
            near = [n for n in order[:2] if self._away(n, height) < STOREY]
            if near:
                self.current = near[0]
                return self._floors[self.current]
        self.current = len(self._floors)
        self._floors.append(Floor(self.current, height, float(grid.resolution)))
        return self._floors[-1]

    def _away(self, number: int, height: float) -> float:
        return abs(self._floors[number].level - height)

    def at(self, position: Point) -> Floor | None:
        """Returns the floor under a position: the highest below it on which one could stand there, or near.

        Without a height (2,): the current one. None where there is none.
        """
        if len(self._floors) <= 1 or len(position) < 3:
            return self._floors[self.current] if self._floors else None
        x, y, z = (float(v) for v in position)
        if not (math.isfinite(x) and math.isfinite(y)):
            return self._floors[self.current]
        below = sorted(self._floors, key=lambda f: (-f.level, f.number))
        below = [f for f in below if f.level <= z + STOREY] or below[-1:]
        for reach in (0.0, BESIDE):
            for floor in below:
                if floor.is_free(x, y, reach):
                    return floor
        return below[0]

    def meta(self) -> dict[str, Any]:
        """Returns what is kept of them besides their cells, as plain values."""
        return {
            "current": self.current,
            "floors": [[f.level, f.resolution, [list(t) for t in f.pending], f.height] for f in self._floors],
        }

    def restore(self, meta: dict[str, Any], tiles: dict[int, bytes]) -> None:
        """Replaces all floors by those of `meta` and their cells by key; fields and rooms are empty."""
        self.current = int(meta.get("current", 0))
        self._floors = []
        for number, (level, resolution, pending, height) in enumerate(meta.get("floors", [])):
            floor = Floor(number, float(level), float(resolution))
            floor.height = float(height)
            floor.pending = {(int(y), int(x)): None for y, x in pending}
            self._floors.append(floor)
        for key in sorted(tiles):
            self._floors[key >> 40].put(key, tiles[key])

    def payload(self, key: int) -> bytes:
        """Returns a tile's cells by the number of its row in the store."""
        floor = self._floors[key >> 40]
        return floor.payload(floor.tile(key))

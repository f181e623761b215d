"""From a sub-goal to the steps and turns of a robot on the floor, along the shortest traversable path."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.memory import GridMap, Memory
from embodied_mem.memory.navigation import (
    cell_of,
    centers_of,
    nearest_traversable,
    shortest_path,
    steps_from,
)
from embodied_mem.memory.scene.grid_kernels import descend
from embodied_mem.sim.explorer import Subgoal
from embodied_mem.sim.house.robot import Action
from embodied_mem.sim.standing import is_reached, lookout, standing_place
from embodied_mem.sim.straight_lines import farthest_in_sight, widened

SAVING = 1.5
"""Closer past things it goes only where that makes the way so much shorter [m]."""
DISTANT = math.inf
"""Where it only looks from afar, the safest map will do."""
HERE = 0.15
"""Where it bumped into something in one direction it is still, as long as it is this near [m]."""


class BaseController:
    """Turns towards the path and goes along it; what it bumped into it keeps away from.

    It knows the map and the pose from the memory alone. A step ahead after which the pose has hardly
    changed was a collision with something that the map does not show; it does not try again in that direction
    from there as long as there are others, so that it gets out of where it hardly fits.

    Args:
        turn: angle of a turn [rad].
        forward: length of a step [m].
        look_ahead: it heads for the farthest point of the path in sight within this distance [m].
        bump_radius: it keeps this far away from what it bumped into [m].
        eye: height of the camera, from which things are in sight [m].
    """

    def __init__(
        self,
        turn: float = math.radians(30.0),
        forward: float = 0.25,
        look_ahead: float = 1.0,
        bump_radius: float = 0.2,
        eye: float = 0.9,
    ) -> None:
        self.turn = turn
        self.forward = forward
        self.look_ahead = look_ahead
        self.bump_radius = bump_radius
        self.eye = eye
        self._bumps: list[NDArray[np.float64]] = []
        self._stuck: list[tuple[NDArray[np.float64], float]] = []
        self._stepped_from: NDArray[np.float64] | None = None

    def step(self, action: Any, memory: Memory) -> int | None:
        """Returns the next primitive action towards a `Subgoal`.

        Args:
            action: a `Subgoal`; a primitive action or None is passed on as it is.
            memory: the memory, which knows the map and the pose.
        """
        pose = memory.map_T_base
        self._feel(pose)
        chosen = self._towards(action, pose, memory) if isinstance(action, Subgoal) else action
        self._stepped_from = pose.position if chosen == Action.FORWARD else None
        return None if chosen is None else int(chosen)

    def _feel(self, pose: Pose) -> None:
        """Notes a bump where the last step ahead led hardly anywhere."""
        if self._stepped_from is None:
            return
        moved = pose.position - self._stepped_from
        if math.hypot(moved[0], moved[1]) < 0.3 * self.forward:
            self._bumps.append(pose.transform(np.array([0.6 * self.forward + 0.1, 0.0, 0.0])))
            self._stuck.append((pose.position, pose.yaw))

    def _towards(self, subgoal: Subgoal, pose: Pose, memory: Memory) -> int:
        at, acts = pose.position, subgoal.then is not None or subgoal.watched
        if acts and is_reached(memory, at, subgoal, self.eye, subgoal.radius):
            return self._watch(subgoal, pose) if subgoal.then is None else subgoal.then
        grid, path = self._way(subgoal, pose, memory)
        if len(path) < 2:
            if subgoal.then is not None and is_reached(memory, at, subgoal, self.eye, subgoal.limit):
                return subgoal.then  # there is nowhere nearer to stand
            return Action.RIGHT  # there already, or no way: look around
        target = self._in_sight(grid, pose, path)
        ahead = pose.inverse().transform(target)
        bearing = self._free_bearing(math.atan2(ahead[1], ahead[0]), pose)
        if abs(bearing) > self.turn / 2 + 1e-6:
            return Action.LEFT if bearing > 0 else Action.RIGHT
        return Action.FORWARD

    def _watch(self, subgoal: Subgoal, pose: Pose) -> Action:
        """Returns the turn after which a sub-goal is in the middle of the view, or next to it."""
        ahead = pose.inverse().transform(subgoal.position)
        bearing = math.atan2(ahead[1], ahead[0])
        # Who looks at it straight turns to the side from which the next turn leads back.
        return Action.RIGHT if bearing < -self.turn / 2 else Action.LEFT

    def _free_bearing(self, bearing: float, pose: Pose) -> float:
        """Returns the bearing [rad], or the nearest that it can turn to where it bumped into nothing here."""
        here = pose.position
        tried = [yaw for at, yaw in self._stuck if math.hypot(*(here - at)[:2].tolist()) < HERE]
        if not tried:
            return bearing
        turns = np.arange(round(2 * math.pi / self.turn)) * self.turn
        met = np.abs(_wrapped(turns[:, None] + pose.yaw - np.array(tried))).min(axis=1) < self.turn / 2
        if met.all():
            self._stuck.clear()
            return bearing
        free = _wrapped(turns[~met])
        return float(free[np.argmin(np.abs(_wrapped(free - bearing)))])

    def _way(self, subgoal: Subgoal, pose: Pose, memory: Memory) -> tuple[GridMap, NDArray[np.float64]]:
        """Returns a map in which there is a way, and (M, 3) points of the way, empty where there is none.

        That is the safest one, unless another one saves a detour.
        """
        start, grids = pose.position, self._grids(memory.grid_map())
        if subgoal.radius == 0.0:
            ways = ((grid, shortest_path(grid, start, subgoal.position, diagonal=True)) for grid in grids)
            return _shortest(ways, start) or (grids[-1], np.empty((0, 3)))
        fields: list[NDArray[np.int32]] = []

        def ways_to(choose: Callable[..., int]) -> Iterator[tuple[GridMap, NDArray[np.float64]]]:
            for index, grid in enumerate(grids):
                if index == len(fields):
                    fields.append(steps_from(grid, nearest_traversable(grid, start), diagonal=True))
                cell = choose(memory, grid, fields[index], subgoal, self.eye)
                if cell >= 0:
                    yield grid, centers_of(grid, descend(fields[index], cell, True)[::-1])

        found = _shortest(ways_to(standing_place), start) or _shortest(ways_to(lookout), start, DISTANT)
        return found or (grids[-1], np.empty((0, 3)))

    def _grids(self, grid: GridMap) -> tuple[GridMap, ...]:
        """Returns maps to look for a way in: well clear of things, close to them, and as they were seen."""
        careful = self._without_bumps(grid)
        wide = _widened(careful)
        return (wide, grid) if careful is grid else (wide, careful, grid)

    def _without_bumps(self, grid: GridMap) -> GridMap:
        """Returns the map with obstacles where the robot bumped into something."""
        if not self._bumps or grid.cells.size == 0:
            return grid
        cells = grid.cells.copy()
        reach = int(self.bump_radius / grid.resolution)
        for bump in self._bumps:
            iy, ix = cell_of(grid, bump)
            cells[
                max(0, iy - reach) : max(0, iy + reach + 1), max(0, ix - reach) : max(0, ix + reach + 1)
            ] = 100
        return dataclasses.replace(grid, cells=cells)

    def _in_sight(self, grid: GridMap, pose: Pose, path: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the farthest point of the path to which the straight line is traversable."""
        count = min(len(path) - 1, max(1, int(self.look_ahead / grid.resolution)))
        x0, y0 = grid.origin.tolist()
        cells = np.ascontiguousarray(grid.cells)
        index = farthest_in_sight(cells, x0, y0, float(grid.resolution), pose.position, path, count)
        return path[index]


def _shortest(
    ways: Iterable[tuple[GridMap, NDArray[np.float64]]], start: NDArray[np.float64], saving: float = SAVING
) -> tuple[GridMap, NDArray[np.float64]] | None:
    """Returns the first way that is no detour, else the first that no later one is much shorter than.

    Args:
        ways: maps and (M, 3) points of the ways in them [m]; those without points are none.
        start: (3,) float64 where they begin [m].
        saving: so much shorter a later one must be [m].
    """
    best, least = None, math.inf
    for grid, path in ways:
        if len(path) == 0:
            continue
        length = float(np.sqrt((np.diff(path[:, :2], axis=0) ** 2).sum(axis=1)).sum())
        if best is None or length < least - saving:
            best, least = (grid, path), length
        if least <= math.dist(path[-1, :2], start[:2]) + saving:
            break  # others cannot be much shorter
    return best


def _wrapped(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns angles [rad] from -pi to pi."""
    return np.asarray((angles + math.pi) % (2 * math.pi) - math.pi)


def _widened(grid: GridMap) -> GridMap:
    """Returns a map whose obstacles are wider by a cell on all sides."""
    return GridMap(widened(np.ascontiguousarray(grid.cells)), grid.origin, grid.resolution, grid.floor_z)

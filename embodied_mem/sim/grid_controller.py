"""From a sub-goal to MiniGrid's primitive actions, along the shortest traversable path."""

from __future__ import annotations

from typing import Any

import numpy as np

from embodied_mem.geometry import Pose
from embodied_mem.memory import Memory
from embodied_mem.memory.navigation import centers_of, nearest_traversable, shortest_path, steps_from
from embodied_mem.memory.scene.grid_kernels import FAR, descend
from embodied_mem.sim.explorer import Subgoal

LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE = 0, 1, 2, 3, 4, 5


class GridController:
    """Turns, walks, and opens the doors in the way; reads the map from the memory alone."""

    def step(self, action: Any, memory: Memory) -> int | None:
        """Returns the next primitive action towards a `Subgoal`.

        Args:
            action: a `Subgoal`; a primitive action or None is passed on as it is.
            memory: the memory, which knows the map and the pose.

        Returns:
            a MiniGrid action, or None to stop.
        """
        if not isinstance(action, Subgoal):
            return None if action is None else int(action)
        pose = memory.map_T_base
        if action.then is not None:
            return self._handle(action, pose, memory)
        path = shortest_path(memory.grid_map(), pose.position, action.position)  # (M, 3), from here
        if len(path) < 2:
            return RIGHT  # there already, or no way: look around
        return self._towards(pose, path[1], memory)

    def _handle(self, subgoal: Subgoal, pose: Pose, memory: Memory) -> int | None:
        """Goes beside a thing, faces it, and does with it what the sub-goal asks for."""
        size = memory.config.octree.resolution
        ahead = pose.inverse().transform(subgoal.position)
        if abs(ahead[0]) + abs(ahead[1]) < 1.5 * size:  # beside it
            if ahead[0] > 0.5 * size:
                return subgoal.then
            return LEFT if ahead[1] > 0.5 * size else RIGHT
        grid = memory.grid_map()
        steps = steps_from(grid, nearest_traversable(grid, pose.position))
        beside = subgoal.position + size * np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
        cells = [nearest_traversable(grid, point, snap=0.0) for point in beside]
        near = min((c for c in cells if c >= 0), key=lambda c: int(steps.reshape(-1)[c]), default=-1)
        if near < 0 or steps.reshape(-1)[near] >= FAR:
            return RIGHT
        path = centers_of(grid, descend(steps, near, False)[::-1])
        return self._towards(pose, path[1], memory) if len(path) > 1 else RIGHT

    def _towards(self, pose: Pose, cell: Any, memory: Memory) -> int:
        ahead = pose.inverse().transform(np.asarray(cell, dtype=np.float64))
        if ahead[0] < abs(ahead[1]) - 1e-6 or abs(ahead[1]) > abs(ahead[0]) + 1e-6:
            return LEFT if ahead[1] > 0 else RIGHT
        if ahead[0] < 0:
            return RIGHT
        center = np.array([[cell[0], cell[1], pose.position[2] + memory.config.octree.resolution / 2]])
        blocked = memory.octree.query(center.astype(np.float32))[0] > 0
        return TOGGLE if blocked else FORWARD

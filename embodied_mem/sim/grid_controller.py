"""From a sub-goal to MiniGrid's primitive actions, along the shortest traversable path."""

from __future__ import annotations

from typing import Any

import numpy as np

from embodied_mem.geometry import Pose
from embodied_mem.memory import Memory
from embodied_mem.memory.navigation import shortest_path
from embodied_mem.sim.explorer import Subgoal

LEFT, RIGHT, FORWARD, TOGGLE = 0, 1, 2, 5


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
        path = shortest_path(memory.grid_map(), pose.position, action.position)  # (M, 3), from here
        if len(path) < 2:
            return RIGHT  # there already, or no way: look around
        return self._towards(pose, path[1], memory)

    def _towards(self, pose: Pose, cell: Any, memory: Memory) -> int:
        ahead = pose.inverse().transform(np.asarray(cell, dtype=np.float64))
        if ahead[0] < abs(ahead[1]) - 1e-6 or abs(ahead[1]) > abs(ahead[0]) + 1e-6:
            return LEFT if ahead[1] > 0 else RIGHT
        if ahead[0] < 0:
            return RIGHT
        center = np.array([[cell[0], cell[1], pose.position[2] + memory.config.octree.resolution / 2]])
        blocked = memory.octree.query(center.astype(np.float32))[0] > 0
        return TOGGLE if blocked else FORWARD

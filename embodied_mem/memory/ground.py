"""The ground the agent stands on: traversable space at its floor, made again when it changes."""

from __future__ import annotations

import numpy as np

from embodied_mem.geometry import Pose
from embodied_mem.memory.config import NavigationConfig
from embodied_mem.memory.octree import GridMap, Octree
from embodied_mem.types import LabelMap


class Ground:
    """Keeps the newest grid map.

    Args:
        config: what the robot can pass.
    """

    def __init__(self, config: NavigationConfig) -> None:
        self.config = config
        self._key: tuple[int, float] | None = None
        self._grid_map: GridMap | None = None
        self._labels: LabelMap | None = None
        self._passable: list[int] = []

    def grid_map(self, octree: Octree, labels: LabelMap, pose: Pose) -> GridMap:
        """Returns the grid map at a pose's floor; 0 x 0 cells where nothing is known."""
        # Whole voxels, so that a wobbling base does not make another map of the same floor.
        floor = float(np.floor(pose.position[2] / octree.resolution + 0.5)) * octree.resolution
        key = (octree.version, floor)
        if self._grid_map is None or key != self._key or labels is not self._labels:
            if labels is not self._labels:
                words = self.config.passable
                self._passable = sorted({i for word in words for i in labels.matching(word)})
            self._key, self._labels = key, labels
            self._grid_map = octree.traversable(
                floor,
                robot_height=self.config.robot_height,
                step_height=self.config.step_height,
                robot_radius=self.config.robot_radius,
                passable_labels=self._passable,
            )
        return self._grid_map

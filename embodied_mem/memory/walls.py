"""The walls around the agent: what stands as high as walls do, and most furniture does not."""

from __future__ import annotations

from embodied_mem.geometry import Pose
from embodied_mem.memory.config import NavigationConfig
from embodied_mem.memory.ground import Ground
from embodied_mem.memory.octree import GridMap, Octree
from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.types import LabelMap


class Walls:
    """Keeps a grid map of a band high above the floor; made from the octree, so it is not stored.

    Args:
        config: has the band.
    """

    def __init__(self, config: SceneConfig) -> None:
        self._ground: Ground | None = None
        if config.use_walls:
            band = NavigationConfig(
                robot_height=config.wall_high, step_height=config.wall_low, drop_height=0.0, passable=()
            )
            self._ground = Ground(band)

    def take(self, octree: Octree, labels: LabelMap, pose: Pose, last: float | None) -> GridMap | None:
        """Returns the band as a grid map, without a radius; None where rooms do not look at walls.

        Args:
            octree: the map.
            labels: of the map.
            pose: of the base.
            last: height of the floor before [m]; None where there was none.
        """
        return None if self._ground is None else self._ground.take(octree, labels, pose, last)[0]

"""What a navigation task asks of the place that it takes place in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.sim.house.config import RobotConfig
from embodied_mem.sim.house.renderer import Camera, View
from embodied_mem.sim.house.robot import Robot

START_DISTANCE = 2.0
"""Episodes start at least this far from the first goal where the place allows it [m]."""


class Site(Protocol):
    """A place to navigate in; its frame is the map's, with z up.

    Positions are (2,) float64 where the floor is at z = 0 all over the place, else (3,) [m].

    Attributes:
        title: what it is, for messages.
        labels: categories of the things in it, sorted.
        info: what `info` of every step says of it.
    """

    title: str
    labels: tuple[str, ...]
    info: Mapping[str, Any]

    def start(self, label: str, radius: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draws a free position, at least `START_DISTANCE` from where a label counts as found if it can."""

    def robot(self, config: RobotConfig, position: NDArray[np.float64], yaw: float) -> Robot:
        """Returns a robot at a position with a heading [rad]."""

    def distance(self, label: str, radius: float, position: NDArray[np.float64]) -> float:
        """Returns the shortest way [m] to where something of a label counts as found, inf where none."""

    def view(self, camera: Camera, map_T_camera: Pose, max_depth: float) -> View:
        """Returns what a camera sees; beyond `max_depth` [m] it has colour only."""

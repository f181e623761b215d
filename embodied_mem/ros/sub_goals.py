"""Sub-goals for somebody else's controller, such as Nav2: poses to drive to instead of velocities."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from embodied_mem.geometry import Pose
from embodied_mem.log import messages
from embodied_mem.ros.declaration import EVENT, Endpoint
from embodied_mem.types import NS_PER_S

SUB_GOAL = Endpoint(
    "policy/goal_pose", "geometry_msgs/msg/PoseStamped", EVENT, "where to drive to; Nav2 hears /goal_pose"
)
SAME_DISTANCE, SAME_ANGLE = 0.3, 0.3
"""A sub-goal nearer to the last one than this [m], [rad] is the same: planning again would only cost time."""
PAUSE_NS = NS_PER_S
"""Two sub-goals are at least this far apart [ns]."""


class SubGoals:
    """Publishes sub-goals as they change.

    Args:
        publish: publishes a message on a topic.
        map_frame: name of the map frame.
    """

    def __init__(self, publish: Callable[[str, Any], None], map_frame: str) -> None:
        self._publish, self._frame = publish, map_frame
        self._last: tuple[Pose, int] | None = None

    def act(self, action: Any, map_T_base: Pose, stamp: int) -> None:
        """Sends where an action leads.

        Args:
            action: of the loop; only what has a `position` in the map leads anywhere.
            map_T_base: where the robot is.
            stamp: now [ns].
        """
        target = self._target(action, map_T_base)
        if target is not None and not self._is_same(target, stamp):
            self._send(target, stamp)

    def stay(self, map_T_base: Pose, stamp: int) -> None:
        """Sends the robot's own pose: it stays where it is."""
        self._send(map_T_base, stamp)

    def _target(self, action: Any, here: Pose) -> Pose | None:
        if not hasattr(action, "position"):
            return None
        x, y, z = (float(v) for v in action.position)
        away = (x - float(here.position[0]), y - float(here.position[1]))
        yaw = math.atan2(away[1], away[0]) if math.hypot(*away) > SAME_DISTANCE else here.yaw
        return Pose.from_xyz_yaw(x, y, z, yaw)

    def _is_same(self, target: Pose, stamp: int) -> bool:
        if self._last is None:
            return False
        last, sent = self._last
        if 0 <= stamp - sent < PAUSE_NS:
            return True
        moved = np.abs(target.position - last.position)[:2].max()
        turned = abs(math.remainder(target.yaw - last.yaw, 2 * math.pi))
        return bool(moved < SAME_DISTANCE and turned < SAME_ANGLE)

    def _send(self, target: Pose, stamp: int) -> None:
        self._last = (target, stamp)
        header = messages.header(stamp, self._frame)
        self._publish(SUB_GOAL.topic, messages.make(SUB_GOAL.type, header=header, pose=messages.pose(target)))

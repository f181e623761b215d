"""The oracle of navigation tasks: goes the true shortest way to the goal, which no robot could know."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from embodied_mem.sim.house.robot import Action
from embodied_mem.types import MemoryTokens, Observation

if TYPE_CHECKING:
    from embodied_mem.sim.nav_task import NavTask

TURN_COST = 0.01
"""Of two ways that are about as long the one with fewer turns is taken [m a turn]."""


class NavOracle:
    """Takes the step that leads nearest to the goal, by the place's own distances.

    Args:
        env: the task, whose ground truth it reads.
    """

    def __init__(self, env: NavTask) -> None:
        self._env = env

    def act(self, obs: Observation, tokens: MemoryTokens, state: Any) -> tuple[int, Any]:
        """Returns the next action along the shortest way."""
        env = self._env
        if env.is_at_goal:
            return int(Action.FOUND), state
        robot, config = env.robot, env.robot_config
        turn = math.radians(config.turn)
        count = round(2 * math.pi / turn)
        best, least = 0, math.inf
        for turns in sorted(range(-(count // 2), count - count // 2), key=abs):
            end, _ = robot.plan.advance(robot.position, robot.yaw + turns * turn, config.forward)
            cost = env.site.distance(env.goal_label, env.success_radius, end) + TURN_COST * abs(turns)
            if cost < least - 1e-9:
                best, least = turns, cost
        if best == 0:
            return int(Action.FORWARD), state
        return int(Action.LEFT if best > 0 else Action.RIGHT), state

"""A navigation task whose robot is driven by velocities instead of steps and turns."""

from __future__ import annotations

from typing import Any

import gymnasium

from embodied_mem.errors import ConfigError
from embodied_mem.sim.house.robot import Action
from embodied_mem.sim.nav_task import STEP_NS, NavTask
from embodied_mem.types import NS_PER_S, Observation


class DrivenWorld:
    """Lets a task's robot drive; a step takes 100 ms of log time.

    Args:
        env: a registered navigation task.
        seed: of its reset.
        steps: the world ends after this many; never where None.

    Raises:
        ConfigError: the task's robot cannot be driven.
    """

    step_ns = STEP_NS

    def __init__(
        self, env: gymnasium.Env[Any, Any], seed: int | None = None, steps: int | None = None
    ) -> None:
        task = env.unwrapped
        if not isinstance(task, NavTask):
            raise ConfigError(f"{type(task).__name__} has no robot to drive; take a House-ObjectNav-v0")
        self.task = task
        env.reset(seed=seed)
        self.info: dict[str, Any] = {}
        self._left = steps
        self._fresh = True

    def observe(self) -> Observation | None:
        """Returns the newest observation once; None when the world has ended."""
        if not self._fresh:
            return None
        self._fresh = False
        return self.task.observation

    def act(self, velocity: tuple[float, float]) -> None:
        """Drives for one step with a speed ahead [m/s] and a turn rate [rad/s]."""
        if self._left is not None:
            if self._left == 0:
                return
            self._left -= 1
        seconds = STEP_NS / NS_PER_S
        self.task.drive(velocity[0] * seconds, velocity[1] * seconds)
        self._fresh = True

    def found(self) -> dict[str, Any]:
        """Takes the robot's word that it has found the goal; returns the task's measures."""
        _, _, terminated, _, self.info = self.task.step(Action.FOUND)
        self._left = 0 if terminated else self._left
        self._fresh = not terminated
        return {**self.info, "terminated": bool(terminated)}

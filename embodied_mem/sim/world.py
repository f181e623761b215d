"""A gymnasium environment as the loop's `World`."""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium

from embodied_mem.loop import Controller
from embodied_mem.memory import MemoryConfig
from embodied_mem.perception import PerceptionConfig
from embodied_mem.sim.explorer import Explorer
from embodied_mem.types import Observation


class EmbodiedEnv(Protocol):
    """A gymnasium environment that gives its last step as an `Observation`, and says what fits it."""

    observation: Observation

    def memory_config(self) -> MemoryConfig:
        """Returns the memory's settings for this world."""

    def perception_config(self) -> PerceptionConfig:
        """Returns perception's settings for this world."""

    def controller(self) -> Controller:
        """Returns a controller that turns sub-goals into this world's actions."""

    def explorer(self) -> Explorer:
        """Returns an explorer as patient as this world's actions need."""


class EnvWorld:
    """Runs one episode of an environment; the world ends where the episode does.

    Args:
        env: an environment whose `unwrapped` has the property `observation`.
        seed: seed of the reset.

    Attributes:
        result: what the last `reset` or `step` of the environment returned:
            (observation, reward, terminated, truncated, info).
    """

    def __init__(self, env: gymnasium.Env[Any, Any], seed: int | None = None) -> None:
        self.env = env
        self.result: tuple[Any, float, bool, bool, dict[str, Any]] | None = None
        self._seed = seed
        self._fresh = False

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Starts a new episode."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.result = (obs, 0.0, False, False, info)
        self._fresh = True

    def observe(self) -> Observation | None:
        """Returns the newest observation once; None after the episode's last."""
        if self.result is None:
            self.reset(self._seed)
        if not self._fresh:
            return None
        self._fresh = False
        observation: Observation = self.env.unwrapped.observation  # type: ignore[attr-defined]
        return observation

    def act(self, action: Any) -> None:
        """Steps the environment, unless its episode has ended; None stops, and ends the world."""
        if action is not None and self.result is not None and not (self.result[2] or self.result[3]):
            self.result = self.env.step(action)  # type: ignore[assignment]
            self._fresh = True

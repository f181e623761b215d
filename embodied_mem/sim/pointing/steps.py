"""Navigation tasks with the memory that pointing policies read, and the task's own actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium

from embodied_mem.sim.memory_wrapper import read_spaces
from embodied_mem.sim.pointing.candidates import READ, arranged
from embodied_mem.sim.pointing.pointing import Pointing
from embodied_mem.sim.world import EnvWorld


class Steps(Pointing):
    """Steps a navigation task action by action, with what `Pointing` shows of the memory.

    ## Description
    What pointing is compared with: the same task and the same tokens, but nothing goes anywhere by itself,
    and "found" is an action like the others.

    ## Action Space
    The task's.

    ## Observation Space
    A `Dict` of the goal's label and what was read of the memory (`mem_*`): its tokens, and pictures of the
    map around the agent.

    ## Rewards
    Those of the task.

    ## Starting State
    That of the task, with an empty memory.

    ## Episode End
    That of the task.

    ## Arguments
    * `env_id`: the task; `without=()`: parts that the policy does not see, of memory_tokens, octree,
      objects; otherwise those of the task.

    ## Version History
    * v0: first version.

    Args:
        env: a navigation task.
        without: what the policy does not see.

    Raises:
        ConfigError: as for `Pointing`.
    """

    points = False

    def __init__(self, env: gymnasium.Env[Any, Any], without: Sequence[str] = ()) -> None:
        super().__init__(env, without=without)
        goal = gymnasium.spaces.Discrete(len(env.unwrapped.labels))  # type: ignore[attr-defined]
        shown: dict[str, gymnasium.spaces.Space[Any]] = {"goal": goal, **read_spaces(READ)}
        self.observation_space = gymnasium.spaces.Dict(shown)
        self._keys = tuple(shown)
        self.action_space = env.action_space

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Carries out one action of the task."""
        world = self._loop.world
        assert isinstance(world, EnvWorld)
        self._loop.act(action)
        sensed = self._loop.sense()
        assert sensed is not None and world.result is not None
        self.moment = replace(sensed, tokens=arranged(sensed.tokens))
        _, reward, terminated, truncated, info = world.result
        return self._observe(), float(reward), terminated, truncated, info

    def _observe(self) -> dict[str, Any]:
        seen = super()._observe()
        return {key: seen[key] for key in self._keys}


def make_steps(env_id: str, without: Sequence[str] = (), **kwargs: Any) -> Steps:
    """Makes a registered navigation task and wraps it in `Steps`."""
    return Steps(gymnasium.make(env_id, disable_env_checker=True, **kwargs), without)

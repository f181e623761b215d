"""Navigation tasks whose actions point at what the memory shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium

from embodied_mem.errors import ConfigError
from embodied_mem.loop import Loop, Moment
from embodied_mem.memory import Memory, MemoryConfig
from embodied_mem.perception import Perception
from embodied_mem.sim.pointing.candidates import (
    CANDIDATES,
    LOOK,
    PARTS,
    READ,
    arranged,
    decision_observation,
    decision_space,
    without,
)
from embodied_mem.sim.pointing.errand import ErrandConfig, Errands
from embodied_mem.sim.pointing.sketch import SketchMemory
from embodied_mem.sim.world import EnvWorld


def pointing_memory(env: Any) -> MemoryConfig:
    """Returns a task's memory settings, read as pointing policies need it."""
    config: MemoryConfig = env.unwrapped.memory_config()
    return replace(config, read=READ)


def errand_config(env: Any) -> ErrandConfig:
    """Returns how choices are carried out in a task: as patiently and as near as its seeker does."""
    seeker = env.unwrapped.seeker()
    return ErrandConfig(
        trust=seeker.trust,
        reach=seeker.reach,
        limit=seeker.limit,
        turn=seeker.turn,
        circle=seeker.circle,
        found=seeker.found,
    )


class Pointing(gymnasium.Wrapper[dict[str, Any], Any, Any, Any]):
    """Steps a navigation task from decision to decision.

    ## Description
    The task is the wrapped one; the agent chooses where to go among what its memory shows, and a
    controller goes there. So a policy is asked the few questions that matter, and learns from fewer steps.

    ## Action Space
    `Discrete(CANDIDATES + 1)`: frontiers, objects and places in the order of the memory tokens, then a
    look around. It is carried out for up to `ErrandConfig.budget` primitive actions, or until something
    new is known of the goal; a thing that the goal names is approached and then said to be found. What
    `cand_mask` does not offer stands for a look around.

    ## Observation Space
    A `Dict` of the goal's label, how the last errand ended, the geometry of the candidates (`cand_*`),
    and what was read of the memory (`mem_*`): its tokens, and pictures of the map around the agent.

    ## Rewards
    Those of the task, discounted over the errand; `info["duration"]` is the number of primitive actions,
    by which returns are discounted (Sutton, Precup and Singh 1999, options).

    ## Starting State
    That of the task, with an empty memory.

    ## Episode End
    That of the task.

    ## Arguments
    * `env_id`: the task; `gamma=0.999`: discount of a primitive action; `without=()`: parts that the
      policy does not see, of memory_tokens, octree, objects; otherwise those of the task.

    ## Version History
    * v0: first version.

    Args:
        env: a navigation task.
        gamma: discount of a primitive action.
        without: of `PARTS`: what the policy does not see.

    Attributes:
        moment: the newest step of the loop.
        offered: (CANDIDATES + 1,) bool, what can be chosen now.

    Raises:
        ConfigError: a task that has no controller or no goals, or there is no such part.
    """

    points = True
    """Whether its actions are choices of candidates."""

    def __init__(
        self, env: gymnasium.Env[Any, Any], gamma: float = 0.999, without: Sequence[str] = ()
    ) -> None:
        super().__init__(env)
        task: Any = env.unwrapped
        if not hasattr(task, "seeker") or not hasattr(task, "labels"):
            raise ConfigError(f"{type(task).__name__} has no goals to point at; use a navigation task")
        for part in without:
            if part not in PARTS:
                raise ConfigError(f'no part "{part}" to leave out; there are: {", ".join(PARTS)}')
        self.gamma, self.hidden = gamma, tuple(without)
        self.memory_config = pointing_memory(env)
        is_sketch = hasattr(task, "sketch_memory")
        self.perception = task.perceive if is_sketch else Perception(task.perception_config())
        self.observation_space = decision_space(len(task.labels))
        self.action_space = gymnasium.spaces.Discrete(CANDIDATES + 1)
        self.moment: Moment | None = None

    @property
    def memory(self) -> Memory:
        """The memory of the current episode."""
        return self._loop.memory

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts an episode with an empty memory."""
        task: Any = self.env.unwrapped
        world = EnvWorld(self.env)
        world.reset(seed=seed, options=options)
        is_sketch = hasattr(task, "sketch_memory")
        memory: Any = task.sketch_memory(READ) if is_sketch else Memory(self.memory_config)
        self._loop = Loop(world, self.perception, memory, None, task.controller())
        self._errands = Errands(errand_config(self.env))
        sensed = self._loop.sense()
        assert sensed is not None
        self.moment = replace(sensed, tokens=arranged(sensed.tokens))
        assert world.result is not None
        return self._observe(), world.result[4]

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Carries out one errand; what is not offered stands for a look around."""
        moment, errands, world = self.moment, self._errands, self._loop.world
        assert moment is not None and isinstance(world, EnvWorld), "reset the environment first"
        choice = int(action) if self.offered[int(action)] else LOOK
        errands.start(choice, moment.obs, moment.tokens)
        total, discount, ended = 0.0, 1.0, False
        while not ended and (primitive := errands.next(moment.obs, moment.tokens)) is not None:
            self._loop.act(primitive)
            sensed = self._loop.sense()
            assert sensed is not None
            self.moment = moment = replace(sensed, tokens=arranged(sensed.tokens))
            assert world.result is not None
            total += discount * float(world.result[1])
            discount *= self.gamma
            ended = world.result[2] or world.result[3]
        assert world.result is not None
        _, _, terminated, truncated, info = world.result
        info = {**info, "duration": errands.steps, "outcome": errands.outcome}
        return self._observe(), total, terminated, truncated, info

    def _observe(self) -> dict[str, Any]:
        """Finds out what can be chosen now; returns what the next choice is made on."""
        moment, errands, memory = self.moment, self._errands, self._loop.memory
        assert moment is not None
        if isinstance(memory, SketchMemory):
            drawn = memory.drawn(moment.tokens, moment.percept.map_T_base, moment.obs.goal)
            self.moment = moment = replace(moment, tokens=drawn)
        self.offered = errands.offer(moment.obs, without(moment.tokens, self.hidden))
        tried = errands.tried(moment.obs, moment.tokens)
        return decision_observation(
            moment.obs, moment.tokens, self.offered, errands.outcome, self.hidden, tried
        )


def make_pointing(env_id: str, gamma: float = 0.999, without: Sequence[str] = (), **kwargs: Any) -> Pointing:
    """Makes a registered navigation task and wraps it in `Pointing`."""
    env = gymnasium.make(env_id, disable_env_checker=True, **kwargs)
    return Pointing(env, gamma, without)


def pointing_of(env: gymnasium.Env[Any, Any]) -> Pointing:
    """Returns the `Pointing` inside the wrappers of an environment.

    Raises:
        ConfigError: there is none.
    """
    inner = env
    while not (isinstance(inner, Pointing) and inner.points):
        if not isinstance(inner, gymnasium.Wrapper):
            raise ConfigError(f"{type(inner).__name__} is not decided by pointing; use House-Pointing-v0")
        inner = inner.env
    return inner

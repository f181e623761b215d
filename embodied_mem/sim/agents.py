"""Reference agents: what anybody who learns in these worlds compares with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium

from embodied_mem.errors import ConfigError
from embodied_mem.loop import Controller, Identity, Policy
from embodied_mem.memory import ReadConfig
from embodied_mem.sim.registration import make
from embodied_mem.types import MemoryTokens, Observation

AGENTS = ("explorer", "heuristic", "oracle", "random")
"""Their names: `explorer` explores, and goes to the goal once its memory knows it; `heuristic` does so too,
but by pointing as trained policies do, with their errands; `oracle` goes the shortest way, which no robot
could know; `random` draws its actions."""


class RandomAgent:
    """Draws actions from the environment's action space.

    Args:
        env: the environment.
        seed: of the draws.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], seed: int) -> None:
        env.action_space.seed(seed)
        self._space = env.action_space

    def act(self, obs: Observation, tokens: MemoryTokens, state: Any) -> tuple[Any, Any]:
        """Returns a random primitive action."""
        return self._space.sample(), state


@dataclass(frozen=True)
class Agent:
    """Who acts in a run.

    Attributes:
        policy: chooses sub-goals or actions.
        controller: turns sub-goals into actions.
        remembers: False where it never reads the memory.
        read: what it reads of the memory; what the world suggests where None.
    """

    policy: Policy
    controller: Controller
    remembers: bool
    read: ReadConfig | None = None


def make_agent(
    name: str, env: gymnasium.Env[Any, Any], seed: int = 0, without: Collection[str] = ()
) -> Agent:
    """Returns an agent for an environment; where that begins with an evening, it makes the rounds first.

    Args:
        name: one of `AGENTS`, or the folder of a checkpoint that was trained to point.
        env: the environment.
        seed: of what it draws.
        without: parts of the memory that a checkpoint does not see.

    Raises:
        ConfigError: no such agent, or none for this world.
    """
    agent = _agent(name, env, seed, without)
    if not hasattr(env.unwrapped, "is_evening"):
        return agent
    from embodied_mem.sim.days import Rounds
    from embodied_mem.sim.house.overnight_nav import Evening

    embodied: Any = env.unwrapped
    rounds = Rounds(embodied.explorer()) if agent.remembers else None
    controller = embodied.controller() if agent.remembers else agent.controller
    return replace(agent, policy=Evening(agent.policy, rounds), controller=controller)


def _agent(name: str, env: gymnasium.Env[Any, Any], seed: int, without: Collection[str]) -> Agent:
    if name == "heuristic" or (name not in AGENTS and Path(name).is_dir()):
        return _pointing_agent(name, env, without)
    if name not in AGENTS:
        raise ConfigError(f'unknown agent "{name}"; there are: {", ".join(AGENTS)}')
    if name == "random":
        return Agent(RandomAgent(env, seed), Identity(), False)
    embodied: Any = env.unwrapped
    if name == "explorer":
        return Agent(embodied.seeker(), embodied.controller(), True)
    if not hasattr(embodied, "oracle"):
        raise ConfigError(f"nobody knows the shortest way in {type(embodied).__name__}; use another agent")
    return Agent(embodied.oracle(), Identity(), False)


def _pointing_agent(name: str, env: gymnasium.Env[Any, Any], without: Collection[str]) -> Agent:
    from embodied_mem.sim.pointing.agent import PointingAgent
    from embodied_mem.sim.pointing.candidates import READ, decision_space
    from embodied_mem.sim.pointing.heuristic import Heuristic
    from embodied_mem.sim.pointing.pointing import errand_config

    embodied: Any = env.unwrapped
    if not hasattr(embodied, "seeker") or not hasattr(embodied, "labels"):
        raise ConfigError(f"{type(embodied).__name__} has no goals to point at; use a navigation task")
    if name == "heuristic":
        return Agent(
            PointingAgent(Heuristic(), errand_config(env), without), embodied.controller(), True, READ
        )
    agent = _loaded(name)
    if agent.observation_space != decision_space(len(embodied.labels)):
        raise ConfigError(f"{name} was trained on other observations than pointing gives here; train it anew")
    never = agent.env_kwargs.get("without", ())  # what it was trained without
    policy = PointingAgent(agent, errand_config(env), {*without, *never})
    return Agent(policy, embodied.controller(), True, READ)


@lru_cache(maxsize=2)
def _loaded(folder: str) -> Any:
    """Loads a checkpoint, once for all episodes."""
    from embodied_mem.policy.checkpoint import load_policy

    return load_policy(Path(folder))


def make_observable(env_id: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """Makes a registered environment that gives `Observation`s.

    Raises:
        ConfigError: no such environment, arguments that it does not take, or one without observations.
    """
    try:
        env = make(env_id, **kwargs)
    except TypeError as error:  # "got an unexpected keyword argument"
        raise ConfigError(f"cannot make the environment {env_id}: {error}") from None
    if not hasattr(type(env.unwrapped), "observation"):
        raise ConfigError(
            f"{env_id} gives no Observation to remember; choose for example EmbodiedMem/MultiRoom-v0"
        )
    return env

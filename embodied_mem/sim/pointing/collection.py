"""Collecting demonstrations: somebody acts, the teacher says what it would have preferred."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
from numpy.typing import NDArray

from embodied_mem.policy.demonstrations import Demonstration
from embodied_mem.sim.pointing.candidates import LOOK, hide
from embodied_mem.sim.pointing.heuristic import heuristic_choice
from embodied_mem.sim.pointing.pointing import Pointing, pointing_of
from embodied_mem.sim.pointing.teacher import Teacher


@dataclass(frozen=True, eq=False)
class Situation:
    """A decision that is due.

    Attributes:
        observation: what a policy decides on.
        preferences: (A,) the teacher's.
        rng: for draws.
        is_first: an episode begins.
    """

    observation: dict[str, Any]
    preferences: NDArray[np.float32]
    rng: np.random.Generator
    is_first: bool


STRAYING = 0.2
"""How often who goes by the heuristic goes anywhere instead."""


Choose = Callable[[Situation], int]


def choose_teacher(situation: Situation) -> int:
    """Draws from the teacher's preferences."""
    p = situation.preferences.astype(np.float64)
    return int(situation.rng.choice(len(p), p=p / p.sum()))


def choose_heuristic(situation: Situation) -> int:
    """Goes to the known goal, else to the explorer's frontier; now and then to any, or looks around."""
    observation, rng = situation.observation, situation.rng
    if rng.random() < STRAYING:
        offered = observation["cand_mask"] > 0
        frontiers = offered & np.append(observation["mem_frontier"][:LOOK] > 0, True)
        wide = rng.random() >= 0.9 or not frontiers.any()
        return int(rng.choice(np.flatnonzero(offered if wide else frontiers)))
    return heuristic_choice(observation)


class ChoosePolicy:
    """Lets a policy choose, by its own probabilities.

    Args:
        policy: anything with SB3's `predict`.
        hidden: parts of the memory that it does not see.
    """

    def __init__(self, policy: Any, hidden: Collection[str] = ()) -> None:
        self.policy, self.hidden = policy, tuple(hidden)
        self._state: Any = None

    def __call__(self, situation: Situation) -> int:
        """Returns the policy's choice."""
        state = None if situation.is_first else self._state
        seen = hide(situation.observation, self.hidden)
        choice, self._state = self.policy.predict(seen, state, deterministic=False)
        return int(choice)


def collect_episode(env: Pointing, seed: int, choose: Choose) -> Demonstration:
    """Plays one episode and keeps what was seen, preferred and earned at every decision.

    Args:
        env: a task in houses.
        seed: of the episode and of the draws.
        choose: acts.
    """
    rng, teacher = np.random.default_rng(seed), Teacher(env)
    observation, _ = env.reset(seed=seed)
    observations: list[dict[str, Any]] = []
    preferences, distances, rewards, durations = [], [], [], []
    ended = False
    while not ended:
        assert env.moment is not None
        known = teacher.distances(env.moment, env.offered)
        preferred = teacher.preferences(env.moment, env.offered, known)
        observations.append(observation)
        preferences.append(preferred)
        distances.append(known)
        choice = choose(Situation(observation, preferred, rng, len(observations) == 1))
        observation, reward, terminated, truncated, info = env.step(choice)
        rewards.append(reward)
        durations.append(info["duration"])
        ended = terminated or truncated
    return Demonstration(
        {key: np.stack([o[key] for o in observations]) for key in observations[0]},
        np.stack(preferences),
        np.array(rewards, np.float32),
        np.array(durations, np.int32),
        bool(info["success"]),
        np.stack(distances).astype(np.float32),
    )


def choose_astray(situation: Situation) -> int:
    """Draws from the teacher's preferences; now and then goes anywhere."""
    if situation.rng.random() < STRAYING:
        return int(situation.rng.integers(len(situation.preferences)))
    return choose_teacher(situation)


def is_taught(env: gymnasium.Env[Any, Any]) -> bool:
    """Tells whether a task has `preferences` of its own, as House-Parcels has, and needs no teacher."""
    return hasattr(env.unwrapped, "preferences")


def collect_taught_episode(env: gymnasium.Env[Any, Any], seed: int, choose: Choose) -> Demonstration:
    """Plays one episode of a task that says itself what is to be preferred; see `collect_episode`.

    Args:
        env: the task; no distances are known in it.
        seed: of the episode and of the draws.
        choose: acts.
    """
    rng, task = np.random.default_rng(seed), cast(Any, env.unwrapped)
    observation, _ = env.reset(seed=seed)
    observations: list[dict[str, Any]] = []
    preferences, rewards = [], []
    ended = False
    while not ended:
        preferred = task.preferences()
        observations.append(observation)
        preferences.append(preferred)
        choice = choose(Situation(observation, preferred, rng, len(observations) == 1))
        observation, reward, terminated, truncated, info = env.step(choice)
        rewards.append(float(reward))
        ended = terminated or truncated
    steps = len(rewards)
    return Demonstration(
        {key: np.stack([o[key] for o in observations]) for key in observations[0]},
        np.stack(preferences),
        np.array(rewards, np.float32),
        np.ones(steps, np.int32),
        bool(info["success"]),
        np.zeros((steps, len(preferences[0]) - 1), np.float32),
    )


def collect(
    make: Callable[[], gymnasium.Env[Any, Any]],
    folder: Path,
    seeds: range,
    choosers: dict[str, Choose],
    on_episode: Callable[[int, Demonstration], None] | None = None,
) -> None:
    """Collects one demonstration per seed; those that are there already are left alone.

    Args:
        make: makes the task.
        folder: where demonstrations go, `SEED.npz` each.
        seeds: of the episodes.
        choosers: who acts, in turns.
        on_episode: called with the seed and its new demonstration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    env, names = make(), sorted(choosers)
    for seed in seeds:
        path = folder / f"{seed}.npz"
        if path.exists():
            continue
        choose = choosers[names[seed % len(names)]]
        demonstration = (
            collect_taught_episode(env, seed, choose)
            if is_taught(env)
            else collect_episode(pointing_of(env), seed, choose)
        )
        demonstration.save(path)
        if on_episode is not None:
            on_episode(seed, demonstration)
    env.close()

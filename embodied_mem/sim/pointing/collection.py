"""Collecting demonstrations: somebody acts, the teacher says what it would have preferred."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.policy.demonstrations import Demonstration
from embodied_mem.sim.pointing.heuristic import heuristic_choice
from embodied_mem.sim.pointing.pointing import Pointing
from embodied_mem.sim.pointing.teacher import Teacher

Choose = Callable[[dict[str, Any], NDArray[np.float32], np.random.Generator], int]
"""Chooses on an observation, the teacher's preferences, and a generator."""


def choose_teacher(obs: dict[str, Any], preferences: NDArray[np.float32], rng: np.random.Generator) -> int:
    """Draws from the teacher's preferences."""
    return int(rng.choice(len(preferences), p=preferences.astype(np.float64) / preferences.sum(dtype=float)))


def choose_heuristic(obs: dict[str, Any], preferences: NDArray[np.float32], rng: np.random.Generator) -> int:
    """Goes to the known goal, else to the nearest frontier; now and then anywhere."""
    if rng.random() < 0.1:
        return int(rng.choice(np.flatnonzero(obs["cand_mask"])))
    return heuristic_choice(obs)


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
    preferences, rewards, durations = [], [], []
    ended = False
    while not ended:
        assert env.moment is not None
        preferred = teacher.preferences(env.moment, env.offered)
        observations.append(observation)
        preferences.append(preferred)
        choice = choose(observation, preferred, rng)
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
    )


def collect(
    make: Callable[[], Pointing],
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
        demonstration = collect_episode(env, seed, choosers[names[seed % len(names)]])
        demonstration.save(path)
        if on_episode is not None:
            on_episode(seed, demonstration)
    env.close()

"""The episodes to learn from, to choose by and to report on: frozen, and told by a digest."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from embodied_mem.sim.agents import make_observable

TASK = "EmbodiedMem/House-MultiObjectNav-v1"
FIRST_SEEDS = {"train": 10_000_000, "val": 20_000_000, "test": 30_000_000}
"""Seed of the first episode of each split; houses are those of the split of the same name."""


def episode_facts(env: Any, seed: int) -> dict[str, Any]:
    """Returns what an episode is: its house, where it starts, and what is to be found, how far away.

    Args:
        env: the task.
        seed: of the episode.
    """
    _, info = env.reset(seed=seed)
    task = env.unwrapped
    return {
        "seed": seed,
        "house": task.house.seed,
        "rooms": len(task.house.rooms),
        "start": [round(float(v), 3) for v in (*task.robot.position, task.robot.yaw)],
        "goals": [leg["label"] for leg in info["goals"]],
        "away": round(float(info["distance_to_goal"]), 3),
        "in_view": bool((task.view.label == task.labels.id(task.goal_label)).any()),
    }


def split_facts(split: str, episodes: int) -> dict[str, Any]:
    """Returns a split's digest and what its episodes are like, JSON-ready.

    Args:
        split: one of `FIRST_SEEDS`.
        episodes: how many, from the first on.

    Raises:
        ConfigError: no such split.
    """
    env = make_observable(TASK, split=split)
    first = FIRST_SEEDS[split]
    found = [episode_facts(env, seed) for seed in range(first, first + episodes)]
    env.close()
    words = json.dumps(found, sort_keys=True).encode()
    return {
        "first_seed": first,
        "episodes": episodes,
        "sha256": hashlib.sha256(words).hexdigest(),
        "median_rooms": float(np.median([f["rooms"] for f in found])),
        "nearest_goal": min(f["away"] for f in found),
        "goals_in_view": sum(f["in_view"] for f in found),
    }

"""Evaluate a checkpoint on fresh episodes, with intervals."""

from __future__ import annotations

import importlib
import inspect
import json as json_format
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError, InputError

COUNTS = ("doors", "corridors")
"""What environments count in `info` at an episode's end."""

BATCH = 64
"""Episodes that are played side by side."""

EVALUATION_SEED = 1_000_000
"""First seed of the evaluation episodes, far from those of training."""


def evaluate(
    checkpoint: Path,
    env: str | None = None,
    episodes: int = 200,
    seed: int = EVALUATION_SEED,
    horizon: tuple[str, ...] = (),
    json: bool = False,
) -> int:
    """Evaluate a checkpoint on fresh episodes; success rate and return with 95 % intervals.

    Example: embodied-mem eval runs/demo/checkpoint --horizon 1x 2x 4x

    Args:
        checkpoint: a folder that `embodied-mem train` exported.
        env: the environment; the one it was trained on where it is left out.
        episodes: how many.
        seed: of the first episode; far from the training seeds.
        horizon: multiples of the task's length in training, such as 1x 2x 4x; one evaluation for each.
        json: print JSON.
    """
    factors = [read_factor(text) for text in horizon] or [1]
    results = [
        evaluate_checkpoint(checkpoint, env_id=env, episodes=episodes, seed=seed, factor=factor)
        for factor in factors
    ]
    if json:
        print(json_format.dumps(results if horizon else results[0], indent=2))
    else:
        for text, result in zip(horizon or ("",), results):
            print(f"{text} {in_words(result)}".strip())
    return 0


def read_factor(text: str) -> int:
    """Reads a multiple such as "4x"."""
    number = text.removesuffix("x")
    if not number.isdigit() or int(number) < 1:
        raise InputError(f'horizon must be multiples such as 1x or 4x, got "{text}"')
    return int(number)


def lengthened(env_id: str, kwargs: Mapping[str, Any], factor: int) -> dict[str, Any]:
    """Returns the arguments of an environment whose memory must last `factor` times as long.

    Raises:
        ConfigError: the environment has no such argument.
    """
    from embodied_mem.sim import ENVIRONMENTS

    if factor == 1:
        return dict(kwargs)
    entry = next((entry for entry in ENVIRONMENTS if entry.id == env_id), None)
    if entry is None or entry.horizon is None:
        raise ConfigError(f"{env_id} has no length that --horizon could multiply")
    module, name = entry.entry_point.split(":")
    default = (
        inspect.signature(getattr(importlib.import_module(module), name)).parameters[entry.horizon].default
    )
    now = kwargs.get(entry.horizon, entry.kwargs.get(entry.horizon, default))
    return {**kwargs, entry.horizon: factor * now}


def evaluate_checkpoint(
    checkpoint: Path,
    *,
    env_id: str | None = None,
    episodes: int = 200,
    seed: int = EVALUATION_SEED,
    factor: int = 1,
) -> dict[str, Any]:
    """Runs the exported policy, greedily, on `episodes` seeded episodes, side by side.

    Returns:
        JSON-ready facts: env, episodes, success and its Wilson interval (None where the environment
        does not tell success), mean return and its bootstrap interval, and the means of what the
        environment counts (`doors`, `corridors`): `counts` in whole episodes, `late_counts` in the
        last of the `factor` parts of their steps.

    Raises:
        InputError: the checkpoint names no environment and none is given, or it has other observations.
        ConfigError: no such environment.
    """
    import gymnasium

    import embodied_mem.sim  # noqa: F401
    from embodied_mem.policy.checkpoint import load_policy

    if episodes < 1:
        raise InputError(f"episodes must be at least 1, got {episodes}")
    agent = load_policy(checkpoint)
    env_id = env_id or agent.env_id
    if not env_id:
        raise InputError(f"{checkpoint} does not name its environment; give it with --env")
    kwargs = lengthened(env_id, agent.env_kwargs if env_id == agent.env_id else {}, factor)
    try:
        envs = [
            gymnasium.make(env_id, disable_env_checker=True, **kwargs) for _ in range(min(BATCH, episodes))
        ]
    except gymnasium.error.Error as error:
        raise ConfigError(f"cannot make {env_id}: {' '.join(str(error).split())}") from None
    space = envs[0].observation_space
    if space != agent.observation_space:
        raise InputError(
            f"the checkpoint was trained on observations {agent.observation_space}, {env_id} gives {space}"
        )
    returns, successes, counts, late = _run_episodes(agent, envs, episodes, seed, factor)
    for env in envs:
        env.close()
    return {
        "checkpoint": str(checkpoint),
        "env": env_id,
        "env_kwargs": kwargs,
        "episodes": episodes,
        "seed": seed,
        "success": None if successes is None else float(successes.mean()),
        "success_interval": None if successes is None else wilson(int(successes.sum()), episodes),
        "return": float(returns.mean()),
        "return_interval": bootstrap(returns),
        "counts": {name: float(np.mean(values)) for name, values in counts.items()},
        "late_counts": {name: float(np.mean(values)) for name, values in late.items()},
    }


def _run_episodes(
    agent: Any, envs: list[Any], episodes: int, seed: int, factor: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None, dict[str, list[int]], dict[str, list[int]]]:
    """Plays the episodes, each env taking the next seed when it is done; order of results is by seed."""
    returns = np.zeros(episodes)
    success: list[bool | None] = [None] * episodes
    counts: dict[str, list[int]] = {}
    late: dict[str, list[int]] = {}
    running = list(range(len(envs)))  # which episode each env plays; -1 once there is none left
    counted: list[list[dict[str, int]]] = [[] for _ in envs]  # after each step of the episode
    started = len(envs)
    observations = [env.reset(seed=seed + i)[0] for i, env in enumerate(envs)]
    state, starts = None, np.ones(len(envs), bool)
    while any(i >= 0 for i in running):
        actions, state = agent.predict(_stack(observations), state, starts, deterministic=True)
        starts = np.zeros(len(envs), bool)
        for slot, env in enumerate(envs):
            episode = running[slot]
            if episode < 0:
                continue
            observations[slot], reward, terminated, truncated, info = env.step(actions[slot])
            returns[episode] += reward
            history = counted[slot]
            history.append({name: int(info[name]) for name in COUNTS if name in info})
            if terminated or truncated:
                success[episode] = info.get("is_success")
                before = history[: len(history) - len(history) // factor]
                for name, total in history[-1].items():
                    counts.setdefault(name, []).append(total)
                    earlier = before[-1].get(name) if before else 0
                    if earlier is not None:
                        late.setdefault(name, []).append(total - earlier)
                history.clear()
                running[slot] = started if started < episodes else -1
                if running[slot] >= 0:
                    observations[slot] = env.reset(seed=seed + started)[0]
                    started += 1
                starts[slot] = True
    told = all(s is not None for s in success)
    return returns, np.array(success, bool) if told else None, counts, late


def _stack(observations: list[Any]) -> Any:
    if isinstance(observations[0], dict):
        return {key: np.stack([obs[key] for obs in observations]) for key in observations[0]}
    return np.stack(observations)


def wilson(successes: int, trials: int) -> list[float]:
    """Returns the 95 % Wilson score interval of a success rate."""
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return [float(interval.low), float(interval.high)]


def bootstrap(values: NDArray[np.float64]) -> list[float]:
    """Returns the 95 % percentile-bootstrap interval of a mean (seeded)."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (2000, len(values))).mean(axis=1)
    return [float(np.quantile(means, q)) for q in (0.025, 0.975)]


def in_words(result: dict[str, Any]) -> str:
    """Returns an evaluation as one line."""
    parts = []
    for measure in ("success", "return"):
        if result[measure] is not None:
            low, high = result[f"{measure}_interval"]
            parts.append(f"{measure} {result[measure]:.3f} [{low:.3f}, {high:.3f}]")
    parts += [f"{name} {mean:.2f}" for name, mean in result["counts"].items()]
    return f"{result['env']}: {', '.join(parts)} over {result['episodes']} episodes"

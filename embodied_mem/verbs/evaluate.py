"""Evaluate a checkpoint on fresh episodes, with intervals."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError, InputError

EVALUATION_SEED = 1_000_000
"""First seed of the evaluation episodes, far from those of training."""


def evaluate(
    checkpoint: Path,
    env: str | None = None,
    episodes: int = 200,
    seed: int = EVALUATION_SEED,
    json: bool = False,
) -> int:
    """Evaluate a checkpoint on fresh episodes; success rate and return with 95 % intervals.

    Example: embodied-mem eval runs/demo/checkpoint

    Args:
        checkpoint: a folder that `embodied-mem train` exported.
        env: the environment; the one it was trained on where it is left out.
        episodes: how many.
        seed: of the first episode; far from the training seeds.
        json: print JSON.
    """
    result = evaluate_checkpoint(checkpoint, env_id=env, episodes=episodes, seed=seed)
    print(json_format.dumps(result, indent=2) if json else in_words(result))
    return 0


def evaluate_checkpoint(
    checkpoint: Path, *, env_id: str | None = None, episodes: int = 200, seed: int = EVALUATION_SEED
) -> dict[str, Any]:
    """Runs the exported policy, greedily, on `episodes` seeded episodes, 16 side by side.

    Returns:
        JSON-ready facts: env, episodes, success and its Wilson interval (None where the environment
        does not tell success), mean return and its bootstrap interval.

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
    kwargs = agent.env_kwargs if env_id == agent.env_id else {}
    try:
        envs = [gymnasium.make(env_id, disable_env_checker=True, **kwargs) for _ in range(min(16, episodes))]
    except gymnasium.error.Error as error:
        raise ConfigError(f"cannot make {env_id}: {' '.join(str(error).split())}") from None
    space = envs[0].observation_space
    if space != agent.observation_space:
        raise InputError(
            f"the checkpoint was trained on observations {agent.observation_space}, {env_id} gives {space}"
        )
    returns, successes = _run_episodes(agent, envs, episodes, seed)
    for env in envs:
        env.close()
    return {
        "checkpoint": str(checkpoint),
        "env": env_id,
        "episodes": episodes,
        "seed": seed,
        "success": None if successes is None else float(successes.mean()),
        "success_interval": None if successes is None else wilson(int(successes.sum()), episodes),
        "return": float(returns.mean()),
        "return_interval": bootstrap(returns),
    }


def _run_episodes(
    agent: Any, envs: list[Any], episodes: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """Plays the episodes, each env taking the next seed when it is done; order of results is by seed."""
    returns = np.zeros(episodes)
    success: list[bool | None] = [None] * episodes
    running = list(range(len(envs)))  # which episode each env plays; -1 once there is none left
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
            if terminated or truncated:
                success[episode] = info.get("is_success")
                running[slot] = started if started < episodes else -1
                if running[slot] >= 0:
                    observations[slot] = env.reset(seed=seed + started)[0]
                    started += 1
                starts[slot] = True
    told = all(s is not None for s in success)
    return returns, np.array(success, bool) if told else None


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
    return f"{result['env']}: {', '.join(parts)} over {result['episodes']} episodes"

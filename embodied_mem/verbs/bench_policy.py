"""Measure training and streaming of policies with memory, beside sb3-contrib's recurrent PPO."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

ENV = "EmbodiedMem/EndlessTMaze-v0"
N_ENVS, N_STEPS, MINIBATCHES, EPOCHS = 32, 128, 4, 4

METHODS: dict[str, dict[str, Any]] = {
    "memo": {"bank": "accumulate"},
    "rewrite": {"bank": "rewrite"},
    "fifo": {"bank": "fifo"},
    "gru": {"policy": "gru"},
    "window": {"policy": "window"},
    "full_context": {"policy": "full_context"},
    "none": {"policy": "none"},
}
"""What is measured, by name, as settings of `MemoPPO`."""

WINDOW = 500
"""Steps before an age over which times are taken."""


def bench_policy(steps: int, rollouts: int = 3) -> dict[str, Any]:
    """Measures training throughput, and latency and state by age, in this process.

    Args:
        steps: the oldest age, in steps of one trial, at which streaming is measured.
        rollouts: timed rollouts with their updates per method; methods take turns, medians count.

    Returns:
        `workload`; `train.sps` (environment steps a second, end to end), `train.rollout_share` and
        `parameters` by method; `peers` with RecurrentPPO; `train.ratio` to it; `step.ms`,
        `step.boundary_ratio` and `memory.bytes` by method, batch and age.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        models = {name: make_policy(**settings) for name, settings in METHODS.items()}
        models["RecurrentPPO"] = make_recurrent_ppo(count_parameters(models["memo"]))
        trained = time_training(models, rollouts)
        peer = trained.pop("RecurrentPPO")
        ages = sorted({min(1000, steps), steps})
        streamed = {
            name: {f"batch_{batch}": time_streaming(settings, ages, batch) for batch in (1, 32)}
            for name, settings in METHODS.items()
        }
    finally:
        torch.set_num_threads(threads)
    return {
        "workload": {
            "env": ENV, "n_envs": N_ENVS, "n_steps": N_STEPS, "n_epochs": EPOCHS, "minibatches": MINIBATCHES,
            "threads": 1, "rollouts": rollouts, "oldest_step": steps,
        },
        "train": {
            "sps": {name: t["sps"] for name, t in trained.items()},
            "rollout_share": {name: t["rollout_share"] for name, t in trained.items()},
            "parameters": {name: t["parameters"] for name, t in trained.items()},
            "ratio": {name: t["sps"] / peer["sps"] for name, t in trained.items()},
        },
        "step": streamed,
        "peers": {"RecurrentPPO": peer},
    }  # fmt: skip


def make_env() -> Any:
    """Returns the environments that every method is timed in."""
    import gymnasium

    import embodied_mem.sim  # noqa: F401
    from embodied_mem.policy.vector import TaskVecEnv

    return TaskVecEnv(lambda: gymnasium.make(ENV, disable_env_checker=True), N_ENVS, 0)


def make_policy(**settings: Any) -> Any:
    """Returns a `MemoPPO` of d 64 and 2 layers."""
    from embodied_mem.policy import MemoPPO

    return MemoPPO(
        "MemoPolicy", make_env(), n_steps=N_STEPS, n_epochs=EPOCHS, minibatches=MINIBATCHES, seed=0,
        device="cpu", **settings,
    )  # fmt: skip


def make_recurrent_ppo(parameters: int) -> Any:
    """Returns sb3-contrib's RecurrentPPO with about as many parameters, epochs and minibatch tokens."""
    from sb3_contrib import RecurrentPPO

    env, models = make_env(), []
    for hidden in (64, 80, 96, 112, 128, 144):
        model = RecurrentPPO(
            "MlpLstmPolicy", env, n_steps=N_STEPS, batch_size=N_ENVS * N_STEPS // MINIBATCHES,
            n_epochs=EPOCHS, policy_kwargs={"lstm_hidden_size": hidden}, seed=0, device="cpu",
        )  # fmt: skip
        models.append((abs(count_parameters(model) - parameters), hidden, model))
    return min(models, key=lambda m: m[:2])[2]


def count_parameters(model: Any) -> int:
    """Returns the number of weights."""
    return sum(p.numel() for p in model.policy.parameters())


def time_training(models: dict[str, Any], rounds: int) -> dict[str, dict[str, Any]]:
    """Times one rollout with its updates per round, the models taking turns.

    Returns:
        By name: steps a second in the median round, the rollout's share of it, and parameters.
    """
    walls: dict[str, list[float]] = {name: [] for name in models}
    shares: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(rounds + 1):
        for name, model in models.items():
            wall, rollout = time_rollout(model)
            if turn:  # the first one warms up
                walls[name].append(wall)
                shares[name].append(rollout / wall)
    for model in models.values():
        model.get_env().close()
    return {
        name: {
            "sps": N_ENVS * N_STEPS / float(np.median(walls[name])),
            "rollout_share": float(np.median(shares[name])),
            "parameters": count_parameters(model),
        }
        for name, model in models.items()
    }


def time_rollout(model: Any) -> tuple[float, float]:
    """Lets a model learn for one rollout; returns the seconds of all, and of the rollout alone."""
    spent = 0.0
    collect = model.collect_rollouts

    def timed(*args: Any, **kwargs: Any) -> Any:
        nonlocal spent
        begin = time.perf_counter()
        out = collect(*args, **kwargs)
        spent += time.perf_counter() - begin
        return out

    model.collect_rollouts = timed
    try:
        begin = time.perf_counter()
        model.learn(N_ENVS * N_STEPS, reset_num_timesteps=False)
        return time.perf_counter() - begin, spent
    finally:
        model.collect_rollouts = collect


def time_streaming(settings: dict[str, Any], ages: list[int], batch: int) -> dict[str, Any]:
    """Steps through one long trial; returns latency and state by age, and what a boundary costs.

    A boundary step closes a segment, or is the first after one, where the summaries are projected.
    """
    import gymnasium
    import torch

    import embodied_mem.sim  # noqa: F401
    from embodied_mem.policy import MemoPolicy, PolicyConfig

    env = gymnasium.make(ENV, disable_env_checker=True)
    torch.manual_seed(0)
    policy = MemoPolicy(env.observation_space, env.action_space, lambda _: 0.0, PolicyConfig(**settings))
    policy.set_training_mode(False)
    obs, start = torch.zeros(batch, 3), torch.zeros(batch, dtype=torch.bool)
    state, times, boundary, size = policy.initial_state(batch), [], [], {}
    closed = False
    with torch.no_grad():
        for step in range(1, ages[-1] + 1):
            obs[:, 0] = (step % 7) / 7
            begin = time.perf_counter()
            _, _, _, state = policy(obs, state, start, inplace=True)
            times.append(1e3 * (time.perf_counter() - begin))
            now = bool(state.closed.any())
            boundary.append(now or closed)
            closed = now
            if step in ages:
                size[str(step)] = state.nbytes // batch
    took, at_boundary = np.array(times), np.array(boundary)
    report: dict[str, Any] = {
        "ms": {str(age): float(np.median(took[max(0, age - WINDOW) : age])) for age in ages},
        "memory_bytes": size,
    }
    if at_boundary.any():
        ratio = np.median(took[at_boundary]) / np.median(took[~at_boundary])
        report["boundary_ratio"] = float(ratio)
    return report

"""Measure training and streaming of policies with memory, beside sb3-contrib's recurrent PPO."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

ENVS: dict[str, tuple[str, dict[str, Any]]] = {
    "short_trials": ("EmbodiedMem/EndlessTMaze-v0", {}),
    "long_trials": ("EmbodiedMem/PassiveTMaze-v0", {"length": 127}),
}
"""Workloads of training: trials that end at any time, and trials as long as a rollout."""

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

BOUNDED = ("rewrite", "fifo", "gru", "window")
"""Methods whose state is said not to grow: they are followed to the oldest age."""

UNBOUNDED_AGE = 4000
"""The oldest age [steps] of methods whose state grows."""

WINDOW = 500
"""Steps over which the latency at an age is taken."""

LENGTHS = (125, 250, 500, 1000)
"""Steps of a trial for which a bounded bank is timed against full context."""


def bench_policy(steps: int, rollouts: int = 3, threads: int = 1) -> dict[str, Any]:
    """Measures training throughput, and latency and state by age, in this process.

    Args:
        steps: the oldest age, in steps of one trial, at which streaming is measured.
        rollouts: timed rollouts with their updates per method; methods take turns, medians count.
        threads: torch's threads, for every method.

    Returns:
        `train` by workload: `sps` (environment steps a second, end to end), `rollout_share`, `ratio` to
        RecurrentPPO (`peer`), `bare` (steps a second of the network's bare passes) and `of_bare`;
        `context`: training time of full context in units of a bounded bank's, by length, and the
        `crossover`; `step` by method and batch: `ms` by age, `boundary_ratio`, `memory_bytes`, resident
        memory.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        report = {
            "workload": {
                "envs": {name: env for name, (env, _) in ENVS.items()}, "n_envs": N_ENVS, "n_steps": N_STEPS,
                "n_epochs": EPOCHS, "minibatches": MINIBATCHES, "threads": threads, "rollouts": rollouts,
                "oldest_step": steps,
            },
            "train": {name: compare_training(name, rollouts) for name in ENVS},
            "context": time_context(),
            "step": {
                name: {f"batch_{batch}": time_streaming(settings, ages_of(name, steps), batch)
                       for batch in (1, 32)}
                for name, settings in METHODS.items()
            },
        }  # fmt: skip
    finally:
        torch.set_num_threads(before)
    return report


def ages_of(method: str, oldest: int) -> list[int]:
    """Returns the ages [steps] at which a method is measured."""
    last = oldest if method in BOUNDED else min(oldest, UNBOUNDED_AGE)
    return sorted({min(1000, last), last})


def compare_training(workload: str, rollouts: int) -> dict[str, Any]:
    """Times the training of every method and of RecurrentPPO in one workload; see `bench_policy`."""
    models = {name: make_policy(workload, **settings) for name, settings in METHODS.items()}
    models["RecurrentPPO"] = make_recurrent_ppo(workload, count_parameters(models["memo"]))
    trained = time_training(models, rollouts)
    bare = {name: time_bare(models[name], rollouts) for name in ("memo", "rewrite")}
    for model in models.values():
        model.get_env().close()
    peer = trained.pop("RecurrentPPO")
    return {
        "sps": {name: t["sps"] for name, t in trained.items()},
        "rollout_share": {name: t["rollout_share"] for name, t in trained.items()},
        "parameters": {name: t["parameters"] for name, t in trained.items()},
        "ratio": {name: t["sps"] / peer["sps"] for name, t in trained.items()},
        "bare": bare,
        "of_bare": {name: trained[name]["sps"] / sps for name, sps in bare.items()},
        "peer": {"RecurrentPPO": peer},
    }


def make_env(workload: str) -> Any:
    """Returns the environments that every method is timed in."""
    import gymnasium

    import embodied_mem.sim  # noqa: F401
    from embodied_mem.policy.vector import TaskVecEnv

    env_id, kwargs = ENVS[workload]
    return TaskVecEnv(lambda: gymnasium.make(env_id, disable_env_checker=True, **kwargs), N_ENVS, 0)


def make_policy(workload: str, **settings: Any) -> Any:
    """Returns a `MemoPPO` of d 64 and 2 layers."""
    from embodied_mem.policy import MemoPPO

    return MemoPPO(
        "MemoPolicy", make_env(workload), n_steps=N_STEPS, n_epochs=EPOCHS, minibatches=MINIBATCHES, seed=0,
        device="cpu", **settings,
    )  # fmt: skip


def make_recurrent_ppo(workload: str, parameters: int) -> Any:
    """Returns sb3-contrib's RecurrentPPO with about as many parameters, epochs and minibatch tokens."""
    from sb3_contrib import RecurrentPPO

    env, models = make_env(workload), []
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


def time_bare(model: Any, rounds: int) -> float:
    """Times the network alone on what a rollout and its updates pass through it.

    That is the streaming steps, and forward and backward of every minibatch of every epoch: no
    environment, no buffer, no loss, no optimizer.

    Returns:
        Environment steps a second in the median round.
    """
    import torch

    policy, buffer = model.policy, model.rollout_buffer
    parts = [buffer.sequences(envs) for envs in np.split(np.arange(N_ENVS), MINIBATCHES)]
    starts = torch.from_numpy(buffer.episode_starts)
    seen = torch.from_numpy(buffer.observations["observation"])
    jitter, walls = np.random.default_rng(0), []
    for turn in range(rounds + 1):
        begin = time.perf_counter()
        state = policy.initial_state(N_ENVS)
        with torch.inference_mode():
            for step in range(N_STEPS):
                *_, state = policy(seen[step], state, starts[step], jitter=jitter, inplace=True)
        for _ in range(EPOCHS):
            for data in parts:
                h = model._replay(data)[0].flatten(0, 1)
                (policy.action_net(h).sum() + policy.value_net(h).sum()).backward()
        policy.zero_grad()
        if turn:  # the first one warms up
            walls.append(time.perf_counter() - begin)
    return N_ENVS * N_STEPS / float(np.median(walls))


def time_context(rows: int = 4, rounds: int = 3) -> dict[str, Any]:
    """Times forward and backward over whole trials: full context (SDPA) against the rewrite bank.

    Returns:
        `ratio` by length, the time of full context in units of the bank's; `crossover`, the length
        [steps] from which the bank is faster, None where it is not up to the longest.
    """
    import torch

    from embodied_mem.policy.config import PolicyConfig
    from embodied_mem.policy.memo_policy import CORES
    from embodied_mem.policy.segments import fixed_closes, plan_segments

    torch.manual_seed(0)
    configs = {"bank": PolicyConfig(bank="rewrite"), "context": PolicyConfig(policy="full_context")}
    cores = {name: CORES[config.policy](config) for name, config in configs.items()}
    ratios: dict[str, float] = {}
    for length in LENGTHS:
        starts = np.zeros((length, rows), bool)
        starts[0] = True
        closes = fixed_closes(starts, configs["bank"].segment_length)
        plans = {name: plan_segments(starts, closes & cores[name].segmented) for name in cores}
        walls: dict[str, list[float]] = {name: [] for name in cores}
        for turn in range(rounds + 1):
            for name, core in cores.items():
                x = torch.randn(length, rows, configs[name].width, requires_grad=True)
                begin = time.perf_counter()
                core.replay(x, plans[name])[0].sum().backward()
                if turn:
                    walls[name].append(time.perf_counter() - begin)
        ratios[str(length)] = float(np.median(walls["context"]) / np.median(walls["bank"]))
    return {"ratio": ratios, "crossover": crossover(ratios)}


def crossover(ratios: dict[str, float]) -> float | None:
    """Returns the length from which the ratio stays above 1, between the lengths measured."""
    lengths, values = [float(n) for n in ratios], list(ratios.values())
    if values[-1] < 1.0:
        return None
    last = max((i for i, value in enumerate(values) if value < 1.0), default=-1)
    if last < 0:
        return lengths[0]
    share = (1.0 - values[last]) / (values[last + 1] - values[last])
    return lengths[last] + share * (lengths[last + 1] - lengths[last])


def time_in_turns(policy: Any, states: dict[str, Any], obs: Any, start: Any) -> dict[str, float]:
    """Steps states of several ages in turns, so that what else the machine does meets them alike.

    Returns:
        By age, the median milliseconds of a step.
    """
    import torch

    took: dict[str, list[float]] = {age: [] for age in states}
    with torch.inference_mode():
        for _ in range(WINDOW):
            for age in states:
                begin = time.perf_counter()
                _, _, _, states[age] = policy(obs, states[age], start, inplace=True)
                took[age].append(1e3 * (time.perf_counter() - begin))
    return {age: float(np.median(times)) for age, times in took.items()}


def resident_bytes() -> int | None:
    """Returns the resident memory of this process; None where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return None


def time_streaming(settings: dict[str, Any], ages: list[int], batch: int) -> dict[str, Any]:
    """Steps through one long trial; returns latency and state by age, and what a boundary costs.

    A boundary step closes a segment, or is the first after one, where the summaries are projected.
    """
    import gymnasium
    import torch

    import embodied_mem.sim  # noqa: F401
    from embodied_mem.policy import MemoPolicy, PolicyConfig

    env = gymnasium.make(ENVS["short_trials"][0], disable_env_checker=True)
    torch.manual_seed(0)
    policy = MemoPolicy(env.observation_space, env.action_space, lambda _: 0.0, PolicyConfig(**settings))
    policy.set_training_mode(False)
    obs, start = torch.zeros(batch, 3), torch.zeros(batch, dtype=torch.bool)
    state, size = policy.initial_state(batch), {}
    resident: dict[str, int | None] = {}
    took, at_boundary = np.full(ages[-1], np.nan), np.ones(ages[-1], bool)  # no page is new later on
    kept, closed, every = {}, False, torch.arange(batch)
    with torch.inference_mode():
        for step in range(ages[-1]):
            obs[:, 0] = (step % 7) / 7
            begin = time.perf_counter()
            _, _, _, state = policy(obs, state, start, inplace=True)
            took[step] = 1e3 * (time.perf_counter() - begin)
            now = bool(state.closed.any())
            at_boundary[step] = now or closed
            closed = now
            if step + 1 in ages:
                age = str(step + 1)
                size[age], resident[age] = state.nbytes // batch, resident_bytes()
                kept[age] = state.rows(every)
    report: dict[str, Any] = {
        "ms": time_in_turns(policy, kept, obs, start),
        "memory_bytes": size,
        "resident_bytes": resident,
    }
    if at_boundary.any():
        ratio = np.median(took[at_boundary]) / np.median(took[~at_boundary])
        report["boundary_ratio"] = float(ratio)
    return report

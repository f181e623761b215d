"""Evaluate a reference agent or a checkpoint on fresh episodes, with intervals."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json as json_format
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from embodied_mem.errors import ConfigError, InputError
from embodied_mem.verbs.interrupt import telling
from embodied_mem.verbs.progress import progress

BATCH = 64
"""Episodes that are played side by side."""

COUNTS = ("doors", "corridors")
"""What environments count in `info` at an episode's end."""

EVALUATION_SEED = 1_000_000
"""First seed of the evaluation episodes, far from those of training."""


def evaluate(
    agent: str,
    env: str | None = None,
    episodes: int = 200,
    seed: int = EVALUATION_SEED,
    memory: Literal["kept", "wiped", "both"] = "kept",
    env_args: tuple[str, ...] = (),
    horizon: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
    resume: Path | None = None,
    json: bool = False,
) -> int:
    """Evaluate an agent on fresh episodes: success, SPL, return and more, with 95 % intervals.

    Examples:
        embodied-mem eval explorer --env EmbodiedMem/House-ObjectNav-v0 --env-args split=test --episodes 20
        embodied-mem eval explorer --env EmbodiedMem/House-MultiObjectNav-v0 --episodes 20 --memory both
        embodied-mem eval runs/proof_of_memory/checkpoint --horizon 1x 2x
        embodied-mem eval oracle --env EmbodiedMem/MultiRoom-v0 --json > oracle.json   # for `compare`

    Args:
        agent: "random", "explorer" (explores, and goes to the goal once the memory knows it), "heuristic"
            (the same by pointing, as trained agents do), "oracle" (the shortest way, which no robot could
            know), or a folder that `embodied-mem train` exported.
        env: the environment; for a checkpoint the one it was trained on where it is left out.
        episodes: how many.
        seed: of the first episode; far from the training seeds.
        memory: "wiped" empties the explorer's memory whenever a new goal is given; "both" plays the same
            episodes both ways and compares them in pairs.
        env_args: arguments of the environment, such as split=test goals=3.
        horizon: multiples of the task's length in training, such as 1x 2x 4x; one evaluation for each.
        without: what a checkpoint that points is not shown: of memory_tokens, octree, objects.
        resume: a file that keeps the results of single episodes (JSON lines): what is in it is not played
            again, so that an evaluation goes on where it was cut off, or pools the parts of others.
        json: print JSON.
    """
    kwargs = _env_kwargs(env_args)
    kept = "nothing was kept; use --resume FILE, or fewer --episodes" if resume is None else f"see {resume}"
    with telling(kept):
        if horizon or not _plays_in_loop(agent, env):
            if without:
                raise InputError("--without is for checkpoints that point, in the navigation task of --env")
            results = _evaluated(agent, env, episodes, seed, memory, kwargs, horizon, resume, shown=not json)
        else:
            assert env is not None
            results = [
                _evaluate_agent(agent, env, episodes, seed, memory, kwargs, resume, without, shown=not json)
            ]
    if json:
        print(json_format.dumps(results if horizon else results[0], indent=2))
    else:
        for text, result in zip(horizon or ("",), results):
            print(f"{text} {in_words(result)}".strip())
    return 0


def _evaluated(
    agent: str,
    env: str | None,
    episodes: int,
    seed: int,
    memory: Literal["kept", "wiped", "both"],
    kwargs: dict[str, Any],
    horizon: tuple[str, ...],
    resume: Path | None,
    *,
    shown: bool,
) -> list[dict[str, Any]]:
    """Returns the evaluation of a checkpoint at each horizon."""
    from embodied_mem.sim.agents import AGENTS

    if agent in AGENTS:
        raise InputError(
            "--horizon is for checkpoints, which were trained on some length"
            if horizon
            else f"say where the {agent} agent is to be evaluated, with --env"
        )
    if memory != "kept":
        raise InputError("--memory is for the explorer; a checkpoint keeps its memory")
    if resume is not None:
        raise InputError("--resume is for reference agents; a checkpoint plays its episodes side by side")
    if not Path(agent).is_dir():
        raise InputError(f'no agent "{agent}"; use {", ".join(AGENTS)} or the folder of a checkpoint')
    factors = [read_factor(text) for text in horizon] or [1]
    done = itertools.count(1)
    with progress(Path(agent).name, episodes * len(factors), unit="episodes", shown=shown) as on_episode:
        return [
            evaluate_checkpoint(
                Path(agent),
                env_id=env,
                episodes=episodes,
                seed=seed,
                factor=factor,
                env_kwargs=kwargs,
                on_episode=lambda: on_episode(next(done)),
            )
            for factor in factors
        ]


def _plays_in_loop(agent: str, env: str | None) -> bool:
    """Tells whether an agent acts on observations and memory tokens, and not on one environment's spaces.

    Reference agents do, and checkpoints that point, where the environment is not the one that they were
    trained in.
    """
    from embodied_mem.sim.agents import AGENTS

    if env is None or agent in AGENTS:
        return env is not None
    path = Path(agent) / "config.json"
    if not path.is_file():
        return False
    found = json_format.loads(path.read_text())
    return found.get("env_id") != env and "cand_mask" in json_format.dumps(found.get("observation_space"))


def _env_kwargs(texts: tuple[str, ...]) -> dict[str, Any]:
    """Reads arguments such as goals=3."""
    import yaml

    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise InputError(f'arguments of the environment look like goals=3, got "{text}"')
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f'cannot read the value of "{text}": is a bracket or a quote missing?') from None
    return found


def _evaluate_agent(
    agent: str,
    env: str,
    episodes: int,
    seed: int,
    memory: Literal["kept", "wiped", "both"],
    kwargs: dict[str, Any],
    resume: Path | None,
    without: tuple[str, ...],
    shown: bool,
) -> dict[str, Any]:
    """Evaluates an agent in the loop, and compares where both ways of keeping the memory are asked for."""
    from embodied_mem.sim.evaluation import compare, each_episode, evaluate_agent, summary
    from embodied_mem.sim.played import Played

    if memory != "kept" and agent in ("oracle", "random"):
        raise InputError(f"the {agent} agent has no memory; --memory {memory} is for the explorer")
    sides: tuple[Literal["kept", "wiped"], ...] = ("kept", "wiped") if memory == "both" else (memory,)
    found = {}
    done = itertools.count(1)
    with progress(Path(agent).name, episodes * len(sides), unit="episodes", shown=shown) as on_episode:
        for side in sides:
            setting = {"agent": agent, "env": env, "env_kwargs": kwargs, "memory": side}
            if without:
                setting["without"] = list(without)
            found[side] = evaluate_agent(
                agent,
                env,
                episodes,
                seed,
                side,
                kwargs,
                on_episode=lambda _: on_episode(next(done)),
                played=None if resume is None else Played(resume, setting),
                without=without,
            )
    first = summary(found[sides[0]])
    facts = {"agent": agent, "env": env, "env_kwargs": kwargs, "episodes": episodes, "seed": seed}
    if without:
        facts["without"] = list(without)
    result = {**facts, "memory": sides[0], **first, "each": each_episode(found[sides[0]])}
    if memory == "both":
        if not all("goals" in r.info for r in found["kept"]):
            raise InputError(f"{env} has no sequence of goals between which a memory could be wiped")
        result["wiped"] = summary(found["wiped"])
        result["kept_less_wiped"] = compare(found["kept"], found["wiped"])
    return result


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
    env_kwargs: Mapping[str, Any] | None = None,
    on_episode: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Runs the exported policy, greedily, on `episodes` seeded episodes, side by side.

    Args:
        checkpoint: folder that `train` exported.
        env_id: another environment than the one that it was trained on.
        episodes: how many.
        seed: of the first one.
        factor: how many times as long as in training the memory must last.
        env_kwargs: arguments of the environment.
        on_episode: called after each episode.

    Returns:
        JSON-ready facts: env, episodes, what `embodied_mem.sim.evaluation.summary` tells, and `each`
        episode by itself.

    Raises:
        InputError: the checkpoint names no environment and none is given, or it has other observations.
        ConfigError: no such environment.
    """
    import gymnasium

    import embodied_mem.sim  # noqa: F401
    from embodied_mem.policy.checkpoint import load_policy
    from embodied_mem.sim.evaluation import check_episodes, each_episode, summary

    check_episodes(episodes, seed)
    agent = load_policy(checkpoint)
    env_id = env_id or agent.env_id
    if not env_id:
        raise InputError(f"{checkpoint} does not name its environment; give it with --env")
    kwargs = lengthened(env_id, agent.env_kwargs if env_id == agent.env_id else {}, factor)
    kwargs.update(env_kwargs or {})
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
    results = run_episodes(agent, envs, episodes, seed, factor, on_episode or (lambda: None))
    for env in envs:
        env.close()
    return {
        "checkpoint": str(checkpoint),
        "env": env_id,
        "env_kwargs": kwargs,
        "episodes": episodes,
        "seed": seed,
        **summary(results, COUNTS),
        "each": each_episode(results),
    }


def run_episodes(
    agent: Any, envs: list[Any], episodes: int, seed: int, factor: int, on_episode: Callable[[], None]
) -> list[Any]:
    """Plays the episodes, each env taking the next seed when it is done; order of results is by seed."""
    from embodied_mem.sim.evaluation import EpisodeResult

    returns, steps = np.zeros(episodes), np.zeros(episodes, int)
    results: list[Any] = [None] * episodes
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
            steps[episode] += 1
            history = counted[slot]
            history.append({name: int(info[name]) for name in COUNTS if name in info})
            if terminated or truncated:
                results[episode] = EpisodeResult(
                    seed + episode,
                    int(steps[episode]),
                    float(returns[episode]),
                    info,
                    _stretches(history, factor),
                )
                on_episode()
                history.clear()
                running[slot] = started if started < episodes else -1
                if running[slot] >= 0:
                    observations[slot] = env.reset(seed=seed + started)[0]
                    started += 1
                starts[slot] = True
    return results


def _stretches(history: list[dict[str, int]], factor: int) -> tuple[dict[str, int], ...]:
    """Returns what was counted in each of the `factor` parts of an episode's steps; none for one part."""
    if factor == 1:
        return ()
    ends = [len(history) * part // factor for part in range(1, factor + 1)]
    totals = [dict.fromkeys(history[-1], 0), *(history[end - 1] for end in ends)]
    return tuple(
        {name: after[name] - before.get(name, 0) for name in after}
        for before, after in itertools.pairwise(totals)
    )


def _stack(observations: list[Any]) -> Any:
    if isinstance(observations[0], dict):
        return {key: np.stack([obs[key] for obs in observations]) for key in observations[0]}
    return np.stack(observations)


def in_words(result: Mapping[str, Any]) -> str:
    """Returns an evaluation as one line, and a line for every measure, goal and comparison that it has."""
    parts = []
    for measure in ("success", "return"):
        if result[measure] is not None:
            low, high = result[f"{measure}_interval"]
            parts.append(f"{measure} {result[measure]:.3f} [{low:.3f}, {high:.3f}]")
    parts += [f"{name} {mean:.2f}" for name, mean in result["counts"].items()]
    memory = f", memory {result['memory']}" if result.get("agent") == "explorer" else ""
    lines = [f"{result['env']}{memory}: {', '.join(parts)} over {result['episodes']} episodes"]
    lines += [f"  {name:<18} {_mean(value)}" for name, value in (result["measures"] or {}).items()]
    if len(result["goals"]) > 1:
        lines += [
            f"  goal {row['goal']} ({row['visit']:<7}, {row['episodes']:>3} episodes)  "
            f"success {row['success']:.3f}  SPL {_mean(row['spl'])}"
            for row in result["goals"]
        ]
    if "kept_less_wiped" in result:
        wiped = {"env": result["env"], "episodes": result["episodes"], **result["wiped"]}
        lines += [*in_words({**wiped, "agent": "explorer", "memory": "wiped"}).split("\n")]
        lines.append("kept less wiped, in pairs:")
        for name, value in result["kept_less_wiped"].items():
            if name != "goals":
                lines.append(f"  {name:<18} {_mean(value)}")
        lines += [
            f"  goal {row['goal']} ({row['visit']:<7}, {row['episodes']:>3} pairs)  SPL {_mean(row['spl'])}"
            for row in result["kept_less_wiped"]["goals"]
        ]
    return "\n".join(lines)


def _mean(value: Mapping[str, Any]) -> str:
    if value["mean"] is None:
        return "-"
    low, high = value["interval"]
    return f"{value['mean']:.3f} [{low:.3f}, {high:.3f}]"

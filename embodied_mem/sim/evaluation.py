"""The evaluator of all worlds: episodes through the one loop, measures with intervals, paired comparisons.

Agents get observations and memory tokens; what only the world knows (distances, instances, the shortest
way) is read here, from `info`, after the loop has stepped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from embodied_mem.errors import InputError
from embodied_mem.loop import Loop, Moment
from embodied_mem.memory import Memory, MemoryConfig
from embodied_mem.perception import Perception
from embodied_mem.sim.agents import make_agent, make_observable
from embodied_mem.sim.world import EnvWorld
from embodied_mem.types import Observation, Percept

EVALUATION_SEED = 1_000_000
"""First seed of the evaluation episodes, far from those of training."""
MEASURES = ("spl", "soft_spl", "distance_to_goal", "path_length", "collisions")
"""What navigation tasks tell in `info` beside success."""
RESAMPLES = 10_000

Keeping = Literal["kept", "wiped"]


@dataclass(frozen=True, eq=False)
class EpisodeResult:
    """One evaluated episode.

    Attributes:
        seed: of its reset.
        steps: actions taken.
        total_reward: sum of the rewards.
        info: the environment's last `info`.
        stretches: what the environment counted in each stretch, as long as a trained trial, of a
            lengthened episode.
    """

    seed: int
    steps: int
    total_reward: float
    info: dict[str, Any]
    stretches: tuple[dict[str, int], ...] = ()


class PlayedEpisodes(Protocol):
    """Results that are there already, and where new ones go."""

    def get(self, seed: int) -> EpisodeResult | None:
        """Returns the result of a seed, None where it has not been played."""

    def add(self, result: EpisodeResult) -> None:
        """Keeps a result."""


class _GoalWatch:
    """Calls back before the loop sees the first observation with another goal."""

    def __init__(self, world: EnvWorld, on_new_goal: Callable[[], None]) -> None:
        self.world = world
        self.on_new_goal = on_new_goal
        self._goal: tuple[int, str] | None = None

    def observe(self) -> Observation | None:
        obs = self.world.observe()
        if obs is not None and obs.goal is not None:
            goal = (obs.goal.label, obs.goal.text)
            if self._goal is not None and goal != self._goal:
                self.on_new_goal()
            self._goal = goal
        return obs

    def act(self, action: Any) -> None:
        self.world.act(action)


def _pose_only(obs: Observation) -> Percept:
    """Perception for agents that do not use what it would find."""
    return Percept(
        obs.stamp,
        obs.step,
        obs.odom_T_base,
        obs.map_T_odom,
        labels=obs.labels,
        action=obs.action,
        reward=obs.reward,
        is_first=obs.is_first,
    )


def play(
    env: gymnasium.Env[Any, Any],
    agent: str,
    seed: int,
    memory: Keeping = "kept",
    listeners: Sequence[Callable[[Moment], None]] = (),
    without: Collection[str] = (),
) -> EpisodeResult:
    """Plays one episode through the loop, with an empty memory at its start.

    Args:
        env: an environment that gives `Observation`s.
        agent: one of `AGENTS`, or the folder of a checkpoint that was trained to point.
        seed: of the reset, and of the agent.
        memory: "wiped" empties the memory, and the agent's own state, whenever a new goal is given.
        listeners: watch the loop.
        without: parts of the memory that a checkpoint does not see.
    """
    embodied: Any = env.unwrapped
    actor = make_agent(agent, env, seed, without)
    rewards: list[float] = []
    watching = [lambda moment: rewards.append(moment.obs.reward), *listeners]
    world = EnvWorld(env, seed)
    config: MemoryConfig = embodied.memory_config()
    if actor.read is not None:
        config = replace(config, read=actor.read)
    perceive: Any = Perception(embodied.perception_config()) if actor.remembers else _pose_only
    loop = Loop(world, perceive, Memory(config), actor.policy, actor.controller, watching)
    if memory == "wiped":

        def wipe() -> None:
            fresh = make_agent(agent, env, seed, without)
            loop.memory, loop.state = Memory(config), None
            loop.policy, loop.controller = fresh.policy, fresh.controller

        loop.world = _GoalWatch(world, wipe)
    count = loop.run()
    assert world.result is not None
    return EpisodeResult(seed, count - 1, float(sum(rewards)), world.result[4])


def evaluate_agent(
    agent: str,
    env_id: str,
    episodes: int,
    seed: int = EVALUATION_SEED,
    memory: Keeping = "kept",
    env_kwargs: dict[str, Any] | None = None,
    on_episode: Callable[[EpisodeResult], None] | None = None,
    played: PlayedEpisodes | None = None,
    without: Collection[str] = (),
) -> list[EpisodeResult]:
    """Plays seeded episodes with an agent; the same arguments give the same results.

    Args:
        agent: as for `play`.
        env_id: the environment.
        episodes: how many.
        seed: of the first; the next ones follow.
        memory: "wiped" empties it whenever a new goal is given.
        env_kwargs: arguments of the environment.
        on_episode: told each result.
        played: episodes of an earlier call: they are not played again; what it lacks is added to it.
        without: as for `play`.

    Raises:
        ConfigError: no such agent or environment.
        InputError: fewer than one episode, or a negative seed.
    """
    check_episodes(episodes, seed)
    env = make_observable(env_id, **(env_kwargs or {}))
    results = []
    try:
        for i in range(episodes):
            done = None if played is None else played.get(seed + i)
            if done is None:
                done = play(env, agent, seed + i, memory, without=without)
                if played is not None:
                    played.add(done)
            results.append(done)
            if on_episode is not None:
                on_episode(results[-1])
    finally:
        env.close()
    return results


def check_episodes(episodes: int, seed: int) -> None:
    """Raises `InputError` where a number of episodes or a seed makes no sense."""
    if episodes < 1:
        raise InputError(f"episodes must be at least 1, got {episodes}")
    if seed < 0:
        raise InputError(f"a seed must not be negative, got {seed}")


def summary(results: Sequence[EpisodeResult], counts: Sequence[str] = ()) -> dict[str, Any]:
    """Returns means with 95 % intervals, JSON-ready.

    Args:
        results: the episodes.
        counts: what the environment counts in `info` beside the measures of navigation.

    Returns:
        success and its Wilson interval (None where the environment does not tell success), return with
        its bootstrap interval, `measures` (None where there are none), `goals` (by index and visit: in
        how many episodes, how many of them got that far, success and SPL; a goal never got to counts
        as missed), and the means of what the environment counts: `counts` in whole episodes,
        `stretches` in each stretch of lengthened ones, `late_counts` in the last of these.
    """
    told = [r.info.get("is_success") for r in results]
    known = all(s is not None for s in told)
    successes = sum(bool(s) for s in told)
    measures = {
        name: mean_interval([r.info[name] for r in results])
        for name in MEASURES
        if all(name in r.info for r in results)
    }
    rewards = [r.total_reward for r in results]
    stretches = _by_stretch(results, counts)
    return {
        "success": successes / len(results) if known else None,
        "success_interval": wilson(successes, len(results)) if known else None,
        "return": float(np.mean(rewards)),
        "return_interval": bootstrap(rewards),
        "steps": mean_interval([r.steps for r in results]),
        "measures": measures or None,
        "goals": _by_goal(results),
        "counts": {
            name: float(np.mean([r.info[name] for r in results if name in r.info]))
            for name in counts
            if any(name in r.info for r in results)
        },
        "late_counts": {name: means[-1] for name, means in stretches.items()},
        "stretches": stretches,
    }


def _by_stretch(results: Sequence[EpisodeResult], counts: Sequence[str]) -> dict[str, list[float]]:
    """Returns the mean of each count by stretch, over the episodes that were counted in stretches."""
    counted = [r.stretches for r in results if r.stretches]
    found = {}
    for name in counts:
        each = [[part[name] for part in stretches] for stretches in counted if name in stretches[0]]
        if each:
            found[name] = np.mean(each, axis=0).tolist()
    return found


def _by_goal(results: Sequence[EpisodeResult]) -> list[dict[str, Any]]:
    rows = []
    for (index, visit), legs in sorted(_legs(results).items()):
        found = [leg for _, leg in legs]
        rows.append(
            {
                "goal": index + 1,
                "visit": visit,
                "episodes": len(legs),
                "given": sum(leg["given"] for leg in found),
                "success": float(np.mean([leg["success"] for leg in found])),
                "spl": mean_interval([leg["spl"] for leg in found]),
            }
        )
    return rows


def _legs(results: Sequence[EpisodeResult]) -> dict[tuple[int, str], list[tuple[int, dict[str, Any]]]]:
    """Returns (episode, goal) by the goal's index and whether it was one before."""
    found: dict[tuple[int, str], list[tuple[int, dict[str, Any]]]] = {}
    for episode, result in enumerate(results):
        for index, leg in enumerate(result.info.get("goals", ())):
            visit = "revisit" if leg["revisit"] else "first"
            found.setdefault((index, visit), []).append((episode, leg))
    return found


def compare(kept: Sequence[EpisodeResult], wiped: Sequence[EpisodeResult]) -> dict[str, Any]:
    """Returns what keeping the memory changes, episode by episode, with paired bootstrap intervals.

    Args:
        kept: results with the memory kept.
        wiped: results of the same seeds with the memory wiped.

    Returns:
        differences (kept less wiped) of success, SPL and soft-SPL of the episodes, of the SPL of all
        their goals, and of the SPL of goals by index and visit.
    """
    differences: dict[str, Any] = {
        name: mean_interval([float(a.info[name]) - float(b.info[name]) for a, b in zip(kept, wiped)])
        for name in ("success", "spl", "soft_spl")
    }
    differences["spl_of_goals"] = mean_interval([_goal_spl(a) - _goal_spl(b) for a, b in zip(kept, wiped)])
    differences["goals"] = []
    other = _legs(wiped)
    for (index, visit), legs in sorted(_legs(kept).items()):
        pairs = zip(legs, other[index, visit])
        rows = mean_interval([a["spl"] - b["spl"] for (_, a), (_, b) in pairs])
        differences["goals"].append({"goal": index + 1, "visit": visit, "episodes": len(legs), "spl": rows})
    return differences


def _goal_spl(result: EpisodeResult) -> float:
    """Returns the mean SPL of an episode's goals; those that it never got to count 0."""
    return float(np.mean([leg["spl"] for leg in result.info["goals"]]))


def wilson(successes: int, trials: int) -> list[float]:
    """Returns the 95 % Wilson score interval of a success rate."""
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return [float(interval.low), float(interval.high)]


def bootstrap(values: ArrayLike) -> list[float]:
    """Returns the 95 % percentile-bootstrap interval of a mean (Efron 1979; seeded)."""
    rng = np.random.default_rng(0)
    data: NDArray[np.float64] = np.asarray(values, np.float64)
    means = rng.choice(data, (RESAMPLES, len(data))).mean(axis=1)
    return [float(np.quantile(means, q)) for q in (0.025, 0.975)]


def mean_interval(values: ArrayLike) -> dict[str, Any]:
    """Returns a mean with its bootstrap interval; values that are not finite are left out and counted."""
    data = np.asarray(values, np.float64)
    finite = data[np.isfinite(data)]
    if len(finite) == 0:
        return {"mean": None, "interval": None, "left_out": len(data)}
    found: dict[str, Any] = {"mean": float(finite.mean()), "interval": bootstrap(finite)}
    return found if len(finite) == len(data) else {**found, "left_out": len(data) - len(finite)}


def each_episode(results: Sequence[EpisodeResult]) -> dict[str, list[float | int | None]]:
    """Returns the measures episode by episode, JSON-ready, so that evaluations can be compared in pairs.

    Returns:
        `seed`, `return`, `steps`, and success and the measures of navigation where all episodes tell
        them; what is not finite is None.
    """
    columns: dict[str, list[Any]] = {
        "seed": [r.seed for r in results],
        "return": [r.total_reward for r in results],
        "steps": [r.steps for r in results],
    }
    if all(r.info.get("is_success") is not None for r in results):
        columns["success"] = [float(r.info["is_success"]) for r in results]
    for name in MEASURES:
        if all(name in r.info for r in results):
            columns[name] = [float(r.info[name]) for r in results]
    return {key: [v if np.isfinite(v) else None for v in values] for key, values in columns.items()}

"""Run an agent in a simulated world, and log what it saw and remembered."""

from __future__ import annotations

import json as json_format
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from embodied_mem.configs import to_mapping
from embodied_mem.errors import ConfigError, InputError
from embodied_mem.verbs.interrupt import Interrupted, stopping
from embodied_mem.verbs.progress import progress

if TYPE_CHECKING:
    from embodied_mem.loop import Loop
    from embodied_mem.types import Observation


@dataclass(frozen=True)
class Recording:
    """What a recorded episode left behind.

    Attributes:
        log: the MCAP file.
        memory: the memory file.
        digest: digest of the memory as it was built on-line.
        steps: observations in the episode.
        stopped: why it ended: "explored", "terminated", "truncated", "limit" or "interrupted".
    """

    log: Path
    memory: Path
    digest: str
    steps: int
    stopped: str


def record(
    env: str = "EmbodiedMem/Playground-v0",
    out: Path = Path("runs/record"),
    agent: Literal["explorer", "oracle", "random"] = "explorer",
    seed: int = 0,
    steps: int = 1000,
    days: int = 1,
    json: bool = False,
) -> int:
    """Run an agent in a world; write the log and the memory into OUT.

    Examples:
        embodied-mem record --env EmbodiedMem/MultiRoom-v0 --seed 3    # a grid world
        embodied-mem record --env EmbodiedMem/House-ObjectNav-v0 --steps 250 --out runs/house
        embodied-mem record --env EmbodiedMem/House-ObjectNav-v0 --days 3 --out runs/days   # nights
        embodied-mem record --env habitat:runs/houses --out runs/habitat     # needs habitat-sim
        embodied-mem replay runs/record/episode.mcap --verify   # the same memory again

    Args:
        env: a registered environment that can be observed.
        out: folder for episode.mcap and memory.emem.
        agent: "explorer" (explores, and goes to the goal once the memory knows it), "oracle" (the shortest
            way, which no robot could know) or "random".
        seed: of the world.
        steps: limit of steps, each day.
        days: in houses: the agent comes back after nights in which things moved, came and went.
        json: print JSON.
    """
    with progress(agent, steps * days, shown=not json) as on_step:
        recording = record_episode(env, out, seed=seed, steps=steps, agent=agent, days=days, on_step=on_step)
    if json:
        print(json_format.dumps(to_mapping(recording), indent=2))
    else:
        print(f"{recording.steps} steps ({recording.stopped})")
        print(f"log     {recording.log}\nmemory  {recording.memory}\ndigest  {recording.digest}")
    if recording.stopped == "interrupted":
        raise Interrupted("the log and the memory are whole up to there; the same command starts anew")
    return 0


def record_episode(
    env_id: str,
    out: Path,
    *,
    seed: int = 0,
    steps: int = 1000,
    agent: str = "explorer",
    days: int = 1,
    env_kwargs: Mapping[str, Any] | None = None,
    on_step: Callable[[int], None] | None = None,
    on_end: Callable[[Mapping[str, Any]], None] | None = None,
) -> Recording:
    """Runs one episode and writes `episode.mcap` and `memory.emem` into `out`.

    Args:
        env_id: a registered environment that gives `Observation`s.
        out: folder, made where it is missing; files of an earlier run in it are replaced.
        seed: of the world.
        steps: limit of observations.
        agent: one of `embodied_mem.sim.agents.AGENTS`, or the folder of a checkpoint that points.
        days: in houses: how many, with nights of changes between them.
        env_kwargs: arguments of the environment.
        on_step: told the number of steps done.
        on_end: told what the evaluator says of the episode (`info`).

    Raises:
        ConfigError: an unknown agent or environment.
        InputError: a negative seed.
    """
    from embodied_mem.log.writer import EpisodeWriter
    from embodied_mem.loop import Loop, Moment
    from embodied_mem.memory import Memory
    from embodied_mem.perception import Perception
    from embodied_mem.sim.agents import make_agent, make_observable
    from embodied_mem.sim.days import DaysWorld, Rounds
    from embodied_mem.sim.world import EnvWorld

    if seed < 0:
        raise InputError(f"a seed must not be negative, got {seed}")
    env = make_observable(env_id, **(env_kwargs or {}))
    actor = make_agent(agent, env, seed)
    if days > 1 and not hasattr(type(env.unwrapped), "house"):
        raise ConfigError(
            f"{env_id} knows no nights; --days needs a house, such as EmbodiedMem/House-ObjectNav-v0"
        )
    log_path, memory_path = _fresh_files(out)
    last: dict[str, Any] = {"steps": 0}

    def watch(moment: Moment) -> None:
        last["obs"] = moment.obs
        last["steps"] += 1
        if hasattr(embodied, "ground_truth"):
            writer.ground_truth(embodied.ground_truth(whole=moment.obs.is_first) | {"step": moment.obs.step})
        if on_step is not None:
            on_step(last["steps"])
        if wish.is_asked:  # the step is written, and nothing of the next one is
            raise Interrupted

    embodied: Any = env.unwrapped
    perception_config = embodied.perception_config()
    config = embodied.memory_config()
    if actor.read is not None:
        config = replace(config, read=actor.read)
    with stopping() as wish, Memory.open(memory_path, config) as memory:
        settings = {"memory": to_mapping(memory.config), "perception": to_mapping(perception_config)}
        writer = EpisodeWriter(log_path, config=settings)
        memory.on_command.append(writer.command)
        perception = Perception(perception_config)
        world: Any = EnvWorld(env, seed) if days == 1 else DaysWorld(env, seed, days, steps)
        policy, controller = actor.policy, actor.controller
        if days > 1 and agent == "explorer":
            policy = Rounds(embodied.explorer())
        loop = Loop(world, perception, memory, policy, controller, [writer, watch])
        is_cut = _is_cut(loop, steps * days)
        digest = memory.digest()
        writer.close(digest)
    if on_end is not None and days == 1 and world.result is not None:
        on_end(world.result[4])
    stopped = "interrupted" if is_cut else _reason(last["obs"], last["steps"] == steps * days)
    return Recording(log_path, memory_path, digest, last["steps"], stopped)


def _is_cut(loop: Loop, steps: int) -> bool:
    """Runs a loop for so many steps at most; tells whether it was interrupted."""
    try:
        loop.run(steps)
    except Interrupted:
        return True
    return False


def _fresh_files(out: Path) -> tuple[Path, Path]:
    """Makes the folder, removes an earlier run's files, and returns where log and memory go."""
    out.mkdir(parents=True, exist_ok=True)
    log_path, memory_path = out / "episode.mcap", out / "memory.emem"
    for stale in (log_path, *out.glob("memory.emem*")):
        stale.unlink(missing_ok=True)
    return log_path, memory_path


def _reason(obs: Observation, is_at_limit: bool) -> str:
    """Returns why a run that nobody stopped has ended with an observation."""
    if obs.terminated or obs.truncated:
        return "terminated" if obs.terminated else "truncated"
    return "limit" if is_at_limit else "explored"

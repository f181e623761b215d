"""The loop measured part by part, in MiniGrid and in a house; reading after a long life; training."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.geometry import Pose
from embodied_mem.memory import Memory, MemoryConfig

PARTS = ("world", "perceive", "write", "read", "act")
HOUSE = "EmbodiedMem/House-MultiObjectNav-v1"
HOUSE_STEPS = 400
"""At most so many steps of an agent in a house make the memory that is read."""
LIFE = 1_000_000
"""Entries of a long life."""
STEP_NS = 600_000_000
"""From entry to entry [ns]."""


class Stopwatch:
    """Adds up the time spent in the methods it watches."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def watch(self, owner: Any, method: str, part: str) -> None:
        """Replaces `owner.method` by one that is timed under the name `part`."""
        inner = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                self.seconds[part].append(time.perf_counter() - start)

        setattr(owner, method, timed)

    def wrap(self, function: Any, part: str) -> Any:
        """Returns `function` timed under the name `part`."""
        holder = type("Holder", (), {})()
        holder.call = function
        self.watch(holder, "call", part)
        return holder.call


def bench_loop(steps: int, life: int = LIFE, train: bool = True) -> dict[str, Any]:
    """Times the loop in MiniGrid and in houses by part, and training, in this process.

    Args:
        steps: of each loop.
        life: entries behind the memory that is read last.
        train: whether training is timed too.

    Returns:
        `workload`, `steps_per_second`, `steps_per_second_without_world` and `split` (share, median and p99
        per part: world, perceive, write, read, act) in MiniGrid; `house`: the same in houses, where the
        world is the rendering of images, and `read` as `bench_read` gives it; `train.steps_per_second`.
    """
    report = _timed(run_explorer, steps, {"env": "EmbodiedMem/Playground-v0", "agent": "explorer"})
    house = _timed(run_seeker, steps, {"env": HOUSE, "agent": "explorer"})
    report["house"] = {**house, "read": bench_read(life, min(steps, HOUSE_STEPS))}
    return {**report, "train": bench_training()} if train else report


def _timed(
    run: Callable[[int, Stopwatch | None], int], steps: int, workload: dict[str, Any]
) -> dict[str, Any]:
    run(min(steps, 50), None)  # kernels compile outside the clock
    watch = Stopwatch()
    start = time.perf_counter()
    done = run(steps, watch)
    wall = time.perf_counter() - start
    total = sum(sum(times) for times in watch.seconds.values())
    return {
        "workload": {**workload, "steps": done},
        "steps_per_second": done / wall,
        "steps_per_second_without_world": done / (total - sum(watch.seconds["world"])),
        "split": {
            part: {"share": sum(watch.seconds[part]) / total, **_times(watch.seconds[part])} for part in PARTS
        },
    }


def _times(seconds: list[float]) -> dict[str, float]:
    return {"median_ms": 1e3 * float(np.median(seconds)), "p99_ms": 1e3 * float(np.quantile(seconds, 0.99))}


def run_explorer(steps: int, watch: Stopwatch | None = None) -> int:
    """Lets the explorer walk through MiniGrid worlds, one after another, for `steps` steps."""
    from embodied_mem.sim.explorer import Explorer
    from embodied_mem.sim.grid_controller import GridController
    from embodied_mem.sim.grid_memory import grid_memory_config

    done = seed = 0
    while done < steps:
        env = _make("EmbodiedMem/Playground-v0")
        memory = Memory(grid_memory_config())
        done += _run(env, seed, memory, Explorer(), GridController(), steps - done, watch)
        seed += 1
    return done


def run_seeker(steps: int, watch: Stopwatch | None = None) -> int:
    """Lets an agent look for things in houses, one after another, for `steps` steps."""
    done = seed = 0
    while done < steps:
        env: Any = _make(HOUSE)
        done += _seek(env, seed, Memory(_pointing_memory(env)), steps - done, watch)
        seed += 1
    return done


def _make(env_id: str) -> Any:
    import gymnasium

    import embodied_mem.sim  # noqa: F401

    return gymnasium.make(env_id, disable_env_checker=True)


def _pointing_memory(env: Any) -> MemoryConfig:
    """Returns the settings with which policies that point read the memory: most tokens, and pictures."""
    from embodied_mem.sim.pointing.pointing import pointing_memory

    return pointing_memory(env)


def _seek(env: Any, seed: int, memory: Memory, steps: int, watch: Stopwatch | None = None) -> int:
    task = env.unwrapped
    return _run(env, seed, memory, task.seeker(), task.controller(), steps, watch)


def _run(
    env: Any, seed: int, memory: Memory, policy: Any, controller: Any, steps: int, watch: Stopwatch | None
) -> int:
    """Plays one episode, at most so many steps of it; returns the number of steps."""
    from embodied_mem.loop import Loop
    from embodied_mem.perception import Perception
    from embodied_mem.sim.world import EnvWorld

    world, perceive = EnvWorld(env, seed), Perception(env.unwrapped.perception_config())
    if watch is None:
        return Loop(world, perceive, memory, policy, controller).run(steps)
    for owner, method, part in (
        (world, "observe", "world"),
        (world, "act", "world"),
        (memory, "write", "write"),
        (memory, "read", "read"),
        (policy, "act", "act"),
        (controller, "step", "act"),
    ):
        watch.watch(owner, method, part)
    return Loop(world, watch.wrap(perceive, "perceive"), memory, policy, controller).run(steps)


def bench_read(life: int = LIFE, steps: int = HOUSE_STEPS, reads: int = 500) -> dict[str, Any]:
    """Times `memory.read` in a house, and again when the agent has lived there for long.

    Args:
        life: entries, and as many positions of the agent, that are added.
        steps: of the agent in the house before.
        reads: so many readings are timed, one by one.

    Returns:
        `house` and `long_life`: `entries`, `positions`, `objects`, `places`, `median_ms` and `p99_ms`.
    """
    env: Any = _make(HOUSE)
    settings = _pointing_memory(env)
    with (
        tempfile.TemporaryDirectory() as folder,
        Memory.open(Path(folder) / "house.emem", settings) as memory,
    ):
        _seek(env, 0, memory, steps)
        goal = env.unwrapped.observation.goal
        report = {"house": _read_times(memory, goal, reads)}
        _live_on(memory, life)
        report["long_life"] = _read_times(memory, goal, reads)
    return report


def _read_times(memory: Memory, goal: Any, reads: int) -> dict[str, Any]:
    memory.flush()  # nothing is written beside it
    seconds = []
    for _ in range(reads + 20):
        start = time.perf_counter()
        memory.read(memory.map_T_base, goal)
        seconds.append(time.perf_counter() - start)
    scene = memory.scene
    return {
        "entries": len(memory.episodes),
        "positions": len(scene.trajectory_table),
        "objects": len(scene.object_table),
        "places": len(scene.place_table),
        **_times(seconds[20:]),
    }


def _live_on(memory: Memory, count: int) -> None:
    """Adds entries and positions of the agent, at places that it knows."""
    from embodied_mem.memory.episodes.entries import Episode

    scene, first, stamp = memory.scene, memory.episodes.next_id, memory.stamp
    places, ids = scene.place_table.positions, scene.place_table.ids.tolist()
    objects = scene.object_table.ids.tolist()
    wobble = np.random.default_rng(0).normal(0.0, 0.3, (8192, 2))
    for k in range(count):
        place = (k // 4) % len(ids)
        x, y = (places[place, :2] + wobble[k % len(wobble)]).tolist()
        pose, at = Pose.from_xyz_yaw(x, y, 0.0, 0.001 * k), stamp + (k + 1) * STEP_NS
        seen = tuple(objects[place % len(objects) :][:3])
        entry = Episode(
            first + k, at, k, pose, place_id=ids[place], object_ids=seen, action=k % 4, source="rgbd"
        )
        memory.episodes.add(entry)
        scene.trajectory_table.append(at, pose.position)
        if k % 256 == 0:
            memory._done("accepted")
    memory._done("accepted")


def bench_training() -> dict[str, float]:
    """Times PPO on the proof-of-memory task, rollouts and updates together."""
    from embodied_mem.verbs.demo import demo_config
    from embodied_mem.verbs.train import make_model

    model = make_model(demo_config())
    model.learn(model.n_steps * model.n_envs)
    before = model.num_timesteps
    start = time.perf_counter()
    model.learn(8 * model.n_steps * model.n_envs, reset_num_timesteps=False)
    return {"steps_per_second": (model.num_timesteps - before) / (time.perf_counter() - start)}

"""Measure the parts of the loop, training, the octree and the houses; warm up the kernels."""

from __future__ import annotations

import json as json_format
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Literal

import numpy as np


def bench(
    what: Literal["loop", "octree", "sim", "scene", "policy", "memory", "warmup"],
    section: tuple[str, ...] = (),
    steps: int = 2000,
    scans: Path | None = None,
    threads: int = 1,
    houses: int = 30,
    ablation: bool = False,
    keep: Path | None = None,
    json: bool = False,
) -> int:
    """Measure the loop by parts, the octree, the memory, houses or policies, or warm up the kernels.

    Examples:
        embodied-mem bench warmup           # once after installing: compiles and caches every kernel
        embodied-mem bench loop --json
        embodied-mem bench memory --section recall size
        embodied-mem bench scene --houses 3 --ablation

    Args:
        what: "loop", "octree", "sim" (steps in houses against Open3D's bare ray cast), "scene" (the
            scene graph in unseen houses against the truth and baselines), "policy",
            "memory" (writes, sizes, budget, crashes, recall), or "warmup" (compiles and caches every kernel).
        section: parts of "memory" to measure, such as write or size; all where none is named.
        steps: steps of the loop, or in houses, to time; the age at which policies are timed.
        scans: folder of depth frames for the octree, in 7-Scenes format; a generated room otherwise.
        threads: threads of the octree, or of the policies.
        houses: houses of "scene"; what is seen in them is recorded once and kept in the user's cache.
        ablation: "scene" also runs the scene graph with one idea less at a time.
        keep: file of "scene" with the counts of each house done: a run that is cut off goes on from it.
            They hold for the code that made them: start a new file after a change.
        json: print JSON.
    """
    from embodied_mem.verbs.info import in_words

    if what == "loop":
        report = bench_loop(steps)
    elif what == "octree":
        from embodied_mem.memory.octree.bench import bench_octree

        report = bench_octree(scans, threads)
    elif what == "sim":
        from embodied_mem.sim.house.bench import bench_houses

        report = bench_houses(steps)
    elif what == "scene":
        from embodied_mem.sim.survey.bench import bench_scene

        report = bench_scene(houses, ablation=ablation, keep=keep)
    elif what == "policy":
        from embodied_mem.verbs.bench_policy import bench_policy

        report = bench_policy(steps, threads=threads)
    elif what == "memory":
        from embodied_mem.verbs.bench_memory import bench_memory

        report = bench_memory(section)
    else:
        report = warm_up()
    print(json_format.dumps(report, indent=2) if json else in_words(report))
    return 0


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


def bench_loop(steps: int) -> dict[str, Any]:
    """Times the loop in MiniGrid by part, and training, in this process.

    Returns:
        `workload`, `steps_per_second`, `split` (share and median per part: world, perceive, write,
        read, act), `train.steps_per_second`.
    """
    run_explorer(min(steps, 50))  # kernels compile outside the clock
    watch = Stopwatch()
    start = time.perf_counter()
    done = run_explorer(steps, watch)
    wall = time.perf_counter() - start
    total = sum(sum(times) for times in watch.seconds.values())
    split = {
        part: {
            "share": sum(watch.seconds[part]) / total,
            "median_ms": 1e3 * float(np.median(watch.seconds[part])),
            "p99_ms": 1e3 * float(np.quantile(watch.seconds[part], 0.99)),
        }
        for part in ("world", "perceive", "write", "read", "act")
    }
    return {
        "workload": {"env": "EmbodiedMem/Playground-v0", "steps": done, "agent": "explorer"},
        "steps_per_second": done / wall,
        "steps_per_second_without_world": done / (total - sum(watch.seconds["world"])),
        "split": split,
        "train": bench_training(),
    }


def run_explorer(steps: int, watch: Stopwatch | None = None) -> int:
    """Lets the explorer walk through MiniGrid worlds, one after another, for `steps` steps."""
    import gymnasium

    import embodied_mem.sim  # noqa: F401
    from embodied_mem.loop import Loop
    from embodied_mem.memory import Memory
    from embodied_mem.perception import Perception, PerceptionConfig
    from embodied_mem.sim.explorer import Explorer
    from embodied_mem.sim.grid_controller import GridController
    from embodied_mem.sim.grid_memory import grid_memory_config
    from embodied_mem.sim.world import EnvWorld

    done = 0
    seed = 0
    while done < steps:
        env = gymnasium.make("EmbodiedMem/Playground-v0", disable_env_checker=True)
        world, memory = EnvWorld(env, seed), Memory(grid_memory_config())
        policy, controller, perception = Explorer(), GridController(), Perception(PerceptionConfig())
        perceive: Any = perception
        if watch is not None:
            watch.watch(world, "observe", "world")
            watch.watch(world, "act", "world")
            watch.watch(memory, "write", "write")
            watch.watch(memory, "read", "read")
            watch.watch(policy, "act", "act")
            watch.watch(controller, "step", "act")
            perceive = watch.wrap(perception, "perceive")
        done += Loop(world, perceive, memory, policy, controller).run(steps - done)
        seed += 1
    return done


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


def warm_up() -> dict[str, Any]:
    """Compiles every Numba kernel into its cache."""
    start = time.perf_counter()
    from embodied_mem.memory.octree import warm_up as warm_up_octree

    warm_up_octree()
    run_explorer(60)
    return {"warm_up_seconds": time.perf_counter() - start}

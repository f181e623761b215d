"""Measure the parts of the loop, training, the octree and the houses; warm up the kernels."""

from __future__ import annotations

import contextlib
import json as json_format
import time
from pathlib import Path
from typing import Any, Literal


def bench(
    what: Literal["loop", "octree", "sim", "scene", "policy", "memory", "ros", "warmup"],
    section: tuple[str, ...] = (),
    steps: int = 2000,
    scans: Path | None = None,
    threads: int = 1,
    houses: int = 30,
    seed: int | None = None,
    ablation: bool = False,
    keep: Path | None = None,
    host: Literal["dds", "rclpy"] = "dds",
    json: bool = False,
) -> int:
    """Measure the loop by parts, the octree, the memory, houses or policies, or warm up the kernels.

    Examples:
        embodied-mem bench warmup           # once after installing: compiles and caches every kernel
        embodied-mem bench loop --json
        embodied-mem bench memory --section recall size
        embodied-mem bench scene --houses 3 --ablation

    Args:
        what: "loop" (part by part, in MiniGrid and in houses), "octree", "sim" (steps in houses against
            Open3D's bare ray cast), "scene" (the scene graph in unseen houses against the truth and
            baselines), "policy", "memory" (writes, sizes, budget, crashes, recall), "ros" (a robot's
            node beside a 640x480 camera at 30 Hz, and an hour of driving), or "warmup" (compiles and caches
            every kernel).
        section: parts of "memory" (such as write or size) or of "ros" (camera, drive) to measure; all where
            none is named.
        steps: steps of the loop, or in houses, to time; the age at which policies are timed.
        scans: folder of depth frames for the octree, in 7-Scenes format; a generated room otherwise.
        threads: threads of the octree, or of the policies.
        houses: houses of "scene"; what is seen in them is recorded once and kept in the user's cache.
        seed: of the first house of "scene"; the test split's where none is given.
        ablation: "scene" also runs the scene graph with one idea less at a time.
        keep: file of "scene" with the counts of each house done: a run that is cut off goes on from it.
            They hold for the code that made them: start a new file after a change.
        host: whose robot "ros" measures.
        json: print JSON.
    """
    from embodied_mem.verbs.info import in_words

    if what == "loop":
        from embodied_mem.verbs.bench_loop import bench_loop

        report = bench_loop(steps)
    elif what == "octree":
        from embodied_mem.memory.octree.bench import bench_octree

        report = bench_octree(scans, threads)
    elif what == "sim":
        from embodied_mem.sim.house.bench import bench_houses

        report = bench_houses(steps)
    elif what == "scene":
        from embodied_mem.sim.survey.bench import bench_scene

        report = bench_scene(houses, ablation=ablation, keep=keep, seed=seed)
    elif what == "policy":
        from embodied_mem.verbs.bench_policy import bench_policy

        report = bench_policy(steps, threads=threads)
    elif what == "memory":
        from embodied_mem.verbs.bench_memory import bench_memory

        report = bench_memory(section)
    elif what == "ros":
        from embodied_mem.verbs.bench_ros import bench_ros

        report = bench_ros(section, host)
    else:
        report = warm_up()
    print(json_format.dumps(report, indent=2) if json else in_words(report))
    return 0


def forget_kernels(package: Path) -> None:
    """Removes what Numba keeps beside the modules of a package, where that can be written.

    To tell whether a kernel is stale, Numba looks at the kernel's own module, not at the modules of
    those that it calls: after an update some would be old in part.
    """
    for kept in package.rglob("*.nbi"):
        with contextlib.suppress(OSError):
            kept.unlink()


def warm_up() -> dict[str, Any]:
    """Compiles every Numba kernel into its cache."""
    start = time.perf_counter()
    forget_kernels(Path(__file__).resolve().parents[1])
    from embodied_mem.memory.octree import warm_up as warm_up_octree
    from embodied_mem.verbs.bench_loop import run_explorer, run_seeker

    warm_up_octree()
    run_explorer(60)
    run_seeker(60)
    return {"warm_up_seconds": time.perf_counter() - start}

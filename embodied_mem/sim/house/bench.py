"""How much a step in a house costs beside the bare ray cast of its images."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from embodied_mem.sim.house.object_nav import ObjectNav
from embodied_mem.sim.house.renderer import scene_of
from embodied_mem.sim.house.robot import Action


def bench_houses(steps: int = 500, sizes: tuple[int, ...] = (64, 128)) -> dict[str, Any]:
    """Times steps with colour, depth and label images against Open3D's ray cast of the same rays.

    Both are timed step by step in turn, on one thread each; `bare_all_threads` is the ray cast as Open3D
    does it by itself, on all cores.

    Args:
        steps: steps per image size.
        sizes: edges of the square images [px].

    Returns:
        by size: `steps_per_second`, `bare_casts_per_second`, `bare_all_threads_per_second` and `cost`,
        what a step takes in bare ray casts.
    """
    report: dict[str, Any] = {}
    for size in sizes:
        env = ObjectNav(max_steps=10**9, house_seed=7, robot={"width": size, "image_height": size})
        env.reset(seed=0)
        scene = scene_of(env.house)
        actions = np.random.default_rng(0).choice([Action.FORWARD, Action.LEFT, Action.RIGHT], steps)
        spent = {"step": 0.0, "bare": 0.0, "all": 0.0}
        for warm, action in enumerate(actions.tolist()):
            marks = [time.perf_counter()]
            env.step(action)
            _ = env.observation
            marks.append(time.perf_counter())
            rays = env.camera.rays(env.robot.pose @ env.robot.base_T_camera)
            for threads in (1, 0):
                start = time.perf_counter()
                scene.cast(rays, threads)
                marks.append(time.perf_counter() - start)
            if warm >= steps // 10:
                spent["step"] += marks[1] - marks[0]
                spent["bare"] += marks[2]
                spent["all"] += marks[3]
        count = steps - steps // 10
        report[f"{size}x{size}"] = {
            "triangles": len(scene.mesh.triangles),
            "steps_per_second": count / spent["step"],
            "bare_casts_per_second": count / spent["bare"],
            "bare_all_threads_per_second": count / spent["all"],
            "cost": spent["step"] / spent["bare"],
        }
    return report

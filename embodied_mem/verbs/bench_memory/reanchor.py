"""A walk through a house with drifting odometry, and what closing the loop does for the memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.memory import Memory, MemoryConfig
from embodied_mem.types import Percept, Query

SHIFT, TURN = 1.0, np.deg2rad(10.0)
"""How far the odometry is off at the end of the walk [m], [rad]."""
CLOSE = 0.05
"""What is this close to where it belongs is in its place [m]."""
HOUSES = (3, 4, 5, 6)
"""Seeds of the houses."""


def walk(env_id: str, seed: int, steps: int) -> tuple[list[Percept], MemoryConfig]:
    """Returns the percepts of an explorer's walk, at true poses, and the memory's settings for it."""
    import gymnasium

    import embodied_mem.sim  # noqa: F401
    from embodied_mem.loop import Loop, Moment
    from embodied_mem.perception import Perception
    from embodied_mem.sim.world import EnvWorld

    env = gymnasium.make(env_id, disable_env_checker=True)
    embodied: Any = env.unwrapped
    config = embodied.memory_config()
    percepts: list[Percept] = []

    def watch(moment: Moment) -> None:
        percepts.append(moment.percept)

    world, agent = EnvWorld(env, seed), (embodied.explorer(), embodied.controller())
    Loop(world, Perception(embodied.perception_config()), Memory(config), *agent, [watch]).run(steps)
    return percepts, config


def drifted(percepts: list[Percept]) -> list[Percept]:
    """Returns the percepts as odometry that drifts along the way would place them."""
    places = np.array([p.map_T_base.position for p in percepts])
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(places, axis=0), axis=1))])
    shares = way / max(float(way[-1]), 1e-9)
    found = []
    for percept, here, share in zip(percepts, places, shares.tolist()):
        turned = Pose.from_xyz_yaw(0.0, 0.0, 0.0, TURN * share)
        about = Pose(here - turned.rotate(here) + np.array([SHIFT * share, 0.0, 0.0]), turned.orientation)
        found.append(replace(percept, map_T_odom=about @ percept.map_T_odom))
    return found


def bench_reanchor(
    env_id: str = "EmbodiedMem/House-ObjectNav-v0", seeds: Sequence[int] = HOUSES, steps: int = 200
) -> dict[str, Any]:
    """Corrects drifted memories, and compares them with those whose poses were right from the start.

    Args:
        env_id: a house.
        seeds: a walk each.
        steps: of each walk.

    Returns:
        `entries`, `objects` (largest and median error [m], and how many), `extra` (objects that the right
        memory has not got within 5 cm) and `voxels` (precision and recall within one voxel, of the worst
        house), of all houses together, each `before` and `after` the correction; `correct_ms` (how long
        the caller waits), `rebuild_s`, and `asked_meanwhile` (queries answered until the swap, and their
        largest latency), of the slowest.
    """
    houses = [_correct_house(env_id, seed, steps) for seed in seeds]
    report: dict[str, Any] = {"env": env_id, "houses": len(houses), "steps": steps}
    report |= {"shift_m": SHIFT, "turn_deg": float(np.rad2deg(TURN))}
    for when in ("before", "after"):
        found = [house[when] for house in houses]
        report[when] = {
            "entries": _spread(np.concatenate([f["entries"] for f in found])),
            "objects": _spread(np.concatenate([f["objects"] for f in found])),
            "extra": sum(f["extra"] for f in found),
            "voxels": {k: min(f[k] for f in found) for k in ("precision", "recall")},
        }
    report |= {k: max(house[k] for house in houses) for k in ("correct_ms", "rebuild_s")}
    asked = [house["asked_meanwhile"] for house in houses]
    report["asked_meanwhile"] = {k: max(a[k] for a in asked) for k in asked[0]} if asked else {}
    return report


def _correct_house(env_id: str, seed: int, steps: int) -> dict[str, Any]:
    percepts, config = walk(env_id, seed, steps)
    right, wrong = Memory(config), Memory(config)
    for percept in percepts:
        right.write(percept)
    for percept in drifted(percepts):
        wrong.write(percept)
    report: dict[str, Any] = {"before": compare(wrong, right)}
    truth = {int(s): p.map_T_base for p in percepts if (s := p.stamp) in set(wrong.episodes.stamps.tolist())}
    start = time.perf_counter()
    wrong.correct(truth)
    report["correct_ms"] = 1e3 * (time.perf_counter() - start)
    report["asked_meanwhile"] = _ask_until_done(wrong)
    report["rebuild_s"] = time.perf_counter() - start
    last = percepts[-1]
    for i in range(config.submaps.swap_after):  # the robot stands still until the swap
        still = replace(last, stamp=last.stamp + (i + 1) * 10**8, scans=(), detections=(), snapshot=None)
        wrong.write(still)
    report["after"] = compare(wrong, right)
    return report


def _ask_until_done(memory: Memory) -> dict[str, float]:
    rebuild = memory.contents.rebuild
    slowest, asked = 0.0, 0
    while rebuild is not None and rebuild.is_running:
        start = time.perf_counter()
        memory.recall(Query(kind="object", k=5))
        slowest = max(slowest, time.perf_counter() - start)
        asked += 1
    return {"queries": asked, "slowest_ms": 1e3 * slowest}


def compare(memory: Memory, right: Memory) -> dict[str, Any]:
    """Returns by how much entries, objects and voxels of a memory differ from the right one.

    `entries` and `objects` are errors [m]; an object's is how far the nearest of its label is.
    """
    precision, recall = _voxels(memory, right)
    return {
        "entries": _by_stamp(memory, right),
        "objects": _object_errors(memory, right),
        "extra": int((_object_errors(right, memory) > CLOSE).sum()),
        "precision": precision,
        "recall": recall,
    }


def _spread(errors: NDArray[np.float64]) -> dict[str, float]:
    if not len(errors):
        return {"count": 0}
    return {
        "count": len(errors),
        "median_m": float(np.median(errors)),
        "largest_m": float(errors.max()),
        "within_5cm": float((errors <= CLOSE).mean()),
    }


def _by_stamp(memory: Memory, right: Memory) -> NDArray[np.float64]:
    where = dict(zip(right.episodes.stamps.tolist(), right.episodes.positions))
    pairs = [
        (position, where[stamp])
        for stamp, position in zip(memory.episodes.stamps.tolist(), memory.episodes.positions)
        if stamp in where
    ]
    return np.array([np.linalg.norm(a - b) for a, b in pairs])


def _object_errors(memory: Memory, right: Memory) -> NDArray[np.float64]:
    """Returns how far each object that exists is from the nearest of its label."""
    held = [o for o in memory.scene.objects() if o.existence >= 0.5]
    errors = []
    for thing in right.scene.objects():
        if thing.existence < 0.5:
            continue
        same = [float(np.linalg.norm(o.position - thing.position)) for o in held if o.name == thing.name]
        errors.append(min(same, default=np.inf))
    return np.array(errors)


def _voxels(memory: Memory, right: Memory) -> tuple[float, float]:
    """Returns precision and recall of occupied voxels, within one voxel."""
    a, b = _cells(memory), _cells(right)
    return _share_near(a, b), _share_near(b, a)


def _cells(memory: Memory) -> NDArray[np.int64]:
    return np.floor(memory.octree.voxels().centers / memory.octree.resolution).astype(np.int64)


def _share_near(these: NDArray[np.int64], those: NDArray[np.int64]) -> float:
    neighbours = {tuple(v) for d in np.ndindex(3, 3, 3) for v in (those + np.array(d) - 1).tolist()}
    return float(np.mean([tuple(v) in neighbours for v in these.tolist()])) if len(these) else 0.0

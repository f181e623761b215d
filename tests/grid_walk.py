"""A hand-made grid world for tests of the memory: two rooms, a door, things, and a walk through them."""

from __future__ import annotations

import itertools
import math

import numpy as np

from embodied_mem.geometry import Pose
from embodied_mem.memory import GateConfig, MemoryConfig, NavigationConfig, OctreeConfig, SceneConfig
from embodied_mem.types import Detection, LabelMap, Percept, Scan

STEP_NS = 100_000_000
LABELS = LabelMap(("unknown", "wall", "grey door", "green key", "red ball", "blue box"))
PLAN = [
    "###############",
    "#......#......#",
    "#.k....#....b.#",
    "#......D......#",
    "#......#......#",
    "#.....r#......#",
    "###############",
]
THINGS = {"D": "grey door", "k": "green key", "r": "red ball", "b": "blue box"}
ROUTE = [(1, 1), (5, 1), (5, 3), (13, 3), (13, 5), (9, 5), (9, 3), (1, 3), (1, 1)]
REACH = 2


def config(**parts) -> MemoryConfig:
    """Settings for cells of one metre."""
    return MemoryConfig(
        octree=OctreeConfig(resolution=1.0, hit=3.5, miss=-3.5, clamp=(-2.0, 2.0)),
        navigation=NavigationConfig(robot_height=1.0, step_height=0.0, passable=("door",)),
        scene=SceneConfig(diagonal=False, place_clearance=0.0),
        **{"gate": GateConfig(relocalize=False), **parts},
    )


def center(i: int, j: int) -> np.ndarray:
    return np.array([i + 0.5, -(j + 0.5), 0.5])


def cells_of_route() -> list[tuple[int, int]]:
    cells = [ROUTE[0]]
    for a, b in itertools.pairwise(ROUTE):
        di, dj = np.sign(b[0] - a[0]), np.sign(b[1] - a[1])
        while cells[-1] != b:
            cells.append((cells[-1][0] + int(di), cells[-1][1] + int(dj)))
    return cells


CELLS = cells_of_route()


def percept(step: int, *, missing: tuple[str, ...] = (), labels: LabelMap = LABELS, **fields) -> Percept:
    """What the agent senses at a step: all cells at most `REACH` away, walls or not."""
    here = CELLS[step % len(CELLS)]
    there = CELLS[(step + 1) % len(CELLS)]
    yaw = math.atan2(-(there[1] - here[1]), there[0] - here[0])
    x, y, _ = center(*here)
    pose = Pose.from_xyz_yaw(float(x), float(y), 0.0, yaw)
    points, hits, ids, detections = [], [], [], []
    for j in range(max(here[1] - REACH, 0), min(here[1] + REACH + 1, len(PLAN))):
        for i in range(max(here[0] - REACH, 0), min(here[0] + REACH + 1, len(PLAN[0]))):
            symbol = "." if (i, j) == here else PLAN[j][i]
            name = THINGS.get(symbol, "")
            if name in missing:
                name, symbol = "", "."
            points.append(center(i, j))
            hits.append(symbol != ".")
            ids.append(labels.id(name or "wall") if symbol != "." else 0)
            if name:
                detections.append((labels.id(name), center(i, j), "closed" if symbol == "D" else ""))
    to_base = pose.inverse()
    scan = Scan(
        to_base.transform(np.array(points)).astype(np.float32),
        np.array(hits),
        np.array(ids, np.int32),
    )
    given = {
        "stamp": (step + 1) * STEP_NS,
        "step": step,
        "odom_T_base": pose,
        "labels": labels,
        "scans": (scan,),
        "detections": tuple(
            Detection(label, to_base.transform(where), np.ones(3), 0.01 * np.eye(3), state=state)
            for label, where, state in detections
        ),
        "action": step % 3,
        "is_first": step == 0,
        "event": "episode_start" if step == 0 else "",
        "source": "grid",
    }
    return Percept(**{**given, **fields})

"""Keyframes for the benchmarks of the memory: an agent that walks through rooms for as long as it takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.memory import GateConfig, Memory, MemoryConfig, NavigationConfig, OctreeConfig, SceneConfig
from embodied_mem.types import Detection, LabelMap, Percept, Scan

STEP_NS = 600_000_000
"""Time from keyframe to keyframe: a week of them is a million."""
ROOM = 6
REACH = 3
LABELS = LabelMap(("unknown", "wall", "door", "cup", "lamp", "ball", "box", "chair", "plant"))


def grid_config(**parts: Any) -> MemoryConfig:
    """Returns settings for cells of one metre; `parts` replace the rest."""
    given = {
        "octree": OctreeConfig(resolution=1.0, hit=3.5, miss=-3.5, clamp=(-2.0, 2.0)),
        "navigation": NavigationConfig(robot_height=1.0, step_height=0.0, passable=("door",)),
        "gate": GateConfig(relocalize=False),
        "scene": SceneConfig(diagonal=False, place_clearance=0.0),
    }
    return MemoryConfig(**{**given, **parts})


@dataclass(frozen=True)
class Rooms:
    """A row of rooms with a door between neighbours and a thing in each.

    Attributes:
        count: how many rooms.
    """

    count: int = 6

    def cell(self, i: int, j: int) -> int:
        """Returns the label id of a cell, 0 where it is free."""
        if not (0 <= j <= ROOM and 0 <= i <= self.count * ROOM):
            return 0
        if j in (0, ROOM) or i % ROOM == 0:
            return 2 if j == 3 and 0 < i < self.count * ROOM else 1
        return 3 + (i // ROOM) % 6 if i % ROOM == 2 and j == 1 else 0

    def route(self) -> list[tuple[int, int]]:
        """Returns the cells of a walk to the last room and back, without its end."""
        there = [(i, 3) for i in range(1, self.count * ROOM)]
        return there + there[-2:0:-1]


def know_objects(memory: Memory, count: int) -> None:
    """Lets a memory have had so many objects, which entries made by hand may then name."""
    memory.scene.object_table.next_id = count
    memory.scene.version += 1


@lru_cache(maxsize=4)
def images(count: int = 16, height: int = 480, width: int = 640) -> NDArray[np.uint8]:
    """Returns (count, H, W, 3) uint8 images as detailed as a photograph."""
    import cv2

    rng = np.random.default_rng(0)
    made = np.empty((count, height, width, 3), np.uint8)
    for image in made:
        coarse = rng.integers(0, 256, (height // 32, width // 32, 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        image[:] = np.clip(smooth.astype(np.int16) + rng.normal(0, 4, smooth.shape), 0, 255)
    return made


def view_embeddings(count: int, size: int = 128, views: int = 200, seed: int = 0) -> NDArray[np.float32]:
    """Returns (count, size) float32 unit vectors in clusters, as embeddings of a few hundred views are."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(views, size))
    vectors = centers[np.arange(count) % views] + 0.5 * rng.normal(size=(count, size))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def keyframes(count: int, rooms: Rooms, *, snapshots: bool = False, size: int = 128) -> Iterator[Percept]:
    """Returns `count` percepts of an agent that walks on a grid, each a keyframe.

    Args:
        count: how many.
        rooms: where.
        snapshots: with 640 x 480 images.
        size: D of the embeddings.
    """
    route, vectors = rooms.route(), view_embeddings(4096, size)
    pictures = images() if snapshots else None
    views = [_view(rooms, route, k) for k in range(len(route))]
    for step in range(count):
        pose, scan, detections = views[step % len(route)]
        yield Percept(
            stamp=(step + 1) * STEP_NS,
            step=step,
            odom_T_base=pose,
            labels=LABELS,
            scans=(scan,),
            detections=detections,
            snapshot=None if pictures is None else pictures[step % len(pictures)],
            embedding=vectors[step % len(vectors)],
            action=step % 3,
            is_first=step == 0,
            source="grid",
        )


def _view(rooms: Rooms, route: list[tuple[int, int]], k: int) -> tuple[Pose, Scan, tuple[Detection, ...]]:
    (i, j), (after, _) = route[k], route[(k + 1) % len(route)]
    pose = Pose.from_xyz_yaw(i + 0.5, j + 0.5, 0.0, 0.0 if after > i else np.pi)
    cells = [(a, b) for b in range(ROOM + 1) for a in range(i - REACH, i + REACH + 1)]
    cells = [(a, b) for a, b in cells if 0 <= a <= rooms.count * ROOM]
    labels = np.array([rooms.cell(a, b) for a, b in cells], np.int32)
    to_base = pose.inverse()
    points = to_base.transform(np.array([(a + 0.5, b + 0.5, 0.5) for a, b in cells]))
    things = np.flatnonzero(labels >= 2)
    detections = tuple(
        Detection(int(labels[n]), points[n].copy(), np.ones(3), 0.01 * np.eye(3)) for n in things
    )
    return pose, Scan(points.astype(np.float32), labels > 0, labels), detections

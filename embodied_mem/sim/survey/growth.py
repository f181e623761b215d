"""Times the scene graph in a building that is ten times as large as another: does an update grow with it?"""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.memory.config import MemoryConfig
from embodied_mem.memory.ground import Ground
from embodied_mem.memory.octree import Octree
from embodied_mem.memory.scene.graph import SceneGraph
from embodied_mem.memory.walls import Walls
from embodied_mem.types import Detection, LabelMap, Percept, Scan

Array = NDArray[Any]
ROOM, CORRIDOR, DOOR, WALL = (6.0, 5.0), 2.0, 0.9, 0.1
"""Size of the rooms, width of corridors and doors, thickness of walls [m]."""
EYE = 0.5
"""Height of the sensor, and of all that there is [m]."""
SLICE = 0.1
"""Walls are looked for this far around it [m]."""
RAYS, VIEW, RANGE = 320, math.radians(79.0), 5.0
NAMES = ("unknown", "wall", *(f"thing {i}" for i in range(40)))
STEP_NS = 500_000_000
SETTLE = 5
"""Updates that are not counted, while the caches warm up."""


@dataclass(frozen=True, eq=False)
class Building:
    """Rooms on both sides of corridors, furniture in them, things that can be detected.

    Attributes:
        blocked: (H, W) bool, by voxel.
        resolution: edge of a voxel [m].
        things: (N, 3) float64 [m].
        labels: (N,) int64 of the things.
        columns: rooms along a corridor.
    """

    blocked: NDArray[np.bool_]
    resolution: float
    things: NDArray[np.float64]
    labels: NDArray[np.int64]
    columns: int


def make_building(columns: int, corridors: int, things: int, resolution: float, seed: int = 0) -> Building:
    """Builds `corridors` corridors with 2 x `columns` rooms each; the things are spread over the rooms."""
    rng = np.random.default_rng(seed)
    pitch = 2 * ROOM[1] + CORRIDOR
    size = (corridors * pitch + WALL, columns * ROOM[0] + WALL)
    blocked = np.zeros([round(edge / resolution) for edge in size], bool)

    def fill(x: float, y: float, width: float, depth: float, state: bool = True) -> None:
        x0, y0, x1, y1 = (round(v / resolution) for v in (x, y, x + width, y + depth))
        blocked[max(y0, 0) : y1, max(x0, 0) : x1] = state

    for row in range(corridors):
        base = row * pitch
        for y in (base, base + ROOM[1], base + ROOM[1] + CORRIDOR, base + pitch):
            fill(0.0, y, size[1], WALL)
        for column in range(columns):
            x = column * ROOM[0]
            fill(x, base, WALL, ROOM[1])
            fill(x, base + ROOM[1] + CORRIDOR, WALL, ROOM[1])
            fill(x + 2.5, base + ROOM[1], DOOR, WALL, False)
            fill(x + 2.5, base + ROOM[1] + CORRIDOR, DOOR, WALL, False)
            for y in (base, base + ROOM[1] + CORRIDOR):
                fill(x + rng.uniform(0.3, 3.5), y + rng.uniform(1.2, 2.2), rng.uniform(0.6, 1.8), 0.8)
        fill(0.0, base, WALL, pitch)
        fill(size[1] - WALL, base, WALL, pitch)
        if row:  # one room of each corridor leads to the next
            fill(2.5, base, DOOR, WALL, False)
    spots = np.argwhere(~blocked)
    spots = spots[rng.choice(len(spots), things, replace=False)]
    positions = np.stack([spots[:, 1] + 0.5, spots[:, 0] + 0.5, 0.0 * spots[:, 0]], axis=1) * resolution
    positions[:, 2] = EYE
    return Building(blocked, resolution, positions, rng.integers(2, len(NAMES), things), columns)


def octree_of(building: Building, until: float) -> Octree:
    """Returns an octree of all that lies at x < `until` [m], known as well as can be."""
    tree = Octree(building.resolution)
    cells = np.argwhere(np.ones_like(building.blocked))
    cells = cells[cells[:, 1] * building.resolution < until]
    for part in np.array_split(cells, max(len(cells) // 500_000, 1)):
        points = np.stack([part[:, 1] + 0.5, part[:, 0] + 0.5, 0.0 * part[:, 0]], axis=1)
        points *= building.resolution
        points[:, 2] = EYE
        hit = building.blocked[part[:, 0], part[:, 1]]
        for _ in range(2):
            tree.integrate_cells(points.astype(np.float32), hit, labels=hit.astype(np.int32))
    return tree


class Drive:
    """A robot with noisy sight and pose, which goes through the corridors and looks into the rooms.

    Args:
        building: where.
        seed: of the noise.
    """

    def __init__(self, building: Building, seed: int = 1) -> None:
        self.building = building
        self.rng = np.random.default_rng(seed)
        self.error = np.zeros(3)
        self.labels, self.step = LabelMap(NAMES), 0

    def look(self, x: float, y: float, yaw: float) -> Percept:
        """Returns what it perceives at a pose [m, rad], at a pose that is slightly wrong."""
        rng = self.rng
        self.error = 0.98 * self.error + 0.2 * rng.normal(0.0, (0.05, 0.05, math.radians(1.0)))
        turn = yaw + np.linspace(-VIEW / 2, VIEW / 2, RAYS)
        met = self._cast(x, y, turn)
        hit = met < RANGE
        reach = met + rng.normal(0.0, 0.01, RAYS) * hit
        local = turn - yaw
        points = np.stack([reach * np.cos(local), reach * np.sin(local), np.full(RAYS, EYE)], axis=1)
        scan = Scan(points.astype(np.float32), hit, hit.astype(np.int32), np.array([0.0, 0.0, EYE]))
        pose = Pose.from_xyz_yaw(x + self.error[0], y + self.error[1], 0.0, yaw + self.error[2])
        seen = self._detections(x, y, yaw)
        self.step += 1
        stamp = self.step * STEP_NS
        return Percept(stamp, self.step, pose, scans=(scan,), detections=seen, labels=self.labels)

    def _cast(self, x: float, y: float, turn: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns (N,) float64 [m]: how far one sees in some directions [rad], at most `RANGE`."""
        resolution, blocked = self.building.resolution, self.building.blocked
        reach = np.arange(0.0, RANGE, resolution / 2)
        iy = ((y + np.outer(np.sin(turn), reach)) / resolution).astype(np.int64)
        ix = ((x + np.outer(np.cos(turn), reach)) / resolution).astype(np.int64)
        height, width = blocked.shape
        met = blocked[np.clip(iy, 0, height - 1), np.clip(ix, 0, width - 1)]
        return np.asarray(np.where(met.any(axis=1), reach[np.argmax(met, axis=1)], RANGE))

    def _detections(self, x: float, y: float, yaw: float) -> tuple[Detection, ...]:
        delta = self.building.things - (x, y, 0.0)
        away = np.sqrt(delta[:, 0] ** 2 + delta[:, 1] ** 2)
        off = (np.arctan2(delta[:, 1], delta[:, 0]) - yaw + math.pi) % (2 * math.pi) - math.pi
        rows = np.flatnonzero((away < RANGE) & (away > 0.5) & (np.abs(off) < VIEW / 2))
        if not len(rows):
            return ()
        met = self._cast(x, y, off[rows] + yaw)
        rows = rows[(met >= away[rows] - 0.1) & (self.rng.random(len(rows)) < 0.9)]
        noise = self.rng.normal(0.0, 0.02, (len(rows), 2))
        return tuple(
            Detection(
                int(self.building.labels[row]),
                np.array([away[row] * math.cos(off[row]) + nx, away[row] * math.sin(off[row]) + ny, EYE]),
                np.full(3, 0.2),
                np.diag(np.full(3, 0.02**2)),
            )
            for row, (nx, ny) in zip(rows.tolist(), noise.tolist())
        )


def route(building: Building, first: int, count: int, corridor: int) -> list[tuple[float, float, float]]:
    """Returns poses along a corridor past `count` rooms from the `first` on, with looks into each."""
    y = corridor * (2 * ROOM[1] + CORRIDOR) + ROOM[1] + CORRIDOR / 2
    poses = []
    for column in range(first, first + count):
        x = column * ROOM[0]
        poses += [(x + 0.5 * i + 0.5, y, 0.0) for i in range(6)]
        for side in (1.0, -1.0):  # to the room's door, in, around, and out
            poses += [(x + 3.0, y + side * s, side * math.pi / 2) for s in (0.5, 1.0, 1.5)]
            poses += [(x + 3.0, y + side * 1.6, side * math.pi / 2 + turn) for turn in (-1.0, 1.0)]
        poses += [(x + 0.5 * i + 3.5, y, 0.0) for i in range(5)]
    return poses


def time_growth(
    config: MemoryConfig, columns: int = 36, corridors: int = 10, things: int = 500, scales: int = 10
) -> dict[str, Any]:
    """Times updates in a building and in one with a tenth of its corridors, known ground and new.

    The last rooms of every corridor are unknown at first: the drive begins in what is known.

    Args:
        config: the memory's settings.
        columns: rooms along a corridor.
        corridors: of the larger building.
        things: in the larger building; a tenth of them is in the smaller one.
        scales: how many times the smaller building the larger one is.

    Returns:
        by size ("1x" and "10x"): `places`, `objects`, `edges`, `median_ms`, `p99_ms`, `max_ms` of
        the grid map and the whole update; `parts`, the same of each part.
    """
    return {
        f"{scale}x": _time(config, columns, max(corridors * scale // scales, 1), things * scale // scales)
        for scale in (1, scales)
    }


def _time(config: MemoryConfig, columns: int, corridors: int, things: int) -> dict[str, Any]:
    building = make_building(columns, corridors, things, config.octree.resolution)
    known = columns - 6
    tree = octree_of(building, known * ROOM[0])
    scene, ground, drive = SceneGraph(config.scene), Ground(config.navigation), Drive(building)
    walls = Walls(dataclasses.replace(config.scene, wall_low=EYE - SLICE, wall_high=EYE + SLICE))
    _introduce(scene, tree, (ground, walls), drive, building, known)
    parts: dict[str, list[float]] = {"ground": [], "places": [], "rooms": [], "update": [], "whole": []}
    _watch(scene, "_update_places", parts["places"])
    _watch(scene, "_update_rooms", parts["rooms"])
    for x, y, yaw in route(building, known - 6, 12, corridors // 2):
        percept = drive.look(x, y, yaw)
        scan, pose = percept.scans[0], percept.map_T_base
        points = pose.transform(scan.points.astype(np.float64)).astype(np.float32)
        origin = pose.transform(np.array([0.0, 0.0, EYE]))
        tree.integrate(points, origin, hit=scan.hit, stamp=percept.stamp, max_range=RANGE)
        start = time.perf_counter()
        grid, where = ground.take(tree, percept.labels, pose)
        high = walls.take(tree, percept.labels, pose, None)
        middle = time.perf_counter()
        scene.update(percept, tree, grid, where, high, ground.body())
        end = time.perf_counter()
        for name, seconds in (("ground", middle - start), ("update", end - middle), ("whole", end - start)):
            parts[name].append(seconds)
    sizes = {"places": len(scene.place_table), "objects": len(scene.object_table)}
    sizes |= {"edges": len(scene.edges()), "rooms": len(scene.room_table), "keyframes": len(parts["whole"])}
    return {**sizes, **_figures(parts.pop("whole")), "parts": {n: _figures(t) for n, t in parts.items()}}


def _introduce(
    scene: SceneGraph,
    tree: Octree,
    maps: tuple[Ground, Walls],
    drive: Drive,
    building: Building,
    known: int,
) -> None:
    """Lets a scene graph take in the known part: things first, then the ground, tile after tile."""
    for i in range(0, len(building.things), 10):
        part = building.things[i : i + 10]
        detections = tuple(
            Detection(int(label), at, np.full(3, 0.2), np.diag(np.full(3, 0.02**2)))
            for label, at in zip(building.labels[i : i + 10], part)
        )
        for _ in range(2):
            drive.step += 1
            stamp = drive.step * STEP_NS
            percept = Percept(stamp, drive.step, Pose(), detections=detections, labels=drive.labels)
            scene.update(percept, tree, None)
    start = Pose.from_xyz_yaw(3.0, ROOM[1] + CORRIDOR / 2, 0.0, 0.0)
    while True:
        grid, where = maps[0].take(tree, drive.labels, start)
        walls = maps[1].take(tree, drive.labels, start, None)
        drive.step += 1
        percept = Percept(drive.step * STEP_NS, drive.step, start, labels=drive.labels)
        scene.update(percept, tree, grid, where, walls, maps[0].body())
        if not any(floor.pending for floor in scene.space.floors) and where == (0, 0, 0, 0):
            return


def _watch(owner: Any, method: str, seconds: list[float]) -> None:
    inner = getattr(owner, method)

    def timed(*args: Any) -> Any:
        start = time.perf_counter()
        try:
            return inner(*args)
        finally:
            seconds.append(time.perf_counter() - start)

    setattr(owner, method, timed)


def _figures(seconds: list[float]) -> dict[str, float]:
    ms = 1e3 * np.array(seconds[SETTLE:])
    return {
        "median_ms": float(np.median(ms)),
        "p99_ms": float(np.quantile(ms, 0.99)),
        "max_ms": float(ms.max()),
    }

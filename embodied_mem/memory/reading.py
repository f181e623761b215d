"""Reading: a fixed number of memory entries for a policy, chosen by relevance to pose and goal."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.memory.crops import egocentric_crops
from embodied_mem.memory.goal_cubes import LEVEL, Labelled, goal_cubes
from embodied_mem.memory.navigation import centers_of, nearest_traversable, shortest_path, steps_from
from embodied_mem.memory.octree import Octree
from embodied_mem.memory.octree.types import GridMap
from embodied_mem.memory.read_config import PLAIN_FEATURES, STATES, ReadConfig
from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.memory.scene.footprints import Body
from embodied_mem.memory.scene.graph import SceneGraph
from embodied_mem.memory.scene.grid_kernels import FAR, STRAIGHT, frontier_clusters, to_frame, ways_to
from embodied_mem.types import (
    NS_PER_S,
    TOKEN_KINDS,
    Detection,
    Goal,
    LabelMap,
    MemoryTokens,
    Percept,
    Scan,
)

CELL_BIAS = 1 << 20
SOLID = 4
"""Cubes with so many voxels of the goal's label are no mere fringes."""
Array = NDArray[Any]


class Queryable(Labelled, Protocol):
    """What reading needs of an octree."""

    def query(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns (N,) log-odds at (N, 3) points, NaN where unknown."""


class Entries(Protocol):
    """What reading needs of the episodes: parallel arrays, oldest first."""

    @property
    def ids(self) -> NDArray[np.int64]:
        """(N,) int64."""

    @property
    def stamps(self) -> NDArray[np.int64]:
        """(N,) int64 [ns]."""

    @property
    def positions(self) -> NDArray[np.float64]:
        """(N, 3) float64 [m] in the map frame, where the agent was."""

    @property
    def trusts(self) -> NDArray[np.float64]:
        """(N,) float64, how far the source is trusted, in [0, 1]."""


class _Reader:
    """One reading: fills the tokens slot by slot."""

    def __init__(self, scene: SceneGraph, grid: GridMap | None, pose: Pose, config: ReadConfig, stamp: int):
        self.scene, self.grid, self.pose, self.config, self.stamp = scene, grid, pose, config, stamp
        self.tokens = MemoryTokens.empty(config.tokens, config.feature_size)
        self.positions = np.zeros((config.tokens, 3))  # map frame
        self.steps: Array | None = None
        self.pictures: NDArray[np.uint8] | None = None
        if grid is not None:
            start = nearest_traversable(grid, pose.position)
            self.steps = steps_from(grid, start, scene.config.diagonal)

    def put(self, first: int, kind: str, ids: Any, positions: Array, path: Array, **fields: Any) -> None:
        """Writes tokens of one kind from slot `first` on; absent fields stay 0."""
        slots = slice(first, first + len(positions))
        t = self.tokens
        t.mask[slots] = True
        t.kind[slots] = TOKEN_KINDS.index(kind)
        t.id[slots] = ids
        t.path_distance[slots] = path
        self.positions[slots] = positions
        for name, value in fields.items():
            getattr(t, name)[slots] = value

    def ages(self, stamps: Array) -> Array:
        """Returns log(1 + seconds) since the stamps [ns]."""
        return np.log1p(np.maximum(self.stamp - stamps, 0) / NS_PER_S)

    def ways_to(self, positions: Array) -> tuple[Array, Array]:
        """Returns (N,) float64 path distances [m] from the agent, inf where none, and straight ones [m]."""
        known = self.grid is not None and self.steps is not None
        steps = self.steps if known else np.empty((0, 0), np.int32)
        raster, reach = (0.0, 0.0, 1.0), 1
        if self.grid is not None:
            raster = float(self.grid.origin[0]), float(self.grid.origin[1]), float(self.grid.resolution)
            reach = max(int(self.config.reach * (1.0 / self.grid.resolution)), 1)
        places = np.ascontiguousarray(positions)  # one kind of array, one compiled kernel
        path, away = ways_to(steps, places, raster, reach, self.pose.position)
        return path, away

    def metres(self, steps: Array) -> Array:
        """Converts path distances from kernel units to metres; inf where unreachable."""
        assert self.grid is not None
        return np.where(steps >= FAR, np.inf, steps / STRAIGHT * self.grid.resolution)

    def frontiers(self, first: int) -> None:
        """Nearest frontier clusters; each token stands at the cluster's nearest cell."""
        grid = self.grid
        if grid is None or self.steps is None:
            return
        found = frontier_clusters(np.ascontiguousarray(grid.cells), self.steps)
        order = np.lexsort((found[:, 0], -found[:, 2], found[:, 1]))[: self.config.frontiers]
        found = found[order]
        width, resolution = grid.cells.shape[1], grid.resolution
        iy = found[:, 0] // width + int(np.floor(float(grid.origin[1]) / resolution + 0.5))
        ix = found[:, 0] % width + int(np.floor(float(grid.origin[0]) / resolution + 0.5))
        extent = np.zeros((len(found), 3))
        extent[:, 0] = (found[:, 6] - found[:, 5] + 1) * resolution
        extent[:, 1] = (found[:, 4] - found[:, 3] + 1) * resolution
        self.put(
            first,
            "cell",
            ((iy + CELL_BIAS) << 21) | (ix + CELL_BIAS),
            centers_of(grid, found[:, 0]),
            self.metres(found[:, 1]),
            extent=extent,
            confidence=1.0,
            frontier=True,
        )

    def objects(self, first: int, octree: Queryable, goal: Goal | None) -> None:
        """Objects that the goal names, then the nearest."""
        o = self.scene.object_table
        existence = o.existence
        likely = np.flatnonzero(existence >= self.config.min_existence)
        if len(likely) == 0:
            return
        is_goal = self._is_goal(o.labels[likely], o.positions[likely], goal)
        d = o.positions[likely] - self.pose.position
        away = np.sqrt(d[:, 0] ** 2 + d[:, 1] ** 2 + d[:, 2] ** 2)
        order = np.lexsort((o.ids[likely], away, ~is_goal))[: self.config.objects]
        rows, is_goal = likely[order], is_goal[order]
        positions = o.positions[rows]
        log_odds = octree.query(positions.astype(np.float32)).astype(np.float64)
        occupancy = np.where(np.isnan(log_odds), 0.5, 1.0 / (1.0 + np.exp(-log_odds)))
        self.put(
            first,
            "object",
            o.ids[rows],
            positions,
            self.ways_to(positions)[0],
            extent=o.extents[rows],
            label=o.labels[rows],
            occupancy=occupancy,
            age=self.ages(o.last_seen[rows]),
            confidence=existence[rows],
            visits=np.log1p(o.counts[rows]),
        )
        self._features(first, is_goal, [(o.states[row], o.embeddings[row]) for row in rows.tolist()])

    def _is_goal(self, labels: Array, positions: Array, goal: Goal | None) -> NDArray[np.bool_]:
        result = np.zeros(len(labels), bool)
        if goal is None:
            return result
        for label in self._goal_labels(goal):  # they are few
            result |= labels == label
        if goal.position is not None:
            d = positions - np.asarray(goal.position, np.float64)
            result |= d[:, 0] ** 2 + d[:, 1] ** 2 + d[:, 2] ** 2 <= self.config.reach**2
        return result

    def _goal_labels(self, goal: Goal) -> list[int]:
        """Returns the label ids that a goal names, sorted."""
        # "find a coffee table" must not mean tables too: words count where there is no label.
        return [goal.label] if goal.label else sorted(set(_named(self.scene.labels.names, goal.text)))

    def crops(self, goal: Goal | None) -> None:
        """Draws the map around the agent, with every known thing that the goal names."""
        if not self.config.crops:
            return
        o = self.scene.object_table
        is_goal = self._is_goal(o.labels, o.positions, goal) & (o.existence >= self.config.min_existence)
        self.pictures = egocentric_crops(
            self.grid,
            self.pose,
            self.scene.trajectory_table.visited,
            o.positions[is_goal],
            self.config.crops,
            self.config.crop_pixels,
        )

    def _features(
        self, first: int, wanted: NDArray[np.bool_], things: list[tuple[str, NDArray[np.float32] | None]]
    ) -> None:
        """Fills the features of objects, of which the state and the embedding are given."""
        features = self.tokens.feature[first : first + len(things)]
        features[:, 0] = wanted
        room = features.shape[1] - PLAIN_FEATURES
        for feature, (state, embedding) in zip(features, things):
            if state in STATES:
                feature[1 + STATES.index(state)] = 1.0
            if room and embedding is not None:
                part = embedding[:room]
                feature[PLAIN_FEATURES : PLAIN_FEATURES + len(part)] = part

    def places(self, first: int) -> None:
        """The nearest places along a path; before them, those that were not visited for long."""
        p = self.scene.place_table
        if len(p) == 0:
            return
        path, away = self.ways_to(p.positions)
        age = self.ages(self._visited(p.last_visits))
        waits = age < np.log1p(self.config.stale)
        order = np.lexsort((p.ids, away, path, waits))[: self.config.places]
        self.put(
            first,
            "place",
            p.ids[order],
            p.positions[order],
            path[order],
            extent=np.repeat(2.0 * p.clearances[order, None], 3, axis=1) * (1.0, 1.0, 0.0),
            age=age[order],
            confidence=1.0,
            visits=np.log1p(p.visits[order]),
        )

    def rooms(self, first: int) -> None:
        """The agent's own room, then the nearest."""
        r, p = self.scene.room_table, self.scene.place_table
        if len(r) == 0:
            return
        here = r.at(self.pose.position)
        path, away = self.ways_to(r.positions)
        order = np.lexsort((r.ids, away, path, r.ids != here))[: self.config.rooms]
        in_room = r.rows(p.positions)[None, :] == order[:, None]  # (R, P)
        visited = np.where(in_room, p.last_visits[None, :], -1).max(axis=1, initial=-1)
        self.put(
            first,
            "room",
            r.ids[order],
            r.positions[order],
            path[order],
            extent=r.extents()[order],
            age=self.ages(self._visited(visited)),
            confidence=1.0,
            visits=np.log1p((in_room * p.visits[None, :]).sum(axis=1)),
        )

    def _visited(self, stamps: Array) -> Array:
        """Replaces "never" by the beginning: what was never visited is as old as the memory."""
        return np.where(stamps < 0, self.scene.trajectory_table.start, stamps)

    def episodes(self, first: int, episodes: Entries | None) -> None:
        """The newest episodic entries, newest first."""
        if episodes is None or self.config.episodes == 0:
            return
        newest = slice(-1, -1 - self.config.episodes, -1)
        positions = episodes.positions[newest]
        self.put(
            first,
            "episode",
            episodes.ids[newest],
            positions,
            self.ways_to(positions)[0],
            age=self.ages(episodes.stamps[newest]),
            confidence=episodes.trusts[newest],
        )

    def goals(self, first: int, octree: Queryable, goal: Goal | None) -> None:
        """The nearest cubes of the octree with voxels of a label that the goal names.

        Those of `SOLID` voxels and more come first: the fringes of a large thing, or what wrong labels left
        over, must not crowd out the thing itself.
        """
        if self.config.goals == 0 or goal is None or not (labels := self._goal_labels(goal)):
            return
        cubes = goal_cubes(octree, labels)
        if not len(cubes):
            return
        path, away = self.ways_to(cubes.positions)
        near = np.lexsort((cubes.ids, away, path, cubes.counts < SOLID))[: self.config.goals]
        self.put(
            first,
            "cell",
            cubes.ids[near],
            cubes.positions[near],
            path[near],
            level=LEVEL,
            extent=cubes.extents[near],
            label=cubes.labels[near],
            occupancy=1.0,
            age=self.ages(cubes.stamps[near]),
            confidence=1.0 - 0.5 ** cubes.counts[near],
            visits=np.log1p(cubes.counts[near]),
        )
        self.tokens.feature[first : first + len(near), 0] = 1.0

    def finish(self) -> MemoryTokens:
        """Turns positions into the base frame, adds the place, and returns the tokens."""
        t = self.tokens
        to_frame(self.pose.rotation(), self.pose.position, self.positions, t.position)
        t.position[~t.mask] = 0.0
        return replace(t, place_id=self.scene.place_at(self.pose.position), crops=self.pictures)


def read_tokens(
    octree: Queryable,
    scene: SceneGraph,
    episodes: Entries | None,
    pose: Pose,
    goal: Goal | None,
    config: ReadConfig,
    stamp: int,
    grid_map: GridMap | None = None,
) -> MemoryTokens:
    """Chooses what a policy sees of the memory; the same memory, pose and goal give the same tokens.

    Every kind has slots of its own (frontiers, objects, places, rooms, episodes, cubes with the goal's
    label, in this order). Frontier tokens are of the kind "cell", as cubes are, and stand on the
    traversable cell to go to; the nearest reachable frontier is always among them. Nothing is changed.

    Args:
        octree: the memory's.
        scene: the memory's scene graph.
        episodes: the memory's, or None.
        pose: `map_T_base` now.
        goal: what the agent is after (its label an id of `scene.labels`), or None.
        config: quotas.
        stamp: now [ns].
        grid_map: traversable space; that of the last write where None.
    """
    grid = grid_map if grid_map is not None else scene.grid_map
    if grid is not None and grid.cells.size == 0:
        grid = None
    reader = _Reader(scene, grid, pose, config, stamp)
    first = 0
    reader.frontiers(first)
    first += config.frontiers
    reader.objects(first, octree, goal)
    first += config.objects
    reader.places(first)
    first += config.places
    reader.rooms(first)
    first += config.rooms
    reader.episodes(first, episodes)
    first += config.episodes
    reader.goals(first, octree, goal)
    reader.crops(goal)
    return reader.finish()


def warm_up() -> None:
    """Compiles the kernels of the scene graph and of reading, or loads them from Numba's cache."""
    cells = np.zeros((6, 9), np.int8)
    cells[[0, -1]] = cells[:, [0, -1, 4]] = 100
    cells[3, 4] = 0
    grid, labels = GridMap(cells, np.zeros(2), 1.0, 0.0), LabelMap(("unknown", "door", "table"))
    door = Detection(1, np.array([2.0, 1.0, 0.0]), np.ones(3), np.eye(3))
    beside = Detection(1, np.array([1.8, 1.0, 0.0]), np.ones(3), np.eye(3))
    table = Detection(2, np.array([3.0, 2.0, 0.0]), np.ones(3), np.eye(3))
    points = np.array([[2.0, 1.0, 0.0]], np.float32)
    scans = (
        Scan(points, np.zeros(1, bool), np.zeros(1, np.int32)),
        Scan(points, np.ones(1, bool), np.zeros(1, np.int32), np.zeros(3)),
    )
    octree, scene = Octree(1.0), SceneGraph(SceneConfig(furniture=0.5, driven=True))
    for step, detections in enumerate([(door,), (door, beside, table), ()]):
        pose = Pose.from_xyz_yaw(2.5 + 0.2 * step, 2.5, 0.0, 0.0)
        percept = Percept(step, step, pose, labels=labels, scans=scans, detections=detections)
        scene.update(percept, octree, grid, None, None, Body(grid, 0.2, 0.1, 1.0))
    read_tokens(octree, scene, None, pose, None, ReadConfig(), 0)
    shortest_path(grid, (1.5, 1.5), (6.5, 1.5))


@lru_cache(maxsize=256)
def _named(names: tuple[str, ...], text: str) -> tuple[int, ...]:
    """Returns the ids of the labels all of whose words are in a text."""
    words = set(re.findall(r"\w+", text.lower()))
    return tuple(i for i, name in enumerate(names) if i and set(re.findall(r"\w+", name)) <= words)

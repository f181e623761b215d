"""Storeys: places and rooms on each, and the way over the ramp between them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from embodied_mem.geometry import Pose
from embodied_mem.memory.config import NavigationConfig
from embodied_mem.memory.footing import floor_height
from embodied_mem.memory.ground import Ground
from embodied_mem.memory.octree import Octree
from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.memory.scene.graph import SceneGraph
from embodied_mem.types import LabelMap, Percept

UP, RES, LABELS = 2.0, 0.05, LabelMap(("unknown",))
SCENE = SceneConfig(place_spacing=1.5, passage_width=0.6, room_area=4.0)


def ramp(x: float) -> float:
    """Height of the ramp along y = 4.6, from x = 8 to x = 0 [m]."""
    return float(np.clip(UP * (8.0 - x) / 8.0, 0.0, UP))


def slab(tree: Octree, x: tuple[float, float], y: tuple[float, float], height: float) -> None:
    """Lays a floor, with free air of 1.2 m over it."""
    ix, iy, iz = np.meshgrid(
        *(np.arange(round(a / RES), round(b / RES)) for a, b in (x, y)), np.arange(-1, 24), indexing="ij"
    )
    points = np.stack([ix, iy, iz + round(height / RES)], axis=-1).reshape(-1, 3)
    for _ in range(3):
        tree.integrate_cells(((points + 0.5) * RES).astype(np.float32), (iz == -1).ravel())


def building() -> Octree:
    """A room of 8 x 4 m over another one, and beside them a ramp, with a landing at either end."""
    tree = Octree(RES)
    slab(tree, (0.0, 8.0), (0.0, 4.0), 0.0)
    slab(tree, (8.0, 9.2), (0.0, 5.2), 0.0)
    for i in range(160):
        slab(tree, (i * RES, (i + 1) * RES), (4.0, 5.2), ramp((i + 0.5) * RES))
    slab(tree, (-1.2, 8.0), (0.0, 4.0), UP)
    slab(tree, (-1.2, 0.0), (4.0, 5.2), UP)
    wall = np.stack(np.meshgrid(np.arange(160), [80], np.arange(64), indexing="ij"), axis=-1).reshape(-1, 3)
    for _ in range(6):
        tree.integrate_cells(((wall + 0.5) * RES).astype(np.float32), np.ones(len(wall), bool))
    return tree


def tour() -> list[tuple[float, float, float]]:
    """Through the lower room, up the ramp, through the upper room."""
    corners = [(1.0, 1.0), (7.0, 1.0), (8.6, 2.0), (8.6, 4.6), (8.0, 4.6)]
    corners += [(x, 4.6) for x in np.arange(7.5, -0.1, -0.5)] + [(-0.6, 4.6), (-0.6, 2.0), (7.0, 2.0)]
    poses = []
    for (ax, ay), (bx, by) in pairwise(corners):
        for t in np.linspace(0.0, 1.0, max(int(np.hypot(bx - ax, by - ay) / 0.25), 1), endpoint=False):
            x, y = ax + t * (bx - ax), ay + t * (by - ay)
            on_ramp = y > 4.0
            poses.append((x, y, ramp(x) if on_ramp else (UP if len(poses) > 60 else 0.0)))
    return [*poses, (7.0, 2.0, UP)]


@pytest.fixture(scope="module")
def climbed() -> SceneGraph:
    tree, scene = building(), SceneGraph(SCENE)
    ground = Ground(NavigationConfig(robot_height=1.0, robot_radius=0.2))
    for step, (x, y, z) in enumerate(tour()):
        pose = Pose.from_xyz_yaw(x, y, z, 0.0)
        percept = Percept(step * 10**8, step, pose, is_first=step == 0, labels=LABELS)
        scene.update(percept, tree, *ground.take(tree, LABELS, pose))
    return scene


def test_there_are_places_on_both_storeys_and_the_ramp(climbed: SceneGraph) -> None:
    levels = np.array([place.level for place in climbed.places()])
    assert (np.abs(levels) < 0.06).sum() >= 6 and (np.abs(levels - UP) < 0.06).sum() >= 6
    assert ((levels > 0.4) & (levels < 1.6)).sum() >= 3
    for x, y in [(1.0, 1.0), (4.0, 2.0), (7.0, 3.0)]:
        low, high = climbed.place_at((x, y, 0.0)), climbed.place_at((x, y, UP))
        assert low != high and min(low, high) >= 0
        where = {place.id: place.level for place in climbed.places()}
        assert abs(where[low]) < 0.06 and abs(where[high] - UP) < 0.06


def test_the_path_from_storey_to_storey_goes_over_the_ramp(climbed: SceneGraph) -> None:
    level = {place.id: place.level for place in climbed.places()}
    start, goal = climbed.place_at((1.0, 1.0, 0.0)), climbed.place_at((7.0, 2.0, UP))
    path = climbed.path(start, goal)
    assert path[0] == start and path[-1] == goal
    climb = np.diff([level[place] for place in path])
    assert np.abs(climb).max() < 0.7
    way = climbed.way(start, goal)
    length = np.linalg.norm(np.diff(way, axis=0), axis=1).sum()
    true = 7.6 + 3.0 + np.hypot(8.0, UP) + 1.2 + 2.6 + 7.6
    assert 0.8 * true < length < 1.3 * true
    for a, b, _ in climbed.edges():  # nothing leads straight up
        assert abs(level[a] - level[b]) < 0.7


def test_rooms_do_not_merge_across_floors(climbed: SceneGraph) -> None:
    low, high = climbed.room_at((4.0, 2.0, 0.3)), climbed.room_at((4.0, 2.0, UP + 0.3))
    assert min(low, high) >= 0 and low != high
    rooms = {room.id: room for room in climbed.rooms()}
    level = {place.id: place.level for place in climbed.places()}
    assert {round(level[i]) for i in rooms[low].place_ids} == {0}
    assert {round(level[i]) for i in rooms[high].place_ids} == {round(UP)}
    assert rooms[low].area == pytest.approx(rooms[high].area, rel=0.4)


def test_saved_storeys_come_back(climbed: SceneGraph) -> None:
    again = SceneGraph(SCENE)
    again.import_rows(climbed.export_rows())
    assert again.digest() == climbed.digest()
    for point in [(4.0, 2.0, 0.0), (4.0, 2.0, UP), (4.0, 4.6, 1.0)]:
        assert again.place_at(point) == climbed.place_at(point)
        assert again.room_at(point) == climbed.room_at(point)


def test_the_floor_under_a_carried_base_comes_from_the_map() -> None:
    tree = Octree(RES)
    slab(tree, (0.0, 4.0), (0.0, 4.0), 0.0)
    table = np.array([(x, y, 14) for x in range(30, 60) for y in range(30, 50)])
    for _ in range(6):
        tree.integrate_cells(((table + 0.5) * RES).astype(np.float32), np.ones(len(table), bool))
    for height in (0.0, 0.1, 1.1, 1.4):
        assert floor_height(tree, np.array([1.0, 2.0, height])) == pytest.approx(
            round(height / RES) * RES if height < 0.3 else 0.0
        )
    assert floor_height(tree, np.array([50.0, 0.0, 1.11])) == pytest.approx(1.1)  # nothing is known there

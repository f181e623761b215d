"""What furniture and the robot's own way tell of the floor, where the voxels err."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from ascii_world import LABELS, percept

from embodied_mem.memory.navigation import clearance
from embodied_mem.memory.octree import Octree
from embodied_mem.memory.octree.types import GridMap
from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.memory.scene.floor import Box
from embodied_mem.memory.scene.footprints import HEM, Body, Standing
from embodied_mem.memory.scene.graph import SceneGraph
from embodied_mem.memory.scene.places import ASIDE
from embodied_mem.memory.scene.space import Space
from embodied_mem.memory.scene.trajectory import Trajectory
from embodied_mem.types import Detection

CELL, RADIUS = 0.05, 0.23
CONFIG = SceneConfig(place_spacing=1.2, furniture=0.4, driven=True)


def room(gap: float = 3.9, wall: bool = True) -> tuple[GridMap, Body]:
    """A room of 4 x 4 m, a wall with a gap across its middle; the grid map, and what stands there."""
    raw = np.zeros((80, 80), np.int8)
    raw[[0, -1]] = raw[:, [0, -1]] = 100
    if wall:
        raw[:, 40] = 100
        half = round(gap / CELL / 2)
        raw[40 - half : 40 + half, 40] = 0
    return grid_of(raw)


def grid_of(raw: np.ndarray) -> tuple[GridMap, Body]:
    blocked = clearance(raw > 0, CELL) + CELL / 2 < RADIUS
    cells = np.where((raw == 0) & blocked, 100, raw).astype(np.int8)
    grid, obstacles = (GridMap(c, np.zeros(2), CELL, 0.0) for c in (cells, raw))
    return grid, Body(obstacles, RADIUS, 0.1, 1.0)


def standing(body: Body, boxes=(), drive=()) -> Standing:
    """Boxes are (id, x, y, z, length, width, height, yaw); the drive is (x, y)."""
    table = np.array(boxes, np.float64).reshape(-1, 8)
    c, s = np.abs(np.cos(table[:, 7])), np.abs(np.sin(table[:, 7]))
    extents = table[:, 4:7].copy()
    extents[:, 0], extents[:, 1] = (table[:, 4] * c + table[:, 5] * s, table[:, 4] * s + table[:, 5] * c)
    trajectory = Trajectory(0.1)
    for step, at in enumerate(drive):
        trajectory.append(step, np.array([*at, 0.0]))
    return Standing(body, table[:, 0].astype(np.int64), table[:, 1:4], extents, table[:, 7], trajectory)


def sampled(space: Space) -> np.ndarray:
    """(N, 2) points along all edges."""
    parts = [
        a + np.linspace(0.0, 1.0, 40)[:, None] * (b - a)
        for first, last, _ in space.places.edges()
        for a, b in pairwise(space.places.trace([first, last])[:, :2])
    ]
    return np.concatenate(parts)


def away_from(points: np.ndarray, box) -> float:
    """Least distance [m] of points from a box."""
    c, s = math.cos(box[7]), math.sin(box[7])
    d = points - np.array(box[1:3])
    along, across = np.abs(d @ (c, s)) - box[4] / 2, np.abs(d @ (-s, c)) - box[5] / 2
    return float(np.hypot(np.maximum(along, 0.0), np.maximum(across, 0.0)).min())


@pytest.mark.parametrize("yaw", (0.0, 0.4, -0.6, math.pi / 4))
def test_no_edge_leads_through_a_table_whose_voxels_are_gone(yaw: float) -> None:
    table = (7, 2.1, 1.9, 0.75, 1.2, 0.9 if abs(yaw) < 0.7 else 1.2, 0.05, yaw)
    grid, body = room(wall=False)
    space = Space(CONFIG)
    space.update(grid, None, np.array([0.5, 0.5, 0.0]), standing(body))
    assert away_from(sampled(space), table) == 0.0  # nothing is known to stand there
    space.update(grid, None, np.array([0.5, 0.5, 0.0]), standing(body, [table]))
    assert away_from(sampled(space), table) >= RADIUS - HEM - CELL
    places = space.places
    near, far = places.at((0.5, 0.5, 0.0)), places.at((3.5, 3.5, 0.0))
    assert places.path(near, far), "there is a way around it"
    lamp = (7, 2.1, 1.9, 1.8, 1.2, 0.9, 0.3, yaw)  # where it hangs the robot passes below
    space.update(grid, None, np.array([0.5, 0.5, 0.0]), standing(body, [lamp]))
    np.testing.assert_array_equal(space.floors[0].cells[1:-1, 1:-1], grid.cells)


def test_where_the_base_has_been_there_is_a_way_until_something_stands_there() -> None:
    grid, body = room(gap=0.4)
    space, at = Space(CONFIG), np.array([0.5, 2.0, 0.0])

    def leads() -> bool:
        places = space.places
        return bool(places.path(places.at((0.6, 2.0, 0.0)), places.at((3.4, 2.0, 0.0))))

    space.update(grid, None, at, standing(body))
    space.update(grid, None, np.array([3.4, 2.0, 0.0]), standing(body))
    assert not leads()  # the map leaves the robot no room
    leap = [(1.0, 2.02), (3.0, 2.02)]
    space.update(grid, None, at, standing(body, drive=leap))
    assert not leads(), "nobody knows how it came from one side to the other"
    drive = [(x, 2.02) for x in np.arange(1.0, 3.05, 0.5)]
    space.update(grid, None, at, standing(body, drive=drive))
    assert leads()
    raw = body.obstacles.cells.copy()
    raw[38:42, 44] = 100
    blocked, box = grid_of(raw)
    space.update(blocked, None, at, standing(box, drive=drive))
    assert not leads(), "a chair came to stand there since"
    space.update(grid, None, at, standing(body, drive=drive))
    assert leads()
    chair = (3, 2.2, 2.0, 0.4, 0.6, 0.6, 0.8, 0.0)
    space.update(grid, None, at, standing(body, [chair], drive))
    assert not leads(), "nor through one that is known, whatever the voxels show"


@pytest.mark.parametrize("seed", range(3))
def test_drawn_bit_by_bit_it_is_what_it_is_drawn_at_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid, body = room(gap=0.4)
    space, at = Space(CONFIG), np.array([0.5, 0.5, 0.0])
    boxes: dict[int, tuple[float, ...]] = {}
    drive = [(0.6, 0.6)]
    trajectory = Trajectory(0.1)
    for step in range(30):
        for number in rng.integers(0, 6, 2).tolist():  # one of six comes, moves, grows, or goes
            if rng.random() < 0.3:
                boxes.pop(number, None)
            else:
                sizes = rng.uniform(0.2, 1.0, 3)
                yaw = rng.uniform(-0.8, 0.8)
                boxes[number] = (number, *rng.uniform(-0.5, 4.5, 2), 0.4, *sizes, yaw)
        drive.append(tuple(np.clip(drive[-1] + rng.normal(0.0, 0.25, 2), 0.3, 3.7)))
        trajectory.append(step, np.array([*drive[-1], 0.0]))
        now = replace(standing(body, [boxes[i] for i in sorted(boxes)]), trajectory=trajectory)
        # Nothing of the map has changed: only where something is drawn otherwise it is looked at again.
        space.update(grid, None if step == 0 else Box(0, 0, 0, 0), at, now)
    fresh = Space(CONFIG)
    fresh.update(grid, None, at, now)
    there, here = fresh.floors[0], space.floors[0]
    both = here.box.within(there.box)
    np.testing.assert_array_equal(here.cells[here.slices(both)], there.cells[there.slices(both)])
    assert (here.cells > 0).sum() > (grid.cells > 0).sum()
    driven = [tuple((np.array(p) // CELL).astype(int)) for p in drive[1:]]
    free = [here.cells[y - here.box.y0, x - here.box.x0] == 0 for x, y in driven]
    assert any(free)


def test_a_graph_that_is_saved_and_comes_back_draws_the_same() -> None:
    table = LABELS.id("red ball")
    grid, body = room(gap=0.4)
    tree = Octree(CELL)

    def steps(first: int, last: int):
        for step in range(first, last):
            x = 0.6 + 0.14 * step
            seen = Detection(
                table, np.array([2.2 - x, 1.2, 0.7]), np.array([0.8, 0.6, 0.1]), np.eye(3) * 1e-4
            )
            yield percept(step, x, 2.02, detections=(seen,) if step % 2 else ())

    whole, first = SceneGraph(CONFIG), SceneGraph(CONFIG)
    for seen in steps(0, 20):
        whole.update(seen, tree, grid, None, None, body)
    for seen in steps(0, 12):
        first.update(seen, tree, grid, None, None, body)
    again = SceneGraph(CONFIG)
    again.import_rows(first.export_rows())
    for seen in steps(12, 20):
        again.update(seen, tree, grid, None, None, body)
    assert again.digest() == whole.digest()
    plain = SceneGraph(replace(CONFIG, furniture=0.0, driven=False))
    for seen in steps(0, 20):
        plain.update(seen, tree, grid, None, None, body)
    assert plain.digest() != whole.digest()  # it did make a difference
    assert whole.path(whole.place_at((0.8, 2.0)), whole.place_at((3.2, 2.0)))


@pytest.mark.parametrize("seed", range(4))
def test_a_place_in_whose_way_something_came_to_stand_steps_aside_or_has_no_edges(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid, body = room(gap=0.7)
    space, at = Space(CONFIG), np.array([0.6, 2.0, 0.0])
    space.update(grid, None, at, standing(body))
    here = -1
    y = rng.uniform(1.9, 2.1)
    drive = [(x, y) for x in np.arange(0.6, 3.5, 0.3)]
    for stamp, (x, y) in enumerate(drive):  # walked edges over the gap, and from place to place
        position = np.array([x, y, 0.0])
        space.update(grid, None, position, standing(body, drive=drive[: stamp + 1]))
        before, now = here, space.places.at(position)
        step = np.array([[*drive[max(stamp - 1, 0)], 0.0], position])
        space.places.visit(now, before, stamp, step)
        here = now
    edges = space.places.edges()
    visited = space.places.ids[space.places.visits > 0].tolist()
    for place in visited:
        spot = space.places.positions[space.places.index(place)].copy()
        raw = body.obstacles.cells.copy()
        cy, cx = (np.floor(spot[1::-1] / CELL)).astype(int)
        raw[max(cy - 2, 0) : cy + 3, max(cx - 2, 0) : cx + 3] = 100  # not on the place's own centre alone
        blocked, box = grid_of(raw)
        space.update(blocked, None, at, standing(box, drive=drive))
        floor = space.floors[0]
        now = space.places.positions[space.places.index(place)]
        cell = floor.cells.reshape(-1)[floor.flat(*floor.cells_of(now[None]))[0]]
        assert np.hypot(*(now - spot)[:2]) <= ASIDE + CELL
        assert cell == 0 or not [edge for edge in space.places.edges() if place in edge[:2]]
        flat = floor.flat(*floor.cells_of(np.column_stack([sampled(space), np.zeros(len(sampled(space)))])))
        assert (floor.cells.reshape(-1)[flat] <= 0).all(), "no other edge leads through it either"
        space.update(grid, None, at, standing(body, drive=drive))
        assert [edge for edge in space.places.edges() if place in edge[:2]]
    assert len(visited) >= 2 and edges


def test_a_place_that_something_narrow_stands_on_moves_to_free_floor_beside_it() -> None:
    grid, body = room(wall=False)
    space, at = Space(CONFIG), np.array([2.0, 2.0, 0.0])
    space.update(grid, None, at, standing(body))
    place = space.places.at(at)
    space.places.visit(place, -1, 0)
    spot = space.places.positions[space.places.index(place)].copy()
    stick = (0, spot[0] + 0.1, spot[1], 0.5, 0.02, 0.02, 1.0, 0.0)
    space.update(grid, None, np.array([0.6, 0.6, 0.0]), standing(body, [stick]))
    now = space.places.positions[space.places.index(place)]
    assert 0.0 < np.hypot(*(now - spot)[:2]) <= ASIDE
    assert [edge for edge in space.places.edges() if place in edge[:2]]
    assert away_from(sampled(space), stick) >= RADIUS - CELL
    assert space.places.at(now) == place


@pytest.mark.parametrize("seed", range(4))
def test_where_a_pose_erred_no_edge_comes_nearer_to_what_is_measured_than_the_body_can(seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw = room(wall=False)[1].obstacles.cells.copy()
    for y, x in rng.integers(8, 72, (12, 2)).tolist():
        raw[y : y + rng.integers(1, 6), x : x + rng.integers(1, 6)] = 100
    grid, body = grid_of(raw)
    space = Space(CONFIG)
    drive = [(0.4, 0.4)]
    for _ in range(60):  # wherever the poses said that the base was, through things too
        drive.append(tuple(np.clip(drive[-1] + rng.normal(0.02, 0.2, 2), 0.1, 3.9)))
    space.update(grid, None, np.array([0.4, 0.4, 0.0]), standing(body, drive=drive))
    opened = (space.floors[0].cells == 0)[space.floors[0].slices(Box(0, 0, 80, 80))] & (grid.cells > 0)
    assert opened.any(), "the drive made some floor free"
    away = np.hypot(*(np.argwhere(opened)[:, None] - np.argwhere(raw > 0)).transpose(2, 0, 1)) * CELL
    assert away.min() >= RADIUS - 0.07, "the map may err by that much, and the body cannot have been there"
    floor, points = space.floors[0], sampled(space)
    flat = floor.flat(*floor.cells_of(np.column_stack([points, np.zeros(len(points))])))
    assert (floor.cells.reshape(-1)[flat] == 0).all()

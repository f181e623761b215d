"""Collisions and geodesic distances in houses."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from embodied_mem.sim.house.config import RobotConfig
from embodied_mem.sim.house.floor_plan import NORMALS, SKIN, FloorPlan, path_length
from embodied_mem.sim.house.house import House, make_house
from embodied_mem.sim.house.robot import Action, Robot


@pytest.fixture(scope="module")
def house() -> House:
    return make_house(7)


def free_points(house: House, count: int) -> np.ndarray:
    plan = house.floor_plan
    cells = np.random.default_rng(0).choice(np.flatnonzero(plan.main_part), count)
    return plan.centers[cells]


def around_a_box() -> FloorPlan:
    """A hall of 6 m x 4 m with a box of 2 m x 2 m in its middle, for a robot of 0.2 m radius."""
    walls = [(-1, -1, 7, 0), (-1, 4, 7, 5), (-1, 0, 0, 4), (6, 0, 7, 4)]
    return FloorPlan(np.array([*walls, (2, 1, 4, 3)], float), (6.0, 4.0), 0.2)


def test_collisions_never_let_the_robot_into_anything(house: House):
    rng = np.random.default_rng(1)
    plan, blocked_steps = house.floor_plan, 0
    boxes = plan.boxes
    for start in free_points(house, 4):
        robot = Robot(RobotConfig(), plan, start, float(rng.uniform(-3, 3)))
        for action in rng.choice([Action.FORWARD, Action.LEFT, Action.RIGHT], 250, p=[0.8, 0.1, 0.1]):
            before = robot.position
            length, _, blocked = robot.act(Action(action))
            gap = np.maximum(np.maximum(boxes[:, :2] - robot.position, robot.position - boxes[:, 2:]), 0)
            assert np.hypot(*gap.T).min() >= plan.radius - 1e-6
            assert length == pytest.approx(np.hypot(*(robot.position - before)))
            assert action != Action.FORWARD or blocked == (length < 0.25 - 1e-9)
            blocked_steps += blocked
    assert blocked_steps > 50


def test_a_robot_stops_where_it_touches_a_wall_and_does_not_slide():
    plan = around_a_box()
    end, blocked = plan.advance(np.array([1.0, 2.0]), 0.0, 2.0)
    assert blocked and 1.79 <= end[0] <= 1.8 and end[1] == 2.0
    end, blocked = plan.advance(np.array([1.0, 3.7]), math.radians(30), 1.0)
    assert blocked and end[1] <= 3.8 + 1e-6 and end[0] < 1.2


def test_the_way_around_a_box_is_the_one_that_geometry_tells():
    plan = around_a_box()
    # Tangents to the rounded corners (radius 0.2) of the box, its side, and the arcs between.
    a, b = np.array([1.0, 2.0]), np.array([5.0, 2.0])
    reach = math.hypot(1.0, 1.0)
    tangent = math.sqrt(reach**2 - 0.2**2)
    heading = math.pi / 4 + math.asin(0.2 / reach)
    exact = 2 * tangent + 2.0 + 2 * 0.2 * heading
    assert plan.geodesic(a, b) == pytest.approx(exact, rel=0.01)
    field = plan.distance_field(np.array([plan.nearest_free(b)]))
    assert plan.look_up(field, a) == pytest.approx(exact, rel=0.03)


def test_geodesics_are_symmetric_free_and_never_shorter_than_the_straight_line(house: House):
    plan, points = house.floor_plan, free_points(house, 24)
    longer = 0
    for a, b in zip(points[::2], points[1::2]):
        path = plan.shortest_path(a, b)
        assert np.array_equal(path, plan.shortest_path(b, a)[::-1])
        assert np.array_equal(path[0], a) and np.array_equal(path[-1], b)
        straight, length = float(np.hypot(*(a - b))), plan.geodesic(a, b)
        assert length >= straight - 1e-9 and length == plan.geodesic(b, a)
        longer += length > 1.05 * straight
        for p, q in pairwise(path):
            along = p + np.linspace(0, 1, 50)[:, None] * (q - p)
            assert plan.clearance(along).min() >= plan.radius - 1e-6
        grid = plan.look_up(plan.distance_field(np.array([plan.nearest_free(b)])), a)
        assert length <= grid + 1e-6 and grid <= 1.04 * length + 0.1
        assert 0.93 * path_length(path) <= length <= path_length(path)
    assert longer >= 4


def test_where_there_is_no_way_the_distance_is_infinite():
    walls = [(-1, -1, 5, 0), (-1, 2, 5, 3), (-1, 0, 0, 2), (4, 0, 5, 2), (1.9, 0, 2.1, 2)]
    plan = FloorPlan(np.array(walls, float), (4.0, 2.0), 0.2)
    assert plan.geodesic((1.0, 1.0), (3.0, 1.0)) == math.inf
    assert len(plan.shortest_path((1.0, 1.0), (3.0, 1.0))) == 0
    assert np.isinf(plan.look_up(plan.distance_field(np.array([plan.nearest_free((3.0, 1.0))])), (1.0, 1.0)))


def test_clearance_agrees_with_the_free_cells(house: House):
    plan = house.floor_plan
    cells = np.random.default_rng(2).integers(0, plan.free.size, 3000)
    clearance, free = plan.clearance(plan.centers[cells]), plan.free.flat[cells]
    assert (clearance[free] >= plan.radius).all() and (clearance[~free] < 1.02 * plan.radius).all()
    assert [plan.is_free(point) for point in plan.centers[cells[:300]]] == free[:300].tolist()


def test_what_the_robot_cannot_be_in_are_boxes_with_bevelled_corners():
    plan = around_a_box()
    for corners, offsets in zip(plan.outlines, plan.offsets):
        along = corners @ NORMALS.T
        assert (along <= offsets + 1e-9).all()
        assert (np.isclose(along, offsets).sum(axis=1) == 2).all()  # a corner lies on two sides
        edges = np.roll(corners, -1, axis=0) - corners
        assert (edges[:, 0] * np.roll(edges[:, 1], -1) > edges[:, 1] * np.roll(edges[:, 0], -1)).all()
    middle = plan.outlines[-1].mean(axis=0)
    assert np.allclose(middle, [3.0, 2.0]) and not plan.is_free(middle)
    out = plan.outlines[-1] + 1e-6 * (plan.outlines[-1] - middle)
    assert all(plan.is_free(point) for point in out)
    assert not any(plan.is_free(point) for point in middle + 0.999 * (plan.outlines[-1] - middle))


def test_steps_are_as_long_as_the_way_is_free():
    """Against the same steps in pieces of a tenth of a millimetre."""
    plan, rng = make_house(20_003).floor_plan, np.random.default_rng(3)
    blocked = 0
    for cell in rng.choice(np.flatnonzero(plan.main_part), 150):
        start, heading = plan.centers[cell], float(rng.uniform(-math.pi, math.pi))
        ahead = np.array([math.cos(heading), math.sin(heading)])
        end, stopped = plan.advance(start, heading, 0.25)
        along = np.arange(0.0, 0.25 + SKIN, 1e-4)
        free = np.array([plan.is_free(start + way * ahead) for way in along])
        reach = 0.25 + SKIN if free.all() else along[int(np.argmin(free))]
        assert np.hypot(*(end - start)) == pytest.approx(min(0.25, max(0.0, reach - SKIN)), abs=2e-4)
        assert stopped != free.all() and plan.is_free(end)
        blocked += stopped
    assert blocked > 15


def test_a_robot_in_a_nook_between_cells_has_a_way_out():
    house, nook = make_house(9252), np.array([5.56717978, 6.59226067])
    plan = house.floor_plan
    assert plan.is_free(nook)
    distances = house.distances_to("microwave", 1.0)
    assert np.isinf(distances[plan.cell_of(nook)]) and 0.0 < plan.look_up(distances, nook) < 1.0

"""What cameras see in houses."""

from __future__ import annotations

import math

import numpy as np
import pytest

from embodied_mem.geometry import Pose
from embodied_mem.sim.house.catalog import HOUSE_LABELS
from embodied_mem.sim.house.config import NoiseConfig
from embodied_mem.sim.house.house import House, make_house
from embodied_mem.sim.house.mesh import CEILING_ID, FLOOR_ID, WALL_ID
from embodied_mem.sim.house.renderer import Camera, View, scene_of
from embodied_mem.sim.house.robot import Odometry, camera_mount, noisy_depth

CAMERA = Camera(64, 48, 79.0)


@pytest.fixture(scope="module")
def house() -> House:
    return make_house(3)


def poses(house: House, count: int, tilt: float = 0.0) -> list[Pose]:
    plan, rng = house.floor_plan, np.random.default_rng(4)
    cells = rng.choice(np.flatnonzero(plan.main_part), count)
    return [
        Pose.from_xyz_yaw(*plan.centers[c], 0.0, rng.uniform(-3, 3)) @ camera_mount(0.9, tilt) for c in cells
    ]


def views(house: House, count: int, max_depth: float = 30.0) -> list[tuple[Pose, View]]:
    return [(p, CAMERA.view(scene_of(house), p, max_depth)) for p in poses(house, count)]


def points_of(pose: Pose, view: View) -> np.ndarray:
    """Returns (H, W, 3) map points of the pixels, by the convention of pixel centres at integers."""
    k = CAMERA.intrinsics
    v, u = np.indices(view.depth.shape)
    z = view.depth.astype(float)
    return pose.transform(np.stack([(u - k.cx) / k.fx * z, (v - k.cy) / k.fy * z, z], -1).reshape(-1, 3))


def test_the_camera_looks_along_base_x_with_rows_going_down():
    mount = camera_mount(0.9, 0.0)
    assert np.allclose(mount.rotate(np.eye(3)), [[0, -1, 0], [0, 0, -1], [1, 0, 0]])
    up = camera_mount(0.9, math.radians(30)).rotate(np.array([0.0, 0.0, 1.0]))
    assert np.allclose(up, [math.cos(math.radians(30)), 0, 0.5])
    k = CAMERA.intrinsics
    assert (k.cx, k.cy) == (31.5, 23.5) and k.fx == pytest.approx(32 / math.tan(math.radians(39.5)))


def test_depth_of_the_floor_is_what_geometry_tells(house: House):
    for pose in poses(house, 6, math.radians(-30)):
        view = CAMERA.view(scene_of(house), pose, 30.0)
        floor = view.instance == FLOOR_ID
        down = CAMERA.rays(pose)[..., 5].astype(float)
        assert floor.sum() > 100
        assert np.allclose(view.depth[floor], 0.9 / -down[floor], rtol=1e-4)


def test_every_pixel_lies_on_the_thing_that_its_instance_names(house: House):
    seen = set()
    for pose, view in views(house, 20):
        points = points_of(pose, view)
        instance = view.instance.reshape(-1)
        for id in np.unique(instance).tolist():
            mine = points[instance == id]
            if id == FLOOR_ID:
                assert np.abs(mine[:, 2]).max() < 1e-3
            elif id == CEILING_ID:
                assert np.abs(mine[:, 2] - house.config.height).max() < 1e-3
            elif id == WALL_ID:
                lo, hi = house.layout.walls[:, :3], house.layout.walls[:, 3:]
                gap = np.maximum(np.maximum(lo - mine[:, None], mine[:, None] - hi), 0).sum(-1).min(1)
                assert gap.max() < 2e-3
            else:
                thing = house.thing(id)
                x0, y0, x1, y1 = thing.rect
                lo, hi = (x0, y0, thing.position[2]), (x1, y1, thing.top)
                wide = 0.05 * max(thing.size)  # round things have corners a little outside
                assert (mine >= np.array(lo) - wide - 2e-3).all() and (
                    mine <= np.array(hi) + wide + 2e-3
                ).all()
                seen.add(id)
    assert len(seen) > 15


def test_labels_are_those_of_the_instances(house: House):
    names = {FLOOR_ID: "floor", WALL_ID: "wall", CEILING_ID: "ceiling"}
    names |= {thing.id: thing.label for thing in house.things}
    seen: set[int] = set()
    for _, view in views(house, 10):
        pairs = np.unique(np.stack([view.instance, view.label], -1).reshape(-1, 2), axis=0)
        assert all(HOUSE_LABELS.name(label) == names[id] for id, label in pairs.tolist())
        seen.update(pairs[:, 1].tolist())
    assert len(seen) >= 12


def test_nothing_within_range_is_infinite_depth_without_label(house: House):
    far = 0
    for pose in poses(house, 10):
        full = CAMERA.view(scene_of(house), pose, 30.0)
        near = CAMERA.view(scene_of(house), pose, 3.0)
        beyond = full.depth > 3.0
        assert np.isinf(near.depth[beyond]).all() and (near.label[beyond] == 0).all()
        assert (near.instance[beyond] == 0).all()
        assert np.array_equal(near.color, full.color)  # a colour camera has no such limit
        assert np.array_equal(near.depth[~beyond], full.depth[~beyond])
        assert np.isfinite(full.depth).all()  # a house is closed
        far += beyond.sum()
    assert far > 100


def test_the_same_pose_gives_the_same_images_bit_for_bit(house: House):
    other = make_house(3)
    assert scene_of(house) is scene_of(house) and scene_of(other) is not scene_of(house)
    for pose, view in views(house, 3):
        again = CAMERA.view(scene_of(other), pose, 30.0)
        for name in ("color", "depth", "label", "instance"):
            assert np.array_equal(getattr(view, name), getattr(again, name))


def test_sides_of_a_thing_differ_in_shade_and_things_in_colour(house: House):
    mesh = scene_of(house).mesh
    bed = next(t for t in house.things if t.label == "bed")
    assert len(np.unique(mesh.shaded[mesh.instance == bed.id], axis=0)) >= 5
    walls = np.unique(mesh.shaded[mesh.label == HOUSE_LABELS.id("wall")], axis=0).astype(int)
    assert len(walls) >= 4
    books = {t.color for t in house.things if t.label in ("pillow", "book")}
    assert len(books) > 1


def test_depth_noise_grows_with_the_square_of_the_range():
    depth = np.repeat(np.array([[1.0], [2.0], [4.0], [np.inf]], np.float32), 5000, axis=1)
    noisy = noisy_depth(depth, NoiseConfig(depth=0.002), np.random.default_rng(0))
    assert noisy.dtype == np.float32 and np.isinf(noisy[3]).all()
    assert np.allclose(noisy[:3].std(axis=1), [0.002, 0.008, 0.032], rtol=0.05)
    assert np.allclose(noisy[:3].mean(axis=1), [1, 2, 4], atol=0.002)
    dropped = noisy_depth(depth, NoiseConfig(dropout=0.1), np.random.default_rng(0))
    assert (dropped == 0).mean() == pytest.approx(0.1, abs=0.01)
    again = noisy_depth(depth, NoiseConfig(depth=0.002), np.random.default_rng(0))
    assert np.array_equal(noisy, again)


def test_the_covariance_of_odometry_is_how_far_it_strays():
    finals, covariance = [], None
    for seed in range(300):
        odometry = Odometry(NoiseConfig(odometry=0.05), Pose(), np.random.default_rng(seed))
        for step in range(40):
            length, angle = (0.0, math.radians(30)) if step % 10 == 9 else (0.25, 0.0)
            odometry.count(length, angle, Pose())
        finals.append([*odometry.pose.position[:2], odometry.pose.yaw])
        covariance = odometry.covariance
    assert covariance is not None
    predicted = np.sqrt(np.diag(covariance)[[0, 1, 5]])
    assert np.allclose(np.std(finals, axis=0), predicted, rtol=0.25)
    still = Odometry(NoiseConfig(), Pose(), np.random.default_rng(0))
    still.count(0.25, 0.0, Pose.from_xyz_yaw(0.25, 0, 0, 0))
    assert still.covariance is None and still.pose.position[0] == 0.25

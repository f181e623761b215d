"""The ground: always what the whole octree shows, whatever changed in between."""

from __future__ import annotations

import numpy as np
import pytest

from embodied_mem.geometry import Pose
from embodied_mem.memory.config import NavigationConfig
from embodied_mem.memory.ground import Ground
from embodied_mem.memory.octree import Octree
from embodied_mem.types import LabelMap

LABELS = LabelMap(("unknown", "wall", "door"))


def scan(tree: Octree, rng: np.random.Generator, step: int) -> None:
    """Adds evidence for voxels somewhere around a point that wanders off."""
    center = np.array([0.4 * step, -0.3 * step, 0.5])
    points = (center + rng.uniform(-1.5, 1.5, (400, 3)) * (1, 1, 0.5)).astype(np.float32)
    labels = rng.integers(0, 3, len(points)).astype(np.int32)
    tree.integrate_cells(points, rng.random(len(points)) < 0.1, labels=labels, stamp=step)


@pytest.mark.parametrize("radius", [0.0, 0.23])
def test_it_is_what_the_whole_octree_shows_after_every_write(radius: float) -> None:
    rng, tree = np.random.default_rng(3), Octree(0.1)
    ground = Ground(NavigationConfig(robot_height=0.9, robot_radius=radius, passable=("door",)))
    before: dict[tuple[int, int], int] = {}
    for step in range(40):
        scan(tree, rng, step)
        if step == 25:
            tree.clear([-5.0, -5.0, -1.0], [2.0, 2.0, 2.0])
        pose = Pose.from_xyz_yaw(0.0, 0.0, 0.2 if 30 <= step < 33 else 0.0, 0.0)
        live, where = ground.take(tree, LABELS, pose)
        whole = tree.traversable(
            live.floor_z, robot_height=0.9, robot_radius=radius, passable_labels=(2,), drop_height=0.35
        )
        for plan in (live, ground.grid_map(tree, LABELS, pose)):
            np.testing.assert_array_equal(plan.cells, whole.cells)
            np.testing.assert_array_equal(plan.origin, whole.origin)
            assert plan.floor_z == whole.floor_z == pytest.approx(pose.position[2])
        y0, x0 = (round(float(v) / 0.1) for v in whole.origin[::-1])
        now = {(int(y) + y0, int(x) + x0): int(whole.cells[y, x]) for y, x in np.argwhere(whole.cells >= 0)}
        differ = {cell for cell in before.keys() | now.keys() if before.get(cell) != now.get(cell)}
        assert where is None or all(where[0] <= y < where[2] and where[1] <= x < where[3] for y, x in differ)
        before = now
    assert where is not None


def test_what_readers_hold_does_not_change_under_them() -> None:
    rng, tree, ground = np.random.default_rng(0), Octree(0.1), Ground(NavigationConfig())
    scan(tree, rng, 0)
    held = ground.grid_map(tree, LABELS, Pose())
    cells = held.cells.copy()
    assert ground.grid_map(tree, LABELS, Pose()) is held
    for step in range(5):
        scan(tree, rng, step)
        ground.take(tree, LABELS, Pose())
    np.testing.assert_array_equal(held.cells, cells)
    assert ground.grid_map(tree, LABELS, Pose()) is not held

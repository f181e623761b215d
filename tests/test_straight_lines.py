"""The controller's short cuts and wider obstacles are what NumPy says, cell by cell."""

import numpy as np
import pytest

from embodied_mem.sim.straight_lines import farthest_in_sight, widened

RESOLUTION, ORIGIN = 0.05, np.array([-3.15, 2.05])


def maze(seed):
    rng = np.random.default_rng(seed)
    cells = rng.choice(np.array([0, 0, 0, 0, 0, 0, 0, 100, -1], np.int8), (40, 50))
    cells[rng.integers(40, size=3), :30] = 100
    return cells, rng


@pytest.mark.parametrize("seed", range(4))
def test_obstacles_are_wider_by_a_cell_on_four_sides(seed):
    cells, _ = maze(seed)
    blocked = np.pad(cells == 100, 1)
    wide = (
        blocked[1:-1, 1:-1] | blocked[2:, 1:-1] | blocked[:-2, 1:-1] | blocked[1:-1, 2:] | blocked[1:-1, :-2]
    )
    np.testing.assert_array_equal(widened(cells), np.where(wide, 100, cells))


def is_clear(cells, a, b):
    count = max(2, int(2 * np.hypot(*(b - a)[:2]) / RESOLUTION))
    points = a + np.linspace(0.0, 1.0, count + 1)[1:, None] * (b - a)
    x, y = np.floor((points[:, :2] - ORIGIN) / RESOLUTION).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < cells.shape[1]) & (y < cells.shape[0])
    return inside.all() and (cells[y, x] == 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_farthest_point_in_sight_is_the_farthest_that_nothing_hides(seed):
    cells, rng = maze(seed)
    found = []
    for _ in range(200):
        here = np.array([*(ORIGIN + rng.uniform(0.0, [2.5, 2.0])), 0.0])
        heading = rng.uniform(0, 2 * np.pi)
        ahead = np.arange(20)[:, None] * RESOLUTION * np.array([np.cos(heading), np.sin(heading), 0.0])
        path = here + ahead[: rng.integers(2, 21)]
        count = min(len(path) - 1, 12)
        seen = [i for i in range(count, 1, -2) if is_clear(cells, here, path[i])]
        found.append(farthest_in_sight(cells, *ORIGIN.tolist(), RESOLUTION, here, path, count))
        assert found[-1] == (seen[0] if seen else min(len(path) - 1, 2))
    assert len(set(found)) > 3  # near and far

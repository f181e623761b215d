"""Paths, clearance and frontiers on grid maps."""

from __future__ import annotations

import heapq
from itertools import pairwise

import numpy as np
import pytest
from ascii_world import grid_of

from embodied_mem.memory.navigation import (
    cell_of,
    centers_of,
    clearance,
    distance_field,
    frontier_cells,
    nearest_traversable,
    shortest_path,
)
from embodied_mem.memory.octree.types import GridMap
from embodied_mem.memory.scene.grid_kernels import DIAGONAL, STRAIGHT, squared_distance


def random_grid(seed: int, shape=(17, 23), resolution: float = 0.25) -> GridMap:
    rng = np.random.default_rng(seed)
    cells = rng.choice(np.array([0, 0, 0, 0, 0, 0, 100, -1], np.int8), shape)
    return GridMap(cells, np.array([-2.0, -3.5]), resolution, 0.2)


def neighbours(grid: GridMap, y: int, x: int, diagonal: bool):
    free = grid.cells == 0
    height, width = free.shape
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            ny, nx = y + dy, x + dx
            if (dy == 0 and dx == 0) or not (0 <= ny < height and 0 <= nx < width) or not free[ny, nx]:
                continue
            if dy and dx and not (diagonal and free[y, nx] and free[ny, x]):
                continue
            yield ny, nx, (DIAGONAL if dy and dx else STRAIGHT) / STRAIGHT * grid.resolution


def dijkstra(grid: GridMap, start: tuple[int, int], diagonal: bool) -> np.ndarray:
    distance = np.full(grid.cells.shape, np.inf)
    distance[start] = 0.0
    heap = [(0.0, start)]
    while heap:
        d, (y, x) = heapq.heappop(heap)
        if d > distance[y, x]:
            continue
        for ny, nx, step in neighbours(grid, y, x, diagonal):
            if d + step < distance[ny, nx] - 1e-9:
                distance[ny, nx] = d + step
                heapq.heappush(heap, (d + step, (ny, nx)))
    return distance


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_distance_field_is_dijkstras(seed: int, diagonal: bool) -> None:
    grid = random_grid(seed)
    start = int(np.flatnonzero(grid.cells == 0)[seed * 7])
    position = centers_of(grid, np.array([start]))[0]
    field = distance_field(grid, position, diagonal)
    expected = dijkstra(grid, (start // grid.cells.shape[1], start % grid.cells.shape[1]), diagonal)
    assert np.isfinite(expected).sum() > 10
    np.testing.assert_allclose(field, expected, rtol=1e-6)
    assert np.isinf(field[grid.cells != 0]).all()


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_shortest_path_is_walkable_and_as_long_as_the_distance(seed: int, diagonal: bool) -> None:
    grid = random_grid(seed)
    free = np.flatnonzero(grid.cells == 0)
    start = centers_of(grid, free[[3]])[0]
    field = distance_field(grid, start, diagonal)
    for flat in free[5::9]:
        goal = centers_of(grid, np.array([flat]))[0]
        path = shortest_path(grid, start, goal, diagonal)
        length = field.reshape(-1)[flat]
        if np.isinf(length):
            assert path.shape == (0, 3)
            continue
        np.testing.assert_array_equal(path[0], start)
        np.testing.assert_array_equal(path[-1], goal)
        total = 0.0
        for a, b in pairwise(path):
            near = {(ny, nx): step for ny, nx, step in neighbours(grid, *cell_of(grid, a), diagonal)}
            total += near[cell_of(grid, b)]
        assert total == pytest.approx(float(length), rel=1e-6)


def test_diagonal_steps_cut_no_corner() -> None:
    grid = grid_of(
        """
        .#
        ..
        """.replace(" ", "")
    )
    field = distance_field(grid, (0.5, 1.5), diagonal=True)
    assert field[0, 1] == pytest.approx(2.0)


def test_door_cells_are_passable_and_unknown_ones_are_not() -> None:
    assert len(shortest_path(grid_of(".D."), (0.5, 0.5), (2.5, 0.5))) == 3
    assert len(shortest_path(grid_of(".?."), (0.5, 0.5), (2.5, 0.5))) == 0


def test_start_beside_free_space_snaps_to_it_within_reach() -> None:
    grid = GridMap(np.array([[-1, -1, 0, 0]], np.int8), np.zeros(2), 0.1, 0.0)
    assert nearest_traversable(grid, (0.05, 0.05), snap=0.5) == 2
    assert nearest_traversable(grid, (0.05, 0.05), snap=0.1) == -1
    assert nearest_traversable(grid, (-30.0, 0.05)) == -1
    assert nearest_traversable(grid, (np.nan, 0.0)) == -1
    assert np.isfinite(distance_field(grid, (0.05, 0.05))).sum() == 2
    # In a world of 1 m cells a neighbour is never within reach.
    assert nearest_traversable(grid_of("#."), (0.5, 0.5)) == -1


def test_frontier_is_traversable_with_an_unknown_neighbour() -> None:
    grid = random_grid(11)
    padded = np.pad(grid.cells, 1, constant_values=-1)
    expected = []
    for y, x in np.argwhere(grid.cells == 0):
        around = [padded[y, x + 1], padded[y + 2, x + 1], padded[y + 1, x], padded[y + 1, x + 2]]
        if min(around) < 0:
            expected.append((y, x))
    found = [cell_of(grid, position) for position in frontier_cells(grid)]
    assert found == expected
    assert len(frontier_cells(grid_of("###\n#.#\n###"))) == 0


def test_clearance_is_the_exact_euclidean_distance() -> None:
    from scipy.ndimage import distance_transform_edt

    for seed in range(5):
        blocked = np.random.default_rng(seed).random((31, 20)) < 0.08
        expected = np.rint(distance_transform_edt(~blocked) ** 2).astype(np.int64)
        np.testing.assert_array_equal(squared_distance(blocked), expected)
        np.testing.assert_allclose(
            clearance(blocked, 0.1), np.maximum(np.sqrt(expected) - 0.5, 0.0) * 0.1, atol=1e-12
        )
    assert squared_distance(np.zeros((4, 5), bool)).min() >= 81


def test_cells_and_centres_are_inverse_also_for_negative_coordinates() -> None:
    grid = random_grid(0)
    flat = np.arange(grid.cells.size)
    back = [iy * grid.cells.shape[1] + ix for iy, ix in (cell_of(grid, p) for p in centers_of(grid, flat))]
    np.testing.assert_array_equal(back, flat)
    assert (centers_of(grid, flat)[:, 2] == 0.2).all()

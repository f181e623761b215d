"""Places: coverage, edges that can be walked, ids that stay."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from ascii_world import FOUR_ROOMS, AsciiWorld, copy, grid_of

from embodied_mem.memory.navigation import cell_of, clearance, distance_field
from embodied_mem.memory.octree.types import GridMap
from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.memory.scene.floor import Box, box_of
from embodied_mem.memory.scene.grid_kernels import FAR
from embodied_mem.memory.scene.space import Space

GRID_CONFIG = SceneConfig(diagonal=False)


def house(seed: int = 0) -> GridMap:
    """Two rooms of 3 x 4 m at 10 cm with a door and some furniture."""
    rng = np.random.default_rng(seed)
    cells = np.zeros((40, 61), np.int8)
    cells[[0, -1]] = cells[:, [0, -1]] = 100
    cells[:, 30] = 100
    cells[18:26, 30] = 0
    for y, x in rng.integers(3, 34, (6, 2)):
        cells[y : y + 4, x : x + 5] = 100
    return GridMap(cells, np.array([-1.0, -2.0]), 0.1, 0.0)


def agent_cell(grid: GridMap) -> np.ndarray:
    y, x = np.argwhere(grid.cells == 0)[5]
    return np.array([grid.origin[0] + (x + 0.5) * 0.1, grid.origin[1] + (y + 0.5) * 0.1, 0.0])


@pytest.mark.parametrize("seed", range(3))
def test_every_roomy_free_cell_has_a_place_within_walking_distance(seed: int) -> None:
    grid = house(seed)
    space = Space(SceneConfig(place_spacing=1.2))
    places = space.places
    space.update(grid, None, agent_cell(grid))
    nearest = np.min([distance_field(grid, p, diagonal=True) for p in places.positions], axis=0)
    roomy = (grid.cells == 0) & (clearance(grid.cells != 0, 0.1) >= 0.15)
    assert roomy.sum() > 500
    assert nearest[roomy].max() <= 1.2 + 1e-5
    assert 5 <= len(places) <= 40


@pytest.mark.parametrize("seed", range(3))
def test_edges_can_be_walked_and_connect_what_is_connected(seed: int) -> None:
    grid = house(seed)
    space = Space(SceneConfig(place_spacing=1.2))
    places = space.places
    space.update(grid, None, agent_cell(grid))
    position = dict(zip(places.ids.tolist(), places.positions))
    for a, b, length in places.edges():
        straight = np.linalg.norm(position[b] - position[a])
        geodesic = distance_field(grid, position[a], diagonal=True)[cell_of(grid, position[b])]
        assert straight - 1e-6 <= length <= 1.2 * geodesic < np.inf
        if length <= straight + 1e-6:
            line = position[a] + np.linspace(0.0, 1.0, 200)[:, None] * (position[b] - position[a])
            assert all(grid.cells[cell_of(grid, point)] == 0 for point in line)
    first = int(places.ids[0])
    field = distance_field(grid, position[first], diagonal=True)
    for goal in places.ids.tolist():
        path, geodesic = places.path(first, goal), field[cell_of(grid, position[goal])]
        assert (len(path) > 0) == bool(np.isfinite(geodesic))
        if len(path) > 1:
            lengths = {(a, b): d for a, b, d in places.edges()}
            walked = sum(lengths[min(a, b), max(a, b)] for a, b in pairwise(path))
            assert 0.92 * geodesic <= walked <= 1.1 * geodesic + 0.2


def test_ids_and_positions_stay_while_the_map_grows() -> None:
    world, space = AsciiWorld(FOUR_ROOMS, (2, 3), sight=2), Space(GRID_CONFIG)
    places = space.places
    known: dict[int, tuple[float, ...]] = {}
    for x, y in [(2, 3), (3, 3), (3, 4), (3, 5), (3, 5), (3, 6), (3, 7), (4, 7), (5, 7)]:
        world.walk(x, y)
        percept, grid = world.observe()
        space.update(grid, None, percept.map_T_base.position)
        now = {int(i): tuple(p) for i, p in zip(places.ids, places.positions)}
        assert all(now[i] == p for i, p in known.items())
        known = now
    assert len(known) > 5


def test_updating_twice_with_the_same_map_changes_nothing() -> None:
    grid = house(1)
    once, twice = Space(SceneConfig()), Space(SceneConfig())
    for space, times in ((once, 1), (twice, 3)):
        for _ in range(times):
            space.update(grid, None, agent_cell(grid))
    assert once.places.payloads() == twice.places.payloads()
    assert once.places.next_id == twice.places.next_id


@pytest.mark.parametrize("seed", range(4))
def test_which_place_owns_a_cell_follows_from_the_places_and_not_from_their_arrival(seed: int) -> None:
    # In a grid world many cells are equally far from two places.
    cells = np.random.default_rng(seed).choice(np.array([0] * 12 + [100], np.int8), (25, 25))
    grid, config = GridMap(cells, np.zeros(2), 1.0, 0.0), SceneConfig(place_spacing=5.0)
    space, again = Space(config), Space(config)
    places = space.places
    y, x = np.argwhere(cells == 0)[seed]
    space.update(grid, None, np.array([x + 0.5, y + 0.5, 0.0]))
    copy(space, again)
    for y, x in np.argwhere(cells == 0):
        assert again.places.at((x + 0.5, y + 0.5)) == places.at((x + 0.5, y + 0.5))


def test_place_at_is_the_nearest_along_a_path_and_not_through_a_wall() -> None:
    grid = grid_of("#######\n#..#..#\n#..#..#\n#######")
    space = Space(SceneConfig(diagonal=False, place_spacing=3.0))
    places = space.places
    space.update(grid, None, np.array([1.5, 1.5, 0.0]))
    left, right = places.at((2.5, 1.5)), places.at((4.5, 1.5))
    assert left == places.at((1.5, 2.5)) and right == places.at((5.5, 1.5))
    assert left >= 0 and right >= 0 and left != right
    assert places.path(left, right) == []
    assert places.at((200.0, 0.0)) == -1
    assert places.at((np.nan, 0.0)) == -1


def test_blocked_places_go_unless_the_agent_was_there_and_ids_are_not_reused() -> None:
    space = Space(SceneConfig(diagonal=False, place_spacing=2.0))
    places = space.places
    grid = grid_of("#########\n#.......#\n#########")
    space.update(grid, None, np.array([1.5, 1.5, 0.0]))
    here = places.at((1.5, 1.5))
    places.visit(here, -1, 5)
    before, next_id = set(places.ids.tolist()), places.next_id
    gone = space.update(grid_of("#########\n#########\n#########"), None, np.array([1.5, 1.5, 0.0]))
    assert set(gone) == before - {here} and len(gone) > 0
    assert places.ids.tolist() == [here]
    space.update(grid, None, np.array([1.5, 1.5, 0.0]))
    assert all(i >= next_id for i in places.ids.tolist() if i != here)


def test_the_agent_has_a_place_where_the_map_knows_nothing() -> None:
    grid = GridMap(np.array([[-1, -1, 0, 0]], np.int8), np.zeros(2), 1.0, 0.0)
    space = Space(SceneConfig(place_spacing=1.5))
    places = space.places
    space.update(grid, None, np.array([-3.5, 0.5, 0.0]))
    first = places.at((-3.5, 0.5))
    places.visit(first, -1, 0)
    space.update(grid, None, np.array([2.5, 0.5, 0.0]))
    second = places.at((2.5, 0.5))
    places.visit(second, first, 1)
    assert first >= 0 and second >= 0 and first != second
    assert places.path(first, second) == [first, second]  # it has walked there


def test_visits_count_arrivals_and_not_steps() -> None:
    grid = grid_of("#########\n#.......#\n#########")
    space = Space(SceneConfig(diagonal=False))
    places = space.places
    space.update(grid, None, np.array([1.5, 1.5, 0.0]))
    a, b = places.at((1.5, 1.5)), places.at((7.5, 1.5))
    for stamp, (now, before) in enumerate([(a, -1), (a, a), (b, a), (b, b), (a, b)]):
        places.visit(now, before, stamp)
    assert places.visits[places.index(a)] == 2 and places.visits[places.index(b)] == 1
    assert places.last_visits[places.index(a)] == 4


@pytest.mark.parametrize("seed", range(3))
def test_ways_are_hardly_longer_than_the_shortest_and_free(seed: int) -> None:
    grid, space = house(seed), Space(SceneConfig(place_spacing=1.2))
    space.update(grid, None, agent_cell(grid))
    places = space.places
    position = dict(zip(places.ids.tolist(), places.positions))
    ratios = []
    for start, goal in np.random.default_rng(seed).choice(places.ids, (20, 2)).tolist():
        way = places.way(start, goal)
        geodesic = distance_field(grid, position[start], diagonal=True)[cell_of(grid, position[goal])]
        assert (len(way) > 0) == np.isfinite(geodesic)
        if not len(way) or geodesic == 0.0:
            continue
        np.testing.assert_array_equal(way[[0, -1]], [position[start], position[goal]])
        ratios.append(np.linalg.norm(np.diff(way, axis=0), axis=1).sum() / geodesic)
        for a, b in pairwise(way):
            line = a + np.linspace(0.0, 1.0, 200)[:, None] * (b - a)
            assert all(grid.cells[cell_of(grid, point)] == 0 for point in line)
    assert np.median(ratios) < 1.02 and max(ratios) < 1.25


def test_ways_keep_off_the_corners_they_turn_about_where_there_is_room():
    cells = np.zeros((24, 40), np.int8)
    cells[:, :2] = cells[:, -2:] = cells[:2] = cells[-2:] = 100
    cells[2:12, 18:21] = 100  # a wall to go round
    cells[20:, 18:21] = 100
    space = Space(SceneConfig(place_spacing=1.2))
    grid = GridMap(cells, np.zeros(2), 0.1, 0.0)
    space.update(grid, None, np.array([0.5, 0.5, 0.0]))
    way = space.places.way(space.places.at((0.5, 0.5)), space.places.at((3.5, 0.5)))
    room = clearance(cells != 0, 0.1)
    turns = [room[cell_of(grid, point)] for point in way[1:-1]]
    assert turns and min(turns) > 0.1
    assert all(cells[cell_of(grid, point)] == 0 for leg in _dense(way) for point in leg)


@pytest.mark.parametrize("budget", [2, 256])
def test_a_map_that_changes_here_and_there_ends_as_if_it_had_always_been_so(budget: int) -> None:
    rng, space = np.random.default_rng(7), Space(SceneConfig(place_spacing=1.2, tiles_per_update=budget))
    grid = house(0)
    for _ in range(60):
        y, x = rng.integers(2, 36), rng.integers(2, 57)
        grid.cells[y : y + 3, x : x + 3] = rng.choice([0, 0, 100, -1])
        space.update(grid, None, agent_cell(grid))
        while space.floors[0].pending:
            space.update(grid, None, agent_cell(grid))
    floor, again = space.floors[0], Space(space.config)
    np.testing.assert_array_equal(floor.cells[floor.slices(box_of(grid))], grid.cells)
    copy(space, again)
    # The same places on the same map: what was kept up to date is what is made at once.
    for name in ("cells", "dist", "own"):
        np.testing.assert_array_equal(getattr(floor, name), cut(again, name, floor.box), name)
    fresh = Space(space.config)
    fresh.floors.restore(space.meta(), {})
    fresh.places.restore([{**p, "links": [], "bent": []} for p in space.places.payloads().values()])
    fresh.places.next_id = space.places.next_id
    fresh.places.grow_fields()
    fresh.update(grid, None, agent_cell(grid))
    while fresh.floors[0].pending:
        fresh.update(grid, None, agent_cell(grid))
    assert fresh.places.edges() == space.places.edges()


def cut(space: Space, name: str, box: Box) -> np.ndarray:
    """An array of a floor, as a box that is at least as large as its own shows it."""
    floor = space.floors[0]
    array = np.full((box.y1 - box.y0, box.x1 - box.x0), {"dist": FAR}.get(name, -1))
    inside = floor.box.within(box)
    at = slice(inside.y0 - box.y0, inside.y1 - box.y0), slice(inside.x0 - box.x0, inside.x1 - box.x0)
    array[at] = getattr(floor, name)[floor.slices(inside)]
    return array


def test_every_passage_from_room_to_room_has_a_place_in_it_and_only_one() -> None:
    grid, space = house(0), Space(SceneConfig(passage_width=0.9))
    for _ in range(3):
        space.update(grid, None, agent_cell(grid))
        space.find_rooms(np.empty((0, 3)), np.empty((0, 3)))
    passage = np.array([2.05, 0.2])  # the door's middle
    away = np.linalg.norm(space.places.positions[:, :2] - passage, axis=1)
    assert len(space.rooms) == 2 and (away < 0.5).sum() == 1
    count, grid.cells[19, 40] = len(space.places), 100  # something small turns up in a room
    space.update(grid, None, agent_cell(grid))
    space.find_rooms(np.empty((0, 3)), np.empty((0, 3)))
    away = np.linalg.norm(space.places.positions[:, :2] - passage, axis=1)
    assert (away < 0.5).sum() == 1 and len(space.places) <= count + 2


def test_what_was_only_walked_leads_where_the_agent_went() -> None:
    grid = house(0)
    grid.cells[:, 30] = 100  # the map shows no door any more
    space = Space(SceneConfig(place_spacing=1.2))
    space.update(grid, None, agent_cell(grid))
    places, before, after = space.places, np.array([1.95, 0.2, 0.0]), np.array([2.25, 0.2, 0.0])
    left, right = places.at(before), places.at(after)
    assert left != right and places.path(left, right) == []
    places.visit(left, -1, 0)
    places.visit(right, left, 1, np.stack([before, after]))
    assert places.path(left, right) == [left, right]
    way = places.way(left, right)
    crossing = [(a, b) for a, b in pairwise(way) if a[0] < 2.0 < b[0] or b[0] < 2.05 < a[0]]
    assert len(crossing) == 1
    np.testing.assert_allclose(crossing[0], [before, after], atol=0.08)
    again = Space(space.config)
    copy(space, again)
    np.testing.assert_array_equal(again.places.way(left, right), way)
    np.testing.assert_array_equal(again.places.way(right, left), way[::-1])


@pytest.mark.parametrize("away", [3.0, 5000.0])
def test_an_agent_beyond_the_map_leaves_the_map_as_it_is(away: float) -> None:
    grid, space = house(2), Space(SceneConfig(place_spacing=1.2))
    space.update(grid, None, agent_cell(grid))
    before = set(space.places.ids.tolist())
    grid.cells[5, 5] = 100 - grid.cells[5, 5]
    space.update(grid, None, np.array([-1.0 - away, 0.0, 0.0]))
    added = [i for i in space.places.payloads() if i not in before]
    assert space.places.at((-1.0 - away, 0.0, 0.0)) in added
    assert space.floors[0].cells.size < 10**6
    other = Space(space.config)
    copy(space, other)
    for y, x in np.argwhere(grid.cells == 0)[::7]:
        point = (-1.0 + (x + 0.5) * 0.1, -2.0 + (y + 0.5) * 0.1, 0.0)
        assert space.places.at(point) == other.places.at(point) >= 0


def test_where_the_agent_walked_over_is_reached_along_free_floor_or_not_at_all() -> None:
    grid = house(0)
    grid.cells[1:-1, 1:-1] = 0
    grid.cells[:, 30] = 100  # the map shows no door
    space = Space(SceneConfig(place_spacing=1.2))
    space.update(grid, None, agent_cell(grid))
    places, before, after = space.places, np.array([1.95, 0.2, 0.0]), np.array([2.25, 0.2, 0.0])
    left, right = places.at([0.4, 0.2]), places.at(after)
    places.visit(left, -1, 0)
    places.visit(right, left, 1, np.stack([before, after]))
    grid.cells[10:30, 20:23] = 100  # something stands between the place and the step, not from wall to wall
    space.update(grid, None, agent_cell(grid))
    floor = space.floors[0]
    assert (left, right) in {(a, b) for a, b, _ in places.edges()}
    way = places.trace([left, right])
    cells = np.concatenate([floor.flat(*floor.cells_of(line)) for line in _dense(way)])
    met = np.unique(cells[floor.cells.reshape(-1)[cells] > 0])
    wall = np.unique(floor.flat(np.arange(-20, 20), np.full(40, 20)))  # through which the agent went
    assert len(met) and np.isin(met, wall).all()
    grid.cells[:, 20] = 100  # from wall to wall
    space.update(grid, None, agent_cell(grid))
    assert (left, right) not in {(a, b) for a, b, _ in places.edges()}
    assert places.path(left, right) == []


def _dense(way: np.ndarray) -> list[np.ndarray]:
    """Points every few millimetres along a way."""
    return [a + np.linspace(0.0, 1.0, 400)[:, None] * (b - a) for a, b in pairwise(way)]

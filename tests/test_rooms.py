"""Rooms: split at doors and narrow passages, with ids that stay."""

from __future__ import annotations

import numpy as np
import pytest
from ascii_world import FOUR_ROOMS, TWO_ROOMS, AsciiWorld, cells_of, copy, grid_of

from embodied_mem.errors import ConfigError
from embodied_mem.memory.octree.types import GridMap
from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.memory.scene.floor import Box, box_of
from embodied_mem.memory.scene.graph import SceneGraph
from embodied_mem.memory.scene.rooms import door_boxes, mark_doors, room_name
from embodied_mem.memory.scene.space import Space

GRID_CONFIG = SceneConfig(diagonal=False, detection_rate=0.999, false_rate=0.001)


def doors_of(text: str) -> np.ndarray:
    return cells_of(text) == "D"


def flat(width: float, door: float, furniture: bool = False) -> GridMap:
    """Two rooms of 3 x 3 m at 5 cm, with a gap of `door` metres in the wall between them."""
    cells = np.zeros((62, 123), np.int8)
    cells[[0, -1]] = cells[:, [0, -1]] = 100
    half = round(door / 0.05 / 2)
    cells[:, 61] = 100
    cells[31 - half : 31 + half, 61] = 0
    if furniture:  # a row of tables with gaps of 70 cm, right through the left room
        cells[:, 28:34] = 100
        for y in (1, 20, 40):
            cells[y : y + 14, 28:34] = 0
    assert width == pytest.approx(cells.shape[1] * 0.05, abs=0.01)
    return GridMap(cells, np.array([-3.0, 0.0]), 0.05, 0.0)


def copy_of(grid: GridMap) -> GridMap:
    """The same map, to be changed."""
    return GridMap(grid.cells.copy(), grid.origin, grid.resolution, grid.floor_z)


def find(space: Space, grid: GridMap, doors: np.ndarray | None = None) -> list[int]:
    """Takes in a map with doors under cells of a mask; returns the rooms that are no more."""
    space.update(grid, None, np.array([*grid.origin, 0.0]))
    y, x = np.nonzero(np.zeros(grid.cells.shape, bool) if doors is None else doors)
    centers = np.stack([x + 0.5, y + 0.5, 0.0 * x], axis=1) * grid.resolution + [*grid.origin, 0.0]
    return space.find_rooms(centers, np.zeros((len(x), 3)))


def find_between(space: Space, grid: GridMap, walls: GridMap) -> list[int]:
    """Takes in a map and the walls in it, without doors."""
    space.update(grid, None, np.array([*grid.origin, 0.0]))
    return space.find_rooms(np.empty((0, 3)), np.empty((0, 3)), walls)


def raster_of(space: Space, grid: GridMap) -> np.ndarray:
    """(H, W) ids of the rooms of a map's cells."""
    floor = space.floors[0]
    return floor.rooms[floor.slices(box_of(grid))]


def test_a_room_full_of_furniture_is_a_room_where_walls_can_be_told_from_furniture() -> None:
    walls = flat(6.15, 0.9)
    grid = copy_of(walls)
    grid.cells[4:58, 66:119] = 100  # what stands in the right room leaves 20 cm along its walls
    config = SceneConfig(passage_width=0.95, wall_low=1.4, wall_high=1.9, room_area=1.5)
    space = Space(config)
    find(space, grid)
    assert len(space.rooms) == 1  # by free floor, what is left is a part of the other room
    space = Space(config)
    find_between(space, grid, walls)
    raster = raster_of(space, grid)
    assert len(space.rooms) == 2 and raster[31, 90] == raster[1, 63] != raster[31, 30]
    assert space.rooms.areas() == pytest.approx([9.0, 9.2], abs=0.3)
    middle = np.array([-3.0 + 90 * 0.05, 31 * 0.05, 0.0])  # on the furniture
    assert space.rooms.at(middle) == raster[31, 90]
    assert (raster[:, 61][[0, 20, 45, 61]] < 0).all()  # walls are in no room


def test_where_no_wall_was_seen_the_grid_map_tells() -> None:
    grid = flat(6.15, 0.9)
    unknown = GridMap(np.full((10, 10), -1, np.int8), np.array([-3.0, 0.0]), 0.05, 0.0)
    empty = GridMap(np.empty((0, 0), np.int8), np.zeros(2), 0.05, 0.0)
    rasters = []
    for walls in (None, unknown, empty):
        space = Space(SceneConfig(passage_width=0.95, wall_low=1.4, wall_high=1.9))
        if walls is None:
            find(space, grid)
        else:
            find_between(space, grid, walls)
        rasters.append(raster_of(space, grid).copy())
    np.testing.assert_array_equal(rasters[0], rasters[1])
    np.testing.assert_array_equal(rasters[0], rasters[2])
    assert len(np.unique(rasters[0])) == 3


def test_walls_that_end_below_where_they_begin_are_refused() -> None:
    with pytest.raises(ConfigError, match="wall_high must exceed wall_low"):
        SceneConfig(wall_low=2.0, wall_high=1.0)


def test_a_door_separates_rooms_and_without_it_they_are_one() -> None:
    grid, space = grid_of(TWO_ROOMS), Space(GRID_CONFIG)
    rooms = space.rooms
    find(space, grid)
    assert len(rooms) == 2  # a gap in a wall is a passage, with or without a door
    space = Space(GRID_CONFIG)
    rooms = space.rooms
    find(space, grid, doors_of(TWO_ROOMS))
    assert len(rooms) == 2
    left, right = rooms.at((1.5, 1.5, 0.0)), rooms.at((8.5, 1.5, 0.0))
    assert left != right and min(left, right) >= 0
    assert sorted(rooms.sizes.tolist()) == [15, 15]  # 4 x 4 cells each, one of them under a thing


def test_open_and_closed_doors_separate_alike() -> None:
    world = AsciiWorld(TWO_ROOMS, (3, 2), sight=9)
    scene = SceneGraph(GRID_CONFIG)
    scene.update(*swap(world))
    assert len(scene.rooms()) == 1
    world.walk(5, 2)
    scene.update(*swap(world))
    assert len(scene.rooms()) == 2
    left = scene.room_at((1.5, 1.5))
    assert scene.room_at((8.5, 2.5)) not in (-1, left)


def swap(world: AsciiWorld):
    seen, grid = world.observe()
    return seen, world.tree, grid


@pytest.mark.parametrize(("door", "count"), [(0.8, 2), (2.0, 1)])
def test_narrow_passages_separate_and_wide_openings_do_not(door: float, count: int) -> None:
    grid, space = flat(6.15, door), Space(SceneConfig())
    rooms = space.rooms
    find(space, grid)
    assert len(rooms) == count
    assert (raster_of(space, grid)[grid.cells == 0] >= 0).all()


def test_furniture_with_several_gaps_does_not_separate() -> None:
    grid, space = flat(6.15, 0.8, furniture=True), Space(SceneConfig())
    rooms = space.rooms
    find(space, grid)
    assert len(rooms) == 2
    assert rooms.at((-2.5, 0.5, 0.0)) == rooms.at((-0.5, 0.5, 0.0)) != rooms.at((1.5, 0.5, 0.0))


def test_ids_stay_while_the_map_grows_on_all_sides() -> None:
    text = FOUR_ROOMS.strip().splitlines()
    space = Space(GRID_CONFIG)
    rooms = space.rooms
    owner: dict[tuple[int, int], int] = {}
    for step in range(8, -1, -1):
        # Ever more is known around the middle: lower rows, left columns and so on come in later.
        kept = [line[step // 2 : len(line) - step // 2] for line in text[step // 3 : len(text) - step // 3]]
        part, corner = "\n".join(kept), (step // 2, step // 3)
        grid = grid_of(part, origin=corner)
        find(space, grid, doors_of(part))
        raster = raster_of(space, grid)
        for y, x in np.argwhere(raster >= 0):
            cell, room = (int(y) + corner[1], int(x) + corner[0]), int(raster[y, x])
            assert owner.setdefault(cell, room) == room
    assert len(rooms) == 4
    assert len(set(owner.values())) == 4


def test_merged_rooms_keep_the_larger_ones_id_and_ids_are_not_reused() -> None:
    space = Space(GRID_CONFIG)
    rooms = space.rooms
    split = "############\n#...#......#\n#...#......#\n############"
    find(space, grid_of(split))
    small, large = rooms.at((1.5, 1.5)), rooms.at((8.5, 1.5))
    joined = split.replace("#...#......#", "#..........#")
    gone = find(space, grid_of(joined))
    assert rooms.ids.tolist() == [large] and gone == [small]
    find(space, grid_of(split))
    assert rooms.at((8.5, 1.5)) == large
    assert rooms.at((1.5, 1.5)) not in (small, large, -1)


def test_small_pockets_are_no_rooms() -> None:
    grid = grid_of("#######\n#.#...#\n###...#\n#######")
    space = Space(GRID_CONFIG)
    rooms = space.rooms
    find(space, grid)
    assert len(rooms) == 1 and rooms.sizes.tolist() == [6]


def test_things_on_no_floor_belong_to_the_nearest_room_within_reach() -> None:
    grid, space = grid_of(TWO_ROOMS), Space(GRID_CONFIG)
    rooms = space.rooms
    find(space, grid, doors_of(TWO_ROOMS))
    assert rooms.at((2.5, 3.5)) == rooms.at((1.5, 1.5))  # the key's cell is an obstacle
    assert rooms.at((8.5, 2.5)) == rooms.at((8.5, 1.5))
    assert rooms.at((40.0, 2.5)) == -1
    assert rooms.at((np.nan, 2.5)) == -1


def test_boundary_covers_the_door_and_at_least_its_own_cell() -> None:
    window = Box(-10, -10, 10, 10)
    centers, extents = np.array([[0.05, 0.05, 1.0], [0.02, 0.62, 1.0], [9.0, 9.0, 1.0]]), np.zeros((3, 3))
    extents[0], extents[2] = (0.9, 0.1, 2.0), 1.0
    wide, thin, outside = (mark_doors(window, door_boxes(0.1, centers[[i]], extents[[i]])) for i in range(3))
    assert np.argwhere(wide).tolist() == [[10, x] for x in range(6, 15)]
    assert np.argwhere(thin).tolist() == [[16, 10]]
    assert not outside.any()


def test_saved_rooms_come_back_and_go_on() -> None:
    grid = grid_of(FOUR_ROOMS, origin=(-5.0, -7.0))
    space, again = Space(GRID_CONFIG), Space(GRID_CONFIG)
    rooms = space.rooms
    find(space, grid, doors_of(FOUR_ROOMS))
    copy(space, again)
    assert again.rooms.payloads() == rooms.payloads()
    positions = np.random.default_rng(0).uniform(-6, 8, (200, 2))
    assert [again.rooms.at(p) for p in positions] == [rooms.at(p) for p in positions]
    np.testing.assert_array_equal(again.rooms.extents(), rooms.extents())
    find(again, grid, doors_of(FOUR_ROOMS))
    assert again.rooms.payloads() == rooms.payloads() and again.rooms.next_id == rooms.next_id


def test_rooms_are_named_after_what_is_in_them() -> None:
    assert room_name(3, [], ["ball"]) == "room 3"
    assert room_name(3, ["green key", "red ball"], ["red ball"]) == "green key room"
    assert room_name(3, ["red ball"], ["red ball"]) == "room 3"
    assert room_name(3, ["sink", "fridge", "tv"], []) == "kitchen"


def test_rooms_know_their_places_and_names() -> None:
    scene, grid = SceneGraph(GRID_CONFIG), grid_of(TWO_ROOMS)
    world = AsciiWorld(TWO_ROOMS, (4, 2), sight=9)
    world.open.add((5, 2))
    seen, grid = world.observe()
    scene.update(seen, world.tree, grid)
    by_name = {room.name: room for room in scene.rooms()}
    assert set(by_name) == {"green key room", "red ball room"}
    for room in by_name.values():
        assert room.place_ids and room.area == 15.0
        assert all(p.room_id == room.id for p in scene.places() if p.id in room.place_ids)
        assert scene.room_at(room.position) == room.id
        np.testing.assert_array_equal(room.extent, [4.0, 4.0, 0.0])
    listed = [i for room in by_name.values() for i in room.place_ids]
    assert len(listed) == len(set(listed))


def test_room_every_keeps_a_fixed_pace() -> None:
    slow = SceneGraph(SceneConfig(diagonal=False, room_every=3))
    world = AsciiWorld(FOUR_ROOMS, (2, 8), sight=2)
    counts = []
    for x in (2, 3, 4, 5, 5, 6, 7, 8):
        world.walk(x, 8 if x < 5 else 7)
        seen, grid = world.observe()
        slow.update(seen, world.tree, grid)
        counts.append(slow.room_table.sizes.sum())
    assert counts[0] == counts[1] == counts[2] != counts[3]


def test_a_room_larger_than_what_is_looked_at_again_stays_one() -> None:
    # A corridor of 60 x 2 m with rooms beside it: something comes and goes at one end of it.
    cells = np.zeros((70, 602), np.int8)
    cells[[0, 22, -1]] = cells[:, [0, -1]] = 100
    for x in range(0, 602, 60):
        cells[22:, x] = 100
        cells[22, x + 25 : x + 33] = 0
    grid, space = GridMap(cells[:, :601].copy(), np.array([0.0, 0.0]), 0.1, 0.0), Space(SceneConfig())
    grid.cells[:, -1] = 100
    find(space, grid)
    corridor, before = space.rooms.at((1.0, 1.0)), space.rooms.payloads()
    for state in (100, 0):
        grid.cells[8:14, 590:594] = state
        assert find(space, grid) == []
        assert space.rooms.at((1.0, 1.0)) == space.rooms.at((59.8, 1.0)) == corridor
        again = Space(space.config)
        copy(space, again)
        assert again.rooms.payloads() == space.rooms.payloads()
        np.testing.assert_array_equal(again.rooms.boxes, space.rooms.boxes)
        np.testing.assert_array_equal(again.rooms.sizes, space.rooms.sizes)
    assert {i: p["runs"] for i, p in space.rooms.payloads().items()} == {
        i: p["runs"] for i, p in before.items()
    }

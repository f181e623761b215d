from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from embodied_mem.errors import EmbodiedMemError
from embodied_mem.geometry import Pose
from embodied_mem.memory import Memory, MemoryConfig
from embodied_mem.perception import GRID_LABELS
from embodied_mem.perception.grid import OBJECTS, GridPerception
from embodied_mem.sim.grid_memory import grid_memory_config
from embodied_mem.types import GridView, Observation, Percept, Scan
from embodied_mem.viz.label_layout import Label, place_labels
from embodied_mem.viz.map_layers import room_ids_of
from embodied_mem.viz.map_raster import FREE_COLOR, ROOM_COLORS, UNKNOWN_COLOR, paint, rasterize
from embodied_mem.viz.map_view import DPI, LEFT, TOP, _bounds, _map_size, draw_map

WALL, KEY, DOOR = OBJECTS.index("wall"), OBJECTS.index("key"), OBJECTS.index("door")
WALL_COLOR = (0.298, 0.325, 0.369)


def grid_world() -> Memory:
    """Two rooms of 5x4 cells side by side with an open red door between them, and a green key.

    Cell (i, j) is at (i + 0.5, -(j + 0.5)). Walls: rows 0 and 5, columns 0, 6 and 12.
    """
    width, height, size = 13, 6, 27
    cells = np.ones((width, height, 3), np.uint8)
    cells[:, [0, 5]] = cells[[0, 6, 12], :] = (WALL, 5, 0)
    cells[6, 2] = (DOOR, 0, 0)
    cells[9, 3] = (KEY, 1, 0)
    memory, perception = Memory(grid_memory_config()), GridPerception()
    for step, i in enumerate((1, 2, 3, 4, 5, 6, 7, 8)):
        view = np.zeros((size, size, 3), np.uint8)
        # The agent in cell (i, 2) faces right: ahead (decreasing r) is +i, left (decreasing c) is -j.
        for a in range(i, width):
            for j in range(height):
                view[size // 2 + (j - 2), size - 1 - (a - i)] = cells[a, j]
        pose = Pose.from_xyz_yaw(i + 0.5, -2.5, 0.0, 0.0)
        obs = Observation(
            step * 100_000_000, step, pose, labels=GRID_LABELS, grid=GridView(view), is_first=step == 0
        )
        assert memory.write(perception(obs)).verdict == "accepted"
    return memory


def room_world(height: float = 2.6) -> Memory:
    """An unlabelled 5 cm map: a floor, a wall at y = 0 and a table, under a ceiling."""
    x, y = (a.ravel() for a in np.meshgrid(np.arange(0.025, 4, 0.05), np.arange(0.025, 3, 0.05)))
    floor, ceiling = (np.column_stack([x, y, np.full(len(x), z)]) for z in (-0.01, height))
    table = floor[(x > 1) & (x < 2) & (y > 1) & (y < 1.5)] + [0, 0, 0.7]
    x, z = (a.ravel() for a in np.meshgrid(np.arange(0.025, 4, 0.05), np.arange(0.025, height, 0.05)))
    wall = np.column_stack([x, np.full(len(x), 0.01), z])
    points = np.concatenate([floor, ceiling, table, wall])
    memory = Memory(MemoryConfig())
    for step in range(3):
        pose = Pose.from_xyz_yaw(2.0 + 0.2 * step, 2.0, 0, 0)
        scan = Scan(
            points=pose.inverse().transform(points).astype(np.float32),
            hit=np.ones(len(points), bool),
            labels=np.zeros(len(points), np.int32),
            origin=np.array([0.0, 0.0, 1.2]),
        )
        assert memory.write(Percept(step * 10**9, step, pose, scans=(scan,))).verdict == "accepted"
    return memory


class Picture:
    """A drawn map that can be asked for the colour at a point of the map."""

    def __init__(self, memory: Memory, path: Path, size: float = 7.5, **kwargs) -> None:
        self.path = draw_map(memory, path, size=size, **kwargs)
        self.pixels = imread(path)[..., :3]
        _, positions = memory.scene.trajectory()
        self.bounds = _bounds(rasterize(memory.octree), positions)
        self.width, self.height = _map_size(self.bounds, size)

    def at(self, x: float, y: float) -> np.ndarray:
        left, right, bottom, top = self.bounds
        column = (LEFT + (x - left) / (right - left) * self.width) * DPI
        row = (TOP + (top - y) / (top - bottom) * self.height) * DPI
        return self.pixels[int(row), int(column)]


def same(color: np.ndarray, expected) -> bool:
    return bool(np.abs(color - np.array(expected)).max() < 0.01)


@pytest.fixture(scope="module")
def grid_memory() -> Memory:
    return grid_world()


def test_a_grid_world_is_drawn_with_walls_rooms_things_and_the_way_taken(grid_memory: Memory, tmp_path: Path):
    picture = Picture(grid_memory, tmp_path / "map.png", title="two rooms")
    corner = 0.2  # away from the middle of a cell, where markers and texts are
    assert same(picture.at(3 + corner, -0.2), WALL_COLOR)
    assert same(picture.at(12 + corner, -3.2), WALL_COLOR)
    first, second = picture.at(2 + corner, -4.8), picture.at(10 + corner, -4.8)
    rooms = [np.array(c) for c in ROOM_COLORS]
    assert any(same(first, c) for c in rooms) and any(same(second, c) for c in rooms)
    assert not same(first, second)
    assert same(picture.at(0.85, -3.0), UNKNOWN_COLOR)
    door, key = picture.at(6.15, -2.15), picture.at(9.15, -3.15)
    assert door[0] > door[1] + 0.15 and door[0] > door[2] + 0.15  # red
    assert key[1] > key[0] + 0.15 and key[1] > key[2] + 0.1  # green
    way = picture.at(4.0, -2.5)
    assert way[0] > way[2] + 0.2  # orange to crimson over a pale room


def test_the_wall_is_in_the_first_column_too_and_the_map_is_not_upside_down(
    grid_memory: Memory, tmp_path: Path
):
    raster = rasterize(grid_memory.octree)
    assert raster.extent == (1.0, 13.0, -6.0, 0.0)  # the agent never saw what was behind its start
    image = paint(raster, grid_memory.labels)
    # Row 0 of the raster is the lowest y: MiniGrid's last row.
    assert raster.occupied[0].all() and raster.occupied[-1].all()
    assert grid_memory.labels.name(int(raster.labels[5 - 3, 9 - 1])) == "green key"
    assert tuple(image[5 - 1, 2 - 1]) == tuple(np.round(255 * np.array(FREE_COLOR)).astype(np.uint8))
    ids = room_ids_of(raster, grid_memory.scene)
    assert len(np.unique(ids[ids >= 0])) == 2
    assert ids[5 - 2, 6 - 1] == -1  # the door belongs to none


def test_an_unlabelled_map_is_coloured_by_height_and_its_ceiling_hides_nothing(tmp_path: Path):
    memory = room_world()
    raster = rasterize(memory.octree)
    assert not raster.is_labelled
    assert raster.heights[np.isfinite(raster.heights)].max() < 2.2
    cell = tuple(np.floor((np.array([1.25, 1.5]) - raster.origin[::-1]) / 0.05).astype(int))
    assert raster.heights[cell] == pytest.approx(0.7, abs=0.051)
    picture = Picture(memory, tmp_path / "map.png")
    floor, table, wall = picture.at(3.02, 2.52), picture.at(1.52, 1.12), picture.at(3.02, 0.03)
    assert floor.sum() > table.sum() + 0.2 > wall.sum() + 0.4  # the higher, the darker


def test_an_empty_memory_gives_a_picture_too(tmp_path: Path):
    path = draw_map(Memory(), tmp_path / "map.png")
    assert imread(path).shape[0] > 300


def test_the_picture_is_the_same_every_time_and_the_memory_stays_as_it_was(
    grid_memory: Memory, tmp_path: Path
):
    digest = grid_memory.digest()
    first = draw_map(grid_memory, tmp_path / "a.png").read_bytes()
    assert draw_map(grid_memory, tmp_path / "b.png").read_bytes() == first
    assert grid_memory.digest() == digest


def test_an_object_that_is_gone_is_drawn_hollow(tmp_path: Path):
    memory = grid_world()
    before = Picture(memory, tmp_path / "a.png")
    view = np.ones((27, 27, 3), np.uint8)
    pose = Pose.from_xyz_yaw(8.5, -2.5, 0, 0)
    for step in (20, 21, 22):
        obs = Observation(step * 100_000_000, step, pose, labels=GRID_LABELS, grid=GridView(view))
        memory.write(GridPerception()(obs))
    key = next(o for o in memory.scene.objects() if o.name == "green key")
    assert key.existence < 0.5
    after = Picture(memory, tmp_path / "b.png")
    green = np.array(GRID_LABELS.color(GRID_LABELS.id("green key"))) / 255
    assert same(before.at(9.5, -3.5), green)
    assert not same(after.at(9.5, -3.5), green)


def test_a_file_that_cannot_be_written_gives_one_clear_line(grid_memory: Memory, tmp_path: Path):
    with pytest.raises(EmbodiedMemError, match="cannot write the picture") as error:
        draw_map(grid_memory, tmp_path / "missing" / "map.png")
    assert "\n" not in str(error.value)


def test_labels_do_not_cover_each_other_and_stay_in_the_picture():
    rng = np.random.default_rng(0)
    labels = [Label(x, y, 70.0, 14.0, 8.0) for x, y in rng.uniform(20, 580, (40, 2))]
    centers = place_labels(labels, np.empty((0, 4)), (0, 0, 600, 600))
    boxes = [(c[0] - 35, c[1] - 7, c[0] + 35, c[1] + 7) for c in centers if c is not None]
    assert len(boxes) >= 35
    for n, a in enumerate(boxes):
        assert a[0] >= 0 and a[1] >= 0 and a[2] <= 600 and a[3] <= 600
        for b in boxes[:n]:
            wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            assert wide <= 0 or high <= 0 or wide * high < 0.03 * 70 * 14


def test_a_label_keeps_clear_of_what_it_names_and_of_obstacles():
    beside = (305.0, 280.0, 420.0, 320.0)  # to the right, where it would go by itself
    free = place_labels([Label(300, 300, 60, 12, 8)], np.empty((0, 4)), (0, 0, 600, 600))[0]
    moved = place_labels([Label(300, 300, 60, 12, 8)], np.array([beside]), (0, 0, 600, 600))[0]
    assert free == pytest.approx((300 + 8 + 30, 300))
    assert moved[0] + 30 <= 305 + 1 or abs(moved[1] - 300) >= 20


def test_a_label_that_fits_nowhere_is_left_out():
    crowd = [Label(30, 30, 50, 12, 4)] * 40
    centers = place_labels(crowd, np.empty((0, 4)), (0, 0, 60, 60))
    assert centers[0] is not None
    assert None in centers

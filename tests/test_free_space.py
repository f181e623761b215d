"""The floor of a house as triangles, and as a navigation mesh."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from embodied_mem.sim.detour import write_navmesh
from embodied_mem.sim.house.floor_plan import NORMALS, FloorPlan
from embodied_mem.sim.house.free_space import GRID, SMALLEST, free_triangles
from embodied_mem.sim.house.house import make_house


def triangles_of(plan: FloorPlan, size: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    return free_triangles(plan.outlines, NORMALS, plan.offsets, size)


def areas(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    return ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2


def edges(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns undirected edges and how many triangles have them."""
    pairs = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    return np.unique(pairs, axis=0, return_counts=True)


def test_a_hall_with_a_box_has_the_area_that_geometry_tells():
    walls = [(-1, -1, 7, 0), (-1, 4, 7, 5), (-1, 0, 0, 4), (6, 0, 7, 4)]
    plan = FloorPlan(np.array([*walls, (2, 1, 4, 3)], float), (6.0, 4.0), 0.2)
    vertices, triangles = triangles_of(plan, (6.0, 4.0))
    corners = plan.outlines[-1]
    ahead = np.roll(corners, -1, axis=0)
    box = (corners[:, 0] * ahead[:, 1] - corners[:, 1] * ahead[:, 0]).sum() / 2
    assert areas(vertices, triangles).sum() == pytest.approx(5.6 * 3.6 - box, abs=1e-4)


@pytest.mark.parametrize("seed", [20_001, 20_002, 20_003])
def test_triangles_cover_the_free_floor_and_nothing_else(seed: int):
    house = make_house(seed)
    plan = house.floor_plan
    vertices, triangles = triangles_of(plan, house.layout.size)
    assert areas(vertices, triangles).min() >= SMALLEST
    assert np.array_equal(vertices / GRID, np.round(vertices / GRID))
    assert np.array_equal(vertices.astype(np.float32).astype(np.float64), vertices)
    rng = np.random.default_rng(0)
    points = rng.random((3000, 2)) * house.layout.size
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    inside = np.ones((len(points), len(triangles)), bool)
    for p, q in ((a, b), (b, c), (c, a)):
        d, r = q - p, points[:, None] - p
        inside &= d[:, 0] * r[..., 1] - d[:, 1] * r[..., 0] >= 0
    free = np.array([plan.is_free(point) for point in points])
    room = np.array([min(plan.is_free(point + s) for s in 2e-4 * np.eye(2)) for point in points])
    sure = free == room  # not within a hair of the edge
    assert np.array_equal(inside.any(axis=1)[sure], free[sure]) and sure.mean() > 0.99
    assert (inside.sum(axis=1) <= 1).all()  # none overlap


def test_edges_are_shared_by_two_triangles_or_lie_on_the_boundary():
    house = make_house(20_002)
    plan = house.floor_plan
    vertices, triangles = triangles_of(plan, house.layout.size)
    pairs, counts = edges(triangles)
    assert set(counts.tolist()) == {1, 2}
    middles = vertices[pairs[counts == 1]].mean(axis=1)
    beyond = (middles @ NORMALS.T)[:, None] - plan.offsets  # (N, B, SIDES)
    assert np.abs(beyond.max(axis=-1).min(axis=-1)).max() < 2e-4


def test_the_same_house_gives_the_same_triangles():
    house = make_house(20_003)
    first = triangles_of(house.floor_plan, house.layout.size)
    again = triangles_of(make_house(20_003).floor_plan, house.layout.size)
    assert all(np.array_equal(a, b) for a, b in zip(first, again))


def test_a_navmesh_file_has_the_layout_that_detour_reads(tmp_path: Path):
    """Read back field by field, as DetourNavMesh.h and habitat-sim's PathFinder.cpp tell them."""
    vertices = np.array([[0, 0, 0], [1, 0, 0], [1, 0, -1], [0, 0, -1]], np.float32)
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    path = tmp_path / "two.navmesh"
    write_navmesh(path, vertices, triangles, radius=0.18, height=1.0, climb=0.03)
    data = path.read_bytes()
    magic, version, tiles, *_ = struct.unpack_from("<3i", data)
    assert magic.to_bytes(4, "big") == b"MSET" and (version, tiles) == (2, 1)
    assert struct.unpack_from("<5f2i", data, 12)[5:] == (1, 2)  # tiles, triangles at most
    settings = struct.unpack_from("<13f4?", data, 40)
    assert settings[2:5] == pytest.approx((1.0, 0.18, 0.03)) and settings[13:] == (True,) * 4
    reference, size = struct.unpack_from("<Ii", data, 96)
    assert reference == 2 and size == len(data) - 104
    header = struct.unpack_from("<5iI9i10f", data, 104)
    assert header[0].to_bytes(4, "big") == b"DNAV" and header[1] == 7
    assert header[6:15] == (2, 4, 2, 2, 0, 2, 3, 0, 2)
    assert np.array_equal(np.frombuffer(data, "<f4", 12, 204).reshape(4, 3), vertices)
    polygons = np.frombuffer(data, "<u2", 32, 252).reshape(2, 16)
    assert polygons[:, 2:5].tolist() == triangles.tolist()
    assert polygons[:, 8:11].tolist() == [[0, 0, 2], [1, 0, 0]]  # one more than the neighbour's row
    assert size == 100 + 4 * 12 + 2 * 32 + 2 * 12 + 2 * 12 + 2 * 4 + 3 * 16
    nodes = np.frombuffer(data, np.dtype([("box", "<u2", 6), ("index", "<i4")]), 3, len(data) - 48)
    assert nodes["index"].tolist() == [-3, *sorted(nodes["index"][1:].tolist())]

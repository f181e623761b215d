"""Egocentric crops: the map around the agent, ahead up."""

from __future__ import annotations

import math

import numpy as np

from embodied_mem.geometry import Pose
from embodied_mem.memory.crops import CHANNELS, egocentric_crops
from embodied_mem.memory.octree.types import GridMap

NONE = np.empty((0, 3))


def room() -> GridMap:
    """A free square of 4 m around the origin with an obstacle 1 m ahead along x, unknown beyond."""
    cells = np.zeros((40, 40), np.int8)
    cells[18:22, 29:31] = 100
    return GridMap(cells, np.array([-2.0, -2.0]), 0.1, 0.0)


def crop_of(yaw: float, visited: np.ndarray = NONE, goals: np.ndarray = NONE) -> dict[str, np.ndarray]:
    pose = Pose.from_xyz_yaw(0.0, 0.0, 0.0, yaw)
    crops = egocentric_crops(room(), pose, visited, goals, (6.0,), 24)
    assert crops.shape == (5, 24, 24) and crops.dtype == np.uint8
    return dict(zip(CHANNELS, crops))


def test_what_is_ahead_is_above_the_middle_whichever_way_the_agent_looks() -> None:
    ahead = crop_of(0.0)["occupied"]
    rows, columns = np.nonzero(ahead)
    assert rows.max() < 12 and abs(columns.mean() - 11.5) < 1.0
    left = crop_of(-math.pi / 2)["occupied"]  # it looks to -y: the obstacle is at its left
    rows, columns = np.nonzero(left)
    assert columns.max() < 12 and abs(rows.mean() - 11.5) < 1.0


def test_every_pixel_is_occupied_free_or_unknown() -> None:
    crops = crop_of(0.3)
    total = sum(crops[name].astype(int) for name in ("occupied", "free", "unknown"))
    assert (np.abs(total - 255) <= 2).all()
    assert crops["unknown"][0, 0] == 255 and crops["free"][12, 12] == 255


def test_where_the_agent_was_and_what_it_is_after_are_marked_in_their_places() -> None:
    crops = crop_of(0.0, np.array([[-1.1, 0.1, 0.0]]), np.array([[2.1, 1.1, 0.5], [50.0, 0.0, 0.0]]))
    assert np.argwhere(crops["visited"]).tolist() == [[16, 11]]
    assert np.argwhere(crops["goal"]).tolist() == [[3, 7]]


def test_nothing_known_is_all_unknown() -> None:
    crops = egocentric_crops(None, Pose.from_xyz_yaw(0, 0, 0, 0), NONE, NONE, (4.8, 19.2), 24)
    assert crops.shape == (10, 24, 24)
    assert (crops[2::5] == 255).all() and not crops[0::5].any()

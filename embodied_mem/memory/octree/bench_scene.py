"""A furnished six-room house of boxes, as a depth camera sees it: the benchmark's own scans."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.types import Intrinsics

OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""base_R_optical: the camera looks along the base's x axis."""


def house(seed: int = 0) -> NDArray[np.float64]:
    """Returns (B, 6) boxes x0 y0 z0 x1 y1 z1 [m]: floor, ceiling, walls with doors, furniture."""
    rng = np.random.default_rng(seed)
    boxes = [[-0.2, -0.2, -0.2, 12.2, 8.2, 0.0], [-0.2, -0.2, 2.6, 12.2, 8.2, 2.8]]
    boxes += [[-0.2, -0.2, 0, 0, 8.2, 2.6], [12, -0.2, 0, 12.2, 8.2, 2.6]]
    boxes += [[-0.2, -0.2, 0, 12.2, 0, 2.6], [-0.2, 8, 0, 12.2, 8.2, 2.6]]
    for x in (4.0, 8.0):  # walls between rooms, with a door of 0.9 m each
        for y in (0.0, 4.0):
            boxes += [[x - 0.05, y, 0, x + 0.05, y + 1.5, 2.6], [x - 0.05, y + 2.4, 0, x + 0.05, y + 4, 2.6]]
            boxes += [[x - 0.05, y + 1.5, 2.1, x + 0.05, y + 2.4, 2.6]]
    for x in (0.0, 4.0, 8.0):
        boxes += [[x, 3.95, 0, x + 1.4, 4.05, 2.6], [x + 2.3, 3.95, 0, x + 4, 4.05, 2.6]]
        boxes += [[x + 1.4, 3.95, 2.1, x + 2.3, 4.05, 2.6]]
        for y in (0.0, 4.0):
            for _ in range(7):  # tables, shelves, boxes; some stand on legs
                size = rng.uniform([0.25, 0.25, 0.3], [1.1, 0.7, 1.6])
                corner = rng.uniform([x + 0.1, y + 0.1], [x + 3.9 - size[0], y + 3.9 - size[1]])
                low = rng.choice([0.0, 0.0, 0.6])
                high = min(low + size[2], 2.2)
                boxes.append([*corner, low, corner[0] + size[0], corner[1] + size[1], high])
    return np.array(boxes)


def camera(width: int = 640, height: int = 480) -> Intrinsics:
    """Returns a pinhole camera with 62 degrees of horizontal field of view."""
    focal = 525.0 * width / 640
    return Intrinsics(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)


def poses(boxes: NDArray[np.float64], count: int, seed: int = 0) -> list[Pose]:
    """Returns map_T_camera (optical frame) of a camera that looks around in each of the rooms."""
    rng = np.random.default_rng(seed)
    found: list[Pose] = []
    while len(found) < count:
        room = len(found) % 6
        middle = np.array([room % 3 * 4.0 + 2.0, room // 3 * 4.0 + 2.0, 1.2])
        angle = rng.uniform(-np.pi, np.pi)
        place = middle + np.array([1.4 * np.cos(angle), 1.4 * np.sin(angle), rng.uniform(-0.2, 0.4)])
        if ((place > boxes[:, :3] - 0.25) & (place < boxes[:, 3:] + 0.25)).all(axis=1).any():
            continue
        yaw, pitch = angle + np.pi + rng.uniform(-0.6, 0.6), rng.uniform(0.0, 0.4)
        c, s, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = turn @ OPTICAL, place
        found.append(Pose.from_matrix(matrix))
    return found


def render(boxes: NDArray[np.float64], view: Intrinsics, map_T_camera: Pose) -> NDArray[np.float32]:
    """Returns (H, W) float32 planar depth [m], rounded to millimetres as depth cameras do."""
    depth = _render(
        boxes, view.width, view.height, view.fx, view.fy, view.cx, view.cy,
        map_T_camera.rotation(), map_T_camera.position,
    )  # fmt: skip
    return (np.rint(depth * 1000.0) / 1000.0).astype(np.float32)


@njit(cache=True, nogil=True)
def _render(
    boxes: Any, width: int, height: int, fx: float, fy: float, cx: float, cy: float, r: Any, t: Any
) -> Any:
    depth = np.full((height, width), np.inf)
    for v in range(height):
        for u in range(width):
            a, b = (u - cx) / fx, (v - cy) / fy
            nearest = np.inf
            for k in range(boxes.shape[0]):
                enter, leave = 0.0, nearest
                for i in range(3):
                    d = r[i, 0] * a + r[i, 1] * b + r[i, 2]
                    d = d if abs(d) > 1e-12 else 1e-12
                    p, q = (boxes[k, i] - t[i]) / d, (boxes[k, i + 3] - t[i]) / d
                    enter, leave = max(enter, min(p, q)), min(leave, max(p, q))
                if 0.0 < enter <= leave:
                    nearest = min(nearest, enter)
            depth[v, u] = nearest
    return depth

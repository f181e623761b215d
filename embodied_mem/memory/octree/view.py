"""A camera in a byte map's voxels: what the kernels of `depth` need to know of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


class View(NamedTuple):
    """A pinhole camera in a byte map's voxels.

    Attributes:
        width, height: [px].
        fx, fy, cx, cy: pinhole parameters [px].
        rotation: (3, 3) float64 map_R_camera.
        at: (3,) float64, the camera in voxels from the first voxel of the byte map.
        resolution: edge of a voxel [m].
        eps: how near to a voxel's edge a ray may pass and be in doubt [voxels].
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    rotation: Array
    at: Array
    resolution: float
    eps: float


class Work(NamedTuple):
    """Constants of a view, and scratch.

    Attributes:
        rays: (3, 3) float64; the ray of pixel (u, v) is rays @ (u, v, 1) [voxels per m of depth].
        spread: (3, 2) float64, smallest and largest of the rays' components along each axis.
        half: (3,) float64, half a voxel's size along the camera's axes [m].
        certain: up to this depth the pixel at a voxel's centre passes the voxel [m].
        widths: (2,) float64: at depth c a voxel reaches no farther to the side of its centre than
            (widths[0] + widths[1] / c) / (c - half[2]) [px m, px m^2].
        heights: likewise, upwards and downwards.
        margins: (4,) float64, by how much a voxel's centre may lie beyond the left, right, upper and
            lower plane of the view before all of the voxel does [px m].
        ring: (A, 2) float64, where to ask around a voxel's centre, in parts of the ball within it.
        pinhole: (6,) float64 fx, fy, cx, cy, width - 1, height - 1.
        low: (3,) float32.
        line: (6,) float32.
    """

    rays: Array
    spread: Array
    half: Array
    certain: float
    widths: Array
    heights: Array
    margins: Array
    ring: Array
    pinhole: Array
    low: Array
    line: Array


class Unsettled(NamedTuple):
    """Voxels that the pixel at their centre does not settle.

    Attributes:
        cells: (C,) int64 of the byte map.
        low: (3, C) float32, their lower corners from the camera, along the map's axes [voxels].
        side, down, depth: (C,) float32, their centres in the camera's frame [m].
        box: (4, C) int32, first and last column, first and last row of their outlines.
        passes: (C,) uint8, 1 where the ray of the nearest pixel passes.
        rest: (C,) int32, those that it does not settle either.
    """

    cells: Array
    low: Array
    side: Array
    down: Array
    depth: Array
    box: Array
    passes: Array
    rest: Array

    @classmethod
    def room_for(cls, count: int) -> Unsettled:
        """Returns arrays for so many voxels."""
        side, down, depth = np.empty((3, count), np.float32)
        low, box = np.empty((3, count), np.float32), np.empty((4, count), np.int32)
        passes, rest = np.empty(count, np.uint8), np.empty(count, np.int32)
        return cls(np.empty(count, np.int64), low, side, down, depth, box, passes, rest)


_ANGLES = np.arange(8) * (np.pi / 4)
RING = np.concatenate([[[0.0, 0.0]], 0.8 * np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1)])
"""The centre, and eight places near the edge of the ball."""


@njit(cache=True, nogil=True)
def _measure(
    view: View, rays: Array, spread: Array, half: Array, widths: Array, heights: Array, margins: Array
) -> float:
    """Fills the constants of `Work`; returns `certain`."""
    r, res, eps = view.rotation, view.resolution, view.eps
    right, bottom = view.width - 1.0, view.height - 1.0
    for i in range(3):
        a, b = r[i, 0] / (view.fx * res), r[i, 1] / (view.fy * res)
        rays[i, 0], rays[i, 1], rays[i, 2] = a, b, r[i, 2] / res - a * view.cx - b * view.cy
        spread[i, 0] = rays[i, 2] + min(a * right, 0.0) + min(b * bottom, 0.0)
        spread[i, 1] = rays[i, 2] + max(a * right, 0.0) + max(b * bottom, 0.0)
        across = abs(r[0, i]) + abs(r[1, i]) + abs(r[2, i])
        half[i] = 0.5 * res * across * 1.0001 + 1e-6 + 2.0 * eps * res
    tan_u = max(view.cx, right - view.cx) / view.fx
    tan_v = max(view.cy, bottom - view.cy) / view.fy
    widths[0], widths[1] = half[0] + half[2] * tan_u, half[2] * (half[2] * tan_u + half[0])
    heights[0], heights[1] = half[1] + half[2] * tan_v, half[2] * (half[2] * tan_v + half[1])
    widths *= view.fx
    heights *= view.fy
    slack = max(view.fx, view.fy) * (1e-6 + 2.0 * eps * res)
    for side in range(4):
        axis = side // 2
        f = view.fy if axis else view.fx
        c = (view.cy - (bottom if side % 2 else 0.0)) if axis else (view.cx - (right if side % 2 else 0.0))
        across = 0.0
        for i in range(3):
            across += abs(f * r[i, axis] + c * r[i, 2])
        margins[side] = across * 0.5 * res + slack
    return 0.49 * res * min(view.fx, view.fy) / 0.708


@njit(cache=True, nogil=True)
def prepare_work(view: View, ring: Array) -> Work:
    """Computes a view's constants and allots its scratch; `ring` is RING."""
    rays, spread, half = np.empty((3, 3)), np.empty((3, 2)), np.empty(3)
    widths, heights, margins = np.empty(2), np.empty(2), np.empty(4)
    certain = _measure(view, rays, spread, half, widths, heights, margins)
    right, bottom = view.width - 1.0, view.height - 1.0
    pinhole = np.array([view.fx, view.fy, view.cx, view.cy, right, bottom])
    low, line = np.empty(3, np.float32), np.empty(6, np.float32)
    return Work(rays, spread, half, certain, widths, heights, margins, ring, pinhole, low, line)

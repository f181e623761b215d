"""Egocentric pictures of the map: what is around the agent, ahead up, for a small convolutional network."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.memory.octree.types import GridMap

CHANNELS = ("occupied", "free", "unknown", "visited", "goal")
"""What the channels of a crop show."""

FINEST = 3
"""A pixel is looked at in at most this many by this many points."""

FULL = 255

Array = NDArray[Any]


def egocentric_crops(
    grid: GridMap | None,
    pose: Pose,
    visited: NDArray[np.float64],
    goals: NDArray[np.float64],
    edges: tuple[float, ...],
    pixels: int,
) -> NDArray[np.uint8]:
    """Draws the map around the agent, once for every edge length.

    Row 0 lies ahead and column 0 to the left; the agent stands in the middle.

    Args:
        grid: traversable space; None where nothing is known.
        pose: `map_T_base`.
        visited: (N, 3) float64 [m] map positions where the agent has been.
        goals: (G, 3) float64 [m] map positions of what it is after.
        edges: lengths of the squares [m].
        pixels: pixels along an edge.

    Returns:
        (len(edges) * len(CHANNELS), pixels, pixels) uint8, 255 where a channel holds all over a pixel.
    """
    crops = np.zeros((len(edges), len(CHANNELS), pixels, pixels), np.uint8)
    is_known = grid is not None and grid.cells.size > 0
    cells = grid.cells if grid is not None and is_known else np.full((1, 1), -1, np.int8)
    x0, y0, resolution = 0.0, 0.0, 1.0
    if grid is not None and is_known:
        x0, y0, resolution = float(grid.origin[0]), float(grid.origin[1]), grid.resolution
    x, y, _ = pose.position.tolist()
    frame = x, y, math.cos(pose.yaw), math.sin(pose.yaw)
    for crop, edge in zip(crops, edges):
        finer = min(max(math.ceil(edge / pixels / resolution), 1), FINEST) if is_known else 1
        _draw_space(crop, cells, (x0, y0, float(resolution)), frame, float(edge), finer)
        _draw_points(crop[3], frame, visited, float(edge))
        _draw_points(crop[4], frame, goals, float(edge))
    return crops.reshape(-1, pixels, pixels)


@njit(cache=True, nogil=True)
def _draw_space(
    crop: Array,
    cells: Array,
    raster: tuple[float, float, float],
    frame: tuple[float, float, float, float],
    edge: float,
    finer: int,
) -> None:
    """Fills the channels occupied, free and unknown with the share of a pixel's points that are so.

    Args:
        crop: (5, P, P) uint8, changed in place.
        cells: (H, W) int8 of a grid map.
        raster: x and y of its origin and the edge of a cell [m].
        frame: x and y of the agent [m], cosine and sine of its heading.
        edge: of the picture [m].
        finer: a pixel is looked at in this many by this many points.
    """
    x0, y0, resolution = raster
    px, py, cos, sin = frame
    height, width = cells.shape
    pixels = crop.shape[1]
    count = pixels * finer
    step = edge / count
    share = np.empty(3, np.int64)
    for row in range(pixels):
        for column in range(pixels):
            share[:] = 0
            for i in range(row * finer, (row + 1) * finer):
                ahead = edge / 2 - (i + 0.5) * step
                for j in range(column * finer, (column + 1) * finer):
                    left = edge / 2 - (j + 0.5) * step
                    x, y = px + cos * ahead - sin * left, py + sin * ahead + cos * left
                    ix = np.int64(np.floor((x - x0) / resolution))
                    iy = np.int64(np.floor((y - y0) / resolution))
                    inside = ix >= 0 and iy >= 0 and ix < width and iy < height
                    state = np.int64(cells[iy, ix]) if inside else -1
                    share[0 if state > 0 else 1 if state == 0 else 2] += 1
            for channel in range(3):
                crop[channel, row, column] = share[channel] * FULL // (finer * finer)


@njit(cache=True, nogil=True)
def _draw_points(
    channel: Array, frame: tuple[float, float, float, float], points: Array, edge: float
) -> None:
    """Sets the pixels in which (N, 3) points lie; those beyond the edge are left out."""
    px, py, cos, sin = frame
    pixels = channel.shape[0]
    scale = pixels / edge
    for n in range(points.shape[0]):
        dx, dy = points[n, 0] - px, points[n, 1] - py
        ahead, left = cos * dx + sin * dy, cos * dy - sin * dx
        row, column = np.floor((edge / 2 - ahead) * scale), np.floor((edge / 2 - left) * scale)
        if row >= 0 and column >= 0 and row < pixels and column < pixels:
            channel[np.int64(row), np.int64(column)] = FULL

"""Egocentric pictures of the map: what is around the agent, ahead up, for a small convolutional network."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.memory.octree.types import GridMap

CHANNELS = ("occupied", "free", "unknown", "visited", "goal")
"""What the channels of a crop show."""

FINEST = 3
"""A pixel is looked at in at most this many by this many points."""

FULL = 255


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
    for crop, edge in zip(crops, edges):
        _draw_space(crop, grid, pose, edge)
        _draw_points(crop[3], pose, visited, edge)
        _draw_points(crop[4], pose, goals, edge)
    return crops.reshape(-1, pixels, pixels)


def _draw_space(crop: NDArray[np.uint8], grid: GridMap | None, pose: Pose, edge: float) -> None:
    """Fills the channels occupied, free and unknown with the share of a pixel's points that are so."""
    pixels = crop.shape[-1]
    if grid is None or grid.cells.size == 0:
        crop[2] = FULL
        return
    finer = min(max(math.ceil(edge / pixels / grid.resolution), 1), FINEST)
    count = pixels * finer
    # distances ahead and to the left of the agent, from the first row and column on
    along = edge / 2 - (np.arange(count) + 0.5) * (edge / count)
    ahead, left = along[:, None], along[None, :]
    cos, sin = math.cos(pose.yaw), math.sin(pose.yaw)
    x, y = pose.position[0] + cos * ahead - sin * left, pose.position[1] + sin * ahead + cos * left
    ix = np.floor((x - float(grid.origin[0])) / grid.resolution).astype(np.int64)
    iy = np.floor((y - float(grid.origin[1])) / grid.resolution).astype(np.int64)
    height, width = grid.cells.shape
    inside = (ix >= 0) & (iy >= 0) & (ix < width) & (iy < height)
    state = np.where(inside, grid.cells[np.clip(iy, 0, height - 1), np.clip(ix, 0, width - 1)], -1)
    state = state.reshape(pixels, finer, pixels, finer)
    for channel, is_so in enumerate((state > 0, state == 0, state < 0)):
        share = is_so.sum(axis=(1, 3))
        crop[channel] = share * FULL // (finer * finer)


def _draw_points(channel: NDArray[np.uint8], pose: Pose, points: NDArray[np.float64], edge: float) -> None:
    """Sets the pixels in which points lie; those beyond the edge are left out."""
    if len(points) == 0:
        return
    pixels = len(channel)
    dx, dy = points[:, 0] - pose.position[0], points[:, 1] - pose.position[1]
    cos, sin = math.cos(pose.yaw), math.sin(pose.yaw)
    ahead, left = cos * dx + sin * dy, cos * dy - sin * dx
    row = np.floor((edge / 2 - ahead) * (pixels / edge)).astype(np.int64)
    column = np.floor((edge / 2 - left) * (pixels / edge)).astype(np.int64)
    inside = (row >= 0) & (column >= 0) & (row < pixels) & (column < pixels)
    channel[row[inside], column[inside]] = FULL

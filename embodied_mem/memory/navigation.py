"""Where one can go: path distances, shortest paths, clearance and frontiers on a grid map.

Diagonal steps never cut the corner of a cell that is not traversable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.octree.types import GridMap
from embodied_mem.memory.scene.grid_kernels import FAR, STRAIGHT, descend, frontier, squared_distance, walk

Array = NDArray[Any]
Point = Sequence[float] | NDArray[np.floating]
"""A position (2,) or (3,) [m] in the map frame."""


def cell_of(grid: GridMap, position: Point) -> tuple[int, int]:
    """Returns (iy, ix) of the cell that holds a map position; it may lie outside the grid."""
    x, y = float(position[0]), float(position[1])
    if not (math.isfinite(x) and math.isfinite(y)):
        return -1, -1
    scale = 1.0 / grid.resolution
    return math.floor((y - float(grid.origin[1])) * scale), math.floor((x - float(grid.origin[0])) * scale)


def centers_of(grid: GridMap, flat: Array) -> NDArray[np.float64]:
    """Returns (M, 3) float64 map positions [m] of the centres of flat cells, on the floor."""
    width = grid.cells.shape[1]
    flat = np.asarray(flat, np.int64)
    result = np.empty((len(flat), 3))
    result[:, 0] = float(grid.origin[0]) + (flat % width + 0.5) * grid.resolution
    result[:, 1] = float(grid.origin[1]) + (flat // width + 0.5) * grid.resolution
    result[:, 2] = grid.floor_z
    return result


def nearest_traversable(grid: GridMap, position: Point, snap: float = 0.5) -> int:
    """Returns the flat index of the traversable cell at a position, or of the nearest one, or -1.

    Args:
        grid: the grid map.
        position: (2,) or (3,) [m] in the map frame.
        snap: how far away the cell's centre may be where the position's own cell is not
            traversable [m]: the floor right in front of a camera is never seen.
    """
    height, width = grid.cells.shape
    iy, ix = cell_of(grid, position)
    if 0 <= iy < height and 0 <= ix < width and grid.cells[iy, ix] == 0:
        return iy * width + ix
    reach = int(snap / grid.resolution) + 1
    y0, y1 = max(iy - reach, 0), min(iy + reach + 1, height)
    x0, x1 = max(ix - reach, 0), min(ix + reach + 1, width)
    if snap <= 0.0 or y0 >= y1 or x0 >= x1:
        return -1
    near = np.flatnonzero(grid.cells[y0:y1, x0:x1] == 0)
    if len(near) == 0:
        return -1
    flat = (near // (x1 - x0) + y0) * width + near % (x1 - x0) + x0
    p = np.asarray(position, dtype=np.float64)
    centers = centers_of(grid, flat)
    squared = (centers[:, 0] - p[0]) ** 2 + (centers[:, 1] - p[1]) ** 2
    best = int(np.argmin(squared))
    return int(flat[best]) if squared[best] <= snap * snap else -1


def steps_from(grid: GridMap, cell: int, diagonal: bool = False, goal: int = -1) -> NDArray[np.int32]:
    """Returns (H, W) int32 path distances from a flat cell, in `STRAIGHT`ths of a cell; `FAR` where none.

    Args:
        grid: the grid map.
        cell: to start from; -1: there is no way anywhere.
        diagonal: 8-connected steps.
        goal: flat cell that the distances are wanted for: others are true only where they are smaller.
    """
    if cell < 0:
        return np.full(grid.cells.shape, FAR, np.int32)
    return np.asarray(walk(grid.cells, cell, goal, diagonal))


def distance_field(
    grid: GridMap, position: Point, diagonal: bool = False, snap: float = 0.5
) -> NDArray[np.float32]:
    """Returns (H, W) float32 path distances [m] from a position over traversable cells.

    Args:
        grid: the grid map, for example of `Octree.traversable`.
        position: (2,) or (3,) [m] in the map frame.
        diagonal: 8-connected steps; False for agents that move along the axes.
        snap: as in `nearest_traversable`.

    Returns:
        distances from the cell of the position; inf where there is no way.
    """
    steps = steps_from(grid, nearest_traversable(grid, position, snap), diagonal)
    metres = (steps / STRAIGHT * grid.resolution).astype(np.float32)
    metres[steps >= FAR] = np.inf
    return metres


def shortest_path(
    grid: GridMap, start: Point, goal: Point, diagonal: bool = False, snap: float = 0.5
) -> NDArray[np.float64]:
    """Returns (M, 3) float64 centres [m] of the cells of a shortest path, start and goal included.

    Empty where there is no way. Arguments as for `distance_field`.
    """
    first, last = nearest_traversable(grid, start, snap), nearest_traversable(grid, goal, snap)
    if first < 0 or last < 0:
        return np.empty((0, 3))
    steps = steps_from(grid, first, diagonal, last)
    if steps.reshape(-1)[last] >= FAR:
        return np.empty((0, 3))
    return centers_of(grid, descend(steps, last, diagonal)[::-1])


def frontier_mask(grid: GridMap) -> NDArray[np.bool_]:
    """Returns (H, W) bool: traversable cells with an unknown 4-neighbour; beyond the map all is unknown."""
    return frontier(np.ascontiguousarray(grid.cells))


def frontier_cells(grid: GridMap) -> NDArray[np.float64]:
    """Returns (M, 3) float64 centres [m] of the frontier cells, row by row (Yamauchi 1997)."""
    return centers_of(grid, np.flatnonzero(frontier_mask(grid)))


def clearance(blocked: NDArray[np.bool_], resolution: float) -> NDArray[np.float64]:
    """Returns (H, W) float64 distances [m] from cell centres to the edge of the nearest blocked cell."""
    squared = squared_distance(np.ascontiguousarray(blocked))
    return np.maximum(np.sqrt(squared.astype(np.float64)) - 0.5, 0.0) * resolution

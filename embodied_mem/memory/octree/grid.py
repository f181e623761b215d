"""Traversable space: the octree seen from above, in a band above a floor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.memory.octree import masks
from embodied_mem.memory.octree.blocks import BlockStore
from embodied_mem.memory.octree.records import label_masks
from embodied_mem.memory.octree.types import GridMap

MAX_CELLS = 1 << 27


def project(
    store: BlockStore,
    resolution: float,
    floor_z: float,
    band: tuple[float, float],
    robot_radius: float,
    passable_labels: tuple[int, ...],
) -> GridMap:
    """Projects the voxels whose centres lie in a band above the floor.

    Args:
        store: the blocks.
        resolution: edge of a voxel [m].
        floor_z: height of the floor [m].
        band: heights above the floor (low, high] [m].
        robot_radius: free cells nearer than this to an obstacle's centre become obstacles [m].
        passable_labels: occupied voxels with these labels count as free.

    Returns:
        the ground plan, as large as the known part of the band; 0 x 0 where nothing is known.

    Raises:
        InputError: the plan would have more than 2^27 cells.
    """
    # First and last voxel whose centre (k + 0.5) * resolution lies in (low, high].
    first = int(np.floor((floor_z + band[0]) / resolution - 0.5)) + 1
    last = int(np.floor((floor_z + band[1]) / resolution - 0.5 + 1e-9))
    rows = np.arange(store.count, dtype=np.int64)
    far = 1 << 30
    lo, hi = np.array([-far, -far, first]), np.array([far, far, last])
    inside = masks.box_masks(store.coords(rows), lo, hi)
    rows = rows[inside.any(axis=1)]
    inside, coords = inside[rows], store.coords(rows)
    blocked = store.masks.occupied[rows] & inside
    free = store.masks.free[rows] & inside
    if passable_labels:
        wanted = np.zeros(65536, np.bool_)
        wanted[list(passable_labels)] = True
        if store.records.has("labels"):
            passable = label_masks(rows, wanted, store.masks.noted, store.records.columns) & blocked
        else:
            passable = blocked * np.uint64(wanted[0])
        blocked, free = blocked & ~passable, free | passable
    lower, upper = masks.tight_bounds(coords, blocked | free)
    if lower[0] > upper[0]:
        return GridMap(np.empty((0, 0), np.int8), np.zeros(2), resolution, floor_z)
    width, height = (int(n) for n in upper[:2] - lower[:2] + 1)
    if width * height > MAX_CELLS:
        raise InputError(f"a ground plan of {width} x {height} cells is too large; clear far outliers")
    cells = np.full((height, width), -1, np.int8)
    masks.fill_columns(coords, free, blocked, lower[:2], cells)
    if robot_radius > 0:
        cells[_near(cells == 100, robot_radius / resolution) & (cells == 0)] = 100
    return GridMap(cells, lower[:2] * resolution, resolution, floor_z)


def _near(obstacle: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Marks cells whose centre is nearer than `radius` [cells] to an obstacle's centre."""
    from scipy.ndimage import distance_transform_edt

    if not obstacle.any():
        return obstacle
    return np.asarray(distance_transform_edt(~obstacle) < radius)

"""Traversable space: the octree seen from above, in a band above a floor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.memory.octree import kernels, masks, merge
from embodied_mem.memory.octree.blocks import BlockStore
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
    first, last = _layers(resolution, floor_z, band)
    rows = np.arange(store.count, dtype=np.int64)
    far = 1 << 30
    lo, hi = np.array([-far, -far, first]), np.array([far, far, last])
    inside = masks.box_masks(store.coords(rows), lo, hi)
    rows = rows[inside.any(axis=1)]
    coords = store.coords(rows)
    free, blocked = _free_and_blocked(store, rows, inside[rows], passable_labels)
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


def project_columns(
    store: BlockStore,
    resolution: float,
    floor_z: float,
    band: tuple[float, float],
    passable_labels: tuple[int, ...],
    since_version: int,
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Projects anew the columns of blocks in which a block has changed; arguments as for `project`.

    Args:
        store: the blocks.
        resolution: edge of a voxel [m].
        floor_z: height of the floor [m].
        band: heights above the floor (low, high] [m].
        passable_labels: occupied voxels with these labels count as free.
        since_version: blocks changed after this version of the octree count.

    Returns:
        (N, 2) int64 block coordinates x and y, and (N, 8, 8) int8 cells [y, x], -1 unknown, 0 free, 100
        obstacle.
    """
    first, last = _layers(resolution, floor_z, band)
    keys = store.keys[np.flatnonzero(store.blocks.versions[: store.count] > since_version)]
    layers = np.arange(first >> 3, (last >> 3) + 1) + kernels.BIAS
    height = keys & ((1 << 21) - 1)
    low, high = (first >> 3) + kernels.BIAS, (last >> 3) + kernels.BIAS
    columns = np.unique(keys[(height >= low) & (height <= high)] >> 21)
    rows = store.find(((columns[:, None] << 21) | layers).reshape(-1)).astype(np.int64)
    which = np.repeat(np.arange(len(columns)), len(layers))[rows >= 0]
    rows = rows[rows >= 0]
    far = 1 << 30
    inside = masks.box_masks(store.coords(rows), np.array([-far, -far, first]), np.array([far, far, last]))
    free, blocked = _free_and_blocked(store, rows, inside, passable_labels)
    cells = np.full((len(columns), 8, 8), -1, np.int8)
    masks.fill_patches(which, free, blocked, cells)
    return np.stack([columns >> 21, columns & ((1 << 21) - 1)], axis=1) - kernels.BIAS, cells


def _layers(resolution: float, floor_z: float, band: tuple[float, float]) -> tuple[int, int]:
    """Returns the first and last voxel whose centre (k + 0.5) * resolution lies in (low, high]."""
    first = int(np.floor((floor_z + band[0]) / resolution - 0.5)) + 1
    return first, int(np.floor((floor_z + band[1]) / resolution - 0.5 + 1e-9))


def _free_and_blocked(
    store: BlockStore, rows: NDArray[np.int64], inside: NDArray[np.uint64], passable_labels: tuple[int, ...]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Returns (M, 8) uint64 masks of the voxels inside that an agent can pass, and that it cannot."""
    blocked = store.blocks.occupied[rows] & inside
    free = store.blocks.free[rows] & inside
    if passable_labels:
        wanted = np.zeros(65536, np.bool_)
        wanted[list(passable_labels)] = True
        passable = merge.label_masks(rows, wanted, store.blocks, store.records) & blocked
        blocked, free = blocked & ~passable, free | passable
    return free, blocked


def _near(obstacle: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Marks cells whose centre is nearer than `radius` [cells] to an obstacle's centre."""
    from scipy.ndimage import distance_transform_edt

    if not obstacle.any():
        return obstacle
    return np.asarray(distance_transform_edt(~obstacle) < radius)

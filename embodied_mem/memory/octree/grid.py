"""Traversable space: the octree seen from above, in a band above a floor."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.memory.octree import kernels, masks
from embodied_mem.memory.octree.blocks import BlockStore
from embodied_mem.memory.octree.records import label_masks
from embodied_mem.memory.octree.types import GridMap

MAX_CELLS = 1 << 27


class Band(NamedTuple):
    """What heights above the floor count, in the order of `Octree.traversable`'s arguments.

    Attributes:
        low: what lies no higher than this is no obstacle [m].
        high: what lies higher is none either [m].
        drop: where it is free this far below the floor there is an edge to fall over [m]; 0: nowhere.
    """

    low: float
    high: float
    drop: float = 0.0

    def voxels(self, floor_z: float, resolution: float) -> tuple[tuple[int, int], tuple[int, int]]:
        """Returns the first and last voxel of what can be in the way, and of what must not be free.

        Their centres (k + 0.5) * resolution lie in (low, high], and in (-2 drop, -drop].
        """

        def between(low: float, high: float) -> tuple[int, int]:
            first = int(np.floor((floor_z + low) / resolution - 0.5)) + 1
            return first, int(np.floor((floor_z + high) / resolution - 0.5 + 1e-9))

        return between(self.low, self.high), between(-2.0 * self.drop, -self.drop)


def project(
    store: BlockStore,
    resolution: float,
    floor_z: float,
    band: Band,
    robot_radius: float,
    passable_labels: tuple[int, ...],
) -> GridMap:
    """Projects the voxels whose centres lie in a band above the floor.

    Args:
        store: the blocks.
        resolution: edge of a voxel [m].
        floor_z: height of the floor [m].
        band: heights above the floor.
        robot_radius: free cells nearer than this to an obstacle's centre become obstacles [m].
        passable_labels: occupied voxels with these labels count as free.

    Returns:
        the ground plan, as large as the known part of the band; 0 x 0 where nothing is known.

    Raises:
        InputError: the plan would have more than 2^27 cells.
    """
    layers = band.voxels(floor_z, resolution)
    rows = np.arange(store.count, dtype=np.int64)
    height = store.coords(rows)[:, 2]
    near = np.zeros(len(rows), bool)
    for first, last in layers:
        near |= (first <= last) & (height >= first >> 3) & (height <= last >> 3)
    rows = rows[near]
    coords = store.coords(rows)
    free, blocked = _free_and_blocked(store, rows, layers, passable_labels)
    lower, upper = masks.tight_bounds(coords, blocked | free)
    if lower[0] > upper[0]:
        return GridMap(np.empty((0, 0), np.int8), np.zeros(2), resolution, floor_z)
    width, depth = (int(n) for n in upper[:2] - lower[:2] + 1)
    if width * depth > MAX_CELLS:
        raise InputError(f"a ground plan of {width} x {depth} cells is too large; clear far outliers")
    cells = np.full((depth, width), -1, np.int8)
    masks.fill_columns(coords, free, blocked, lower[:2], cells)
    if robot_radius > 0:
        cells[_near(cells == 100, robot_radius / resolution) & (cells == 0)] = 100
    return GridMap(cells, lower[:2] * resolution, resolution, floor_z)


def project_columns(
    store: BlockStore,
    resolution: float,
    floor_z: float,
    band: Band,
    passable_labels: tuple[int, ...],
    since_version: int,
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Projects anew the columns of blocks in which a block has changed.

    Args:
        store: the blocks.
        resolution: edge of a voxel [m].
        floor_z: height of the floor [m].
        band: heights above the floor.
        passable_labels: occupied voxels with these labels count as free.
        since_version: blocks changed after this version of the octree count.

    Returns:
        (N, 2) int64 block coordinates x and y, and (N, 8, 8) int8 cells [y, x], -1 unknown, 0 free, 100
        obstacle.
    """
    layers = band.voxels(floor_z, resolution)
    levels = {z for first, last in layers if first <= last for z in range(first >> 3, (last >> 3) + 1)}
    heights = np.array(sorted(levels), np.int64)
    biased, count = heights + kernels.BIAS, store.count
    columns = masks.changed_columns(store.versions[:count], store.keys[:count], since_version, biased)
    rows = store.find(((columns[:, None] << 21) | biased).reshape(-1))
    passable = np.empty((0, 8), np.uint64)
    if passable_labels:
        passable = _labelled(store, np.maximum(rows, 0), passable_labels)
    plans = store.masks.occupied, store.masks.free, passable
    cells = masks.project_patches(rows.reshape(-1, len(heights)), heights, np.array(layers), *plans)
    return np.stack([columns >> 21, columns & ((1 << 21) - 1)], axis=1) - kernels.BIAS, cells


def _free_and_blocked(
    store: BlockStore,
    rows: NDArray[np.int64],
    layers: tuple[tuple[int, int], tuple[int, int]],
    passable_labels: tuple[int, ...],
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Returns (M, 8) uint64 masks of the voxels that an agent can pass, and that it cannot."""
    far, coords = 1 << 30, store.coords(rows)
    inside, under = (
        masks.box_masks(coords, np.array([-far, -far, first]), np.array([far, far, last]))
        for first, last in layers
    )
    blocked = store.masks.occupied[rows] & inside
    free = store.masks.free[rows] & inside
    if passable_labels:
        passable = _labelled(store, rows, passable_labels) & blocked
        blocked, free = blocked & ~passable, free | passable
    return free, blocked | (store.masks.free[rows] & under)


def _labelled(store: BlockStore, rows: NDArray[np.int64], labels: tuple[int, ...]) -> NDArray[np.uint64]:
    """Returns the (M, 8) uint64 masks of occupied voxels with one of the labels."""
    if not store.records.has("labels"):
        return store.masks.occupied[rows] * np.uint64(0 in labels)
    wanted = np.zeros(65536, np.bool_)
    wanted[list(labels)] = True
    return np.asarray(label_masks(rows, wanted, store.masks.noted, store.records.columns))


def _near(obstacle: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Marks cells whose centre is nearer than `radius` [cells] to an obstacle's centre."""
    from scipy.ndimage import distance_transform_edt

    if not obstacle.any():
        return obstacle
    return np.asarray(distance_transform_edt(~obstacle) < radius)

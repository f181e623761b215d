"""Negative evidence: which known objects a percept should have shown, and did not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.types import Scan

MAX_RAYS = 20_000
"""A denser scan is thinned to about this many rays."""
MIN_RAYS = 3
"""So many rays must pass through an object's place before it counts as seen empty."""

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def _mark_cells(
    points: Array, r: Array, t: Array, positions: Array, resolution: float, result: Array
) -> None:
    for i in range(points.shape[0]):
        x, y, z = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        key_x = np.floor((r[0, 0] * x + r[0, 1] * y + r[0, 2] * z + t[0]) / resolution)
        key_y = np.floor((r[1, 0] * x + r[1, 1] * y + r[1, 2] * z + t[1]) / resolution)
        key_z = np.floor((r[2, 0] * x + r[2, 1] * y + r[2, 2] * z + t[2]) / resolution)
        for o in range(positions.shape[0]):
            if (
                np.floor(positions[o, 0] / resolution) == key_x
                and np.floor(positions[o, 1] / resolution) == key_y
                and np.floor(positions[o, 2] / resolution) == key_z
            ):
                result[o] = True


@njit(cache=True, nogil=True)
def _mark_rays(
    points: Array,
    origin: Array,
    stride: int,
    positions: Array,
    extents: Array,
    resolution: float,
    result: Array,
) -> None:
    for o in range(positions.shape[0]):
        vx, vy, vz = positions[o, 0] - origin[0], positions[o, 1] - origin[1], positions[o, 2] - origin[2]
        away = np.sqrt(vx * vx + vy * vy + vz * vz)
        # Only the core counts: rays that graze an object's outline say nothing about it.
        core = max(0.25 * min(extents[o, 0], extents[o, 1], extents[o, 2]), 0.5 * resolution)
        margin = 0.5 * max(extents[o, 0], extents[o, 1], extents[o, 2]) + resolution
        through, stopped = 0, 0
        for i in range(0, points.shape[0], stride):
            ux = np.float64(points[i, 0]) - origin[0]
            uy = np.float64(points[i, 1]) - origin[1]
            uz = np.float64(points[i, 2]) - origin[2]
            along = ux * vx + uy * vy + uz * vz
            if along <= 0.0:
                continue
            length2 = ux * ux + uy * uy + uz * uz
            if away * away - along * along / length2 > core * core:
                continue
            if np.sqrt(length2) > away + margin:
                through += 1
            else:
                stopped += 1
        if through >= MIN_RAYS and through >= 4 * stopped:
            result[o] = True


def seen_empty(
    scans: Sequence[Scan],
    map_T_base: Pose,
    positions: NDArray[np.float64],
    extents: NDArray[np.float64],
    resolution: float,
    blind_radius: float,
) -> NDArray[np.bool_]:
    """Returns (O,) bool: the scans looked at the place of these objects, or through it.

    For cells whose state is known directly, the object's own cell is among them. For rays, nearly
    all of those towards the object's core end well behind it (nearer surfaces would occlude it, a
    surface at its place may be the object). Whoever calls leaves out the objects that were detected.

    Args:
        scans: the percept's range evidence, base frame.
        map_T_base: pose of the base.
        positions: (O, 3) float64 centres of objects [m] in the map frame.
        extents: (O, 3) float64 [m].
        resolution: edge of a voxel [m].
        blind_radius: objects nearer to the base than this, seen from above, are never seen empty [m].
    """
    result = np.zeros(len(positions), bool)
    if len(positions) == 0:
        return result
    for scan in scans:
        if scan.origin is None:
            r, t = map_T_base.rotation(), map_T_base.position
            _mark_cells(scan.points, r, t, positions, resolution, result)
        elif len(scan.points):
            in_base = map_T_base.inverse().transform(positions)
            stride = -(-len(scan.points) // MAX_RAYS)
            origin = np.asarray(scan.origin, np.float64)
            _mark_rays(scan.points, origin, stride, in_base, extents, resolution, result)
    offset = positions[:, :2] - map_T_base.position[:2]
    result &= offset[:, 0] ** 2 + offset[:, 1] ** 2 >= blind_radius * blind_radius
    return result

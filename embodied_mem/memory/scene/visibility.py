"""Negative evidence: which known objects a percept should have shown, and did not.

The rays of a scan are sorted into bins by direction once, so that each object looks at the few rays
towards it: the cost per object does not depend on the number of rays or of objects.
"""

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
SPARSE = 4
"""And so many times more than end there."""
CLEAR_RAYS, HIDDEN, CLEAR_REACH = 16, 0.15, 3.5
"""What is in view has so many rays, at most this part of them stopped before it, and is this near [m]."""
AZIMUTHS, ELEVATIONS = 180, 90
"""Bins of 2 degrees."""

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
def _angles(x: float, y: float, z: float) -> tuple[int, int]:
    """Returns the bin of a direction."""
    azimuth = np.int64((np.arctan2(y, x) + np.pi) / (2 * np.pi) * AZIMUTHS)
    elevation = np.int64((np.arctan2(z, np.sqrt(x * x + y * y)) + np.pi / 2) / np.pi * ELEVATIONS)
    return min(azimuth, AZIMUTHS - 1), min(elevation, ELEVATIONS - 1)


@njit(cache=True, nogil=True)
def _sort_rays(points: Array, origin: Array, stride: int) -> tuple[Array, Array]:
    """Returns the rays' indices by bin, and where each bin starts."""
    count = (points.shape[0] + stride - 1) // stride
    bins = np.empty(count, np.int32)
    starts = np.zeros(AZIMUTHS * ELEVATIONS + 1, np.int64)
    for k in range(count):
        p = points[k * stride]
        a, e = _angles(p[0] - origin[0], p[1] - origin[1], p[2] - origin[2])
        bins[k] = a * ELEVATIONS + e
        starts[bins[k] + 1] += 1
    for b in range(AZIMUTHS * ELEVATIONS):
        starts[b + 1] += starts[b]
    at = starts.copy()
    order = np.empty(count, np.int64)
    for k in range(count):
        order[at[bins[k]]] = k * stride
        at[bins[k]] += 1
    return order, starts


@njit(cache=True, nogil=True)
def _mark_rays(
    points: Array,
    origin: Array,
    stride: int,
    positions: Array,
    extents: Array,
    resolution: float,
    slack: float,
    reach: float,
    result: Array,
    in_view: Array,
) -> None:
    order, starts = _sort_rays(points, origin, stride)
    for o in range(positions.shape[0]):
        vx, vy, vz = positions[o, 0] - origin[0], positions[o, 1] - origin[1], positions[o, 2] - origin[2]
        away = np.sqrt(vx * vx + vy * vy + vz * vz)
        if away > reach or away < 1e-6:
            continue
        # Only the core counts: rays that graze an object's outline say nothing about it.
        core = max(0.25 * min(extents[o, 0], extents[o, 1], extents[o, 2]), 0.5 * resolution)
        margin = 0.5 * max(extents[o, 0], extents[o, 1], extents[o, 2]) + resolution
        # What lies within the robot's own error of the object's upper part may be the object.
        wide = slack + core
        through, stopped = 0, 0
        # Its outline, for whether it is in view at all: by its middle edge, from any side.
        small = min(extents[o, 0], extents[o, 1], extents[o, 2])
        large = max(extents[o, 0], extents[o, 1], extents[o, 2])
        middle = extents[o, 0] + extents[o, 1] + extents[o, 2] - small - large
        disc, ring = 0.35 * middle, 0.5 * large + slack
        width = np.arctan2(max(wide, 1.5 * ring), away)
        before, open_, corners = 0, 0, 0
        azimuth, elevation = _angles(vx, vy, vz)
        level = max(np.sqrt(vx * vx + vy * vy) / away, 0.05)
        da = np.int64(np.ceil(width / level / (2 * np.pi) * AZIMUTHS)) + 1
        de = np.int64(np.ceil(width / np.pi * ELEVATIONS)) + 1
        for a in range(azimuth - min(da, AZIMUTHS // 2 - 1), azimuth + min(da, AZIMUTHS // 2 - 1) + 1):
            row = (a % AZIMUTHS) * ELEVATIONS
            low, high = max(elevation - de, 0), min(elevation + de, ELEVATIONS - 1)
            for k in range(starts[row + low], starts[row + high + 1]):
                i = order[k]
                ux = np.float64(points[i, 0]) - origin[0]
                uy = np.float64(points[i, 1]) - origin[1]
                uz = np.float64(points[i, 2]) - origin[2]
                along = ux * vx + uy * vy + uz * vz
                if along <= 0.0:
                    continue
                length2 = ux * ux + uy * uy + uz * uz
                off = away * away - along * along / length2
                if off <= disc * disc:
                    before += np.sqrt(length2) < away - margin - slack
                    open_ += np.sqrt(length2) >= away - margin - slack
                elif ring * ring < off < 2.25 * ring * ring:
                    corners |= 1 << (2 * (ux * vy > uy * vx) + (uz * away > vz * np.sqrt(length2)))
                if off > wide * wide:
                    continue
                if off <= core * core and np.sqrt(length2) > away + margin:
                    through += 1
                elif off <= core * core or (
                    abs(ux - vx) <= 0.5 * extents[o, 0] + slack
                    and abs(uy - vy) <= 0.5 * extents[o, 1] + slack
                    and -0.15 * extents[o, 2] <= uz - vz <= 0.5 * extents[o, 2] + slack
                ):
                    stopped += 1
        if through >= MIN_RAYS and through >= SPARSE * stopped:
            result[o] = True
        if open_ >= CLEAR_RAYS and before <= HIDDEN * open_ and corners == 15 and away <= CLEAR_REACH:
            in_view[o] = True


def seen_empty(
    scans: Sequence[Scan],
    map_T_base: Pose,
    positions: NDArray[np.float64],
    extents: NDArray[np.float64],
    resolution: float,
    blind_radius: float,
    slack: float = 0.0,
    reach: float = 20.0,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Returns (O,) bool twice: the scans looked through the place of these objects; they are in full view.

    For cells whose state is known directly, the object's own cell is among them. For rays, nearly
    all of those towards the object's core end well behind it (nearer surfaces would occlude it, a
    surface at its place may be the object). In full view is what nothing hides and no border cuts: if
    it were there, a detector should have noticed it. Whoever calls leaves out what was detected.

    Args:
        scans: the percept's range evidence, base frame.
        map_T_base: pose of the base.
        positions: (O, 3) float64 centres of objects [m] in the map frame.
        extents: (O, 3) float64 [m].
        resolution: edge of a voxel [m].
        blind_radius: objects nearer to the base than this, seen from above, are never seen empty [m].
        slack: a surface this close to the object may be the object: error of the robot's pose [m].
        reach: objects farther away than this are never seen empty [m].
    """
    result, in_view = np.zeros(len(positions), bool), np.zeros(len(positions), bool)
    if len(positions) == 0:
        return result, in_view
    for scan in scans:
        if scan.origin is None:
            r, t = map_T_base.rotation(), map_T_base.position
            _mark_cells(scan.points, r, t, positions, resolution, result)
        elif len(scan.points):
            in_base = map_T_base.inverse().transform(positions)
            stride = -(-len(scan.points) // MAX_RAYS)
            origin = np.asarray(scan.origin, np.float64)
            _mark_rays(
                scan.points,
                origin,
                stride,
                in_base,
                extents,
                resolution,
                slack,
                float(reach),
                result,
                in_view,
            )
    offset = positions[:, :2] - map_T_base.position[:2]
    seen_whole = offset[:, 0] ** 2 + offset[:, 1] ** 2 >= blind_radius * blind_radius
    return result & seen_whole, in_view & seen_whole

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
CLEAR_RAYS, HIDDEN, CLEAR_REACH = 8, 0.5, 5.0
"""What is in view has so many rays, for each at most this many stopped before it, and is this near [m]."""
LARGE = 0.7
"""What is as large as this [m] shows itself by the labels of the rays that end in its box."""
SKIN = 0.1
"""So near to the faces of its box what is something else may be what it stands at, or on [m]."""
SIDES = 16
"""From so many sides a thing can be seen."""
AZIMUTHS, ELEVATIONS = 256, 128
"""Bins of one to two degrees."""

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
def _bin_of(x: float, y: float, z: float) -> tuple[int, int]:
    """Returns the bin of a direction: two ratios that grow with its azimuth and elevation.

    By a small angle they grow by at most as much, and by half as much or more.
    """
    across = np.sqrt(x * x + y * y)
    p = y / max(abs(x) + abs(y), 1e-12)
    p = 2.0 - p if x < 0.0 else (p if y >= 0.0 else 4.0 + p)
    q = 1.0 + z / max(abs(z) + across, 1e-12)
    a, e = np.int64(p / 4.0 * AZIMUTHS), np.int64(q / 2.0 * ELEVATIONS)
    return min(a, AZIMUTHS - 1), min(e, ELEVATIONS - 1)


@njit(cache=True, nogil=True, error_model="numpy")
def _aim(points: Array, origin: Array, r: Array, stride: int, turned: Array, bins: Array) -> None:
    """Turns the rays of a scan by `r` and finds their bins, as `_bin_of`; without branches, for speed.

    Args:
        points: (M, 3) float32 ends of the rays.
        origin: (3,) where they begin.
        r: (3, 3) rotation.
        stride: every n-th ray is taken.
        turned: (3, N) float32, filled.
        bins: (N,) int32, filled.
    """
    ox, oy, oz = origin[0], origin[1], origin[2]
    r00, r01, r02, r10, r11, r12 = r[0, 0], r[0, 1], r[0, 2], r[1, 0], r[1, 1], r[1, 2]
    r20, r21, r22 = r[2, 0], r[2, 1], r[2, 2]
    for k in range(bins.shape[0]):
        x = np.float64(points[k * stride, 0]) - ox
        y = np.float64(points[k * stride, 1]) - oy
        z = np.float64(points[k * stride, 2]) - oz
        turned[0, k] = r00 * x + r01 * y + r02 * z
        turned[1, k] = r10 * x + r11 * y + r12 * z
        turned[2, k] = r20 * x + r21 * y + r22 * z
    tiny, zero, one = np.float32(1e-12), np.float32(0.0), np.float32(1.0)
    turn, half = np.float32(AZIMUTHS / 4), np.float32(ELEVATIONS / 2)
    for k in range(bins.shape[0]):
        x, y, z = turned[0, k], turned[1, k], turned[2, k]
        p = y / max(abs(x) + abs(y), tiny)
        p = np.float32(2.0) - p if x < zero else (p if y >= zero else np.float32(4.0) + p)
        q = one + z / max(abs(z) + np.sqrt(x * x + y * y), tiny)
        a, e = np.int32(p * turn), np.int32(q * half)
        bins[k] = min(a, np.int32(AZIMUTHS - 1)) * np.int32(ELEVATIONS) + min(e, np.int32(ELEVATIONS - 1))


@njit(cache=True, nogil=True)
def _sort_rays(points: Array, origin: Array, r: Array, stride: int) -> tuple[Array, Array, Array]:
    """Returns the (3, N) rays from the sensor, turned by `r`; the last ray of each bin, and before each ray.

    -1 where there is none: a list by bin, which takes one pass to make.
    """
    count = (points.shape[0] + stride - 1) // stride
    turned, bins = np.empty((3, count), np.float32), np.empty(count, np.int32)
    _aim(points, origin, r, stride, turned, bins)
    last = np.full(AZIMUTHS * ELEVATIONS, np.int32(-1))
    before = np.empty(count, np.int32)
    for k in range(count):
        before[k] = last[bins[k]]
        last[bins[k]] = k
    return turned, last, before


@njit(cache=True, nogil=True)
def _entry(ux: float, uy: float, uz: float, v: Array, half: Array) -> float:
    """Returns where a ray enters a box, in lengths of the ray; infinity where it passes by."""
    first, last = 0.0, np.inf
    for i in range(3):
        u = ux if i == 0 else uy if i == 1 else uz
        if abs(u) < 1e-12:
            if abs(v[i]) > half[i]:
                return np.inf
            continue
        a, b = (v[i] - half[i]) / u, (v[i] + half[i]) / u
        first, last = max(first, min(a, b)), min(last, max(a, b))
    return first if first < last else np.inf


@njit(cache=True, nogil=True)
def _mark_rays(
    rays: Array,
    last: Array,
    before_it: Array,
    places: Array,
    extents: Array,
    resolution: float,
    slack: float,
    reach: float,
    result: Array,
    in_view: Array,
) -> None:
    for o in range(places.shape[0]):
        vx, vy, vz = places[o, 0], places[o, 1], places[o, 2]
        away = np.sqrt(vx * vx + vy * vy + vz * vz)
        if away > reach or away < 1e-6:
            continue
        # Only the core counts: rays that graze an object's outline say nothing about it.
        core = max(0.25 * min(extents[o, 0], extents[o, 1], extents[o, 2]), 0.5 * resolution)
        margin = 0.5 * max(extents[o, 0], extents[o, 1], extents[o, 2]) + resolution
        # What lies within the robot's own error of the object's upper part may be the object.
        wide = slack + core
        through, stopped = 0, 0
        half = 0.4 * np.maximum(extents[o], resolution)
        ring = 0.5 * max(extents[o, 0], extents[o, 1], extents[o, 2]) + slack
        before, open_, corners = 0, 0, 0
        width = max(wide, 1.5 * ring) / away
        azimuth, elevation = _bin_of(vx, vy, vz)
        level = max(np.sqrt(vx * vx + vy * vy) / away, 0.05)
        da = min(np.int64(np.ceil(width / level / 4.0 * AZIMUTHS)) + 1, AZIMUTHS // 2 - 1)
        de = np.int64(np.ceil(width / 2.0 * ELEVATIONS)) + 1
        low, high = max(elevation - de, 0), min(elevation + de, ELEVATIONS - 1)
        for a in range(azimuth - da, azimuth + da + 1):
            row = (a % AZIMUTHS) * ELEVATIONS
            bin_, k = row + low, last[row + low]
            while bin_ <= row + high:
                if k < 0:
                    bin_ += 1
                    if bin_ <= row + high:
                        k = last[bin_]
                    continue
                ux, uy, uz = np.float64(rays[0, k]), np.float64(rays[1, k]), np.float64(rays[2, k])
                k = before_it[k]
                along = ux * vx + uy * vy + uz * vz
                if along <= 0.0:
                    continue
                length2 = ux * ux + uy * uy + uz * uz
                off = away * away - along * along / length2
                if off >= 2.25 * ring * ring and off > wide * wide:
                    continue
                length = np.sqrt(length2)
                if ring * ring < off < 2.25 * ring * ring:
                    corners |= 1 << (2 * (ux * vy > uy * vx) + (uz * away > vz * length))
                elif off <= ring * ring:
                    entry = _entry(ux, uy, uz, places[o], half)
                    if entry < np.inf:
                        # What ends in front of its near face hides it; a wall it stands at does, from behind.
                        before += length < entry * length - slack
                        open_ += length >= entry * length - slack
                if off > wide * wide:
                    continue
                if off <= core * core and length > away + margin:
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


@njit(cache=True, nogil=True)
def _count_inside(points: Array, labels: Array, r: Array, at: Array, half: Array, label: int) -> Array:
    """Returns how many points, turned by `r`, lie in a box with a label, and how many well inside without it.

    Args:
        points: (N, 3) float32 [m].
        labels: (N,) int32 of the points.
        r: (3, 3) rotation.
        at: (3,) centre of the box [m].
        half: (3,) half its edges [m].
        label: the label.
    """
    named, others = 0, 0
    for k in range(points.shape[0]):
        x, y, z = np.float64(points[k, 0]), np.float64(points[k, 1]), np.float64(points[k, 2])
        depth = np.inf
        for i in range(3):
            depth = min(depth, half[i] - abs(r[i, 0] * x + r[i, 1] * y + r[i, 2] * z - at[i]))
        named += depth >= 0.0 and labels[k] == label
        others += depth >= SKIN and labels[k] != label
    return np.array([named, others])


def shown_by_label(
    scans: Sequence[Scan],
    map_T_base: Pose,
    positions: NDArray[np.float64],
    extents: NDArray[np.float64],
    labels: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Returns (O,) bool: most of what the rays meet at these large objects' places has their label.

    A detector leaves out what is cut or half hidden; its pixels are there all the same. Of what is smaller
    than `LARGE` the robot's own error is too large a part to say so. The wall behind a desk's legs and the
    floor below it lie at the faces of its box: there, only the thing itself counts.

    Args:
        scans: the percept's range evidence, base frame.
        map_T_base: pose of the base.
        positions: (O, 3) float64 centres of objects [m] in the map frame.
        extents: (O, 3) float64 [m].
        labels: (O,) int64 label ids of the objects.
    """
    counts = np.zeros((len(positions), 2), np.int64)
    for o in np.flatnonzero(extents.max(axis=1, initial=0.0) >= LARGE).tolist():
        at, half = positions[o] - map_T_base.position, extents[o] / 2
        for scan in scans:
            if scan.origin is not None:
                rotation = map_T_base.rotation()
                counts[o] += _count_inside(scan.points, scan.labels, rotation, at, half, int(labels[o]))
    return (counts[:, 0] >= CLEAR_RAYS) & (counts[:, 0] > counts[:, 1])


def sides_of(offsets: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns (N,) int64 below `SIDES`: from which side a sensor looks, by (N, 3) offsets to it."""
    x, y = offsets[:, 0], offsets[:, 1]
    p = y / np.maximum(np.abs(x) + np.abs(y), 1e-12)
    p = np.where(x < 0.0, 2.0 - p, np.where(y >= 0.0, p, 4.0 + p))
    return np.minimum((p / 4.0 * SIDES).astype(np.int64), SIDES - 1)


def around(sides: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns (N,) int64: bits of sides and of their neighbours."""
    before, after = (sides + SIDES - 1) % SIDES, (sides + 1) % SIDES
    return (1 << sides) | (1 << before) | (1 << after)


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
    """Returns (O,) bool twice: the scans looked through the place of these objects; they are in view.

    For cells whose state is known directly, the object's own cell is among them. For rays, nearly
    all of those towards the object's core end well behind it (nearer surfaces would occlude it, a
    surface at its place may be the object). In view is what little hides and no border cuts: if it were
    there, a detector should have noticed it. Whoever calls leaves out what was detected.

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
            stride = -(-len(scan.points) // MAX_RAYS)
            origin = np.asarray(scan.origin, np.float64)
            rays, last, before = _sort_rays(scan.points, origin, map_T_base.rotation(), stride)
            _mark_rays(
                rays,
                last,
                before,
                positions - map_T_base.transform(origin),
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

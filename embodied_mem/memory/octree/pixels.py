"""Numba kernels that prepare depth images: valid pixels and ends of rays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.crew import take_side

Array = NDArray[Any]

PAD = 64
"""As in `dense`."""
_HIT = np.uint8(2)
"""HIT of `kernels`."""
ROWS = 24
"""Rows of an image that a thread takes at a time."""
JUMP = 0.03
"""A change of depth from pixel to pixel, as a part of it, that no surface seen by a camera has."""


class Picture(NamedTuple):
    """A depth image and where it was taken.

    Attributes:
        depth: (H, W) float32 planar depth [m].
        no_surface: the kind of +inf pixels, 0 or 1.
        drop_flying: give flying pixels kind 0.
        fx, fy, cx, cy: pinhole parameters [px].
        rotation: (3, 3) float64 map_R_camera.
        position: (3,) float64 of the camera in the map [m].
        origin: (3,) float32, the same.
        max_range: [m]; rays are cut there.
        horizon: planar depth of pixels that see no surface [m], beyond the range.
    """

    depth: Array
    no_surface: int
    drop_flying: bool
    fx: float
    fy: float
    cx: float
    cy: float
    rotation: Array
    position: Array
    origin: Array
    max_range: float
    horizon: float


@njit(cache=True, nogil=True)
def judge_pixels(
    depth: Array, no_surface: int, drop_flying: bool, kinds: Array, first: int, last: int
) -> None:
    """Tells what the pixels of some rows of a depth image say (REP-117).

    A flying pixel is an average over a depth edge: it lies between its left and right, or its
    upper and lower, neighbours, with a jump to both.

    Args:
        depth: (H, W) float32 planar depth [m].
        no_surface: the kind of +inf pixels, 0 or 1.
        drop_flying: give flying pixels kind 0.
        kinds: (H, W) uint8, filled: 0 nothing, 1 free up to the range, 2 a surface.
        first: first row.
        last: the one after the last row.
    """
    height, width = depth.shape
    zero, endless = np.float32(0.0), np.float32(np.inf)
    nothing, clear, surface = np.uint8(0), np.uint8(no_surface), np.uint8(2)
    for v in range(first, last):
        row, out = depth[v], kinds[v]
        for u in range(width):
            z = row[u]
            out[u] = surface if (z > zero) & (z < endless) else (clear if z == endless else nothing)
        if not drop_flying:
            continue
        if width > 2:  # slices: places that may be negative would keep the compiler from vectorising
            _drop_between(row[1:-1], row[:-2], row[2:], out[1:-1])
        if 0 < v < height - 1:
            _drop_between(row, depth[v - 1], depth[v + 1], out)


@njit(cache=True, nogil=True)
def _drop_between(row: Array, before: Array, after: Array, kinds: Array) -> None:
    """Gives kind 0 to pixels that lie between their neighbours, (W,) each, with a jump to both."""
    jump, zero = np.float32(JUMP), np.float32(0.0)
    for u in range(row.shape[0]):
        z = row[u]
        a, b = z - before[u], after[u] - z
        flying = (a * b > zero) & (abs(a) > jump * z) & (abs(b) > jump * z) & (kinds[u] == np.uint8(2))
        kinds[u] = np.uint8(0) if flying else kinds[u]


def pixel_kinds(depth: Array, no_surface: int, drop_flying: bool) -> NDArray[np.uint8]:
    """Returns (H, W) uint8, what each pixel of a depth image says: see `judge_pixels`."""
    kinds = np.empty(depth.shape, np.uint8)
    judge_pixels(depth, no_surface, drop_flying, kinds, 0, len(depth))
    return kinds


@njit(cache=True, nogil=True, error_model="numpy")
def lift_depth(
    depth: Array, kinds: Array, fx: float, fy: float, cx: float, cy: float, rotation: Array, position: Array,
    origin: Array, max_range: float, horizon: float, points: Array, reach: Array, first: int, last: int
) -> None:  # fmt: skip
    """Computes where the ray of each pixel ends, in the map and along the optical axis.

    Args:
        depth: (H, W) float32 planar depth [m].
        kinds: (H, W) uint8: 0 no ray, 1 nothing within range, 2 a surface; lowered to 1 where
            the surface is out of range.
        fx: focal length [px].
        fy: focal length [px].
        cx: principal point [px].
        cy: principal point [px].
        rotation: (3, 3) float64 map_R_camera.
        position: (3,) float64 of the camera in the map [m].
        origin: (3,) float32, the same.
        max_range: [m]; rays are cut there.
        horizon: planar depth of pixels that see no surface [m], beyond the range.
        points: (3, H, W) float32, filled with the ends [m]; the camera where there is no ray.
        reach: (H, W) float32, filled with the planar depth of the ends; -1 where there is no ray.
        first: first row to lift.
        last: the one after the last row.
    """
    r00, r01, r02 = rotation[0, 0], rotation[0, 1], rotation[0, 2]
    r10, r11, r12 = rotation[1, 0], rotation[1, 1], rotation[1, 2]
    r20, r21, r22 = rotation[2, 0], rotation[2, 1], rotation[2, 2]
    tx, ty, tz = position[0], position[1], position[2]
    ox, oy, oz = origin[0], origin[1], origin[2]
    within, columns = _largest_square(max_range), np.empty(depth.shape[1])
    for u in range(depth.shape[1]):
        columns[u] = (np.float64(u) - cx) / fx
    for v in range(first, last):
        b, longer = (np.float64(v) - cy) / fy, np.int32(0)
        row, seen, ends = depth[v], kinds[v], reach[v]
        xs, ys, zs = points[0, v], points[1, v], points[2, v]
        for u in range(depth.shape[1]):
            a, kind = columns[u], seen[u]
            z = np.float64(row[u]) if kind == 2 else (horizon if kind == 1 else 1.0)
            x, y = a * z, b * z
            px = np.float32(r00 * x + r01 * y + r02 * z + tx)
            py = np.float32(r10 * x + r11 * y + r12 * z + ty)
            pz = np.float32(r20 * x + r21 * y + r22 * z + tz)
            dx, dy, dz = px - ox, py - oy, pz - oz
            longer |= np.int32((kind != 0) & (dx * dx + dy * dy + dz * dz > within))
            xs[u], ys[u], zs[u] = ox if kind == 0 else px, oy if kind == 0 else py, oz if kind == 0 else pz
            ends[u] = np.float32(-1.0) if kind == 0 else np.float32(z)
        if longer:
            _cut_rays(xs, ys, zs, origin, max_range, within, row, horizon, seen, ends)


@njit(cache=True, nogil=True)
def _largest_square(reach: float) -> float:
    """Returns the largest float32 whose root is not beyond `reach`: the square of a length within it."""
    if reach == np.inf:
        return np.float32(np.inf)
    square = np.float32(reach * reach)
    while np.sqrt(np.float64(square)) > reach:
        square = np.nextafter(square, np.float32(0.0))
    while np.sqrt(np.float64(np.nextafter(square, np.float32(np.inf)))) <= reach:
        square = np.nextafter(square, np.float32(np.inf))
    return square


@njit(cache=True, nogil=True, error_model="numpy")
def _cut_rays(
    xs: Array, ys: Array, zs: Array, origin: Array, max_range: float, within: float, row: Array,
    horizon: float, kinds: Array, ends: Array
) -> None:  # fmt: skip
    """Moves the ends of the rays of one row that are too long to the range; see `lift_depth`.

    Args:
        xs: (W,) float32, the ends [m], changed.
        ys: likewise.
        zs: likewise.
        origin: (3,) float32, of the rays [m].
        max_range: [m].
        within: of `_largest_square`.
        row: (W,) float32 planar depth of the pixels [m].
        horizon: planar depth of pixels that see no surface [m].
        kinds: (W,) uint8, lowered to 1.
        ends: (W,) float32 planar depth of the ends [m], changed.
    """
    ox, oy, oz, limit = origin[0], origin[1], origin[2], np.float32(max_range)
    for u in range(xs.shape[0]):
        dx, dy, dz = xs[u] - ox, ys[u] - oy, zs[u] - oz
        square, kind = dx * dx + dy * dy + dz * dz, kinds[u]
        beyond = (kind != 0) & (square > within)
        far = np.sqrt(np.float64(square))
        length, z = np.float32(far), np.float64(row[u]) if kind == 2 else horizon
        xs[u] = ox + dx / length * limit if beyond else xs[u]
        ys[u] = oy + dy / length * limit if beyond else ys[u]
        zs[u] = oz + dz / length * limit if beyond else zs[u]
        ends[u] = np.float32(z * max_range / far) if beyond else ends[u]
        kinds[u] = 1 if beyond else kind


@njit(cache=True, nogil=True)
def ray_bounds(
    reach: Array, fx: float, fy: float, cx: float, cy: float, rotation: Array, position: Array, first: int,
    last: int
) -> tuple[Array, Array]:  # fmt: skip
    """Bounds the ends of the rays of some rows of a depth image, from the farthest of each few columns.

    Args:
        reach: (H, W) float32 of `lift_depth`.
        fx: focal length [px].
        fy: focal length [px].
        cx: principal point [px].
        cy: principal point [px].
        rotation: (3, 3) float64 map_R_camera.
        position: (3,) float64 of the camera in the map [m].
        first: first row.
        last: the one after the last row.

    Returns:
        lower and upper corner of a box around the camera and all ends, (3,) float64 each [m].
    """
    bits = reach.view(np.int32)  # positive floats are ordered like their bits
    farthest = np.zeros(1, np.int32)
    lo, hi = position.copy(), position.copy()
    step = (reach.shape[1] + 7) // 8
    for v in range(first, last):
        for u in range(0, reach.shape[1], step):
            end = min(u + step, reach.shape[1])
            row, most = bits[v, u:end], np.int32(0)
            for k in range(row.shape[0]):
                most = np.int32(max(most, row[k]))
            farthest[0] = most
            z, b = np.float64(farthest.view(np.float32)[0]), (v - cy) / fy
            for a in ((u - cx) / fx, (end - 1 - cx) / fx):
                for i in range(3):
                    p = z * (rotation[i, 0] * a + rotation[i, 1] * b + rotation[i, 2]) + position[i]
                    lo[i], hi[i] = min(lo[i], p), max(hi[i], p)
    return lo, hi


@njit(cache=True, nogil=True)
def lift_rows(
    picture: Picture, kinds: Array, points: Array, reach: Array, gates: Array, gate: int, hand: int
) -> tuple[float, float, float, float, float, float, int]:  # fmt: skip
    """Judges and lifts rows of a depth image, as many as it gets: `judge_pixels`, `lift_depth`, `ray_bounds`.

    Args:
        picture: the image.
        kinds: (H, W) uint8, filled.
        points: (3, H, W) float32, filled.
        reach: (H, W) float32, filled.
        gates: of `crew.make_gates`; ROWS rows are taken at a time.
        gate: where.
        hand: number of this thread.

    Returns:
        the corners of `ray_bounds`, lower and upper, and how many pixels have a ray.
    """
    depth, fx, fy, cx, cy = picture.depth, picture.fx, picture.fy, picture.cx, picture.cy
    rotation, position = picture.rotation, picture.position
    low, high, rays = position.copy(), position.copy(), np.int64(0)
    parts = (depth.shape[0] + ROWS - 1) // ROWS
    part = take_side(gates, gate, parts, hand)
    while part >= 0:
        first, last = part * ROWS, min((part + 1) * ROWS, depth.shape[0])
        judge_pixels(depth, picture.no_surface, picture.drop_flying, kinds, first, last)
        lift_depth(
            depth, kinds, fx, fy, cx, cy, rotation, position, picture.origin, picture.max_range,
            picture.horizon, points, reach, first, last,
        )  # fmt: skip
        lo, hi = ray_bounds(reach, fx, fy, cx, cy, rotation, position, first, last)
        for i in range(3):
            low[i], high[i] = min(low[i], lo[i]), max(high[i], hi[i])
        for v in range(first, last):
            row, count = kinds[v], np.int32(0)
            for u in range(row.shape[0]):
                count += np.int32(row[u] > 0)
            rays += np.int64(count)
        part = take_side(gates, gate, parts, hand)
    return low[0], low[1], low[2], high[0], high[1], high[2], rays


@njit(cache=True, nogil=True)
def mark_surfaces(
    points: Array, kinds: Array, lo: Array, strides: Array, inverse: float, cells: Array, ends: Array,
    first: int, last: int
) -> None:  # fmt: skip
    """Marks HIT the cells in which some rays end on a surface.

    Args:
        points: (3, N) float32 [m].
        kinds: (N,) uint8, 2 where a surface was met.
        lo: (3,) int64 first voxel of the byte map.
        strides: (3,) int64.
        inverse: 1 / resolution.
        cells: the byte map.
        ends: (N,) int32, filled with the cells, 0 for none.
        first: first ray.
        last: the one after the last ray.
    """
    sx, sy = np.int32(strides[0]), np.int32(strides[1])
    lx, ly, lz = np.float64(lo[0]), np.float64(lo[1]), np.float64(lo[2])
    xs, ys, zs = points[0, first:last], points[1, first:last], points[2, first:last]
    sorts, places = kinds[first:last], ends[first:last]
    for i in range(sorts.shape[0]):
        x = np.int32(np.floor(np.float64(xs[i]) * inverse) - lx)
        y = np.int32(np.floor(np.float64(ys[i]) * inverse) - ly)
        z = np.int32(np.floor(np.float64(zs[i]) * inverse) - lz)
        cell = np.int32(PAD) + x * sx + y * sy + z
        places[i] = cell if sorts[i] == 2 else np.int32(0)
    for i in range(sorts.shape[0]):
        cells[places[i]] = _HIT


@njit(cache=True, nogil=True)
def join_bounds(found: Array, resolution: float, world: float) -> tuple[Array, Array, int]:
    """Joins what `lift_rows` found in parts of an image.

    Args:
        found: (P, 7) float64.
        resolution: edge of a voxel [m].
        world: largest voxel index that can be stored.

    Returns:
        first and last voxel that a ray touches, (3,) int64 each, and how many pixels have a ray; -1
        where rays leave the world.
    """
    lo, hi, inside = np.empty(3, np.int64), np.empty(3, np.int64), True
    for i in range(3):
        low, high = found[:, i].min() / resolution, found[:, 3 + i].max() / resolution
        inside &= -world < low and high < world  # False for NaN
        lo[i] = np.int64(np.floor(low if inside else 0.0)) - 1
        hi[i] = np.int64(np.floor(high if inside else 0.0)) + 1
    return lo, hi, np.int64(found[:, 6].sum()) if inside else np.int64(-1)

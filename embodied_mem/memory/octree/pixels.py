"""Numba kernels that prepare depth images: valid pixels and ends of rays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

PAD = 64
"""As in `dense`."""
_HIT = np.uint8(2)
"""HIT of `kernels`."""
LEVELS = 8
"""Of the pyramid of the image's farthest depths; the last one is 1/128 of its size."""
JUMP = 0.03
"""A change of depth from pixel to pixel, as a part of it, that no surface seen by a camera has."""


@njit(cache=True, nogil=True)
def pixel_kinds(depth: Array, no_surface: int, drop_flying: bool) -> Array:
    """Tells what each pixel of a depth image says (REP-117).

    A flying pixel is an average over a depth edge: it lies between its left and right, or its
    upper and lower, neighbours, with a jump to both.

    Args:
        depth: (H, W) float32 planar depth [m].
        no_surface: the kind of +inf pixels, 0 or 1.
        drop_flying: give flying pixels kind 0.

    Returns:
        (H, W) uint8: 0 nothing, 1 free up to the range, 2 a surface.
    """
    height, width = depth.shape
    kinds = np.empty((height, width), np.uint8)
    for v in range(height):
        for u in range(width):
            z = depth[v, u]
            valid = (z > np.float32(0.0)) & (z < np.float32(np.inf))
            kinds[v, u] = 2 if valid else (no_surface if z == np.float32(np.inf) else 0)
    if drop_flying:
        jump = np.float32(JUMP)
        for v in range(height):
            for u in range(1, width - 1):
                z = depth[v, u]
                a, b = z - depth[v, u - 1], depth[v, u + 1] - z
                flying = (a * b > np.float32(0.0)) & (abs(a) > jump * z) & (abs(b) > jump * z)
                kinds[v, u] = 0 if flying & (kinds[v, u] == 2) else kinds[v, u]
        for v in range(1, height - 1):
            for u in range(width):
                z = depth[v, u]
                a, b = z - depth[v - 1, u], depth[v + 1, u] - z
                flying = (a * b > np.float32(0.0)) & (abs(a) > jump * z) & (abs(b) > jump * z)
                kinds[v, u] = 0 if flying & (kinds[v, u] == 2) else kinds[v, u]
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
    limit = np.float32(max_range)
    for v in range(first, last):
        b = (np.float64(v) - cy) / fy
        for u in range(depth.shape[1]):
            a = (np.float64(u) - cx) / fx
            kind = kinds[v, u]
            z = np.float64(depth[v, u]) if kind == 2 else (horizon if kind == 1 else 1.0)
            x, y = a * z, b * z
            px = np.float32(r00 * x + r01 * y + r02 * z + tx)
            py = np.float32(r10 * x + r11 * y + r12 * z + ty)
            pz = np.float32(r20 * x + r21 * y + r22 * z + tz)
            dx, dy, dz = px - ox, py - oy, pz - oz
            far = np.sqrt(np.float64(dx * dx + dy * dy + dz * dz))
            beyond = far > max_range
            length = np.float32(far)
            points[0, v, u] = ox if kind == 0 else (ox + dx / length * limit if beyond else px)
            points[1, v, u] = oy if kind == 0 else (oy + dy / length * limit if beyond else py)
            points[2, v, u] = oz if kind == 0 else (oz + dz / length * limit if beyond else pz)
            end = np.float32(z * max_range / far if beyond else z)
            reach[v, u] = np.float32(-1.0) if kind == 0 else end
            kinds[v, u] = 1 if (kind == 2) & beyond else kind


@njit(cache=True, nogil=True)
def mark_surfaces(
    points: Array, kinds: Array, lo: Array, strides: Array, inverse: float, cells: Array, ends: Array
) -> None:
    """Marks HIT the cells in which rays end on a surface.

    Args:
        points: (3, N) float32 [m].
        kinds: (N,) uint8, 2 where a surface was met.
        lo: (3,) int64 first voxel of the byte map.
        strides: (3,) int64.
        inverse: 1 / resolution.
        cells: the byte map.
        ends: (N,) int32, filled with the cells, 0 for none.
    """
    sx, sy = np.int32(strides[0]), np.int32(strides[1])
    lx, ly, lz = np.float64(lo[0]), np.float64(lo[1]), np.float64(lo[2])
    for i in range(kinds.shape[0]):
        x = np.int32(np.floor(np.float64(points[0, i]) * inverse) - lx)
        y = np.int32(np.floor(np.float64(points[1, i]) * inverse) - ly)
        z = np.int32(np.floor(np.float64(points[2, i]) * inverse) - lz)
        cell = np.int32(PAD) + x * sx + y * sy + z
        ends[i] = cell if kinds[i] == 2 else np.int32(0)
    for i in range(kinds.shape[0]):
        cells[ends[i]] = _HIT


def pyramid_layout(height: int, width: int) -> tuple[NDArray[np.int64], int]:
    """Returns start, height and width of each level (LEVELS, 3), and the size of all."""
    layout, size = [], 0
    for _ in range(LEVELS):
        layout.append((size, height, width))
        size += height * width
        height, width = (height + 1) // 2, (width + 1) // 2
    return np.array(layout, np.int64), size


@njit(cache=True, nogil=True)
def farthest_pyramid(reach: Array, pyramid: Array, offsets: Array) -> None:
    """Builds the levels of largest depths: level l has one number for 2^l x 2^l pixels.

    Args:
        reach: (H, W) float32.
        pyramid: flat float32, filled.
        offsets: (LEVELS, 3) int64: start of each level in `pyramid`, its height and width.
    """
    height, width = reach.shape
    for level in range(LEVELS):
        at, rows, columns = offsets[level, 0], offsets[level, 1], offsets[level, 2]
        if level == 0:
            pyramid[: height * width] = reach.reshape(-1)
            continue
        below, h, w = offsets[level - 1, 0], offsets[level - 1, 1], offsets[level - 1, 2]
        for v in range(rows):
            top = below + 2 * v * w
            bottom = top + w if 2 * v + 1 < h else top
            for u in range(columns):
                right = 2 * u + 1 if 2 * u + 1 < w else 2 * u
                a = max(pyramid[top + 2 * u], pyramid[top + right])
                b = max(pyramid[bottom + 2 * u], pyramid[bottom + right])
                pyramid[at + v * columns + u] = max(a, b)


@njit(cache=True, nogil=True)
def select_rays(points: Array, reach: Array, starts: Array) -> tuple[Array, Array]:
    """Selects the rays that are to be followed.

    Args:
        points: (3, N) float32, ends of the rays [m].
        reach: (N,) float32, their planar depth [m]; -1 where there is no ray.
        starts: (N,) float32, from which depth on each is to be followed [m].

    Returns:
        ends (M, 3) float32 [m], and the part (M,) float32 of each ray that is to be left out.
    """
    count = 0
    for i in range(reach.shape[0]):
        count += reach[i] > starts[i]
    ends, skips = np.empty((count, 3), np.float32), np.empty(count, np.float32)
    n = 0
    for i in range(reach.shape[0]):
        if reach[i] > starts[i]:
            ends[n, 0], ends[n, 1], ends[n, 2] = points[0, i], points[1, i], points[2, i]
            skips[n] = max(starts[i] - np.float32(1e-3), np.float32(0.0)) / reach[i]
            n += 1
    return ends, skips

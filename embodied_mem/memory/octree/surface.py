"""Numba kernels that list the distinct voxels in which the pixels of a depth image lie."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

PAD = 64
"""As in `dense`."""


class Lens(NamedTuple):
    """A pinhole camera in the map, in the numbers that lift its pixels.

    Attributes:
        columns: (W,) float64 x of each column's ray at 1 m of depth [m].
        rows: (H,) float64 y of each row's ray at 1 m of depth [m].
        rotation: (3, 3) float64 map_R_camera.
        position: (3,) float64 of the camera in the map [m].
        inverse: 1 / resolution.
        horizon: planar depth of pixels that see no surface [m].
    """

    columns: Array
    rows: Array
    rotation: Array
    position: Array
    inverse: float
    horizon: float


@njit(cache=True, nogil=True)
def view_bounds(depth: Array, kinds: Array, lens: Lens) -> tuple[Array, Array]:
    """Bounds the points of a depth image, row by row.

    Args:
        depth: (H, W) float32 planar depth [m].
        kinds: (H, W) uint8 of `pixel_kinds`.
        lens: the camera.

    Returns:
        lower and upper corner of a box around the camera and all points, (3,) float64 each [m].
    """
    bits = depth.view(np.int32)  # positive floats are ordered like their bits
    farthest = np.empty(1, np.float32)
    seen = farthest.view(np.int32)
    lo, hi = lens.position.copy(), lens.position.copy()
    for v in range(depth.shape[0]):
        most, clear = np.int32(0), np.uint8(0)
        for u in range(depth.shape[1]):
            most = max(most, bits[v, u] if kinds[v, u] == 2 else np.int32(0))
            clear |= np.uint8(kinds[v, u] & 1)
        seen[0] = most
        z = np.float64(farthest[0])
        z = max(z, lens.horizon) if clear else z
        for u in (0, depth.shape[1] - 1):
            for a in range(3):
                r = lens.rotation
                p = z * (r[a, 0] * lens.columns[u] + r[a, 1] * lens.rows[v] + r[a, 2]) + lens.position[a]
                lo[a], hi[a] = min(lo[a], p), max(hi[a], p)
    return lo, hi


@njit(cache=True, nogil=True)
def _cell(lens: Lens, z: float, u: int, v: int, lo: Array, strides: Array) -> int:
    """Finds the cell of a pixel as `lift_depth` and `mark_surfaces` do, in the same roundings."""
    x, y, r, t = lens.columns[u] * z, lens.rows[v] * z, lens.rotation, lens.position
    cell = np.int64(PAD)
    for a in range(3):
        p = np.float32(r[a, 0] * x + r[a, 1] * y + r[a, 2] * z + t[a])
        cell += (np.int64(np.floor(np.float64(p) * lens.inverse)) - lo[a]) * strides[a]
    return cell


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"}, error_model="numpy")
def _cells_of_row(
    depth: Array, kinds: Array, kind: int, horizon: float, columns: Array, line: Array, cells: Array
) -> int:
    """Finds the cells of a row's pixels in float32, and -1 where that cannot tell.

    Args:
        depth: (W,) float32.
        kinds: (W,) uint8.
        kind: which pixels to take; the others get cell 0.
        horizon: float32 depth of pixels of kind 1.
        columns: (W,) float32 of `Lens`.
        line: (12,) float32: per axis the slope of a column, the row's ray, and the camera less half
            a voxel [voxels]; then the strides along x and y and how far from a voxel's middle
            float32 can tell.
        cells: (W,) int32, filled.

    Returns:
        0 where all are certain.
    """
    rx, ry, rz, bx, by, bz = line[0], line[1], line[2], line[3], line[4], line[5]
    tx, ty, tz, sx, sy, limit = line[6], line[7], line[8], line[9], line[10], line[11]
    pad = np.float32(PAD)
    chosen, clear = np.uint8(kind), kind == 1
    unsure = np.int32(0)
    for u in range(columns.shape[0]):
        taken = kinds[u] == chosen
        z = horizon if clear else depth[u]
        z = z if taken else np.float32(0.0)
        a = columns[u]
        x, y, w = z * (rx * a + bx) + tx, z * (ry * a + by) + ty, z * (rz * a + bz) + tz
        fx, fy, fz = np.rint(x), np.rint(y), np.rint(w)
        doubt = max(max(abs(x - fx), abs(y - fy)), abs(w - fz)) > limit
        cell = np.int32(pad + fx * sx + fy * sy + fz)
        cell = np.int32(-1) if doubt else cell
        cells[u] = cell if taken else np.int32(0)
        unsure = np.int32(unsure | np.int32(doubt & taken))
    return unsure


@njit(cache=True, nogil=True)
def surface_cells(
    depth: Array, kinds: Array, kind: int, lens: Lens, lo: Array, strides: Array, eps: float, cells: Array
) -> None:
    """Finds the cells of a byte map in which the pixels of a kind lie.

    Args:
        depth: (H, W) float32 planar depth [m].
        kinds: (H, W) uint8 of `pixel_kinds`.
        kind: 1 or 2; pixels of kind 1 lie at the horizon.
        lens: the camera.
        lo: (3,) int64 first voxel of the byte map.
        strides: (3,) int64 cells per voxel along each axis.
        eps: nearer than this to a voxel's face float32 is not to be trusted [voxels].
        cells: (H, W) int32, filled; 0 for pixels of other kinds.
    """
    line = np.empty(12, np.float32)
    r = lens.rotation
    columns = lens.columns.astype(np.float32)
    line[9], line[10], line[11] = strides[0], strides[1], 0.5 - eps
    horizon = np.float32(lens.horizon)
    for a in range(3):
        line[a] = r[a, 0] * lens.inverse
        line[6 + a] = lens.position[a] * lens.inverse - lo[a] - 0.5
    for v in range(depth.shape[0]):
        for a in range(3):
            line[3 + a] = (r[a, 1] * lens.rows[v] + r[a, 2]) * lens.inverse
        if _cells_of_row(depth[v], kinds[v], kind, horizon, columns, line, cells[v]) == 0:
            continue
        for u in range(depth.shape[1]):
            if cells[v, u] < 0:
                z = np.float64(depth[v, u]) if kind == 2 else lens.horizon
                cells[v, u] = _cell(lens, z, u, v, lo, strides)


@njit(cache=True, nogil=True)
def name_cells(
    cells: Array, labels: Array, first: Array, lo: Array, strides: Array, resolution: float
) -> tuple[Array, Array]:
    """Lists the voxels of cells, in the order in which they first occur, and their labels.

    Args:
        cells: (N,) int32, 0 none.
        labels: (N,) int32.
        first: (C,) int32, zeros by cell; zeros again on return.
        lo: (3,) int64 first voxel of the byte map.
        strides: (3,) int64.
        resolution: edge of a voxel [m].

    Returns:
        centres (M, 3) float32 [m], and their labels (M,) int32 (Boyer-Moore majority of those that
        are known).
    """
    found, votes = np.empty(cells.shape[0], np.int32), np.empty(cells.shape[0] + 1, np.int32)
    names = np.empty(cells.shape[0] + 1, np.int32)
    count = np.int32(0)
    for i in range(cells.shape[0]):
        cell, label = cells[i], labels[i]
        if cell == 0:
            continue
        j = first[cell]
        if j == 0:
            found[count] = cell
            count += np.int32(1)
            first[cell] = j = count
            names[j], votes[j] = label, np.int32(label > 0)
        elif label > 0:
            if votes[j] == 0:
                names[j], votes[j] = label, 1
            else:
                votes[j] += np.int32(1) if names[j] == label else np.int32(-1)
    for j in range(count):
        first[found[j]] = 0
    return _centres(found[:count], lo, strides, resolution), np.maximum(names[1 : count + 1], 0)


@njit(cache=True, nogil=True)
def _centres(found: Array, lo: Array, strides: Array, resolution: float) -> Array:
    """Returns the (M, 3) float32 centres [m] of the voxels of (M,) cells."""
    centres = np.empty((found.shape[0], 3), np.float32)
    per_x, per_y = 1.0 / strides[0], 1.0 / strides[1]
    sx, sy = np.float64(strides[0]), np.float64(strides[1])
    for j in range(found.shape[0]):
        rest = np.float64(found[j] - PAD)
        x = np.floor((rest + 0.5) * per_x)
        rest -= x * sx
        y = np.floor((rest + 0.5) * per_y)
        centres[j, 0] = (x + lo[0] + 0.5) * resolution
        centres[j, 1] = (y + lo[1] + 0.5) * resolution
        centres[j, 2] = (rest - y * sy + lo[2] + 0.5) * resolution
    return centres


@njit(cache=True, nogil=True)
def distinct_cells(
    cells: Array, seen: Array, found: Array, lo: Array, strides: Array, resolution: float
) -> Array:
    """Lists the voxels of cells, in the order in which they first occur.

    Args:
        cells: (N,) int32, 0 none.
        seen: (C,) uint8, zeros by cell; zeros again on return.
        found: (N,) int32, scratch.
        lo: (3,) int64 first voxel of the byte map.
        strides: (3,) int64.
        resolution: edge of a voxel [m].

    Returns:
        centres (M, 3) float32 [m].
    """
    count = np.int32(0)
    seen[0] = 1
    for i in range(cells.shape[0]):
        if seen[cells[i]] == 0:
            found[count] = cells[i]
            count += 1
            seen[cells[i]] = 1
    seen[0] = 0
    for j in range(count):
        seen[found[j]] = 0
    return _centres(found[:count], lo, strides, resolution)

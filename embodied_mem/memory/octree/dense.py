"""Numba kernels that mark the voxels of a dense scan in a byte map of its bounding box.

The map of the world is not touched here, so that a scan's cost does not depend on
it. A ray is not walked voxel by voxel: its crossings with the x-, y- and z-planes
are three families, and the voxel entered at each crossing is a floor of a linear
function, computed for many crossings at once in float32. Where a crossing comes
closer to a voxel's edge than float32 can tell, the whole ray is walked in
OctoMap's arithmetic instead, so that the voxels are OctoMap's exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.frame import Frame

Array = NDArray[Any]

PAD = 64
"""Bytes before the first voxel of a byte map; rays that mark nothing write there."""
MAX_CELLS = 1 << 24
"""float32 counts exactly up to here."""
TILE = 256
CHUNK = 16
_FREE = np.uint8(1)
"""FREE of `kernels`."""


@njit(cache=True, nogil=True)
def _walk(cells: Array, frame: Frame, lines: Array, j: int, goal: int) -> None:
    """Marks ray j of a tile as `kernels` does, voxel by voxel, up to the cell `goal`."""
    step = np.empty(3, np.int64)
    t_next = np.full(3, np.inf)
    t_delta = np.full(3, np.inf)
    cell = PAD
    for a in range(3):
        here = np.float64(frame.start[a])
        cell += frame.start[a] * frame.strides[a]
        d = np.float64(lines[a * TILE + j])
        sign = 1 if d > 0.0 else (-1 if d < 0.0 else 0)
        step[a] = sign * frame.strides[a]
        if sign != 0:
            border = (here + np.float64(frame.lo[a]) + 0.5) * frame.resolution
            border += np.float64(np.float32(sign * frame.resolution * 0.5))
            t_next[a] = (border - np.float64(frame.origin[a])) / d
            t_delta[a] = frame.resolution / abs(d)
    length = np.float64(lines[3 * TILE + j])
    tx, ty, tz = t_next[0], t_next[1], t_next[2]
    while True:
        cells[cell] = _FREE
        if tx < ty:
            if tx < tz:
                cell += step[0]
                tx += t_delta[0]
            else:
                cell += step[2]
                tz += t_delta[2]
        elif ty < tz:
            cell += step[1]
            ty += t_delta[1]
        else:
            cell += step[2]
            tz += t_delta[2]
        if cell == goal or min(tx, ty, tz) > length:
            return


@njit(cache=True, nogil=True, inline="always")
def _in_world(x: float, y: float, z: float, inverse: float, world: float) -> bool:
    """Tells whether a point's voxel can be stored; not where a coordinate is not finite."""
    inside = (abs(np.float64(x)) * inverse < world) & (abs(np.float64(y)) * inverse < world)
    return inside & (abs(np.float64(z)) * inverse < world)


@njit(cache=True, nogil=True, error_model="numpy")
def _shorten(points: Array, count: int, frame: Frame, beyond: Array) -> None:
    """Moves the ends of rays that are longer than the range to the range, in float32 as OctoMap does.

    Args:
        points: (3, TILE) float32 [m], changed.
        count: how many.
        frame: the byte map's geometry.
        beyond: (TILE,) int32, filled: 1 for the rays that were longer.
    """
    beyond[:count] = 0
    if frame.max_range == np.inf:
        return
    ox, oy, oz = frame.origin[0], frame.origin[1], frame.origin[2]
    reach64, inverse, world = frame.max_range, frame.inverse, frame.world
    reach = np.float32(reach64)
    for j in range(count):
        px, py, pz = points[0, j], points[1, j], points[2, j]
        inside = _in_world(px, py, pz, inverse, world)
        rx, ry, rz = px - ox, py - oy, pz - oz
        far = np.sqrt(np.float64(rx * rx + ry * ry + rz * rz))
        longer = inside & (far > reach64)
        scale = np.float32(far)
        points[0, j] = ox + rx / scale * reach if longer else px
        points[1, j] = oy + ry / scale * reach if longer else py
        points[2, j] = oz + rz / scale * reach if longer else pz
        beyond[j] = np.int32(longer)


@njit(cache=True, nogil=True, error_model="numpy")
def prepare_rays(
    points: Array, hit: Array, frame: Frame, lines: Array, goals: Array, kinds: Array
) -> None:  # fmt: skip
    """Computes the families of crossings of a tile of rays, in OctoMap's float32 geometry.

    Row r of `lines` is lines[r * TILE : (r + 1) * TILE]: one flat array, so that the compiler
    sees that the rows do not overlap. Rows 0 to 2 and 3 are the ray's unit vector and length;
    then six rows for each axis u of x, y, z: the number of crossings with its planes, the step
    of u (+-1), the position along the axes v and w at the first crossing, half a voxel less, and
    their slopes.

    Args:
        points: (3, TILE) float32 [m]; by axis, or the compiler gathers what it could load. Rays that
            are longer than the range are shortened there.
        hit: (N,) bool, at most TILE.
        frame: the byte map's geometry.
        lines: (22 * TILE,) float32, filled.
        goals: (TILE,) int32, filled with the cell of the end.
        kinds: (TILE,) int32, filled: 0 dropped, 1 clears, 2 hits, plus 4 where rounding may
            decide which voxel is the end's.
    """
    inverse, low, high = frame.inverse, frame.eps, 1.0 - frame.eps
    ox, oy, oz = frame.origin[0], frame.origin[1], frame.origin[2]
    ax, ay, az = frame.at[0], frame.at[1], frame.at[2]
    sx, sy, sz = np.float64(frame.start[0]), np.float64(frame.start[1]), np.float64(frame.start[2])
    lx, ly, lz = np.float64(frame.lo[0]), np.float64(frame.lo[1]), np.float64(frame.lo[2])
    tx, ty, base, world = np.int32(frame.strides[0]), np.int32(frame.strides[1]), np.int32(PAD), frame.world
    _shorten(points, hit.shape[0], frame, kinds)
    for j in range(hit.shape[0]):
        px, py, pz = points[0, j], points[1, j], points[2, j]
        inside = _in_world(px, py, pz, inverse, world)
        rx, ry, rz = px - ox, py - oy, pz - oz
        length = np.float32(np.sqrt(np.float64(rx * rx + ry * ry + rz * rz)))
        rx, ry, rz = rx / length, ry / length, rz / length
        ex, ey, ez = np.float64(px) * inverse, np.float64(py) * inverse, np.float64(pz) * inverse
        fx, fy, fz = np.floor(ex), np.floor(ey), np.floor(ez)
        gx, gy, gz = ex - fx, ey - fy, ez - fz
        sure = (gx > low) & (gx < high) & (gy > low) & (gy < high) & (gz > low) & (gz < high)
        fx, fy, fz = fx - lx, fy - ly, fz - lz
        kind = np.int32(2) if hit[j] & (kinds[j] == 0) else np.int32(1)
        kind = kind if sure else kind + np.int32(4)
        kinds[j] = kind if inside else np.int32(0)
        goals[j] = base + np.int32(fx) * tx + np.int32(fy) * ty + np.int32(fz)
        lines[j] = rx
        lines[TILE + j] = ry
        lines[2 * TILE + j] = rz
        lines[3 * TILE + j] = length
        dx, dy, dz = np.float64(rx), np.float64(ry), np.float64(rz)
        ix, iy, iz = 1.0 / dx, 1.0 / dy, 1.0 / dz
        ux = 1.0 if fx > sx else -1.0
        t = (sx + (1.0 if fx > sx else 0.0) - ax) * ix
        lines[4 * TILE + j] = abs(fx - sx)
        lines[5 * TILE + j] = ux
        lines[6 * TILE + j] = ay - 0.5 + t * dy
        lines[7 * TILE + j] = az - 0.5 + t * dz
        lines[8 * TILE + j] = dy * ix * ux
        lines[9 * TILE + j] = dz * ix * ux
        uy = 1.0 if fy > sy else -1.0
        t = (sy + (1.0 if fy > sy else 0.0) - ay) * iy
        lines[10 * TILE + j] = abs(fy - sy)
        lines[11 * TILE + j] = uy
        lines[12 * TILE + j] = az - 0.5 + t * dz
        lines[13 * TILE + j] = ax - 0.5 + t * dx
        lines[14 * TILE + j] = dz * iy * uy
        lines[15 * TILE + j] = dx * iy * uy
        uz = 1.0 if fz > sz else -1.0
        t = (sz + (1.0 if fz > sz else 0.0) - az) * iz
        lines[16 * TILE + j] = abs(fz - sz)
        lines[17 * TILE + j] = uz
        lines[18 * TILE + j] = ax - 0.5 + t * dx
        lines[19 * TILE + j] = ay - 0.5 + t * dy
        lines[20 * TILE + j] = dx * iz * uz
        lines[21 * TILE + j] = dy * iz * uz


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"}, error_model="numpy")
def _cross(
    index: Array, lines: Array, at: int, skip: int, start: float, su: float, sv: float, sw: float,
    limit: float
) -> int:  # fmt: skip
    """Lists the voxels that a ray enters through one family of planes.

    Args:
        index: int32, filled with the cells, and up to CHUNK more after them.
        lines: what `prepare_rays` filled.
        at: where in `lines` the number of this ray's crossings is.
        skip: how many of them to leave out at the start.
        start: cell of the voxel at the origin, along this axis alone.
        su: cells per voxel along the family's axis.
        sv: along the next one.
        sw: along the third one.
        limit: a crossing farther than this from the middle of a voxel's face, which is half a
            voxel from its edge, is not to be trusted.

    Returns:
        0 where all crossings are to be trusted.
    """
    sign = lines[at + TILE]
    v0, w0 = lines[at + 2 * TILE], lines[at + 3 * TILE]
    dv, dw = lines[at + 4 * TILE], lines[at + 5 * TILE]
    forward = sign * su
    base = start + forward
    first, unsure = np.int32(skip), np.int32(0)
    for k in range((np.int64(lines[at]) - skip + CHUNK - 1) // CHUNK * CHUNK):
        step = np.float32(np.int32(first + np.int32(k)))  # of 64 bits AVX2 converts one at a time
        v = v0 + step * dv
        w = w0 + step * dw
        fv, fw = np.rint(v), np.rint(w)
        index[k] = np.int32(base + step * forward + fv * sv + fw * sw)
        unsure = np.int32(unsure | np.int32(max(abs(v - fv), abs(w - fw)) > limit))
    return unsure


@njit(cache=True, nogil=True, error_model="numpy")
def address_origin(frame: Frame) -> tuple[float, float, float, float, float, float, int, float]:
    """Returns what an index of a cell is made of, as the kernels that follow rays want it.

    Returns:
        the strides of x, y and z; each coordinate of the origin's cell times its stride, plus PAD, all
        float32; the origin's cell; how near to a voxel's middle a crossing must be to be sure of.
    """
    sx, sy, sz = np.float32(frame.strides[0]), np.float32(frame.strides[1]), np.float32(1.0)
    hx = np.float32(frame.start[0]) * sx + np.float32(PAD)
    hy = np.float32(frame.start[1]) * sy + np.float32(PAD)
    hz = np.float32(frame.start[2]) + np.float32(PAD)
    home = np.int32(hx + hy + hz - np.float32(2 * PAD))
    return sx, sy, sz, hx, hy, hz, home, np.float32(0.5) - np.float32(frame.eps)


@njit(cache=True, nogil=True)
def mark_rays(points: Array, hit: Array, skips: Array, frame: Frame, cells: Array, ends: Array) -> int:
    """Marks the voxels that rays pass FREE in a byte map, and says in which cells they end.

    Args:
        points: (N, 3) float32 [m].
        hit: (N,) bool.
        skips: (N,) float32, the part of each ray that needs no marks at its start, or (0,) for none.
        frame: the byte map's geometry.
        cells: the byte map, uint8; its bytes before PAD are scratch.
        ends: (N,) int32, filled with the cell in which each ray ends on something, else 0.

    Returns:
        how many rays had to be walked voxel by voxel.
    """
    edges = frame.strides[0] // frame.strides[1] + frame.strides[1] + cells.shape[0] // frame.strides[0]
    index = np.empty(edges + 3 * CHUNK, np.int32)
    where = index.view(np.uint32)  # unsigned indices spare a check for negative ones
    tile = np.empty((3, TILE), np.float32)
    lines = np.empty(22 * TILE, np.float32)
    goals = np.empty(TILE, np.int32)
    kinds = np.empty(TILE, np.int32)
    sx, sy, sz, hx, hy, hz, home, limit = address_origin(frame)
    two, zero = np.float32(2.0), np.float32(0.0)
    walked = 0
    for first in range(0, points.shape[0], TILE):
        size = min(TILE, points.shape[0] - first)
        # Slices: an offset that may be negative would keep the compiler from vectorising.
        last = first + size
        for j in range(size):
            tile[0, j] = points[first + j, 0]
            tile[1, j] = points[first + j, 1]
            tile[2, j] = points[first + j, 2]
        prepare_rays(tile, hit[first:last], frame, lines, goals, kinds)
        for j in range(size):
            goal, kind = goals[j], kinds[j]
            ends[first + j] = goal if kind & 2 else np.int32(0)
            if kind == 0 or goal == home or not lines[3 * TILE + j] > np.float32(0.0):
                continue
            before = cells[goal]
            cells[home] = _FREE
            nx, ny, nz = lines[4 * TILE + j], lines[10 * TILE + j], lines[16 * TILE + j]
            part = skips[first + j] if skips.shape[0] > 0 else np.float32(0.0)
            # A ray spans up to one voxel less than it crosses planes, and starts up to one before.
            x0 = np.int64(max(part * nx - two, zero))
            y0 = np.int64(max(part * ny - two, zero))
            z0 = np.int64(max(part * nz - two, zero))
            mx, my = np.int64(nx) - x0, np.int64(ny) - y0
            count = mx + my + np.int64(nz) - z0
            # Each family is written over the last one's excess.
            unsure = _cross(index, lines, 4 * TILE + j, x0, hx, sx, sy, sz, limit)
            unsure |= _cross(index[mx:], lines, 10 * TILE + j, y0, hy, sy, sz, sx, limit)
            unsure |= _cross(index[mx + my :], lines, 16 * TILE + j, z0, hz, sz, sx, sy, limit)
            if unsure == 0 and kind < 4:
                for k in range(np.uint64(count)):
                    cells[where[k]] = _FREE
            else:
                walked += 1
                _walk(cells, frame, lines, j, goal)
            cells[goal] = before  # the ray itself does not pass the voxel of its end
    return walked

"""Numba kernels that mark the voxels of a dense scan in a byte map of its bounding box.

The map of the world is not touched here, so that a scan's cost does not depend on
it. A ray is not walked voxel by voxel: its crossings with the x-, y- and z-planes
are three families, and the voxel entered at each crossing is a floor of a linear
function, computed for many crossings at once in float32. Where a crossing comes
closer to a voxel's edge than float32 can tell, the whole ray is walked in
OctoMap's arithmetic instead, so that the voxels are OctoMap's exactly.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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
LENGTHS = (1.5, 3.0, 4.5, 6.0, 8.0, 12.0, 20.0)
"""Rays in lockstep are followed for about as many voxels: those of each bin for up to so many."""
_FREE, _HIT = np.uint8(1), np.uint8(2)
"""FREE and HIT of `kernels`."""


class Tails(NamedTuple):
    """Scratch for a tile of rays in lockstep: see `_prepare`, `_want` and `_cross_back`.

    Attributes:
        lines: (22 * TILE,) float32.
        goals, kinds: (TILE,) int32.
        stops: (3 * TILE,) float32.
        found: (TILE,) int32, the cells found.
        unsure: (TILE,) int32.
    """

    lines: Array
    goals: Array
    kinds: Array
    stops: Array
    found: Array
    unsure: Array


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


@njit(cache=True, nogil=True, error_model="numpy")
def _prepare(
    points: Array, hit: Array, frame: Frame, lines: Array, goals: Array, kinds: Array
) -> None:  # fmt: skip
    """Computes the families of crossings of a tile of rays, in OctoMap's float32 geometry.

    Row r of `lines` is lines[r * TILE : (r + 1) * TILE]: one flat array, so that the compiler
    sees that the rows do not overlap. Rows 0 to 2 and 3 are the ray's unit vector and length;
    then six rows for each axis u of x, y, z: the number of crossings with its planes, the step
    of u (+-1), the position along the axes v and w at the first crossing, half a voxel less, and
    their slopes.

    Args:
        points: (3, TILE) float32 [m]; by axis, or the compiler gathers what it could load.
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
    reach64, world = frame.max_range, frame.world
    reach = np.float32(reach64)
    tx, ty, base = np.int32(frame.strides[0]), np.int32(frame.strides[1]), np.int32(PAD)
    for j in range(hit.shape[0]):
        px, py, pz = points[0, j], points[1, j], points[2, j]
        inside = (
            (abs(np.float64(px)) * inverse < world)
            & (abs(np.float64(py)) * inverse < world)
            & (abs(np.float64(pz)) * inverse < world)
        )
        rx, ry, rz = px - ox, py - oy, pz - oz
        far = np.sqrt(np.float64(rx * rx + ry * ry + rz * rz))
        beyond = far > reach64
        scale = np.float32(far)
        px = ox + rx / scale * reach if beyond else px
        py = oy + ry / scale * reach if beyond else py
        pz = oz + rz / scale * reach if beyond else pz
        rx, ry, rz = px - ox, py - oy, pz - oz
        length = np.float32(np.sqrt(np.float64(rx * rx + ry * ry + rz * rz)))
        rx, ry, rz = rx / length, ry / length, rz / length
        ex, ey, ez = np.float64(px) * inverse, np.float64(py) * inverse, np.float64(pz) * inverse
        fx, fy, fz = np.floor(ex), np.floor(ey), np.floor(ez)
        gx, gy, gz = ex - fx, ey - fy, ez - fz
        sure = (gx > low) & (gx < high) & (gy > low) & (gy < high) & (gz > low) & (gz < high)
        fx, fy, fz = fx - lx, fy - ly, fz - lz
        kind = np.int32(2) if hit[j] & (not beyond) else np.int32(1)
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
        lines: what `_prepare` filled.
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
        step = np.float32(first + np.int32(k))
        v = v0 + step * dv
        w = w0 + step * dw
        fv, fw = np.rint(v), np.rint(w)
        index[k] = np.int32(base + step * forward + fv * sv + fw * sw)
        unsure |= np.int32(max(abs(v - fv), abs(w - fw)) > limit)
    return unsure


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
    sx, sy, sz = np.float32(frame.strides[0]), np.float32(frame.strides[1]), np.float32(1.0)
    hx = np.float32(frame.start[0]) * sx + np.float32(PAD)
    hy = np.float32(frame.start[1]) * sy + np.float32(PAD)
    hz = np.float32(frame.start[2]) + np.float32(PAD)
    home = np.int32(hx + hy + hz - np.float32(2 * PAD))
    limit = np.float32(0.5) - np.float32(frame.eps)
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
        _prepare(tile, hit[first:last], frame, lines, goals, kinds)
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


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"}, error_model="numpy")
def _cross_back(
    lines: Array, at: int, back: int, stops: Array, start: float, su: float, sv: float, sw: float,
    limit: float, goals: Array, out: Array, unsure: Array
) -> None:  # fmt: skip
    """Finds the voxels that the rays of a tile enter at one of their last crossings of a family.

    Args:
        lines: what `_prepare` filled.
        at: row of `lines` where the number of crossings is.
        back: which crossing, from the last one, 0, backwards.
        stops: (TILE,) float32, crossings before this one are not wanted.
        start: as in `_cross`.
        su: likewise.
        sv: likewise.
        sw: likewise.
        limit: likewise.
        goals: (TILE,) int32 cells of the ends, which are left out.
        out: (TILE,) int32, filled with cells, 0 where there is none.
        unsure: (TILE,) int32, set where a crossing is not to be trusted.
    """
    counts, signs = lines[at : at + TILE], lines[at + TILE : at + 2 * TILE]
    v0, w0 = lines[at + 2 * TILE : at + 3 * TILE], lines[at + 3 * TILE : at + 4 * TILE]
    dv, dw = lines[at + 4 * TILE : at + 5 * TILE], lines[at + 5 * TILE : at + 6 * TILE]
    less, one = np.float32(back + 1), np.float32(1.0)
    for j in range(TILE):
        step = counts[j] - less
        wanted = step >= stops[j]
        step = step if wanted else np.float32(0.0)
        v, w = v0[j] + step * dv[j], w0[j] + step * dw[j]
        v, w = v if wanted else np.float32(0.0), w if wanted else np.float32(0.0)
        fv, fw = np.rint(v), np.rint(w)
        doubt = max(abs(v - fv), abs(w - fw)) > limit
        cell = np.int32(start + (step + one) * signs[j] * su + fv * sv + fw * sw)
        out[j] = cell if wanted & (cell != goals[j]) else np.int32(0)
        unsure[j] |= np.int32(doubt & wanted)


@njit(cache=True, nogil=True, error_model="numpy")
def _want(lines: Array, parts: Array, size: int, frame: Frame, stops: Array) -> tuple[int, int, int]:
    """Finds which crossings of the rays of a tile are wanted: those after the part that is left out.

    Args:
        lines: what `_prepare` filled.
        parts: (TILE,) float32, the part of each ray that is left out at its start.
        size: rays of the tile.
        frame: the byte map's geometry.
        stops: (3 * TILE,) float32, filled by family with the first crossing that is wanted.

    Returns:
        the largest number of crossings wanted, by family.
    """
    inverse = np.float32(frame.inverse)
    zero, one, none = np.float32(0.0), np.float32(1.0), np.float32(1e9)
    most = np.zeros(3, np.float32)
    for f in range(3):
        # How far the first plane is, for rays that go up and those that go down the axis; a
        # hundredth of a voxel covers what rounding may do.
        down = np.float32(frame.at[f] - frame.start[f] + 0.01)
        up = np.float32(frame.start[f] + 1.0 - frame.at[f] + 0.01)
        at = (4 + 6 * f) * TILE
        aims, lengths = lines[f * TILE : (f + 1) * TILE], lines[3 * TILE : 4 * TILE]
        counts, signs = lines[at : at + TILE], lines[at + TILE : at + 2 * TILE]
        firsts = stops[f * TILE : (f + 1) * TILE]
        for j in range(size):
            gap = up if signs[j] > zero else down
            first = np.floor(parts[j] * lengths[j] * inverse * abs(aims[j]) - gap) + one
            firsts[j] = first if first > zero else zero
        for j in range(size, TILE):
            firsts[j] = none
        for j in range(size):
            most[f] = max(most[f], counts[j] - firsts[j])
    return np.int64(most[0]), np.int64(most[1]), np.int64(most[2])


@njit(cache=True, nogil=True, error_model="numpy")
def _mark_tile(
    tile: Array, parts: Array, size: int, frame: Frame, cells: Array, scratch: Tails, skipped: Array
) -> None:
    """Marks FREE the last voxels that the rays of a tile pass, all rays in lockstep.

    Args:
        tile: (3, TILE) float32, the ends of the rays [m].
        parts: (TILE,) float32, the part of each that is left out at its start.
        size: rays of the tile.
        frame: the byte map's geometry.
        cells: the byte map.
        scratch: arrays to write to.
        skipped: (TILE,) bool, filled: the ray is too near to an edge for this.
    """
    lines, goals, kinds, stops, found, unsure = scratch
    where = found.view(np.uint32)
    sx, sy, sz = np.float32(frame.strides[0]), np.float32(frame.strides[1]), np.float32(1.0)
    hx = np.float32(frame.start[0]) * sx + np.float32(PAD)
    hy = np.float32(frame.start[1]) * sy + np.float32(PAD)
    hz = np.float32(frame.start[2]) + np.float32(PAD)
    home = np.int32(hx + hy + hz - np.float32(2 * PAD))
    limit = np.float32(0.5) - np.float32(frame.eps)
    skipped[:] = False
    _prepare(tile, skipped[:size], frame, lines, goals, kinds)
    deep = _want(lines, parts, size, frame, stops)
    for j in range(TILE):
        unsure[j] = np.int32(kinds[j] >= 4)
    for f in range(3):
        a, stop = (4 + 6 * f) * TILE, stops[f * TILE : (f + 1) * TILE]
        start = hx if f == 0 else (hy if f == 1 else hz)
        su = sx if f == 0 else (sy if f == 1 else sz)
        sv = sy if f == 0 else (sz if f == 1 else sx)
        sw = sz if f == 0 else (sx if f == 1 else sy)
        for k in range(deep[f]):
            _cross_back(lines, a, k, stop, start, su, sv, sw, limit, goals, found, unsure)
            for j in range(TILE):
                cells[where[j]] = _FREE
    for j in range(size):
        skipped[j] = unsure[j] != 0
        if not skipped[j] and parts[j] == 0.0 and goals[j] != home:
            cells[home] = _FREE


@njit(cache=True, nogil=True, error_model="numpy")
def _sort_tails(
    points: Array, reach: Array, starts: Array, frame: Frame, first: int, size: int, parts: Array, bins: Array
) -> None:
    """Finds how much of some rays is followed: which part is left out, and which bin of tails it is.

    Args:
        points: of `mark_tails`.
        reach: likewise.
        starts: likewise.
        frame: likewise.
        first: first ray.
        size: how many.
        parts: (TILE,) float32, filled with the part of each that is left out at its start.
        bins: (TILE,) int32, filled; -1 for rays that are not followed.
    """
    ox, oy, oz = frame.origin[0], frame.origin[1], frame.origin[2]
    inverse, zero, one, edge = np.float32(frame.inverse), np.float32(0.0), np.float32(1.0), np.float32(1e-3)
    last = first + size
    px, py, pz = points[0, first:last], points[1, first:last], points[2, first:last]
    ends, begins = reach[first:last], starts[first:last]
    for j in range(size):
        part = (begins[j] - edge if begins[j] > edge else zero) / ends[j]
        most = max(max(abs(px[j] - ox), abs(py[j] - oy)), abs(pz[j] - oz))
        need = (one - part) * most * inverse
        b = np.int32(0)
        for n in LENGTHS:
            b += np.int32(need > np.float32(n))
        parts[j] = part
        bins[j] = b if ends[j] > begins[j] else np.int32(-1)


@njit(cache=True, nogil=True)
def mark_tails(
    points: Array, reach: Array, starts: Array, frame: Frame, cells: Array, first: int, last: int, left: Array
) -> int:
    """Marks FREE the voxels that rays pass from a certain depth on, where that is not far.

    Only the voxel in which a ray ends may lose a mark of it, or a HIT.

    Args:
        points: (3, N) float32, the ends of the rays [m].
        reach: (N,) float32, their planar depth [m]; -1 where there is no ray.
        starts: (N,) float32, the depth from which on each is to be followed [m].
        frame: the byte map's geometry.
        cells: the byte map.
        first: first ray.
        last: the one after the last ray.
        left: (last - first,) int64, filled with the rays that are left to `mark_rays`.

    Returns:
        how many are left.
    """
    kinds = len(LENGTHS)
    tiles, parts = np.zeros((kinds, 3, TILE), np.float32), np.zeros((kinds, TILE), np.float32)
    which, sizes = np.empty((kinds, TILE), np.int64), np.zeros(kinds, np.int64)
    own, bins, skipped = np.empty(TILE, np.float32), np.empty(TILE, np.int32), np.zeros(TILE, np.bool_)
    scratch = Tails(
        np.zeros(22 * TILE, np.float32),
        np.zeros(TILE, np.int32),
        np.zeros(TILE, np.int32),
        np.zeros(3 * TILE, np.float32),
        np.zeros(TILE, np.int32),
        np.zeros(TILE, np.int32),
    )
    count = 0
    for at in range(first, last, TILE):
        size = min(TILE, last - at)
        _sort_tails(points, reach, starts, frame, at, size, own, bins)
        for j in range(size):
            b = bins[j]
            if b < 0:
                continue
            i = at + j
            if b == kinds:
                left[count] = i
                count += 1
                continue
            n = sizes[b]
            tiles[b, 0, n], tiles[b, 1, n], tiles[b, 2, n] = points[0, i], points[1, i], points[2, i]
            parts[b, n], which[b, n] = own[j], i
            sizes[b] = n + 1
            if n + 1 == TILE:
                sizes[b] = 0
                _mark_tile(tiles[b], parts[b], TILE, frame, cells, scratch, skipped)
                count = _leave(skipped, which[b], TILE, left, count)
    n = 0
    for b in range(kinds):  # what is left in the bins is marked together, shortest tails first
        for j in range(sizes[b]):
            if n == TILE:
                _mark_tile(tiles[0], parts[0], TILE, frame, cells, scratch, skipped)
                count = _leave(skipped, which[0], TILE, left, count)
                n = 0
            for a in range(3):
                tiles[0, a, n] = tiles[b, a, j]
            parts[0, n], which[0, n] = parts[b, j], which[b, j]
            n += 1
    if n > 0:
        _mark_tile(tiles[0], parts[0], n, frame, cells, scratch, skipped)
        count = _leave(skipped, which[0], n, left, count)
    return count


@njit(cache=True, nogil=True)
def _leave(skipped: Array, which: Array, size: int, left: Array, count: int) -> int:
    """Lists the rays of a tile that were skipped after `count` others; returns how many are listed."""
    for j in range(size):
        if skipped[j]:
            left[count] = which[j]
            count += 1
    return count

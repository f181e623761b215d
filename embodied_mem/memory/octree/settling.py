"""Numba kernels for depth images: do rays pass the voxels that the pixel at their centre cannot settle?

The rays of more pixels are tried on such a voxel, many at once, or they are left to be
followed. So is a ray that passes an edge more closely than float32 can tell: it is
walked in OctoMap's arithmetic, so that the voxels are exactly those that OctoMap finds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.crew import lower_at
from embodied_mem.memory.octree.view import Unsettled, View, Work

Array = NDArray[Any]

PAD = 64
"""As in `dense`."""
_FREE = np.uint8(1)
"""FREE of `kernels`."""
CHUNK = 16
"""Pixels of a row that are tried at once."""


@njit(cache=True, nogil=True, inline="always")
def _hidden(sight: Array, levels: Array, u0: int, u1: int, v0: int, v1: int, nearest: float) -> bool:
    """Tells whether no pixel of a rectangle sees as far as `nearest` [m], from a few large nodes."""
    level = 0
    while max((u1 >> level) - (u0 >> level), (v1 >> level) - (v0 >> level)) > 2:
        level += 1
    at, columns = levels[level, 0], levels[level, 2]
    best = np.float32(-1.0)
    for v in range(v0 >> level, (v1 >> level) + 1):
        for u in range(u0 >> level, (u1 >> level) + 1):
            far = sight[at + v * columns + u]
            best = far if far > best else best
    return best < nearest


@njit(cache=True, nogil=True, inline="always")
def _shrink(
    sight: Array, levels: Array, u0: int, u1: int, v0: int, v1: int, nodes: int, nearest: float
) -> tuple[int, int, int, int]:
    """Shrinks a rectangle of pixels to those that may see as far as `nearest` [m]; u0 > u1: none do."""
    level = 0
    while max((u1 >> level) - (u0 >> level), (v1 >> level) - (v0 >> level)) >= nodes:
        level += 1
    at, columns = levels[level, 0], levels[level, 2]
    left, right, top, bottom = u1 + 1, u0 - 1, v1 + 1, v0 - 1
    for v in range(v0 >> level, (v1 >> level) + 1):
        for u in range(u0 >> level, (u1 >> level) + 1):
            if sight[at + v * columns + u] >= nearest:
                left, right = min(left, u << level), max(right, ((u + 1) << level) - 1)
                top, bottom = min(top, v << level), max(bottom, ((v + 1) << level) - 1)
    return max(left, u0), min(right, u1), max(top, v0), min(bottom, v1)


@njit(cache=True, nogil=True, error_model="numpy")
def _outline_voxels(view: View, half: Array, left: Unsettled, count: int) -> None:
    """Bounds the outlines of voxels in front of the camera by columns and rows, all at once.

    Fills `left.box`; first > last where an outline is outside the image.

    Args:
        view: the camera.
        half: (3,) float64, half a voxel's size along the camera's axes [m].
        left: the voxels.
        count: how many.
    """
    fx, fy, cx, cy = np.float32(view.fx), np.float32(view.fy), np.float32(view.cx), np.float32(view.cy)
    right, bottom = np.float32(view.width - 1), np.float32(view.height - 1)
    h0, h1, h2 = np.float32(half[0]), np.float32(half[1]), np.float32(half[2])
    # A hundredth of a pixel covers what rounding may do, and beyond the last pixel is out.
    slack, one, zero, out = np.float32(0.01), np.float32(1.0), np.float32(0.0), np.float32(-1.0)
    side, down, depth = left.side[:count], left.down[:count], left.depth[:count]
    first_u, last_u, first_v, last_v = left.box[0], left.box[1], left.box[2], left.box[3]
    for n in range(count):
        a, b, d = side[n], down[n], depth[n]
        near, far = one / (d - h2), one / (d + h2)
        west, east, north, south = a - h0, a + h0, b - h1, b + h1
        u0 = fx * west * (near if west < zero else far) + cx - slack
        u1 = fx * east * (near if east > zero else far) + cx + slack
        v0 = fy * north * (near if north < zero else far) + cy - slack
        v1 = fy * south * (near if south > zero else far) + cy + slack
        inside = (u1 >= zero) & (v1 >= zero) & (u0 <= right) & (v0 <= bottom)
        u0, v0 = u0 if u0 > zero else zero, v0 if v0 > zero else zero
        u1, v1 = u1 if u1 < right else right, v1 if v1 < bottom else bottom
        first_u[n] = np.int32(np.ceil(u0 if inside else one))
        last_u[n] = np.int32(u1 if inside else out)
        first_v[n] = np.int32(np.ceil(v0 if inside else one))
        last_v[n] = np.int32(v1 if inside else out)


@njit(cache=True, nogil=True, error_model="numpy")
def _meet_nearest(view: View, left: Unsettled, count: int, passes: Array) -> None:
    """Finds whether the ray of the pixel nearest to a voxel's centre passes the voxel, all at once.

    That pixel is not always in the voxel's middle: at the image's border, and where voxels look
    as narrow as pixels. A line passes a cube unless an axis across both the line and one of the
    cube's edges parts them.

    Args:
        view: the camera.
        left: the voxels; the first row of its `box` is filled with the pixel.
        count: how many.
        passes: (C,) uint8, filled; 0 for voxels that are not in front of the camera.
    """
    r = view.rotation
    r00, r01, r02 = np.float32(r[0, 0]), np.float32(r[0, 1]), np.float32(r[0, 2])
    r10, r11, r12 = np.float32(r[1, 0]), np.float32(r[1, 1]), np.float32(r[1, 2])
    r20, r21, r22 = np.float32(r[2, 0]), np.float32(r[2, 1]), np.float32(r[2, 2])
    half = np.float32(view.resolution * (0.495 - 2.0 * view.eps))
    fx, fy, cx, cy = np.float32(view.fx), np.float32(view.fy), np.float32(view.cx), np.float32(view.cy)
    per_x, per_y, stride = np.float32(1.0 / view.fx), np.float32(1.0 / view.fy), np.int32(view.width)
    right, bottom = np.float32(view.width - 1), np.float32(view.height - 1)
    zero, one, nearest = np.float32(0.0), np.float32(1.0), np.float32(0.5)
    side, down, depth, pixel = left.side[:count], left.down[:count], left.depth[:count], left.box[0]
    front = np.float32(2.0 * view.resolution)
    for n in range(count):
        s, t, d = side[n], down[n], depth[n]
        ahead = d > front
        per = one / (d if ahead else one)
        u, v = fx * s * per + cx, fy * t * per + cy
        u, v = u if u > zero else zero, v if v > zero else zero
        u, v = u if u < right else right, v if v < bottom else bottom
        column, row = np.int32(u + nearest), np.int32(v + nearest)
        pixel[n] = np.int32(row * stride + column)
        p, q = (np.float32(column) - cx) * per_x, (np.float32(row) - cy) * per_y
        e, f = s - p * d, t - q * d
        g = f * p - e * q
        ax, ay, az = (
            abs(r00 * p + r01 * q + r02), abs(r10 * p + r11 * q + r12), abs(r20 * p + r21 * q + r22)
        )  # fmt: skip
        meets = (
            (abs(r01 * e - r00 * f + r02 * g) < half * (ay + az))
            & (abs(r11 * e - r10 * f + r12 * g) < half * (az + ax))
            & (abs(r21 * e - r20 * f + r22 * g) < half * (ax + ay))
        )
        passes[n] = np.uint8(ahead & meets)


@njit(cache=True, nogil=True)
def _see_through(
    cells: Array, reach: Array, places: Array, pixel: Array, depth: Array, thick: float, passes: Array,
    rest: Array
) -> int:  # fmt: skip
    """Marks FREE the voxels which the ray that `_meet_nearest` found passes and ends beyond.

    `rest` is filled with the others; returns how many those are.
    """
    where, pixels, found = places.view(np.uint64), pixel.view(np.uint32), np.uint64(0)
    for n in range(np.uint64(passes.shape[0])):  # without a branch: what is not wanted is written over
        free = passes[n] & np.uint8(reach[pixels[n]] > depth[n] + thick)
        cells[where[n]] |= free
        rest[found] = n
        found += np.uint64(free == 0)
    return np.int64(found)


@njit(cache=True, nogil=True, error_model="numpy")
def _try_row(
    line: Array, depths: Array, first: int, count: int, x: float, y: float, z: float, nearest: float,
    eps: float
) -> int:  # fmt: skip
    """Tries the rays of neighbouring pixels of a row on a voxel, all at once.

    Args:
        line: (6,) float32: the ray of column u is line[:3] * u + line[3:] [voxels per m of depth].
        depths: float32 depths of the ends of the rays of columns first, first + 1, ...
        first: column.
        count: how many to try.
        x: the voxel's lower corner from the camera [voxels].
        y: likewise.
        z: likewise.
        nearest: smallest depth of the voxel [m]; rays that end nearer are not tried.
        eps: how near to an edge a ray may pass and be in doubt [voxels].

    Returns:
        2 where a ray certainly passes, else 1 where one may, else 0.
    """
    one, zero = np.float32(1.0), np.float32(0.0)
    ax, ay, az, bx, by, bz = line[0], line[1], line[2], line[3], line[4], line[5]
    hx, hy, hz = x + one, y + one, z + one
    sure, doubt = np.int32(0), np.int32(0)
    start = np.int32(first)
    for k in range(np.int32(count)):
        u, end = np.float32(np.int32(start + k)), depths[k]  # of 64 bits AVX2 converts one at a time
        ix, iy, iz = one / (ax * u + bx), one / (ay * u + by), one / (az * u + bz)
        # Slabs widened by eps: a ray that misses them passes by for certain.
        ex, ey, ez = eps * abs(ix), eps * abs(iy), eps * abs(iz)
        lx, ux = min(x * ix, hx * ix), max(x * ix, hx * ix)
        ly, uy = min(y * iy, hy * iy), max(y * iy, hy * iy)
        lz, uz = min(z * iz, hz * iz), max(z * iz, hz * iz)
        near, far = max(max(lx - ex, ly - ey), max(lz - ez, zero)), min(min(ux + ex, uy + ey), uz + ez)
        inner = max(max(lx + ex, ly + ey), max(lz + ez, zero))
        outer = min(min(ux - ex, uy - ey), uz - ez)
        may = (end >= nearest) & (near <= far) & (end >= near)
        must = may & (inner < outer) & (end > far)
        ends = (inner < end) & (end < outer)  # within this voxel
        sure = np.int32(sure | np.int32(must))
        doubt = np.int32(doubt | np.int32(may & ~ends))
    return 2 if sure else doubt


@njit(cache=True, nogil=True)
def _reaches(depths: Array, nearest: float) -> bool:
    """Tells whether any ray of a row ends beyond a depth."""
    count = np.int32(0)
    for k in range(depths.shape[0]):
        count |= np.int32(depths[k] >= nearest)
    return count != 0


@njit(cache=True, nogil=True, inline="always")
def _aim_row(rays: Array, v: int, line: Array) -> None:
    """Fills what `_try_row` needs to know of the rays of row v."""
    for a in range(3):
        line[a] = rays[a, 0]
        line[3 + a] = rays[a, 1] * v + rays[a, 2]


@njit(cache=True, nogil=True, error_model="numpy")
def _ask_around(
    pinhole: Array, ring: Array, ball: float, width: int, reach: Array, a: float, b: float, d: float,
    beyond: float
) -> bool:  # fmt: skip
    """Asks pixels around a voxel's centre (a, b, d) [m], those whose rays certainly pass it.

    Args:
        pinhole: (6,) float64 fx, fy, cx, cy, width - 1, height - 1.
        ring: where to ask, of `Work`.
        ball: radius of a ball within the voxel [m].
        width: of the image.
        reach: (H * W,) float32 planar depth of the rays' ends.
        a: the centre in the camera's frame.
        b: likewise.
        d: likewise.
        beyond: largest depth of the voxel [m].
    """
    per_x, per_y = pinhole[0] / d, pinhole[1] / d
    u, v = a * per_x + pinhole[2], b * per_y + pinhole[3]
    for n in range(ring.shape[0]):
        column = min(max(np.rint(u + ring[n, 0] * ball * per_x), 0.0), pinhole[4])
        row = min(max(np.rint(v + ring[n, 1] * ball * per_y), 0.0), pinhole[5])
        dx, dy = (column - u) / per_x, (row - v) / per_y
        if dx * dx + dy * dy < ball * ball and reach[np.int64(row) * width + np.int64(column)] > beyond:
            return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def _try_rows(
    rays: Array, line: Array, eps: float, width: int, reach: Array, low: Array, nearest: float, u0: int,
    u1: int, v0: int, v1: int, step: int, starts: Array
) -> bool:  # fmt: skip
    """Tries the rays of a rectangle of pixels on a voxel; those in doubt are to be followed.

    Args:
        rays: (3, 3) float64, of `Work`.
        line: (6,) float32, scratch.
        eps: how near to an edge a ray may pass and be in doubt [voxels].
        width: of the image.
        reach: (H * W,) float32 planar depth of the rays' ends.
        low: (3,) float32, the voxel's lower corner from the camera [voxels].
        nearest: smallest depth of the voxel [m].
        u0: first column.
        u1: last column.
        v0: first row.
        v1: last row.
        step: try one row in so many.
        starts: (H * W,) float32, lowered where rays are to be followed.

    Returns:
        whether a ray certainly passes the voxel.
    """
    x, y, z = low[0], low[1], low[2]
    doubts = False
    # Whole chunks are quicker; pixels beyond the outline may be tried too.
    count = min((u1 - u0 + CHUNK) // CHUNK * CHUNK, width - u0)
    rows = (v1 - v0) // step + 1
    for i in range(rows):
        # From the middle outwards: most rays that pass a voxel do so there.
        half = (i + 1) >> 1
        v = v0 + ((rows - 1) // 2 + (half if i & 1 else -half)) * step
        at = v * width + u0
        if not _reaches(reach[at : at + count], nearest):
            continue
        _aim_row(rays, v, line)
        found = _try_row(line, reach[at : at + count], u0, count, x, y, z, nearest, eps)
        if found == 2:
            return True
        doubts |= found == 1
    if doubts:
        for v in range(v0, v1 + 1, step):
            _aim_row(rays, v, line)
            for u in range(u0, u1 + 1):
                at = v * width + u
                if _try_row(line, reach[at : at + 1], u, 1, x, y, z, nearest, eps) == 1:
                    starts[at] = 0.0
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def _in_reach(work: Work, low: Array) -> bool:
    """Tells whether the cone of all rays may meet a voxel beside the camera.

    Along each axis rays enter and leave the voxel's slab between two depths; where the earliest
    entry is later than the latest exit, no ray meets the voxel.
    """
    entry, leave = 0.0, np.inf
    for a in range(3):
        slowest, fastest = work.spread[a, 0], work.spread[a, 1]
        lower, upper = low[a] - 1e-3, low[a] + 1.001
        if lower > 0.0 or upper < 0.0:
            near, far = (lower, upper) if lower > 0.0 else (-upper, -lower)
            if lower < 0.0:
                slowest, fastest = -fastest, -slowest
            if fastest <= 0.0:
                return False
            entry = max(entry, near / fastest)
            leave = min(leave, far / slowest if slowest > 0.0 else np.inf)
        elif slowest > 0.0 or fastest < 0.0:
            leave = min(leave, upper / slowest if slowest > 0.0 else lower / fastest)
    return entry <= leave


@njit(cache=True, nogil=True, error_model="numpy")
def _in_sight(view: View, work: Work, low: Array) -> bool:
    """Tells whether rays may pass a voxel beside the camera, from the border and a few pixels.

    From so near a voxel covers hundreds of pixels: if no ray of a coarse grid and of the
    image's border passes it, widened by a tenth, no ray does.
    """
    rays, tenth = work.rays, np.float32(0.1)
    one = np.float32(1.0)
    for v in range(view.height):
        border = v == 0 or v == view.height - 1
        step = 1 if border else (16 if v % 16 == 0 else view.width - 1)
        for u in range(0, view.width, max(step, 1)):
            near, far = np.float32(0.0), np.float32(np.inf)
            for a in range(3):
                per = one / np.float32(rays[a, 0] * u + rays[a, 1] * v + rays[a, 2])
                first, last = (low[a] - tenth) * per, (low[a] + one + tenth) * per
                near, far = max(near, min(first, last)), min(far, max(first, last))
            if near <= far:
                return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def _passes_beside(view: View, work: Work, reach: Array, nearest: float, starts: Array) -> bool:
    """Tells whether a ray passes the voxel at `work.low`, which is beside the camera."""
    low, eps, right, bottom = work.low, np.float32(view.eps), view.width - 1, view.height - 1
    if not _in_reach(work, low):
        return False
    for step in (16, 1):  # a few rows soon find a ray
        if step == 1 and not _in_sight(view, work, low):
            return False
        if _try_rows(
            work.rays, work.line, eps, view.width, reach, low, nearest, 0, right, 0, bottom, step, starts
        ):
            return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def settle_voxels(
    view: View, work: Work, reach: Array, sight: Array, levels: Array, cells: Array, starts: Array,
    left: Unsettled, count: int, follow: float
) -> None:  # fmt: skip
    """Marks FREE the voxels of a list that rays pass, or has the rays in their outlines followed.

    Args:
        view: the camera.
        work: what `prepare_work` made of it.
        reach: (H * W,) float32 planar depth of the rays' ends, -1 where there is no ray.
        sight: of `farthest_pyramid`.
        levels: of `pyramid_layout`.
        cells: the byte map.
        starts: (H * W,) float32, lowered to the depth from which on a pixel's ray is to be followed [m].
        left: of `ask_blocks`.
        count: voxels in it.
        follow: the rays are to be followed through voxels that lie wholly beyond this depth [m].
    """
    # Every call below takes what it needs: to hand over `view`, `work` or `left` costs as much as the work.
    width, thick, beyond = np.int64(view.width), np.float32(work.half[2]), np.float32(follow)
    pinhole, ring, rays, line, low = work.pinhole, work.ring, work.rays, work.line, work.low
    ball, eps = 0.49 * view.resolution, np.float32(view.eps)
    tiny, close = np.float32(1e-5), np.float32(1e-3)
    side, down, depth, box, lows, places = left.side, left.down, left.depth, left.box, left.low, left.cells
    passes, rest = left.passes[:count], left.rest
    _meet_nearest(view, left, count, passes)
    some = _see_through(cells, reach, places, box[0], depth, thick, passes, rest)
    _outline_voxels(view, work.half, left, count)
    for k in range(np.uint64(some)):
        n = np.uint64(rest[k])
        nearest = depth[n] - thick
        low[0], low[1], low[2] = lows[0, n], lows[1, n], lows[2, n]
        if nearest <= close:
            if _passes_beside(view, work, reach, nearest - tiny, starts):
                cells[places[n]] |= _FREE
            continue
        u0, u1, v0, v1 = np.int64(box[0, n]), np.int64(box[1, n]), np.int64(box[2, n]), np.int64(box[3, n])
        if u0 > u1 or v0 > v1:
            continue
        if nearest > beyond:
            for v in range(v0, v1 + 1):
                for at in range(np.uint64(v * width + u0), np.uint64(v * width + u1 + 1)):
                    if starts[at] > nearest:  # mostly not: a few pixels, and neighbours' rays are alike
                        lower_at(starts, at, nearest)
            continue
        nearest -= tiny
        if _hidden(sight, levels, u0, u1, v0, v1, nearest):
            continue
        u0, u1, v0, v1 = _shrink(sight, levels, u0, u1, v0, v1, 6, nearest)
        if u0 > u1:
            continue
        a, b, d = np.float64(side[n]), np.float64(down[n]), np.float64(depth[n])
        if _ask_around(pinhole, ring, ball, width, reach, a, b, d, np.float32(d + work.half[2])) or _try_rows(
            rays, line, eps, width, reach, low, nearest, u0, u1, v0, v1, 1, starts
        ):
            cells[places[n]] |= _FREE

"""Numba kernels for depth images: which voxels do the rays of all pixels pass?

Rays of neighbouring pixels pass the same voxels over and over. So it is the voxels
that are asked here, a block at a time, not the rays: a voxel is free if the ray of
the pixel at its centre passes it and ends beyond it, and it is left alone if no pixel
around its centre sees that far. Of the few between, the rays of more pixels are tried,
or left to be followed by those who come after. A ray that passes an edge more closely
than float32 can tell is walked in OctoMap's arithmetic, so that the voxels are exactly
those that OctoMap finds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.view import View, Work

Array = NDArray[Any]

PAD = 64
"""As in `dense`."""
_FREE = np.uint8(1)
"""FREE of `kernels`."""
_LOW = np.uint64(0x0101010101010101)
"""The lowest bit of each byte."""
CHUNK = 16
"""Pixels of a row that are tried at once."""


@njit(cache=True, nogil=True, inline="always")
def _farthest(sight: Array, levels: Array, u0: int, u1: int, v0: int, v1: int, nodes: int) -> float:
    """Returns an upper bound of the depths in a rectangle of pixels, from at most nodes^2 numbers."""
    level = 0
    while max((u1 >> level) - (u0 >> level), (v1 >> level) - (v0 >> level)) >= nodes:
        level += 1
    at, columns = levels[level, 0], levels[level, 2]
    best = np.float32(-1.0)
    for v in range(v0 >> level, (v1 >> level) + 1):
        for u in range(u0 >> level, (u1 >> level) + 1):
            best = max(best, sight[at + v * columns + u])
    return best


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


@njit(cache=True, nogil=True)
def _outline(view: View, x: int, y: int, z: int) -> tuple[int, int, int, int, float, float]:
    """Projects a block whose first voxel is (x, y, z); clips the rectangle to the image.

    Returns:
        first and last column, first and last row (first > last where it is outside), smallest
        and largest depth [m]; all of the image where the block reaches behind the camera.
    """
    r, res = view.rotation, view.resolution
    u0, v0, near = np.inf, np.inf, np.inf
    u1, v1, far = -np.inf, -np.inf, -np.inf
    behind = False
    # Signed distances to the planes through the camera and the sides of the image.
    left, right, top, bottom = -np.inf, np.inf, -np.inf, np.inf
    for corner in range(8):
        a = (x + 8.0 * (corner >> 2) - view.at[0]) * res
        b = (y + 8.0 * ((corner >> 1) & 1) - view.at[1]) * res
        c = (z + 8.0 * (corner & 1) - view.at[2]) * res
        depth = r[0, 2] * a + r[1, 2] * b + r[2, 2] * c
        near, far = min(near, depth), max(far, depth)
        u = view.fx * (r[0, 0] * a + r[1, 0] * b + r[2, 0] * c) + view.cx * depth
        v = view.fy * (r[0, 1] * a + r[1, 1] * b + r[2, 1] * c) + view.cy * depth
        left, right = max(left, u), min(right, u - (view.width - 1.0) * depth)
        top, bottom = max(top, v), min(bottom, v - (view.height - 1.0) * depth)
        if depth < 1e-3:
            behind = True
            continue
        u, v = u / depth, v / depth
        u0, u1, v0, v1 = min(u0, u), max(u1, u), min(v0, v), max(v1, v)
    outside = far < 1e-6 or left < -1e-5 or right > 1e-5 or top < -1e-5 or bottom > 1e-5
    if behind or outside:
        return (1 if outside else 0), (0 if outside else view.width - 1), 0, view.height - 1, near, far
    # A hundredth of a pixel covers what rounding may do.
    first_u = np.int64(max(np.ceil(u0 - 0.01), 0.0))
    last_u = np.int64(min(np.floor(u1 + 0.01), view.width - 1.0))
    first_v = np.int64(max(np.ceil(v0 - 0.01), 0.0))
    last_v = np.int64(min(np.floor(v1 + 0.01), view.height - 1.0))
    if first_v > last_v:
        first_u, last_u = 1, 0
    return first_u, last_u, first_v, last_v, near, far


@njit(cache=True, nogil=True, inline="always")
def scale_for(work: Work, near: float, count: int) -> tuple[int, int]:
    """Chooses a level, and how many of its nodes to each side span the outline of a voxel: two or three.

    Args:
        work: the view's constants.
        near: smallest depth of the voxel [m].
        count: number of levels; the last one is a single node, which spans everything.
    """
    if near < 1e-2:
        return count - 1, 2
    c = near + work.half[2]
    wide = work.widths[0] + work.widths[1] / c
    tall = work.heights[0] + work.heights[1] / c
    pixels = max(wide, tall) / near + 1.0
    level = 0
    while level < count - 1 and 3.0 * (1 << level) < pixels:
        level += 1
    return level, (2 if 2.0 * (1 << level) >= pixels else 3)


@njit(cache=True, nogil=True, error_model="numpy")
def _locate_block(view: View, work: Work, level: int, columns: int, x: int, y: int, z: int) -> None:
    """Computes where the centres of a block's voxels are in the image, all at once.

    Fills `side`, `down`, `depth`, `inside`, `pixel` and `node` of `work`; the latter two are of the
    nearest pixel in the image, and of its node in a level with so many columns.
    """
    r, res = view.rotation, np.float64(view.resolution)
    a, b, c = (x + 0.5 - view.at[0]) * res, (y + 0.5 - view.at[1]) * res, (z + 0.5 - view.at[2]) * res
    s0 = np.float32(r[0, 0] * a + r[1, 0] * b + r[2, 0] * c)
    t0 = np.float32(r[0, 1] * a + r[1, 1] * b + r[2, 1] * c)
    d0 = np.float32(r[0, 2] * a + r[1, 2] * b + r[2, 2] * c)
    sx, sy, sz = np.float32(r[0, 0] * res), np.float32(r[1, 0] * res), np.float32(r[2, 0] * res)
    tx, ty, tz = np.float32(r[0, 1] * res), np.float32(r[1, 1] * res), np.float32(r[2, 1] * res)
    dx, dy, dz = np.float32(r[0, 2] * res), np.float32(r[1, 2] * res), np.float32(r[2, 2] * res)
    fx, fy = np.float32(view.fx), np.float32(view.fy)
    cx, cy = np.float32(view.cx + 0.5), np.float32(view.cy + 0.5)
    width, height = np.float32(view.width), np.float32(view.height)
    stride, across, shift = np.int32(view.width), np.int32(columns), np.int32(level)
    front, one, zero = np.float32(work.half[2] + 1e-3), np.float32(1.0), np.float32(0.0)
    first, most_u, most_v = np.float32(0.5), width - np.float32(0.75), height - np.float32(0.75)
    side, down, depth = work.side, work.down, work.depth
    inside, pixel, node = work.inside, work.pixel, work.node
    for k in range(np.int32(512)):
        i, j, m = np.float32(k >> 6), np.float32((k >> 3) & 7), np.float32(k & 7)
        s = s0 + i * sx + j * sy + m * sz
        t = t0 + i * tx + j * ty + m * tz
        d = d0 + i * dx + j * dy + m * dz
        side[k], down[k], depth[k] = s, t, d
        ahead = d > front
        per = one / (d if ahead else one)
        u, v = fx * s * per + cx, fy * t * per + cy
        inside[k] = np.int32(ahead & (u > zero) & (u < width) & (v > zero) & (v < height))
        u, v = u if u > first else first, v if v > first else first
        u, v = u if u < most_u else most_u, v if v < most_v else most_v
        column, row = np.int32(u), np.int32(v)
        pixel[k] = np.int32(row * stride + column)
        node[k] = np.int32(np.int32(row >> shift) * across + np.int32(column >> shift))


@njit(cache=True, nogil=True)
def _look_up(image: Array, places: Array, found: Array) -> None:
    """Reads an image at (512,) int32 places: a loop by itself, so that those around it are vectorised."""
    where = places.view(np.uint32)
    for k in range(512):
        found[k] = image[where[k]]


@njit(cache=True, nogil=True, error_model="numpy")
def _ask_block(view: View, work: Work, limit: float) -> None:
    """Fills the `states` of a block's voxels: what `_locate_block` found, against the depths there.

    Args:
        view: the camera.
        work: with `here`, the depths at the voxels' centres, and `around`, the largest in their outlines.
        limit: what lies wholly beyond this depth need not be settled [m].
    """
    fx, fy, cx, cy = np.float32(view.fx), np.float32(view.fy), np.float32(view.cx), np.float32(view.cy)
    right, bottom = np.float32(view.width - 1) - cx, np.float32(view.height - 1) - cy
    thick, certain, last = np.float32(work.half[2]), np.float32(work.certain), np.float32(limit)
    front, tiny = np.float32(work.half[2] + 1e-3), np.float32(1e-5)
    m0, m1 = np.float32(work.margins[0]), np.float32(work.margins[1])
    m2, m3 = np.float32(work.margins[2]), np.float32(work.margins[3])
    rough = np.float32(1e-6 * (view.fx + view.fy + view.width + view.height))
    side, down, depth, inside = work.side, work.down, work.depth, work.inside
    here, around, states = work.here, work.around, work.states
    for k in range(512):
        d, s, t = depth[k], side[k], down[k]
        free = (inside[k] != 0) & (d < certain) & (here[k] > d + thick)
        hidden = (d > front) & (around[k] < d - thick - (tiny + d * tiny))
        slack = rough * (abs(s) + abs(t) + abs(d))
        beside = (fx * s + cx * d < -m0 - slack) | (fx * s - right * d > m1 + slack)
        beside |= (fy * t + cy * d < -m2 - slack) | (fy * t - bottom * d > m3 + slack)
        out = hidden | beside | (d < -thick) | (d > last)
        state = np.int32(0) if out else np.int32(2)
        states[k] = np.int32(1) if free else state


@njit(cache=True, nogil=True)
def _mark_block(words: Array, corner: int, sx: int, sy: int, states: Array, unsettled: Array) -> int:
    """Marks a block's free voxels; lists those that are neither free nor hit nor out of sight.

    Args:
        words: the byte map, eight cells at a time.
        corner: the block's first word.
        sx: words per voxel along x.
        sy: words per voxel along y.
        states: (64,) uint64, of `_ask_block`.
        unsettled: (512,) int64, filled.

    Returns:
        how many are unsettled.
    """
    count = 0
    for i in range(64):
        state = states[i]
        if state == 0:
            continue
        at = corner + (i >> 3) * sx + (i & 7) * sy
        word = words[at] | (state & _LOW)
        words[at] = word
        todo = (state >> np.uint64(1)) & ~(word | (word >> np.uint64(1))) & _LOW
        if todo:
            for z in range(8):
                if (todo >> np.uint64(8 * z)) & np.uint64(1):
                    unsettled[count] = i * 8 + z
                    count += 1
    return count


@njit(cache=True, nogil=True, inline="always", error_model="numpy")
def _rectangle(pinhole: Array, a: float, b: float, c: float, half: Array) -> tuple[int, int, int, int]:
    """Bounds the outline of a box around (a, b, c) [m] in the camera's frame, in front of it.

    `pinhole` is fx, fy, cx, cy, width - 1, height - 1; `half` is half the box's size along the
    camera's axes [m]. Returns first and last column, first and last row; first > last where it
    is outside the image.
    """
    near, far = 1.0 / (c - half[2]), 1.0 / (c + half[2])
    left, right, top, bottom = a - half[0], a + half[0], b - half[1], b + half[1]
    u0 = pinhole[0] * left * (near if left < 0.0 else far) + pinhole[2] - 0.01
    u1 = pinhole[0] * right * (near if right > 0.0 else far) + pinhole[2] + 0.01
    v0 = pinhole[1] * top * (near if top < 0.0 else far) + pinhole[3] - 0.01
    v1 = pinhole[1] * bottom * (near if bottom > 0.0 else far) + pinhole[3] + 0.01
    inside = u1 >= 0.0 and v1 >= 0.0 and u0 <= pinhole[4] and v0 <= pinhole[5]
    first_u = np.int64(np.ceil(max(u0, 0.0))) if inside else 1
    last_u = np.int64(min(u1, pinhole[4])) if inside else 0
    return first_u, last_u, np.int64(np.ceil(max(v0, 0.0))), np.int64(max(min(v1, pinhole[5]), 0.0))


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
        u, end = np.float32(start + k), depths[k]
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
        sure |= np.int32(must)
        doubt |= np.int32(may & ~ends)
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
def _ask_around(view: View, work: Work, reach: Array, k: int) -> bool:
    """Asks pixels around the centre of an unsettled voxel, those whose rays certainly pass it."""
    d = np.float64(work.depth[k])
    per_x, per_y = view.fx / d, view.fy / d
    u, v = work.side[k] * per_x + view.cx, work.down[k] * per_y + view.cy
    beyond, ball = np.float32(d + work.half[2]), 0.49 * view.resolution
    for n in range(work.ring.shape[0]):
        column = min(max(np.rint(u + work.ring[n, 0] * ball * per_x), 0.0), view.width - 1.0)
        row = min(max(np.rint(v + work.ring[n, 1] * ball * per_y), 0.0), view.height - 1.0)
        a, b = (column - u) / per_x, (row - v) / per_y
        if a * a + b * b < ball * ball and reach[np.int64(row) * view.width + np.int64(column)] > beyond:
            return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def _try_rows(
    view: View, work: Work, reach: Array, low: Array, nearest: float, u0: int, u1: int, v0: int, v1: int,
    step: int, starts: Array
) -> bool:  # fmt: skip
    """Tries the rays of a rectangle of pixels on a voxel; those in doubt are to be followed.

    Args:
        view: the camera.
        work: constants and scratch.
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
    eps, width, line = np.float32(view.eps), view.width, work.line
    x, y, z = low[0], low[1], low[2]
    doubts = False
    # Whole chunks are quicker; pixels beyond the outline may be tried too.
    count = min((u1 - u0 + CHUNK) // CHUNK * CHUNK, width - u0)
    for v in range(v0, v1 + 1, step):
        at = v * width + u0
        if not _reaches(reach[at : at + count], nearest):
            continue
        _aim_row(work.rays, v, line)
        found = _try_row(line, reach[at : at + count], u0, count, x, y, z, nearest, eps)
        if found == 2:
            return True
        doubts |= found == 1
    if doubts:
        for v in range(v0, v1 + 1, step):
            _aim_row(work.rays, v, line)
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
def _try_block(
    view: View, work: Work, reach: Array, sight: Array, levels: Array, first: Array, count: int,
    cells: Array, corner: int, sx: int, sy: int, starts: Array
) -> None:  # fmt: skip
    """Tries the pixels in the outlines of a block's `count` unsettled voxels; `first` is its first one."""
    low, thick = work.low, work.half[2]
    right, bottom = view.width - 1, view.height - 1
    for n in range(count):
        k = work.unsettled[n]
        for a in range(3):
            low[a] = first[a] + ((k >> (6 - 3 * a)) & 7) - view.at[a]
        c = np.float64(work.depth[k])
        nearest = np.float32(c - thick - 1e-5)
        if c - thick > 1e-3:
            a, b = np.float64(work.side[k]), np.float64(work.down[k])
            u0, u1, v0, v1 = _rectangle(work.pinhole, a, b, c, work.half)
            if u0 > u1:
                continue
            u0, u1, v0, v1 = _shrink(sight, levels, u0, u1, v0, v1, 6, nearest)
            if u0 > u1:
                continue
            free = _ask_around(view, work, reach, k) or _try_rows(
                view, work, reach, low, nearest, u0, u1, v0, v1, 1, starts
            )
        else:  # a voxel beside the camera: a few rows soon find a ray
            free = _in_reach(work, low) and (
                _try_rows(view, work, reach, low, nearest, 0, right, 0, bottom, 16, starts)
                or (
                    _in_sight(view, work, low)
                    and _try_rows(view, work, reach, low, nearest, 0, right, 0, bottom, 1, starts)
                )
            )
        if free:
            cells[corner + (k >> 6) * sx + ((k >> 3) & 7) * sy + (k & 7)] |= _FREE


@njit(cache=True, nogil=True, error_model="numpy")
def _follow_block(work: Work, width: int, count: int, starts: Array) -> None:
    """Has the rays of the pixels in the outlines of a block's `count` unsettled voxels followed."""
    for n in range(count):
        k = work.unsettled[n]
        d = np.float64(work.depth[k])
        nearest = np.float32(d - work.half[2])
        a, b = np.float64(work.side[k]), np.float64(work.down[k])
        u0, u1, v0, v1 = _rectangle(work.pinhole, a, b, d, work.half)
        for v in range(v0, v1 + 1):
            for i in range(v * width + u0, v * width + u1 + 1):
                starts[i] = min(starts[i], nearest)


@njit(cache=True, nogil=True, error_model="numpy")
def mark_view(
    view: View, work: Work, reach: Array, sight: Array, seen: Array, levels: Array, shape: Array,
    strides: Array, cells: Array, starts: Array, first: int, last: int, limit: float, follow: float,
    settle: bool
) -> int:  # fmt: skip
    """Marks FREE the voxels that the rays of a depth image pass, in some blocks of the byte map.

    Blocks do not depend on each other: threads may take different ones, with `work` and `starts`
    of their own.

    Args:
        view: the camera.
        work: what `prepare_work` made of it.
        reach: (H * W,) float32 planar depth of the rays' ends, -1 where there is no ray.
        sight: of `farthest_pyramid`.
        seen: of `spread_pyramid`.
        levels: of `pyramid_layout`.
        shape: (3,) int64 blocks of the byte map along each axis.
        strides: (3,) int64 cells per voxel along each axis.
        cells: the byte map, in which the rays' ends are marked HIT already.
        starts: (H * W,) float32, lowered to the depth from which on a pixel's ray is to be followed [m].
        first: first block, counted z fastest.
        last: the one after the last block.
        limit: what lies beyond this depth is left to the rays [m].
        follow: in blocks that lie wholly beyond this depth, the rays are to be followed through the
            voxels that the pixel at their centre does not decide [m].
        settle: decide on voxels too that the pixel at their centre does not decide.

    Returns:
        how many voxels could not be decided by the pixel at their centre.
    """
    sx, sy = strides[0], strides[1]
    words, states = cells.view(np.uint64), work.states.view(np.uint64)
    count, tried, start = levels.shape[0], 0, np.empty(3, np.int64)
    for block in range(first, last):
        start[2] = block % shape[2] * 8
        start[1] = block // shape[2] % shape[1] * 8
        start[0] = block // (shape[2] * shape[1]) * 8
        x, y, z = start[0], start[1], start[2]
        u0, u1, v0, v1, near, far = _outline(view, x, y, z)
        if u0 > u1 or far < 0.0 or near > limit or _farthest(sight, levels, u0, u1, v0, v1, 4) < near:
            continue
        level, nodes = scale_for(work, near, count)
        at, columns = levels[level, 0] + (nodes - 2) * sight.shape[0], levels[level, 2]
        _locate_block(view, work, level, columns, x, y, z)
        _look_up(reach, work.pixel, work.here)
        _look_up(seen[at:], work.node, work.around)
        _ask_block(view, work, limit + work.half[2])
        corner = PAD + x * sx + y * sy + z
        unsettled = _mark_block(words, corner >> 3, sx >> 3, sy >> 3, states, work.unsettled)
        tried += unsettled
        if not settle or unsettled == 0:
            continue
        if near > follow:
            _follow_block(work, view.width, unsettled, starts)
        else:
            _try_block(
                view, work, reach, sight, levels, start, unsettled, cells, corner, sx, sy, starts
            )  # fmt: skip
    return tried

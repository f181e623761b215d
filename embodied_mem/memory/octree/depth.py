"""Numba kernels for depth images: which voxels do the rays of all pixels pass?

Rays of neighbouring pixels pass the same voxels over and over. So it is the voxels
that are asked here, not the rays: a voxel is free if the ray of the pixel at its
centre passes it and ends beyond it; it is left alone if no pixel in its outline
sees that far; and only where neither holds are the pixels of its outline tried one
by one. A ray that passes an edge more closely than float32 can tell is walked in
OctoMap's arithmetic, so that the voxels are exactly those that OctoMap finds.
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
LEVELS = 8
"""As in `pixels`."""


@njit(cache=True, nogil=True, inline="always")
def _farthest(pyramid: Array, offsets: Array, u0: int, u1: int, v0: int, v1: int, nodes: int) -> float:
    """Returns an upper bound of the depths in a rectangle of pixels, from at most nodes^2 numbers."""
    level = 0
    while level < LEVELS - 1 and max((u1 >> level) - (u0 >> level), (v1 >> level) - (v0 >> level)) >= nodes:
        level += 1
    at, columns = offsets[level, 0], offsets[level, 2]
    best = np.float32(-1.0)
    for v in range(v0 >> level, (v1 >> level) + 1):
        for u in range(u0 >> level, (u1 >> level) + 1):
            best = max(best, pyramid[at + v * columns + u])
    return best


@njit(cache=True, nogil=True)
def _outline(
    view: View, x: float, y: float, z: float, edge: float
) -> tuple[int, int, int, int, float, float]:
    """Projects a cube of `edge` voxels at (x, y, z) [voxels]; clips the rectangle to the image.

    Returns:
        first and last column, first and last row (first > last where it is outside), smallest
        and largest depth [m]; all of the image where the cube reaches behind the camera.
    """
    r, res = view.rotation, view.resolution
    u0, v0, near = np.inf, np.inf, np.inf
    u1, v1, far = -np.inf, -np.inf, -np.inf
    behind = False
    # Signed distances to the planes through the camera and the sides of the image.
    left, right, top, bottom = -np.inf, np.inf, -np.inf, np.inf
    for corner in range(8):
        a = (x + edge * (corner >> 2) - view.at[0]) * res
        b = (y + edge * ((corner >> 1) & 1) - view.at[1]) * res
        c = (z + edge * (corner & 1) - view.at[2]) * res
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
    if behind:
        outside = far < 1e-6 or left < -1e-5 or right > 1e-5 or top < -1e-5 or bottom > 1e-5
        return (1 if outside else 0), (0 if outside else view.width - 1), 0, view.height - 1, near, far
    # A hundredth of a pixel covers what rounding may do.
    first_u = np.int64(max(np.ceil(u0 - 0.01), 0.0))
    last_u = np.int64(min(np.floor(u1 + 0.01), view.width - 1.0))
    first_v = np.int64(max(np.ceil(v0 - 0.01), 0.0))
    last_v = np.int64(min(np.floor(v1 + 0.01), view.height - 1.0))
    if first_v > last_v:
        first_u, last_u = 1, 0
    return first_u, last_u, first_v, last_v, near, far


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


@njit(cache=True, nogil=True, inline="always", error_model="numpy")
def _try_row(
    rays: Array, eps: float, reach: Array, v: int, u0: int, u1: int, low: Array, nearest: float,
    doubts: Array, count: int
) -> int:  # fmt: skip
    """Tries the rays of a row of pixels on a voxel.

    Args:
        rays: (3, 3) float64: the ray of pixel (u, v) is rays @ (u, v, 1) [voxels per m of depth].
        eps: how near to an edge a ray may pass and be in doubt [voxels].
        reach: (H, W) float32 depths of the rays' ends.
        v: the row.
        u0: first column.
        u1: last column.
        low: (3,) float32, the voxel's lower corner from the camera [voxels].
        nearest: smallest depth of the voxel [m]; rays that end nearer are not tried.
        doubts: (D,) int64, pixels that may or may not pass; appended to.
        count: number of doubts so far.

    Returns:
        -1 where a ray certainly passes, else the number of doubts.
    """
    one = np.float32(1.0)
    lx, ly, lz = low[0], low[1], low[2]
    hx, hy, hz = lx + one, ly + one, lz + one
    for u in range(u0, u1 + 1):
        z = reach[v, u]
        if z < nearest:
            continue
        ix = one / np.float32(rays[0, 0] * u + rays[0, 1] * v + rays[0, 2])
        iy = one / np.float32(rays[1, 0] * u + rays[1, 1] * v + rays[1, 2])
        iz = one / np.float32(rays[2, 0] * u + rays[2, 1] * v + rays[2, 2])
        # Slabs widened by eps: a ray that misses them passes by for certain.
        ex, ey, ez = eps * abs(ix), eps * abs(iy), eps * abs(iz)
        nx, ny, nz = min(lx * ix, hx * ix), min(ly * iy, hy * iy), min(lz * iz, hz * iz)
        fx, fy, fz = max(lx * ix, hx * ix), max(ly * iy, hy * iy), max(lz * iz, hz * iz)
        near = max(max(nx - ex, ny - ey), max(nz - ez, np.float32(0.0)))
        far = min(min(fx + ex, fy + ey), fz + ez)
        if near > far or z < near:
            continue
        inner_near = max(max(nx + ex, ny + ey), max(nz + ez, np.float32(0.0)))
        inner_far = min(min(fx - ex, fy - ey), fz - ez)
        if inner_near < inner_far and z > far:
            return -1
        if inner_near < z < inner_far:
            continue  # it ends in this voxel
        if count < doubts.shape[0]:
            doubts[count] = v * reach.shape[1] + u
        count += 1
    return count


@njit(cache=True, nogil=True, inline="always", error_model="numpy")
def _silhouette(
    pinhole: Array, axes: Array, a: float, b: float, c: float, margin: float, corners: Array, spans: Array
) -> tuple[int, int]:
    """Rasterises the outline of a voxel in front of the camera.

    Args:
        pinhole: fx, fy, cx, cy, width - 1, height - 1.
        axes: (3, 3) float64, half a voxel's edges along the map's axes in the camera's frame [m].
        a: its centre in the camera's frame [m].
        b: likewise.
        c: likewise.
        margin: by how much the voxel is widened [m].
        corners: (8, 2) float64, scratch.
        spans: (H, 2) float64, filled with the first and last column of each of its rows.

    Returns:
        first and last row, within the image.
    """
    top, bottom = np.inf, -np.inf
    for k in range(8):
        i, j, m = 2.0 * (k >> 2) - 1.0, 2.0 * ((k >> 1) & 1) - 1.0, 2.0 * (k & 1) - 1.0
        per = 1.0 / (c + i * axes[0, 2] + j * axes[1, 2] + m * axes[2, 2])
        corners[k, 0] = (a + i * axes[0, 0] + j * axes[1, 0] + m * axes[2, 0]) * per * pinhole[0] + pinhole[2]
        corners[k, 1] = (b + i * axes[0, 1] + j * axes[1, 1] + m * axes[2, 1]) * per * pinhole[1] + pinhole[3]
        top, bottom = min(top, corners[k, 1]), max(bottom, corners[k, 1])
    slack = 0.02 + 2.0 * margin * max(pinhole[0], pinhole[1]) / c
    v0 = np.int64(max(np.ceil(top - slack), 0.0))
    v1 = np.int64(min(np.floor(bottom + slack), pinhole[5]))
    for v in range(v0, v1 + 1):
        spans[v, 0], spans[v, 1] = np.inf, -np.inf
    for k in range(8):
        for bit in range(3):
            other = k | (1 << bit)
            if other == k:
                continue
            low, high = (k, other) if corners[k, 1] <= corners[other, 1] else (other, k)
            rise = corners[high, 1] - corners[low, 1]
            slope = (corners[high, 0] - corners[low, 0]) / max(rise, 1e-9)
            first = max(np.int64(np.ceil(corners[low, 1] - slack)), v0)
            last = min(np.int64(np.floor(corners[high, 1] + slack)), v1)
            for v in range(first, last + 1):
                part = min(max(v - corners[low, 1], 0.0), rise)
                u = corners[low, 0] + slope * part
                spans[v, 0] = min(spans[v, 0], u - slack)
                spans[v, 1] = max(spans[v, 1], u + slack)
    return v0, v1


@njit(cache=True, nogil=True, error_model="numpy")
def _locate_block(view: View, work: Work, x: int, y: int, z: int) -> None:
    """Computes where the centres of a block's voxels are in the image, all at once."""
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
    columns, front = np.int32(view.width), np.float32(work.half[2] + 1e-3)
    one, zero = np.float32(1.0), np.float32(0.0)
    side, down, depth, pixel = work.side, work.down, work.depth, work.pixel
    for k in range(np.int32(512)):
        i, j, m = np.float32(k >> 6), np.float32((k >> 3) & 7), np.float32(k & 7)
        s = s0 + i * sx + j * sy + m * sz
        t = t0 + i * tx + j * ty + m * tz
        d = d0 + i * dx + j * dy + m * dz
        per = one / d
        u, v = fx * s * per + cx, fy * t * per + cy
        seen = (u > zero) & (u < width) & (v > zero) & (v < height) & (d > front)
        u, v = u if seen else zero, v if seen else zero
        side[k], down[k], depth[k] = s, t, d
        pixel[k] = np.int32(np.int32(v) * columns + np.int32(u)) if seen else np.int32(-1)


@njit(cache=True, nogil=True, error_model="numpy")
def _decide_block(
    reach: Array, pinhole: Array, half: Array, certain: float, side: Array, down: Array, depth: Array,
    pixel: Array, pyramid: Array, offsets: Array, cells: Array, corner: int, sx: int, sy: int,
    unsettled: Array
) -> int:  # fmt: skip
    """Marks a block's voxels that the pixel at their centre shows to be free.

    Args:
        reach: (H * W,) float32.
        pinhole: fx, fy, cx, cy, width - 1, height - 1.
        half: (3,) float64, half a voxel's size along the camera's axes [m].
        certain: as in `Work`.
        side: (512,) float32 of `_locate_block`.
        down: likewise.
        depth: likewise.
        pixel: likewise.
        pyramid: of `farthest_pyramid`.
        offsets: likewise.
        cells: the byte map.
        corner: the block's first cell.
        sx: cells per voxel along x.
        sy: cells per voxel along y.
        unsettled: (512,) int64, filled with the voxels that other pixels may see.

    Returns:
        how many are unsettled.
    """
    count = 0
    thick = np.float32(half[2])
    for k in range(512):
        cell = corner + (k >> 6) * sx + ((k >> 3) & 7) * sy + (k & 7)
        d, middle = depth[k], pixel[k]
        if cells[cell] != 0 or d < -thick:
            continue
        if middle >= 0 and reach[middle] > d + thick and d < certain:
            cells[cell] = _FREE
            continue
        if d - thick > np.float32(1e-3):
            u0, u1, v0, v1 = _rectangle(
                pinhole, np.float64(side[k]), np.float64(down[k]), np.float64(d), half
            )
            if u0 > u1 or _farthest(pyramid, offsets, u0, u1, v0, v1, 4) < d - thick - np.float32(1e-5):
                continue
        unsettled[count] = k
        count += 1
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def _in_sight(rays: Array, width: int, height: int, low: Array) -> bool:
    """Tells whether rays may pass a voxel beside the camera, from the border and a few pixels.

    From so near a voxel covers hundreds of pixels: if no ray of a coarse grid and of the
    image's border passes it, widened by a tenth, no ray does.
    """
    wide = np.float32(0.1)
    one = np.float32(1.0)
    for v in range(height):
        border = v == 0 or v == height - 1
        step = 1 if border else (16 if v % 16 == 0 else width - 1)
        for u in range(0, width, max(step, 1)):
            near, far = np.float32(0.0), np.float32(np.inf)
            for a in range(3):
                per = one / np.float32(rays[a, 0] * u + rays[a, 1] * v + rays[a, 2])
                first, last = (low[a] - wide) * per, (low[a] + one + wide) * per
                near, far = max(near, min(first, last)), min(far, max(first, last))
            if near <= far:
                return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def _try_block(
    view: View, work: Work, reach: Array, pyramid: Array, offsets: Array, x0: int, y0: int, z0: int,
    count: int, cells: Array, corner: int, sx: int, sy: int, starts: Array
) -> None:  # fmt: skip
    """Tries the pixels in the outlines of a block's `count` unsettled voxels."""
    low, spans, doubts, unsettled, rays = work.low, work.spans, work.doubts, work.unsettled, work.rays
    side, down, depth, pixel, axes = work.side, work.down, work.depth, work.pixel, work.axes
    pinhole, corners, eps = work.pinhole, work.corners, np.float32(view.eps)
    ax, ay, az, thick = view.at[0], view.at[1], view.at[2], work.half[2]
    margin = view.eps * view.resolution
    width, height = view.width, view.height
    for n in range(count):
        k = unsettled[n]
        x, y, z = x0 + (k >> 6), y0 + ((k >> 3) & 7), z0 + (k & 7)
        low[0], low[1], low[2] = x - ax, y - ay, z - az
        c = np.float64(depth[k])
        nearest = np.float32(c - thick - 1e-5)
        middle = np.int64(pixel[k])
        cell = corner + (k >> 6) * sx + ((k >> 3) & 7) * sy + (k & 7)
        if middle >= 0 and reach[middle // width, middle % width] >= nearest:
            v, u = middle // width, middle % width
            if _try_row(rays, eps, reach, v, u, u, low, nearest, doubts, 0) < 0:
                cells[cell] = _FREE
                continue
        if c - thick > 1e-3:
            v0, v1 = _silhouette(
                pinhole, axes, np.float64(side[k]), np.float64(down[k]), c, margin, corners, spans
            )
            left, right = corners[0, 0], corners[0, 0]
            for j in range(1, 8):
                left, right = min(left, corners[j, 0]), max(right, corners[j, 0])
            u0, u1 = np.int64(max(left - 1.0, 0.0)), np.int64(min(max(right + 1.0, 0.0), width - 1.0))
            if v0 > v1 or u0 > u1 or _farthest(pyramid, offsets, u0, u1, v0, v1, 8) < nearest:
                continue
        else:
            u0, u1, v0, v1, _, _ = _outline(view, x, y, z, 1.0)
            if u0 > u1 or not _in_sight(rays, width, height, low):
                continue
            for v in range(height):
                spans[v, 0], spans[v, 1] = np.float64(u0), np.float64(u1)
        found = np.int64(0)
        if c - thick <= 1e-3:  # a voxel beside the camera: a few rows soon find a ray
            for v in range(v0, v1 + 1, 16):
                if found >= 0:
                    found = _try_row(rays, eps, reach, v, u0, u1, low, nearest, doubts, 0)
        found = min(found, 0)
        for v in range(v0, v1 + 1):
            if found < 0:
                break
            u0 = np.int64(np.ceil(max(spans[v, 0], 0.0)))
            u1 = np.int64(np.floor(min(spans[v, 1], width - 1.0)))
            found = _try_row(rays, eps, reach, v, u0, u1, low, nearest, doubts, found)
            if found < 0:
                break
        if found < 0:
            cells[cell] = _FREE
        for j in range(min(found, doubts.shape[0])):
            starts[doubts[j]] = 0.0
        if found > doubts.shape[0]:
            starts[:] = 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _follow_block(work: Work, width: int, count: int, starts: Array) -> None:
    """Has the rays of the pixels in the outlines of a block's `count` unsettled voxels followed."""
    side, down, depth, unsettled = work.side, work.down, work.depth, work.unsettled
    pinhole, half = work.pinhole, work.half
    for n in range(count):
        k = unsettled[n]
        d = np.float64(depth[k])
        nearest = np.float32(d - half[2])
        u0, u1, v0, v1 = _rectangle(pinhole, np.float64(side[k]), np.float64(down[k]), d, half)
        for v in range(v0, v1 + 1):
            for i in range(v * width + u0, v * width + u1 + 1):
                starts[i] = min(starts[i], nearest)


@njit(cache=True, nogil=True, error_model="numpy")
def mark_view(
    view: View, work: Work, reach: Array, pyramid: Array, offsets: Array, shape: Array, strides: Array,
    cells: Array, starts: Array, first: int, last: int, limit: float, follow: float, settle: bool
) -> int:  # fmt: skip
    """Marks FREE the voxels that the rays of a depth image pass, in some blocks of the byte map.

    Blocks do not depend on each other: threads may take different ones, with `work` of their own.

    Args:
        view: the camera.
        work: what `prepare_work` made of it.
        reach: (H, W) float32 planar depth of the rays' ends, -1 where there is no ray.
        pyramid: of `farthest_pyramid`.
        offsets: of `farthest_pyramid`.
        shape: (3,) int64 blocks of the byte map along each axis.
        strides: (3,) int64 cells per voxel along each axis.
        cells: the byte map, in which the rays' ends are marked HIT already.
        starts: (H * W,) float32, lowered to the depth from which on a pixel's ray is to be followed [m].
        first: first block, counted z fastest.
        last: the one after the last block.
        limit: blocks that lie wholly beyond this depth are left out [m].
        follow: in blocks that lie wholly beyond this depth, the rays are to be followed through the
            voxels that the pixel at their centre does not decide [m].
        settle: try the other pixels too where the one at a voxel's centre does not decide.

    Returns:
        how many voxels could not be decided by the pixel at their centre.
    """
    flat = reach.reshape(-1)
    sx, sy = strides[0], strides[1]
    r, at = view.rotation, view.at
    furthest = limit / view.resolution + 8.0  # a block reaches less than seven edges from its middle
    tried = 0
    for block in range(first, last):
        z0 = block % shape[2] * 8
        y0 = block // shape[2] % shape[1] * 8
        x0 = block // (shape[2] * shape[1]) * 8
        a, b, c = x0 + 4.0 - at[0], y0 + 4.0 - at[1], z0 + 4.0 - at[2]
        if r[0, 2] * a + r[1, 2] * b + r[2, 2] * c > furthest:
            continue
        u0, u1, v0, v1, near, far = _outline(view, x0, y0, z0, 8.0)
        if u0 > u1 or far < 0.0 or near > limit or _farthest(pyramid, offsets, u0, u1, v0, v1, 4) < near:
            continue
        _locate_block(view, work, x0, y0, z0)
        corner = PAD + x0 * sx + y0 * sy + z0
        count = _decide_block(
            flat, work.pinhole, work.half, work.certain, work.side, work.down, work.depth, work.pixel,
            pyramid, offsets, cells, corner, sx, sy, work.unsettled,
        )  # fmt: skip
        if not settle or count == 0:
            continue
        tried += count
        if near > follow:
            _follow_block(work, view.width, count, starts)
        else:
            _try_block(view, work, reach, pyramid, offsets, x0, y0, z0, count, cells, corner, sx, sy, starts)
    return tried

"""Numba kernels on grid maps: paths, clearance, frontiers, coverage, regions.

They share helpers and so live in one file: Numba's on-disk cache is keyed by the file
a kernel is in and would not notice a change elsewhere.

Distances are integers: a straight step is `STRAIGHT`, a diagonal one `DIAGONAL` (their
ratio is 0.2 % above the square root of 2). So every machine finds the same paths.
Diagonal steps never cut the corner of a cell that is not free.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

STRAIGHT, DIAGONAL = 12, 17
FAR = np.int32(2**30)
"""Path distance of what cannot be reached, in `STRAIGHT`ths of a cell."""

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def spread(free: Array, seeds: Array, owners: Array, diagonal: bool, distance: Array, owner: Array) -> None:
    """Grows `seeds` over free cells and lowers `distance` and `owner` where they come closer.

    With only two lengths of step, three first-in-first-out queues (seeds, straight, diagonal)
    are each sorted by distance, so the least of their heads is Dijkstra's next cell.

    Args:
        free: (H, W) bool. A seed need not be free.
        seeds: (S,) int64 flat cell indices.
        owners: (S,) int32, of the seeds.
        diagonal: whether diagonal steps are allowed.
        distance: (H, W) int32, changed in place; `FAR` where nothing has come yet.
        owner: (H, W) int32, changed in place.
    """
    height, width = free.shape
    size = height * width
    flat, dist, own = free.reshape(-1), distance.reshape(-1), owner.reshape(-1)
    queue = np.empty((2, size), np.int32)  # a cell enters each of the two at most once
    queued = np.empty((2, size), np.int32)
    head, tail = np.zeros(2, np.int64), np.zeros(2, np.int64)
    for s in range(seeds.shape[0]):
        if dist[seeds[s]] > 0:
            dist[seeds[s]] = 0
            own[seeds[s]] = owners[s]
    first = 0
    while True:
        best, cell, came = -1, np.int64(0), np.int32(0)
        if first < seeds.shape[0]:
            best, cell = 2, seeds[first]
        for q in range(2):
            if head[q] < tail[q] and (best < 0 or queued[q, head[q]] < came):
                best, cell, came = q, np.int64(queue[q, head[q]]), queued[q, head[q]]
        if best < 0:
            return
        if best == 2:
            first += 1
            if own[cell] != owners[first - 1]:
                continue
        else:
            head[best] += 1
        if dist[cell] < came:
            continue  # came closer another way since it was queued
        y, x = cell // width, cell % width
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                ny, nx = y + dy, x + dx
                slanted = dy != 0 and dx != 0
                if (dy == 0 and dx == 0) or ny < 0 or nx < 0 or ny >= height or nx >= width:
                    continue
                if slanted and not (diagonal and free[y, nx] and free[ny, x]):
                    continue
                n = ny * width + nx
                step = np.int32(came + (DIAGONAL if slanted else STRAIGHT))
                if not flat[n] or step >= dist[n]:
                    continue
                dist[n] = step
                own[n] = own[cell]
                q = 1 if slanted else 0
                queue[q, tail[q]] = n
                queued[q, tail[q]] = step
                tail[q] += 1


@njit(cache=True, nogil=True)
def walk(cells: Array, start: int, goal: int, diagonal: bool) -> Array:
    """Returns (H, W) int32 path distances from one cell over cells that are 0, as `spread` finds them.

    Args:
        cells: (H, W) int8 of a grid map.
        start: flat cell; it need not be free.
        goal: flat cell at which to stop: what is farther away is not looked at, or not to the end; -1: none.
        diagonal: whether diagonal steps are allowed.
    """
    height, width = cells.shape
    distance = np.empty((height, width), np.int32)
    dist = distance.reshape(-1)
    for y in range(height):
        for x in range(width):  # what is not free can never come closer
            distance[y, x] = FAR if cells[y, x] == 0 else np.int32(-1)
    queue = np.empty((2, height * width), np.int64)  # distance << 32 | cell
    h0, t0, h1, t1 = 0, 0, 0, 0
    dist[start] = 0
    queue[0, 0] = start
    t0 = 1
    mask = np.int64(0xFFFFFFFF)
    while h0 < t0 or h1 < t1:
        if h1 >= t1 or (h0 < t0 and queue[0, h0] <= queue[1, h1]):
            item = queue[0, h0]
            h0 += 1
        else:
            item = queue[1, h1]
            h1 += 1
        cell, came = item & mask, np.int32(item >> 32)
        if dist[cell] < came:
            continue  # came closer another way since it was queued
        if cell == goal:
            break
        y, x = cell // width, cell % width
        up, down, left, right = y > 0, y < height - 1, x > 0, x < width - 1
        straight, slanted = np.int32(came + STRAIGHT), np.int32(came + DIAGONAL)
        for k in range(4):
            if not (up if k == 0 else down if k == 1 else left if k == 2 else right):
                continue
            n = cell + (-width if k == 0 else width if k == 1 else -1 if k == 2 else 1)
            if dist[n] > straight:
                dist[n] = straight
                queue[0, t0] = np.int64(straight) << 32 | n
                t0 += 1
        if not diagonal:
            continue
        for k in range(4):
            if not ((up if k < 2 else down) and (left if k % 2 == 0 else right)):
                continue
            across, beside = -width if k < 2 else width, -1 if k % 2 == 0 else 1
            n = cell + across + beside
            if dist[n] > slanted and cells[y, x + beside] == 0 and cells[y + across // width, x] == 0:
                dist[n] = slanted
                queue[1, t1] = np.int64(slanted) << 32 | n
                t1 += 1
    for n in range(dist.shape[0]):
        dist[n] = FAR if dist[n] < 0 else dist[n]
    return distance


@njit(cache=True, nogil=True)
def squared_distance(blocked: Array) -> Array:
    """Returns (H, W) int64 squared distances, in cells, to the nearest blocked cell (exact).

    The two passes of Meijster, Roerdink and Hesselink (2000). Beyond the map nothing is blocked;
    where nothing is blocked at all the result is at least (H + W)^2.
    """
    height, width = blocked.shape
    far = height + width
    rows = np.empty((height, width), np.int64)
    for x in range(width):
        last = far
        for y in range(height):
            last = 0 if blocked[y, x] else min(last + 1, far)
            rows[y, x] = last
        last = far
        for y in range(height - 1, -1, -1):
            last = 0 if blocked[y, x] else min(last + 1, far)
            rows[y, x] = min(rows[y, x], last)
    result = np.empty((height, width), np.int64)
    at, start = np.empty(width, np.int64), np.empty(width, np.int64)
    for y in range(height):
        top = 0
        at[0], start[0] = 0, 0
        for u in range(1, width):
            gu = rows[y, u]
            while top >= 0:
                t, i = start[top], at[top]
                if (t - i) ** 2 + rows[y, i] ** 2 <= (t - u) ** 2 + gu * gu:
                    break
                top -= 1
            if top < 0:
                top = 0
                at[0], start[0] = u, 0
            else:
                i = at[top]
                w = 1 + (u * u - i * i + gu * gu - rows[y, i] ** 2) // (2 * (u - i))
                if w < width:
                    top += 1
                    at[top], start[top] = u, w
        for u in range(width - 1, -1, -1):
            i = at[top]
            result[y, u] = (u - i) ** 2 + rows[y, i] ** 2
            if u == start[top]:
                top -= 1
    return result


@njit(cache=True, nogil=True)
def frontier(cells: Array) -> Array:
    """Returns (H, W) bool: cells that are 0 and have a 4-neighbour that is negative or beyond the map."""
    height, width = cells.shape
    result = np.zeros((height, width), np.bool_)
    for y in range(height):
        for x in range(width):
            if cells[y, x] == 0:
                result[y, x] = (
                    y == 0
                    or x == 0
                    or y == height - 1
                    or x == width - 1
                    or cells[y - 1, x] < 0
                    or cells[y + 1, x] < 0
                    or cells[y, x - 1] < 0
                    or cells[y, x + 1] < 0
                )
    return result


@njit(cache=True, nogil=True)
def descend(distance: Array, goal: int, diagonal: bool) -> Array:
    """Returns the flat cells from `goal` back to distance 0, straight steps first among equals."""
    height, width = distance.shape
    path = np.empty(height * width, np.int64)
    path[0] = goal
    count = 1
    y, x = goal // width, goal % width
    while distance[y, x] > 0:
        by, bx = -1, -1
        for slanted in range(2 if diagonal else 1):
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    if (dy == 0 and dx == 0) or (dy != 0 and dx != 0) != (slanted == 1):
                        continue
                    ny, nx = y + dy, x + dx
                    if by >= 0 or ny < 0 or nx < 0 or ny >= height or nx >= width:
                        continue
                    step = DIAGONAL if slanted == 1 else STRAIGHT
                    if distance[ny, nx] + step != distance[y, x]:
                        continue
                    if slanted == 1 and (distance[y, nx] >= FAR or distance[ny, x] >= FAR):
                        continue
                    by, bx = ny, nx
        y, x = by, bx
        path[count] = y * width + x
        count += 1
    return path[:count]


@njit(cache=True, nogil=True)
def frontier_clusters(cells: Array, distance: Array) -> Array:
    """Groups frontier cells into 8-connected clusters.

    Args:
        cells: (H, W) int8 of a grid map.
        distance: (H, W) int32 path distances from the agent.

    Returns:
        (C, 7) int64 per cluster: the flat cell that is nearest to the agent (the first of equals),
        its distance, number of cells, lowest and highest y, lowest and highest x.
    """
    height, width = cells.shape
    left = frontier(cells)
    stack = np.empty(height * width, np.int64)
    result = np.empty((height * width, 7), np.int64)
    number = 0
    for y in range(height):
        for x in range(width):
            if not left[y, x]:
                continue
            left[y, x] = False
            stack[0] = y * width + x
            size = 1
            c = result[number]
            number += 1
            c[0], c[1], c[2], c[3], c[4], c[5], c[6] = stack[0], distance[y, x], 0, y, y, x, x
            while size > 0:
                size -= 1
                n = stack[size]
                cy, cx = n // width, n % width
                c[2] += 1
                c[3], c[4], c[5], c[6] = min(c[3], cy), max(c[4], cy), min(c[5], cx), max(c[6], cx)
                if distance[cy, cx] < c[1] or (distance[cy, cx] == c[1] and n < c[0]):
                    c[0], c[1] = n, distance[cy, cx]
                for ny in range(max(cy - 1, 0), min(cy + 2, height)):
                    for nx in range(max(cx - 1, 0), min(cx + 2, width)):
                        if left[ny, nx]:
                            left[ny, nx] = False
                            stack[size] = ny * width + nx
                            size += 1
    return result[:number].copy()


@njit(cache=True, nogil=True)
def steps_to(distance: Array, ys: Array, xs: Array, reach: int) -> Array:
    """Returns (N,) float64: least path distance to points on or beside free cells; `FAR` where none.

    Args:
        distance: (H, W) int32 path distances from the agent.
        ys: (N,) int64 rows of the points' cells, perhaps outside the map.
        xs: (N,) int64 columns.
        reach: half edge of the window in which a free cell may lie [cells].
    """
    height, width = distance.shape
    result = np.full(ys.shape[0], float(FAR))
    for i in range(ys.shape[0]):
        y, x = ys[i], xs[i]
        if 0 <= y < height and 0 <= x < width and distance[y, x] < FAR:
            result[i] = distance[y, x]
            continue
        best = float(FAR)
        x0, x1 = max(x - reach, 0), min(x + reach + 1, width)
        for k in range(2 * reach + 1):  # the nearest rows first
            dy = (k + 1) // 2 if k % 2 else -(k // 2)
            if y + dy < 0 or y + dy >= height or x0 >= x1:
                continue
            row, least = distance[y + dy, x0:x1], FAR
            for j in range(x1 - x0):
                least = min(least, row[j])
            if least + STRAIGHT * abs(dy) >= best:
                continue
            for j in range(x1 - x0):
                if row[j] < best:
                    dx = x0 + j - x
                    away = row[j] + STRAIGHT * np.sqrt(float(dy * dy + dx * dx))
                    best = min(best, away)
        result[i] = best
    return result


@njit(cache=True, nogil=True)
def ways_to(
    distance: Array,
    positions: Array,
    raster: tuple[float, float, float],
    reach: int,
    here: Array,
) -> tuple[Array, Array]:
    """Returns (N,) float64 path distances [m] to positions, inf where there is no way, and straight ones [m].

    Args:
        distance: (H, W) int32 path distances from the agent; (0, 0) where nothing is known.
        positions: (N, 3) float64 [m].
        raster: x and y of the map's origin and the edge of a cell [m].
        reach: as for `steps_to`.
        here: (3,) float64 the agent's position [m].
    """
    x0, y0, resolution = raster
    scale = 1.0 / resolution
    count = positions.shape[0]
    ys, xs, away = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count)
    for i in range(count):
        xs[i] = np.int64(np.floor((positions[i, 0] - x0) * scale))
        ys[i] = np.int64(np.floor((positions[i, 1] - y0) * scale))
        dx, dy, dz = positions[i, 0] - here[0], positions[i, 1] - here[1], positions[i, 2] - here[2]
        away[i] = np.sqrt(dx * dx + dy * dy + dz * dz)
    path = steps_to(distance, ys, xs, reach)
    for i in range(count):
        path[i] = np.inf if path[i] >= FAR else path[i] / STRAIGHT * resolution
    return path, away


@njit(cache=True, nogil=True)
def to_frame(rotation: Array, origin: Array, points: Array, result: Array) -> None:
    """Maps (N, 3) points into the frame with this rotation and origin: R^T (p - origin)."""
    for n in range(points.shape[0]):
        for i in range(3):
            total = 0.0
            for j in range(3):
                total += rotation[j, i] * (points[n, j] - origin[j])
            result[n, i] = total


@njit(cache=True, nogil=True)
def _is_clear(raw: Array, v: int, u: int, core: float) -> bool:
    """Whether nothing in (H, W) cells is nearer to a cell than `core` [cells]."""
    n = np.int64(core)
    for y in range(max(v - n, 0), min(v + n + 1, raw.shape[0])):
        for x in range(max(u - n, 0), min(u + n + 1, raw.shape[1])):
            if raw[y, x] > 0 and (y - v) ** 2 + (x - u) ** 2 < core * core:
                return False
    return True


@njit(cache=True, nogil=True)
def differing(
    old: Array,
    drawn: tuple[Array, Array, Array],
    old_at: tuple[int, int],
    new: Array,
    raw: Array,
    new_at: tuple[int, int],
    box: tuple[int, int, int, int],
    core: float,
) -> tuple[Array, Array, Array]:
    """Compares two rasters of the ground in a box; beyond the new one all is unknown.

    Furniture that is drawn makes free cells obstacles; where the base has been and nothing stands in its
    very way they are free.

    Args:
        old: (H, W) int8; it holds the box.
        drawn: (H, W) int16 furniture near a cell, (H, W) int16 over it, (H, W) uint8 where the base has been.
        old_at: y and x of its first cell, from the map's origin.
        new: (H', W') int8.
        raw: (H', W') int8 the new one without the robot's radius; 0 x 0: what is drawn does not count.
        new_at: y and x of its first cell.
        box: first y, first x, end y, end x.
        core: what is nearer to where the base has been stands in its way [cells].

    Returns:
        (C,) int64 flat cells of the old raster that differ, (C,) int64 y and x packed as y << 32 | x less the
        corner of the box, and (C,) int8 what they are now.
    """
    y0, x0, y1, x1 = box
    beside, covered, driven = drawn
    width, count = old.shape[1], 0
    flat, where = np.empty((y1 - y0) * (x1 - x0), np.int64), np.empty((y1 - y0) * (x1 - x0), np.int64)
    values = np.empty((y1 - y0) * (x1 - x0), np.int8)
    for y in range(y0, y1):
        v, j = y - new_at[0], y - old_at[0]
        for x in range(x0, x1):
            u, i = x - new_at[1], x - old_at[1]
            inside = v >= 0 and u >= 0 and v < new.shape[0] and u < new.shape[1]
            value = new[v, u] if inside else np.int8(-1)
            if raw.size:
                if driven[j, i] > 0 and covered[j, i] == 0 and _is_clear(raw, v, u, core):
                    value = np.int8(0)
                elif value == 0 and beside[j, i] > 0:
                    value = np.int8(100)
            if value != old[j, i]:
                flat[count] = j * width + i
                where[count] = (y - y0) << 32 | (x - x0)
                values[count] = value
                count += 1
    return flat[:count], where[:count], values[:count]

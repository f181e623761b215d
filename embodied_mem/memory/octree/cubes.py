"""Numba kernels that ask pixels about voxels, some cubes of 4^3 voxels at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.nodes import Nodes, level_of
from embodied_mem.memory.octree.view import VOXELS, Unsettled, View, Work

Array = NDArray[Any]

PAD = 64
"""As in `dense`."""
ROOM = VOXELS // 64
"""Cubes whose voxels are asked about at once: what there is to know of them fits the caches."""
_LOW4 = np.uint32(0x01010101)
"""The lowest bit of each byte."""


class Cubes(NamedTuple):
    """Scratch: cubes whose voxels are to be asked about.

    Attributes:
        nodes: (2, ROOM) int64 which ones; in the second row those that are not in view as a whole, or
            not near enough for the pixels at their voxels' centres.
        sizes: (2,) int64, how many there are in each row.
        base: (3, ROOM) float32, their centres in the camera's frame [m].
        low: (3, ROOM) float64, their corners from the camera, along the map's axes [voxels].
        place: (4, ROOM) int64: their first four cells; a level of `seen`; where that one starts; its columns.
    """

    nodes: Array
    sizes: Array
    base: Array
    low: Array
    place: Array

    @classmethod
    def make(cls) -> Cubes:
        """Allots it."""
        base, low, place = np.empty((3, ROOM), np.float32), np.empty((3, ROOM)), np.empty((4, ROOM), np.int64)
        return cls(np.zeros((2, ROOM), np.int64), np.zeros(2, np.int64), base, low, place)


@njit(cache=True, nogil=True, error_model="numpy")
def _locate_whole(view: View, count: int, base: Array, place: Array, depth: Array, pixel: Array, node: Array) -> None:
    """Computes where the centres of the voxels of cubes are that are in view as a whole, all at once.

    Fills the last three, of `Work`, as `_locate_part` does.
    """
    r, res = view.rotation, np.float64(view.resolution)
    f, g = view.fx * res, view.fy * res
    sx, sy, sz = np.float32(r[0, 0] * f), np.float32(r[1, 0] * f), np.float32(r[2, 0] * f)
    tx, ty, tz = np.float32(r[0, 1] * g), np.float32(r[1, 1] * g), np.float32(r[2, 1] * g)
    dx, dy, dz = np.float32(r[0, 2] * res), np.float32(r[1, 2] * res), np.float32(r[2, 2] * res)
    cx, cy = np.float32(view.cx + 0.5), np.float32(view.cy + 0.5)
    stride, one, back = np.int32(view.width), np.float32(1.0), np.float32(1.5)
    fx, fy = np.float32(view.fx), np.float32(view.fy)
    for q in range(count):
        s0 = fx * base[0, q] - back * (sx + sy + sz)
        t0 = fy * base[1, q] - back * (tx + ty + tz)
        d0 = base[2, q] - back * (dx + dy + dz)
        shift, across, first_node = np.int32(place[1, q]), np.int32(place[3, q]), np.int32(place[2, q])
        depths, pixels, nodes = depth[q * 64 : q * 64 + 64], pixel[q * 64 : q * 64 + 64], node[q * 64 : q * 64 + 64]
        for k in range(np.int32(64)):
            i, j, m = np.float32(k >> 4), np.float32((k >> 2) & 3), np.float32(k & 3)
            d = d0 + i * dx + j * dy + m * dz
            per = one / d
            depths[k] = d
            column = np.int32((s0 + i * sx + j * sy + m * sz) * per + cx)
            row = np.int32((t0 + i * tx + j * ty + m * tz) * per + cy)
            pixels[k] = np.int32(row * stride + column)
            nodes[k] = np.int32(first_node + np.int32(row >> shift) * across + np.int32(column >> shift))


@njit(cache=True, nogil=True, error_model="numpy")
def _locate_part(
    view: View, thick: float, count: int, base: Array, place: Array, side: Array, down: Array, depth: Array,
    inside: Array, pixel: Array, node: Array
) -> None:  # fmt: skip
    """Computes where the centres of cubes' voxels are in the image, all at once.

    Fills the last six, of `Work`; `pixel` and `node` are of the nearest pixel in the image, and of
    its node in a level with so many columns. `thick` is half a voxel's depth [m].
    """
    r, res = view.rotation, np.float64(view.resolution)
    sx, sy, sz = np.float32(r[0, 0] * res), np.float32(r[1, 0] * res), np.float32(r[2, 0] * res)
    tx, ty, tz = np.float32(r[0, 1] * res), np.float32(r[1, 1] * res), np.float32(r[2, 1] * res)
    dx, dy, dz = np.float32(r[0, 2] * res), np.float32(r[1, 2] * res), np.float32(r[2, 2] * res)
    fx, fy = np.float32(view.fx), np.float32(view.fy)
    cx, cy = np.float32(view.cx + 0.5), np.float32(view.cy + 0.5)
    width, height = np.float32(view.width), np.float32(view.height)
    stride, back = np.int32(view.width), np.float32(1.5)
    front, one, zero = np.float32(thick + 1e-3), np.float32(1.0), np.float32(0.0)
    first, most_u, most_v = np.float32(0.5), width - np.float32(0.75), height - np.float32(0.75)
    for q in range(count):
        s0 = base[0, q] - back * (sx + sy + sz)
        t0 = base[1, q] - back * (tx + ty + tz)
        d0 = base[2, q] - back * (dx + dy + dz)
        shift, across, first_node = np.int32(place[1, q]), np.int32(place[3, q]), np.int32(place[2, q])
        sides, downs, depths = side[q * 64 : q * 64 + 64], down[q * 64 : q * 64 + 64], depth[q * 64 : q * 64 + 64]
        within, pixels, nodes = inside[q * 64 : q * 64 + 64], pixel[q * 64 : q * 64 + 64], node[q * 64 : q * 64 + 64]
        for k in range(np.int32(64)):
            i, j, m = np.float32(k >> 4), np.float32((k >> 2) & 3), np.float32(k & 3)
            s = s0 + i * sx + j * sy + m * sz
            t = t0 + i * tx + j * ty + m * tz
            d = d0 + i * dx + j * dy + m * dz
            sides[k], downs[k], depths[k] = s, t, d
            ahead = d > front
            per = one / (d if ahead else one)
            u, v = fx * s * per + cx, fy * t * per + cy
            within[k] = np.int32(ahead & (u > zero) & (u < width) & (v > zero) & (v < height))
            u, v = u if u > first else first, v if v > first else first
            u, v = u if u < most_u else most_u, v if v < most_v else most_v
            column, row = np.int32(u), np.int32(v)
            pixels[k] = np.int32(row * stride + column)
            nodes[k] = np.int32(first_node + np.int32(row >> shift) * across + np.int32(column >> shift))


@njit(cache=True, nogil=True)
def _look_up(image: Array, places: Array, count: int, found: Array) -> None:
    """Reads an image at int32 places: a loop by itself, so that those around it are vectorised."""
    where = places.view(np.uint32)
    for k in range(count):
        found[k] = image[where[k]]


@njit(cache=True, nogil=True, error_model="numpy")
def _ask_whole(half: float, count: int, depth: Array, here: Array, around: Array, states: Array) -> None:
    """Fills the `states` of the voxels of cubes that are in view as a whole: see `_ask_part`."""
    thick, tiny = np.float32(half), np.float32(1e-5)
    for k in range(count):
        d = depth[k]
        state = np.int32(0) if around[k] < d - thick - (tiny + d * tiny) else np.int32(2)
        states[k] = np.int32(1) if here[k] > d + thick else state


@njit(cache=True, nogil=True, error_model="numpy")
def _ask_part(
    view: View, half: float, count: int, surely: float, margins: Array, limit: float, side: Array, down: Array,
    depth: Array, inside: Array, here: Array, around: Array, states: Array
) -> None:  # fmt: skip
    """Fills the `states` of cubes' voxels: what `_locate_part` found, against the depths there.

    Args:
        view: the camera.
        half: half a voxel's depth [m].
        count: voxels.
        surely: `certain` of `Work`.
        margins: of `Work`.
        limit: what lies wholly beyond this depth need not be settled [m].
        side: of `Work`, as filled by `_locate_part`.
        down: likewise.
        depth: likewise.
        inside: likewise.
        here: (512,) float32, the depths at the voxels' centres [m].
        around: (512,) float32, the largest depths in their outlines [m].
        states: (512,) uint8.
    """
    fx, fy, cx, cy = np.float32(view.fx), np.float32(view.fy), np.float32(view.cx), np.float32(view.cy)
    right, bottom = np.float32(view.width - 1) - cx, np.float32(view.height - 1) - cy
    thick, certain, last = np.float32(half), np.float32(surely), np.float32(limit)
    front, tiny = np.float32(half + 1e-3), np.float32(1e-5)
    m0, m1 = np.float32(margins[0]), np.float32(margins[1])
    m2, m3 = np.float32(margins[2]), np.float32(margins[3])
    rough = np.float32(1e-6 * (view.fx + view.fy + view.width + view.height))
    for k in range(count):
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
def _mark_cubes(
    quads: Array, sx: int, sy: int, states: Array, size: int, low: Array, place: Array, view: View,
    count: int, left: Unsettled
) -> int:  # fmt: skip
    """Marks cubes' free voxels; lists those that are neither free nor hit nor out of sight.

    Args:
        quads: the byte map, four cells at a time.
        sx: quads per voxel along x.
        sy: quads per voxel along y.
        states: uint32, of `_ask_part`.
        size: cubes.
        low: of `Cubes`.
        place: likewise.
        view: the camera.
        count: voxels listed so far.
        left: where to list them.

    Returns:
        how many are listed now.
    """
    before, listed, lows = count, left.cells, left.low
    for q in range(size):
        corner, a, b, c = place[0, q], low[0, q], low[1, q], low[2, q]
        for i in range(16):
            x, y = i >> 2, i & 3
            at, state = corner + x * sx + y * sy, states[16 * q + i]
            quad = quads[at] | (state & _LOW4)
            quads[at] = quad
            todo = (state >> np.uint32(1)) & ~(quad | (quad >> np.uint32(1))) & _LOW4
            if todo:
                for j in range(4):  # without a branch: what is not wanted is written over
                    listed[count] = at * 4 + j
                    lows[0, count], lows[1, count], lows[2, count] = a + x, b + y, c + j
                    count += np.int64((todo >> np.uint32(8 * j)) & np.uint32(1))
    r, res = view.rotation, np.float64(view.resolution)
    for n in range(before, count):
        a, b = (np.float64(left.low[0, n]) + 0.5) * res, (np.float64(left.low[1, n]) + 0.5) * res
        c = (np.float64(left.low[2, n]) + 0.5) * res
        left.side[n] = r[0, 0] * a + r[1, 0] * b + r[2, 0] * c
        left.down[n] = r[0, 1] * a + r[1, 1] * b + r[2, 1] * c
        left.depth[n] = r[0, 2] * a + r[1, 2] * b + r[2, 2] * c
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def _place_cubes(
    view: View, first: int, levels: Array, size: int, halves: Nodes, chosen: Array, sx: int, sy: int,
    size_of: int, cubes: Cubes
) -> None:  # fmt: skip
    """Finds where chosen cubes are: fills `base`, `low` and `place` of `cubes`."""
    base, low, place, last = cubes.base, cubes.low, cubes.place, levels.shape[0] - 1
    at0, at1, at2, inner = view.at[0], view.at[1], view.at[2], halves.inner.view(np.int32)
    for q in range(size):
        n = chosen[q]
        x, y, z = np.int64(halves.x[n]), np.int64(halves.y[n]), np.int64(halves.z[n])
        base[0, q], base[1, q], base[2, q] = halves.side[n], halves.down[n], halves.depth[n]
        low[0, q], low[1, q], low[2, q] = x - at0, y - at1, z - at2
        level, wide = level_of(inner[n], first, last)
        place[0, q], place[1, q] = (PAD >> 2) + x * sx + y * sy + (z >> 2), level
        place[2, q], place[3, q] = levels[level, 0] + (size_of if wide else 0), levels[level, 2]


@njit(cache=True, nogil=True, error_model="numpy")
def ask_cubes(
    view: View, work: Work, kind: int, size: int, halves: Nodes, chosen: Array, first: int, levels: Array,
    reach: Array, seen: Array, limit: float, quads: Array, sx: int, sy: int, cubes: Cubes, count: int, left: Unsettled
) -> int:  # fmt: skip
    """Asks about the voxels of cubes: marks the free ones, lists those that are not settled.

    Args:
        view: the camera.
        work: what `prepare_work` made of it.
        kind: 0 where all the cubes are in view as a whole and near enough for the pixels at voxels' centres.
        size: how many cubes, at most ROOM.
        halves: cubes, placed.
        chosen: int64, which of them.
        first: the first level for which `seen` is filled.
        levels: of `ask_share`.
        reach: likewise.
        seen: likewise.
        limit: likewise.
        quads: the byte map, four cells at a time.
        sx: quads per voxel along x.
        sy: quads per voxel along y.
        cubes: scratch.
        count: voxels listed so far.
        left: where to list them.

    Returns:
        how many are listed now.
    """
    side, down, depth, inside, here, around = (
        work.side, work.down, work.depth, work.inside, work.here, work.around
    )  # fmt: skip
    pixel, node, states, thick = work.pixel, work.node, work.states, work.half[2]
    _place_cubes(view, first, levels, size, halves, chosen, sx, sy, seen.shape[0] >> 1, cubes)
    base, low, place = cubes.base, cubes.low, cubes.place
    if kind == 0:
        _locate_whole(view, size, base, place, depth, pixel, node)
    else:
        _locate_part(view, thick, size, base, place, side, down, depth, inside, pixel, node)
    _look_up(reach, pixel, 64 * size, here)
    _look_up(seen, node, 64 * size, around)
    if kind == 0:
        _ask_whole(thick, 64 * size, depth, here, around, states)
    else:
        _ask_part(
            view, thick, 64 * size, work.certain, work.margins, limit + thick, side, down, depth, inside, here,
            around, states,
        )  # fmt: skip
    return _mark_cubes(quads, sx, sy, states.view(np.uint32), size, low, place, view, count, left)

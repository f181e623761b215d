"""Numba kernels that ask pixels about nodes of the octree as a whole: blocks, and cubes of 4^3 voxels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.view import View, Work

Array = NDArray[Any]

HIDDEN, OPEN, WHOLE, PART = 0, 1, 2, 3
"""States of a node: no ray passes it; the rays through all of its voxels' centres do; it is wholly in
view, and near enough for the pixels at its voxels' centres; it is not, or one cannot tell."""
_BEHIND = 4


class Nodes(NamedTuple):
    """Some nodes of one level of the octree.

    Attributes:
        x, y, z: (N,) int32, their first voxels in the byte map.
        side, down, depth: (N,) float32, their centres in the camera's frame [m].
        column, row: (N,) int32, the pixels there, or the nearest ones in the image.
        span, inner: (N,) float32, how far their outlines may reach from there, and those of their voxels
            from the pixels at these, in steps of three pixels: see `level_of`.
        here, near: (N,) float32, the largest depths in their outlines, and the smallest ones, negated.
        flags, states: (N,) int32, what they are without, and with, those depths.
    """

    x: Array
    y: Array
    z: Array
    side: Array
    down: Array
    depth: Array
    column: Array
    row: Array
    span: Array
    inner: Array
    here: Array
    near: Array
    flags: Array
    states: Array


class Sheet(NamedTuple):
    """The rows of `Nodes` or the like by their type: a kernel takes two arrays sooner than many.

    Attributes:
        whole: (R, N) int32.
        real: (S, N) float32.
    """

    whole: Array
    real: Array

    @classmethod
    def of_nodes(cls, count: int) -> Sheet:
        """Returns room for so many nodes."""
        return cls(np.empty((7, count), np.int32), np.empty((7, count), np.float32))


@njit(cache=True, nogil=True)
def nodes_on(sheet: Sheet) -> Nodes:
    """Returns the nodes of a sheet."""
    w, r = sheet.whole, sheet.real
    return Nodes(w[0], w[1], w[2], r[0], r[1], r[2], w[3], w[4], r[3], r[4], r[5], r[6], w[5], w[6])


@njit(cache=True, nogil=True, inline="always")
def level_of(bits: int, first: int, last: int) -> tuple[int, bool]:
    """Chooses a level of a pyramid by the bits of a float32 span.

    Three nodes of that level to each side are the span, of which the float32 is a third [px].

    Args:
        bits: of the float32, as int32.
        first: the first level there is.
        last: the last level, which is a single node.

    Returns:
        the level, and whether two nodes to each side would not do.
    """
    return max(min((bits >> 23) - 126, last), first), (bits & 0x7FFFFF) > 0x2AAAA9


@njit(cache=True, nogil=True, error_model="numpy")
def _place_nodes(view: View, edge: int, nodes: Nodes, count: int) -> None:
    """Computes the centres of nodes of `edge` voxels in the camera's frame, all at once."""
    r, res, half = view.rotation, view.resolution, 0.5 * edge
    a, b, c = (half - view.at[0]) * res, (half - view.at[1]) * res, (half - view.at[2]) * res
    s0 = np.float32(r[0, 0] * a + r[1, 0] * b + r[2, 0] * c)
    t0 = np.float32(r[0, 1] * a + r[1, 1] * b + r[2, 1] * c)
    d0 = np.float32(r[0, 2] * a + r[1, 2] * b + r[2, 2] * c)
    sx, sy, sz = np.float32(r[0, 0] * res), np.float32(r[1, 0] * res), np.float32(r[2, 0] * res)
    tx, ty, tz = np.float32(r[0, 1] * res), np.float32(r[1, 1] * res), np.float32(r[2, 1] * res)
    dx, dy, dz = np.float32(r[0, 2] * res), np.float32(r[1, 2] * res), np.float32(r[2, 2] * res)
    xs, ys, zs = nodes.x[:count], nodes.y[:count], nodes.z[:count]
    side, down, depth = nodes.side, nodes.down, nodes.depth
    for n in range(count):
        x, y, z = np.float32(xs[n]), np.float32(ys[n]), np.float32(zs[n])
        side[n] = s0 + x * sx + y * sy + z * sz
        down[n] = t0 + x * tx + y * ty + z * tz
        depth[n] = d0 + x * dx + y * dy + z * dz


@njit(cache=True, nogil=True, error_model="numpy")
def _flag_nodes(view: View, work: Work, edge: int, limit: float, nodes: Nodes, count: int) -> None:
    """Finds where nodes of `edge` voxels are in the image, all at once; those out of view are HIDDEN."""
    scale = np.float32(edge)
    fx, fy, cx, cy = np.float32(view.fx), np.float32(view.fy), np.float32(view.cx), np.float32(view.cy)
    right, bottom = np.float32(view.width - 1), np.float32(view.height - 1)
    m0, m1 = scale * np.float32(work.margins[0]), scale * np.float32(work.margins[1])
    m2, m3 = scale * np.float32(work.margins[2]), scale * np.float32(work.margins[3])
    wide0, wide1 = scale * np.float32(work.widths[0]), scale * scale * np.float32(work.widths[1])
    tall0, tall1 = scale * np.float32(work.heights[0]), scale * scale * np.float32(work.heights[1])
    rough = np.float32(1e-6 * (view.fx + view.fy + view.width + view.height))
    thick, last = scale * np.float32(work.half[2]), np.float32(limit)
    front, sure = thick + np.float32(1e-2), np.float32(min(limit, work.certain))
    zero, one, middle, endless = np.float32(0.0), np.float32(1.0), np.float32(0.5), np.float32(1e9)
    third, part = np.float32(1.00001 / 3.0), np.float32(1.0 / edge)
    side, down, depth = nodes.side[:count], nodes.down[:count], nodes.depth[:count]
    columns, rows, spans, inners, flags = nodes.column, nodes.row, nodes.span, nodes.inner, nodes.flags
    for n in range(count):
        s, t, d = side[n], down[n], depth[n]
        ahead = d > front
        c = d if ahead else one
        per, fs, ft = one / c, fx * s, fy * t
        wide, tall = wide0 + wide1 * per, tall0 + tall1 * per
        span = ((wide if wide > tall else tall) / (c - thick if ahead else one) + one) * third
        # The outline of a voxel spans a part of its node's, apart from the pixel that is added.
        spans[n], inners[n] = span if ahead else endless, (span - third) * part + third if ahead else endless
        u, v = fs * per + cx, ft * per + cy
        u, v = u if u > zero else zero, v if v > zero else zero
        u, v = u if u < right else right, v if v < bottom else bottom
        columns[n], rows[n] = np.int32(u + middle), np.int32(v + middle)
        slack = rough * (abs(s) + abs(t) + abs(d))
        west, east, north, south = fs + cx * d, fs - (right - cx) * d, ft + cy * d, ft - (bottom - cy) * d
        beside = (west < -m0 - slack) | (east > m1 + slack) | (north < -m2 - slack) | (south > m3 + slack)
        inside = (west > m0 + slack) & (east < -m1 - slack) & (north > m2 + slack) & (south < -m3 - slack)
        out = beside | (d < -thick) | (d - thick > last)
        whole = inside & ahead & (d + thick < sure)
        flag = np.int32(WHOLE) if whole else (np.int32(PART) if ahead else np.int32(_BEHIND))
        flags[n] = np.int32(HIDDEN) if out else flag


@njit(cache=True, nogil=True)
def _look_around(first: int, levels: Array, seen: Array, opened: Array, nodes: Nodes, count: int) -> None:
    """Reads the depths in the outlines of nodes, from levels of which two or three numbers span them."""
    columns, rows, spans, flags = nodes.column, nodes.row, nodes.span.view(np.int32), nodes.flags
    here, near, size, last = nodes.here, nodes.near, seen.shape[0] >> 1, levels.shape[0] - 1
    for n in range(count):
        flag = flags[n]
        if flag in (HIDDEN, _BEHIND):
            continue
        level, wide = level_of(spans[n], first, last)
        at = levels[level, 0] + (rows[n] >> level) * levels[level, 2] + (columns[n] >> level)
        at += size if wide else 0
        here[n], near[n] = seen[at], opened[at]


@njit(cache=True, nogil=True)
def finest_level(work: Work, edge: int, near: float, count: int) -> int:
    """Returns the finest of so many levels needed for nodes of `edge` voxels nearer than `near` [m]."""
    level = count - 1
    if near >= 1e-2:
        c = near + edge * work.half[2]
        wide = edge * (work.widths[0] + edge * work.widths[1] / c)
        tall = edge * (work.heights[0] + edge * work.heights[1] / c)
        span = (max(wide, tall) / near + 1.0) * 0.999
        while level > 0 and 3.0 * 2.0 ** (level - 1) >= span:
            level -= 1
    return level


@njit(cache=True, nogil=True, error_model="numpy")
def judge_nodes(
    view: View, work: Work, edge: int, limit: float, first: int, levels: Array, seen: Array, opened: Array,
    nodes: Nodes, count: int
) -> None:  # fmt: skip
    """Finds out what pixels show of nodes of `edge` voxels: fills their `states`.

    Args:
        view: the camera.
        work: what `prepare_work` made of it.
        edge: of the nodes [voxels].
        limit: what lies wholly beyond this depth is HIDDEN [m].
        first: the first level for which the others are filled.
        levels: of `pyramid_layout`.
        seen: of `spread_pyramid`.
        opened: likewise, of the negated depths.
        nodes: their first voxels.
        count: how many.
    """
    _place_nodes(view, edge, nodes, count)
    _flag_nodes(view, work, edge, limit, nodes, count)
    _look_around(first, levels, seen, opened, nodes, count)
    thick, tiny = np.float32(edge) * np.float32(work.half[2]), np.float32(1e-5)
    depth, here, near = nodes.depth[:count], nodes.here[:count], nodes.near[:count]
    flags, states = nodes.flags[:count], nodes.states
    for n in range(count):
        d, flag = depth[n], flags[n]
        hidden = (flag < np.int32(_BEHIND)) & (here[n] < d - thick - (tiny + d * tiny))
        opens = (flag == np.int32(WHOLE)) & (-near[n] > d + thick)
        flag = np.int32(PART) if flag == np.int32(_BEHIND) else flag
        flag = np.int32(HIDDEN) if hidden else flag
        states[n] = np.int32(OPEN) if opens else flag

"""The floor that a robot's middle can be on, as triangles: what a navigation mesh is made of."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Delaunay, cKDTree

from embodied_mem.errors import ConfigError

GRID = 2.0**-17
"""Corners lie on a grid of this pitch, so that float32 holds them exactly [m]."""
SAME = 1e-4
"""Corners this close to each other, or to an edge, are taken for one, or for a part of it [m]."""
SPACING = 0.7
"""Triangles have about this size [m]: where they are long, paths over them are not the shortest."""
SMALLEST = 1.1e-5
"""Triangles of less area are left out: habitat-sim takes those below 1e-5 for none [m^2]."""
ROUNDS = 16
"""How often missing edges are halved; eight times were the most in forty houses."""

Floats = NDArray[np.float64]


def free_triangles(
    outlines: Floats, normals: Floats, offsets: Floats, size: tuple[float, float]
) -> tuple[Floats, NDArray[np.intp]]:
    """Returns triangles that cover what convex outlines leave of a rectangle, edge to edge.

    A conforming Delaunay triangulation: edges of the boundary that it lacks are halved until it has them
    (Shewchuk 1997).

    Args:
        outlines: (B, K, 2) corners of what blocks the way, counter-clockwise [m].
        normals: (K, 2) outward unit normals of the outlines' sides.
        offsets: (B, K) distances of the sides from the origin [m].
        size: of the rectangle, from the origin along x and y [m].

    Returns:
        vertices (V, 2) float64 [m], and triangles (T, 3), counter-clockwise.

    Raises:
        ConfigError: parts of the boundary nearly coincide.
    """
    pieces = _boundary(outlines, normals, offsets)
    starts, ends = _subdivide(_split_at_corners(_merge(pieces)))
    points, index = np.unique(
        np.concatenate([starts, ends, _inner_points(normals, offsets, size)]), axis=0, return_inverse=True
    )
    index = index.reshape(-1)
    links = np.stack([index[: len(starts)], index[len(starts) : 2 * len(starts)]], axis=-1)
    mesh = Delaunay(points)
    for _ in range(ROUNDS):
        missing = ~_has_edges(mesh.simplices, links, len(points))
        if not missing.any():
            break
        middles = _snap((points[links[missing, 0]] + points[links[missing, 1]]) / 2)
        rows = np.arange(len(middles)) + len(points)
        halves = [np.stack([links[missing, 0], rows], axis=-1), np.stack([rows, links[missing, 1]], axis=-1)]
        links = np.concatenate([links[~missing], *halves])
        points = np.concatenate([points, middles])
        mesh = Delaunay(points)
    else:
        raise ConfigError("the floor has corners too close to each other to be cut into triangles")
    triangles = np.asarray(mesh.simplices, np.intp)
    a, b, c = (points[triangles[:, i]] for i in range(3))
    area = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    triangles = np.where(area[:, None] < 0, triangles[:, ::-1], triangles)
    middle = (a + b + c) / 3
    keep = (np.abs(area) >= SMALLEST) & ~_covered(middle, normals, offsets)
    keep &= ((middle > 0) & (middle < np.array(size))).all(axis=1)
    used, compact = np.unique(triangles[keep], return_inverse=True)
    return points[used], compact.reshape(-1, 3)


def _snap(points: Floats) -> Floats:
    return np.round(points / GRID) * GRID


def _merge(pieces: Floats) -> Floats:
    """Returns segments (S, 2, 2) on the grid whose ends are the same where they almost are."""
    ends = _snap(pieces.reshape(-1, 2))
    pairs = cKDTree(ends).query_pairs(SAME, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(ends), len(ends)))
    _, part = connected_components(graph, directed=False)
    _, first = np.unique(part, return_index=True)
    return ends[first[part]].reshape(-1, 2, 2)


def _covered(points: Floats, normals: Floats, offsets: Floats) -> NDArray[np.bool_]:
    """Tells which (N, 2) points are inside an outline."""
    along = points @ normals.T  # (N, K)
    inside = np.zeros(len(points), bool)
    for row in offsets:
        inside |= (along < row).all(axis=1)
    return inside


def _boundary(outlines: Floats, normals: Floats, offsets: Floats) -> Floats:
    """Returns (S, 2, 2) the parts of the outlines' sides that are in no other outline."""
    lo, hi = outlines.min(axis=1), outlines.max(axis=1)
    pieces = [np.empty((0, 2, 2))]
    for i, corners in enumerate(outlines):
        others = ((lo <= hi[i]) & (hi >= lo[i])).all(axis=1)
        others[i] = False
        a, d = corners, np.roll(corners, -1, axis=0) - corners  # (K, 2)
        beyond = (a @ normals.T)[:, None] - offsets[others] + 1e-6  # (K, B, K): side, outline, its side
        rate = np.broadcast_to((d @ normals.T)[:, None], beyond.shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = -beyond / rate
        enter = np.where(rate < 0, t, np.where((rate == 0) & (beyond >= 0), np.inf, -np.inf)).max(axis=-1)
        leave = np.where(rate > 0, t, np.inf).min(axis=-1)
        for k in range(len(corners)):
            for t0, t1 in _uncovered(enter[k], leave[k]):
                pieces.append(np.stack([a[k] + t0 * d[k], a[k] + t1 * d[k]])[None])
    return np.concatenate(pieces)


def _uncovered(enter: Floats, leave: Floats) -> list[tuple[float, float]]:
    """Returns what intervals leave of [0, 1]."""
    found, at = [], 0.0
    order = np.argsort(enter)
    for t0, t1 in zip(enter[order].tolist(), leave[order].tolist()):
        if t0 >= t1 or t1 <= at:
            continue
        if t0 > at:
            found.append((at, min(t0, 1.0)))
        at = t1
        if at >= 1.0:
            return [(a, b) for a, b in found if b > a]
    return [(a, b) for a, b in [*found, (at, 1.0)] if b > a]


def _split_at_corners(pieces: Floats) -> Floats:
    """Returns (S, 2, 2) segments of which none has an end of another one inside, each once."""
    corners = np.unique(pieces.reshape(-1, 2), axis=0)
    found = [np.empty((0, 2, 2))]
    for a, b in pieces:
        length = float(np.hypot(*(b - a)))
        if length < SAME:
            continue
        ahead = (b - a) / length
        along = (corners - a) @ ahead
        aside = np.abs((corners - a) @ np.array([-ahead[1], ahead[0]]))
        on = (aside < SAME) & (along > SAME) & (along < length - SAME)
        chain = np.concatenate([a[None], corners[on][np.argsort(along[on])], b[None]])
        found.append(np.stack([chain[:-1], chain[1:]], axis=1))
    flat = np.concatenate(found).reshape(-1, 4)
    swap = (flat[:, 0] > flat[:, 2]) | ((flat[:, 0] == flat[:, 2]) & (flat[:, 1] > flat[:, 3]))
    ordered = np.where(swap[:, None], flat[:, [2, 3, 0, 1]], flat)
    return np.unique(ordered, axis=0).reshape(-1, 2, 2)


def _subdivide(segments: Floats) -> tuple[Floats, Floats]:
    """Returns starts and ends (S, 2) of segments that are no longer than the spacing."""
    starts, ends = [np.empty((0, 2))], [np.empty((0, 2))]
    for a, b in segments:
        count = max(1, int(np.ceil(np.hypot(*(b - a)) / SPACING)))
        chain = _snap(a + np.linspace(0.0, 1.0, count + 1)[:, None] * (b - a))
        starts.append(chain[:-1])
        ends.append(chain[1:])
    return np.concatenate(starts), np.concatenate(ends)


def _inner_points(normals: Floats, offsets: Floats, size: tuple[float, float]) -> Floats:
    """Returns (N, 2) points all over the free floor, away from its boundary: corners of equal triangles."""
    rise = SPACING * math.sqrt(3) / 2
    row, column = np.indices((math.ceil(size[1] / rise), math.ceil(size[0] / SPACING) + 1))
    grid = np.stack([(column - row % 2 / 2) * SPACING, (row + 0.5) * rise], axis=-1).reshape(-1, 2)
    return _snap(grid[~_covered(grid, normals, offsets + SPACING / 4)])


def _has_edges(triangles: NDArray[np.int32], links: NDArray[np.intp], count: int) -> NDArray[np.bool_]:
    """Tells which (N, 2) pairs of vertices are edges of triangles."""
    edges = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64), axis=1)
    wanted = np.sort(links.astype(np.int64), axis=1)
    return np.isin(wanted[:, 0] * count + wanted[:, 1], edges[:, 0] * count + edges[:, 1])

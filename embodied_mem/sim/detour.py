"""Navigation meshes as the files that habitat-sim loads: triangles in Detour's format.

The layouts are those of Detour's `dtNavMesh::addTile` (version 7 of its data) and of habitat-sim's
`PathFinder::saveNavMesh` (version 2), both little-endian.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SET_MAGIC, _SET_VERSION = 0x4D534554, 2  # "MSET"
_TILE_MAGIC, _TILE_VERSION = 0x444E4156, 7  # "DNAV"
_WALK = 1
_ALL_EDGES_BOUNDARY = 0b010101
_POLY = np.dtype(
    [
        ("first_link", "<u4"),
        ("vertices", "<u2", 6),
        ("neighbours", "<u2", 6),
        ("flags", "<u2"),
        ("count", "u1"),
        ("area_and_type", "u1"),
    ]
)
_DETAIL = np.dtype(
    [("vertices", "<u4"), ("first", "<u4"), ("vertex_count", "u1"), ("count", "u1"), ("pad", "<u2")]
)
_NODE = np.dtype([("low", "<u2", 3), ("high", "<u2", 3), ("index", "<i4")])
_LINK_BYTES = 12
_STEPS = 65534
"""Boxes of the search tree are counted in this many steps along the longest side."""


def write_navmesh(
    path: Path,
    vertices: NDArray[np.float32],
    triangles: NDArray[np.integer],
    *,
    radius: float,
    height: float,
    climb: float,
) -> None:
    """Writes a navigation mesh.

    Args:
        path: file to write.
        vertices: (V, 3) float32 [m], y up; at most 65,535.
        triangles: (T, 3), counter-clockwise seen from above; neighbours share two vertices.
        radius: of the robot that it is for [m].
        height: of the robot [m].
        climb: the robot gets over steps up to this height [m].
    """
    triangles = np.asarray(triangles)
    neighbours = _neighbours(triangles, len(vertices))
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    nodes, factor = _search_tree(vertices[triangles], low, high)
    count, links = len(triangles), int((neighbours > 0).sum())
    header = struct.pack(
        "<5iI9i3f3f3ff",
        *(_TILE_MAGIC, _TILE_VERSION, 0, 0, 0, 0),
        *(count, len(vertices), max(links, 1), count, 0, count, len(nodes), 0, count),
        *(height, radius, climb, *low.tolist(), *high.tolist(), factor),
    )
    polys = np.zeros(count, _POLY)
    polys["first_link"] = 0xFFFFFFFF
    polys["vertices"][:, :3], polys["neighbours"][:, :3] = triangles, neighbours
    polys["flags"], polys["count"] = _WALK, 3
    details = np.zeros(count, _DETAIL)
    details["first"], details["count"] = np.arange(count), 1
    detail_triangles = np.tile(np.array([0, 1, 2, _ALL_EDGES_BOUNDARY], np.uint8), (count, 1))
    tile = b"".join(
        (
            header,
            np.ascontiguousarray(vertices, "<f4").tobytes(),
            polys.tobytes(),
            bytes(_LINK_BYTES * max(links, 1)),  # Detour links the triangles when it loads them
            details.tobytes(),
            detail_triangles.tobytes(),
            nodes.tobytes(),
        )
    )
    size = (high - low).tolist()
    params = (*low.tolist(), size[0], size[2], 1, count)
    first = 1 << (count - 1).bit_length()  # Detour's reference of the tile: the first use of the first one
    path.write_bytes(
        struct.pack("<3i3f2f2i", _SET_MAGIC, _SET_VERSION, 1, *params)
        + _settings(radius, height, climb)
        + struct.pack("<Ii", first, len(tile))
        + tile
    )


def _settings(radius: float, height: float, climb: float) -> bytes:
    """Returns habitat-sim's NavMeshSettings; what only a builder needs has its defaults."""
    cells, slope, regions, edges = (0.05, 0.2), 45.0, (20.0, 20.0), (12.0, 1.3)
    floats = (*cells, height, radius, climb, slope, *regions, *edges, 6.0, 6.0, 1.0)
    return struct.pack("<13f4?", *floats, True, True, True, True)


def _neighbours(triangles: NDArray[np.integer], count: int) -> NDArray[np.uint16]:
    """Returns (T, 3) for every edge one more than the row of the triangle beyond it, 0 where none is."""
    starts, ends = triangles.astype(np.int64), np.roll(triangles, -1, axis=1).astype(np.int64)
    forth, back = (starts * count + ends).ravel(), (ends * count + starts).ravel()
    order = np.argsort(forth)
    at = np.minimum(np.searchsorted(forth[order], back), len(forth) - 1)
    found = forth[order][at] == back
    return np.where(found, order[at] // 3 + 1, 0).reshape(-1, 3).astype(np.uint16)


def _search_tree(
    corners: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]
) -> tuple[NDArray[np.void], float]:
    """Returns the boxes around triangles, depth first, and their steps per metre.

    A leaf has the row of its triangle, another node minus the number of nodes from it to the next branch.
    """
    factor = _STEPS / float(max((high - low).max(), 1e-3))
    lows = np.floor((corners.min(axis=1) - low) * factor).astype(np.int64)  # (T, 3)
    highs = np.ceil((corners.max(axis=1) - low) * factor).astype(np.int64)
    nodes = np.zeros(2 * len(corners) - 1, _NODE)
    todo = [(0, np.arange(len(corners)))]
    while todo:
        at, rows = todo.pop()
        nodes["low"][at], nodes["high"][at] = lows[rows].min(axis=0), highs[rows].max(axis=0)
        if len(rows) == 1:
            nodes["index"][at] = rows[0]
            continue
        nodes["index"][at] = -(2 * len(rows) - 1)
        middles = (lows + highs)[rows]
        axis = int(np.argmax(np.ptp(middles, axis=0)))
        rows = rows[np.argsort(middles[:, axis], kind="stable")]
        half = len(rows) // 2
        todo += [(at + 1, rows[:half]), (at + 2 * half, rows[half:])]
    return nodes, factor

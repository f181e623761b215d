"""Ways over the graph of places: along the cells of its edges, drawn tight like a string."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.scene.field_kernels import borders
from embodied_mem.memory.scene.floor import Floor
from embodied_mem.memory.scene.grid_kernels import STRAIGHT
from embodied_mem.memory.scene.line_kernels import bends, line, tighten
from embodied_mem.memory.scene.links import least

if TYPE_CHECKING:
    from embodied_mem.memory.scene.places import Places

Array = NDArray[Any]


def trace(places: Places, path: list[int]) -> NDArray[np.float64]:
    """Returns (M, 3) float64 [m]: where to turn on the way over places, the first and last included.

    Args:
        places: the graph.
        path: ids, each joined to the next by an edge.
    """
    corners = [places.positions[places.index(place)] for place in path[:1]]
    run: list[Array] = []  # flat cells of edges on one floor, one after the other
    storey = -1
    for a, b in pairwise(path):
        rows = places.index(a), places.index(b)
        number, other = (int(places.storeys[row]) for row in rows)
        floor = places.floors[number] if number < len(places.floors) and number == other else None
        cells = None if floor is None else _cells(places, floor, a, b)
        if cells is None:
            corners += [*_tight(places, storey, run), *places.links.step(a, b), places.positions[rows[1]]]
            run = []
        else:
            storey = number
            run.append(cells if not run else cells[1:])
    return np.array(corners + _tight(places, storey, run)).reshape(-1, 3)


def _tight(places: Places, storey: int, run: list[Array]) -> list[Array]:
    """Returns the corners of a way along cells after its first one."""
    if not run:
        return []
    floor = places.floors[storey]
    kept = np.concatenate(run)
    if places.config.diagonal:
        kept = tighten(floor.cells, floor.own, -1, -1, kept)
    return list(floor.centers(kept)[1:])


def _cells(places: Places, floor: Floor, a: int, b: int) -> Array | None:
    """Returns the flat cells of an edge from one place to the other; None where the map does not know it."""
    low, high = min(a, b), max(a, b)
    y, x = floor.cells_of(places.positions[[places.index(a), places.index(b)]])
    flat = floor.flat(y, x)
    field, diagonal = (floor.cells, floor.dist, floor.own), places.config.diagonal
    if high in places.links.seen.get(low, {}):
        return np.asarray(line(floor.cells.shape[1], *flat.tolist()))
    if high in places.links.bent.get(low, {}):
        chosen = np.zeros(places.next_id, bool)
        chosen[[a, b]] = True
        around = floor.around(flat)
        assert around is not None
        sy, sx = floor.slices(around.grown(places.reach(floor) // STRAIGHT + 1).within(floor.box))
        touching = least(borders(*field, sy.start, sx.start, sy.stop, sx.stop, chosen, diagonal))
        touching = touching[(touching[:, 0] == low) & (touching[:, 1] == high)]
        cells = touching[:1, 3:5]
    else:  # only walked: the step from one's cells to the other's is known to be possible
        step = places.links.step(a, b)
        cells = floor.flat(*floor.cells_of(np.array(step)))[None] if step else np.empty((0, 2), np.int64)
    owners = set(floor.own.reshape(-1)[cells[0]].tolist()) if len(cells) and cells.min() >= 0 else set()
    if owners != {a, b}:
        return None
    way, _ = bends(*field, cells[:, 0], cells[:, 1], diagonal, False)
    return way if way[0] == flat[0] else way[::-1]

"""Ways over the graph of places: along the cells of its edges, drawn tight like a string."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.navigation import nearest_traversable, steps_from
from embodied_mem.memory.octree.types import GridMap
from embodied_mem.memory.scene.field_kernels import borders
from embodied_mem.memory.scene.floor import Floor
from embodied_mem.memory.scene.grid_kernels import FAR, STRAIGHT, descend
from embodied_mem.memory.scene.line_kernels import bends, line, tighten
from embodied_mem.memory.scene.links import least

if TYPE_CHECKING:
    from embodied_mem.memory.scene.places import Places

Array = NDArray[Any]
BESIDE = 0.3
"""Where the map says that one cannot stand there, free floor this near will do [m]."""


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
            corners += [
                *_tight(places, storey, run),
                *(walked(places, a, b) or ()),
                places.positions[rows[1]],
            ]
            run = []
        else:
            storey = number
            run.append(cells if not run else cells[1:])
    return np.array(corners + _tight(places, storey, run)).reshape(-1, 3)


def walked(places: Places, a: int, b: int) -> list[Array] | None:
    """Returns (3,) corners [m] of the way from one place to the other where the agent once walked over.

    From the places to where it stepped over the way goes along free floor. None where that is closed now, or
    one of the places itself; where the floor counts as free wherever the base has been, also where the step
    is not on such floor: something is known to stand there.
    """
    step = places.links.step(a, b)
    if not step:
        return []
    if places.config.driven and _is_closed(places, a, np.stack(step)):
        return None
    first = _leg(places, a, step[0])
    last = _leg(places, b, step[1])
    return None if first is None or last is None else [*first, *step, *last[::-1]]


def _leg(places: Places, place: int, goal: Array) -> list[Array] | None:
    """Returns corners along free floor from a place to a position; None where the map closes the way."""
    row = places.index(place)
    number, diagonal = int(places.storeys[row]), places.config.diagonal
    if number >= len(places.floors) or not places.floors[number].cells.size:
        return []
    floor = places.floors[number]
    ends = np.stack([places.positions[row], goal])
    flat = floor.flat(*floor.cells_of(ends))
    states = floor.cells.reshape(-1)[flat]
    if flat[0] >= 0 and states[0] > 0:
        return None  # something came to stand, or proved to, where the place is
    if flat.min() < 0 or (states < 0).any():
        return []  # where the map knows nothing it closes nothing
    around = floor.around(flat)
    assert around is not None
    window = around.grown(places.reach(floor) // STRAIGHT + 1).within(floor.box)
    origin = np.array([window.x0, window.y0]) * floor.resolution
    grid = GridMap(floor.cells[floor.slices(window)], origin, floor.resolution, floor.height)
    near = max(BESIDE, 1.5 * floor.resolution)
    start, end = (nearest_traversable(grid, position, near) for position in ends)
    steps = steps_from(grid, start, diagonal, end)
    if end < 0 or steps.reshape(-1)[end] >= FAR:
        return None
    way = descend(steps, end, diagonal)[::-1]
    across = window.x1 - window.x0
    cells = floor.flat(way // across + window.y0, way % across + window.x0)
    return [floor.centers(cells[:1])[0], *_tight(places, number, [cells])]


def _is_closed(places: Places, place: int, ends: Array) -> bool:
    """Whether the floor of a place has obstacles on the line between (2, 3) positions [m]."""
    number = int(places.storeys[places.index(place)])
    if number >= len(places.floors) or not places.floors[number].cells.size:
        return False
    floor = places.floors[number]
    flat = floor.flat(*floor.cells_of(ends))
    if flat.min() < 0:
        return False
    across = line(floor.cells.shape[1], *flat.tolist())
    return bool((floor.cells.reshape(-1)[across] > 0).any())


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

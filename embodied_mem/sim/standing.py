"""Where to stand to reach a thing that the memory knows: near its box, in its room, with the box in sight."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory import GridMap, Memory
from embodied_mem.memory.navigation import centers_of
from embodied_mem.memory.scene.grid_kernels import FAR
from embodied_mem.sim.explorer import Subgoal

MARGIN = 0.1
"""Places to go to are nearer than the sub-goal asks for by this: a robot misses its aim a little [m]."""
CORE = 0.7
"""Distances are to a box of this fraction of the known one, which is too large where it was seen askew."""
FAR_SIGHT = 4.0
"""From no farther than this it is looked for places with the thing in sight [m]."""
ABOVE_DOORS = 2.25
"""Height above the floor at which walls go on over doors, and nothing else is in the way [m]."""
MOST_CANDIDATES = 200
"""Of more places than this every n-th is looked at,"""
AT_ONCE = 25
"""and so many of them at once."""


def gap(points: NDArray[np.float64], subgoal: Subgoal) -> NDArray[np.float64]:
    """Returns (N,) distances [m] of (N, 2) points to the core of the sub-goal's box, seen from above."""
    beside = np.abs(points - subgoal.position[:2]) - CORE * subgoal.extent[:2] / 2
    beside = np.maximum(beside, 0.0)
    return np.asarray(np.sqrt(beside[:, 0] ** 2 + beside[:, 1] ** 2))


def in_sight(memory: Memory, points: NDArray[np.float64], subgoal: Subgoal, eye: float) -> NDArray[np.bool_]:
    """Tells from which points on the floor nothing in the map hides the sub-goal's middle.

    Args:
        memory: has the map.
        points: (N, 3) float64 [m] in the map frame.
        subgoal: a thing.
        eye: height above the points to look from [m].
    """
    if len(points) == 0:
        return np.zeros(0, bool)
    eyes = points + np.array([0.0, 0.0, eye])
    rays = subgoal.position - eyes  # (N, 3)
    away = np.sqrt((rays * rays).sum(axis=-1))
    reach = float(away.max()) + 0.01
    # A wall that was never seen hides things too: unknown space is not looked through.
    met = memory.octree.ray_cast(
        eyes.astype(np.float32), rays.astype(np.float32), reach, stop_at_unknown=True
    )
    beyond = np.abs(met.points - subgoal.position)
    voxel = memory.octree.resolution
    is_it = met.hit & (met.labels == subgoal.label) & (subgoal.label > 0)
    is_it &= (beyond < subgoal.extent / 2 + max(2.0 * voxel, subgoal.part)).all(axis=-1)
    # The rest of what is met at its middle is what it lies on, or itself.
    near = (beyond < CORE * subgoal.extent / 2 + 2.0 * voxel).all(axis=-1)
    return np.asarray((met.distance >= away) | is_it | near)


def in_room(memory: Memory, points: NDArray[np.float64], subgoal: Subgoal) -> NDArray[np.bool_]:
    """Tells from which points on the floor no wall is known between them and a sub-goal, be it over a door.

    Through a door a thing is near and in sight, and yet in the next room. What is not known there does not
    count: a robot that never looks up can say nothing about it.

    Args:
        memory: has the map.
        points: (N, 3) float64 [m] in the map frame.
        subgoal: a thing.
    """
    if len(points) == 0:
        return np.zeros(0, bool)
    high = points + np.array([0.0, 0.0, ABOVE_DOORS])
    rays = (subgoal.position - high) * np.array([1.0, 1.0, 0.0])  # (N, 3), level
    away = np.sqrt((rays * rays).sum(axis=-1))
    met = memory.octree.ray_cast(high.astype(np.float32), rays.astype(np.float32), float(away.max()) + 0.01)
    # The wall that it hangs on, or stands at, is no wall between.
    own = (
        np.abs(met.points - subgoal.position)[:, :2] <= subgoal.extent[:2] / 2 + memory.octree.resolution / 2
    )
    return np.asarray(~met.hit | (met.distance >= away) | own.all(axis=-1))


def is_reached(
    memory: Memory, position: NDArray[np.float64], subgoal: Subgoal, eye: float, radius: float
) -> bool:
    """True where a position is within a radius [m] of the sub-goal's box, in its room, and sees it."""
    if gap(position[None, :2], subgoal)[0] > radius or not in_room(memory, position[None], subgoal)[0]:
        return False
    return bool(in_sight(memory, position[None], subgoal, eye)[0])


def standing_place(
    memory: Memory, grid: GridMap, steps: NDArray[np.int32], subgoal: Subgoal, eye: float
) -> int:
    """Returns the flat cell with the shortest way from which a sub-goal is reached, -1 where there is none.

    Args:
        memory: has the map.
        grid: traversable space.
        steps: (H, W) int32 path distances from the agent.
        subgoal: a thing.
        eye: height to look from [m].
    """
    radius = max(subgoal.radius - MARGIN, 0.0)
    cells = _around(grid, steps < FAR, subgoal, radius)
    near = _some(np.flatnonzero(gap(centers_of(grid, cells)[:, :2], subgoal) <= radius))
    cells = cells[near]
    cells = cells[np.argsort(steps.reshape(-1)[cells], kind="stable")]
    for first in range(0, len(cells), AT_ONCE):  # one of the first is mostly good enough
        some = cells[first : first + AT_ONCE]
        there = centers_of(grid, some)
        seen = np.flatnonzero(in_sight(memory, there, subgoal, eye) & in_room(memory, there, subgoal))
        if len(seen):
            return int(some[seen[0]])
    return -1


def _around(grid: GridMap, reachable: NDArray[np.bool_], subgoal: Subgoal, radius: float) -> NDArray[np.intp]:
    """Returns the flat reachable cells in a box that holds all within a radius [m] of a sub-goal."""
    half = CORE * subgoal.extent[:2] / 2 + radius
    low = np.floor((subgoal.position[:2] - half - grid.origin) / grid.resolution).astype(int) - 1
    high = np.floor((subgoal.position[:2] + half - grid.origin) / grid.resolution).astype(int) + 2
    (x0, y0), (x1, y1) = np.maximum(low, 0).tolist(), np.maximum(high, 0).tolist()
    y, x = np.nonzero(reachable[y0:y1, x0:x1])
    return (y + y0) * reachable.shape[1] + x + x0


def lookout(memory: Memory, grid: GridMap, steps: NDArray[np.int32], subgoal: Subgoal, eye: float) -> int:
    """Returns the flat cell nearest to a sub-goal of those that have it in sight, else the nearest of all.

    What was seen from afar shows more of the floor before it from there. -1 where no cell can be reached;
    arguments as for `standing_place`.
    """
    cells = np.flatnonzero(steps < FAR)
    if len(cells) == 0:
        return -1
    centers = centers_of(grid, cells)
    away = gap(centers[:, :2], subgoal)
    far = _some(np.flatnonzero(away <= FAR_SIGHT))
    seen = far[in_sight(memory, centers[far], subgoal, eye)]
    chosen = seen if len(seen) else np.arange(len(cells))
    return int(cells[chosen[np.argmin(away[chosen])]])


def _some(cells: NDArray[np.intp]) -> NDArray[np.intp]:
    """Returns at most about `MOST_CANDIDATES` of some cells, spread over all of them."""
    return cells[:: len(cells) // MOST_CANDIDATES + 1]

"""Moving the scene graph as a correction of the past demands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.scene.graph import SceneGraph

Array = NDArray[np.float64]
Mover = Callable[[NDArray[np.int64], Array], Array]
"""(N,) stamps [ns] and (N, 3) points that were seen then [m] -> (N, 3) where they are now."""


def move_scene(scene: SceneGraph, move: Mover, shifts: Mapping[int, Array]) -> None:
    """Moves objects, their history, places and the trajectory.

    What the grid map implies is made anew with the next map; rooms are, then, too.

    Args:
        scene: changed in place.
        move: what was seen when is now where.
        shifts: (3,) [m] by which objects move, by id; the others move as what was last seen of them.
    """
    scene.version += 1
    _move_objects(scene, move, shifts)
    _move_places(scene, move)
    trajectory = scene.trajectory_table
    if len(trajectory):
        trajectory.move(move(trajectory.stamps, trajectory.positions))
        scene.touch("trajectory", list(trajectory.payloads()))
    scene.forget_grid()
    scene.forget_coverage()


def _move_objects(scene: SceneGraph, move: Mover, shifts: Mapping[int, Array]) -> None:
    o = scene.object_table
    if not len(o):
        return
    moved = move(o.last_seen, o.positions)
    for row, object_id in enumerate(o.ids.tolist()):
        shift = shifts.get(object_id)
        o.positions[row] = moved[row] if shift is None else o.positions[row] + shift
        stays = o.past[row]
        if stays:
            stamps = np.array([stay.last_seen for stay in stays], np.int64)
            where = move(stamps, np.array([stay.position for stay in stays]))
            o.past[row] = [replace(stay, position=at) for stay, at in zip(stays, where)]
    scene.touch("object", o.ids.tolist())


def _move_places(scene: SceneGraph, move: Mover) -> None:
    places, trajectory = scene.place_table, scene.trajectory_table
    if not len(places) or not len(trajectory):
        return
    stamps = places.last_visits.copy()
    for row in np.flatnonzero(stamps < 0).tolist():  # never visited: seen from the nearest stop, presumably
        delta = trajectory.positions - places.positions[row]
        stamps[row] = trajectory.stamps[int(np.argmin((delta * delta).sum(axis=1)))]
    places.positions = move(stamps, places.positions)
    places.changed.update(places.ids.tolist())
    links = places.links
    for pair, (stamp, step) in links.steps.items():
        links.steps[pair] = stamp, move(np.array([stamp, stamp]), step)

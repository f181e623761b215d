"""Rooms of places, as a table that is made again when the scene graph changes."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.contents import Contents
from embodied_mem.memory.scene.graph import SceneGraph

_TABLES: WeakKeyDictionary[SceneGraph, tuple[int, NDArray[np.int64]]] = WeakKeyDictionary()


def room_of_place(contents: Contents) -> NDArray[np.int64]:
    """Returns (P,) int64 rooms by place id as they are known today; -1 where unknown."""
    scene = contents.scene
    known = _TABLES.get(scene)
    if known is not None and known[0] == scene.version:
        return known[1]
    places, rooms = scene.place_table, scene.room_table
    table = np.full(int(places.ids.max()) + 1 if len(places) else 0, -1, np.int64)
    if len(rooms.ids):
        for place_id, position in zip(places.ids.tolist(), places.positions):
            table[place_id] = rooms.at(position)
    _TABLES[scene] = (scene.version, table)
    return table


def rooms_of(contents: Contents, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns (M,) int64 rooms of entries: of their places as they are known today, else as known then."""
    episodes, table = contents.episodes, room_of_place(contents)
    places = episodes.place_ids[rows]
    inside = (places >= 0) & (places < len(table))
    known = np.where(inside, table[np.where(inside, places, 0)] if len(table) else -1, -1)
    return np.where(known >= 0, known, episodes.room_ids[rows])

"""The scene graph for others: readable JSON, networkx, spark_dsg."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embodied_mem.errors import EmbodiedMemError, InputError

if TYPE_CHECKING:
    from embodied_mem.memory.scene.graph import SceneGraph


def to_tree(scene: SceneGraph) -> dict[str, Any]:
    """Returns rooms > objects > relations, and what is in no room, as plain values."""
    by_room: dict[int, list[dict[str, Any]]] = {}
    for thing in scene.objects():
        by_room.setdefault(thing.room_id, []).append(
            {
                "id": thing.id,
                "label": thing.name,
                "state": thing.state,
                "position": _rounded(thing.position),
                "extent": _rounded(thing.extent),
                "existence": round(thing.existence, 3),
                "last_seen": thing.last_seen,
                "relations": [
                    {"kind": r.kind, "object": r.other} for r in scene.relations(thing.id) if not r.is_room
                ],
            }
        )
    rooms = [
        {
            "id": room.id,
            "name": room.name,
            "area": round(room.area, 2),
            "position": _rounded(room.position),
            "places": list(room.place_ids),
            "objects": by_room.pop(room.id, []),
        }
        for room in scene.rooms()
    ]
    rest = [thing for things in by_room.values() for thing in things]
    return {"rooms": rooms, "objects": sorted(rest, key=lambda t: t["id"])}


def write_json(scene: SceneGraph, path: str | Path | None) -> str:
    """Returns `to_tree` as JSON text, and writes it to a file where a path is given.

    Raises:
        InputError: the file cannot be written.
    """
    text = json.dumps(to_tree(scene), indent=2)
    if path is not None:
        try:
            Path(path).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from None
    return text


def to_networkx(scene: SceneGraph) -> Any:
    """Returns a networkx.DiGraph: nodes ("room" | "place" | "object", id) with what is known of them.

    Edges have a `kind`: "contains" from rooms to places and objects, "path" between places with `length`
    [m] (both ways), and the relations between objects.

    Raises:
        EmbodiedMemError: networkx is not installed.
    """
    try:
        import networkx
    except ImportError:
        raise EmbodiedMemError("networkx is missing: pip install 'embodied-mem[graph]'") from None
    graph = networkx.DiGraph()
    for room in scene.rooms():
        graph.add_node(("room", room.id), name=room.name, position=_tuple(room.position), area=room.area)
    for place in scene.places():
        graph.add_node(
            ("place", place.id),
            position=_tuple(place.position),
            clearance=place.clearance,
            visits=place.visits,
            level=place.level,
        )
        if place.room_id >= 0:
            graph.add_edge(("room", place.room_id), ("place", place.id), kind="contains")
    for a, b, length in scene.edges():
        graph.add_edge(("place", a), ("place", b), kind="path", length=length)
        graph.add_edge(("place", b), ("place", a), kind="path", length=length)
    things = scene.objects()
    for thing in things:
        graph.add_node(
            ("object", thing.id),
            name=thing.name,
            position=_tuple(thing.position),
            extent=_tuple(thing.extent),
            existence=thing.existence,
            state=thing.state,
        )
        if thing.room_id >= 0:
            graph.add_edge(("room", thing.room_id), ("object", thing.id), kind="contains")
    for thing in things:
        for relation in scene.relations(thing.id):
            if not relation.is_room:
                graph.add_edge(("object", thing.id), ("object", relation.other), kind=relation.kind)
    return graph


def to_spark_dsg(scene: SceneGraph, path: str | Path | None) -> Any:
    """Returns a spark_dsg.DynamicSceneGraph of rooms, places and objects, and saves it to a path.

    Args:
        scene: the scene graph.
        path: a .json file, or None.

    Raises:
        EmbodiedMemError: spark_dsg is not installed.
    """
    try:
        import spark_dsg as dsg
    except ImportError:
        raise EmbodiedMemError("spark_dsg is missing: pip install 'embodied-mem[graph]'") from None
    graph = dsg.DynamicSceneGraph()
    for room in scene.rooms():
        node = dsg.RoomNodeAttributes()
        node.position, node.name = room.position, room.name
        graph.add_node(dsg.DsgLayers.ROOMS, dsg.NodeSymbol("R", room.id), node)
    for place in scene.places():
        node = dsg.PlaceNodeAttributes()
        node.position, node.distance = place.position, place.clearance
        graph.add_node(dsg.DsgLayers.PLACES, dsg.NodeSymbol("p", place.id), node)
        if place.room_id >= 0:
            graph.insert_edge(dsg.NodeSymbol("R", place.room_id), dsg.NodeSymbol("p", place.id))
    for a, b, length in scene.edges():
        weight = dsg.EdgeAttributes()
        weight.weighted, weight.weight = True, length
        graph.insert_edge(dsg.NodeSymbol("p", a), dsg.NodeSymbol("p", b), weight)
    for thing in scene.objects():
        if thing.existence < 0.5:
            continue
        node = dsg.ObjectNodeAttributes()
        node.position, node.name, node.semantic_label = thing.position, thing.name, thing.label
        node.bounding_box = dsg.BoundingBox(
            thing.extent.astype(np.float32), thing.position.astype(np.float32)
        )
        graph.add_node(dsg.DsgLayers.OBJECTS, dsg.NodeSymbol("O", thing.id), node)
        if thing.place_id >= 0:
            graph.insert_edge(dsg.NodeSymbol("p", thing.place_id), dsg.NodeSymbol("O", thing.id))
    if path is not None:
        graph.save(str(path))
    return graph


def _rounded(values: Any) -> list[float]:
    return [round(v, 3) for v in values.tolist()]


def _tuple(values: Any) -> tuple[float, ...]:
    result: Sequence[float] = values.tolist()
    return tuple(result)

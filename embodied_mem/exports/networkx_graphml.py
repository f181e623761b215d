"""The scene graph as GraphML: for networkx, Gephi, yEd and Cytoscape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from embodied_mem.memory import Memory

AXES = ("x", "y", "z")


def write_graphml(memory: Memory, path: Path) -> str:
    """Writes rooms, places and objects with their relations; `networkx.read_graphml` reads it back.

    A node is called "room 3", "place 12" or "object 7" and has its `kind` and `id`. GraphML knows plain
    values alone, so that a position [m] is x, y and z and an extent [m] is size_x, size_y and size_z.

    Args:
        memory: an open memory.
        path: the file to write.

    Returns:
        what was written, in words.

    Raises:
        EmbodiedMemError: networkx is not installed.
    """
    graph = memory.scene.to_networkx()
    import networkx

    plain = networkx.DiGraph(digest=memory.digest(), map_frame="REP-105 map, metres")
    for (kind, number), about in graph.nodes(data=True):
        plain.add_node(f"{kind} {number}", kind=kind, id=number, **_plain(about))
    for (a, i), (b, j), about in graph.edges(data=True):
        plain.add_edge(f"{a} {i}", f"{b} {j}", **_plain(about))
    networkx.write_graphml_xml(plain, str(path))
    return f"{plain.number_of_nodes()} nodes, {plain.number_of_edges()} edges"


def _plain(about: dict[str, Any]) -> dict[str, Any]:
    """Returns attributes as strings and numbers: vectors become one value an axis."""
    values: dict[str, Any] = {}
    for name, value in about.items():
        if name in ("position", "extent"):
            start = "" if name == "position" else "size_"
            values |= {f"{start}{axis}": float(v) for axis, v in zip(AXES, value)}
        else:
            values[name] = value.item() if hasattr(value, "item") else value
    return values

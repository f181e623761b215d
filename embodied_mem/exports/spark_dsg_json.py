"""The scene graph as a dynamic scene graph of spark_dsg, which Hydra and its tools read."""

from __future__ import annotations

from pathlib import Path

from embodied_mem.memory import Memory


def write_spark_dsg(memory: Memory, path: Path) -> str:
    """Writes rooms, places and objects; `spark_dsg.DynamicSceneGraph.load` reads it back.

    Objects that are thought to be gone are left out: that format has no word for them.

    Args:
        memory: an open memory.
        path: the .json file to write.

    Returns:
        what was written, in words.

    Raises:
        EmbodiedMemError: spark_dsg is not installed.
    """
    graph = memory.scene.to_spark_dsg(path)
    return f"{graph.num_nodes()} nodes, {graph.num_edges()} edges"

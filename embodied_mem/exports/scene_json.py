"""The scene graph as JSON: rooms > objects, readable by people and language models."""

from __future__ import annotations

from pathlib import Path

from embodied_mem.memory import Memory


def write_scene_json(memory: Memory, path: Path) -> str:
    """Writes rooms with their objects, and what is in no room.

    Args:
        memory: an open memory.
        path: the file to write.

    Returns:
        what was written, in words.
    """
    path.write_text(memory.scene.to_json(), encoding="utf-8")
    return f"{len(memory.scene.rooms())} rooms, {len(memory.scene.objects())} objects"

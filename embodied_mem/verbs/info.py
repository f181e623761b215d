"""Say what is in a log, a memory or a checkpoint."""

from __future__ import annotations

import json as json_format
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embodied_mem.errors import InputError


def info(file: Path, json: bool = False) -> int:
    """Say what is in a log, a memory or a checkpoint.

    Examples:
        embodied-mem info runs/demo/memory.emem      # rooms > objects, sizes, digest
        embodied-mem info runs/demo/episode.mcap     # topics, steps, settings
        embodied-mem info runs/demo/checkpoint

    Args:
        file: a log, an .emem file, or a checkpoint folder.
        json: print JSON.
    """
    facts = describe(file)
    if json:
        print(json_format.dumps(facts, indent=2))
        return 0
    contents = facts.pop("contents", None)
    print(in_words(facts))
    if contents is not None:
        print(tree(contents))
    return 0


def describe(path: Path) -> dict[str, Any]:
    """Returns JSON-ready facts about a file, whose kind is told by its name and content.

    Raises:
        InputError: no such file.
        EmbodiedMemError: it is none of the three kinds, or damaged.
    """
    if not path.exists():
        raise InputError(f"no such file: {path}")
    if path.suffix == ".emem":
        from embodied_mem.memory import Memory

        with Memory.open(path, read_only=True) as memory:
            contents = json_format.loads(memory.scene.to_json())
            return {"kind": "memory", "path": str(path), **memory.info(), "contents": contents}
    if path.is_dir() and (path / "model.safetensors").exists():
        from embodied_mem.policy.checkpoint import describe_checkpoint

        return {"kind": "checkpoint", "path": str(path), **describe_checkpoint(path)}
    from embodied_mem.log.describe import describe_log

    return {"kind": "log", "path": str(path), **describe_log(path)}


def tree(contents: Mapping[str, Any]) -> str:
    """Returns rooms with their objects, and what is in no room, as an indented tree."""
    lines = ["contents:"]
    groups = []
    for room in contents["rooms"]:
        own, number = room["name"], f"room {room['id']}"
        name = number if own == number else f"{number}: {own}"
        groups.append((f"{name}, {room['area']:g} m2", room["objects"]))
    if contents["objects"]:
        groups.append(("in no room", contents["objects"]))
    for head, things in groups:
        lines.append(f"  {head}")
        for thing in things:
            x, y, z = thing["position"]
            state = f" ({thing['state']})" if thing["state"] else ""
            held = [r for r in thing.get("relations", []) if r["kind"] in ("in", "on")]
            where = f", {held[0]['kind']} #{held[0]['object']}" if held else ""
            gone = ", gone" if thing["existence"] < 0.5 else ""
            at = f"({x:.1f}, {y:.1f}, {z:.1f}) m"
            lines.append(f"    #{thing['id']} {thing['label']}{state} at {at}{where}{gone}")
    return "\n".join(lines)


def in_words(facts: Mapping[str, Any], indent: int = 0) -> str:
    """Returns nested facts as aligned, indented lines."""
    lines = []
    pad = " " * indent
    width = max((len(str(key)) for key in facts), default=0)
    for key, value in facts.items():
        if isinstance(value, Mapping) and value:
            lines += [f"{pad}{key}:", in_words(value, indent + 2)]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines.append(f"{pad}{key}:")
            lines += [f"{pad}  - " + ", ".join(f"{k} {v}" for k, v in item.items()) for item in value]
        elif isinstance(value, (list, tuple)):
            lines.append(f"{pad}{key!s:<{width}}  {', '.join(map(str, value)) or '-'}")
        elif isinstance(value, float):
            lines.append(f"{pad}{key!s:<{width}}  {value:.6g}")
        else:
            lines.append(f"{pad}{key!s:<{width}}  {'-' if value is None else value}")
    return "\n".join(lines)

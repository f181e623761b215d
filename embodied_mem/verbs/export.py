"""Hand a memory to other tools, each in its own format."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from embodied_mem.errors import EmbodiedMemError, InputError
from embodied_mem.memory import Memory

Format = Literal["json", "ply", "octomap_bt", "occupancy_grid"]

FORMATS: dict[str, tuple[str, str]] = {
    "json": ("scene_json:write_scene_json", ".json"),
    "ply": ("ply:write_ply", ".ply"),
    "octomap_bt": ("octomap_bt:write_octomap_bt", ".bt"),
    "occupancy_grid": ("occupancy_grid:write_occupancy_grid", ".yaml"),
}
"""Format -> its writer (in `embodied_mem.exports`) and the ending of its files."""


def export(file: Path, to: Format | None = None, out: Path | None = None) -> int:
    """Hand a memory to other tools: Open3D, CloudCompare, OctoMap, Nav2, any reader of JSON.

    Example: embodied-mem export home.emem --to octomap_bt

    Args:
        file: an .emem file.
        to: "json" (rooms > objects), "ply" (occupied voxels as coloured points), "octomap_bt" (OctoMap's
            binary tree) or "occupancy_grid" (map_server's YAML and PGM).
        out: the file to write; beside the memory where it is left out.
    """
    if to is None:
        raise InputError(f"name a format: --to {', '.join(FORMATS)}")
    writer, ending = FORMATS[to]
    out = out or file.with_suffix(ending)
    with Memory.open(file, read_only=True) as memory:
        said = write(memory, writer, out)
    print(f"{out}: {said}")
    return 0


def write(memory: Memory, writer: str, out: Path) -> str:
    """Writes one format; what is at `out` is replaced only when all of it is written.

    Raises:
        EmbodiedMemError: the folder is missing or cannot be written, or the format cannot say this memory.
    """
    if out.is_dir():
        raise InputError(f"{out} is a folder; name a file with --out")
    module, name = writer.split(":")
    function: Callable[[Memory, Path], str] = getattr(
        importlib.import_module(f"embodied_mem.exports.{module}"), name
    )
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
            said = function(memory, Path(folder) / out.name)
            for part in sorted(Path(folder).iterdir()):
                part.replace(out.parent / part.name)
    except OSError as error:
        raise EmbodiedMemError(f"cannot write {out}: {error.strerror or error}") from None
    return said

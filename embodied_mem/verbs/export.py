"""Hand a memory, or a log, to other tools, each in its own format."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from embodied_mem.errors import EmbodiedMemError, InputError
from embodied_mem.memory import Memory

Format = Literal["json", "networkx", "spark_dsg", "ply", "octomap_bt", "occupancy_grid", "rerun", "minari"]

FORMATS: dict[str, tuple[str, str]] = {
    "json": ("scene_json:write_scene_json", ".json"),
    "networkx": ("networkx_graphml:write_graphml", ".graphml"),
    "spark_dsg": ("spark_dsg_json:write_spark_dsg", ".dsg.json"),
    "ply": ("ply:write_ply", ".ply"),
    "octomap_bt": ("octomap_bt:write_octomap_bt", ".bt"),
    "occupancy_grid": ("occupancy_grid:write_occupancy_grid", ".yaml"),
}
"""Format of a memory -> its writer (in `embodied_mem.exports`) and the ending of its files."""

LOG_FORMATS = ("rerun", "minari")
"""What logs can be handed on as."""


def export(file: Path, to: Format | None = None, out: Path | None = None) -> int:
    """Hand a memory to other tools: networkx, Hydra, Open3D, OctoMap, Nav2; or a log to Rerun and Minari.

    Examples:
        embodied-mem export home.emem --to octomap_bt
        embodied-mem export home.emem --to networkx --out graph.graphml
        embodied-mem export runs/demo/episode.mcap --to minari --out datasets/demo

    Args:
        file: an .emem file; for rerun and minari a log (MCAP, rosbag2 folder, .db3).
        to: of a memory "json" (rooms > objects), "networkx" (GraphML), "spark_dsg" (JSON), "ply" (occupied
            voxels as coloured points), "octomap_bt" (OctoMap's binary tree) or "occupancy_grid"
            (map_server's YAML and PGM); of a log "rerun" (.rrd) or "minari" (a folder: observations with
            memory tokens, actions, rewards).
        out: the file to write (the folder, for minari); beside the input where it is left out.
    """
    if to is None:
        raise InputError(f"name a format: --to {', '.join([*FORMATS, *LOG_FORMATS])}")
    if not file.exists():
        raise InputError(f"no such file: {file}")
    if to in LOG_FORMATS:
        print(hand_on_log(file, to, out))
        return 0
    if file.is_dir() or file.suffix in (".mcap", ".db3"):
        raise InputError(
            f"{to} is a format of memories, {file} is a log; make its memory with "
            f"`embodied-mem replay {file} --out FOLDER`"
        )
    writer, ending = FORMATS[to]
    out = out or file.with_suffix(ending)
    with Memory.open(file, read_only=True) as memory:
        said = write(memory, writer, out)
    print(f"{out}: {said}")
    return 0


def hand_on_log(file: Path, to: str, out: Path | None) -> str:
    """Replays a log and writes it as a Rerun recording or a Minari dataset; returns what was written."""
    if to == "rerun":
        from embodied_mem.verbs.view import write_rrd

        out = out or file.with_suffix(".rrd")
        return f"{out}: {write_rrd(file, out)}; open it with `rerun {out}`"
    if file.suffix == ".emem":
        raise InputError(f"minari needs what was done and earned, step by step: a log, not the memory {file}")
    from embodied_mem.exports.minari_dataset import MinariEpisodes
    from embodied_mem.log.replay import replay
    from embodied_mem.verbs.progress import replaying

    out = out or file.with_name(f"{file.stem}-minari")
    if out.exists() and not (out.is_dir() and ((out / "metadata.json").exists() or not any(out.iterdir()))):
        raise InputError(f"{out} is something else than a dataset; name another folder with --out")
    kept = MinariEpisodes()
    with replaying(file) as on_step:
        replay(file, watch=lambda memory: kept, on_step=on_step)
    try:
        said = kept.write(out, f"embodied-mem/{file.stem}-v0")
    except OSError as error:
        raise EmbodiedMemError(f"cannot write {out}: {error.strerror or error}") from None
    return f"{out}: {said}; open it with minari.MinariDataset({str(out)!r})"


def write(memory: Memory, writer: str, out: Path) -> str:
    """Writes one format; what is at `out` is replaced only when all of it is written.

    Raises:
        EmbodiedMemError: the folder is missing or cannot be written, or the format cannot say this memory.
    """
    if out.is_dir():
        raise InputError(f"{out} is a folder; name a file with --out")
    if not out.parent.is_dir():
        raise InputError(f"no such folder: {out.parent}")
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

"""Occupied voxels as a coloured point cloud in a binary PLY file (Turk, 1994)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from embodied_mem.memory import Memory
from embodied_mem.viz.voxel_colors import voxel_colors

VERTEX = np.dtype(
    [
        *((axis, "<f4") for axis in "xyz"),
        *((channel, "u1") for channel in ("red", "green", "blue")),
        ("label", "<i4"),
        ("log_odds", "<f4"),
    ]
)
_NAMES = {"<f4": "float", "u1": "uchar", "<i4": "int", "|u1": "uchar"}


def write_ply(memory: Memory, path: Path) -> str:
    """Writes a vertex per occupied voxel: centre [m] in the map frame, colour, label id, log-odds.

    Args:
        memory: an open memory.
        path: the file to write.

    Returns:
        what was written, in words.
    """
    voxels = memory.octree.voxels()
    rows = np.zeros(len(voxels), VERTEX)
    for i, axis in enumerate("xyz"):
        rows[axis] = voxels.centers[:, i]
    colors = voxel_colors(voxels, memory.labels)
    for i, channel in enumerate(("red", "green", "blue")):
        rows[channel] = colors[:, i]
    rows["label"], rows["log_odds"] = voxels.labels, voxels.log_odds
    properties = [f"property {_NAMES[VERTEX[name].str]} {name}" for name in VERTEX.names or ()]
    labels = [f"comment label {i} {name}" for i, name in enumerate(memory.labels.names)]
    header = ["ply", "format binary_little_endian 1.0", *labels, f"element vertex {len(rows)}", *properties]
    path.write_bytes(("\n".join(header) + "\nend_header\n").encode("utf-8") + rows.tobytes())
    return f"{len(rows)} occupied voxels as points"

"""Traversable space as a picture and a YAML file, the format of Nav2's and ROS 1's map_server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from embodied_mem.errors import InputError
from embodied_mem.memory import Memory

FREE_GREY, UNKNOWN_GREY, OBSTACLE_GREY = 254, 205, 0
"""What map_saver writes; with the thresholds below they are read back as free, unknown and occupied."""


def write_occupancy_grid(memory: Memory, path: Path) -> str:
    """Writes the ground plan at the agent's floor as `path` (YAML) and a PGM picture beside it.

    Args:
        memory: an open memory.
        path: the YAML file to write; the picture has its name, ending in `.pgm`.

    Returns:
        what was written, in words.

    Raises:
        InputError: nothing is known of the ground yet.
    """
    plan = memory.grid_map()
    height, width = plan.cells.shape
    if not plan.cells.size:
        raise InputError("this memory knows no ground yet: there is no occupancy grid to export")
    greys = np.select([plan.cells < 0, plan.cells > 0], [UNKNOWN_GREY, OBSTACLE_GREY], FREE_GREY).astype(
        np.uint8
    )
    picture = path.with_suffix(".pgm")
    # The first row of the picture is the farthest in y.
    picture.write_bytes(f"P5\n{width} {height}\n255\n".encode() + np.ascontiguousarray(greys[::-1]).tobytes())
    facts = {
        "image": picture.name,
        "mode": "trinary",
        "resolution": float(plan.resolution),
        "origin": [float(plan.origin[0]), float(plan.origin[1]), 0.0],
        "negate": 0,
        "occupied_thresh": 0.65,
        "free_thresh": 0.196,
    }
    path.write_text(yaml.safe_dump(facts, sort_keys=False), encoding="utf-8")
    return f"{width} x {height} cells of {plan.resolution:g} m, and {picture.name}"

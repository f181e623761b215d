"""Draw what methods still achieve beyond the length they were trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from embodied_mem.errors import InputError


def horizon(rows: Path, out: Path = Path("horizon.png")) -> int:
    """Draw doors (or what else a task counts) against the horizon, per method, from rows of a sweep.

    Examples:
        embodied-mem horizon models/results/dark_key_to_door --out horizon.png
        embodied-mem sweep sim_configs/dark_key_to_door.yaml --horizon 8x    # makes such rows

    Args:
        rows: a task's folder of rows, evaluated at a horizon beyond 1x.
        out: the PNG file.
    """
    from embodied_mem.viz.horizon import draw_horizon

    count, length, lines = read_stretches(rows)
    print(draw_horizon(lines, out, count=count, length=length))
    return 0


def read_stretches(folder: Path) -> tuple[str, int, dict[str, list[list[float]]]]:
    """Returns what was counted, the steps of a stretch, and by method each run's counts by stretch.

    Every row is read at the longest horizon that it has.

    Raises:
        InputError: no rows, or none that was counted beyond its training's length.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; `embodied-mem sweep` writes one of rows per task")
    lines: dict[str, list[list[float]]] = {}
    count, length = "", 0
    for path in sorted(folder.glob("*.json")):
        try:
            row: dict[str, Any] = json.loads(path.read_text())
            evaluation = row["evaluation"][max(row["evaluation"], key=lambda text: int(text[:-1]))]
            stretches: dict[str, list[float]] = evaluation.get("stretches") or {}
            if not stretches:
                continue
            count, counts = next(iter(stretches.items()))
            length = round(evaluation["steps"]["mean"]) // len(counts)
            lines.setdefault(row["method"], []).append(counts)
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            raise InputError(f"{path} is no row of a sweep") from None
    if not lines:
        raise InputError(f"no row in {folder} counts anything beyond 1x: sweep with --horizon 8x, say")
    if len({len(counts) for runs in lines.values() for counts in runs}) > 1:
        raise InputError(f"rows in {folder} were evaluated at different horizons: give all the same")
    return count, length, lines

"""The results table: interquartile means over runs, with stratified bootstrap intervals."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

NOTES = "notes.md"
"""File in a task's folder of rows with what is to be known of them; it goes into the table as it is."""

TABLE = "README.md"
"""File of the table in the folder of rows."""

HEAD = """# Results

Every row is one file beside this one: command, seed, curve, wall-clock, parameters, evaluation. Figures are
interquartile means over the seeds' evaluations on episodes that training never used, with 95 % intervals of a
bootstrap over seeds (Agarwal et al., 2021; with as few seeds as here an interval says little more than the
spread, and one seed has none). Beyond 1x the task is that much longer than in training; what a task counts
(doors, corridors) is then counted in the last stretch as long as a trained trial. `embodied-mem sweep` makes
rows and table.
"""

MEASURES = ("success", "doors", "corridors", "return")
"""What is tabulated, the first that a task tells."""


def iqm(values: Sequence[float]) -> float:
    """Returns the interquartile mean: that of the middle half."""
    from scipy.stats import trim_mean

    return float(trim_mean(np.asarray(values, float), 0.25))


def interval(values: Sequence[float], samples: int = 2000) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of the interquartile mean of one task's runs (seeded)."""
    from scipy.stats import trim_mean

    rng = np.random.default_rng(0)
    drawn = rng.choice(np.asarray(values, float), (samples, len(values)))
    means = trim_mean(drawn, 0.25, axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def read_rows(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Returns the rows in a folder by task, sorted by method and seed."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(folder.glob("*/*.json")):
        rows[path.parent.name].append(json.loads(path.read_text()))
    return dict(rows)


def measure(evaluation: dict[str, Any], *, late: bool = False) -> tuple[str, float]:
    """Returns the name and value of what a task is judged by.

    Args:
        evaluation: of one run at one horizon.
        late: what was counted in the last stretch as long as a trained trial, where that is known.
    """
    counts = evaluation.get("late_counts" if late else "counts") or {}
    for name in MEASURES:
        if name in counts:
            return name, float(counts[name])
        if evaluation.get(name) is not None:
            return name, float(evaluation[name])
    raise ValueError("an evaluation tells its return")


def write_table(folder: Path) -> str:
    """Writes the table over all rows in `folder`, and returns it."""
    parts = [HEAD]
    for task, rows in read_rows(folder).items():
        horizons = sorted({h for row in rows for h in row["evaluation"]}, key=lambda h: int(h[:-1]))
        told = any(spl(row) is not None for row in rows)
        name = measure(rows[0]["evaluation"]["1x"])[0]
        notes = folder / task / NOTES
        said = notes.read_text().strip() + "\n\n" if notes.exists() else ""
        parts.append(f"\n## {task}: {name}\n\n{said}{_curriculum(rows[0])}{_header(horizons, told)}")
        for method in dict.fromkeys(row["method"] for row in rows):
            mine = [row for row in rows if row["method"] == method]
            for steps in sorted({row["steps"] for row in mine}):
                parts.append(_line(method, [row for row in mine if row["steps"] == steps], horizons, told))
    text = "\n".join(parts) + "\n"
    (folder / TABLE).write_text(text)
    return text


def _curriculum(row: dict[str, Any]) -> str:
    """Says in what the trained task differs from the one evaluated on; nothing where it does not."""
    trained, evaluated = row.get("env_kwargs", {}), row["evaluation"]["1x"].get("env_kwargs", {})
    trained = {key: value for key, value in trained.items() if evaluated and evaluated.get(key) != value}
    if not trained:
        return ""
    differs = ", ".join(f"{key} {value} (there {evaluated.get(key)})" for key, value in trained.items())
    return f"All methods were trained in another task than they were evaluated in: {differs}.\n\n"


def spl(row: dict[str, Any]) -> float | None:
    """Returns a row's mean SPL at 1x, None where its task has none."""
    found = ((row["evaluation"]["1x"].get("measures") or {}).get("spl") or {}).get("mean")
    return None if found is None else float(found)


def _header(horizons: list[str], has_spl: bool) -> str:
    columns = ["method", "seeds", "steps", "parameters", "minutes"]
    columns += [*horizons, "SPL"] if has_spl else horizons
    return "| " + " | ".join(columns) + " |\n|" + "---|" * len(columns)


def _line(method: str, rows: list[dict[str, Any]], horizons: list[str], has_spl: bool) -> str:
    minutes = np.mean([row["seconds"] for row in rows]) / 60
    cells = [
        method, ", ".join(str(row["seed"]) for row in rows), f"{rows[0]['steps']:,}",
        f"{rows[0]['parameters']:,}", f"{minutes:.1f}",
    ]  # fmt: skip
    for horizon in horizons:
        values = [
            measure(row["evaluation"][horizon], late=horizon != "1x")[1]
            for row in rows
            if horizon in row["evaluation"]
        ]
        if not values:
            cells.append("")
            continue
        low, high = interval(values)
        spread = f" [{low:.2f}, {high:.2f}]" if len(values) > 1 else ""  # one seed tells nothing of others
        cells.append(f"{iqm(values):.2f}{spread}")
    if has_spl:
        known = [value for value in map(spl, rows) if value is not None]
        cells.append(f"{iqm(known):.3f}" if known else "")
    return "| " + " | ".join(cells) + " |"

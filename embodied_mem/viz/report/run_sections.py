"""What lies in a run's folder beside the memory: curves of training, results, settings."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from embodied_mem.viz.report.page import Section, facts, picture

CURVES = ("progress.csv", "curve.csv")
RESULTS = ("report.json", "result.json")
SETTINGS = ("config.yaml", "config.json")
STEPS = ("time/total_timesteps", "steps", "step")
"""Columns that hold steps, the first that is there."""
SHOWN = ("rollout/ep_rew_mean", "rollout/success_rate", "eval/mean_reward")
"""Columns of stable-baselines3's log that are drawn; all columns of another table."""
MOST_LINES = 12


def run_sections(folder: Path) -> list[Section]:
    """Returns the sections about the files of a run; what is not there is left out."""
    return [*_curves(folder), *_results(folder), *_settings(folder)]


def _files(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """Yields files by name, in the folder and one below it, in a fixed order."""
    for pattern in ("", "*/"):
        for name in names:
            yield from sorted(p for p in folder.glob(pattern + name) if p.is_file())


def _curves(folder: Path) -> Iterator[Section]:
    drawn = []
    for path in _files(folder, CURVES):
        columns = read_columns(path)
        steps = next((columns.pop(name) for name in STEPS if name in columns), None)
        lines = {k: v for k, v in columns.items() if k in SHOWN} or columns
        if steps and lines:
            name = str(path.relative_to(folder))
            data = draw_curves(steps, dict(list(lines.items())[:MOST_LINES]))
            drawn.append(picture(data, "svg+xml", f"Curves of {', '.join(lines)} over steps", name))
    if drawn:
        yield Section("Curves", "\n".join(drawn))


def read_columns(path: Path) -> dict[str, list[float]]:
    """Returns the numeric columns of a CSV file; what is no number is NaN, and text columns are left out."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns: dict[str, list[float]] = {}
    for name in rows[0] if rows else ():
        values = [_number(row.get(name)) for row in rows]
        if any(value == value for value in values):
            columns[name] = values
    return columns


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def draw_curves(steps: list[float], lines: Mapping[str, list[float]]) -> bytes:
    """Returns an SVG of lines over steps; gaps in the table are gaps in time, not in the line."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained", facecolor="white")
    FigureCanvasSVG(figure)
    ax = figure.add_subplot()
    for name, values in lines.items():
        there = [(step, value) for step, value in zip(steps, values) if value == value]
        ax.plot(*zip(*there), label=name, linewidth=1.2)
    ax.set_xlabel("steps")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _results(folder: Path) -> Iterator[Section]:
    parts = []
    for path in _files(folder, RESULTS):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            parts.append(f"<p>{escape(str(path.relative_to(folder)))} cannot be read as JSON.</p>")
            continue
        head = f"<summary>{escape(str(path.relative_to(folder)))}</summary>"
        parts.append(f"<details open>{head}{facts(flatten(values))}</details>")
    if parts:
        yield Section("Results and timings", "\n".join(parts))


def flatten(values: Any, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yields the leaves of nested mappings as (dotted name, value); lists of plain values stay together."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            if key == "each":  # episode by episode: for `compare`, not for people
                continue
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(values, list) and any(isinstance(value, (Mapping, list)) for value in values):
        for i, value in enumerate(values):
            yield from flatten(value, f"{prefix}[{i}]")
    elif isinstance(values, list):
        yield prefix, ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)
    else:
        yield prefix, "-" if values is None else values


def _settings(folder: Path) -> Iterator[Section]:
    parts = []
    for path in _files(folder, SETTINGS):
        text = escape(path.read_text(encoding="utf-8", errors="replace"))
        name = escape(str(path.relative_to(folder)))
        parts.append(f'<details><summary>{name}</summary><pre tabindex="0">{text}</pre></details>')
    if parts:
        yield Section("Settings", "\n".join(parts))

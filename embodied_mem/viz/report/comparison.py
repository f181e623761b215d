"""A comparison of runs as a page, in the report's style."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from embodied_mem.viz.report.page import Section, page, picture, table

DRAWN = ("success", "return", "doors", "corridors")
"""Columns of a curve that are drawn where they are there."""


def comparison_page(comparison: Mapping[str, Any]) -> str:
    """Returns one self-contained HTML page.

    Args:
        comparison: what `embodied-mem compare --json` prints.
    """
    runs = comparison["runs"]
    sections = []
    if comparison["measures"]:
        sections.append(Section("Measures", _measures(comparison)))
    drawn = [_curves(runs, comparison["curves"], name) for name in DRAWN]
    if any(drawn):
        sections.append(Section("Curves", "\n".join(filter(None, drawn))))
    if comparison["memories"]:
        said = "The same memory, bit for bit." if comparison["same_memory"] else "Different memories."
        body = f"<p>{said}</p>" + _values("What the memories hold", runs, comparison["memories"])
        if comparison["labels"]:
            body += _values("Objects by label", runs, comparison["labels"])
        sections.append(Section("Memories", body))
    if comparison["settings"]:
        caption = "Settings that are not the same everywhere"
        sections.append(Section("Settings", _values(caption, runs, comparison["settings"])))
    return page("embodied-mem: comparison", ", ".join(runs), sections)


def _measures(comparison: Mapping[str, Any]) -> str:
    runs = comparison["runs"]
    rows = [[row["name"], *(_cell(value) for value in row["values"])] for row in comparison["measures"]]
    means = table("Means with 95 % intervals", ["measure", *runs], rows)
    differ = [row for row in comparison["measures"] if any(row["differences"])]
    if not differ:
        return means + "<p>These results do not tell their episodes one by one: no differences.</p>"
    paired = all(d["paired"] for row in differ for d in row["differences"] if d is not None)
    how = "in pairs, episode by episode" if paired else "of the means, unless episodes pair"
    heads = ["measure", *(f"{name} less {runs[0]}" for name in runs[1:])]
    rows = [[row["name"], *(_cell(value, "+") for value in row["differences"])] for row in differ]
    return f"{means}<p></p>{table(f'Differences with 95 % bootstrap intervals, {how}', heads, rows)}"


def _cell(value: Mapping[str, Any] | None, sign: str = "") -> str:
    if value is None or value["mean"] is None:
        return "-"
    if value["interval"] is None:
        return f"{value['mean']:{sign}.3f}"
    low, high = value["interval"]
    return f"{value['mean']:{sign}.3f} [{low:{sign}.3f},\N{NO-BREAK SPACE}{high:{sign}.3f}]"


def _values(caption: str, runs: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [[row["name"], *("-" if v is None else v for v in row["values"])] for row in rows]
    return table(caption, ["", *runs], cells)


def _curves(runs: Sequence[str], curves: Sequence[Sequence[Mapping[str, float]]], name: str) -> str:
    """Returns a picture of one column of all curves; "" where none has it."""
    lines = {
        run: [(line["step"], line[name]) for line in curve if name in line]
        for run, curve in zip(runs, curves)
    }
    lines = {run: points for run, points in lines.items() if points}
    if not lines:
        return ""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained", facecolor="white")
    FigureCanvasSVG(figure)
    ax = figure.add_subplot()
    for (run, points), style in zip(lines.items(), ("-", "--", ":", "-.") * len(lines)):
        ax.plot(*zip(*points), style, label=run, linewidth=1.4)
    ax.set_xlabel("environment steps")
    ax.set_ylabel(name)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return picture(buffer.getvalue(), "svg+xml", f"{name} over steps of {', '.join(lines)}", name)

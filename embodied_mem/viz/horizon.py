"""A figure of what methods still achieve when a trial goes on far beyond the length they were trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from embodied_mem.viz.canvas import blank_figure, save_figure
from embodied_mem.viz.map_texts import INK, QUIET

COLORS = (
    "#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd",
    "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#222222",
)  # fmt: skip
MARKERS = "osD^vP*Xh<"


def draw_horizon(
    lines: Mapping[str, Sequence[Sequence[float]]], path: str | Path, *, count: str, length: int
) -> Path:
    """Draws the mean over runs, and their range, in each stretch of a long trial into a PNG file.

    Args:
        lines: by method, for every run (seed) what was counted in each stretch, the first one first.
        path: the PNG file to write.
        count: what was counted, such as "doors".
        length: steps of a stretch: of a trial in training.

    Returns:
        the path.

    Raises:
        EmbodiedMemError: matplotlib is missing, or the file cannot be written.
    """
    figure = blank_figure(7.2, 3.6, 110, constrained=True)
    ax = figure.add_subplot()
    for index, (method, runs) in enumerate(lines.items()):
        values = np.array(runs, float)  # (runs, stretches)
        ends = length * np.arange(1, values.shape[1] + 1)
        color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
        label = f"{method} ({len(values)} {'seed' if len(values) == 1 else 'seeds'})"
        ax.plot(ends, values.mean(0), f"{marker}-", color=color, label=label, lw=1.5, ms=4.5)
        if len(values) > 1:
            ax.fill_between(ends, values.min(0), values.max(0), color=color, alpha=0.12, lw=0)
    ax.axvline(length, color=QUIET, lw=1, ls=":")
    ax.annotate(
        "trained to here", (length, 0), (4, 5), xycoords=("data", "axes fraction"),
        textcoords="offset points", fontsize=8, color=QUIET,
    )  # fmt: skip
    ax.set_xlabel(f"calls in the trial, in stretches of {length}", color=INK)
    ax.set_ylabel(f"{count} per stretch", color=INK)
    ax.set_ylim(bottom=0)
    ax.grid(alpha=0.25)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return save_figure(figure, path)

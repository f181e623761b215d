"""A picture of a memory from above: occupancy, rooms or places, objects, trajectory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.types import NS_PER_S
from embodied_mem.viz import map_layers as layers
from embodied_mem.viz.canvas import blank_figure, save_figure
from embodied_mem.viz.map_raster import UNKNOWN_COLOR, MapRaster, height_color, height_range, rasterize
from embodied_mem.viz.map_texts import INK, QUIET, draw_texts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from embodied_mem.memory import Memory

Bounds = tuple[float, float, float, float]
"""Left, right, bottom, top [m]."""

DPI = 150
PANEL = 2.15
"""Width of the panel with the legend [in]."""
LEFT, BOTTOM, RIGHT, TOP = 0.62, 0.52, 0.2, 0.72
"""Margins [in]."""
LEAST_HEIGHT = 4.2
"""Height that the legend needs [in]."""
STOREY = 2.2
"""What lies farther below the trajectory than this is another storey [m]."""


def draw_map(memory: Memory, path: str | Path, *, title: str = "", size: float = 7.5) -> Path:
    """Draws a memory from above into a PNG file; nothing in the memory changes.

    Cells are coloured by label where the map is labelled, by height where it is not. Free space is
    tinted by room where there are several rooms; otherwise places and their edges are drawn.

    Args:
        memory: an open memory.
        path: the PNG file to write.
        title: heading.
        size: longer edge of the map itself [in], at 150 dpi.

    Returns:
        the path.

    Raises:
        EmbodiedMemError: matplotlib is missing, or the file cannot be written.
    """
    stamps, positions = memory.scene.trajectory()
    lowest = float(positions[:, 2].min()) - STOREY if len(positions) else -np.inf
    raster = rasterize(memory.octree, lowest)
    bounds = _bounds(raster, positions)
    width, height = _map_size(bounds, size)
    wide, high = LEFT + width + PANEL + RIGHT, TOP + max(height, LEAST_HEIGHT) + BOTTOM
    figure = blank_figure(wide, high, DPI)
    ax = _add_axes(figure, LEFT, TOP, width, height)
    _dress(ax, bounds)
    handles = _draw_layers(ax, memory, raster, stamps, positions)
    _draw_heading(figure, title or "memory, seen from above", _facts(memory, raster, stamps, positions))
    _draw_scale_bar(figure, width, height, bounds)
    _draw_panel(figure, width, handles, raster, stamps)
    return save_figure(figure, path)


def _bounds(raster: MapRaster | None, positions: NDArray[np.float64]) -> Bounds:
    boxes = [raster.extent] if raster is not None else []
    if len(positions):
        (x0, y0), (x1, y1) = positions[:, :2].min(axis=0), positions[:, :2].max(axis=0)
        boxes.append((float(x0), float(x1), float(y0), float(y1)))
    if not boxes:
        return -1.0, 1.0, -1.0, 1.0
    left, right = min(b[0] for b in boxes), max(b[1] for b in boxes)
    bottom, top = min(b[2] for b in boxes), max(b[3] for b in boxes)
    margin = 0.03 * max(right - left, top - bottom) or 1.0
    return left - margin, right + margin, bottom - margin, top + margin


def _map_size(bounds: Bounds, size: float) -> tuple[float, float]:
    wide, high = bounds[1] - bounds[0], bounds[3] - bounds[2]
    return size * min(1.0, wide / high), size * min(1.0, high / wide)


def _add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Adds axes at a distance from the figure's left and top edges [in]."""
    wide, high = figure.get_size_inches()
    return figure.add_axes((left / wide, 1 - (top + height) / high, width / wide, height / high))


def _dress(ax: Axes, bounds: Bounds) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_xlim(*bounds[:2])
    ax.set_ylim(*bounds[2:])
    ax.set_facecolor(UNKNOWN_COLOR)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
    ax.tick_params(labelsize=8, colors=QUIET, length=3)
    ax.set_xlabel("x [m]", fontsize=8, color=QUIET, labelpad=2)
    ax.set_ylabel("y [m]", fontsize=8, color=QUIET, labelpad=2)
    for spine in ax.spines.values():
        spine.set_color(layers.FRAME)


def _draw_layers(
    ax: Axes,
    memory: Memory,
    raster: MapRaster | None,
    stamps: NDArray[np.int64],
    positions: NDArray[np.float64],
) -> list[Any]:
    """Draws everything inside the map; returns the entries of the legend."""
    scene, labels = memory.scene, memory.labels
    things = [o for o in scene.objects() if np.isfinite(o.position).all()]
    rooms = scene.rooms()
    rooms = rooms if len(rooms) > 1 else []
    handles: list[Any] = []
    room_ids = layers.room_ids_of(raster, scene) if rooms and raster is not None else None
    if raster is None:
        middle: dict[str, Any] = {"ha": "center", "va": "center", "color": QUIET}
        ax.text(0.5, 0.5, "nothing mapped yet", transform=ax.transAxes, **middle)
    else:
        handles += layers.draw_cells(ax, raster, labels, room_ids, {o.label for o in things})
    if not rooms:
        handles += layers.draw_places(ax, scene)
    longest = max(layers.LEAP, 3 * memory.octree.resolution)
    handles += layers.draw_trajectory(ax, stamps, positions, longest)
    handles += layers.draw_objects(ax, things, labels)
    draw_texts(ax, things, rooms, positions[:, :2], raster, room_ids)
    return handles


def _facts(
    memory: Memory,
    raster: MapRaster | None,
    stamps: NDArray[np.int64],
    positions: NDArray[np.float64],
) -> list[str]:
    """Returns what is in the memory, in a few words each."""
    facts = []
    if raster is not None:
        known = int(raster.occupied.sum() + raster.free.sum())
        facts += [f"{known * raster.resolution**2:,.0f} m² seen", f"cells of {raster.resolution:g} m"]
    things = sum(o.existence >= 0.5 for o in memory.scene.objects())
    for count, name in (
        (things, "object"),
        (len(memory.scene.rooms()), "room"),
        (len(memory.scene.places()), "place"),
    ):
        if count:
            facts.append(f"{count} {name}{'s' * (count != 1)}")
    if len(positions) > 1:
        facts.append(f"{np.linalg.norm(np.diff(positions, axis=0), axis=1).sum():,.0f} m travelled")
        facts.append(f"{(int(stamps[-1]) - int(stamps[0])) / NS_PER_S:,.0f} s")
    return facts


def _draw_heading(figure: Figure, title: str, facts: list[str]) -> None:
    wide, high = figure.get_size_inches()
    figure.text(LEFT / wide, 1 - 0.34 / high, title, fontsize=12, color=INK, weight="bold")
    figure.text(LEFT / wide, 1 - 0.57 / high, " · ".join(facts), fontsize=8.5, color=QUIET)


def _draw_scale_bar(figure: Figure, width: float, height: float, bounds: Bounds) -> None:
    """Draws a bar of a round length below the map's right end."""
    metres = bounds[1] - bounds[0]
    length = _round_length(0.25 * metres)
    bar = _add_axes(
        figure, LEFT + width * (1 - length / metres), TOP + height + 0.3, width * length / metres, 0.06
    )
    bar.axhspan(0, 1, color=INK)
    bar.set_axis_off()
    wide, high = figure.get_size_inches()
    figure.text(
        (LEFT + width * (1 - length / metres) - 0.06) / wide,
        1 - (TOP + height + 0.33) / high,
        f"{length:g} m",
        fontsize=8,
        color=INK,
        ha="right",
        va="center_baseline",
    )


def _draw_panel(
    figure: Figure, width: float, handles: list[Any], raster: MapRaster | None, stamps: NDArray[np.int64]
) -> None:
    """Draws the colour bars and the legend beside the map."""
    left, top = LEFT + width + 0.22, TOP
    if len(stamps) > 1:
        seconds = (int(stamps[-1]) - int(stamps[0])) / NS_PER_S
        ramp = np.linspace(layers.EARLY, layers.LATE, 64)
        top = _draw_bar(figure, left, top, "time [s]", (0.0, seconds), ramp)
    if raster is not None and raster.occupied.any() and not raster.is_labelled:
        ramp = height_color(np.linspace(0, 1, 64))
        top = _draw_bar(figure, left, top, "height z [m]", height_range(raster), ramp)
    wide, high = figure.get_size_inches()
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left / wide, 1 - top / high),
        bbox_transform=figure.transFigure,
        fontsize=8,
        frameon=False,
        borderaxespad=0,
        borderpad=0,
        handlelength=1.4,
        labelspacing=0.5,
        labelcolor=INK,
    )


def _draw_bar(
    figure: Figure,
    left: float,
    top: float,
    name: str,
    limits: tuple[float, float],
    ramp: NDArray[np.float64],
) -> float:
    """Draws a colour bar with its name; returns how far from the top the next thing can start [in]."""
    from matplotlib.ticker import MaxNLocator

    low, high = limits if limits[1] > limits[0] else (limits[0], limits[0] + 1.0)
    bar = _add_axes(figure, left, top + 0.19, PANEL - 0.45, 0.11)
    bar.imshow(ramp[None], extent=(low, high, 0, 1), aspect="auto", interpolation="bilinear")
    bar.set_yticks([])
    bar.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    bar.tick_params(labelsize=7.5, colors=QUIET, length=2, pad=2)
    bar.set_title(name, fontsize=8, color=INK, loc="left", pad=3)
    for spine in bar.spines.values():
        spine.set_visible(False)
    return top + 0.68


def _round_length(length: float) -> float:
    """Returns the largest of 1, 2 and 5 times a power of ten that is at most `length`."""
    base = 10.0 ** math.floor(math.log10(length))
    return max(f * base for f in (1.0, 2.0, 5.0) if f * base <= length * (1 + 1e-9))

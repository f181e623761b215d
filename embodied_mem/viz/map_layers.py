"""The layers of a map picture, from the bottom up; each returns its entries of the legend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.types import LabelMap
from embodied_mem.viz.map_raster import (
    FREE_COLOR,
    UNKNOWN_COLOR,
    UNLABELLED_COLOR,
    Color,
    MapRaster,
    blend,
    cell_color,
    label_color,
    paint,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from embodied_mem.memory.scene.graph import SceneGraph, SceneObject

FRAME = "#c4c8ce"
PLACE = "#5d7fa3"
EARLY, LATE = (0.976, 0.706, 0.380), (0.651, 0.090, 0.216)
"""Colours of the trajectory's start and end."""
MAX_LEGEND = 16
"""So many labels of cells, and of objects, are explained."""
LEAP = 3.0
"""The trajectory's line is broken where the agent was put elsewhere: moves longer than this [m]."""
HAIRLINE_PIXELS = 14
"""Cells at least this large on the picture are told apart by hairlines."""

_MARKERS = {"door": ("s", 6.5), "box": ("s", 6.5), "key": ("P", 8.5), "goal": ("*", 12.0), "ball": ("o", 7.0)}


def draw_cells(
    ax: Axes, raster: MapRaster, labels: LabelMap, room_ids: NDArray[np.int64] | None, named: set[int]
) -> list[Any]:
    """Draws what is known of each cell.

    Args:
        ax: where to draw.
        raster: the map from above.
        labels: names of its labels.
        room_ids: (H, W) id of the room each cell is in, -1 for none; None not to tint rooms.
        named: labels that the legend explains elsewhere.
    """
    from matplotlib.patches import Patch

    image = paint(raster, labels, room_ids)
    ax.imshow(image, extent=raster.extent, origin="lower", interpolation="nearest", zorder=1)
    left, right = ax.get_xlim()
    if ax.get_window_extent().width / (right - left) * raster.resolution >= HAIRLINE_PIXELS:
        _draw_hairlines(ax, raster)
    handles = [
        Patch(facecolor=UNKNOWN_COLOR, edgecolor=FRAME, label="unknown"),
        Patch(facecolor=FREE_COLOR, edgecolor=FRAME, label="free"),
    ]
    shown = [int(i) for i in np.unique(raster.labels) if i > 0 and int(i) not in named]
    handles += [
        Patch(facecolor=cell_color(labels, i), edgecolor="none", label=labels.name(i))
        for i in shown[:MAX_LEGEND]
    ]
    if raster.is_labelled and (raster.occupied & (raster.labels == 0)).any():
        handles.append(Patch(facecolor=UNLABELLED_COLOR, edgecolor="none", label="occupied"))
    return handles


def _draw_hairlines(ax: Axes, raster: MapRaster) -> None:
    """Draws the edges of known cells."""
    from matplotlib.collections import LineCollection

    known = np.pad(raster.occupied | raster.free, 1)
    x0, y0 = raster.origin.tolist()
    size = raster.resolution
    rows, columns = np.nonzero(known[1:-1, :-1] | known[1:-1, 1:])
    upright = np.stack(
        [x0 + columns * size, y0 + rows * size, x0 + columns * size, y0 + (rows + 1) * size], axis=1
    )
    rows, columns = np.nonzero(known[:-1, 1:-1] | known[1:, 1:-1])
    level = np.stack(
        [x0 + columns * size, y0 + rows * size, x0 + (columns + 1) * size, y0 + rows * size], axis=1
    )
    lines = np.concatenate([upright, level]).reshape(-1, 2, 2)
    ax.add_collection(LineCollection(list(lines), colors="black", linewidths=0.5, alpha=0.07, zorder=1.1))


def room_ids_of(raster: MapRaster, scene: SceneGraph) -> NDArray[np.int64]:
    """Returns the id of the room that each cell is in, (H, W), -1 for none."""
    centers = raster.cell_centers()
    flat = np.zeros((centers.shape[0] * centers.shape[1], 3))
    flat[:, :2] = centers.reshape(-1, 2)
    table = scene.room_table
    rows = table.rows(flat)
    ids = np.where(rows >= 0, table.ids[np.maximum(rows, 0)], -1)
    return np.asarray(ids.reshape(centers.shape[:2]), np.int64)


def draw_places(ax: Axes, scene: SceneGraph) -> list[Any]:
    """Draws the graph of places."""
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D

    places = {p.id: p for p in scene.places()}
    if not places:
        return []
    lines = [scene.place_table.trace([a, b])[:, :2] for a, b, _ in scene.edges()]
    ax.add_collection(LineCollection(lines, colors=PLACE, linewidths=0.8, alpha=0.8, zorder=2))
    handles: list[Any] = []
    for visited, name in ((True, "place, visited"), (False, "place, only seen")):
        xy = np.array([p.position[:2] for p in places.values() if (p.visits > 0) == visited]).reshape(-1, 2)
        if len(xy):
            style: dict[str, Any] = {
                "marker": "o",
                "markersize": 4,
                "color": PLACE,
                "markerfacecolor": PLACE if visited else "white",
                "markeredgewidth": 0.8,
            }
            ax.plot(xy[:, 0], xy[:, 1], linestyle="none", zorder=2.1, **style)
            handles.append(Line2D([], [], linewidth=0.8, label=name, **style))
    return handles


def draw_trajectory(
    ax: Axes, stamps: NDArray[np.int64], positions: NDArray[np.float64], longest: float = LEAP
) -> list[Any]:
    """Draws where the agent has been, coloured by time.

    Args:
        ax: where to draw.
        stamps: (N,) int64 [ns].
        positions: (N, 3) [m].
        longest: longer moves are not joined [m].
    """
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D

    if len(positions) == 0:
        return []
    xy = positions[:, :2]
    whole = np.linalg.norm(np.diff(xy, axis=0), axis=1) <= longest
    lines = list(np.stack([xy[:-1], xy[1:]], axis=1)[whole])
    color = time_colors(stamps)[1:][whole]
    case = LineCollection(lines, colors="white", linewidths=3.6, alpha=0.75, capstyle="round", zorder=3)
    ax.add_collection(case)
    ax.add_collection(LineCollection(lines, colors=color, linewidths=1.7, capstyle="round", zorder=3.1))
    start: dict[str, Any] = {"marker": "o", "markersize": 7.5, "markerfacecolor": "white"}
    start |= {"markeredgecolor": EARLY, "markeredgewidth": 2.0, "linestyle": "none", "label": "start"}
    end: dict[str, Any] = {"marker": "D", "markersize": 7.0, "markerfacecolor": LATE}
    end |= {"markeredgecolor": "white", "markeredgewidth": 1.2, "linestyle": "none", "label": "end"}
    for point, style in ((xy[0], start), (xy[-1], end)):
        ax.plot(*point, zorder=6, **style)
    return [Line2D([], [], **start), Line2D([], [], **end)]


def time_colors(stamps: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns (N, 3) colours of ascending stamps, from early to late."""
    share = (stamps - stamps[0]) / max(int(stamps[-1] - stamps[0]), 1)
    return np.array(EARLY) + share[:, None] * (np.array(LATE) - np.array(EARLY))


def draw_objects(ax: Axes, things: list[SceneObject], labels: LabelMap) -> list[Any]:
    """Draws a marker for every object; hollow where the object is believed gone."""
    from matplotlib.lines import Line2D

    for thing in things:
        style = marker_style(thing.name, label_color(labels, thing.label), gone=thing.existence < 0.5)
        ax.plot(*thing.position[:2], zorder=5, **style)
    names = sorted({(o.name, o.label) for o in things if o.existence >= 0.5})
    handles = [
        Line2D(
            [], [], label=name, **(marker_style(name, label_color(labels, label)) | {"markeredgewidth": 0})
        )
        for name, label in names[:MAX_LEGEND]
    ]
    if any(o.existence < 0.5 for o in things):
        handles.append(Line2D([], [], label="object, gone", **marker_style("", (0.42, 0.45, 0.5), gone=True)))
    return handles


def marker_style(name: str, color: Color, gone: bool = False) -> dict[str, Any]:
    """Returns how an object is marked: by its kind and its label's colour."""
    marker, size = next((_MARKERS[w] for w in name.split() if w in _MARKERS), ("o", 6.5))
    return {
        "marker": marker,
        "markersize": size,
        "markerfacecolor": "none" if gone else color,
        "markeredgecolor": blend(color, (1.0, 1.0, 1.0), 0.3) if gone else "white",
        "markeredgewidth": 0.9,
        "linestyle": "none",
    }

"""The names on a map picture: objects and rooms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.viz.label_layout import Label, place_labels
from embodied_mem.viz.map_raster import MapRaster

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from embodied_mem.memory.scene.graph import Room, SceneObject

INK = "#22262b"
QUIET = "#5f6672"
OBJECT_SIZE, ROOM_SIZE = 7.5, 9.5
"""Font sizes [pt]."""
MAX_SPOTS = 200
"""A room's name is tried in about so many of its cells."""
MARKER_REACH = 5.0
"""Radius of a marker that texts keep clear of [pt]."""


def draw_texts(
    ax: Axes,
    things: list[SceneObject],
    rooms: list[Room],
    path: NDArray[np.float64],
    raster: MapRaster | None,
    room_ids: NDArray[np.int64] | None,
) -> None:
    """Names objects and rooms where there is space for it, with a thin line where that is far off.

    Objects believed gone are not named. What fits nowhere is left out; the rarest labels come first.

    Args:
        ax: where to draw.
        things: all objects.
        rooms: the rooms to be named.
        path: (N, 2) the trajectory, which texts should rather not cover [m].
        raster: the map, whose occupied cells the names of rooms should rather not cover.
        room_ids: (H, W) id of the room each cell of the map is in, -1 for none; None without rooms.
    """
    dot = ax.figure.get_dpi() / 72
    texts, labels = [], []
    for thing in _rarest_first([o for o in things if o.existence >= 0.5]):
        text = _text(ax, _caption(thing), OBJECT_SIZE, INK, "normal")
        texts.append(text)
        labels.append(_label(ax, text, thing.position, MARKER_REACH * dot))
    for room in rooms:
        if raster is None or room_ids is None:
            break
        inside = raster.cell_centers()[room_ids == room.id]  # (C, 2)
        if len(inside) == 0:
            continue
        text = _text(ax, room.name, ROOM_SIZE, QUIET, "italic")
        texts.append(text)
        spots = ax.transData.transform(inside[:: -(-len(inside) // MAX_SPOTS)])
        walls = _walls_near(ax, raster, room)
        labels.append(_label(ax, text, inside.mean(axis=0), 0.0, spots, walls))
    centers = place_labels(
        labels,
        _pixel_boxes(ax, [o.position[:2] for o in things], MARKER_REACH * dot),
        ax.get_window_extent().extents,
        ax.transData.transform(_dense(path)) if len(path) else None,
    )
    to_map = ax.transData.inverted()
    for text, label, center in zip(texts, labels, centers):
        if center is None:
            text.remove()
            continue
        x, y = to_map.transform(center)
        text.set_position((float(x), float(y)))
        _draw_leader(ax, label, center)


def _text(ax: Axes, name: str, size: float, color: str, style: str) -> Any:
    from matplotlib.patheffects import withStroke

    halo = withStroke(linewidth=2.2, foreground="white", alpha=0.9)
    return ax.text(
        0.0,
        0.0,
        name,
        fontsize=size,
        color=color,
        fontstyle=style,
        ha="center",
        va="center",
        zorder=7,
        path_effects=[halo],
        clip_on=True,
    )


def _label(
    ax: Axes,
    text: Any,
    position: NDArray[np.float64],
    clear: float,
    spots: NDArray[np.float64] | None = None,
    avoid: NDArray[np.float64] | None = None,
) -> Label:
    box = text.get_window_extent(ax.figure.canvas.get_renderer())  # type: ignore[attr-defined]
    x, y = ax.transData.transform(position[:2])
    return Label(float(x), float(y), box.width + 4, box.height + 2, clear, spots, avoid)


def _pixel_boxes(ax: Axes, points: list[NDArray[np.float64]], reach: float) -> NDArray[np.float64]:
    marks = ax.transData.transform(np.array(points).reshape(-1, 2))
    return np.concatenate([marks - reach, marks + reach], axis=1)


def _walls_near(ax: Axes, raster: MapRaster, room: Room) -> NDArray[np.float64]:
    """Returns (M, 4) boxes of occupied cells in and around a room [px]."""
    centers = raster.cell_centers()
    near = (np.abs(centers - room.position[:2]) <= room.extent[:2] + 2 * raster.resolution).all(axis=-1)
    centers = centers[raster.occupied & near]
    half = raster.resolution / 2
    lo, hi = ax.transData.transform(centers - half), ax.transData.transform(centers + half)
    return np.concatenate([lo, hi], axis=1)


def _draw_leader(ax: Axes, label: Label, center: tuple[float, float]) -> None:
    """Joins a text to what it names where it stands away from it."""
    dx = max(abs(center[0] - label.x) - label.width / 2, 0.0)
    dy = max(abs(center[1] - label.y) - label.height / 2, 0.0)
    if label.spots is not None or math.hypot(dx, dy) < label.clear + 0.9 * label.height:
        return
    x = min(max(label.x, center[0] - label.width / 2), center[0] + label.width / 2)
    y = min(max(label.y, center[1] - label.height / 2), center[1] + label.height / 2)
    ends = ax.transData.inverted().transform([(label.x, label.y), (x, y)])
    ax.plot(ends[:, 0], ends[:, 1], color=INK, linewidth=0.5, alpha=0.6, zorder=4.5)


def _dense(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns a line's points and those between them, at most 3000."""
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(xy, axis=0), axis=1))])
    at = np.linspace(0.0, along[-1], min(3000, 20 * len(xy)))
    return np.stack([np.interp(at, along, xy[:, 0]), np.interp(at, along, xy[:, 1])], axis=1)


def _caption(thing: SceneObject) -> str:
    return f"{thing.name} ({thing.state})" if thing.state else thing.name


def _rarest_first(things: list[SceneObject]) -> list[SceneObject]:
    counts: dict[str, int] = {}
    for thing in things:
        counts[thing.name] = counts.get(thing.name, 0) + 1
    return sorted(things, key=lambda o: (counts[o.name], o.id))

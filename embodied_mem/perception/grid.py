"""Perception of MiniGrid's symbolic partial view."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.perception.labels import join_labels, relabel_detections
from embodied_mem.types import Detection, GridView, LabelMap, Observation, Percept, Scan

OBJECTS = ("unseen", "empty", "wall", "floor", "door", "key", "ball", "box", "goal", "lava", "agent")
"""Object types of a view, by index. The numbers are part of the log's format (MiniGrid's OBJECT_TO_IDX)."""
COLORS = ("red", "green", "blue", "purple", "yellow", "grey")
"""Colours of a view, by index (MiniGrid's COLOR_TO_IDX)."""
STATES = ("open", "closed", "locked")
"""Door states of a view, by index (MiniGrid's STATE_TO_IDX)."""

_COLORED = ("floor", "door", "key", "ball", "box")
_PLAIN = ("wall", "goal", "lava")
_DETECTED = ("door", "key", "ball", "box", "goal")
_FREE = ("empty", "floor", "goal", "agent")
_UNSEEN, _DOOR = OBJECTS.index("unseen"), OBJECTS.index("door")

GRID_LABELS = LabelMap(("unknown", *_PLAIN, *(f"{c} {thing}" for thing in _COLORED for c in COLORS)))
"""Labels of a MiniGrid world: "wall", "goal", "lava", "green key", "grey door", ..."""


def _label_table() -> NDArray[np.int32]:
    table = np.zeros((len(OBJECTS), len(COLORS)), np.int32)
    for o, thing in enumerate(OBJECTS):
        for c, color in enumerate(COLORS):
            name = thing if thing in _PLAIN else f"{color} {thing}"
            if name in GRID_LABELS.names:
                table[o, c] = GRID_LABELS.id(name)
    return table


_LABELS = _label_table()
_IS_FREE = np.array([thing in _FREE for thing in OBJECTS])
_IS_DETECTED = np.array([thing in _DETECTED for thing in OBJECTS])

POSITION_SIGMA = 0.01
"""Standard deviation of a detection's position, in cells: the symbols carry no noise."""


class GridPerception:
    """Turns the symbolic view into evidence for cells and into detections.

    Each seen cell is one point at the centre of its cube: free, or hit with the label of what
    stands there. Keys, balls, boxes, doors and goals are detections too.

    MiniGrid shows nothing of what lies under the agent (it draws the carried object there). The
    agent's own cell is therefore free, with the label that the cell had in the previous view: an
    open door stays a door while the agent stands in it. This previous view, which the first
    observation of an episode clears, is all the state there is.
    """

    def __init__(self) -> None:
        self._previous: tuple[GridView, Pose, NDArray[np.int32]] | None = None

    def __call__(self, obs: Observation) -> Percept:
        """Perceives one observation.

        Args:
            obs: with `grid`. Detections from outside are passed on; labels of theirs that no grid
                world has follow `GRID_LABELS` in the percept's label map.

        Raises:
            InputError: the view is missing, or is not one of MiniGrid's.
        """
        if obs.grid is None:
            raise InputError("the observation has no grid view")
        check_view(obs.grid)
        if obs.is_first:
            self._previous = None
        label_map, table = join_labels(GRID_LABELS, obs.labels)
        pose = obs.map_T_base
        labels = view_labels(obs.grid)
        middle, last = _agent_cell(obs.grid)
        labels[middle, last] = self._label_underfoot(pose, obs.grid.cell_size)
        event, text = self._event(obs)
        self._previous = (obs.grid, pose, labels)
        return Percept(
            stamp=obs.stamp,
            step=obs.step,
            odom_T_base=obs.odom_T_base,
            map_T_odom=obs.map_T_odom,
            covariance=obs.covariance,
            labels=label_map,
            scans=(_scan(obs.grid, labels),),
            detections=(*_detections(obs.grid, labels), *relabel_detections(obs.detections, table)),
            action=obs.action,
            reward=obs.reward,
            is_first=obs.is_first,
            event=event,
            text=text,
            source="grid",
        )

    def _label_underfoot(self, pose: Pose, size: float) -> int:
        """Returns the label that the agent's cell had in the previous view, 0 where it was not seen."""
        if self._previous is None or not pose.is_finite:
            return 0
        view, before, labels = self._previous
        if view.cell_size != size or not before.is_finite:
            return 0
        x, y, _ = before.inverse().transform(pose.position) / size
        middle, last = _agent_cell(view)
        c, r = middle - round(float(y)), last - round(float(x))
        if not (0 <= c < labels.shape[0] and 0 <= r < labels.shape[1]):
            return 0
        # What stood there is no longer there, or the agent would not be.
        return int(labels[c, r]) if _free_cells(view)[c, r] else 0

    def _event(self, obs: Observation) -> tuple[str, str]:
        """Names what the agent took or put down since the previous view, with a sentence."""
        assert obs.grid is not None
        if obs.is_first:
            return "episode_start", ""
        had = self._previous[0].carrying if self._previous is not None else obs.grid.carrying
        has = obs.grid.carrying
        event, text = "", ""
        if has is not None and had != has:
            event, text = "picked_up", f"picked up the {_thing_name(has)}"
        elif had is not None and has is None:
            event, text = "put_down", f"put down the {_thing_name(had)}"
        return ("episode_end" if obs.terminated or obs.truncated else event), text


def check_view(view: GridView) -> None:
    """Raises `InputError` where a view is not a (V, V, 3) array of MiniGrid's symbols."""
    cells = view.cells
    if cells.ndim != 3 or cells.shape[0] != cells.shape[1] or cells.shape[2] != 3 or cells.shape[0] % 2 == 0:
        raise InputError(f"a grid view must be (V, V, 3) with an odd V, got {cells.shape}")
    if cells[..., 0].max() >= len(OBJECTS):
        raise InputError(f"a grid view holds object type {cells[..., 0].max()}, which MiniGrid does not have")
    if cells[..., 1].max() >= len(COLORS):
        raise InputError(f"a grid view holds colour {cells[..., 1].max()}, which MiniGrid does not have")
    if not view.cell_size > 0.0:
        raise InputError(f"a grid view's cell_size must be positive, got {view.cell_size}")


def view_labels(view: GridView) -> NDArray[np.int32]:
    """Returns the label of every cell, (V, V) int32 indexed [column, row], ids of `GRID_LABELS`."""
    return _LABELS[view.cells[..., 0], view.cells[..., 1]]


def cell_centers(view: GridView) -> NDArray[np.float32]:
    """Returns the centre of every cell in the base frame [m], (V, V, 3) float32, indexed [column, row].

    The agent is at the middle of the last row, looks towards row 0 and stands on the floor (z = 0).
    """
    count = view.cells.shape[0]
    middle, last = _agent_cell(view)
    centers = np.empty((count, count, 3), np.float64)
    centers[..., 0] = (last - np.arange(count))[None, :]
    centers[..., 1] = (middle - np.arange(count))[:, None]
    centers[..., 2] = 0.5
    return (centers * view.cell_size).astype(np.float32)


def _agent_cell(view: GridView) -> tuple[int, int]:
    return view.cells.shape[0] // 2, view.cells.shape[1] - 1


def _free_cells(view: GridView) -> NDArray[np.bool_]:
    kinds, states = view.cells[..., 0], view.cells[..., 2]
    free = _IS_FREE[kinds] | ((kinds == _DOOR) & (states == STATES.index("open")))
    free[_agent_cell(view)] = True
    return free


def _scan(view: GridView, labels: NDArray[np.int32]) -> Scan:
    seen = view.cells[..., 0] != _UNSEEN
    seen[_agent_cell(view)] = True
    hit = ~_free_cells(view)[seen]
    return Scan(points=cell_centers(view)[seen], hit=hit, labels=labels[seen], origin=None)


def _detections(view: GridView, labels: NDArray[np.int32]) -> list[Detection]:
    found = _IS_DETECTED[view.cells[..., 0]]
    found[_agent_cell(view)] = False
    extent = np.full(3, view.cell_size)
    covariance = np.eye(3) * (POSITION_SIGMA * view.cell_size) ** 2
    centers = cell_centers(view).astype(np.float64)
    return [
        Detection(
            label=int(labels[c, r]),
            position=centers[c, r],
            extent=extent,
            covariance=covariance,
            state=_door_state(view.cells[c, r]),
        )
        for c, r in np.argwhere(found)
    ]


def _door_state(cell: NDArray[np.uint8]) -> str:
    if cell[0] != _DOOR:
        return ""
    return STATES[cell[2]] if cell[2] < len(STATES) else ""


def _thing_name(thing: tuple[int, int]) -> str:
    kind, color = thing
    if not (0 <= kind < len(OBJECTS) and 0 <= color < len(COLORS)):
        raise InputError(f"the carried object {thing} is none of MiniGrid's")
    return f"{COLORS[color]} {OBJECTS[kind]}"

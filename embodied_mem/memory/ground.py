"""The ground the agent stands on: traversable space at its floor, kept up to date where the map changes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.memory.config import NavigationConfig
from embodied_mem.memory.footing import floor_height
from embodied_mem.memory.octree import GridMap, Octree
from embodied_mem.memory.octree.masks import changed_cells, widen
from embodied_mem.memory.scene.footprints import Body
from embodied_mem.types import LabelMap

Array = NDArray[Any]
MARGIN = 64
"""Cells by which the plan grows beyond what is needed, on each side, and a quarter of its size."""
NOWHERE = (0, 0, 0, 0)


@lru_cache(maxsize=4)
def _disk(reach: float) -> NDArray[np.int64]:
    """Returns (K, 2) int64 y and x of the cells nearer than `reach` [cells]."""
    n = int(np.ceil(reach))
    dy, dx = np.mgrid[-n : n + 1, -n : n + 1]
    inside = np.sqrt((dy * dy + dx * dx).astype(np.float64)) < reach
    return np.stack([dy[inside], dx[inside]], axis=1).astype(np.int64)


class Ground:
    """Keeps the newest grid map: always what `Octree.traversable` shows, at the cost of what changed.

    Args:
        config: what the robot can pass.
    """

    def __init__(self, config: NavigationConfig) -> None:
        self.config = config
        self._octree: Octree | None = None
        self._version = -1
        self._floor = 0.0
        self._at: NDArray[np.float64] | None = None
        self._labels: LabelMap | None = None
        self._passable: list[int] = []
        self._lower = np.zeros(2, np.int64)  # (x, y) voxel index of the arrays' first cell
        self._raw = np.empty((0, 0), np.int8)  # without the radius
        self._near = np.empty((0, 0), np.int32)  # obstacles within the radius of a cell
        self._cells = np.empty((0, 0), np.int8)
        self._low, self._high = np.zeros(2, np.int64), np.full(2, -1, np.int64)  # (x, y) of what is known
        self._changed: tuple[int, int, int, int] | None = NOWHERE
        self._copy: GridMap | None = None

    def grid_map(self, octree: Octree, labels: LabelMap, pose: Pose, last: float | None = None) -> GridMap:
        """Returns the grid map at a pose's floor; 0 x 0 cells where nothing is known.

        Args:
            octree: the map.
            labels: of the map.
            pose: of the base.
            last: height of the floor before (`floor_height`) [m]; None where there was none.
        """
        self._refresh(octree, labels, pose, last)
        if self._copy is None:
            live = self._view()
            self._copy = GridMap(live.cells.copy(), live.origin, live.resolution, live.floor_z)
        return self._copy

    def take(
        self, octree: Octree, labels: LabelMap, pose: Pose, last: float | None = None
    ) -> tuple[GridMap, tuple[int, int, int, int] | None]:
        """Returns the grid map at a pose's floor and where it has changed since this was last asked.

        Args:
            octree: the map.
            labels: of the map.
            pose: of the base.
            last: as for `grid_map`.

        Returns:
            the grid map, whose cells the next change overwrites, and a box of cells (first y, x, end y, x)
            from the map's origin, outside which all is as it was; None where it may have changed anywhere.
        """
        self._refresh(octree, labels, pose, last)
        changed, self._changed = self._changed, NOWHERE
        return self._view(), changed

    def body(self) -> Body:
        """Returns the robot's body and what would hit it, as of the last `take`; the next overwrites."""
        c = self.config
        return Body(self._view(self._raw), c.robot_radius, c.step_height, c.robot_height)

    def _view(self, cells: NDArray[np.int8] | None = None) -> GridMap:
        assert self._octree is not None
        resolution = self._octree.resolution
        if self._low[0] > self._high[0]:
            return GridMap(np.empty((0, 0), np.int8), np.zeros(2), resolution, self._floor)
        (x0, y0), (x1, y1) = self._low - self._lower, self._high - self._lower + 1
        origin = np.asarray(self._low * resolution, np.float64)
        cells = self._cells if cells is None else cells
        return GridMap(cells[y0:y1, x0:x1], origin, resolution, self._floor)

    def _refresh(self, octree: Octree, labels: LabelMap, pose: Pose, last: float | None) -> None:
        passable = self._passable
        if labels is not self._labels:
            passable = sorted({i for word in self.config.passable for i in labels.matching(word)})
        position = pose.position
        same = octree is self._octree and octree.version == self._version and passable == self._passable
        self._labels = labels
        if same and self._at is not None and np.array_equal(position, self._at):
            return
        # Whole voxels, so that a wobbling base does not make another map of the same floor.
        floor = floor_height(octree, position, last)
        same = octree is self._octree and floor == self._floor and passable == self._passable
        self._at = np.array(position)
        if same and octree.version == self._version:
            return
        since, self._version = self._version, octree.version
        self._octree, self._floor, self._passable = octree, floor, passable
        if not (same and self._update(octree, since)):
            self._make(octree)

    def _make(self, octree: Octree) -> None:
        """Projects everything."""
        c = self.config
        plan = octree.traversable(
            self._floor,
            robot_height=c.robot_height,
            step_height=c.step_height,
            passable_labels=self._passable,
            drop_height=c.drop_height,
        )
        height, width = plan.cells.shape
        lower = np.floor(plan.origin / octree.resolution + 0.5).astype(np.int64)
        for name in ("_raw", "_near", "_cells"):
            setattr(self, name, np.empty((0, 0), getattr(self, name).dtype))
        self._low, self._high = lower, lower + np.array([width - 1, height - 1])
        self._changed = self._copy = None
        if not plan.cells.size:
            return
        self._reserve(lower, self._high)
        y, x = np.nonzero(plan.cells >= 0)
        self._put(y + lower[1], x + lower[0], plan.cells[y, x])

    def _update(self, octree: Octree, since: int) -> bool:
        """Projects what has changed; returns False where all must be made anew."""
        c = self.config
        columns, patches = octree.changed_columns(
            since,
            self._floor,
            robot_height=c.robot_height,
            step_height=c.step_height,
            passable_labels=self._passable,
            drop_height=c.drop_height,
        )
        if not len(columns):
            return True
        if self._low[0] > self._high[0]:
            return False
        self._reserve(columns.min(axis=0) * 8, columns.max(axis=0) * 8 + 7)
        forgot, y, x, cells = changed_cells(columns, patches, self._lower, self._raw)
        if forgot:
            return False  # the known part may have become smaller
        self._put(y, x, cells)
        return True

    def _put(self, y: Array, x: Array, cells: Array) -> None:
        """Sets raw cells, counted from the map's origin, and what follows from them."""
        if not len(y):
            return
        reach = self._radius()
        n, offsets = int(np.ceil(reach)), _disk(reach)
        plans = self._raw, self._near, self._cells
        widen(y - self._lower[1], x - self._lower[0], cells, offsets, *plans)
        low, high = np.array([x.min(), y.min()]), np.array([x.max(), y.max()])
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
        self._copy = None
        if self._changed is not None:
            (x0, y0), (x1, y1) = low - n, high + n + 1
            b = self._changed
            if b != NOWHERE:
                y0, x0, y1, x1 = min(y0, b[0]), min(x0, b[1]), max(y1, b[2]), max(x1, b[3])
            self._changed = (int(y0), int(x0), int(y1), int(x1))

    def _radius(self) -> float:
        """Returns the robot's radius in cells."""
        assert self._octree is not None
        return self.config.robot_radius / self._octree.resolution

    def _reserve(self, low: Array, high: Array) -> None:
        """Makes room for cells from (x, y) `low` to `high`, and the radius around them."""
        n = int(np.ceil(self._radius()))
        height, width = self._raw.shape
        low, high = low - n, high + n + 1
        end = self._lower + np.array([width, height])
        if self._raw.size and (low >= self._lower).all() and (high <= end).all():
            return
        if self._raw.size:
            spare = np.array([width, height]) // 4 + MARGIN
            low = np.where(low < self._lower, low - spare, self._lower)
            high = np.where(high > end, high + spare, end)
        shape = (int(high[1] - low[1]), int(high[0] - low[0]))
        ix, iy = (self._lower - low).tolist()
        for name, empty in (("_raw", -1), ("_near", 0), ("_cells", -1)):
            before = getattr(self, name)
            array = np.full(shape, empty, before.dtype)
            if before.size:
                array[iy : iy + height, ix : ix + width] = before
            setattr(self, name, array)
        self._lower = low

"""The floor of one storey as a raster: what is known of it, and which place is nearest where."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import StoreError
from embodied_mem.memory.octree.types import GridMap
from embodied_mem.memory.scene.grid_kernels import FAR, differing

TILE = 32
"""Edge of the squares in which a floor is stored and brought up to date [cells]."""
APART = 1024
"""A position farther than this from all that is known of a floor gets no cell on it [cells]."""
_OFFSET = 1 << 19
_DRAWN = (("mark", 0), ("beside", 0), ("covered", 0), ("driven", 0))

Array = NDArray[Any]
Tile = tuple[int, int]
"""(y, x) of a square of cells, in squares from the map's origin."""


class Box(NamedTuple):
    """A rectangle of cells, counted from the map's origin: y0 <= y < y1, x0 <= x < x1."""

    y0: int
    x0: int
    y1: int
    x1: int

    def grown(self, cells: int) -> Box:
        """Returns it with so many cells more on each side."""
        return Box(self.y0 - cells, self.x0 - cells, self.y1 + cells, self.x1 + cells)

    def joined(self, other: Box | None) -> Box:
        """Returns the box around both."""
        if other is None:
            return self
        low = (min(self.y0, other.y0), min(self.x0, other.x0))
        return Box(*low, max(self.y1, other.y1), max(self.x1, other.x1))

    def within(self, other: Box) -> Box:
        """Returns what both share; perhaps nothing."""
        y0, x0 = max(self.y0, other.y0), max(self.x0, other.x0)
        return Box(y0, x0, max(min(self.y1, other.y1), y0), max(min(self.x1, other.x1), x0))

    def meets(self, boxes: Array) -> NDArray[np.bool_]:
        """Returns (N,) bool: which of (N, 4) int64 boxes, last cells included, share cells with it."""
        down = (boxes[:, 0] < self.y1) & (boxes[:, 1] >= self.y0)
        return np.asarray(down & (boxes[:, 2] < self.x1) & (boxes[:, 3] >= self.x0))

    @property
    def size(self) -> int:
        """Its number of cells."""
        return (self.y1 - self.y0) * (self.x1 - self.x0)


def box_of(grid: GridMap) -> Box:
    """Returns the box that a grid map fills."""
    y, x = (int(np.floor(float(grid.origin[k]) / grid.resolution + 0.5)) for k in (1, 0))
    return Box(y, x, y + grid.cells.shape[0], x + grid.cells.shape[1])


class Floor:
    """What is known of one storey, cell by cell, in arrays that grow.

    Attributes:
        number: of the storey.
        level: height of its floor when the agent first came there [m].
        height: as of the newest map [m]; new places lie at it.
        resolution: edge of a cell [m].
        box: what the arrays cover; it has unknown cells all around.
        cells: (H, W) int8, -1 unknown, 0 free, 100 obstacle.
        dist: (H, W) int32 path distance to the nearest place, in `STRAIGHT`ths of a cell.
        own: (H, W) int32 id of that place, -1 where none is near.
        rooms: (H, W) int32 id of the room, -1 for none.
        beside, covered: (H, W) int16 how many pieces of furniture are nearer than the robot's radius, and how
            many stand there; `Footprints` draws them.
        driven: (H, W) uint8, 1 where the robot's base has been.
        pending: tiles that are not as the newest grid map shows them, the longest known first.
    """

    def __init__(self, number: int, level: float, resolution: float) -> None:
        self.number, self.level, self.resolution = number, level, resolution
        self.height = level
        self.box = Box(0, 0, 0, 0)
        self.cells = np.empty((0, 0), np.int8)
        self.dist = np.empty((0, 0), np.int32)
        self.own = np.empty((0, 0), np.int32)
        self.rooms = np.empty((0, 0), np.int32)
        self.mark = np.empty((0, 0), np.uint8)
        self.beside = np.empty((0, 0), np.int16)
        self.covered = np.empty((0, 0), np.int16)
        self.driven = np.empty((0, 0), np.uint8)
        self.pending: dict[Tile, None] = {}
        self.touched: set[Tile] = set()
        """Tiles whose cells have changed since the last export."""

    def reserve(self, box: Box) -> None:
        """Makes room for a box, and some more on the sides on which it did not fit."""
        need = box.grown(1)
        if self.cells.size and need.within(self.box) == need:
            return
        old = self.box
        if self.cells.size:
            spare_y, spare_x = (old.y1 - old.y0) // 4 + TILE, (old.x1 - old.x0) // 4 + TILE
            need = Box(
                old.y0 if need.y0 >= old.y0 else need.y0 - spare_y,
                old.x0 if need.x0 >= old.x0 else need.x0 - spare_x,
                old.y1 if need.y1 <= old.y1 else need.y1 + spare_y,
                old.x1 if need.x1 <= old.x1 else need.x1 + spare_x,
            )
        self.box = need
        shape = (need.y1 - need.y0, need.x1 - need.x0)
        inside = self.slices(old)
        for name, empty in (("cells", -1), ("dist", FAR), ("own", -1), ("rooms", -1), *_DRAWN):
            before = getattr(self, name)
            array = np.full(shape, empty, before.dtype)
            if before.size:
                array[inside] = before
            setattr(self, name, array)

    def hold(self, positions: NDArray[np.float64]) -> None:
        """Makes room for the cells of (N, 3) positions [m], except where they lie `APART` from the floor."""
        for y, x in zip(*(part.tolist() for part in self.cells_of(positions))):
            cell = Box(y, x, y + 1, x + 1)
            if not self.cells.size or cell.within(self.box.grown(APART)) == cell:
                self.reserve(cell)

    def slices(self, box: Box) -> tuple[slice, slice]:
        """Returns what a box is of the arrays; it must lie within them."""
        y, x = self.box.y0, self.box.x0
        return slice(box.y0 - y, box.y1 - y), slice(box.x0 - x, box.x1 - x)

    def flat(self, y: Array, x: Array) -> NDArray[np.int64]:
        """Returns (N,) int64 flat indices of cells counted from the map's origin, -1 beyond the arrays."""
        height, width = self.cells.shape
        y, x = y - self.box.y0, x - self.box.x0
        inside = (y >= 0) & (x >= 0) & (y < height) & (x < width)
        return np.where(inside, y * width + x, -1)

    def cells_of(self, positions: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns (N,) int64 y and x of the cells that hold (N, 3) positions [m], from the map's origin."""
        scale = 1.0 / self.resolution
        y, x = np.floor(positions[:, 1] * scale), np.floor(positions[:, 0] * scale)
        return y.astype(np.int64), x.astype(np.int64)

    def cell_of(self, x: float, y: float) -> tuple[int, int]:
        """Returns (y, x) in the arrays of the cell that holds a position [m]; perhaps beyond them."""
        scale = 1.0 / self.resolution
        return math.floor(y * scale) - self.box.y0, math.floor(x * scale) - self.box.x0

    def is_free(self, x: float, y: float, reach: float) -> bool:
        """Whether a cell within `reach` [m] of a position, in x and in y, is free."""
        iy, ix = self.cell_of(x, y)
        n = int(reach / self.resolution)
        near = self.cells[max(iy - n, 0) : max(iy + n + 1, 0), max(ix - n, 0) : max(ix + n + 1, 0)]
        return bool((near == 0).any())

    def centers(self, flat: Array) -> NDArray[np.float64]:
        """Returns (N, 3) float64 [m] of the centres of flat cells, on the floor."""
        width = self.cells.shape[1]
        result = np.empty((len(flat), 3))
        result[:, 0] = (flat % width + self.box.x0 + 0.5) * self.resolution
        result[:, 1] = (flat // width + self.box.y0 + 0.5) * self.resolution
        result[:, 2] = self.height
        return result

    def around(self, flat: Array) -> Box | None:
        """Returns the box around flat cells; None where there are none."""
        if not len(flat):
            return None
        y, x = flat // self.cells.shape[1] + self.box.y0, flat % self.cells.shape[1] + self.box.x0
        return Box(int(y.min()), int(x.min()), int(y.max()) + 1, int(x.max()) + 1)

    def take(
        self,
        grid: GridMap,
        where: Box | None,
        budget: int,
        obstacles: NDArray[np.int8] | None = None,
        core: float = 0.0,
    ) -> NDArray[np.int64]:
        """Makes the cells as a grid map shows them, tile by tile; returns (C,) flat cells that changed.

        Args:
            grid: the grid map.
            where: all cells that have changed since the last one, or are drawn otherwise, lie in it; None:
                anywhere.
            budget: most tiles; the others stay `pending`, and the newest go first.
            obstacles: the grid map without the robot's radius; None: what is drawn does not count.
            core: where the base has been it is free unless an obstacle is nearer than this [cells].
        """
        whole = box_of(grid)
        self.height = float(grid.floor_z)
        self.reserve(whole)
        raw = np.empty((0, 0), np.int8) if obstacles is None else obstacles
        seen = grid.cells, raw, (whole.y0, whole.x0), core
        look = self.box if where is None else where.within(self.box)
        flat, y, x, values = self._differing(look, *seen)
        code = np.unique((y // TILE << 32) + (x // TILE + _OFFSET))
        dirty = [(int(c >> 32), int(c & 0xFFFFFFFF) - _OFFSET) for c in code]
        if not self.pending and len(dirty) <= budget:
            self.cells.reshape(-1)[flat] = values
            self.touched.update(dirty)
            return flat
        for tile in dirty:
            self.pending.pop(tile, None)
            self.pending[tile] = None
        changed = []
        for tile in list(self.pending)[-budget:]:
            del self.pending[tile]
            flat, _, _, values = self._differing(self.tile_box(tile).within(self.box), *seen)
            if len(flat):
                changed.append(flat)
                self.cells.reshape(-1)[flat] = values
                self.touched.add(tile)
        return np.concatenate(changed) if changed else np.empty(0, np.int64)

    def _differing(
        self, box: Box, cells: Array, raw: Array, at: tuple[int, int], core: float
    ) -> tuple[NDArray[np.int64], Array, Array, NDArray[np.int8]]:
        """Returns flat cells of a box that are not as a map shows them, their y and x, and what they are."""
        drawn = self.beside, self.covered, self.driven
        corner = self.box.y0, self.box.x0
        flat, packed, values = differing(self.cells, drawn, corner, cells, raw, at, tuple(box), core)
        return flat, (packed >> 32) + box.y0, (packed & 0xFFFFFFFF) + box.x0, values

    @staticmethod
    def tile_box(tile: Tile) -> Box:
        """Returns the cells of a tile."""
        y, x = tile[0] * TILE, tile[1] * TILE
        return Box(y, x, y + TILE, x + TILE)

    # ---- persistence

    def key(self, tile: Tile) -> int:
        """Returns the number of a tile's row in the store."""
        return (self.number << 40) | ((tile[0] + _OFFSET) << 20) | (tile[1] + _OFFSET)

    @staticmethod
    def tile(key: int) -> Tile:
        """Returns the tile of a row in the store."""
        part = (1 << 20) - 1
        return ((key >> 20) & part) - _OFFSET, (key & part) - _OFFSET

    def forget(self) -> None:
        """Lets go of the map and of the field over it; the rooms stay until there is another map."""
        self.touched.update(self.tiles())
        self.pending = {}
        self.cells[:], self.dist[:], self.own[:] = -1, FAR, -1

    def tiles(self) -> list[Tile]:
        """Returns all tiles in which something is known, in order."""
        y, x = np.nonzero(self.cells >= 0)
        y, x = y + self.box.y0, x + self.box.x0
        code = np.unique((y // TILE << 32) + (x // TILE + _OFFSET))
        return [(int(c >> 32), int(c & 0xFFFFFFFF) - _OFFSET) for c in code]

    def payload(self, tile: Tile) -> bytes:
        """Returns a tile's cells as runs of a state (0 unknown, 1 free, 2 obstacle); b"" if unknown."""
        box = self.tile_box(tile)
        cells = np.full((TILE, TILE), -1, np.int8)
        inside = box.within(self.box)
        if inside.size:
            at = slice(inside.y0 - box.y0, inside.y1 - box.y0), slice(inside.x0 - box.x0, inside.x1 - box.x0)
            cells[at] = self.cells[self.slices(inside)]
        state = np.sign(cells).astype(np.int64).reshape(-1) + 1
        if not state.any():
            return b""
        ends = np.append(np.flatnonzero(state[1:] != state[:-1]) + 1, len(state))
        lengths = np.diff(ends, prepend=0)
        return np.asarray(state[ends - 1] * 4096 + lengths, "<u2").tobytes()

    def put(self, key: int, payload: bytes) -> None:
        """Sets a tile's cells from what `payload` made.

        Raises:
            StoreError: it is no such payload.
        """
        words = np.frombuffer(payload, "<u2").astype(np.int64)
        cells = np.repeat(words // 4096 - 1, words % 4096)
        if len(cells) != TILE * TILE:
            raise StoreError("a tile of a floor in this memory is damaged")
        box = self.tile_box(self.tile(key))
        self.reserve(box)
        values = np.where(cells > 0, 100, cells).astype(np.int8)
        self.cells[self.slices(box)] = values.reshape(TILE, TILE)

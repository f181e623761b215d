"""An octree seen from above: one cell per column of voxels, and its colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.octree import Octree
from embodied_mem.types import LabelMap

Color = tuple[float, float, float]

HEADROOM = 1.9
"""What is higher above the floor than this is left out, so that a ceiling hides nothing [m]."""
MAX_CELLS = 4000
"""Wider maps are drawn at a coarser resolution, of at most this many cells per edge."""

UNKNOWN_COLOR: Color = (0.894, 0.902, 0.914)
FREE_COLOR: Color = (0.988, 0.988, 0.976)
UNLABELLED_COLOR: Color = (0.604, 0.631, 0.667)
ROOM_COLORS: tuple[Color, ...] = (
    (0.812, 0.882, 0.957),
    (0.988, 0.886, 0.792),
    (0.839, 0.922, 0.816),
    (0.949, 0.835, 0.867),
    (0.894, 0.859, 0.945),
    (0.965, 0.937, 0.773),
    (0.808, 0.918, 0.910),
    (0.906, 0.875, 0.839),
)
"""Tints of rooms, given by id."""
_STRUCTURE_COLORS: dict[str, Color] = {
    "wall": (0.298, 0.325, 0.369),
    "floor": (0.937, 0.918, 0.882),
    "ceiling": (0.937, 0.918, 0.882),
    "lava": (0.906, 0.427, 0.212),
    "goal": (0.498, 0.733, 0.416),
}
_HEIGHT_STOPS: tuple[Color, ...] = (
    (0.937, 0.918, 0.847),
    (0.722, 0.788, 0.722),
    (0.420, 0.588, 0.624),
    (0.255, 0.404, 0.510),
    (0.133, 0.231, 0.345),
)


@dataclass(frozen=True, eq=False)
class MapRaster:
    """Columns of voxels, indexed [iy, ix]; y grows with iy.

    Attributes:
        occupied: (H, W) bool, something stands in the column, below the headroom.
        free: (H, W) bool, the column was seen, and nothing stands in it.
        labels: (H, W) int32 label of the highest labelled voxel, 0 where there is none.
        heights: (H, W) float32 top of the highest occupied voxel [m] in the map frame, else NaN.
        origin: (2,) float64 [m], the corner of cell [0, 0] in the map frame.
        resolution: edge of a cell [m].
    """

    occupied: NDArray[np.bool_]
    free: NDArray[np.bool_]
    labels: NDArray[np.int32]
    heights: NDArray[np.float32]
    origin: NDArray[np.float64]
    resolution: float

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top [m]."""
        height, width = self.occupied.shape
        x, y = self.origin.tolist()
        return x, x + width * self.resolution, y, y + height * self.resolution

    @property
    def is_labelled(self) -> bool:
        """True where a good part of what stands there has a label."""
        return bool((self.labels[self.occupied] > 0).sum() * 5 > self.occupied.sum())

    def cell_centers(self) -> NDArray[np.float64]:
        """Returns (H, W, 2) centres of the cells [m]."""
        height, width = self.occupied.shape
        x = self.origin[0] + (np.arange(width) + 0.5) * self.resolution
        y = self.origin[1] + (np.arange(height) + 0.5) * self.resolution
        return np.stack(np.meshgrid(x, y), axis=-1)


def rasterize(octree: Octree, lowest_z: float = -np.inf) -> MapRaster | None:
    """Looks at an octree from above; None where it is empty.

    Args:
        octree: the map.
        lowest_z: what lies lower is left out [m], for maps of more than one storey.
    """
    voxels = octree.voxels(occupied=True, free=True)
    centers = voxels.centers.astype(np.float64)
    is_occupied = voxels.log_odds >= 0
    half = 0.5 * octree.resolution
    above = centers[:, 2] + half > lowest_z
    if not above.any():
        return None
    lowest = centers[is_occupied & above, 2] if (is_occupied & above).any() else centers[above, 2]
    # A few stray voxels below the floor must not move it.
    floor = float(np.quantile(lowest, 0.01)) - half
    shown = above & (centers[:, 2] - half < floor + HEADROOM)
    centers, is_occupied, labels = centers[shown], is_occupied[shown], voxels.labels[shown]
    lo, hi = centers[:, :2].min(axis=0) - half, centers[:, :2].max(axis=0) + half
    coarser = max(1, int(np.ceil((hi - lo).max() / octree.resolution / MAX_CELLS)))
    resolution = octree.resolution * coarser
    width, height = (np.ceil((hi - lo) / resolution - 1e-6)).astype(int)
    ix, iy = np.floor((centers[:, :2] - lo) / resolution).astype(np.int64).T
    cell = iy * width + ix
    order = np.argsort(centers[:, 2], kind="stable")
    order = order[is_occupied[order]]  # the highest comes last and stays
    occupied, seen = np.zeros(height * width, bool), np.zeros(height * width, bool)
    heights = np.full(height * width, np.nan, np.float32)
    names = np.zeros(height * width, np.int32)
    seen[cell] = True
    occupied[cell[order]] = True
    heights[cell[order]] = centers[order, 2] + half
    free_names = (labels > 0) & ~is_occupied
    names[cell[free_names]] = labels[free_names]
    order = order[labels[order] > 0]
    names[cell[order]] = labels[order]
    shape = (height, width)
    return MapRaster(
        occupied=occupied.reshape(shape),
        free=(seen & ~occupied).reshape(shape),
        labels=names.reshape(shape),
        heights=heights.reshape(shape),
        origin=lo,
        resolution=resolution,
    )


def label_color(labels: LabelMap, label: int) -> Color:
    """Returns the colour that a label is drawn in: walls, floors and the like are quiet."""
    for word in labels.name(label).split():
        if word in _STRUCTURE_COLORS:
            return _STRUCTURE_COLORS[word]
    red, green, blue = labels.color(label)
    return red / 255, green / 255, blue / 255


def cell_color(labels: LabelMap, label: int) -> Color:
    """Returns the colour of a cell with a label: paler than its marker, unless it is structure."""
    color = label_color(labels, label)
    if any(word in _STRUCTURE_COLORS for word in labels.name(label).split()):
        return color
    return blend(color, FREE_COLOR, 0.45)


def height_color(fraction: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns (..., 3) colours for heights between 0 (lowest) and 1 (highest)."""
    stops = np.array(_HEIGHT_STOPS)
    at = np.linspace(0.0, 1.0, len(stops))
    return np.stack([np.interp(fraction, at, stops[:, c]) for c in range(3)], axis=-1)


def blend(color: Color, other: Color, share: float) -> Color:
    """Mixes two colours; `share` is how much of the other there is."""
    r, g, b = (a + (o - a) * share for a, o in zip(color, other))
    return r, g, b


def height_range(raster: MapRaster) -> tuple[float, float]:
    """Returns the heights [m] between which colours are spread; a few strays are clipped."""
    heights = raster.heights[raster.occupied]
    if heights.size == 0:
        return 0.0, 1.0
    low, high = np.quantile(heights, [0.01, 0.99]).tolist()
    return (low, high) if high - low > 1e-6 else (low, low + 1.0)


def paint(
    raster: MapRaster, labels: LabelMap, room_ids: NDArray[np.int64] | None = None
) -> NDArray[np.uint8]:
    """Colours the map: by label where it is labelled, by height where it is not.

    Args:
        raster: the map from above.
        labels: names of its labels.
        room_ids: (H, W) id of the room each cell is in, -1 for none, or None not to show rooms.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    image = np.empty((*raster.occupied.shape, 3))
    image[:] = UNKNOWN_COLOR
    image[raster.free] = FREE_COLOR
    if room_ids is not None:
        tinted = raster.free & (room_ids >= 0)
        image[tinted] = np.array(ROOM_COLORS)[room_ids[tinted] % len(ROOM_COLORS)]
    if raster.is_labelled:
        image[raster.occupied] = UNLABELLED_COLOR
    else:
        low, high = height_range(raster)
        image[raster.occupied] = height_color((raster.heights[raster.occupied] - low) / (high - low))
    for label in np.unique(raster.labels):
        if label > 0:
            image[raster.labels == label] = cell_color(labels, int(label))
    return np.round(255.0 * image).astype(np.uint8)

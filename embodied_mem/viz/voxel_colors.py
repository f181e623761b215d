"""Colours of voxels: by label where they have one, by height where not."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.octree import Voxels
from embodied_mem.types import LabelMap
from embodied_mem.viz.map_raster import height_color, label_color

Coloring = Literal["label", "height"]


def voxel_colors(voxels: Voxels, labels: LabelMap, by: Coloring = "label") -> NDArray[np.uint8]:
    """Returns (M, 3) uint8 RGB: the label's colour, else one by height between the lowest and highest.

    Args:
        voxels: M voxels.
        labels: names of their labels.
        by: "height" leaves the labels out.
    """
    heights = voxels.centers[:, 2].astype(np.float64)
    if not len(heights):
        return np.zeros((0, 3), np.uint8)
    low, high = np.quantile(heights, [0.01, 0.99])
    by_height = height_color(np.clip((heights - low) / max(high - low, 1e-6), 0.0, 1.0))
    if by == "height":
        return np.round(255 * by_height).astype(np.uint8)
    palette = np.array([label_color(labels, label) for label in range(len(labels))])
    colors = np.where(voxels.labels[:, None] > 0, palette[voxels.labels], by_height)
    return np.round(255 * colors).astype(np.uint8)

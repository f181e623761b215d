"""Splits free space at narrow passages: the morphological segmentation behind `Rooms`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.scene.grid_kernels import FAR, spread
from embodied_mem.memory.scene.region_kernels import components, joined, renumber

Array = NDArray[Any]


def segment(
    free: NDArray[np.bool_],
    wide: NDArray[np.bool_],
    least: float,
    border: float,
    anchors: NDArray[np.int32] | None = None,
) -> tuple[NDArray[np.int32], int]:
    """Splits free space into rooms.

    Args:
        free: (H, W) bool, free cells without doors.
        wide: (H, W) bool, cells with room around them.
        least: fewest cells of a room.
        border: pieces that share more pairs of cells are one room: what lies between them is
            furniture with several gaps, and not a door.
        anchors: (H, W) int32, not negative where a room goes on beyond the array, the same number for
            the same room: its pieces are one, and large enough. None where all is within.

    Returns:
        (H, W) int32 labels from 0 in reading order, -1 for none, and their number.
    """
    held = np.zeros(free.shape, bool) if anchors is None else (anchors >= 0) & free
    seeds = np.full(free.shape, -1, np.int32)
    count = components(free & (wide | held), 0.0, seeds, 0)
    roots = np.arange(count + 1, dtype=np.int32)
    roots[count] = -1
    fixed = np.zeros(count + 1, bool)
    if anchors is not None:
        for room in np.unique(anchors[held]).tolist():
            pieces = np.unique(seeds[held & (anchors == room)])
            roots[np.isin(roots, roots[pieces])] = roots[pieces].min()
            fixed[roots[pieces].min()] = True
    seeds = roots[seeds]
    sizes = np.bincount(seeds[seeds >= 0], minlength=count)
    small = np.append(sizes < 0.25 * least, False) & ~fixed
    seeds[small[seeds]] = -1
    labels = _grown(free, seeds)
    if count > 1:
        merged = np.append(joined(labels, count, border), np.int32(-1))
        seeds, labels = merged[seeds], merged[labels]
        fixed[merged[np.flatnonzero(fixed)]] = True
    small = np.append(np.bincount(labels[labels >= 0], minlength=count) < least, False) & ~fixed
    if small[seeds].any():
        seeds[small[seeds]] = -1  # their cells go to the neighbours
        labels = _grown(free, seeds)
    count = components(free & (labels < 0), least, labels, count)
    return labels, renumber(labels, count)


def _grown(free: NDArray[np.bool_], seeds: NDArray[np.int32]) -> NDArray[np.int32]:
    """Returns the label of the seed that is nearest to each free cell along a path."""
    cells = np.flatnonzero(seeds >= 0)
    labels = np.full(free.shape, -1, np.int32)
    spread(free, cells, seeds.reshape(-1)[cells], False, np.full(free.shape, FAR, np.int32), labels)
    return labels

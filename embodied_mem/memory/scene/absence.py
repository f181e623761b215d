"""What a frame does not show: objects that should have been seen, and places that were empty before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.scene.coverage import Coverage
from embodied_mem.memory.scene.evidence import SURELY_EMPTY, HasVoxels, was_empty
from embodied_mem.memory.scene.objects import CERTAIN, MARGIN, Objects
from embodied_mem.memory.scene.sightings import Sightings
from embodied_mem.memory.scene.stays import SceneEvent
from embodied_mem.memory.scene.visibility import around, seen_empty, shown_by_label, sides_of
from embodied_mem.types import Percept


def miss_objects(
    objects: Objects,
    percept: Percept,
    origin: NDArray[np.float64],
    rows: NDArray[np.int64],
    resolution: float,
    among: NDArray[np.int64] | None = None,
) -> tuple[list[SceneEvent], list[int]]:
    """Lowers the existence of objects that should have been seen and were not.

    Args:
        objects: of the scene graph.
        percept: what was seen.
        origin: (3,) where the sensor was [m].
        rows: of the objects that were seen.
        resolution: edge of a voxel [m].
        among: rows of the only objects that can be missed; all can where None.

    Returns:
        those now gone, and the ids of all that were missed.
    """
    config = objects.config
    # Nothing is said of what lies beyond the longest ray.
    reach = MARGIN + max(
        (float(max(s.points.max(), -s.points.min())) for s in percept.scans if len(s.points)), default=0.0
    )
    center = percept.map_T_base.position
    candidates = objects.within(center - reach, center + reach)
    absent = np.ones(len(objects), bool)
    absent[rows] = False
    if among is not None:
        absent &= np.isin(np.arange(len(objects)), among)
    candidates = candidates[absent[candidates] & (objects.log_odds[candidates] > -CERTAIN)]
    places = objects.positions[candidates]
    empty, in_view = seen_empty(
        percept.scans,
        percept.map_T_base,
        places,
        objects.extents[candidates],
        resolution,
        config.blind_radius,
        config.pose_sigma,
    )
    # From where it was never seen, something may hide it; only rays through its place tell the same.
    in_view &= config.notice_rate > 0.0
    noticed = np.flatnonzero(in_view)
    if len(noticed):
        near = candidates[noticed]
        known_side = (around(sides_of(origin - places[noticed])) & objects.sides[near]) != 0
        boxes = places[noticed], objects.extents[near]
        shown = shown_by_label(percept.scans, percept.map_T_base, *boxes, objects.labels[near])
        in_view[noticed] = known_side & ~shown
    missed: list[int] = objects.ids[candidates[empty | in_view]].tolist()
    events: list[SceneEvent] = []
    for which, rate in (
        (empty & ~in_view, config.detection_rate),
        (in_view, max(config.detection_rate, config.notice_rate)),
    ):
        events += objects.miss(candidates[which], percept.stamp, rate, origin)
    return events, missed


def looks_before(
    coverage: Coverage, seen: Sightings, rows: NDArray[np.int64], octree: HasVoxels
) -> NDArray[np.int64]:
    """Returns (D,) int64: how often the place of a new thing had been seen without it.

    Args:
        coverage: before this frame.
        seen: sightings.
        rows: (D,) int64, -1 for new objects.
        octree: with this frame's scans.
    """
    new = np.flatnonzero(rows < 0)
    looks = np.zeros(len(seen), np.int64)
    looks[new] = coverage.looks(seen.positions[new], seen.extents[new])
    return np.where(was_empty(seen, rows, octree), SURELY_EMPTY, looks)

"""What a sighting adds to what is known of an object's place and size, in the memory's settings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.memory.scene.fusion import SMALL, fuse, grow
from embodied_mem.memory.scene.sightings import Sightings

MEAN_COUNT = 20
"""Extents and embeddings are running means over about this many detections."""
WHOLE = 0.85
"""What is visible to this part tells its size."""

Array = NDArray[np.float64]
Known = tuple[Array, Array, Array]
"""Position (3,) [m], extent (3,) [m] and covariance (3, 3) [m^2] of an object, changed in place."""


def fuse_sighting(
    known: Known, seen: Sightings, d: int, count: int, config: SceneConfig, best_view: float
) -> None:
    """Adds a sighting to what is known of an object.

    Args:
        known: changed in place.
        seen: the sighting is its row `d`.
        d: a row.
        count: how often the object was seen before.
        config: gates and rates.
        best_view: to which part the object was visible at best.
    """
    position, extent, covariance = known
    floor = config.position_floor**2
    # The robot's own error does not average out within a frame, but does over time.
    noise = seen.covariances[d] + np.eye(3) * config.pose_sigma**2
    whole = bool(seen.visible[d] >= WHOLE)
    weight = 1.0 / min(count + 1, MEAN_COUNT)
    z, size = seen.positions[d], seen.extents[d]
    if config.gate_sigma > 0.0:
        fuse(position.copy(), covariance, z, noise, floor)
        # What is small and was seen whole is hardly larger: a part that sticks out has moved, or errs.
        is_known = best_view >= WHOLE and float(extent.max()) <= SMALL
        slack = np.inf if is_known else config.pose_sigma
        grow(position, extent, z, size, z - seen.origin, whole, weight, slack)
    else:
        fuse(position, covariance, z, noise, floor)
        extent += weight * ((size if whole else np.maximum(extent, size)) - extent)

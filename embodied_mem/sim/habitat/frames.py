"""habitat-sim's frames and ours: the one place where one becomes the other.

Habitat and glTF have y up and look along -z; the map has z up and a camera's optical frame looks along z
with y down (REP-103). x is the same axis in both worlds.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose

HABITAT_T_MAP = Pose(np.zeros(3), np.array([-math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)]))
"""Maps coordinates of the map to habitat's: (x, y, z) becomes (x, z, -y)."""
_OPTICAL_T_GL = Pose(np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0]))


def to_habitat(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns (..., 3) points or directions of the map in habitat's frame, without rounding."""
    p = np.asarray(points, dtype=np.float64)
    return np.stack([p[..., 0], p[..., 2], -p[..., 1]], axis=-1)


def from_habitat(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns (..., 3) points or directions of habitat in the map's frame, without rounding."""
    p = np.asarray(points, dtype=np.float64)
    return np.stack([p[..., 0], -p[..., 2], p[..., 1]], axis=-1)


def habitat_camera(map_T_camera: Pose) -> Pose:
    """Returns where habitat's camera is when ours is at a pose of its optical frame."""
    return HABITAT_T_MAP @ map_T_camera @ _OPTICAL_T_GL

"""How a sighting is fused into what is known of an object's place and size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.scene.association import inverse

SMALL = 0.7
"""What is smaller [m] is seldom seen in pieces: its size is the mean of what was seen of it whole."""

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def displacement(position: Array, extent: Array, z: Array, size: Array, free: float) -> float:
    """Returns how far a sighting is from a box [m].

    Args:
        position: (3,) centre of the box [m].
        extent: (3,) its edges [m].
        z: (3,) centre of the sighting [m].
        size: (3,) its edges [m].
        free: how much of what the boxes differ in size may shift their centres; 1: all of it.
    """
    squared = 0.0
    for i in range(3):
        squared += max(abs(z[i] - position[i]) - free * abs(size[i] - extent[i]) / 2, 0.0) ** 2
    return np.sqrt(squared)


@njit(cache=True, nogil=True)
def fuse(position: Array, covariance: Array, z: Array, noise: Array, floor: float) -> None:
    """Kalman update of a static point, in place; variances never fall below `floor`."""
    total = inverse(covariance + noise)
    gain = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                gain[i, j] += covariance[i, k] * total[k, j]
    fused = covariance.copy()
    moved = np.zeros(3)
    for i in range(3):
        for k in range(3):
            moved[i] += gain[i, k] * (z[k] - position[k])
            for j in range(3):
                fused[i, j] -= gain[i, k] * covariance[k, j]
    for i in range(3):
        position[i] += moved[i]
        for j in range(i, 3):
            covariance[i, j] = 0.5 * (fused[i, j] + fused[j, i])
            covariance[j, i] = covariance[i, j]
    for i in range(3):
        covariance[i, i] = max(covariance[i, i], floor)


@njit(cache=True, nogil=True)
def grow(
    position: Array,
    extent: Array,
    z: Array,
    size: Array,
    away: Array,
    whole: bool,
    weight: float,
    slack: float,
) -> None:
    """Moves the faces of a box towards those of a sighting, in place.

    A face that sticks out is believed; one that falls short may be hidden, by the thing itself where it
    is on the far side: it counts only where the thing is seen whole and from that side.

    Args:
        position: (3,) centre of the box [m].
        extent: (3,) its edges [m].
        z: (3,) centre of the sighting [m].
        size: (3,) its edges [m].
        away: (3,) from the camera to the sighting.
        whole: whether nothing cuts the sighting.
        weight: of the sighting.
        slack: what sticks out further than this is not noise [m].
    """
    is_small = max(size[0], size[1], size[2]) <= SMALL
    reach = np.sqrt(away[0] ** 2 + away[1] ** 2 + away[2] ** 2)
    for i in range(3):
        faces = np.empty(2)
        for k in range(2):
            side = 2.0 * k - 1.0
            face, told = position[i] + side * extent[i] / 2, z[i] + side * size[i] / 2
            out = side * (told - face)
            is_far = side * away[i] > 0.3 * reach
            if out > slack and not (whole and is_small):
                face += max(weight, 0.5) * side * (out - slack / 2)
            elif out > 0.0 or (whole and not is_far):
                face += weight * side * out
            elif whole:
                face += 0.2 * weight * side * out
            faces[k] = face
        if faces[1] > faces[0]:
            position[i], extent[i] = (faces[0] + faces[1]) / 2, faces[1] - faces[0]

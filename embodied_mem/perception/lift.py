"""From the pixels of a thing to an upright box in the base frame, with covariance and visible fraction."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.types import Detection

TRIM = 0.01
"""So large a part of the points is left out at each end of each axis: noise that sticks out."""
HEADINGS = 30
"""Headings tried: one every 3 degrees."""
EDGE = 0.02
"""Points nearer to a side than this are on it [m]."""
FEW, STRIDE = 250, 7919
"""Points that the heading is found from, and how far they are apart in their order."""

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def _heading(x: Array, y: Array) -> float:
    """Finds the yaw in [-pi/4, pi/4) at which points lie closest to two sides of their box."""
    best, least, yaw = -1.0, np.inf, 0.0
    for k in range(HEADINGS):
        angle = -np.pi / 4 + k * np.pi / 2 / HEADINGS
        c, s = np.cos(angle), np.sin(angle)
        a, b = c * x + s * y, c * y - s * x
        a0, a1, b0, b1 = a.min(), a.max(), b.min(), b.max()
        total = 0.0
        for i in range(a.shape[0]):
            near = min(min(a[i] - a0, a1 - a[i]), min(b[i] - b0, b1 - b[i]))
            total += 1.0 / max(near, EDGE)
        # What is as flat as a line looks alike from several headings: the tightest box is its own.
        area = (a1 - a0) * (b1 - b0)
        if total > best * (1.0 + 1e-9) or (total >= best * (1.0 - 1e-9) and area < least):
            best, least, yaw = total, area, angle
    return yaw


def upright_box(
    points: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Fits an upright box to points of which one or two sides are seen.

    Its heading is that of the L that the sides draw on the floor: the closeness criterion of Zhang et al.,
    "Efficient L-shape fitting for vehicle detection using laser scanners" (IV 2017).

    Args:
        points: (N, 3) float64 [m], N > 0, z up.

    Returns:
        centre (3,) [m], edge lengths (3,) [m] along its own x, y and z, and its yaw in
        [-pi/4, pi/4) [rad].
    """
    middle = points[:, :2].mean(axis=0)
    # A prime stride: rows of an image would give the same few columns again and again.
    few = points[np.arange(min(len(points), FEW)) * STRIDE % len(points), :2] - middle
    yaw = float(_heading(few[:, 0].copy(), few[:, 1].copy())) if len(points) >= 5 else 0.0
    c, s = math.cos(yaw), math.sin(yaw)
    x = c * (points[:, 0] - middle[0]) + s * (points[:, 1] - middle[1])
    y = c * (points[:, 1] - middle[1]) - s * (points[:, 0] - middle[0])
    lo, hi = np.empty(3), np.empty(3)
    for axis, values in enumerate((x, y, points[:, 2])):
        cut = int(TRIM * len(values))
        ordered = np.partition(values, (cut, len(values) - 1 - cut))
        lo[axis], hi[axis] = ordered[cut], ordered[len(values) - 1 - cut]
    mx, my, mz = ((lo + hi) / 2).tolist()
    centre = np.array([middle[0] + c * mx - s * my, middle[1] + s * mx + c * my, mz])
    return centre, hi - lo, yaw


def lift(
    label: int,
    points: NDArray[np.float64],
    distance: float,
    visible: float,
    score: float,
    sigma: float,
    embedding: NDArray[np.float32] | None = None,
) -> Detection:
    """Makes the detection of one thing from its points.

    Args:
        label: label id.
        points: (N, 3) float64 [m] in the base frame.
        distance: from the camera, along its axis [m].
        visible: fraction of its outline that neither the image's border nor nearer things cut.
        score: confidence in (0, 1].
        sigma: standard deviation of the position of a small thing nearby [m].
        embedding: what it looks like.
    """
    centre, extent, yaw = upright_box(points)
    # What is hidden behind the visible side, or cut off, shifts the middle by a part of the size.
    hidden = (1.0 - visible) * (0.2 * extent + min(0.25, 2.0 * float(extent.max())))
    spread = sigma + 0.05 * extent + hidden + 0.005 * distance**2
    c, s = math.cos(yaw), math.sin(yaw)
    x, y, z = (spread * spread).tolist()
    covariance = np.array(
        [
            [c * c * x + s * s * y, c * s * (x - y), 0.0],
            [c * s * (x - y), s * s * x + c * c * y, 0.0],
            [0.0, 0.0, z],
        ]
    )
    return Detection(label, centre, extent, covariance, score, "", embedding, yaw, visible)

"""A camera in a byte map's voxels: what the kernels of `depth` need to know of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class View(NamedTuple):
    """A pinhole camera in a byte map's voxels.

    Attributes:
        width, height: [px].
        fx, fy, cx, cy: pinhole parameters [px].
        rotation: (3, 3) float64 map_R_camera.
        at: (3,) float64, the camera in voxels from the first voxel of the byte map.
        resolution: edge of a voxel [m].
        eps: how near to a voxel's edge a ray may pass and be in doubt [voxels].
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    rotation: Array
    at: Array
    resolution: float
    eps: float


class Work(NamedTuple):
    """Constants of a view, and scratch.

    Attributes:
        rays: (3, 3) float64; the ray of pixel (u, v) is rays @ (u, v, 1) [voxels per m of depth].
        axes: (3, 3) float64, half a voxel's edges along the map's axes in the camera's frame [m].
        half: (3,) float64, half a voxel's size along the camera's axes [m].
        certain: up to this depth the pixel at a voxel's centre passes the voxel [m].
        side, down, depth: (512,) float32, a block's voxels' centres in the camera's frame [m].
        pixel: (512,) int32, the pixels at their centres, -1 outside the image.
        pinhole: (6,) float64 fx, fy, cx, cy, width - 1, height - 1.
        low: (3,) float32.
        unsettled: (512,) int64.
        corners: (8, 2) float64.
        spans: (H, 2) float64.
        doubts: (256,) int64.
    """

    rays: Array
    axes: Array
    half: Array
    certain: float
    side: Array
    down: Array
    depth: Array
    pixel: Array
    pinhole: Array
    low: Array
    unsettled: Array
    corners: Array
    spans: Array
    doubts: Array


def prepare_work(view: View) -> Work:
    """Computes a view's constants and allots its scratch."""
    r, res = view.rotation, view.resolution
    a, b = r[:, 0] / (view.fx * res), r[:, 1] / (view.fy * res)
    rays = np.stack([a, b, r[:, 2] / res - a * view.cx - b * view.cy], axis=-1)
    # Farther away the ray of the nearest pixel may miss the sphere inside a voxel.
    corner_u = max(view.cx, view.width - view.cx) / view.fx
    corner_v = max(view.cy, view.height - view.cy) / view.fy
    slant = float(np.sqrt(1.0 + corner_u * corner_u + corner_v * corner_v))
    certain = 0.49 * res * min(view.fx, view.fy) / (0.708 * slant)
    half = 0.5 * res * np.abs(r).sum(axis=0) * 1.0001 + 1e-6
    return Work(
        rays,
        r * (0.5 * res),
        half,
        certain,
        np.empty(512, np.float32),
        np.empty(512, np.float32),
        np.empty(512, np.float32),
        np.empty(512, np.int32),
        np.array([view.fx, view.fy, view.cx, view.cy, view.width - 1, view.height - 1], np.float64),
        np.empty(3, np.float32),
        np.empty(512, np.int64),
        np.empty((8, 2)),
        np.empty((view.height, 2)),
        np.empty(256, np.int64),
    )

"""Boxes in images lifted to 3-D by depth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embodied_mem.perception.camera import check_image, pixel_rays, register_depth, same_view, valid_depth
from embodied_mem.perception.config import BoxConfig
from embodied_mem.perception.embedding import ColorHistogram, Embedder
from embodied_mem.perception.lift import lift
from embodied_mem.types import CameraFrame, Detection, Image

CORE = 0.5
"""The middle part of a box's width and height, in which the thing itself is."""
BEHIND = 0.5
"""What is this much farther than the thing's middle is background [m]."""


class BoxLifter:
    """Lifts the boxes that a detector outside found.

    Args:
        config: which boxes are believed.
        embedder: says what things look like.
    """

    def __init__(self, config: BoxConfig, embedder: Embedder | None = None) -> None:
        self.config = config
        self.embedder = embedder or ColorHistogram()

    def __call__(self, camera: CameraFrame) -> tuple[Detection, ...]:
        """Returns the objects in the boxes of one camera, in the base frame.

        Depth of another view is brought into that of the colour image, in which the boxes are.

        Raises:
            InputError: an image's size contradicts its calibration.
        """
        depth, color = camera.depth, camera.color
        if depth is None or not camera.boxes:
            return ()
        if color is not None:
            check_image(color, f"{camera.name}: colour")
            if not same_view(depth, color):
                seen = register_depth(depth, color.intrinsics, color.base_T_camera)
                depth = replace(color, data=seen)
        found = []
        for box in camera.boxes:
            if box.score >= self.config.score:
                made = lift_box(
                    box.corners, box.label, box.score, color, depth, self.config.max_range, self.embedder
                )
                found += [] if made is None else [made]
        return tuple(found)


def lift_box(
    box: NDArray[np.float64],
    label: int,
    score: float,
    color: Image | None,
    depth: Image,
    max_range: float,
    embedder: Embedder,
) -> Detection | None:
    """Lifts the thing in a box: what lies at the depth of the box's middle.

    Args:
        box: (4,) x0, y0, x1, y1 [px].
        label: label id.
        score: confidence in (0, 1].
        color: colour image, of the same view as the depth, or None.
        depth: depth image.
        max_range: things farther than this are ignored [m].
        embedder: says what it looks like.
    """
    height, width = depth.data.shape
    x0, y0, x1, y1 = np.clip(np.round(box), 0, [width, height, width, height]).astype(int).tolist()
    part = depth.data[y0:y1, x0:x1]
    rays = pixel_rays(depth.intrinsics)
    good = valid_depth(part) & np.isfinite(rays.x[y0:y1, x0:x1])
    dx, dy = int((x1 - x0) * (1 - CORE) / 2), int((y1 - y0) * (1 - CORE) / 2)
    middle = np.zeros_like(good)
    middle[dy : max(y1 - y0 - dy, dy + 1), dx : max(x1 - x0 - dx, dx + 1)] = True
    if not (good & middle).any():
        return None
    near = float(np.median(part[good & middle]))
    mine = good & (np.abs(np.where(good, part, np.inf) - near) <= BEHIND)
    if near > max_range or mine.sum() < 5:
        return None
    z = part[mine].astype(np.float64)
    x, y = rays.x[y0:y1, x0:x1][mine], rays.y[y0:y1, x0:x1][mine]
    points = depth.base_T_camera.transform(np.stack([x * z, y * z, z], axis=-1))
    cut = (x0 == 0) + (y0 == 0) + (x1 == width) + (y1 == height)
    vector = None if color is None else embedder(color.data[y0:y1, x0:x1], mine)
    return lift(label, points, near, 1.0 - 0.25 * cut, min(score, 1.0), 0.05, vector)

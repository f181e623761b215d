"""The robot's own body, left out of what its sensors see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embodied_mem.perception.config import BodyConfig
from embodied_mem.types import Detection, Percept, Scan


class Body:
    """Leaves a box in the base frame out of percepts.

    Args:
        config: the box.
    """

    def __init__(self, config: BodyConfig) -> None:
        self.low, self.high = np.array(config.low), np.array(config.high)
        self.is_there = bool((self.high > self.low).any())

    def contains(self, points: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Returns (N,) bool: which of (N, 3) points lie in the box."""
        inside = (points >= self.low) & (points <= self.high)
        return inside[:, 0] & inside[:, 1] & inside[:, 2]

    def without(self, percept: Percept) -> Percept:
        """Returns a percept without the points and the things in the box."""
        if not self.is_there:
            return percept
        kept: list[Detection] = [d for d in percept.detections if not self.contains(d.position[None])[0]]
        scans = tuple(self._outside(scan) for scan in percept.scans)
        return replace(percept, scans=scans, detections=tuple(kept))

    def _outside(self, scan: Scan) -> Scan:
        kept = ~self.contains(scan.points)
        if kept.all():
            return scan
        image, pixels = scan.image, scan.pixels
        if image is not None and pixels is not None:
            data = image.data.copy()
            data.reshape(-1)[pixels[~kept]] = 0.0
            image, pixels = replace(image, data=data), pixels[kept]
        return replace(
            scan,
            points=scan.points[kept],
            hit=scan.hit[kept],
            labels=scan.labels[kept],
            image=image,
            pixels=pixels,
        )

"""Clearing a region: what the map says there becomes unknown, also when the map is put right later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.memory.contents import Contents
from embodied_mem.memory.reanchoring import finish
from embodied_mem.memory.submaps.keyframe import Keyframe, pack_keyframe, unpack_keyframe
from embodied_mem.types import Scan

HIGHEST = 1e6
"""Stands for "however high" [m]."""
MOST_ROWS = 100_000
"""A region of more rows of voxels than this is a mistake."""


@dataclass(frozen=True, eq=False)
class Region:
    """What stands on a polygon.

    Attributes:
        corners: (M, 2) float64 [m] in the map frame, in order; the last joins the first.
        low, high: [m] in the map frame.
    """

    corners: NDArray[np.float64]
    low: float
    high: float

    @classmethod
    def of(cls, polygon: Sequence[Sequence[float]], low: float | None, high: float | None) -> Region:
        """Makes a region of numbers as a command has them.

        Raises:
            InputError: fewer than three corners, or numbers that are not finite.
        """
        try:
            corners = np.array([list(corner)[:2] for corner in polygon], np.float64).reshape(-1, 2)
            bottom = -HIGHEST if low is None else float(low)
            top = HIGHEST if high is None else float(high)
        except (TypeError, ValueError):
            raise InputError(f"a region needs corners [x, y] and heights, got {polygon!r}") from None
        if len(corners) < 3 or not np.isfinite([*corners.reshape(-1), bottom, top]).all():
            raise InputError("a region needs three corners or more, of finite numbers")
        return cls(corners, bottom, top)

    def contains(self, points: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Returns (N,) bool: which of (N, 3) points in the map frame lie in it (even-odd rule)."""
        x, y, z = np.asarray(points, np.float64).T
        inside = np.zeros(len(x), bool)
        for (ax, ay), (bx, by) in self._edges():
            crosses = (ay > y) != (by > y)
            inside ^= crosses & (x < ax + (bx - ax) * (y - ay) / (by - ay if by != ay else 1.0))
        return inside & (z >= self.low) & (z <= self.high)

    def boxes(self, step: float) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Yields boxes (lowest, highest corner) that hold the centres of the voxels in it, row by row.

        Raises:
            InputError: it is too large.
        """
        first, last = (np.floor(self.corners[:, 1].min() / step), np.floor(self.corners[:, 1].max() / step))
        if last - first > MOST_ROWS:
            raise InputError(f"the region is {(last - first) * step:.0f} m wide; is it in metres?")
        for row in range(int(first), int(last) + 1):
            y = (row + 0.5) * step
            cuts = sorted(
                ax + (bx - ax) * (y - ay) / (by - ay)
                for (ax, ay), (bx, by) in self._edges()
                if (ay > y) != (by > y)
            )
            for left, right in zip(cuts[::2], cuts[1::2]):
                yield np.array([left, row * step, self.low]), np.array([right, (row + 1) * step, self.high])

    def _edges(self) -> list[tuple[list[float], list[float]]]:
        corners: list[list[float]] = self.corners.tolist()
        return list(zip(corners, [*corners[1:], corners[0]]))


def clear_map(contents: Contents, region: Region) -> None:
    """Makes the voxels of a region unknown, and takes the evidence for them out of the submaps.

    Args:
        contents: changed in place.
        region: in the map frame, as it is now.
    """
    finish(contents)
    for lo, hi in region.boxes(contents.octree.resolution):
        contents.octree.clear(lo, hi)
    reach = contents.config.octree.max_range
    lo, hi = region.corners.min(axis=0) - reach, region.corners.max(axis=0) + reach
    for entry_id, payload in contents.submaps.packed().items():
        row = contents.episodes.index(entry_id)
        if row < 0:
            continue
        pose = Pose.from_list(contents.episodes.poses[row])
        if ((pose.position[:2] < lo) | (pose.position[:2] > hi)).any():
            continue
        keyframe = unpack_keyframe(payload)
        kept = tuple(_outside(scan, pose, region) for scan in keyframe.scans)
        if any(len(a.points) < len(b.points) for a, b in zip(kept, keyframe.scans)):
            made = pack_keyframe(Keyframe(keyframe.stamp, kept, keyframe.objects, keyframe.positions))
            contents.submaps.add(entry_id, made)
            contents.counts["submap_bytes"] += len(made) - len(payload)


def _outside(scan: Scan, pose: Pose, region: Region) -> Scan:
    kept = ~region.contains(pose.transform(scan.points))
    return Scan(scan.points[kept], scan.hit[kept], scan.labels[kept], scan.origin)

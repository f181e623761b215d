"""Clearing a region: what the map says there becomes unknown, also when the map is put right later."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.memory.contents import Contents
from embodied_mem.memory.reanchoring import finish
from embodied_mem.memory.recall.surfaces import surface_of
from embodied_mem.memory.scene.graph import SceneObject
from embodied_mem.memory.submaps.keyframe import pack_keyframe, unpack_keyframe
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
    low, high = region.corners.min(axis=0) - reach, region.corners.max(axis=0) + reach
    _edit_submaps(contents, low, high, lambda scan, pose: _outside(scan, pose, region))


def forget_surface(contents: Contents, thing: SceneObject) -> None:
    """Takes its label off the surface of an object, in the map and in the evidence for it.

    Args:
        contents: changed in place.
        thing: an object that is there.
    """
    surface = surface_of(contents, thing)
    if not len(surface):
        return
    finish(contents)
    contents.octree.unlabel(surface)
    reach, edge = contents.config.octree.max_range, contents.octree.resolution
    low, high = surface.min(axis=0) - edge, surface.max(axis=0) + edge

    def nameless(scan: Scan, pose: Pose) -> Scan:
        points = pose.transform(scan.points)
        named = (scan.labels == thing.label) & ((points >= low) & (points <= high)).all(axis=1)
        return replace(scan, labels=np.where(named, 0, scan.labels)) if named.any() else scan

    _edit_submaps(contents, low[:2] - reach, high[:2] + reach, nameless)


def _edit_submaps(
    contents: Contents,
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    edit: Callable[[Scan, Pose], Scan],
) -> None:
    """Changes the scans of the keyframes between two corners, seen from above [m]."""
    for entry_id, payload in contents.submaps.packed().items():
        row = contents.episodes.index(entry_id)
        if row < 0:
            continue
        pose = Pose.from_list(contents.episodes.poses[row])
        if ((pose.position[:2] < low) | (pose.position[:2] > high)).any():
            continue
        keyframe = unpack_keyframe(payload)
        kept = tuple(edit(scan, pose) for scan in keyframe.scans)
        if any(a is not b for a, b in zip(kept, keyframe.scans)):
            made = pack_keyframe(replace(keyframe, scans=kept))
            contents.submaps.add(entry_id, made)
            contents.counts["submap_bytes"] += len(made) - len(payload)


def _outside(scan: Scan, pose: Pose, region: Region) -> Scan:
    kept = ~region.contains(pose.transform(scan.points))
    if kept.all():
        return scan
    return Scan(scan.points[kept], scan.hit[kept], scan.labels[kept], scan.origin)

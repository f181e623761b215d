"""A correction of the past: anchors whose poses are now known better, and what lies between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose

Array = NDArray[np.float64]


class Correction:
    """Moves what was seen at a time as the anchors before and after that time have moved.

    Between two anchors, both of their motions are applied and the results interpolated by time;
    before the first and after the last, that anchor's motion holds.

    Args:
        stamps: (A,) int64 [ns], ascending.
        before: (A, 7) poses `map_T_base` as they were believed.
        after: (A, 7) poses as they are now.

    Raises:
        InputError: no anchors, stamps that do not ascend, or a pose that is not finite.
    """

    def __init__(self, stamps: NDArray[np.int64], before: Array, after: Array) -> None:
        if not len(stamps) or (np.diff(stamps) <= 0).any():
            raise InputError("anchors need ascending stamps, at least one")
        poses = [(Pose.from_list(a), Pose.from_list(b)) for a, b in zip(before, after)]
        if not all(a.is_finite and b.is_finite for a, b in poses):
            raise InputError("the pose of an anchor holds NaN or infinite numbers")
        motions = [new @ old.inverse() for old, new in poses]
        self.stamps = stamps
        self._rotations = np.array([m.rotation() for m in motions])  # (A, 3, 3)
        self._shifts = np.array([m.position for m in motions])
        self._turns = np.array([m.orientation for m in motions])
        self.largest = max(float(np.abs(np.array(a.position) - b.position).max()) for a, b in poses)

    def _around(self, stamps: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        right = np.clip(np.searchsorted(self.stamps, stamps, side="left"), 0, len(self.stamps) - 1)
        left = np.clip(np.where(self.stamps[right] > stamps, right - 1, right), 0, None)
        span = (self.stamps[right] - self.stamps[left]).astype(np.float64)
        ahead = (stamps - self.stamps[left]).astype(np.float64)
        share = np.divide(ahead, span, out=np.zeros(len(stamps)), where=span > 0)
        return left, right, np.clip(share, 0.0, 1.0)

    def points(self, stamps: NDArray[np.int64], points: Array) -> Array:
        """Returns (N, 3) where points in the map that were seen at (N,) stamps [ns] are now [m]."""
        left, right, share = self._around(np.asarray(stamps, np.int64))
        a, b = self._moved(left, points), self._moved(right, points)
        return np.asarray(a + share[:, None] * (b - a))

    def _moved(self, anchors: NDArray[np.int64], points: Array) -> Array:
        r, p = self._rotations[anchors], np.asarray(points, np.float64)
        turned = r[:, :, 0] * p[:, :1] + r[:, :, 1] * p[:, 1:2] + r[:, :, 2] * p[:, 2:3]
        return np.asarray(turned + self._shifts[anchors])

    def poses(self, stamps: NDArray[np.int64], poses: Array) -> Array:
        """Returns (N, 7) what poses `map_T_base` at (N,) stamps [ns] are now."""
        left, right, share = self._around(np.asarray(stamps, np.int64))
        result = np.empty_like(poses)
        result[:, :3] = self.points(stamps, poses[:, :3])
        a, b = _product(self._turns[left], poses[:, 3:]), _product(self._turns[right], poses[:, 3:])
        same = (a * b).sum(axis=1, keepdims=True) >= 0
        b = np.where(same, b, -b)
        # Anchors turn little against each other, so that the chord stands for the arc.
        turned = a + share[:, None] * (b - a)
        result[:, 3:] = turned / np.sqrt((turned * turned).sum(axis=1, keepdims=True))
        return result


def _product(a: Array, b: Array) -> Array:
    """Returns the (N, 4) products of quaternions x, y, z, w."""
    ax, ay, az, aw = a.T
    bx, by, bz, bw = b.T
    return np.stack(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ],
        axis=1,
    )

"""Detections of one percept, brought into the map frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.types import Detection

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Sightings:
    """Detections of one percept in the map frame, the unusable ones dropped.

    Attributes:
        labels: (D,) int64.
        positions, extents: (D, 3) float64 [m]; extents of axis-aligned boxes.
        covariances: (D, 3, 3) float64 [m^2].
        yaws: (D,) float64 [rad] of the things' own boxes.
        visible: (D,) float64 fractions.
        origin: (3,) float64 [m], where they were seen from.
        detections: what they were made from.
        dropped: number of detections with NaN, infinite or negative numbers.
    """

    labels: NDArray[np.int64]
    positions: NDArray[np.float64]
    extents: NDArray[np.float64]
    covariances: NDArray[np.float64]
    yaws: NDArray[np.float64]
    visible: NDArray[np.float64]
    origin: NDArray[np.float64]
    detections: tuple[Detection, ...]
    dropped: int

    def __len__(self) -> int:
        return len(self.detections)

    @classmethod
    def of(
        cls,
        detections: Sequence[Detection],
        map_T_base: Pose,
        floor: float,
        origin: NDArray[np.float64] | None = None,
    ) -> Sightings:
        """Maps detections from the base to the map frame.

        Args:
            detections: of one percept.
            map_T_base: pose of the base.
            floor: variances are at least this [m^2].
            origin: (3,) the sensor in the base frame [m]; the base itself where None.
        """
        kept = tuple(detections)
        at = map_T_base.transform(np.zeros(3) if origin is None else origin)
        if not kept:
            return cls(*_nothing(), at, kept, 0)
        arrays = cls._arrays(kept)
        scalars = np.array([(d.score, d.yaw, d.visible) for d in kept], np.float64).reshape(-1, 3)
        usable = _are_usable(*arrays) & (scalars[:, 0] > 0.0) & np.isfinite(scalars).all(axis=1)
        if not usable.all():
            kept = tuple(d for d, good in zip(kept, usable.tolist()) if good)
            arrays, scalars = cls._arrays(kept), scalars[usable]
        positions, extents, noise = arrays
        boxes, turned = np.empty_like(extents), np.empty_like(noise)
        yaws = scalars[:, 1].copy()
        _turn(map_T_base.rotation(), extents, yaws, noise, floor, boxes, turned)
        labels = np.array([d.label for d in kept], np.int64)
        return cls(
            labels,
            map_T_base.transform(positions),
            boxes,
            turned,
            yaws + map_T_base.yaw,
            np.clip(scalars[:, 2], 0.0, 1.0),
            at,
            kept,
            len(detections) - len(kept),
        )

    @staticmethod
    def _arrays(detections: tuple[Detection, ...]) -> tuple[Array, Array, Array]:
        count = len(detections)
        positions = np.array([d.position for d in detections], np.float64).reshape(count, 3)
        extents = np.array([d.extent for d in detections], np.float64).reshape(count, 3)
        noise = np.array([d.covariance for d in detections], np.float64).reshape(count, 3, 3)
        return positions, extents, noise


def _nothing() -> tuple[Array, Array, Array, Array, Array, Array]:
    """Returns the arrays of no sightings."""
    numbers, vectors = np.empty(0), np.empty((0, 3))
    return np.empty(0, np.int64), vectors, vectors, np.empty((0, 3, 3)), numbers, numbers


@njit(cache=True, nogil=True)
def _turn(
    r: Array, extents: Array, yaws: Array, noise: Array, floor: float, boxes: Array, turned: Array
) -> None:
    """Boxes around turned boxes, and turned covariances with variances of at least `floor`."""
    for d in range(noise.shape[0]):
        c, s = np.cos(yaws[d]), np.sin(yaws[d])
        for i in range(3):
            along = r[i, 0] * c + r[i, 1] * s
            across = r[i, 1] * c - r[i, 0] * s
            boxes[d, i] = (
                abs(along) * extents[d, 0] + abs(across) * extents[d, 1] + abs(r[i, 2]) * extents[d, 2]
            )
            for j in range(3):
                turned[d, i, j] = 0.0
                for k in range(3):
                    for m in range(3):
                        turned[d, i, j] += r[i, k] * noise[d, k, m] * r[j, m]
        for i in range(3):
            turned[d, i, i] = max(turned[d, i, i], floor)


@njit(cache=True, nogil=True)
def _are_usable(positions: Array, extents: Array, noise: Array) -> Array:
    result = np.ones(positions.shape[0], np.bool_)
    for d in range(positions.shape[0]):
        for i in range(3):
            result[d] &= np.isfinite(positions[d, i]) and np.isfinite(extents[d, i]) and extents[d, i] >= 0.0
            for j in range(3):
                result[d] &= np.isfinite(noise[d, i, j])
    return result

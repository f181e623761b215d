"""What the octree takes and gives: settings of its log-odds, and its answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError, InputError


@dataclass(frozen=True)
class LogOddsSteps:
    """Log-odds as small integers: the steps of an update and how much one step is worth.

    Attributes:
        hit, miss, lowest, highest: steps added by a hit, by a miss, and the clamps.
        unit: log-odds of one step.
    """

    hit: int
    miss: int
    lowest: int
    highest: int
    unit: float

    @classmethod
    def fit(cls, hit: float, miss: float, clamp: tuple[float, float]) -> LogOddsSteps:
        """Chooses the unit with which int8 steps come closest to all four numbers.

        Args:
            hit: log-odds added to a voxel in which a ray ends, > 0.
            miss: log-odds added to a voxel that a ray passes, < 0.
            clamp: (lowest < 0, highest > 0) log-odds a voxel can have.

        Raises:
            ConfigError: a number has the wrong sign or cannot be told from zero.
        """
        values = (hit, miss, *clamp)
        if not all(math.isfinite(v) for v in values) or hit <= 0 or miss >= 0:
            raise ConfigError(f"an octree needs hit > 0 > miss, got hit={hit}, miss={miss}")
        if not clamp[0] < 0 < clamp[1]:
            raise ConfigError(f"an octree's clamp must be (negative, positive), got {clamp}")
        # A step larger than the whole range has the range's effect.
        width = clamp[1] - clamp[0]
        values = (min(hit, width), max(miss, -width), *clamp)
        largest = max(abs(v) for v in clamp)

        def error(steps: int) -> float:
            unit = largest / steps
            return max(abs(round(v / unit) * unit / v - 1.0) for v in values)

        best = min(range(32, 128), key=error)
        unit = largest / best
        up, down, lowest, highest = (round(v / unit) for v in values)
        if up == 0 or down == 0:
            raise ConfigError(f"hit={hit} or miss={miss} is too small against the clamp {clamp}")
        return cls(up, down, lowest, highest, unit)


@dataclass(frozen=True)
class ScanStats:
    """What a scan did to the octree.

    Attributes:
        points: points given.
        dropped: points not used, because they are not finite or outside the world.
        free: voxels that got a miss.
        occupied: voxels that got a hit.
    """

    points: int
    dropped: int
    free: int
    occupied: int


@dataclass(frozen=True, eq=False)
class Voxels:
    """Known voxels, sorted by 8^3 block (x, y, z) and within it by x, y, z.

    Attributes:
        centers: (M, 3) float32 [m].
        log_odds: (M,) float32; >= 0 is occupied.
        labels: (M,) int32 label ids, 0 unknown.
        stamps: (M,) int64 [ns] when last observed; a free voxel without a label has the stamp
            of its 8^3 block.
        references: (M,) int64 object ids, -1 none.
    """

    centers: NDArray[np.float32]
    log_odds: NDArray[np.float32]
    labels: NDArray[np.int32]
    stamps: NDArray[np.int64]
    references: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.log_odds)

    def select(self, which: NDArray[Any]) -> Voxels:
        """Returns those of a (M,) bool mask or an index array."""
        return Voxels(
            self.centers[which],
            self.log_odds[which],
            self.labels[which],
            self.stamps[which],
            self.references[which],
        )


@dataclass(frozen=True, eq=False)
class RayHits:
    """Where rays met the map.

    Attributes:
        hit: (N,) bool.
        points: (N, 3) float32 [m] where the ray enters the occupied voxel; where it hit
            nothing, the point at which it gave up.
        labels: (N,) int32 label of the voxel hit, 0 unknown.
        distance: (N,) float32 [m] from the origin to `points`.
    """

    hit: NDArray[np.bool_]
    points: NDArray[np.float32]
    labels: NDArray[np.int32]
    distance: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LabelledBlocks:
    """Blocks of 8^3 voxels that hold occupied voxels with some labels.

    Attributes:
        coords: (B, 3) int64, in blocks from the map's origin.
        lo: (B, 3) float32 [m], the least coordinates of the centres of those voxels, map frame.
        hi: (B, 3) float32 [m], the largest ones.
        labels: (B,) int32, of the first of those voxels.
        counts: (B,) int64, how many they are.
        stamps: (B,) int64 [ns], when the newest of them was observed.
    """

    coords: NDArray[np.int64]
    lo: NDArray[np.float32]
    hi: NDArray[np.float32]
    labels: NDArray[np.int32]
    counts: NDArray[np.int64]
    stamps: NDArray[np.int64]

    @classmethod
    def none(cls) -> LabelledBlocks:
        """Returns no blocks."""
        numbers, corners = np.empty(0, np.int64), np.empty((0, 3), np.float32)
        coords, labels = np.empty((0, 3), np.int64), np.empty(0, np.int32)
        return cls(coords, corners, corners, labels, numbers, numbers)


@dataclass(frozen=True, eq=False)
class GridMap:
    """A ground plan of traversable space, like nav_msgs/OccupancyGrid.

    Attributes:
        cells: (H, W) int8 indexed [iy, ix]: -1 unknown, 0 free, 100 obstacle.
        origin: (2,) float64 [m], the corner (not the centre) of cell [0, 0] in the map frame.
        resolution: edge of a cell [m].
        floor_z: height of the floor it is relative to [m].
    """

    cells: NDArray[np.int8]
    origin: NDArray[np.float64]
    resolution: float
    floor_z: float


def as_points(points: Any, name: str = "points") -> NDArray[np.float32]:
    """Checks and converts (N, 3) real points to contiguous float32.

    Raises:
        InputError: another shape or a dtype that is not real.
    """
    array = np.asarray(points)
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} must be real numbers, not {array.dtype}")
    if array.ndim != 2 or array.shape[1] != 3:
        raise InputError(f"{name} must have the shape (N, 3), not {array.shape}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def as_vector(vector: Any, name: str) -> NDArray[np.float64]:
    """Checks and converts three real numbers to float64; NaN is refused, infinity is not.

    Raises:
        InputError: not three numbers.
    """
    try:
        array = np.asarray(vector, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be three numbers") from None
    if array.shape != (3,) or np.isnan(array).any():
        raise InputError(f"{name} must be three numbers, not NaN, got {array.tolist()}")
    return array


def as_hits(hit: Any, count: int) -> NDArray[np.bool_]:
    """Checks a (N,) bool array; None means that every ray hit something.

    Raises:
        InputError: another shape or dtype.
    """
    if hit is None:
        return np.ones(count, np.bool_)
    array = np.asarray(hit)
    if array.shape != (count,) or array.dtype != np.bool_:
        raise InputError(f"hit must be ({count},) bool, not {array.shape} {array.dtype}")
    return np.ascontiguousarray(array)


def as_labels(labels: Any, count: int) -> NDArray[np.int32]:
    """Checks (N,) label ids in 0..65535; None and all-zero become (0,).

    Raises:
        InputError: another shape or dtype, or an id out of range.
    """
    if labels is None:
        return np.empty(0, np.int32)
    array = np.asarray(labels)
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise InputError(f"labels must be ({count},) integers, not {array.shape} {array.dtype}")
    if array.size and (array.min() < 0 or array.max() > 65535):
        raise InputError("label ids must lie in 0..65535")
    return np.ascontiguousarray(array, dtype=np.int32) if array.any() else np.empty(0, np.int32)

"""Alignment: a frame's depth is laid onto the surfaces known around it before anything is compared.

The localiser's error varies slowly. It is tracked like the state of a Kalman filter: it returns to zero over
`align_frames` writes, and each frame is fitted, point to surface, by a few Gauss-Newton steps (Censi, "An ICP
variant using a point-to-line metric", ICRA 2008; cells with normal distributions: Biber and Strasser, "The
normal distributions transform", IROS 2003). A part of each error is left in: otherwise the map, which grows
at its border from aligned frames, would drift away from the localiser's frame.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.memory.scene.association import inverse
from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.memory.scene.surface_kernels import BITS, add_points, enter_all, fit, rows_in
from embodied_mem.types import Percept, Scan

FITTED, KEPT = 1200, 3000
"""About so many points of a frame are fitted, and added to the surfaces."""
LOW, REACH = 0.1, 4.0
"""Points no higher above the base than this, and farther away, are left out [m]."""
STEPS = 4
"""Gauss-Newton steps."""
TRUST = 0.05
"""Neighbouring points err together: so many of them count as one, as a fraction."""
DONE = 1e-4
"""A smaller step is the last [m, rad]."""
BLOCK = 3
"""Cells of a block, which is one row of the store: 2 to this power along each axis."""
_CELL = np.dtype([("place", "<u2"), ("sums", "<f4", 6)])

Array = NDArray[Any]


class Alignment:
    """Keeps upright surfaces, and how wrong the newest pose was.

    Args:
        config: how poses err.
    """

    def __init__(self, config: SceneConfig) -> None:
        self.config = config
        self._sigma2 = np.array([config.align_sigma, config.align_sigma, config.align_yaw]) ** 2
        self._clear()

    def _clear(self) -> None:
        """Knows no surfaces and no error."""
        self.error = np.zeros(3)
        """Of x and y [m] and of the heading [rad], against the surfaces."""
        self._covariance = np.diag(self._sigma2)
        self._table = np.full((1 << 12, 2), -1, np.int64)
        self._sums = np.zeros((1 << 11, 6), np.float32)
        self._count = 0
        self.touched: set[int] = set()
        """Blocks that have changed since `touched` was last emptied."""

    def correct(self, percept: Percept) -> Percept:
        """Returns a percept with the pose that its scans fit, and adds them to the surfaces."""
        scans = [s for s in percept.scans if s.origin is not None and len(s.points)]
        if not self.config.aligns or not scans:
            return percept
        if percept.is_first:
            self.error, self._covariance = np.zeros(3), np.diag(self._sigma2)
        keep = math.exp(-1.0 / self.config.align_frames)
        before = keep * self.error
        covariance = keep * keep * self._covariance + np.diag((1.0 - keep * keep) * self._sigma2)
        pose = percept.map_T_base
        self.error, self._covariance = self._fitted(scans, pose, before, inverse(covariance))
        x, y, yaw = ((1.0 - self.config.align_hold) * self.error).tolist()
        # About the base: the heading's error turns the robot, not its position.
        p = pose.position
        turned = Pose.from_xyz_yaw(0.0, 0.0, 0.0, -yaw) @ Pose(np.zeros(3), pose.orientation)
        better = Pose(np.array([p[0] - x, p[1] - y, p[2]]), turned.orientation)
        self._add(scans, better)
        return dataclasses.replace(percept, map_T_odom=better @ percept.odom_T_base.inverse())

    def _fitted(self, scans: list[Scan], pose: Pose, before: Array, prior: Array) -> tuple[Array, Array]:
        """Returns the (3,) error that fits best and its (3, 3) covariance."""
        r, t, error = pose.rotation(), pose.position, before.copy()
        total = prior
        for _ in range(STEPS):
            total, gradient = prior.copy(), prior @ (error - before)
            for s in scans:
                stride = -(-len(s.points) // FITTED)
                surfaces = self._table, self._sums, s.points, s.hit, stride
                more, slope = fit(*surfaces, r, t, error, LOW, REACH)
                total, gradient = total + TRUST * more, gradient + TRUST * slope
            step = inverse(total) @ gradient
            error = error - step
            if float(np.abs(step).max()) < DONE:
                break
        return error, inverse(total)

    def _add(self, scans: list[Scan], pose: Pose) -> None:
        for s in scans:
            stride = -(-len(s.points) // KEPT)
            surfaces = self._table, self._sums, self._count, s.points, s.hit, stride
            self._table, self._sums, self._count, keys = add_points(
                *surfaces, pose.rotation(), pose.position, LOW, REACH
            )
            self.touched.update(np.unique(_block_of(keys)).tolist())

    def forget(self) -> list[int]:
        """Lets go of all surfaces: they are elsewhere now; returns the blocks that are no more."""
        gone: list[int] = self.blocks().tolist()
        self._clear()
        return gone

    def blocks(self) -> NDArray[np.int64]:
        """Returns (B,) int64 numbers of all blocks, ascending."""
        keys = self._table[:, 0]
        return np.unique(_block_of(keys[keys >= 0]))

    def payload(self, block: int) -> bytes:
        """Returns a block: place, number of points and sums of each of its cells."""
        side, mask = BITS - BLOCK, (1 << BITS - BLOCK) - 1
        x, y, z = ((block >> shift * side & mask) << BLOCK for shift in (2, 1, 0))
        places, rows = rows_in(self._table, x, y, z, BLOCK)
        cells = np.empty(len(places), _CELL)
        cells["place"], cells["sums"] = places, self._sums[rows]
        return cells.tobytes()

    def payloads(self) -> dict[int, bytes]:
        """Returns all blocks by number."""
        return {block: self.payload(block) for block in self.blocks().tolist()}

    def restore(self, payloads: dict[int, bytes]) -> None:
        """Replaces all surfaces by blocks of `payloads`.

        Raises:
            ValueError: a block of another size.
        """
        self._clear()
        if not payloads:
            return
        numbers = sorted(payloads)
        cells = [np.frombuffer(payloads[block], _CELL) for block in numbers]
        blocks = np.repeat(numbers, [len(c) for c in cells])
        keys = _keys_of(blocks, np.concatenate([c["place"] for c in cells]))
        sums = np.ascontiguousarray(np.concatenate([c["sums"] for c in cells]))
        held = self._table, self._sums, self._count
        self._table, self._sums, self._count = enter_all(*held, keys, sums)

    def facts(self) -> list[float]:
        """Returns the error and its covariance as plain values."""
        return [*self.error.tolist(), *self._covariance.ravel().tolist()]

    def restore_facts(self, values: list[float]) -> None:
        """Sets what `facts` returned."""
        if values:
            numbers = np.array(values, np.float64)
            self.error, self._covariance = numbers[:3], numbers[3:].reshape(3, 3)


def _block_of(keys: Array) -> NDArray[np.int64]:
    """Returns (N,) int64 numbers of the blocks that hold (N,) cells."""
    mask = (1 << BITS) - 1
    x, y, z = (keys >> 2 * BITS & mask) >> BLOCK, (keys >> BITS & mask) >> BLOCK, (keys & mask) >> BLOCK
    side = BITS - BLOCK
    return np.asarray((x << 2 * side) | (y << side) | z, np.int64)


def _keys_of(blocks: Array, places: Array) -> NDArray[np.int64]:
    """Returns (N,) int64 keys of cells, by the numbers of their blocks and their places in them."""
    side, inside = BITS - BLOCK, (1 << BLOCK) - 1
    blocks, places = np.asarray(blocks, np.int64), places.astype(np.int64)
    key = np.zeros(len(blocks), np.int64)
    for axis in (2, 1, 0):
        cell = (blocks >> axis * side & (1 << side) - 1) << BLOCK | (places >> axis * BLOCK & inside)
        key = key << BITS | cell
    return key

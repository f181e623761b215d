"""Rigid transforms, in element-wise arithmetic only.

Matrix products through BLAS may differ in the last bit from one processor to
the next; the memory's digest must not. Every transform here is therefore a sum
of element-wise products in a fixed order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray


def _vector(value: ArrayLike, size: int) -> NDArray[np.float64]:
    array = np.array(value, dtype=np.float64).reshape(-1)
    if array.shape != (size,):
        raise ValueError(f"expected {size} numbers, got {array.shape[0]}")
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class Pose:
    """A rigid transform `A_T_B`: maps coordinates of frame B into frame A (REP-103).

    Attributes:
        position: (3,) float64 [m], the origin of B in A.
        orientation: (4,) float64, unit quaternion in the order x, y, z, w.
    """

    position: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    orientation: NDArray[np.float64] = field(default_factory=lambda: np.array([0.0, 0.0, 0.0, 1.0]))

    def __post_init__(self) -> None:
        object.__setattr__(self, "position", _vector(self.position, 3))
        object.__setattr__(self, "orientation", _vector(self.orientation, 4))

    @classmethod
    def _of(cls, position: list[float], orientation: list[float]) -> Pose:
        """Makes a pose of 3 and 4 Python floats, without looking at them."""
        pose = object.__new__(cls)
        for name, values in (("position", position), ("orientation", orientation)):
            array = np.array(values)
            array.setflags(write=False)
            object.__setattr__(pose, name, array)
        return pose

    @classmethod
    def identity(cls) -> Pose:
        """Returns the transform that changes nothing."""
        return cls()

    @classmethod
    def from_xyz_yaw(cls, x: float, y: float, z: float, yaw: float) -> Pose:
        """Builds a pose from a position and a rotation about z.

        Args:
            x: forward [m].
            y: to the left [m].
            z: up [m].
            yaw: from x towards y [rad].
        """
        return cls(np.array([x, y, z]), np.array([0.0, 0.0, np.sin(yaw / 2), np.cos(yaw / 2)]))

    @classmethod
    def from_matrix(cls, matrix: ArrayLike) -> Pose:
        """Builds a pose from a (4, 4) homogeneous matrix with an orthonormal rotation."""
        m = np.asarray(matrix, dtype=np.float64)
        return cls(m[:3, 3], quaternion_from_rotation(m[:3, :3]))

    @classmethod
    def from_list(cls, values: ArrayLike) -> Pose:
        """Builds a pose from the 7 numbers that `to_list` gives."""
        numbers = _vector(values, 7)
        return cls(numbers[:3], numbers[3:])

    def to_list(self) -> list[float]:
        """Returns x, y, z, qx, qy, qz, qw as Python floats."""
        return [*self.position.tolist(), *self.orientation.tolist()]

    @property
    def is_finite(self) -> bool:
        """True where no number is NaN or infinite and the quaternion is not zero."""
        return self._is_finite

    @cached_property
    def _is_finite(self) -> bool:
        x, y, z, w = self.orientation.tolist()
        finite = all(map(math.isfinite, (*self.position.tolist(), x, y, z, w)))
        return finite and abs(x) + abs(y) + abs(z) + abs(w) > 1e-6

    @property
    def yaw(self) -> float:
        """Rotation about z [rad]."""
        return self._yaw

    @cached_property
    def _yaw(self) -> float:
        x, y, z, w = self.orientation.tolist()
        return float(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))

    @cached_property
    def _rows(self) -> tuple[tuple[float, float, float], ...]:
        """The rows of the rotation matrix."""
        x, y, z, w = self.orientation.tolist()
        n = x * x + y * y + z * z + w * w
        s = 2.0 / n if n > 0 else 0.0
        return (
            (1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)),
            (s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)),
            (s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)),
        )

    def rotation(self) -> NDArray[np.float64]:
        """Returns the (3, 3) float64 rotation matrix."""
        return np.array(self._rows)

    def matrix(self) -> NDArray[np.float64]:
        """Returns the (4, 4) float64 homogeneous matrix."""
        m = np.eye(4)
        m[:3, :3] = self.rotation()
        m[:3, 3] = self.position
        return m

    def rotate(self, vectors: NDArray[np.floating]) -> NDArray[np.float64]:
        """Rotates (N, 3) or (3,) vectors without translating them; float64."""
        v = np.asarray(vectors, dtype=np.float64)
        if v.shape == (3,):
            return np.array(self._rotated(*v.tolist()))
        result = np.empty(v.shape)
        x, y, z = v[..., 0], v[..., 1], v[..., 2]
        for i, (rx, ry, rz) in enumerate(self._rows):
            np.add(rx * x + ry * y, rz * z, out=result[..., i])
        return result

    def _rotated(self, x: float, y: float, z: float) -> list[float]:
        """Rotates one vector; as `rotate`, to the bit, without an array's overhead."""
        return [rx * x + ry * y + rz * z for rx, ry, rz in self._rows]

    def transform(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Maps (N, 3) or (3,) points from frame B to frame A; float64 [m]."""
        result = self.rotate(points)
        result += self.position
        return result

    def inverse(self) -> Pose:
        """Returns `B_T_A`."""
        x, y, z, w = self.orientation.tolist()
        turned = Pose._of([0.0, 0.0, 0.0], [-x, -y, -z, w])
        back = turned._rotated(*self.position.tolist())
        return Pose._of([-v for v in back], [-x, -y, -z, w])

    def __matmul__(self, other: Pose) -> Pose:
        """Composes `A_T_B @ B_T_C` into `A_T_C`; the quaternion is renormalised."""
        ax, ay, az, aw = self.orientation.tolist()
        bx, by, bz, bw = other.orientation.tolist()
        x = aw * bx + ax * bw + ay * bz - az * by
        y = aw * by - ax * bz + ay * bw + az * bx
        z = aw * bz + ax * by - ay * bx + az * bw
        w = aw * bw - ax * bx - ay * by - az * bz
        squared = x * x + y * y + z * z + w * w
        norm = math.sqrt(squared) if squared >= 0.0 else math.nan
        q = [x / norm, y / norm, z / norm, w / norm] if norm > 0 else [x, y, z, w]
        moved = self._rotated(*other.position.tolist())
        return Pose._of([a + b for a, b in zip(moved, self.position.tolist())], q)


def quaternion_from_rotation(rotation: ArrayLike) -> NDArray[np.float64]:
    """Converts a (3, 3) rotation matrix to a unit quaternion x, y, z, w (Shepperd's method)."""
    m = np.asarray(rotation, dtype=np.float64)
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    if trace > 0:
        s = np.sqrt(trace + 1.0) * 2
        q = [(m[2, 1] - m[1, 2]) / s, (m[0, 2] - m[2, 0]) / s, (m[1, 0] - m[0, 1]) / s, 0.25 * s]
    else:
        i = int(np.argmax([m[0, 0], m[1, 1], m[2, 2]]))
        j, k = (i + 1) % 3, (i + 2) % 3
        s = np.sqrt(1.0 + m[i, i] - m[j, j] - m[k, k]) * 2
        q = [0.0, 0.0, 0.0, (m[k, j] - m[j, k]) / s]
        q[i], q[j], q[k] = 0.25 * s, (m[j, i] + m[i, j]) / s, (m[k, i] + m[i, k]) / s
    quaternion = np.array(q)
    return quaternion / np.sqrt((quaternion * quaternion).sum())


def interpolate(start: Pose, end: Pose, fraction: float) -> Pose:
    """Interpolates two poses: position linearly, orientation along the great arc (slerp)."""
    a, b = start.orientation, end.orientation
    dot = float((a * b).sum())
    if dot < 0:
        b, dot = -b, -dot
    if dot > 0.9995:
        q = a + fraction * (b - a)
    else:
        angle = np.arccos(min(dot, 1.0))
        q = (np.sin((1 - fraction) * angle) * a + np.sin(fraction * angle) * b) / np.sin(angle)
    q = q / np.sqrt((q * q).sum())
    return Pose(start.position + fraction * (end.position - start.position), q)

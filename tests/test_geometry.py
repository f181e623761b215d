from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from embodied_mem.geometry import Pose, interpolate, quaternion_from_rotation


def _random_pose(rng: np.random.Generator) -> Pose:
    return Pose(rng.normal(size=3), Rotation.random(random_state=int(rng.integers(2**31))).as_quat())


def test_poses_compose_and_invert_as_matrices_do():
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = _random_pose(rng), _random_pose(rng)
        points = rng.normal(size=(7, 3))
        assert np.allclose((a @ b).matrix(), a.matrix() @ b.matrix())
        assert np.allclose(a.inverse().transform(a.transform(points)), points)
        assert np.allclose(Pose.from_matrix(a.matrix()).matrix(), a.matrix())
        assert np.allclose(Pose.from_list(a.to_list()).matrix(), a.matrix())


def test_rotations_agree_with_scipy():
    rng = np.random.default_rng(1)
    for rotation in Rotation.random(50, random_state=2):
        pose = Pose(np.zeros(3), rotation.as_quat())
        vectors = rng.normal(size=(5, 3))
        assert np.allclose(pose.rotate(vectors), rotation.apply(vectors))
        q = quaternion_from_rotation(rotation.as_matrix())
        assert np.allclose(abs((q * rotation.as_quat()).sum()), 1.0)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
def test_interpolation_agrees_with_slerp(fraction: float):
    rng = np.random.default_rng(3)
    for _ in range(20):
        a, b = _random_pose(rng), _random_pose(rng)
        both = Rotation.from_quat(np.stack([a.orientation, b.orientation]))
        expected = Slerp([0, 1], both)(fraction)
        got = interpolate(a, b, fraction)
        assert np.allclose(got.rotation(), expected.as_matrix(), atol=1e-9)
        assert np.allclose(got.position, a.position + fraction * (b.position - a.position))


def test_half_turns_convert_both_ways():
    for axis in np.eye(3):
        rotation = Rotation.from_rotvec(np.pi * axis)
        assert np.allclose(
            Pose(np.zeros(3), quaternion_from_rotation(rotation.as_matrix())).rotation(), rotation.as_matrix()
        )


def test_a_nan_pose_is_known_as_such():
    assert Pose().is_finite
    assert not Pose(np.array([np.nan, 0, 0])).is_finite
    assert not Pose(np.zeros(3), np.zeros(4)).is_finite

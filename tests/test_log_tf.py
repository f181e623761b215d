"""Transforms: interpolation, the held map frame, and roles found by name and tree."""

from __future__ import annotations

import numpy as np
import pytest

from embodied_mem.errors import LogError
from embodied_mem.geometry import Pose
from embodied_mem.log.tf import Frames, TfBuffer, find_frames

NAN = Pose(np.full(3, np.nan))


def at_x(x: float) -> Pose:
    return Pose(np.array([x, 0.0, 0.0]))


def tree(*links: tuple[str, str], moving: tuple[str, ...] = ()) -> TfBuffer:
    buffer = TfBuffer()
    for parent, child in links:
        buffer.add(parent, child, 0, Pose(), static=child not in moving)
    return buffer


def test_a_moving_link_is_interpolated_and_an_exact_stamp_is_bit_exact() -> None:
    buffer = TfBuffer()
    odd = Pose(np.array([0.1 + 0.2, 1 / 3, 0.0]), np.array([0.1, 0.2, 0.3, 0.927]))
    buffer.add("odom", "base_link", 100, at_x(1.0))
    buffer.add("odom", "base_link", 200, at_x(2.0))
    buffer.add("odom", "base_link", 300, odd)
    middle = buffer.lookup("odom", "base_link", 125)
    assert middle is not None and middle.position[0] == 1.25
    exact = buffer.lookup("odom", "base_link", 300)
    assert exact is not None and exact.to_list() == odd.to_list()


def test_orientation_turns_along_the_shorter_arc() -> None:
    buffer = TfBuffer()
    buffer.add("odom", "base_link", 0, Pose.from_xyz_yaw(0, 0, 0, 0.0))
    end = Pose.from_xyz_yaw(0, 0, 0, 1.0)
    buffer.add("odom", "base_link", 100, Pose(end.position, -end.orientation))
    turned = buffer.lookup("odom", "base_link", 25)
    assert turned is not None and turned.yaw == pytest.approx(0.25, abs=1e-12)


def test_nothing_is_made_up_beyond_the_slack() -> None:
    buffer = TfBuffer()
    buffer.add("odom", "base_link", 100, at_x(1.0))
    buffer.add("odom", "base_link", 200, at_x(2.0))
    assert buffer.lookup("odom", "base_link", 99) is None
    assert buffer.lookup("odom", "base_link", 251, slack=50) is None
    near = buffer.lookup("odom", "base_link", 250, slack=50)
    assert near is not None and near.position[0] == 2.0
    assert not buffer.covers("odom", "base_link", 201) and buffer.covers("odom", "base_link", 200)
    assert buffer.lookup("map", "base_link", 150) is None


def test_transforms_may_come_late_and_out_of_order() -> None:
    buffer = TfBuffer()
    for stamp in (300, 100, 200):
        buffer.add("odom", "base_link", stamp, at_x(stamp))
    pose = buffer.lookup("odom", "base_link", 150)
    assert pose is not None and pose.position[0] == 150
    newest = buffer.newest("odom", "base_link")
    assert newest is not None and newest.position[0] == 200  # the newest received, whatever its stamp


def test_a_path_over_several_links_goes_up_and_down() -> None:
    buffer = TfBuffer()
    buffer.add("base_link", "mast", 0, Pose.from_xyz_yaw(0, 0, 1.0, np.pi / 2), static=True)
    buffer.add("mast", "camera", 0, at_x(0.5), static=True)
    buffer.add("base_link", "arm", 0, at_x(0.2), static=True)
    camera = buffer.lookup("arm", "camera", 12345)
    assert camera is not None
    np.testing.assert_allclose(camera.position, [-0.2, 0.5, 1.0], atol=1e-12)
    back = buffer.lookup("camera", "arm", 12345)
    assert back is not None
    np.testing.assert_allclose((camera @ back).matrix(), np.eye(4), atol=1e-12)


def test_a_pose_that_is_not_a_number_stays_one() -> None:
    buffer = TfBuffer()
    buffer.add("odom", "base_link", 100, at_x(1.0))
    buffer.add("odom", "base_link", 200, NAN)
    between = buffer.lookup("odom", "base_link", 150)
    assert between is not None and not between.is_finite


def test_the_past_is_forgotten() -> None:
    buffer = TfBuffer()
    for i in range(20_000):
        buffer.add("odom", "base_link", i * 5_000_000, at_x(i))  # 200 Hz for 100 s
    assert len(buffer._links["base_link"].stamps) < 10_000
    assert buffer.lookup("odom", "base_link", 95_000_000_000) is not None


def test_a_loop_in_the_tree_is_one_line() -> None:
    with pytest.raises(LogError, match="loop"):
        tree(("a", "b"), ("b", "a")).ancestors("a")


@pytest.mark.parametrize(
    ("links", "moving", "odometry", "expected"),
    [
        pytest.param(
            [("map", "odom"), ("odom", "base_link"), ("base_link", "camera_link"), ("camera_link", "cam")],
            ("odom", "base_link"),
            [],
            Frames("map", "odom", "base_link"),
            id="REP-105",
        ),
        pytest.param(
            [("odom", "base_footprint"), ("base_footprint", "base_link"), ("base_link", "cam")],
            ("base_footprint",),
            [],
            Frames("odom", "odom", "base_link"),
            id="TurtleBot without a map",
        ),
        pytest.param(
            [
                ("map", "odom"),
                ("odom", "zed_camera_link"),
                ("zed_camera_link", "zed_left"),
                ("zed_left", "cam"),
            ],
            ("odom", "zed_camera_link"),
            [],
            Frames("map", "odom", "zed_camera_link"),
            id="ZED",
        ),
        pytest.param(
            [("map", "base_link"), ("base_link", "cam")],
            ("base_link",),
            [],
            Frames("map", "map", "base_link"),
            id="map to base directly",
        ),
        pytest.param(
            [("earth", "map"), ("map", "r1/odom"), ("r1/odom", "r1/base_link"), ("r1/base_link", "cam")],
            ("r1/odom", "r1/base_link"),
            [],
            Frames("map", "r1/odom", "r1/base_link"),
            id="namespaced, on the globe",
        ),
        pytest.param(
            [("utm", "t265_odom_frame"), ("t265_odom_frame", "t265_pose"), ("t265_pose", "cam")],
            ("t265_odom_frame", "t265_pose"),
            [("t265_odom_frame", "t265_pose")],
            Frames("t265_odom_frame", "t265_odom_frame", "t265_pose"),
            id="frames that odometry names",
        ),
        pytest.param(
            [("world", "body"), ("body", "cam")],
            ("body",),
            [],
            Frames("world", "world", "body"),
            id="motion capture",
        ),
        pytest.param(
            [("map", "odom"), ("odom", "base_link"), ("base_link", "pan"), ("pan", "cam")],
            ("odom", "base_link", "pan"),
            [],
            Frames("map", "odom", "base_link"),
            id="a camera that pans",
        ),
    ],
)
def test_frames_are_found_by_role(
    links: list[tuple[str, str]],
    moving: tuple[str, ...],
    odometry: list[tuple[str, str]],
    expected: Frames,
) -> None:
    assert find_frames(tree(*links, moving=moving), "cam", odometry) == expected


def test_a_camera_without_tf_and_a_base_that_nothing_moves_are_one_line() -> None:
    with pytest.raises(LogError, match=r"no TF .*cam"):
        find_frames(tree(("odom", "base_link")), "cam")
    with pytest.raises(LogError, match=r"no TF moves .*base_link"):
        find_frames(tree(("base_link", "camera_link"), ("camera_link", "cam")), "cam")

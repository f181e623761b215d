"""Foreign bags: inputs by type and frame, frames put together by stamp, errors in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_bags import (
    CAMERA,
    OPTICAL,
    MadeBag,
    along_x,
    color_image,
    copy_log,
    depth_image,
    make_bag,
    stamp,
)

from embodied_mem.errors import ConfigError, LogError
from embodied_mem.geometry import Pose
from embodied_mem.log import messages, topics
from embodied_mem.log.world import LoggedWorld
from embodied_mem.types import Intrinsics, Observation


def observe(path: Path, **remap: str) -> tuple[list[Observation], list[str]]:
    with LoggedWorld(path, remap) as world:
        return list(iter(world.observe, None)), list(world.warnings)


def test_a_bag_becomes_observations_in_the_base_frame(tmp_path: Path) -> None:
    observations, warnings = observe(make_bag(tmp_path / "bag.mcap"))
    assert warnings == []
    assert [(o.step, o.stamp, o.is_first) for o in observations] == [
        (i, stamp(100 * i), i == 0) for i in range(5)
    ]
    for i, obs in enumerate(observations):
        (camera,) = obs.cameras
        assert camera.name == "camera" and camera.depth is not None and camera.color is not None
        assert camera.depth.data.dtype == np.float32 and (camera.depth.data == 1.5).all()
        assert (camera.color.data == i).all() and camera.depth.intrinsics == CAMERA
        np.testing.assert_allclose(camera.depth.base_T_camera.position, [0.1, 0, 0.3])
        np.testing.assert_allclose(obs.odom_T_base.position, [i / 10, 0, 0])
        np.testing.assert_allclose(obs.map_T_odom.position, [10, 0, 0])
        assert ("/camera/color/image_raw", obs.stamp) in obs.inputs
    ahead = observations[0].cameras[0].depth
    assert ahead is not None
    np.testing.assert_allclose(
        ahead.base_T_camera.transform(np.array([0, 0, 1.5])), [1.6, 0, 0.3], atol=1e-12
    )


def write_camera(bag: MadeBag, names: dict[str, str], encodings: tuple[str, str], at: float) -> None:
    frame = names.get("frame", "optical")
    depth: Any = depth_image() if encodings[0] == "16UC1" else np.full((6, 8), 1.5, np.float32)
    color = color_image() if encodings[1] != "bgra8" else np.full((6, 8, 4), 100, np.uint8)
    bag.image(names["depth"], depth, encodings[0], frame, at)
    bag.image(names["color"], color, encodings[1], frame, at)
    bag.info(names["depth_info"], CAMERA, frame, at)
    bag.info(names["color_info"], CAMERA, frame, at)


ROBOTS = {
    "RealSense": (
        {
            "depth": "/camera/camera/aligned_depth_to_color/image_raw",
            "depth_info": "/camera/camera/aligned_depth_to_color/camera_info",
            "color": "/camera/camera/color/image_raw",
            "color_info": "/camera/camera/color/camera_info",
        },
        ("16UC1", "rgb8"),
        {"/camera/camera/infra1/image_rect_raw": "mono8", "/camera/camera/depth/image_rect_raw": "16UC1"},
    ),
    "ZED": (
        {
            "depth": "/zed/zed_node/depth/depth_registered",
            "depth_info": "/zed/zed_node/depth/camera_info",
            "color": "/zed/zed_node/rgb/image_rect_color",
            "color_info": "/zed/zed_node/rgb/camera_info",
        },
        ("32FC1", "bgra8"),
        {
            "/zed/zed_node/confidence/confidence_map": "32FC1",
            "/zed/zed_node/disparity/disparity_image": "32FC1",
            "/zed/zed_node/right/image_rect_gray": "mono8",
        },
    ),
    "TurtleBot": (
        {
            "depth": "/oakd/stereo/image_raw",
            "depth_info": "/oakd/stereo/camera_info",
            "color": "/oakd/rgb/preview/image_raw",
            "color_info": "/oakd/rgb/preview/camera_info",
        },
        ("16UC1", "bgr8"),
        {},
    ),
}


@pytest.mark.parametrize("robot", ROBOTS)
def test_inputs_are_found_whatever_they_are_called(tmp_path: Path, robot: str) -> None:
    names, encodings, distractors = ROBOTS[robot]
    with MadeBag(tmp_path / "bag.mcap") as bag:
        bag.static("base_link", "optical", OPTICAL)
        bag.static("base_link", "elsewhere", OPTICAL)
        for i in range(3):
            bag.tf("odom", "base_link", along_x(i), 100 * i)
            for topic, encoding in distractors.items():
                kind = np.float32 if encoding == "32FC1" else np.uint16 if encoding == "16UC1" else np.uint8
                bag.image(topic, np.full((6, 8), 9, kind), encoding, "elsewhere", 100 * i)
                bag.info(f"{topic.rsplit('/', 1)[0]}/camera_info", CAMERA, "elsewhere", 100 * i)
            write_camera(bag, names, encodings, 100 * i)
    observations, _ = observe(tmp_path / "bag.mcap")
    assert len(observations) == 3
    assert {topic for topic, _ in observations[1].inputs} == set(names.values())


def test_remap_overrides_what_is_found(tmp_path: Path) -> None:
    names = {
        "depth": "/a/depth",
        "depth_info": "/a/camera_info",
        "color": "/a/color",
        "color_info": "/a/camera_info",
    }
    other = {
        "depth": "/b/weird",
        "depth_info": "/c/calibration",
        "color": "/b/picture",
        "color_info": "/c/calibration",
    }
    with MadeBag(tmp_path / "bag.mcap") as bag:
        bag.static("base_link", "optical", OPTICAL)
        for i in range(3):
            bag.tf("odom", "base_link", along_x(i), 100 * i)
            write_camera(bag, names, ("16UC1", "rgb8"), 100 * i)
            write_camera(bag, other, ("32FC1", "bgr8"), 100 * i)
    path = tmp_path / "bag.mcap"
    observations, _ = observe(path)
    assert {t for t, _ in observations[0].inputs} == {"/a/depth", "/a/color", "/a/camera_info"}
    observations, _ = observe(path, **other)
    assert {t for t, _ in observations[0].inputs} == set(other.values())
    with pytest.raises(ConfigError, match=r'"dept".*did you mean "depth"'):
        observe(path, dept="/b/weird")
    with pytest.raises(LogError, match=r"no such image topic .*did you mean /b/weird"):
        observe(path, depth="/b/wierd")
    with pytest.raises(LogError, match="which is no depth"):
        observe(path, depth="/a/color")


def test_colour_is_the_nearest_by_stamp_and_none_beyond_the_tolerance(tmp_path: Path) -> None:
    path = make_bag(tmp_path / "depth.mcap", frames=4, color=False)
    with MadeBag(tmp_path / "bag.mcap") as bag:
        later = [(100.0 * i + offset, i) for i, offset in enumerate((-20, 30, 49, 51))]
        optical = "camera_color_optical_frame"
        for at, value in later:
            bag.image("/camera/color/image_raw", color_image(value), "rgb8", optical, max(at, 0) + 120, at)
            bag.info("/camera/color/camera_info", CAMERA, optical, max(at, 0) + 120, at)
        merge_into(bag, path)
    observations, warnings = observe(tmp_path / "bag.mcap")
    assert warnings == []
    colors = [o.cameras[0].color for o in observations]
    assert [None if c is None else int(c.data[0, 0, 0]) for c in colors] == [0, 1, 2, None]


def merge_into(bag: MadeBag, source: Path) -> None:
    from embodied_mem.log.reader import LogReader

    with LogReader(source) as reader:
        for raw in reader.messages():
            bag.raw(raw.topic, reader.topics[raw.topic].type, raw.data, raw.log_time)


def test_odometry_is_interpolated_at_the_stamp_though_it_comes_later(tmp_path: Path) -> None:
    with MadeBag(tmp_path / "bag.mcap") as bag:
        bag.static("base_link", "optical", OPTICAL)
        bag.tf("odom", "base_link", along_x(0), 0)
        bag.info("/d/camera_info", CAMERA, "optical", 30)
        bag.image("/d/depth", depth_image(), "16UC1", "optical", 30)
        bag.tf("odom", "base_link", along_x(1), 100)
    (obs,), warnings = observe(tmp_path / "bag.mcap")
    assert obs.odom_T_base.position[0] == pytest.approx(0.3, abs=1e-12) and warnings == []


def test_the_map_correction_is_the_newest_received_and_held(tmp_path: Path) -> None:
    with MadeBag(tmp_path / "bag.mcap") as bag:
        bag.static("base_link", "optical", OPTICAL)
        for i in range(6):
            at = 100 * i
            if i == 0:
                bag.tf("map", "odom", along_x(10), at)
            if i == 3:  # its stamp lies ahead, as AMCL's does; it holds as soon as it is there
                bag.tf("map", "odom", along_x(20), at, stamped=at + 1000)
            bag.tf("odom", "base_link", along_x(i), at)
            bag.info("/d/camera_info", CAMERA, "optical", at)
            bag.image("/d/depth", depth_image(), "16UC1", "optical", at)
    observations, _ = observe(tmp_path / "bag.mcap")
    assert [o.map_T_odom.position[0] for o in observations] == [10, 10, 10, 20, 20, 20]


def test_frames_before_the_first_localisation_are_left_out_with_a_warning(tmp_path: Path) -> None:
    path = make_bag(tmp_path / "bag.mcap", frames=6, map=False)
    with MadeBag(tmp_path / "late.mcap") as bag:
        merge_into(bag, path)
        bag.tf("map", "odom", along_x(10), 240)
    observations, warnings = observe(tmp_path / "late.mcap")
    assert [o.stamp for o in observations] == [stamp(100 * i) for i in (2, 3, 4, 5)]
    assert warnings == ["2 depth images left out: no map -> odom had come yet"]
    observations, warnings = observe(path)  # no map frame at all: odometry is the map
    assert len(observations) == 6 and warnings == []
    assert all(o.map_T_odom.to_list() == Pose().to_list() for o in observations)


def test_a_map_that_places_the_base_directly_needs_no_odometry(tmp_path: Path) -> None:
    def direct(topic: str, message: Any) -> Any:
        if topic == "/tf":
            message.transforms = [t for t in message.transforms if t.header.frame_id != "map"]
            for item in message.transforms:
                item.header.frame_id = "map"
            return message if message.transforms else None
        return message

    path = copy_log(make_bag(tmp_path / "bag.mcap"), tmp_path / "direct.mcap", direct)
    observations, warnings = observe(path)
    assert len(observations) == 5 and warnings == []
    np.testing.assert_allclose(observations[3].map_T_base.position, [0.3, 0, 0])


def test_an_odometry_topic_stands_in_where_tf_does_not_place_the_base(tmp_path: Path) -> None:
    with MadeBag(tmp_path / "bag.mcap") as bag:
        bag.static("base_link", "optical", OPTICAL)
        for i in range(4):
            at = 100 * i
            covariance = np.eye(6).ravel() * 0.01 * (i + 1)
            bag.odometry("/wheel/odom", along_x(i), at, pose__covariance=covariance)
            bag.info("/d/camera_info", CAMERA, "optical", at)
            bag.image("/d/depth", depth_image(), "16UC1", "optical", at)
    observations, warnings = observe(tmp_path / "bag.mcap")
    assert [o.odom_T_base.position[0] for o in observations] == [0, 1, 2, 3]
    assert warnings == ['no TF places "base_link": its pose is taken from /wheel/odom']
    assert observations[2].covariance is not None and observations[2].covariance[0, 0] == 0.03
    assert ("/wheel/odom", stamp(200)) in observations[2].inputs


def test_a_remapped_odometry_takes_the_place_of_tf(tmp_path: Path) -> None:
    path = make_bag(tmp_path / "bag.mcap")
    with MadeBag(tmp_path / "two.mcap") as bag:
        merge_into(bag, path)
        for i in range(11):
            bag.odometry("/visual/odom", along_x(7 + i), 50 * i)
    observations, _ = observe(tmp_path / "two.mcap")
    assert observations[2].odom_T_base.position[0] == pytest.approx(0.2)
    observations, warnings = observe(tmp_path / "two.mcap", odom="/visual/odom")
    assert observations[2].odom_T_base.position[0] == 11 and warnings == []
    assert observations[2].map_T_odom.position[0] == 10


def test_robots_that_share_frame_names_are_kept_apart_by_namespace(tmp_path: Path) -> None:
    with MadeBag(tmp_path / "fleet.mcap") as bag:
        for at in (0, 100, 200):
            for number, robot in enumerate(("/r1", "/r2")):
                mount = messages.transform("base_link", "optical", OPTICAL, stamp(at))
                bag.put(f"{robot}/tf_static", topics.TF_MESSAGE, messages.tf_message([mount]), at)
                moved = messages.transform("odom", "base_link", along_x(at + 1000 * number), stamp(at))
                bag.put(f"{robot}/tf", topics.TF_MESSAGE, messages.tf_message([moved]), at)
                bag.info(f"{robot}/depth/camera_info", CAMERA, "optical", at)
                bag.image(f"{robot}/depth/image_raw", depth_image(), "16UC1", "optical", at)
    for depth, start in (("/r1/depth/image_raw", 0), ("/r2/depth/image_raw", 1000)):
        observations, _ = observe(tmp_path / "fleet.mcap", depth=depth)
        assert [o.odom_T_base.position[0] for o in observations] == [start, start + 100, start + 200]


def test_a_mount_that_is_not_a_number_is_one_line(tmp_path: Path) -> None:
    with MadeBag(tmp_path / "bag.mcap") as bag:
        bag.static("base_link", "optical", Pose(np.full(3, np.nan)))
        bag.tf("odom", "base_link", Pose(), 0)
        bag.info("/d/camera_info", CAMERA, "optical", 0)
        bag.image("/d/depth", depth_image(), "16UC1", "optical", 0)
    with pytest.raises(LogError, match="base_link -> optical in TF is not finite"):
        observe(tmp_path / "bag.mcap")


def test_the_localisers_covariance_is_the_one_in_the_map_frame(tmp_path: Path) -> None:
    path = make_bag(tmp_path / "bag.mcap")
    with MadeBag(tmp_path / "pose.mcap") as bag:
        for topic, frame, variance in (
            ("/amcl_pose", "map", 0.2),
            ("/initialpose", "map", 0.5),
            ("/vo", "odom", 9),
        ):
            message = messages.make(
                topics.POSE_WITH_COVARIANCE,
                header=messages.header(stamp(120), frame),
                pose=messages.pose_with_covariance(Pose(), np.eye(6) * variance),
            )
            bag.put(topic, topics.POSE_WITH_COVARIANCE, message, 120)
        merge_into(bag, path)
    observations, _ = observe(tmp_path / "pose.mcap")
    variances = [None if o.covariance is None else o.covariance[0, 0] for o in observations]
    assert variances == [None, 0.2, 0.2, 0.2, 0.2]


def test_labels_and_label_images_are_read(tmp_path: Path) -> None:
    from embodied_mem.types import LabelMap

    labels = LabelMap(("unknown", "chair"))
    with MadeBag(tmp_path / "bag.mcap") as bag:
        info = messages.label_info(labels, stamp(0))
        bag.put("/segmentation/label_info", topics.LABEL_INFO, info, 0)
        frame = "camera_color_optical_frame"
        for i in range(5):
            at = 100.0 * i
            bag.image("/segmentation/label_image", np.ones((6, 8), np.uint8), "mono8", frame, at)
            bag.info("/segmentation/camera_info", CAMERA, frame, at)
        merge_into(bag, make_bag(tmp_path / "plain.mcap"))
    observations, _ = observe(tmp_path / "bag.mcap")
    semantic = observations[2].cameras[0].semantic
    assert semantic is not None and (semantic.data == 1).all() and semantic.data.dtype == np.int32
    assert observations[2].labels == labels and observations[2].cameras[0].color is not None


def test_region_and_binning_are_folded_into_the_camera(tmp_path: Path) -> None:
    full = Intrinsics(24, 20, 30.0, 30.0, 11.5, 9.5, "plumb_bob", (0.1, 0.0, 0.0, 0.0, 0.0))
    roi = messages.make(
        "sensor_msgs/msg/RegionOfInterest", x_offset=4, y_offset=2, height=12, width=16, do_rectify=False
    )
    with MadeBag(tmp_path / "bag.mcap") as bag:
        bag.static("base_link", "optical", OPTICAL)
        bag.tf("odom", "base_link", Pose(), 0)
        bag.info("/d/camera_info", full, "optical", 0, roi=roi, binning_x=2, binning_y=2)
        bag.image("/d/depth", depth_image(), "16UC1", "optical", 0)
        bag.image("/d/depth", depth_image(), "16UC1", "optical", 50)
    observations, _ = observe(tmp_path / "bag.mcap")
    camera = observations[0].cameras[0].depth
    assert camera is not None
    assert (camera.intrinsics.width, camera.intrinsics.height, camera.intrinsics.fx) == (8, 6, 15.0)
    assert camera.intrinsics.is_distorted
    assert camera.intrinsics.cx == pytest.approx((11.5 - 4 + 0.5) / 2 - 0.5)


def test_a_rectified_image_is_not_rectified_again(tmp_path: Path) -> None:
    lens = Intrinsics(8, 6, 10.0, 10.0, 3.5, 2.5, "plumb_bob", (0.1, 0.0, 0.0, 0.0, 0.0))
    for name, distorted in (("image_raw", True), ("image_rect", False)):
        path = tmp_path / f"{name}.mcap"
        with MadeBag(path) as bag:
            bag.static("base_link", "optical", OPTICAL)
            bag.tf("odom", "base_link", Pose(), 0)
            bag.info("/depth/camera_info", lens, "optical", 0)
            bag.image(f"/depth/{name}", depth_image(), "16UC1", "optical", 0)
        image = observe(path)[0][0].cameras[0].depth
        assert image is not None and image.intrinsics.is_distorted == distorted


def test_a_bag_without_tf_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="no TF") as caught:
        observe(make_bag(tmp_path / "bag.mcap", tf=False))
    assert "\n" not in str(caught.value) and "bag.mcap" in str(caught.value)


def test_a_bag_without_camera_info_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"no CameraInfo .*depth_info:="):
        observe(make_bag(tmp_path / "bag.mcap", info=False))


def test_an_image_that_contradicts_its_camera_info_is_one_line(tmp_path: Path) -> None:
    path = make_bag(tmp_path / "bag.mcap", camera=Intrinsics(640, 480, 500.0, 500.0, 320.0, 240.0))
    with pytest.raises(LogError, match=r"images of 8x6, but .*camera_info describes a camera of 640x480"):
        observe(path)


def test_an_uncalibrated_camera_is_one_line(tmp_path: Path) -> None:
    path = make_bag(tmp_path / "bag.mcap", camera=Intrinsics(8, 6, 0.0, 0.0, 0.0, 0.0))
    with pytest.raises(LogError, match=r"camera_info: .*not calibrated"):
        observe(path)


def test_odometry_that_is_not_a_number_goes_through(tmp_path: Path) -> None:
    observations, _ = observe(make_bag(tmp_path / "bag.mcap", nan_at=2))
    assert [o.odom_T_base.is_finite for o in observations] == [True, True, False, True, True]


def test_a_damaged_message_costs_itself_and_a_warning(tmp_path: Path) -> None:
    depth = "/camera/aligned_depth_to_color/image_raw"
    count = 0

    def damage(topic: str, message: Any) -> Any:
        nonlocal count
        count += topic == depth
        return message[:40] if topic == depth and count == 3 else message

    path = copy_log(make_bag(tmp_path / "bag.mcap"), tmp_path / "damaged.mcap", damage)
    observations, warnings = observe(path)
    assert len(observations) == 4 and warnings == [f"1 damaged messages on {depth} left out"]


def test_images_that_odometry_never_covers_are_one_line(tmp_path: Path) -> None:
    with MadeBag(tmp_path / "bag.mcap") as bag:
        bag.static("base_link", "optical", OPTICAL)
        bag.tf("odom", "base_link", Pose(), 0)
        for at in (5000, 5100):
            bag.info("/d/camera_info", CAMERA, "optical", at)
            bag.image("/d/depth", depth_image(), "16UC1", "optical", at)
    with pytest.raises(LogError, match="2 depth images left out: no odom -> base_link at their stamp"):
        observe(tmp_path / "bag.mcap")


def test_a_cut_bag_is_replayed_up_to_the_cut(kitchen_bags: dict[str, Path], tmp_path: Path) -> None:
    (whole,) = kitchen_bags["compressed"].glob("*.mcap")
    with whole.open("rb") as source:
        (tmp_path / "cut.mcap").write_bytes(source.read(3_000_000))
    observations, warnings = observe(tmp_path / "cut.mcap")
    assert 10 < len(observations) < 30 and "cut off" in warnings[0]


def test_both_kitchen_bags_give_every_frame(kitchen_bags: dict[str, Path]) -> None:
    for name, count in (("compressed", 100), ("raw", 12)):
        observations, warnings = observe(kitchen_bags[name])
        assert len(observations) == count and warnings == []
        for obs in observations:
            (camera,) = obs.cameras
            assert camera.color is not None and camera.depth is not None
            assert camera.color.data.shape == (480, 640, 3)
            assert camera.depth.intrinsics == Intrinsics(640, 480, 585.0, 585.0, 320.0, 240.0)
            valid = camera.depth.data[camera.depth.data > 0]
            assert valid.size > 200_000 and 0.4 < np.median(valid) < 4.0

"""LiDARs, laser scanners, several cameras, boxes of detectors outside, the robot's own body."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph import Desk
from made_bags import OPTICAL, START, MadeBag, along_x, stamp

from embodied_mem.errors import ConfigError, LogError
from embodied_mem.geometry import Pose
from embodied_mem.log import messages, topics
from embodied_mem.log.boxes import boxes_message, read_boxes
from embodied_mem.log.clouds import cloud
from embodied_mem.log.ranges import ranges_message, read_ranges
from embodied_mem.log.replay import replay
from embodied_mem.log.world import LoggedWorld
from embodied_mem.memory import Memory
from embodied_mem.perception import Perception, PerceptionConfig
from embodied_mem.perception.body import Body
from embodied_mem.perception.clouds import cloud_scan
from embodied_mem.perception.config import BodyConfig, CloudConfig
from embodied_mem.ros.config import RobotConfig, SensorConfig
from embodied_mem.ros.robot_node import RobotNode
from embodied_mem.types import Box, Cloud, Intrinsics, LabelMap, Query, Scan

VIEW = Intrinsics(32, 24, 30.0, 30.0, 15.5, 11.5)
LASER = along_x(0.2)
POINTS, SCAN, BOXES = "/velodyne_points", "/scan", "/yolo/detections"
DEPTH, DEPTH_INFO = "/front/depth/image_raw", "/front/depth/camera_info"
REAR, REAR_INFO = "/rear/depth/image_raw", "/rear/depth/camera_info"
XYZ = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4")])


def laser_scan(ranges: Any, at: float, **changes: Any) -> Any:
    count = len(ranges)
    fields = {
        "angle_min": -np.pi / 4,
        "angle_max": np.pi / 4,
        "angle_increment": np.pi / 2 / max(count - 1, 1),
        "time_increment": 0.0,
        "scan_time": 0.1,
        "range_min": 0.1,
        "range_max": 8.0,
        "intensities": np.zeros(0, np.float32),
    }
    header = messages.header(stamp(at), "laser")
    return messages.make(
        topics.LASER_SCAN, header=header, ranges=np.array(ranges, np.float32), **fields | changes
    )


def lidar(rows: Any, at: float, frame: str = "laser") -> Any:
    made = np.zeros(len(rows), XYZ)
    made["x"], made["y"], made["z"] = np.array(rows, np.float32).reshape(-1, 3).T
    return cloud(made, stamp(at), frame)


def wall() -> list[tuple[float, float, float]]:
    return [(2.0, y, z) for y in np.arange(-0.5, 0.5, 0.03) for z in np.arange(0.0, 0.6, 0.03)]


def depth_of(far: float = 2.0, near: float = 1.2) -> np.ndarray:
    """A wall, with a thing before its middle."""
    image = np.full((24, 32), 1000 * far, np.uint16)
    image[8:16, 12:20] = 1000 * near
    return image


def make(path: Path, fill: Callable[[MadeBag, int], None], frames: int = 8, speed: float = 1.0) -> Path:
    """A robot that drives ahead; `fill` puts in what its sensors say in a frame, every 100 ms."""
    with MadeBag(path) as bag:
        bag.static("base_link", "laser", LASER)
        bag.static("base_link", "front", OPTICAL)
        bag.static("base_link", "rear", Pose.from_xyz_yaw(0.0, 0.0, 0.0, np.pi) @ OPTICAL)
        bag.tf("map", "odom", along_x(10.0), 0)
        for i in range(frames + 1):
            for k in (0, 50):
                bag.tf("odom", "base_link", along_x(speed * (100 * i + k) / 1000), 100 * i + k)
            if i < frames:
                fill(bag, i)
    return path


def put_depth(bag: MadeBag, i: int, topic: str = DEPTH, info: str = DEPTH_INFO, **late: float) -> None:
    at, frame = 100.0 * i + late.get("late", 0.0), topic.split("/")[1]
    bag.info(info, VIEW, frame, 100 * i + 20, at)
    bag.image(topic, depth_of(), "16UC1", frame, 100 * i + 21, at)


def put_scan(bag: MadeBag, i: int, ranges: Any = (1.5,) * 60, late: float = 0.0) -> None:
    bag.put(SCAN, topics.LASER_SCAN, laser_scan(ranges, 100 * i + late), 100 * i + 15)


def put_points(bag: MadeBag, i: int) -> None:
    bag.put(POINTS, topics.POINT_CLOUD, lidar(wall(), 100 * i), 100 * i + 16)


def put_boxes(bag: MadeBag, i: int) -> None:
    box = Box(1, np.array([16.0, 12.0]), np.array([8.0, 8.0]), 0.9)
    message = boxes_message((box,), stamp(100 * i), "front")
    message.detections[0].results[0].hypothesis.class_id = "Coffee Mug"
    bag.put(BOXES, topics.DETECTIONS_2D, message, 100 * i + 10)


def live(bag: Path, tmp_path: Path, sensors: SensorConfig, **settings: Any) -> tuple[Memory, Desk]:
    """A robot that hears a bag, with a log of its own that must replay to the same memory."""
    log = tmp_path / "own.mcap"
    desk = Desk(RobotNode(RobotConfig(sensors=replace(sensors, odom=""), record=str(log), **settings)))
    desk.play(bag)
    memory = desk.node.held.memory
    digest = memory.digest()
    desk.node.closed()
    result = replay(log, verify=True)
    assert result.verified and result.digest == digest
    return memory, desk


def first(bag: Path, **remap: str) -> Any:
    with LoggedWorld(bag, remap) as world:
        return world.observe()


def seen(bag: Path, **remap: str) -> list[Any]:
    with LoggedWorld(bag, remap) as world:
        return list(iter(world.observe, None))


def same_map(memory: Memory, bag: Path, **options: Any) -> bool:
    """True where a replay of a bag knows the same voxels and objects; their stamps are the sensors'."""
    return replay(bag, **options).digest == memory.digest()


# ---- one conversion


def test_a_laser_scan_is_read_as_rep_117_says():
    values = [1.0, np.inf, -np.inf, np.nan, 0.0, 0.05, 9.0, 8.0]
    points, hit = read_ranges(laser_scan(values, 0), SCAN)
    assert hit.tolist() == [True, False, True]  # 1 m, nothing within range, 8 m
    distance = np.sqrt((points.astype(np.float64) ** 2).sum(axis=1))
    assert distance == pytest.approx([1.0, 8.0, 8.0], abs=1e-5)
    assert points.dtype == np.float32 and points[0] == pytest.approx([np.sqrt(0.5), -np.sqrt(0.5), 0.0])
    assert read_ranges(laser_scan([], 0), SCAN)[0].shape == (0, 3)


def test_points_that_are_none_are_left_out_and_a_cloud_without_z_is_refused():
    rows = [(1, 2, 3), (np.nan, 0, 0), (0, 0, 0), (np.inf, 1, 1), (4, 5, 6)]
    points, hit = read_ranges(lidar(rows, 0), POINTS)
    assert points.tolist() == [[1, 2, 3], [4, 5, 6]] and hit.all()
    flat = cloud(np.zeros(3, np.dtype([("x", "<f4"), ("y", "<f4")])), START, "laser")
    with pytest.raises(LogError, match="without x, y and z"):
        read_ranges(flat, POINTS)


def test_what_a_log_holds_of_ranges_and_boxes_is_read_back_bit_for_bit():
    rng = np.random.default_rng(0)
    made = Cloud("lidar", rng.normal(0, 5, (99, 3)).astype(np.float32), rng.random(99) < 0.5, Pose())
    data = messages.serialize(ranges_message(made, START, "lidar"), topics.POINT_CLOUD)
    points, hit = read_ranges(messages.deserialize(data, topics.POINT_CLOUD), "x")
    assert np.array_equal(points, made.points) and np.array_equal(hit, made.hit)
    labels = LabelMap(("unknown", "mug", "cup"))
    boxes = tuple(
        Box(1 + i % 2, rng.random(2) * 99 / 7, rng.random(2) * 31 / 9, rng.random()) for i in range(9)
    )
    data = messages.serialize(boxes_message(boxes, START, "front"), topics.DETECTIONS_2D)
    back, names = read_boxes(messages.deserialize(data, topics.DETECTIONS_2D), labels)
    assert names == labels
    for a, b in zip(boxes, back, strict=True):
        assert (a.label, a.score) == (b.label, b.score)
        assert np.array_equal(a.center, b.center) and np.array_equal(a.size, b.size)


def test_long_rays_are_free_up_to_the_range_and_what_is_too_near_is_left_out():
    points = np.array([[0.05, 0, 0], [3.0, 0, 0], [30.0, 0, 40.0]], np.float32)
    mount = Pose.from_xyz_yaw(1.0, 0.0, 0.5, 0.0)
    scan = cloud_scan(Cloud("l", points, np.ones(3, bool), mount), CloudConfig(min_range=0.1, max_range=10.0))
    assert scan.hit.tolist() == [True, False] and scan.points.tolist() == [[4.0, 0, 0.5], [7.0, 0, 8.5]]
    assert scan.origin is not None and scan.origin.tolist() == [1.0, 0.0, 0.5]


# ---- sensors that drive, and sensors beside a camera


@pytest.mark.parametrize("kind", ["points", "scan"])
def test_a_robot_without_a_camera_maps_by_its_lidar_or_scanner(tmp_path: Path, kind: str):
    bag = make(tmp_path / "bag.mcap", put_points if kind == "points" else put_scan)
    sensors = SensorConfig(
        depth="", color="", points=(POINTS,) * (kind == "points"), scans=(SCAN,) * (kind == "scan")
    )
    memory, desk = live(bag, tmp_path, sensors)
    assert desk.diagnostics()[2]["accepted"] == "8"
    assert same_map(memory, bag)
    centers = memory.octree.voxels().centers
    ahead = 12.2 if kind == "points" else 11.7
    assert len(centers) > 20 and abs(centers[:, 0] - ahead).min() < 0.06
    assert memory.octree.query(np.array([[10.9, 0.0, 0.02]], np.float32))[0] < 0, "no free space before it"


def test_a_scanner_beside_a_camera_is_taken_once_and_where_it_was(tmp_path: Path):
    def fill(bag: MadeBag, i: int) -> None:
        put_depth(bag, i)
        if i % 3 == 0:  # the scanner is slower than the camera, and not of its stamps
            put_scan(bag, i, late=-30.0 if i else 0.0)

    bag = make(tmp_path / "bag.mcap", fill, speed=2.0)
    assert all(not obs.clouds for obs in seen(bag)), "a scanner beside a camera is for who asks for it"
    observations = seen(bag, scan=SCAN)
    assert [len(obs.clouds) for obs in observations] == [1, 0, 0, 1, 0, 0, 1, 0]
    # 30 ms earlier at 2 m/s: the laser was 6 cm further back
    assert observations[3].clouds[0].base_T_sensor.position == pytest.approx([0.2 - 0.06, 0, 0], abs=1e-9)
    assert observations[0].cameras[0].depth is not None
    sensors = SensorConfig(depth=DEPTH, depth_info=DEPTH_INFO, color="", scans=(SCAN,))
    memory, _ = live(bag, tmp_path, sensors)
    assert same_map(memory, bag, remap={"scan": SCAN})


def test_two_cameras_give_one_observation(tmp_path: Path):
    def fill(bag: MadeBag, i: int) -> None:
        put_depth(bag, i)
        if i != 4:
            put_depth(bag, i, REAR, REAR_INFO, late=-10.0 if i else 0.0)

    bag = make(tmp_path / "bag.mcap", fill)
    observations = seen(bag, depth=DEPTH, depth2=REAR)
    assert [len(obs.cameras) for obs in observations] == [2, 2, 2, 2, 1, 2, 2, 2]
    front, rear = observations[3].cameras
    assert (front.name, rear.name) == ("front", "rear")
    assert rear.depth.base_T_camera.position[0] == pytest.approx(-OPTICAL.position[0] - 0.01, abs=1e-9)
    sensors = SensorConfig(
        depth=DEPTH, depth_info=DEPTH_INFO, color="", depths=(REAR,), depth_infos=(REAR_INFO,)
    )
    memory, _ = live(bag, tmp_path, sensors)
    assert same_map(memory, bag, remap={"depth": DEPTH, "depth2": REAR})
    x = memory.octree.voxels().centers[:, 0]
    assert x.max() > 12.0 and x.min() < 8.2, "both walls are in the map"


def test_boxes_of_a_detector_become_objects_with_their_names(tmp_path: Path):
    def fill(bag: MadeBag, i: int) -> None:
        put_boxes(bag, i)
        put_depth(bag, i)

    bag = make(tmp_path / "bag.mcap", fill, speed=0.1)
    obs = first(bag)
    assert obs.labels.names == ("unknown", "coffee mug") and len(obs.cameras[0].boxes) == 1
    sensors = SensorConfig(depth=DEPTH, depth_info=DEPTH_INFO, color="", boxes=BOXES)
    memory, _ = live(bag, tmp_path, sensors)
    assert same_map(memory, bag)
    (mug,) = memory.recall(Query(label="coffee mug", kind="object"))
    # 1.2 m before the camera, which is 0.1 m before the base, which is at 10 m
    assert mug.position[0] == pytest.approx(11.3, abs=0.05) and abs(mug.position[1]) < 0.05


def test_a_sensor_that_falls_silent_delays_one_frame_and_no_more(tmp_path: Path):
    def fill(bag: MadeBag, i: int) -> None:
        if i < 5:
            put_depth(bag, i, REAR, REAR_INFO)
        put_depth(bag, i)

    bag = make(tmp_path / "bag.mcap", fill, frames=40)
    sensors = SensorConfig(
        depth=DEPTH, depth_info=DEPTH_INFO, color="", odom="", depths=(REAR,), depth_infos=(REAR_INFO,)
    )
    desk = Desk(RobotNode(RobotConfig(sensors=sensors)))
    waiting: list[int] = []

    def watch(raw: Any) -> Any:
        waiting.append(int(desk.diagnostics()[2]["waiting"]))
        return raw

    desk.play(bag, watch)
    assert desk.diagnostics()[2]["accepted"] == "40"
    assert max(waiting) >= 10 and max(waiting[-60:]) <= 1


# ---- the robot's own body


def test_the_robots_body_is_left_out_of_all_sensors(tmp_path: Path):
    def fill(bag: MadeBag, i: int) -> None:
        put_depth(bag, i)
        put_scan(bag, i, ranges=[0.4] * 20 + [1.5] * 20)

    bag = make(tmp_path / "bag.mcap", fill, speed=0.0)
    perception = PerceptionConfig(body=BodyConfig((-0.5, -0.5, -0.1), (1.35, 0.5, 0.5)))
    with LoggedWorld(bag, {"scan": SCAN}) as world:
        obs = world.observe()
    assert obs is not None
    whole, bare = Perception()(obs), Perception(perception)(obs)
    box = Body(perception.body)
    counts = [(int(box.contains(a.points).sum()), len(b.points)) for a, b in zip(whole.scans, bare.scans)]
    assert all(inside > 10 for inside, _ in counts)
    assert all(not box.contains(scan.points).any() for scan in bare.scans)
    image = bare.scans[0].image
    assert image is not None and (image.data.reshape(-1)[bare.scans[0].pixels] > 0).all()
    assert np.count_nonzero(image.data) == len(bare.scans[0].points)
    sensors = SensorConfig(depth=DEPTH, depth_info=DEPTH_INFO, color="", scans=(SCAN,))
    memory, _ = live(bag, tmp_path, sensors, perception=perception)
    assert same_map(memory, bag, remap={"scan": SCAN}, perception=perception)
    assert memory.octree.voxels().centers[:, 0].min() > 11.0, "the robot has mapped itself"


def test_a_scan_without_body_is_the_same_scan():
    scan = Scan(np.ones((3, 3), np.float32), np.ones(3, bool), np.zeros(3, np.int32), np.zeros(3))
    percept = Perception()(first_of(scan))
    assert Body(BodyConfig()).without(percept) is percept


def first_of(scan: Scan) -> Any:
    from embodied_mem.types import Observation

    return Observation(START, 0, Pose(), clouds=(Cloud("l", scan.points, scan.hit, Pose()),))


def test_a_mask_hides_the_body_in_a_replay_as_on_the_robot(tmp_path: Path):
    import cv2

    mask = np.zeros((24, 32), np.uint8)
    mask[8:16, 12:20] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    bag = make(tmp_path / "bag.mcap", put_depth)
    sensors = SensorConfig(depth=DEPTH, depth_info=DEPTH_INFO, color="", body_mask=str(tmp_path / "mask.png"))
    memory, _ = live(bag, tmp_path, sensors)
    assert same_map(memory, bag, mask=tmp_path / "mask.png") and not same_map(memory, bag)
    cv2.imwrite(str(tmp_path / "small.png"), mask[:12])
    with pytest.raises(ConfigError, match="the mask is 32x12, the depth images are 32x24"):
        replay(bag, mask=tmp_path / "small.png")


# ---- what cannot be


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": ""}, "a LiDAR's or a laser scanner's"),
        ({"depths": ("/a",)}, "as many depth_infos"),
        ({"depths": ("/a",), "depth_infos": ("/b",), "colors": ("/c",)}, "as many"),
    ],
)
def test_sensors_that_do_not_fit_together_are_told(settings: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        SensorConfig(**settings)


def test_remaps_of_sensors_are_checked(tmp_path: Path):
    bag = make(tmp_path / "bag.mcap", put_depth, frames=2)
    with pytest.raises(LogError, match="no such LaserScan topic"):
        replay(bag, remap={"scan": "/scan"})
    with pytest.raises(ConfigError, match='unknown role "depth22"'):
        replay(bag, remap={"depth22": DEPTH})
    with pytest.raises(LogError, match=r"name one with --remap depth_info2:=TOPIC"):
        replay(make_without_info(tmp_path / "b.mcap"), remap={"depth": DEPTH, "depth2": REAR})


def make_without_info(path: Path) -> Path:
    def fill(bag: MadeBag, i: int) -> None:
        put_depth(bag, i)
        bag.image(REAR, depth_of(), "16UC1", "rear", 100 * i + 21, 100 * i)

    return make(path, fill, frames=2)

"""Nodes without a graph: conversion both ways, parameters, names, and every fault a robot has."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph import Desk
from made_bags import CAMERA, MS, START, MadeBag, color_image, depth_image, make_bag, stamp

from embodied_mem.errors import ConfigError, StoreError
from embodied_mem.geometry import Pose
from embodied_mem.log import messages
from embodied_mem.log.clouds import cloud, read_cloud
from embodied_mem.log.reader import LogReader
from embodied_mem.log.replay import replay
from embodied_mem.memory import Memory, MemoryConfig, ReadConfig
from embodied_mem.ros import percepts
from embodied_mem.ros.config import MemoryNodeConfig, PerceptionNodeConfig, RobotConfig, SensorConfig
from embodied_mem.ros.diagnostics import Health
from embodied_mem.ros.maps import MAPS
from embodied_mem.ros.memory_host import INITIAL_POSE
from embodied_mem.ros.memory_node import MemoryNode
from embodied_mem.ros.names import Names
from embodied_mem.ros.parameters import build, limited, parameters, read_file
from embodied_mem.ros.perception_node import PerceptionNode
from embodied_mem.ros.questions import ANSWER, COMMAND, QUERY
from embodied_mem.ros.robot_node import RobotNode
from embodied_mem.ros.robot_world import RobotWorld
from embodied_mem.ros.tokens import Reading, read_tokens, tokens_message
from embodied_mem.ros.watch import watch_frames
from embodied_mem.types import Command, Detection, Goal, LabelMap, Percept, Scan

SENSORS = SensorConfig(
    depth="/camera/aligned_depth_to_color/image_raw",
    depth_info="/camera/aligned_depth_to_color/camera_info",
    odom="",
)
INFO_TOPIC, DEPTH_TOPIC = SENSORS.depth_info, SENSORS.depth
OK, WARN, ERROR = 0, 1, 2


def percept(step: int = 0, seed: int = 0) -> Percept:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-2, 2, (500, 3)).astype(np.float32)
    scans = tuple(
        Scan(
            points + i,
            rng.random(500) < 0.5,
            rng.integers(0, 3, 500).astype(np.int32),
            np.array([0.1, i, 1 / 3]),
        )
        for i in range(2)
    )
    mug = Detection(
        label=1,
        position=np.array([1 / 3, 0.2, 0.5]),
        extent=np.full(3, 0.1),
        covariance=np.eye(3) / 300,
        score=0.7,
        state="open",
        embedding=rng.random(4).astype(np.float32),
    )
    return Percept(
        stamp=START + step * 100 * MS,
        step=step,
        odom_T_base=Pose.from_xyz_yaw(step / 7, 0.1, 0.0, step / 3),
        map_T_odom=Pose.from_xyz_yaw(1 / 3, 0.0, 0.0, 0.1),
        covariance=np.eye(6) / 700,
        labels=LabelMap(("unknown", "mug", "table")),
        scans=scans,
        detections=(
            mug,
            replace(mug, label=2, state="", embedding=None, position=np.array([-1.0, 1.0, 0.4])),
        ),
        snapshot=rng.integers(0, 255, (8, 6, 3), np.uint8),
        embedding=rng.random(5).astype(np.float32),
        action=np.array([0.1, 1 / 3]),
        reward=1 / 3,
        is_first=step == 0,
        source="rgbd",
    )


def sent(value: Percept, commands: Any = ()) -> list[tuple[str, bytes]]:
    found = percepts.to_messages(value, commands)
    return [(e.topic, messages.serialize(message, e.type)) for e, message in found]


def answers(desk: Desk) -> list[dict[str, Any]]:
    return [json.loads(messages.deserialize(d, ANSWER.type).data) for d in desk.published[ANSWER.topic]]


def ask(desk: Desk, topic: str = QUERY.topic, **content: Any) -> None:
    desk.give(topic, messages.serialize(messages.json_string(content), QUERY.type), desk.time)


def test_percepts_through_messages_make_the_same_memory():
    direct = Memory()
    desk = Desk(MemoryNode(MemoryNodeConfig(memory=direct.config)))
    for step in range(3):
        value = percept(step, seed=step)
        direct.write(value)
        for topic, data in sent(value):
            desk.give(topic, data, START)
    ask(desk, ask="digest", id=7)
    assert answers(desk)[-1] == {"id": 7, "digest": direct.digest(), "sequence": direct.sequence}


def test_a_percept_that_lost_a_part_is_given_up_and_the_next_ones_go_on():
    desk = Desk(MemoryNode(MemoryNodeConfig(patience=0.5)))
    for topic, data in sent(percept(0)):
        if topic != percepts.POINTS.topic:
            desk.give(topic, data, START)
    for topic, data in sent(percept(1)):
        desk.give(topic, data, START)
    assert desk.diagnostics()[2].get("accepted") is None
    desk.tick(START + 10**9)
    assert desk.diagnostics()[2]["accepted"] == "1" and desk.diagnostics()[2]["percepts_lost"] == "1"


def test_parts_that_wait_behind_a_slow_write_are_not_given_up():
    desk = Desk(MemoryNode(MemoryNodeConfig(patience=0.5)))
    desk.time = START + 60 * 10**9  # the worker is a minute late, and its queue is full
    for step in range(3):
        parts = sent(percept(step))
        for i, (topic, data) in enumerate([parts[-1], *parts[:-1]]):
            desk.node._guard(desk.node._do, topic, data, START + step * 100 * MS + i * MS)
    _, _, values = desk.diagnostics()
    assert (values["accepted"], values["percepts_lost"]) == ("3", "0")


def test_commands_travel_with_the_percept_that_they_precede():
    desk = Desk(MemoryNode(MemoryNodeConfig()))
    for step, commands in ((0, ()), (1, (Command("note", {"text": "the kettle is hot"}),))):
        for topic, data in sent(percept(step), commands):
            desk.give(topic, data, START)
    ask(desk, text="kettle")
    assert "kettle" in answers(desk)[-1]["answers"][0]["text"]


def test_every_map_survives_serialisation_and_says_what_the_memory_knows():
    memory = Memory()
    for step in range(3):
        memory.write(percept(step))
    shown = {}
    for endpoint, make in MAPS:
        data = messages.serialize(make(memory, 0.0), endpoint.type)
        shown[endpoint.topic] = messages.deserialize(data, endpoint.type)
        assert messages.serialize(shown[endpoint.topic], endpoint.type) == data
    rows = read_cloud(shown["memory/voxels"])
    assert len(rows) == memory.octree.num_occupied and set(rows["label"]) == {0, 1, 2}
    items = shown["memory/objects"].detections
    assert [i.id for i in items] == [str(o.id) for o in memory.scene.objects()]
    assert {i.results[0].hypothesis.class_id for i in items} == {"mug", "table"}
    words = {m.text for m in shown["memory/object_markers"].markers if m.text}
    assert words == {f"{o.name} #{o.id}" for o in memory.scene.objects()}
    grid, found = shown["memory/grid"], memory.grid_map()
    assert (grid.info.height, grid.info.width) == found.cells.shape
    assert np.array_equal(grid.data.reshape(found.cells.shape), found.cells)
    assert [c.class_name for c in shown["memory/labels"].class_map] == list(memory.labels.names)


def test_tokens_come_back_as_they_were_with_pose_goal_and_pictures():
    memory = Memory(MemoryConfig(read=ReadConfig(crops=(4.8, 19.2))))
    memory.write(percept())
    pose, goal = Pose.from_xyz_yaw(1 / 3, 0.1, 0.0, 0.7), Goal(1, np.array([1 / 3, 2.0, 0.0]), "the mug")
    reading = Reading(memory.read(pose, goal), 5, 3, pose, Pose(), goal, True)
    data = messages.serialize(tokens_message(reading), "std_msgs/msg/String")
    back = read_tokens(messages.deserialize(data, "std_msgs/msg/String"))
    assert (back.stamp, back.step, back.is_first) == (5, 3, True)
    assert back.odom_T_base.to_list() == pose.to_list()
    assert back.goal is not None and (back.goal.label, back.goal.text) == (1, "the mug")
    assert np.array_equal(back.goal.position, goal.position)
    assert reading.tokens.crops is not None and reading.tokens.crops.any()
    for name, value in vars(reading.tokens).items():
        got = getattr(back.tokens, name)
        if name == "place_id":
            assert got == value
        else:
            assert got.dtype == value.dtype and np.array_equal(got, value), name


@pytest.mark.parametrize("big_endian", [False, True])
def test_clouds_of_other_makers_are_read_with_padding_and_in_any_byte_order(big_endian: bool):
    rows = np.zeros(6, np.dtype([("x", "<f4"), ("ring", "<u2"), ("pad", "<u2"), ("t", "<f8")]))
    rows["x"], rows["ring"], rows["t"] = np.arange(6), np.arange(6) * 3, np.arange(6) / 3
    message = cloud(rows.astype(rows.dtype.newbyteorder(">")) if big_endian else rows, START, "lidar")
    message.is_bigendian = big_endian
    padded = np.zeros((2, 3 * 16 + 8), np.uint8)
    padded[:, :48] = np.asarray(message.data).reshape(2, 48)
    message.height, message.width, message.row_step, message.data = 2, 3, 56, padded.reshape(-1)
    back = read_cloud(
        messages.deserialize(
            messages.serialize(message, "sensor_msgs/msg/PointCloud2"), "sensor_msgs/msg/PointCloud2"
        )
    )
    for name in ("x", "ring", "t"):
        assert np.array_equal(back[name], rows[name])


def robot(tmp_path: Path, **changes: Any) -> Desk:
    return Desk(RobotNode(RobotConfig(sensors=replace(SENSORS, **changes.pop("sensors", {})), **changes)))


def test_robot_log_and_replay_have_one_digest(tmp_path: Path):
    log = tmp_path / "run.mcap"
    desk = robot(tmp_path, file=str(tmp_path / "a.emem"), record=str(log))
    desk.play(make_bag(tmp_path / "bag.mcap", frames=8))
    ask(desk, COMMAND.topic, name="note", arguments={"text": "hello"})
    desk.play(
        make_bag(tmp_path / "more.mcap", frames=12), lambda raw: raw if raw.log_time > stamp(800) else None
    )
    ask(desk, ask="digest")
    desk.node.closed()
    result = replay(log, verify=True)
    assert result.verified and result.digest == answers(desk)[-1]["digest"]
    foreign = replay(tmp_path / "bag.mcap")
    assert foreign.frames == 8


def test_perception_and_memory_in_two_processes_agree_with_one(tmp_path: Path):
    bag = make_bag(tmp_path / "bag.mcap", frames=6)
    one = robot(tmp_path)
    one.play(bag)
    eye, mind = (
        Desk(PerceptionNode(PerceptionNodeConfig(sensors=SENSORS))),
        Desk(MemoryNode(MemoryNodeConfig())),
    )
    eye.play(bag)
    for endpoint in percepts.ENDPOINTS:
        for data in eye.published.get(endpoint.topic, []):
            mind.give(endpoint.topic, data, START)
    for desk in (one, mind):
        ask(desk, ask="digest")
    assert answers(one)[-1]["digest"] == answers(mind)[-1]["digest"]
    assert answers(one)[-1]["sequence"] == 6


def test_a_reopened_memory_waits_for_initialpose_unless_the_map_is_the_same(tmp_path: Path):
    bag, file = make_bag(tmp_path / "bag.mcap", frames=12), str(tmp_path / "a.emem")
    first = robot(tmp_path, file=file)
    first.play(bag, lambda raw: raw if raw.log_time < stamp(500) else None)
    first.node.closed()
    later = lambda raw: raw if raw.topic != DEPTH_TOPIC or raw.log_time > stamp(600) else None  # noqa: E731
    lost = robot(tmp_path, file=file)
    lost.play(bag, later)
    level, text, values = lost.diagnostics()
    assert level == WARN and "relocalize" in text and "accepted" not in values
    where = messages.make(
        INITIAL_POSE.type,
        header=messages.header(START, "map"),
        pose=messages.pose_with_covariance(Pose.from_xyz_yaw(10.3, 0.0, 0.0, 0.0)),
    )
    lost.give(INITIAL_POSE.topic, messages.serialize(where, INITIAL_POSE.type), lost.time)
    lost.play(make_bag(tmp_path / "more.mcap", frames=16), later)
    assert int(lost.diagnostics()[2]["accepted"]) > 2
    lost.node.closed()
    same = robot(tmp_path, file=file, same_map=True)
    same.play(make_bag(tmp_path / "most.mcap", frames=20), later)
    assert int(same.diagnostics()[2]["accepted"]) > 2


# ---- faults


def test_tf_that_comes_late_is_waited_for(tmp_path: Path):
    desk = robot(tmp_path)
    held: list[Any] = []

    def late(raw: Any) -> Any:
        if raw.topic != "/tf" or raw.log_time < stamp(100):
            return raw
        held.append(raw)
        if len(held) < 4:
            return None
        return held.pop(0)._replace(log_time=raw.log_time)

    desk.play(make_bag(tmp_path / "bag.mcap", frames=8), late)
    assert desk.diagnostics()[2]["accepted"] == "8"


def test_missing_tf_is_told_and_nothing_is_remembered(tmp_path: Path):
    desk = robot(tmp_path)
    desk.play(make_bag(tmp_path / "bag.mcap"), lambda raw: None if raw.topic.startswith("/tf") else raw)
    level, text, values = desk.diagnostics()
    assert level == WARN and "no odom -> base_link" in text and "accepted" not in values


def test_missing_camera_info_is_told(tmp_path: Path):
    desk = robot(tmp_path)
    desk.play(make_bag(tmp_path / "bag.mcap"), lambda raw: None if raw.topic == INFO_TOPIC else raw)
    level, text, _ = desk.diagnostics()
    assert level == WARN and f"no CameraInfo on {INFO_TOPIC}" in text


def test_an_image_of_another_size_than_its_camera_info_is_told(tmp_path: Path):
    desk = robot(tmp_path)
    desk.play(make_bag(tmp_path / "bag.mcap", camera=replace(CAMERA, width=20)))
    level, text, values = desk.diagnostics()
    assert level == ERROR and "8x6" in text and "20x6" in text and "accepted" not in values


def test_colour_of_another_size_than_depth_does_no_harm(tmp_path: Path):
    bag = make_bag(tmp_path / "bag.mcap", color=False)
    wide = replace(CAMERA, width=16, height=12, cx=7.5, cy=5.5)
    with MadeBag(tmp_path / "color.mcap") as other:
        for i in range(5):
            other.info("/camera/color/camera_info", wide, "camera_color_optical_frame", 100 * i + 40, 100 * i)
            data = np.repeat(np.repeat(color_image(), 2, 0), 2, 1)
            other.image(
                "/camera/color/image_raw", data, "rgb8", "camera_color_optical_frame", 100 * i + 41, 100 * i
            )
    desk = robot(tmp_path)
    rows = []
    for path in (bag, other.path):
        with LogReader(path) as reader:
            rows += list(reader.messages())
    for raw in sorted(rows, key=lambda r: r.log_time):
        desk.give(raw.topic, raw.data, raw.log_time)
    desk.tick(desk.time + 10**10)
    assert desk.diagnostics()[2]["accepted"] == "5"


def shifted(data: bytes, seconds: int) -> bytes:
    (sec,) = struct.unpack_from("<i", data, 4)
    return data[:4] + struct.pack("<i", sec + seconds) + data[8:]


def test_stamps_in_the_future_are_refused_and_told(tmp_path: Path):
    desk = robot(tmp_path)
    bag = make_bag(tmp_path / "bag.mcap")
    desk.play(bag, lambda raw: raw._replace(data=shifted(raw.data, 100)) if raw.topic == DEPTH_TOPIC else raw)
    level, text, values = desk.diagnostics()
    assert level == WARN and "in the future" in text and "accepted" not in values


def test_a_clock_that_jumps_back_starts_the_sensors_anew_and_loses_nothing(tmp_path: Path):
    desk = robot(tmp_path, file=str(tmp_path / "a.emem"))
    late = lambda raw: raw._replace(log_time=raw.log_time + 60 * 10**9, data=raw.data)  # noqa: E731
    bag = make_bag(tmp_path / "bag.mcap", frames=25)
    desk.play(bag)
    before = desk.diagnostics()[2]["accepted"]
    desk.play(bag, late)
    level, text, values = desk.diagnostics()
    assert values["clock_jumps"] == "1" and values["accepted"] == before == "25"
    assert level == WARN and "rejected" in text
    desk.node.closed()
    with Memory.open(tmp_path / "a.emem", read_only=True) as memory:
        assert memory.info()["writes"] == 25


def test_half_of_the_images_lost_leaves_the_other_half(tmp_path: Path):
    desk = robot(tmp_path)
    rng = np.random.default_rng(1)
    kept: list[bool] = []

    def lossy(raw: Any) -> Any:
        if "image" not in raw.topic:
            return raw
        lost = bool(rng.random() < 0.5)
        if raw.topic == DEPTH_TOPIC:
            kept.append(not lost)
        return None if lost else raw

    desk.play(make_bag(tmp_path / "bag.mcap", frames=40), lossy)
    assert 10 < sum(kept) < 30
    assert desk.diagnostics()[2]["accepted"] == str(sum(kept))


def test_a_locked_memory_file_is_told_at_the_start(tmp_path: Path):
    with Memory.open(tmp_path / "a.emem"), pytest.raises(StoreError, match=r"a\.emem"):
        robot(tmp_path, file=str(tmp_path / "a.emem"))


def test_a_full_disk_is_told_and_what_was_durable_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    desk = robot(tmp_path, file=str(tmp_path / "a.emem"))
    bag = make_bag(tmp_path / "bag.mcap", frames=12)
    desk.play(bag, lambda raw: raw if raw.log_time < stamp(500) else None)
    desk.node.serve("memory/flush")

    def full(*_: Any, **__: Any) -> Any:
        raise StoreError("the disk is full; free some space")

    with monkeypatch.context() as broken:
        broken.setattr(Memory, "write", full)
        desk.play(bag, lambda raw: raw if raw.log_time > stamp(500) else None)
    level, text, values = desk.diagnostics()
    assert level == ERROR and "disk is full" in text
    desk.node.closed()
    with Memory.open(tmp_path / "a.emem", read_only=True) as memory:
        assert memory.info()["writes"] == int(values["accepted"]) > 2


def test_too_many_frames_without_tf_do_not_fill_the_memory(tmp_path: Path):
    world = RobotWorld(replace(SENSORS, max_waiting=5, patience=50.0))
    image = messages.image(depth_image(), "16UC1", START, "camera")
    for i in range(50):
        image.header.stamp = messages.time(START + i * MS)
        world.push(DEPTH_TOPIC, messages.serialize(image, "sensor_msgs/msg/Image"), START + i * MS)
    assert world.waiting == 5 and "too many wait for TF" in world.complaints[0]


def test_only_images_that_keep_coming_in_vain_are_complained_of():
    health, world = Health("eye"), RobotWorld(replace(SENSORS, patience=50.0))
    image = messages.image(depth_image(), "16UC1", START, "camera")

    def asked_twice(step: int) -> int:
        image.header.stamp = messages.time(START + step * MS)
        world.push(DEPTH_TOPIC, messages.serialize(image, "sensor_msgs/msg/Image"), START + step * MS)
        watch_frames(health, world)
        watch_frames(health, world)
        return int(health.message(START).status[0].level)

    assert asked_twice(0) == OK, "the camera pauses, as a slow simulator's, before the frame's partners came"
    assert asked_twice(1) == WARN
    assert "wait for odom -> base_link in TF" in health.message(START).status[0].message


def test_the_robots_own_body_is_masked(tmp_path: Path):
    import cv2

    mask = np.zeros((6, 8), np.uint8)
    mask[3:] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    eye = Desk(
        PerceptionNode(PerceptionNodeConfig(sensors=replace(SENSORS, body_mask=str(tmp_path / "mask.png"))))
    )
    whole = Desk(PerceptionNode(PerceptionNodeConfig(sensors=SENSORS)))
    counts = []
    for desk in (eye, whole):
        desk.play(make_bag(tmp_path / "bag.mcap", frames=2))
        found = messages.deserialize(desk.published[percepts.POINTS.topic][0], percepts.POINTS.type)
        counts.append(int(found.width))
    assert counts == [24, 48]


# ---- parameters and names


@dataclass(frozen=True)
class Inner:
    speed: float = limited(1.0, 0.0, 2.0)
    """How fast
    it goes [m/s]."""


def test_parameters_have_names_descriptions_and_ranges():
    found = {p.name: p for p in parameters(Inner())}
    assert found["speed"].description == "How fast it goes [m/s]." and found["speed"].range == (0.0, 2.0)
    names = {p.name: p for p in parameters(RobotConfig())}
    assert names["memory.octree.resolution"].default == 0.05
    assert all(p.description for p in names.values()), [n for n, p in names.items() if not p.description]
    with pytest.raises(ConfigError, match=r"speed must be in 0\.0\.\.2\.0"):
        build(Inner, {"speed": 3.0})
    with pytest.raises(ConfigError, match=r'"memory\.octre".*"octree"'):
        build(RobotConfig, {"memory.octre.resolution": 0.1})
    assert build(RobotConfig, {"sensors.depth": "/d", "maps.period": 2}).maps.period == 2.0


def test_parameter_files_are_those_of_ros(tmp_path: Path):
    path = tmp_path / "p.yaml"
    path.write_text(
        "/**:\n  ros__parameters:\n    file: a.emem\n    sensors: {depth: /d}\n"
        "robot:\n  ros__parameters:\n    file: b.emem\n"
    )
    assert read_file(path, "robot") == {"file": "b.emem", "sensors.depth": "/d"}
    assert read_file(path, "memory") == {"file": "a.emem", "sensors.depth": "/d"}
    path.write_text("robot: {file: a}\n")
    with pytest.raises(ConfigError, match="ros__parameters"):
        read_file(path, "robot")


def test_names_follow_namespace_and_remaps():
    names = Names.parse("/robot1/", ("memory/query:=ask", "/tf:=/robot1/tf"))
    assert names.resolve("memory/answer") == "/robot1/memory/answer"
    assert names.resolve("memory/query") == "/robot1/ask"
    assert names.resolve("/tf") == "/robot1/tf" and names.resolve("/odom") == "/odom"
    with pytest.raises(ConfigError, match="from:=to"):
        Names.parse("", ("a",))

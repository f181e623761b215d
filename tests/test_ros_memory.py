"""What a person or a localiser tells a memory by topic: regions to clear, corrections, goals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph import Desk
from made_bags import START, make_bag, stamp

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.log import messages
from embodied_mem.log.replay import replay
from embodied_mem.memory import Memory, MemoryConfig, OctreeConfig, ReadConfig
from embodied_mem.ros.config import MemoryNodeConfig, RobotConfig, SensorConfig
from embodied_mem.ros.goals import GOAL, GOAL_POSE
from embodied_mem.ros.maps import MAPS
from embodied_mem.ros.memory_host import CLEAR_REGION, CORRECTION
from embodied_mem.ros.memory_node import MemoryNode
from embodied_mem.ros.percepts import to_messages
from embodied_mem.ros.questions import ANSWER, QUERY
from embodied_mem.ros.robot_node import RobotNode
from embodied_mem.ros.tokens import TOKENS, read_tokens
from embodied_mem.types import Command, Detection, LabelMap, Percept, Scan

SENSORS = SensorConfig(
    depth="/camera/aligned_depth_to_color/image_raw",
    depth_info="/camera/aligned_depth_to_color/camera_info",
    odom="",
)
S = 10**9


def wall(step: int) -> Percept:
    """A wall 2 m ahead, 4 m wide, and a mug before it, seen from a robot that moves to the left."""
    y, z = np.meshgrid(np.arange(-2, 2, 0.04) + 0.02, np.arange(0.02, 1.0, 0.04))
    at = 0.3 * step
    points = np.stack([np.full(y.size, 2.02), y.ravel() - at, z.ravel()], axis=1).astype(np.float32)
    mug = Detection(1, np.array([1.8, 1.0 - at, 0.5]), np.full(3, 0.1), np.eye(3) / 400, 0.9)
    return Percept(
        stamp=START + step * S,
        step=step,
        odom_T_base=Pose.from_xyz_yaw(0.0, at, 0.0, 0.0),
        labels=LabelMap(("unknown", "mug")),
        scans=(Scan(points, np.ones(len(points), bool), np.zeros(len(points), np.int32), np.zeros(3)),),
        detections=(mug,),
        is_first=step == 0,
    )


def occupied(memory: Memory) -> np.ndarray:
    return memory.octree.voxels().centers


def polygon(corners: Any, frame: str = "map") -> bytes:
    points = [
        messages.make("geometry_msgs/msg/Point32", x=float(x), y=float(y), z=float(z)) for x, y, z in corners
    ]
    area = messages.make("geometry_msgs/msg/Polygon", points=points)
    message = messages.make(CLEAR_REGION.type, header=messages.header(START, frame), polygon=area)
    return messages.serialize(message, CLEAR_REGION.type)


def path(poses: dict[int, Pose], frame: str = "map") -> bytes:
    items = [
        messages.make(
            "geometry_msgs/msg/PoseStamped", header=messages.header(at, frame), pose=messages.pose(pose)
        )
        for at, pose in poses.items()
    ]
    message = messages.make(CORRECTION.type, header=messages.header(START, frame), poses=items)
    return messages.serialize(message, CORRECTION.type)


def write(desk: Desk, percept: Percept) -> None:
    for endpoint, message in to_messages(percept):
        desk.give(endpoint.topic, messages.serialize(message, endpoint.type), percept.stamp)


TRIANGLE = [(1.5, -1.0), (3.0, -1.0), (3.0, 0.5), (1.5, 0.5)]


def test_a_cleared_region_is_unknown_and_what_is_around_it_stays():
    memory = Memory()
    for step in range(4):
        memory.write(wall(step))
    before = occupied(memory)
    memory.apply(Command("clear_region", {"polygon": TRIANGLE, "low": 0.5, "high": 2.0}))
    after = occupied(memory)
    inside = (before[:, 1] > -1.0) & (before[:, 1] < 0.5) & (before[:, 2] > 0.5)
    assert inside.any() and len(after) == len(before) - inside.sum()
    assert np.isnan(memory.octree.query(before[inside])).all()
    assert not np.isnan(memory.octree.query(before[~inside])).any()
    assert len(memory.scene.objects()) == 1
    memory.apply(Command("clear_region", {"polygon": [(0, 0), (3, 0), (3, 2), (0, 2)], "objects": True}))
    assert not memory.scene.objects()


def test_a_slanted_region_is_cleared_along_its_edge():
    memory = Memory()
    points = np.stack(np.meshgrid(np.arange(0, 2, 0.1) + 0.05, np.arange(0, 2, 0.1) + 0.05, [0.55]), -1)
    points = points.reshape(-1, 3).astype(np.float32)
    scan = Scan(points, np.ones(len(points), bool), np.zeros(len(points), np.int32))
    config = MemoryConfig(octree=OctreeConfig(resolution=0.1))
    memory = Memory(config)
    memory.write(Percept(START, 0, Pose(), scans=(scan,)))
    memory.apply(Command("clear_region", {"polygon": [(0, 0), (2, 0), (0, 2)]}))
    left = occupied(memory)
    expected = points[points[:, 0] + points[:, 1] > 2.0 + 1e-6]
    on_edge = np.isclose(points[:, 0] + points[:, 1], 2.0, atol=1e-3).sum()
    assert len(expected) <= len(left) <= len(expected) + on_edge


def test_what_was_cleared_does_not_come_back_when_the_map_is_put_right(tmp_path: Path):
    file = tmp_path / "a.emem"
    with Memory.open(file) as memory:
        for step in range(6):
            memory.write(wall(step))
        memory.apply(Command("clear_region", {"polygon": TRIANGLE}))
        moved = {START: Pose.from_xyz_yaw(1.0, 0.0, 0.0, 0.0), START + 5 * S: Pose.from_xyz_yaw(1, 1.5, 0, 0)}
        memory.correct(moved)
        for step in range(6, 30):
            later = wall(5)
            memory.write(
                Percept(START + step * S, step, Pose.from_xyz_yaw(1, 1.5, 0, 0), labels=later.labels)
            )
        found = occupied(memory)
    assert found[:, 0].min() > 2.9, "the map was not rebuilt"
    gone = (found[:, 1] > -0.9) & (found[:, 1] < 0.4)
    assert not gone.any() and (found[:, 1] > 0.6).any()
    with Memory.open(file, read_only=True) as again:
        assert np.array_equal(occupied(again), found)


@pytest.mark.parametrize(
    "bad", [[(0, 0), (1, 1)], [(0, 0), (1, 1), (np.nan, 2)], "square", [(0,), (1,), (2,)]]
)
def test_a_region_that_is_none_is_refused(bad: Any):
    memory = Memory()
    memory.write(wall(0))
    with pytest.raises(InputError, match="region needs"):
        memory.apply(Command("clear_region", {"polygon": bad}))


def test_region_and_correction_come_by_topic_and_only_in_the_map_frame():
    desk = Desk(MemoryNode(MemoryNodeConfig()))
    for step in range(4):
        write(desk, wall(step))
    count = len(occupied(desk.node.held.memory))
    desk.give(CLEAR_REGION.topic, polygon([(x, y, 0) for x, y in TRIANGLE], "odom"), START)
    assert 'give it in "map"' in desk.diagnostics()[1] and len(occupied(desk.node.held.memory)) == count
    desk.give(CLEAR_REGION.topic, polygon([(x, y, 0) for x, y in TRIANGLE]), START)
    assert len(occupied(desk.node.held.memory)) < count
    mug = desk.node.held.memory.scene.objects()[0].position
    shift = Pose.from_xyz_yaw(0.5, 0.0, 0.0, 0.0)
    desk.give(CORRECTION.topic, path({START + i * S: shift @ wall(i).odom_T_base for i in range(4)}), START)
    assert desk.node.held.memory.scene.objects()[0].position[0] == pytest.approx(mug[0] + 0.5, abs=1e-6)
    desk.give(CORRECTION.topic, path({}), START)
    assert "needs anchors" in desk.diagnostics()[1]


def test_regions_and_corrections_of_a_run_are_in_its_log(tmp_path: Path):
    log = tmp_path / "run.mcap"
    desk = Desk(RobotNode(RobotConfig(sensors=SENSORS, record=str(log), file=str(tmp_path / "a.emem"))))
    bag = make_bag(tmp_path / "bag.mcap", frames=30)
    desk.play(bag, lambda raw: raw if raw.log_time < stamp(900) else None)
    memory = desk.node.held.memory
    first = memory.episodes.stamps[0]
    shift = Pose.from_xyz_yaw(0.0, 0.4, 0.0, 0.0)
    desk.give(CLEAR_REGION.topic, polygon([(11, -1, 0), (12, -1, 0), (12, 0, 0), (11, 0, 0)]), desk.time)
    here = Pose.from_list(memory.episodes.poses[0])
    desk.give(CORRECTION.topic, path({int(first): shift @ here}), desk.time)
    desk.play(bag, lambda raw: raw if raw.log_time >= stamp(900) else None)
    assert memory.info()["writes"] > 20 and memory.sequence == memory.info()["writes"] + 2
    digest = memory.digest()
    desk.node.closed()
    result = replay(log, verify=True)
    assert result.verified and result.digest == digest


def test_a_command_that_makes_no_sense_costs_no_frame(tmp_path: Path):
    desk = Desk(RobotNode(RobotConfig(sensors=SENSORS)))
    bag = make_bag(tmp_path / "bag.mcap", frames=12)
    desk.play(bag, lambda raw: raw if raw.log_time < stamp(600) else None)
    desk.give(CLEAR_REGION.topic, polygon([(0, 0, 0), (1, 1, 0)]), desk.time)
    assert "region needs three corners" in desk.diagnostics()[1]
    desk.play(bag, lambda raw: raw if raw.log_time >= stamp(600) else None)
    assert desk.diagnostics()[2]["accepted"] == "12"


def test_a_question_flushes_where_there_are_no_services(tmp_path: Path):
    desk = Desk(MemoryNode(MemoryNodeConfig(file=str(tmp_path / "a.emem"))))
    write(desk, wall(0))
    question = messages.json_string({"ask": "flush", "id": 3})
    desk.give(QUERY.topic, messages.serialize(question, QUERY.type), START)
    told = json.loads(messages.deserialize(desk.published[ANSWER.topic][-1], ANSWER.type).data)
    assert told == {"id": 3, "sequence": 1, "durable_sequence": 1}
    desk.node.closed()


def test_a_goal_reaches_the_tokens_and_goes_again():
    desk = Desk(MemoryNode(MemoryNodeConfig()))

    def tell(content: Any) -> None:
        desk.give(GOAL.topic, messages.serialize(messages.json_string(content), GOAL.type), START)

    def newest() -> Any:
        return read_tokens(messages.deserialize(desk.published[TOKENS.topic][-1], TOKENS.type))

    write(desk, wall(0))
    assert newest().goal is None
    tell({"label": 1, "text": "find the mug"})
    write(desk, wall(1))
    reading = newest()
    assert reading.goal.label == 1 and reading.step == 1
    assert reading.tokens.feature[reading.tokens.label == 1, 0].max() == 1.0
    where = messages.make(
        GOAL_POSE.type,
        header=messages.header(START, "map"),
        pose=messages.pose(Pose.from_xyz_yaw(1.0, 2.0, 0.0, 0.0)),
    )
    desk.give(GOAL_POSE.topic, messages.serialize(where, GOAL_POSE.type), START)
    write(desk, wall(2))
    assert newest().goal.position.tolist() == [1.0, 2.0, 0.0]
    where.header.frame_id = "base_link"
    desk.give(GOAL_POSE.topic, messages.serialize(where, GOAL_POSE.type), START)
    assert 'goal_pose is in the frame "base_link"' in desk.diagnostics()[1]
    tell({})
    write(desk, wall(3))
    assert newest().goal is None


def test_maps_carry_the_name_of_the_robots_own_map_frame():
    desk = Desk(MemoryNode(MemoryNodeConfig(map_frame="robot1/map")))
    write(desk, wall(0))
    desk.tick(START + 2 * S)
    for endpoint, _ in MAPS:
        message = messages.deserialize(desk.published[endpoint.topic][-1], endpoint.type)
        frames = {part.header.frame_id for part in getattr(message, "markers", [message])}
        assert frames == {"robot1/map"}, endpoint.topic


def test_what_is_read_of_a_file_is_for_who_drives_now(tmp_path: Path):
    file = str(tmp_path / "a.emem")
    desk = Desk(MemoryNode(MemoryNodeConfig(file=file)))
    write(desk, wall(0))
    digest = desk.node.held.memory.digest()
    desk.node.closed()
    read = ReadConfig(tokens=16, frontiers=2, objects=2, places=2, rooms=1, episodes=1)
    config = MemoryNodeConfig(file=file, same_map=True, memory=MemoryConfig(read=read))
    desk = Desk(MemoryNode(config))
    assert desk.node.held.memory.digest() == digest
    write(desk, wall(1))
    message = messages.deserialize(desk.published[TOKENS.topic][-1], TOKENS.type)
    assert len(read_tokens(message).tokens.id) == 16

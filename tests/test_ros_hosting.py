"""What a host needs of a node, without a graph: settings that change, transitions, and ROS's arguments."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from graph import Desk, Probe, wait_for
from made_bags import make_bag, stamp
from test_ros_nodes import SENSORS

from embodied_mem.errors import ConfigError
from embodied_mem.log import messages
from embodied_mem.log.reader import LogReader
from embodied_mem.memory import Memory, OctreeConfig
from embodied_mem.ros.config import MemoryNodeConfig, MotionConfig, PlayerConfig, RobotConfig
from embodied_mem.ros.names import Names
from embodied_mem.ros.parameters import parameters
from embodied_mem.ros.player_node import PlayerNode
from embodied_mem.ros.questions import ANSWER, QUERY
from embodied_mem.ros.robot_node import RobotNode
from embodied_mem.ros.settings import Settings
from embodied_mem.types import NS_PER_S
from embodied_mem.verbs.ros import fold_ros_arguments, ros, ros_arguments, settings_of_bag

EYES = replace(SENSORS, color="", color_info="", reliable=True)


class Stage:
    """A host that keeps what is published, and runs the node's own worker."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.time = stamp(0)

    def now(self) -> int:
        return self.time

    def publish(self, topic: str, data: bytes) -> None:
        self.published.append((topic, data))

    def listeners(self, topic: str) -> int:
        return 1

    def log(self, level: str, text: str) -> None:
        pass

    def of(self, topic: str) -> list[bytes]:
        return [data for name, data in self.published if name == topic]

    def ask(self, node: Any, **query: Any) -> dict[str, Any]:
        count = len(self.of(ANSWER.topic))
        node.receive(QUERY.topic, messages.serialize(messages.json_string(query), QUERY.type))
        wait_for(lambda: len(self.of(ANSWER.topic)) > count, 20.0)
        answer: dict[str, Any] = json.loads(messages.deserialize(self.of(ANSWER.topic)[-1], ANSWER.type).data)
        return answer


def play(bag: Path, node: Any, stage: Stage) -> None:
    with LogReader(bag) as reader:
        for raw in reader.messages({e.topic for e in node.declaration.subscriptions}):
            stage.time = raw.log_time
            node.receive(raw.topic, raw.data)
    stage.time += 10 * NS_PER_S


# ---- settings


def test_before_a_node_is_configured_all_settings_change_afterwards_the_live_ones_alone():
    settings = Settings(RobotConfig, {"file": "a.emem"})
    settings.change({"memory.octree.resolution": 0.1, "maps.period": 3, "use_sim_time": True}, running=False)
    assert settings.config.memory.octree.resolution == 0.1 and settings.config.file == "a.emem"
    settings.change({"maps.period": 0.5, "control.motion.max_speed": 0.1}, running=True)
    assert (settings.config.maps.period, settings.config.control.motion.max_speed) == (0.5, 0.1)
    with pytest.raises(ConfigError, match=r"memory\.octree\.resolution .*cleanup"):
        settings.change({"maps.period": 9.0, "memory.octree.resolution": 0.2}, running=True)
    with pytest.raises(ConfigError, match=r"maps\.period must be in 0\.05\.\.60"):
        settings.change({"maps.period": 0.0}, running=True)
    assert settings.config.maps.period == 0.5, "a change was let through in part"
    settings.change({"memory.octree.resolution": 0.1}, running=True)  # as it is: no change
    assert settings.values["perception.detector.labels"] == []
    settings.change({"perception.detector.labels": ("mug", "cup")}, running=False)
    assert settings.config.perception.detector.labels == ("mug", "cup")


def test_unknown_settings_name_the_nearest():
    with pytest.raises(ConfigError, match=r'maps\.perod.*"period"'):
        Settings(RobotConfig, {"maps.perod": 1.0})


def test_live_parameters_are_those_that_nodes_take_while_they_run():
    live = {p.name for p in parameters(RobotConfig()) if p.live}
    assert {"maps.period", "maps.min_existence", "sensors.patience", "control.stale"} <= live
    assert {f"control.motion.{name}" for name in ("max_speed", "max_turn", "acceleration")} <= live
    assert not {name for name in live if name.startswith(("memory.", "perception.", "file"))}
    kinds = {p.name: p.kind for p in parameters(RobotConfig())}
    assert (kinds["memory.read.crops"], kinds["perception.detector.labels"]) == (float, str)


# ---- a node's life


def test_a_node_works_while_it_is_active_serves_before_and_keeps_all_between(tmp_path: Path):
    bag, file = make_bag(tmp_path / "bag.mcap", frames=12), tmp_path / "a.emem"
    node, stage = RobotNode(RobotConfig(sensors=EYES, file=str(file), same_map=True)), Stage()
    node.start(stage)
    try:
        assert node.call("memory/flush") == (True, "0 of 0 writes are on the disk")
        node.activate()
        play(bag, node, stage)
        wait_for(lambda: stage.ask(node, ask="info")["writes"] == 12, 20.0)
        node.deactivate()
        count = len(stage.of("memory/grid"))
        assert count
        done, said = node.call("memory/save")
        assert done and said.endswith("12 writes are on the disk")
        assert node.call("memory/lod")[0] is False
        node.activate()
        assert stage.ask(node, ask="info")["writes"] == 12
    finally:
        node.stop()
    with Memory.open(file, read_only=True) as memory:
        assert memory.info()["writes"] == 12


def test_what_was_received_is_worked_off_before_a_node_pauses(tmp_path: Path):
    bag = make_bag(tmp_path / "bag.mcap", frames=6)
    node, stage = RobotNode(RobotConfig(sensors=EYES, file=str(tmp_path / "a.emem"))), Stage()
    node.start(stage)
    node.activate()
    play(bag, node, stage)
    node.deactivate()
    assert node.call("memory/save")[1].endswith("6 writes are on the disk")
    node.stop()


def test_live_settings_reach_what_they_are_for(tmp_path: Path):
    node, stage = RobotNode(RobotConfig(sensors=EYES)), Stage()
    settings = Settings(RobotConfig, {})
    settings.config = node.config
    node.start(stage)
    try:
        node.activate()
        settings.change({"maps.min_existence": 1.0, "sensors.max_waiting": 3}, running=True)
        node.adjust(settings.config)
        assert node.held.maps.min_existence == 1.0 and node.world.config.max_waiting == 3
    finally:
        node.stop()


def test_new_limits_reach_the_wheels():
    from test_ros_drive import MS, driving, odometry

    driver, sent = driving(stale=5.0)
    try:
        driver.act([1.0, 0.0])
        for ms in range(0, 2000, 100):
            odometry(driver, ms)
        assert sent[-1][0] == pytest.approx(0.4)
        config = driver.config
        driver.adjust(type(config)(stale=5.0, motion=MotionConfig(max_speed=0.1)))
        for ms in range(2000, 4000, 100):
            odometry(driver, ms)
        assert sent[-1][0] == pytest.approx(0.1)
        driver.pause()
        assert sent[-1] == (0.0, 0.0)
        odometry(driver, 4100)
        assert sent[-1] == (0.0, 0.0) and MS
    finally:
        driver.close()


def test_a_player_plays_while_it_is_active_and_begins_again(tmp_path: Path):
    bag = make_bag(tmp_path / "bag.mcap", frames=4)
    node, stage = PlayerNode(PlayerConfig(bag=str(bag), rate=100.0)), Stage()
    node.start(stage)
    assert not [t for t, _ in stage.published if t == SENSORS.depth]
    for round_ in (1, 2):
        node.activate()
        wait_for(lambda n=4 * round_: len(stage.of(SENSORS.depth)) == n, 20.0)
        node.deactivate()
    node.stop()
    assert not [t for t in threading.enumerate() if t.name == "play"]


def test_a_node_that_cannot_be_opened_says_so_to_whoever_waits(tmp_path: Path):
    node = Probe()
    assert node.declaration.name == "probe"
    with pytest.raises(ConfigError, match="needs a bag"):
        PlayerNode(PlayerConfig())


def test_a_node_whose_host_hears_nothing_more_is_told_to_have_failed():
    desk = Desk(Probe())
    assert not desk.node.failed.is_set()
    desk.node.fail(OSError("the reader ended"))
    assert desk.node.failed.is_set() and "the reader ended" in desk.logged[-1]
    (status,) = desk.node.health.message(5).status
    assert "the reader ended" in status.message


# ---- ROS's arguments


def test_what_launch_files_add_is_kept_together():
    line = [
        "robot",
        "--host",
        "rclpy",
        "--ros-args",
        "-r",
        "__node:=eye",
        "-p",
        "file:=a b.emem",
        "--",
        "--table",
    ]
    own = fold_ros_arguments(line)
    assert own == ["robot", "--host", "rclpy", "--table", "--ros-args=-r __node:=eye -p 'file:=a b.emem'"]
    assert fold_ros_arguments(["robot", "--set", "a:=b"]) == ["robot", "--set", "a:=b"]
    split = ["--ros-args", "-p", "a:=1", "--", "x", "--ros-args", "-r", "c:=d"]
    assert fold_ros_arguments(split) == ["x", "--ros-args=-p a:=1 -r c:=d"]


def test_names_and_time_are_told_to_ros_as_it_takes_them():
    names = Names.parse("robot1", ("/tf:=tf", "cmd_vel:=/base/cmd_vel"))
    assert ros_arguments(names, True) == [
        *("-r", "/tf:=tf", "-r", "cmd_vel:=/base/cmd_vel", "-r", "__ns:=/robot1", "-p", "use_sim_time:=true")
    ]
    assert ros_arguments(Names(), False) == []


def test_ros_arguments_are_for_ros():
    with pytest.raises(ConfigError, match="--host rclpy"):
        ros("robot", ros_args="-p file:=a.emem")


def test_a_node_takes_topics_frames_and_settings_of_a_bag(tmp_path: Path):
    found = settings_of_bag(make_bag(tmp_path / "bag.mcap"), RobotConfig)
    assert {name: found[f"sensors.{name}"] for name in ("depth", "depth_info", "base_frame")} == {
        "depth": SENSORS.depth,
        "depth_info": SENSORS.depth_info,
        "base_frame": "base_link",
    }
    assert not any(name.startswith("memory.") for name in found), "a foreign bag says nothing of memories"
    log = tmp_path / "run.mcap"
    config = RobotConfig(sensors=EYES, record=str(log))
    config = replace(config, memory=replace(config.memory, octree=OctreeConfig(resolution=0.2)))
    Desk(RobotNode(config)).node.closed()
    assert settings_of_bag(log, MemoryNodeConfig)["memory.octree.resolution"] == 0.2

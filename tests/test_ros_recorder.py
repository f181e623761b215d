"""The recorder and the robot's own log: what was heard replays, kills and full disks cost next to nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph import KITCHEN, Desk, Graph, wait_for
from made_bags import START, make_bag, stamp

from embodied_mem.errors import LogError, StoreError
from embodied_mem.geometry import Pose
from embodied_mem.log import messages, topics
from embodied_mem.log.raw_writer import RawWriter
from embodied_mem.log.reader import LogReader
from embodied_mem.log.replay import replay
from embodied_mem.memory import Memory
from embodied_mem.ros.config import ControlConfig, RecorderConfig, RobotConfig, SensorConfig
from embodied_mem.ros.driving import Brain
from embodied_mem.ros.pilot import TWIST_STAMPED
from embodied_mem.ros.questions import COMMAND
from embodied_mem.ros.recorder_node import RecorderNode
from embodied_mem.ros.robot_node import RobotNode

SENSORS = SensorConfig(
    depth="/camera/aligned_depth_to_color/image_raw",
    depth_info="/camera/aligned_depth_to_color/camera_info",
)
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here to stand for a full disk")


def test_what_the_recorder_heard_replays_to_the_memory_of_the_bag(tmp_path: Path):
    bag, file = make_bag(tmp_path / "bag.mcap", frames=10), tmp_path / "heard.mcap"
    desk = Desk(RecorderNode(RecorderConfig(str(file), sensors=SENSORS)))
    desk.play(bag)
    desk.give(
        COMMAND.topic, messages.serialize(messages.json_string({"name": "note"}), COMMAND.type), desk.time
    )
    desk.node.closed()
    with LogReader(bag) as before, LogReader(file) as after:
        assert not after.warnings
        assert {t: i.count for t, i in after.topics.items() if t != "/memory/command"} == {
            t: i.count for t, i in before.topics.items()
        }
        assert [m.data for m in after.messages(set(before.topics))] == [m.data for m in before.messages()]
    assert replay(file).digest == replay(bag).digest


KILLED = """
import os, signal, sys, time
from embodied_mem.geometry import Pose
from embodied_mem.log import messages, topics
from embodied_mem.log.raw_writer import RawWriter

writer = RawWriter(sys.argv[1], every=0.05)
for i in range(2000):
    data = messages.serialize(messages.odometry(Pose(), 10**9 + i), topics.ODOMETRY)
    writer.write("/odom", topics.ODOMETRY, data, 10**9 + i)
    if i == 1500:
        time.sleep(0.06)
        writer.write("/odom", topics.ODOMETRY, data, 10**9 + i)
        print(writer.count, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_nothing_that_was_flushed(tmp_path: Path):
    file = tmp_path / "cut.mcap"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    with LogReader(file) as log:
        found = sum(1 for _ in log.messages({"/odom"}))
    assert found >= int(done.stdout) == 1502


@needs_full
def test_a_full_disk_ends_the_recording_with_one_clear_line():
    writer = RawWriter(FULL)
    data = messages.serialize(messages.odometry(Pose(), START), topics.ODOMETRY)
    writer.write("/odom", topics.ODOMETRY, data, START)
    with pytest.raises(LogError, match="ends here: No space left on device"):
        writer.flush()
    assert writer.is_closed
    writer.close()


@needs_full
def test_a_recorder_on_a_full_disk_says_so(tmp_path: Path):
    desk = Desk(RecorderNode(RecorderConfig(str(FULL), flush=0.05, sensors=SENSORS)))
    desk.play(make_bag(tmp_path / "bag.mcap", frames=5))
    desk.node.writer._flushed = 0.0
    desk.tick(desk.time)
    desk.play(make_bag(tmp_path / "more.mcap", frames=2))
    level, text, values = desk.diagnostics()
    assert level == 2 and "No space left on device" in " ".join(desk.logged) and int(values["lost"]) > 5
    assert "nothing more is written" in text
    desk.node.closed()


@needs_full
def test_a_robot_whose_log_is_full_says_so_and_goes_on_remembering(tmp_path: Path):
    file = tmp_path / "a.emem"
    desk = Desk(RobotNode(RobotConfig(sensors=replace(SENSORS, odom=""), record=str(FULL), file=str(file))))
    desk.play(make_bag(tmp_path / "bag.mcap", frames=30))
    level, text, values = desk.diagnostics()
    assert level == 2 and "ends here: No space left on device" in text and values["accepted"] == "30"
    desk.node.closed()
    with Memory.open(file, read_only=True) as memory:
        assert memory.info()["writes"] == 30


def test_a_recorded_run_cannot_load_another_past(tmp_path: Path):
    log = tmp_path / "run.mcap"
    desk = Desk(
        RobotNode(
            RobotConfig(sensors=replace(SENSORS, odom=""), record=str(log), file=str(tmp_path / "a.emem"))
        )
    )
    desk.play(make_bag(tmp_path / "bag.mcap", frames=5))
    with pytest.raises(LogError, match="cannot load"):
        desk.node.serve("memory/load")
    digest = desk.node.held.memory.digest()
    desk.node.closed()
    assert replay(log, verify=True).digest == digest


class Ahead:
    """Drives on, whatever it sees."""

    def act(self, obs: Any, tokens: Any, state: Any) -> Any:
        return np.array([0.3, 0.0]), state

    def step(self, action: Any, memory: Any) -> Any:
        return action


def test_a_robot_whose_memory_cannot_be_written_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bag = make_bag(tmp_path / "bag.mcap", frames=30)
    control = ControlConfig(stale=5.0)
    config = RobotConfig(sensors=replace(SENSORS, odom="/odom"), drive=True, control=control)
    driver = Ahead()
    desk = Desk(RobotNode(config, Brain(driver, driver)))

    def wheels() -> list[float]:
        sent = desk.published.get("cmd_vel", ())
        return [messages.deserialize(data, TWIST_STAMPED).twist.linear.x for data in sent]

    def with_odometry(raw: Any) -> Any:
        data = messages.serialize(messages.odometry(Pose(), raw.log_time), topics.ODOMETRY)
        desk.give("/odom", data, raw.log_time)
        return raw

    def full(*_: Any, **__: Any) -> Any:
        desk.node.driving._seen -= 6.0  # as if as much time had gone by
        raise StoreError("the disk is full; free some space")

    desk.play(bag, lambda raw: with_odometry(raw) if raw.log_time < stamp(1500) else None)
    assert wheels()[-1] == pytest.approx(0.3)
    with monkeypatch.context() as broken:
        broken.setattr(Memory, "write", full)
        desk.play(bag, lambda raw: with_odometry(raw) if raw.log_time >= stamp(1500) else None)
    level, text, _ = desk.diagnostics()
    assert wheels()[-1] == 0.0 and level == 2 and "disk is full" in text and "the robot stops" in text
    desk.node.closed()


@pytest.mark.slow
@pytest.mark.data
def test_a_recorder_that_is_killed_in_a_graph_leaves_a_log_that_replays(
    tmp_path: Path, kitchen_bags: dict[str, Path]
):
    pytest.importorskip("cyclonedds", reason="the DDS host needs the cyclonedds wheel (x86-64)")
    graph = Graph(tmp_path)
    try:
        graph.start("recorder", "file:=heard.mcap", "flush:=0.2", *KITCHEN)
        graph.start("player", f"bag:={kitchen_bags['compressed']}", "wait:=60.0")
        wait_for(lambda: size(tmp_path / "heard.mcap") > 1_500_000, 120.0, "nothing was recorded")
        graph.kill("recorder")
    finally:
        graph.close()
    result = replay(tmp_path / "heard.mcap")
    assert result.frames > 5 and any("cut off" in line for line in result.warnings)
    assert result.rejected == 0


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

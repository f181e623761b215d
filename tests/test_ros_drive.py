"""A robot that drives: motions, limits, watchdog, emergency stop, and a house three ways."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph import Graph, Probe, wait_for

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.log import messages
from embodied_mem.log.replay import replay
from embodied_mem.loop import Loop
from embodied_mem.memory import Memory
from embodied_mem.perception import Perception
from embodied_mem.ros.config import ControlConfig, MotionConfig
from embodied_mem.ros.diagnostics import Health
from embodied_mem.ros.driving import Brain, Driving
from embodied_mem.ros.goals import read_goal
from embodied_mem.ros.motion import Motion, MotionExecutor
from embodied_mem.ros.pilot import ESTOP, Hold, Passing, Patient, Pilot, PilotedWorld
from embodied_mem.types import Observation, Query

MS = 1_000_000
SLOW = MotionConfig()


class Base:
    """A differential drive that does what it is told, or nothing."""

    def __init__(self, stuck: bool = False) -> None:
        self.x, self.y, self.yaw, self.stuck = 0.0, 0.0, 3.0, stuck
        self.velocities: list[tuple[float, float]] = []

    @property
    def pose(self) -> Pose:
        return Pose.from_xyz_yaw(self.x, self.y, 0.0, self.yaw)

    def run(self, executor: MotionExecutor, seconds: float, hz: int = 50) -> None:
        start = len(self.velocities)
        for i in range(start, start + round(seconds * hz)):
            v, w = executor.update(self.pose, i * 1000 * MS // hz)
            self.velocities.append((v, w))
            if not self.stuck:
                self.yaw += w / hz
                self.x += v * math.cos(self.yaw) / hz
                self.y += v * math.sin(self.yaw) / hz


@pytest.mark.parametrize("hz", [10, 50, 200])
@pytest.mark.parametrize(
    "motion",
    [Motion(length=0.25), Motion(length=1.5), Motion(angle=0.52), Motion(angle=-3.0), Motion(length=-0.4)],
)
def test_a_motion_ends_where_it_should_within_the_limits(motion: Motion, hz: int):
    base, executor = Base(), MotionExecutor(SLOW)
    executor.begin(motion)
    base.run(executor, 8.0, hz)
    assert not executor.is_busy and executor.gave_up == 0
    ahead = base.x * math.cos(3.0) + base.y * math.sin(3.0)
    assert ahead == pytest.approx(motion.length, abs=SLOW.position_tolerance + 0.4 / hz)
    assert base.yaw - 3.0 == pytest.approx(motion.angle, abs=SLOW.angle_tolerance + 1.0 / hz)
    v = np.array(base.velocities)
    assert np.abs(v[:, 0]).max() <= SLOW.max_speed + 1e-9 and np.abs(v[:, 1]).max() <= SLOW.max_turn + 1e-9
    change = np.abs(np.diff(v, axis=0)).max(axis=0) * hz
    assert change[0] <= SLOW.acceleration * 1.001 and change[1] <= SLOW.turn_acceleration * 1.001


def test_a_robot_that_does_not_move_gives_the_motion_up():
    base, executor = Base(stuck=True), MotionExecutor(SLOW)
    executor.begin(Motion(length=0.25))
    base.run(executor, 4.0)
    assert executor.gave_up == 1 and not executor.is_busy and base.velocities[-1] == (0.0, 0.0)


class Nothing:
    """A policy and controller that are never asked."""

    def act(self, *_: Any) -> Any:
        raise AssertionError

    def step(self, *_: Any) -> Any:
        raise AssertionError


def driving(**changes: Any) -> tuple[Driving, list[tuple[float, float]]]:
    sent: list[tuple[float, float]] = []

    def publish(topic: str, message: Any) -> None:
        if topic == "cmd_vel":
            sent.append((message.twist.linear.x, message.twist.angular.z))

    made = Driving(ControlConfig(**changes), Brain(Nothing(), Nothing()), publish, lambda: 0, Health("t"))
    return made, sent


def odometry(driver: Driving, ms: int) -> None:
    driver.odometry(messages.odometry(Pose(), ms * MS))


def test_the_watchdog_stops_a_robot_whose_odometry_ends():
    driver, sent = driving(stale=0.1)
    driver.act(np.array([0.3, 0.0]))
    for ms in range(0, 1000, 100):
        odometry(driver, ms)
    assert sent[-1][0] == pytest.approx(0.3)
    wait_for(lambda: sent[-1] == (0.0, 0.0), 5.0)
    assert any("no odometry" in line for line in driver.health.news())
    driver.close()


def test_the_emergency_stop_stops_at_once_and_keeps_the_robot():
    driver, sent = driving(stale=5.0)
    driver.act(np.array([0.3, 0.0]))
    for ms in range(0, 1000, 100):
        odometry(driver, ms)
    driver.handle(ESTOP.topic, messages.make(ESTOP.type, data=True))
    assert sent[-1] == (0.0, 0.0)
    driver.act(np.array([0.3, 0.0]))
    odometry(driver, 1100)
    assert sent[-1] == (0.0, 0.0)
    driver.handle(ESTOP.topic, messages.make(ESTOP.type, data=False))
    driver.act(np.array([0.3, 0.0]))
    odometry(driver, 1200)
    assert sent[-1][0] > 0.0
    driver.close()


def test_a_robot_that_sees_nothing_new_slows_to_a_stop():
    driver, sent = driving(stale=0.1)
    driver.act(np.array([0.3, 0.0]))
    driver._seen = time.monotonic()
    for ms in range(0, 1000, 100):
        odometry(driver, ms)
    assert sent[-1][0] == pytest.approx(0.3)
    driver._seen -= 1.0
    for ms in range(1000, 2000, 100):
        odometry(driver, ms)
    assert sent[-1] == (0.0, 0.0)
    driver.close()


def test_the_policy_is_asked_only_when_the_robot_has_done_what_it_was_told():
    class One:
        def act(self, obs: Any, tokens: Any, state: Any) -> Any:
            return 1, state

    pilot = Pilot(SLOW)
    patient = Patient(One(), pilot)
    obs = Observation(0, 0, Pose.from_xyz_yaw(1.0, 2.0, 0.0, 0.0))
    assert patient.act(obs, None, None)[0] == 1  # type: ignore[arg-type]
    pilot.act(1)
    assert isinstance(patient.act(obs, None, None)[0], Hold)  # type: ignore[arg-type]
    assert isinstance(Passing(Nothing()).step(Hold(), None), Hold)  # type: ignore[arg-type]


def test_goals_are_read_or_refused():
    goal = read_goal({"label": 3, "position": [1, 2, 0], "text": "x"})
    assert goal is not None and goal.label == 3 and goal.position is not None and goal.position[1] == 2.0
    assert read_goal({}) is None
    for bad in ([], {"position": [1, 2]}, {"label": "mug"}):
        with pytest.raises(InputError, match="goal"):
            read_goal(bad)


# ---- a house, three ways

ENV, SEED, STEPS = "EmbodiedMem/House-ObjectNav-v0", 7, 600
FAST = {"max_speed": 2.5, "acceleration": 20.0, "max_turn": 5.3, "turn_acceleration": 50.0}


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    pytest.importorskip("cyclonedds", reason="the DDS host needs the cyclonedds wheel (x86-64)")
    made = Graph(tmp_path)
    yield made
    made.close()


def in_process() -> tuple[Memory, dict[str, Any], int]:
    from embodied_mem.sim import make
    from embodied_mem.sim.driven_world import DrivenWorld
    from embodied_mem.verbs.ros_brain import make_brain

    world = DrivenWorld(make(ENV), SEED, STEPS)
    config = ControlConfig(lockstep=True, motion=MotionConfig(**FAST))
    brain, pilot = make_brain(config), Pilot(config.motion, lambda: world.found())
    memory = Memory(world.task.memory_config())
    loop = Loop(
        PilotedWorld(world, pilot),
        Perception(world.task.perception_config()),
        memory,
        Patient(brain.policy, pilot),
        Passing(brain.controller),
    )
    steps = loop.run()
    return memory, world.info, steps


def test_a_house_in_one_process_over_dds_and_replayed_is_the_same_memory(graph: Graph):
    from embodied_mem.ros.dds_host import DdsHost
    from embodied_mem.ros.sim_node import RESULT

    probe = Probe(listen=(RESULT,))
    host = DdsHost(probe, domain=graph.domain)
    host.start()
    try:
        motion = [f"control.motion.{name}:={value}" for name, value in FAST.items()]
        parameters = ["drive:=true", "control.lockstep:=true", "record:=run.mcap", "file:=home.emem", *motion]
        graph.start("robot", *parameters, options=("--world", ENV, "--use-sim-time"))
        graph.start(
            "sim", f"env:={ENV}", f"seed:={SEED}", f"steps:={STEPS}", "lockstep:=true", "speed:=1000.0"
        )
        memory, info, steps = in_process()
        wait_for(lambda: probe.heard[RESULT.topic], 100.0, "the robot did not say that it found its goal")
        result = json.loads(probe.heard[RESULT.topic][-1].data)
        answers = probe.ask(kind="room", k=20)["answers"]
    finally:
        host.stop()
    assert info["success"] and result["success"], "the goal was not reached"
    assert graph.stop("robot") == 0
    assert [a["text"] for a in answers] == [a.text for a in memory.recall(Query(kind="room", k=20))]
    replayed = replay(graph.folder / "run.mcap", verify=True)
    assert replayed.verified and replayed.frames == steps
    with Memory.open(graph.folder / "home.emem", read_only=True) as driven:
        assert driven.digest() == replayed.digest == memory.digest()
        assert [o.name for o in driven.scene.objects()] == [o.name for o in memory.scene.objects()]

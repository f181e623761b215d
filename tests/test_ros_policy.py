"""The policy in a process of its own: tokens in, velocities or goal poses out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph import Desk, Graph, Probe, wait_for

from embodied_mem.errors import ConfigError
from embodied_mem.geometry import Pose
from embodied_mem.log import messages, topics
from embodied_mem.log.outputs import ObservationMessages
from embodied_mem.loop import Loop
from embodied_mem.memory import Memory
from embodied_mem.perception import Perception
from embodied_mem.ros import percepts
from embodied_mem.ros.config import (
    ControlConfig,
    MapConfig,
    MemoryNodeConfig,
    MotionConfig,
    PerceptionNodeConfig,
    PolicyNodeConfig,
    RobotConfig,
    SensorConfig,
)
from embodied_mem.ros.driving import Brain
from embodied_mem.ros.goals import GOAL
from embodied_mem.ros.memory_node import MemoryNode
from embodied_mem.ros.perception_node import PerceptionNode
from embodied_mem.ros.pilot import ESTOP, EVENTS, TWIST_STAMPED, Passing, Patient, Pilot, PilotedWorld
from embodied_mem.ros.policy_node import PolicyNode
from embodied_mem.ros.robot_node import RobotNode
from embodied_mem.ros.sub_goals import SUB_GOAL
from embodied_mem.ros.tokens import TOKENS, Reading, tokens_message
from embodied_mem.types import Goal, MemoryTokens
from embodied_mem.verbs.ros import settings_of
from embodied_mem.verbs.ros_brain import make_brain

pytest.importorskip("open3d")

ENV, SEED, STEPS = "EmbodiedMem/House-ObjectNav-v0", 7, 600
FAST = MotionConfig(max_speed=2.5, acceleration=20.0, max_turn=5.3, turn_acceleration=50.0)
SENSORS = SensorConfig(
    **{
        f"{role}{end}": row.of("head").name
        for role, rows in topics.CAMERA_TOPICS.items()
        for end, row in zip(("", "_info"), rows)
    },
    reliable=True,
)


def new_world(env: str = ENV, seed: int = SEED, steps: int = STEPS) -> Any:
    from embodied_mem.sim import make
    from embodied_mem.sim.driven_world import DrivenWorld

    return DrivenWorld(make(env), seed, steps)


def velocities(desk: Desk) -> list[tuple[float, float]]:
    sent = [messages.deserialize(data, TWIST_STAMPED).twist for data in desk.published.get("cmd_vel", ())]
    return [(twist.linear.x, twist.angular.z) for twist in sent]


class Chain:
    """Perception, memory and policy as nodes of their own, and a simulated robot, without a graph."""

    def __init__(self, world: Any, brain: Brain, control: ControlConfig, memory: Any) -> None:
        task = world.task
        self.world, self.out = world, ObservationMessages()
        eye = PerceptionNodeConfig(sensors=SENSORS, perception=task.perception_config())
        self.eye = Desk(PerceptionNode(eye))
        self.mind = Desk(MemoryNode(MemoryNodeConfig(memory=memory, maps=MapConfig(period=0.05))))
        self.hand = Desk(PolicyNode(PolicyNodeConfig(control=control, sensors=SENSORS), brain))
        self.desks = (self.eye, self.mind, self.hand)
        self.velocities: list[tuple[float, float]] = []

    def run(self, steps: int) -> int:
        """Steps until the robot says that it has found its goal; returns the steps."""
        for step in range(steps):
            obs = self.world.observe()
            if obs is None:
                return step
            for row, message, consumed in self.out.of(obs):
                if consumed or row is not topics.POSE:
                    self._give(GOAL.topic if row.name == "/goal" else row.name, row.type, message, obs.stamp)
            self._pass(self.eye, self.mind, obs.stamp)
            self.mind.tick(obs.stamp)
            self._pass(self.mind, self.hand, obs.stamp)
            if self.hand.published.pop(EVENTS.topic, None):
                self.world.found()
                return step + 1
            self.velocities.append(velocities(self.hand)[-1])
            self.hand.published.clear()
            self.world.act(self.velocities[-1])
        return steps

    def _give(self, topic: str, kind: str, message: Any, stamp: int) -> None:
        data = messages.serialize(message, kind)
        for desk in self.desks:
            for endpoint in desk.node.declaration.subscriptions:
                if endpoint.topic.lstrip("/") == topic.lstrip("/"):
                    desk.give(endpoint.topic, data, stamp)

    def _pass(self, source: Desk, target: Desk, stamp: int) -> None:
        """Hands on what one node published, the maps before the tokens that were read of them."""
        wanted = {e.topic for e in target.node.declaration.subscriptions}
        for topic in sorted(wanted & set(source.published), key=lambda t: t == TOKENS.topic):
            for data in source.published.pop(topic):
                target.give(topic, data, stamp)


def in_process(control: ControlConfig, steps: int = STEPS) -> tuple[Memory, dict[str, Any], int]:
    world = new_world()
    brain, pilot = make_brain(control), Pilot(control.motion, lambda: world.found())
    memory = Memory(world.task.memory_config())
    policy, controller = Patient(brain.policy, pilot), Passing(brain.controller)
    perception = Perception(world.task.perception_config())
    taken = Loop(PilotedWorld(world, pilot), perception, memory, policy, controller).run(steps)
    return memory, world.info, taken


def test_three_nodes_drive_the_house_to_its_goal_as_one_process_does():
    control = ControlConfig(lockstep=True, motion=FAST)
    memory, info, steps = in_process(control)
    world = new_world()
    chain = Chain(world, make_brain(control), control, world.task.memory_config())
    assert chain.run(STEPS) == steps
    assert info["success"] and world.info["success"], "the goal was not reached"
    assert chain.mind.node.held.memory.digest() == memory.digest()
    for desk in chain.desks:
        assert desk.diagnostics()[0] == 0, desk.diagnostics()[1]


# ---- what may go wrong, and what else may drive

START = 10**9


class Ahead:
    """A policy that goes on and on, and keeps what it saw."""

    def __init__(self, action: Any) -> None:
        self.action = action
        self.seen: list[Any] = []

    def act(self, obs: Any, tokens: Any, state: Any) -> Any:
        self.seen.append(obs)
        return self.action, state


class Plain:
    """A controller that passes everything on."""

    def step(self, action: Any, memory: Any) -> Any:
        return action


def driver(action: Any, sees: bool = False, **control: Any) -> tuple[Desk, Ahead]:
    policy = Ahead(action)
    config = PolicyNodeConfig(control=ControlConfig(**control), sensors=SENSORS)
    return Desk(PolicyNode(config, Brain(policy, Plain(), sees=sees))), policy


def tell_tokens(desk: Desk, stamp: int, pose: Pose | None = None, goal: Goal | None = None) -> None:
    reading = Reading(MemoryTokens.empty(4, 4), stamp, 1, pose or Pose(), Pose(), goal)
    desk.give(TOKENS.topic, messages.serialize(tokens_message(reading), TOKENS.type), stamp)


def tell_odometry(desk: Desk, stamp: int) -> None:
    desk.give(SENSORS.odom, messages.serialize(messages.odometry(Pose(), stamp), topics.ODOMETRY), stamp)


def stop_pressed() -> bytes:
    return messages.serialize(messages.make(ESTOP.type, data=True), ESTOP.type)


def test_a_robot_whose_memory_goes_silent_stops_and_says_so():
    desk, _ = driver(np.array([0.3, 0.0]), stale=5.0)
    tell_tokens(desk, START)
    for i in range(10):
        tell_odometry(desk, START + i * 10**8)
    assert max(velocities(desk))[0] == pytest.approx(0.3)
    desk.node.driving._seen -= 6.0
    for i in range(10, 20):
        tell_odometry(desk, START + i * 10**8)
    desk.node._came -= 6.0
    level, text, _ = desk.diagnostics()
    assert velocities(desk)[-1] == (0.0, 0.0) and level == 1 and "no observation for 5.0 s" in text
    assert "is the memory node there?" in text
    desk.node.closed()


def test_a_robot_does_not_drive_by_what_was_so_long_ago():
    desk, policy = driver(np.array([0.3, 0.0]), stale=0.5)
    reading = Reading(MemoryTokens.empty(4, 4), START, 1)
    data = messages.serialize(tokens_message(reading), TOKENS.type)
    desk.give(TOKENS.topic, data, START + 2 * 10**9)  # it waited two seconds behind a slow memory
    tell_odometry(desk, START + 2 * 10**9)
    assert not policy.seen and velocities(desk)[-1] == (0.0, 0.0)
    assert "2.0 s old, too old to drive by" in desk.diagnostics()[1]
    desk.give(TOKENS.topic, data, START + 10**8)
    assert len(policy.seen) == 1
    desk.node.closed()


def test_the_emergency_stop_does_not_wait_for_the_worker():
    desk, _ = driver(np.array([0.3, 0.0]), stale=5.0)
    tell_tokens(desk, START)
    for i in range(10):
        tell_odometry(desk, START + i * 10**8)
    assert velocities(desk)[-1][0] == pytest.approx(0.3)
    # `receive` is the host's thread: no worker runs here, and none is waited for
    desk.node.receive(ESTOP.topic, stop_pressed())
    assert velocities(desk)[-1] == (0.0, 0.0)
    tell_odometry(desk, START + 10**9)
    assert velocities(desk)[-1] == (0.0, 0.0)
    desk.node.closed()


def test_goal_poses_are_sent_as_they_change_and_no_velocities():
    goal = Goal(position=np.array([3.0, 4.0, 0.0]))
    desk, policy = driver(goal, goal_poses=True)

    def sent() -> list[Pose]:
        rows = [messages.deserialize(d, SUB_GOAL.type) for d in desk.published.get(SUB_GOAL.topic, ())]
        assert all(row.header.frame_id == "map" for row in rows)
        return [messages.read_pose(row.pose) for row in rows]

    for i in range(20):
        tell_tokens(desk, START + i * 10**8, Pose.from_xyz_yaw(0.01 * i, 0.0, 0.0, 0.0))
        tell_odometry(desk, START + i * 10**8)
    assert len(sent()) == 1 and sent()[0].position.tolist() == [3.0, 4.0, 0.0]
    assert sent()[0].yaw == pytest.approx(np.arctan2(4.0, 3.0), abs=1e-6)
    policy.action = Goal(position=np.array([-1.0, 0.0, 0.0]))
    tell_tokens(desk, START + 4 * 10**9)
    assert len(sent()) == 2 and abs(sent()[1].yaw) == pytest.approx(np.pi, abs=1e-6)
    here = Pose.from_xyz_yaw(1.0, 0.5, 0.0, 0.2)
    policy.action = 0
    tell_tokens(desk, START + 6 * 10**9, here)
    event = messages.deserialize(desk.published[EVENTS.topic][-1], EVENTS.type)
    assert json.loads(event.data)["event"] == "found" and len(sent()) == 2
    desk.give(ESTOP.topic, stop_pressed(), desk.time)
    assert sent()[-1].to_list() == here.to_list()
    policy.action = goal
    tell_tokens(desk, START + 9 * 10**9)
    assert len(sent()) == 3 and "cmd_vel" not in desk.published
    assert "cmd_vel" not in {e.topic for e in desk.node.declaration.publications}
    desk.node.closed()


def test_a_policy_that_looks_gets_the_images_of_the_very_write():
    desk, policy = driver(1, sees=True)
    world, out, stamps = new_world(steps=8), ObservationMessages(), []
    while (obs := world.observe()) is not None:
        stamps.append(obs.stamp)
        for row, message, _ in out.of(obs):
            for e in desk.node.declaration.subscriptions:
                if e.topic.lstrip("/") == row.name.lstrip("/"):
                    desk.give(e.topic, messages.serialize(message, row.type), obs.stamp)
        if len(stamps) > 2:
            desk.node.driving.pilot.executor.stop()
            tell_tokens(desk, stamps[-3], goal=Goal(2))
        world.act((0.2, 0.5))
    assert [obs.stamp for obs in policy.seen] == stamps[:-2]
    assert all(obs.cameras[0].color is not None and obs.goal.label == 2 for obs in policy.seen)
    tell_tokens(desk, stamps[-1] + 1)
    assert desk.diagnostics()[2]["readings_without_image"] == "1"
    desk.node.closed()


def test_a_pointing_checkpoint_drives_from_another_process(tmp_path: Path):
    pytest.importorskip("torch")
    from embodied_mem.policy import MemoPPO
    from embodied_mem.sim.pointing.pointing import make_pointing

    task = "EmbodiedMem/House-MultiObjectNav-v0"
    sizes = {"n_steps": 8, "width": 32, "layers": 1, "segment_length": 8, "summary_tokens": 2, "seed": 0}
    model = MemoPPO("MemoPolicy", make_pointing(task, goals=1, max_steps=40), **sizes)
    folder = str(model.export(tmp_path / "checkpoint", env_id="EmbodiedMem/House-Pointing-v0"))
    control = ControlConfig(policy=folder, lockstep=True, motion=FAST)
    brain = make_brain(control)
    asked = settings_of("EmbodiedMem/House-Pointing-v0", MemoryNodeConfig)
    assert brain.read is not None and asked["memory.read.crops"] == list(brain.read.crops)
    world = new_world(task, steps=40)
    chain = Chain(world, brain, control, replace(world.task.memory_config(), read=brain.read))
    assert chain.run(40) > 0 and len(set(chain.velocities)) > 2
    assert all(desk.diagnostics()[0] == 0 for desk in chain.desks)
    assert chain.hand.node.loop.state.decisions > 0, "the network was never asked"
    stamp = chain.hand.time
    chain.hand.node.memory.grid_stamp = stamp + 1
    tell_tokens(chain.hand, stamp)
    assert "give the memory node the same memory.read" in chain.hand.diagnostics()[1]
    with pytest.raises(ConfigError, match="drives by itself"):
        make_brain(replace(control, goal_poses=True))


def test_a_robot_is_not_driven_without_a_policy_or_without_odometry():
    with pytest.raises(ConfigError, match='no policy "runs/gone"'):
        make_brain(ControlConfig(policy="runs/gone"))
    blind = replace(SENSORS, odom="")
    brain = Brain(Ahead(1), Plain())
    with pytest.raises(ConfigError, match="needs odometry"):
        PolicyNode(PolicyNodeConfig(sensors=blind), brain)
    with pytest.raises(ConfigError, match="needs odometry"):
        RobotNode(RobotConfig(sensors=blind, drive=True), brain)


# ---- over the wire


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    pytest.importorskip("cyclonedds", reason="the DDS host needs the cyclonedds wheel (x86-64)")
    made = Graph(tmp_path)
    yield made
    made.close()


@pytest.mark.slow
def test_four_processes_drive_a_house_to_its_goal_though_each_dies_once(graph: Graph):
    from embodied_mem.ros.dds_host import DdsHost
    from embodied_mem.ros.sim_node import RESULT

    probe = Probe(listen=(RESULT, percepts.INFO))
    host = DdsHost(probe, domain=graph.domain)
    host.start()
    options = ("--world", ENV, "--use-sim-time")
    motion = [f"control.motion.{name}:={value}" for name, value in vars(FAST).items()]
    nodes = {
        "perception": (),
        "memory": ("file:=home.emem", "same_map:=true", "maps.period:=0.05"),
        "policy": ("control.lockstep:=true", *motion),
    }
    heard = probe.heard[percepts.INFO.topic]

    def moved_on(since: int) -> None:
        wait_for(lambda: len(heard) >= since + 20, 120.0, f"{since} frames, then the robot stands still")

    try:
        for name, parameters in nodes.items():
            graph.start(name, *parameters, options=options if name != "policy" else options[2:])
        graph.start("sim", f"env:={ENV}", f"seed:={SEED}", "lockstep:=true", "speed:=1000.0", "give_up:=4.0")
        for name, parameters in nodes.items():
            moved_on(len(heard))
            graph.kill(name)
            graph.start(name, *parameters, options=options if name != "policy" else options[2:])
        wait_for(lambda: probe.heard[RESULT.topic], 240.0, "the robot did not say that it found its goal")
        result = json.loads(probe.heard[RESULT.topic][-1].data)
    finally:
        host.stop()
    assert result["success"], "the goal was not reached"
    assert graph.stop("memory") == 0
    with Memory.open(graph.folder / "home.emem", read_only=True) as memory:
        assert memory.durable_seq == memory.sequence > 60

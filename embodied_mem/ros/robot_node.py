"""Perception, memory and policy in one process: the loop, over a robot's world, by direct calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from embodied_mem.errors import ConfigError, LogError
from embodied_mem.loop import Identity, Loop, Moment
from embodied_mem.perception import Perception
from embodied_mem.ros import driving, goals
from embodied_mem.ros.config import RobotConfig
from embodied_mem.ros.declaration import Declaration
from embodied_mem.ros.driving import Brain, Driving
from embodied_mem.ros.memory_host import PUBLICATIONS, SERVICES, SUBSCRIPTIONS, MemoryHost
from embodied_mem.ros.node import Node
from embodied_mem.ros.robot_world import RobotWorld, sensor_endpoints
from embodied_mem.ros.run_log import RunLog
from embodied_mem.ros.tokens import TOKENS, Reading, tokens_message
from embodied_mem.ros.watch import watch_disk, watch_frames, watch_memory
from embodied_mem.types import NS_PER_S


class RobotNode(Node):
    """The whole robot in one process: what one node hands to the next never leaves it.

    Args:
        config: settings.
        brain: who drives, where the policy does.
    """

    config: RobotConfig
    urgent = driving.URGENT

    def __init__(self, config: RobotConfig, brain: Brain | None = None) -> None:
        if config.drive and brain is None:
            raise ConfigError("drive:=true needs a policy")
        self.brain = brain if config.drive else None
        if config.drive:
            driving.check(config.control, config.sensors.odom)
        super().__init__(config)

    def declare(self) -> Declaration:
        """Returns the node's table."""
        return Declaration(
            "robot",
            "perception, memory and policy in one process",
            self.config,
            subscriptions=(
                *sensor_endpoints(self.config.sensors),
                *SUBSCRIPTIONS,
                *goals.SUBSCRIPTIONS,
                *(driving.SUBSCRIPTIONS if self.brain else ()),
            ),
            publications=(
                *PUBLICATIONS,
                TOKENS,
                *(driving.publications(self.config.control) if self.brain else ()),
            ),
            services=SERVICES,
        )

    def opened(self) -> None:
        """Opens the memory and the log."""
        c = self.config
        settings = c.memory
        if self.brain is not None and self.brain.read is not None:
            settings = replace(settings, read=self.brain.read)
        self.held = MemoryHost(c.file, settings, c.maps, c.same_map, c.sensors.map_frame)
        self.driving = self._take_the_wheel()
        self.world = RobotWorld(self.config.sensors, self.driving.act if self.driving else None)
        self.recorder: RunLog | None = None
        if c.record:
            self.recorder = RunLog(c.record, self.held.memory, c.perception, self.health)
        listeners: list[Callable[[Moment], None]] = [self._watch]
        if self.recorder is not None:
            listeners.insert(0, self.recorder)
        self.loop = Loop(
            self.world,
            Perception(self.config.perception),
            self.held.memory,
            self.driving.policy if self.driving else None,
            self.driving.controller if self.driving else Identity(),
            listeners,
        )
        self.host.log("info", f"memory: {self.config.file or 'in RAM'}, log: {self.config.record or 'none'}")

    def _take_the_wheel(self) -> Driving | None:
        if self.brain is None:
            return None
        control, frame = self.config.control, self.config.sensors.map_frame
        return Driving(control, self.brain, self.publish, self.host.now, self.health, frame)

    def handle(self, topic: str, data: bytes, arrival: int) -> None:
        """Takes a sensor's message, a question, a command or a goal, and steps the loop."""
        if any(topic == e.topic for e in SUBSCRIPTIONS):
            message = self.decode(topic, data)
            # At once: a command that makes no sense costs no frame, and the log has it before the next step.
            self.held.handle(topic, message, self.publish, self.held.memory.apply)
        elif any(topic == e.topic for e in goals.SUBSCRIPTIONS):
            map_frame = self.config.sensors.map_frame
            self.world.goal = goals.goal_of(topic, self.decode(topic, data), map_frame)
            if self.driving:
                self.driving.goal = self.world.goal
        elif self.driving and any(topic == e.topic for e in driving.SUBSCRIPTIONS):
            self.driving.handle(topic, self.decode(topic, data))
        else:
            if self.driving and topic == self.config.sensors.odom:
                self.driving.odometry(self.decode(topic, data))
            self.world.push(topic, data, arrival)
            self._step()

    def at_once(self, topic: str, data: bytes) -> None:
        """Takes the emergency stop."""
        if self.driving:
            self.driving.handle(topic, self.decode(topic, data))

    def tick(self) -> None:
        """Looks after frames whose patience has ended, and shows the memory."""
        self.world.advance(self.host.now())
        self._step()
        self.held.show(self.host.now(), self.host.listeners, self.publish)

    def adjusted(self, config: RobotConfig) -> None:
        """Takes another patience, look and limits."""
        self.world.adjust(config.sensors)
        self.held.maps = config.maps
        if self.driving:
            self.driving.adjust(config.control)

    def paused(self) -> None:
        """Stops the robot."""
        if self.driving:
            self.driving.pause()

    def _step(self) -> None:
        while self.world.is_ready:
            start = time.perf_counter()
            self.held.place(self.world.next_pose)
            moment = self.loop.step()
            self.health.timed("step", time.perf_counter() - start)
            if self.driving and moment is not None:
                self.driving.observed(moment.obs)
        self.held.show(self.host.now(), self.host.listeners, self.publish)

    def _watch(self, moment: Moment) -> None:
        self.health.count(moment.receipt.verdict)
        lag = (self.host.now() - moment.obs.stamp) / NS_PER_S
        self.health.set("lag_ms", round(1e3 * lag, 1))
        self.health.timed("lag", lag)
        if moment.receipt.verdict != "accepted":
            self.health.warn("rejected", f"step {moment.obs.step} rejected: {moment.receipt.reason}")
        if self.is_wanted(TOKENS.topic):
            obs = moment.obs
            poses = obs.odom_T_base, obs.map_T_odom
            reading = Reading(moment.tokens, obs.stamp, obs.step, *poses, obs.goal, obs.is_first)
            self.publish(TOKENS.topic, tokens_message(reading))

    def serve(self, service: str) -> str:
        """Flushes, saves or loads."""
        if service == "memory/load" and self.recorder is not None:
            raise LogError("a run that is recorded cannot load: its log would tell another story")
        told = self.held.serve(service)
        self.loop.memory = self.held.memory
        return told

    def observe_health(self) -> None:
        """Tells of frames and of the memory's size."""
        watch_frames(self.health, self.world)
        watch_memory(self.health, self.held.memory)
        watch_disk(self.health, self.config.file or self.config.record)
        if self.recorder is not None:
            self.recorder.watch()

    def closed(self) -> None:
        """Ends the log with the memory's digest, and closes the memory: nothing is lost."""
        try:
            if self.driving:
                self.driving.close()
            if self.recorder is not None:
                self.recorder.close(self.held.memory.digest())
        finally:
            self.held.close()

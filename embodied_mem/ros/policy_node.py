"""The policy node: memory tokens and odometry in, velocities out."""

from __future__ import annotations

import dataclasses
import time
from collections import OrderedDict
from typing import Any

from embodied_mem.log import topics
from embodied_mem.loop import Loop
from embodied_mem.ros import driving
from embodied_mem.ros.config import PolicyNodeConfig
from embodied_mem.ros.declaration import STREAM, Declaration, Endpoint
from embodied_mem.ros.driving import Brain, Driving
from embodied_mem.ros.node import Node
from embodied_mem.ros.remote_memory import GRID, VOXELS, RemoteMemory
from embodied_mem.ros.robot_world import RobotWorld, sensor_endpoints
from embodied_mem.ros.tokens import TOKENS, Reading, read_tokens
from embodied_mem.types import Observation, Percept

MAP_WAIT_S = 0.5
"""How long [s] a reading waits for its map where every step is waited for."""
WAIT_S = 5.0
"""Longer than this [s] without tokens is told."""
KEPT = 60
"""Observations that may wait for their tokens."""


class TokenWorld:
    """Gives an observation for every reading of a memory: its pose and goal, and images where they are seen.

    Args:
        driving: carries out actions.
        sensors: gives the images, or None.
    """

    def __init__(self, driving: Driving, sensors: RobotWorld | None) -> None:
        self._driving, self.sensors = driving, sensors
        self._seen: OrderedDict[int, Observation] = OrderedDict()
        self._next: Observation | None = None

    def take(self, reading: Reading) -> bool:
        """Takes a reading; False where its images have not come."""
        obs = Observation(reading.stamp, reading.step, reading.odom_T_base, reading.map_T_odom)
        if self.sensors is not None:
            while (found := self.sensors.observe()) is not None:
                self._seen[found.stamp] = found
            while len(self._seen) > KEPT:
                self._seen.popitem(last=False)
            if reading.stamp not in self._seen:
                return False
            obs = self._seen.pop(reading.stamp)
        self._next = dataclasses.replace(
            obs, goal=reading.goal, step=reading.step, is_first=reading.is_first, commands=()
        )
        return True

    def observe(self) -> Observation | None:
        """Returns the newest observation once."""
        obs, self._next = self._next, None
        return obs

    def act(self, action: Any) -> None:
        """Carries an action out."""
        self._driving.act(action)


def _as_percept(obs: Observation) -> Percept:
    return Percept(obs.stamp, obs.step, obs.odom_T_base, obs.map_T_odom)


class PolicyNode(Node):
    """Drives a robot by what another node's memory shows.

    Args:
        config: settings.
        brain: who decides.
    """

    config: PolicyNodeConfig
    urgent = driving.URGENT

    def __init__(self, config: PolicyNodeConfig, brain: Brain) -> None:
        driving.check(config.control, config.sensors.odom)
        self.brain = brain
        super().__init__(config)

    def declare(self) -> Declaration:
        """Returns the node's table."""
        control, odom = self.config.control, self.config.sensors.odom
        seen: tuple[Endpoint, ...] = (Endpoint(odom, topics.ODOMETRY, STREAM, "odometry"),) if odom else ()
        return Declaration(
            "policy",
            "memory tokens into velocities",
            self.config,
            subscriptions=(
                *(sensor_endpoints(self.config.sensors) if self.brain.sees else seen),
                TOKENS,
                GRID,
                *((VOXELS,) if self.brain.read is not None else ()),
                *driving.SUBSCRIPTIONS,
            ),
            publications=driving.publications(control),
        )

    def opened(self) -> None:
        """Takes the wheel."""
        sensors = self.config.sensors
        self.driving = Driving(
            self.config.control, self.brain, self.publish, self.host.now, self.health, sensors.map_frame
        )
        self.memory = RemoteMemory(self.brain.read)
        self._reading: Reading | None = None
        self._came = time.monotonic()
        self.world = TokenWorld(self.driving, RobotWorld(sensors) if self.brain.sees else None)
        held: Any = self.memory
        self.loop = Loop(self.world, _as_percept, held, self.driving.policy, self.driving.controller)
        self.host.log("info", f"policy: {self.config.control.policy}")

    def handle(self, topic: str, data: bytes, arrival: int) -> None:
        """Takes what the memory shows, odometry, the emergency stop, or a sensor's message."""
        if topic == TOKENS.topic:
            self._reading, self._came = read_tokens(self.decode(topic, data)), time.monotonic()
            self._decide()
        elif topic in (GRID.topic, VOXELS.topic):
            self.memory.show(topic, self.decode(topic, data))
            self._decide()
        elif any(topic == e.topic for e in driving.SUBSCRIPTIONS):
            self.driving.handle(topic, self.decode(topic, data))
        else:
            if topic == self.config.sensors.odom:
                self.driving.odometry(self.decode(topic, data))
            if self.world.sensors is not None:
                self.world.sensors.push(topic, data, arrival)

    def at_once(self, topic: str, data: bytes) -> None:
        """Takes the emergency stop."""
        self.driving.handle(topic, self.decode(topic, data))

    def adjusted(self, config: PolicyNodeConfig) -> None:
        """Takes other limits and patience."""
        self.driving.adjust(config.control)
        if self.world.sensors is not None:
            self.world.sensors.adjust(config.sensors)

    def paused(self) -> None:
        """Stops the robot."""
        self.driving.pause()

    def _decide(self) -> None:
        """Steps the loop by a reading, in lockstep once the map that goes with it is there."""
        reading, control = self._reading, self.config.control
        if reading is None:
            return
        is_late = self.memory.grid_stamp < reading.stamp
        if control.lockstep and is_late and time.monotonic() - self._came < MAP_WAIT_S:
            return
        self._reading = None
        start = time.perf_counter()
        self.memory.take(reading)
        if not self.world.take(reading):
            self.health.count("readings_without_image")
            return
        self.driving.goal = reading.goal
        moment = self.loop.step()
        self.health.timed("decide", time.perf_counter() - start)
        self.health.set("lag_ms", round((self.host.now() - reading.stamp) / 1e6, 1))
        if moment is not None:
            self.driving.observed(moment.obs)

    def tick(self) -> None:
        """Looks after frames and readings whose patience has ended."""
        self._decide()
        if self.world.sensors is not None:
            self.world.sensors.advance(self.host.now())

    def observe_health(self) -> None:
        """Tells where the robot waits for its memory."""
        silent = time.monotonic() - self._came
        if silent > WAIT_S:
            self.health.warn("tokens", f"no {TOKENS.topic} for {silent:.0f} s: is the memory node there?")

    def closed(self) -> None:
        """Stops the robot."""
        self.driving.close()

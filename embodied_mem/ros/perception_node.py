"""The perception node: camera, TF and odometry in, percepts out."""

from __future__ import annotations

import time

from embodied_mem.perception import Perception
from embodied_mem.ros import percepts
from embodied_mem.ros.config import PerceptionNodeConfig
from embodied_mem.ros.declaration import Declaration
from embodied_mem.ros.node import Node
from embodied_mem.ros.robot_world import RobotWorld, sensor_endpoints
from embodied_mem.ros.watch import watch_frames


class PerceptionNode(Node):
    """Turns a robot's sensors into percepts."""

    config: PerceptionNodeConfig

    def declare(self) -> Declaration:
        """Returns the node's table."""
        return Declaration(
            "perception",
            "RGB-D images and TF into percepts",
            self.config,
            subscriptions=sensor_endpoints(self.config.sensors),
            publications=percepts.ENDPOINTS,
        )

    def opened(self) -> None:
        """Starts with no frames seen."""
        self.world = RobotWorld(self.config.sensors)
        self.perception = Perception(self.config.perception)

    def handle(self, topic: str, data: bytes, arrival: int) -> None:
        """Takes a sensor's message, and publishes what became complete by it."""
        self.world.push(topic, data, arrival)
        self._publish()

    def tick(self) -> None:
        """Looks after frames whose patience has ended."""
        self.world.advance(self.host.now())
        self._publish()

    def adjusted(self, config: PerceptionNodeConfig) -> None:
        """Takes other patience."""
        self.world.adjust(config.sensors)

    def _publish(self) -> None:
        while (obs := self.world.observe()) is not None:
            start = time.perf_counter()
            percept = self.perception(obs)
            for endpoint, message in percepts.to_messages(percept, obs.commands):
                self.publish(endpoint.topic, message)
            self.health.count("frames")
            self.health.timed("perceive", time.perf_counter() - start)

    def observe_health(self) -> None:
        """Tells of frames that wait or were left out."""
        watch_frames(self.health, self.world)

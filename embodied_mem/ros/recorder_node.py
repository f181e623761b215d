"""The recorder: what the other nodes hear, as an MCAP file."""

from __future__ import annotations

from embodied_mem.log.raw_writer import RawWriter
from embodied_mem.log.writer import qos_profile
from embodied_mem.ros import driving, goals, memory_host
from embodied_mem.ros.config import RecorderConfig
from embodied_mem.ros.declaration import Declaration
from embodied_mem.ros.node import Node
from embodied_mem.ros.robot_world import sensor_endpoints
from embodied_mem.ros.watch import watch_disk


class RecorderNode(Node):
    """Writes sensors, questions, commands and goals as they come, under their names in the graph."""

    config: RecorderConfig

    def declare(self) -> Declaration:
        """Returns the node's table."""
        return Declaration(
            "recorder",
            "what the other nodes hear, as an MCAP file",
            self.config,
            subscriptions=(
                *sensor_endpoints(self.config.sensors),
                *memory_host.SUBSCRIPTIONS,
                *goals.SUBSCRIPTIONS,
                *driving.SUBSCRIPTIONS,
            ),
        )

    def opened(self) -> None:
        """Begins the file."""
        self.writer = RawWriter(self.config.file, self.config.flush)
        self._failure = ""
        endpoints = self.declaration.subscriptions
        self._rows = {e.topic: (self.host.resolve(e.topic), e.type, e.qos.latched) for e in endpoints}
        self.host.log("info", f"log: {self.config.file}")

    def handle(self, topic: str, data: bytes, arrival: int) -> None:
        """Writes a message.

        Raises:
            LogError: the disk is full.
        """
        if self.writer.is_closed:
            self.health.count("lost")
            return
        name, type_name, is_latched = self._rows[topic]
        self.writer.write(name, type_name, data, arrival, qos_profile(is_latched))

    def tick(self) -> None:
        """Hands to the system what has been written.

        Raises:
            LogError: the disk is full.
        """
        if not self.writer.is_closed and self.writer.is_due:
            self.writer.flush()

    def observe_health(self) -> None:
        """Tells how much was written, and whether more can be."""
        self.health.set("written", self.writer.count)
        watch_disk(self.health, self.config.file)
        if self.health.counted("lost"):
            self.health.error(
                "lost", f"nothing more is written to {self.config.file}: free some disk, start anew"
            )

    def closed(self) -> None:
        """Ends the file."""
        if not self.writer.is_closed:
            self.writer.close()

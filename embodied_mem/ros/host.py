"""What a node needs of whoever runs it."""

from __future__ import annotations

from typing import Protocol


class Host(Protocol):
    """A connection to a ROS 2 graph: rclpy's, or the small DDS host's.

    Messages are CDR bytes in both, so that one conversion (`embodied_mem.log.messages`) serves logs,
    rclpy and DDS. All methods may be called from any thread.
    """

    def now(self) -> int:
        """Returns ROS time [ns]: the system's, or that of /clock."""

    def publish(self, topic: str, data: bytes) -> None:
        """Publishes a serialised message on a topic that the node has declared."""

    def listeners(self, topic: str) -> int:
        """Returns how many subscribe to a topic that the node publishes."""

    def resolve(self, topic: str) -> str:
        """Returns the name in the graph of a topic that the node has declared."""

    def log(self, level: str, text: str) -> None:
        """Tells the user something; `level` is "info", "warning" or "error"."""

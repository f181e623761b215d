"""What every node with a memory offers: maps, questions, commands, services."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from embodied_mem.errors import InputError, StoreError
from embodied_mem.geometry import Pose
from embodied_mem.log import messages, topics
from embodied_mem.memory import Memory, MemoryConfig
from embodied_mem.ros.config import MapConfig
from embodied_mem.ros.declaration import EVENT, Endpoint, Service
from embodied_mem.ros.goals import check_frame
from embodied_mem.ros.maps import MAPS, in_frame
from embodied_mem.ros.questions import ANSWER, COMMAND, QUERY, answer, read_command
from embodied_mem.types import NS_PER_S, Command

CLEAR_REGION = Endpoint(
    "memory/clear_region", "geometry_msgs/msg/PolygonStamped", EVENT, "makes the map unknown on a polygon"
)
CORRECTION = Endpoint(
    "memory/correction",
    "nav_msgs/msg/Path",
    EVENT,
    "corrected poses of keyframes by stamp: a loop was closed",
)
INITIAL_POSE = Endpoint(
    "/initialpose", topics.POSE_WITH_COVARIANCE, EVENT, "where the robot is in the map of a reopened memory"
)
SUBSCRIPTIONS = (QUERY, COMMAND, CLEAR_REGION, CORRECTION, INITIAL_POSE)
PUBLICATIONS = (ANSWER, *(endpoint for endpoint, _ in MAPS))
SERVICES = (
    Service("memory/flush", "wait until everything is on the disk"),
    Service("memory/save", "flush, or copy a memory in RAM to a new file memory-<stamp>.emem"),
    Service("memory/load", "open the memory's file again, as it is on the disk"),
    Service("memory/digest", "the SHA-256 of what is remembered, as `embodied-mem replay` tells it"),
)

Publish = Callable[[str, Any], None]


class MemoryHost:
    """Keeps a memory for a node.

    Args:
        file: the .emem file; "" for RAM alone.
        config: settings of a new memory; of one that exists, what is read of it.
        maps: what is shown.
        same_map: the map frame is that of the file.
        map_frame: name of the map frame.

    Raises:
        StoreError: the file cannot be used.
    """

    def __init__(
        self,
        file: str,
        config: MemoryConfig,
        maps: MapConfig,
        same_map: bool = False,
        map_frame: str = topics.MAP_FRAME,
    ) -> None:
        self.file, self.maps, self.same_map, self.map_frame = file, maps, same_map, map_frame
        self._is_placed = False
        self._config = config
        self.memory = self._open()
        self._shown: dict[str, int] = {}
        self._next_look = 0

    def _open(self) -> Memory:
        if not self.file:
            return Memory(self._config)
        path = Path(self.file)
        is_new = not path.exists()
        memory = Memory.open(path, self._config if is_new else None)
        # What is read of it is for whoever drives now, and changes nothing in it.
        memory.contents.config = replace(memory.config, read=self._config.read)
        return memory

    def handle(self, topic: str, message: Any, publish: Publish, apply: Callable[[Command], None]) -> None:
        """Answers a question, or hands a command to `apply`.

        Raises:
            EmbodiedMemError: the command makes no sense.
        """
        if topic == QUERY.topic:
            publish(ANSWER.topic, answer(self.memory, message))
        elif topic == COMMAND.topic:
            apply(read_command(message))
        elif topic == CLEAR_REGION.topic:
            apply(read_region(message, self.map_frame))
        elif topic == CORRECTION.topic:
            apply(read_correction(message, self.map_frame))
        elif topic == INITIAL_POSE.topic:
            check_frame(message.header, self.map_frame, topic)
            self._relocalize(messages.read_pose(message.pose.pose))

    def place(self, map_T_base: Pose) -> None:
        """Says where the robot is, once, where the map frame is that of the file.

        Raises:
            InputError: the pose cannot be in that map.
        """
        if self.same_map and self.memory.sequence and not self._is_placed:
            self._relocalize(map_T_base)
        self._is_placed = True

    def _relocalize(self, map_T_base: Pose) -> None:
        receipt = self.memory.relocalize(map_T_base)
        if receipt.verdict != "accepted":
            raise InputError(f"the robot cannot be there: {receipt.reason}")

    def show(self, now: int, listeners: Callable[[str], int], publish: Publish) -> None:
        """Publishes the maps that have changed and that somebody subscribes to, at a time [ns]."""
        if self._next_look - self.maps.period * NS_PER_S <= now < self._next_look:
            return
        sequence = self.memory.sequence
        if sequence == 0:
            return
        for endpoint, make in MAPS:
            if self._shown.get(endpoint.topic) != sequence and listeners(endpoint.topic):
                publish(endpoint.topic, in_frame(make(self.memory, self.maps.min_existence), self.map_frame))
                self._shown[endpoint.topic] = sequence
                self._next_look = now + round(self.maps.period * NS_PER_S)

    def serve(self, service: str) -> str:
        """Carries out a service; returns what to tell.

        Raises:
            StoreError: the file cannot be written or read.
        """
        if service == "memory/flush":
            self.memory.flush()
            return f"{self.memory.durable_seq} of {self.memory.sequence} writes are on the disk"
        if service == "memory/save":
            return self._save()
        if service == "memory/digest":
            return f"{self.memory.digest()} after {self.memory.info()['writes']} writes"
        if service == "memory/load":
            if not self.file:
                raise StoreError("this memory has no file to load; start the node with file:=NAME.emem")
            self.memory.close()
            self.memory = self._open()
            self._is_placed = False
            self._shown.clear()
            return f"{self.file}: {self.memory.sequence} writes"
        raise InputError(f'no service "{service}"')

    def _save(self) -> str:
        if self.file:
            self.memory.flush()
            return f"{self.file}: {self.memory.durable_seq} writes are on the disk"
        path = Path(f"memory-{self.memory.stamp}.emem")
        self.memory.save(path)
        return f"saved as {path.resolve()}"

    def close(self) -> None:
        """Writes what is left."""
        self.memory.close()


def percept_command(content: dict[str, Any]) -> Command:
    """Reads a command that came with a percept."""
    return Command(content["name"], content["arguments"])


def read_region(message: Any, map_frame: str) -> Command:
    """Reads a geometry_msgs/PolygonStamped: its heights bound what is cleared where they differ.

    Raises:
        InputError: another frame than the map's, or no polygon.
    """
    check_frame(message.header, map_frame, CLEAR_REGION.topic)
    corners = [[float(p.x), float(p.y)] for p in message.polygon.points]
    heights = [float(p.z) for p in message.polygon.points]
    if len(set(heights)) < 2:
        return Command("clear_region", {"polygon": corners})
    return Command("clear_region", {"polygon": corners, "low": min(heights), "high": max(heights)})


def read_correction(message: Any, map_frame: str) -> Command:
    """Reads a nav_msgs/Path: the corrected pose of the base at each pose's own stamp.

    Raises:
        InputError: another frame than the map's.
    """
    rows = []
    for item in message.poses:
        check_frame(item.header, map_frame, CORRECTION.topic)
        rows.append([messages.stamp_ns(item.header), *messages.read_pose(item.pose).to_list()])
    check_frame(message.header, map_frame, CORRECTION.topic)
    return Command("correct", {"anchors": rows})

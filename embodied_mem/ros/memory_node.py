"""The memory node: percepts in, maps and answers out."""

from __future__ import annotations

import time

from embodied_mem.ros import goals, percepts
from embodied_mem.ros.config import MemoryNodeConfig
from embodied_mem.ros.declaration import Declaration
from embodied_mem.ros.memory_host import (
    PUBLICATIONS,
    SERVICES,
    SUBSCRIPTIONS,
    MemoryHost,
    percept_command,
)
from embodied_mem.ros.node import Node
from embodied_mem.ros.tokens import TOKENS, Reading, tokens_message
from embodied_mem.ros.watch import watch_disk, watch_memory
from embodied_mem.types import NS_PER_S, Goal, Percept


class MemoryNode(Node):
    """Writes percepts into a memory, shows it and answers questions."""

    config: MemoryNodeConfig

    def declare(self) -> Declaration:
        """Returns the node's table."""
        return Declaration(
            "memory",
            "percepts into octree, scene graph and episodes; maps and answers out",
            self.config,
            subscriptions=(*percepts.ENDPOINTS, *SUBSCRIPTIONS, *goals.SUBSCRIPTIONS),
            publications=(*PUBLICATIONS, TOKENS),
            services=SERVICES,
        )

    def opened(self) -> None:
        """Opens the memory."""
        c = self.config
        self.host.log("info", f"memory: {c.file or 'in RAM'}")
        self.held = MemoryHost(c.file, c.memory, c.maps, c.same_map, c.map_frame)
        self.goal: Goal | None = None
        self.reader = percepts.PerceptReader()

    def handle(self, topic: str, data: bytes, arrival: int) -> None:
        """Takes a part of a percept, a question, a command or a goal."""
        message = self.decode(topic, data)
        if topic.startswith("percept/"):
            self.reader.push(topic, message, arrival)
            self._write(arrival)  # what waits behind a slow write has not been lost
        elif any(topic == e.topic for e in goals.SUBSCRIPTIONS):
            self.goal = goals.goal_of(topic, message, self.config.map_frame)
        else:
            self.held.handle(topic, message, self.publish, self.held.memory.apply)

    def tick(self) -> None:
        """Gives up percepts that wait too long, and shows the memory."""
        self._write(self.host.now())
        self.held.show(self.host.now(), self.host.listeners, self.publish)

    def serve(self, service: str) -> str:
        """Flushes, saves or loads."""
        return self.held.serve(service)

    def adjusted(self, config: MemoryNodeConfig) -> None:
        """Takes another patience and another look."""
        self.held.maps = config.maps

    def _write(self, now: int) -> None:
        """Writes what is complete at a time [ns]: that of the newest message taken, or the clock's."""
        patience = round(self.config.patience * NS_PER_S)
        for percept, commands in self.reader.take(now, patience):
            start = time.perf_counter()
            for command in commands:
                self.held.memory.apply(percept_command(command))
            self._remember(percept)
            self.health.timed("write", time.perf_counter() - start)
            self.health.set("lag_ms", round((self.host.now() - percept.stamp) / 1e6, 1))
        self.held.show(self.host.now(), self.host.listeners, self.publish)

    def _remember(self, percept: Percept) -> None:
        self.held.place(percept.map_T_base)
        receipt = self.held.memory.write(percept)
        self.health.count(receipt.verdict)
        if receipt.verdict != "accepted":
            self.health.warn("rejected", f"step {percept.step} rejected: {receipt.reason}")
        if self.is_wanted(TOKENS.topic):
            tokens = self.held.memory.read(percept.map_T_base, self.goal)
            poses = percept.odom_T_base, percept.map_T_odom
            reading = Reading(tokens, percept.stamp, percept.step, *poses, self.goal, percept.is_first)
            self.publish(TOKENS.topic, tokens_message(reading))

    def observe_health(self) -> None:
        """Tells of the memory's size."""
        self.health.set("percepts_lost", self.reader.lost)
        watch_memory(self.health, self.held.memory)
        watch_disk(self.health, self.config.file)

    def closed(self) -> None:
        """Closes the memory: nothing that was written is lost."""
        self.held.close()

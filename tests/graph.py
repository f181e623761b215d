"""A ROS 2 graph on this machine for tests: nodes as processes, and a probe that listens and speaks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from embodied_mem.log import messages
from embodied_mem.log.reader import LogReader
from embodied_mem.ros.dds_host import LOOPBACK
from embodied_mem.ros.declaration import Declaration, Endpoint
from embodied_mem.ros.node import Node
from embodied_mem.ros.questions import ANSWER, QUERY
from embodied_mem.types import NS_PER_S

ROOT = Path(__file__).resolve().parents[1]


class Probe(Node):
    """Collects what it is told to listen to, and publishes what a test says."""

    def __init__(self, listen: tuple[Endpoint, ...] = (), speak: tuple[Endpoint, ...] = ()) -> None:
        self.listen, self.speak = (*listen, ANSWER), (*speak, QUERY)
        self.heard: dict[str, list[Any]] = {e.topic: [] for e in self.listen}
        super().__init__(None)

    def declare(self) -> Declaration:
        return Declaration("probe", "a test", None, self.listen, self.speak)

    def handle(self, topic: str, data: bytes, arrival: int) -> None:
        self.heard[topic].append(self.decode(topic, data))

    def say(self, topic: str, value: Any) -> None:
        self.publish(topic, messages.json_string(value))

    def ask(self, timeout: float = 30.0, **query: Any) -> dict[str, Any]:
        """Asks until an answer with this question's id comes; questions to a forming graph get lost."""
        number = str(time.monotonic_ns())
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            self.say(QUERY.topic, {**query, "id": number})
            for _ in range(20):
                time.sleep(0.05)
                for message in self.heard[ANSWER.topic]:
                    found = json.loads(message.data)
                    if found["id"] == number:
                        return found
        raise AssertionError(f"no answer to {query} within {timeout} s")


class Graph:
    """Nodes as processes of `embodied-mem ros`, in a DDS domain of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.domain = 100 + os.getpid() % 100
        os.environ["CYCLONEDDS_URI"] = LOOPBACK

    def start(self, name: str, *parameters: str, options: tuple[str, ...] = ()) -> None:
        command = [sys.executable, "-m", "embodied_mem", "ros", name, *options]
        if parameters:
            command += ["--set", *parameters]
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))  # with ROS's packages
        environment = os.environ | {"ROS_DOMAIN_ID": str(self.domain), "PYTHONPATH": path}
        log = (self.folder / f"{name}.log").open("a")
        self.processes[name] = subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=log, stderr=subprocess.STDOUT, text=True
        )

    def kill(self, name: str) -> None:
        """Ends a node as a power cut would."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self, name: str) -> int:
        """Ends a node as Ctrl-C does; returns its exit code."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGINT)
        return process.wait(60)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def close(self) -> None:
        for name in list(self.processes):
            self.kill(name)


class Desk:
    """A host without a graph: runs a node in the test's own thread and keeps what it publishes."""

    def __init__(self, node: Node, listeners: int = 1) -> None:
        self.node, self.time, self.count = node, 0, listeners
        self.published: dict[str, list[bytes]] = {}
        self.logged: list[str] = []
        node.host = self
        node.opened()

    def now(self) -> int:
        return self.time

    def publish(self, topic: str, data: bytes) -> None:
        self.published.setdefault(topic, []).append(data)

    def listeners(self, topic: str) -> int:
        return self.count

    def resolve(self, topic: str) -> str:
        return topic if topic.startswith("/") else f"/{topic}"

    def log(self, level: str, text: str) -> None:
        self.logged.append(text)

    def give(self, topic: str, data: bytes, now: int) -> None:
        """Hands the node a message, as its worker would."""
        self.time = now
        self.node._guard(self.node._do, topic, data, now)

    def tick(self, now: int) -> None:
        self.time = now
        self.node._guard(self.node.tick)

    def play(self, bag: Path, change: Callable[[Any], Any] = lambda raw: raw) -> None:
        """Hands the node a bag's messages; `change` may alter a raw message, or leave it out with None."""
        with LogReader(bag) as reader:
            for raw in reader.messages({e.topic for e in self.node.declaration.subscriptions}):
                raw = change(raw)
                if raw is not None:
                    self.give(raw.topic, raw.data, raw.log_time)
        self.tick(self.time + 10 * NS_PER_S)

    def diagnostics(self) -> tuple[int, str, dict[str, str]]:
        """Returns level, message and values, as they go out."""
        self.node.observe_health()
        status = self.node.health.message(self.time).status[0]
        return status.level, status.message, {v.key: v.value for v in status.values}


def wait_for(what: Callable[[], Any], timeout: float = 60.0, why: str = "") -> Any:
    """Waits until something is true, and returns it."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(why or "it did not happen in time")


KITCHEN = (
    "sensors.depth:=/camera/camera/aligned_depth_to_color/image_raw/compressedDepth",
    "sensors.depth_info:=/camera/camera/aligned_depth_to_color/camera_info",
    "sensors.color:=/camera/camera/color/image_raw/compressed",
    "sensors.color_info:=/camera/camera/color/camera_info",
    "sensors.reliable:=true",
)

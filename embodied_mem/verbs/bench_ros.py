"""Measures a robot's node in a graph: a camera beside it, TF at 200 Hz, and hours of driving."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.errors import ConfigError
from embodied_mem.geometry import interpolate
from embodied_mem.log import messages, topics
from embodied_mem.log.outputs import ObservationMessages
from embodied_mem.ros.dds_host import LOOPBACK, DdsHost
from embodied_mem.ros.declaration import EVENT, LATCHED, SENSOR, STATIC, STREAM, Declaration, Endpoint
from embodied_mem.ros.diagnostics import DIAGNOSTICS
from embodied_mem.ros.node import Node
from embodied_mem.ros.pilot import TWIST_STAMPED
from embodied_mem.types import NS_PER_S, Observation

ENV = "EmbodiedMem/House-ObjectNav-v0"
CMD_VEL = Endpoint("cmd_vel", TWIST_STAMPED, EVENT, "velocity of the base")
IMAGES = replace(SENSOR, reliable=True)
"""As the drivers of most depth cameras send them; whoever listens may do so best effort."""
CAMERA_HZ, TF_HZ, ODOM_HZ, MAP_HZ = 30, 200, 50, 10
FRAMES = 150
"""Pictures of a drive of 5 s; it is shown forth and back."""
WARM_S = 12.0
"""The first seconds are not measured: kernels are loaded, the first rooms are built."""
TARGETS = {"lag_median_ms": 33.0, "lag_p99_ms": 66.0, "command_beyond_ms": 20.0}


class Drive:
    """What a robot with a 640x480 camera sees on a short way through a house."""

    def __init__(self, frames: int = FRAMES) -> None:
        from embodied_mem.sim import make
        from embodied_mem.sim.driven_world import DrivenWorld

        env = make(ENV, robot={"width": 640, "image_height": 480})
        world = DrivenWorld(env, 7, None)
        self.observations: list[Observation] = []
        self.images: list[list[tuple[Endpoint, bytearray]]] = []
        self.first: list[tuple[Endpoint, bytes]] = []
        for _ in range(frames):
            obs = world.observe()
            assert obs is not None and obs.cameras[0].depth is not None
            self._keep(obs)
            ahead = obs.cameras[0].depth.data[200:280, 280:360]
            is_free = float(np.median(ahead)) > 0.8
            # A step of the world is 100 ms, a picture's time is a third of that.
            world.act((0.5 / 3, 0.1) if is_free else (0.0, 0.8 / 3))

    def _keep(self, obs: Observation) -> None:
        self.observations.append(obs)
        images = []
        for row, message, _ in ObservationMessages().of(obs):
            data = messages.serialize(message, row.type)
            if row.type in (topics.IMAGE, topics.CAMERA_INFO):
                images.append((Endpoint(row.name, row.type, IMAGES, "camera"), bytearray(data)))
            elif len(self.observations) == 1 and row.name in ("/tf_static", topics.LABELS.name):
                qos = STATIC if row.name == "/tf_static" else LATCHED
                self.first.append((Endpoint(row.name, row.type, qos, "once"), data))
        self.images.append(images)

    def at(self, index: int) -> int:
        """Returns the picture for a count of pictures: forth and back."""
        last = len(self.images) - 1
        return last - abs(index % (2 * last) - last)


class CameraNode(Node):
    """Sends a drive's pictures at 30 Hz, TF at 200 Hz and odometry at 50 Hz, and hears what comes of them."""

    def __init__(self, drive: Drive) -> None:
        self.drive = drive
        self.sent = 0
        self.late = 0
        self.answers: list[tuple[float, float]] = []
        self.told: dict[str, str] = {}
        super().__init__(None)

    def declare(self) -> Declaration:
        """Returns the node's table."""
        rows = [*(e for e, _ in self.drive.first), *(e for e, _ in self.drive.images[0])]
        tf = Endpoint("/tf", topics.TF_MESSAGE, STREAM, "transforms")
        odom = Endpoint("/odom", topics.ODOMETRY, STREAM, "odometry")
        return Declaration("camera", "a robot's sensors", None, (CMD_VEL, DIAGNOSTICS), (*rows, tf, odom))

    def handle(self, topic: str, data: bytes, arrival: int) -> None:
        """Takes a velocity, or the robot's diagnostics."""
        message = self.decode(topic, data)
        if topic == CMD_VEL.topic:
            stamp = messages.stamp_ns(message.header)
            self.answers.append((time.monotonic(), (arrival - stamp) / 1e6))
        else:
            for status in message.status:
                if status.name == "embodied_mem: robot":
                    self.told = {v.key: v.value for v in status.values} | {"message": status.message}

    def began(self) -> None:
        """Starts to send."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def paused(self) -> None:
        """Stops sending."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        depth = next(e.topic for e, _ in self.drive.images[0] if "depth/image" in e.topic)
        for endpoint, data in self.drive.first:
            self.host.publish(endpoint.topic, data)
        while not self.host.listeners(depth) and not self._stop.wait(0.05):
            pass
        self._stop.wait(1.0)
        start, tick = time.monotonic(), 0
        while not self._stop.is_set():
            due = start + tick / TF_HZ
            behind = time.monotonic() - due
            if behind < 0:
                self._stop.wait(-behind)
            elif behind > 1 / CAMERA_HZ:
                self.late += 1
            self._send(tick)
            tick += 1

    def _send(self, tick: int) -> None:
        now = time.time_ns()
        exact = tick * CAMERA_HZ / TF_HZ
        index = int(exact)
        start, end = self.drive.at(index), self.drive.at(index + 1)
        here = self.drive.observations[start]
        pose = interpolate(here.odom_T_base, self.drive.observations[end].odom_T_base, exact - index)
        moved = [messages.transform(topics.ODOM_FRAME, topics.BASE_FRAME, pose, now)]
        if tick % (TF_HZ // MAP_HZ) == 0:
            moved.append(messages.transform(topics.MAP_FRAME, topics.ODOM_FRAME, here.map_T_odom, now))
        if index == self.sent:  # before TF: a picture waits for the transform after it
            for endpoint, data in self.drive.images[start]:
                struct.pack_into("<iI", data, 4, now // NS_PER_S, now % NS_PER_S)
                self.host.publish(endpoint.topic, bytes(data))
            self.sent += 1
        self.publish("/tf", messages.tf_message(moved))
        if tick % (TF_HZ // ODOM_HZ) == 0:
            self.publish("/odom", messages.odometry(pose, now))


def bench_ros(sections: Sequence[str], host: str = "dds", seconds: float = 45.0, steps: int = 36_000) -> Any:
    """Measures the robot's node.

    Args:
        sections: "camera" (640x480 RGB-D and labels at 30 Hz, TF at 200 Hz) and "drive" (a house for hours);
            both where none is named.
        host: the robot's: "dds" or "rclpy".
        seconds: how long the camera runs.
        steps: frames of the drive, at 10 Hz of simulated time.

    Raises:
        ConfigError: there is no such section.
    """
    known = {"camera": lambda: bench_camera(host, seconds), "drive": lambda: bench_drive(host, steps)}
    for name in sections:
        if name not in known:
            raise ConfigError(f'bench ros has no section "{name}"; it has {", ".join(known)}')
    return {"host": host, "cores": os.cpu_count(), **{name: known[name]() for name in sections or known}}


@contextmanager
def _graph() -> Iterator[tuple[Path, int, dict[str, str]]]:
    """Gives a folder, a DDS domain and the environment of a graph on this machine alone."""
    os.environ.setdefault("CYCLONEDDS_URI", LOOPBACK)
    domain = 100 + os.getpid() % 100
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder), domain, os.environ | {"ROS_DOMAIN_ID": str(domain)}


def _start(
    node: str, host: str, folder: Path, environment: dict[str, str], *words: str
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "embodied_mem", "ros", node, "--host", host, *words]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, text=True)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def bench_camera(host: str = "dds", seconds: float = 45.0, reliable: bool = True) -> dict[str, Any]:
    """Measures drops and delays beside a 640x480 RGB-D camera at 30 Hz and TF at 200 Hz."""
    drive = Drive()
    with _graph() as (folder, domain, environment):
        settings = [
            "file:=bench.emem",
            "drive:=true",
            "control.lockstep:=true",
            f"sensors.reliable:={str(reliable).lower()}",
        ]
        robot = _start("robot", host, folder, environment, "--world", ENV, "--set", *settings)
        camera = CameraNode(drive)
        dds = DdsHost(camera, domain=domain)
        dds.start()
        try:
            _await(lambda: camera.sent > 0, 60.0, "the robot's node does not listen")
            time.sleep(WARM_S)
            warm, busy, begun = camera.sent, _cpu_seconds(robot.pid), time.monotonic()
            first = dict(camera.told)
            time.sleep(seconds)
            busy, took = _cpu_seconds(robot.pid) - busy, time.monotonic() - begun
            sent, told = camera.sent - warm, dict(camera.told)
            answers = [ms for at, ms in camera.answers if at >= begun]
            resident = _resident_mb(robot.pid)
        finally:
            dds.stop()
            robot.send_signal(signal.SIGINT)
            robot.wait(60)
    lost = _lost(first, told, sent)
    median, p99 = float(told["lag_median_ms"]), float(told["lag_p99_ms"])
    command = np.quantile(answers, (0.5, 0.99)) if answers else (float("nan"),) * 2
    return {
        "frames_sent": sent,
        "frames_per_second": round(sent / took, 2),
        "frames_lost": lost,
        "lag_median_ms": median,
        "lag_p99_ms": p99,
        "step_median_ms": float(told["step_median_ms"]),
        "step_p99_ms": float(told["step_p99_ms"]),
        "command_median_ms": round(float(command[0]), 2),
        "command_p99_ms": round(float(command[1]), 2),
        "command_beyond_ms": round(float(command[0]) - median, 2),
        "commands": len(answers),
        "camera_late": camera.late,
        "robot_cpu": round(busy / took, 2),
        "robot_resident_mb": round(resident, 1),
        "robot_says": told["message"],
        "targets": TARGETS,
    }


def _lost(first: dict[str, str], last: dict[str, str], sent: int) -> int:
    """Returns how many pictures were not remembered, as far as diagnostics, once a second, can tell."""
    remembered = int(last.get("accepted", 0)) - int(first.get("accepted", 0))
    return max(0, sent - remembered - CAMERA_HZ)


def _await(what: Any, seconds: float, why: str) -> None:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise ConfigError(why)
        time.sleep(0.05)


class _Listener(Node):
    """Hears the robot's diagnostics."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}
        super().__init__(None)

    def declare(self) -> Declaration:
        """Returns the node's table."""
        return Declaration("listener", "diagnostics", None, (DIAGNOSTICS,))

    def handle(self, topic: str, data: bytes, arrival: int) -> None:
        """Takes diagnostics."""
        for status in self.decode(topic, data).status:
            if status.name == "embodied_mem: robot":
                self.told = {v.key: v.value for v in status.values}


def bench_drive(host: str = "dds", steps: int = 36_000, limit_mb: int = 64) -> dict[str, Any]:
    """Drives through a house for hours of simulated time, at ten times the speed, under a budget."""
    samples: list[dict[str, float]] = []
    with _graph() as (folder, domain, environment):
        settings = ["file:=bench.emem", "drive:=true", "control.lockstep:=true", "control.policy:=explore"]
        settings += [f"memory.budget.limit:={limit_mb * 10**6}"]
        words = ["--world", ENV, "--use-sim-time", "--set", *settings]
        listener = _Listener()
        dds = DdsHost(listener, domain=domain)
        dds.start()
        robot = _start("robot", host, folder, environment, *words)
        world = [f"env:={ENV}", "seed:=7", f"steps:={steps}", "lockstep:=true", "speed:=10.0"]
        sim = _start("sim", host, folder, environment, "--set", *world)
        start = time.monotonic()
        try:
            while sim.poll() is None and robot.poll() is None:
                time.sleep(5.0)
                if listener.told and robot.poll() is None:
                    samples.append(_sample(robot.pid, folder, listener.told))
            took = time.monotonic() - start
        finally:
            sim.terminate()
            robot.send_signal(signal.SIGINT)
            robot.wait(120)
            dds.stop()
    half = samples[len(samples) // 2 :]
    return {
        "frames": int(samples[-1]["frames"]),
        "simulated_hours": round(samples[-1]["frames"] / 36_000, 3),
        "times_real_time": round(samples[-1]["frames"] / 10 / took, 2),
        "budget_mb": limit_mb,
        "file_mb_half": round(half[0]["file_mb"], 1),
        "file_mb_end": round(samples[-1]["file_mb"], 1),
        "file_mb_most": round(max(s["file_mb"] for s in samples), 1),
        "resident_mb_half": round(half[0]["resident_mb"], 1),
        "resident_mb_end": round(samples[-1]["resident_mb"], 1),
        "resident_mb_most": round(max(s["resident_mb"] for s in samples), 1),
    }


def _sample(pid: int, folder: Path, told: dict[str, str]) -> dict[str, float]:
    sizes = [p.stat().st_size for p in folder.glob("bench.emem*")]
    return {
        "frames": float(told.get("accepted", 0)),
        "file_mb": sum(sizes) / 1e6,
        "resident_mb": _resident_mb(pid),
    }


if __name__ == "__main__":
    print(json.dumps(bench_ros(sys.argv[2:], sys.argv[1]), indent=2))

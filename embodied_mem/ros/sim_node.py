"""The simulator as a robot: camera, TF, odometry and clock out, velocities in."""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol

from embodied_mem.log import messages, topics
from embodied_mem.log.outputs import ObservationMessages
from embodied_mem.ros.config import SimConfig
from embodied_mem.ros.dds_host import CLOCK
from embodied_mem.ros.declaration import EVENT, LATCHED, STATIC, STREAM, Declaration, Endpoint, Qos
from embodied_mem.ros.goals import GOAL
from embodied_mem.ros.node import Node
from embodied_mem.ros.pilot import EVENTS, TWIST_STAMPED
from embodied_mem.types import NS_PER_S, Observation

CMD_VEL = Endpoint("cmd_vel", TWIST_STAMPED, EVENT, "velocity of the base")
RESULT = Endpoint("sim/result", topics.STRING, LATCHED, "JSON: how the task went")
RESEND_S = 1.0
"""A frame is sent again when no command for it has come for this long [s] (lockstep)."""

SETTLE_S = 5.0
"""How long [s] a listener of the depth camera may take to find the other topics."""


class DrivenWorld(Protocol):
    """A simulated robot that is driven by velocities."""

    step_ns: int

    def observe(self) -> Observation | None:
        """Returns the newest observation once."""

    def act(self, velocity: tuple[float, float]) -> None:
        """Drives for one step with a speed [m/s] and a turn rate [rad/s]."""

    def found(self) -> dict[str, Any]:
        """Takes the robot's word that it has found the goal; returns how the task went."""


class SimNode(Node):
    """Publishes a simulated robot's sensors and takes its velocities.

    Args:
        config: settings.
        world: the simulated robot.
    """

    config: SimConfig

    def __init__(self, config: SimConfig, world: DrivenWorld) -> None:
        self.world = world
        first = world.observe()
        assert first is not None
        self._obs: Observation = first
        self._out = ObservationMessages()
        self._first = _sent(self._out, first)
        super().__init__(config)

    def declare(self) -> Declaration:
        """Returns the node's table: what the first observation holds."""
        rows = {row.name: _endpoint(row) for row, _ in self._first}
        rows[GOAL.topic] = GOAL
        rows.pop("/goal", None)
        return Declaration(
            "sim",
            "a simulated robot",
            self.config,
            subscriptions=(CMD_VEL, EVENTS),
            publications=(*rows.values(), CLOCK, RESULT),
        )

    def began(self) -> None:
        """Starts the clock, or lets it go on."""
        self._first = _sent(ObservationMessages(), self._obs)
        self._velocity, self._commanded, self._at = (0.0, 0.0), -1, 0
        self._found = False
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sim", daemon=True)
        self._thread.start()

    def paused(self) -> None:
        """Stops the clock."""
        self._stop.set()
        self._changed.set()
        self._thread.join()

    def handle(self, topic: str, data: bytes, arrival: int) -> None:
        """Takes a velocity, or the policy's word that it has found its goal."""
        message = self.decode(topic, data)
        if topic == CMD_VEL.topic:
            self._velocity = (float(message.twist.linear.x), float(message.twist.angular.z))
            self._commanded = messages.stamp_ns(message.header)
            self._at = self._obs.stamp
            self._changed.set()
        elif messages.read_json(message, topic).get("event") == "found":
            self._found = True
            self._changed.set()

    def _run(self) -> None:
        self._wait_for_listeners()
        start, first = time.monotonic(), self._obs.stamp
        self._send(self._first)
        while not self._stop.is_set():
            due = start + (self._obs.stamp + self.world.step_ns - first) / (NS_PER_S * self.config.speed)
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            if self.config.lockstep and not self._wait_for_command():
                return
            if self._found:
                self._found = False
                self.publish(RESULT.topic, messages.json_string(self.world.found()))
            else:
                self.world.act(self._current())
            obs = self.world.observe()
            if obs is None:
                self._stop.wait(1.0)  # what is on its way arrives before the writers go
                self.finished.set()
                return
            self._obs = obs
            self._send(_sent(self._out, obs))

    def _current(self) -> tuple[float, float]:
        age = (self._obs.stamp - self._at) / NS_PER_S
        return self._velocity if age <= self.config.timeout else (0.0, 0.0)

    def _wait_for_command(self) -> bool:
        waited = 0.0
        while self._commanded != self._obs.stamp and not self._found:
            if not self._changed.wait(RESEND_S) and not self._stop.is_set():
                waited += RESEND_S
                if self._commanded >= 0 and waited > self.config.give_up:
                    self._velocity = (0.0, 0.0)  # whoever had this frame is gone; the next one goes to all
                    self.health.count("steps_without_command")
                    return True
                self.health.count("resent")
                self._send(_sent(ObservationMessages(), self._obs))
            if self._stop.is_set():
                return False
            self._changed.clear()
        return True

    def _send(self, rows: Any) -> None:
        clock = messages.make(CLOCK.type, clock=messages.time(self._obs.stamp))
        self.publish(CLOCK.topic, clock)
        for row, message in rows:
            self.publish(GOAL.topic if row.name == "/goal" else row.name, message)
        self.health.count("frames")

    def _wait_for_listeners(self) -> None:
        """Publishes what late joiners get anyway, and waits for a camera's listener."""
        for row, message in self._first:
            if row.latched or row.name == "/goal":
                self.publish(GOAL.topic if row.name == "/goal" else row.name, message)
        names = [
            e.topic for e in self.declaration.publications if e.topic.startswith(("/head/", "/tf", "/labels"))
        ]
        depth = [name for name in names if "/depth/image" in name]
        end = None
        while not self._stop.wait(0.05):
            missing = [name for name in names if not self.host.listeners(name)]
            if not set(depth) & set(missing):
                # Whoever takes depth may still be taking up the rest; nobody has to take all of it.
                end = end or time.monotonic() + SETTLE_S
                if not missing or time.monotonic() > end:
                    self._stop.wait(0.2)
                    return


def _sent(out: ObservationMessages, obs: Observation) -> list[tuple[topics.Topic, Any]]:
    """Returns what is sent of an observation; a pose without a covariance would claim to be certain."""
    rows = out.of(obs)
    return [(row, message) for row, message, consumed in rows if consumed or row is not topics.POSE]


def _endpoint(row: topics.Topic) -> Endpoint:
    qos: Qos = STATIC if row.name == "/tf_static" else LATCHED if row.latched else STREAM
    return Endpoint(row.name, row.type, qos, row.encoding or "as in our logs")

"""What every node that drives has: goal, emergency stop, velocities, and a watchdog."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from embodied_mem.errors import ConfigError
from embodied_mem.geometry import Pose
from embodied_mem.log import messages, topics
from embodied_mem.loop import Controller, Policy
from embodied_mem.memory import ReadConfig
from embodied_mem.ros.config import ControlConfig
from embodied_mem.ros.declaration import Endpoint
from embodied_mem.ros.diagnostics import Health
from embodied_mem.ros.pilot import (
    ESTOP,
    EVENTS,
    FOUND,
    Passing,
    Patient,
    Pilot,
    Watchdog,
    cmd_vel,
    twist,
)
from embodied_mem.ros.sub_goals import SUB_GOAL, SubGoals
from embodied_mem.types import NS_PER_S, Goal, Observation

SUBSCRIPTIONS = (ESTOP,)
URGENT = frozenset({ESTOP.topic})


@dataclass(frozen=True)
class Brain:
    """Who decides.

    Attributes:
        policy: chooses actions or sub-goals.
        controller: turns sub-goals into actions.
        read: how the memory must be read for it; any way where None.
        sees: it looks at images.
    """

    policy: Policy
    controller: Controller
    read: ReadConfig | None = None
    sees: bool = False


def check(control: ControlConfig, odom: str) -> None:
    """Raises `ConfigError` where a robot could not be driven: velocities are closed on odometry."""
    if not (odom or control.lockstep or control.goal_poses):
        raise ConfigError("a robot that drives needs odometry: name its topic, sensors.odom:=/odom")


def publications(config: ControlConfig) -> tuple[Endpoint, ...]:
    """Returns what a driving node publishes."""
    return (SUB_GOAL if config.goal_poses else cmd_vel(config), EVENTS)


class Driving:
    """Drives a robot by the actions of a policy.

    Args:
        config: settings.
        brain: policy and controller.
        publish: publishes a message on a topic.
        now: ROS time [ns].
        health: where to complain.
        map_frame: name of the map frame.

    Attributes:
        policy, controller: for the loop; they let the robot finish an action before the next.
        goal: the current goal, to tell of; who owns this sets it.
    """

    def __init__(
        self,
        config: ControlConfig,
        brain: Brain,
        publish: Callable[[str, Any], None],
        now: Callable[[], int],
        health: Health,
        map_frame: str = topics.MAP_FRAME,
    ) -> None:
        self.config, self.health = config, health
        self.goal: Goal | None = None
        self.pilot = Pilot(config.motion, self._found)
        self.policy = Patient(brain.policy, self.pilot, self._is_late)
        self.controller = Passing(brain.controller)
        self._publish, self._now = publish, now
        self._topic = cmd_vel(config)
        self._seen = 0.0
        self._sub_goals = SubGoals(publish, map_frame) if config.goal_poses else None
        self._drives = self._sub_goals is None and not config.lockstep
        self.watchdog = Watchdog(config.stale, self._stop) if self._drives else None

    def handle(self, topic: str, message: Any) -> None:
        """Takes the emergency stop."""
        if topic == ESTOP.topic:
            self.pilot.estop(bool(message.data))
            if self._sub_goals is None:
                self._stop()
            elif message.data:
                self._sub_goals.stay(self.pilot.map_T_base, self._now())
            if message.data:
                self.health.warn("estop", "the emergency stop is pressed: the robot stays where it is")

    def act(self, action: Any) -> None:
        """Takes the loop's action."""
        if self._sub_goals is None or (isinstance(action, int) and action == FOUND):
            self.pilot.act(action)
        elif not self.pilot.is_stopped:
            self._sub_goals.act(action, self.pilot.map_T_base, self._now())

    def _is_late(self, obs: Observation) -> bool:
        """True where an observation has waited too long to drive by it; it is still remembered."""
        age = (self._now() - obs.stamp) / NS_PER_S
        if self.config.lockstep or age <= self.config.stale:
            return False
        self.health.warn("late", f"observations are {age:.1f} s old, too old to drive by: the robot waits")
        return True

    def observed(self, obs: Observation) -> None:
        """Says that the loop has done a step."""
        if not self._is_late(obs):
            self._seen = time.monotonic()
        if self.config.lockstep and self._sub_goals is None and not self.pilot.said_found:
            self._send(self.pilot.velocity(obs.odom_T_base, obs.stamp), obs.stamp)

    def odometry(self, message: Any) -> None:
        """Takes odometry: the robot's velocity follows it."""
        if not self._drives:
            return
        pose: Pose = messages.read_pose(message.pose.pose)
        if self._seen and time.monotonic() - self._seen > self.config.stale:
            self.pilot.executor.halt()
            self.health.warn("stale", f"no observation for {self.config.stale} s: the robot stops")
        if pose.is_finite and self.watchdog is not None:
            self.watchdog.feed()
            stamp = messages.stamp_ns(message.header)
            self._send(self.pilot.velocity(pose, stamp), stamp)

    def _send(self, velocity: tuple[float, float], stamp: int) -> None:
        self._publish(self._topic.topic, twist(self._topic, velocity, stamp, self.config.base_frame))

    def _stop(self) -> None:
        if self.watchdog is not None and self.watchdog.is_silent:
            self.health.warn("watchdog", f"no odometry for {self.config.stale} s: the robot is stopped")
        self._send((0.0, 0.0), self._now())

    def _found(self) -> None:
        text = "" if self.goal is None else self.goal.text
        self._publish(EVENTS.topic, messages.json_string({"event": "found", "goal": text}))

    def adjust(self, config: ControlConfig) -> None:
        """Takes other limits and patience."""
        self.config = config
        self.pilot.config = self.pilot.executor.config = config.motion
        if self.watchdog is not None:
            self.watchdog.limit = config.stale

    def pause(self) -> None:
        """Stops the robot until the next action."""
        self.pilot.executor.stop()
        self._send((0.0, 0.0), self._now())

    def close(self) -> None:
        """Stops the robot."""
        if self.watchdog is not None:
            self.watchdog.close()

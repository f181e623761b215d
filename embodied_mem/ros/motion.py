"""From actions to velocities: a controller closed on odometry, with limits of speed and acceleration."""

from __future__ import annotations

import math
from dataclasses import dataclass

from embodied_mem.geometry import Pose
from embodied_mem.ros.config import MotionConfig
from embodied_mem.types import NS_PER_S

MAX_GAP_NS = NS_PER_S // 5
"""A longer gap [ns] between two odometry messages counts as this long."""


@dataclass(frozen=True)
class Motion:
    """A motion of the base.

    Attributes:
        length: ahead [m].
        angle: to the left [rad].
    """

    length: float = 0.0
    angle: float = 0.0


def primitive(action: int, config: MotionConfig) -> Motion | None:
    """Returns the motion of a discrete action (1 ahead, 2 left, 3 right), or None for one that is none."""
    turn = math.radians(config.turn)
    return {1: Motion(length=config.step), 2: Motion(angle=turn), 3: Motion(angle=-turn)}.get(action)


class MotionExecutor:
    """Carries out one motion at a time.

    The speed follows the square root of the way that is left, so that it can always stop in time
    (trapezoidal profile); progress is measured by odometry alone.

    Args:
        config: limits.

    Attributes:
        velocity: commanded last: speed ahead [m/s] and turn rate [rad/s].
        gave_up: motions that odometry did not follow.
    """

    def __init__(self, config: MotionConfig) -> None:
        self.config = config
        self.velocity = (0.0, 0.0)
        self.gave_up = 0
        self._motion: Motion | None = None
        self._wanted: tuple[float, float] | None = None
        self._start: Pose | None = None
        self._turned = 0.0
        self._yaw = 0.0
        self._stamp: int | None = None
        self._closest = (math.inf, 0)

    @property
    def is_busy(self) -> bool:
        """True while a motion is under way, or the robot is still slowing down."""
        return self._motion is not None or self.velocity != (0.0, 0.0)

    def begin(self, motion: Motion) -> None:
        """Starts a motion; it replaces the one under way."""
        self._motion, self._wanted, self._start, self._turned = motion, None, None, 0.0
        self._closest = (math.inf, 0)

    def follow(self, speed: float, turn: float) -> None:
        """Drives with a velocity [m/s], [rad/s] until told otherwise."""
        self._motion, self._wanted = None, (speed, turn)

    def halt(self) -> None:
        """Slows down to a stop."""
        self._motion, self._wanted = None, None

    def stop(self) -> None:
        """Stops at once: an emergency."""
        self.halt()
        self.velocity = (0.0, 0.0)

    def update(self, odom_T_base: Pose, stamp: int) -> tuple[float, float]:
        """Returns the velocity for now: speed ahead [m/s] and turn rate [rad/s].

        Args:
            odom_T_base: odometry.
            stamp: its time [ns].
        """
        before = stamp if self._stamp is None else self._stamp
        seconds = min(max(stamp - before, 0), MAX_GAP_NS) / NS_PER_S
        self._stamp = stamp
        speed, turn = self._target(odom_T_base, stamp, seconds)
        c = self.config
        self.velocity = (
            _towards(self.velocity[0], speed, c.acceleration * (seconds or 0.1)),
            _towards(self.velocity[1], turn, c.turn_acceleration * (seconds or 0.1)),
        )
        return self.velocity

    def _target(self, pose: Pose, stamp: int, seconds: float) -> tuple[float, float]:
        c = self.config
        if self._wanted is not None:
            speed, turn = self._wanted
            return _clip(speed, c.max_speed), _clip(turn, c.max_turn)
        if self._motion is None:
            return 0.0, 0.0
        if self._start is None:
            self._start, self._yaw = pose, pose.yaw
        self._turned += math.remainder(pose.yaw - self._yaw, 2 * math.pi)
        self._yaw = pose.yaw
        ahead = self._start.inverse().transform(pose.position)[0]
        way, angle = self._motion.length - float(ahead), self._motion.angle - self._turned
        if self._motion.length == 0.0:
            way = 0.0
        if self._is_over(way, angle, stamp):
            self._motion = None
            return 0.0, 0.0
        return (
            _profile(way, c.max_speed, c.acceleration, seconds, c.position_tolerance),
            _profile(angle, c.max_turn, c.turn_acceleration, seconds, c.angle_tolerance),
        )

    def _is_over(self, way: float, angle: float, stamp: int) -> bool:
        c = self.config
        if abs(way) <= c.position_tolerance and abs(angle) <= c.angle_tolerance:
            return True
        left = abs(way) / c.position_tolerance + abs(angle) / c.angle_tolerance
        if left < self._closest[0] - 0.25:
            self._closest = (left, stamp)
        if stamp - self._closest[1] > c.stuck * NS_PER_S:
            self.gave_up += 1
            return True
        return False


def _profile(left: float, limit: float, acceleration: float, seconds: float, tolerance: float) -> float:
    """Returns the velocity for a way that is left: it can stop in time, and does not pass the end."""
    if abs(left) <= tolerance:
        return 0.0
    fastest = min(limit, math.sqrt(2.0 * acceleration * abs(left)))
    if seconds > 0.0:
        fastest = min(fastest, abs(left) / seconds)
    return math.copysign(fastest, left)


def _clip(value: float, limit: float) -> float:
    return min(max(value, -limit), limit)


def _towards(value: float, target: float, step: float) -> float:
    return target if abs(target - value) <= step else value + math.copysign(step, target - value)

"""The robot in a house: a round body on the floor that carries one RGB-D camera."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.sim.house.config import NoiseConfig, RobotConfig
from embodied_mem.sim.mistakes import PoseError


class Action(IntEnum):
    """The robot's primitive actions."""

    FOUND = 0
    FORWARD = 1
    LEFT = 2
    RIGHT = 3
    UP = 4
    DOWN = 5


class Ground(Protocol):
    """What a robot moves on."""

    def advance(
        self, start: NDArray[np.float64], heading: float, length: float
    ) -> tuple[NDArray[np.float64], bool]:
        """Returns where a straight way [m] ahead [rad] ends, and whether something stopped it."""


class Robot:
    """A robot's true pose, and how actions change it.

    Args:
        config: its motions.
        plan: how it moves: a `FloorPlan`, or what else can `advance`.
        position: (2,) or (3,) [m] in the house frame.
        yaw: [rad].

    Attributes:
        position: (2,) float64 [m] in the house frame; (3,) where floors have different heights.
        yaw: heading [rad].
        tilt: of the camera, up is positive [rad].
        path_length: way gone so far [m].
        collisions: steps ahead that were cut short so far.
    """

    def __init__(self, config: RobotConfig, plan: Ground, position: NDArray[np.float64], yaw: float) -> None:
        self.config = config
        self.plan = plan
        self.position = np.asarray(position, dtype=np.float64)
        self.yaw = yaw
        self.tilt = 0.0
        self.path_length = 0.0
        self.collisions = 0

    @property
    def pose(self) -> Pose:
        """`house_T_base`, on the floor."""
        z = self.position[2] if len(self.position) > 2 else 0.0
        return Pose.from_xyz_yaw(self.position[0], self.position[1], z, self.yaw)

    @property
    def base_T_camera(self) -> Pose:
        """The camera's optical frame in the base frame."""
        return camera_mount(self.config.camera_height, self.tilt)

    def drive(self, length: float, angle: float) -> tuple[float, bool]:
        """Turns by an angle [rad], then goes ahead by a length [m], backwards where it is negative.

        Returns:
            length of the way ahead [m], and whether something was in the way.
        """
        self.yaw = math.remainder(self.yaw + angle, 2 * math.pi)
        if length == 0.0:
            return 0.0, False
        heading = self.yaw if length > 0.0 else math.remainder(self.yaw + math.pi, 2 * math.pi)
        end, blocked = self.plan.advance(self.position, heading, abs(length))
        moved = math.hypot(*(end - self.position).tolist())
        self.position = end
        self.path_length += moved
        self.collisions += blocked
        return math.copysign(moved, length), blocked

    def act(self, action: Action) -> tuple[float, float, bool]:
        """Carries out an action.

        Returns:
            length of the way ahead [m], angle turned [rad], and whether something was in the way.
        """
        turn = math.radians(self.config.turn)
        if action == Action.FORWARD:
            moved, blocked = self.drive(self.config.forward, 0.0)
            return moved, 0.0, blocked
        if action in (Action.LEFT, Action.RIGHT):
            angle = turn if action == Action.LEFT else -turn
            self.yaw = math.remainder(self.yaw + angle, 2 * math.pi)
            return 0.0, angle, False
        if action in (Action.UP, Action.DOWN):
            limit = math.radians(self.config.max_tilt)
            tilt = self.tilt + (turn if action == Action.UP else -turn)
            self.tilt = min(max(tilt, -limit), limit)
        return 0.0, 0.0, False


def camera_mount(height: float, tilt: float) -> Pose:
    """Returns `base_T_camera` of a camera above the base that is tilted up by an angle [rad]."""
    half = tilt / 2
    # Level, the optical frame (z ahead, x right, y down) is the quaternion (-1, 1, -1, 1) / 2.
    c, s = math.cos(half) / 2, math.sin(half) / 2
    return Pose(np.array([0.0, 0.0, height]), np.array([-c + s, c - s, -c - s, c + s]))


class Odometry:
    """Where the robot takes itself to be: it counts steps and turns, with errors that grow with the way.

    The error model is that of a differential drive (Thrun, Burgard and Fox 2005, 5.4): length and
    angle of every motion carry relative noise, and a way ahead disturbs the heading; the covariance is
    propagated to first order. With an error of position or heading it is a localiser instead, whose pose
    errs by that much, and never more.

    Args:
        config: noise.
        start: where it starts; odometry knows it exactly.
        rng: draws the noise.

    Attributes:
        pose: `odom_T_base` as it was counted.
    """

    def __init__(self, config: NoiseConfig, start: Pose, rng: np.random.Generator) -> None:
        self.sigma = config.odometry
        self.pose = start
        self._rng = rng
        self._xy_yaw = np.zeros((3, 3))
        self._error: PoseError | None = None
        if config.position or config.heading:
            heading = math.radians(config.heading)
            self._error = PoseError(config.position, heading, config.error_steps, rng)
            self.pose = self._error.step(start)

    @property
    def covariance(self) -> NDArray[np.float64] | None:
        """(6, 6) float64 of the pose (x, y, z, rx, ry, rz), or None where there is no noise."""
        if self.sigma == 0.0:
            return None
        full = np.zeros((6, 6))
        full[np.ix_([0, 1, 5], [0, 1, 5])] = self._xy_yaw
        return full

    def count(self, length: float, angle: float, truth: Pose) -> None:
        """Adds a motion; without noise the pose is the true one."""
        if self.sigma == 0.0:
            self.pose = truth if self._error is None else self._error.step(truth)
            return
        noise = self.sigma * self._rng.standard_normal(3)
        d = length * (1.0 + noise[0])
        turned = angle * (1.0 + noise[1]) + length * noise[2]
        yaw = self.pose.yaw
        cosine, sine = math.cos(yaw), math.sin(yaw)
        x, y = self.pose.position[0] + d * cosine, self.pose.position[1] + d * sine
        self.pose = Pose.from_xyz_yaw(x, y, truth.position[2], yaw + turned)  # floors are level: no drift
        moved = np.array([[1.0, 0.0, -d * sine], [0.0, 1.0, d * cosine], [0.0, 0.0, 1.0]])
        into = np.array([[cosine, 0.0], [sine, 0.0], [0.0, 1.0]])
        variance = np.diag(
            [(self.sigma * length) ** 2, (self.sigma * angle) ** 2 + (self.sigma * length) ** 2]
        )
        self._xy_yaw = moved @ self._xy_yaw @ moved.T + into @ variance @ into.T


def noisy_depth(
    depth: NDArray[np.float32], config: NoiseConfig, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Returns a depth image with noise: its deviation grows with the square of the range; 0 is no reading.

    Structured-light and stereo cameras err like that (Khoshelham and Elberink 2012).
    """
    noisy = depth
    if config.depth > 0.0:
        error = config.depth * rng.standard_normal(depth.shape).astype(np.float32)
        seen = np.isfinite(depth)
        noisy = np.where(seen, np.maximum(depth + error * np.where(seen, depth, 0) ** 2, 0), depth)
    if config.dropout > 0.0:
        noisy = np.where(rng.random(depth.shape) < config.dropout, np.float32(0), noisy)
    return noisy.astype(np.float32)

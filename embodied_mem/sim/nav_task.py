"""What navigation tasks share, wherever they take place: robot, sensors, goals and measures."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from embodied_mem.configs import from_mapping
from embodied_mem.errors import ConfigError
from embodied_mem.geometry import Pose
from embodied_mem.memory import MemoryConfig
from embodied_mem.perception import PerceptionConfig
from embodied_mem.sim.base_controller import BaseController
from embodied_mem.sim.explorer import Explorer
from embodied_mem.sim.house.config import RobotConfig
from embodied_mem.sim.house.renderer import Camera, View
from embodied_mem.sim.house.robot import Action, Odometry, Robot, noisy_depth
from embodied_mem.types import CameraFrame, Goal, Image, LabelMap, Observation

STEP_NS = 100_000_000
"""One step is 100 ms of log time."""
SUCCESS_MARGIN = 0.1
"""A goal counts as reached this close to where its category counts as found [m]; as in Habitat."""
START_DISTANCE = 2.0
"""Episodes start at least this far from the first goal where the place allows it [m]."""
SLACK_REWARD, SUCCESS_REWARD = -0.01, 2.5

NavObs = dict[str, Any]


class Site(Protocol):
    """A place to navigate in; its frame is the map's, with z up.

    Positions are (2,) float64 where the floor is at z = 0 all over the place, else (3,) [m].

    Attributes:
        title: what it is, for messages.
        labels: categories of the things in it, sorted.
        info: what `info` of every step says of it.
    """

    title: str
    labels: tuple[str, ...]
    info: Mapping[str, Any]

    def start(self, label: str, radius: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draws a free position, at least `START_DISTANCE` from where a label counts as found if it can."""

    def robot(self, config: RobotConfig, position: NDArray[np.float64], yaw: float) -> Robot:
        """Returns a robot at a position with a heading [rad]."""

    def distance(self, label: str, radius: float, position: NDArray[np.float64]) -> float:
        """Returns the shortest way [m] to where something of a label counts as found, inf where none."""

    def view(self, camera: Camera, map_T_camera: Pose, max_depth: float) -> View:
        """Returns what a camera sees; beyond `max_depth` [m] it has colour only."""


@dataclass
class Leg:
    """One goal of an episode and how it went.

    Attributes:
        label: category to find.
        revisit: True where it was a goal before in this episode.
        shortest: shortest way to it from where it was given [m].
        walked: way gone since it was given [m].
        success: whether it was found.
    """

    label: str
    revisit: bool
    shortest: float = 0.0
    walked: float = 0.0
    success: bool = False

    @property
    def spl(self) -> float:
        """Success weighted by path length (Anderson et al. 2018)."""
        return float(self.success) * _efficiency(self.shortest, self.walked)


def _efficiency(shortest: float, walked: float) -> float:
    longest = max(shortest, walked)
    return shortest / longest if longest > 0.0 else 1.0


class NavTask(gymnasium.Env[NavObs, np.int64]):
    """What navigation tasks share: robot, sensors, goals and measures; the place is a subclass's.

    Args:
        labels: names of the labels in the semantic images.
        goals: how many goals an episode has, one after another.
        max_steps: limit of steps.
        revisit: probability that a goal is one of the earlier ones again.
        success_radius: something counts as found from this far, seen from above, in its own room [m].
        goal_labels: categories that can be goals; every category of the place where None.
        robot: the robot, as `RobotConfig` or a mapping.
        render_mode: None or "rgb_array".

    Raises:
        ConfigError: settings that contradict themselves.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        labels: LabelMap,
        goals: int,
        max_steps: int,
        revisit: float = 0.0,
        success_radius: float = 1.0,
        goal_labels: tuple[str, ...] | None = None,
        robot: RobotConfig | Mapping[str, Any] | None = None,
        render_mode: str | None = None,
    ) -> None:
        _check(goals, max_steps, revisit, success_radius)
        for label in goal_labels or ():
            labels.id(label)
        self.labels, self.goals, self.max_steps = labels, goals, max_steps
        self.revisit, self.success_radius, self.goal_labels = revisit, success_radius, goal_labels
        config = from_mapping(RobotConfig, robot) if isinstance(robot, Mapping) else robot
        self.robot_config = config = config or RobotConfig()
        self.render_mode = render_mode
        self.camera = Camera(config.width, config.image_height, config.hfov)
        shape = (config.image_height, config.width)
        inf = np.inf
        self.action_space = gymnasium.spaces.Discrete(len(Action))
        self.observation_space = gymnasium.spaces.Dict(
            {
                "rgb": gymnasium.spaces.Box(0, 255, (*shape, 3), np.uint8),
                "depth": gymnasium.spaces.Box(0.0, inf, (*shape, 1), np.float32),
                "semantic": gymnasium.spaces.Box(0, len(labels) - 1, (*shape, 1), np.int32),
                "pose": gymnasium.spaces.Box(-inf, inf, (5,), np.float32),
                "goal": gymnasium.spaces.Box(0, len(labels) - 1, (1,), np.int64),
            }
        )

    @abstractmethod
    def enter(self, options: Mapping[str, Any]) -> Site:
        """Chooses the place of an episode.

        Args:
            options: of the reset.
        """

    @abstractmethod
    def memory_config(self) -> MemoryConfig:
        """Returns the memory's settings for this world."""

    @abstractmethod
    def perception_config(self) -> PerceptionConfig:
        """Returns perception's settings for this world."""

    def controller(self) -> BaseController:
        """Returns a controller that turns sub-goals into this world's actions."""
        return BaseController(math.radians(self.robot_config.turn), self.robot_config.forward)

    def explorer(self) -> Explorer:
        """Returns an explorer with the patience that this robot's turns take."""
        return Explorer(patience=8 + round(360.0 / self.robot_config.turn), same=0.4)

    @property
    def view(self) -> View:
        """The last images without noise, with instance ids: ground truth, for evaluators only."""
        return self._view

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NavObs, dict[str, Any]]:
        """Draws a place, a start and goals; the same seed gives the same episode.

        Args:
            seed: of the episode.
            options: what `enter` understands.

        Raises:
            ConfigError: the place lacks every goal category, or an option makes no sense.
        """
        super().reset(seed=seed)
        self.site = self.enter(options or {})
        self._legs = self._draw_goals()
        self._place_robot()
        self._index, self._steps, self._walked = 0, 0, 0.0
        self._last: dict[str, Any] = {"is_first": True}
        self._distance = self._start_leg()
        self._sense()
        return self._encode(), self._info(False)

    def _draw_goals(self) -> list[Leg]:
        site = self.site
        wanted = site.labels if self.goal_labels is None else self.goal_labels
        labels = [label for label in wanted if label in site.labels]
        if not labels:
            there = ", ".join(site.labels) or "nothing that has a label"
            raise ConfigError(f"{site.title} has none of the goals {', '.join(wanted)}; it has: {there}")
        legs: list[Leg] = []
        fresh = [labels[i] for i in self.np_random.permutation(len(labels)).tolist()]
        while len(legs) < self.goals:
            before = sorted({leg.label for leg in legs[:-1]} - {leg.label for leg in legs[-1:]})
            if before and (not fresh or self.np_random.random() < self.revisit):
                legs.append(Leg(before[int(self.np_random.integers(len(before)))], True))
            elif fresh:
                legs.append(Leg(fresh.pop(), False))
            else:
                raise ConfigError(f"{self.goals} goals need at least 3 categories, there are {len(labels)}")
        return legs

    def _place_robot(self) -> None:
        position = self.site.start(self._legs[0].label, self.success_radius, self.np_random)
        yaw = float(self.np_random.uniform(-np.pi, np.pi))
        self.robot = self.site.robot(self.robot_config, position, yaw)
        noise_rng = np.random.default_rng(int(self.np_random.integers(2**31)))
        self._noise_rng = noise_rng
        self.odometry = Odometry(self.robot_config.noise, self.robot.pose, noise_rng)

    def _start_leg(self) -> float:
        """Starts the way to the current goal; returns how far it is [m]."""
        distance = self._distance_to_goal()
        self._legs[self._index].shortest = distance
        return distance

    def _distance_to_goal(self) -> float:
        label = self._legs[self._index].label
        return self.site.distance(label, self.success_radius, self.robot.position)

    def step(self, action: np.int64 | int) -> tuple[NavObs, float, bool, bool, dict[str, Any]]:
        """Carries out one of the robot's actions."""
        chosen = Action(int(action))
        length, angle, blocked = self.robot.act(chosen)
        self.odometry.count(length, angle, self.robot.pose)
        self._steps += 1
        leg = self._legs[self._index]
        leg.walked += length
        self._walked += length
        before, self._distance = self._distance, self._distance_to_goal() if length else self._distance
        reward = SLACK_REWARD + before - self._distance
        terminated = False
        if chosen == Action.FOUND:
            leg.success = self._distance <= SUCCESS_MARGIN
            reward += SUCCESS_REWARD if leg.success else 0.0
            terminated = not leg.success or self._index == len(self._legs) - 1
            if not terminated:
                self._index += 1
                self._distance = self._start_leg()
        truncated = not terminated and self._steps >= self.max_steps
        self._last = {
            "action": int(chosen),
            "reward": float(reward),
            "terminated": terminated,
            "truncated": truncated,
        }
        self._sense()
        return self._encode(), float(reward), terminated, truncated, self._info(blocked)

    def drive(self, length: float, angle: float) -> None:
        """Turns [rad] and goes ahead [m] by any amount, as a velocity would, and takes a step's pictures."""
        moved, _ = self.robot.drive(length, angle)
        self.odometry.count(moved, angle, self.robot.pose)
        self._steps += 1
        self._walked += abs(moved)
        self._legs[self._index].walked += abs(moved)
        self._distance = self._distance_to_goal()
        self._last = {}
        self._sense()

    def _sense(self) -> None:
        """Takes the pictures of this step."""
        self._base_T_camera = self.robot.base_T_camera
        map_T_camera = self.robot.pose @ self._base_T_camera
        self._view = self.site.view(self.camera, map_T_camera, self.robot_config.max_depth)
        noise = self.robot_config.noise
        self._depth = self._view.depth
        if noise.depth or noise.dropout:
            self._depth = noisy_depth(self._depth, noise, self._noise_rng)

    def _encode(self) -> NavObs:
        pose, yaw = self.odometry.pose.position, self.odometry.pose.yaw
        values = [pose[0], pose[1], math.sin(yaw), math.cos(yaw), self.robot.tilt]
        return {
            "rgb": self._view.color,
            "depth": np.minimum(self._depth, np.float32(self.robot_config.max_depth))[..., None],
            "semantic": self._view.label[..., None],
            "pose": np.array(values, np.float32),
            "goal": np.array([self.labels.id(self._legs[self._index].label)], np.int64),
        }

    def _info(self, collided: bool) -> dict[str, Any]:
        legs = self._legs
        given = legs[: self._index + 1]
        shortest = sum(leg.shortest for leg in given)
        current = legs[self._index]
        near = 1.0 if current.success else max(0.0, 1.0 - self._distance / max(current.shortest, 1e-9))
        progress = (sum(leg.success for leg in legs[: self._index]) + near) / len(legs)
        success = all(leg.success for leg in legs)
        efficiency = _efficiency(shortest, self._walked)
        return {
            "success": success,
            "is_success": success,
            "spl": float(success) * efficiency,
            "soft_spl": progress * efficiency,
            "distance_to_goal": self._distance,
            "path_length": self._walked,
            "collisions": self.robot.collisions,
            "collided": collided,
            **self.site.info,
            "goal_index": self._index,
            "goals_found": sum(leg.success for leg in legs),
            "goals": [
                {"label": leg.label, "revisit": leg.revisit, "success": leg.success, "spl": leg.spl}
                for leg in given
            ],
        }

    @property
    def observation(self) -> Observation:
        """The last step as the loop's `Observation`: what a robot would have, and no more."""
        camera, mount, view = self.camera.intrinsics, self._base_T_camera, self._view
        label = self._legs[self._index].label
        frame = CameraFrame(
            "head",
            depth=Image(self._depth, camera, mount),
            color=Image(view.color, camera, mount),
            semantic=Image(view.label, camera, mount),
        )
        return Observation(
            stamp=self._steps * STEP_NS,
            step=self._steps,
            odom_T_base=self.odometry.pose,
            covariance=self.odometry.covariance,
            labels=self.labels,
            cameras=(frame,),
            goal=Goal(label=self.labels.id(label), text=f"find a {label}"),
            **self._last,
        )

    def render(self) -> NDArray[np.uint8]:
        """Returns what the robot sees, (H, W, 3) uint8."""
        return self._view.color


def _check(goals: int, max_steps: int, revisit: float, success_radius: float) -> None:
    if goals < 1 or max_steps < 1:
        raise ConfigError(f"goals and max_steps must be at least 1, got {goals} and {max_steps}")
    if not 0.0 <= revisit <= 1.0 or not success_radius > 0.0:
        raise ConfigError("revisit must be in 0..1 and success_radius positive")

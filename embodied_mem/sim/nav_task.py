"""What navigation tasks share, wherever they take place: robot, sensors, goals and measures."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError
from embodied_mem.memory import MemoryConfig
from embodied_mem.perception import PerceptionConfig
from embodied_mem.sim.base_controller import BaseController
from embodied_mem.sim.explorer import Explorer
from embodied_mem.sim.house.catalog import STRUCTURE
from embodied_mem.sim.house.config import RobotConfig
from embodied_mem.sim.house.renderer import Camera, View
from embodied_mem.sim.house.robot import Action, Odometry, noisy_depth
from embodied_mem.sim.mistakes import mistaken_labels
from embodied_mem.sim.nav_measures import Leg, NavMeasures, draw_legs
from embodied_mem.sim.nav_oracle import NavOracle
from embodied_mem.sim.nav_settings import check_numbers, check_whole, settings
from embodied_mem.sim.seeker import Seeker
from embodied_mem.sim.site import START_DISTANCE, Site
from embodied_mem.types import CameraFrame, Goal, Image, LabelMap, Observation

STEP_NS = 100_000_000
"""One step is 100 ms of log time."""
REACH, LIMIT = 0.85, 0.95
"""Fractions of the success radius from which an explorer says "found": what it knows of a thing's place and
of its own is a little wrong, and farther away where nothing nearer can be stood at."""
SUCCESS_MARGIN = 0.1
"""A goal counts as reached this close to where its category counts as found [m]; as in Habitat."""
START_DRAWS, GOAL_DRAWS = 30, 20
"""So many starts are drawn until one is far enough from the goal and does not show it, and so many goals."""
SLACK_REWARD, SUCCESS_REWARD = -0.01, 2.5

CONTROLS = ("discrete", "velocity")

NavObs = dict[str, Any]


class NavTask(gymnasium.Env[NavObs, Any]):
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
        control: "discrete" or "velocity": an action is then (3,) float32 in [-1, 1], velocity ahead,
            angular velocity, and above 0 for "found"; a step takes `STEP_NS`.
        start_distance: the first goal is at least this far from the start where the place allows it [m].
        hidden_start: whether the first goal must not be in view from there.
        goal_steps: a goal that is not found within so many steps, or wrongly said to be found, is followed
            by the next; the episode ends with a wrong "found" where None.

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
        goal_labels: Sequence[str] | str | None = None,
        robot: RobotConfig | Mapping[str, Any] | None = None,
        render_mode: str | None = None,
        control: str = "discrete",
        start_distance: float = START_DISTANCE,
        hidden_start: bool = False,
        goal_steps: int | None = None,
    ) -> None:
        if goal_steps is not None:
            check_whole("goal_steps", goal_steps, 1)
        if control not in CONTROLS:
            raise ConfigError(f'no control "{control}"; there are: {", ".join(CONTROLS)}')
        check_numbers(goals, max_steps, revisit, success_radius)
        goal_labels = (goal_labels,) if isinstance(goal_labels, str) else goal_labels
        if goal_labels is not None and not isinstance(goal_labels, Sequence):
            raise ConfigError(f'goal_labels takes categories such as "[cup, bowl]", got "{goal_labels}"')
        for label in goal_labels or ():
            labels.id(label)
        self.labels, self.goals, self.max_steps = labels, goals, max_steps
        self.revisit, self.success_radius, self.goal_labels = revisit, success_radius, goal_labels
        self.start_distance, self.hidden_start, self.goal_steps = start_distance, hidden_start, goal_steps
        self._things = [i for i, name in enumerate(labels.names) if i and name not in STRUCTURE]
        self.robot_config = config = settings(RobotConfig, "robot", robot)
        self.render_mode = render_mode
        self.camera = Camera(config.width, config.image_height, config.hfov)
        shape = (config.image_height, config.width)
        inf = np.inf
        self.control = control
        self.action_space = (
            gymnasium.spaces.Discrete(len(Action))
            if control == "discrete"
            else gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
        )
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
        """Returns a controller that turns sub-goals into this world's actions.

        Raises:
            ConfigError: under velocity control.
        """
        if self.control != "discrete":
            raise ConfigError("the explorer takes discrete steps; leave out control=velocity")
        robot = self.robot_config
        return BaseController(math.radians(robot.turn), robot.forward, eye=robot.camera_height)

    def explorer(self) -> Explorer:
        """Returns an explorer with the patience that this robot's turns take."""
        return Explorer(8 + round(360.0 / self.robot_config.turn), same=0.4, small=0.3, detour=6.0)

    def seeker(self) -> Seeker:
        """Returns an agent that explores, and goes to the goal once the memory knows it."""
        circle = round(360.0 / self.robot_config.turn)
        reach, limit = REACH * self.success_radius, LIMIT * self.success_radius
        return Seeker(self.explorer(), int(Action.FOUND), int(Action.LEFT), circle, reach, limit)

    def oracle(self) -> NavOracle:
        """Returns an agent that knows the place: the shortest way to every goal."""
        return NavOracle(self)

    @property
    def goal_label(self) -> str:
        """Category of the current goal."""
        return self._measures.current.label

    @property
    def is_at_goal(self) -> bool:
        """True where "found" would be true: ground truth, for evaluators only."""
        return self._distance <= SUCCESS_MARGIN

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
            options: what `enter` understands; "goals" (categories, one after another) and "start" (x, y
                [m], yaw [rad]) are taken as they are instead of drawn, so that other worlds or agents can
                play the same episode.

        Raises:
            ConfigError: the place lacks every goal category, or an option makes no sense.
        """
        super().reset(seed=seed)
        given = options or {}
        self.site = self.enter(given)
        for _ in range(GOAL_DRAWS):
            self._measures = NavMeasures(
                self._given_goals(given["goals"]) if "goals" in given else self._draw_goals()
            )
            if self._place_robot(given.get("start")) or "goals" in given:
                break
        self._steps = 0
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
        return draw_legs(labels, self.goals, self.revisit, self.np_random)

    def _given_goals(self, labels: Sequence[str]) -> list[Leg]:
        lacking = [label for label in labels if label not in self.site.labels]
        if lacking or not labels:
            there = ", ".join(self.site.labels)
            raise ConfigError(f"{self.site.title} has no {', '.join(lacking) or 'goals'}; it has: {there}")
        return [Leg(label, label in labels[:i]) for i, label in enumerate(labels)]

    def _place_robot(self, start: Sequence[float] | None) -> bool:
        """Returns whether the start is as far from the goal, and as blind to it, as it should be."""
        fits = True
        if start is None:
            for _ in range(START_DRAWS):
                position = self.site.start(self.goal_label, self.success_radius, self.np_random)
                yaw = float(self.np_random.uniform(-np.pi, np.pi))
                if fits := self._is_start(position, yaw):
                    break
        elif len(start) == 3 and np.isfinite(start).all():
            position, yaw = np.array(start[:2], np.float64), float(start[2])
        else:
            raise ConfigError(f"start must be x, y and yaw, got {start}")
        self.robot = self.site.robot(self.robot_config, position, yaw)
        noise_rng = np.random.default_rng(int(self.np_random.integers(2**31)))
        self._noise_rng = noise_rng
        self.odometry = Odometry(self.robot_config.noise, self.robot.pose, noise_rng)
        return fits

    def _is_start(self, position: NDArray[np.float64], yaw: float) -> bool:
        if self.start_distance > START_DISTANCE:
            away = self.site.distance(self.goal_label, self.success_radius, position)
            if not self.start_distance <= away < math.inf:
                return False
        if not self.hidden_start:
            return True
        robot = self.site.robot(self.robot_config, position, yaw)
        map_T_camera = robot.pose @ robot.base_T_camera
        view = self.site.view(self.camera, map_T_camera, self.robot_config.max_depth)
        return not bool((view.label == self.labels.id(self.goal_label)).any())

    def _start_leg(self) -> float:
        """Starts the way to the current goal; returns how far it is [m]."""
        self._leg_start, self._leg_began = self.robot.position.copy(), self._steps
        distance = self._distance_to_goal()
        self._measures.current.shortest = distance
        return distance

    def _distance_to_goal(self) -> float:
        return self.site.distance(self.goal_label, self.success_radius, self.robot.position)

    def on_step(self, count: int) -> None:
        """What happens in the place by itself before an action; nothing unless a subclass knows more.

        Args:
            count: which step of the episode this is, from 1 on.
        """

    def _carry_out(self, action: Any) -> tuple[float, float, bool, bool]:
        """Returns way ahead [m], angle turned [rad], whether something was in the way, and "found"."""
        if self.control == "discrete":
            chosen = Action(int(action))
            return *self.robot.act(chosen), chosen == Action.FOUND
        linear, angular, found = (float(v) for v in np.asarray(action, np.float64).reshape(3))
        if found > 0.0:
            return 0.0, 0.0, False, True
        seconds, config = STEP_NS / 1e9, self.robot_config
        angle = min(max(angular, -1.0), 1.0) * math.radians(config.max_turn_rate) * seconds
        moved, blocked = self.robot.drive(min(max(linear, -1.0), 1.0) * config.max_speed * seconds, angle)
        return moved, angle, blocked, False

    def step(self, action: Any) -> tuple[NavObs, float, bool, bool, dict[str, Any]]:
        """Carries out one of the robot's actions."""
        self._steps += 1
        self.on_step(self._steps)
        length, angle, blocked, says_found = self._carry_out(action)
        self.odometry.count(length, angle, self.robot.pose)
        self._measures.walk(abs(length))
        before, self._distance = self._distance, self._distance_to_goal() if length else self._distance
        reward = SLACK_REWARD
        if math.isfinite(before) and math.isfinite(
            self._distance
        ):  # in a nook that no way leads to: no progress
            reward += before - self._distance
        terminated = False
        if says_found:
            found = self._measures.current.success = self.is_at_goal
            reward += SUCCESS_REWARD if found else 0.0
            terminated = self._ends_leg(found)
        elif self.goal_steps is not None and self._steps - self._leg_began >= self.goal_steps:
            terminated = self._ends_leg(False)
        truncated = not terminated and self._steps >= self.max_steps
        self._last = {
            "action": int(action) if self.control == "discrete" else np.asarray(action, np.float64),
            "reward": float(reward),
            "terminated": terminated,
            "truncated": truncated,
        }
        self._sense()
        return self._encode(), float(reward), terminated, truncated, self._info(blocked)

    def _ends_leg(self, found: bool) -> bool:
        """Goes on to the next goal; returns True where the episode ends instead."""
        if self._measures.is_last or not (found or self.goal_steps is not None):
            return True
        self._measures.index += 1
        self._distance = self._start_leg()
        return False

    def drive(self, length: float, angle: float) -> None:
        """Turns [rad] and goes ahead [m] by any amount, as a velocity would, and takes a step's pictures."""
        moved, _ = self.robot.drive(length, angle)
        self.odometry.count(moved, angle, self.robot.pose)
        self._steps += 1
        self._measures.walk(abs(moved))
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
        self._label = self._view.label
        if noise.wrong_label or noise.missed:
            self._label = mistaken_labels(
                self._label,
                self._view.instance,
                self._things,
                noise.wrong_label,
                noise.missed,
                self._noise_rng,
            )

    def _encode(self) -> NavObs:
        pose, yaw = self.odometry.pose.position, self.odometry.pose.yaw
        values = [pose[0], pose[1], math.sin(yaw), math.cos(yaw), self.robot.tilt]
        return {
            "rgb": self._view.color,
            "depth": np.minimum(self._depth, np.float32(self.robot_config.max_depth))[..., None],
            "semantic": self._label[..., None],
            "pose": np.array(values, np.float32),
            "goal": np.array([self.labels.id(self.goal_label)], np.int64),
        }

    def _info(self, collided: bool) -> dict[str, Any]:
        measures = self._measures.info(self._distance, self.robot.collisions, collided)
        return {**measures, **self.site.info}

    @property
    def observation(self) -> Observation:
        """The last step as the loop's `Observation`: what a robot would have, and no more."""
        camera, mount, view = self.camera.intrinsics, self._base_T_camera, self._view
        label = self.goal_label
        frame = CameraFrame(
            "head",
            depth=Image(self._depth, camera, mount),
            color=Image(view.color, camera, mount),
            semantic=Image(self._label, camera, mount),
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

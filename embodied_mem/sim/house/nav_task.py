"""What the navigation tasks in houses share: house, robot, sensors, goals and measures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from embodied_mem.configs import from_mapping
from embodied_mem.errors import ConfigError
from embodied_mem.memory import MemoryConfig
from embodied_mem.perception import PerceptionConfig
from embodied_mem.sim.base_controller import BaseController
from embodied_mem.sim.explorer import Explorer
from embodied_mem.sim.house.catalog import HOUSE_LABELS
from embodied_mem.sim.house.config import ChangeConfig, HouseConfig, RobotConfig
from embodied_mem.sim.house.house import SPLITS, House, shared_house
from embodied_mem.sim.house.memory import house_memory_config, house_perception_config
from embodied_mem.sim.house.oracle import HouseOracle
from embodied_mem.sim.house.overnight import change_house
from embodied_mem.sim.house.renderer import Camera, View, scene_of
from embodied_mem.sim.house.robot import Action, Odometry, Robot, noisy_depth
from embodied_mem.sim.nav_measures import Leg, NavMeasures, draw_legs
from embodied_mem.sim.seeker import Seeker
from embodied_mem.types import CameraFrame, Goal, Image, Observation

STEP_NS = 100_000_000
"""One step is 100 ms of log time."""
SUCCESS_MARGIN = 0.1
"""A goal counts as reached this close to where its category counts as found [m]; as in Habitat."""
START_DISTANCE = 2.0
"""Episodes start at least this far from the first goal where the house allows it [m]."""
SLACK_REWARD, SUCCESS_REWARD = -0.01, 2.5

HouseObs = dict[str, Any]


class HouseNav(gymnasium.Env[HouseObs, np.int64]):
    """What the tasks in houses share: house, robot, sensors, goals and measures.

    Args:
        goals: how many goals an episode has, one after another.
        max_steps: limit of steps.
        split: houses of "train", "val" or "test".
        house_seed: one house for all episodes; drawn from the split at every reset where None.
        revisit: probability that a goal is one of the earlier ones again.
        success_radius: something counts as found from this far, seen from above, in its own room [m].
        goal_labels: categories that can be goals; every category of the house where None.
        house: the distribution of houses, as `HouseConfig` or a mapping.
        robot: the robot, as `RobotConfig` or a mapping.
        render_mode: None or "rgb_array".

    Raises:
        ConfigError: settings that contradict themselves.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        goals: int,
        max_steps: int,
        split: str = "train",
        house_seed: int | None = None,
        revisit: float = 0.0,
        success_radius: float = 1.0,
        goal_labels: tuple[str, ...] | None = None,
        house: HouseConfig | Mapping[str, Any] | None = None,
        robot: RobotConfig | Mapping[str, Any] | None = None,
        render_mode: str | None = None,
    ) -> None:
        _check(goals, max_steps, split, house_seed, revisit, success_radius)
        for label in goal_labels or ():
            HOUSE_LABELS.id(label)
        self.goals, self.max_steps, self.split, self.house_seed = goals, max_steps, split, house_seed
        self.revisit, self.success_radius, self.goal_labels = revisit, success_radius, goal_labels
        self.house_config = from_mapping(HouseConfig, house) if isinstance(house, Mapping) else house
        self.house_config = self.house_config or HouseConfig()
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
                "semantic": gymnasium.spaces.Box(0, len(HOUSE_LABELS) - 1, (*shape, 1), np.int32),
                "pose": gymnasium.spaces.Box(-inf, inf, (5,), np.float32),
                "goal": gymnasium.spaces.Box(0, len(HOUSE_LABELS) - 1, (1,), np.int64),
            }
        )
        self._house: House | None = None

    # What a run outside of gymnasium (`record`, `MemoryWrapper`) needs to know of this world.

    def memory_config(self) -> MemoryConfig:
        """Returns the memory's settings for this world."""
        return house_memory_config(self.house_config)

    def perception_config(self) -> PerceptionConfig:
        """Returns perception's settings for this world."""
        return house_perception_config()

    def controller(self) -> BaseController:
        """Returns a controller that turns sub-goals into this world's actions."""
        robot = self.robot_config
        return BaseController(math.radians(robot.turn), robot.forward, eye=robot.camera_height)

    def explorer(self) -> Explorer:
        """Returns an explorer with the patience that this robot's turns take."""
        return Explorer(patience=8 + round(360.0 / self.robot_config.turn), same=0.4)

    def seeker(self) -> Seeker:
        """Returns an agent that explores, and goes to the goal once the memory knows it."""
        return Seeker(self.explorer(), int(Action.FOUND), 0.8 * self.success_radius)

    def oracle(self) -> HouseOracle:
        """Returns an agent that knows the house: the shortest way to every goal."""
        return HouseOracle(self)

    @property
    def house(self) -> House:
        """The house of the current episode: ground truth, for evaluators only."""
        assert self._house is not None, "reset the environment first"
        return self._house

    @property
    def view(self) -> View:
        """The last images without noise, with instance ids: ground truth, for evaluators only."""
        return self._view

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[HouseObs, dict[str, Any]]:
        """Draws a house, a start and goals; the same seed gives the same episode.

        Args:
            seed: of the episode.
            options: "house" (seed of the house), "nights" (how often it changed overnight before).

        Raises:
            ConfigError: the house lacks every goal category, or an option makes no sense.
        """
        super().reset(seed=seed)
        options = options or {}
        drawn = SPLITS[self.split][int(self.np_random.integers(len(SPLITS[self.split])))]
        fixed = options.get("house", self.house_seed)
        self._house = shared_house(drawn if fixed is None else int(fixed), self.house_config)
        for night in range(int(options.get("nights", 0))):
            self._house, _ = change_house(self._house, night, ChangeConfig())
        self._measures = NavMeasures(self._draw_goals())
        self._place_robot()
        self._steps = 0
        self._last: dict[str, Any] = {"is_first": True}
        self._distance = self._start_leg()
        self._sense()
        return self._encode(), self._info(False)

    def _draw_goals(self) -> list[Leg]:
        house = self.house
        wanted = house.labels if self.goal_labels is None else self.goal_labels
        labels = [label for label in wanted if label in house.labels]
        if not labels:
            there = ", ".join(house.labels)
            raise ConfigError(
                f"house {house.seed} has none of the goals {', '.join(wanted)}; it has: {there}"
            )
        return draw_legs(labels, self.goals, self.revisit, self.np_random)

    def _place_robot(self) -> None:
        plan = self.house.floor_plan
        away = self.house.distances_to(self._measures.current.label, self.success_radius)
        start = np.flatnonzero(plan.main_part & (away >= START_DISTANCE))
        if len(start) == 0:
            start = np.flatnonzero(plan.main_part)
        position = plan.centers[start[int(self.np_random.integers(len(start)))]]
        self.robot = Robot(self.robot_config, plan, position, float(self.np_random.uniform(-np.pi, np.pi)))
        noise_rng = np.random.default_rng(int(self.np_random.integers(2**31)))
        self._noise_rng = noise_rng
        self.odometry = Odometry(self.robot_config.noise, self.robot.pose, noise_rng)

    def _start_leg(self) -> float:
        """Starts the way to the current goal; returns how far it is [m]."""
        distance = self._distance_to_goal()
        self._measures.current.shortest = distance
        return distance

    def _distance_to_goal(self) -> float:
        return self.house.floor_plan.look_up(self.distances, self.robot.position)

    @property
    def distances(self) -> NDArray[np.float64]:
        """(H, W) shortest ways [m] to the current goal from every cell of the floor plan: ground truth."""
        return self.house.distances_to(self._measures.current.label, self.success_radius)

    @property
    def is_at_goal(self) -> bool:
        """True where "found" would be true: ground truth."""
        return self._distance <= SUCCESS_MARGIN

    def step(self, action: np.int64 | int) -> tuple[HouseObs, float, bool, bool, dict[str, Any]]:
        """Carries out one of the robot's actions."""
        chosen = Action(int(action))
        length, angle, blocked = self.robot.act(chosen)
        self.odometry.count(length, angle, self.robot.pose)
        self._steps += 1
        self._measures.walk(length)
        before, self._distance = self._distance, self._distance_to_goal() if length else self._distance
        reward = SLACK_REWARD + before - self._distance
        terminated = False
        if chosen == Action.FOUND:
            found = self._measures.current.success = self.is_at_goal
            reward += SUCCESS_REWARD if found else 0.0
            terminated = not found or self._measures.is_last
            if not terminated:
                self._measures.index += 1
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

    def _sense(self) -> None:
        """Takes the pictures of this step."""
        self._base_T_camera = self.robot.base_T_camera
        map_T_camera = self.robot.pose @ self._base_T_camera
        self._view = self.camera.view(scene_of(self.house), map_T_camera, self.robot_config.max_depth)
        noise = self.robot_config.noise
        self._depth = self._view.depth
        if noise.depth or noise.dropout:
            self._depth = noisy_depth(self._depth, noise, self._noise_rng)

    def _encode(self) -> HouseObs:
        pose, yaw = self.odometry.pose.position, self.odometry.pose.yaw
        values = [pose[0], pose[1], math.sin(yaw), math.cos(yaw), self.robot.tilt]
        return {
            "rgb": self._view.color,
            "depth": np.minimum(self._depth, np.float32(self.robot_config.max_depth))[..., None],
            "semantic": self._view.label[..., None],
            "pose": np.array(values, np.float32),
            "goal": np.array([HOUSE_LABELS.id(self._measures.current.label)], np.int64),
        }

    def _info(self, collided: bool) -> dict[str, Any]:
        measures = self._measures.info(self._distance, self.robot.collisions, collided)
        return {**measures, "house": self.house.seed}

    @property
    def observation(self) -> Observation:
        """The last step as the loop's `Observation`: what a robot would have, and no more."""
        camera, mount, view = self.camera.intrinsics, self._base_T_camera, self._view
        label = self._measures.current.label
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
            labels=HOUSE_LABELS,
            cameras=(frame,),
            goal=Goal(label=HOUSE_LABELS.id(label), text=f"find a {label}"),
            **self._last,
        )

    def render(self) -> NDArray[np.uint8]:
        """Returns what the robot sees, (H, W, 3) uint8."""
        return self._view.color


def _check(
    goals: int, max_steps: int, split: str, house_seed: int | None, revisit: float, success_radius: float
) -> None:
    if goals < 1 or max_steps < 1:
        raise ConfigError(f"goals and max_steps must be at least 1, got {goals} and {max_steps}")
    if split not in SPLITS:
        raise ConfigError(f'no split "{split}" of houses; there are: {", ".join(SPLITS)}')
    if house_seed is not None and house_seed < 0:
        raise ConfigError(f"the seed of a house must not be negative, got {house_seed}")
    if not 0.0 <= revisit <= 1.0 or not success_radius > 0.0:
        raise ConfigError("revisit must be in 0..1 and success_radius positive")

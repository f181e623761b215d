"""Houses as places of navigation tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError
from embodied_mem.geometry import Pose
from embodied_mem.memory import MemoryConfig
from embodied_mem.perception import PerceptionConfig
from embodied_mem.sim.house.catalog import HOUSE_LABELS
from embodied_mem.sim.house.config import ChangeConfig, HouseConfig, RobotConfig
from embodied_mem.sim.house.house import SPLITS, House, shared_house
from embodied_mem.sim.house.memory import house_memory_config, house_perception_config
from embodied_mem.sim.house.overnight import Change, change_house
from embodied_mem.sim.house.renderer import Camera, View, scene_of
from embodied_mem.sim.house.robot import Robot
from embodied_mem.sim.house.truth import ground_truth
from embodied_mem.sim.nav_settings import check_whole, settings
from embodied_mem.sim.nav_task import NavTask
from embodied_mem.sim.site import START_DISTANCE

DRAWS = 20
"""How often a change of the house is drawn until it leaves robot and goals alone."""


TIGHT_MARGIN = 0.02
"""What is free floor to the tasks' memory is so much farther from obstacles than the robot's radius [m]: one
in 80 things can be reached through passages alone that a wider margin closes. The controller goes there
only where nothing wider leads to the goal."""


class HouseSite:
    """A house as a `Site`.

    Args:
        house: the house.
    """

    def __init__(self, house: House) -> None:
        self.house = house
        self.title = f"house {house.seed}"
        self.labels = house.labels
        self.info: Mapping[str, Any] = {"house": house.seed}

    def start(self, label: str, radius: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draws the centre of a free cell of the floor plan."""
        plan = self.house.floor_plan
        away = self.house.distances_to(label, radius)
        cells = np.flatnonzero(plan.main_part & (away >= START_DISTANCE))
        if len(cells) == 0:
            cells = np.flatnonzero(plan.main_part)
        return plan.centers[cells[int(rng.integers(len(cells)))]]

    def robot(self, config: RobotConfig, position: NDArray[np.float64], yaw: float) -> Robot:
        """Returns a robot on the floor plan."""
        return Robot(config, self.house.floor_plan, position, yaw)

    def distance(self, label: str, radius: float, position: NDArray[np.float64]) -> float:
        """Looks the distance up in the label's field."""
        return self.house.floor_plan.look_up(self.house.distances_to(label, radius), position)

    def view(self, camera: Camera, map_T_camera: Pose, max_depth: float) -> View:
        """Casts the camera's rays into the house."""
        return camera.view(scene_of(self.house), map_T_camera, max_depth)


class HouseNav(NavTask):
    """A navigation task in procedural houses.

    Environments in one process share the meshes of a house (`shared_house`); processes of their own each
    build those of the houses that they are in, and keep the last 16.

    Args:
        goals: how many goals an episode has, one after another.
        max_steps: limit of steps.
        split: houses of "train", "val" or "test".
        house_seed: one house for all episodes; drawn from the split at every reset where None.
        house: the distribution of houses, as `HouseConfig` or a mapping.
        change_at: the step before which objects are moved, added and removed; never where None.
        changes: how much changes then, and overnight, as `ChangeConfig` or a mapping.
        kwargs: arguments of `NavTask`.

    Raises:
        ConfigError: settings that contradict themselves.
    """

    def __init__(
        self,
        goals: int,
        max_steps: int,
        split: str = "train",
        house_seed: int | None = None,
        house: HouseConfig | Mapping[str, Any] | None = None,
        change_at: int | None = None,
        changes: ChangeConfig | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if change_at is not None:
            check_whole("change_at", change_at, 1)
        if split not in SPLITS:
            raise ConfigError(f'no split "{split}" of houses; there are: {", ".join(SPLITS)}')
        if house_seed is not None:
            check_whole("house_seed", house_seed, 0)
        super().__init__(HOUSE_LABELS, goals, max_steps, **kwargs)
        self.split, self.house_seed = split, house_seed
        self.house_config = settings(HouseConfig, "house", house)
        self.change_at, self.change_config = change_at, settings(ChangeConfig, "changes", changes)
        self.changes: tuple[Change, ...] = ()
        self._house: House | None = None

    def memory_config(self) -> MemoryConfig:
        """Returns the memory's settings for this world."""
        # With such rooms the shipped policy has learnt.
        return house_memory_config(self.house_config, TIGHT_MARGIN, walls=False)

    def perception_config(self) -> PerceptionConfig:
        """Returns perception's settings for this world."""
        return house_perception_config()

    @property
    def house(self) -> House:
        """The house of the current episode: ground truth, for evaluators only."""
        assert self._house is not None, "reset the environment first"
        return self._house

    def ground_truth(self, whole: bool) -> dict[str, Any]:
        """Returns where the robot and the things are and what is in view, for a log's evaluator only.

        Args:
            whole: with all things and rooms.
        """
        return ground_truth(self, whole)

    def enter(self, options: Mapping[str, Any]) -> HouseSite:
        """Chooses a house.

        Args:
            options: "house" (seed of the house), "nights" (how often it changed overnight before).
        """
        drawn = SPLITS[self.split][int(self.np_random.integers(len(SPLITS[self.split])))]
        fixed = options.get("house", self.house_seed)
        house = shared_house(drawn if fixed is None else int(fixed), self.house_config)
        self.changes = ()
        for night in range(int(options.get("nights", 0))):
            house, found = change_house(house, night, self.change_config)
            self.changes += found
        self._house = house
        return HouseSite(house)

    def on_step(self, count: int) -> None:
        """Changes the house at its time; `changes` tells what, as ground truth for evaluators only.

        The robot is never built in, and what is still to be found stays in the house. From then on the
        shortest way to the current goal is that of the changed house, from where the goal was given.
        """
        if count != self.change_at:
            return
        wanted = {leg.label for leg in self._measures.legs[self._measures.index :]}
        for _ in range(DRAWS):
            after, found = change_house(self.house, int(self.np_random.integers(2**31)), self.change_config)
            if wanted <= set(after.labels) and after.floor_plan.is_free(self.robot.position):
                break
        else:
            return
        self._house, self.site = after, HouseSite(after)
        self.changes += found
        self.robot.plan = after.floor_plan
        self._distance = self._distance_to_goal()
        leg = self._measures.current
        leg.shortest = self.site.distance(leg.label, self.success_radius, self._leg_start)

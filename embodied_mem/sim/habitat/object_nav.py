"""ObjectNav and MultiObjectNav in scenes of habitat-sim."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embodied_mem.errors import ConfigError
from embodied_mem.memory import MemoryConfig
from embodied_mem.perception import DepthConfig, DetectorConfig, PerceptionConfig
from embodied_mem.sim.habitat.config import HabitatConfig, habitat_config
from embodied_mem.sim.habitat.simulator import find_scene, scene_names
from embodied_mem.sim.habitat.site import HabitatSite, shared_site
from embodied_mem.sim.house.catalog import STRUCTURE
from embodied_mem.sim.house.config import HouseConfig
from embodied_mem.sim.house.house_nav import TIGHT_MARGIN
from embodied_mem.sim.house.memory import house_memory_config
from embodied_mem.sim.nav_task import NavTask


class HabitatNav(NavTask):
    """A navigation task in the scenes of a dataset that habitat-sim opens.

    Args:
        habitat: the dataset: a `HabitatConfig`, a mapping, a YAML file, or the path of a dataset.
        goals: how many goals an episode has, one after another.
        max_steps: limit of steps.
        scene: one scene for all episodes; drawn from those of the config at every reset where None.
        kwargs: arguments of `NavTask`.

    Raises:
        ConfigError: habitat-sim is missing, or there is no such dataset or scene.
    """

    def __init__(
        self,
        habitat: HabitatConfig | Mapping[str, Any] | str | Path | None,
        goals: int,
        max_steps: int,
        scene: str | None = None,
        **kwargs: Any,
    ) -> None:
        if habitat is None:
            raise ConfigError(
                "say which scenes habitat-sim should open: habitat=PATH of a scene dataset or of a YAML file"
            )
        self.habitat_config = config = habitat_config(habitat)
        dataset = config.dataset_file
        names = scene_names(dataset)
        chosen = (scene,) if scene is not None else config.scenes or tuple(names)
        for name in chosen:
            find_scene(names, name, dataset)
        self.scenes = chosen
        super().__init__(config.label_map, goals, max_steps, **kwargs)

    def memory_config(self) -> MemoryConfig:
        """Returns the memory's settings for this world: those of the tasks in houses, for this robot."""
        robot = HouseConfig(
            robot_radius=self.habitat_config.robot_radius, robot_height=self.habitat_config.robot_height
        )
        config = house_memory_config(robot, TIGHT_MARGIN, walls=False)
        step = max(config.navigation.step_height, self.habitat_config.max_climb)
        return dataclasses.replace(
            config, navigation=dataclasses.replace(config.navigation, step_height=step)
        )

    def perception_config(self) -> PerceptionConfig:
        """Returns settings that find everything that has a label, but floors, walls and ceilings."""
        labels = tuple(name for name in self.labels.names[1:] if name not in STRUCTURE)
        return PerceptionConfig(depth=DepthConfig(max_range=5.0), detector=DetectorConfig(labels=labels))

    def enter(self, options: Mapping[str, Any]) -> HabitatSite:
        """Chooses a scene.

        Args:
            options: "scene" (its name).
        """
        drawn = self.scenes[int(self.np_random.integers(len(self.scenes)))]
        return shared_site(self.habitat_config, str(options.get("scene", drawn)))


class HabitatObjectNav(HabitatNav):
    """Find something of a category in a scene that habitat-sim renders.

    ## Description
    House-ObjectNav in any scene that habitat-sim opens: houses that `embodied-mem export-house` wrote,
    HM3D, HSSD, MP3D, Replica. habitat-sim renders, blocks the way and measures distances; the rest is
    the same.

    ## Action Space
    `Discrete(6)`: 0 found, 1 forward 0.25 m (it stops at what is in the way and does not slide), 2 turn
    left 30 degrees, 3 turn right, 4 look up 30 degrees, 5 look down.

    ## Observation Space
    That of House-ObjectNav; `semantic` and `goal` have the labels of the config.

    ## Rewards
    Every step: the way that the robot came closer to the nearest goal [m], less 0.01. 2.5 for found
    where it is true.

    ## Starting State
    A scene of the dataset (or `scene`), a category of it, and a position on the largest part of its
    navigation mesh, at least 2 m from the goal, all drawn from the seed.

    ## Episode End
    Saying found ends the episode; it is a success within `success_radius` of the box of a thing of the
    category, seen from above, on its storey, and in its room where the dataset tells rooms. Truncated
    after `max_steps`. `info` is that of House-ObjectNav, with `scene` instead of `house`.

    ## Arguments
    * `habitat`: path of a scene dataset or of a YAML file (`HabitatConfig`), needed.
    * `scene=None`, `max_steps=500`, `success_radius=1.0`, `goal_labels=None`, `robot` (`RobotConfig`).
    * `reset(options={"scene": "house_7"})`: which scene.
    """

    def __init__(
        self,
        habitat: HabitatConfig | Mapping[str, Any] | str | Path | None = None,
        max_steps: int = 500,
        **kwargs: Any,
    ) -> None:
        super().__init__(habitat, goals=1, max_steps=max_steps, **kwargs)


class HabitatMultiObjectNav(HabitatNav):
    """Find things of several categories, one after another, in one scene that habitat-sim renders.

    ## Description
    House-MultiObjectNav in any scene that habitat-sim opens; see HabitatObjectNav.

    ## Action Space
    That of HabitatObjectNav; 0 says that the current goal is found.

    ## Observation Space
    That of HabitatObjectNav; `goal` is the current one.

    ## Rewards
    Those of HabitatObjectNav, for every goal.

    ## Starting State
    That of HabitatObjectNav; the goals after the first are drawn too, each with probability `revisit`
    one of the earlier ones again.

    ## Episode End
    With the last goal found, with a wrong found, or after `max_steps`.

    ## Arguments
    * `goals=4`, `revisit=0.3`, `max_steps=1500`, otherwise those of HabitatObjectNav.
    """

    def __init__(
        self,
        habitat: HabitatConfig | Mapping[str, Any] | str | Path | None = None,
        goals: int = 4,
        revisit: float = 0.3,
        max_steps: int = 1500,
        **kwargs: Any,
    ) -> None:
        super().__init__(habitat, goals=goals, max_steps=max_steps, revisit=revisit, **kwargs)

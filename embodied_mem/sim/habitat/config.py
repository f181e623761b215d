"""Which scenes habitat-sim opens, what their things are called here, and where the robot fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embodied_mem.configs import from_mapping, load_config
from embodied_mem.errors import ConfigError
from embodied_mem.labels import LabelMap
from embodied_mem.sim.house.catalog import HOUSE_LABELS

DATASET_SUFFIX = ".scene_dataset_config.json"


@dataclass(frozen=True)
class HabitatConfig:
    """A scene dataset as a world; the defaults suit houses that `export-house` wrote."""

    dataset: str
    """The dataset's .scene_dataset_config.json, or a folder with one in it."""
    scenes: tuple[str, ...] = ()
    """Names of the scenes to use; all of the dataset's where empty."""
    labels: tuple[str, ...] = ()
    """Labels of the semantic images beside "unknown"; a house's where empty."""
    rename: dict[str, str] = field(default_factory=dict)
    """What the dataset calls a thing: what it is called here. Other names stay as they are; things whose
    name is no label are "unknown"."""
    robot_radius: float = 0.18
    """Of the robot [m]."""
    robot_height: float = 1.0
    """What hangs higher than this does not block the robot [m]."""
    max_climb: float = 0.03
    """The robot gets over steps up to this height [m]."""
    cell_size: float = 0.01
    """Pitch of the cells that the navigation mesh is computed from [m]."""
    cell_height: float = 0.02
    """Height of these cells [m]."""
    shipped_navmesh: bool = False
    """Take a scene's own navigation mesh whatever robot it is for; otherwise only if it is for this one."""
    gpu: int = -1
    """CUDA device that renders; -1 takes whatever OpenGL there is, such as software rendering."""

    def __post_init__(self) -> None:
        for name in ("robot_radius", "robot_height", "cell_size", "cell_height"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"habitat.{name} must be positive, got {getattr(self, name)}")
        if self.max_climb < 0:
            raise ConfigError(f"habitat.max_climb must not be negative, got {self.max_climb}")
        unknown = sorted(set(self.rename.values()) - set(self.label_map.names))
        if unknown:
            raise ConfigError(f"habitat.rename leads to no label: {', '.join(unknown)}")

    @property
    def label_map(self) -> LabelMap:
        """Names of the labels in the semantic images."""
        return LabelMap(("unknown", *self.labels)) if self.labels else HOUSE_LABELS

    @property
    def dataset_file(self) -> Path:
        """The dataset's config.

        Raises:
            ConfigError: it is missing, or the folder has none or several.
        """
        path = Path(self.dataset).expanduser()
        if path.is_file():
            return path
        if not path.is_dir():
            raise ConfigError(
                f"no scene dataset at {path}; give its {DATASET_SUFFIX} file or folder, "
                "or make one by `embodied-mem export-house --out FOLDER`"
            )
        found = sorted(path.glob(f"*{DATASET_SUFFIX}"))
        if len(found) != 1:
            count = "no" if not found else "several"
            raise ConfigError(f"{path} has {count} {DATASET_SUFFIX} in it; name the file")
        return found[0]


def habitat_config(source: HabitatConfig | Mapping[str, Any] | str | Path) -> HabitatConfig:
    """Returns a config from what a user gives: a config, a mapping, a YAML file, or a dataset's path.

    Raises:
        ConfigError: the source is no such thing.
    """
    if isinstance(source, HabitatConfig):
        return source
    if isinstance(source, Mapping):
        return from_mapping(HabitatConfig, source, "habitat")
    if str(source).endswith((".yaml", ".yml")):
        return load_config(HabitatConfig, source)
    return HabitatConfig(dataset=str(source))

"""What the robot of the survey goes through: its camera, its errors, its detector's mistakes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

from embodied_mem.memory import MemoryConfig
from embodied_mem.perception import DepthConfig, PerceptionConfig
from embodied_mem.sim.house.catalog import FURNITURE_LABELS, OBJECT_LABELS
from embodied_mem.sim.house.config import ChangeConfig, NoiseConfig
from embodied_mem.sim.house.memory import house_memory_config


@dataclass(frozen=True)
class SurveyConfig:
    """A guided tour of a house."""

    width: int = 320
    """Columns of the images [px]."""
    image_height: int = 240
    """Rows of the images [px]."""
    hfov: float = 79.0
    """Horizontal field of view [deg]."""
    camera_height: float = 0.9
    """[m]"""
    max_depth: float = 10.0
    """Range of the depth camera [m]."""
    noise: NoiseConfig = field(default_factory=lambda: NoiseConfig(depth=0.003, dropout=0.01))
    """Of the depth images."""
    position_sigma: float = 0.05
    """Standard deviation of the error of the robot's x and of its y [m]."""
    yaw_sigma: float = 1.0
    """Standard deviation of the error of its heading [deg]."""
    error_frames: float = 50.0
    """After so many keyframes an error has become another one: its correlation fell to 1/e."""
    masks: str = "instances"
    """What the detector gets besides labels: "instances", masks numbered anew in every image, or "labels"."""
    label_noise: float = 0.05
    """Fraction of detections that carry a wrong label."""
    missed: float = 0.1
    """Fraction of detections that are lost."""
    hallucinated: float = 0.0
    """Detections of nothing, as a fraction of the others."""
    stops: float = 2.5
    """Everywhere in a room there is a stop within this distance [m]."""
    turns: int = 12
    """Views in a full turn at a stop."""
    tilts: tuple[float, ...] = (-25.0, 0.0)
    """Tilts of the camera, one view after the other [deg]."""
    step: float = 0.5
    """Way between keyframes [m]."""
    twins: float = 0.35
    """At least this fraction of the things share label and colour with another."""
    night: ChangeConfig = field(default_factory=lambda: ChangeConfig(moved=8, added=4, removed=4))
    """What changes overnight."""

    def perception(self) -> PerceptionConfig:
        """Returns the settings of the perception that the memory's scans come from."""
        return PerceptionConfig(depth=DepthConfig(max_range=5.0))

    def memory(self) -> MemoryConfig:
        """Returns the settings of the memory."""
        memory = house_memory_config()
        scene = dataclasses.replace(
            memory.scene,
            align_sigma=self.position_sigma,
            align_yaw=math.radians(self.yaw_sigma),
            align_frames=self.error_frames,
            furniture=0.2,
            driven=True,
            persistence=4 * 86_400.0,
        )
        return dataclasses.replace(memory, scene=scene)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels that are objects."""
        return (*FURNITURE_LABELS, *OBJECT_LABELS)

    def words(self) -> str:
        """Returns everything that a recording depends on, as text."""
        return repr(dataclasses.astuple(self))

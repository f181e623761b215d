"""Settings of the memory, one dataclass per part."""

from __future__ import annotations

from dataclasses import dataclass, field

from embodied_mem.errors import ConfigError
from embodied_mem.memory.budget import BudgetConfig
from embodied_mem.memory.read_config import ReadConfig
from embodied_mem.memory.recall.config import RecallConfig
from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.memory.submaps.config import SubmapConfig


def _require(ok: bool, name: str, what: str, value: object) -> None:
    if not ok:
        raise ConfigError(f"{name} must be {what}, got {value}")


@dataclass(frozen=True)
class OctreeConfig:
    """The occupancy map; none of this can change once a memory has been created."""

    resolution: float = 0.05
    """Edge of a voxel [m]."""
    max_range: float = 5.0
    """Rays longer than this clear free space up to it and hit nothing [m]."""
    hit: float = 0.85
    """Log-odds added to a voxel in which a ray ends."""
    miss: float = -0.4
    """Log-odds added to a voxel through which a ray passes."""
    clamp: tuple[float, float] = (-2.0, 3.5)
    """Lowest and highest log-odds of a voxel."""
    depth_mode: str = "discretized"
    """How depth images are added: "exact" follows every ray, "hybrid" leaves out some free voxels at edges,
    "discretized" follows one ray to each voxel of surface."""

    def __post_init__(self) -> None:
        modes = ("exact", "hybrid", "discretized")
        _require(self.depth_mode in modes, "octree.depth_mode", f"one of {', '.join(modes)}", self.depth_mode)
        for name in ("resolution", "max_range"):
            value = getattr(self, name)
            _require(value > 0, f"octree.{name}", "positive", value)
        _require(self.hit > 0, "octree.hit", "positive", self.hit)
        _require(self.miss < 0, "octree.miss", "negative", self.miss)
        _require(self.clamp[0] < 0 < self.clamp[1], "octree.clamp", "(negative, positive)", self.clamp)


@dataclass(frozen=True)
class NavigationConfig:
    """What the robot can drive over, under and through."""

    robot_height: float = 1.0
    """Free height the robot needs above the floor [m]."""
    step_height: float = 0.1
    """What lies at most this high above the floor is no obstacle [m]."""
    drop_height: float = 0.35
    """Where it is free this far below the floor there is an edge to fall over [m]; 0: nowhere."""
    robot_radius: float = 0.0
    """Free cells nearer than this to an obstacle are obstacles too [m]."""
    passable: tuple[str, ...] = ("door",)
    """Words of labels of what can be passed or opened, occupied or not."""

    def __post_init__(self) -> None:
        for name in ("step_height", "drop_height", "robot_radius"):
            value = getattr(self, name)
            _require(value >= 0, f"navigation.{name}", "zero or positive", value)
        wrong = not self.robot_height > self.step_height
        if wrong:
            raise ConfigError(
                "navigation.robot_height must exceed step_height, "
                f"got {self.robot_height} and {self.step_height}"
            )


@dataclass(frozen=True)
class EpisodeConfig:
    """When an episodic entry (a keyframe) is made, and what is kept of the moment."""

    distance: float = 0.25
    """A new entry after having moved this far [m]."""
    angle: float = 0.35
    """A new entry after having turned this far [rad]."""
    gap: float = 0.5
    """An object unseen for longer than this is met anew when it returns, which makes an entry [s]."""
    consolidate: int = 512
    """After so many entries, stretches of them are summarised without being asked; 0 is never."""
    snapshot_quality: int = 80
    """JPEG quality of snapshots, 1 to 100; 0 keeps none."""
    snapshot_size: int = 640
    """Longest edge of a snapshot; larger images are made smaller [px]."""

    def __post_init__(self) -> None:
        for name in ("distance", "angle", "gap", "consolidate"):
            value = getattr(self, name)
            _require(value >= 0, f"episodes.{name}", "zero or positive", value)
        quality, size = self.snapshot_quality, self.snapshot_size
        _require(0 <= quality <= 100, "episodes.snapshot_quality", "in 0..100", quality)
        _require(size > 0, "episodes.snapshot_size", "positive", size)


@dataclass(frozen=True)
class GateConfig:
    """What is not let into the memory."""

    max_speed: float = 0.0
    """A pose that would need a faster motion than this is an impossible jump [m/s]; 0 lets all pass."""
    jump_allowance: float = 0.5
    """A correction of the localiser this large is never a jump [m]."""
    max_position_sigma: float = 1.0
    """Poses whose x or y has a larger standard deviation are not believed [m]; 0 lets all pass."""
    max_yaw_sigma: float = 0.8
    """Poses whose yaw has a larger standard deviation are not believed [rad]; 0 lets all pass."""

    relocalize: bool = True
    """A reopened memory takes nothing in before a pose in its map has been accepted."""
    relocalize_reach: float = 3.0
    """A pose is accepted at most this far from where the agent has been [m]."""

    def __post_init__(self) -> None:
        for name in (
            "max_speed",
            "relocalize_reach",
            "jump_allowance",
            "max_position_sigma",
            "max_yaw_sigma",
        ):
            value = getattr(self, name)
            _require(value >= 0, f"gate.{name}", "zero or positive", value)


@dataclass(frozen=True)
class StoreConfig:
    """How the memory gets into its file."""

    commit_interval: float = 0.25
    """Changes are handed to the writer at most this often [s]; 0 hands over every write."""
    max_pending: int = 4096
    """Writes that may wait for the writer; beyond it the loop waits for the disk."""
    max_pending_mb: float = 64.0
    """Megabytes of snapshots that may wait for the writer; beyond it the loop waits for the disk."""
    compression: int = 3
    """zstd level of octree blocks."""

    def __post_init__(self) -> None:
        interval, pending, mb = self.commit_interval, self.max_pending, self.max_pending_mb
        _require(interval >= 0, "store.commit_interval", "zero or positive", interval)
        _require(pending > 0, "store.max_pending", "positive", pending)
        _require(mb > 0, "store.max_pending_mb", "positive", mb)
        _require(1 <= self.compression <= 19, "store.compression", "in 1..19", self.compression)


@dataclass(frozen=True)
class MemoryConfig:
    """Settings of a memory; they travel in its file."""

    octree: OctreeConfig = field(default_factory=OctreeConfig)
    """The occupancy map."""
    navigation: NavigationConfig = field(default_factory=NavigationConfig)
    """What the robot can pass."""
    scene: SceneConfig = field(default_factory=SceneConfig)
    """Objects, places and rooms."""
    episodes: EpisodeConfig = field(default_factory=EpisodeConfig)
    """Episodic entries."""
    submaps: SubmapConfig = field(default_factory=SubmapConfig)
    """What corrections of the past need."""
    gate: GateConfig = field(default_factory=GateConfig)
    """What is not let in."""
    recall: RecallConfig = field(default_factory=RecallConfig)
    """Ranking of answers."""
    read: ReadConfig = field(default_factory=ReadConfig)
    """Tokens for the policy."""
    store: StoreConfig = field(default_factory=StoreConfig)
    """The file."""
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    """How large it may grow."""

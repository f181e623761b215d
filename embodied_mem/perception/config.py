"""Settings of perception."""

from __future__ import annotations

from dataclasses import dataclass, field

from embodied_mem.errors import ConfigError


@dataclass(frozen=True)
class DepthConfig:
    """Which depth readings are believed, and how many of them are used."""

    min_range: float = 0.1
    """Nearer readings are ignored [m along the ray]."""
    max_range: float = 5.0
    """Farther readings only clear the space up to here [m along the ray]."""
    stride: int = 1
    """Every n-th pixel of every n-th row is used."""
    max_pixels: int = 100_000
    """The stride grows until no image gives more points than this."""
    edge_jump: float = 0.05
    """Readings between a near and a far surface, this fraction of their depth away from both, are
    ignored: they float in the air at the edges of things. 0 keeps them."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_range < self.max_range:
            raise ConfigError(
                "depth.min_range and depth.max_range must hold 0 <= min_range < max_range, "
                f"got {self.min_range} and {self.max_range}"
            )
        for name in ("stride", "max_pixels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"depth.{name} must be at least 1, got {getattr(self, name)}")
        if not self.edge_jump >= 0.0:
            raise ConfigError(f"depth.edge_jump must not be negative, got {self.edge_jump}")


@dataclass(frozen=True)
class SnapshotConfig:
    """The colour images that memory may keep a moment by."""

    every: int = 1
    """Offer the image of every n-th step; 0 offers none."""
    max_width: int = 320
    """Wider images are reduced by a whole factor to at most this width [px]."""

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ConfigError(f"snapshot.every must not be negative, got {self.every}")
        if self.max_width < 1:
            raise ConfigError(f"snapshot.max_width must be at least 1, got {self.max_width}")


@dataclass(frozen=True)
class PerceptionConfig:
    """How observations become percepts."""

    depth: DepthConfig = field(default_factory=DepthConfig)
    """Depth images."""
    snapshot: SnapshotConfig = field(default_factory=SnapshotConfig)
    """Colour images to remember moments by."""

"""Settings of the scene graph."""

from __future__ import annotations

from dataclasses import dataclass

from embodied_mem.errors import ConfigError


@dataclass(frozen=True)
class SceneConfig:
    """Objects, places, rooms: how they are told apart and when they are believed."""

    gate: float = 0.5
    """A detection belongs to a known object of its label at most this far away [m]."""
    detection_rate: float = 0.9
    """How often an object in view is detected, in (0, 1); near 1 one look without it is enough."""
    false_rate: float = 0.05
    """How often something that is not there is detected all the same, in (0, detection_rate)."""
    position_floor: float = 0.02
    """Standard deviation below which a fused position is never believed [m]."""
    blind_radius: float = 0.6
    """Objects this close to the base, seen from above, are never missed: the body hides them [m]."""
    boundary: tuple[str, ...] = ("door",)
    """Words of labels that separate rooms, open or closed."""
    place_spacing: float = 2.0
    """Every reachable point of free space has a place within this walking distance [m]."""
    place_clearance: float = 0.15
    """Free space closer than this to anything else gets no place of its own [m]."""
    passage_width: float = 1.0
    """Free space narrower than this separates rooms, as the grid map shows it [m]."""
    room_area: float = 2.0
    """Smaller pieces of free space are not a room of their own [m^2]."""
    room_every: int = 1
    """Rooms are looked at anew on every n-th write, and only where the map has changed."""
    room_reach: float = 1.5
    """What stands on no room's floor belongs to the nearest room at most this far away [m]."""
    diagonal: bool = True
    """Whether the agent can move diagonally from cell to cell; False for grid worlds."""
    trajectory_spacing: float = 0.1
    """The trajectory keeps a position when the agent has moved this far from the last one [m]."""

    def __post_init__(self) -> None:
        if not 0.0 < self.false_rate < self.detection_rate < 1.0:
            raise ConfigError(
                "scene.false_rate and scene.detection_rate must hold 0 < false_rate < detection_rate < 1, "
                f"got {self.false_rate} and {self.detection_rate}"
            )
        for name in ("gate", "position_floor", "place_spacing"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"scene.{name} must be positive, got {getattr(self, name)}")
        for name in (
            "blind_radius",
            "place_clearance",
            "passage_width",
            "room_area",
            "room_reach",
            "trajectory_spacing",
        ):
            if not getattr(self, name) >= 0.0:
                raise ConfigError(f"scene.{name} must not be negative, got {getattr(self, name)}")
        if self.room_every < 1:
            raise ConfigError(f"scene.room_every must be at least 1, got {self.room_every}")

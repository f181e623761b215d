"""What a policy reads of the memory in each step: how many entries of which kind."""

from __future__ import annotations

import math
from dataclasses import dataclass

from embodied_mem.errors import ConfigError

STATES = ("open", "closed", "locked")
"""States of objects that a feature of their own tells."""
PLAIN_FEATURES = 1 + len(STATES)
"""Features before the embedding: is the goal, and one for each of `STATES`."""


@dataclass(frozen=True)
class ReadConfig:
    """How many memory entries of which kind a policy sees in each step."""

    tokens: int = 32
    """Width of `MemoryTokens`, at most 64."""
    frontiers: int = 8
    """Clusters of frontier cells, nearest first."""
    objects: int = 12
    """Objects: those the goal names first, then the nearest."""
    places: int = 6
    """Places, nearest first; but see `stale`."""
    rooms: int = 2
    """Rooms: the agent's own first, then the nearest."""
    episodes: int = 4
    """Episodic entries, newest first."""
    goals: int = 0
    """Cubes of the octree that hold voxels of the goal's label, those with several first, then the nearest:
    what was too large, too far or too much hidden to become an object is found all the same."""
    feature_size: int = 4
    """Length of the feature vector: is the goal, open, closed, locked, then the object's embedding."""
    min_existence: float = 0.1
    """Objects less likely to exist are left out."""
    stale: float = 0.0
    """Places that were not visited for so long come before all others [s]: who looks for what is not where it
    was has been to the others. 0: the nearest come first in any case."""
    reach: float = 1.0
    """Path distances of things beside free space count from free cells at most this far away [m]."""
    crops: tuple[float, ...] = ()
    """Edges [m] of the egocentric pictures of the map that go with the tokens; none where empty."""
    crop_pixels: int = 24
    """Pixels along the edge of such a picture."""

    def __post_init__(self) -> None:
        if not 1 <= self.tokens <= 64:
            raise ConfigError(f"read.tokens must be in 1..64, got {self.tokens}")
        quotas = {
            name: getattr(self, name)
            for name in ("frontiers", "objects", "places", "rooms", "episodes", "goals")
        }
        for name, value in quotas.items():
            if value < 0:
                raise ConfigError(f"read.{name} must not be negative, got {value}")
        if sum(quotas.values()) > self.tokens:
            listed = " + ".join(f"{name} {value}" for name, value in quotas.items())
            raise ConfigError(f"read: {listed} do not fit into tokens {self.tokens}")
        if self.feature_size < PLAIN_FEATURES:
            raise ConfigError(f"read.feature_size must be at least {PLAIN_FEATURES}, got {self.feature_size}")
        if not 0.0 <= self.min_existence <= 1.0:
            raise ConfigError(f"read.min_existence must be in [0, 1], got {self.min_existence}")
        if not 0.0 <= self.stale < math.inf:
            raise ConfigError(f"read.stale must be seconds or 0, got {self.stale}")
        if not self.reach >= 0.0:
            raise ConfigError(f"read.reach must not be negative, got {self.reach}")
        if not all(edge > 0.0 for edge in self.crops) or self.crop_pixels < 1:
            raise ConfigError(f"read.crops are edges [m] of {self.crop_pixels} pixels, got {self.crops}")

"""Settings of recall."""

from __future__ import annotations

from dataclasses import dataclass

from embodied_mem.errors import ConfigError


@dataclass(frozen=True)
class RecallConfig:
    """How answers are ranked beyond their relevance."""

    consensus: bool = True
    """Entries that contradict what related entries agree on go behind the others, and say so."""
    related: float = 0.6
    """Embeddings at least this similar (cosine) are about the same thing."""
    pool: int = 48
    """So many of the most relevant entries are compared, at least four times k."""
    structure: tuple[str, ...] = (
        "unknown", "wall", "floor", "ceiling", "door", "window", "stairs", "door frame", "window frame",
    )  # fmt: skip
    """Labels of what rooms are made of: their surfaces are no things in a room."""
    utility: bool = False
    """Rank the relevant entries by learned utility too."""
    utility_weight: float = 0.5
    """Share of utility in the rank, the rest is relevance."""
    utility_floor: float = 0.7
    """Entries less relevant than this share of the best are not ranked by utility, and go behind."""
    utility_rate: float = 0.3
    """Step from the old utility towards each new feedback or reward."""
    utility_horizon: float = 20.0
    """A reward is credited to what was recalled at most this long before it [s]."""

    def __post_init__(self) -> None:
        for name in ("related", "utility_weight", "utility_floor", "utility_rate"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"recall.{name} must be in [0, 1], got {getattr(self, name)}")
        if self.pool < 1:
            raise ConfigError(f"recall.pool must be at least 1, got {self.pool}")
        if not self.utility_horizon >= 0.0:
            raise ConfigError(f"recall.utility_horizon must not be negative, got {self.utility_horizon}")

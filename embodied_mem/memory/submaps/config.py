"""Settings of submaps."""

from __future__ import annotations

from dataclasses import dataclass

from embodied_mem.errors import ConfigError


@dataclass(frozen=True)
class SubmapConfig:
    """What is kept at keyframes so that `correct` can rebuild the map."""

    scans: bool = True
    """Keep each keyframe's range evidence, one point per voxel; without it `correct` moves the voxels
    that there are, which is coarser. Worlds with exact poses do not need it."""
    swap_after: int = 20
    """Writes after a correction at which the rebuilt octree takes the place of the old one; a fixed
    number, so that a replay does the same."""

    def __post_init__(self) -> None:
        if self.swap_after < 1:
            raise ConfigError(f"submaps.swap_after must be at least 1, got {self.swap_after}")

"""Fixtures that several tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run; HYPOTHESIS_PROFILE=random explores others, and many.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("random", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def _data_dir() -> Path:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("EMBODIED_MEM_DATA", beside))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of recorded data, which is not part of the repository."""
    path = _data_dir()
    if not path.is_dir():
        pytest.skip(f"no recorded data at {path}; set EMBODIED_MEM_DATA to its folder")
    return path


@pytest.fixture(scope="session")
def kitchen_bags(data_dir: Path) -> dict[str, Path]:
    """The two ROS 2 recordings of a kitchen: compressed (MCAP) and raw (sqlite3)."""
    return {name: data_dir / "rosbags" / f"kitchen_{name}" for name in ("compressed", "raw")}

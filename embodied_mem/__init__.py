"""embodied-mem: the memory stack for robots that learn."""

from __future__ import annotations

from embodied_mem.geometry import Pose
from embodied_mem.types import (
    Detection,
    LabelMap,
    MemoryTokens,
    Observation,
    Percept,
    Query,
    Recall,
)

__version__ = "0.1.0"

__all__ = [
    "Detection",
    "LabelMap",
    "MemoryTokens",
    "Observation",
    "Percept",
    "Pose",
    "Query",
    "Recall",
    "__version__",
]

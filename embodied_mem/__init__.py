"""embodied-mem: the memory stack for robots that learn.

import embodied_mem as em

memory = em.Memory.open("home.emem")
answer = memory.ask("where did I last see the red mug")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from embodied_mem.loop import Loop
    from embodied_mem.memory import Memory, MemoryConfig, Octree
    from embodied_mem.perception import Perception, PerceptionConfig

__version__ = "0.1.0"

__all__ = [
    "Detection",
    "LabelMap",
    "Loop",
    "Memory",
    "MemoryConfig",
    "MemoryTokens",
    "Observation",
    "Octree",
    "Percept",
    "Perception",
    "PerceptionConfig",
    "Pose",
    "Query",
    "Recall",
    "__version__",
]

_HOMES = {
    "Loop": "loop",
    "Memory": "memory",
    "MemoryConfig": "memory",
    "Octree": "memory",
    "Perception": "perception",
    "PerceptionConfig": "perception",
}
"""What is loaded when it is first asked for: importing the package needs numpy alone."""


def __getattr__(name: str) -> Any:
    """Loads a part of the package when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

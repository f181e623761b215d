"""Memory: octree, scene graph, episodes, recall, and the file that holds them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embodied_mem.memory.config import (
        EpisodeConfig,
        GateConfig,
        MemoryConfig,
        NavigationConfig,
        OctreeConfig,
        StoreConfig,
    )
    from embodied_mem.memory.episodes.entries import Episode, Episodes
    from embodied_mem.memory.memory import Memory
    from embodied_mem.memory.octree import GridMap, Octree
    from embodied_mem.memory.read_config import ReadConfig
    from embodied_mem.memory.recall.config import RecallConfig
    from embodied_mem.memory.scene.config import SceneConfig
    from embodied_mem.memory.scene.graph import SceneGraph
    from embodied_mem.memory.submaps.config import SubmapConfig

__all__ = [
    "Episode",
    "EpisodeConfig",
    "Episodes",
    "GateConfig",
    "GridMap",
    "Memory",
    "MemoryConfig",
    "NavigationConfig",
    "Octree",
    "OctreeConfig",
    "ReadConfig",
    "RecallConfig",
    "SceneConfig",
    "SceneGraph",
    "StoreConfig",
    "SubmapConfig",
]

_MODULES = {
    "EpisodeConfig": "config",
    "GateConfig": "config",
    "MemoryConfig": "config",
    "NavigationConfig": "config",
    "OctreeConfig": "config",
    "StoreConfig": "config",
    "Episode": "episodes.entries",
    "Episodes": "episodes.entries",
    "Memory": "memory",
    "GridMap": "octree",
    "Octree": "octree",
    "ReadConfig": "read_config",
    "RecallConfig": "recall.config",
    "SceneConfig": "scene.config",
    "SubmapConfig": "submaps.config",
    "SceneGraph": "scene.graph",
}


def __getattr__(name: str) -> Any:
    # Loaded when first asked for: numba takes longer to import than all the rest.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

"""The octree: a sparse map of occupancy, labels and stamps with OctoMap's update semantics."""

from __future__ import annotations

from embodied_mem.memory.octree.octree import GridMap, Octree, RayHits, ScanStats, Voxels, warm_up

__all__ = ["GridMap", "Octree", "RayHits", "ScanStats", "Voxels", "warm_up"]

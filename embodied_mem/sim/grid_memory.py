"""The memory's settings for grid worlds."""

from __future__ import annotations

from dataclasses import replace

from embodied_mem.memory import (
    EpisodeConfig,
    GateConfig,
    MemoryConfig,
    NavigationConfig,
    OctreeConfig,
    ReadConfig,
    SceneConfig,
    SubmapConfig,
)


def grid_memory_config(cell_size: float = 1.0, objects: int = 12) -> MemoryConfig:
    """Returns settings in which a voxel is a cell: one sight decides it, doors can be passed.

    Args:
        cell_size: edge of a cell [m].
        objects: how many objects a policy sees; in a maze the one key that fits may be far away.
    """
    read = ReadConfig()
    return MemoryConfig(
        # A grid's symbols carry no noise, so that one look at a cell must overrule what was there.
        octree=OctreeConfig(resolution=cell_size, hit=3.5, miss=-3.5, clamp=(-2.0, 2.0)),
        navigation=NavigationConfig(
            robot_height=cell_size, step_height=0.0, robot_radius=0.0, passable=("door",)
        ),
        # Nor does it miss or invent things, and nobody walks diagonally.
        scene=SceneConfig(diagonal=False, detection_rate=0.999, false_rate=0.001),
        # Poses are exact: there is nothing to correct, and a reopened memory knows where it is.
        submaps=SubmapConfig(scans=False),
        gate=GateConfig(relocalize=False),
        episodes=EpisodeConfig(gap=0.1),  # [s], one step: "seen between step 40 and 60" is exact
        read=replace(read, objects=objects, tokens=read.tokens + objects - read.objects),
    )

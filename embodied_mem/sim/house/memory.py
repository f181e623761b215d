"""The memory's and perception's settings for houses."""

from __future__ import annotations

from embodied_mem.memory import MemoryConfig, NavigationConfig, OctreeConfig, ReadConfig, SceneConfig
from embodied_mem.perception import DepthConfig, DetectorConfig, PerceptionConfig
from embodied_mem.sim.house.catalog import FURNITURE_LABELS, OBJECT_LABELS
from embodied_mem.sim.house.config import HouseConfig


def house_memory_config(
    house: HouseConfig | None = None, margin: float = 0.05, walls: bool = True
) -> MemoryConfig:
    """Returns settings for a robot in a house: 5 cm voxels, 5 m of range, no doors that open.

    Args:
        house: has the robot's size.
        margin: what is free floor is so much farther from obstacles than the robot's radius [m].
        walls: whether rooms are told apart by their walls; otherwise by free floor alone.
    """
    house = house or HouseConfig()
    return MemoryConfig(
        octree=OctreeConfig(resolution=0.05, max_range=5.0),
        # A voxel's edge is the safe margin, since an obstacle is known only to the voxel.
        navigation=NavigationConfig(
            robot_height=house.robot_height,
            step_height=0.1,
            robot_radius=house.robot_radius + margin,
            passable=(),
        ),
        # Who looks for something again needs to know more places than the nearest few.
        read=ReadConfig(tokens=64, objects=16, places=24, rooms=4, episodes=4, goals=8, reach=1.5),
        scene=SceneConfig(
            boundary=(),
            # Most furniture is lower than walls are looked at, and the lintels of doors are higher. On
            # free floor doors are narrower, by the robot's width on both sides.
            wall_low=1.4,
            wall_high=1.9 if walls else 0.0,
            passage_width=0.95 if walls else 0.65,
            room_area=1.5,
            room_every=4,
            gate_sigma=3.5,
            pose_sigma=0.08,
            label_noise=0.05,
            least_likeness=0.8,
            prior=0.05,
            detection_rate=0.7,
            notice_rate=0.85,
            viewpoint=0.4,
            move_likeness=0.95,
            least_count=3,
            least_move=0.27,
        ),
    )


def house_perception_config(max_range: float = 5.0) -> PerceptionConfig:
    """Returns settings that believe depth as far as the octree does [m], and find every kind of thing."""
    labels = (*FURNITURE_LABELS, *OBJECT_LABELS)
    return PerceptionConfig(depth=DepthConfig(max_range=max_range), detector=DetectorConfig(labels=labels))

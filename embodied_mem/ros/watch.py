"""What diagnostics tell of a camera and of a memory."""

from __future__ import annotations

import shutil
from pathlib import Path

from embodied_mem.memory import Memory
from embodied_mem.ros.diagnostics import Health
from embodied_mem.ros.robot_world import RobotWorld

LOW_DISK = 200 * 2**20
"""Less free disk than this [bytes] is told."""


def watch_frames(health: Health, world: RobotWorld) -> None:
    """Tells how many images came and became observations, and why others did not."""
    images, frames = world.frames
    health.set("images", images)
    health.set("observations", frames)
    health.set("waiting", world.waiting)
    health.set("clock_jumps", world.restarts)
    before = health.remembered("complaints", world.complaints)
    for line in world.complaints:
        if line not in before:
            health.warn(line.split(" ", 1)[-1], line)
    images_before, frames_before = health.remembered("frames", (images, frames))
    waited_before = health.remembered("waiting", world.waiting)
    # More images came and none became an observation: a camera that pauses, as a simulator's does between
    # two steps, leaves its newest frame half here for as long as it likes.
    if world.waiting and waited_before and images > images_before and frames == frames_before:
        config = world.config
        health.warn(
            "waiting",
            f"{world.waiting} frames wait for {config.odom_frame} -> {config.base_frame} in TF "
            "or for their colour image",
        )


def watch_memory(health: Health, memory: Memory) -> None:
    """Tells how large a memory is, and whether it can be written."""
    health.set("sequence", memory.sequence)
    health.set("durable_sequence", memory.durable_seq)
    health.set("voxel_bytes", memory.octree.nbytes)
    health.set("episodes", len(memory.episodes))


def watch_disk(health: Health, file: str) -> None:
    """Warns before the disk is full."""
    if file:
        free = shutil.disk_usage(Path(file).resolve().parent).free
        health.set("disk_free_mb", free // 2**20)
        if free < LOW_DISK:
            health.warn("disk", f"only {free // 2**20} MB left on the disk of {file}")

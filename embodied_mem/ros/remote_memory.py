"""A memory in another process, as far as a policy and its controller need it: what it publishes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.log import messages
from embodied_mem.log.clouds import read_cloud
from embodied_mem.memory import GridMap, Octree, ReadConfig
from embodied_mem.memory.crops import CHANNELS
from embodied_mem.ros.declaration import Endpoint
from embodied_mem.ros.maps import MAPS
from embodied_mem.ros.tokens import TOKENS, Reading
from embodied_mem.types import Command, Goal, MemoryTokens, Percept, Receipt

GRID: Endpoint = next(endpoint for endpoint, _ in MAPS if endpoint.topic == "memory/grid")
VOXELS: Endpoint = next(endpoint for endpoint, _ in MAPS if endpoint.topic == "memory/voxels")


class Occupied:
    """The occupied voxels that a memory shows: what hides things; free space is not told from unknown.

    Args:
        resolution: edge of a voxel [m].
        centers: (N, 3) float32 [m] in the map frame.
        labels: (N,) label ids.
    """

    def __init__(self, resolution: float, centers: NDArray[np.float32], labels: NDArray[np.int32]) -> None:
        self.resolution = resolution
        self._octree = Octree(resolution)
        if len(centers):
            self._octree.integrate_cells(centers, np.ones(len(centers), bool), labels=labels)

    def ray_cast(self, *args: Any, stop_at_unknown: bool = False, **kwargs: Any) -> Any:
        """Casts rays as `Octree.ray_cast` does, but never stops at what is unknown."""
        return self._octree.ray_cast(*args, **kwargs)


class RemoteMemory:
    """Stands for a memory that another node keeps: the loop's `write` and `read` wait for nothing.

    Args:
        read: how the policy wants it read; any way where None.

    Attributes:
        grid_stamp: of the write after which the newest map of traversable space was made [ns].
        map_T_base: where the robot is.
        octree: what hides things.
    """

    def __init__(self, read: ReadConfig | None = None) -> None:
        self._wanted = read
        self._tokens = MemoryTokens.empty(0, 0)
        self._grid = GridMap(np.zeros((0, 0), np.int8), np.zeros(2), 0.05, 0.0)
        self.grid_stamp = -1
        self.map_T_base = Pose()
        self.octree = Occupied(0.05, np.zeros((0, 3), np.float32), np.zeros(0, np.int32))

    def take(self, reading: Reading) -> None:
        """Takes what was read of it.

        Raises:
            InputError: it was read in another way than the policy needs.
        """
        tokens, wanted = reading.tokens, self._wanted
        if wanted is not None:
            found = tokens.feature.shape, None if tokens.crops is None else tokens.crops.shape
            pictures = (len(wanted.crops) * len(CHANNELS), wanted.crop_pixels, wanted.crop_pixels)
            needed = (wanted.tokens, wanted.feature_size), pictures if wanted.crops else None
            if found != needed:
                raise InputError(
                    f"{TOKENS.topic} holds tokens {found[0]} and pictures {found[1]}; the policy reads "
                    f"{needed[0]} and {needed[1]}: give the memory node the same memory.read.* (--world does)"
                )
        self._tokens, self.map_T_base = tokens, reading.map_T_odom @ reading.odom_T_base

    def show(self, topic: str, message: Any) -> None:
        """Takes a map that it shows: `GRID` or `VOXELS`."""
        if topic == GRID.topic:
            self.grid_stamp = messages.stamp_ns(message.header)
            info = message.info
            origin = np.array([info.origin.position.x, info.origin.position.y])
            cells = np.asarray(message.data, np.int8).reshape(int(info.height), int(info.width))
            # float32 on the wire: 0.05 again, not 0.05000000074505806
            resolution = round(float(info.resolution), 6)
            self._grid = GridMap(cells, origin, resolution, float(info.origin.position.z))
        elif topic == VOXELS.topic:
            rows = read_cloud(message)
            centers = np.stack([rows["x"], rows["y"], rows["z"]], axis=-1)
            self.octree = Occupied(self._grid.resolution, centers, rows["label"])

    # ---- what the loop and its controller call

    def apply(self, command: Command) -> None:
        """Does nothing: commands go to the memory's own node."""

    def write(self, percept: Percept) -> Receipt:
        """Does nothing: perception writes in the memory's own node."""
        return Receipt(0, "accepted")

    def read(self, map_T_base: Pose, goal: Goal | None = None) -> MemoryTokens:
        """Returns the newest tokens, which were read at this pose and with this goal."""
        return self._tokens

    def grid_map(self) -> GridMap:
        """Returns the newest map of traversable space."""
        return self._grid

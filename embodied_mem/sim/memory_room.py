"""MiniGrid's memory task with the small view that makes it one."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from embodied_mem.sim.minigrid import GridObs, MiniGridTask


class MemoryRoom(MiniGridTask):
    """MiniGrid-Memory: see an object, walk down a hallway, go to the same object.

    ## Description
    MiniGrid's `MiniGrid-MemoryS9-v0` (or another size) with a view of 3x3 cells and the three actions that
    move, the form in which TrXL-PPO's authors made it a memory task (MarcoMeter,
    episodic-transformer-memory-ppo): with MiniGrid's own 7x7 view, as in `MemoryS9-View7-v0`, both objects
    are seen from the start room.

    ## Action Space
    `Discrete(3)`: 0 left, 1 right, 2 forward.

    ## Observation Space
    A `Dict`, the same for every method: `view` (3, 3, 3) uint8, MiniGrid's symbols; `pose` (4,) float32:
    x [m], y [m], sine and cosine of the yaw; `place_id` (1,) int64, the number of the agent's cell.

    ## Rewards
    MiniGrid's: 1 - 0.9 steps / max_steps at the matching object, 0 at the other.

    ## Starting State
    MiniGrid's: the object and the order of the two at the hallway's end are drawn, and the agent's cell.

    ## Episode End
    Terminates at either object at the hallway's end, truncated after `max_steps`.
    `info["is_success"]` tells whether the right one was reached; `info` has the measures of navigation.

    ## Arguments
    * `minigrid_id="MiniGrid-MemoryS9-v0"`: or S7, S11, S13, S17Random.
    * `max_steps=96`: step limit, as published for S9; MiniGrid's own where None, as in the other sizes.

    ## Version History
    * v0: first version.
    """

    def __init__(self, minigrid_id: str = "MiniGrid-MemoryS9-v0", max_steps: int | None = 96) -> None:
        super().__init__(minigrid_id, max_steps=max_steps, view_size=3)
        self.action_space = gymnasium.spaces.Discrete(3)
        cells = self.grid_env.width * self.grid_env.height
        parts = dict(self.observation_space.spaces)  # type: ignore[attr-defined]
        parts["place_id"] = gymnasium.spaces.Box(0, cells - 1, (1,), np.int64)
        self.observation_space = gymnasium.spaces.Dict(parts)

    def _encode(self, view: NDArray[np.uint8]) -> GridObs:
        i, j = self.grid_env.agent_pos
        obs: dict[str, Any] = super()._encode(view)
        return obs | {"place_id": np.array([int(j) * self.grid_env.width + int(i)], np.int64)}

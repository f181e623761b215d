"""Proof of memory: a cue at the start, the choice many steps later."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError


class ProofOfMemory(gymnasium.Env[NDArray[np.float32], np.int64]):
    """A passive T-maze: the smallest task that no memoryless policy can solve.

    ## Description
    At the first step the agent sees a cue, left or right. It then walks a corridor of
    `length` steps, where nothing it does matters and nothing is shown. At the junction it
    chooses; only the cue told which way. After the T-maze of Bakker (2002) in the passive
    form of Ni et al. (2023).

    ## Action Space
    `Discrete(2)`: 0 left, 1 right.

    ## Observation Space
    `Box(-1, 1, (3,), float32)`: the cue (-1 left, +1 right, 0 after the first step), 1 in the
    corridor, 1 at the junction.

    ## Rewards
    +1 for the right choice, -1 for the wrong one, 0 before. A memoryless policy gets 0 on average.

    ## Starting State
    The cue is drawn with equal odds.

    ## Episode End
    The choice ends the episode after `length + 1` steps; there is no truncation.
    `info["is_success"]` tells whether it was right.

    ## Arguments
    * `length=24`: steps between the cue and the junction.

    ## Version History
    * v0: first version.
    """

    metadata = {"render_modes": []}

    def __init__(self, length: int = 24) -> None:
        if length < 1:
            raise ConfigError(f"length must be at least 1 step, got {length}")
        self.length = length
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self._cue = 0
        self._step = 0

    def _observe(self) -> NDArray[np.float32]:
        cue = 2 * self._cue - 1 if self._step == 0 else 0
        at_junction = self._step == self.length
        return np.array([cue, not at_junction, at_junction], np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Draws a new cue and shows it."""
        super().reset(seed=seed)
        self._cue = int(self.np_random.integers(2))
        self._step = 0
        return self._observe(), {}

    def step(self, action: np.int64 | int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Walks on, or chooses at the junction."""
        if self._step < self.length:
            self._step += 1
            return self._observe(), 0.0, False, False, {}
        success = int(action) == self._cue
        return self._observe(), 1.0 if success else -1.0, True, False, {"is_success": success}

"""The passive T-maze: one cue, a long walk, one turn."""

from __future__ import annotations

import math
from typing import Any, Literal

import gymnasium
import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError

FORWARD, UP, BACK, DOWN = range(4)
"""Actions."""


class PassiveTMaze(gymnasium.Env[NDArray[np.float32], np.int64]):
    """A cue at the start decides the turn `length` steps later; the corridor looks the same everywhere.

    ## Description
    The agent stands at the corridor's start and sees on which side the goal lies. It must walk `length`
    steps forward and then turn to that side; there is no step to spare. After Ni et al. (2023), "When Do
    Transformers Shine in RL?", in the form with ambiguous positions that AMAGO ships. Unlike
    `ProofOfMemory`, the walk is the agent's own.

    ## Action Space
    `Discrete(4)`: 0 forward, 1 up, 2 back, 3 down. A step into a wall leaves the agent where it is.

    ## Observation Space
    `Box(-1, 1, (2,), float32)`: 1 at the junction; and the goal's side (-1, +1) at the first step, 0 in
    the corridor, the side on which the agent stands after the turn.

    ## Rewards
    `-1 / length` for every action but forward before the last step; at the last step 1 on the goal's
    side, else 0. Without memory the best return is 0.5 on average.

    ## Starting State
    The goal's side is drawn with equal odds, and the length from [`min_length`, `length`], as `lengths` says.

    ## Episode End
    After the corridor's length + 1 steps; there is no truncation. `info["is_success"]` tells whether
    the goal was reached.

    ## Arguments
    * `length=128`: longest corridor, published from 32 to 256.
    * `min_length=None`: shortest corridor; `length` where None.
    * `lengths="uniform"`: every length is as likely; "log": every octave is, so that short corridors, in
      which chance finds the junction, come often.

    ## Version History
    * v0: first version.
    """

    metadata = {"render_modes": []}

    def __init__(
        self, length: int = 128, min_length: int | None = None, lengths: Literal["uniform", "log"] = "uniform"
    ) -> None:
        self.shortest = length if min_length is None else min_length
        if not 1 <= self.shortest <= length:
            raise ConfigError(f"min_length must be in [1, length = {length}], got {self.shortest}")
        if lengths not in ("uniform", "log"):
            raise ConfigError(f'lengths must be "uniform" or "log", got "{lengths}"')
        self.longest, self.lengths = length, lengths
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(4)
        self.length = length
        self._goal, self._x, self._y, self._steps = 1, 0, 0, 0

    def _observe(self) -> NDArray[np.float32]:
        return np.array([self._x == self.length, self._y if self._steps else self._goal], np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Draws the goal's side and the corridor's length, and shows the side."""
        super().reset(seed=seed)
        self._goal = 2 * int(self.np_random.integers(2)) - 1
        self.length = self._draw_length()
        self._x = self._y = self._steps = 0
        return self._observe(), {}

    def _draw_length(self) -> int:
        if self.lengths == "uniform":
            return int(self.np_random.integers(self.shortest, self.longest + 1))
        drawn = math.exp(self.np_random.uniform(math.log(self.shortest), math.log(self.longest + 1)))
        return min(int(drawn), self.longest)

    def step(self, action: np.int64 | int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Moves, where there is no wall."""
        action = int(action)
        self._steps += 1
        if action in (UP, DOWN):
            if self._x == self.length:
                self._y = max(-1, min(1, self._y + (1 if action == UP else -1)))
        elif self._y == 0:
            self._x = max(0, min(self.length, self._x + (1 if action == FORWARD else -1)))
        if self._steps <= self.length:
            return self._observe(), 0.0 if action == FORWARD else -1.0 / self.length, False, False, {}
        success = self._y == self._goal
        return self._observe(), float(success), True, False, {"is_success": success}

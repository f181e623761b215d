"""The Endless T-maze: every corridor's cue makes the last one worthless."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError

LEFT, RIGHT, FORWARD, STAY = range(4)
"""Actions."""


class EndlessTMaze(gymnasium.Env[NDArray[np.float32], np.int64]):
    """Corridors in a chain: memory must be rewritten, not only kept.

    ## Description
    At the start of each corridor the agent sees a cue; at its end it must turn that way, and comes to
    the next corridor. A wrong turn ends the episode. After the benchmark of "Memory Retention Is Not
    Enough to Master Memory Tasks in Reinforcement Learning" (2026); that the junction is observed is
    our addition, without which corridors of unknown length have an unseen end.

    ## Action Space
    `Discrete(4)`: 0 left, 1 right, 2 forward, 3 stay. Only forward moves in a corridor, and only the
    turns count at a junction: whatever is not the right turn is a wrong one.

    ## Observation Space
    `Box(-1, 1, (3,), float32)`: way walked in this corridor in units of `length`, 1 at the junction, the
    cue (-1 left, +1 right) at a corridor's start and 0 elsewhere.

    ## Rewards
    +1 for a right turn, -1 for a wrong one, `delay` for a step in a corridor that is not forward.

    ## Starting State
    The cues are drawn with equal odds; each corridor's length from [`min_length`, `length`].

    ## Episode End
    Terminates after a wrong turn or the last corridor; truncated after 6 (length + 1) corridors steps.
    `info["is_success"]` tells whether all corridors were passed, `info["corridors"]` how many.

    ## Arguments
    * `corridors=10`: how many (n).
    * `length=5`: steps to the junction (l).
    * `min_length=None`: shortest corridor (the "uniform" regime); `length` where None ("fixed").
    * `delay=-0.01`: reward of a step that is lost.

    ## Version History
    * v0: first version.
    """

    metadata = {"render_modes": []}

    def __init__(
        self, corridors: int = 10, length: int = 5, min_length: int | None = None, delay: float = -0.01
    ) -> None:
        self.shortest = length if min_length is None else min_length
        if corridors < 1:
            raise ConfigError(f"corridors must be at least 1, got {corridors}")
        if not 1 <= self.shortest <= length:
            raise ConfigError(f"min_length must be in [1, length = {length}], got {self.shortest}")
        self.corridors, self.longest, self.delay = corridors, length, delay
        self.max_steps = 6 * (length + 1) * corridors
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(4)
        self._passed = self._steps = 0
        self._enter()

    def _enter(self) -> None:
        """Draws the next corridor."""
        self._x = 0
        self._cue = 2 * int(self.np_random.integers(2)) - 1
        self._length = int(self.np_random.integers(self.shortest, self.longest + 1))

    def _observe(self) -> NDArray[np.float32]:
        cue = self._cue if self._x == 0 else 0
        return np.array([self._x / self.longest, self._x == self._length, cue], np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Goes back to the first corridor of a new maze."""
        super().reset(seed=seed)
        self._passed = self._steps = 0
        self._enter()
        return self._observe(), {}

    def step(self, action: np.int64 | int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Walks on, or turns at the junction."""
        action = int(action)
        self._steps += 1
        reward, terminated = 0.0, False
        if self._x < self._length:
            if action == FORWARD:
                self._x += 1
            else:
                reward = self.delay
        elif action == (RIGHT if self._cue > 0 else LEFT):
            reward = 1.0
            self._passed += 1
            terminated = self._passed == self.corridors
            if not terminated:
                self._enter()
        else:
            reward, terminated = -1.0, True
        truncated = not terminated and self._steps >= self.max_steps
        info: dict[str, Any] = {}
        if terminated or truncated:
            info = {"is_success": self._passed == self.corridors, "corridors": self._passed}
        return self._observe(), reward, terminated, truncated, info

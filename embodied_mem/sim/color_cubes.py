"""Color-Cubes: a map that is told once, and goes out of date."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError

MOVES = ((0, -1), (-1, 0), (0, 1), (1, 0))
"""Actions as steps (x, y): -y, -x, +y, +x; the next action touches."""

TOUCH = len(MOVES)

CubesObs = dict[str, Any]


class ColorCubes(gymnasium.Env[CubesObs, np.int64]):
    """Find cubes by colour, on a map that is shown only when it changes.

    ## Description
    Cubes of different colours stand on a grid. The agent is told a colour, must go to that cube and
    touch it, and is told the next colour. Where the cubes are is shown at the start and after an event
    only: in the medium mode a cube that is not wanted jumps to another cell now and then. What was
    remembered of it is then wrong, and must be revised without losing the others. After the Color-Cubes
    of "Memory Retention Is Not Enough to Master Memory Tasks in Reinforcement Learning" (2026), by its
    description; no code of it is public, so that sizes and rates are ours, and figures do not compare
    beyond the ranking.

    ## Action Space
    `Discrete(5)`: -y, -x, +y, +x, touch. A step into a wall leaves the agent where it is.

    ## Observation Space
    A `Dict`, the same for every method:
    * `cell` (2,) uint8: x and y of the agent;
    * `target` (1,) uint8: number of the wanted colour;
    * `cubes` (cubes, 3) float32: x and y of each colour's cube in units of `size`, and 1 where it is
      shown; zeros where it is not;
    * `pose` (2,) float32: x, y [m], one metre a cell;
    * `place_id` (1,) int64: the cell's number, for memories that are addressed by place.

    ## Rewards
    +1 for each wanted cube, -1 for a touch anywhere else, -0.01 a step. To learn from, there can be more:
    `progress` for every cell by which the way to the wanted cube gets shorter (and as much less where it
    gets longer); and a wrong touch can cost `wrong` and not end the search.

    ## Starting State
    Agent and cubes stand in different cells, and the order of colours is drawn, with equal odds.

    ## Episode End
    Terminates after a wrong touch or the last target; truncated after 4 size steps a target.
    `info["is_success"]` tells whether all targets were found.

    ## Arguments
    * `size=5`: cells along an edge.
    * `cubes=3`: how many, each of its own colour.
    * `targets=1`: colours to find, one after another; no colour comes twice in a row.
    * `min_targets=None`: a curriculum. Each episode wants from so many up to `targets`, with equal odds;
      None: always `targets`.
    * `jumps=0.0`: chance a step that a cube which is not wanted jumps: 0 is "trivial", more "medium".
    * `progress=0.0`, `wrong=None`: see Rewards; None: a wrong touch costs 1 and ends the episode.
    * `strict_after=None`: a curriculum. What a wrong touch costs rises from `wrong` to 1, by equal factors,
      until this step of an environment, from which on it ends the episode. A resumed training goes on with
      it: `options["steps_before"]` of `reset` tells the steps an environment had before.

    ## Version History
    * v0: first version.
    """

    metadata = {"render_modes": []}

    def __init__(
        self,
        size: int = 5,
        cubes: int = 3,
        targets: int = 1,
        jumps: float = 0.0,
        progress: float = 0.0,
        wrong: float | None = None,
        strict_after: int | None = None,
        min_targets: int | None = None,
    ) -> None:
        if not 2 <= size <= 15:
            raise ConfigError(f"size must be in [2, 15], got {size}")
        if not 2 <= cubes < size * size:
            raise ConfigError(f"cubes must be at least 2 and fewer than the cells, got {cubes}")
        if targets < 1:
            raise ConfigError(f"targets must be at least 1, got {targets}")
        if min_targets is not None and not 1 <= min_targets <= targets:
            raise ConfigError(f"min_targets must be in [1, targets], or null; got {min_targets}")
        if not 0.0 <= jumps <= 1.0:
            raise ConfigError(f"jumps must be in [0, 1], got {jumps}")
        if wrong is not None and not 0.0 < wrong <= 1.0:
            raise ConfigError(f"wrong must be in (0, 1], or null; got {wrong}")
        if strict_after is not None and (wrong is None or strict_after < 1):
            raise ConfigError(f"strict_after must be at least 1 and needs wrong, got {strict_after}")
        self.size, self.cubes, self.targets, self.jumps = size, cubes, targets, jumps
        self.min_targets = targets if min_targets is None else min_targets
        self.progress, self.wrong, self.strict_after = progress, wrong, strict_after
        self._age = 0
        box = gymnasium.spaces.Box
        self.observation_space = gymnasium.spaces.Dict(
            {
                "cell": box(0, size - 1, (2,), np.uint8),
                "target": box(0, cubes - 1, (1,), np.uint8),
                "cubes": box(0.0, 1.0, (cubes, 3), np.float32),
                "pose": box(0.0, float(size), (2,), np.float32),
                "place_id": box(0, size * size - 1, (1,), np.int64),
            }
        )
        self.action_space = gymnasium.spaces.Discrete(TOUCH + 1)
        self._begin()

    def _begin(self) -> None:
        cells = self.np_random.permutation(self.size * self.size)[: self.cubes + 1]
        self._cell = int(cells[-1])
        self._where: NDArray[np.int64] = cells[:-1].copy()
        self._target = int(self.np_random.integers(self.cubes))
        self._found = self._steps = 0
        self._wanted = self.targets
        if self.min_targets < self.targets:
            self._wanted = int(self.np_random.integers(self.min_targets, self.targets + 1))
        self.max_steps = 4 * self.size * self._wanted

    def _observe(self, shown: bool) -> CubesObs:
        x, y = self._cell % self.size, self._cell // self.size
        cubes = np.zeros((self.cubes, 3), np.float32)
        if shown:
            cubes[:, 0], cubes[:, 1] = self._where % self.size, self._where // self.size
            cubes[:, :2] /= self.size
            cubes[:, 2] = 1.0
        return {
            "cell": np.array([x, y], np.uint8),
            "target": np.array([self._target], np.uint8),
            "cubes": cubes,
            "pose": np.array([x + 0.5, y + 0.5], np.float32),
            "place_id": np.array([self._cell], np.int64),
        }

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[CubesObs, dict[str, Any]]:
        """Draws a new grid and shows it; see `strict_after` for the options."""
        super().reset(seed=seed)
        if seed is not None:  # what follows a seed does not depend on what was before
            self._age = 0
        self._age = max(self._age, (options or {}).get("steps_before", 0))
        self._begin()
        return self._observe(True), {}

    def step(self, action: np.int64 | int) -> tuple[CubesObs, float, bool, bool, dict[str, Any]]:
        """Moves or touches; then a cube may jump."""
        action = int(action)
        self._steps += 1
        self._age += 1
        reward, terminated = -0.01, False
        if action == TOUCH:
            right = self._cell == self._where[self._target]
            cost = self._cost()
            reward += 1.0 if right else -cost
            self._found += int(right)
            terminated = self._found == self._wanted if right else self.wrong is None or cost == 1.0
            if right and not terminated:
                other = int(self.np_random.integers(self.cubes - 1))
                self._target = other + (other >= self._target)
        else:
            way = self._way()
            (x, y), (dx, dy) = (self._cell % self.size, self._cell // self.size), MOVES[action]
            x, y = min(max(x + dx, 0), self.size - 1), min(max(y + dy, 0), self.size - 1)
            self._cell = y * self.size + x
            reward += self.progress * (way - self._way())
        shown = self._jump()
        truncated = not terminated and self._steps >= self.max_steps
        info: dict[str, Any] = {}
        if terminated or truncated:
            info = {"is_success": self._found == self._wanted, "found": self._found}
        return self._observe(shown), reward, terminated, truncated, info

    def _cost(self) -> float:
        """Returns what a wrong touch costs by now."""
        if self.wrong is None:
            return 1.0
        share = 0.0 if self.strict_after is None else min(1.0, self._age / self.strict_after)
        return float(self.wrong ** (1.0 - share))

    def _way(self) -> int:
        """Returns how many cells are to go to the wanted cube."""
        (x, y), (i, j) = (divmod(int(cell), self.size) for cell in (self._cell, self._where[self._target]))
        return abs(x - i) + abs(y - j)

    def _jump(self) -> bool:
        """Lets a cube that is not wanted jump to an empty cell; returns whether one did."""
        if self.np_random.random() >= self.jumps:
            return False
        cube = int(self.np_random.integers(self.cubes - 1))
        cube += cube >= self._target
        free = np.setdiff1d(np.arange(self.size * self.size), self._where)
        self._where[cube] = self.np_random.choice(free)
        return True

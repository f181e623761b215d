"""Dark key-to-door: find out where key and door are, and use it again and again."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from embodied_mem.errors import ConfigError

MOVES = ((0, -1), (-1, 0), (0, 1), (1, 0), (0, 0))
"""Actions as steps (x, y): back, left, ahead, right, stay."""

DarkObs = dict[str, Any]


class DarkKeyToDoor(gymnasium.Env[DarkObs, np.int64]):
    """A dark room whose start, key and door stay where they are for a whole trial.

    ## Description
    One gymnasium episode is one trial of `trial_steps` calls, and holds many inner episodes: go to the
    key, then to the door. Neither is seen; they are where they were in the inner episode before. After
    a door or `inner_steps` steps, the next call leads back to the start, whatever its action. The rules
    are those of AMAGO's RoomKeyDoor (after Laskin et al., 2022, "In-context Reinforcement Learning with
    Algorithm Distillation"), on which the published figures of Memo and RSM were taken.

    ## Action Space
    `Discrete(5)`: -y, -x, +y, +x, stay. A step into a wall leaves the agent where it is.

    ## Observation Space
    A `Dict`, the same for every method:
    * `cell` (2,) uint8: x and y;
    * `status` (3,) float32: has the key; reward of the last call; time in the inner episode, in units
      of `inner_steps`;
    * `last_action` (1,) uint8: the last call's action, 5 where there was none;
    * `inner_start` (1,) float32: 1 where an inner episode starts; memory goes on;
    * `pose` (2,) float32: x, y [m], one metre a cell;
    * `place_id` (1,) int64: the cell's number, for memories that are addressed by place.

    ## Rewards
    1 for the key and 1 for the door, in every inner episode. To learn from, there can be more, which `status`
    does not show: `progress` for every cell by which the way to key and door gets shorter (and as much less
    where it gets longer), `novelty` for every cell that is new in the trial, until its first door.

    ## Starting State
    Start, key and door are cells drawn independently, with equal odds, once a trial.

    ## Episode End
    After `trial_steps` calls, as termination: the horizon is part of the task.
    `info["doors"]` counts the doors so far, `info["door"]` tells whether this call opened one.

    ## Arguments
    * `size=8`: cells along an edge.
    * `inner_steps=50`: the most steps of an inner episode.
    * `trial_steps=500`: calls in a trial; longer ones test memory beyond the training horizon.
    * `min_area=None`: a curriculum. The three cells of a trial lie in a square somewhere in the room,
      whose edge is drawn from `min_area` to `size` with equal odds; None: it is the whole room.
    * `area_trials=None`: the curriculum rises: the edge is one of three, `min_area` the least of them at
      first, and they rise evenly until it is `size` from this trial of an environment on. A resumed training
      goes on with it: `options["steps_before"]` of `reset` tells the calls an environment had before.
    * `stagger=False`: the first trial is one that began before, at a drawn call, so that environments side
      by side are not all at the same call.
    * `progress=0.0`, `novelty=0.0`: see Rewards.

    ## Version History
    * v0: first version.
    """

    metadata = {"render_modes": []}

    def __init__(
        self,
        size: int = 8,
        inner_steps: int = 50,
        trial_steps: int = 500,
        min_area: int | None = None,
        area_trials: int | None = None,
        stagger: bool = False,
        progress: float = 0.0,
        novelty: float = 0.0,
    ) -> None:
        if not 2 <= size <= 32:
            raise ConfigError(f"size must be in [2, 32], got {size}")
        for name, value in (("inner_steps", inner_steps), ("trial_steps", trial_steps)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if min_area is not None and not 1 <= min_area <= size:
            raise ConfigError(f"min_area must be in [1, {size}], the room's size, or null; got {min_area}")
        if area_trials is not None and (min_area is None or area_trials < 1):
            raise ConfigError(f"area_trials must be at least 1 and needs min_area, got {area_trials}")
        self.size, self.inner_steps, self.trial_steps = size, inner_steps, trial_steps
        self.min_area, self.area_trials = min_area, area_trials
        self.stagger, self.progress, self.novelty = stagger, progress, novelty
        self._trials = 0
        box = gymnasium.spaces.Box
        self.observation_space = gymnasium.spaces.Dict(
            {
                "cell": box(0, size - 1, (2,), np.uint8),
                "status": box(0.0, 1.0, (3,), np.float32),
                "last_action": box(0, len(MOVES), (1,), np.uint8),
                "inner_start": box(0.0, 1.0, (1,), np.float32),
                "pose": box(0.0, float(size), (2,), np.float32),
                "place_id": box(0, size * size - 1, (1,), np.int64),
            }
        )
        self.action_space = gymnasium.spaces.Discrete(len(MOVES))
        self.start = self.key = self.door = (0, 0)
        self._begin_trial()

    def _begin_trial(self) -> None:
        edge, corner = self.size, np.zeros(2, np.int64)
        if self.min_area is not None:
            least, most = self.min_area, self.size
            if self.area_trials is not None:
                least += int(min(1.0, self._trials / self.area_trials) * (self.size - least))
                most = min(least + 2, self.size)
            edge = int(self.np_random.integers(least, most + 1))
            corner = self.np_random.integers(self.size - edge + 1, size=2)
        drawn = (corner + self.np_random.integers(edge, size=(3, 2))).tolist()
        self.start, self.key, self.door = ((int(x), int(y)) for x, y in drawn)
        self._calls = self._doors = 0
        self._seen = {self.start}
        self._begin_inner()

    def _begin_inner(self) -> None:
        self._cell, self._has_key, self._time, self._over = self.start, False, 0, False

    def _way(self) -> int:
        """Returns how many cells are to go to the key, where it is not held, and on to the door."""
        (x, y), (kx, ky), (dx, dy) = self._cell, self.key, self.door
        if self._has_key:
            return abs(x - dx) + abs(y - dy)
        return abs(x - kx) + abs(y - ky) + abs(kx - dx) + abs(ky - dy)

    def _observe(self, reward: float, action: int, inner_start: bool) -> DarkObs:
        x, y = self._cell
        return {
            "cell": np.array([x, y], np.uint8),
            "status": np.array([self._has_key, reward, self._time / self.inner_steps], np.float32),
            "last_action": np.array([action], np.uint8),
            "inner_start": np.array([inner_start], np.float32),
            "pose": np.array([x + 0.5, y + 0.5], np.float32),
            "place_id": np.array([y * self.size + x], np.int64),
        }

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[DarkObs, dict[str, Any]]:
        """Draws a new room: start, key and door; see `area_trials` for the options."""
        super().reset(seed=seed)
        if seed is not None:  # what follows a seed does not depend on what was before
            self._trials = 0
        first = not self._trials
        self._trials = max(self._trials, (options or {}).get("steps_before", 0) // self.trial_steps)
        self._begin_trial()
        if self.stagger and first:
            self._calls = int(self.np_random.integers(self.trial_steps))
        self._trials += 1
        return self._observe(0.0, len(MOVES), True), {"doors": 0}

    def step(self, action: np.int64 | int) -> tuple[DarkObs, float, bool, bool, dict[str, Any]]:
        """Moves one cell, or goes back to the start where the inner episode is over."""
        action = int(action)
        self._calls += 1
        reward, door, lesson = 0.0, False, 0.0
        inner_start = self._over
        if inner_start:
            self._begin_inner()
        else:
            way = self._way() if self.progress else 0
            (x, y), (dx, dy) = self._cell, MOVES[action]
            self._cell = (min(max(x + dx, 0), self.size - 1), min(max(y + dy, 0), self.size - 1))
            self._time += 1
            if self._has_key and self._cell == self.door:
                reward, door = 1.0, True
                self._doors += 1
            elif not self._has_key and self._cell == self.key:
                reward, self._has_key = 1.0, True
            self._over = door or self._time >= self.inner_steps
            if self.progress:
                lesson = self.progress * (way - self._way())
            if self.novelty and not self._doors and self._cell not in self._seen:
                self._seen.add(self._cell)
                lesson += self.novelty
        done = self._calls >= self.trial_steps
        info = {"doors": self._doors, "door": door}
        return self._observe(reward, action, inner_start), reward + lesson, done, False, info

"""Several days in one world: between them things move, come and go; the agent makes its rounds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from embodied_mem.sim.explorer import Explorer, Subgoal
from embodied_mem.sim.world import EnvWorld
from embodied_mem.types import NS_PER_S, TOKEN_KINDS, MemoryTokens, Observation

NIGHT_NS = 12 * 3600 * NS_PER_S
"""From the last step of a day to the first of the next [ns]."""


class DaysWorld(EnvWorld):
    """One episode per day in the same house, which changes overnight, as one run.

    Args:
        env: whose reset knows the options "house" and "nights", such as those of House.
        seed: of the first reset.
        days: how many.
        steps: observations per day at most.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], seed: int | None, days: int, steps: int) -> None:
        super().__init__(env, seed)
        self.days, self.steps = days, steps
        self.day = 0
        self._today = 0
        self._stamp = 0
        self._first_stamp = 0
        self._step = -1

    def observe(self) -> Observation | None:
        """Returns the newest observation once; where a day ends, the first of the next."""
        obs = super().observe() if self._today < self.steps else None
        if obs is None:
            if self.day + 1 == self.days:
                return None
            self.day += 1
            house = int(self.env.unwrapped.house.seed)  # type: ignore[attr-defined]
            self.reset(self._seed, {"house": house, "nights": self.day})
            self._today, self._first_stamp = 0, self._stamp + NIGHT_NS
            obs = super().observe()
            assert obs is not None
        self._today += 1
        self._step += 1
        self._stamp = self._first_stamp + obs.stamp
        return replace(obs, stamp=self._stamp, step=self._step)


@dataclass(eq=False)
class RoundsState:
    """What the rounds keep between steps.

    Attributes:
        explorer: the explorer's own state.
        started: stamp of the day's first step [ns].
        target: map position of the place on the way to.
        spent: steps since the agent last came closer to it.
        closest: shortest path distance to it so far [m].
        done: map positions of places that were visited, or proved out of reach, today.
    """

    explorer: Any = None
    started: int = 0
    target: NDArray[np.float64] | None = None
    spent: int = 0
    closest: float = np.inf
    done: list[NDArray[np.float64]] = field(default_factory=list)


class Rounds:
    """Explores what is unknown, then goes to every place that was not visited today, the nearest first.

    Args:
        explorer: for what is unknown.
        reach: a place this close counts as visited [m].
    """

    def __init__(self, explorer: Explorer, reach: float = 0.8) -> None:
        self.explorer = explorer
        self.reach = reach

    def act(self, obs: Observation, tokens: MemoryTokens, state: Any) -> tuple[Subgoal | None, RoundsState]:
        """Returns a sub-goal, or None where there is nothing left to see today."""
        if not isinstance(state, RoundsState) or obs.is_first:
            state = RoundsState(started=obs.stamp)
        goal, state.explorer = self.explorer.act(obs, tokens, state.explorer)
        if goal is not None:
            return goal, state
        state.done.append(obs.map_T_base.position)
        places = tokens.mask & (tokens.kind == TOKEN_KINDS.index("place"))
        places &= np.isfinite(tokens.path_distance)
        positions = obs.map_T_base.transform(tokens.position[places])
        done = np.array(state.done)[:, :2]
        away = np.sqrt(((positions[:, None, :2] - done[None]) ** 2).sum(axis=2)).min(axis=1, initial=np.inf)
        left = np.flatnonzero(away > self.reach)
        if not len(left):
            return None, state
        distances = tokens.path_distance[places][left]
        best = int(left[int(np.argmin(distances))])
        target, distance = positions[best], float(distances.min())
        same = state.target is not None and np.abs(state.target - target).max() < self.reach
        if not same or distance < state.closest:
            state.target, state.closest, state.spent = target, distance, 0
        else:
            state.spent += 1
        if state.spent > self.explorer.patience:
            state.done.append(target)
            state.target = None
            return self.act(replace(obs, is_first=False), tokens, state)
        return Subgoal(target), state

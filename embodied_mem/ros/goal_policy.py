"""To the goal where the memory knows it, otherwise on to what is not known yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.loop import Policy
from embodied_mem.ros.pilot import FOUND
from embodied_mem.types import TOKEN_KINDS, Goal, MemoryTokens, Observation

OBJECT = TOKEN_KINDS.index("object")


class GoalPolicy:
    """Goes to a goal by the memory's tokens alone.

    Args:
        explorer: what to do while the goal is not known.
        subgoal: makes a sub-goal of a (3,) position in the map [m].
        reach: the goal is found this close to it, seen from above [m].
        confidence: objects that exist with less probability are not gone to.
    """

    def __init__(
        self,
        explorer: Policy,
        subgoal: Callable[[NDArray[np.float64]], Any],
        reach: float = 0.8,
        confidence: float = 0.5,
    ) -> None:
        self.explorer, self.subgoal, self.reach, self.confidence = explorer, subgoal, reach, confidence

    def act(self, obs: Observation, tokens: MemoryTokens, state: Any) -> tuple[Any, Any]:
        """Returns a sub-goal, `FOUND`, or None where nothing is left to do."""
        target = None if obs.goal is None else self._target(obs.goal, obs, tokens)
        if target is None:
            return self.explorer.act(obs, tokens, state)
        away = target - obs.map_T_base.position
        if float(away[0] * away[0] + away[1] * away[1]) <= self.reach * self.reach:
            return FOUND, state
        return self.subgoal(target), state

    def _target(self, goal: Goal, obs: Observation, tokens: MemoryTokens) -> NDArray[np.float64] | None:
        if goal.position is not None:
            return np.asarray(goal.position, np.float64)
        wanted = tokens.mask & (tokens.kind == OBJECT) & (tokens.label == goal.label)
        rows = np.flatnonzero(wanted & (tokens.confidence >= self.confidence))
        if not goal.label or len(rows) == 0:
            return None
        offset = tokens.position[rows].astype(np.float64)
        best = rows[int(np.argmin((offset * offset).sum(axis=1)))]
        return obs.map_T_base.transform(tokens.position[best])

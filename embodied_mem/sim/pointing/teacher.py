"""The teacher of pointing policies: it knows the house, and prefers candidates softly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.loop import Moment
from embodied_mem.sim.house.floor_plan import CELL
from embodied_mem.sim.pointing.candidates import CANDIDATES, LOOK

TEMPERATURE = 0.7
"""Costs that differ by this are told apart by a factor e [m]."""
LOOK_COST = 1.5
"""A look around costs this more than the best candidate [m]."""
AT_GOAL = 0.5
"""A thing that the goal names is one from whose nearest free floor the goal is no farther than this [m]."""
BEEN_COST = 2.5
"""To go where it has already looked for this goal costs so much more [m]."""
NEAR = 0.5
"""Where it has been is no farther away than this along an axis [m]."""
SNAP = 1.2
"""Candidates on furniture count from free floor this near [m]."""


class Teacher:
    """Prefers a candidate by how far it is, and how far the goal then is by the house's own account.

    A label that only the shortest way would get teaches what the agent cannot see. Costs through a
    soft minimum say as well how little it matters which of two candidates is taken, and over many houses
    the preferences average to what can be expected of what the memory shows.

    Args:
        env: a task in a house.
    """

    def __init__(self, env: Any) -> None:
        self._env = env.unwrapped
        self._goal: Any = None
        self._been: list[NDArray[np.float64]] = []

    def preferences(
        self, moment: Moment, offered: NDArray[np.bool_], distances: NDArray[np.float64] | None = None
    ) -> NDArray[np.float32]:
        """Returns (CANDIDATES + 1,) probabilities; 0 for what cannot be chosen.

        Args:
            moment: of the decision.
            offered: (CANDIDATES + 1,) what can be chosen.
            distances: what `distances` returned, where it was asked before.
        """
        known = self.distances(moment, offered) if distances is None else distances
        costs = self.costs(moment, offered, known)
        self._been.append(moment.obs.map_T_base.position)
        weights = np.exp(-(costs - costs.min()) / TEMPERATURE)
        preferences: NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
        return preferences

    def costs(
        self, moment: Moment, offered: NDArray[np.bool_], distances: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Returns (CANDIDATES + 1,) lengths [m] of the ways by each candidate to the goal, inf where none.

        Args:
            moment: of the decision.
            offered: (CANDIDATES + 1,) what can be chosen.
            distances: what `distances` returned.
        """
        tokens, goal = moment.tokens, moment.obs.goal
        if goal != self._goal:
            self._goal, self._been = goal, []
        costs = np.full(CANDIDATES + 1, np.inf)
        costs[:CANDIDATES] = tokens.path_distance[:CANDIDATES] + distances
        positions = moment.obs.map_T_base.transform(tokens.position[:CANDIDATES])
        for slot in np.flatnonzero(offered[:CANDIDATES] & ~(tokens.feature[:CANDIDATES, 0] > 0)).tolist():
            costs[slot] += BEEN_COST * self._has_been(positions[slot])
        best = costs[:LOOK].min(initial=np.inf)
        again = BEEN_COST * self._has_been(moment.obs.map_T_base.position)
        costs[LOOK] = best + LOOK_COST + again if np.isfinite(best) else 0.0
        return costs

    def distances(self, moment: Moment, offered: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Returns (CANDIDATES,) lengths [m] of the ways from each candidate on to the goal.

        Things that the goal names are 0 where they are what they seem, else inf: what is not there is
        approached in vain, and wrongly said to be found. What is not offered is inf too.
        """
        tokens, env = moment.tokens, self._env
        field = env.house.distances_to(env.goal_label, env.success_radius)
        positions = moment.obs.map_T_base.transform(tokens.position[:CANDIDATES])
        found = np.full(CANDIDATES, np.inf)
        for slot in np.flatnonzero(offered[:CANDIDATES]).tolist():
            after, aside = self._distance(field, positions[slot])
            if tokens.feature[slot, 0] > 0:
                found[slot] = 0.0 if after <= AT_GOAL else np.inf
            else:
                found[slot] = after + aside
        return found

    def _has_been(self, position: NDArray[np.float64]) -> bool:
        """Tells whether a choice for this goal was made near a position: nothing new is seen from there."""
        return any(bool(np.abs(position - been)[:2].max() < NEAR) for been in self._been)

    def _distance(self, field: NDArray[np.float64], position: NDArray[np.float64]) -> tuple[float, float]:
        """Returns the shortest way from the free floor nearest to a position, and how near that is [m]."""
        reach = int(SNAP / CELL)
        iy, ix = (int(position[i] / CELL) for i in (1, 0))
        y0, x0 = max(iy - reach, 0), max(ix - reach, 0)
        near = field[y0 : max(iy + reach + 1, 0), x0 : max(ix + reach + 1, 0)]
        rows, columns = np.nonzero(np.isfinite(near))
        if len(rows) == 0:
            return float(np.inf), float(np.inf)
        y, x = (rows + y0 + 0.5) * CELL - position[1], (columns + x0 + 0.5) * CELL - position[0]
        away = y * y + x * x
        nearest = int(np.argmin(away))
        return float(near[rows[nearest], columns[nearest]]), float(np.sqrt(away[nearest]))

"""Go to the known goal, else to the nearest frontier: what a learned pointing policy has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.sim.pointing.candidates import CANDIDATES, LOOK, OBJECT, SOLID

SMALL, DETOUR = 0.3, 6.0
"""Narrower frontiers, mere corners behind things, can wait: a wide one so much farther is preferred [m]."""
TRUST = 0.5
"""Things less likely to be there are not gone to."""


def heuristic_choice(observation: dict[str, NDArray[Any]]) -> int:
    """Returns the nearest thing that the goal names, else the explorer's frontier, else looks everywhere.

    Args:
        observation: of a decision.
    """
    first = slice(CANDIDATES)
    there, path = observation["cand_mask"][first] > 0, observation["cand_path_distance"]
    least = np.where(observation["mem_kind"][first] == OBJECT, TRUST, SOLID)
    is_goal = (observation["mem_feature"][first, 0] > 0) & (observation["mem_confidence"][first] >= least)
    is_frontier = observation["mem_frontier"][first] > 0
    waits = is_frontier & (observation["mem_extent"][first].max(axis=-1) < SMALL)
    for wanted in (there & is_goal, there & is_frontier):
        if wanted.any():
            return int(np.argmin(np.where(wanted, path + DETOUR * waits, np.inf)))
    untried = there & (observation["cand_tried"][first] == 0)
    if observation["cand_mask"][LOOK] == 0 and untried.any():  # all is explored: it is looked from all over
        return int(np.argmin(np.where(untried, path, np.inf)))
    if observation["cand_mask"][LOOK]:
        return LOOK
    return int(np.argmax(np.where(there, path, -np.inf)))


class Heuristic:
    """Chooses as `heuristic_choice` does, in a trained policy's stead."""

    def act(self, obs: dict[str, NDArray[Any]], state: Any = None) -> tuple[int, Any]:
        """Returns the choice; there is no state."""
        return heuristic_choice(obs), state

"""The explorer: goes to the nearest frontier that the memory knows of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.types import MemoryTokens, Observation


@dataclass(frozen=True, eq=False)
class Subgoal:
    """A place or a thing to go to, for a controller to reach.

    Attributes:
        position: (3,) float64 [m] in the map frame; the middle of a thing.
        extent: (3,) float64 [m], edges of the thing's box; 0 for a place.
        radius: it is reached from this near to the box, with the box in sight [m]; 0 for a place.
        limit: where nothing nearer can be stood at, this near is enough too [m].
        then: primitive action to take once it is reached, or None.
        watched: once it is reached it is looked at, where there is nothing to do then.
        label: the thing's label id in the memory, 0 where it has none.
        part: what has this label is seen as the thing as far beyond its box [m]: of large things a map has
            parts.
    """

    position: NDArray[np.float64]
    extent: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    radius: float = 0.0
    then: int | None = None
    limit: float = 0.0
    label: int = 0
    part: float = 0.0
    watched: bool = False


@dataclass(eq=False)
class ExplorerState:
    """What the explorer keeps between steps.

    Attributes:
        target: map position of the current frontier.
        spent: steps since the agent last came closer to it.
        closest: shortest path distance to it so far [m].
        given_up: map positions of frontiers that proved out of reach.
    """

    target: NDArray[np.float64] | None = None
    spent: int = 0
    closest: float = np.inf
    given_up: list[NDArray[np.float64]] = field(default_factory=list)


class Explorer:
    """Frontier exploration (Yamauchi 1997) on memory tokens alone.

    It chooses the frontier with the shortest path over traversable space, gives one up that
    it cannot clear within `patience` steps, and stops where no frontier is left.

    Args:
        patience: steps without progress before a frontier is given up.
        same: frontiers closer than this are the same one [m].
        small: narrower frontiers than this, mere corners behind things, can wait [m].
        detour: so much farther away is a wide frontier still preferred to a small one [m].
    """

    def __init__(self, patience: int = 8, same: float = 0.5, small: float = 0.0, detour: float = 0.0) -> None:
        self.patience = patience
        self.same = same
        self.small = small
        self.detour = detour

    def act(self, obs: Observation, tokens: MemoryTokens, state: Any) -> tuple[Subgoal | None, ExplorerState]:
        """Returns the nearest frontier as a sub-goal, or None where the world is explored."""
        state = state if isinstance(state, ExplorerState) and not obs.is_first else ExplorerState()
        open_tokens = tokens.mask & tokens.frontier & np.isfinite(tokens.path_distance)
        positions = obs.map_T_base.transform(tokens.position[open_tokens])  # (F, 3)
        distances = tokens.path_distance[open_tokens]
        waits = tokens.extent[open_tokens].max(axis=-1, initial=0.0) < self.small  # (F,)
        for bad in state.given_up:
            keep = np.abs(positions - bad).max(axis=-1) > self.same
            positions, distances, waits = positions[keep], distances[keep], waits[keep]
        if len(distances) == 0:
            return None, state
        best = int(np.argmin(distances + self.detour * waits))
        target, distance = positions[best], float(distances[best])
        if state.target is None or np.abs(state.target - target).max() > self.same:
            state.target, state.spent, state.closest = target, 0, np.inf
        if distance < state.closest:
            state.spent, state.closest = 0, distance
        else:
            state.spent += 1
        if state.spent > self.patience:
            state.given_up.append(target)
            state.target = None
            return self.act(obs, tokens, state)
        return Subgoal(target), state

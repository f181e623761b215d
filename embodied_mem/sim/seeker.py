"""The seeker: explores until the memory knows what the goal names, then goes there and says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.sim.explorer import Explorer, ExplorerState, Subgoal
from embodied_mem.types import TOKEN_KINDS, MemoryTokens, Observation

CELL, OBJECT, PLACE = (TOKEN_KINDS.index(kind) for kind in ("cell", "object", "place"))
SAME_THING = 1.0
"""Goals this close together are taken for parts of one thing [m]."""
LOST_RADIUS = 0.6
"""Around a goal that proved out of reach others are not tried either [m]."""
LAST_RESORT = 0.1
"""Where a thing proved out of reach, it says "found" from this much farther away [m]."""
MOST_REPLANS = 3
"""So often the way to a thing may prove longer than it looked before it is given up."""


@dataclass(eq=False)
class SeekerState:
    """What the seeker keeps between steps.

    Attributes:
        exploring: the explorer's state.
        goal: label and words of the current goal.
        target: map position of the thing that it goes to, or None.
        spent: steps since it last came closer to the target.
        closest: shortest path distance to it so far [m].
        replans: how often the way there has proved longer than it looked.
        lost: map positions of things that proved out of reach.
        searched: map positions where it has looked around for want of a frontier.
        turned: turns since it wanted to look around.
        retried: whether it has tried what was lost once more, with all explored.
    """

    exploring: ExplorerState = field(default_factory=ExplorerState)
    goal: tuple[int, str] = (0, "")
    target: NDArray[np.float64] | None = None
    spent: int = 0
    closest: float = np.inf
    replans: int = 0
    lost: list[NDArray[np.float64]] = field(default_factory=list)
    searched: list[NDArray[np.float64]] = field(default_factory=list)
    turned: int = 0
    retried: bool = False

    def start(self, target: NDArray[np.float64] | None) -> None:
        """Counts from now on how it comes closer to a target."""
        self.target, self.spent, self.closest, self.replans = target, 0, np.inf, 0

    def comes_closer(self, distance: float, patience: int) -> bool:
        """Counts a step; False where it has come no closer to its target for too long.

        Args:
            distance: path distance to the target now [m].
            patience: steps.
        """
        if distance < self.closest - 0.01:
            self.spent, self.closest = 0, distance
        elif distance > self.closest + SAME_THING and self.replans < MOST_REPLANS:
            self.spent, self.closest, self.replans = 0, distance, self.replans + 1
        else:
            self.spent += 1
        return self.spent <= patience


class Seeker:
    """Frontier exploration, and a straight way to the goal once it is in the memory.

    It knows the memory tokens alone: objects that the goal names, and cubes of the map with its label.
    Where no frontier is left it visits the places that it knows, nearest first, and looks around in each.

    Args:
        explorer: chooses the frontier.
        found: primitive action that says "found".
        turn: primitive action that turns.
        circle: how many of them are a full turn.
        reach: how near to the goal it says so [m].
        limit: how near is enough where nothing nearer can be stood at [m].
        trust: objects and labels less likely to be true are no goals.
    """

    def __init__(
        self,
        explorer: Explorer,
        found: int,
        turn: int,
        circle: int,
        reach: float,
        limit: float,
        trust: float = 0.5,
    ) -> None:
        self.explorer = explorer
        self.found = found
        self.turn = turn
        self.circle = circle
        self.reach = reach
        self.limit = limit
        self.trust = trust

    def act(self, obs: Observation, tokens: MemoryTokens, state: Any) -> tuple[Any, SeekerState]:
        """Returns a sub-goal or a turn; None where there is no goal and all is explored."""
        state = state if isinstance(state, SeekerState) and not obs.is_first else SeekerState()
        if obs.goal is None:
            subgoal, state.exploring = self.explorer.act(obs, tokens, state.exploring)
            return subgoal, state
        goal = (obs.goal.label, obs.goal.text)
        if goal != state.goal:
            state.goal, state.turned, state.searched, state.lost, state.retried = goal, 0, [], [], False
            state.start(None)
        found = self._goal_in_memory(obs, tokens, state)
        if found is not None:
            state.turned = 0
            return found, state
        subgoal, state.exploring = self.explorer.act(obs, tokens, state.exploring)
        if subgoal is not None:
            return subgoal, state
        if state.lost and not state.retried:  # the map is as good now as it gets
            state.retried, state.lost = True, []
            state.start(None)
            found = self._goal_in_memory(obs, tokens, state)
        return self._search(obs, tokens, state) if found is None else found, state

    def _goal_in_memory(self, obs: Observation, tokens: MemoryTokens, state: SeekerState) -> Subgoal | None:
        """Returns the way to the nearest thing that the goal names, None where none is known."""
        wanted = tokens.mask & ((tokens.kind == OBJECT) | (tokens.kind == CELL)) & (tokens.feature[:, 0] > 0)
        wanted &= (tokens.confidence >= self.trust) & np.isfinite(tokens.path_distance)
        slots = np.flatnonzero(wanted)
        positions = obs.map_T_base.transform(tokens.position[slots].astype(np.float64))  # (G, 3)
        for lost in state.lost:
            keep = np.abs(positions - lost)[:, :2].max(axis=-1, initial=0.0) > LOST_RADIUS
            slots, positions = slots[keep], positions[keep]
        if len(slots) == 0:
            return None
        ways = tokens.path_distance[slots].astype(np.float64)
        if state.target is not None:
            # The one that it is on its way to looks a little nearer: it must not waver between two.
            ways -= 0.5 * (np.abs(positions - state.target)[:, :2].max(axis=-1) < SAME_THING)
        best = int(np.argmin(ways))
        slot, position = int(slots[best]), positions[best]
        if state.target is None or np.abs(position - state.target)[:2].max() >= SAME_THING:
            state.start(position)
        if not state.comes_closer(float(tokens.path_distance[slot]), self.explorer.patience):
            state.lost.append(position)
            state.start(None)
            return self._goal_in_memory(obs, tokens, state)
        extent, label = tokens.extent[slot].astype(np.float64), int(tokens.label[slot])
        limit = self.limit + LAST_RESORT * state.retried
        return Subgoal(position, extent, self.reach, self.found, limit, label)

    def _search(self, obs: Observation, tokens: MemoryTokens, state: SeekerState) -> Subgoal | int:
        """Looks around at the nearest place where it has not done so for this goal; then starts over."""
        here = obs.map_T_base.position
        if state.turned:  # in the middle of a look around
            state.turned = (state.turned + 1) % (self.circle + 1)
            return self.turn
        known = tokens.mask & (tokens.kind == PLACE) & np.isfinite(tokens.path_distance)
        order = np.flatnonzero(known)[np.argsort(tokens.path_distance[known], kind="stable")]
        for slot in order.tolist():
            position = obs.map_T_base.transform(tokens.position[slot])
            if any(np.abs(position - done)[:2].max() < self.explorer.same for done in state.searched):
                continue
            near = np.abs(position - here)[:2].max() < self.explorer.same
            if near or not state.comes_closer(float(tokens.path_distance[slot]), self.explorer.patience // 2):
                state.searched.append(position)  # there, or no way there
                break
            return Subgoal(position)
        else:
            state.searched.clear()
            state.lost.clear()
            state.exploring.given_up.clear()
        state.start(None)
        state.turned = 1
        return self.turn

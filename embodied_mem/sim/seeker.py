"""The seeker: explores until the memory knows what the goal names, then goes there and says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.sim.explorer import Explorer, ExplorerState, Subgoal
from embodied_mem.types import TOKEN_KINDS, MemoryTokens, Observation

OBJECT, PLACE = TOKEN_KINDS.index("object"), TOKEN_KINDS.index("place")


@dataclass(eq=False)
class SeekerState:
    """What the seeker keeps between steps.

    Attributes:
        exploring: the explorer's state.
        goal: label and words of the current goal.
        target: id of the object that it goes to, or -1.
        spent: steps since it last came closer to the target.
        closest: shortest path distance to the target so far [m].
        given_up: objects that proved out of reach.
        searched: map positions where it has looked around for want of a frontier.
        carrying: name of what it carries, where it carries things.
        turned: turns since it wanted to look around, or to put that down.
    """

    exploring: ExplorerState = field(default_factory=ExplorerState)
    goal: tuple[int, str] = (0, "")
    target: int = -1
    spent: int = 0
    closest: float = np.inf
    given_up: set[int] = field(default_factory=set)
    searched: list[NDArray[np.float64]] = field(default_factory=list)
    carrying: str = ""
    turned: int = 0


class Seeker:
    """Frontier exploration, and a straight way to the goal once it is in the memory.

    It knows the memory tokens alone. Where no frontier is left it visits the places that it knows,
    nearest first, and looks around in each: large things are seen whole from few places.

    Args:
        explorer: chooses the frontier.
        found: primitive action that says "found".
        turn: primitive action that turns.
        circle: how many of them are a full turn.
        reach: how near to the goal it says so [m].
        trust: objects less likely to exist are no goals.
    """

    def __init__(
        self, explorer: Explorer, found: int, turn: int, circle: int, reach: float, trust: float = 0.5
    ) -> None:
        self.explorer = explorer
        self.found = found
        self.turn = turn
        self.circle = circle
        self.reach = reach
        self.trust = trust

    def act(self, obs: Observation, tokens: MemoryTokens, state: Any) -> tuple[Any, SeekerState]:
        """Returns a sub-goal or a turn; None where there is no goal and all is explored."""
        state = state if isinstance(state, SeekerState) and not obs.is_first else SeekerState()
        if obs.goal is None:
            subgoal, state.exploring = self.explorer.act(obs, tokens, state.exploring)
            return subgoal, state
        goal = (obs.goal.label, obs.goal.text)
        if goal != state.goal:
            state.goal, state.target, state.searched = goal, -1, []
            state.spent, state.turned, state.closest = 0, 0, np.inf
            state.given_up.clear()
        found = self._goal_in_memory(obs, tokens, state)
        if found is not None:
            state.turned = 0
            return found, state
        subgoal, state.exploring = self.explorer.act(obs, tokens, state.exploring)
        if subgoal is not None:
            return subgoal, state
        return self._search(obs, tokens, state), state

    def _goal_in_memory(self, obs: Observation, tokens: MemoryTokens, state: SeekerState) -> Subgoal | None:
        """Returns the way to the nearest thing that the goal names, None where none is known."""
        wanted = tokens.mask & (tokens.kind == OBJECT) & (tokens.feature[:, 0] > 0)
        wanted &= (tokens.confidence >= self.trust) & np.isfinite(tokens.path_distance)
        wanted &= ~np.isin(tokens.id, sorted(state.given_up))
        slots = np.flatnonzero(wanted)
        if len(slots) == 0:
            return None
        # The one that it is on its way to looks a little nearer: it must not waver between two.
        ways = tokens.path_distance[slots] - 0.5 * (tokens.id[slots] == state.target)
        slot = int(slots[np.argmin(ways)])
        target, distance = int(tokens.id[slot]), float(tokens.path_distance[slot])
        if target != state.target:
            state.target, state.spent, state.closest = target, 0, np.inf
        if distance < state.closest - 0.01:
            state.spent, state.closest = 0, distance
        else:
            state.spent += 1
        if state.spent > self.explorer.patience:
            state.given_up.add(target)
            return self._goal_in_memory(obs, tokens, state)
        position = obs.map_T_base.transform(tokens.position[slot])
        extent, label = tokens.extent[slot].astype(np.float64), int(tokens.label[slot])
        return Subgoal(position, extent, self.reach, self.found, 1.5 * self.reach, label)

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
            distance = float(tokens.path_distance[slot])
            state.spent = 0 if distance < state.closest - 0.01 else state.spent + 1
            state.closest = min(state.closest, distance)
            if near or state.spent > self.explorer.patience // 2:  # there, or no way there
                state.searched.append(position)
                state.spent, state.turned, state.closest = 0, 1, np.inf
                return self.turn
            return Subgoal(position)
        state.searched.clear()
        state.given_up.clear()
        state.exploring.given_up.clear()
        state.spent, state.turned, state.closest = 0, 1, np.inf
        return self.turn

"""The seeker of grid worlds: explores, opens what is locked or hidden, and takes what the goal names."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from embodied_mem.perception.grid import COLORS, OBJECTS
from embodied_mem.sim.explorer import Explorer, ExplorerState, Subgoal
from embodied_mem.sim.grid_controller import DROP, FORWARD, LEFT, PICKUP, TOGGLE
from embodied_mem.sim.seeker import OBJECT
from embodied_mem.types import GridView, MemoryTokens, Observation

LOCKED = 3
"""Index of the token feature that tells "locked"."""
DIRECTIONS = range(4)
MOST_STARTS = 6
"""So often it sets out for a thing before it gives it up."""
EMPTY = OBJECTS.index("empty")


@dataclass(frozen=True, eq=False)
class Thing:
    """Something that the memory knows.

    Attributes:
        id: of its token.
        kind, color: as in `OBJECTS` and `COLORS`.
        position: (3,) [m] in the map frame.
        distance: path distance [m].
        is_goal, is_locked: as its token tells.
    """

    id: int
    kind: str
    color: str
    position: Any
    distance: float
    is_goal: bool
    is_locked: bool


@dataclass(eq=False)
class GridSeekerState:
    """What the seeker keeps between steps.

    Attributes:
        exploring: the explorer's state.
        target: id of the object that it goes to, or -1.
        spent: steps since it last came closer to the target.
        closest: shortest path distance to the target so far [m].
        given_up: objects that proved out of reach.
        starts: how often it has set out for an object, by id.
        carrying: name of what it carries.
        turned: turns since it wanted to put that down.
    """

    exploring: ExplorerState = field(default_factory=ExplorerState)
    target: int = -1
    spent: int = 0
    closest: float = np.inf
    given_up: set[int] = field(default_factory=set)
    starts: dict[int, int] = field(default_factory=dict)
    carrying: str = ""
    turned: int = 0


class GridSeeker:
    """A seeker in grid worlds that knows what keys, boxes and balls are good for.

    In this order: the goal, locked doors whose key it carries, frontiers, what lies in front of locked
    doors, keys of locked doors, boxes, and anything that may be in the way. It knows the memory tokens
    and what it carries, nothing else.

    Args:
        explorer: chooses the frontier.
        trust: objects less likely to exist are left alone.
    """

    def __init__(self, explorer: Explorer, trust: float = 0.5) -> None:
        self.explorer, self.trust = explorer, trust
        self.reach = 1.0  # one cell [m]

    def act(self, obs: Observation, tokens: MemoryTokens, state: Any) -> tuple[Any, GridSeekerState]:
        """Returns a sub-goal or a primitive action, or None where nothing is left to do."""
        first = not isinstance(state, GridSeekerState) or obs.is_first
        carrying = _carried(obs)
        before = "" if first else state.carrying
        state = GridSeekerState() if first else state
        state.carrying = carrying
        if not first and carrying != before:  # the world has changed: what was out of reach may no longer be
            state.given_up.clear()
            state.starts.clear()
            state.exploring.given_up.clear()
        things = self._things(obs, tokens)
        goals = [t for t in things if t.is_goal and t.id not in state.given_up]
        chosen: Any = None
        if goals and all(t.kind == "goal" for t in goals):
            chosen = self._track(goals, None, state)
        elif goals:
            chosen = self._pick_up(goals, obs, things, state)
        if chosen is None:
            chosen = self._use_what_it_carries(obs, things, state)
        if chosen is None:
            open_tokens = self._without_locked(obs, tokens, things)
            chosen, state.exploring = self.explorer.act(obs, open_tokens, state.exploring)
        if chosen is None:
            chosen = self._open_up(obs, things, state)
        return (self._start_over(state) if chosen is None else chosen), state

    def _without_locked(self, obs: Observation, tokens: MemoryTokens, things: list[Thing]) -> MemoryTokens:
        """Returns the tokens without the frontiers in locked doors: nothing is to be seen from there."""
        frontier = tokens.frontier.copy()
        positions = obs.map_T_base.transform(tokens.position)  # (K, 3)
        for door in (t for t in things if t.kind == "door" and t.is_locked):
            frontier &= np.abs(positions - door.position)[:, :2].max(axis=-1) > self.explorer.same
        return replace(tokens, frontier=frontier)

    def _things(self, obs: Observation, tokens: MemoryTokens) -> list[Thing]:
        found = []
        for slot in np.flatnonzero(tokens.mask & (tokens.kind == OBJECT) & (tokens.confidence >= self.trust)):
            name = obs.labels.name(int(tokens.label[slot]))
            color, _, kind = name.rpartition(" ")
            found.append(
                Thing(
                    int(tokens.id[slot]),
                    kind,
                    color,
                    obs.map_T_base.transform(tokens.position[slot]),
                    float(tokens.path_distance[slot]),
                    bool(tokens.feature[slot, 0] > 0),
                    bool(tokens.feature[slot, LOCKED] > 0),
                )
            )
        return found

    def _track(self, things: list[Thing], then: int | None, state: GridSeekerState) -> Subgoal | None:
        """Returns the way to the nearest of some things; gives one up that it does not come closer to."""
        for thing in sorted(things, key=lambda t: (t.distance, t.id)):
            if thing.id in state.given_up or not np.isfinite(thing.distance):
                continue
            if state.target != thing.id:
                state.target, state.spent, state.closest = thing.id, 0, np.inf
                state.starts[thing.id] = state.starts.get(thing.id, 0) + 1
                if state.starts[thing.id] > MOST_STARTS:  # to and fro between two is a way to neither
                    state.given_up.add(thing.id)
                    state.target = -1
                    continue
            closer = thing.distance < state.closest
            state.spent = 0 if closer else state.spent + 1
            state.closest = min(state.closest, thing.distance)
            if state.spent <= self.explorer.patience:
                return Subgoal(thing.position, radius=0.0 if then is None else self.reach, then=then)
            state.given_up.add(thing.id)
            state.target = -1
        return None

    def _pick_up(
        self, wanted: list[Thing], obs: Observation, things: list[Thing], state: GridSeekerState
    ) -> Any:
        """Returns the way to pick something up, with hands that are free."""
        chosen = self._track(wanted, PICKUP, state)
        if chosen is None or not state.carrying:
            return chosen
        near = obs.map_T_base.position - chosen.position
        return self._put_down(obs, things, state) if np.abs(near[:2]).sum() < 2.5 else chosen

    def _put_down(self, obs: Observation, things: list[Thing], state: GridSeekerState) -> int:
        """Returns drop where the cell ahead is free and beside no door; otherwise turns, and walks on."""
        assert obs.grid is not None
        view: GridView = obs.grid
        middle, last = view.cells.shape[0] // 2, view.cells.shape[1] - 1
        ahead = obs.map_T_base.transform(np.array([view.cell_size, 0.0, 0.0]))
        doors = [t for t in things if t.kind == "door"]
        aside = all(np.abs(ahead[:2] - door.position[:2]).sum() > 1.2 * view.cell_size for door in doors)
        is_empty = view.cells[middle, last - 1, 0] == EMPTY
        if aside and is_empty and state.turned:  # not where it was taken from
            state.turned = 0
            return DROP
        state.turned += 1
        if state.turned > len(DIRECTIONS) and is_empty:
            state.turned = 0
            return FORWARD
        return LEFT

    def _use_what_it_carries(self, obs: Observation, things: list[Thing], state: GridSeekerState) -> Any:
        """Returns the way to the door that a carried key opens; puts down what is of no use."""
        color, _, kind = state.carrying.rpartition(" ")
        if not kind:
            return None
        fitting = [t for t in things if t.kind == "door" and t.is_locked and t.color == color]
        if kind != "key" or not fitting or _beside(things, fitting):
            return self._put_down(obs, things, state)
        return self._track(fitting, TOGGLE, state)

    def _open_up(self, obs: Observation, things: list[Thing], state: GridSeekerState) -> Any:
        """Returns what opens new ways where no frontier is left."""
        locked = [t for t in things if t.kind == "door" and t.is_locked]
        colors = {t.color for t in locked}
        keys = [t for t in things if t.kind == "key" and t.color in colors]
        way = self._pick_up(_beside(things, locked), obs, things, state)
        if way is None:
            way = self._pick_up(keys, obs, things, state)
        if way is None:
            way = self._track([t for t in things if t.kind == "box"], TOGGLE, state)
        if way is None:  # something that it put down itself may be in the way
            way = self._pick_up([t for t in things if t.kind in ("ball", "key")], obs, things, state)
        return way

    def _start_over(self, state: GridSeekerState) -> Any:
        """Forgets what was given up, and turns to look again; stops where nothing had been given up."""
        if not state.given_up and not state.exploring.given_up:
            return None
        state.given_up.clear()
        state.starts.clear()
        state.exploring.given_up.clear()
        return LEFT


def _beside(things: list[Thing], doors: list[Thing]) -> list[Thing]:
    """Returns what lies right beside one of some doors."""
    return [
        t
        for t in things
        if t.kind != "door" and any(np.abs(t.position - d.position)[:2].sum() < 1.2 for d in doors)
    ]


def _carried(obs: Observation) -> str:
    """Returns the name of what is carried, or ""."""
    if obs.grid is None or obs.grid.carrying is None:
        return ""
    kind, color = obs.grid.carrying
    return f"{COLORS[color]} {OBJECTS[kind]}"

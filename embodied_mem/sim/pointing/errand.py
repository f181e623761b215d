"""An errand: what was chosen, carried out step by step until it is done or something new is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.sim.explorer import Subgoal
from embodied_mem.sim.pointing.candidates import (
    CANDIDATES,
    LOOK,
    OBJECT,
    candidate_mask,
    is_thing,
    known_goals,
)
from embodied_mem.sim.pointing.sightings import Sightings
from embodied_mem.types import MemoryTokens, Observation

WIDE = 0.3
"""Narrower frontiers are mere corners behind things [m]."""


@dataclass(frozen=True)
class ErrandConfig:
    """How choices are carried out."""

    budget: int = 16
    """Primitive actions before the policy decides again."""
    trust: float = 0.5
    """Objects less likely to exist are no news of the goal."""
    reach: float = 0.6
    """A thing is reached from this near to its box, with the box in sight [m]."""
    proof: int = 5
    """A thing is said to be found once it has been seen in so many steps: one wrong label proves nothing."""
    familiar: int = 15
    """An object that was seen so often in its life need not be looked at so often again for a new goal."""
    recent: float = 30.0
    """That is as long as it was seen not longer ago than this [s]."""
    part: float = 0.4
    """What has the goal's label and is no farther from a part of it is a part of it too [m]."""
    near: float = 0.35
    """A place is reached from this near [m]."""
    progress: float = 0.3
    """Who moved no further than this on an errand that used up its budget gives it up [m]."""
    patience: int = 12
    """Errands after which a thing or a place that was given up is tried once more."""
    limit: float = 0.9
    """Where nothing nearer can be stood at, this near is enough too [m]."""
    open: float = 1.0
    """From a thing this near to a wide frontier it first tries to come nearer than `limit` [m]."""
    same: float = 0.6
    """A frontier or a thing that has moved no further than this is still the same [m]."""
    beside: float = 1.5
    """Looks around nearer than this are from the same place [m]."""
    turn: int = 2
    """Primitive action that turns."""
    circle: int = 12
    """How many of them are a full turn."""
    found: int = 0
    """Primitive action that says "found"."""


class Errand:
    """A choice on its way.

    A thing that the goal names is approached until it is reached, and the controller then says that it
    is found, as soon as it has been seen often enough; until then it is looked for from there. Other
    things and places are gone to. A frontier is gone to until it is none any more.

    Args:
        choice: candidate, or `LOOK`.
        obs: the observation on which it was chosen.
        tokens: the tokens among which it was chosen.
        config: how it is carried out.
        proven: tells whether something at a map position was seen often enough.
        patient: a thing beside floor that is not known yet is not said to be found from `config.limit`.
        committed: its budget begins anew whenever it has come nearer.

    Attributes:
        outcome: one of `OUTCOMES` once it is over.
        steps: primitive actions so far.
    """

    def __init__(
        self,
        choice: int,
        obs: Observation,
        tokens: MemoryTokens,
        config: ErrandConfig,
        proven: Callable[[NDArray[np.float64]], bool] = lambda _: True,
        patient: bool = False,
        committed: bool = False,
    ) -> None:
        self.config, self.choice, self._proven, self._patient = config, choice, proven, patient
        self._committed, self._since = committed, 0
        self.outcome, self.steps = "", 0
        self._goal = _goal_of(obs)
        self._known = self._news(tokens)
        self._start = self._nearest = self._mark = float("inf")
        self._began = obs.map_T_base.position
        self._moved = 0.0
        if choice != LOOK:
            self._start = self._nearest = self._mark = float(tokens.path_distance[choice])
            self._token = (int(tokens.kind[choice]), int(tokens.id[choice]))
            self._is_thing = bool(is_thing(tokens)[choice])
            self._is_frontier = bool(tokens.frontier[choice])
            self._is_goal = bool(tokens.feature[choice, 0] > 0)
            self._subgoal = self._aim(choice, obs, tokens)

    def next(self, obs: Observation, tokens: MemoryTokens) -> Any:
        """Returns the sub-goal or the primitive action of this step; None once it is over."""
        self.outcome = self._outcome(obs, tokens)
        if self.outcome:
            return None
        self.steps += 1
        return self.config.turn if self.choice == LOOK else self._subgoal

    def _outcome(self, obs: Observation, tokens: MemoryTokens) -> str:
        """Returns how the errand has ended, "" where it has not; follows what it goes to."""
        config = self.config
        if self.steps == 0:
            return ""
        if _goal_of(obs) != self._goal:
            return "found"
        if self._news(tokens) - self._known:
            return "interrupted"
        if self.choice == LOOK:
            return "reached" if self.steps >= config.circle else ""
        if self._is_thing or self._is_frontier:
            slot = self._slot(obs, tokens)
            if slot is None:
                return "reached" if self._is_frontier else "gone"
            self._subgoal = self._aim(slot, obs, tokens)
            self._nearest = min(self._nearest, float(tokens.path_distance[slot]))
            if self._committed and self._nearest < self._mark - config.progress:
                self._mark, self._since = self._nearest, self.steps
        self._moved = float(np.abs(obs.map_T_base.position - self._began)[:2].max())
        if self.steps - self._since >= config.budget:
            return "spent"
        if self._is_goal or self._is_frontier:
            return ""
        away = self._subgoal.position - obs.map_T_base.position
        beside = np.maximum(np.abs(away[:2]) - self._subgoal.extent[:2] / 2, 0.0)
        near = config.reach if self._is_thing else config.near
        return "reached" if float(beside[0] ** 2 + beside[1] ** 2) <= near * near else ""

    @property
    def is_in_vain(self) -> bool:
        """True where it used up its budget without coming nearer to where it goes."""
        nearer = max(self._start - self._nearest, self._moved)
        return self.outcome == "spent" and self.choice != LOOK and nearer < self.config.progress

    @property
    def is_half_done(self) -> bool:
        """True where it used up its budget on the way to a frontier or a thing, but has come nearer."""
        follows = self.choice != LOOK and (self._is_thing or self._is_frontier)
        return self.outcome == "spent" and follows and not self.is_in_vain

    @property
    def is_to_thing(self) -> bool:
        """True where it goes to an object or to a cube with the goal's label."""
        return self.choice != LOOK and self._is_thing

    @property
    def is_to_frontier(self) -> bool:
        """True where it goes to a frontier."""
        return self.choice != LOOK and self._is_frontier

    @property
    def target(self) -> NDArray[np.float64]:
        """(3,) map position [m] that it goes to."""
        return self._subgoal.position

    def _news(self, tokens: MemoryTokens) -> set[int]:
        """Returns the ids of the objects that the goal names and that are likely to be there.

        -1 stands for all cubes of the map with its label: only the first one is news.
        """
        is_goal = known_goals(tokens, self.config.trust)
        return set(np.where(tokens.kind == OBJECT, tokens.id, -1)[is_goal].tolist())

    def _slot(self, obs: Observation, tokens: MemoryTokens) -> int | None:
        """Returns the token that stands for what it goes to now."""
        reachable = tokens.mask & np.isfinite(tokens.path_distance)
        reachable[CANDIDATES:] = False
        if self._is_thing:
            kind, id_ = self._token
            alike = reachable & is_thing(tokens) & (tokens.kind == kind)
            slots = np.flatnonzero(alike & (tokens.id == id_))
            if len(slots) or kind == OBJECT:
                return int(slots[0]) if len(slots) else None
            return self._nearest_of(np.flatnonzero(alike), obs, tokens)  # of one thing there are many cubes
        return self._nearest_of(np.flatnonzero(reachable & tokens.frontier), obs, tokens)

    def _nearest_of(self, slots: NDArray[np.intp], obs: Observation, tokens: MemoryTokens) -> int | None:
        """Returns which of some tokens is where it goes to, None where none is that is still the same."""
        if len(slots) == 0:
            return None
        moved = np.abs(obs.map_T_base.transform(tokens.position[slots]) - self._subgoal.position)
        moved = moved[:, :2].max(axis=-1)
        best = int(np.argmin(moved))
        return int(slots[best]) if moved[best] <= self.config.same else None

    def _aim(self, slot: int, obs: Observation, tokens: MemoryTokens) -> Subgoal:
        position: NDArray[np.float64] = obs.map_T_base.transform(tokens.position[slot])
        if not self._is_thing:
            return Subgoal(position)
        reach, extent = self.config.reach, tokens.extent[slot].astype(np.float64)
        proven = self._proven(position) or self._is_familiar(slot, tokens)
        waits = self._patient and self._is_beside_unknown(position, extent, obs, tokens)
        return Subgoal(
            position,
            extent,
            reach,
            self.config.found if self._is_goal and proven else None,
            reach if waits else self.config.limit,
            int(tokens.label[slot]),
            self.config.part,
            self._is_goal,
        )

    def _is_familiar(self, slot: int, tokens: MemoryTokens) -> bool:
        """Tells whether a token is of an object that the memory has seen often, and lately."""
        often, lately = np.log1p(self.config.familiar) - 1e-4, np.log1p(self.config.recent)
        is_object = tokens.kind[slot] == OBJECT and tokens.confidence[slot] >= self.config.trust
        return bool(is_object and tokens.visits[slot] >= often and tokens.age[slot] <= lately)

    def _is_beside_unknown(
        self,
        position: NDArray[np.float64],
        extent: NDArray[np.float64],
        obs: Observation,
        tokens: MemoryTokens,
    ) -> bool:
        """Tells whether a wide frontier is near a thing: from behind it one may come nearer."""
        wide = tokens.mask & tokens.frontier & (tokens.extent.max(axis=-1) >= WIDE)
        beside = np.abs(obs.map_T_base.transform(tokens.position[wide]) - position)[:, :2] - extent[:2] / 2
        return bool((beside.max(axis=-1) <= self.config.open).any())


class Errands:
    """One errand after another, and what was gone to in vain.

    Frontiers that were gone to in vain are not offered again until nothing else is left, things and places
    for a while, or until there is another goal. Who leaves what is half done for something else and comes
    back to it has to finish it: otherwise two candidates that are far apart, and as good as each other, keep
    a policy between them.

    Args:
        config: how they are carried out.

    Attributes:
        outcome: how the last one ended, of `OUTCOMES`.
    """

    def __init__(self, config: ErrandConfig) -> None:
        self.config, self.outcome = config, "none"
        self._errand: Errand | None = None
        self._frontiers: list[NDArray[np.float64]] = []
        self._lost: list[tuple[int, bool, NDArray[np.float64]]] = []  # when, whether a thing, where
        self._count = 0
        self._goal = (0, "")
        self._gone: list[NDArray[np.float64]] = []
        self._looks: list[NDArray[np.float64]] = []
        self._left: list[NDArray[np.float64]] = []
        self._sightings = Sightings(config.same, config.trust)

    @property
    def steps(self) -> int:
        """Primitive actions of the newest errand so far."""
        return 0 if self._errand is None else self._errand.steps

    def offer(self, obs: Observation, tokens: MemoryTokens) -> NDArray[np.bool_]:
        """Returns (CANDIDATES + 1,) bool: what can be chosen now.

        That leaves out what was given up, places and things at which the agent is already, and a second
        look around from the same place, unless there is nothing else.
        """
        if _goal_of(obs) != self._goal:
            self._goal = _goal_of(obs)
            self._lost.clear()
            self._gone.clear()
            self._left.clear()
            self._sightings = Sightings(self.config.same, self.config.trust)
        offered = candidate_mask(tokens)
        positions = obs.map_T_base.transform(tokens.position[:CANDIDATES])
        frontier = tokens.frontier[:CANDIDATES]
        kept = offered[:CANDIDATES].copy()
        for bad in self._frontiers:
            kept &= ~(frontier & (np.abs(positions - bad)[:, :2].max(axis=-1) <= self.config.same))
        if (kept & frontier).any():
            offered[:CANDIDATES] = kept
        else:
            self._frontiers.clear()
        thing = is_thing(tokens)[:CANDIDATES]
        self._lost = [lost for lost in self._lost if self._count - lost[0] < self.config.patience]
        for _, was_thing, bad in self._lost:
            lost = np.abs(positions - bad)[:, :2].max(axis=-1) <= self.config.same
            offered[:CANDIDATES] &= ~(lost & ~frontier & (thing == was_thing))
        half = tokens.extent[:CANDIDATES, :2] / 2 * thing[:, None]
        beside = np.abs(positions - obs.map_T_base.position)[:, :2] - half
        away = np.sqrt((np.maximum(beside, 0.0) ** 2).sum(axis=-1))
        here = away <= np.where(thing, self.config.reach, self.config.near)
        is_goal = tokens.feature[:CANDIDATES, 0] > 0
        offered[:CANDIDATES] &= frontier | is_goal | ~here
        offered[LOOK] = not (self._looks_here(obs) and offered[:CANDIDATES].any())
        return offered

    def tried(self, obs: Observation, tokens: MemoryTokens) -> NDArray[np.float32]:
        """Returns (CANDIDATES + 1,) float32 log(1 + n), where n is how often it was gone to before.

        That is to its end: who is still on the way has not tried it yet. Candidates that are as near to
        each other as `same` count as one, as long as the goal is the same; of looks around those within
        `beside` count, whatever the goal was.
        """
        count = np.zeros(CANDIDATES + 1, np.float32)
        positions = obs.map_T_base.transform(tokens.position[:CANDIDATES])
        for gone in self._gone:
            count[:CANDIDATES] += np.abs(positions - gone)[:, :2].max(axis=-1) <= self.config.same
        count[LOOK] = self._looks_here(obs)
        return np.log1p(count)

    def _looks_here(self, obs: Observation) -> int:
        """Returns how often it looked around from about here."""
        here = obs.map_T_base.position
        return sum(bool(np.abs(here - look)[:2].max() <= self.config.beside) for look in self._looks)

    def start(self, choice: int, obs: Observation, tokens: MemoryTokens) -> None:
        """Begins an errand."""
        fresh = choice != LOOK and not self.tried(obs, tokens)[choice]
        committed = self._comes_back(choice, obs, tokens)
        self._errand = Errand(choice, obs, tokens, self.config, self._is_proven, fresh, committed)
        self._count += 1
        if choice == LOOK:
            self._looks.append(obs.map_T_base.position)

    def _comes_back(self, choice: int, obs: Observation, tokens: MemoryTokens) -> bool:
        """Tells whether a choice was half done once, and left for another; notes what is left now."""
        if choice == LOOK:
            return False
        at, last = obs.map_T_base.transform(tokens.position[choice]), self._errand

        def is_there(target: NDArray[np.float64]) -> bool:
            return bool(np.abs(at - target)[:2].max() <= self.config.same)

        if last is not None and last.is_half_done and not is_there(last.target):
            self._left.append(last.target)
        return any(map(is_there, self._left))

    def next(self, obs: Observation, tokens: MemoryTokens) -> Any:
        """Returns the sub-goal or the primitive action of this step; None where a choice is due."""
        errand = self._errand
        self._sightings.add(obs, tokens)
        if errand is None:
            return None
        action = errand.next(obs, tokens)
        if action is None:
            self.outcome = errand.outcome
            if errand.choice != LOOK and (errand.outcome in ("reached", "gone") or errand.is_in_vain):
                self._gone.append(errand.target)
            if errand.is_in_vain and errand.is_to_frontier:
                self._frontiers.append(errand.target)
            elif errand.is_in_vain:
                self._lost.append((self._count, errand.is_to_thing, errand.target))
        return action

    def _is_proven(self, position: NDArray[np.float64]) -> bool:
        return self._sightings.count(position) >= self.config.proof


def _goal_of(obs: Observation) -> tuple[int, str]:
    return (0, "") if obs.goal is None else (obs.goal.label, obs.goal.text)

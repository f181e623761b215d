"""Sightings: in how many steps the goal was seen, and where; one wrong label proves nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied_mem.sim.pointing.candidates import CELL, LONG, OBJECT, READ, known_goals
from embodied_mem.types import MemoryTokens, Observation

FRESH = 0.02
"""Ages of tokens up to this are of this very step."""
STILL = 0.9
"""Cubes of the map that have less than this of the voxels that they had dwindle."""


class Sightings:
    """In how many steps something that the goal names was seen, place by place.

    An object of the scene graph counts whenever it is seen: many images made it what it is. Cubes of the map
    count as long as they do not dwindle: a wrong label in one image is outvoted, voxel by voxel, by those
    that follow, and what was only mistaken for the goal shrinks as it is looked at; then it counts anew.
    Nor do they count beside an object of the goal's label that was not seen for long: it was there then, and
    what is left of it in the map tells nothing of now.

    Args:
        same: what is no farther apart than this is the same [m].
        trust: objects less likely to exist do not count.
    """

    def __init__(self, same: float, trust: float) -> None:
        self.same, self.trust = same, trust
        self._places = np.empty((0, 2))
        self._counts = np.empty(0, np.int64)
        self._cubes: dict[int, tuple[NDArray[np.float64], float]] = {}
        self._step = -1

    def add(self, obs: Observation, tokens: MemoryTokens) -> None:
        """Counts what is seen in a step; the same step counts once."""
        if obs.step == self._step:
            return
        self._step = obs.step
        dwindling = self._dwindling(obs, tokens)
        seen = known_goals(tokens, self.trust) & (tokens.age <= FRESH)
        if not seen.any():
            return
        seen &= ~self._is_left_over(tokens)
        at = obs.map_T_base.transform(tokens.position[seen])[:, :2]  # (S, 2)
        known = self._apart(at) <= self.same  # (P, S)
        less = (self._apart(dwindling) <= self.same).any(axis=1)
        less &= ~known[:, tokens.kind[seen] == OBJECT].any(axis=1)
        self._counts = np.where(known.any(axis=1), np.where(less, 0, self._counts + 1), self._counts)
        for place in at[~known.any(axis=0)]:
            if not (self._apart(place[None]) <= self.same).any():
                self._places = np.concatenate([self._places, place[None]])
                self._counts = np.append(self._counts, 1)

    def _is_left_over(self, tokens: MemoryTokens) -> NDArray[np.bool_]:
        """Returns (K,) bool: cubes of the map beside a thing of the goal's label that was long not seen."""
        named = tokens.mask & (tokens.feature[:, 0] > 0)
        old = named & (tokens.kind == OBJECT) & (tokens.age >= np.log1p(LONG))
        apart = np.abs(tokens.position[:, None, :2] - tokens.position[None, old, :2]).max(axis=-1)  # (K, O)
        return np.asarray(named & (tokens.kind == CELL) & (apart <= self.same).any(axis=1))

    def _dwindling(self, obs: Observation, tokens: MemoryTokens) -> NDArray[np.float64]:
        """Returns (D, 2) where cubes are that have fewer voxels of the goal's label than a step before.

        Neighbours make up for each other: what counts is the sum within `same`.
        """
        slots = np.flatnonzero(tokens.mask & (tokens.feature[:, 0] > 0) & (tokens.kind == CELL))
        at = obs.map_T_base.transform(tokens.position[slots])[:, :2]
        voxels = np.expm1(tokens.visits[slots])
        now = {int(i): (p, float(n)) for i, p, n in zip(tokens.id[slots], at, voxels)}
        if len(slots) >= READ.goals:  # there may be more, which are not shown: these are as they were
            now = {**self._cubes, **now}
        before, self._cubes = self._cubes, now
        if not before:
            return np.empty((0, 2))
        places = np.array([place for place, _ in before.values()])
        had = np.array([count for _, count in before.values()])
        has = np.array([now[i][1] if i in now else 0.0 for i in before])
        near = np.abs(places[:, None] - places[None]).max(axis=-1) <= self.same
        return places[near @ has < STILL * (near @ had)]

    def count(self, position: NDArray[np.float64]) -> int:
        """Returns in how many steps something was seen at a map position."""
        near = self._apart(np.asarray(position)[None, :2])[:, 0] <= self.same
        return int(self._counts[near].max(initial=0))

    def _apart(self, at: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns (P, S) distances from the places to some points, along the farther axis [m]."""
        return np.asarray(np.abs(self._places[:, None] - at[None]).max(axis=-1, initial=0.0))

"""A task whose facts no map can hold: which cupboards prove locked, and where the parcels are left."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError
from embodied_mem.sim.house.house import SPLITS, House, make_house

HOUSES = 24
"""So many houses of a split are played in, the last ones: each is drawn once and measured once."""
WAY_COST, LOCKED_COST, PARCEL = 0.02, 0.3, 1.0
"""A metre of way, a locked thing, and a parcel, as rewards."""
FAR = 10.0
"""Ways are given to the policy in units of this [m]."""
TEMPERATURE = 1.0
"""Who does not know where the parcels are prefers a thing that is so much nearer by a factor e [m]."""


@lru_cache(maxsize=4 * HOUSES)
def ways_between(seed: int) -> NDArray[np.float32]:
    """Returns (T, T) shortest ways [m] between the things of a house, one thing of every category."""
    house = make_house(seed)
    first = {thing.label: thing for thing in reversed(house.things)}
    chosen = [first[label] for label in house.labels if house.is_reachable(first[label])]
    beside = [_beside(house, thing.center) for thing in chosen]
    fields = [house.floor_plan.distance_field(np.array([cell])) for cell in beside]
    return np.array([field.flat[beside] for field in fields], np.float32)


def _beside(house: House, center: tuple[float, float, float]) -> int:
    """Returns the free cell of the main part that is nearest to a thing."""
    cells = np.flatnonzero(house.floor_plan.main_part)
    away = ((house.floor_plan.centers[cells] - np.array(center[:2])) ** 2).sum(axis=-1)
    return int(cells[np.argmin(away)])


class HouseParcels(gymnasium.Env[dict[str, Any], np.int64]):
    """Fetch what is left for the robot in a house, day after day, from the same place.

    ## Description
    Every day a parcel of some kind is wanted; each kind always lies in the same one of the house's `things`,
    and some others are locked. Neither is to be seen: only who goes there learns it. The house is known
    already, and what a map can tell of it is told: how far it is to each thing, and how often the robot has
    been there. What happened there it has to remember itself. One gymnasium episode is one trial of `days`
    days in one house. Ways are those of the procedural houses' floor plans; the robot is moved along them
    at once.

    ## Action Space
    `Discrete(things)`: the thing to go to; the numbers stay the same for the whole trial.

    ## Observation Space
    A `Dict`:
    * `things` (things, 2) float32: the way to each [10 m], and log(1 + visits); zeros with `tokens=False`;
    * `last` (1,) uint8: the thing gone to last, `things` where there was none;
    * `status` (kinds + 2,) float32: the last one held a parcel of this kind; it was locked; time in the day,
      from 0 to 1;
    * `wanted` (kinds,) float32: 1 for the kind that is wanted; only where there are several;
    * `inner_start` (1,) float32: 1 where a day starts; memory goes on;
    * `place_id` (1,) int64: the thing it stands at, for memories that are addressed by place.

    ## Rewards
    1 for the wanted parcel, -0.3 for a locked thing, -0.02 for every metre.

    ## Starting State
    A house of the split, things, locks and the parcels' places are drawn once a trial; every day begins at
    another thing than the wanted parcel's, and what is wanted is drawn anew.

    ## Episode End
    After `days` days, as termination. A day ends with its parcel, or after 2 * `things` calls.
    `info["success"]`: on the last day it went straight to the wanted parcel. `info["visits"]`: calls a day.

    ## Arguments
    * `things=8`, `locked=3`, `kinds=1`, `days=8`; longer trials test memory beyond the training horizon.
    * `tokens=True`: whether it is told what the map knows. `split="train"`.

    ## Version History
    * v1: three kinds and 12 days. In v0 the last step of a day tells all that the next needs, and how often
      each thing was visited tells the rest of it, to who keeps no memory.
    * v0: first version.
    """

    metadata = {"render_modes": []}

    def __init__(
        self,
        things: int = 8,
        locked: int = 3,
        days: int = 8,
        tokens: bool = True,
        split: str = "train",
        kinds: int = 1,
    ) -> None:
        if not 2 <= things <= 12 or kinds < 1 or not 0 <= locked <= things - 1 - kinds:
            raise ConfigError(
                "things must be in [2, 12], kinds at least 1, and locked in [0, things - 1 - kinds], "
                f"got {things}, {kinds} and {locked}"
            )
        if days < 1:
            raise ConfigError(f"days must be at least 1, got {days}")
        if split not in SPLITS:
            raise ConfigError(f'no split "{split}" of houses; there are: {", ".join(SPLITS)}')
        self.count, self.locks, self.days, self.tokens, self.split = things, locked, days, tokens, split
        self.kinds = kinds
        box = gymnasium.spaces.Box
        self.observation_space = gymnasium.spaces.Dict(
            {
                "things": box(0.0, np.inf, (things, 2), np.float32),
                "last": box(0, things, (1,), np.uint8),
                "status": box(0.0, 1.0, (kinds + 2,), np.float32),
                "inner_start": box(0.0, 1.0, (1,), np.float32),
                "place_id": box(0, things - 1, (1,), np.int64),
                **({"wanted": box(0.0, 1.0, (kinds,), np.float32)} if kinds > 1 else {}),
            }
        )
        self.action_space = gymnasium.spaces.Discrete(things)
        self._at = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draws a trial: the house, its things, which are locked, and where the parcels are."""
        super().reset(seed=seed)
        rng, count = self.np_random, self.count
        houses = SPLITS[self.split][-HOUSES:]
        ways = ways_between(int(houses[int(rng.integers(len(houses)))]))
        drawn = rng.permutation(len(ways))[:count]
        self._ways = ways[np.ix_(drawn, drawn)]
        order = rng.permutation(count)
        self.parcels = tuple(order[: self.kinds].tolist())
        self.locked = frozenset(order[self.kinds : self.kinds + self.locks].tolist())
        self._visits = np.zeros(count)
        self._day, self._calls, self._total, self._last = 0, 0, 0, count
        self._status = [0.0] * (self.kinds + 1)
        self._begin_day()
        return self._observe(), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Goes to a thing and tries it."""
        chosen = int(action)
        reward = -WAY_COST * float(self._ways[self._at, chosen])
        paid, refused = chosen == self.wanted_at, chosen in self.locked
        reward += PARCEL * paid - LOCKED_COST * refused
        held = [float(chosen == at) for at in self.parcels]
        self._at, self._last, self._status = chosen, chosen, [*held, float(refused)]
        self._visits[chosen] += 1
        self._calls, self._total, self._starts = self._calls + 1, self._total + 1, False
        straight = paid and self._calls == 1
        if paid or self._calls >= 2 * self.count:
            self._day += 1
            self._begin_day()
        ended = self._day >= self.days
        info = {"success": straight, "visits": self._total / self.days} if ended else {}
        return self._observe(), reward, ended, False, info

    def preferences(self) -> NDArray[np.float32]:
        """Returns (things,) probabilities by which who remembers all chooses: what a policy can imitate.

        That is the wanted parcel's place once it has been come across, else the nearest of what was not
        tried in the whole trial, softly. Only what happened is used, nothing that is hidden.
        """
        tried = self._visits > 0
        costs = np.where(tried, np.inf, self._ways[self._at] / TEMPERATURE)
        if tried[self.wanted_at]:
            costs = np.where(np.arange(self.count) == self.wanted_at, 0.0, np.inf)
        weights = np.exp(-(costs - costs.min()))
        preferences: NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
        return preferences

    def _begin_day(self) -> None:
        self._wanted = int(self.np_random.integers(self.kinds)) if self.kinds > 1 else 0
        others = [i for i in range(self.count) if i != self.wanted_at]
        self._at = others[int(self.np_random.integers(len(others)))]
        self._calls, self._starts = 0, True

    @property
    def wanted_at(self) -> int:
        """The thing that holds the parcel which is wanted today: ground truth, for evaluators only."""
        return self.parcels[self._wanted]

    def _observe(self) -> dict[str, Any]:
        told = np.stack([self._ways[self._at] / FAR, np.log1p(self._visits)], axis=-1) * self.tokens
        return {
            "things": told.astype(np.float32),
            "last": np.array([self._last], np.uint8),
            "status": np.array([*self._status, self._calls / (2 * self.count)], np.float32),
            "inner_start": np.array([self._starts], np.float32),
            "place_id": np.array([self._at], np.int64),
            **({"wanted": np.eye(self.kinds, dtype=np.float32)[self._wanted]} if self.kinds > 1 else {}),
        }

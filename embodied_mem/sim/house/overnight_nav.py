"""The house changes overnight: who saw it in the evening looks for what was moved in the morning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from embodied_mem.memory import MemoryConfig
from embodied_mem.sim.days import NIGHT_NS
from embodied_mem.sim.house.house_nav import HouseNav, HouseSite
from embodied_mem.sim.house.overnight import Change, change_house
from embodied_mem.sim.house.robot import Action
from embodied_mem.sim.nav_measures import Leg, NavMeasures
from embodied_mem.sim.nav_settings import check_whole
from embodied_mem.sim.nav_task import NavObs
from embodied_mem.types import Observation

PIXELS = 20
"""So many of them show a thing."""
NIGHTS = 10
"""So many nights are drawn until one moves a thing that fits."""


class OvernightNav(HouseNav):
    """Find what was moved overnight in a house that was seen the evening before.

    ## Description
    In the evening there is no goal, and agents make their rounds (`Rounds`, by the agent's memory). Overnight
    things are moved, added and removed; in the morning the robot stands elsewhere, and is to find one that
    was moved, the only one of its kind, and seen the evening before. Who keeps the memory knows where it
    was, and has to find out that it is there no more.

    ## Action Space
    That of ObjectNav; 0 in the evening goes to bed.

    ## Observation Space
    That of ObjectNav; in the evening `goal` is 0, and the `Observation` has none.

    ## Rewards
    Those of ObjectNav in the morning, 0 in the evening.

    ## Starting State
    That of ObjectNav.

    ## Episode End
    As in ObjectNav. Truncated `max_steps` after the night. The measures in `info` are those of the morning;
    `seen_before` counts the evening's steps with the thing in view, `moved` is how far away it lies now [m],
    and `other_room` tells whether in another room.

    ## Arguments
    * `evening_steps=400`, `max_steps=500` of the morning; `seen=3`: in so many steps of the evening the thing
      must have been in view (of ten nights the first one that moves such a thing is taken; where none does,
      the first category of the house is to be found, and `info` tells of nothing moved).
    * `negative_evidence=True`: whether the memory that the task suggests takes what is not there any more
      for gone or moved. Otherwise those of ObjectNav.

    ## Version History
    * v0: first version.

    Args:
        evening_steps: the most steps of an evening.
        max_steps: the most steps of a morning.
        seen: steps in which the thing was in view, at least.
        negative_evidence: whether the memory uses it.
        kwargs: arguments of `HouseNav`.
    """

    def __init__(
        self,
        evening_steps: int = 400,
        max_steps: int = 500,
        seen: int = 3,
        negative_evidence: bool = True,
        **kwargs: Any,
    ) -> None:
        check_whole("evening_steps", evening_steps, 1)
        check_whole("seen", seen, 0)
        super().__init__(goals=1, max_steps=max_steps, **kwargs)
        self.evening_steps, self.morning_steps, self.seen = evening_steps, max_steps, seen
        self.negative_evidence = negative_evidence
        self.is_evening = True
        self.change: Change | None = None
        self._seen: dict[int, int] = {}

    def memory_config(self) -> MemoryConfig:
        """Returns the memory's settings for this world, with or without negative evidence."""
        config = super().memory_config()
        if self.negative_evidence:
            return config
        return replace(config, scene=replace(config.scene, negative_evidence=False, moves=False))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NavObs, dict[str, Any]]:
        """Draws a house and where the evening begins."""
        self.is_evening, self.change, self._seen = True, None, {}
        self.max_steps = self.evening_steps + self.morning_steps
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[NavObs, float, bool, bool, dict[str, Any]]:
        """Carries out one of the robot's actions; the evening's last one is followed by the morning."""
        if not self.is_evening:
            return super().step(action)
        self._steps += 1
        length, angle, blocked, says_found = self._carry_out(action)
        self.odometry.count(length, angle, self.robot.pose)
        self._last = {"reward": 0.0, "terminated": False, "truncated": False, "action": action}
        if self.control == "discrete":
            self._last["action"] = int(action)
        if says_found or self._steps >= self.evening_steps:
            self._sleep()
        self._sense()
        return self._encode(), 0.0, False, False, self._info(blocked)

    def _sleep(self) -> None:
        """Changes the house, and puts the robot where the morning begins."""
        before = self.house
        for night in range(NIGHTS):
            after, found = change_house(before, night, self.change_config)
            fit = [c for c in found if self._fits(c, before.things, after.things)]
            if fit or night == 0:
                self.changes, self._house, moved = found, after, fit
            if fit:
                break
        self.change = moved[0] if moved else None
        thing = self.change.before if self.change is not None else None
        label = thing.label if thing is not None else self.site.labels[0]
        self.site, self.is_evening = HouseSite(self.house), False
        self._measures = NavMeasures([Leg(label if label in self.site.labels else self.site.labels[0])])
        self._place_robot(None)
        self._distance = self._start_leg()
        self.max_steps = self._steps + self.morning_steps
        self._last = {"is_first": True}

    def _fits(self, change: Change, before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
        """Tells whether a change is of a thing of its own kind that was moved and had been seen."""
        thing = change.before
        if thing is None or change.after is None or self._seen.get(thing.id, 0) < self.seen:
            return False
        return all(sum(t.label == thing.label for t in things) == 1 for things in (before, after))

    def _sense(self) -> None:
        super()._sense()
        if self.is_evening:
            ids, counts = np.unique(self.view.instance, return_counts=True)
            for i in ids[counts >= PIXELS].tolist():
                self._seen[i] = self._seen.get(i, 0) + 1

    def _encode(self) -> NavObs:
        encoded = super()._encode()
        return {**encoded, "goal": np.zeros(1, np.int64)} if self.is_evening else encoded

    def _info(self, collided: bool) -> dict[str, Any]:
        info = super()._info(collided)
        if self.change is None:
            return info
        before, after = self.change.before, self.change.after
        assert before is not None and after is not None
        away = np.subtract(after.center, before.center)
        return {
            **info,
            "seen_before": self._seen.get(before.id, 0),
            "moved": float(np.hypot(away[0], away[1])),
            "other_room": before.room != after.room,
        }

    @property
    def observation(self) -> Observation:
        """The last step; in the evening without a goal, in the morning half a day later."""
        obs = super().observation
        if self.is_evening:
            return replace(obs, goal=None)
        return replace(obs, stamp=obs.stamp + NIGHT_NS)


class Evening:
    """Makes the rounds as long as there is no goal, and goes to bed after them; then acts as another policy.

    Args:
        policy: acts in the morning.
        rounds: acts in the evening; goes to bed at once where None.
    """

    def __init__(self, policy: Any, rounds: Any) -> None:
        self.policy, self.rounds = policy, rounds

    def act(self, obs: Observation, tokens: Any, state: Any) -> tuple[Any, Any]:
        """Returns what either of them does, and both their states."""
        mine, others = state if isinstance(state, tuple) and len(state) == 2 else (None, None)
        if obs.goal is not None:
            action, others = self.policy.act(obs, tokens, others)
            return action, (mine, others)
        action = None
        if self.rounds is not None:
            action, mine = self.rounds.act(obs, tokens, mine)
        return int(Action.FOUND) if action is None else action, (mine, others)

"""What an evaluator measures of an episode of navigation: the same for every world.

Success and SPL after Anderson et al. (2018), soft-SPL after Datta et al. (2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embodied_mem.errors import ConfigError


@dataclass
class Leg:
    """One goal of an episode and how it went.

    Attributes:
        label: category to find.
        revisit: True where it was a goal before in this episode.
        shortest: shortest way to it from where it was given [m].
        walked: way gone since it was given [m].
        success: whether it was found.
    """

    label: str
    revisit: bool = False
    shortest: float = 0.0
    walked: float = 0.0
    success: bool = False

    @property
    def spl(self) -> float:
        """Success weighted by path length (Anderson et al. 2018)."""
        return float(self.success) * efficiency(self.shortest, self.walked)


def efficiency(shortest: float, walked: float) -> float:
    """Returns the shortest way as a fraction of the way gone, at most 1."""
    longest = max(shortest, walked)
    if not np.isfinite(longest):
        return 0.0
    return shortest / longest if longest > 0.0 else 1.0


class NavMeasures:
    """Follows an episode through its goals.

    Args:
        legs: the goals in their order.

    Attributes:
        legs: the goals.
        index: which goal is the current one.
        walked: way gone in the episode [m].
    """

    def __init__(self, legs: Sequence[Leg]) -> None:
        self.legs = list(legs)
        self.index = 0
        self.walked = 0.0

    @property
    def current(self) -> Leg:
        """The current goal."""
        return self.legs[self.index]

    @property
    def is_last(self) -> bool:
        """True where no goal follows the current one."""
        return self.index == len(self.legs) - 1

    def walk(self, length: float) -> None:
        """Counts a way gone [m]."""
        self.current.walked += length
        self.walked += length

    def info(self, distance: float, collisions: int, collided: bool) -> dict[str, Any]:
        """Returns the measures up to now, for `info` of `step` and `reset`.

        Args:
            distance: shortest way from here to the current goal [m].
            collisions: how often the agent has bumped into something.
            collided: whether it did so in this step.
        """
        given = self.legs[: self.index + 1]
        shortest = sum(leg.shortest for leg in given)
        near = max(0.0, 1.0 - distance / max(self.current.shortest, 1e-9)) if np.isfinite(distance) else 0.0
        near = 1.0 if self.current.success else near
        progress = (sum(leg.success for leg in self.legs[: self.index]) + near) / len(self.legs)
        success = all(leg.success for leg in self.legs)
        share = efficiency(shortest, self.walked)
        return {
            "success": success,
            "is_success": success,
            "spl": float(success) * share,
            "soft_spl": progress * share,
            "distance_to_goal": distance,
            "path_length": self.walked,
            "collisions": collisions,
            "collided": collided,
            "goal_index": self.index,
            "goals_found": sum(leg.success for leg in self.legs),
            "goals": [
                {
                    "label": leg.label,
                    "revisit": leg.revisit,
                    "given": i <= self.index,
                    "success": leg.success,
                    "spl": leg.spl,
                    "shortest": leg.shortest,
                    "walked": leg.walked,
                }
                for i, leg in enumerate(self.legs)
            ],
        }


def draw_legs(labels: Sequence[str], goals: int, revisit: float, rng: np.random.Generator) -> list[Leg]:
    """Draws goals one after another; the same one never comes twice in a row.

    Args:
        labels: categories that can be goals.
        goals: how many.
        revisit: probability that a goal is one of the earlier ones again.
        rng: draws.

    Raises:
        ConfigError: there are too few categories for so many goals.
    """
    legs: list[Leg] = []
    fresh = [labels[i] for i in rng.permutation(len(labels)).tolist()]
    while len(legs) < goals:
        before = sorted({leg.label for leg in legs[:-1]} - {leg.label for leg in legs[-1:]})
        if before and (not fresh or rng.random() < revisit):
            legs.append(Leg(before[int(rng.integers(len(before)))], True))
        elif fresh:
            legs.append(Leg(fresh.pop()))
        else:
            raise ConfigError(f"{goals} goals need at least 3 categories, there are {len(labels)}")
    return legs

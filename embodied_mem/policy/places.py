"""Where the agent is, as the policy sees it: an exact place and a pose, from the observation.

A place is an integer: a grid cell, or a place of the scene graph. It is compared, never embedded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from embodied_mem.errors import InputError

PLACE_KEYS = ("place_id", "mem_place_id")
"""Observation keys of the place, (1,) integer; the first that is there counts."""

POSE_KEY = "pose"
"""Observation key of the pose: x, y [m], and sine and cosine of the yaw where they are known."""


def place_key(space: spaces.Space[Any]) -> str | None:
    """Returns the key of an observation space that tells the place, or None."""
    parts = space.spaces if isinstance(space, spaces.Dict) else {}
    return next((key for key in PLACE_KEYS if key in parts), None)


@dataclass(frozen=True, eq=False)
class Whereabouts:
    """Where steps were taken; the leading dimensions are those of the steps.

    Attributes:
        place: (...) int64.
        pose: (..., 4) float32: x, y [m], sine and cosine of the yaw.
    """

    place: Tensor
    pose: Tensor

    def view(self, *shape: int) -> Whereabouts:
        """Returns the same steps in another shape."""
        return Whereabouts(self.place.view(*shape), self.pose.view(*shape, 4))

    def rows(self, index: Tensor | slice | tuple[Tensor, Tensor]) -> Whereabouts:
        """Returns some rows of the first dimension."""
        return Whereabouts(self.place[index], self.pose[index])

    def masked_put(self, rows: Tensor, column: Tensor, values: Whereabouts) -> Whereabouts:
        """Returns a copy with `values` (R,) at (rows, column)."""
        index = (rows, column)
        return Whereabouts(self.place.index_put(index, values.place), self.pose.index_put(index, values.pose))


def locate(space: spaces.Space[Any], obs: Any) -> Whereabouts:
    """Reads the whereabouts (B,) from a batch of observations, as they come from the environment.

    Raises:
        InputError: the place is no longer an integer (normalised away).
    """
    key = place_key(space)
    assert key is not None
    place = obs[key]
    if place.is_floating_point():
        raise InputError(
            f'observation "{key}" must stay an integer: leave it out of VecNormalize.norm_obs_keys'
        )
    place = place.reshape(len(place), -1)[:, 0].long()
    pose = torch.zeros(len(place), 4, device=place.device)
    pose[:, 3] = 1.0
    if POSE_KEY in obs:
        seen = obs[POSE_KEY].reshape(len(place), -1).float()
        size = 4 if seen.shape[1] >= 4 else 2
        pose[:, :size] = seen[:, :size]
    return Whereabouts(place, pose)


@dataclass(frozen=True, eq=False)
class Visit:
    """How R segments were spent.

    Attributes:
        length: (R,) int64, steps.
        place: (R,) int64, the place where most of them were taken, the earlier one of two; or None.
        position: (R, 2) mean position there [m], or None.
    """

    length: Tensor
    place: Tensor | None = None
    position: Tensor | None = None


def visit(trail: Whereabouts | None, length: Tensor) -> Visit:
    """Sums segments up.

    Args:
        trail: the segments' steps (R, L), or None where places are not observed.
        length: (R,) int64, how many of them are there.
    """
    if trail is None:
        return Visit(length)
    step = torch.arange(trail.place.shape[1], device=length.device)
    there = step < length[:, None]  # (R, L)
    same = (trail.place[:, :, None] == trail.place[:, None, :]) & there[:, :, None] & there[:, None, :]
    spent = same.sum(2)  # (R, L) steps at the place of each step
    chosen = ((spent << 20) - step).argmax(1)  # no two steps are equal in this
    row = torch.arange(len(length), device=length.device)
    mine = same[row, chosen][..., None]  # (R, L, 1)
    position = (trail.pose[..., :2] * mine).sum(1) / mine.sum(1).clamp(min=1)
    return Visit(length, trail.place[row, chosen], position)

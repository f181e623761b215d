"""What environments give must be numbers; where it is not, training stops and says where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError

ADVICE = "mend the environment; the policy is as the last update left it"


def find_nan(obs: np.ndarray[Any, Any] | dict[str, np.ndarray[Any, Any]]) -> tuple[str, int] | None:
    """Returns the key and the environment of the first observation that is NaN, or None.

    Args:
        obs: a batch of observations, (N, ...) each.
    """
    parts = obs if isinstance(obs, dict) else {"observation": obs}
    for key, value in parts.items():
        if value.dtype.kind == "f":
            # the sum is NaN where an entry is: one pass without a temporary; inf - inf is looked at below
            with np.errstate(all="ignore"):
                total = value.sum()
            if not np.isfinite(total):
                bad = np.isnan(value).reshape(len(value), -1).any(axis=1)
                if bad.any():
                    return key, int(bad.argmax())
    return None


def check_observation(obs: Any, place: str, envs: Sequence[int] | None = None) -> None:
    """Raises `InputError` where an observation is NaN.

    Args:
        obs: a batch of observations, (N, ...) each.
        place: when it was made, for the message.
        envs: the environments they come from; all, in order, where None.
    """
    bad = find_nan(obs)
    if bad is not None:
        env = bad[1] if envs is None else envs[bad[1]]
        raise InputError(f'observation "{bad[0]}" is NaN in environment {env} at {place}: {ADVICE}')


def check_rewards(rewards: NDArray[np.float32], place: str) -> None:
    """Raises `InputError` where a reward (N,) is not finite."""
    if not np.isfinite(rewards).all():
        env = int(np.flatnonzero(~np.isfinite(rewards))[0])
        raise InputError(f"reward is {rewards[env]} in environment {env} at {place}: {ADVICE}")

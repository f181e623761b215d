"""The rollout buffer: whole sequences, their segment boundaries, and what they started from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

from embodied_mem.policy.core import Carried, Carry
from embodied_mem.policy.segments import SegmentPlan, fixed_closes, plan_segments

Arrays = dict[str, NDArray[Any]]

SINGLE = "observation"
"""Key under which observations that are not a Dict are kept."""


INNER = "inner_start"
"""Observation key that is 1 where an inner episode of the trial starts."""


def inner_starts(obs: Any, envs: int) -> NDArray[np.bool_]:
    """Returns where (N,) observations start an inner episode; nowhere in tasks without them."""
    if not isinstance(obs, dict) or INNER not in obs:
        return np.zeros(envs, bool)
    return np.asarray(obs[INNER]).reshape(envs, -1)[:, 0] > 0


def rows(obs: Any, first: int) -> Any:
    """Returns observations (B, ...) from row `first` on."""
    return {key: value[first:] for key, value in obs.items()} if isinstance(obs, dict) else obs[first:]


@dataclass(frozen=True, eq=False)
class Sequences:
    """Whole sequences of some environments, ready for `Core.replay`; n environments, V = steps x n.

    Attributes:
        envs: n.
        obs: ((prefix + steps) * n, ...) observations, time first.
        plan: how they are cut.
        carry: what they started from, or None.
        actions, values, log_probs, advantages, returns: (V, ...), time first.
    """

    envs: int
    obs: Any
    plan: SegmentPlan
    carry: Carry | None
    actions: Tensor
    values: Tensor
    log_probs: Tensor
    advantages: Tensor
    returns: Tensor


class SequenceBuffer(RolloutBuffer):
    """Keeps a rollout as (time, environment) arrays in the dtypes of the observation space.

    A rollout may begin in the middle of trials: `begin` keeps, per environment, the detached
    summaries and the raw observations of the open segment, so that training can run exactly what
    the rollout ran.
    """

    def __init__(self, *args: Any, inner_returns: bool = True, **kwargs: Any) -> None:
        self.inner_returns = inner_returns
        """Returns cross the starts of inner episodes, and not those of trials only."""
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        """Empties the buffer; what the rollout starts from goes as well."""
        space = self.observation_space
        self.is_dict = isinstance(space, spaces.Dict)
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {SINGLE: space}
        size, envs = self.buffer_size, self.n_envs
        self.observations: Arrays = {
            key: np.zeros((size, envs, *(part.shape or ())), part.dtype) for key, part in parts.items()
        }
        self.before: Arrays = {key: value[:0].copy() for key, value in self.observations.items()}
        self.carry: Carry | None = None
        self.actions = np.zeros((size, envs, self.action_dim), self.action_space.dtype)
        for name in ("rewards", "returns", "values", "log_probs", "advantages"):
            setattr(self, name, np.zeros((size, envs), np.float32))
        self.discounts = np.full((size, envs), self.gamma, np.float32)
        self.episode_starts = np.zeros((size, envs), bool)
        self.closes = np.zeros((size, envs), bool)
        self.pos, self.full, self.generator_ready = 0, False, False

    def begin(self, memory: Carried | None, length: NDArray[np.int64]) -> None:
        """Empties the buffer for a rollout that goes on where the last one ended.

        Args:
            memory: the summary banks, or what the core has in their place, N rows; None without.
            length: (N,) raw steps of the open segments, 0 where a trial starts; they are the last
                ones in the buffer.
        """
        count = int(length.max(initial=0))
        held = {
            key: np.concatenate([self.before[key], v[: self.pos]]) for key, v in self.observations.items()
        }
        self.before = {key: value[len(value) - count :] for key, value in held.items()}
        self.carry = None if memory is None else Carry(memory.detach(), length.copy())
        self.pos, self.full = 0, False

    def add(
        self,
        obs: NDArray[Any] | Arrays,
        action: NDArray[Any],
        reward: NDArray[Any],
        episode_start: NDArray[np.bool_],
        value: Tensor,
        log_prob: Tensor,
        closed: Tensor,
        discount: NDArray[np.float32] | float | None = None,
    ) -> None:
        """Adds one step of every environment; `closed` (N,) tells which of them closed a segment.

        `discount` (N,) is that of what comes after the step, gamma where None: actions may last longer.
        """
        parts = obs if isinstance(obs, dict) else {SINGLE: obs}
        for key, store in self.observations.items():
            store[self.pos] = parts[key]
        self.actions[self.pos] = action.reshape(self.n_envs, self.action_dim)
        self.rewards[self.pos] = reward
        self.discounts[self.pos] = self.gamma if discount is None else discount
        self.episode_starts[self.pos] = episode_start
        self.values[self.pos] = value.cpu().numpy()
        self.log_probs[self.pos] = log_prob.cpu().numpy()
        self.closes[self.pos] = closed.cpu().numpy()
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def compute_returns_and_advantage(self, last_values: Tensor, dones: NDArray[np.bool_]) -> None:
        """Computes advantages and returns of the steps that are there (GAE, Schulman et al. 2016).

        Args:
            last_values: (N,) values of the observations after the last step.
            dones: (N,) True where the last step ended a trial, or an inner episode that counts alone.
        """
        after = np.zeros(self.n_envs, np.float32)
        value = last_values.cpu().numpy()
        alive = 1.0 - dones.astype(np.float32)
        starts = self.episode_starts
        if not self.inner_returns and INNER in self.observations:
            starts = starts | (self.observations[INNER].reshape(*starts.shape, -1)[..., 0] > 0)
        for t in reversed(range(self.pos)):
            discount = self.discounts[t] * alive
            delta = self.rewards[t] + discount * value - self.values[t]
            after = delta + discount * self.gae_lambda * after
            self.advantages[t] = after
            value, alive = self.values[t], 1.0 - starts[t]
        self.returns[: self.pos] = self.advantages[: self.pos] + self.values[: self.pos]

    def plan(
        self, envs: NDArray[np.int64], segment_length: int | None = None, *, last_only: bool = False
    ) -> SegmentPlan:
        """Returns the plan of some environments' sequences.

        Args:
            envs: (n,) which environments.
            segment_length: cut into segments of this length, and not where the rollout did.
            last_only: plan the last trial of each environment only.
        """
        starts = self.episode_starts[: self.pos, envs]
        prefix = None if self.carry is None else self.carry.prefix[envs]
        closes = self.closes[: self.pos, envs]
        if segment_length is not None:
            closes = fixed_closes(starts, segment_length, prefix)
        return plan_segments(starts, closes, prefix, last_only=last_only, device=self.device)

    def sequences(
        self, envs: NDArray[np.int64], segment_length: int | None = None, *, last_only: bool = False
    ) -> Sequences:
        """Returns the sequences of some environments; arguments as for `plan`."""
        plan = self.plan(envs, segment_length, last_only=last_only)
        obs = {}
        for key, store in self.observations.items():
            # the plan's prefix is the longest of these environments'; that of all may be longer
            before = self.before[key][len(self.before[key]) - plan.prefix :, envs]
            whole = (
                np.concatenate([before, store[: self.pos, envs]]) if plan.prefix else store[: self.pos, envs]
            )
            obs[key] = self.to_torch(whole.reshape(-1, *whole.shape[2:]))
        carry = self.carry
        if carry is not None:
            index = torch.from_numpy(envs).to(self.device)
            carry = Carry(carry.slots.rows(index), carry.prefix[envs])

        def flat(x: NDArray[Any]) -> Tensor:
            x = x[: self.pos, envs]
            return self.to_torch(x.reshape(-1, *x.shape[2:]))

        return Sequences(
            envs=len(envs),
            obs=obs if self.is_dict else obs[SINGLE],
            plan=plan,
            carry=carry,
            actions=flat(self.actions),
            values=flat(self.values),
            log_probs=flat(self.log_probs),
            advantages=flat(self.advantages),
            returns=flat(self.returns),
        )

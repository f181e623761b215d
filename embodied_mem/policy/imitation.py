"""Imitation: a policy learns a teacher's preferences from whole episodes, and what they are worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from embodied_mem.errors import ConfigError
from embodied_mem.policy.config import ImitationConfig
from embodied_mem.policy.demonstrations import Demonstration, Lanes, lay_lanes
from embodied_mem.policy.memo_policy import MemoPolicy
from embodied_mem.policy.pointer import IMPOSSIBLE, PointerHead
from embodied_mem.policy.segments import fixed_closes, plan_segments
from embodied_mem.types import TOKEN_KINDS

SHARPNESS = 0.7
"""A candidate from which the goal is so much farther [m] is less likely by a factor e."""
BEHIND = 1.0
"""Frontiers count as so much farther from the goal than the thing itself, once that is known [m]."""


class Imitator:
    """Trains a policy on demonstrations.

    Args:
        policy: the actor-critic; its weights are changed.
        config: how.
        gamma: discount of a step.
        seed: of the shuffles and of what is hidden.
    """

    def __init__(self, policy: MemoPolicy, config: ImitationConfig, gamma: float, seed: int = 0) -> None:
        self.policy, self.config, self.gamma = policy, config, gamma
        self._rng = np.random.default_rng(seed)
        self._optimizer = torch.optim.Adam(policy.parameters(), lr=config.imitation_rate, eps=1e-5)

    def train(self, episodes: Sequence[Demonstration], epoch: int) -> dict[str, float]:
        """Makes one pass over all episodes.

        Args:
            episodes: all demonstrations.
            epoch: number of the pass, from 0 on, of `config.epochs`.

        Returns:
            means over the minibatches: `loss`, `value_loss`, and `excess`, by how much the policy's
            cross-entropy to the preferences is above their own entropy [nat].
        """
        c = self.config
        for group in self._optimizer.param_groups:
            group["lr"] = c.imitation_rate * 0.5 * (1.0 + math.cos(math.pi * epoch / c.epochs))
        self.policy.set_training_mode(True)
        seen = []
        for lanes in lay_lanes(episodes, c.lane_steps, c.lanes, self.gamma, self._rng):
            loss, told = self._loss(lanes, hide=True)
            self._optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
            self._optimizer.step()
            seen.append(told)
        self.policy.set_training_mode(False)
        return _means(seen)

    def score(self, episodes: Sequence[Demonstration]) -> dict[str, float]:
        """Returns what `train` tells, of other episodes, and changes nothing."""
        self.policy.set_training_mode(False)
        c, rng = self.config, np.random.default_rng(0)
        with torch.no_grad():
            batches = lay_lanes(episodes, c.lane_steps, c.lanes, self.gamma, rng)
            return _means([self._loss(lanes, hide=False)[1] for lanes in batches])

    def _loss(self, lanes: Lanes, *, hide: bool) -> tuple[Tensor, dict[str, float]]:
        policy, c = self.policy, self.config
        arrays = hide_parts(lanes, c.hidden, self._rng) if hide else lanes.observations
        steps, count = lanes.starts.shape
        device = next(policy.parameters()).device
        obs = {key: torch.from_numpy(v.reshape(-1, *v.shape[2:])).to(device) for key, v in arrays.items()}
        x = policy.embed(obs).view(steps, count, -1)  # (T, N, d)
        where = policy.locate(obs)
        low, high = policy.config.segment_range
        closes = fixed_closes(lanes.starts, int(self._rng.integers(low, high + 1)))
        plan = plan_segments(lanes.starts, closes & policy.core.segmented, device=device)
        h, _ = policy.core.replay(x, plan, where=None if where is None else where.view(steps, count))
        h = h.flatten(0, 1)

        def flat(array: NDArray[np.float32]) -> Tensor:
            return torch.from_numpy(array.reshape(-1, *array.shape[2:])).to(device)

        wanted, weights = flat(lanes.preferences), flat(lanes.weights)
        if c.learn == "where" and isinstance(policy.action_net, PointerHead):
            wanted, eligible = likely(flat(lanes.distances), obs)
            weights = weights * eligible.any(-1)
            scores = F.pad(policy.action_net.expect(h, obs), (0, 1))
            log_p = scores.masked_fill(~eligible, IMPOSSIBLE).log_softmax(-1)
        else:
            log_p = policy.log_probabilities(h, obs)  # (T * N, A)
        total = weights.sum().clamp(min=1.0)
        cross = (-(wanted * log_p).sum(-1) * weights).sum() / total
        own = (-(wanted * wanted.clamp(min=1e-9).log()).sum(-1) * weights).sum() / total
        errors = (policy.value_net(h)[:, 0] - flat(lanes.returns)).square()
        value_loss = (errors * weights).sum() / total
        best = wanted.gather(1, log_p.argmax(-1, keepdim=True))[:, 0] / wanted.max(-1).values.clamp(min=1e-9)
        told = {
            "loss": cross.item(),
            "excess": (cross - own).item(),
            "value_loss": value_loss.item(),
            "agreement": ((best * weights).sum() / total).item(),
        }
        return cross + c.value_coef * value_loss, told


def likely(distances: Tensor, obs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Returns (B, A) probabilities of where the goal is, and (B, A) bool, which choices they are about.

    These are the frontiers and the things that the goal names; where nothing of them leads to the goal,
    nothing is told. What is as near to the goal as another is as likely.

    Args:
        distances: (B, A - 1) [m] from each candidate on to the goal, inf where it is not behind it.
        obs: of decisions.
    """
    count = distances.shape[1]
    offered = obs["cand_mask"][:, :count] > 0.5
    is_frontier = offered & (obs["mem_frontier"][:, :count] > 0.5)
    is_goal = offered & (obs["mem_feature"][:, :count, 0] > 0.5)
    costs = torch.where(is_frontier | is_goal, distances + BEHIND * is_frontier, torch.inf)
    known = torch.isfinite(costs).any(-1, keepdim=True)
    p = torch.where(known, (-costs / SHARPNESS).softmax(-1).nan_to_num(0.0), 0.0)
    return F.pad(p, (0, 1)), F.pad((is_frontier | is_goal) & known, (0, 1))


def hide_parts(lanes: Lanes, share: float, rng: np.random.Generator) -> dict[str, NDArray[np.generic]]:
    """Returns the observations with kinds of memory tokens and the map's pictures hidden here and there.

    So that a policy which is asked to do without them later has known what that is. What is hidden
    changes where an episode starts.

    Args:
        lanes: the observations.
        share: probability with which each part is hidden.
        rng: draws.
    """
    found = dict(lanes.observations)
    episode = np.cumsum(lanes.starts, axis=0)  # (T, N), from 1 on in each lane
    drawn = rng.random((int(episode.max()) + 1, lanes.starts.shape[1], len(TOKEN_KINDS) + 1)) < share
    hidden = drawn[episode, np.arange(lanes.starts.shape[1])]  # (T, N, kinds + 1)
    if "mem_mask" in found:
        gone = np.take_along_axis(hidden, found["mem_kind"], axis=-1)
        found["mem_mask"] = np.where(gone, 0, found["mem_mask"]).astype(found["mem_mask"].dtype)
    if "mem_crops" in found:
        crops = found["mem_crops"]
        keep = ~hidden[..., -1].reshape(*hidden.shape[:2], 1, 1, 1)
        found["mem_crops"] = crops * keep.astype(crops.dtype)
    return found


def _means(seen: Sequence[dict[str, float]]) -> dict[str, float]:
    if not seen:
        raise ConfigError("too few demonstrations for a minibatch: lower lane_steps or lanes")
    return {name: float(np.mean([s[name] for s in seen])) for name in seen[0]}

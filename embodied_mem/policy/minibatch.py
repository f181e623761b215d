"""What a minibatch of whole sequences costs: PPO's loss, and what holds the policy where it began."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from gymnasium import spaces
from torch import Tensor

from embodied_mem.policy.loss import STATS, ppo_loss
from embodied_mem.policy.memo_policy import MemoPolicy
from embodied_mem.policy.parallel import normalized
from embodied_mem.policy.rollout import Sequences, rows

if TYPE_CHECKING:
    from embodied_mem.policy.ppo import MemoPPO


def replay(policy: MemoPolicy, data: Sequences, first: int) -> Tensor:
    """Returns the features (V, d) of a rollout's steps from `first` on."""
    x = policy.embed(data.obs)
    x = x.view(-1, data.envs, x.shape[1])  # (prefix + T, n, d)
    where = policy.locate(data.obs)
    where = None if where is None else where.view(-1, data.envs)
    h, _ = policy.core.replay(x, data.plan, data.carry, where=where)
    return h.flatten(0, 1)[(data.plan.prefix + first) * data.envs :]


def minibatch_loss(model: MemoPPO, data: Sequences, first: int) -> tuple[Tensor, dict[str, float]]:
    """Returns the loss on the steps from `first` on, and the numbers of `STATS`.

    Args:
        model: has the policy and the settings.
        data: whole sequences.
        first: step of the rollout.
    """
    policy, skip = model.policy, first * data.envs
    h = replay(policy, data, first)  # (V, d)
    obs = rows(data.obs, data.plan.prefix * data.envs + skip)
    actions = data.actions[skip:].float()
    if isinstance(model.action_space, spaces.Discrete):
        actions = actions.long().flatten()
    returns = data.returns[skip:]
    if model.is_learning_values:  # the policy is kept until its values are worth something
        error = (returns - policy.value_net(h.detach())[:, 0]).square().mean()
        return model.vf_coef * error, dict.fromkeys(STATS, 0.0) | {
            "loss": error.item(), "value_loss": error.item()
        }  # fmt: skip
    values, log_prob, entropy = policy.evaluate_actions(h, obs, actions)
    advantages = data.advantages[skip:]
    if model.normalize_advantage and len(advantages) > 1:
        advantages = normalized(advantages)
    loss, stats = ppo_loss(
        values, log_prob, entropy, data.log_probs[skip:], advantages, returns,
        clip_range=model.clip_range, ent_coef=model.ent_coef, vf_coef=model.vf_coef,
    )  # fmt: skip
    if model.anchor is not None:
        log_p = policy.log_probabilities(h, obs)
        with torch.no_grad():
            anchored = model.anchor.log_probabilities(replay(model.anchor, data, first), obs)
        divergence = (log_p.exp() * (log_p - anchored)).sum(-1).mean()
        loss = loss + model.anchor_coef * model.progress_remaining * divergence
    return loss, stats

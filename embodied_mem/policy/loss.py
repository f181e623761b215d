"""The loss of proximal policy optimisation (Schulman et al., 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

STATS = (
    "loss",
    "policy_gradient_loss",
    "value_loss",
    "entropy_loss",
    "approx_kl",
    "clip_fraction",
    "ratio_error",
)
"""What `ppo_loss` tells beside the loss."""


def ppo_loss(
    values: Tensor,
    log_prob: Tensor,
    entropy: Tensor,
    old_log_prob: Tensor,
    advantages: Tensor,
    returns: Tensor,
    *,
    clip_range: float,
    ent_coef: float,
    vf_coef: float,
) -> tuple[Tensor, dict[str, float]]:
    """Returns the clipped loss of V steps, and the numbers of `STATS`.

    Args:
        values: (V,) by the present weights, as `log_prob` and `entropy` are.
        log_prob: (V,) of the actions that were taken.
        entropy: (V,).
        old_log_prob: (V,) by the weights that took them.
        advantages: (V,).
        returns: (V,) targets of the values.
        clip_range: largest change of the ratio that is rewarded.
        ent_coef: weight of the entropy bonus.
        vf_coef: weight of the value loss.
    """
    log_ratio = log_prob - old_log_prob
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    policy_loss = -torch.min(advantages * ratio, advantages * clipped).mean()
    value_loss = (returns - values).square().mean()
    entropy_loss = -entropy.mean()
    loss = policy_loss + ent_coef * entropy_loss + vf_coef * value_loss
    with torch.no_grad():
        error = (ratio - 1).abs()
        stats = torch.stack(
            [loss, policy_loss, value_loss, entropy_loss, (ratio - 1 - log_ratio).mean(),
             (error > clip_range).float().mean(), error.max()]
        ).tolist()  # fmt: skip
    return loss, dict(zip(STATS, stats))

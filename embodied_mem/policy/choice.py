"""The distribution of discrete actions."""

from __future__ import annotations

import torch
from torch import Tensor


class Choice:
    """A categorical distribution for B states, without the checks of torch.distributions.

    These cost more than the whole of a small network's step.

    Args:
        logits: (B, A).
    """

    def __init__(self, logits: Tensor) -> None:
        self.log_p = logits.log_softmax(-1)

    def get_actions(self, deterministic: bool = False) -> Tensor:
        """Draws actions (B,), or takes the most likely ones."""
        if deterministic:
            return self.log_p.argmax(-1)
        p = self.log_p.exp()
        # what `multinomial` does, and draws, without its checks: the largest of p / Exp(1)
        return p.div_(torch.empty_like(p).exponential_()).argmax(-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Returns the log-probabilities (B,) of actions (B,)."""
        return self.log_p.gather(1, actions.long()[:, None])[:, 0]

    def entropy(self) -> Tensor:
        """Returns the entropies (B,)."""
        return -(self.log_p.exp() * self.log_p).sum(-1)

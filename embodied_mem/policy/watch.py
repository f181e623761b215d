"""Watching a policy: at which of its memory tokens it looks."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embodied_mem.policy.reader import MemoryReader


def watch_attention(network: nn.Module) -> deque[NDArray[np.float32]] | None:
    """Lets a policy tell its attention over memory tokens from now on.

    Args:
        network: a policy.

    Returns:
        what fills with the attention of each act, newest last: (1 + K,) float32 for the first of the batch,
        where the first is that of no token; None where the policy reads no tokens.
    """
    reader = next((module for module in network.modules() if isinstance(module, MemoryReader)), None)
    if reader is None:
        return None
    seen: deque[NDArray[np.float32]] = deque(maxlen=1000)

    def tell(module: MemoryReader, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        with torch.no_grad():
            seen.append(module.weights(*inputs)[0].float().cpu().numpy())

    reader.register_forward_hook(tell)
    return seen

"""Policies with memory: Memo on stable-baselines3. Torch is imported when a name is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embodied_mem.policy.agent import MemoAgent
    from embodied_mem.policy.checkpoint import load_policy
    from embodied_mem.policy.config import PolicyConfig, PPOConfig
    from embodied_mem.policy.memo_policy import MemoPolicy
    from embodied_mem.policy.ppo import MemoPPO
    from embodied_mem.policy.reader import MemoryExtractor, MemoryReader
    from embodied_mem.policy.streaming import register_bank
    from embodied_mem.policy.summary import FifoBank, SummaryBank

_HOMES = {
    "MemoAgent": "agent",
    "MemoPPO": "ppo",
    "MemoPolicy": "memo_policy",
    "MemoryExtractor": "reader",
    "MemoryReader": "reader",
    "PPOConfig": "config",
    "PolicyConfig": "config",
    "FifoBank": "summary",
    "SummaryBank": "summary",
    "register_bank": "streaming",
    "load_policy": "checkpoint",
}

__all__ = [
    "FifoBank",
    "MemoAgent",
    "MemoPPO",
    "MemoPolicy",
    "MemoryExtractor",
    "MemoryReader",
    "PPOConfig",
    "PolicyConfig",
    "SummaryBank",
    "load_policy",
    "register_bank",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

"""Promise of the whole policy: memory learns what cannot be known without it."""

from __future__ import annotations

import gymnasium
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import embodied_mem.sim  # noqa: F401 - registers the environments
from embodied_mem.policy import MemoPPO

torch.set_num_threads(1)


def success(policy: str, steps: int) -> float:
    """Success rate on fresh episodes; the cue lies two segments before the choice."""

    def make() -> gymnasium.Env:
        return gymnasium.make("EmbodiedMem/ProofOfMemory-v0", length=8, disable_env_checker=True)

    agent = MemoPPO(
        "MemoPolicy", make_vec_env(make, 16, seed=0), policy=policy, width=32, heads=2, segment_length=4,
        summary_tokens=2, n_steps=36, gae_lambda=0.8, seed=0, device="cpu",
    )  # fmt: skip
    agent.learn(steps)
    returns, _ = evaluate_policy(agent, make_vec_env(make, 20, seed=999), 200, deterministic=True)
    return (float(returns) + 1.0) / 2.0


def test_memory_solves_proof_of_memory() -> None:
    assert success("memo", 16_000) >= 0.95


def test_without_memory_it_stays_at_chance() -> None:
    assert success("none", 8_000) == pytest.approx(0.5, abs=0.15)

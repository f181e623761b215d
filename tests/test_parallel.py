"""Promises of data-parallel training: several processes make one process's gradient."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_ppo import Recall

from embodied_mem.errors import ConfigError
from embodied_mem.policy import MemoPPO
from embodied_mem.policy.parallel import end_processes, share_of, start_processes
from embodied_mem.policy.vector import TaskVecEnv

ENVS, STEPS = 4, 24


def learner(envs: int) -> MemoPPO:
    """An agent of `envs` environments that takes no gradient step."""
    return MemoPPO(
        "MemoPolicy", TaskVecEnv(lambda: Recall(9), envs, 0), n_steps=STEPS, width=16, heads=2,
        bank="rewrite", segment_length=5, summary_tokens=2, learning_rate=1e-30, minibatches=1, seed=3,
        device="cpu",
    )  # fmt: skip


def gradient(agent: MemoPPO, rollout: dict[str, Any], part: slice) -> torch.Tensor:
    """The gradient of one minibatch over some environments of a rollout, before any step."""
    buffer = agent.rollout_buffer
    for name in ("actions", "log_probs", "values", "advantages", "returns", "episode_starts", "closes"):
        getattr(buffer, name)[:] = rollout[name][:, part]
    buffer.observations["observation"][:] = rollout["observation"][:, part]
    buffer.pos, buffer.full = STEPS, True
    agent.policy.load_state_dict(rollout["weights"])
    agent.policy.set_training_mode(True)
    agent._minibatch(buffer.sequences(np.arange(agent.n_envs)), 0)
    return torch.cat([p.grad.flatten() for p in agent.policy.parameters() if p.grad is not None])


def work(rank: int, port: int, rollout: dict[str, Any], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    assert start_processes() == (rank, 2)
    count = share_of(ENVS, 2)
    agent = learner(count)
    torch.manual_seed(rank)  # what a process draws on its own must not matter
    torch.save(gradient(agent, rollout, slice(rank * count, (rank + 1) * count)), Path(folder) / f"{rank}.pt")
    end_processes()


def test_two_processes_make_the_gradient_of_one_with_the_joint_batch(tmp_path: Path) -> None:
    agent = learner(ENVS)
    agent.learn(STEPS * ENVS)
    buffer = agent.rollout_buffer
    generator = np.random.default_rng(0)
    rollout: dict[str, Any] = {
        name: getattr(buffer, name).copy()
        for name in ("actions", "log_probs", "values", "returns", "episode_starts", "closes")
    }
    rollout["advantages"] = generator.normal(size=(STEPS, ENVS)).astype(np.float32) + np.arange(ENVS) * 2.0
    rollout["observation"] = buffer.observations["observation"].copy()
    rollout["weights"] = {name: value.clone() for name, value in agent.policy.state_dict().items()}
    joint = gradient(agent, rollout, slice(None))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(work, args=(port, rollout, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert torch.equal(first, second)
    assert joint.abs().max() > 1e-2
    torch.testing.assert_close(first, joint, atol=1e-5, rtol=0)


def test_environments_that_cannot_be_shared_are_refused() -> None:
    assert share_of(6, 3) == 2
    with pytest.raises(ConfigError, match="multiple of the 4 processes"):
        share_of(6, 4)

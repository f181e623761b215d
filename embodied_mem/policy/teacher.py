"""A policy that was trained before teaches another: it says what it would have done where that one is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import Env, spaces
from numpy.typing import NDArray
from torch import Tensor

from embodied_mem.errors import ConfigError
from embodied_mem.policy.demonstrations import Demonstration
from embodied_mem.policy.memo_policy import MemoPolicy
from embodied_mem.policy.start import check_spaces

ABREAST = 64
"""Episodes that are played side by side."""


class Along:
    """A policy that goes along with episodes played side by side, with a memory of its own.

    Args:
        network: the policy.
        count: N, how many episodes.
    """

    def __init__(self, network: MemoPolicy, count: int) -> None:
        self.network = network
        self._state = network.initial_state(count)
        self._starts = torch.ones(count, dtype=torch.bool, device=network.device)

    def log_probabilities(self, obs: dict[str, Tensor] | Tensor) -> Tensor:
        """Returns the log-probabilities (N, A) of its actions at the next observations (N, ...)."""
        network = self.network
        with torch.inference_mode():
            h, self._state = network.core.advance(
                network.embed(obs), self._state, self._starts, where=network.locate(obs), inplace=True
            )
            self._starts = torch.zeros_like(self._starts)
            return network.log_probabilities(h, obs)


def load_teacher(
    path: Path, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> MemoPolicy:
    """Loads a policy that is to teach another, which may have another memory.

    Args:
        path: its checkpoint folder.
        observation_space: what the other sees, one image channel order as in training.
        action_space: what the other does.

    Raises:
        ConfigError: no checkpoint, or one that sees or does something else.
    """
    from embodied_mem.policy.checkpoint import load_policy

    agent = load_policy(path)
    if not isinstance(action_space, spaces.Discrete):
        raise ConfigError(f"a policy can teach discrete actions alone, and this task has {action_space}")
    if not isinstance(observation_space, spaces.Dict):
        raise ConfigError(f"a policy can teach on Dict observations alone, not {observation_space}")
    check_spaces(agent, f"teacher {path}", observation_space, action_space)
    agent.network.set_training_mode(False)
    return agent.network


def collect_by(
    make: Callable[[], Env[Any, Any]],
    folder: Path,
    seeds: Sequence[int],
    teacher: MemoPolicy,
    learner: MemoPolicy | None,
    tell: Callable[[int, Demonstration], None],
) -> None:
    """Plays the episodes that are not in a folder yet, and writes them there with what the teacher prefers.

    What is learned from a policy's probabilities is "Policy Distillation" (Rusu et al., 2016); that the
    learner acts in further rounds is DAgger (Ross et al., 2011).

    Args:
        make: makes the task.
        folder: where `SEED.npz` go.
        seeds: one an episode.
        teacher: prefers.
        learner: acts; None: the teacher does.
        tell: is told of each episode.
    """
    missing = [seed for seed in seeds if not (folder / f"{seed}.npz").exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(missing), ABREAST):
        some = missing[first : first + ABREAST]
        for seed, episode in zip(some, play([make() for _ in some], some, teacher, learner)):
            episode.save(folder / f"{seed}.npz")
            tell(seed, episode)


def play(
    envs: Sequence[Env[Any, Any]], seeds: Sequence[int], teacher: MemoPolicy, learner: MemoPolicy | None
) -> list[Demonstration]:
    """Plays one episode in each environment, side by side; see `collect_by`."""
    count, device = len(envs), teacher.device
    draws = torch.Generator().manual_seed(seeds[0])
    tells = Along(teacher, count)
    acts = tells if learner is None else Along(learner, count)
    if learner is not None:
        learner.set_training_mode(False)
    now = [env.reset(seed=seed)[0] for env, seed in zip(envs, seeds)]
    steps: list[list[tuple[dict[str, Any], NDArray[np.float32], float]]] = [[] for _ in envs]
    success, alive = [False] * count, set(range(count))
    while alive:
        obs = {key: torch.from_numpy(np.stack([o[key] for o in now])).to(device) for key in now[0]}
        taught = tells.log_probabilities(obs)
        own = taught if learner is None else acts.log_probabilities(obs)
        actions = torch.multinomial(own.exp().cpu(), 1, generator=draws)[:, 0].tolist()
        preferred = taught.exp().cpu().numpy()
        for n in sorted(alive):
            seen = now[n]
            now[n], reward, terminated, truncated, info = envs[n].step(actions[n])
            steps[n].append((seen, preferred[n], float(reward)))
            if terminated or truncated:
                success[n] = bool(info.get("is_success", False))
                alive.discard(n)
    return [_episode(rows, success[n]) for n, rows in enumerate(steps)]


def _episode(rows: list[tuple[dict[str, Any], NDArray[np.float32], float]], success: bool) -> Demonstration:
    seen, preferred, rewards = zip(*rows)
    return Demonstration(
        {key: np.stack([o[key] for o in seen]) for key in seen[0]},
        np.stack(preferred),
        np.array(rewards, np.float32),
        np.ones(len(rows), np.int32),
        success,
        np.full((len(rows), preferred[0].shape[0] - 1), np.inf, np.float32),
    )

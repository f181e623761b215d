"""A training that starts with what another one learned, such as an easier task."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from embodied_mem.errors import ConfigError
from embodied_mem.policy.agent import MemoAgent
from embodied_mem.policy.checkpoint import load_policy

if TYPE_CHECKING:
    from gymnasium import spaces

    from embodied_mem.policy import MemoPPO


def start_from(model: MemoPPO, path: Path) -> None:
    """Gives a model the weights of a checkpoint: of the same network, which sees and does the same.

    Args:
        model: untrained; it learns on with an optimiser of its own.
        path: folder that `MemoPPO.export` wrote.

    Raises:
        ConfigError: no checkpoint, or one of another network or task.
    """
    agent = load_policy(path, device=str(model.device))
    check_spaces(agent, str(path), model.observation_space, model.action_space)
    ours = asdict(model.policy_config)
    for name, value in asdict(agent.config).items():
        if value != ours[name]:
            raise ConfigError(f"{path} has {name} {value}, and this training {ours[name]}: they must agree")
    model.policy.load_state_dict(agent.network.state_dict())


def check_spaces(
    agent: MemoAgent, name: str, observation_space: spaces.Space, action_space: spaces.Space
) -> None:
    """Checks that a policy which was trained before fits what is trained now.

    Raises:
        ConfigError: it sees or does something else, or saw normalised observations.
    """
    if agent.normalization:
        raise ConfigError(f"{name} was trained on normalised observations, and this task has none")
    for what, its, here in (
        ("sees", agent.observation_space, observation_space),
        ("does", agent.action_space, action_space),
    ):
        if its != here:
            raise ConfigError(f"{name} {what} {its}, and this task has {here}")

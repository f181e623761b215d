"""A deployable agent: an exported policy that acts on observations, one or a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from embodied_mem.policy.config import PolicyConfig
from embodied_mem.policy.memo_policy import MemoPolicy


@dataclass(frozen=True, eq=False)
class Normalization:
    """How an observation was normalised in training (SB3's VecNormalize).

    Attributes:
        mean, var: running moments, of the observation's shape.
        clip: largest absolute value after it.
        epsilon: added to the variance.
    """

    mean: NDArray[np.float64]
    var: NDArray[np.float64]
    clip: float
    epsilon: float

    def __call__(self, obs: NDArray[Any]) -> NDArray[np.float32]:
        """Returns the observation, one or a batch, normalised."""
        scaled = (obs - self.mean) / np.sqrt(self.var + self.epsilon)
        return np.clip(scaled, -self.clip, self.clip).astype(np.float32)


@dataclass(frozen=True, eq=False)
class MemoAgent:
    """A policy with what it needs outside of training.

    Example:
        agent = load_policy("runs/demo/checkpoint")
        action, state = agent.act(obs, state)  # state is None at a trial's start

    Attributes:
        network: the actor-critic.
        env_id: the environment it was trained in, "" where unknown.
        env_kwargs: that environment's arguments.
        normalization: by observation key; "observation" for observations that are no Dict.
    """

    network: MemoPolicy
    env_id: str = ""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    normalization: Mapping[str, Normalization] = field(default_factory=dict)

    @property
    def config(self) -> PolicyConfig:
        """The network's settings."""
        return self.network.config

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """Space of one observation; images are channel first, but may be given channel last."""
        return self.network.observation_space

    @property
    def action_space(self) -> spaces.Space[Any]:
        """Space of one action."""
        return self.network.action_space

    def act(self, obs: Any, state: Any = None, *, deterministic: bool = True) -> tuple[Any, Any]:
        """Chooses the action for one observation or a batch.

        Args:
            obs: an observation of `observation_space` or a batch of them; keys of a Dict that the
                policy does not know are left out.
            state: what the last call returned; None at a trial's start.
            deterministic: take the most likely action.

        Returns:
            The action or actions, and the next state.
        """
        return self.predict(obs, state, deterministic=deterministic)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Chooses actions as `MemoPPO.predict` does; for SB3's `evaluate_policy` and vectorised use."""
        return self.network.predict(self._prepare(observation), state, episode_start, deterministic)

    def _prepare(self, obs: Any) -> Any:
        if isinstance(self.observation_space, spaces.Dict):
            known = {key: np.asarray(obs[key]) for key in self.observation_space.spaces}
            return {k: self.normalization[k](v) if k in self.normalization else v for k, v in known.items()}
        whole = self.normalization.get("observation")
        return np.asarray(obs) if whole is None else whole(np.asarray(obs))

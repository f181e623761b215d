"""The actor-critic: encoder, core with or without memory, action and value heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.distributions import Distribution, make_proba_distribution
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from embodied_mem.errors import ConfigError, InputError
from embodied_mem.policy.baselines import Context, Recurrent
from embodied_mem.policy.choice import Choice
from embodied_mem.policy.config import PolicyConfig
from embodied_mem.policy.core import Core, NoMemory
from embodied_mem.policy.encoder import ObservationEncoder
from embodied_mem.policy.hcam import Hcam
from embodied_mem.policy.places import Whereabouts, locate, place_key
from embodied_mem.policy.pointer import PointerHead, has_candidates
from embodied_mem.policy.transformer import Memo

CORES: dict[str, Callable[[PolicyConfig], Core]] = {
    "memo": Memo,
    "none": NoMemory,
    "gru": Recurrent,
    "window": Context,
    "full_context": Context,
    "hcam": Hcam,
}
"""Cores by the name in `PolicyConfig.policy`."""


class MemoPolicy(BasePolicy):
    """A policy whose state goes from step to step, in stable-baselines3's shape.

    Args:
        observation_space: Box, image, Discrete, MultiDiscrete, MultiBinary, or a flat Dict of these.
        action_space: Discrete, Box, MultiDiscrete or MultiBinary.
        lr_schedule: learning rate by remaining progress.
        config: the network.
        use_sde: must be False; SB3 passes it.
        optimizer_class: torch optimizer.
        optimizer_kwargs: its arguments.

    Raises:
        ConfigError: an observation space without an encoder.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        config: PolicyConfig | None = None,
        use_sde: bool = False,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        # one kernel over all weights: for networks as small as these the optimizer is a tenth of an update
        kwargs = {"eps": 1e-5, "fused": True} if optimizer_kwargs is None else optimizer_kwargs
        super().__init__(
            observation_space, action_space, optimizer_class=optimizer_class, optimizer_kwargs=kwargs
        )
        if use_sde:
            raise InputError("MemoPolicy has no state-dependent exploration: leave use_sde False")
        self.config = config or PolicyConfig()
        c = self.config
        self.encoder = ObservationEncoder(observation_space, c.width, c.reader_heads, c.labels)
        self.core = CORES[c.policy](c)
        if self.core.spatial and place_key(observation_space) is None:
            raise ConfigError(
                'bank "place" needs an observation "place_id" or "mem_place_id", '
                'and this task has no places: use bank "rewrite"'
            )
        self.action_dist = make_proba_distribution(action_space)
        pointer = self._make_pointer()
        heads: Any = pointer or self.action_dist.proba_distribution_net(latent_dim=c.width)
        self.action_net, self.log_std = heads if isinstance(heads, tuple) else (heads, None)
        self.value_net = nn.Linear(c.width, 1)
        if pointer is None:
            self.action_net.apply(lambda m: self.init_weights(m, gain=0.01))
        self.value_net.apply(lambda m: self.init_weights(m, gain=1.0))
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),
            **self.optimizer_kwargs,
        )

    def _make_pointer(self) -> PointerHead | None:
        """Returns the head for observations that describe candidates, None for others.

        Raises:
            ConfigError: the actions do not number the candidates.
        """
        space = self.observation_space
        if not isinstance(space, spaces.Dict) or not has_candidates(space):
            return None
        pointer = PointerHead(space, self.config.width, self.config.labels)
        if not isinstance(self.action_space, spaces.Discrete) or self.action_space.n != pointer.count + 1:
            raise ConfigError(
                f"an observation of {pointer.count} candidates needs actions Discrete({pointer.count + 1}), "
                f"got {self.action_space}"
            )
        return pointer

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,
            "config": self.config,
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
        }

    def embed(self, obs: PyTorchObs) -> Tensor:
        """Embeds a batch of observations (B, ...) as (B, d)."""
        embedded: Tensor = self.encoder(preprocess_obs(obs, self.observation_space))
        return embedded

    def locate(self, obs: PyTorchObs) -> Whereabouts | None:
        """Returns where a batch of observations was made (B,), for a core that must know it."""
        return locate(self.observation_space, obs) if self.core.spatial else None

    def initial_state(self, batch: int) -> Any:
        """Returns the state of `batch` environments before their first step."""
        return self.core.initial_state(batch)

    def distribution(self, h: Tensor, obs: PyTorchObs) -> Distribution | Choice:
        """Returns the distribution of actions for features (B, d) of observations (B, ...)."""
        if isinstance(self.action_net, PointerHead):
            assert isinstance(obs, dict)
            return Choice(self.action_net(h, obs))
        mean = self.action_net(h)
        if isinstance(self.action_space, spaces.Discrete):
            return Choice(mean)
        if self.log_std is None:
            return self.action_dist.proba_distribution(mean)
        return self.action_dist.proba_distribution(mean, self.log_std)

    def forward(
        self,
        obs: PyTorchObs,
        state: Any,
        episode_starts: Tensor,
        deterministic: bool = False,
        *,
        jitter: np.random.Generator | None = None,
        inplace: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, Any]:
        """Takes one step.

        Args:
            obs: a batch of observations (B, ...).
            state: the state before the step.
            episode_starts: (B,) bool, True where the state is to be cleared first.
            deterministic: take the most likely action.
            jitter: draws segment lengths, as in `Core.advance`.
            inplace: reuse the state's tensors, as in `Core.advance`.

        Returns:
            Actions (B, ...), values (B,), log-probabilities (B,) and the next state.
        """
        h, state = self.core.advance(
            self.embed(obs), state, episode_starts, where=self.locate(obs), jitter=jitter, inplace=inplace
        )
        distribution = self.distribution(h, obs)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, self.value_net(h)[:, 0], distribution.log_prob(actions), state

    def predict_values(self, obs: PyTorchObs, state: Any, episode_starts: Tensor) -> Tensor:
        """Returns the values (B,) of observations; the state stays as it was."""
        h, _ = self.core.advance(self.embed(obs), state, episode_starts, where=self.locate(obs))
        values: Tensor = self.value_net(h)[:, 0]
        return values

    def log_probabilities(self, h: Tensor, obs: PyTorchObs) -> Tensor:
        """Returns the log-probabilities (B, A) of all discrete actions, from features (B, d).

        Raises:
            InputError: the actions are not discrete.
        """
        distribution = self.distribution(h, obs)
        if not isinstance(distribution, Choice):
            raise InputError(f"only discrete actions have probabilities, not {self.action_space}")
        return distribution.log_p

    def evaluate_actions(self, h: Tensor, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns values, log-probabilities and entropies (B,) of actions, from features (B, d)."""
        distribution = self.distribution(h, obs)
        log_prob = distribution.log_prob(actions)
        entropy = distribution.entropy()
        return self.value_net(h)[:, 0], log_prob, -log_prob if entropy is None else entropy

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        x = self.embed(observation)
        h, _ = self.core.advance(x, self.initial_state(len(x)), where=self.locate(observation))
        return self.distribution(h, observation).get_actions(deterministic=deterministic)

    def predict(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Any]:
        """Chooses actions for one observation or a batch, as RecurrentPPO does.

        Args:
            observation: one observation, or a batch (N, ...).
            state: what the last call returned; None at the start.
            episode_start: (N,) True where a trial starts.
            deterministic: take the most likely action.

        Returns:
            The actions, batched as the observations are, and the next state. The old state stays valid.

        Raises:
            InputError: the state belongs to another number of environments.
        """
        if self.training:  # who acts step by step need not tell every layer each time
            self.set_training_mode(False)
        tensors, vectorized = self.obs_to_tensor(observation)
        batch = len(next(iter(tensors.values())) if isinstance(tensors, dict) else tensors)
        starts = (
            np.zeros(batch, bool) if episode_start is None else np.asarray(episode_start, bool).reshape(-1)
        )
        with torch.inference_mode():
            if state is None:
                state = self.initial_state(batch)
            if len(state.closed) != batch or len(starts) != batch:
                raise InputError(
                    f"{batch} observations for a state of {len(state.closed)}, {len(starts)} episode starts"
                )
            x = self.embed(tensors)
            where = self.locate(tensors)
            h, state = self.core.advance(x, state, torch.from_numpy(starts).to(x.device), where=where)
            actions = self.distribution(h, tensors).get_actions(deterministic=deterministic).cpu().numpy()
        assert self.action_space.shape is not None
        actions = actions.reshape(-1, *self.action_space.shape)
        if isinstance(self.action_space, spaces.Box):
            actions = np.clip(actions, self.action_space.low, self.action_space.high)
        return (actions if vectorized else actions[0]), state

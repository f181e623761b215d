"""MemoPPO: proximal policy optimisation of policies with memory, on stable-baselines3."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import explained_variance, obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from embodied_mem.errors import InputError
from embodied_mem.policy.config import split_settings
from embodied_mem.policy.encoder import check_space
from embodied_mem.policy.finite import check_observation, check_rewards
from embodied_mem.policy.memo_policy import MemoPolicy
from embodied_mem.policy.minibatch import minibatch_loss
from embodied_mem.policy.parallel import average_gradients, mean_over_processes, same_weights
from embodied_mem.policy.random_state import random_state, restore_random_state
from embodied_mem.policy.rollout import SequenceBuffer, Sequences, inner_starts
from embodied_mem.policy.whole_file import whole_file


class MemoPPO(OnPolicyAlgorithm):
    """PPO over whole sequences, for policies that carry memory from step to step.

    It is used as any algorithm of stable-baselines3, with `predict(obs, state, episode_start)` as
    in sb3-contrib's RecurrentPPO. One gymnasium episode is one trial: only its end resets the memory.

    Example:
        model = MemoPPO("MemoPolicy", env, segment_length=32, summary_tokens=4, bank="accumulate")
        model.learn(1_000_000, progress_bar=True)

    Args:
        policy_class: "MemoPolicy" or a subclass of it.
        env: an environment, a VecEnv, or the id of a registered environment.
        tensorboard_log, stats_window_size, policy_kwargs, verbose, seed, device: as in SB3.
        **settings: any field of `PolicyConfig` or `PPOConfig`; `learning_rate` may be a schedule.

    Raises:
        ConfigError: an unknown or wrong setting.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MemoPolicy": MemoPolicy}
    policy: MemoPolicy
    rollout_buffer: SequenceBuffer

    def __init__(
        self,
        policy_class: str | type[MemoPolicy] = "MemoPolicy",
        env: Any = None,
        /,
        *,
        tensorboard_log: str | None = None,
        stats_window_size: int = 100,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        **settings: Any,
    ) -> None:
        # SB3 passes `policy` and `env` by name; `policy` also names the core ("memo", "none")
        env = settings.pop("env", env)
        if (
            not isinstance(settings.get("policy", "memo"), str)
            or settings.get("policy") in self.policy_aliases
        ):
            policy_class = settings.pop("policy")
        self.policy_config, ppo, rate = split_settings(settings)
        if env is not None:
            env = maybe_make_env(env, verbose)
            check_space(env.observation_space)
        super().__init__(
            policy=policy_class,
            env=env,
            learning_rate=rate,
            n_steps=ppo.n_steps,
            gamma=ppo.gamma,
            gae_lambda=ppo.gae_lambda,
            ent_coef=ppo.ent_coef,
            vf_coef=ppo.vf_coef,
            max_grad_norm=ppo.max_grad_norm,
            use_sde=False,
            sde_sample_freq=-1,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=False,
            supported_action_spaces=(spaces.Discrete, spaces.Box, spaces.MultiDiscrete, spaces.MultiBinary),
        )
        self.n_epochs, self.minibatches = ppo.n_epochs, ppo.minibatches
        self.partial_updates = ppo.partial_updates
        self.clip_range, self.target_kl = ppo.clip_range, ppo.target_kl
        self.normalize_advantage, self.inner_returns = ppo.normalize_advantage, ppo.inner_returns
        self.first_ratio_error = math.nan
        """Largest |ratio - 1| in the last update's first minibatch, before any gradient step."""
        self.anchor: MemoPolicy | None = None
        """A frozen policy near which this one is held, with a weight that falls to 0; see `hold`."""
        self.anchor_coef, self.critic_steps = ppo.anchor_coef, ppo.critic_steps
        self.schedule_steps = ppo.schedule_steps
        self._generator = np.random.default_rng(seed)
        self._rng: dict[str, Any] | None = None
        self._state: Any = None
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        self.rollout_buffer = SequenceBuffer(
            self.n_steps,
            self.observation_space,
            self.action_space,
            device=self.device,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
            n_envs=self.n_envs,
            inner_returns=self.inner_returns,
        )
        self.policy = self.policy_class(
            self.observation_space,
            self.action_space,
            self.lr_schedule,
            config=self.policy_config,
            **self.policy_kwargs,
        ).to(self.device)
        same_weights(self.policy)
        self._state = None

    # ---------------------------------------------------------------- rollout

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int
    ) -> bool:
        """Steps all environments and fills the buffer; see `OnPolicyAlgorithm`; False: it was stopped."""
        self.policy.set_training_mode(False)
        buffer: SequenceBuffer = rollout_buffer
        self._state = self._begin_rollout(buffer)
        jitter = self._generator if self.policy_config.jitter == "stored" else None
        partial = set(np.linspace(0, n_rollout_steps, self.partial_updates + 2, dtype=int)[1:-1].tolist())
        callback.on_rollout_start()
        updated = 0
        while buffer.pos < n_rollout_steps:
            obs, starts = self._last()
            check_observation(obs, self._place(buffer.pos))
            with torch.inference_mode():
                actions_tensor, values, log_probs, self._state = self.policy(
                    obs_as_tensor(obs, self.device),
                    self._state,
                    torch.from_numpy(starts).to(self.device),
                    jitter=jitter,
                    inplace=True,
                )
            actions = actions_tensor.cpu().numpy()
            new_obs, rewards, dones, infos = env.step(self._clip(actions))
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                self._state = self._last_obs = None  # trials restart where training goes on
                return False
            self._update_info_buffer(infos, dones)
            check_rewards(rewards, self._place(buffer.pos))
            discounts = self._discounts(infos)
            rewards = rewards + discounts * self._truncated_values(infos, dones)
            buffer.add(obs, actions, rewards, starts, values, log_probs, self._state.closed, discounts)
            self._last_obs, self._last_episode_starts = new_obs, dones.astype(bool)
            if buffer.pos in partial:
                self._update_partially(updated)
                updated = buffer.pos
        buffer.compute_returns_and_advantage(self._next_values(), self._next_starts())
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _last(self) -> tuple[Any, NDArray[np.bool_]]:
        """Returns the observations to act on, and where they start a trial."""
        assert self._last_obs is not None and self._last_episode_starts is not None
        return self._last_obs, self._last_episode_starts

    def _next_starts(self) -> NDArray[np.bool_]:
        """Returns the environments (N,) whose next step no return reaches."""
        obs, starts = self._last()
        return starts if self.inner_returns else starts | inner_starts(obs, len(starts))

    def _begin_rollout(self, buffer: SequenceBuffer) -> Any:
        """Returns the state to go on from, as the present weights make it, and readies the buffer."""
        _, starts = self._last()
        if self._state is None or starts.all():
            buffer.begin(None, np.zeros(self.n_envs, np.int64))
            return self.policy.initial_state(self.n_envs)
        state = self._refresh(values=False)
        slots, length = self.policy.core.carried(state)
        buffer.begin(slots, length * ~starts)
        return state

    def _refresh(self, *, values: bool) -> Any:
        """Recomputes the state with the present weights from what the buffer holds, and its values too."""
        buffer = self.rollout_buffer
        data = buffer.sequences(np.arange(self.n_envs), last_only=not values)
        with torch.no_grad():
            h, state = self._replay(data, end=True)
            if values:
                new = self.policy.value_net(h[data.plan.prefix :])[..., 0]
                buffer.values[: buffer.pos] = new.cpu().numpy()
        return replace(state, limit=self._state.limit) if hasattr(state, "limit") else state

    def _replay(self, data: Sequences, *, end: bool = False) -> tuple[Tensor, Any]:
        """Runs the core over whole sequences; returns features (prefix + T, n, d) and the state."""
        x = self.policy.embed(data.obs)
        x = x.view(-1, data.envs, x.shape[1])
        where = self.policy.locate(data.obs)
        where = None if where is None else where.view(-1, data.envs)
        return self.policy.core.replay(x, data.plan, data.carry, where=where, end=end)

    def _discounts(self, infos: list[dict[str, Any]]) -> NDArray[np.float32]:
        """Returns (N,) discounts of what comes after the actions: `info["duration"]` steps, 1 if not told."""
        durations = np.array([info.get("duration", 1) for info in infos], np.float32)
        return np.float32(self.gamma) ** durations

    def _place(self, step: int) -> str:
        return f"step {step} of the rollout (time step {self.num_timesteps})"

    def _clip(self, actions: NDArray[Any]) -> NDArray[Any]:
        if isinstance(self.action_space, spaces.Box):
            return np.clip(actions, self.action_space.low, self.action_space.high)
        return actions

    def _next_values(self) -> Tensor:
        """Returns the values (N,) of the observations that come next; after a done they do not count."""
        obs, starts = self._last()
        with torch.inference_mode():
            return self.policy.predict_values(
                obs_as_tensor(obs, self.device), self._state, torch.from_numpy(starts).to(self.device)
            )

    def _truncated_values(self, infos: list[dict[str, Any]], dones: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Returns (N,) values of what came last in trials cut by a limit, by the state before the reset."""
        values = np.zeros(len(dones), np.float32)
        cut = [
            int(n)
            for n in np.flatnonzero(dones)
            if infos[n].get("TimeLimit.truncated", False) and infos[n].get("terminal_observation") is not None
        ]
        if cut:
            last = [infos[n]["terminal_observation"] for n in cut]
            obs: Any = (
                {k: np.stack([o[k] for o in last]) for k in last[0]}
                if isinstance(last[0], dict)
                else np.stack(last)
            )
            check_observation(obs, self._place(self.rollout_buffer.pos), cut)
            tensors, _ = self.policy.obs_to_tensor(obs)
            index = torch.tensor(cut, device=self.device)
            no_start = torch.zeros(len(cut), dtype=torch.bool, device=self.device)
            with torch.inference_mode():
                values[cut] = (
                    self.policy.predict_values(tensors, self._state.rows(index), no_start).cpu().numpy()
                )
        return values

    # ---------------------------------------------------------------- updates

    def hold(self, policy: MemoPolicy) -> None:
        """Holds the policy near another, by the divergence KL(policy || other) in the loss; not saved."""
        self.anchor = copy.deepcopy(policy)
        self.anchor.set_training_mode(False)
        self.anchor.requires_grad_(False)

    @property
    def is_learning_values(self) -> bool:
        """Tells whether only the values are learned yet (`critic_steps`)."""
        return 0 < self.num_timesteps <= self.critic_steps

    @property
    def progress_remaining(self) -> float:
        """What is left of the training, from 1 to 0."""
        return self._current_progress_remaining

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        super()._update_current_progress_remaining(num_timesteps, max(total_timesteps, self.schedule_steps))

    def train(self) -> None:
        """Updates the policy on the whole rollout: `n_epochs` passes over the sequences."""
        buffer = self.rollout_buffer
        stats = self._update(0, self.n_epochs)
        self.logger.record(
            "train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        )
        for name, value in (stats | self.policy.core.report()).items():
            self.logger.record(f"train/{name}", value)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", self.clip_range)
        if self.policy.log_std is not None:
            self.logger.record("train/std", self.policy.log_std.exp().mean().item())

    def _update_partially(self, first: int) -> None:
        """Updates within a rollout, on the steps since the last update; then renews state and values."""
        self.rollout_buffer.compute_returns_and_advantage(self._next_values(), self._next_starts())
        stats = self._update(first, self.n_epochs)
        self.logger.record("train/partial_kl", stats["approx_kl"])
        self.logger.record("train/partial_first_ratio_error", stats["first_ratio_error"])
        self.policy.set_training_mode(False)
        self._state = self._refresh(values=True)

    def _update(self, first: int, epochs: int) -> dict[str, float]:
        """Runs epochs of minibatches with the loss on the steps from `first`; returns what is logged."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        seen: list[dict[str, float]] = []
        length = None
        for _ in range(epochs):
            for envs in np.array_split(
                self._generator.permutation(self.n_envs), min(self.minibatches, self.n_envs)
            ):
                if self.policy_config.jitter == "memo" and self.policy.core.segmented:
                    low, high = self.policy_config.segment_range
                    length = int(self._generator.integers(low, high + 1))
                data = self.rollout_buffer.sequences(np.sort(envs), length)
                seen.append(self._minibatch(data, first))
                if self._too_far(seen[-1]["approx_kl"]):
                    return self._summary(seen)
            self._n_updates += 1
        return self._summary(seen)

    def _too_far(self, kl: float) -> bool:
        """Tells whether the policy has changed enough for this rollout, in all processes alike."""
        return self.target_kl is not None and mean_over_processes(kl) > 1.5 * self.target_kl

    def _summary(self, seen: list[dict[str, float]]) -> dict[str, float]:
        """Returns the means over minibatches, and the first one's largest |ratio - 1|."""
        self.first_ratio_error = seen[0]["ratio_error"]
        stats = {name: float(np.mean([s[name] for s in seen])) for name in seen[0] if name != "ratio_error"}
        return stats | {"first_ratio_error": self.first_ratio_error}

    def _minibatch(self, data: Sequences, first: int) -> dict[str, float]:
        """Takes one gradient step (PPO, Schulman et al. 2017)."""
        loss, stats = minibatch_loss(self, data, first)
        if not math.isfinite(stats["loss"]):
            raise InputError(
                f"the loss is {stats['loss']} at update {self._n_updates}: lower learning_rate, or scale "
                "rewards and observations (VecNormalize); the policy is as the last good update left it"
            )
        self.policy.optimizer.zero_grad()
        loss.backward()
        average_gradients(self.policy.parameters())
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()
        return stats

    # ---------------------------------------------------------------- files and seeds

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seeds Python, numpy, torch, the environments, and the drawing of segments."""
        super().set_random_seed(seed)
        if seed is not None:
            self._generator = np.random.default_rng(seed)

    def _setup_learn(self, total_timesteps: int, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        reset = kwargs.get("reset_num_timesteps", args[1] if len(args) > 1 else True)
        if self._rng is not None and not reset:  # a resumed training draws what it would have drawn
            restore_random_state(self._rng, self._generator)
        self._rng = None
        return super()._setup_learn(total_timesteps, *args, **kwargs)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_state", "_last_obs", "_last_original_obs", "anchor"]

    def save(
        self, path: Any, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None
    ) -> None:
        """Saves what resuming needs: weights, optimizer, schedule, random state. Trials restart.

        The file is SB3's zip, which holds pickles: load only files you trust; `export` what you
        deploy. It is whole or not there, even where the process is killed.
        """
        self._rng = random_state(self._generator)
        try:
            if isinstance(path, (str, os.PathLike)):
                with whole_file(Path(path), ".zip") as part:
                    super().save(part, exclude, include)
            else:
                super().save(path, exclude, include)
        finally:
            self._rng = None

    def export(
        self, path: str | os.PathLike[str], *, env_id: str = "", env_kwargs: Mapping[str, Any] | None = None
    ) -> Path:
        """Writes a checkpoint folder to deploy: safetensors, config.json and a model card, no pickle.

        Args:
            path: the folder.
            env_id: the registered environment it was trained in.
            env_kwargs: that environment's arguments.

        Returns:
            The folder.
        """
        from embodied_mem.policy.checkpoint import export_model

        return export_model(self, Path(path), env_id=env_id, env_kwargs=env_kwargs or {})

"""Environments side by side: stable-baselines3's interface, at the cost of their steps alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn
from stable_baselines3.common.vec_env.util import dict_to_obs


class TaskVecEnv(DummyVecEnv):
    """Steps environments one after another and keeps the books of episodes itself.

    It tells what `DummyVecEnv` over `Monitor` tells, `info["episode"]` among it. Small tasks step in
    microseconds, and copying every `info` and wrapping every environment costs several times that.

    Args:
        make: makes one environment.
        count: how many.
        seed: of the first; each next one has the next seed.
    """

    def __init__(
        self, make: Callable[[], gymnasium.Env[Any, Any]], count: int, seed: int | None = None
    ) -> None:
        super().__init__([make] * count)
        self._returns = np.zeros(count)
        self._lengths = np.zeros(count, np.int64)
        self._begun = time.time()
        if seed is not None:
            self.seed(seed)

    def reset(self) -> Any:
        """Begins an episode everywhere."""
        self._returns[:], self._lengths[:] = 0.0, 0
        return super().reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Steps every environment; one that is done begins its next episode at once."""
        infos: list[dict[str, Any]] = []
        self._lengths += 1
        for i, env in enumerate(self.envs):
            obs, reward, terminated, truncated, info = env.step(self.actions[i])
            self.buf_rews[i] = reward
            done = self.buf_dones[i] = terminated or truncated
            infos.append(info)
            if done:
                info = infos[i] = dict(info)
                info["TimeLimit.truncated"] = truncated and not terminated
                info["terminal_observation"] = obs
                info["episode"] = {
                    "r": round(float(self._returns[i] + self.buf_rews[i]), 6),
                    "l": int(self._lengths[i]),
                    "t": round(time.time() - self._begun, 6),
                }
                obs, self.reset_infos[i] = env.reset()
            self._save_obs(i, obs)
        self._returns = np.where(self.buf_dones, 0.0, self._returns + self.buf_rews)
        self._lengths[self.buf_dones] = 0
        copied = {key: value.copy() for key, value in self.buf_obs.items()}
        return dict_to_obs(self.observation_space, copied), self.buf_rews.copy(), self.buf_dones.copy(), infos

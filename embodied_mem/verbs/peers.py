"""Other people's algorithms on the same observations: stable-baselines3's PPO, sb3-contrib's RecurrentPPO."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embodied_mem.errors import ConfigError

if TYPE_CHECKING:
    from embodied_mem.verbs.train import TrainConfig


def make_peer(config: TrainConfig) -> Any:
    """Builds the vectorised environment and an untrained PPO or RecurrentPPO, on flat observations.

    Their networks are two layers of `config.policy.width`, the second one an LSTM where it is recurrent.

    Raises:
        ConfigError: several processes, or a minibatch that holds nothing.
    """
    import torch

    from embodied_mem.policy.config import LearningRate
    from embodied_mem.policy.parallel import start_processes
    from embodied_mem.policy.vector import TaskVecEnv

    if start_processes()[1] > 1:
        raise ConfigError(f"algorithm {config.algorithm} trains in one process; start it without torchrun")
    ppo, width = config.ppo, config.policy.width
    rollout = config.n_envs * ppo.n_steps
    batch = rollout // ppo.minibatches
    if batch < 2:
        raise ConfigError(f"{ppo.minibatches} minibatches of {rollout} steps are too many")
    torch.set_num_threads(config.threads)
    settings: dict[str, Any] = {
        name: getattr(ppo, name)
        for name in (
            *("n_steps", "n_epochs", "gamma", "gae_lambda", "clip_range", "ent_coef", "vf_coef"),
            *("max_grad_norm", "target_kl", "normalize_advantage"),
        )
    }
    settings |= {
        "learning_rate": LearningRate(ppo.learning_rate, ppo.schedule, ppo.warmup),
        "batch_size": batch,
        "seed": config.seed,
        "device": config.device,
    }
    venv = TaskVecEnv(lambda: _flat(config, config.env_kwargs), config.n_envs, config.seed)
    if config.algorithm == "ppo":
        from stable_baselines3 import PPO

        return PPO("MlpPolicy", venv, policy_kwargs={"net_arch": [width, width]}, **settings)
    from sb3_contrib import RecurrentPPO

    network = {"net_arch": [width], "lstm_hidden_size": width}
    return RecurrentPPO("MlpLstmPolicy", venv, policy_kwargs=network, **settings)


def evaluate_peer(model: Any, config: TrainConfig) -> dict[str, Any]:
    """Plays fresh episodes, greedily; returns what `evaluate_checkpoint` does."""
    from embodied_mem.sim.evaluation import each_episode, summary
    from embodied_mem.verbs.evaluate import BATCH, COUNTS, EVALUATION_SEED, run_episodes

    kwargs = {**config.env_kwargs, **config.eval_env_kwargs}
    count = config.eval_episodes
    envs = [_flat(config, kwargs) for _ in range(min(BATCH, count))]
    results = run_episodes(model, envs, count, EVALUATION_SEED, 1, lambda: None)
    for env in envs:
        env.close()
    return {
        "env": config.env,
        "env_kwargs": kwargs,
        "episodes": count,
        "seed": EVALUATION_SEED,
        **summary(results, COUNTS),
        "each": each_episode(results),
    }


def _flat(config: TrainConfig, kwargs: dict[str, Any]) -> Any:
    from embodied_mem.sim.flat_observation import FlatObservation
    from embodied_mem.sim.registration import make

    try:
        return FlatObservation(make(config.env, **kwargs))
    except TypeError as error:
        raise ConfigError(f"env_kwargs of {config.env}: {error}") from None

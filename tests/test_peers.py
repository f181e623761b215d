"""Other people's algorithms learn from the same observations, by the same command."""

import json

import gymnasium
import numpy as np
import pytest
from stable_baselines3.common.env_checker import check_env

import embodied_mem.sim  # noqa: F401
from embodied_mem.errors import ConfigError
from embodied_mem.policy.config import ImitationConfig, PolicyConfig, PPOConfig
from embodied_mem.sim.flat_observation import FlatObservation
from embodied_mem.sim.memory_wrapper import MemoryWrapper
from embodied_mem.sim.pointing.candidates import READ
from embodied_mem.sim.pointing.pointing import pointing_of
from embodied_mem.verbs.train import RESUME, TrainConfig, run_training

SKETCH = {"env_id": "EmbodiedMem/House-Sketch-v0", "goals": 1, "max_steps": 40}


def make(name, **kwargs):
    return gymnasium.make(f"EmbodiedMem/{name}", disable_env_checker=True, **kwargs)


def test_a_flat_observation_tells_where_the_tokens_are_and_what():
    pointing = make("House-Pointing-v0", **SKETCH)
    env = FlatObservation(pointing)
    seen, _ = pointing.reset(seed=3)
    flat = env.observation(seen)
    assert env.observation_space.contains(flat)
    size = (len(flat) - sum(np.size(seen[key]) for key in seen if key.startswith("cand"))) // READ.tokens
    rows = flat[: READ.tokens * size].reshape(READ.tokens, size)
    present = seen["mem_mask"].astype(bool)
    assert present.any() and not present.all()
    assert (rows[~present] == 0).all() and (np.abs(rows[present]).sum(axis=1) > 0).all()
    moved = {**seen, "mem_position": seen["mem_position"] + 1.0}
    assert (env.observation(moved) != flat).sum() == 3 * present.sum()


def test_a_task_of_pictures_alone_cannot_be_flattened():
    picture = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    env = gymnasium.Env()
    env.observation_space, env.action_space = picture, gymnasium.spaces.Discrete(2)
    with pytest.raises(ConfigError, match="pictures"):
        FlatObservation(env)


def test_tokens_of_other_tasks_are_flattened_too():
    env = FlatObservation(MemoryWrapper(make("MultiRoom-v0")))
    check_env(env, warn=False)


def test_steps_have_the_memory_of_pointing_and_the_actions_of_the_task():
    env = make("House-Steps-v0", **SKETCH)
    task = make("House-Sketch-v0", goals=1, max_steps=40)
    assert env.action_space == task.action_space
    seen, _ = env.reset(seed=5)
    task.reset(seed=5)
    for action in (2, 1, 2, 1, 3):
        seen, reward, *_ = env.step(action)
        assert env.observation_space.contains(seen)
        assert reward == task.step(action)[1]
    assert seen["mem_mask"].any() and not any(key.startswith("cand") for key in seen)
    with pytest.raises(ConfigError, match="House-Pointing"):
        pointing_of(env)


@pytest.mark.parametrize("algorithm", ["ppo", "recurrent_ppo"])
def test_a_peer_trains_goes_on_and_is_evaluated(tmp_path, algorithm):
    def config(steps):
        return TrainConfig(
            env="EmbodiedMem/ProofOfMemory-v0", algorithm=algorithm, n_envs=4, total_steps=steps,
            eval_episodes=8, policy=PolicyConfig(width=16),
            ppo=PPOConfig(n_steps=16, n_epochs=1, minibatches=2),
        )  # fmt: skip

    (tmp_path / "config.yaml").write_text("train: {env: x}\n")  # of another program; the demo leaves one
    first = run_training(config(64), tmp_path)
    assert first["steps"] == 64 and first["evaluation"]["episodes"] == 8
    assert (tmp_path / RESUME).is_file() and json.loads((tmp_path / "result.json").read_text()) == first
    again = run_training(config(64), tmp_path, resume=True)
    assert again["steps"] == 64 and again["evaluation"] == first["evaluation"]  # nothing was trained anew
    assert run_training(config(64), tmp_path / "same")["evaluation"] == first["evaluation"]


def test_a_peer_cannot_imitate_nor_make_empty_minibatches():
    with pytest.raises(ConfigError, match="--sketched 0"):
        TrainConfig(algorithm="ppo", imitation=ImitationConfig(sketched=1))
    with pytest.raises(ConfigError, match="minibatches"):
        run_training(
            TrainConfig(algorithm="ppo", n_envs=1, ppo=PPOConfig(n_steps=2, minibatches=2)), out=None
        )

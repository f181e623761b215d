"""Promises of exported checkpoints: same actions, no pickle, never half a folder, clear errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors.torch import load_file, save_file
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from test_ppo import Recall, model, vec

from embodied_mem.errors import ConfigError
from embodied_mem.policy import MemoPPO, load_policy
from embodied_mem.policy import checkpoint as checkpoint_module
from embodied_mem.policy.checkpoint import describe_checkpoint
from embodied_mem.policy.spaces import space_from_json, space_to_json

torch.set_num_threads(1)


@pytest.fixture
def trained() -> MemoPPO:
    return model(vec(4, kind="dict")).learn(24 * 4 * 2)


def roll(predict, env: DummyVecEnv, steps: int = 30) -> list[np.ndarray]:
    """Actions of a policy in an environment with staggered resets."""
    env.seed(5)
    obs, state, starts, taken = env.reset(), None, np.ones(env.num_envs, bool), []
    for _ in range(steps):
        actions, state = predict(obs, state, starts, deterministic=True)
        taken.append(actions)
        obs, _, starts, _ = env.step(actions)
    return taken


def test_exported_policy_takes_the_same_actions(trained: MemoPPO, tmp_path: Path) -> None:
    trained.export(tmp_path / "policy", env_id="Some/Env-v0", env_kwargs={"length": 3})
    agent = load_policy(tmp_path / "policy")
    np.testing.assert_array_equal(
        roll(agent.predict, vec(4, kind="dict")), roll(trained.predict, vec(4, kind="dict"))
    )
    assert agent.env_id == "Some/Env-v0" and agent.env_kwargs == {"length": 3}
    assert agent.config == trained.policy_config


def test_exported_policy_of_a_memoryless_network_takes_the_same_actions(tmp_path: Path) -> None:
    agent = model(policy="none").learn(24 * 4)
    agent.export(tmp_path / "policy")
    np.testing.assert_array_equal(
        roll(load_policy(tmp_path / "policy").predict, vec()), roll(agent.predict, vec())
    )


def test_export_carries_the_normalisation_of_observations(tmp_path: Path) -> None:
    env = VecNormalize(vec())
    agent = model(env).learn(24 * 4 * 2)
    env.training = False
    agent.export(tmp_path / "policy")
    deployed = load_policy(tmp_path / "policy")
    raw = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    expected, _ = agent.predict(env.normalize_obs(raw), deterministic=True)
    actual, _ = deployed.act(raw)
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_allclose(deployed._prepare(raw), env.normalize_obs(raw), atol=1e-6)


def test_agent_acts_on_one_observation_and_on_a_batch(trained: MemoPPO, tmp_path: Path) -> None:
    agent = load_policy(trained.export(tmp_path / "policy"))
    env = Recall(9, kind="dict")
    obs, _ = env.reset(seed=0)
    state = batch_state = None
    for _ in range(9):
        action, state = agent.act({**obs, "unknown": 1}, state)
        batch = {key: np.stack([value, value]) for key, value in obs.items()}
        actions, batch_state = agent.act(batch, batch_state)
        assert env.action_space.contains(action) and actions.shape == (2,) and (actions == action).all()
        obs, *_ = env.step(action)


def test_checkpoint_holds_no_pickle_and_a_model_card(trained: MemoPPO, tmp_path: Path) -> None:
    path = trained.export(tmp_path / "policy", env_id="Some/Env-v0")
    assert sorted(p.name for p in path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card = (path / "README.md").read_text()
    assert "Some/Env-v0" in card and "load_policy" in card and str(trained.num_timesteps) in card
    facts = describe_checkpoint(path)
    json.dumps(facts, allow_nan=False)
    assert facts["training"]["steps"] == trained.num_timesteps
    assert facts["parameters"] == sum(v.numel() for v in load_file(path / "model.safetensors").values())


def test_export_replaces_an_older_checkpoint_and_nothing_else(trained: MemoPPO, tmp_path: Path) -> None:
    path = trained.export(tmp_path / "policy", env_id="first")
    trained.export(path, env_id="second")
    assert load_policy(path).env_id == "second"
    assert [p.name for p in tmp_path.iterdir()] == ["policy"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="is no checkpoint"):
        trained.export(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_a_failed_export_leaves_the_old_checkpoint(
    trained: MemoPPO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trained.export(tmp_path / "policy", env_id="first")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint_module, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        trained.export(path, env_id="second")
    assert load_policy(path).env_id == "first" and [p.name for p in tmp_path.iterdir()] == ["policy"]


def test_damaged_checkpoints_give_one_clear_line(trained: MemoPPO, tmp_path: Path) -> None:
    path = trained.export(tmp_path / "policy")
    config, weights = path / "config.json", path / "model.safetensors"
    good = json.loads(config.read_text())

    def expect(match: str) -> None:
        with pytest.raises(ConfigError, match=match) as error:
            load_policy(path)
        assert "\n" not in str(error.value)

    config.write_text(json.dumps({**good, "format": 99}))
    expect("newer than 2: update embodied-mem")
    config.write_text(json.dumps({**good, "format": 1}))
    expect("train and export again")
    config.write_text(json.dumps({**good, "policy": {**good["policy"], "bank": "cloud"}}))
    expect("architecture this version does not know: bank must be one of")
    config.write_text(json.dumps({**good, "policy": {**good["policy"], "width": 32}}))
    expect("of another architecture: .* weights do not fit")
    config.write_text("{")
    expect("config.json is damaged")
    config.write_text(json.dumps({"format": 2}))
    expect("lacks action_space, observation_space, policy")
    config.write_text(json.dumps(good))
    content = weights.read_bytes()
    weights.write_bytes(content[:100])
    expect("cannot read the weights")
    weights.write_bytes(content)
    tensors = load_file(weights)
    save_file({k: v for k, v in tensors.items() if "value_net" not in k}, weights)
    expect("2 weights do not fit .* first value_net")
    with pytest.raises(ConfigError, match="is no checkpoint"):
        load_policy(tmp_path / "nowhere")


def test_spaces_survive_json() -> None:
    space = spaces.Dict(
        {
            "image": spaces.Box(0, 255, (3, 8, 8), np.uint8),
            "vector": spaces.Box(np.array([-1.5, -np.inf]), np.array([2.0, np.inf]), dtype=np.float32),
            "id": spaces.Box(-1, np.iinfo(np.int64).max, (4,), np.int64),
            "one": spaces.Discrete(5, start=2),
            "many": spaces.MultiDiscrete([2, 3]),
            "bits": spaces.MultiBinary(4),
            "empty": spaces.Box(-1, 1, (4, 0), np.float32),
        }
    )
    text = json.dumps(space_to_json(space), allow_nan=False)
    assert space_from_json(json.loads(text)) == space
    with pytest.raises(ConfigError, match="unknown space type"):
        space_from_json({"type": "Cloud"})
    with pytest.raises(ConfigError, match="type Text"):
        space_to_json(spaces.Text(3))


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, embodied_mem.policy, embodied_mem.policy.config; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"

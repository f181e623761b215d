"""Promises of a policy that teaches: it says what it would do, and one with another memory learns it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from test_ppo import Recall, model, vec

from embodied_mem.errors import ConfigError
from embodied_mem.policy import MemoPPO, load_policy
from embodied_mem.policy.config import ImitationConfig
from embodied_mem.policy.demonstrations import Demonstration
from embodied_mem.policy.teacher import collect_by, load_teacher, play
from embodied_mem.verbs.imitation import Imitation

torch.set_num_threads(1)


def make() -> Recall:
    return Recall(11, kind="dict")


def agent(**settings: object) -> MemoPPO:
    return model(vec(4, kind="dict"), **settings)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recurrent policy that prefers clearly, and differently by what it saw before."""
    gru = agent(policy="gru", seed=7)
    with torch.no_grad():
        gru.policy.action_net.weight.normal_(0, 1.0, generator=torch.Generator().manual_seed(1))
    return gru.export(tmp_path_factory.mktemp("teacher") / "gru")


def load(path: Path, **settings: object):
    other = agent(**settings)
    return load_teacher(path, other.observation_space, other.action_space), other.policy


def sizes(folder: Path) -> list[int]:
    return [len(Demonstration.load(path)) for path in sorted(folder.glob("*.npz"))]


@pytest.mark.parametrize("acts", ["teacher", "learner"])
def test_the_teacher_says_what_it_would_do_wherever_the_actor_goes(teacher: Path, acts: str) -> None:
    network, learner = load(teacher)
    lengths = (5, 11, 8)
    envs = [Recall(n, kind="dict") for n in lengths]
    episodes = play(envs, [3, 4, 5], network, learner if acts == "learner" else None)
    assert [len(e) for e in episodes] == [n + 1 for n in lengths], "an episode ends when it ends"
    for episode in episodes:
        state = network.initial_state(1)
        for t, wanted in enumerate(episode.preferences):
            obs = {k: torch.from_numpy(v[t : t + 1]) for k, v in episode.observations.items()}
            with torch.no_grad():
                h, state = network.core.advance(network.embed(obs), state)
                expected = network.log_probabilities(h, obs).exp().numpy()[0]
            np.testing.assert_allclose(wanted, expected, atol=1e-5)


def test_a_collection_goes_on_where_it_was_cut_off(teacher: Path, tmp_path: Path) -> None:
    network, _ = load(teacher)
    told: list[int] = []
    collect_by(make, tmp_path, range(3), network, None, lambda seed, _: told.append(seed))
    collect_by(make, tmp_path, range(5), network, None, lambda seed, _: told.append(seed))
    assert told == [0, 1, 2, 3, 4] and sizes(tmp_path) == [12] * 5


def test_memo_learns_from_a_gru_what_it_does(teacher: Path, tmp_path: Path) -> None:
    memo = agent()
    config = ImitationConfig(
        demonstrations=24, teacher=str(teacher), rounds=1, round_demonstrations=8, epochs=15,
        lane_steps=12, lanes=8, imitation_rate=1e-2,
    )  # fmt: skip
    history = Imitation(memo, config, make, tmp_path, 0, lambda _: None).run()
    assert history[-1]["excess"] < 0.2 * history[0]["excess"]
    assert (
        sizes(tmp_path / "demonstrations" / "task_1") == [12] * 8
        or sizes(tmp_path / "demonstrations" / "round_1") == [12] * 8
    )
    # it does the same as its teacher in episodes that nobody has seen
    fresh = play([make() for _ in range(16)], range(900, 916), load(teacher)[0], None)
    own = play([make() for _ in range(16)], range(900, 916), memo.policy, None)
    first = [(a.preferences[0] - b.preferences[0]) for a, b in zip(fresh, own)]
    assert np.abs(first).mean() < 0.15
    assert json.loads((tmp_path / "imitation.json").read_text()) == history


def test_a_teacher_that_does_not_fit_is_refused(teacher: Path, tmp_path: Path) -> None:
    memo = agent()
    less = spaces.Dict({"vector": memo.observation_space["vector"]})
    with pytest.raises(ConfigError, match="sees"):
        load_teacher(teacher, less, memo.action_space)
    with pytest.raises(ConfigError, match="Dict observations alone"):
        load_teacher(teacher, model().observation_space, memo.action_space)
    other = DummyVecEnv([lambda: Recall(5, kind="dict", action="multi")])
    with pytest.raises(ConfigError, match="discrete actions alone"):
        load_teacher(teacher, memo.observation_space, other.action_space)
    with pytest.raises(ConfigError, match="nowhere"):
        load_teacher(tmp_path / "nowhere", memo.observation_space, memo.action_space)
    normalised = model(VecNormalize(vec(4, kind="dict"), norm_obs_keys=["vector"]))
    path = normalised.export(tmp_path / "normalised")
    assert load_policy(path).normalization
    with pytest.raises(ConfigError, match="normalised"):
        load_teacher(path, memo.observation_space, memo.action_space)
    with pytest.raises(ConfigError, match="leave sketched at 0"):
        ImitationConfig(teacher=str(teacher), sketched=3)

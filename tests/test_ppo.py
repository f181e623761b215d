"""Promises of MemoPPO: rollout and training see the same, and it behaves as SB3's users expect."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from embodied_mem.errors import ConfigError, InputError
from embodied_mem.policy import MemoPPO

torch.set_num_threads(1)


class Recall(gymnasium.Env):
    """Shows a cue at the first step and asks for it at the last; what it shows and takes can be chosen."""

    def __init__(
        self, length: int = 11, kind: str = "box", action: str = "discrete", limit: int | None = None
    ):
        self.length, self.kind, self.limit = length, kind, limit
        box = spaces.Box(-1, 1, (3,), np.float32)
        self.observation_space = {
            "box": box,
            "discrete": spaces.Discrete(3),
            "multi": spaces.MultiDiscrete([3, 2]),
            "image": spaces.Box(0, 255, (12, 12, 3), np.uint8),
            "symbols": spaces.Box(0, 9, (2, 2), np.uint8),
            "dict": spaces.Dict(
                {"vector": box, "time": spaces.Discrete(20), "inner_start": spaces.Box(0, 1, (1,))}
            ),
        }[kind]
        self.action_space = {
            "discrete": spaces.Discrete(2),
            "box": spaces.Box(-1, 1, (2,), np.float32),
            "multi": spaces.MultiDiscrete([2, 3]),
            "binary": spaces.MultiBinary(2),
        }[action]
        self.cue = self.time = 0

    def _observe(self) -> Any:
        cue = self.cue if self.time == 0 else 0
        vector = np.array([cue, self.time == self.length, 0.1], np.float32)
        return {
            "box": vector,
            "discrete": cue + 1,
            "multi": np.array([cue + 1, int(self.time == self.length)]),
            "image": np.full((12, 12, 3), 100 + 100 * cue, np.uint8),
            "symbols": np.full((2, 2), cue + 1, np.uint8),
            "dict": {
                "vector": vector,
                "time": min(self.time, 19),
                "inner_start": np.array([self.time == 0], np.float32),
            },
        }[self.kind]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.cue, self.time = int(self.np_random.choice([-1, 1])), 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        done = self.time == self.length
        first = float(np.asarray(action).ravel()[0])
        reward = (1.0 if (first > 0.5) == (self.cue > 0) else -1.0) if done else 0.0
        self.time += 0 if done else 1
        cut = not done and self.limit is not None and self.time >= self.limit
        return self._observe(), reward, done, cut, {"is_success": reward > 0}


def vec(count: int = 4, lengths: tuple[int, ...] = (), **kwargs: Any) -> DummyVecEnv:
    """Environments whose episodes differ in length, so that resets are staggered."""
    lengths = lengths or tuple(7 + 3 * i for i in range(count))
    return DummyVecEnv([lambda n=n: Monitor(Recall(n, **kwargs)) for n in lengths])


def model(env: Any = None, **settings: Any) -> MemoPPO:
    small = {
        "width": 16, "layers": 2, "heads": 2, "segment_length": 5, "summary_tokens": 2, "n_steps": 24,
        "minibatches": 2, "n_epochs": 2, "seed": 0, "device": "cpu",
    }  # fmt: skip
    return MemoPPO("MemoPolicy", vec() if env is None else env, **{**small, **settings})


class Ratios(BaseCallback):
    """Keeps the error of the first ratio of every update."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[float] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self.errors.append(self.model.first_ratio_error)

    def _on_training_end(self) -> None:
        self.errors.append(self.model.first_ratio_error)


@pytest.mark.parametrize("kind", ["box", "discrete", "multi", "image", "symbols", "dict"])
def test_first_ratio_is_one_in_every_rollout(kind: str) -> None:
    """Trials go on over the rollouts' boundaries: each begins with a bank and an open segment."""
    ratios = Ratios()
    agent = model(vec(4, (7, 30, 50, 90), kind=kind)).learn(24 * 4 * 4, callback=ratios)
    assert agent.rollout_buffer.carry is not None and agent.rollout_buffer.carry.slots.count.max() > 0
    assert agent.rollout_buffer.carry.prefix.max() > 0, "an open segment must have been carried on"
    errors = ratios.errors[1:]
    assert len(errors) == 4 and max(errors) < 1e-4, errors


def test_first_ratio_is_one_where_rollouts_are_shorter_than_segments() -> None:
    ratios = Ratios()
    model(vec(3, (40, 50, 60)), n_steps=3, segment_length=11).learn(3 * 3 * 12, callback=ratios)
    assert len(ratios.errors) == 13 and max(ratios.errors[1:]) < 1e-4


def test_first_ratio_is_one_for_a_policy_without_memory() -> None:
    ratios = Ratios()
    model(policy="none").learn(300, callback=ratios)
    assert max(ratios.errors[1:]) < 1e-4


def test_jitter_as_published_makes_the_first_ratio_differ() -> None:
    """The ablation: rollout with L, training with one drawn length."""
    ratios = Ratios()
    model(vec(4, (30, 30, 40, 40)), jitter="memo", n_steps=48).learn(48 * 4 * 6, callback=ratios)
    assert max(ratios.errors[1:]) > 1e-3


def test_boundaries_are_drawn_per_environment_and_stored() -> None:
    agent = model(vec(4, (40, 40, 40, 40)), n_steps=48, segment_length=10)
    agent.learn(48 * 4)
    closes = agent.rollout_buffer.closes
    lengths = [np.diff(np.flatnonzero(c)) for c in closes.T]
    drawn = np.concatenate(lengths)
    inside = drawn[(drawn >= 8) & (drawn <= 12)]
    assert len(set(inside.tolist())) > 1 and len({tuple(c) for c in closes.T}) > 1


def test_partial_updates_keep_the_first_ratio_of_new_steps_at_one() -> None:
    class Partial(BaseCallback):
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[float] = []
            self.values: list[np.ndarray] = []
            self.starts = self.ends = 0

        def _on_rollout_start(self) -> None:
            self.starts += 1

        def _on_rollout_end(self) -> None:
            self.ends += 1

        def _on_step(self) -> bool:
            error = self.logger.name_to_value.pop("train/partial_first_ratio_error", None)
            if error is not None:
                self.errors.append(error)
            return True

    watch = Partial()
    agent = model(vec(4, (7, 30, 50, 90)), n_steps=24, partial_updates=3)
    agent.learn(24 * 4 * 3, callback=watch, log_interval=None)
    assert watch.starts == watch.ends == 3, "one rollout stays one rollout"
    assert len(watch.errors) == 9 and max(watch.errors) < 1e-4
    assert agent._n_updates == 3 * 4 * agent.n_epochs


def test_partial_updates_renew_state_and_values() -> None:
    """After a partial update the state is what the new weights make of the steps so far."""
    agent = model(vec(4, (30, 40, 50, 60)), n_steps=20, partial_updates=1, learning_rate=5e-3)
    kept = {}
    refresh = agent._refresh

    def spy(*, values: bool) -> Any:
        kept["before"] = agent.rollout_buffer.values[: agent.rollout_buffer.pos].copy()
        kept["stale"] = agent._state
        kept["state"] = refresh(values=values)
        kept["after"] = agent.rollout_buffer.values[: agent.rollout_buffer.pos].copy()
        kept["streamed"] = restream(agent)
        return kept["state"]

    agent._refresh = spy  # type: ignore[method-assign]
    agent.learn(20 * 4)
    assert np.abs(kept["after"] - kept["before"]).max() > 1e-4
    values, state = kept["streamed"]
    np.testing.assert_allclose(kept["after"], values, atol=1e-4)
    held = kept["state"].slots.tokens  # streaming makes room ahead
    torch.testing.assert_close(held, state.slots.tokens[:, : held.shape[1]], atol=1e-4, rtol=0)
    assert torch.equal(kept["state"].length, state.length)


def restream(agent: MemoPPO) -> tuple[np.ndarray, Any]:
    """Streams the buffer's steps with the present weights and the stored boundaries."""
    buffer, values = agent.rollout_buffer, []
    state = agent.policy.initial_state(agent.n_envs)
    with torch.no_grad():
        for t in range(buffer.pos):
            closes = torch.from_numpy(buffer.closes[t])
            starts = torch.from_numpy(buffer.episode_starts[t])
            length = torch.where(starts, 0, state.length)
            limit = torch.where(closes, length + 1, length + 99)
            state = state.__class__(**{**vars(state), "limit": limit})
            no_start = state.__class__(**vars(agent.policy.core._clear(state, starts, None)))
            state = state.__class__(**{**vars(no_start), "limit": limit})
            obs = torch.from_numpy(buffer.observations["observation"][t])
            h, state = agent.policy.core.advance(agent.policy.embed(obs), state)
            values.append(agent.policy.value_net(h)[:, 0].numpy())
    return np.stack(values), state


def test_truncation_bootstraps_with_the_state_from_before_the_reset() -> None:
    agent = model(vec(2, (99, 99), limit=8), n_steps=8, n_epochs=1, gamma=0.9)
    seen: dict[str, Any] = {}
    truncated = agent._truncated_values

    def spy(infos: Any, dones: Any) -> Any:
        values = truncated(infos, dones)
        if dones.any():
            seen["values"], seen["terminal"] = values, np.stack([i["terminal_observation"] for i in infos])
        return values

    agent._truncated_values = spy  # type: ignore[method-assign]
    weights = {k: v.clone() for k, v in agent.policy.state_dict().items()}
    agent.learn(16)
    agent.policy.load_state_dict(weights)
    buffer = agent.rollout_buffer
    _, state = restream(agent)
    expected = agent.policy.predict_values(
        torch.from_numpy(seen["terminal"]), state, torch.zeros(2, dtype=torch.bool)
    ).detach()
    reset = agent.policy.predict_values(
        torch.from_numpy(seen["terminal"]), state, torch.ones(2, dtype=torch.bool)
    ).detach()
    np.testing.assert_allclose(seen["values"], expected, atol=1e-5)
    assert np.abs(seen["values"] - reset.numpy()).max() > 1e-4
    np.testing.assert_allclose(buffer.rewards[-1], 0.9 * expected, atol=1e-5)


@pytest.mark.parametrize("action", ["discrete", "box", "multi", "binary"])
def test_every_action_space_trains_and_predicts(action: str) -> None:
    agent = model(vec(3, kind="dict", action=action)).learn(24 * 3 * 2)
    env = vec(3, kind="dict", action=action)
    obs = env.reset()
    state, starts = None, np.ones(3, bool)
    for _ in range(15):
        actions, state = agent.predict(obs, state, starts, deterministic=True)
        assert all(env.action_space.contains(a) for a in actions)
        obs, _, starts, _ = env.step(actions)


def test_predict_one_and_a_batch_agree_and_leave_the_old_state_valid() -> None:
    agent = model(kind_env := vec(3))
    obs = kind_env.reset()
    batch_state = None
    one_state = None
    for t in range(12):
        noise = np.random.default_rng(t).normal(size=obs.shape).astype(np.float32)
        starts = np.array([t == 0, t in (0, 6), t in (0, 7)])
        old = batch_state
        batch, batch_state = agent.predict(noise, old, starts, deterministic=True)
        again, _ = agent.predict(noise, old, starts, deterministic=True)
        np.testing.assert_array_equal(batch, again)
        one, one_state = agent.predict(noise[1], one_state, starts[1:2], deterministic=True)
        assert one.shape == () and one == batch[1]
    with pytest.raises(InputError, match="3 observations for a state of 1"):
        agent.predict(obs, one_state)


def test_episode_start_clears_the_state() -> None:
    agent = model()
    state = None
    for t in range(9):
        obs = np.random.default_rng(t).normal(size=(4, 3)).astype(np.float32)
        _, state = agent.predict(obs, state)
    probe = torch.zeros(4, 3)
    with torch.no_grad():
        kept = agent.policy.predict_values(probe, state, torch.zeros(4, dtype=torch.bool))
        cleared = agent.policy.predict_values(probe, state, torch.ones(4, dtype=torch.bool))
        fresh = agent.policy.predict_values(
            probe, agent.policy.initial_state(4), torch.ones(4, dtype=torch.bool)
        )
    torch.testing.assert_close(cleared, fresh, atol=1e-6, rtol=0)
    assert not torch.allclose(kept, fresh)


def test_save_load_gives_the_same_actions_and_weights(tmp_path: Path) -> None:
    agent = model().learn(24 * 4 * 2)
    agent.save(tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["model.zip"], "no half file is left"
    loaded = MemoPPO.load(tmp_path / "model", device="cpu")
    for name, value in agent.policy.state_dict().items():
        assert torch.equal(value, loaded.policy.state_dict()[name])
    assert loaded.policy_config == agent.policy_config and loaded.num_timesteps == agent.num_timesteps
    states = [None, None]
    for t in range(20):
        obs = np.random.default_rng(t).normal(size=(4, 3)).astype(np.float32)
        a, states[0] = agent.predict(obs, states[0], deterministic=True)
        b, states[1] = loaded.predict(obs, states[1], deterministic=True)
        np.testing.assert_array_equal(a, b)


def test_a_resumed_training_goes_on_as_the_saved_one_would(tmp_path: Path) -> None:
    """Trials restart, so the one that goes on restarts its trials too; all else is in the file."""
    agent = model().learn(24 * 4 * 2)
    agent.save(tmp_path / "model.zip")
    results = []
    for _ in range(2):
        loaded = MemoPPO.load(tmp_path / "model.zip", env=vec(), device="cpu")
        loaded.learn(24 * 4 * 2, reset_num_timesteps=False)
        results.append(loaded)
    assert results[0].num_timesteps == 24 * 4 * 4
    for name, value in results[0].policy.state_dict().items():
        assert torch.equal(value, results[1].policy.state_dict()[name]), name
    rng = torch.get_rng_state()
    optimizer = results[0].policy.optimizer.state_dict()["state"]
    assert optimizer[0]["step"] == 4 * 2 * 2, "the optimizer's state must go on"
    assert rng is not None


def test_resume_draws_what_the_saved_run_would_have_drawn(tmp_path: Path) -> None:
    agent = model().learn(24 * 4)
    agent.save(tmp_path / "model.zip")
    expected = (torch.rand(3), np.random.rand(3), agent._generator.random(3))  # noqa: NPY002
    torch.manual_seed(99)
    loaded = MemoPPO.load(tmp_path / "model.zip", env=vec(), device="cpu")
    torch.manual_seed(98)
    loaded._setup_learn(96, None, reset_num_timesteps=False)
    drawn = (torch.rand(3), np.random.rand(3), loaded._generator.random(3))  # noqa: NPY002
    for a, b in zip(expected, drawn):
        np.testing.assert_array_equal(a, b)


def test_resume_with_another_number_of_environments(tmp_path: Path) -> None:
    model(vec(4)).learn(24 * 4).save(tmp_path / "model.zip")
    loaded = MemoPPO.load(tmp_path / "model.zip", env=vec(2), device="cpu")
    loaded.learn(24 * 2, reset_num_timesteps=False)
    assert loaded.num_timesteps == 24 * 4 + 24 * 2 and loaded.first_ratio_error < 1e-4


def test_same_seed_same_training() -> None:
    runs = [model(seed=3).learn(24 * 4 * 2).policy.state_dict() for _ in range(2)]
    other = model(seed=4).learn(24 * 4 * 2).policy.state_dict()
    assert all(torch.equal(runs[0][k], runs[1][k]) for k in runs[0])
    assert not all(torch.equal(runs[0][k], other[k]) for k in other)


def test_get_and_set_parameters() -> None:
    one, two = model(seed=1), model(seed=2)
    two.set_parameters(one.get_parameters())
    assert all(torch.equal(v, two.policy.state_dict()[k]) for k, v in one.policy.state_dict().items())


def test_eval_callback_vecnormalize_and_tensorboard_work(tmp_path: Path) -> None:
    env = VecNormalize(vec(), gamma=0.99)
    agent = model(env, tensorboard_log=str(tmp_path / "tb"))
    evaluation = VecNormalize(vec(2), training=False, norm_reward=False)
    watch = EvalCallback(
        evaluation, n_eval_episodes=4, eval_freq=20, log_path=str(tmp_path), verbose=0, warn=False
    )
    agent.learn(24 * 4 * 2, callback=watch)
    assert len(watch.evaluations_results) == 2 and np.isfinite(watch.best_mean_reward)
    assert list((tmp_path / "tb").rglob("events*"))
    mean, _ = evaluate_policy(agent, evaluation, 4, warn=False)
    assert -1.0 <= mean <= 1.0


def test_a_callback_that_stops_ends_the_training_and_it_can_go_on() -> None:
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 30

    agent = model()
    agent.learn(24 * 4 * 4, callback=Stop())
    assert agent.num_timesteps == 30 * 4
    agent.learn(24 * 4, reset_num_timesteps=False)
    assert agent.first_ratio_error < 1e-4


class Spoiled(Recall):
    """Returns a NaN at one step."""

    what = "reward"

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, done, cut, info = super().step(action)
        if self.time == 5 and self.what == "reward":
            reward = math.nan
        if self.time == 5 and self.what == "observation":
            obs = obs * np.nan
        return obs, reward, done, cut, info


@pytest.mark.parametrize("what", ["reward", "observation"])
def test_nan_stops_the_training_and_says_where(what: str) -> None:
    class Bad(Spoiled):
        pass

    Bad.what = what
    agent = model(DummyVecEnv([lambda: Recall(9), lambda: Bad(9)]))
    before = {k: v.clone() for k, v in agent.policy.state_dict().items()}
    step = 4 if what == "reward" else 5
    with pytest.raises(InputError, match=rf"{what}.* in environment 1 at step {step} ") as error:
        agent.learn(100)
    assert "\n" not in str(error.value)
    assert all(torch.equal(v, agent.policy.state_dict()[k]) for k, v in before.items())


def test_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r'unknown setting "segment_lenght".*"segment_length"'):
        model(segment_lenght=4)


def test_unsupported_observation_space_is_named() -> None:
    class Text(Recall):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = spaces.Dict({"words": spaces.Text(5)})

    with pytest.raises(ConfigError, match='no encoder for observation "words"'):
        model(Text())


def test_an_environment_that_is_not_vectorised_is_wrapped() -> None:
    agent = model(Recall(9), n_steps=32, minibatches=4).learn(64)
    assert agent.n_envs == 1 and agent.first_ratio_error < 1e-4
    action, _ = agent.predict(np.zeros(3, np.float32))
    assert agent.action_space.contains(int(action))


def test_learning_rate_schedules() -> None:
    agent = model(learning_rate=1e-3, schedule="cosine", warmup=0.1)
    assert agent.lr_schedule(1.0) == 0.0
    assert agent.lr_schedule(0.95) == pytest.approx(5e-4)
    assert agent.lr_schedule(0.9) == pytest.approx(1e-3)
    assert agent.lr_schedule(0.0) == pytest.approx(2.5e-5)
    assert model(learning_rate=lambda p: 2e-3 * p).lr_schedule(0.5) == pytest.approx(1e-3)


def test_a_training_that_is_to_stop_early_learns_as_the_whole_one_would() -> None:
    """With `schedule_steps`, rates and weights after 24 steps are those of 48 steps' first half."""

    class Half(BaseCallback):
        weights: dict[str, torch.Tensor]

        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:
            if self.num_timesteps == 24:
                self.weights = {k: v.clone() for k, v in self.model.policy.state_dict().items()}

    half = Half()
    model(n_steps=6).learn(48, callback=half)
    early, short = model(n_steps=6, schedule_steps=48).learn(24), model(n_steps=6).learn(24)
    assert all(torch.equal(v, half.weights[k]) for k, v in early.policy.state_dict().items())
    assert any(not torch.equal(v, half.weights[k]) for k, v in short.policy.state_dict().items())
    with pytest.raises(ConfigError, match="schedule_steps"):
        model(schedule_steps=-1)


def test_returns_cross_inner_episodes_or_stay_within_them() -> None:
    """A reward is discounted back over an inner episode's start, or not, as the setting says."""
    returns = {}
    for inner in (True, False):
        agent = model(vec(2, (6, 6), kind="dict"), n_steps=6, gamma=0.9, gae_lambda=1.0, inner_returns=inner)
        agent.learn(12)
        buffer = agent.rollout_buffer
        buffer.observations["inner_start"][:] = 0.0
        buffer.observations["inner_start"][3] = 1.0
        buffer.episode_starts[:] = np.arange(6)[:, None] == 0
        buffer.rewards[:] = np.arange(6)[:, None] == 4
        buffer.compute_returns_and_advantage(torch.zeros(2), np.zeros(2, bool))
        returns[inner] = buffer.returns[:, 0].copy()
    np.testing.assert_allclose(returns[True], [0.9**4, 0.9**3, 0.9**2, 0.9, 1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(returns[False], [0.0, 0.0, 0.0, 0.9, 1.0, 0.0], atol=1e-6)


def test_a_kill_while_saving_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = model(vec(2), n_steps=6)
    agent.learn(12)
    agent.save(tmp_path / "agent")
    before = (tmp_path / "agent.zip").read_bytes()

    def die(self: Any, path: Path, *_: Any) -> None:
        path.write_bytes(b"half a checkpoint")
        raise KeyboardInterrupt

    monkeypatch.setattr(OnPolicyAlgorithm, "save", die)
    with pytest.raises(KeyboardInterrupt):
        agent.save(tmp_path / "agent")
    assert (tmp_path / "agent.zip").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["agent.zip"]

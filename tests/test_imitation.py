"""Imitation and pointing networks: masked choices, lasting actions, a teacher's soft preferences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embodied_mem.errors import InputError
from embodied_mem.types import TOKEN_KINDS

torch = pytest.importorskip("torch")
spaces = pytest.importorskip("gymnasium").spaces

from embodied_mem.policy import MemoPPO  # noqa: E402
from embodied_mem.policy.config import ImitationConfig, PolicyConfig  # noqa: E402
from embodied_mem.policy.demonstrations import Demonstration, lay_lanes  # noqa: E402
from embodied_mem.policy.imitation import Imitator, hide_parts, likely  # noqa: E402
from embodied_mem.policy.memo_policy import MemoPolicy  # noqa: E402
from embodied_mem.policy.rollout import SequenceBuffer  # noqa: E402
from embodied_mem.policy.surroundings import OBJECT, MapAround, ThingsAround  # noqa: E402
from embodied_mem.sim.pointing.candidates import CANDIDATES, LOOK, READ, decision_space  # noqa: E402

SPACE, CELL = decision_space(10), TOKEN_KINDS.index("cell")


def observations(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns random observations of decisions with a few candidates each."""
    rng = np.random.default_rng(seed)
    obs: dict[str, Any] = {}
    for key, space in SPACE.spaces.items():
        if isinstance(space, spaces.Discrete):
            obs[key] = rng.integers(space.n, size=count)
        elif space.dtype.kind in "iu":
            high = np.minimum(space.high, 3)
            obs[key] = rng.integers(0, high + 1, size=(count, *space.shape)).astype(space.dtype)
        else:
            obs[key] = rng.uniform(0, 3, (count, *space.shape)).astype(space.dtype)
    obs["cand_mask"] = np.zeros((count, CANDIDATES + 1), np.int8)
    obs["cand_mask"][:, [0, 1, 17, LOOK]] = 1
    obs["mem_mask"] = np.zeros((count, READ.tokens), np.int8)
    obs["mem_mask"][:, [0, 1, 17]] = 1
    return obs


def policy(seed: int = 0, **settings: Any) -> MemoPolicy:
    torch.manual_seed(seed)
    config = PolicyConfig(width=32, layers=1, heads=4, segment_length=8, summary_tokens=2, **settings)
    return MemoPolicy(SPACE, spaces.Discrete(CANDIDATES + 1), lambda _: 1e-3, config)


def probabilities(network: MemoPolicy, obs: dict[str, np.ndarray]) -> np.ndarray:
    tensors = {key: torch.from_numpy(value) for key, value in obs.items()}
    with torch.no_grad():
        x = network.embed(tensors)
        h, _ = network.core.advance(x, network.initial_state(len(x)))
        return network.log_probabilities(h, tensors).exp().numpy()


def episode(steps: int, seed: int) -> Demonstration:
    """Returns an episode whose teacher prefers the nearest candidate."""
    obs = observations(steps, seed)
    costs = np.where(obs["cand_mask"][:, :CANDIDATES] > 0, obs["cand_path_distance"], np.inf)
    weights = np.concatenate([np.exp(-4.0 * costs), np.zeros((steps, 1))], axis=1)
    preferences = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    rewards = np.full(steps, 0.5, np.float32)
    return Demonstration(
        obs, preferences, rewards, np.full(steps, 2, np.int32), True, costs.astype(np.float32)
    )


def test_what_is_not_offered_is_never_chosen() -> None:
    obs = observations(64)
    p = probabilities(policy(), obs)
    assert (p[obs["cand_mask"] == 0] == 0.0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-5)


def test_candidates_that_change_places_change_probabilities_with_them() -> None:
    network, obs = policy(), observations(8)
    swapped = {key: value.copy() for key, value in obs.items()}
    for key, value in swapped.items():
        if key.startswith("cand_") or (key.startswith("mem_") and value.shape[1:2] == (READ.tokens,)):
            value[:, [0, 17]] = value[:, [17, 0]]
    p, q = probabilities(network, obs), probabilities(network, swapped)
    np.testing.assert_allclose(p[:, [0, 17]], q[:, [17, 0]], atol=1e-5)
    assert np.abs(p[:, 0] - p[:, 17]).max() > 1e-3


def test_what_has_learned_nothing_goes_to_the_known_goal_or_else_to_the_nearest_frontier() -> None:
    obs = observations(64, 3)
    obs["cand_mask"][:, [2, 3]] = obs["mem_mask"][:, [2, 3]] = 1
    obs["cand_kind"][:], obs["mem_kind"][:] = CELL, CELL
    obs["mem_frontier"][:, : READ.frontiers], obs["mem_frontier"][:, 17] = 1, 0
    obs["cand_extent"][:] = 1.0
    obs["cand_tried"][:] = 0.0
    obs["mem_confidence"][:] = 1.0
    obs["mem_feature"][..., 0] = 0.0
    obs["cand_mask"][:, LOOK] = 0
    obs["mem_feature"][:32, 17, 0] = 1.0  # the goal is known in the first half
    chosen = probabilities(policy(), obs).argmax(axis=1)
    nearest = np.where(
        obs["cand_mask"][:, : READ.frontiers] > 0, obs["cand_path_distance"][:, : READ.frontiers], 99.0
    )
    assert (chosen[:32] == 17).all() and (chosen[32:] == nearest[32:].argmin(axis=1)).all()


def test_where_the_goal_is_said_to_be_is_behind_the_nearest_frontier_to_it_or_at_the_thing_itself() -> None:
    obs = {key: torch.from_numpy(value) for key, value in observations(3, 4).items()}
    obs["mem_frontier"][:], obs["mem_feature"][..., 0] = 1, 0.0
    obs["mem_frontier"][:, 17] = 0
    obs["mem_feature"][1:, 17, 0] = 1.0
    distances = torch.full((3, CANDIDATES), torch.inf)
    distances[0, :2] = torch.tensor([5.0, 1.0])
    distances[1, [0, 1, 17]] = torch.tensor([5.0, 1.0, 0.0])  # the thing is what it seems
    distances[2, 0] = 5.0  # and here it is not
    p, about = likely(distances, obs)
    assert p.argmax(-1).tolist() == [1, 17, 0] and torch.allclose(p.sum(-1), torch.ones(3))
    assert about[1, [0, 1, 17]].all() and not about[:, LOOK].any() and p[2, 17] == 0.0
    unknown, about = likely(torch.full((3, CANDIDATES), torch.inf), obs)
    assert not about.any() and not unknown.any()  # nothing leads there: nothing is taught


def test_things_that_keep_company_with_the_goal_count_by_how_near_they_are() -> None:
    things = ThingsAround(10)
    table = np.zeros((10, 10), np.float32)
    table[3, 5] = 2.0
    things.start_from(table)
    obs = {
        "mem_mask": torch.ones(1, 1), "mem_kind": torch.full((1, 1), OBJECT),
        "mem_label": torch.full((1, 1), 5), "mem_confidence": torch.ones(1, 1),
        "mem_position": torch.zeros(1, 1, 3), "mem_feature": torch.zeros(1, 1, 4),
    }  # fmt: skip
    at = torch.tensor([[[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [30.0, 0.0, 0.0]]])
    near, off, far = things(torch.tensor([3]), at, obs)[0].detach().numpy()
    assert near[0] > off[0] > far[0] == 0.0 and near[-1] == 2.0 and off[-1] == 0.0
    assert not things(torch.tensor([4]), at, obs)[0, :, ::2].any()  # another goal


def test_the_map_around_a_candidate_is_looked_up_where_the_candidate_is() -> None:
    torch.manual_seed(0)
    around, crops = MapAround(), torch.zeros(1, 10, 24, 24)
    blank = around(crops, torch.tensor([[[6.0, -4.0, 0.0]]]))
    crops[0, 5, 4:6, 16:18] = 255.0  # 5.6 to 6.4 m ahead and 3.2 to 4.8 m to the right in the wider picture
    at = torch.tensor([[[6.0, -4.0, 0.0], [-6.0, 4.0, 0.0], [60.0, 0.0, 0.0]]])
    found = around(crops, at)[0]
    assert not torch.allclose(found[0], blank[0, 0]) and torch.allclose(found[2], torch.zeros(around.size))
    assert torch.allclose(found[1], around(torch.zeros_like(crops), at)[0, 1])


def test_what_lasts_longer_is_discounted_more() -> None:
    buffer = SequenceBuffer(
        3, spaces.Box(-1, 1, (1,)), spaces.Discrete(2), n_envs=1, gamma=0.9, gae_lambda=0.7, device="cpu"
    )
    zero, durations = np.zeros(1, np.float32), [3, 1, 5]
    rewards, values, last = [1.0, -2.0, 0.5], [0.3, 0.2, -0.1], 0.7
    for reward, value, duration in zip(rewards, values, durations):
        buffer.add(
            zero[None], np.zeros(1, np.int64), zero + reward, np.zeros(1, bool), torch.tensor([value]),
            torch.zeros(1), torch.zeros(1, dtype=torch.bool), np.float32([0.9**duration]),
        )  # fmt: skip
    buffer.compute_returns_and_advantage(torch.tensor([last]), np.zeros(1, bool))
    expected, following, after = [0.0] * 3, [0.2, -0.1, last], 0.0
    for t in (2, 1, 0):
        discount = 0.9 ** durations[t]
        after = rewards[t] + discount * following[t] - values[t] + discount * 0.7 * after
        expected[t] = after
    np.testing.assert_allclose(buffer.advantages[:, 0], expected, rtol=1e-5)


def test_an_imitator_comes_to_prefer_what_its_teacher_prefers() -> None:
    network = policy()
    episodes = [episode(16, seed) for seed in range(16)]
    config = ImitationConfig(epochs=30, lane_steps=16, lanes=4, imitation_rate=3e-3, hidden=0.0, learn="way")
    imitator = Imitator(network, config, 0.99)
    history = [imitator.train(episodes, epoch) for epoch in range(config.epochs)]
    assert history[-1]["excess"] < 0.3 * history[0]["excess"]
    assert history[-1]["value_loss"] < history[0]["value_loss"]
    fresh = [episode(16, seed) for seed in range(100, 108)]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert imitator.score(fresh)["agreement"] > 0.6
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_the_rest_of_an_episode_that_began_in_another_lane_teaches_nothing() -> None:
    lanes = next(lay_lanes([episode(6, s) for s in range(4)], 8, 2, 1.0, np.random.default_rng(0)))
    assert lanes.starts[:, 0].tolist() == [True, False, False, False, False, False, True, False]
    assert lanes.starts[:, 1].tolist() == [True, False, False, False, True, False, False, False]
    assert lanes.weights[:, 0].tolist() == [1.0] * 8
    assert lanes.weights[:, 1].tolist() == [0.0] * 4 + [1.0] * 4
    np.testing.assert_allclose(lanes.returns[:6, 0], [3.0, 2.5, 2.0, 1.5, 1.0, 0.5])


def test_whole_kinds_of_tokens_are_hidden_from_episode_to_episode() -> None:
    lanes = next(lay_lanes([episode(8, s) for s in range(8)], 16, 4, 1.0, np.random.default_rng(0)))
    shown = hide_parts(lanes, 0.5, np.random.default_rng(1))
    kept, was = shown["mem_mask"] > 0, lanes.observations["mem_mask"] > 0
    assert 0 < kept.sum() < was.sum() and not (kept & ~was).any()
    kinds = lanes.observations["mem_kind"]
    for lane in range(4):
        for half in (slice(0, 8), slice(8, 16)):
            for kind in np.unique(kinds[half, lane][was[half, lane]]):
                of_kind = was[half, lane] & (kinds[half, lane] == kind)
                assert len(set(kept[half, lane][of_kind].tolist())) == 1
    dark = ~shown["mem_crops"].any(axis=(2, 3, 4))
    assert 0 < dark.sum() < dark.size


def test_a_demonstration_comes_back_from_disk_and_a_damaged_one_says_so(tmp_path: Path) -> None:
    path, kept = tmp_path / "7.npz", episode(5, 7)
    kept.save(path)
    back = Demonstration.load(path)
    assert back.success and len(back) == 5 and set(back.observations) == set(kept.observations)
    np.testing.assert_array_equal(back.observations["mem_crops"], kept.observations["mem_crops"])
    np.testing.assert_allclose(back.preferences, kept.preferences, atol=1e-3)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="delete it, collect it again"):
        Demonstration.load(path)


class Choices:
    """A task of decisions with random observations, for training alone."""

    def __new__(cls) -> Any:
        import gymnasium

        class Task(gymnasium.Env[Any, Any]):
            observation_space, action_space = SPACE, spaces.Discrete(CANDIDATES + 1)

            def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
                super().reset(seed=seed)
                self.count = 0
                return self._look(), {}

            def step(self, action: Any) -> Any:
                self.count += 1
                return (
                    self._look(),
                    float(action == 0),
                    self.count == 12,
                    False,
                    {"duration": 2},
                )

            def _look(self) -> Any:
                return {k: v[0] for k, v in observations(1, int(self.np_random.integers(1000))).items()}

        return Task()


def test_training_after_an_imitation_keeps_near_what_was_imitated() -> None:
    def trained(coef: float) -> float:
        model = MemoPPO(
            "MemoPolicy", Choices(), n_steps=24, n_epochs=4, minibatches=1, learning_rate=3e-3, seed=0,
            anchor_coef=coef, width=32, layers=1, segment_length=8, summary_tokens=2, schedule="constant",
        )  # fmt: skip
        model.hold(model.policy)
        assert model.anchor is not None
        obs = observations(64, 5)
        before = probabilities(model.policy, obs)
        model.learn(4800, callback=lambda seen, _: seen["self"].num_timesteps < 120)  # type: ignore[arg-type]
        np.testing.assert_array_equal(before, probabilities(model.anchor, obs))
        assert model.first_ratio_error < 1e-4
        return float(np.abs(probabilities(model.policy, obs) - before).mean())

    assert trained(100.0) < 0.5 * trained(0.0)


def test_values_are_learned_before_the_policy_changes() -> None:
    model = MemoPPO(
        "MemoPolicy", Choices(), n_steps=24, n_epochs=2, minibatches=1, seed=0, critic_steps=24,
        schedule="constant", width=32, layers=1, segment_length=8, summary_tokens=2,
    )  # fmt: skip
    obs = observations(32, 5)
    before, value = probabilities(model.policy, obs), model.policy.value_net.weight.clone()
    model.learn(24)
    np.testing.assert_array_equal(before, probabilities(model.policy, obs))
    assert not torch.equal(value, model.policy.value_net.weight)
    model.learn(24, reset_num_timesteps=False)
    assert not np.array_equal(before, probabilities(model.policy, obs))

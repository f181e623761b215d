"""Promises of the encoders and of the memory reader."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.preprocessing import preprocess_obs

from embodied_mem.errors import ConfigError
from embodied_mem.policy import MemoPPO, MemoryExtractor, MemoryReader
from embodied_mem.policy.encoder import ObservationEncoder
from embodied_mem.policy.finite import find_nan
from embodied_mem.types import TOKEN_KINDS

torch.set_num_threads(1)
K, FEATURES = 6, 4


def token_space(**others: spaces.Space) -> spaces.Dict:
    """Memory tokens as `MemoryWrapper` gives them."""
    big, top = 2**62, np.inf
    return spaces.Dict(
        {
            "mem_id": spaces.Box(-1, big, (K,), np.int64),
            "mem_kind": spaces.Box(0, len(TOKEN_KINDS) - 1, (K,), np.int64),
            "mem_level": spaces.Box(0, 32, (K,), np.int64),
            "mem_position": spaces.Box(-top, top, (K, 3), np.float32),
            "mem_extent": spaces.Box(0, top, (K, 3), np.float32),
            "mem_label": spaces.Box(0, big, (K,), np.int64),
            "mem_occupancy": spaces.Box(0, 1, (K,), np.float32),
            "mem_age": spaces.Box(0, top, (K,), np.float32),
            "mem_confidence": spaces.Box(0, 1, (K,), np.float32),
            "mem_visits": spaces.Box(0, top, (K,), np.float32),
            "mem_frontier": spaces.Box(0, 1, (K,), np.int8),
            "mem_path_distance": spaces.Box(0, top, (K,), np.float32),
            "mem_feature": spaces.Box(-top, top, (K, FEATURES), np.float32),
            "mem_mask": spaces.Box(0, 1, (K,), np.int8),
            "mem_place_id": spaces.Box(-1, big, (1,), np.int64),
            **others,
        }
    )


def tokens(batch: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = (batch, K)
    return {
        "mem_id": rng.integers(0, 1 << 40, shape),
        "mem_kind": rng.integers(1, len(TOKEN_KINDS), shape),
        "mem_level": rng.integers(0, 3, shape),
        "mem_position": rng.normal(size=(*shape, 3)).astype(np.float32) * 5,
        "mem_extent": rng.random((*shape, 3)).astype(np.float32),
        "mem_label": rng.integers(0, 9, shape),
        "mem_occupancy": rng.random(shape).astype(np.float32),
        "mem_age": rng.random(shape).astype(np.float32),
        "mem_confidence": rng.random(shape).astype(np.float32),
        "mem_visits": rng.random(shape).astype(np.float32),
        "mem_frontier": rng.integers(0, 2, shape).astype(np.int8),
        "mem_path_distance": rng.random(shape).astype(np.float32) * 20,
        "mem_feature": rng.normal(size=(*shape, FEATURES)).astype(np.float32),
        "mem_mask": (np.arange(K) < 4).astype(np.int8) * np.ones(shape, np.int8),
        "mem_place_id": rng.integers(0, 5, (batch, 1)),
    }


def to_torch(obs: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value).float() for key, value in obs.items()}


@pytest.fixture
def reader() -> MemoryReader:
    torch.manual_seed(0)
    return MemoryReader(token_space(), 16, heads=4)


def read(reader: MemoryReader, obs: dict[str, np.ndarray]) -> torch.Tensor:
    with torch.no_grad():
        return reader(torch.ones(3, 16), to_torch(obs))


def test_reading_does_not_depend_on_the_order_of_tokens(reader: MemoryReader) -> None:
    obs = tokens()
    order = np.random.default_rng(1).permutation(K)
    mixed = {k: v[:, order] if v.shape[1] == K else v for k, v in obs.items()}
    torch.testing.assert_close(read(reader, mixed), read(reader, obs), atol=1e-6, rtol=0)


def test_absent_tokens_change_nothing_whatever_they_hold(reader: MemoryReader) -> None:
    obs = tokens()
    spoiled = {k: v.copy() for k, v in obs.items()}
    for key, value in spoiled.items():
        if key not in ("mem_mask", "mem_place_id"):
            value[:, 4:] = np.nan if value.dtype.kind == "f" else 99
    assert torch.equal(read(reader, spoiled), read(reader, obs))
    nothing = {**obs, "mem_mask": np.zeros_like(obs["mem_mask"])}
    assert torch.isfinite(read(reader, nothing)).all()


def test_ids_are_never_embedded(reader: MemoryReader) -> None:
    obs = tokens()
    other = {**obs, "mem_id": obs["mem_id"] + 1, "mem_place_id": obs["mem_place_id"] + 1}
    assert torch.equal(read(reader, other), read(reader, obs))


@pytest.mark.parametrize(
    "key",
    ["mem_kind", "mem_level", "mem_position", "mem_extent", "mem_label", "mem_occupancy", "mem_age",
     "mem_confidence", "mem_visits", "mem_frontier", "mem_path_distance", "mem_feature", "mem_mask"],
)  # fmt: skip
def test_everything_else_is_read(reader: MemoryReader, key: str) -> None:
    obs, other = tokens(seed=0), tokens(seed=1)
    other["mem_mask"] = np.ones_like(other["mem_mask"])
    assert not torch.allclose(read(reader, {**obs, key: other[key]}), read(reader, obs), atol=1e-5)


def test_unreachable_tokens_and_unknown_labels_are_fine(reader: MemoryReader) -> None:
    obs = tokens()
    far = {**obs, "mem_path_distance": np.full((3, K), np.inf, np.float32)}
    unknown = {**obs, "mem_label": np.full((3, K), 10**9)}
    assert torch.isfinite(read(reader, far)).all() and torch.isfinite(read(reader, unknown)).all()
    zero = {**obs, "mem_label": np.zeros((3, K), np.int64)}
    assert torch.equal(read(reader, unknown), read(reader, zero)), "labels beyond the table read as unknown"


def test_reader_without_tokens_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="wrap the environment in MemoryWrapper"):
        MemoryReader(spaces.Dict({"x": spaces.Box(0, 1, (2,))}), 16)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, (5,), np.float32),
        spaces.Box(-1, 1, (2, 3), np.float64),
        spaces.Box(0, 255, (3, 16, 16), np.uint8),
        spaces.Box(0, 255, (1, 64, 48), np.uint8),
        spaces.Box(0, 9, (3, 3, 2), np.uint8),
        spaces.Discrete(7),
        spaces.MultiDiscrete([3, 4]),
        spaces.MultiBinary(5),
        spaces.Dict({"a": spaces.Box(-1, 1, (2,), np.float32), "b.c": spaces.Discrete(3)}),
        token_space(view=spaces.Box(0, 255, (3, 16, 16), np.uint8)),
        token_space(),
    ],
    ids=str,
)
def test_every_supported_space_is_encoded(space: spaces.Space) -> None:
    torch.manual_seed(0)
    space.seed(0)
    encoder = ObservationEncoder(space, 32)
    samples = [space.sample() for _ in range(4)]
    if isinstance(space, spaces.Dict):
        fill = tokens(4)
        batch = {k: torch.from_numpy(fill.get(k, np.stack([s[k] for s in samples]))) for k in space.spaces}
    else:
        batch = torch.from_numpy(np.stack(samples))
    out = encoder(preprocess_obs(batch, space))
    assert out.shape == (4, 32) and torch.isfinite(out).all()
    assert (out[0] - out[1:]).abs().amax(dim=1).max() > 1e-3, "different observations must differ"
    out.square().sum().backward()
    used = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert not used, f"no gradient reaches {used}"


def test_metres_of_a_large_room_do_not_drown_what_comes_in_units_of_one() -> None:
    box = spaces.Box
    space = spaces.Dict({"pose": box(0.0, 50.0, (2,), np.float32), "status": box(0.0, 1.0, (2,), np.float32)})
    torch.manual_seed(0)
    encoder = ObservationEncoder(space, 256)
    zero = {key: torch.zeros(1, 2) for key in ("pose", "status")}
    far, told = ({**zero, key: torch.full((1, 2), top)} for key, top in (("pose", 50.0), ("status", 1.0)))
    with torch.no_grad():
        of_pose, of_status = ((encoder(obs) - encoder(zero)).norm().item() for obs in (far, told))
    assert of_pose == pytest.approx(of_status, rel=0.3)


def test_nan_is_found_with_its_environment_and_infinity_is_not_nan() -> None:
    obs = tokens(5)
    assert find_nan(obs) is None
    obs["mem_path_distance"][2, 1] = np.inf
    obs["mem_feature"][3, 0, 0] = -np.inf
    obs["mem_feature"][1, 0, 0] = np.inf
    assert find_nan(obs) is None
    obs["mem_age"][4, 2] = np.nan
    assert find_nan(obs) == ("mem_age", 4)
    assert find_nan(np.zeros((3, 2), np.float32)) is None


def make_env():
    import gymnasium

    class Env(gymnasium.Env):
        observation_space = token_space(vector=spaces.Box(-1, 1, (2,), np.float32))
        action_space = spaces.Discrete(2)
        time = 0

        def _observe(self):
            obs = {key: value[0] for key, value in tokens(1, seed=self.time).items()}
            return {**obs, "vector": np.zeros(2, np.float32)}

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.time = 0
            return self._observe(), {}

        def step(self, action):
            self.time += 1
            return self._observe(), float(action), self.time >= 9, False, {}

    return Env()


def test_memory_extractor_serves_any_sb3_algorithm() -> None:
    agent = PPO(
        "MultiInputPolicy",
        make_env(),
        n_steps=16,
        batch_size=16,
        n_epochs=1,
        device="cpu",
        policy_kwargs={
            "features_extractor_class": MemoryExtractor,
            "features_extractor_kwargs": {"features_dim": 16},
        },
    )
    before = agent.policy.features_extractor.encoder.reader.query.weight.clone()
    agent.learn(32)
    assert not torch.equal(before, agent.policy.features_extractor.encoder.reader.query.weight)


def test_memo_reads_tokens_while_it_trains() -> None:
    agent = MemoPPO(
        "MemoPolicy", make_env(), width=16, heads=2, segment_length=4, summary_tokens=2, n_steps=20,
        n_epochs=1, minibatches=1, device="cpu", seed=0,
    )  # fmt: skip
    before = agent.policy.encoder.reader.query.weight.clone()
    agent.learn(40)
    assert not torch.equal(before, agent.policy.encoder.reader.query.weight)
    assert agent.first_ratio_error < 1e-4

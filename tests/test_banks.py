"""Promises of every summary bank: streaming is the dense computation, bounded, with a live gradient."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from test_ppo import Ratios, Recall, model, vec

import embodied_mem.sim  # noqa: F401 - registers the environments
from embodied_mem.errors import ConfigError, InputError
from embodied_mem.policy import MemoPPO, PolicyConfig, load_policy
from embodied_mem.policy.core import Carry
from embodied_mem.policy.places import Whereabouts, visit
from embodied_mem.policy.segments import fixed_closes, plan_segments
from embodied_mem.policy.summary import ABSENT, NOWHERE
from embodied_mem.policy.transformer import Memo

torch.set_num_threads(1)
D, STEPS, ENVS, SLOTS = 16, 64, 5, 3
BOUNDED = ["fifo", "rewrite", "place"]


def config(bank: str, **kwargs: Any) -> PolicyConfig:
    small = {"width": D, "layers": 2, "heads": 2, "segment_length": 5, "summary_tokens": 2, "slots": SLOTS}
    return PolicyConfig(bank=bank, **{**small, **kwargs})  # type: ignore[arg-type]


@pytest.fixture
def make() -> Callable[..., Memo]:
    def build(bank: str, **kwargs: Any) -> Memo:
        torch.manual_seed(1)  # seed 0 draws attention so sharp that float32 itself is off by 1e-5
        memo = Memo(config(bank, **kwargs))
        with torch.no_grad():
            for name, parameter in memo.named_parameters():
                if "gate" in name or "nearness" in name:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return memo

    return build


def wander(steps: int = STEPS, envs: int = ENVS) -> tuple[torch.Tensor, np.ndarray, Whereabouts]:
    """Steps, staggered trial starts, and walks over seven places: they are left, revisited and evicted."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(steps, envs, D, generator=generator)
    starts = np.zeros((steps, envs), bool)
    starts[0] = True
    for t, n in ((13, 0), (1, 1), (40, 1), (41, 1), (52, 2)):
        if t < steps and n < envs:
            starts[t, n] = True
    place = torch.randint(0, 7, (steps // 3 + 1, envs), generator=generator).repeat_interleave(3, 0)[:steps]
    angle = torch.rand(steps, envs, generator=generator) * 6
    near = torch.rand(steps, envs, 2, generator=generator)
    pose = torch.cat([torch.stack([place * 1.5, place % 3], -1) + near, angle.sin()[..., None],
                      angle.cos()[..., None]], -1)  # fmt: skip
    return x, starts, Whereabouts(place, pose)


def stream(memo: Memo, x: torch.Tensor, starts: np.ndarray, where: Whereabouts, state=None, inplace=False):
    rng = np.random.default_rng(3)
    state = memo.initial_state(x.shape[1]) if state is None else state
    outputs, closes = [], []
    with torch.no_grad():
        for t in range(len(x)):
            h, state = memo.advance(
                x[t], state, torch.from_numpy(starts[t]), where=where.rows(t), jitter=rng, inplace=inplace
            )
            outputs.append(h)
            closes.append(state.closed.numpy().copy())
    return torch.stack(outputs), np.stack(closes), state


# ---------------------------------------------------------------- the dense computation, written apart


def turn(v: torch.Tensor, position: torch.Tensor, base: float) -> torch.Tensor:
    half = v.shape[1] // 2
    angle = position[:, None] * base ** (-torch.arange(half) / half)
    z = torch.complex(v[:, ::2].contiguous(), v[:, 1::2].contiguous()) * torch.complex(
        angle.cos(), angle.sin()
    )
    return torch.view_as_real(z).flatten(1)


def dense_block(memo: Memo, x, position, seen, free: int, bias) -> torch.Tensor:
    """Attention over one block (Q, d); the first `free` keys are met without rotation if there is a bias."""
    d, stack = x.shape[1], memo.stack
    for layer in stack.layers:
        q, k, v = layer.qkv(layer.attention_norm(x)).split(d, -1)
        heads = []
        for h in range(layer.heads):
            part = slice(h * stack.head_size, (h + 1) * stack.head_size)
            rope = turn(q[:, part], position, stack.rope_base) @ turn(k[:, part], position, stack.rope_base).T
            if bias is not None:
                rope[:, :free] = q[:, part] @ k[:free, part].T
            score = rope / math.sqrt(stack.head_size)
            if bias is not None:
                score = score + bias[h]
            heads.append(score.masked_fill(~seen, -math.inf).softmax(-1) @ v[:, part])
        x = x + layer.attention_out(torch.cat(heads, -1))
        hidden = torch.nn.functional.gelu(layer.mlp_in(layer.mlp_norm(x)))
        x = x + layer.mlp_out(hidden)
    return stack.norm(x)


def merge(gate, held, new, count: int, age: int) -> torch.Tensor:
    facts = torch.tensor([math.log1p(count), math.log1p(age)]).expand(len(held), 2)
    g = torch.sigmoid(gate.linear(torch.cat([held, new, facts], -1)))
    return (1 - g) * held + g * gate.norm(new)


def nearness(memo: Memo, slots: list[dict], poses, places, times, size: int) -> torch.Tensor:
    """Bias (H, Q, n) of steps for the tokens of the slots."""
    rows = []
    for pose, place, time in zip(poses, places, times):
        row = []
        for slot in slots:
            dx, dy = (slot["where"] - pose[:2]).tolist()
            sine, cosine = pose[2:].tolist()
            facts = torch.tensor([
                (cosine * dx + sine * dy) / 8, (cosine * dy - sine * dx) / 8, math.log1p(math.hypot(dx, dy)),
                float(slot["place"] == int(place)), math.log1p(time - slot["last"]) / 4,
                math.log1p(slot["visits"]),
            ])  # fmt: skip
            row += [memo.bank.nearness.weight @ facts] * size
        rows.append(torch.stack(row))
    return torch.stack(rows).permute(2, 0, 1)


def write(memo: Memo, bank: str, slots: list[dict], z, place, position, now: int, spent: int) -> list[dict]:
    """What the bank holds after a segment, as a list in the order in which it was filled."""
    new = {"tokens": z, "place": place, "where": position, "last": now, "visits": 1}
    if bank == "fifo":
        return [*slots, new][-SLOTS:]
    if bank == "rewrite":
        if slots:
            new["visits"] = slots[0]["visits"] + 1
            new["tokens"] = merge(memo.bank.gate, slots[0]["tokens"], z, slots[0]["visits"], spent)
        return [new]
    for i, slot in enumerate(slots):
        if slot["place"] == place:
            tokens = merge(memo.bank.gate, slot["tokens"], z, slot["visits"], now - slot["last"])
            slots[i] = {**new, "tokens": tokens, "visits": slot["visits"] + 1}
            return slots
    if len(slots) < SLOTS:
        return [*slots, new]
    worst = min(range(SLOTS), key=lambda i: (slots[i]["visits"], slots[i]["last"]))
    slots[worst] = new
    return slots


def dense(memo: Memo, bank: str, x, closes, place, pose) -> tuple[torch.Tensor, list[dict]]:
    """One trial x (T, d), segment by segment, from nothing but the slots' tokens."""
    size, slots, outputs, begin, written = memo.config.summary_tokens, [], [], 0, 0
    ends = [t + 1 for t in range(len(x)) if closes[t]]
    for end in sorted({*ends, len(x)}):
        queries = memo.queries if end in ends else memo.queries[:0]
        steps, n = end - begin, size * len(slots)
        tokens = torch.cat([*[s["tokens"] for s in slots], x[begin:end], queries])
        total = len(tokens)
        seen = torch.ones(total, total).tril().bool()
        seen[:n] = torch.eye(total)[:n].bool()
        first = {"fifo": written * size - n, "rewrite": 0, "place": -n}[bank]
        position = (first + torch.arange(total)).float()
        bias = None
        if bank == "place":
            at = [*range(begin, end), *[end - 1] * len(queries)]
            bias = torch.zeros(memo.config.heads, total, total)
            if n:
                bias[:, n:, :n] = nearness(memo, slots, pose[at], place[at], at, size)
        h = dense_block(memo, tokens, position, seen, n, bias)
        outputs.append(h[n : n + steps])
        if len(queries):
            here = place[begin:end].tolist()
            most = max(here, key=here.count)  # the first of those that are as frequent
            where = torch.stack([pose[t, :2] for t in range(begin, end) if place[t] == most]).mean(0)
            slots = write(memo, bank, slots, h[n + steps :], most, where, end, steps)
            written += 1
        begin = end
    return torch.cat(outputs), slots


@pytest.mark.parametrize("bank", BOUNDED)
def test_streaming_equals_the_dense_computation_over_evictions_revisits_and_resets(
    make: Callable[..., Memo], bank: str
) -> None:
    memo = make(bank)
    x, starts, where = wander()
    streamed, closes, _ = stream(memo, x, starts, where)
    evicted = revisited = 0
    with torch.no_grad():
        for n in range(ENVS):
            for begin, end in itertools.pairwise([*np.flatnonzero(starts[:, n]), STEPS]):
                part = slice(begin, end)
                expected, slots = dense(
                    memo, bank, x[part, n], closes[part, n], where.place[part, n], where.pose[part, n]
                )
                torch.testing.assert_close(streamed[part, n], expected, atol=1e-5, rtol=0)
                evicted += int(closes[part, n].sum()) > SLOTS
                revisited += any(slot["visits"] > 1 for slot in slots)
    assert evicted >= ENVS and (revisited or bank == "fifo")


@pytest.mark.parametrize("bank", BOUNDED)
def test_replay_equals_streaming_and_goes_on_alike(make: Callable[..., Memo], bank: str) -> None:
    memo = make(bank)
    x, starts, where = wander()
    streamed, closes, state = stream(memo, x, starts, where)
    with torch.no_grad():
        replayed, end = memo.replay(x, plan_segments(starts, closes), where=where, end=True)
    torch.testing.assert_close(replayed, streamed, atol=1e-5, rtol=0)
    end = end.__class__(**{**vars(end), "limit": state.limit})
    more, none, place = torch.randn(17, ENVS, D), np.zeros((17, ENVS), bool), where.rows(slice(17))
    a, b = (stream(memo, more, none, place, s)[0] for s in (state, end))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.parametrize("bank", ["accumulate", *BOUNDED])
def test_in_double_precision_nothing_is_left_of_the_difference(make: Callable[..., Memo], bank: str) -> None:
    """Float32 is all that parts streaming from training: over 60 merges they agree to twelve digits."""
    torch.set_default_dtype(torch.float64)
    try:
        memo = make(bank).double()
        x, starts, where = wander(300)
        x, where = x.double(), Whereabouts(where.place, where.pose.double())
        streamed, closes, _ = stream(memo, x, starts, where)
        with torch.no_grad():
            replayed, _ = memo.replay(x, plan_segments(starts, closes), where=where)
        torch.testing.assert_close(replayed, streamed, atol=1e-10, rtol=0)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("bank", BOUNDED)
@pytest.mark.parametrize("cut", [1, 20, 47, 62])
def test_a_rollout_goes_on_from_a_detached_bank(make: Callable[..., Memo], bank: str, cut: int) -> None:
    memo = make(bank)
    x, starts, where = wander()
    streamed, closes, _ = stream(memo, x, starts, where)
    _, _, state = stream(memo, x[:cut], starts[:cut], where.rows(slice(cut)))
    prefix = state.length.numpy() * ~starts[cut]
    before = int(prefix.max())
    plan = plan_segments(starts[cut:], closes[cut:], prefix)
    with torch.no_grad():
        rest, _ = memo.replay(
            x[cut - before :],
            plan,
            Carry(state.slots.detach(), prefix),
            where=where.rows(slice(cut - before, None)),
        )
    torch.testing.assert_close(rest[before:], streamed[cut:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("bank", BOUNDED)
def test_inplace_streaming_equals_functional_streaming(make: Callable[..., Memo], bank: str) -> None:
    memo = make(bank)
    x, starts, where = wander()
    expected = stream(memo, x, starts, where)[0]
    torch.testing.assert_close(stream(memo, x, starts, where, inplace=True)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("bank", ["accumulate", "rewrite", "place"])
def test_the_gradient_is_alive_through_more_than_twenty_merges(make: Callable[..., Memo], bank: str) -> None:
    memo, steps = Memo(config(bank, slots=2)), 5 * 24
    torch.manual_seed(2)
    x = torch.randn(steps, 2, D, requires_grad=True)
    starts = np.zeros((steps, 2), bool)
    starts[0] = True
    where = Whereabouts(torch.zeros(steps, 2, dtype=torch.int64), torch.zeros(steps, 2, 4))
    h, _ = memo.replay(x, plan_segments(starts, fixed_closes(starts, 5)), where=where)
    (h[-1] * torch.randn(D)).sum().backward()
    assert x.grad is not None
    size = x.grad.norm(dim=-1)  # (T, 2)
    assert torch.isfinite(size).all() and (size > 0).all()
    assert (size[0] / size[-1] > 1e-6).all(), "the first observation is 23 merges back"
    assert size.max() < 1e3


@pytest.mark.parametrize("bank", BOUNDED)
def test_the_state_of_a_bounded_bank_does_not_grow(make: Callable[..., Memo], bank: str) -> None:
    memo = make(bank)
    state, sizes = memo.initial_state(2), set()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for t in range(400):
            where = Whereabouts(torch.tensor([t // 4, t // 9]), torch.zeros(2, 4))
            h, state = memo.advance(torch.randn(2, D), state, where=where, jitter=rng, inplace=True)
            sizes.add(state.nbytes)
    assert len(sizes) == 1 and torch.isfinite(h).all()


def test_distances_in_a_fifo_do_not_grow_with_the_trial(make: Callable[..., Memo]) -> None:
    """After a million segments a trial looks as it did after ten: attention knows distances only."""
    memo = make("fifo")
    slots = stream(memo, *wander())[2].slots.rows(torch.tensor([3, 4]))
    assert (slots.position < ABSENT).all()
    old = slots.__class__(slots.tokens, slots.position + 6_000_000, slots.count + 6_000_000)
    x, starts, _ = wander(20, 2)
    plan = plan_segments(np.zeros_like(starts), fixed_closes(np.zeros_like(starts), 5))
    with torch.no_grad():
        young, _ = memo.replay(x, plan, Carry(slots, np.zeros(2, np.int64)))
        aged, _ = memo.replay(x, plan, Carry(old, np.zeros(2, np.int64)))
    torch.testing.assert_close(aged, young, atol=1e-5, rtol=0)


def test_a_segment_belongs_to_the_place_where_most_of_it_was_spent() -> None:
    place = torch.tensor([[5, 2, 2, 5, 9, 9], [4, 4, 4, 4, 8, 8], [-1, 3, 3, 3, 3, 3]])
    pose = torch.zeros(3, 6, 4)
    pose[..., 0] = torch.arange(6)
    spent = visit(Whereabouts(place, pose), torch.tensor([4, 6, 1]))
    assert spent.place.tolist() == [5, 4, -1], "of two the earlier one; nothing behind the segment's end"
    assert spent.position[:, 0].tolist() == [1.5, 1.5, 0.0]


def test_a_place_bank_evicts_by_visits_and_age_and_never_by_content(make: Callable[..., Memo]) -> None:
    bank = make("place", slots=2).bank
    slots = bank.empty(1, torch.device("cpu"))
    row, held = torch.tensor([0]), []
    for place in (4, 7, 4, 9, 8, 4, 8, 7):
        z = torch.randn(1, 2, D) * 100
        at = visit(Whereabouts(torch.tensor([[place]]), torch.zeros(1, 1, 4)), torch.tensor([1]))
        slots, _ = bank.write(slots, row, z, inplace=False, visit=at)
        held.append(sorted(slots.facts["place"][0].tolist()))
    assert held == [[NOWHERE, 4], [4, 7], [4, 7], [4, 9], [4, 8], [4, 8], [4, 8], [4, 7]]


# ---------------------------------------------------------------- in training


class Wander(Recall):
    """The recall task on a ring of places, which are observed."""

    def __init__(self, length: int = 11, **kwargs: Any):
        super().__init__(length, **kwargs)
        parts = {"cue": self.observation_space, "place_id": spaces.Box(0, 5, (1,), np.int64)}
        self.observation_space = spaces.Dict({**parts, "pose": spaces.Box(-9, 9, (2,), np.float32)})

    def _observe(self) -> Any:
        place = (self.time // 4) % 6
        pose = np.array([place, self.time % 4], np.float32)
        return {"cue": super()._observe(), "place_id": np.array([place], np.int64), "pose": pose}


def places(lengths: tuple[int, ...] = (7, 30, 50, 90)) -> DummyVecEnv:
    return DummyVecEnv([lambda n=n: Wander(n) for n in lengths])


@pytest.mark.parametrize("bank", BOUNDED)
def test_first_ratio_is_one_in_every_rollout_and_partial_update(bank: str) -> None:
    ratios = Ratios()
    agent = model(places(), bank=bank, slots=3)
    agent.learn(24 * 4 * 5, callback=ratios)
    carry = agent.rollout_buffer.carry
    assert carry is not None and carry.prefix.max() > 0, "trials go on over the rollouts' boundaries"
    assert len(ratios.errors) == 6 and max(ratios.errors[1:]) < 1e-4
    agent = model(places(), bank=bank, slots=3, partial_updates=2)
    agent.learn(24 * 4 * 4, log_interval=None)
    assert agent.rollout_buffer.carry is not None
    assert agent.logger.name_to_value["train/partial_first_ratio_error"] < 1e-4


@pytest.mark.parametrize("bank", BOUNDED)
def test_save_load_and_export_give_the_same_actions(bank: str, tmp_path: Any) -> None:
    agent = model(places(), bank=bank, slots=3).learn(24 * 4 * 2)
    agent.save(tmp_path / "model.zip")
    others = [MemoPPO.load(tmp_path / "model.zip", device="cpu"), load_policy(agent.export(tmp_path / "out"))]
    env, states, starts = places(), [None] * 3, np.ones(4, bool)
    obs = env.reset()
    for _ in range(60):
        taken = []
        for i, policy in enumerate([agent, *others]):
            actions, states[i] = policy.predict(obs, states[i], starts, deterministic=True)
            taken.append(actions)
        np.testing.assert_array_equal(taken[0], taken[1])
        np.testing.assert_array_equal(taken[0], taken[2])
        obs, _, starts, _ = env.step(taken[0])


@pytest.mark.parametrize("bank", ["rewrite", "place"])
def test_gate_saturation_is_logged(bank: str) -> None:
    agent = model(places(), bank=bank, slots=6)
    agent.learn(24 * 4 * 2, log_interval=None)
    logged = agent.logger.name_to_value
    assert logged["train/gate_saturation"] < 0.5 and 0.1 < logged["train/gate_mean"] < 0.6
    with torch.no_grad():
        agent.policy.core.bank.gate.linear.bias.fill_(-20.0)
    agent.learn(24 * 4 * 2, log_interval=None, reset_num_timesteps=False)
    assert agent.logger.name_to_value["train/gate_saturation"] > 0.99


def test_a_task_without_places_is_told_to_rewrite() -> None:
    with pytest.raises(ConfigError, match='no places: use bank "rewrite"') as error:
        model(vec(), bank="place")
    assert "\n" not in str(error.value)


def test_a_place_that_was_normalised_is_refused() -> None:
    with pytest.raises(InputError, match="leave it out of VecNormalize"):
        model(VecNormalize(places()), bank="place").learn(10)
    agent = model(VecNormalize(places(), norm_obs_keys=["cue"]), bank="place", slots=3).learn(24 * 4)
    assert agent.first_ratio_error < 1e-4


def test_more_places_than_an_integer_can_order_are_refused() -> None:
    with pytest.raises(ConfigError, match="slots must be at most 256"):
        PolicyConfig(bank="place", slots=257)


@pytest.mark.parametrize("bank", ["accumulate", *BOUNDED])
def test_every_bank_trains_in_the_dark_room(bank: str) -> None:
    def make() -> gymnasium.Env:
        return gymnasium.make("EmbodiedMem/DarkKeyToDoor-v0", trial_steps=60, disable_env_checker=True)

    agent = model(DummyVecEnv([make] * 3), bank=bank, slots=3, n_steps=40).learn(40 * 3 * 3)
    assert agent.first_ratio_error < 1e-4

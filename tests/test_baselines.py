"""Promises of the baselines: they keep the core's contract, so that what is compared is the memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from test_ppo import Ratios, model, vec

from embodied_mem.errors import ConfigError
from embodied_mem.policy import MemoPPO, PolicyConfig, load_policy
from embodied_mem.policy.checkpoint import CORE_NAMES
from embodied_mem.policy.core import Carry, Core
from embodied_mem.policy.hcam import Chunks, Recall
from embodied_mem.policy.memo_policy import CORES
from embodied_mem.policy.segments import fixed_closes, plan_segments

torch.set_num_threads(1)
D = 16
BASELINES = ["gru", "window", "full_context", "hcam"]
BOUNDED = ["gru", "window"]


def build(policy: str, **kwargs: Any) -> Core:
    small = {"width": D, "layers": 2, "heads": 2, "segment_length": 5, "window": 6, "recall": 2}
    torch.manual_seed(1)
    config = PolicyConfig(policy=policy, **{**small, **kwargs})  # type: ignore[arg-type]
    core = CORES[policy](config)
    with torch.no_grad():
        for name, parameter in core.named_parameters():
            if name == "sinks":
                parameter.normal_()
    return core


def staggered(steps: int = 61, envs: int = 5) -> tuple[torch.Tensor, np.ndarray]:
    x = torch.randn(steps, envs, D, generator=torch.Generator().manual_seed(1))
    starts = np.zeros((steps, envs), bool)
    starts[0] = True
    for t, n in ((13, 0), (1, 1), (40, 1), (41, 1), (52, 2)):
        starts[t, n] = True
    return x, starts


def stream(core: Core, x: torch.Tensor, starts: np.ndarray, state: Any = None, inplace: bool = False):
    rng = np.random.default_rng(3)
    state = core.initial_state(x.shape[1]) if state is None else state
    outputs, closes = [], []
    with torch.no_grad():
        for t in range(len(x)):
            h, state = core.advance(x[t], state, torch.from_numpy(starts[t]), jitter=rng, inplace=inplace)
            outputs.append(h)
            closes.append(state.closed.numpy().copy())
    return torch.stack(outputs), np.stack(closes), state


@pytest.mark.parametrize("policy", BASELINES)
@pytest.mark.parametrize("inplace", [False, True])
def test_replay_equals_streaming_with_staggered_resets(policy: str, inplace: bool) -> None:
    core = build(policy)
    x, starts = staggered()
    streamed, closes, state = stream(core, x, starts, inplace=inplace)
    assert closes.any() == core.segmented
    with torch.no_grad():
        replayed, end = core.replay(x, plan_segments(starts, closes), end=True)
    torch.testing.assert_close(replayed, streamed, atol=1e-5, rtol=0)
    if hasattr(end, "limit"):
        end = end.__class__(**{**vars(end), "limit": state.limit})
    more, none = torch.randn(17, x.shape[1], D), np.zeros((17, x.shape[1]), bool)
    a, b = (stream(core, more, none, s)[0] for s in (state, end))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.parametrize("policy", BASELINES)
def test_trials_do_not_see_each_other(policy: str) -> None:
    core = build(policy)
    x, starts = staggered()
    streamed, _, _ = stream(core, x, starts)
    for n in range(x.shape[1]):
        for begin, end in itertools.pairwise([*np.flatnonzero(starts[:, n]), len(x)]):
            changed = x.clone()
            changed[:begin, n] += 1.0
            changed[end:, n] += 1.0
            again, _, _ = stream(core, changed, starts)
            torch.testing.assert_close(again[begin:end, n], streamed[begin:end, n], atol=1e-5, rtol=0)


@pytest.mark.parametrize("policy", BASELINES)
@pytest.mark.parametrize("cut", [1, 20, 47])
def test_a_rollout_goes_on_from_what_was_carried(policy: str, cut: int) -> None:
    core = build(policy)
    x, starts = staggered()
    streamed, closes, _ = stream(core, x, starts)
    _, _, state = stream(core, x[:cut], starts[:cut])
    memory, length = core.carried(state)
    prefix = length * ~starts[cut]
    before = int(prefix.max())
    with torch.no_grad():
        plan = plan_segments(starts[cut:], closes[cut:], prefix)
        rest, _ = core.replay(x[cut - before :], plan, Carry(memory.detach(), prefix))
    torch.testing.assert_close(rest[before:], streamed[cut:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("policy", BASELINES)
def test_a_state_row_can_be_taken_out_and_the_old_state_stays_valid(policy: str) -> None:
    core = build(policy)
    x, starts = staggered()
    _, _, state = stream(core, x, starts)
    with torch.no_grad():
        both, _ = core.advance(x[0], state)
        again, _ = core.advance(x[0], state)
        one, _ = core.advance(x[0, 2:3], state.rows(torch.tensor([2])))
    assert torch.equal(both, again)
    torch.testing.assert_close(one[0], both[2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("policy", BASELINES)
def test_first_ratio_is_one_over_rollouts_and_partial_updates(policy: str) -> None:
    ratios = Ratios()
    agent = model(vec(4, (7, 30, 50, 90)), policy=policy, window=9, recall=2)
    agent.learn(24 * 4 * 5, callback=ratios)
    assert agent.rollout_buffer.carry is not None
    assert len(ratios.errors) == 6 and max(ratios.errors[1:]) < 1e-4
    agent = model(vec(4, (7, 30, 50, 90)), policy=policy, window=9, recall=2, partial_updates=2)
    agent.learn(24 * 4 * 3, log_interval=None)
    assert agent.logger.name_to_value["train/partial_first_ratio_error"] < 1e-4


@pytest.mark.parametrize("policy", BASELINES)
def test_save_load_and_export_give_the_same_actions(policy: str, tmp_path: Any) -> None:
    agent = model(vec(4), policy=policy, window=9).learn(24 * 4 * 2)
    agent.save(tmp_path / "model.zip")
    assert CORE_NAMES[policy] in (agent.export(tmp_path / "card") / "README.md").read_text()
    others = [MemoPPO.load(tmp_path / "model.zip", device="cpu"), load_policy(agent.export(tmp_path / "out"))]
    env, states, starts = vec(4), [None] * 3, np.ones(4, bool)
    obs = env.reset()
    for _ in range(40):
        taken = []
        for i, policy_ in enumerate([agent, *others]):
            actions, states[i] = policy_.predict(obs, states[i], starts, deterministic=True)
            taken.append(actions)
        np.testing.assert_array_equal(taken[0], taken[1])
        np.testing.assert_array_equal(taken[0], taken[2])
        obs, _, starts, _ = env.step(taken[0])


@pytest.mark.parametrize("policy", ["gru", "full_context"])
def test_the_gradient_reaches_the_first_observation(policy: str) -> None:
    core = build(policy)
    x = torch.randn(60, 2, D, requires_grad=True)
    starts = np.zeros((60, 2), bool)
    starts[0] = True
    h, _ = core.replay(x, plan_segments(starts, np.zeros_like(starts)))
    (h[-1] * torch.randn(D)).sum().backward()
    assert x.grad is not None and (x.grad[0].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("policy", BOUNDED)
def test_bounded_states_do_not_grow(policy: str) -> None:
    core = build(policy)
    state, sizes = core.initial_state(2), set()
    with torch.no_grad():
        for _ in range(200):
            _, state = core.advance(torch.randn(2, D), state, inplace=True)
            sizes.add(state.nbytes)
    assert len(sizes) == 1


def alone(policy: str, change: int, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of one trial of 30 steps, and those after step `change` was changed."""
    core = build(policy, **kwargs)
    x = torch.randn(30, 1, D, generator=torch.Generator().manual_seed(5))
    other = x.clone()
    other[change] *= -1.0  # a shift would vanish in the layers' norms
    starts = np.zeros((30, 1), bool)
    starts[0] = True
    return stream(core, x, starts)[0], stream(core, other, starts)[0]


def test_a_window_ends_where_it_should() -> None:
    """One layer sees `window` steps; each further one as many more behind those."""
    before, after = alone("window", 10, layers=1, window=6)
    same = [torch.equal(a, b) for a, b in zip(before, after)]
    assert same[:10] == [True] * 10 and same[10:16] == [False] * 6 and all(same[16:])
    before, after = alone("window", 10, layers=2, window=6)
    assert not torch.equal(before[20], after[20]) and torch.equal(before[21], after[21])


def test_full_context_is_a_window_that_is_long_enough() -> None:
    full, _ = alone("full_context", 0)
    wide, _ = alone("window", 0, window=40)
    torch.testing.assert_close(full, wide, atol=1e-5, rtol=0)
    before, after = alone("full_context", 0)
    assert not torch.equal(before[29], after[29])


def test_the_sink_takes_attention_and_gives_no_value() -> None:
    core = build("full_context", layers=1)
    x, starts = staggered()
    free, _, _ = stream(core, x, starts)
    with torch.no_grad():
        core.sinks.mul_(5.0)
        drawn, _, _ = stream(core, x, starts)
    assert not torch.allclose(free, drawn, atol=1e-3)
    assert core.sinks.shape == (1, 2, D // 2)


def test_hcam_recalls_a_past_segment_but_sends_no_gradient_there() -> None:
    before, after = alone("hcam", 2, recall=9)
    assert not torch.equal(before[25], after[25])
    core = build("hcam", recall=9)
    x = torch.randn(30, 1, D, requires_grad=True)
    starts = np.zeros((30, 1), bool)
    starts[0] = True
    h, _ = core.replay(x, plan_segments(starts, fixed_closes(starts, 5)))
    h[-1].square().sum().backward()
    assert x.grad is not None
    live = (x.grad.abs().sum((1, 2)) > 0).tolist()
    assert live == [False] * 25 + [True] * 5


def test_hcam_reads_the_best_chunks_only() -> None:
    torch.manual_seed(0)
    recall = Recall(PolicyConfig(width=D, heads=2, segment_length=5, recall=1))
    steps, x = torch.randn(1, 4, 6, D), torch.randn(1, 1, D)
    length = torch.tensor([[5, 6, 4, 0]])
    with torch.no_grad():
        base = recall(x, Chunks.of(steps, length))
        changed = []
        for i in range(4):
            other = steps.clone()
            other[:, i] *= 1.01
            changed.append(not torch.equal(base, recall(x, Chunks.of(other, length))))
        padded = steps.clone()
        padded[:, 2, 4:] = 9.0
        assert torch.equal(base, recall(x, Chunks.of(padded, length)))
    assert sum(changed) == 1 and not changed[3]


@pytest.mark.parametrize("chunks", [3, 40])  # all of them are read at once, or those that each step chose
def test_hcam_reads_the_same_of_many_steps_as_of_one_after_the_other(chunks: int) -> None:
    torch.manual_seed(1)
    recall = Recall(PolicyConfig(width=16, heads=2, segment_length=5, recall=3))
    length = torch.randint(0, 7, (4, chunks)).sort(1, descending=True).values
    length[0] = 0  # nothing is there
    held = Chunks.of(torch.randn(4, chunks, 6, 16), length)
    x = torch.randn(4, 5, 16)
    with torch.no_grad():
        together = recall(x, held)
        alone = torch.cat([recall(x[:, t : t + 1], held) for t in range(5)], 1)
    assert torch.allclose(together, alone, atol=1e-6)
    assert not together[0].any() and together[1].any()


def test_baselines_have_about_as_many_parameters_as_memo() -> None:
    def count(policy: str) -> int:
        return sum(p.numel() for p in build(policy, width=64, heads=4).parameters())

    memo = count("memo")
    for policy in BASELINES:
        assert 0.95 < count(policy) / memo < 1.51, policy


@pytest.mark.parametrize(("key", "value"), [("window", 0), ("recall", 0), ("slots", 0), ("policy", "lstm")])
def test_wrong_settings_are_refused_in_one_line(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=key) as error:
        PolicyConfig(**{key: value})
    assert "\n" not in str(error.value)


def test_jitter_as_published_concerns_cores_with_segments_only() -> None:
    callback: Callable[..., Any] = Ratios()
    model(vec(3), policy="gru", jitter="memo").learn(24 * 3 * 2, callback=callback)
    assert max(callback.errors[1:]) < 1e-4

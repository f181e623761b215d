"""Promises of the Memo core: streaming equals the dense forward; only summaries carry the past."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from embodied_mem.policy.config import PolicyConfig
from embodied_mem.policy.core import Carry, NoMemory
from embodied_mem.policy.layers import Stack
from embodied_mem.policy.segments import fixed_closes, plan_segments
from embodied_mem.policy.summary import Slots
from embodied_mem.policy.transformer import Memo

torch.set_num_threads(1)
D = 16
CONFIG = PolicyConfig(width=D, layers=2, heads=2, segment_length=5, summary_tokens=3)


@pytest.fixture
def memo() -> Memo:
    torch.manual_seed(0)
    return Memo(CONFIG)


def block_forward(stack: Stack, x: torch.Tensor) -> torch.Tensor:
    """Plain causal attention over one block (Q, d), positions from 0, written apart from the layers."""
    q_len, d = x.shape
    half = stack.head_size // 2
    angle = torch.arange(q_len)[:, None] * stack.rope_base ** (-torch.arange(half) / half)
    turn = torch.complex(angle.cos(), angle.sin())

    def rope(v: torch.Tensor) -> torch.Tensor:
        z = torch.complex(v[:, ::2].contiguous(), v[:, 1::2].contiguous()) * turn
        return torch.view_as_real(z).flatten(1)

    for layer in stack.layers:
        q, k, v = layer.qkv(layer.attention_norm(x)).split(d, dim=-1)
        heads = []
        for h in range(layer.heads):
            part = slice(h * stack.head_size, (h + 1) * stack.head_size)
            score = rope(q[:, part]) @ rope(k[:, part]).T / math.sqrt(stack.head_size)
            score = score.masked_fill(torch.ones(q_len, q_len).triu(1).bool(), -math.inf)
            heads.append(score.softmax(-1) @ v[:, part])
        x = x + layer.attention_out(torch.cat(heads, dim=-1))
        hidden = torch.nn.functional.gelu(layer.mlp_in(layer.mlp_norm(x)))
        x = x + layer.mlp_out(hidden)
    return stack.norm(x)


def dense_forward(memo: Memo, x: torch.Tensor, closes: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The whole of one trial x (T, d), block by block without caches; returns outputs and all summaries."""
    summaries = torch.zeros(0, x.shape[1])
    outputs, begin = [], 0
    ends = [t + 1 for t in range(len(x)) if closes[t]]
    for end in sorted({*ends, len(x)}):
        queries = memo.queries if end in ends else memo.queries[:0]
        h = block_forward(memo.stack, torch.cat([summaries, x[begin:end], queries]))
        outputs.append(h[len(summaries) : len(summaries) + end - begin])
        summaries = torch.cat([summaries, h[len(h) - len(queries) :]])
        begin = end
    return torch.cat(outputs), summaries


def staggered(steps: int = 37, envs: int = 4) -> tuple[torch.Tensor, np.ndarray]:
    """Embedded steps and trial starts that fall elsewhere in each environment."""
    x = torch.randn(steps, envs, D, generator=torch.Generator().manual_seed(1))
    starts = np.zeros((steps, envs), bool)
    starts[0] = True
    for t, n in ((13, 0), (1, 1), (20, 1), (21, 1), (30, 2)):
        if t < steps and n < envs and envs > 1:
            starts[t, n] = True
    return x, starts


def stream(memo: Memo, x: torch.Tensor, starts: np.ndarray, state=None, seed: int | None = 3):
    """Steps through x (T, N, d); returns outputs, closes and the last state."""
    rng = None if seed is None else np.random.default_rng(seed)
    state = memo.initial_state(x.shape[1]) if state is None else state
    outputs, closes = [], []
    with torch.no_grad():
        for t in range(len(x)):
            h, state = memo.advance(x[t], state, torch.from_numpy(starts[t]), jitter=rng)
            outputs.append(h)
            closes.append(state.closed.numpy().copy())
    return torch.stack(outputs), np.stack(closes), state


def test_streaming_equals_dense_forward_with_staggered_resets(memo: Memo) -> None:
    x, starts = staggered()
    streamed, closes, _ = stream(memo, x, starts)
    assert len({tuple(c) for c in closes.T}) == x.shape[1], "the segments must differ between environments"
    for n in range(x.shape[1]):
        bounds = [*np.flatnonzero(starts[:, n]), len(x)]
        for begin, end in itertools.pairwise(bounds):
            expected, _ = dense_forward(memo, x[begin:end, n], closes[begin:end, n])
            torch.testing.assert_close(streamed[begin:end, n], expected, atol=1e-5, rtol=0)


def test_rows_that_close_together_stream_as_the_dense_forward_says(memo: Memo) -> None:
    x, _ = staggered()
    starts = np.zeros(x.shape[:2], bool)
    starts[0] = True
    streamed, closes, _ = stream(memo, x, starts, seed=None)  # no jitter: all rows ask in the same steps
    assert (closes == closes[:, :1]).all() and closes.sum(0).min() >= 3
    for n in range(x.shape[1]):
        expected, _ = dense_forward(memo, x[:, n], closes[:, n])
        torch.testing.assert_close(streamed[:, n], expected, atol=1e-5, rtol=0)


def test_replay_equals_streaming(memo: Memo) -> None:
    x, starts = staggered()
    streamed, closes, state = stream(memo, x, starts)
    with torch.no_grad():
        replayed, end = memo.replay(x, plan_segments(starts, closes), end=True)
    torch.testing.assert_close(replayed, streamed, atol=1e-5, rtol=0)
    assert torch.equal(end.length, state.length) and torch.equal(end.closed, state.closed)
    # both states go on alike
    more = torch.randn(11, x.shape[1], D)
    none = np.zeros((11, x.shape[1]), bool)
    end = end.__class__(**{**vars(end), "limit": state.limit})
    torch.testing.assert_close(
        stream(memo, more, none, end, seed=4)[0],
        stream(memo, more, none, state, seed=4)[0],
        atol=1e-5,
        rtol=0,
    )


@pytest.mark.parametrize("cut", [1, 7, 20, 30])
def test_replay_goes_on_from_a_detached_bank_and_open_segments(memo: Memo, cut: int) -> None:
    x, starts = staggered()
    _, closes, _ = stream(memo, x, starts)
    with torch.no_grad():
        whole, _ = memo.replay(x, plan_segments(starts, closes))
        _, state = memo.replay(x[:cut], plan_segments(starts[:cut], closes[:cut]), end=True)
        prefix = state.length.numpy() * ~starts[cut]
        before = int(prefix.max())
        plan = plan_segments(starts[cut:], closes[cut:], prefix)
        assert plan.prefix == before
        rest, _ = memo.replay(x[cut - before :], plan, Carry(state.slots, prefix))
    torch.testing.assert_close(rest[before:], whole[cut:], atol=1e-5, rtol=0)


def test_inplace_streaming_equals_functional_streaming(memo: Memo) -> None:
    x, starts = staggered()
    expected, _, _ = stream(memo, x, starts)
    rng, state, outputs = np.random.default_rng(3), memo.initial_state(x.shape[1]), []
    with torch.no_grad():
        for t in range(len(x)):
            h, state = memo.advance(x[t], state, torch.from_numpy(starts[t]), jitter=rng, inplace=True)
            outputs.append(h)
    torch.testing.assert_close(torch.stack(outputs), expected, atol=1e-5, rtol=0)


def test_functional_streaming_leaves_the_old_state_as_it_was(memo: Memo) -> None:
    x, starts = staggered()
    _, _, state = stream(memo, x, starts)
    with torch.no_grad():
        for t in range(12):
            first, after = memo.advance(x[t], state)
            again, _ = memo.advance(x[t], state)
            assert torch.equal(first, again)
            state = after


def test_gradient_of_the_last_segment_reaches_the_first_observation(memo: Memo) -> None:
    x = torch.randn(30, 2, D, requires_grad=True)
    starts = np.zeros((30, 2), bool)
    starts[0] = True
    h, _ = memo.replay(x, plan_segments(starts, fixed_closes(starts, 5)))
    h[-1].square().sum().backward()
    assert x.grad is not None and (x.grad[0].abs().sum(-1) > 0).all()
    # the first observation is five segments back: only the chain of summaries leads there


def test_with_fixed_summaries_an_old_observation_changes_nothing(
    memo: Memo, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(12, 1, D)
    starts = np.zeros((12, 1), bool)
    starts[0] = True
    plan = plan_segments(starts, fixed_closes(starts, 5))
    fixed = torch.randn(1, 3, D)
    write = memo.bank.write
    with torch.no_grad():
        free, _ = memo.replay(x, plan)
        changed = x.clone()
        changed[0] *= -1.0  # a shift would vanish in the layers' norms
        free_changed, _ = memo.replay(changed, plan)
        monkeypatch.setattr(memo.bank, "write", lambda s, r, z, **kw: write(s, r, fixed, **kw))
        held, _ = memo.replay(x, plan)
        held_changed, _ = memo.replay(changed, plan)
    assert not torch.equal(free[5:], free_changed[5:]), "summaries must carry the past"
    assert torch.equal(held[5:], held_changed[5:]), "only summaries may carry the past"
    assert not torch.equal(held[1:5], held_changed[1:5])


def test_raw_keys_of_closed_segments_are_freed_when_streaming(memo: Memo) -> None:
    """With the bank's content fixed, whatever else the state holds of the old segments has no effect."""
    x, starts = staggered(10, 1)
    _, _, state = stream(memo, x, starts, seed=None)  # two segments of 5: all raw steps belong to closed ones
    assert state.length.item() == 0
    spoiled = state.cache.clone()
    spoiled[..., : CONFIG.longest_segment, :] = 1e3
    with torch.no_grad():
        h, _ = memo.advance(x[0], state)
        h_spoiled, _ = memo.advance(x[0], state.__class__(**{**vars(state), "cache": spoiled}))
    assert torch.equal(h, h_spoiled)


def test_streaming_memory_does_not_grow_with_the_raw_past(memo: Memo) -> None:
    state, sizes = memo.initial_state(2), []
    places = []
    with torch.no_grad():
        for t in range(400):
            _, state = memo.advance(torch.randn(2, D), state, inplace=True)
            if t % 100 == 99:
                sizes.append(state.cache.shape[4] - state.slots.tokens.shape[1])
                places.append(int(state.slots.count[0]))
    assert sizes == [CONFIG.longest_segment + CONFIG.summary_tokens] * 4, (
        "beside the bank's slots the cache holds one segment and the queries, however old"
    )
    assert places == [60, 120, 180, 240], "20 segments of 5 steps leave 3 summaries each per 100 steps"


def test_summaries_accumulate_and_positions_restart_per_block(
    memo: Memo, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, starts = staggered(12, 1)
    seen = []
    forward = Stack.forward

    def spy(stack, tokens, position, *rest):
        seen.append(position.tolist())
        return forward(stack, tokens, position, *rest)

    monkeypatch.setattr(Stack, "forward", spy)
    with torch.no_grad():
        _, closes, state = stream(memo, x, starts, seed=None)
        streamed, seen = seen, []
        memo.replay(x, plan_segments(starts, closes))
    assert state.slots.count.item() == 6
    assert state.slots.position[0, :6].tolist() == [0, 1, 2, 3, 4, 5]
    # replay: [steps queries] [new summaries | steps | queries] [new summaries | steps]
    assert seen == [[*range(5), 5, 6, 7], [0, 1, 2, *range(3, 8), 8, 9, 10], [3, 4, 5, 6, 7]]
    assert streamed[4] == [4, 5, 6, 7] and streamed[5] == [0, 1, 2, 3] and streamed[10] == [3, 4, 5, 6]
    # one and the same position for a step, streaming or not
    flat = [p for positions in streamed for p in positions]
    assert sorted(flat) == sorted([p for positions in seen for p in positions])


def test_summaries_are_the_final_norm_outputs_of_the_queries(memo: Memo) -> None:
    x, starts = staggered(10, 1)
    _, closes, state = stream(memo, x, starts, seed=None)
    _, summaries = dense_forward(memo, x[:, 0], closes[:, 0])
    torch.testing.assert_close(state.slots.tokens[0, :6], summaries, atol=1e-5, rtol=0)


def test_a_state_row_can_be_taken_out_of_its_batch(memo: Memo) -> None:
    x, starts = staggered()
    _, _, state = stream(memo, x, starts)
    with torch.no_grad():
        both, _ = memo.advance(x[0], state)
        one, _ = memo.advance(x[0, 2:3], state.rows(torch.tensor([2])))
    torch.testing.assert_close(one[0], both[2], atol=1e-6, rtol=0)


def test_no_memory_sees_the_step_alone() -> None:
    core = NoMemory(CONFIG)
    x, starts = staggered()
    changed = x.clone()
    changed[:20] *= -1.0
    plan = plan_segments(starts, np.zeros_like(starts))
    with torch.no_grad():
        h, _ = core.replay(x, plan)
        h_changed, _ = core.replay(changed, plan)
        streamed, _ = core.advance(x[-1], core.initial_state(x.shape[1]))
    assert torch.equal(h[20:], h_changed[20:])
    torch.testing.assert_close(streamed, h[-1], atol=1e-6, rtol=0)


def test_no_memory_has_the_parameters_of_memo_but_for_the_queries(memo: Memo) -> None:
    ours, theirs = dict(memo.named_parameters()), dict(NoMemory(CONFIG).named_parameters())
    assert set(ours) - set(theirs) == {"queries"} and set(theirs) <= set(ours)


def test_empty_slots_are_not_seen(memo: Memo) -> None:
    """A bank padded with empty slots gives what the same bank without them gives."""
    starts = np.zeros((3, 2), bool)
    x = torch.randn(3, 2, D)
    tokens = torch.randn(2, 3, D)
    small = Slots(tokens, torch.arange(3).expand(2, 3), torch.tensor([3, 3]))
    from embodied_mem.policy.summary import ABSENT, pad_to

    large = Slots(pad_to(tokens, 9, 7.0), pad_to(small.position, 9, ABSENT), small.count)
    plan = plan_segments(starts, np.zeros_like(starts))
    with torch.no_grad():
        a, _ = memo.replay(x, plan, Carry(small, np.zeros(2, np.int64)))
        b, _ = memo.replay(x, plan, Carry(large, np.zeros(2, np.int64)))
        c, _ = memo.replay(x, plan)
    torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    assert not torch.allclose(a, c)

"""Memo: a transformer over segments that carries learned summaries (github.com/gunshi/memo).

At the end of each segment, S learned queries are appended; their final-norm outputs are the
summary. Summaries re-enter the following segments as input tokens, before the steps:

    segment 0   [o0 o1 o2 | q0 q1]                 z = outputs of q0 q1
    segment 1   [z0 z1 | o3 o4 o5 | q0 q1]         attention is causal; positions restart per block
    segment 2   [z0 z1 z2 z3 | o6 ...              raw steps of closed segments are gone

The summaries' keys and values do not depend on what follows them, so they are computed once,
together with the first step after the segment's end. `advance` (one step, streaming) and
`replay` (a whole rollout, training) run the same layers on the same tokens and positions.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embodied_mem.policy.config import PolicyConfig
from embodied_mem.policy.core import Carry, Core
from embodied_mem.policy.layers import Stack, pack
from embodied_mem.policy.segments import SegmentPass, SegmentPlan
from embodied_mem.policy.summary import ABSENT, BANKS, Slots, pad_to, put


@dataclass(frozen=True, eq=False)
class MemoState:
    """What the policy carries from step to step, for B environments.

    The cache holds the raw steps of the open segment in its first `longest_segment` places and
    the bank's slots behind them. It does not grow with the raw past.

    Attributes:
        slots: the summary bank's content.
        cache: (B, C, layers, 2, H, d / H) keys (rotated) and values.
        cache_position: (B, C) int64, `ABSENT` where a place holds nothing.
        length: (B,) int64, raw steps in the open segment.
        limit: (B,) int64, steps at which the open segment will be closed.
        closed: (B,) bool, True where the last step closed a segment.
        fresh: (B, S) int64, the slots which that changed, not yet projected.
    """

    slots: Slots
    cache: Tensor
    cache_position: Tensor
    length: Tensor
    limit: Tensor
    closed: Tensor
    fresh: Tensor

    def rows(self, index: Tensor) -> MemoState:
        """Returns a copy of some batch rows; `index` is int64 (R,)."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        return MemoState(**{k: v.rows(index) if isinstance(v, Slots) else v[index] for k, v in parts.items()})

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        parts: list[Any] = [getattr(self, f.name) for f in fields(self)]
        parts += [self.slots.tokens, self.slots.position, self.slots.count]
        return sum(p.numel() * p.element_size() for p in parts if isinstance(p, Tensor))


@dataclass(frozen=True, eq=False)
class _Front:
    """Where `replay` stands, for R rows.

    Attributes:
        slots: the bank's content.
        fresh: (R, P) int64, the slots that changed and are not projected yet.
        context: (R, C, layers, 2, H, d / H) keys and values of the slots that are.
        context_position: (R, C) int64.
    """

    slots: Slots
    fresh: Tensor
    context: Tensor
    context_position: Tensor

    def fresh_tokens(self) -> Tensor:
        """Returns the tokens (R, P, d) of the changed slots."""
        return self.slots.tokens.gather(1, self.fresh[..., None].expand(-1, -1, self.slots.tokens.shape[2]))


class Memo(Core):
    """The transformer with summaries."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.stack = Stack(config)
        self.bank = BANKS[config.bank](config)
        self.queries = nn.Parameter(torch.randn(config.summary_tokens, config.width) * 0.05)

    def initial_state(self, batch: int) -> MemoState:
        """Returns the state of `batch` environments before their first step."""
        c, device = self.config, self.queries.device
        zeros = torch.zeros(batch, dtype=torch.int64, device=device)
        return MemoState(
            slots=self.bank.empty(batch, device),
            cache=torch.zeros(
                batch, c.longest_segment, c.layers, 2, c.heads, c.width // c.heads, device=device
            ),
            cache_position=torch.full((batch, c.longest_segment), ABSENT, device=device),
            length=zeros,
            limit=zeros + c.segment_length,
            closed=torch.zeros(batch, dtype=torch.bool, device=device),
            fresh=torch.zeros(batch, c.summary_tokens, dtype=torch.int64, device=device),
        )

    def carried(self, state: MemoState) -> tuple[Slots | None, NDArray[np.int64]]:
        """Returns the bank and the lengths of the open segments; see `Core.carried`."""
        return state.slots, state.length.cpu().numpy()

    # ---------------------------------------------------------------- streaming

    def advance(
        self,
        x: Tensor,
        state: MemoState,
        start: Tensor | None = None,
        *,
        jitter: np.random.Generator | None = None,
        inplace: bool = False,
    ) -> tuple[Tensor, MemoState]:
        """Takes one step; see `Core.advance`.

        The pass holds [changed slots | step | queries]: changed slots only where the step before
        closed a segment, queries only where this one does.
        """
        if start is not None and bool(start.any()):
            state = self._clear(state, start, jitter)
        opened = state.closed.nonzero()[:, 0]  # rows whose new summaries are not projected yet
        closing = state.length + 1 >= state.limit
        closed = closing.nonzero()[:, 0]
        s, longest = self.config.summary_tokens, self.config.longest_segment
        here = (state.slots.count + state.length)[:, None]  # (B, 1) position of this step
        tokens, position, key_position = [x[:, None]], [here], [here]
        if len(opened):
            fresh_position = state.slots.position.gather(1, state.fresh)  # (B, S)
            there = state.closed[:, None]
            tokens.insert(0, state.slots.tokens.gather(1, state.fresh[..., None].expand(-1, -1, x.shape[1])))
            # rows that closed nothing hold padding here: it must see something, and nobody may see it
            position.insert(0, torch.where(there, fresh_position, here))
            key_position.insert(0, torch.where(there, fresh_position, ABSENT))
        if len(closed):
            tokens.append(self.queries.expand(len(x), -1, -1))
            position.append(here + 1 + torch.arange(s, device=x.device))
            key_position.append(position[-1])
        h, made = self.stack(
            torch.cat(tokens, 1),
            torch.cat(position, 1),
            torch.cat(key_position, 1),
            state.cache,
            state.cache_position,
        )
        first = s if len(opened) else 0
        cache, cache_position = state.cache, state.cache_position
        if len(opened):
            index = (opened[:, None], longest + state.fresh[opened])
            cache = put(cache, index, pack(made, 0, s)[opened], inplace)
            cache_position = put(cache_position, index, key_position[0][opened], inplace)
        place = (torch.arange(len(x), device=x.device), state.length)
        cache = put(cache, place, pack(made, first, 1)[:, 0], inplace)
        cache_position = put(cache_position, place, here[:, 0], inplace)
        state = replace(
            state, cache=cache, cache_position=cache_position, length=state.length + 1, closed=closing
        )
        if len(closed):
            state = self._close(state, closed, h[closed, first + 1 :], jitter, inplace)
        return h[:, first], state

    def _clear(self, state: MemoState, start: Tensor, jitter: np.random.Generator | None) -> MemoState:
        """Empties the rows in which a trial starts."""
        limit = self._draw(len(start), jitter, state.limit)
        return replace(
            state,
            slots=self.bank.clear(state.slots, start),
            cache_position=state.cache_position.masked_fill(start[:, None], ABSENT),
            length=state.length.masked_fill(start, 0),
            limit=torch.where(start, limit, state.limit),
            closed=state.closed & ~start,
        )

    def _close(
        self,
        state: MemoState,
        rows: Tensor,
        summary: Tensor,
        jitter: np.random.Generator | None,
        inplace: bool,
    ) -> MemoState:
        """Writes the summaries of the closed segments (`rows`) and frees their raw steps."""
        slots, changed = self.bank.write(state.slots, rows, summary, inplace=inplace)
        capacity = self.config.longest_segment + slots.tokens.shape[1]
        raw = torch.arange(self.config.longest_segment, device=rows.device).expand(len(rows), -1)
        hidden = torch.cat([raw, self.config.longest_segment + changed], 1)  # gone, or not projected yet
        absent = torch.tensor(ABSENT, device=rows.device)
        position = pad_to(state.cache_position, capacity, ABSENT)
        return replace(
            state,
            slots=slots,
            cache=pad_to(state.cache, capacity),
            cache_position=put(position, (rows[:, None], hidden), absent, inplace),
            length=state.length.index_fill(0, rows, 0),
            limit=state.limit.index_copy(0, rows, self._draw(len(rows), jitter, state.limit)),
            fresh=state.fresh.index_copy(0, rows, changed),
        )

    def _draw(self, count: int, jitter: np.random.Generator | None, like: Tensor) -> Tensor:
        """Returns the lengths of `count` new segments."""
        if jitter is None:
            return torch.full((count,), self.config.segment_length, dtype=like.dtype, device=like.device)
        low, high = self.config.segment_range
        return torch.from_numpy(jitter.integers(low, high + 1, count)).to(like)

    # ---------------------------------------------------------------- whole sequences

    def replay(
        self, x: Tensor, plan: SegmentPlan, carry: Carry | None = None, *, end: bool = False
    ) -> tuple[Tensor, MemoState | None]:
        """Runs whole sequences, one pass per segment index over all rows; see `Core.replay`."""
        flat = x.flatten(0, 1)  # (E * N, d)
        state = self.initial_state(x.shape[1]) if end else None
        front = self._begin(plan, carry)
        features = []
        for segment in plan.passes:
            rows, longest = segment.steps.shape
            first = front.fresh.shape[1]
            ask = segment.following > 0 or (end and bool(segment.closed.any()))
            h, made, step_position = self._pass(flat, segment, front, ask)
            features.append(h[:, first : first + longest].flatten(0, 1).index_select(0, segment.take))
            front = self._project(front, made)
            summary = h[:, first + longest :]  # (R, S, d)
            if state is not None:
                ending = torch.arange(segment.following, rows, device=x.device)
                ending = ending[plan.last[ending]]
                raw = pack(made, first, longest)
                state = self._end(state, plan.env, segment, ending, front, raw, step_position, summary)
            if segment.following:
                front = self._follow(front, summary[: segment.following])
        grid = torch.cat([segment.grid for segment in plan.passes])
        out = torch.zeros_like(flat).index_copy(0, grid, torch.cat(features))
        return out.view(x.shape), state

    def _begin(self, plan: SegmentPlan, carry: Carry | None) -> _Front:
        """Starts all rows: empty, or from the carried bank, all of whose slots are projected anew."""
        rows, device = len(plan.env), self.queries.device
        slots = self.bank.empty(rows, device)
        if carry is not None:
            slots = self.bank.clear(carry.slots.rows(plan.env), ~plan.carried)
        c, size = self.config, slots.tokens.shape[1]
        return _Front(
            slots=slots,
            fresh=torch.arange(size, device=device).expand(rows, -1),
            context=torch.zeros(rows, size, c.layers, 2, c.heads, c.width // c.heads, device=device),
            context_position=torch.full((rows, size), ABSENT, device=device),
        )

    def _pass(
        self, flat: Tensor, segment: SegmentPass, front: _Front, ask: bool
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]], Tensor]:
        """Runs [changed slots | steps | queries] of one segment of every row.

        Returns the outputs, the keys and values, and the steps' positions (`ABSENT` where padded).
        """
        rows, longest = segment.steps.shape
        offset = torch.arange(longest, device=flat.device)
        here = front.slots.count[:, None]  # (R, 1) position of the segment's first step
        slot_position = front.slots.position.gather(1, front.fresh)
        there = offset < segment.length[:, None]
        step_position = torch.where(there, here + offset, ABSENT)
        tokens = [front.fresh_tokens(), flat.index_select(0, segment.steps.flatten()).view(rows, longest, -1)]
        # an absent token must see something, and nobody may see it
        position = [torch.where(slot_position == ABSENT, here, slot_position), here + offset]
        key_position = [slot_position, step_position]
        if ask:
            tokens.append(self.queries.expand(rows, -1, -1))
            position.append(
                here + segment.length[:, None] + torch.arange(len(self.queries), device=flat.device)
            )
            key_position.append(position[-1])
        h, made = self.stack(
            torch.cat(tokens, 1),
            torch.cat(position, 1),
            torch.cat(key_position, 1),
            front.context,
            front.context_position,
        )
        return h, made, step_position

    def _project(self, front: _Front, made: list[tuple[Tensor, Tensor]]) -> _Front:
        """Adds the keys and values of the changed slots to the context."""
        if not front.fresh.shape[1]:
            return front
        index = (torch.arange(len(front.fresh), device=front.fresh.device)[:, None], front.fresh)
        return replace(
            front,
            context=put(front.context, index, pack(made, 0, front.fresh.shape[1]), False),
            context_position=front.slots.position,
        )

    def _follow(self, front: _Front, summary: Tensor) -> _Front:
        """Closes the segments of the rows that go on."""
        count = len(summary)
        rows = torch.arange(count, device=summary.device)
        slots, changed = self.bank.write(front.slots.rows(slice(count)), rows, summary, inplace=False)
        size = slots.tokens.shape[1]
        position = pad_to(front.context_position[:count], size, ABSENT)
        # a slot that is written again is no longer seen as it was
        position = position.scatter(1, changed, ABSENT)
        return _Front(slots, changed, pad_to(front.context[:count], size), position)

    def _end(
        self,
        state: MemoState,
        env: Tensor,
        segment: SegmentPass,
        rows: Tensor,
        front: _Front,
        raw: Tensor,
        step_position: Tensor,
        summary: Tensor,
    ) -> MemoState:
        """Stores the rows that end with the rollout as the state of their environments."""
        if not len(rows):
            return state
        longest = self.config.longest_segment
        slots, context_position = front.slots, front.context_position
        closed = segment.closed[rows]
        fresh = state.fresh
        if bool(closed.any()):
            slots, changed = self.bank.write(slots, rows[closed], summary[rows[closed]], inplace=False)
            fresh = fresh.index_copy(0, env[rows[closed]], changed)
        size = max(state.slots.tokens.shape[1], slots.tokens.shape[1])
        env = env[rows]
        into = Slots(
            pad_to(state.slots.tokens, size).index_copy(0, env, pad_to(slots.tokens[rows], size)),
            pad_to(state.slots.position, size, ABSENT).index_copy(
                0, env, pad_to(slots.position[rows], size, ABSENT)
            ),
            state.slots.count.index_copy(0, env, slots.count[rows]),
        )
        cache = torch.cat([pad_to(raw[rows], longest), front.context[rows]], 1)
        position = torch.cat(
            [
                pad_to(step_position[rows].masked_fill(closed[:, None], ABSENT), longest, ABSENT),
                context_position[rows],
            ],
            1,
        )
        full = longest + size
        return replace(
            state,
            slots=into,
            cache=pad_to(state.cache, full).index_copy(0, env, pad_to(cache, full)),
            cache_position=pad_to(state.cache_position, full, ABSENT).index_copy(
                0, env, pad_to(position, full, ABSENT)
            ),
            length=state.length.index_copy(0, env, segment.length[rows].masked_fill(closed, 0)),
            closed=state.closed.index_copy(0, env, closed),
            fresh=fresh,
        )

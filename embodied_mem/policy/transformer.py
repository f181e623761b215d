"""Memo: a transformer over segments that carries learned summaries (github.com/gunshi/memo).

At the end of each segment, S learned queries are appended; their final-norm outputs are the
summary. Summaries re-enter the following segments as input tokens, before the steps:

    segment 0   [o0 o1 o2 | q0 q1]                 z = outputs of q0 q1
    segment 1   [z0 z1 | o3 o4 o5 | q0 q1]         attention is causal; positions restart per block
    segment 2   [z0 z1 z2 z3 | o6 ...              raw steps of closed segments are gone

The summaries' keys and values do not depend on what follows them, so they are computed once,
together with the first step after the segment's end. `advance` (one step, streaming) and
`replay` (a whole rollout, training) run the same layers on the same tokens and positions.
Which summaries stay, and as what, is the bank's affair.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embodied_mem.policy.block import Block, BlockCore
from embodied_mem.policy.core import Carry
from embodied_mem.policy.layers import pack
from embodied_mem.policy.memo_state import MemoState
from embodied_mem.policy.places import Visit, Whereabouts, visit
from embodied_mem.policy.segments import SegmentPass, SegmentPlan, draw_lengths
from embodied_mem.policy.summary import ABSENT, Slots, pad_to, put

SPLIT = 4
"""Where at most one row in this many opens or closes a segment, only these rows run its tokens."""


class Memo(BlockCore):
    """The transformer with summaries."""

    segmented: ClassVar[bool] = True

    def report(self) -> dict[str, float]:
        """Returns what the bank reports; see `Core.report`."""
        return self.bank.report()

    def initial_state(self, batch: int) -> MemoState:
        """Returns the state of `batch` environments before their first step."""
        c, device = self.config, self.queries.device
        zeros = torch.zeros(batch, dtype=torch.int64, device=device)
        slots = self.bank.empty(batch, device)
        size = c.longest_segment + slots.tokens.shape[1]
        trail = None
        if self.spatial:
            place = torch.zeros(batch, c.longest_segment, dtype=torch.int64, device=device)
            trail = Whereabouts(place, torch.zeros(*place.shape, 4, device=device))
        return MemoState(
            slots=slots,
            cache=torch.zeros(batch, size, c.layers, 2, c.heads, c.width // c.heads, device=device),
            cache_position=torch.full((batch, size), ABSENT, device=device),
            length=zeros,
            limit=zeros + c.segment_length,
            closed=torch.zeros(batch, dtype=torch.bool, device=device),
            fresh=torch.zeros(batch, c.summary_tokens, dtype=torch.int64, device=device),
            trail=trail,
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
        where: Whereabouts | None = None,
        jitter: np.random.Generator | None = None,
        inplace: bool = False,
    ) -> tuple[Tensor, MemoState]:
        """Takes one step; see `Core.advance`.

        One pass holds [changed slots | step | queries]: changed slots only where the step before
        closed a segment, queries only where this one does. Where few rows do either, these rows run
        them in small passes of their own, before and behind that of the steps.
        """
        if start is not None and bool(start.any()):
            state = self._clear(state, start, jitter)
        opened = state.closed.nonzero()[:, 0]  # rows whose new summaries are not projected yet
        closing = state.length + 1 >= state.limit
        closed = closing.nonzero()[:, 0]
        split = SPLIT * max(len(opened), len(closed)) <= len(x)
        every = torch.arange(len(x), device=x.device)
        trail = state.trail
        if trail is not None:
            assert where is not None, "this core must be told where the steps are taken"
            trail = trail.masked_put(every, state.length, where)
        if split and len(opened):
            nothing = x.new_zeros(len(opened), 0, x.shape[1])
            made = self.run_block(
                self._block(state, opened), nothing, torch.zeros_like(opened), False, None, None
            )[1]
            state = self._keep_slots(state, opened, made, inplace)
        fresh = 0 if split or not len(opened) else self.config.summary_tokens
        ask = bool(len(closed)) and not split
        block = self._block(state, None, fresh)
        at = None if where is None else where.view(-1, 1)
        h, made, position = self.run_block(block, x[:, None], torch.ones_like(state.length), ask, at, at)
        if fresh:
            state = self._keep_slots(state, opened, [(k[opened], v[opened]) for k, v in made], inplace)
        place = (every, state.length)
        state = replace(
            state,
            cache=put(state.cache, place, pack(made, fresh, 1)[:, 0], inplace),
            cache_position=put(state.cache_position, place, position[:, 0], inplace),
            length=state.length + 1,
            closed=closing,
            trail=trail,
        )
        if len(closed):
            summary = self._ask(state, closed, where) if split else h[closed, fresh + 1 :]
            state = self._close(state, closed, summary, jitter, inplace)
        return h[:, fresh], state

    def _ask(self, state: MemoState, rows: Tensor, where: Whereabouts | None) -> Tensor:
        """Runs the summary queries of some rows alone, behind their cached steps; returns (R, S, d)."""
        nothing = self.queries.new_zeros(len(rows), 0, self.queries.shape[1])
        at = None if where is None else where.rows(rows).view(-1, 1)
        steps = None if at is None else Whereabouts(at.place[:, :0], at.pose[:, :0])
        none = torch.zeros_like(rows)
        return self.run_block(self._block(state, rows, 0), nothing, none, True, steps, at)[0]

    def _block(self, state: MemoState, rows: Tensor | None, fresh: int | None = None) -> Block:
        """Returns what a pass of streaming runs on: some rows, or all; `fresh` slots or all that changed."""
        part = state if rows is None else state.rows(rows)
        return Block(
            slots=part.slots,
            fresh=part.fresh if fresh is None else part.fresh[:, :fresh],
            there=state.closed if rows is None else None,
            context=part.cache,
            context_position=part.cache_position,
            raw=self.config.longest_segment,
            begin=part.length,
        )

    def _keep_slots(
        self, state: MemoState, rows: Tensor, made: list[tuple[Tensor, Tensor]], inplace: bool
    ) -> MemoState:
        """Stores the keys and values of the changed slots of `rows`, the first tokens that were made."""
        fresh = state.fresh[rows]
        index = (rows[:, None], self.config.longest_segment + fresh)
        position = state.slots.position[rows[:, None], fresh]
        return replace(
            state,
            cache=put(state.cache, index, pack(made, 0, fresh.shape[1]), inplace),
            cache_position=put(state.cache_position, index, position, inplace),
        )

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
        spent = visit(None if state.trail is None else state.trail.rows(rows), state.length[rows])
        slots, changed = self.bank.write(state.slots, rows, summary, inplace=inplace, visit=spent)
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
        c = self.config
        return draw_lengths(count, c.segment_length, c.segment_range, jitter, like)

    # ---------------------------------------------------------------- whole sequences

    def replay(
        self,
        x: Tensor,
        plan: SegmentPlan,
        carry: Carry | None = None,
        *,
        where: Whereabouts | None = None,
        end: bool = False,
    ) -> tuple[Tensor, MemoState | None]:
        """Runs whole sequences, one pass per segment index over all rows; see `Core.replay`."""
        flat = x.flatten(0, 1)  # (E * N, d)
        trails = None if where is None else where.view(-1)
        state = self.initial_state(x.shape[1]) if end else None
        block = self._begin(plan, carry)
        features = []
        for segment in plan.passes:
            rows, longest = segment.steps.shape
            first = block.fresh.shape[1]
            ask = segment.following > 0 or (end and bool(segment.closed.any()))
            steps = flat.index_select(0, segment.steps.flatten()).view(rows, longest, -1)
            trail = last = None
            if trails is not None:
                trail = trails.rows(segment.steps)  # (R, L)
                row = torch.arange(rows, device=x.device)
                last = trail.rows((row, segment.length - 1)).view(-1, 1)
            h, made, step_position = self.run_block(block, steps, segment.length, ask, trail, last)
            features.append(h[:, first : first + longest].flatten(0, 1).index_select(0, segment.take))
            block = self._project(block, made)
            summary = h[:, first + longest :]  # (R, S, d)
            if state is not None:
                ending = torch.arange(segment.following, rows, device=x.device)
                ending = ending[plan.last[ending]]
                if len(ending):
                    raw = pack(made, first, longest)
                    state = self._end(
                        state, plan.env, segment, ending, block, raw, step_position, summary, trail
                    )
            if segment.following:
                following = slice(segment.following)
                part = None if trail is None else trail.rows(following)
                block = self._follow(block, summary[following], visit(part, segment.length[following]))
        grid = torch.cat([segment.grid for segment in plan.passes])
        out = torch.zeros_like(flat).index_copy(0, grid, torch.cat(features))
        return out.view(x.shape), state

    def _begin(self, plan: SegmentPlan, carry: Carry | None) -> Block:
        """Starts all rows: empty, or from the carried bank, all of whose slots are projected anew."""
        rows, device = len(plan.env), self.queries.device
        slots = self.bank.empty(rows, device)
        if carry is not None:
            slots = self.bank.clear(carry.slots.rows(plan.env), ~plan.carried)
        c, size = self.config, slots.tokens.shape[1]
        known = 0 if carry is None else size
        return Block(
            slots=slots,
            fresh=torch.arange(known, device=device).expand(rows, -1),
            there=None,
            context=torch.zeros(rows, size, c.layers, 2, c.heads, c.width // c.heads, device=device),
            context_position=torch.full((rows, size), ABSENT, device=device),
            raw=0,
            begin=torch.zeros(rows, dtype=torch.int64, device=device),
        )

    def _project(self, block: Block, made: list[tuple[Tensor, Tensor]]) -> Block:
        """Adds the keys and values of the changed slots to the context."""
        if not block.fresh.shape[1]:
            return block
        index = (torch.arange(len(block.fresh), device=block.fresh.device)[:, None], block.fresh)
        return replace(
            block,
            context=put(block.context, index, pack(made, 0, block.fresh.shape[1]), False),
            context_position=block.slots.position,
        )

    def _follow(self, block: Block, summary: Tensor, spent: Visit) -> Block:
        """Closes the segments of the rows that go on."""
        count = len(summary)
        rows = torch.arange(count, device=summary.device)
        held = block.slots.rows(slice(count))
        slots, changed = self.bank.write(held, rows, summary, inplace=False, visit=spent)
        size = slots.tokens.shape[1]
        position = pad_to(block.context_position[:count], size, ABSENT)
        return replace(
            block,
            slots=slots,
            fresh=changed,
            context=pad_to(block.context[:count], size),
            # a slot that is written again is no longer seen as it was
            context_position=position.scatter(1, changed, ABSENT),
            begin=block.begin[:count],
        )

    def _end(
        self,
        state: MemoState,
        env: Tensor,
        segment: SegmentPass,
        rows: Tensor,
        block: Block,
        raw: Tensor,
        step_position: Tensor,
        summary: Tensor,
        trail: Whereabouts | None,
    ) -> MemoState:
        """Stores the rows that end with the rollout as the state of their environments."""
        longest = self.config.longest_segment
        slots, closed, fresh = block.slots, segment.closed[rows], state.fresh
        if bool(closed.any()):
            ended = rows[closed]
            spent = visit(None if trail is None else trail.rows(ended), segment.length[ended])
            slots, changed = self.bank.write(slots, ended, summary[ended], inplace=False, visit=spent)
            fresh = fresh.index_copy(0, env[ended], changed)
            size = slots.tokens.shape[1]
            position = pad_to(block.context_position, size, ABSENT)
            absent = torch.tensor(ABSENT, device=env.device)
            block = replace(
                block,
                context=pad_to(block.context, size),
                context_position=position.index_put((ended[:, None], changed), absent),
            )
        env = env[rows]
        into = state.slots.with_rows(env, slots.rows(rows))
        cache = torch.cat([pad_to(raw[rows], longest), block.context[rows]], 1)
        position = pad_to(step_position[rows].masked_fill(closed[:, None], ABSENT), longest, ABSENT)
        position = torch.cat([position, block.context_position[rows]], 1)
        full = longest + into.tokens.shape[1]
        if state.trail is not None and trail is not None:
            place, pose = (pad_to(part[rows], longest) for part in (trail.place, trail.pose))
            kept = state.trail
            kept = Whereabouts(kept.place.index_copy(0, env, place), kept.pose.index_copy(0, env, pose))
            state = replace(state, trail=kept)
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

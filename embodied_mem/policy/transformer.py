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

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from embodied_mem.policy.attention import Grid, PackedAttention, as_cache, widened
from embodied_mem.policy.core import Carry
from embodied_mem.policy.memo_state import MemoState
from embodied_mem.policy.packing import Packing, pack_rows
from embodied_mem.policy.places import Whereabouts, visit
from embodied_mem.policy.segments import SegmentPass, SegmentPlan
from embodied_mem.policy.streaming import StreamingMemo
from embodied_mem.policy.summary import ABSENT, Slots, pad_to


@dataclass(frozen=True, eq=False)
class Past:
    """What a pass over R rows finds.

    Attributes:
        slots: the bank's content.
        fresh: (R, P) int64, slots that changed and are projected in the pass.
        context: per layer (R, M, 2, H, d / H) keys and values of the slots.
        holds: (R,) bool, rows that have slots; None: all.
    """

    slots: Slots
    fresh: Tensor
    context: list[Tensor]
    holds: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Made:
    """What a pass over R rows made.

    Attributes:
        features: (V, d) of the steps, packed.
        summary: (A, S, d) of the first A rows, which asked.
        raw: per layer (B, W, 2, H, d / H) keys and values of steps and queries.
        packing: where they stand.
        past: as it was found, with the fresh slots projected.
        trail: (R, L) where the steps were taken, or None.
    """

    features: Tensor
    summary: Tensor
    raw: list[Tensor]
    packing: Packing
    past: Past
    trail: Whereabouts | None


class Memo(StreamingMemo):
    """The transformer with summaries."""

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
        past, features = self._begin(plan, carry), []
        for segment in plan.passes:
            asked = len(segment.length) if end and bool(segment.closed.any()) else segment.following
            trail = None if trails is None else trails.rows(segment.steps)
            made = self._run(past, flat.index_select(0, segment.grid), segment, asked, trail)
            features.append(made.features)
            if state is not None:
                state = self._end(state, plan, segment, made)
            if segment.following:
                past = self._follow(made, segment)
        grid = torch.cat([segment.grid for segment in plan.passes])
        out = torch.zeros_like(flat).index_copy(0, grid, torch.cat(features))
        return out.view(x.shape), state

    def _begin(self, plan: SegmentPlan, carry: Carry | None) -> Past:
        """Starts all rows: empty, or from the carried bank, all of whose slots are projected anew."""
        c, rows, device = self.config, len(plan.env), self.queries.device
        slots = self.bank.empty(rows, device)
        if carry is not None:
            slots = self.bank.clear(carry.slots.rows(plan.env), ~plan.carried)
        size = slots.tokens.shape[1]
        shape = (rows, size, 2, c.heads, c.width // c.heads)
        context = [torch.zeros(shape, device=device, dtype=self.queries.dtype) for _ in range(c.layers)]
        index = plan.carried.nonzero()[:, 0]
        if carry is not None and size and len(index):
            held = slots.rows(index)
            every = torch.arange(size, device=device).expand(len(index), -1)
            own = Past(held, every, [part[index] for part in context])
            attention = PackedAttention(None, None, own.context, every, self._linked(own))
            self.stack(held.tokens.flatten(0, 1), _rotation(held.position).flatten(), attention)
            context = [part.index_copy(0, index, new) for part, new in zip(context, attention.context)]
        return Past(slots, torch.zeros(rows, 0, dtype=torch.int64, device=device), context, plan.carried)

    def _run(
        self, past: Past, steps: Tensor, segment: SegmentPass, asked: int, trail: Whereabouts | None
    ) -> Made:
        """Runs [changed slots | steps | queries] of one segment of each row, packed.

        Args:
            past: what the rows find.
            steps: (V, d) embedded steps.
            segment: where they belong.
            asked: how many rows, from the first, are asked for a summary.
            trail: (R, L) where the steps were taken; spatial banks need it.
        """
        slots, size, device = past.slots, len(self.queries), steps.device
        rows, longest = segment.steps.shape
        ask = torch.arange(rows, device=device) < asked
        packing = pack_rows(segment.length + size * ask, past.holds)
        # a row's queries stand right behind its steps, so that its columns are positions
        row = torch.cat([segment.take // longest, torch.arange(asked, device=device).repeat_interleave(size)])
        column = segment.length[:asked, None] + torch.arange(size, device=device)  # (A, S)
        column = torch.cat([segment.take % longest, column.flatten()])
        tokens, positions = [steps, self.queries.repeat(asked, 1)], [slots.count[row] + column]
        fresh = past.fresh
        if fresh.numel():
            tokens.insert(0, slots.tokens[torch.arange(rows, device=device)[:, None], fresh].flatten(0, 1))
            positions.insert(0, _rotation(slots.position.gather(1, fresh)).flatten())
        attention = self._attention(past, packing, packing.grid(row, column), segment, trail)
        h = self.stack(torch.cat(tokens), torch.cat(positions), attention)
        features, summary = h.split([len(steps), asked * size])
        context = attention.context if packing.identity else past.context
        past = replace(past, fresh=fresh[:, :0], context=context)
        return Made(features, summary.view(asked, size, h.shape[1]), attention.made, packing, past, trail)

    def _attention(
        self, past: Past, packing: Packing, grid: Grid, segment: SegmentPass, trail: Whereabouts | None
    ) -> PackedAttention:
        """Returns the attention of a pass over steps and queries; see `_run`."""
        mask, column, context, bias = packing.mask(), packing.column(), past.context, None
        own = packing.row.clamp(min=0)  # (B, W)
        if past.slots.tokens.shape[1]:
            anchor = packing.anchor
            slots = past.slots if packing.identity else past.slots.rows(anchor)
            position = slots.count[:, None] + column
            seen = slots.position[:, None] <= position[:, :, None]
            mask = torch.cat([mask, seen & (packing.row == anchor[:, None])[:, :, None]], 2)
            if not packing.identity:
                context = [part.index_select(0, anchor) for part in context]
            if trail is not None and self.spatial:
                spent = torch.minimum(column, segment.length[own] - 1)  # queries ask where the last step was
                bias = self._bias(slots, trail.rows((own, spent)), spent)
        return PackedAttention(grid, mask[:, None], context, past.fresh, self._linked(past), bias=bias)

    def _linked(self, past: Past) -> Tensor | None:
        """Returns which slots the fresh ones see: (R, 1, P, M); None where each sees itself alone."""
        if not self.bank.linked or not past.fresh.numel():
            return None
        slots = past.slots
        own = torch.arange(slots.tokens.shape[1], device=past.fresh.device) == past.fresh[:, :, None]
        earlier = slots.position[:, None] <= slots.position.gather(1, past.fresh)[:, :, None]
        return (own | (earlier & (slots.position < ABSENT)[:, None]))[:, None]

    def _follow(self, made: Made, segment: SegmentPass) -> Past:
        """Closes the segments of the rows that go on."""
        going = slice(segment.following)
        rows = torch.arange(segment.following, device=segment.length.device)
        trail = None if made.trail is None else made.trail.rows(going)
        spent = visit(trail, segment.length[going])
        held = made.past.slots.rows(going)
        slots, changed = self.bank.write(held, rows, made.summary[going], inplace=False, visit=spent)
        context = [pad_to(part[going], slots.tokens.shape[1]) for part in made.past.context]
        return Past(slots, changed, context)

    def _end(self, state: MemoState, plan: SegmentPlan, segment: SegmentPass, made: Made) -> MemoState:
        """Stores the rows that end here, and with them the rollout, as the state of their environments."""
        rows = torch.arange(segment.following, len(segment.length), device=segment.length.device)
        rows = rows[plan.last[rows]]
        if not len(rows):
            return state
        c, slots, env = self.config, made.past.slots, plan.env[rows]
        closed, length, longest = segment.closed[rows], segment.length[rows], segment.steps.shape[1]
        offset = torch.arange(c.longest_segment, device=rows.device)
        raw_position = torch.where(
            (offset < length[:, None]) & ~closed[:, None], slots.count[rows, None] + offset, ABSENT
        )
        fresh = state.fresh
        position = slots.position
        if bool(closed.any()):
            ended = rows[closed]
            spent = visit(None if made.trail is None else made.trail.rows(ended), segment.length[ended])
            slots, changed = self.bank.write(slots, ended, made.summary[ended], inplace=False, visit=spent)
            fresh = fresh.index_copy(0, plan.env[ended], changed)
            absent = torch.tensor(ABSENT, device=rows.device)
            position = pad_to(position, slots.tokens.shape[1], ABSENT)
            position = position.index_put((ended[:, None], changed), absent)
        scratch = torch.full((len(rows), c.summary_tokens), ABSENT, device=rows.device)
        position = torch.cat([raw_position, scratch, position[rows]], 1)
        into = state.slots.with_rows(env, slots.rows(rows))
        full = self.first_slot + into.tokens.shape[1]
        packing, offset = made.packing, torch.arange(longest, device=rows.device)
        # places beyond a row's end are absent, whatever stands there
        at = (packing.bin[rows, None], (packing.start[rows, None] + offset).clamp(max=packing.width - 1))
        cache = [
            as_cache(pad_to(torch.cat([pad_to(raw[at], self.first_slot), context[rows]], 1), full))
            for raw, context in zip(made.raw, made.past.context)
        ]
        held = [widened(part, full).index_copy(1, env, new) for part, new in zip(state.cache, cache)]
        if state.trail is not None and made.trail is not None:
            place, pose = (
                pad_to(part[rows], c.longest_segment) for part in (made.trail.place, made.trail.pose)
            )
            kept = state.trail
            kept = Whereabouts(kept.place.index_copy(0, env, place), kept.pose.index_copy(0, env, pose))
            state = replace(state, trail=kept)
        return replace(
            state,
            slots=into,
            cache=torch.stack(held),
            cache_position=pad_to(state.cache_position, full, ABSENT).index_copy(
                0, env, pad_to(position, full, ABSENT)
            ),
            length=state.length.index_copy(0, env, length.masked_fill(closed, 0)),
            closed=state.closed.index_copy(0, env, closed),
            fresh=fresh,
        )


def _rotation(position: Tensor) -> Tensor:
    """Returns the positions by which slots are rotated: 0 where there is none."""
    return position.masked_fill(position == ABSENT, 0)

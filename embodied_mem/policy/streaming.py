"""Memo one step at a time: a cache of one segment and the bank's slots, and nothing else of the past."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embodied_mem.policy.attention import CachedAttention, Group, causal, widened
from embodied_mem.policy.config import BANK_NAMES, PolicyConfig
from embodied_mem.policy.core import Core
from embodied_mem.policy.layers import Stack
from embodied_mem.policy.memo_state import MemoState
from embodied_mem.policy.place_bank import PlaceBank
from embodied_mem.policy.places import Whereabouts, visit
from embodied_mem.policy.segments import draw_lengths
from embodied_mem.policy.summary import (
    ABSENT,
    AccumulateBank,
    FifoBank,
    RewriteBank,
    Slots,
    SpatialBank,
    SummaryBank,
    pad_to,
)

BANKS: dict[str, Callable[[PolicyConfig], SummaryBank]] = {
    "accumulate": AccumulateBank,
    "fifo": FifoBank,
    "rewrite": RewriteBank,
    "place": PlaceBank,
}
"""Banks by the name in `PolicyConfig.bank`."""


def register_bank(name: str, make: Callable[[PolicyConfig], SummaryBank]) -> None:
    """Lets `PolicyConfig.bank` name a summary bank of one's own, from now on in this process.

    Args:
        name: of the bank; one that is known already is replaced.
        make: builds it: a `SummaryBank` class, or a function of the network's settings.
    """
    BANKS[name] = make
    if name not in BANK_NAMES:
        BANK_NAMES.append(name)


class StreamingMemo(Core):
    """What Memo is made of, and its step."""

    segmented: ClassVar[bool] = True

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.stack = Stack(config)
        self.bank = BANKS[config.bank](config)
        self.spatial = isinstance(self.bank, SpatialBank)
        self.queries = nn.Parameter(torch.randn(config.summary_tokens, config.width) * 0.05)

    def report(self) -> dict[str, float]:
        """Returns what the bank reports; see `Core.report`."""
        return self.bank.report()

    @property
    def first_slot(self) -> int:
        """Column of the cache at which the slots begin."""
        return self.config.longest_segment + self.config.summary_tokens

    def initial_state(self, batch: int) -> MemoState:
        """Returns the state of `batch` environments before their first step."""
        c, device = self.config, self.queries.device
        zeros = torch.zeros(batch, dtype=torch.int64, device=device)
        slots = self.bank.empty(batch, device)
        size = self.first_slot + slots.tokens.shape[1]
        trail = None
        if self.spatial:
            place = torch.zeros(batch, c.longest_segment, dtype=torch.int64, device=device)
            trail = Whereabouts(place, torch.zeros(*place.shape, 4, device=device))
        return MemoState(
            slots=slots,
            cache=torch.zeros(c.layers, 2, batch, c.heads, size, c.width // c.heads, device=device),
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
        """Takes one step, without a gradient; see `Core.advance`.

        One pass holds the step of every row, the changed slots of those rows whose last step closed a
        segment, and the summary queries of those that close one now.
        """
        state = state if inplace else state.clone()
        if start is not None and bool(start.any()):
            state = self._clear(state, start, jitter)
        column, every = state.length, torch.arange(len(x), device=x.device)
        position = state.slots.count + column  # (B,)
        state.cache_position[every, column] = position
        if state.trail is not None:
            assert where is not None, "this core must be told where the steps are taken"
            state.trail.place[every, column], state.trail.pose[every, column] = where.place, where.pose
        tokens, positions = [x], [position]
        slots = queries = None
        if bool(state.closed.any()):
            slots = self._changed_slots(state)
            at = (slots.row[:, None], slots.column - self.first_slot)
            tokens.insert(0, state.slots.tokens[at].flatten(0, 1))
            positions.insert(0, state.slots.position[at].flatten())
        closing = column + 1 >= state.limit
        closed = closing.nonzero()[:, 0]
        if len(closed):
            queries, asked = self._queries(state, closed, where)
            tokens.append(self.queries.repeat(len(closed), 1))
            positions.append(asked.flatten())
        attention = CachedAttention(
            state.cache,
            column,
            causal(position[:, None], state.cache_position),
            None if where is None else self._bias(state.slots, where.view(-1, 1), column[:, None]),
            slots=slots,
            queries=queries,
        )
        several = len(tokens) > 1
        h = self.stack(
            torch.cat(tokens) if several else x, torch.cat(positions) if several else position, attention
        )
        state = replace(state, length=column + 1, closed=closing)
        if len(closed):
            summary = h[len(x) :].view(len(closed), -1, h.shape[1])
            state = self._close(state, closed, summary, jitter)
        return h[: len(x)], state

    def _changed_slots(self, state: MemoState) -> Group:
        """Makes the changed slots visible; returns where their keys and values go and what they see."""
        rows = state.closed.nonzero()[:, 0]
        fresh = state.fresh[rows]  # (G, S)
        position = state.slots.position[rows[:, None], fresh]
        column = self.first_slot + fresh
        state.cache_position[rows[:, None], column] = position
        linked = self.bank.linked
        return Group(rows, column, causal(position, state.cache_position[rows]) if linked else None)

    def _queries(self, state: MemoState, rows: Tensor, where: Whereabouts | None) -> tuple[Group, Tensor]:
        """Returns where the queries of closing rows go, what they see, and their positions (G, S)."""
        first = self.config.longest_segment
        scratch = torch.arange(first, self.first_slot, device=rows.device).expand(len(rows), -1)
        position = (state.slots.count + state.length)[rows, None] + 1 + (scratch - first)
        key_position = state.cache_position[rows]
        key_position[:, first : self.first_slot] = position
        bias = None
        if where is not None and self.spatial:
            at = where.rows(rows[:, None].expand(-1, len(self.queries)))
            spent = state.length[rows, None].expand(-1, len(self.queries))
            bias = self._bias(state.slots.rows(rows), at, spent)
        return Group(rows, scratch, causal(position, key_position), bias), position

    def _bias(self, slots: Slots, at: Whereabouts, length: Tensor) -> Tensor | None:
        """Returns what a spatial bank adds to the attention of steps (R, Q) to slots: (R, H, Q, M)."""
        return self.bank.bias(slots, at, length) if isinstance(self.bank, SpatialBank) else None

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
        self, state: MemoState, rows: Tensor, summary: Tensor, jitter: np.random.Generator | None
    ) -> MemoState:
        """Writes the summaries (R, S, d) of closed segments and frees their raw steps."""
        trail = None if state.trail is None else state.trail.rows(rows)
        spent = visit(trail, state.length[rows])
        slots, changed = self.bank.write(state.slots, rows, summary, inplace=True, visit=spent)
        size = self.first_slot + slots.tokens.shape[1]
        position = pad_to(state.cache_position, size, ABSENT)
        # a slot that is written again is no longer seen as it was
        free = torch.arange(self.config.longest_segment, device=rows.device).expand(len(rows), -1)
        position[rows[:, None], torch.cat([free, self.first_slot + changed], 1)] = ABSENT
        return replace(
            state,
            slots=slots,
            cache=widened(state.cache, size),
            cache_position=position,
            length=state.length.index_fill(0, rows, 0),
            limit=state.limit.index_copy(0, rows, self._draw(len(rows), jitter, state.limit)),
            fresh=state.fresh.index_copy(0, rows, changed),
        )

    def _draw(self, count: int, jitter: np.random.Generator | None, like: Tensor) -> Tensor:
        """Returns the lengths of `count` new segments."""
        c = self.config
        return draw_lengths(count, c.segment_length, c.segment_range, jitter, like)

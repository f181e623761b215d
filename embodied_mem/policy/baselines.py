"""Memories to compare with: recurrent, and attention over the raw past."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embodied_mem.policy.attention import CachedAttention, Grid, PackedAttention, as_cache, as_packed, widened
from embodied_mem.policy.config import PolicyConfig
from embodied_mem.policy.core import Carried, Carry, Core
from embodied_mem.policy.layers import Stack
from embodied_mem.policy.places import Whereabouts
from embodied_mem.policy.segments import SegmentPass, SegmentPlan
from embodied_mem.policy.summary import ABSENT, pad_to


@dataclass(frozen=True, eq=False)
class Hidden:
    """The state of a recurrent core.

    Attributes:
        h: (B, layers, d) hidden states.
        closed: (B,) bool, always False: nothing is cut into segments.
    """

    h: Tensor
    closed: Tensor

    def rows(self, index: Tensor) -> Hidden:
        """Returns a copy of some batch rows."""
        return Hidden(self.h[index], self.closed[index])

    def detach(self) -> Hidden:
        """Returns a copy that shares nothing with this."""
        return Hidden(self.h.detach().clone(), self.closed.clone())

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return self.h.numel() * self.h.element_size() + self.closed.numel()


class RecurrentLayer(nn.Module):
    """A pre-norm layer as the transformer's, with a GRU in attention's place (Cho et al., 2014)."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        d = config.width
        self.gru_norm = nn.LayerNorm(d)
        self.gru = nn.GRU(d, d, batch_first=True)
        self.mlp_norm = nn.LayerNorm(d)
        self.mlp = nn.Sequential(
            nn.Linear(d, config.mlp_ratio * d), nn.GELU(), nn.Linear(config.mlp_ratio * d, d)
        )

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Runs sequences x (R, T, d) from hidden states h (R, d); returns outputs and all hidden states."""
        made, _ = self.gru(self.gru_norm(x), h[None].contiguous())  # (R, T, d)
        x = x + made
        return x + self.mlp(self.mlp_norm(x)), made


class Recurrent(Core):
    """GRU layers: a state of fixed size, rewritten at every step."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(RecurrentLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def initial_state(self, batch: int) -> Hidden:
        """Returns hidden states of zeros."""
        device = self.norm.weight.device
        shape = (batch, self.config.layers, self.config.width)
        return Hidden(torch.zeros(shape, device=device), torch.zeros(batch, dtype=torch.bool, device=device))

    def carried(self, state: Hidden) -> tuple[Carried | None, NDArray[np.int64]]:
        """Returns the hidden states; no raw step is needed again."""
        return state, np.zeros(len(state.closed), np.int64)

    def _run(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Runs sequences (R, T, d); returns features and the hidden states (R, T, layers, d)."""
        made = []
        for i, layer in enumerate(self.layers):
            x, hidden = layer(x, h[:, i])
            made.append(hidden)
        return self.norm(x), torch.stack(made, 2)

    def advance(
        self,
        x: Tensor,
        state: Hidden,
        start: Tensor | None = None,
        *,
        where: Whereabouts | None = None,
        jitter: np.random.Generator | None = None,
        inplace: bool = False,
    ) -> tuple[Tensor, Hidden]:
        """Takes one step; see `Core.advance`."""
        h = state.h if start is None else state.h.masked_fill(start[:, None, None], 0.0)
        features, made = self._run(x[:, None], h)
        return features[:, 0], replace(state, h=made[:, 0])

    def replay(
        self,
        x: Tensor,
        plan: SegmentPlan,
        carry: Carry | None = None,
        *,
        where: Whereabouts | None = None,
        end: bool = False,
    ) -> tuple[Tensor, Hidden | None]:
        """Runs whole sequences; see `Core.replay`."""
        segment = whole(plan)
        flat = x.flatten(0, 1)
        h = self.initial_state(len(plan.env)).h
        if carry is not None:
            h = torch.where(plan.carried[:, None, None], carry.slots.h[plan.env], h)
        features, made = self._run(gather(flat, segment), h)
        out = scatter(features.flatten(0, 1).index_select(0, segment.take), segment, flat).view(x.shape)
        if not end:
            return out, None
        rows = plan.last.nonzero()[:, 0]
        state = self.initial_state(x.shape[1])
        last = made[rows, segment.length[rows] - 1]
        return out, replace(state, h=state.h.index_copy(0, plan.env[rows], last))


def whole(plan: SegmentPlan) -> SegmentPass:
    """Returns the only pass of a plan whose rows are not cut."""
    assert len(plan.passes) == 1, "this core knows no segments"
    return plan.passes[0]


def gather(flat: Tensor, segment: SegmentPass) -> Tensor:
    """Returns the steps (R, L, d) of a pass from the flattened grid (E * N, d)."""
    return flat.index_select(0, segment.steps.flatten()).view(*segment.steps.shape, -1)


def scatter(features: Tensor, segment: SegmentPass, flat: Tensor) -> Tensor:
    """Returns packed features (V, d) in the flattened grid (E * N, d), 0 where there is no step."""
    return torch.zeros_like(flat).index_copy(0, segment.grid, features)


@dataclass(frozen=True, eq=False)
class Cache:
    """The state of a core that attends to raw steps.

    Attributes:
        cache: (layers, 2, B, H, C, d / H) keys (rotated) and values.
        position: (B, C) int64, the step's number in its trial; `ABSENT` where a place holds nothing.
        count: (B,) int64, steps of the trial so far.
        closed: (B,) bool, always False: nothing is cut into segments.
    """

    cache: Tensor
    position: Tensor
    count: Tensor
    closed: Tensor

    def rows(self, index: Tensor) -> Cache:
        """Returns a copy of some batch rows."""
        return Cache(self.cache[:, :, index], self.position[index], self.count[index], self.closed[index])

    def detach(self) -> Cache:
        """Returns a copy that shares nothing with this."""
        return Cache(
            self.cache.detach().clone(), self.position.clone(), self.count.clone(), self.closed.clone()
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        parts = (self.cache, self.position, self.count, self.closed)
        return sum(part.numel() * part.element_size() for part in parts)


class Context(Core):
    """Attention over the raw past with a sink per head: the last `window` steps, or the whole trial.

    The sink is a trainable key without a value (ReLIC). Keys and values are cached and never
    recomputed within a rollout; with a window they live in a ring.
    """

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.window = config.window if config.policy == "window" else None
        self.stack = Stack(config)
        self.sinks = nn.Parameter(torch.zeros(config.layers, config.heads, config.width // config.heads))

    def initial_state(self, batch: int) -> Cache:
        """Returns an empty cache."""
        c, device = self.config, self.sinks.device
        size = self.window or 0
        return Cache(
            torch.zeros(c.layers, 2, batch, c.heads, size, c.width // c.heads, device=device),
            torch.full((batch, size), ABSENT, device=device),
            torch.zeros(batch, dtype=torch.int64, device=device),
            torch.zeros(batch, dtype=torch.bool, device=device),
        )

    def carried(self, state: Cache) -> tuple[Carried | None, NDArray[np.int64]]:
        """Returns the cache; no raw step is needed again."""
        return state, np.zeros(len(state.closed), np.int64)

    def _mask(self, position: Tensor, key_position: Tensor) -> Tensor:
        """Returns which keys (R, K) steps at `position` (R, T) see: (R, 1, T, K)."""
        ahead = position[:, :, None] - key_position[:, None]
        seen = ahead >= 0
        return (seen if self.window is None else seen & (ahead < self.window))[:, None]

    def advance(
        self,
        x: Tensor,
        state: Cache,
        start: Tensor | None = None,
        *,
        where: Whereabouts | None = None,
        jitter: np.random.Generator | None = None,
        inplace: bool = False,
    ) -> tuple[Tensor, Cache]:
        """Takes one step, without a gradient; see `Core.advance`."""
        if start is not None and bool(start.any()):
            state = replace(
                state,
                position=state.position.masked_fill(start[:, None], ABSENT),
                count=state.count.masked_fill(start, 0),
            )
        used = self.window or int(state.count.max()) + 1
        if used > state.cache.shape[4]:
            size = used + used // 2  # grow seldom
            position = pad_to(state.position, size, ABSENT)
            state = replace(state, cache=widened(state.cache, size), position=position)
        elif not inplace:
            state = replace(state, cache=state.cache.clone(), position=state.position.clone())
        column = state.count if self.window is None else state.count % self.window
        state.position[torch.arange(len(x), device=x.device), column] = state.count
        mask = self._mask(state.count[:, None], state.position[:, :used])
        attention = CachedAttention(state.cache[..., :used, :], column, mask, sink=self.sinks)
        return self.stack(x, state.count, attention), replace(state, count=state.count + 1)

    def replay(
        self,
        x: Tensor,
        plan: SegmentPlan,
        carry: Carry | None = None,
        *,
        where: Whereabouts | None = None,
        end: bool = False,
    ) -> tuple[Tensor, Cache | None]:
        """Runs whole sequences in one banded pass; see `Core.replay`."""
        segment = whole(plan)
        flat = x.flatten(0, 1)
        context = self.initial_state(len(plan.env))
        if carry is not None:
            held: Cache = carry.slots.rows(plan.env)
            context = replace(
                held,
                position=held.position.masked_fill(~plan.carried[:, None], ABSENT),
                count=held.count.masked_fill(~plan.carried, 0),
            )
        rows, longest = segment.steps.shape
        offset = torch.arange(longest, device=x.device)
        position = context.count[:, None] + offset  # (R, L)
        there = torch.where(offset < segment.length[:, None], position, ABSENT)
        attention = PackedAttention(
            Grid.of(segment.take, rows, longest),
            self._mask(position, torch.cat([there, context.position], 1)),
            list(as_packed(context.cache)),
            sink=self.sinks,
        )
        features = self.stack(flat.index_select(0, segment.grid), position.flatten()[segment.take], attention)
        out = scatter(features, segment, flat).view(x.shape)
        return out, self._end(plan, segment, context, torch.stack(attention.made), there) if end else None

    def _end(
        self, plan: SegmentPlan, segment: SegmentPass, context: Cache, made: Tensor, position: Tensor
    ) -> Cache:
        """Returns the state after the last step: each environment's last row, in the cache's order."""
        rows = plan.last.nonzero()[:, 0]
        rows = rows[plan.env[rows].argsort()]
        count = context.count[rows] + segment.length[rows]
        keys = torch.cat([context.cache[:, :, rows], as_cache(made[:, rows])], 4)
        number = torch.cat([context.position[rows], position[rows]], 1)  # (N, C + L)
        # steps that are gone or were never there go to a place that is cut off
        size = self.window or int(count.max())
        kept = (number < ABSENT) & (number >= (count - size)[:, None])
        column = torch.where(kept, number % size, size)
        row = torch.arange(len(rows), device=rows.device)[:, None]
        cache = widened(keys[..., :0, :], size + 1)
        index = column[:, None, :, None].expand(-1, keys.shape[3], -1, keys.shape[5])
        cache = cache.scatter(4, index.expand_as(keys), keys)
        where = torch.full((len(rows), size + 1), ABSENT, device=rows.device)
        where[row, column] = torch.where(kept, number, ABSENT)
        return Cache(
            cache[..., :size, :].contiguous(), where[:, :size].contiguous(), count,
            torch.zeros(len(rows), dtype=torch.bool, device=rows.device),
        )  # fmt: skip

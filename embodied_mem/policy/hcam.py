"""Hierarchical chunk attention: recall the few segments that matter, in full (Lampinen et al., 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embodied_mem.policy.attention import CachedAttention, Grid, PackedAttention, as_cache
from embodied_mem.policy.config import PolicyConfig
from embodied_mem.policy.core import Carried, Carry, Core
from embodied_mem.policy.layers import Attend, Stack
from embodied_mem.policy.places import Whereabouts
from embodied_mem.policy.segments import SegmentPass, SegmentPlan, draw_lengths
from embodied_mem.policy.summary import pad_to, put


@dataclass(frozen=True, eq=False)
class Chunks:
    """Past segments in full.

    Attributes:
        steps: (B, K, L, d) what the core made of each step, detached.
        mean: (B, K, d) of the steps of each chunk.
        length: (B, K) int64, steps in each chunk, 0 where there is none.
        count: (B,) int64, chunks that are there.
    """

    steps: Tensor
    mean: Tensor
    length: Tensor
    count: Tensor

    @staticmethod
    def of(steps: Tensor, length: Tensor) -> Chunks:
        """Returns chunks (B, K, L, d) of `length` (B, K) steps; those that are there come first."""
        there = torch.arange(steps.shape[2], device=steps.device) < length[..., None]
        mean = torch.where(there[..., None], steps, 0.0).sum(2) / length.clamp(min=1)[..., None]
        return Chunks(steps, mean, length, (length > 0).sum(1))

    def rows(self, index: Tensor | slice) -> Chunks:
        """Returns a copy of some batch rows."""
        return Chunks(self.steps[index], self.mean[index], self.length[index], self.count[index])

    def padded(self, size: int) -> Chunks:
        """Returns these with room for `size` chunks."""
        steps, mean, length = (pad_to(part, size) for part in (self.steps, self.mean, self.length))
        return Chunks(steps, mean, length, self.count)

    def detach(self) -> Chunks:
        """Returns a copy that shares nothing with this."""
        steps, mean = (part.detach().clone() for part in (self.steps, self.mean))
        return Chunks(steps, mean, self.length.clone(), self.count.clone())

    def clear(self, rows: Tensor) -> Chunks:
        """Forgets the chunks of the rows where `rows` (B,) is True."""
        return replace(
            self, length=self.length.masked_fill(rows[:, None], 0), count=self.count.masked_fill(rows, 0)
        )

    def write(self, rows: Tensor, steps: Tensor, length: Tensor, inplace: bool) -> Chunks:
        """Appends a chunk (R, L, d) of `length` (R,) steps to some rows."""
        size = int(self.count[rows].max()) + 1
        if inplace and size > self.steps.shape[1]:
            size += size // 2  # grow seldom
        at, room = (rows, self.count[rows]), self.padded(size)
        new = Chunks.of(pad_to(steps.detach(), self.steps.shape[2])[:, None], length[:, None])
        return Chunks(
            put(room.steps, at, new.steps[:, 0], inplace),
            put(room.mean, at, new.mean[:, 0], inplace),
            put(room.length, at, length, inplace),
            self.count.index_add(0, rows, torch.ones_like(rows)),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        parts = (self.steps, self.mean, self.length, self.count)
        return sum(p.numel() * p.element_size() for p in parts)


@dataclass(frozen=True, eq=False)
class HcamState:
    """What the core carries from step to step.

    Attributes:
        chunks: past segments.
        open: (B, L, d) what the core made of the open segment's steps.
        cache: (layers, 2, B, H, L, d / H) their keys and values.
        length: (B,) int64, steps in the open segment.
        limit: (B,) int64, steps at which it will be closed.
        closed: (B,) bool, True where the last step closed a segment.
    """

    chunks: Chunks
    open: Tensor
    cache: Tensor
    length: Tensor
    limit: Tensor
    closed: Tensor

    def rows(self, index: Tensor) -> HcamState:
        """Returns a copy of some batch rows."""
        return HcamState(
            self.chunks.rows(index), self.open[index], self.cache[:, :, index], self.length[index],
            self.limit[index], self.closed[index],
        )  # fmt: skip

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        parts = (self.open, self.cache, self.length, self.limit, self.closed)
        return sum(p.numel() * p.element_size() for p in parts) + self.chunks.nbytes


class Recall(nn.Module):
    """A layer that reads the `recall` chunks whose mean fits the step best, weighted by how well they fit."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        d = config.width
        self.heads, self.most = config.heads, config.recall
        self.norm = nn.LayerNorm(d)
        self.summary_query = nn.Linear(d, d, bias=False)
        self.summary_key = nn.Linear(d, d, bias=False)
        self.query = nn.Linear(d, d, bias=False)
        self.key_value = nn.Linear(d, 2 * d, bias=False)
        self.order = nn.Parameter(torch.randn(config.longest_segment, d) * 0.02)
        self.out = nn.Linear(d, d, bias=False)

    def forward(self, x: Tensor, chunks: Chunks) -> Tensor:
        """Returns what steps x (R, T, d) read from chunks of R rows: (R, T, d)."""
        r, t, d = x.shape
        k = chunks.steps.shape[1]
        if not k:
            return torch.zeros_like(x)
        query = self.norm(x)
        fit = self.summary_query(query) @ self.summary_key(chunks.mean).transpose(1, 2) / math.sqrt(d)
        fit = fit.masked_fill((chunks.length == 0)[:, None], -1e9)  # (R, T, K)
        best, which = fit.topk(min(self.most, k), dim=2)  # (R, T, k)
        weight = best.softmax(2) * (best > -1e8)
        if t > 1 and k * self.heads <= self.most * d:  # fewer numbers than the chosen of every step
            weight = torch.zeros_like(fit).scatter(2, which, weight)
            return self._read(query, chunks.steps, chunks.length, weight)
        row = torch.arange(r, device=x.device)[:, None, None]
        steps, length = chunks.steps[row, which].flatten(0, 1), chunks.length[row, which].flatten(0, 1)
        read = self._read(query.reshape(r * t, 1, d), steps, length, weight.flatten(0, 1)[:, None])
        return read.view(r, t, d)

    def _read(self, query: Tensor, steps: Tensor, length: Tensor, weight: Tensor) -> Tensor:
        """Attends within each chunk: queries (N, T, d), chunks (N, K, L, d), their weights (N, T, K).

        Keys and values are projections of `steps`; the queries and what was read are projected in
        their stead, which is less work as long as a chunk's steps outnumber the queries.
        """
        n, t, d = query.shape
        k, longest = steps.shape[1:3]
        size = d // self.heads
        key, value = self.key_value.weight.view(2, self.heads, size, d)  # (H, d / H, d)
        held = (steps + self.order).view(n, k * longest, d)
        q = torch.einsum("nthc,hcd->nthd", self.query(query).view(n, t, self.heads, size), key)
        logits = q.reshape(n, t * self.heads, d) @ held.transpose(1, 2) / math.sqrt(size)
        there = torch.arange(longest, device=query.device) < length[..., None]  # (N, K, L)
        logits = logits.view(n, t, self.heads, k, longest).masked_fill(~there[:, None, None], -1e9)
        share = logits.softmax(-1) * weight[:, :, None, :, None]  # (N, T, H, K, L)
        read = (share.reshape(n, t * self.heads, k * longest) @ held).view(n, t, self.heads, d)
        out: Tensor = self.out(torch.einsum("nthd,hcd->nthc", read, value).flatten(2))
        return out


class Hcam(Core):
    """Attention within the open segment; before each layer, recall of whole past segments.

    What is recalled is what the core made of those steps, without a gradient into the past, as
    published.
    """

    segmented: ClassVar[bool] = True

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.recall = nn.ModuleList(Recall(config) for _ in range(config.layers))
        self.stack = Stack(config)

    def _run(self, x: Tensor, position: Tensor, attend: Attend, chunks: Chunks, grid: Grid | None) -> Tensor:
        """Runs steps (V, d), which stand in `grid`, or one to a row: recall and layer in turn."""
        turn = self.stack.rotary(position)
        for number, (recall, layer) in enumerate(zip(self.recall, self.stack.layers)):
            read = (
                recall(x[:, None], chunks)[:, 0]
                if grid is None
                else grid.pack(recall(grid.spread(x), chunks))
            )
            x = layer(x + read, turn, attend, number)
        normed: Tensor = self.stack.norm(x)
        return normed

    def _no_chunks(self, batch: int) -> Chunks:
        c, device = self.config, self.stack.norm.weight.device
        steps = torch.zeros(batch, 0, c.longest_segment, c.width, device=device)
        return Chunks.of(steps, torch.zeros(batch, 0, dtype=torch.int64, device=device))

    def initial_state(self, batch: int) -> HcamState:
        """Returns the state before the first step."""
        c, device = self.config, self.stack.norm.weight.device
        zeros = torch.zeros(batch, dtype=torch.int64, device=device)
        cache = (c.layers, 2, batch, c.heads, c.longest_segment, c.width // c.heads)
        return HcamState(
            chunks=self._no_chunks(batch),
            open=torch.zeros(batch, c.longest_segment, c.width, device=device),
            cache=torch.zeros(cache, device=device),
            length=zeros,
            limit=zeros + c.segment_length,
            closed=torch.zeros(batch, dtype=torch.bool, device=device),
        )

    def carried(self, state: HcamState) -> tuple[Carried | None, NDArray[np.int64]]:
        """Returns the chunks and the lengths of the open segments; see `Core.carried`."""
        return state.chunks, state.length.cpu().numpy()

    def advance(
        self,
        x: Tensor,
        state: HcamState,
        start: Tensor | None = None,
        *,
        where: Whereabouts | None = None,
        jitter: np.random.Generator | None = None,
        inplace: bool = False,
    ) -> tuple[Tensor, HcamState]:
        """Takes one step, without a gradient; see `Core.advance`."""
        if not inplace:
            state = replace(
                state, chunks=state.chunks.detach(), open=state.open.clone(), cache=state.cache.clone()
            )
        if start is not None and bool(start.any()):
            state = replace(
                state,
                chunks=state.chunks.clear(start),
                length=state.length.masked_fill(start, 0),
                limit=torch.where(start, self._draw(len(start), jitter, state.limit), state.limit),
            )
        column = state.length
        offset = torch.arange(self.config.longest_segment, device=x.device)
        attention = CachedAttention(state.cache, column, (offset <= column[:, None])[:, None, None])
        h = self._run(x, column, attention, state.chunks, None)
        state.open[torch.arange(len(x), device=x.device), column] = h
        closing = column + 1 >= state.limit
        state = replace(state, length=column + 1, closed=closing)
        rows = closing.nonzero()[:, 0]
        if len(rows):
            chunks = state.chunks.write(rows, state.open[rows], state.length[rows], True)
            limit = state.limit.index_copy(0, rows, self._draw(len(rows), jitter, state.limit))
            state = replace(state, chunks=chunks, length=state.length.index_fill(0, rows, 0), limit=limit)
        return h, state

    def _draw(self, count: int, jitter: np.random.Generator | None, like: Tensor) -> Tensor:
        """Returns the lengths of `count` new segments."""
        c = self.config
        return draw_lengths(count, c.segment_length, c.segment_range, jitter, like)

    def replay(
        self,
        x: Tensor,
        plan: SegmentPlan,
        carry: Carry | None = None,
        *,
        where: Whereabouts | None = None,
        end: bool = False,
    ) -> tuple[Tensor, HcamState | None]:
        """Runs whole sequences, one pass per segment index over all rows; see `Core.replay`."""
        flat = x.flatten(0, 1)
        state = self.initial_state(x.shape[1]) if end else None
        chunks = self._no_chunks(len(plan.env))
        if carry is not None:
            chunks = carry.slots.rows(plan.env).clear(~plan.carried)
        features = []
        for segment in plan.passes:
            rows, longest = segment.steps.shape
            grid = Grid.of(segment.take, rows, longest)
            offset = torch.arange(longest, device=x.device)
            # every row has a first step, so that no query is left without a key
            there = (offset < segment.length[:, None])[:, None, None]
            attention = PackedAttention(
                grid, there & (offset <= offset[:, None]), [flat[:0]] * self.config.layers
            )
            packed = self._run(
                flat.index_select(0, segment.grid), segment.take % longest, attention, chunks, grid
            )
            features.append(packed)
            h = grid.spread(packed)
            if state is not None:
                ending = torch.arange(segment.following, rows, device=x.device)
                ending = ending[plan.last[ending]]
                if len(ending):
                    raw = torch.stack(attention.made)
                    state = self._end(state, plan.env, segment, ending, chunks, h, raw)
            if segment.following:
                going = torch.arange(segment.following, device=x.device)
                chunks = chunks.rows(going).write(going, h[going], segment.length[going], False)
        grids = torch.cat([segment.grid for segment in plan.passes])
        out = torch.zeros_like(flat).index_copy(0, grids, torch.cat(features))
        return out.view(x.shape), state

    def _end(
        self,
        state: HcamState,
        env: Tensor,
        segment: SegmentPass,
        rows: Tensor,
        chunks: Chunks,
        h: Tensor,
        raw: Tensor,
    ) -> HcamState:
        """Stores the rows that end with the rollout as the state of their environments."""
        closed, length = segment.closed[rows], segment.length[rows]
        if bool(closed.any()):
            chunks = chunks.write(rows[closed], h[rows[closed]], length[closed], False)
        env, longest = env[rows], self.config.longest_segment
        size = max(state.chunks.steps.shape[1], chunks.steps.shape[1])
        own, new = state.chunks.padded(size), chunks.rows(rows).padded(size)
        into = Chunks(
            own.steps.index_copy(0, env, new.steps),
            own.mean.index_copy(0, env, new.mean),
            own.length.index_copy(0, env, new.length),
            own.count.index_copy(0, env, new.count),
        )
        cache = [
            held.index_copy(1, env, as_cache(pad_to(part[rows], longest)))
            for held, part in zip(state.cache, raw)
        ]
        return replace(
            state,
            chunks=into,
            open=state.open.index_copy(0, env, pad_to(h[rows], longest)),
            cache=torch.stack(cache),
            length=state.length.index_copy(0, env, length.masked_fill(closed, 0)),
            closed=state.closed.index_copy(0, env, closed),
        )

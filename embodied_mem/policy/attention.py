"""Attention of packed tokens: over whole segments in training, over a cache while streaming."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def attend_dense(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor,
    *,
    plain: Tensor | None = None,
    bias: Tensor | None = None,
    sink: Tensor | None = None,
) -> Tensor:
    """Attention of R rows of Q queries to K keys.

    Args:
        q: (R, Q, H, d / H) rotated queries.
        keys: (R, H, K, d / H).
        values: (R, H, K, d / H).
        mask: (R, 1, Q, K) bool, True where a query may look; at least one key for each.
        plain: (R, Q, H, d / H) the queries, not rotated; goes with `bias`.
        bias: (R, H, Q, M) added to the logits of the last M keys, which are met without rotation.
        sink: (H, d / H) a key that every query may look at, whose value is zero (ReLIC).

    Returns:
        (R, Q, d).
    """
    q = q.transpose(1, 2)
    if sink is not None:
        keys = torch.cat([sink[None, :, None].expand(len(q), -1, -1, -1), keys], 2)
        values = F.pad(values, (0, 0, 1, 0))
        mask = F.pad(mask, (1, 0), value=True)
    if bias is None:
        y = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
    else:
        assert plain is not None
        rotary = keys.shape[2] - bias.shape[3]
        turned = keys.transpose(2, 3)
        near = plain.transpose(1, 2) @ turned[..., rotary:]
        scale = 1.0 / math.sqrt(q.shape[-1])
        logits = torch.cat([q @ turned[..., :rotary] * scale, near * scale + bias], 3)
        y = logits.masked_fill(~mask, -math.inf).softmax(-1) @ values
    return y.transpose(1, 2).flatten(2)


def attend_cached(
    q: Tensor, keys: Tensor, values: Tensor, hidden: Tensor, sink: Tensor | None = None
) -> Tensor:
    """Attention of few queries a row to a cache, where the general kernel costs more than the work.

    Args:
        q: (R, Q, H, d / H) rotated queries.
        keys: (R, H, K, d / H).
        values: (R, H, K, d / H).
        hidden: (R * H, Q, K) 0 where a query may look, -inf where not; see `hide`.
        sink: (H, d / H), as in `attend_dense`; nothing is copied for it.

    Returns:
        (R, Q, d).
    """
    rows, count, heads, size = q.shape
    shape, turned = (rows * heads, keys.shape[2], size), q.transpose(1, 2).reshape(-1, count, size)
    scale = 1.0 / math.sqrt(size)
    logits = torch.baddbmm(hidden, turned, keys.view(shape).transpose(1, 2), alpha=scale)
    if sink is None:
        weights = logits.softmax(-1)
    else:
        drawn = (turned.view(rows, heads, count, size) * sink[:, None]).sum(-1) * scale
        weights = torch.cat([logits, drawn.view(-1, count, 1)], -1).softmax(-1)[..., :-1]
    read = (weights @ values.view(shape)).view(rows, heads, count, size)
    return read.transpose(1, 2).flatten(2)


def hide(mask: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
    """Returns a mask (R, 1, Q, K) as what is added to the logits of each head: (R * H, Q, K)."""
    shown = mask.expand(-1, heads, -1, -1).flatten(0, 1)
    return torch.zeros(shown.shape, dtype=dtype, device=mask.device).masked_fill_(~shown, -math.inf)


def _split(kv: Tensor) -> tuple[Tensor, Tensor]:
    """Returns keys and values (R, H, K, d / H) of what is packed as (R, K, 2, H, d / H)."""
    keys, values = kv.permute(2, 0, 3, 1, 4).unbind(0)
    return keys, values


def causal(position: Tensor, key_position: Tensor) -> Tensor:
    """Returns the mask (R, 1, Q, K) of queries at (R, Q) for keys at (R, K): none that comes later."""
    return (key_position[:, None, :] <= position[:, :, None])[:, None]


@dataclass(frozen=True, eq=False)
class Grid:
    """Where packed tokens stand in rows of equal length, on which attention runs.

    Attributes:
        shape: R rows of Q.
        source: (R * Q,) int64, the packed token at each place; any token where there is none.
        place: (V,) int64, the place of each packed token.
    """

    shape: tuple[int, int]
    source: Tensor
    place: Tensor

    @classmethod
    def of(cls, place: Tensor, rows: int, length: int) -> Grid:
        """Returns the grid of `rows` x `length` whose packed tokens stand at `place` (V,)."""
        source = torch.zeros(rows * length, dtype=torch.int64, device=place.device)
        source[place] = torch.arange(len(place), device=place.device)
        return cls((rows, length), source, place)

    def spread(self, x: Tensor) -> Tensor:
        """Returns packed tokens (V, ...) in the grid (R, Q, ...)."""
        return x.flatten(1).index_select(0, self.source).view(*self.shape, *x.shape[1:])

    def pack(self, y: Tensor) -> Tensor:
        """Returns what stands in the grid (R, Q, d) as packed tokens (V, d)."""
        return y.flatten(0, 1).index_select(0, self.place)


def as_cache(kv: Tensor) -> Tensor:
    """Returns keys and values (..., R, K, 2, H, d / H) in a cache's order (..., 2, R, H, K, d / H)."""
    return kv.movedim(-3, -5).transpose(-3, -2)


def as_packed(cache: Tensor) -> Tensor:
    """Returns a cache (..., 2, R, H, K, d / H) as (..., R, K, 2, H, d / H); see `as_cache`."""
    return cache.transpose(-3, -2).movedim(-5, -3)


def widened(cache: Tensor, size: int) -> Tensor:
    """Returns a cache (..., C, d / H) with at least `size` columns."""
    return cache if cache.shape[-2] >= size else F.pad(cache, (0, 0, 0, size - cache.shape[-2]))


class PackedAttention:
    """Attention of a pass over R segments in training: [fresh slots | steps | queries], packed.

    Keys of steps and queries are those in their row, and behind them those of the row's slots. The
    slots that changed are projected in this pass, and kept in `context` for the next. Nobody wants
    their outputs, so that the last layer gives none.

    Args:
        grid: of the steps and queries; None where there are only slots.
        mask: (R, 1, Q, Q + M) bool, see `attend_dense`; goes with the grid.
        context: per layer (R, M, 2, H, d / H) keys and values of the slots.
        fresh: (R, P) int64, the slots that are projected.
        fresh_mask: (R, 1, P, M) bool, what they see of the slots; None: each itself alone.
        bias: (R, H, Q, M) for the slots, which are then met without rotation.
        sink: (layers, H, d / H) keys of sinks.
    """

    def __init__(
        self,
        grid: Grid | None,
        mask: Tensor | None,
        context: list[Tensor],
        fresh: Tensor | None = None,
        fresh_mask: Tensor | None = None,
        *,
        bias: Tensor | None = None,
        sink: Tensor | None = None,
    ) -> None:
        self.grid, self.mask, self.context = grid, mask, list(context)
        self.fresh = fresh if fresh is not None and fresh.numel() else None
        self.fresh_mask, self.bias, self.sink = fresh_mask, bias, sink
        self.made: list[Tensor] = []
        """Per layer (R, Q, 2, H, d / H), the keys and values of the steps and queries."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, plain: Tensor) -> Tensor:
        """Returns what the tokens read; see `Attend`."""
        kv = torch.stack([k, v], 1)  # (V, 2, H, d / H)
        count = 0 if self.fresh is None else self.fresh.numel()
        read = None
        if self.fresh is not None:
            read = self._project(layer, q[:count], kv[:count])
        if self.grid is None or self.mask is None:
            return q.new_zeros(0, q.shape[1] * q.shape[2]) if read is None else read
        made = self.grid.spread(kv[count:])
        self.made.append(made)
        slots = self.mask.shape[3] > made.shape[1]
        seen = torch.cat([made, self.context[layer]], 1) if slots else made
        y = attend_dense(
            self.grid.spread(q[count:]),
            *_split(seen),
            self.mask,
            plain=None if self.bias is None else self.grid.spread(plain[count:]),
            bias=self.bias,
            sink=None if self.sink is None else self.sink[layer],
        )
        y = self.grid.pack(y)
        return y if read is None else torch.cat([read, y])

    def _project(self, layer: int, q: Tensor, kv: Tensor) -> Tensor | None:
        """Stores the fresh slots' keys and values; returns what they read, None in the last layer."""
        assert self.fresh is not None
        row = torch.arange(len(self.fresh), device=q.device)[:, None]
        held, shape = self.context[layer], self.fresh.shape
        self.context[layer] = held.index_put((row, self.fresh), kv.view(*shape, *kv.shape[1:]))
        if layer == len(self.context) - 1:
            return None
        if self.fresh_mask is None:
            return kv[:, 1].flatten(1)
        read = attend_dense(q.view(*shape, *q.shape[1:]), *_split(self.context[layer]), self.fresh_mask)
        return read.flatten(0, 1)


@dataclass(frozen=True, eq=False)
class Group:
    """Tokens of one streaming step that come S to a row.

    Attributes:
        row: (G,) int64, the rows.
        column: (G, S) int64, their columns in the cache.
        mask: (G, 1, S, C) bool, what they see of their row; None: each itself alone.
        bias: (G, H, S, M) for the slots, or None.
    """

    row: Tensor
    column: Tensor
    mask: Tensor | None
    bias: Tensor | None = None


class CachedAttention:
    """Attention of one streaming step: keys and values go to the cache first, then are read there.

    The packed tokens are changed slots, then one step for each of B rows, then summary queries. The
    last layer gives nothing for the slots.

    Args:
        cache: (layers, 2, B, H, C, d / H) keys and values, written in place.
        column: (B,) int64, the steps' columns in the cache.
        mask: (B, 1, 1, C) bool, what each step sees.
        bias: (B, H, 1, M) of steps for the last M columns, which are then met without rotation.
        slots: the changed slots.
        queries: the summary queries.
        sink: (layers, H, d / H) keys of sinks.
    """

    def __init__(
        self,
        cache: Tensor,
        column: Tensor,
        mask: Tensor,
        bias: Tensor | None = None,
        *,
        slots: Group | None = None,
        queries: Group | None = None,
        sink: Tensor | None = None,
    ) -> None:
        self.cache, self.mask, self.bias, self.sink = cache, mask, bias, sink
        self.slots, self.queries = slots, queries
        row = torch.arange(cache.shape[2], device=cache.device)
        # where every row asks, its step and its queries read in one go
        self.jointly = queries is not None and bias is None and sink is None and len(queries.row) == len(row)
        if self.jointly:
            assert queries is not None and queries.mask is not None
            mask = torch.cat([mask, queries.mask], 2)
        heads, dtype = cache.shape[3], cache.dtype
        self.hidden = hide(mask, heads, dtype) if bias is None else None
        self.hidden_of = {
            group: hide(group.mask, heads, dtype)
            for group in (slots, None if self.jointly else queries)
            if group is not None and group.mask is not None and group.bias is None
        }
        self.first = 0 if slots is None else slots.column.numel()
        if slots is not None or queries is not None:
            parts = [(row, column)]
            if slots is not None:
                size = slots.column.shape[1]
                parts.insert(0, (slots.row.repeat_interleave(size), slots.column.flatten()))
            if queries is not None:
                size = queries.column.shape[1]
                parts.append((queries.row.repeat_interleave(size), queries.column.flatten()))
            row, column = (torch.cat(part) for part in zip(*parts))
        self.index = (row, column)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, plain: Tensor) -> Tensor:
        """Returns what the tokens read; see `Attend`."""
        cache = self.cache[layer]  # (2, B, H, C, d / H)
        row, column = self.index
        cache[:, row, :, column] = torch.stack([k, v], 1)
        first, end = self.first, self.first + cache.shape[1]
        parts: list[Tensor] = []
        if self.jointly and self.hidden is not None and self.queries is not None:
            asked = q[end:].unflatten(0, self.queries.column.shape)
            read = attend_cached(torch.cat([q[first:end, None], asked], 1), cache[0], cache[1], self.hidden)
            parts = [read[:, 0], read[:, 1:].flatten(0, 1)]
        elif self.hidden is not None:
            sink = None if self.sink is None else self.sink[layer]
            parts = [attend_cached(q[first:end, None], cache[0], cache[1], self.hidden, sink)[:, 0]]
        else:
            step, turned = plain[first:end, None], q[first:end, None]
            parts = [attend_dense(turned, cache[0], cache[1], self.mask, plain=step, bias=self.bias)[:, 0]]
        if self.slots is not None and layer < len(self.cache) - 1:
            alone = self.slots.mask is None
            parts.insert(
                0, v[:first].flatten(1) if alone else self._read(cache, self.slots, q[:first], plain[:first])
            )
        if self.queries is not None and not self.jointly:
            parts.append(self._read(cache, self.queries, q[end:], plain[end:]))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _read(self, cache: Tensor, group: Group, q: Tensor, plain: Tensor) -> Tensor:
        """Returns what the tokens of a group read: (G * S, d)."""
        assert group.mask is not None
        shape = (*group.column.shape, *q.shape[1:])
        own = cache if len(group.row) == cache.shape[1] else cache.index_select(1, group.row)
        if group.bias is None:
            read = attend_cached(q.view(shape), own[0], own[1], self.hidden_of[group])
        else:
            read = attend_dense(
                q.view(shape), own[0], own[1], group.mask, plain=plain.view(shape), bias=group.bias
            )
        return read.flatten(0, 1)

"""Transformer layers: causal by position, rotary, with an optional context of cached keys and values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embodied_mem.policy.config import PolicyConfig

SHARPNESS = 1.25
"""Scale of the query and key projections at the start, in units of 1 / sqrt(d)."""


def rotary_table(position: Tensor, head_size: int, base: float) -> tuple[Tensor, Tensor]:
    """Returns cosine and sine (B, 1, Q, head_size / 2) of the angles at positions (B, Q) (RoFormer)."""
    half = head_size // 2
    # positions of a bounded bank grow with the trial: only double precision keeps their differences exact
    rate = base ** (-torch.arange(half, device=position.device, dtype=torch.float64) / half)
    angle = (position.to(torch.float64)[:, :, None] * rate)[:, None]  # (B, 1, Q, half)
    angle = angle.remainder(2 * math.pi).to(torch.get_default_dtype())
    return angle.cos(), angle.sin()


@dataclass(frozen=True, eq=False)
class SlotView:
    """How tokens that are slots of a bank differ from others in attention.

    Attributes:
        alone: so many tokens, from the first, see themselves only.
        keys: (C + Q,) bool, True for keys that are not rotated and are met by queries that are not;
            None: all keys are rotary.
        bias: (B, H, Q, C + Q) added to the attention's logits; goes with `keys`.
    """

    alone: int = 0
    keys: Tensor | None = None
    bias: Tensor | None = None


def attend_slots(
    q: Tensor, plain: Tensor, keys: Tensor, values: Tensor, mask: Tensor, view: SlotView
) -> Tensor:
    """Attention (B, H, Q, d / H) in which some keys are met without rotation and with a bias.

    Args:
        q: (B, H, Q, d / H) rotated queries.
        plain: the same, not rotated.
        keys: (B, H, C + Q, d / H).
        values: (B, H, C + Q, d / H).
        mask: (B, 1, Q, C + Q) bool.
        view: which keys, and the bias.
    """
    assert view.keys is not None and view.bias is not None
    turned = keys.transpose(2, 3)
    logits = torch.where(view.keys, plain @ turned, q @ turned) / math.sqrt(q.shape[-1]) + view.bias
    attended: Tensor = logits.masked_fill(~mask, -math.inf).softmax(-1) @ values
    return attended


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Rotates x (B, H, Q, head_size) by the angles of `table`."""
    cos, sin = table
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Layer(nn.Module):
    """One pre-norm layer: attention, then a feed-forward network."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        d = config.width
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.attention_out = nn.Linear(d, d, bias=False)
        self.mlp_norm = nn.LayerNorm(d)
        self.mlp_in = nn.Linear(d, config.mlp_ratio * d)
        self.mlp_out = nn.Linear(config.mlp_ratio * d, d)
        # Sharp attention and a strong attention branch: what one step shows must survive the summaries
        # of several segments from the start, or there is nothing for a policy gradient to find.
        std = 1.0 / math.sqrt(d)
        nn.init.normal_(self.qkv.weight[: 2 * d], std=SHARPNESS * std)
        nn.init.normal_(self.qkv.weight[2 * d :], std=std)
        nn.init.normal_(self.attention_out.weight, std=std)
        nn.init.normal_(self.mlp_in.weight, std=std)
        nn.init.normal_(self.mlp_out.weight, std=std / math.sqrt(2 * config.layers * config.mlp_ratio))
        nn.init.zeros_(self.mlp_in.bias)
        nn.init.zeros_(self.mlp_out.bias)

    def forward(
        self,
        x: Tensor,
        table: tuple[Tensor, Tensor],
        mask: Tensor | None,
        context: Tensor | None,
        view: SlotView | None = None,
        sink: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Runs the layer.

        Args:
            x: (B, Q, d) tokens.
            table: their rotary table.
            mask: (B, 1, Q, C + Q) bool, True where a query may look; None: each token sees itself alone.
            context: (B, C, 2, H, d / H) cached keys (rotated) and values, or None.
            view: how slots differ, or None.
            sink: (H, d / H) a key that every token may look at, whose value is zero (ReLIC), or None.

        Returns:
            The tokens, and their keys and values (B, H, Q, d / H).
        """
        b, q_len, d = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(b, q_len, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, Q, d / H) each
        if mask is None:
            y = v
        else:
            plain, q, k = q, rotate(q, table), rotate(k, table)
            keys, values = k, v
            if context is not None:
                keys = torch.cat([context[:, :, 0].transpose(1, 2), k], dim=2)  # (B, H, C + Q, d / H)
                values = torch.cat([context[:, :, 1].transpose(1, 2), v], dim=2)
            if sink is not None:
                keys = torch.cat([sink[None, :, None].expand(b, -1, -1, -1), keys], dim=2)
                values = F.pad(values, (0, 0, 1, 0))
                mask = F.pad(mask, (1, 0), value=True)
            if view is not None and view.keys is not None:
                y = attend_slots(q, plain, keys, values, mask, view)
            else:
                y = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        x = x + self.attention_out(y.transpose(1, 2).reshape(b, q_len, d))
        x = x + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x)), approximate="tanh"))
        return x, k, v


class Stack(nn.Module):
    """All layers and the final norm."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.head_size = config.width // config.heads
        self.rope_base = config.rope_base
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        key_position: Tensor,
        context: Tensor | None,
        context_position: Tensor | None,
        view: SlotView | None = None,
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Runs tokens that see each other, and the context, up to their own position.

        Args:
            x: (B, Q, d) tokens.
            position: (B, Q) int64; each must reach the position of at least one key.
            key_position: (B, Q) int64, the same, but `ABSENT` for tokens that nobody may see.
            context: (B, C, layers, 2, H, d / H) cached keys and values, or None.
            context_position: (B, C) int64, `ABSENT` for slots that hold nothing, or None.
            view: how slots differ from other tokens, or None.

        Returns:
            The final-norm outputs (B, Q, d), and per layer the tokens' keys and values.
        """
        if context is not None and context_position is not None:
            key_position = torch.cat([context_position, key_position], dim=1)
        mask = (key_position[:, None, :] <= position[:, :, None])[:, None]  # (B, 1, Q, C + Q)
        if view is not None and view.alone:
            own = torch.arange(mask.shape[3] - mask.shape[2], mask.shape[3], device=x.device)[: view.alone]
            seen = torch.arange(mask.shape[3], device=x.device) == own[:, None]  # (alone, C + Q)
            mask = torch.cat([seen.expand(len(x), 1, -1, -1), mask[:, :, view.alone :]], dim=2)
        table = rotary_table(position, self.head_size, self.rope_base)
        made = []
        for i, layer in enumerate(self.layers):
            x, k, v = layer(x, table, mask, None if context is None else context[:, :, i], view)
            made.append((k, v))
        return self.norm(x), made

    def alone(self, x: Tensor) -> Tensor:
        """Runs tokens (B, d) that see nothing but themselves; returns final-norm outputs (B, d)."""
        x = x[:, None]
        table = rotary_table(torch.zeros(1, 1, device=x.device), self.head_size, self.rope_base)
        for layer in self.layers:
            x, _, _ = layer(x, table, None, None)
        return self.norm(x)[:, 0]


def pack(made: list[tuple[Tensor, Tensor]], first: int, count: int) -> Tensor:
    """Packs the keys and values of `count` tokens from `first` as (B, count, layers, 2, H, d / H)."""
    stop = first + count
    # (layers, 2, B, H, count, d / H)
    stacked = torch.stack([x[:, :, first:stop] for pair in made for x in pair])
    stacked = stacked.view(len(made), 2, *stacked.shape[1:])
    return stacked.permute(2, 4, 0, 1, 3, 5)

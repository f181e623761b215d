"""Transformer layers over packed tokens: rotary, pre-norm; how tokens attend is the caller's affair."""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embodied_mem.policy.config import PolicyConfig

SHARPNESS = 1.25
"""Scale of the query and key projections at the start, in units of 1 / sqrt(d)."""

TABLE = 4096
"""Positions whose rotations are kept ready."""


class Attend(Protocol):
    """How the tokens of one pass attend: to each other, and to what is cached."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, plain: Tensor) -> Tensor:
        """Returns what V tokens read.

        Args:
            layer: number of the layer.
            q: (V, H, d / H) queries, rotated.
            k: (V, H, d / H) keys, rotated.
            v: (V, H, d / H) values.
            plain: (V, H, d / H) the queries, not rotated.

        Returns:
            (V', d) for the last V' of the tokens; the first V - V' are wanted for their keys only.
        """


def attend_alone(layer: int, q: Tensor, k: Tensor, v: Tensor, plain: Tensor) -> Tensor:
    """Lets each token see itself only: attention over one key gives its value; see `Attend`."""
    return v.flatten(1)


class Rotary(nn.Module):
    """Rotations of query and key pairs by position (RoFormer, Su et al., 2021)."""

    def __init__(self, head_size: int, base: float) -> None:
        super().__init__()
        half = head_size // 2
        rate = base ** (-torch.arange(half, dtype=torch.float64) / half)
        self.register_buffer("rate", rate, persistent=False)
        self.register_buffer("table", self._turn(torch.arange(TABLE)), persistent=False)

    def _turn(self, position: Tensor) -> Tensor:
        # positions of a bounded bank grow with the trial: only double precision keeps their differences exact
        rate = self.rate.to(torch.float64)
        angle = (position.to(torch.float64)[:, None] * rate).remainder(2 * math.pi)
        turn = torch.polar(torch.ones_like(angle), angle)
        return turn.to(torch.promote_types(torch.get_default_dtype(), torch.complex32))[:, None]

    def forward(self, position: Tensor) -> Tensor:
        """Returns rotations (V, 1, head_size / 2), complex, of positions (V,) int64."""
        if len(position) and int(position.max()) >= TABLE:
            return self._turn(position)
        turns: Tensor = self.table[position]
        return turns


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Rotates x (V, n, head_size), whose neighbouring entries are pairs."""
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turn
    return torch.view_as_real(turned).flatten(-2)


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

    def forward(self, x: Tensor, turn: Tensor, attend: Attend, number: int) -> Tensor:
        """Runs the layer.

        Args:
            x: (V, d) tokens.
            turn: (V, 1, d / 2H) their rotations.
            attend: how they attend.
            number: of this layer, which `attend` is told.

        Returns:
            (V', d), the last V' tokens; see `Attend`.
        """
        d = x.shape[1]
        qk, v = self.qkv(self.attention_norm(x)).split([2 * d, d], dim=1)
        qk = qk.unflatten(1, (2 * self.heads, -1))  # (V, 2H, d / H)
        q, k = rotate(qk, turn).chunk(2, dim=1)
        y = attend(number, q, k, v.unflatten(1, (self.heads, -1)), qk[:, : self.heads])
        x = x[len(x) - len(y) :] + self.attention_out(y)
        return x + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x))))


class Stack(nn.Module):
    """All layers and the final norm."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.head_size, self.rope_base = config.width // config.heads, config.rope_base
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.rotary = Rotary(self.head_size, self.rope_base)

    def forward(self, x: Tensor, position: Tensor, attend: Attend) -> Tensor:
        """Runs tokens (V, d) at positions (V,); returns final-norm outputs of the last V' (`Attend`)."""
        turn = self.rotary(position)
        for number, layer in enumerate(self.layers):
            x = layer(x, turn[len(turn) - len(x) :], attend, number)
        normed: Tensor = self.norm(x)
        return normed

    def alone(self, x: Tensor) -> Tensor:
        """Runs tokens (V, d) that see nothing but themselves; returns final-norm outputs (V, d)."""
        return self(x, torch.zeros(len(x), dtype=torch.int64, device=x.device), attend_alone)

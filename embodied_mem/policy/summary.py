"""Summary banks: what becomes of the summaries that segments leave behind.

A bank holds slots, each with a token that re-enters the transformer as an input and a position.
At a segment's end the S summary tokens are written; the bank says which slots changed, and only
those are projected to keys and values again. Writes are functional in training (the gradient
flows through them) and in place while streaming.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embodied_mem.policy.config import PolicyConfig

ABSENT = 1 << 40
"""Position of a slot or key that is not there: no query's position reaches it."""


def put(x: Tensor, index: tuple[Tensor, ...], values: Tensor, inplace: bool) -> Tensor:
    """Writes `values` at `index`, in place or to a copy through which gradients flow."""
    return x.index_put_(index, values) if inplace else x.index_put(index, values)


def pad_to(x: Tensor, size: int, value: float = 0) -> Tensor:
    """Pads dimension 1 of x to at least `size`."""
    short = size - x.shape[1]
    return x if short <= 0 else F.pad(x, (0, 0) * (x.dim() - 2) + (0, short), value=value)


@dataclass(frozen=True, eq=False)
class Slots:
    """The content of a bank.

    Attributes:
        tokens: (B, M, d) what each slot holds.
        position: (B, M) int64, the slot's position in a block; `ABSENT` where the slot is empty.
        count: (B,) int64, positions taken: a block's first step comes at this position.
    """

    tokens: Tensor
    position: Tensor
    count: Tensor

    def rows(self, index: Tensor | slice) -> Slots:
        """Returns the slots of some batch rows."""
        return Slots(self.tokens[index], self.position[index], self.count[index])


class SummaryBank(nn.Module, ABC):
    """What a bank must say; `accumulate` is one, bounded and spatial banks fit the same questions."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.width = config.width
        self.size = config.summary_tokens

    def empty(self, batch: int, device: torch.device) -> Slots:
        """Returns slots that hold nothing."""
        return Slots(
            torch.zeros(batch, 0, self.width, device=device),
            torch.full((batch, 0), ABSENT, device=device),
            torch.zeros(batch, dtype=torch.int64, device=device),
        )

    def clear(self, slots: Slots, rows: Tensor) -> Slots:
        """Empties the slots of the batch rows where `rows` (B,) is True: a trial has ended."""
        return replace(
            slots,
            position=slots.position.masked_fill(rows[:, None], ABSENT),
            count=slots.count.masked_fill(rows, 0),
        )

    @abstractmethod
    def write(self, slots: Slots, rows: Tensor, summary: Tensor, *, inplace: bool) -> tuple[Slots, Tensor]:
        """Writes the summaries of closed segments.

        Args:
            slots: the bank's content, B rows.
            rows: (R,) int64, the batch rows whose segment was closed.
            summary: (R, S, d) final-norm outputs of the summary queries.
            inplace: write into the tensors of `slots` (streaming) or into copies (training).

        Returns:
            The new content and (R, S) int64: which slots changed.
        """


class AccumulateBank(SummaryBank):
    """Keeps every summary of the trial, in order (Memo)."""

    def write(self, slots: Slots, rows: Tensor, summary: Tensor, *, inplace: bool) -> tuple[Slots, Tensor]:
        """Appends the summaries behind those that are there."""
        index = slots.count[rows, None] + torch.arange(self.size, device=rows.device)  # (R, S)
        capacity = int(index.max()) + 1 if index.numel() else 0
        if inplace and capacity > slots.tokens.shape[1]:
            capacity += capacity // 2  # grow seldom
        tokens = put(pad_to(slots.tokens, capacity), (rows[:, None], index), summary, inplace)
        position = put(pad_to(slots.position, capacity, ABSENT), (rows[:, None], index), index, inplace)
        count = slots.count.index_add(0, rows, torch.full_like(rows, self.size))
        return Slots(tokens, position, count), index


BANKS: dict[str, Callable[[PolicyConfig], SummaryBank]] = {"accumulate": AccumulateBank}
"""Banks by the name in `PolicyConfig.bank`."""

"""Summary banks: what becomes of the summaries that segments leave behind.

A bank holds slots, each with a token that re-enters the transformer as an input and a position.
At a segment's end the S summary tokens are written; the bank says which slots changed, and only
those are projected to keys and values again. Writes are functional in training (the gradient
flows through them) and in place while streaming.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embodied_mem.policy.config import PolicyConfig
from embodied_mem.policy.places import Visit, Whereabouts

ABSENT = 1 << 40
"""Position of a slot or key that is not there: no query's position reaches it."""

NOWHERE = -(1 << 40)
"""Place of a slot that holds nothing."""

EMPTY = {"place": NOWHERE}
"""What a fact is where nothing is known; 0 for those that are not named."""


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
        facts: (B, ...) by name, what a bank must know of its slots beside that.
    """

    tokens: Tensor
    position: Tensor
    count: Tensor
    facts: dict[str, Tensor] = field(default_factory=dict)

    def rows(self, index: Tensor | slice) -> Slots:
        """Returns the slots of some batch rows."""
        facts = {name: value[index] for name, value in self.facts.items()}
        return Slots(self.tokens[index], self.position[index], self.count[index], facts)

    def detach(self) -> Slots:
        """Returns a copy that shares nothing with this."""
        facts = {name: value.detach().clone() for name, value in self.facts.items()}
        return Slots(
            self.tokens.detach().clone(), self.position.detach().clone(), self.count.detach().clone(), facts
        )

    def with_rows(self, index: Tensor, other: Slots) -> Slots:
        """Returns a copy with `other` as the rows `index`; padded to the larger number of slots."""
        size = max(self.tokens.shape[1], other.tokens.shape[1])
        return Slots(
            pad_to(self.tokens, size).index_copy(0, index, pad_to(other.tokens, size)),
            pad_to(self.position, size, ABSENT).index_copy(0, index, pad_to(other.position, size, ABSENT)),
            self.count.index_copy(0, index, other.count),
            {name: value.index_copy(0, index, other.facts[name]) for name, value in self.facts.items()},
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        parts = [self.tokens, self.position, self.count, *self.facts.values()]
        return sum(part.numel() * part.element_size() for part in parts)


class SummaryBank(nn.Module, ABC):
    """What a bank must say.

    Attributes:
        linked: slots see the slots before them, as Memo's do. Where they do not, a slot's keys and
            values depend on its token alone, so that slots can be replaced one by one.
    """

    linked: ClassVar[bool] = False

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.width = config.width
        self.size = config.summary_tokens
        self.capacity = 0
        """Slots that are always there; 0: as many as are written."""

    def empty(self, batch: int, device: torch.device) -> Slots:
        """Returns slots that hold nothing."""
        return Slots(
            torch.zeros(batch, self.capacity, self.width, device=device),
            torch.full((batch, self.capacity), ABSENT, device=device),
            torch.zeros(batch, dtype=torch.int64, device=device),
        )

    def clear(self, slots: Slots, rows: Tensor) -> Slots:
        """Empties the slots of the batch rows where `rows` (B,) is True: a trial has ended."""
        facts = {
            name: value.masked_fill(rows.view(-1, *(1,) * (value.dim() - 1)), EMPTY.get(name, 0))
            for name, value in slots.facts.items()
        }
        return replace(
            slots,
            position=slots.position.masked_fill(rows[:, None], ABSENT),
            count=slots.count.masked_fill(rows, 0),
            facts=facts,
        )

    @abstractmethod
    def write(
        self, slots: Slots, rows: Tensor, summary: Tensor, *, inplace: bool, visit: Visit | None = None
    ) -> tuple[Slots, Tensor]:
        """Writes the summaries of closed segments.

        Args:
            slots: the bank's content, B rows.
            rows: (R,) int64, the batch rows whose segment was closed.
            summary: (R, S, d) final-norm outputs of the summary queries.
            inplace: write into the tensors of `slots` (streaming) or into copies (training).
            visit: how the segments were spent; spatial banks need it.

        Returns:
            The new content and (R, S) int64: which slots changed.
        """

    def report(self) -> dict[str, float]:
        """Returns what a training should log of the bank since it was asked last."""
        return {}


class SpatialBank(SummaryBank):
    """A bank whose slots belong to places: keys are not rotated, and `bias` says how near a slot is."""

    @abstractmethod
    def bias(self, slots: Slots, steps: Whereabouts, length: Tensor) -> Tensor:
        """Returns what is added to the attention of steps (R, Q) to slots: (R, H, Q, M).

        Args:
            slots: the bank's content, R rows.
            steps: where the steps are.
            length: (R, Q) int64, steps of the open segment before each.
        """


class AccumulateBank(SummaryBank):
    """Keeps every summary of the trial, in order (Memo)."""

    linked = True

    def write(
        self, slots: Slots, rows: Tensor, summary: Tensor, *, inplace: bool, visit: Visit | None = None
    ) -> tuple[Slots, Tensor]:
        """Appends the summaries behind those that are there; see `SummaryBank.write`."""
        index = slots.count[rows, None] + torch.arange(self.size, device=rows.device)  # (R, S)
        capacity = int(index.max()) + 1 if index.numel() else 0
        if inplace and capacity > slots.tokens.shape[1]:
            capacity += capacity // 2  # grow seldom
        tokens = put(pad_to(slots.tokens, capacity), (rows[:, None], index), summary, inplace)
        position = put(pad_to(slots.position, capacity, ABSENT), (rows[:, None], index), index, inplace)
        count = slots.count.index_add(0, rows, torch.full_like(rows, self.size))
        return Slots(tokens, position, count), index


class FifoBank(SummaryBank):
    """Keeps the summaries of the last `slots` segments.

    A slot keeps the position at which it was written. Attention is rotary, so what a step sees are
    distances, and these never exceed those of `slots` segments, however old the trial is.
    """

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__(config)
        self.capacity = config.slots * config.summary_tokens

    def write(
        self, slots: Slots, rows: Tensor, summary: Tensor, *, inplace: bool, visit: Visit | None = None
    ) -> tuple[Slots, Tensor]:
        """Replaces the oldest segment's summaries; see `SummaryBank.write`."""
        position = slots.count[rows, None] + torch.arange(self.size, device=rows.device)  # (R, S)
        index = position % self.capacity
        where = (rows[:, None], index)
        return replace(
            slots,
            tokens=put(slots.tokens, where, summary, inplace),
            position=put(slots.position, where, position, inplace),
            count=slots.count.index_add(0, rows, torch.full_like(rows, self.size)),
        ), index


class Gate(nn.Module):
    """How much of what a slot holds gives way to a new summary, entry by entry."""

    SATURATED = 0.01

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(2 * width + 2, width)
        nn.init.normal_(self.linear.weight, std=0.5 / width**0.5)
        nn.init.constant_(self.linear.bias, -1.0)  # at first a slot keeps most of what it holds
        self._seen: list[Tensor] = []

    def forward(self, held: Tensor, new: Tensor, count: Tensor, age: Tensor, merged: Tensor) -> Tensor:
        """Merges `new` (R, S, d) into `held` where `merged` (R,) is True; elsewhere `new` is taken.

        Args:
            held: (R, S, d) what the slots hold.
            new: (R, S, d) summaries.
            count: (R,) how often each slot was written.
            age: (R,) steps since it was.
            merged: (R,) bool, the slot holds something.
        """
        facts = torch.stack([count, age], -1).to(held.dtype).log1p()  # (R, 2)
        facts = facts[:, None].expand(-1, held.shape[1], -1)
        gate = torch.sigmoid(self.linear(torch.cat([held, new, facts], -1)))  # (R, S, d)
        if self.training and bool(merged.any()):
            with torch.no_grad():
                open_ = gate[merged]
                stuck = (open_ < self.SATURATED) | (open_ > 1 - self.SATURATED)
                self._seen.append(torch.stack([stuck.float().mean(), open_.mean()]))
        return torch.where(merged[:, None, None], (1 - gate) * held + gate * self.norm(new), new)

    def report(self) -> dict[str, float]:
        """Returns the share of entries that are all but shut or all but open, and the mean."""
        if not self._seen:
            return {}
        stuck, mean = torch.stack(self._seen).mean(0).tolist()
        self._seen.clear()
        return {"gate_saturation": stuck, "gate_mean": mean}


class RewriteBank(SummaryBank):
    """One set of S slots, rewritten at every segment's end through a learned gate."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__(config)
        self.capacity = config.summary_tokens
        self.gate = Gate(config.width)

    def empty(self, batch: int, device: torch.device) -> Slots:
        """Returns slots that hold nothing; `writes` (B,) counts how often they were written."""
        writes = torch.zeros(batch, dtype=torch.int64, device=device)
        return replace(super().empty(batch, device), facts={"writes": writes})

    def write(
        self, slots: Slots, rows: Tensor, summary: Tensor, *, inplace: bool, visit: Visit | None = None
    ) -> tuple[Slots, Tensor]:
        """Merges each summary token into its slot; see `SummaryBank.write`."""
        index = torch.arange(self.size, device=rows.device).expand(len(rows), -1)  # (R, S)
        writes = slots.facts["writes"]
        age = torch.zeros_like(rows) if visit is None else visit.length
        tokens = self.gate(slots.tokens[rows], summary, writes[rows], age, writes[rows] > 0)
        where = (rows[:, None], index)
        return Slots(
            put(slots.tokens, where, tokens, inplace),
            put(slots.position, where, index, inplace),
            slots.count.index_fill(0, rows, self.size),
            {"writes": writes.index_add(0, rows, torch.ones_like(rows))},
        ), index

    def report(self) -> dict[str, float]:
        """Returns how far the gate is saturated; see `SummaryBank.report`."""
        return self.gate.report()

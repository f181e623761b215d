"""The place bank: summaries live where they were made, are revised there, and are found by place."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from embodied_mem.policy.config import PolicyConfig
from embodied_mem.policy.places import Visit, Whereabouts
from embodied_mem.policy.summary import NOWHERE, Gate, Slots, SpatialBank, put

REACH = 8.0
"""Distances are given to the bias in units of this [m]."""


class PlaceBank(SpatialBank):
    """S tokens per place, for the `slots` places that matter.

    A segment is written to the place where most of it was spent. A place that is there already is
    revised through a gate, a new one takes the summary as it is. Where the bank is full, the place
    with the fewest visits gives way, the longest unseen of those: integers decide, never learned
    floats, so that streaming and training cannot disagree. Steps see all slots, with a bias for
    relative position, identity of place, age and visits.
    """

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__(config)
        self.places = config.slots
        self.capacity = config.slots * config.summary_tokens
        self.gate = Gate(config.width)
        self.nearness = nn.Linear(6, config.heads, bias=False)
        nn.init.normal_(self.nearness.weight, std=0.1)
        with torch.no_grad():
            self.nearness.weight[:, 3] += 1.0  # what was learned here is seen first

    def empty(self, batch: int, device: torch.device) -> Slots:
        """Returns slots that hold nothing.

        Facts: `time` (B,) steps of the trial's closed segments; and per place (B, places): `place` its
        number, `visits` how often it was written, `last` when, `where` (.., 2) its position [m].
        """
        shape = (batch, self.places)
        zeros = torch.zeros(shape, dtype=torch.int64, device=device)
        facts = {
            "time": zeros[:, 0].clone(),
            "place": torch.full(shape, NOWHERE, device=device),
            "visits": zeros.clone(),
            "last": zeros.clone(),
            "where": torch.zeros(*shape, 2, device=device),
        }
        return replace(super().empty(batch, device), facts=facts)

    def write(
        self, slots: Slots, rows: Tensor, summary: Tensor, *, inplace: bool, visit: Visit | None = None
    ) -> tuple[Slots, Tensor]:
        """Revises a place, or makes room for it; see `SummaryBank.write`."""
        assert visit is not None and visit.place is not None and visit.position is not None
        facts = {name: value[rows] for name, value in slots.facts.items()}
        match = facts["place"] == visit.place[:, None]  # (R, places)
        known = match.any(1)
        number = torch.arange(self.places, device=rows.device)
        least = ((facts["visits"] << 40) + (facts["last"] << 8) + number).argmin(1)  # no two are equal
        chosen = torch.where(known, match.to(torch.int64).argmax(1), least)  # (R,)
        index = chosen[:, None] * self.size + torch.arange(self.size, device=rows.device)  # (R, S)
        now = facts["time"] + visit.length
        visits = facts["visits"].gather(1, chosen[:, None])[:, 0]
        age = now - facts["last"].gather(1, chosen[:, None])[:, 0]
        where = (rows[:, None], index)
        tokens = self.gate(slots.tokens[where], summary, visits, age, known)
        at = (rows, chosen)
        return replace(
            slots,
            tokens=put(slots.tokens, where, tokens, inplace),
            position=put(slots.position, where, torch.zeros_like(index), inplace),
            facts={
                "time": put(slots.facts["time"], (rows,), now, inplace),
                "place": put(slots.facts["place"], at, visit.place, inplace),
                "visits": put(slots.facts["visits"], at, torch.where(known, visits + 1, 1), inplace),
                "last": put(slots.facts["last"], at, now, inplace),
                "where": put(slots.facts["where"], at, visit.position, inplace),
            },
        ), index

    def bias(self, slots: Slots, steps: Whereabouts, length: Tensor) -> Tensor:
        """Returns the bias of steps (R, Q) for slots (R, H, Q, M); see `SpatialBank.bias`."""
        facts = slots.facts
        offset = facts["where"][:, None] - steps.pose[:, :, None, :2]  # (R, Q, places, 2)
        sine, cosine = steps.pose[:, :, None, 2], steps.pose[:, :, None, 3]
        ahead = cosine * offset[..., 0] + sine * offset[..., 1]
        left = cosine * offset[..., 1] - sine * offset[..., 0]
        age = (facts["time"][:, None] + length)[:, :, None] - facts["last"][:, None]  # (R, Q, places)
        columns = [
            ahead / REACH,
            left / REACH,
            offset.norm(dim=-1).log1p(),
            (facts["place"][:, None] == steps.place[:, :, None]).to(ahead.dtype),
            age.clamp(min=0).to(ahead.dtype).log1p() / 4,
            facts["visits"][:, None].to(ahead.dtype).log1p().expand_as(ahead),
        ]
        bias = self.nearness(torch.stack(columns, -1)).permute(0, 3, 1, 2)  # (R, H, Q, places)
        return bias.repeat_interleave(self.size, 3)

    def report(self) -> dict[str, float]:
        """Returns how far the gate is saturated; see `SummaryBank.report`."""
        return self.gate.report()

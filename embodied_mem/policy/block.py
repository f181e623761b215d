"""One pass of the Memo transformer: [changed slots | steps | queries] over a context of keys and values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embodied_mem.policy.config import PolicyConfig
from embodied_mem.policy.core import Core
from embodied_mem.policy.layers import SlotView, Stack
from embodied_mem.policy.place_bank import PlaceBank
from embodied_mem.policy.places import Whereabouts
from embodied_mem.policy.summary import (
    ABSENT,
    AccumulateBank,
    FifoBank,
    RewriteBank,
    Slots,
    SummaryBank,
)

BANKS: dict[str, Callable[[PolicyConfig], SummaryBank]] = {
    "accumulate": AccumulateBank,
    "fifo": FifoBank,
    "rewrite": RewriteBank,
    "place": PlaceBank,
}
"""Banks by the name in `PolicyConfig.bank`."""


@dataclass(frozen=True, eq=False)
class Block:
    """What one pass runs on beside the tokens, for R rows.

    Attributes:
        slots: the bank's content.
        fresh: (R, P) int64, slots that changed and are projected in this pass.
        there: (R,) bool, rows for which that is so; None: all.
        context: (R, C, layers, 2, H, d / H) keys and values: `raw` steps, then the projected slots.
        context_position: (R, C) int64.
        raw: how many raw steps the context holds.
        begin: (R,) int64, steps of the open segment before this pass.
    """

    slots: Slots
    fresh: Tensor
    there: Tensor | None
    context: Tensor
    context_position: Tensor
    raw: int
    begin: Tensor

    def fresh_tokens(self) -> Tensor:
        """Returns the tokens (R, P, d) of the changed slots."""
        return self.slots.tokens.gather(1, self.fresh[..., None].expand(-1, -1, self.slots.tokens.shape[2]))


class BlockCore(Core):
    """A core whose passes run slots, steps and summary queries together."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.stack = Stack(config)
        self.bank = BANKS[config.bank](config)
        self.spatial = self.bank.spatial
        self.queries = nn.Parameter(torch.randn(config.summary_tokens, config.width) * 0.05)

    def run_block(
        self,
        block: Block,
        x: Tensor,
        length: Tensor,
        ask: bool,
        steps: Whereabouts | None,
        last: Whereabouts | None,
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]], Tensor]:
        """Runs [changed slots | steps | queries] for R rows, where P, T or the queries may be none.

        Args:
            block: the slots and the context.
            x: (R, T, d) embedded steps.
            length: (R,) int64, how many of them are there.
            ask: append the summary queries, behind the steps that are there.
            steps: (R, T) where the steps were taken; spatial banks need it.
            last: (R, 1) where the last one was.

        Returns:
            The outputs, the keys and values, and the steps' positions (`ABSENT` where padded).
        """
        offset = torch.arange(x.shape[1], device=x.device)
        here = (block.slots.count + block.begin)[:, None]  # (R, 1) position of the first step
        step_position = torch.where(offset < length[:, None], here + offset, ABSENT)
        tokens, position, key_position = [x], [here + offset], [step_position]
        if block.fresh.shape[1]:
            slot_position = block.slots.position.gather(1, block.fresh)  # (R, P)
            if block.there is not None:
                slot_position = torch.where(block.there[:, None], slot_position, ABSENT)
            tokens.insert(0, block.fresh_tokens())
            # an absent token must see something, and nobody may see it
            position.insert(0, torch.where(slot_position == ABSENT, here, slot_position))
            key_position.insert(0, slot_position)
        if ask:
            tokens.append(self.queries.expand(len(x), -1, -1))
            position.append(here + length[:, None] + torch.arange(len(self.queries), device=x.device))
            key_position.append(position[-1])
        view = None if self.bank.linked else self._view(block, x.shape[1], length, ask, steps, last)
        h, made = self.stack(
            torch.cat(tokens, 1),
            torch.cat(position, 1),
            torch.cat(key_position, 1),
            block.context,
            block.context_position,
            view,
        )
        return h, made, step_position

    def _view(
        self,
        block: Block,
        count: int,
        length: Tensor,
        ask: bool,
        steps: Whereabouts | None,
        last: Whereabouts | None,
    ) -> SlotView:
        """Returns how slots differ in a pass over `count` steps; see `run_block`."""
        fresh = block.fresh.shape[1]
        asked = len(self.queries) if ask else 0
        if not self.spatial or not count + asked:
            return SlotView(fresh)
        assert steps is not None and last is not None
        parts = [(steps, block.begin[:, None] + torch.arange(count, device=length.device))]
        if ask:
            index = torch.zeros(asked, dtype=torch.int64, device=length.device)
            at_end = Whereabouts(last.place[:, index], last.pose[:, index])
            parts.append((at_end, (block.begin + length - 1)[:, None].expand(-1, asked)))
        at = Whereabouts(torch.cat([p.place for p, _ in parts], 1), torch.cat([p.pose for p, _ in parts], 1))
        bias = self.bank.bias(block.slots, at, torch.cat([t for _, t in parts], 1))  # (R, H, Q, M)
        again = bias.gather(3, block.fresh[:, None, None].expand(-1, *bias.shape[1:3], -1))
        bias = F.pad(torch.cat([bias, again], 3), (block.raw, count + asked, fresh, 0))
        keys = torch.zeros(bias.shape[3], dtype=torch.bool, device=length.device)
        keys[block.raw : block.raw + block.slots.tokens.shape[1] + fresh] = True
        return SlotView(fresh, keys, bias)

"""What the Memo core carries from step to step while it acts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from embodied_mem.policy.places import Whereabouts
from embodied_mem.policy.summary import Slots


@dataclass(frozen=True, eq=False)
class MemoState:
    """What the policy carries from step to step, for B environments.

    The cache holds the raw steps of the open segment in its first `longest_segment` columns, room for
    the S summary queries, and the bank's slots behind them. It does not grow with the raw past.

    Attributes:
        slots: the summary bank's content.
        cache: (layers, 2, B, H, C, d / H) keys (rotated) and values.
        cache_position: (B, C) int64, `ABSENT` where a column holds nothing.
        length: (B,) int64, raw steps in the open segment.
        limit: (B,) int64, steps at which the open segment will be closed.
        closed: (B,) bool, True where the last step closed a segment.
        fresh: (B, S) int64, the slots which that changed, not yet projected.
        trail: (B, longest_segment) where the open segment's steps were taken; None without places.
    """

    slots: Slots
    cache: Tensor
    cache_position: Tensor
    length: Tensor
    limit: Tensor
    closed: Tensor
    fresh: Tensor
    trail: Whereabouts | None = None

    def rows(self, index: Tensor) -> MemoState:
        """Returns a copy of some batch rows; `index` is int64 (R,)."""
        parts: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        cache = parts.pop("cache")
        for name, part in parts.items():
            if part is not None:
                parts[name] = part[index] if isinstance(part, Tensor) else part.rows(index)
        return MemoState(cache=cache[:, :, index], **parts)

    def clone(self) -> MemoState:
        """Returns a copy that can be written in place."""
        trail = self.trail
        return MemoState(
            self.slots.detach(), self.cache.clone(), self.cache_position.clone(), self.length, self.limit,
            self.closed, self.fresh.clone(),
            None if trail is None else Whereabouts(trail.place.clone(), trail.pose.clone()),
        )  # fmt: skip

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        parts: list[Any] = [getattr(self, f.name) for f in fields(self)]
        parts += [] if self.trail is None else [self.trail.place, self.trail.pose]
        own = sum(part.numel() * part.element_size() for part in parts if isinstance(part, Tensor))
        return own + self.slots.nbytes

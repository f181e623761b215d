"""What every policy core can do, whatever its memory; and the core that has none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embodied_mem.policy.config import PolicyConfig
from embodied_mem.policy.layers import Stack
from embodied_mem.policy.places import Whereabouts
from embodied_mem.policy.segments import SegmentPlan


class Carried(Protocol):
    """What a core hands from rollout to rollout: a bank's slots, a cache, a hidden state; N rows."""

    def rows(self, index: Tensor) -> Any:
        """Returns some batch rows."""

    def detach(self) -> Any:
        """Returns a copy that shares nothing with this."""


@dataclass(frozen=True, eq=False)
class Carry:
    """What a rollout starts from, detached: the memory, and the raw steps of each open segment.

    Attributes:
        slots: the memory, N rows.
        prefix: (N,) int64, raw steps of the open segments, on the host.
    """

    slots: Any
    prefix: NDArray[np.int64]


class Core(nn.Module, ABC):
    """What every policy core can do, whatever its memory.

    Attributes:
        segmented: steps are cut into segments that end with a summary; "jitter" says where.
        spatial: `advance` and `replay` must be told where the steps are taken.
    """

    segmented: ClassVar[bool] = False
    spatial: bool = False

    def report(self) -> dict[str, float]:
        """Returns what a training should log of the core since it was asked last."""
        return {}

    @abstractmethod
    def initial_state(self, batch: int) -> Any:
        """Returns the state of `batch` environments before their first step."""

    @abstractmethod
    def carried(self, state: Any) -> tuple[Carried | None, NDArray[np.int64]]:
        """Returns what a rollout that starts from `state` needs: memory and open segments' lengths (B,)."""

    @abstractmethod
    def advance(
        self,
        x: Tensor,
        state: Any,
        start: Tensor | None = None,
        *,
        where: Whereabouts | None = None,
        jitter: np.random.Generator | None = None,
        inplace: bool = False,
    ) -> tuple[Tensor, Any]:
        """Takes one step.

        Args:
            x: (B, d) embedded observations.
            state: the state before the step.
            start: (B,) bool, True where a trial starts: its state is cleared first.
            where: (B,) where the steps are taken; spatial cores need it.
            jitter: draws the lengths of new segments; None: every segment has length L.
            inplace: reuse the tensors of `state`, which must not be used again. Needs no_grad.

        Returns:
            (B, d) features and the next state.
        """

    @abstractmethod
    def replay(
        self,
        x: Tensor,
        plan: SegmentPlan,
        carry: Carry | None = None,
        *,
        where: Whereabouts | None = None,
        end: bool = False,
    ) -> tuple[Tensor, Any]:
        """Runs whole sequences in few passes.

        Args:
            x: (E, N, d) embedded observations, the plan's prefix included.
            plan: how the sequences are cut.
            carry: what the rollout started from; None: every row starts a trial.
            where: (E, N) where the steps are taken; spatial cores need it.
            end: return the state after the last step too; the caller restores its `limit`. Needs no_grad.

        Returns:
            (E, N, d) features, zero where the plan has no step, and the state or None.
        """


@dataclass(frozen=True, eq=False)
class NoState:
    """The state of a core without memory."""

    batch: int
    closed: Tensor

    def rows(self, index: Tensor) -> NoState:
        """Returns the state of some batch rows."""
        return NoState(len(index), self.closed[index])

    @property
    def nbytes(self) -> int:
        """Bytes held: none."""
        return 0


class NoMemory(Core):
    """The same layers without memory: each step sees itself alone."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.stack = Stack(config)

    def initial_state(self, batch: int) -> NoState:
        """Returns an empty state."""
        return NoState(batch, torch.zeros(batch, dtype=torch.bool, device=self.stack.norm.weight.device))

    def carried(self, state: NoState) -> tuple[Carried | None, NDArray[np.int64]]:
        """Returns that nothing is carried on; see `Core.carried`."""
        return None, np.zeros(state.batch, np.int64)

    def advance(
        self,
        x: Tensor,
        state: NoState,
        start: Tensor | None = None,
        *,
        where: Whereabouts | None = None,
        jitter: np.random.Generator | None = None,
        inplace: bool = False,
    ) -> tuple[Tensor, NoState]:
        """Takes one step; see `Core.advance`."""
        return self.stack.alone(x), state

    def replay(
        self,
        x: Tensor,
        plan: SegmentPlan,
        carry: Carry | None = None,
        *,
        where: Whereabouts | None = None,
        end: bool = False,
    ) -> tuple[Tensor, NoState | None]:
        """Runs all steps at once; see `Core.replay`."""
        h = self.stack.alone(x.flatten(0, 1)).view(x.shape)
        return h, self.initial_state(x.shape[1]) if end else None

"""A trained pointing policy as the loop's policy: the same choices and errands as in its training."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol

from embodied_mem.sim.pointing.candidates import arranged, decision_observation, without
from embodied_mem.sim.pointing.errand import ErrandConfig, Errands
from embodied_mem.types import MemoryTokens, Observation


class Chooser(Protocol):
    """Chooses what to point at, such as a trained policy."""

    def act(self, obs: Any, state: Any = None) -> tuple[Any, Any]:
        """Returns the choice, and its own state."""


@dataclass(eq=False)
class PointingState:
    """What the agent keeps between steps.

    Attributes:
        errands: the errand that is carried out.
        policy: the network's state.
        decisions: choices so far.
    """

    errands: Errands
    policy: Any = None
    decisions: int = 0


class PointingAgent:
    """Decides when an errand is over; in between it is carried out.

    Args:
        agent: chooses: a policy trained on `Pointing`, or a `Heuristic`.
        config: how its choices are carried out.
        hidden: parts that it does not see; see `without`.
    """

    def __init__(self, agent: Chooser, config: ErrandConfig, hidden: Collection[str] = ()) -> None:
        self.agent, self.config, self.hidden = agent, config, tuple(hidden)

    def act(self, obs: Observation, tokens: MemoryTokens, state: Any) -> tuple[Any, PointingState]:
        """Returns the sub-goal or the primitive action of this step; tokens must be read with `READ`."""
        if not isinstance(state, PointingState) or obs.is_first:
            state = PointingState(Errands(self.config))
        errands, tokens = state.errands, arranged(tokens)
        action = errands.next(obs, tokens)
        if action is None:
            offered = errands.offer(obs, without(tokens, self.hidden))
            observation = decision_observation(
                obs, tokens, offered, errands.outcome, self.hidden, errands.tried(obs, tokens)
            )
            choice, state.policy = self.agent.act(observation, state.policy)
            state.decisions += 1
            errands.start(int(choice), obs, tokens)
            action = errands.next(obs, tokens)
        return action, state

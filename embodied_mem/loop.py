"""The one loop: observe -> perceive -> write -> read -> act.

Simulation, robot and replay step through it; they differ in the world they hand
to it and in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from embodied_mem.memory import Memory
from embodied_mem.types import MemoryTokens, Observation, Percept, Receipt


class World(Protocol):
    """A simulator, a robot or a log."""

    def observe(self) -> Observation | None:
        """Returns the next observation, or None where the world has ended."""

    def act(self, action: Any) -> None:
        """Carries out a primitive action; a log does nothing."""


class Policy(Protocol):
    """Anything that chooses actions from an observation and memory tokens."""

    def act(self, obs: Observation, tokens: MemoryTokens, state: Any) -> tuple[Any, Any]:
        """Returns the action and the policy's next state; `state` is None at the start."""


class Controller(Protocol):
    """Turns a policy's action or sub-goal into a primitive action of the world."""

    def step(self, action: Any, memory: Memory) -> Any:
        """Returns the primitive action for this step."""


class Identity:
    """The controller of worlds whose policy already chooses primitive actions."""

    def step(self, action: Any, memory: Memory) -> Any:
        """Returns the action as it is."""
        return action


@dataclass(frozen=True, eq=False)
class Moment:
    """One step of the loop, for those who watch it (the log's writer, the viewer)."""

    obs: Observation
    percept: Percept
    receipt: Receipt
    tokens: MemoryTokens


@dataclass
class Loop:
    """Steps a world, its perception, its memory and its policy.

    `sense` and `act` are the two halves of `step`, so that a trainer which chooses
    the actions itself (`MemoryWrapper`) goes through the same code.
    """

    world: World
    perception: Callable[[Observation], Percept]
    memory: Memory
    policy: Policy | None = None
    controller: Controller = Identity()
    listeners: Sequence[Callable[[Moment], None]] = ()
    state: Any = None

    def sense(self) -> Moment | None:
        """Observes, perceives, writes and reads; None where the world has ended."""
        obs = self.world.observe()
        if obs is None:
            return None
        for command in obs.commands:
            self.memory.apply(command)
        percept = self.perception(obs)
        receipt = self.memory.write(percept)
        tokens = self.memory.read(percept.map_T_base, obs.goal)
        moment = Moment(obs, percept, receipt, tokens)
        for listener in self.listeners:
            listener(moment)
        return moment

    def act(self, action: Any) -> None:
        """Hands an action to the controller, and what it makes of it to the world."""
        self.world.act(self.controller.step(action, self.memory))

    def step(self) -> Moment | None:
        """Senses and, where there is a policy, acts; None where the world has ended."""
        moment = self.sense()
        if moment is not None and self.policy is not None:
            action, self.state = self.policy.act(moment.obs, moment.tokens, self.state)
            self.act(action)
        return moment

    def run(self, steps: int | None = None) -> int:
        """Steps until the world ends or `steps` are done; returns the number of steps."""
        count = 0
        while (steps is None or count < steps) and self.step() is not None:
            count += 1
        return count

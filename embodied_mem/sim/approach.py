"""A controller for goals that stand where nobody can drive: it goes to the free floor nearest to them."""

from __future__ import annotations

from typing import Any

from embodied_mem.loop import Controller
from embodied_mem.memory import Memory
from embodied_mem.memory.navigation import centers_of, nearest_traversable
from embodied_mem.sim.explorer import Subgoal


class Approach:
    """Moves a sub-goal on or in something to the free floor before it.

    Args:
        controller: goes to sub-goals on free floor.
        snap: how far away the floor may be [m].
    """

    def __init__(self, controller: Controller, snap: float = 1.5) -> None:
        self.controller, self.snap = controller, snap

    def step(self, action: Any, memory: Memory) -> Any:
        """Returns the next primitive action."""
        if isinstance(action, Subgoal):
            grid = memory.grid_map()
            cell = nearest_traversable(grid, action.position, self.snap)
            if cell >= 0:
                action = Subgoal(centers_of(grid, [cell])[0])  # type: ignore[arg-type]
        return self.controller.step(action, memory)

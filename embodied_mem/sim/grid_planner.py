"""A way through a MiniGrid world for somebody who knows all of it: doors, keys, boxes, obstacles."""

from __future__ import annotations

import copy
import heapq
from collections.abc import Iterator
from typing import Any

from embodied_mem.errors import ConfigError
from embodied_mem.sim.grid_controller import DROP, FORWARD, LEFT, PICKUP, RIGHT, TOGGLE
from embodied_mem.types import MemoryTokens, Observation

DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))
LOCKED_COST, THING_COST, TURN_COST = 30, 8, 0.01
"""A locked door on the way costs about as much as fetching its key, a thing as much as putting it away."""
MOST_ACTIONS = 1000

Cell = tuple[int, int]


def target_of(grid_env: Any) -> tuple[Cell, bool] | None:
    """Returns the cell that a MiniGrid world's task is about, and whether its thing has to be picked up.

    None where the world has no such cell, as Playground has none.
    """
    if hasattr(grid_env, "success_pos"):  # MemoryEnv
        return (int(grid_env.success_pos[0]), int(grid_env.success_pos[1])), False
    for cell, thing in _things(grid_env.grid):
        if thing is getattr(grid_env, "obj", None):
            return cell, True
    goals = [cell for cell, thing in _things(grid_env.grid) if thing.type == "goal"]
    return (goals[0], False) if goals else None


def _things(grid: Any) -> Iterator[tuple[Cell, Any]]:
    for index, thing in enumerate(grid.grid):
        if thing is not None:
            yield (index % grid.width, index // grid.width), thing


def steps_around_walls(grid: Any, start: Cell, target: Cell) -> int | None:
    """Returns the number of steps between two cells where walls alone are in the way; None where no way."""
    seen, ring, count = {start}, [start], 0
    while ring:
        if target in ring:
            return count
        fresh = []
        for x, y in ring:
            for dx, dy in DIRECTIONS:
                cell = (x + dx, y + dy)
                inside = 0 <= cell[0] < grid.width and 0 <= cell[1] < grid.height
                if cell not in seen and inside and getattr(grid.get(*cell), "type", "") != "wall":
                    seen.add(cell)
                    fresh.append(cell)
        ring, count = fresh, count + 1
    return None


def plan(grid_env: Any) -> GridPlanner | None:
    """Returns a plan for a MiniGrid world's task, None where the planner finds none."""
    try:
        return GridPlanner(grid_env)
    except ConfigError:
        return None


class GridPlanner:
    """Finds actions that do a MiniGrid world's task, by doing it in a copy of the world.

    The way is a shortest path on which locked doors and things cost more than free cells; keys are
    fetched, boxes opened and things put away as they come. It is a shortest way where nothing has to be
    fetched, and a good one otherwise.

    Args:
        grid_env: MiniGrid's own environment, in any state; it is not changed.

    Raises:
        ConfigError: the task cannot be done, or is about no cell.
    """

    def __init__(self, grid_env: Any) -> None:
        self._env = copy.deepcopy(grid_env)
        self.actions: list[int] = []
        self.moves = 0
        found = target_of(self._env)
        if found is None:
            raise ConfigError(f"{type(grid_env).__name__} has no goal to find a way to")
        target, is_thing = found
        if is_thing:
            self._take(lambda: target_of(self._env)[0])  # type: ignore[index]
        else:
            self._go(target, beside=False)

    @property
    def _here(self) -> Cell:
        return int(self._env.agent_pos[0]), int(self._env.agent_pos[1])

    def _do(self, action: int) -> None:
        before = self._here
        self._env.step(action)
        self._env.step_count = 0  # the copy's own limit must not end it
        self.actions.append(action)
        self.moves += self._here != before
        if len(self.actions) > MOST_ACTIONS:
            raise ConfigError("found no way to do this MiniGrid task")

    def _face(self, cell: Cell) -> None:
        x, y = self._here
        wanted = DIRECTIONS.index((cell[0] - x, cell[1] - y))
        turn = (wanted - self._env.agent_dir) % 4
        for _ in range(1 if turn == 3 else turn):
            self._do(LEFT if turn == 3 else RIGHT)

    def _cost(self, cell: Cell) -> float:
        thing = self._env.grid.get(*cell)
        if thing is None or thing.can_overlap():
            return 1.0 if thing is None or thing.type != "lava" else float("inf")
        if thing.type == "door":
            return 1.0 + (LOCKED_COST if thing.is_locked else 1)
        return float("inf") if thing.type == "wall" else 1.0 + THING_COST

    def _path(self, goal: Cell, beside: bool) -> list[Cell]:
        """Returns the cheapest cells from here, without it, to a cell or to one beside it."""
        start = (self._here, int(self._env.agent_dir))
        queue: list[tuple[float, tuple[Cell, int], list[Cell]]] = [(0.0, start, [])]
        done: set[tuple[Cell, int]] = set()
        while queue:
            cost, (cell, heading), path = heapq.heappop(queue)
            if (cell, heading) in done:
                continue
            done.add((cell, heading))
            if cell == goal or (beside and abs(cell[0] - goal[0]) + abs(cell[1] - goal[1]) == 1):
                return path
            for way, (dx, dy) in enumerate(DIRECTIONS):
                near = (cell[0] + dx, cell[1] + dy)
                step = float("inf") if beside and near == goal else self._cost(near)
                if step < float("inf") and (near, way) not in done:
                    step += TURN_COST * min((way - heading) % 4, (heading - way) % 4)
                    heapq.heappush(queue, (cost + step, (near, way), [*path, near]))
        raise ConfigError("found no way to do this MiniGrid task")

    def _go(self, goal: Cell, beside: bool) -> None:
        """Goes to a cell, or beside it and faces it; clears the way."""
        while path := self._path(goal, beside):
            in_the_way = (thing for cell in path if (thing := self._obstacle(cell)) is not None)
            first = next(in_the_way, None)
            color = first.color if first is not None and getattr(first, "is_locked", False) else ""
            if color and not self._holds("key", color):
                self._take(lambda color=color: self._key(color))
                continue
            cell = path[0]
            self._face(cell)
            thing = self._obstacle(cell)
            if thing is None:
                self._do(FORWARD)
            elif thing.type in ("door", "box"):
                self._do(TOGGLE)
            else:
                self._clear(cell, path)
        if beside:
            self._face(goal)

    def _obstacle(self, cell: Cell) -> Any:
        """Returns what has to be opened or taken away before the cell can be entered, None where nothing."""
        thing = self._env.grid.get(*cell)
        return None if thing is None or thing.can_overlap() else thing

    def _holds(self, kind: str, color: str) -> bool:
        held = self._env.carrying
        return held is not None and held.type == kind and held.color == color

    def _key(self, color: str) -> Cell:
        """Returns where the key of a colour is, after opening the box that hides it."""
        for cell, thing in list(_things(self._env.grid)):
            if thing.type == "key" and thing.color == color:
                return cell
            inside = getattr(thing, "contains", None)
            if inside is not None and inside.type == "key" and inside.color == color:
                self._go(cell, beside=True)
                self._do(TOGGLE)
                return cell
        raise ConfigError(f"this MiniGrid world has no {color} key")

    def _take(self, where: Any) -> None:
        """Picks up what is at a cell, which may change on the way."""
        self._go(where(), beside=True)
        while self._env.carrying is not None:
            self._put_down(set())
            self._go(where(), beside=True)
        self._do(PICKUP)

    def _clear(self, cell: Cell, path: list[Cell]) -> None:
        """Takes the thing in a cell ahead out of the way; what was carried stays behind."""
        if self._env.carrying is not None:
            self._put_down({cell, *path})
            self._go(cell, beside=True)
        if self._env.carrying is None:
            self._do(PICKUP)
            held: Any = self._env.carrying
            if held.type != "key":  # a key may be of use
                self._put_down({cell, *path})

    def _put_down(self, way: set[Cell]) -> None:
        """Drops what is carried at the nearest cell that is in nobody's way."""
        queue, seen = [(self._here, list[Cell]())], {self._here}
        grid = self._env.grid
        while queue:
            (x, y), path = queue.pop(0)
            for dx, dy in DIRECTIONS:
                cell = (x + dx, y + dy)
                if (
                    grid.get(*cell) is None
                    and cell not in way
                    and cell != self._here
                    and self._is_aside(cell)
                ):
                    for step in path:
                        self._face(step)
                        self._do(FORWARD)
                    self._face(cell)
                    self._do(DROP)
                    return
            for dx, dy in DIRECTIONS:
                near = (x + dx, y + dy)
                thing = grid.get(*near)
                if near not in seen and (thing is None or (thing.type == "door" and thing.is_open)):
                    seen.add(near)
                    queue.append((near, [*path, near]))
        raise ConfigError("found no way to do this MiniGrid task")

    def _is_aside(self, cell: Cell) -> bool:
        """True where a cell is beside no door."""
        around = [self._env.grid.get(cell[0] + dx, cell[1] + dy) for dx, dy in DIRECTIONS]
        return not any(thing is not None and thing.type == "door" for thing in around)


class GridOracle:
    """Carries out the plan of somebody who knows the whole world, which no agent could know.

    Args:
        grid_env: MiniGrid's own environment, whose ground truth it reads.
    """

    def __init__(self, grid_env: Any) -> None:
        self._env = grid_env

    def act(self, obs: Observation, tokens: MemoryTokens, state: Any) -> tuple[int | None, Any]:
        """Returns the next action of the plan, None after its last.

        Raises:
            ConfigError: the world's task is about no cell.
        """
        if obs.is_first or state is None:
            if target_of(self._env) is None:
                raise ConfigError(f"{type(self._env).__name__} has no goal to know the way to")
            found = plan(self._env)
            state = [] if found is None else list(found.actions)
        return (state[0] if state else None), state[1:]

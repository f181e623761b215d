"""MiniGrid worlds as `Observation`s: the symbolic view and the agent's pose."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import minigrid  # noqa: F401  (registers the MiniGrid ids)
import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.memory import MemoryConfig
from embodied_mem.perception import PerceptionConfig
from embodied_mem.perception.grid import GRID_LABELS
from embodied_mem.sim.explorer import Explorer
from embodied_mem.sim.grid_controller import FORWARD, GridController
from embodied_mem.sim.grid_memory import grid_memory_config
from embodied_mem.sim.grid_planner import GridOracle, plan, steps_around_walls, target_of
from embodied_mem.sim.grid_seeker import GridSeeker
from embodied_mem.sim.nav_measures import Leg, NavMeasures
from embodied_mem.types import Goal, GridView, Observation

STEP_NS = 100_000_000
"""One MiniGrid step is 100 ms of log time."""

GridObs = dict[str, Any]


def grid_pose(i: int, j: int, direction: int, cell_size: float = 1.0) -> Pose:
    """Returns `map_T_base` of cell (i, j) and direction 0-3 (right, down, left, up).

    MiniGrid's rows grow downwards and its directions turn clockwise; the map's y axis points
    up and its angles turn counter-clockwise (REP-103).
    """
    x, y = (i + 0.5) * cell_size, -(j + 0.5) * cell_size
    sine, cosine = ((0.0, 1.0), (-1.0, 0.0), (0.0, -1.0), (1.0, 0.0))[direction]
    half = math.atan2(sine, cosine) / 2
    return Pose(np.array([x, y, 0.0]), np.array([0.0, 0.0, math.sin(half), math.cos(half)]))


class MiniGridTask(gymnasium.Env[GridObs, np.int64]):
    """Any MiniGrid environment, observed by symbolic view and pose.

    ## Description
    Wraps a registered MiniGrid id. `observation` gives the last step as an
    `embodied_mem.types.Observation`, which is what perception and the log use.

    ## Action Space
    MiniGrid's `Discrete(7)`: left, right, forward, pickup, drop, toggle, done.

    ## Observation Space
    A `Dict` of `view`, the symbolic partial view (V, V, 3) uint8, and `pose`, (4,) float32: x [m],
    y [m] in the map frame, sine and cosine of the yaw.

    ## Rewards
    Those of the MiniGrid id.

    ## Starting State
    That of the MiniGrid id.

    ## Episode End
    That of the MiniGrid id, with `max_steps` as the limit where it is given. Where the task is about a
    cell (a goal, something to pick up), `info` has success, spl, soft_spl, distance_to_goal (around walls
    alone), path_length and collisions, in cells. The shortest way is that of a plan which knows the whole
    world; with keys to fetch it is a good way, and SPL is at most 1. (Of 60 of the largest mazes the planner
    finds no plan for one; the way around walls counts then.)

    ## Arguments
    * `minigrid_id`: for example "MiniGrid-MultiRoom-N6-v0".
    * `max_steps=None`: step limit, MiniGrid's own where None.
    * `view_size=7`: edge of the symbolic view [cells], odd.
    * `objects=12`: how many objects a policy sees in the memory's tokens.

    ## Version History
    * v0: first version.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        minigrid_id: str,
        max_steps: int | None = None,
        view_size: int = 7,
        objects: int = 12,
        render_mode: str | None = None,
    ) -> None:
        kwargs: dict[str, Any] = {"agent_view_size": view_size, "render_mode": render_mode}
        if max_steps is not None:
            kwargs["max_steps"] = max_steps
        grid_env: Any = gymnasium.make(minigrid_id, disable_env_checker=True, **kwargs).unwrapped
        self.grid_env, self.objects = grid_env, objects
        self.render_mode = render_mode
        self.action_space = grid_env.action_space
        extent = float(max(grid_env.width, grid_env.height))
        bound = np.array([extent, extent, 1, 1], np.float32)
        self.observation_space = gymnasium.spaces.Dict(
            {
                # 15 and not 255: these are symbols, not an image, and SB3 tells them apart by the bound.
                "view": gymnasium.spaces.Box(0, 15, (view_size, view_size, 3), np.uint8),
                "pose": gymnasium.spaces.Box(-bound, bound, dtype=np.float32),
            }
        )
        self._steps, self._collisions = 0, 0
        self._last: dict[str, Any] = {}
        self._measures: NavMeasures | None = None

    def memory_config(self) -> MemoryConfig:
        """Returns the memory's settings for this world."""
        return grid_memory_config(objects=self.objects)

    def perception_config(self) -> PerceptionConfig:
        """Returns perception's settings for this world."""
        return PerceptionConfig()

    def controller(self) -> GridController:
        """Returns a controller that turns sub-goals into this world's actions."""
        return GridController()

    def explorer(self) -> Explorer:
        """Returns the explorer for this world."""
        return Explorer()

    def seeker(self) -> GridSeeker:
        """Returns an agent that explores, and goes to the goal once the memory knows it."""
        return GridSeeker(self.explorer())

    def oracle(self) -> GridOracle:
        """Returns an agent that knows the whole world, and the way through it."""
        return GridOracle(self.grid_env)

    def _encode(self, view: NDArray[np.uint8]) -> GridObs:
        pose = self._pose()
        yaw = pose.yaw
        return {
            "view": view.astype(np.uint8),
            "pose": np.array([*pose.position[:2], math.sin(yaw), math.cos(yaw)], np.float32),
        }

    def _pose(self) -> Pose:
        i, j = self.grid_env.agent_pos
        return grid_pose(int(i), int(j), int(self.grid_env.agent_dir))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[GridObs, dict[str, Any]]:
        """Draws a new world; the same seed gives the same world."""
        super().reset(seed=seed)
        obs, info = self.grid_env.reset(seed=int(self.np_random.integers(2**31)), options=options)
        self._steps, self._collisions = 0, 0
        self._last = {"view": obs["image"], "is_first": True}
        self._start_measures()
        return self._encode(obs["image"]), {**info, **self._measured(False)}

    def _start_measures(self) -> None:
        """Notes the goal and the shortest way to it, where the world's task is about a cell."""
        target = target_of(self.grid_env)
        self._measures = None
        if target is None:
            return
        self._target, is_thing = target
        self._short = int(is_thing)  # a thing is reached from the cell beside it
        leg = Leg(str(self.grid_env.mission), shortest=float(self._distance()))
        if is_thing:  # with doors, keys and boxes in between the way is what a plan needs
            found = plan(self.grid_env)
            leg.shortest = leg.shortest if found is None else float(found.moves)
        self._measures = NavMeasures([leg])

    def _distance(self) -> float:
        i, j = self.grid_env.agent_pos
        steps = steps_around_walls(self.grid_env.grid, (int(i), int(j)), self._target)
        return np.inf if steps is None else float(max(steps - self._short, 0))

    def _measured(self, collided: bool) -> dict[str, Any]:
        """Returns what navigation tasks measure, nothing where there is no goal."""
        if self._measures is None:
            return {}
        distance = 0.0 if self._measures.current.success else self._distance()
        return self._measures.info(distance, self._collisions, collided)

    def step(self, action: np.int64 | int) -> tuple[GridObs, float, bool, bool, dict[str, Any]]:
        """Carries out one of MiniGrid's actions."""
        before = tuple(self.grid_env.agent_pos)
        obs, reward, terminated, truncated, info = self.grid_env.step(int(action))
        self._steps += 1
        moved = tuple(self.grid_env.agent_pos) != before
        collided = int(action) == FORWARD and not moved
        self._collisions += collided
        self._last = {
            "view": obs["image"],
            "action": int(action),
            "reward": float(reward),
            "terminated": bool(terminated),
            "truncated": bool(truncated),
        }
        success = bool(terminated and reward > 0)
        if self._measures is not None:
            self._measures.walk(float(moved))
            self._measures.current.success = success
        info = {**info, **self._measured(collided), "is_success": success}
        return self._encode(obs["image"]), float(reward), bool(terminated), bool(truncated), info

    @property
    def observation(self) -> Observation:
        """The last step as the loop's `Observation`."""
        last = dict(self._last)
        carried = self.grid_env.carrying
        carrying = None
        if carried is not None:
            kind, color, _ = carried.encode()
            carrying = (int(kind), int(color))
        view = GridView(last.pop("view").astype(np.uint8), carrying=carrying)
        mission = str(self.grid_env.mission)
        return Observation(
            stamp=self._steps * STEP_NS,
            step=self._steps,
            odom_T_base=self._pose(),
            labels=GRID_LABELS,
            grid=view,
            goal=Goal(text=mission) if mission else None,
            **last,
        )

    def render(self) -> Any:
        """Returns MiniGrid's own picture of the world, (H, W, 3) uint8."""
        return self.grid_env.get_frame(highlight=True)

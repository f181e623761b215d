"""A sketch of the memory: what a robot would know of a house, seen from above, without any picture.

Rays are cast over a map of heights instead of meshes, and what is in view is known at once, with the mistakes
of a detector. It is some ten times as fast as camera, octree and scene graph together, so that a policy can
learn from many houses before it meets the real memory. Nothing but training uses it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import gymnasium
import numba
import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.memory import GridMap, ReadConfig
from embodied_mem.memory.crops import egocentric_crops
from embodied_mem.memory.navigation import centers_of, nearest_traversable, steps_from
from embodied_mem.memory.scene.grid_kernels import FAR, STRAIGHT, frontier_clusters, steps_to
from embodied_mem.sim.house.house import House
from embodied_mem.sim.house.object_nav import MultiObjectNav
from embodied_mem.types import TOKEN_KINDS, Goal, LabelMap, MemoryTokens, Observation, Percept, Receipt

CELL = 0.1
"""Edge of a cell of the sketch [m]."""
RAYS = 160
"""Rays of a view."""
STEP = 0.05
"""Rays look at a height every so many metres."""
SIGHT, DETECTED = 5.0, 4.5
"""The map knows what is nearer than the first, a detector finds what is nearer than the second [m]."""
FEET = 0.3
"""The floor this near to the robot is known [m]."""
PIXELS = 12.0
"""Smaller things are not found [px]."""
PLACE = 2.0
"""Edge of what counts as one place, for policies that remember by place [m]."""
PLACES_A_ROW = 1000
"""More than a house is wide: rows of places are numbered one after the other."""
POSITION_SIGMA = 0.05
"""Standard deviation of a thing's remembered x and y [m]."""

EXISTENCE = np.array([0.36, 0.73, 0.89, 0.93], np.float32)
"""How sure the scene graph is of a thing that was found once, twice, ...: means of 250 decisions."""

CELL_KIND, OBJECT_KIND = TOKEN_KINDS.index("cell"), TOKEN_KINDS.index("object")


@numba.njit(cache=True)
def _look(heights, seen, x, y, yaw, eye, half_fov, lowest):  # type: ignore[no-untyped-def]
    """Marks the cells that a camera sees; slopes below the steepest so far are hidden."""
    rows, columns = heights.shape
    for ray in range(RAYS):
        angle = yaw + (2.0 * (ray + 0.5) / RAYS - 1.0) * half_fov
        dx, dy, steepest = math.cos(angle), math.sin(angle), lowest
        for i in range(1, int(SIGHT / STEP) + 1):
            d = i * STEP
            ix, iy = int((x + d * dx) / CELL), int((y + d * dy) / CELL)
            if ix < 0 or iy < 0 or ix >= columns or iy >= rows:
                break
            slope = (heights[iy, ix] - eye) / d
            if slope >= steepest:
                seen[iy, ix] = True
                steepest = max(steepest, slope)
            if steepest > 0.8:
                break


@numba.njit(cache=True)
def _cast(heights, seen, eyes, rays, reach):  # type: ignore[no-untyped-def]
    """Returns (N,) how far rays get until they meet something or leave what is known [m]."""
    rows, columns = heights.shape
    distance = np.full(len(eyes), np.inf)
    for n in range(len(eyes)):
        length = math.sqrt((rays[n] ** 2).sum())
        if length == 0.0:
            continue
        for i in range(1, int(min(reach, length) / STEP) + 1):
            t = i * STEP / length
            x, y, z = eyes[n] + t * rays[n]
            ix, iy = int(x / CELL), int(y / CELL)
            outside = ix < 0 or iy < 0 or ix >= columns or iy >= rows
            if outside or not seen[iy, ix] or z < heights[iy, ix]:
                distance[n] = i * STEP
                break
    return distance


@numba.njit(cache=True)
def _in_view(heights, x, y, eye, centers, rects):  # type: ignore[no-untyped-def]
    """Returns (T,) bool: nothing but what a thing stands on is higher than the line to its middle."""
    clear = np.ones(len(centers), np.bool_)
    for n in range(len(centers)):
        dx, dy = centers[n, 0] - x, centers[n, 1] - y
        d = math.sqrt(dx * dx + dy * dy)
        for i in range(1, int(d / STEP)):
            px, py = x + i * STEP * dx / d, y + i * STEP * dy / d
            if rects[n, 0] <= px <= rects[n, 2] and rects[n, 1] <= py <= rects[n, 3]:
                break
            if heights[int(py / CELL), int(px / CELL)] > eye + (centers[n, 2] - eye) * i * STEP / d:
                clear[n] = False
                break
    return clear


class HouseSketch:
    """A house from above: heights, where a robot can be, and its things.

    Args:
        house: the house.
        labels: of the task.
    """

    def __init__(self, house: House, labels: LabelMap) -> None:
        plan = house.floor_plan
        rows, columns = (math.ceil(n / 2) for n in plan.shape)
        self.heights = np.zeros((rows, columns))
        walls = house.layout.walls
        low = walls[walls[:, 2] < house.config.robot_height]
        boxes = [(*w[[0, 1, 3, 4]].tolist(), float(w[5]), 0.0) for w in low]
        boxes += [(*thing.rect, thing.top, 0.04) for thing in house.obstacles]
        for (
            x0,
            y0,
            x1,
            y1,
            top,
            shrunk,
        ) in boxes:  # walls are as thin as a cell: they keep every cell they touch
            y, x = (max(math.floor((v + shrunk + 1e-6) / CELL), 0) for v in (y0, x0))
            cut = np.s_[
                y : math.ceil((y1 - shrunk - 1e-6) / CELL), x : math.ceil((x1 - shrunk - 1e-6) / CELL)
            ]
            self.heights[cut] = np.maximum(self.heights[cut], top)
        free = np.zeros((2 * rows, 2 * columns), bool)
        free[: plan.shape[0], : plan.shape[1]] = plan.free
        self.free = free.reshape(rows, 2, columns, 2).sum(axis=(1, 3)) >= 2
        things = [t for t in house.things if t.label in labels.names]
        self.centers = np.array([t.center for t in things]).reshape(-1, 3)
        self.own = np.array([t.rect for t in things]).reshape(-1, 4)
        self.sizes = np.stack(
            [self.own[:, 2] - self.own[:, 0], self.own[:, 3] - self.own[:, 1], [t.size[2] for t in things]],
            axis=-1,
        )
        self.labels = np.array([labels.id(t.label) for t in things], np.int64)
        by_id = {t.id: t for t in house.things}
        under = [by_id[t.support].rect if t.support in by_id else t.rect for t in things]
        grown = np.array(under).reshape(-1, 4) + np.array([-0.15, -0.15, 0.15, 0.15])
        self.rects = grown


class SketchMemory:
    """What would be remembered of a house by now; the parts of `Memory` that the loop and a controller use.

    Args:
        env: the task; what is in view of its robot is known.
        read: what is read.
        rng: draws the detector's mistakes.

    Attributes:
        octree: casts rays over what is known.
    """

    def __init__(self, env: SketchNav, read: ReadConfig, rng: np.random.Generator) -> None:
        self.env, self.config, self._rng = env, read, rng
        self.sketch = HouseSketch(env.house, env.labels)
        self.seen = np.zeros(self.sketch.heights.shape, bool)
        count = len(self.sketch.labels)
        self.counts = np.zeros(count, np.int64)
        self.votes = np.zeros((count, len(env.labels)), np.int64)
        self.kinds = np.unique(self.sketch.labels)
        self.last = np.zeros(count, np.int64)
        self.places = self.sketch.centers + rng.normal(0.0, POSITION_SIGMA, (count, 3)) * (1.0, 1.0, 0.3)
        self.map_T_base = Pose()
        self.path: list[NDArray[np.float64]] = []
        self.octree = SimpleNamespace(ray_cast=self._ray_cast, resolution=CELL)
        self._stamp = 0
        self._grid: GridMap | None = None

    def write(self, percept: Percept) -> Receipt | None:
        """Looks from where the robot is."""
        self.map_T_base, self._stamp = percept.map_T_base, percept.stamp
        self.path.append(percept.map_T_base.position)
        robot, sketch = self.env.robot, self.sketch
        x, y = (float(v) for v in robot.position[:2])
        eye, half = robot.config.camera_height, math.radians(robot.config.hfov) / 2
        down = -math.tan(half * robot.config.image_height / robot.config.width - robot.tilt)
        _look(sketch.heights, self.seen, x, y, robot.yaw, eye, half, down)
        iy, ix, near = int(y / CELL), int(x / CELL), int(FEET / CELL)
        self.seen[max(iy - near, 0) : iy + near + 1, max(ix - near, 0) : ix + near + 1] = True
        self._find(x, y, robot.yaw, eye, half)
        self._grid = None
        return None

    def _find(self, x: float, y: float, yaw: float, eye: float, half: float) -> None:
        """Counts which things are found, and which show at least a surface."""
        sketch, noise = self.sketch, self.env.robot_config.noise
        away = sketch.centers[:, :2] - (x, y)
        d = np.maximum(np.hypot(away[:, 0], away[:, 1]), 0.05)
        bearing = np.abs(np.remainder(np.arctan2(away[:, 1], away[:, 0]) - yaw + np.pi, 2 * np.pi) - np.pi)
        wide = sketch.sizes[:, :2].mean(axis=-1)
        slope = np.abs(sketch.centers[:, 2] - eye) / d
        shown = (d <= SIGHT + wide / 2) & (bearing < half + 0.4 * wide / d) & (slope < math.tan(half) + 0.3)
        shown &= _in_view(sketch.heights, x, y, eye, sketch.centers, sketch.rects)
        focal = self.env.robot_config.width / 2 / math.tan(half)
        pixels = focal**2 * wide * np.maximum(sketch.sizes[:, 2], 0.5 * wide) / d**2
        whole = (bearing + np.arctan(wide / 2 / d) < half) & (d <= DETECTED) & (pixels >= PIXELS)
        whole &= slope + sketch.sizes[:, 2] / 2 / d < math.tan(half)
        draw = self._rng.random(len(d))
        right = draw >= noise.missed + noise.wrong_label
        other = self.kinds[self._rng.integers(len(self.kinds), size=len(d))]
        label = np.where(right, self.sketch.labels, other)
        seen = np.flatnonzero(shown & (draw >= noise.missed) & (pixels >= 3.0))
        self.votes[seen, label[seen]] += 1
        self.counts += shown & whole & right
        self.last[shown & right] = self._stamp

    def grid_map(self) -> GridMap:
        """Returns traversable space as far as it is known."""
        if self._grid is None:
            cells = np.where(self.sketch.free, 0, 100).astype(np.int8)
            cells[~self.seen] = -1
            self._grid = GridMap(cells, np.zeros(2), CELL, 0.0)
        return self._grid

    def _ray_cast(self, eyes: Any, rays: Any, reach: float, stop_at_unknown: bool = True) -> Any:
        far = _cast(self.sketch.heights, self.seen, np.float64(eyes), np.float64(rays), reach)
        unit = np.float64(rays) / np.maximum(np.linalg.norm(rays, axis=-1, keepdims=True), 1e-9)
        met = np.float64(eyes) + np.where(np.isfinite(far), far, 0.0)[:, None] * unit
        return SimpleNamespace(
            points=met, hit=np.isfinite(far), labels=np.zeros(len(far), np.int64), distance=far
        )

    def read(self, pose: Pose, goal: Goal | None) -> MemoryTokens:
        """Returns the tokens of frontiers, objects and things of the goal's label, as `Memory.read` would."""
        config, grid, s = self.config, self.grid_map(), self.sketch
        tokens = MemoryTokens.empty(config.tokens, config.feature_size)
        positions = np.zeros((config.tokens, 3))
        steps = steps_from(grid, nearest_traversable(grid, pose.position), True)

        def metres(cells: NDArray[np.int32]) -> NDArray[np.float64]:
            return np.where(cells >= FAR, np.inf, cells / STRAIGHT * CELL)

        def path_to(points: NDArray[np.float64]) -> NDArray[np.float64]:
            ys, xs = (np.floor(points[:, i] / CELL).astype(np.int64) for i in (1, 0))
            return metres(steps_to(steps, ys, xs, max(int(config.reach / CELL), 1)))

        found = frontier_clusters(np.ascontiguousarray(grid.cells), steps)
        found = found[np.lexsort((found[:, 0], -found[:, 2], found[:, 1]))[: config.frontiers]]
        slots = slice(0, len(found))
        tokens.mask[slots] = tokens.frontier[slots] = True
        tokens.kind[slots], tokens.confidence[slots] = CELL_KIND, 1.0
        tokens.id[slots] = found[:, 0]
        tokens.extent[slots, 0] = (found[:, 6] - found[:, 5] + 1) * CELL
        tokens.extent[slots, 1] = (found[:, 4] - found[:, 3] + 1) * CELL
        tokens.path_distance[slots] = metres(found[:, 1])
        positions[slots] = centers_of(grid, found[:, 0])
        label = -1 if goal is None else goal.label
        rows = np.flatnonzero(self.counts > 0)
        rows = rows[
            np.lexsort((np.hypot(*(self.places[rows] - pose.position)[:, :2].T), s.labels[rows] != label))
        ]
        first, goals = config.frontiers, self._called(label)
        rows = rows[: config.objects]
        last = config.tokens - config.goals
        for start, chosen in ((first, rows), (last, goals[: config.goals])):
            slots = slice(start, start + len(chosen))
            tokens.mask[slots], tokens.label[slots] = True, s.labels[chosen] if start == first else label
            tokens.id[slots], tokens.occupancy[slots] = chosen, 1.0
            tokens.extent[slots], positions[slots] = s.sizes[chosen], self.places[chosen]
            tokens.path_distance[slots] = path_to(self.places[chosen])
            tokens.age[slots] = np.log1p((self._stamp - self.last[chosen]) / 1e9)
            tokens.feature[slots, 0] = tokens.label[slots] == label
        slots = slice(first, first + len(rows))
        tokens.kind[slots] = OBJECT_KIND
        tokens.confidence[slots] = EXISTENCE[np.minimum(self.counts[rows], len(EXISTENCE)) - 1]
        tokens.visits[slots] = np.log1p(self.counts[rows])
        slots = slice(last, last + len(goals[: config.goals]))
        tokens.kind[slots], tokens.level[slots] = CELL_KIND, 3
        tokens.confidence[slots] = 1.0
        tokens.visits[slots] = np.log1p(np.minimum(8 * self.votes[goals[: config.goals], label], 40))
        tokens.position[:] = pose.inverse().transform(positions)
        tokens.position[~tokens.mask] = 0.0
        column, row = (int(v // PLACE) for v in pose.position[:2])
        return replace(tokens, place_id=PLACES_A_ROW * row + column)

    def _called(self, label: int) -> NDArray[np.intp]:
        """Returns the things whose surfaces have a label on the map, rightly or not."""
        if label < 0:
            return np.empty(0, np.intp)
        votes = self.votes[:, label]
        return np.flatnonzero((votes > 0) & (votes >= self.votes.max(axis=1)))

    def drawn(self, tokens: MemoryTokens, pose: Pose, goal: Goal | None) -> MemoryTokens:
        """Returns tokens with the pictures of the map, which only decisions need."""
        config, label = self.config, -1 if goal is None else goal.label
        wanted = self.places[(self.counts > 0) & (self.sketch.labels == label)]
        crops = egocentric_crops(
            self.grid_map(), pose, np.array(self.path), wanted, config.crops, config.crop_pixels
        )
        return replace(tokens, crops=crops)


class SketchNav(MultiObjectNav):
    """MultiObjectNav without pictures; its memory is a `SketchMemory`.

    ## Description
    The houses, goals and motions of MultiObjectNav, for `Pointing` to learn in: what is in view is known at
    once, with the mistakes of a detector, and there are no pictures to make a memory of.

    ## Action Space
    That of MultiObjectNav.

    ## Observation Space
    A `Dict` of `pose` (5,) float32: x, y [m], sine and cosine of the yaw, the camera's tilt [rad], and
    `goal` (1,) int64 label id.

    ## Rewards
    Those of MultiObjectNav.

    ## Starting State
    That of MultiObjectNav; the goal may be in view.

    ## Episode End
    That of MultiObjectNav.

    ## Arguments
    * `goals=4`, otherwise those of MultiObjectNav.

    ## Version History
    * v0: first version.

    Args:
        goals: how many goals an episode has.
        kwargs: arguments of `MultiObjectNav`.
    """

    def __init__(self, goals: int = 4, **kwargs: Any) -> None:
        super().__init__(goals=goals, **{**kwargs, "hidden_start": False})
        parts = self.observation_space.spaces  # type: ignore[attr-defined]
        self.observation_space = gymnasium.spaces.Dict({key: parts[key] for key in ("pose", "goal")})

    def sketch_memory(self, read: ReadConfig) -> SketchMemory:
        """Returns the empty memory of an episode."""
        return SketchMemory(self, read, np.random.default_rng(int(self.np_random.integers(2**31))))

    def perceive(self, obs: Observation) -> Percept:
        """Perceives where the robot is."""
        return Percept(obs.stamp, obs.step, obs.odom_T_base, obs.map_T_odom, labels=obs.labels)

    def _sense(self) -> None:
        """Takes no pictures."""

    def _encode(self) -> dict[str, Any]:
        pose = self.odometry.pose
        values = [*pose.position[:2], math.sin(pose.yaw), math.cos(pose.yaw), self.robot.tilt]
        label = self.labels.id(self.goal_label)
        return {"pose": np.array(values, np.float32), "goal": np.array([label], np.int64)}

    @property
    def observation(self) -> Observation:
        """The last step, without pictures."""
        label = self.goal_label
        return Observation(
            stamp=self._steps * 100_000_000,
            step=self._steps,
            odom_T_base=self.odometry.pose,
            labels=self.labels,
            goal=Goal(label=self.labels.id(label), text=f"find a {label}"),
            **self._last,
        )


def make_sketch(goals: int = 2, max_steps: int = 500) -> gymnasium.Env[Any, Any]:
    """Returns pointing in the sketch, in houses of the training split.

    Args:
        goals: how many goals an episode has; with few, more houses are seen.
        max_steps: limit of steps.
    """
    return gymnasium.make(
        "EmbodiedMem/House-Pointing-v0",
        disable_env_checker=True,
        env_id="EmbodiedMem/House-Sketch-v0",
        split="train",
        goals=goals,
        max_steps=max_steps,
    )

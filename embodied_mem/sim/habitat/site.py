"""A scene of habitat-sim as a place to navigate in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.sim.habitat.config import HabitatConfig
from embodied_mem.sim.habitat.frames import from_habitat, to_habitat
from embodied_mem.sim.habitat.ground import make_ground
from embodied_mem.sim.habitat.simulator import Shot, find_scene, scene_names, shared_simulator
from embodied_mem.sim.house.catalog import STRUCTURE
from embodied_mem.sim.house.config import RobotConfig
from embodied_mem.sim.house.floor_plan import rect_distance
from embodied_mem.sim.house.renderer import Camera, View
from embodied_mem.sim.house.robot import Robot
from embodied_mem.sim.site import START_DISTANCE
from embodied_mem.types import LabelMap

GOAL_PITCH = 0.1
"""Goal positions around a thing lie on a grid of this pitch [m]."""
STOREY = 2.0
"""A thing is found from a floor that is at most this far below its underside [m]."""
DRAWS = 200


@dataclass(frozen=True)
class SceneThing:
    """A thing of a scene.

    Attributes:
        id: its semantic id, ground truth.
        label: what it is called here.
        center: its middle [m].
        size: of the box around it, along x, y and z [m].
        regions: indices of the rooms that hold its middle; empty where the dataset tells no rooms.
    """

    id: int
    label: str
    center: tuple[float, float, float]
    size: tuple[float, float, float]
    regions: tuple[int, ...]

    @property
    def rect(self) -> tuple[float, float, float, float]:
        """What it covers, seen from above [m]."""
        (x, y, _), (w, d, _) = self.center, self.size
        return (x - w / 2, y - d / 2, x + w / 2, y + d / 2)

    @property
    def bottom(self) -> float:
        """Height of its underside [m]."""
        return self.center[2] - self.size[2] / 2


class HabitatSite:
    """A scene as a `Site`: a thing counts as found in its room, where the dataset tells rooms.

    Args:
        config: the dataset and the robot's size.
        scene: name of the scene.

    Attributes:
        config: the dataset and the robot's size.
        shot: what the simulator is set up for.
        things: what is in it, by id.
        ground: its floors.

    Raises:
        ConfigError: habitat-sim is missing, or there is no such dataset or scene.
    """

    def __init__(self, config: HabitatConfig, scene: str) -> None:
        self.config = config
        dataset = config.dataset_file
        self.shot = Shot(dataset, find_scene(scene_names(dataset), scene, dataset), gpu=config.gpu)
        simulator = shared_simulator(self.shot).simulator
        self.title = f"the scene {scene}"
        self.info: Mapping[str, Any] = {"scene": scene}
        self._semantics = simulator.semantic_scene
        self.ground = make_ground(simulator, config, scene)
        names = config.label_map
        self.things, self._label_of = _read_things(simulator, config.rename, names)
        self.labels = tuple(sorted({t.label for t in self.things} & set(names.names) - set(STRUCTURE)))
        self._goals: dict[tuple[str, float], NDArray[np.float64]] = {}

    def start(self, label: str, radius: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draws a position from the navigation mesh."""
        best, farthest = self.ground.draw(rng), -1.0
        position = best
        for _ in range(DRAWS):
            away = self.distance(label, radius, position)
            if START_DISTANCE <= away < math.inf:
                return position
            if farthest < away < math.inf:
                best, farthest = position, away
            position = self.ground.draw(rng)
        return best

    def robot(self, config: RobotConfig, position: NDArray[np.float64], yaw: float) -> Robot:
        """Returns a robot on the navigation mesh."""
        position = np.asarray(position, dtype=np.float64)
        if len(position) == 2:
            position = self.ground.snap(np.array([[*position.tolist(), 0.0]]))[0]
        return Robot(config, self.ground, position, yaw)

    def distance(self, label: str, radius: float, position: NDArray[np.float64]) -> float:
        """Returns the geodesic distance to the nearest position from which a label counts as found [m]."""
        if any(self._holds(thing, radius, position[None])[0] for thing in self.named(label)):
            return 0.0
        key = (label, radius)
        if key not in self._goals:
            near = [self._positions_near(thing, radius) for thing in self.named(label)]
            self._goals[key] = np.concatenate([*near, np.zeros((0, 3))])
        goals = self._goals[key]
        return self.ground.nearest(position, goals) if len(goals) else math.inf

    def named(self, label: str) -> list[SceneThing]:
        """Returns the things of a category."""
        return [thing for thing in self.things if thing.label == label]

    def _holds(self, thing: SceneThing, radius: float, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tells which (N, 3) positions on the floor a thing counts as found from."""
        below = thing.bottom - points[:, 2]
        near = (rect_distance(points[:, :2], thing.rect) <= radius) & (below <= STOREY) & (below >= -0.5)
        if thing.regions:
            for i in np.flatnonzero(near).tolist():  # a little above the floor, to be inside the room
                near[i] = bool(
                    set(_regions_at(self._semantics, points[i] + (0.0, 0.0, 0.1))) & set(thing.regions)
                )
        return near

    def _positions_near(self, thing: SceneThing, radius: float) -> NDArray[np.float64]:
        x0, y0, x1, y1 = thing.rect
        across = np.arange(math.ceil((x0 - radius) / GOAL_PITCH), (x1 + radius) / GOAL_PITCH) * GOAL_PITCH
        along = np.arange(math.ceil((y0 - radius) / GOAL_PITCH), (y1 + radius) / GOAL_PITCH) * GOAL_PITCH
        x, y = (v.ravel() for v in np.meshgrid(across, along))
        grid = np.stack([x, y, np.full(len(x), thing.bottom)], axis=-1)  # (N, 3)
        snapped = self.ground.snap(grid)
        aside = np.sqrt(((snapped - grid)[:, :2] ** 2).sum(axis=-1))
        points = snapped[np.nan_to_num(aside, nan=math.inf) <= GOAL_PITCH / 2]
        return points[self._holds(thing, radius, points)]

    def view(self, camera: Camera, map_T_camera: Pose, max_depth: float) -> View:
        """Renders what the camera sees."""
        size = camera.intrinsics
        hfov = math.degrees(2 * math.atan(size.width / 2 / size.fx))
        shot = Shot(self.shot.dataset, self.shot.scene, size.width, size.height, hfov, self.shot.gpu)
        images = shared_simulator(shot).look(shot, map_T_camera)
        depth = images["depth"].astype(np.float32)
        far = (depth <= 0.0) | (depth > max_depth)  # habitat's 0 is where nothing was drawn
        instance = np.where(far, 0, images["semantic"].astype(np.int32))
        known = ~far & (instance >= 0) & (instance < len(self._label_of))  # MP3D's ids begin with 0
        return View(
            color=np.ascontiguousarray(images["color"][..., :3]),
            depth=np.where(far, np.float32(np.inf), depth),
            label=np.where(known, self._label_of[np.where(known, instance, 0)], 0).astype(np.int32),
            instance=instance,
        )


def _read_things(
    simulator: Any, rename: Mapping[str, str], names: LabelMap
) -> tuple[tuple[SceneThing, ...], NDArray[np.int32]]:
    """Returns the things of a scene by id, and the label id of every semantic id."""
    things: list[SceneThing] = []
    for own, id, center, size in (*_annotated(simulator.semantic_scene), *_placed(simulator)):
        label = rename.get(own, own)
        if label == "unknown" or label not in names.names:
            continue
        regions = _regions_at(simulator.semantic_scene, center)
        things.append(SceneThing(id, label, tuple(center.tolist()), tuple(size.tolist()), regions))
    things.sort(key=lambda thing: (thing.id, thing.center))
    label_of = np.zeros(max((thing.id for thing in things), default=0) + 1, np.int32)
    for thing in things:
        label_of[thing.id] = names.id(thing.label)
    return tuple(things), label_of


_Found = tuple[str, int, NDArray[np.float64], NDArray[np.float64]]
"""The dataset's name, semantic id, middle and size [m]."""


def _annotated(semantics: Any) -> Iterator[_Found]:
    """Yields what a scan's annotation tells (HM3D, MP3D, Replica, exported houses)."""
    for item in () if semantics is None else semantics.objects:
        if item is None or item.category is None or item.semantic_id < 0:
            continue
        box = item.obb  # item.aabb is wrong in habitat-sim 0.3.3
        turn = Pose(np.zeros(3), np.array([float(v) for v in box.rotation])).rotation()
        size = 2.0 * (np.abs(turn) * np.asarray(list(box.half_extents), np.float64)).sum(axis=-1)
        center = np.asarray(list(box.center), np.float64)
        yield item.category.name(), int(item.semantic_id), from_habitat(center), np.abs(from_habitat(size))


def _placed(simulator: Any) -> Iterator[_Found]:
    """Yields the objects of a scene that was put together of them (HSSD, ReplicaCAD): ids are of classes."""
    semantics = simulator.semantic_scene
    if semantics is None or len(semantics.objects) > 0:
        return
    kinds = [kind for kind in semantics.categories if kind is not None]
    names = {int(kind.index()): kind.name() for kind in kinds}
    placed = simulator.get_rigid_object_manager().get_objects_by_handle_substring()
    for handle in sorted(placed):
        item = placed[handle]
        if int(item.semantic_id) not in names:
            continue
        box = item.root_scene_node.cumulative_bb
        pose = np.asarray(item.transformation, np.float64)
        half = np.asarray(list(box.size()), np.float64) / 2
        center = pose[:3, :3] @ np.asarray(list(box.center()), np.float64) + pose[:3, 3]
        size = 2.0 * (np.abs(pose[:3, :3]) * half).sum(axis=-1)
        id = int(item.semantic_id)
        yield names[id], id, from_habitat(center), np.abs(from_habitat(size))


def _regions_at(semantics: Any, point: NDArray[np.float64]) -> tuple[int, ...]:
    """Returns the indices of the rooms that hold a point."""
    if semantics is None:
        return ()
    return tuple(int(i) for i in semantics.get_regions_for_point(to_habitat(point).astype(np.float32)))


_SITES: dict[tuple[str, str], tuple[HabitatConfig, HabitatSite]] = {}


def shared_site(config: HabitatConfig, scene: str) -> HabitatSite:
    """Returns the site of a scene, the same object to all who ask with the same config."""
    key = (config.dataset, scene)
    kept = _SITES.get(key)
    if kept is None or kept[0] != config:
        kept = _SITES[key] = (config, HabitatSite(config, scene))
    return kept[1]

"""Where a robot can be in a scene: habitat's navigation mesh in the map's frame."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError
from embodied_mem.sim.habitat.config import HabitatConfig
from embodied_mem.sim.habitat.frames import from_habitat, to_habitat
from embodied_mem.sim.habitat.simulator import import_habitat_sim
from embodied_mem.sim.house.floor_plan import SKIN

SHORT = 1e-5
"""A step that is shorter than asked for by more than this was stopped [m]; as in habitat-sim."""
PIECE = 0.05
"""A step is made in pieces of this length [m]: in longer ones habitat-sim cuts corners of obstacles."""
FINE = 0.01
"""Length of the pieces in the one that is stopped [m]."""
ROUNDED_UP = 0.5
"""By how many cells less than asked the radius is, before recast rounds it up."""


class NavMeshGround:
    """The floors of a scene, as habitat-sim's path finder knows them; positions are (3,) float64 [m].

    Args:
        path_finder: with a navigation mesh.
    """

    def __init__(self, path_finder: Any) -> None:
        self.path_finder = path_finder
        islands = range(path_finder.num_islands)
        self.island = max(islands, key=path_finder.island_area)  # the others are tops of furniture and roofs
        vertices = np.asarray(path_finder.build_navmesh_vertices(self.island), np.float64)
        index = np.asarray(path_finder.build_navmesh_vertex_indices(self.island), np.intp)
        self._triangles = from_habitat(vertices)[index.reshape(-1, 3)]  # (T, 3, 3)
        a, b, c = (self._triangles[:, i] for i in range(3))
        normals = np.cross(b - a, c - a)
        self._areas = np.cumsum(np.sqrt((normals * normals).sum(axis=-1)) / 2)

    def advance(
        self, start: NDArray[np.float64], heading: float, length: float
    ) -> tuple[NDArray[np.float64], bool]:
        """Moves straight ahead until something is in the way; it does not slide.

        Args:
            start: (3,) [m].
            heading: [rad].
            length: [m].

        Returns:
            where it ends, and whether it was stopped.
        """
        start = np.asarray(start, dtype=np.float64)
        ahead = np.array([math.cos(heading), math.sin(heading), 0.0])
        # habitat-sim lets nobody leave the edge of a navigation mesh who stands right on it, so the robot
        # stops a little before it, as in a house.
        free = self._free_way(start, ahead, length + SKIN, PIECE)
        if free >= length + SKIN:
            return self._at(start, ahead, length), False
        return self._at(start, ahead, max(0.0, free - SKIN)), True

    def _free_way(
        self, start: NDArray[np.float64], ahead: NDArray[np.float64], length: float, piece: float
    ) -> float:
        """Returns how far a step gets along a unit vector before it touches the edge of the mesh [m]."""
        count = math.ceil(length / piece)
        along, at = 0.0, start
        for i in range(1, count + 1):
            to = length * i / count
            wanted = start + to * ahead
            step = self.path_finder.try_step_no_sliding(_vector(at), _vector(wanted))
            end = from_habitat(np.array(step, np.float64))
            if math.hypot(*(end - wanted)[:2].tolist()) > SHORT:
                if piece > FINE:
                    return along + self._free_way(at, ahead, to - along, FINE)
                return along + max(0.0, float(((end - at) * ahead)[:2].sum()))
            along, at = to, np.array([wanted[0], wanted[1], end[2]])
        return length

    def _at(self, start: NDArray[np.float64], ahead: NDArray[np.float64], way: float) -> NDArray[np.float64]:
        """Returns where one is after a free way: on the floor there."""
        end = start + way * ahead
        if way > 0.0:
            end[2] = self.snap(end[None])[0, 2]
        return end

    def snap(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the (N, 3) points of the main floors that are nearest to points; NaN where none is near."""
        snapped = [self.path_finder.snap_point(_vector(p), self.island) for p in points]
        return from_habitat(np.array([list(p) for p in snapped], np.float64).reshape(-1, 3))

    def draw(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draws a (3,) position, evenly over the area of the floors."""
        row = int(np.searchsorted(self._areas, rng.random() * self._areas[-1]))
        u, v = rng.random(2).tolist()
        if u + v > 1.0:
            u, v = 1.0 - u, 1.0 - v
        a, b, c = self._triangles[min(row, len(self._areas) - 1)]
        return self.snap((a + u * (b - a) + v * (c - a))[None])[0]

    def geodesic(self, start: NDArray[np.float64], goal: NDArray[np.float64]) -> float:
        """Returns the length of the shortest path [m], inf where there is none.

        Which triangles a path crosses is decided by the middles of their edges, from the start on, so the
        way back may be another one: the shorter is taken.
        """
        path = import_habitat_sim().ShortestPath()
        lengths = []
        for a, b in ((start, goal), (goal, start)):
            path.requested_start, path.requested_end = _vector(a), _vector(b)
            self.path_finder.find_path(path)
            lengths.append(float(path.geodesic_distance))
        return min(lengths)

    def nearest(self, start: NDArray[np.float64], goals: NDArray[np.float64]) -> float:
        """Returns the length of the shortest path to the nearest of (N, 3) goals [m], inf where none."""
        # habitat-sim keeps bounds from one search to the next, which are wrong where paths are not the
        # shortest: a new bundle each time makes the answer depend on nothing but the question.
        paths = import_habitat_sim().MultiGoalShortestPath()
        paths.requested_ends = list(to_habitat(goals).astype(np.float32))
        paths.requested_start = _vector(start)
        self.path_finder.find_path(paths)
        return float(paths.geodesic_distance)


def _vector(point: NDArray[np.float64]) -> NDArray[np.float32]:
    return to_habitat(point).astype(np.float32)


def _is_for(settings: Any, config: HabitatConfig) -> bool:
    """True where a navigation mesh is for the robot of a config."""
    made = (settings.agent_radius, settings.agent_height, settings.agent_max_climb)
    return bool(np.allclose(made, (config.robot_radius, config.robot_height, config.max_climb), atol=1e-4))


def make_ground(simulator: Any, config: HabitatConfig, scene: str) -> NavMeshGround:
    """Takes the scene's own navigation mesh where it is for this robot, else computes one.

    Raises:
        ConfigError: the robot fits nowhere.
    """
    habitat_sim = import_habitat_sim()
    shipped = simulator.pathfinder
    if shipped.is_loaded and (config.shipped_navmesh or _is_for(shipped.nav_mesh_settings, config)):
        return NavMeshGround(shipped)
    settings = habitat_sim.NavMeshSettings()
    settings.set_defaults()
    # Recast rounds the radius up to whole cells, also where rounding errors alone ask for one more.
    settings.agent_radius = max(config.robot_radius - ROUNDED_UP * config.cell_size, config.cell_size / 2)
    settings.agent_height = config.robot_height
    settings.agent_max_climb = config.max_climb
    settings.cell_size, settings.cell_height = config.cell_size, config.cell_height
    settings.include_static_objects = True
    path_finder = habitat_sim.PathFinder()
    built = simulator.recompute_navmesh(path_finder, settings)
    if not built or path_finder.num_islands < 1:
        raise ConfigError(f"a robot of radius {config.robot_radius} m fits nowhere in the scene {scene}")
    return NavMeshGround(path_finder)

"""What a camera sees in a house: colour, depth, labels and instances by ray casting on the CPU."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.sim.house.house import House
from embodied_mem.sim.house.mesh import Mesh, build_mesh
from embodied_mem.types import Intrinsics

NOTHING = 0
"""Instance id of a pixel in which nothing was hit."""


@dataclass(frozen=True, eq=False)
class View:
    """What a camera sees.

    Attributes:
        color: (H, W, 3) uint8 RGB, at any distance.
        depth: (H, W) float32 planar depth [m]; +inf where nothing is within range.
        label: (H, W) int32 label ids of `HOUSE_LABELS`; 0 where nothing is within range.
        instance: (H, W) int32 ids of things, ground truth; 0 where nothing is within range.
    """

    color: NDArray[np.uint8]
    depth: NDArray[np.float32]
    label: NDArray[np.int32]
    instance: NDArray[np.int32]


class Scene:
    """The triangles of a house, ready to be hit by rays.

    Attributes:
        mesh: the triangles.
    """

    def __init__(self, mesh: Mesh) -> None:
        from open3d.core import Tensor
        from open3d.t.geometry import RaycastingScene

        self.mesh = mesh
        self._scene: Any = RaycastingScene()
        self._scene.add_triangles(Tensor(mesh.vertices), Tensor(mesh.triangles))
        self._tensor: Any = Tensor
        # Rows by triangle; the last one is what no triangle was hit by.
        self._color = np.concatenate([mesh.shaded, np.zeros((1, 3), np.uint8)])
        self._label = np.concatenate([mesh.label, np.zeros(1, np.int32)])
        self._instance = np.concatenate([mesh.instance, np.full(1, NOTHING, np.int32)])

    def cast(self, rays: NDArray[np.float32], threads: int = 1) -> dict[str, Any]:
        """Casts (..., 6) float32 rays, origin and direction; what Open3D returns, and nothing else.

        Args:
            rays: rays; where a direction is not of length 1, distances are in multiples of it.
            threads: how many; 0 takes all cores.
        """
        result: dict[str, Any] = self._scene.cast_rays(self._tensor.from_numpy(rays), nthreads=threads)
        return result

    def see(self, rays: NDArray[np.float32], max_depth: float) -> View:
        """Returns what rays meet; depth is in lengths of their directions.

        Args:
            rays: (H, W, 6) float32.
            max_depth: what is farther has colour, but neither depth nor labels [m].
        """
        # One thread: environments run beside each other, and a small image gains little from more.
        hits = self.cast(rays)
        depth = hits["t_hit"].numpy()
        triangle = np.minimum(hits["primitive_ids"].numpy(), len(self._label) - 1)
        color = np.take(self._color, triangle, axis=0)  # a colour camera sees farther than depth does
        far = depth > max_depth
        if far.any():
            depth[far] = np.inf
            triangle[far] = len(self._label) - 1
        return View(
            color=color,
            depth=depth,
            label=np.take(self._label, triangle),
            instance=np.take(self._instance, triangle),
        )


_SCENES: weakref.WeakKeyDictionary[House, Scene] = weakref.WeakKeyDictionary()


def scene_of(house: House) -> Scene:
    """Returns the scene of a house; the same object for as long as the house is in use."""
    scene = _SCENES.get(house)
    if scene is None:
        scene = _SCENES[house] = Scene(build_mesh(house))
    return scene


class Camera:
    """A pinhole camera that looks into a scene: pixel centres at integer (u, v).

    Args:
        width, height: image size [px].
        hfov: horizontal field of view, from the left edge of the image to its right one [deg].

    Attributes:
        intrinsics: its calibration.
    """

    def __init__(self, width: int, height: int, hfov: float) -> None:
        focal = width / 2 / math.tan(math.radians(hfov) / 2)
        self.intrinsics = Intrinsics(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
        self._x = ((np.arange(width) - self.intrinsics.cx) / focal)[None, :, None]
        self._y = ((np.arange(height) - self.intrinsics.cy) / focal)[:, None, None]
        self._rays = np.empty((height, width, 6), np.float32)
        self._directions = np.empty((height, width, 3))

    def rays(self, map_T_camera: Pose) -> NDArray[np.float32]:
        """Returns the (H, W, 6) float32 rays of the pixels; directions have length 1 along the optical axis.

        The array is the camera's own and is overwritten by the next call.
        """
        r = map_T_camera.rotation()
        self._rays[..., :3] = map_T_camera.position
        across, down = self._x * r[:, 0], self._y * r[:, 1] + r[:, 2]  # (1, W, 3), (H, 1, 3)
        self._rays[..., 3:] = np.add(across, down, out=self._directions)
        return self._rays

    def view(self, scene: Scene, map_T_camera: Pose, max_depth: float) -> View:
        """Returns what the camera sees from a pose of its optical frame."""
        return scene.see(self.rays(map_T_camera), max_depth)

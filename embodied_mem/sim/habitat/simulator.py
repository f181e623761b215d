"""The process's one habitat simulator: it renders whatever scene is asked for.

A second simulator in a process costs an OpenGL context and seconds, and changing the scene of the first one
costs milliseconds. It keeps no state between pictures, so environments share it.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError
from embodied_mem.geometry import Pose
from embodied_mem.sim.habitat.frames import habitat_camera

INSTALL = (
    "habitat-sim is not installed; it comes by conda, for Python 3.10-3.12: "
    "`conda install habitat-sim headless -c conda-forge -c aihabitat`"
)
NO_LIGHTS = "no_lights"
SENSORS = ("color", "depth", "semantic")


def import_habitat_sim() -> Any:
    """Returns the module habitat_sim, its chatter turned off unless its own variables say otherwise.

    Raises:
        ConfigError: it is not installed; the text says how to.
    """
    for variable in ("MAGNUM_LOG", "HABITAT_SIM_LOG"):
        os.environ.setdefault(variable, "quiet")
    try:
        import habitat_sim
    except ImportError as error:
        if (error.name or "").split(".")[0] != "habitat_sim":
            raise ConfigError(f"habitat-sim is installed, but cannot be loaded: {error}") from None
        raise ConfigError(INSTALL) from None
    return habitat_sim


@dataclass(frozen=True)
class Shot:
    """What the simulator is set up for.

    Attributes:
        dataset: the scene dataset's config.
        scene: name of the scene.
        width, height: image size [px].
        hfov: horizontal field of view [deg].
        gpu: CUDA device, or -1.
    """

    dataset: Path
    scene: str
    width: int = 64
    height: int = 64
    hfov: float = 90.0
    gpu: int = -1

    def sensor(self, name: str) -> str:
        """Returns a sensor's id; habitat-sim takes sensors of one id for equal, whatever their size."""
        return f"{name} {self.width}x{self.height} {self.hfov:.6f}"


def scene_names(dataset: Path) -> dict[str, str]:
    """Returns the scenes of a dataset: habitat's handle by name, sorted by name.

    Raises:
        ConfigError: habitat-sim is missing, or the dataset has no scenes.
    """
    habitat_sim = import_habitat_sim()
    backend = habitat_sim.SimulatorConfiguration()
    backend.scene_dataset_config_file = str(dataset)
    mediator = habitat_sim.metadata.MetadataMediator(backend)
    # Scans (HM3D, MP3D) have stages only; where scenes were put together, stages are parts of them.
    handles = mediator.get_scene_handles() or mediator.stage_template_manager.get_template_handles()
    names = {Path(handle).name.split(".")[0]: handle for handle in sorted(handles) if handle != "NONE"}
    if not names:
        raise ConfigError(f"{dataset} has no scenes")
    return dict(sorted(names.items()))


def find_scene(names: dict[str, str], name: str, dataset: Path) -> str:
    """Returns habitat's handle of a scene.

    Raises:
        ConfigError: the dataset has no such scene; the text names the nearest one.
    """
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
        raise ConfigError(f'{dataset} has no scene "{name}"; did you mean "{near}"? It has {len(names)}')
    return names[name]


class HabitatSimulator:
    """habitat-sim behind the few calls that worlds need.

    Args:
        shot: what it is set up for first.
    """

    def __init__(self, shot: Shot) -> None:
        self._habitat = import_habitat_sim()
        self._shot: Shot | None = shot
        try:
            self.simulator: Any = self._habitat.Simulator(self._configuration(shot))
        except (RuntimeError, AssertionError) as error:
            raise _cannot_open(shot, error) from None

    def use(self, shot: Shot) -> Any:
        """Sets the simulator up, if it is not yet, and returns it."""
        if shot != self._shot:
            try:
                self.simulator.reconfigure(self._configuration(shot))
            except (RuntimeError, AssertionError) as error:
                self._shot = None  # half of it is of the old scene
                raise _cannot_open(shot, error) from None
            self._shot = shot
        return self.simulator

    def _configuration(self, shot: Shot) -> Any:
        backend = self._habitat.SimulatorConfiguration()
        backend.scene_dataset_config_file = str(shot.dataset)
        backend.scene_id = shot.scene
        backend.gpu_device_id = shot.gpu
        backend.allow_sliding = False
        backend.override_scene_light_defaults = True
        backend.scene_light_setup = NO_LIGHTS
        backend.load_semantic_mesh = True
        sensors = []
        for name in SENSORS:
            sensor = self._habitat.CameraSensorSpec()
            sensor.uuid = shot.sensor(name)
            sensor.sensor_type = getattr(self._habitat.SensorType, name.upper())
            sensor.resolution = [shot.height, shot.width]
            sensor.position = [0.0, 0.0, 0.0]  # the agent is put where the camera is
            sensor.hfov = shot.hfov
            sensors.append(sensor)
        agent = self._habitat.agent.AgentConfiguration(sensor_specifications=sensors)
        return self._habitat.Configuration(backend, [agent])

    def look(self, shot: Shot, map_T_camera: Pose) -> dict[str, NDArray[Any]]:
        """Returns the "color", "depth" and "semantic" images from a pose of the optical frame."""
        import magnum

        simulator = self.use(shot)
        pose = habitat_camera(map_T_camera)
        x, y, z, w = pose.orientation.tolist()
        node = simulator.get_agent(0).scene_node
        node.rotation = magnum.Quaternion(magnum.Vector3(x, y, z), w)
        node.translation = magnum.Vector3(*pose.position.tolist())
        images: dict[str, NDArray[Any]] = simulator.get_sensor_observations()
        return {name: np.asarray(images[shot.sensor(name)]) for name in SENSORS}


def _cannot_open(shot: Shot, error: Exception) -> ConfigError:
    """Returns habitat-sim's complaint in one line."""
    said = " ".join(str(error).removeprefix("ESP_CHECK failed:").split())
    return ConfigError(f"habitat-sim cannot open the scene {shot.scene} of {shot.dataset}: {said}")


_SHARED: list[HabitatSimulator] = []


def shared_simulator(shot: Shot) -> HabitatSimulator:
    """Returns the process's simulator, set up for a shot."""
    if not _SHARED:
        _SHARED.append(HabitatSimulator(shot))
    _SHARED[0].use(shot)
    return _SHARED[0]

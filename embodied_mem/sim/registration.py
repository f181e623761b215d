"""The one table of environments: `gymnasium.make("EmbodiedMem/<Name>-v0")`, and habitat:PATH."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium
from gymnasium.envs import registration

from embodied_mem.errors import ConfigError

NAMESPACE = "EmbodiedMem"
HABITAT = "habitat"
"""Prefix of specs that name a scene dataset."""


@dataclass(frozen=True)
class EnvEntry:
    """One row of the table.

    Attributes:
        name: id without namespace, for example "ProofOfMemory-v0".
        entry_point: "module:callable".
        kwargs: arguments of the callable.
        max_episode_steps: step limit, None where the environment has its own.
        horizon: the argument that says how long memory must last, None where there is none.
        needs: the argument without which it cannot be made, None where there is none.
    """

    name: str
    entry_point: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    max_episode_steps: int | None = None
    horizon: str | None = None
    needs: str | None = None

    @property
    def id(self) -> str:
        """The full id."""
        return f"{NAMESPACE}/{self.name}"


_GRID = "embodied_mem.sim.minigrid:MiniGridTask"
_GRID_MEMORY = "embodied_mem.sim.memory_wrapper:make_with_memory"
_MEMORY_ROOM = "embodied_mem.sim.memory_room:MemoryRoom"

_MULTI_ROOM = {"N2-S4": "N2-S4-v0", "N4-S5": "N4-S5-v1", "N6": "N6-v0"}
_OBSTRUCTED = {
    **{name: f"{name}-v0" for name in ("1Dl", "1Dlh", "1Dlhb", "2Dl", "2Dlh")},
    **{name: f"{name}-v1" for name in ("2Dlhb", "1Q", "2Q", "Full")},
}
"""MiniGrid's ids by ours: of each the version without MiniGrid's known faults."""
_OBSTRUCTED_OBJECTS = 44
"""All the doors, keys, boxes and balls of the largest of them find room in 64 tokens."""
_MEMORY_SIZES = ("S7", "S9", "S11", "S13", "S13Random", "S17Random")


def _minigrid_families() -> tuple[EnvEntry, ...]:
    """Returns the rows of MiniGrid's families: rooms in a chain, locked and blocked doors, memory."""
    rows = [
        EnvEntry(f"MultiRoom-{name}-v0", _GRID, {"minigrid_id": f"MiniGrid-MultiRoom-{full}"})
        for name, full in _MULTI_ROOM.items()
    ]
    rows += [
        EnvEntry(
            f"ObstructedMaze-{name}-v0",
            _GRID,
            {"minigrid_id": f"MiniGrid-ObstructedMaze-{full}", "objects": _OBSTRUCTED_OBJECTS},
        )
        for name, full in _OBSTRUCTED.items()
    ]
    for size in _MEMORY_SIZES:
        whole = {"minigrid_id": f"MiniGrid-Memory{size}-v0"}
        small = whole if size == "S9" else {**whole, "max_steps": None}
        rows.append(EnvEntry(f"Memory{size}-v0", _MEMORY_ROOM, small))
        rows.append(EnvEntry(f"Memory{size}-View7-v0", _GRID, whole))
    return tuple(rows)


_ERRING: dict[str, Any] = {
    "start_distance": 4.0,
    "hidden_start": True,
    "robot": {
        "noise": {
            **{"depth": 0.003, "dropout": 0.01, "position": 0.05, "heading": 1.0},
            **{"wrong_label": 0.05, "missed": 0.1},
        }
    },
}
"""A robot whose sensors and pose err as in `bench scene`, far from a first goal that it does not see."""

ENVIRONMENTS = (
    EnvEntry("ProofOfMemory-v0", "embodied_mem.sim.proof_of_memory:ProofOfMemory", horizon="length"),
    EnvEntry("PassiveTMaze-v0", "embodied_mem.sim.passive_tmaze:PassiveTMaze", horizon="length"),
    EnvEntry("EndlessTMaze-v0", "embodied_mem.sim.endless_tmaze:EndlessTMaze", horizon="corridors"),
    EnvEntry("DarkKeyToDoor-v0", "embodied_mem.sim.dark_key_to_door:DarkKeyToDoor", horizon="trial_steps"),
    *_minigrid_families(),
    EnvEntry("ColorCubes-v0", "embodied_mem.sim.color_cubes:ColorCubes", horizon="targets"),
    EnvEntry("ColorCubesMedium-v0", "embodied_mem.sim.color_cubes:ColorCubes", {"targets": 3, "jumps": 0.1}),
    EnvEntry("MultiRoom-v0", _GRID, {"minigrid_id": "MiniGrid-MultiRoom-N6-v0"}),
    EnvEntry("Playground-v0", _GRID, {"minigrid_id": "MiniGrid-Playground-v0", "max_steps": 400}),
    EnvEntry("House-ObjectNav-v0", "embodied_mem.sim.house.object_nav:ObjectNav"),
    EnvEntry("House-MultiObjectNav-v0", "embodied_mem.sim.house.object_nav:MultiObjectNav"),
    EnvEntry("House-Sketch-v0", "embodied_mem.sim.pointing.sketch:SketchNav", _ERRING),
    EnvEntry("House-MultiObjectNav-v1", "embodied_mem.sim.house.object_nav:MultiObjectNav", _ERRING),
    EnvEntry(
        "House-Overnight-v0", "embodied_mem.sim.house.overnight_nav:OvernightNav", {"robot": _ERRING["robot"]}
    ),
    EnvEntry(
        "House-Pointing-v0",
        "embodied_mem.sim.pointing.pointing:make_pointing",
        {"env_id": f"{NAMESPACE}/House-MultiObjectNav-v0"},
    ),
    EnvEntry(
        "House-Steps-v0",
        "embodied_mem.sim.pointing.steps:make_steps",
        {"env_id": f"{NAMESPACE}/House-MultiObjectNav-v1"},
    ),
    EnvEntry("House-Parcels-v0", "embodied_mem.sim.pointing.parcels:HouseParcels", horizon="days"),
    EnvEntry(
        "House-Parcels-v1",
        "embodied_mem.sim.pointing.parcels:HouseParcels",
        {"kinds": 3, "days": 12},
        horizon="days",
    ),
    EnvEntry("Habitat-ObjectNav-v0", "embodied_mem.sim.habitat.object_nav:HabitatObjectNav", needs="habitat"),
    EnvEntry(
        "Habitat-MultiObjectNav-v0",
        "embodied_mem.sim.habitat.object_nav:HabitatMultiObjectNav",
        needs="habitat",
    ),
    EnvEntry("MultiRoomMemory-v0", _GRID_MEMORY, {"env_id": f"{NAMESPACE}/MultiRoom-v0"}),
    EnvEntry("PlaygroundMemory-v0", _GRID_MEMORY, {"env_id": f"{NAMESPACE}/Playground-v0"}),
)


def register() -> None:
    """Registers every environment of the table with gymnasium; doing it twice changes nothing."""
    for entry in ENVIRONMENTS:
        if entry.id not in registration.registry:
            registration.register(
                id=entry.id,
                entry_point=entry.entry_point,
                kwargs=entry.kwargs,
                max_episode_steps=entry.max_episode_steps,
            )


def resolve(spec: str) -> tuple[str, dict[str, Any]]:
    """Returns the id and the arguments that a spec of an environment stands for.

    Args:
        spec: an id, or `habitat:PATH` with the path of a scene dataset or of a YAML file: MultiObjectNav
            in its scenes.
    """
    kind, _, path = spec.partition(":")
    if kind != HABITAT:
        return spec, {}
    return f"{NAMESPACE}/Habitat-MultiObjectNav-v0", {"habitat": path}


def make(spec: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """Makes the environment of a spec.

    Args:
        spec: see `resolve`.
        kwargs: arguments of the environment.

    Raises:
        ConfigError: there is no such environment, or its arguments do not fit it.
    """
    env_id, own = resolve(spec)
    try:
        return gymnasium.make(env_id, disable_env_checker=True, **{**own, **kwargs})
    except gymnasium.error.Error as error:
        raise ConfigError(f"cannot make the environment {spec}: {' '.join(str(error).split())}") from None

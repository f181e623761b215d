"""A logged run as a Minari dataset: observations with memory tokens, actions and rewards, by episode."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.loop import Moment
from embodied_mem.sim.memory_wrapper import flat_tokens, token_spaces
from embodied_mem.types import Goal, Observation

MOST_BYTES = 4_000_000_000
"""Minari writes an episode in one piece, so that a log must fit into RAM."""


@dataclass
class _Episode:
    """What was seen, done and earned between two beginnings."""

    observations: list[dict[str, NDArray[Any]]] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)  # the one that led to each observation
    rewards: list[float] = field(default_factory=list)
    terminated: bool = False

    @property
    def is_usable(self) -> bool:
        """True where at least one action led from one observation to the next."""
        return len(self.observations) > 1 and all(action is not None for action in self.actions[1:])


class MinariEpisodes:
    """A listener of the loop that keeps what an offline learner needs of every step.

    An observation has the memory tokens that the policy had (`mem_*`, as `MemoryWrapper` gives them), the
    `pose` (7,) float64 in the map (x, y, z, qx, qy, qz, qw), `goal_label` and `goal_position` where there
    are goals, and the images of each camera: `color` (uint8), `depth` (float32 [m], NaN as 0) and
    `semantic`, with the camera's name before them where there are several; `grid` in grid worlds.
    """

    def __init__(self) -> None:
        self.episodes: list[_Episode] = []
        self._bytes = 0

    def __call__(self, moment: Moment) -> None:
        """Keeps one step.

        Raises:
            InputError: the log is too large to be held.
        """
        obs = moment.obs
        if obs.is_first or not self.episodes:
            self.episodes.append(_Episode())
        episode = self.episodes[-1]
        seen = {"pose": np.array(obs.map_T_base.to_list(), np.float64), **flat_tokens(moment.tokens)}
        seen |= _goal(obs.goal) | _views(obs)
        self._bytes += sum(array.nbytes for array in seen.values())
        if self._bytes > MOST_BYTES:
            raise InputError(
                f"this log is more than {MOST_BYTES / 1e9:.0f} GB once it is decoded; export a shorter one"
            )
        episode.observations.append(seen)
        episode.actions.append(obs.action)
        episode.rewards.append(obs.reward)
        episode.terminated = obs.terminated

    def write(self, folder: Path, name: str) -> str:
        """Writes the dataset into a folder, which is replaced; `minari.MinariDataset(folder)` reads it.

        Args:
            folder: of the dataset.
            name: its id for Minari, such as "embodied-mem/kitchen-v0".

        Returns:
            what was written, in words.

        Raises:
            InputError: the log has no actions.
        """
        usable = [episode for episode in self.episodes if episode.is_usable]
        if not usable:
            raise InputError("this log holds no actions to learn from; Minari needs one for every step")
        keys = _shared_keys(usable)
        folder = folder.resolve()  # Minari loses its way on relative paths
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as work:
            fresh = Path(work) / folder.name
            fresh.mkdir()
            _write_storage(fresh, name, usable, keys)
            if folder.exists():
                shutil.rmtree(folder)
            fresh.rename(folder)
        total = sum(len(episode.actions) - 1 for episode in usable)
        plural = "" if len(usable) == 1 else "s"
        return f"{len(usable)} episode{plural}, {total} steps, {len(keys)} keys ({name})"


def _write_storage(folder: Path, name: str, usable: list[_Episode], keys: list[str]) -> None:
    """Writes the files of a dataset, episode by episode, into an empty folder."""
    from minari import __version__
    from minari.data_collector.episode_buffer import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    storage = MinariStorage.new(
        folder, _observation_space(usable[0], keys), _action_space(usable), data_format="arrow"
    )
    about = "a run of embodied-mem: observations with the memory tokens that the policy had"
    storage.update_metadata({"dataset_id": name, "minari_version": __version__, "description": about})
    for number, episode in enumerate(usable):
        ends = np.zeros(len(episode.observations) - 1, bool)
        ends[-1] = True
        buffer: Any = EpisodeBuffer(
            id=number,
            observations={key: np.stack([seen[key] for seen in episode.observations]) for key in keys},
            actions=np.stack(episode.actions[1:]),
            rewards=episode.rewards[1:],
            terminations=ends & episode.terminated,
            truncations=ends & (not episode.terminated),
        )
        storage.update_episodes([buffer])


def _goal(goal: Goal | None) -> dict[str, NDArray[Any]]:
    if goal is None:
        return {}
    seen: dict[str, NDArray[Any]] = {"goal_label": np.array([goal.label], np.int64)}
    if goal.position is not None:
        seen["goal_position"] = np.asarray(goal.position, np.float64)
    return seen


def _views(obs: Observation) -> dict[str, NDArray[Any]]:
    """Returns the images of an observation by name."""
    seen: dict[str, NDArray[Any]] = {}
    for camera in obs.cameras:
        start = f"{camera.name}_" if len(obs.cameras) > 1 else ""
        if camera.color is not None:
            seen[f"{start}color"] = camera.color.data
        if camera.depth is not None:
            seen[f"{start}depth"] = np.nan_to_num(camera.depth.data, nan=0.0, posinf=np.inf, neginf=0.0)
        if camera.semantic is not None:
            seen[f"{start}semantic"] = camera.semantic.data.astype(np.int32)
    if obs.grid is not None:
        seen["grid"] = obs.grid.cells.astype(np.int16)  # Minari stores uint8 images as JPEG: not for symbols
    return seen


def _shared_keys(episodes: list[_Episode]) -> list[str]:
    """Returns what every observation has, in the same shape."""
    first = episodes[0].observations[0]
    keys = dict.fromkeys(first)
    for episode in episodes:
        for seen in episode.observations:
            for key in [k for k in keys if k not in seen or seen[k].shape != first[k].shape]:
                del keys[key]
    return list(keys)


def _observation_space(episode: _Episode, keys: list[str]) -> Any:
    from gymnasium import spaces

    first = episode.observations[0]
    tokens = token_spaces(first["mem_id"].shape[0], first["mem_feature"].shape[1])
    found: dict[str, Any] = {}
    for key in keys:
        array = first[key]
        if key in tokens:
            found[key] = tokens[key]
        elif array.dtype == np.uint8:
            found[key] = spaces.Box(0, 255, array.shape, np.uint8)
        elif array.dtype.kind == "f":
            found[key] = spaces.Box(-np.inf, np.inf, array.shape, array.dtype.type)
        else:
            info = np.iinfo(np.int32 if array.dtype.itemsize > 4 else array.dtype)
            found[key] = spaces.Box(info.min, info.max, array.shape, array.dtype.type)
    return spaces.Dict(found)


def _action_space(episodes: list[_Episode]) -> Any:
    """Returns a space of the actions that were taken: a log does not say which others there are."""
    from gymnasium import spaces

    taken = np.stack([action for episode in episodes for action in episode.actions[1:]])
    if taken.ndim == 1 and taken.dtype.kind in "iu":
        return spaces.Discrete(int(taken.max()) + 1)
    if taken.ndim == 1:
        raise InputError("the actions of this log are neither numbers of choices nor vectors")
    return spaces.Box(-np.inf, np.inf, taken.shape[1:], np.float64)

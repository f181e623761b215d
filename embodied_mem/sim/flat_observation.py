"""`FlatObservation`: what an observation holds as one vector, for algorithms that read nothing else."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError
from embodied_mem.sim.memory_wrapper import FAR
from embodied_mem.types import TOKEN_KINDS

LABELS = 64
"""Label ids from here on are unknown, 0."""
UNREAD = ("mem_id", "mem_place_id", "place_id", "mem_crops", "mem_level")
"""Keys that are left out: ids are no numbers, pictures no vectors."""
TOKEN = {
    "mem_position": 5.0,
    "mem_extent": 1.0,
    "mem_occupancy": 1.0,
    "mem_age": 5.0,
    "mem_confidence": 1.0,
    "mem_visits": 3.0,
    "mem_frontier": 1.0,
    "mem_feature": 1.0,
}
"""What tells of a token beside its kind, label and path, and the unit it is told in."""
METRES = 10.0
"""Unit of path distances [m]."""


class FlatObservation(gymnasium.ObservationWrapper[NDArray[np.float32], Any, Any]):
    """Gives one (N,) float32 vector: memory tokens in their order, and whatever else is not a picture.

    Kinds and labels of tokens, and every `Discrete`, are one-hot; absent tokens are zeros, and so are path
    distances where there is no way.

    Args:
        env: any environment.

    Raises:
        ConfigError: it gives nothing but pictures.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        own = env.observation_space
        parts = dict(own.spaces) if isinstance(own, spaces.Dict) else {"observation": own}
        self._has_tokens = "mem_mask" in parts
        tokens = [key for key in parts if self._has_tokens and key.startswith("mem_")]
        self._others = {
            key: part
            for key, part in parts.items()
            if key not in (*UNREAD, *tokens) and not (part.dtype == np.uint8 and len(part.shape or ()) == 3)
        }
        if not self._has_tokens and not self._others:
            raise ConfigError("this environment gives nothing but pictures, which are no vectors")
        blank = {
            key: np.zeros(part.shape or (), part.dtype)
            for key, part in parts.items()
            if isinstance(part, spaces.Box) or key in self._others
        }
        size = len(self._vector(blank))
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def observation(self, observation: Any) -> NDArray[np.float32]:
        """Returns an observation as one vector."""
        return self._vector(observation if isinstance(observation, dict) else {"observation": observation})

    def _vector(self, seen: dict[str, Any]) -> NDArray[np.float32]:
        vectors = [_tokens(seen).reshape(-1)] if self._has_tokens else []
        for key, space in self._others.items():
            value = np.asarray(seen[key])
            if isinstance(space, spaces.Discrete):
                vectors.append(np.eye(int(space.n), dtype=np.float32)[int(value) - int(space.start)])
            elif key.endswith("path_distance"):
                vectors.append(_near(value).reshape(-1))
            else:
                vectors.append(value.astype(np.float32).reshape(-1))
        return np.concatenate(vectors)


def _tokens(seen: dict[str, Any]) -> NDArray[np.float32]:
    """Returns (K, F) float32: what tells of the tokens."""
    labels = np.asarray(seen["mem_label"])
    known = np.where((labels >= 0) & (labels < LABELS), labels, 0)
    columns = [np.eye(len(TOKEN_KINDS))[seen["mem_kind"]], np.eye(LABELS)[known]]
    columns += [np.asarray(seen[key]).reshape(len(labels), -1) / unit for key, unit in TOKEN.items()]
    columns.append(_near(seen["mem_path_distance"])[:, None])
    told = np.concatenate(columns, axis=1) * np.asarray(seen["mem_mask"])[:, None]
    return told.astype(np.float32)


def _near(metres: Any) -> NDArray[np.float32]:
    """Returns path distances in units of `METRES`; 0 where there is no way."""
    far = np.asarray(metres, np.float32)
    return np.where(far < FAR, far / np.float32(METRES), np.float32(0.0))

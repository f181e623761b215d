"""`MemoryWrapper`: memory tokens as observation keys, for any SB3 algorithm."""

from __future__ import annotations

from typing import Any, cast

import gymnasium
import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError
from embodied_mem.loop import Loop, Moment
from embodied_mem.memory import Memory, MemoryConfig, ReadConfig
from embodied_mem.memory.crops import CHANNELS
from embodied_mem.perception import Perception, PerceptionConfig
from embodied_mem.sim.world import EmbodiedEnv, EnvWorld
from embodied_mem.types import TOKEN_KINDS, MemoryTokens

FAR = 100.0
"""Path distance [m] that stands for "unreachable" in observations, which must be finite."""


class MemoryWrapper(gymnasium.Wrapper[dict[str, Any], Any, Any, Any]):
    """Runs perception and memory beside an environment and adds `mem_*` keys to its observation.

    Each gymnasium episode starts with an empty memory. The keys are the fields of `MemoryTokens`,
    one flat `Box` each (SB3 refuses nested spaces); a policy leaves ids and masks unembedded.

    Args:
        env: an environment whose `unwrapped` has the property `observation`.
        memory: the memory's settings; those that the environment asks for where None.
        perception: perception's settings; those that the environment asks for where None.
        tokens: False runs the memory but hides it: the comparison without memory.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        memory: MemoryConfig | None = None,
        perception: PerceptionConfig | None = None,
        tokens: bool = True,
    ) -> None:
        super().__init__(env)
        if not hasattr(type(env.unwrapped), "observation"):
            raise ConfigError(
                f"{type(env.unwrapped).__name__} gives no `observation`, so nothing can be remembered of it; "
                "wrap one of the embodied environments (MiniGridTask, ...)"
            )
        embodied = cast(EmbodiedEnv, env.unwrapped)
        self.memory_config = memory or embodied.memory_config()
        self.perception = Perception(perception or embodied.perception_config())
        self.tokens = tokens
        self.loop = self._new_loop()
        self.moment: Moment | None = None
        own = env.observation_space
        spaces = dict(own.spaces) if isinstance(own, gymnasium.spaces.Dict) else {"observation": own}
        if tokens:
            spaces |= read_spaces(self.memory_config.read)
        self.observation_space = gymnasium.spaces.Dict(spaces)

    @property
    def memory(self) -> Memory:
        """The memory of the current episode."""
        return self.loop.memory

    def _new_loop(self) -> Loop:
        return Loop(EnvWorld(self.env), self.perception, Memory(self.memory_config))

    def _sense(self) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.moment = self.loop.sense()
        world = self.loop.world
        assert self.moment is not None and isinstance(world, EnvWorld) and world.result is not None
        obs, reward, terminated, truncated, info = world.result
        own = dict(obs) if isinstance(obs, dict) else {"observation": obs}
        if self.tokens:
            own |= flat_tokens(self.moment.tokens)
        return own, reward, terminated, truncated, info

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts an episode with an empty memory."""
        self.loop = self._new_loop()
        self.loop.world.reset(seed=seed, options=options)  # type: ignore[attr-defined]
        obs, _, _, _, info = self._sense()
        return obs, info

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Acts, then senses: the two halves of the loop."""
        self.loop.act(action)
        return self._sense()


def read_spaces(read: ReadConfig) -> dict[str, gymnasium.Space[Any]]:
    """Returns one flat Box per field of the `MemoryTokens` that are read so."""
    spaces = token_spaces(read.tokens, read.feature_size)
    if read.crops:
        shape = (len(read.crops) * len(CHANNELS), read.crop_pixels, read.crop_pixels)
        spaces["mem_crops"] = gymnasium.spaces.Box(0, 255, shape, np.uint8)
    return spaces


def token_spaces(count: int, feature_size: int) -> dict[str, gymnasium.Space[Any]]:
    """Returns one flat Box per field of `MemoryTokens` with K = `count` tokens."""
    big = 2**62  # Box.sample() computes high - low, which must fit
    top = np.inf

    def box(low: float, high: float, *shape: int, dtype: Any = np.float32) -> gymnasium.spaces.Box:
        return gymnasium.spaces.Box(low, high, shape, dtype)

    return {
        "mem_id": box(-1, big, count, dtype=np.int64),
        "mem_kind": box(0, len(TOKEN_KINDS) - 1, count, dtype=np.int64),
        "mem_level": box(0, 32, count, dtype=np.int64),
        "mem_position": box(-top, top, count, 3),
        "mem_extent": box(0, top, count, 3),
        "mem_label": box(0, big, count, dtype=np.int64),
        "mem_occupancy": box(0, 1, count),
        "mem_age": box(0, top, count),
        "mem_confidence": box(0, 1, count),
        "mem_visits": box(0, top, count),
        "mem_frontier": box(0, 1, count, dtype=np.int8),
        "mem_path_distance": box(0, FAR, count),
        "mem_feature": box(-top, top, count, feature_size),
        "mem_mask": box(0, 1, count, dtype=np.int8),
        "mem_place_id": box(-1, big, 1, dtype=np.int64),
    }


def flat_tokens(tokens: MemoryTokens) -> dict[str, NDArray[Any]]:
    """Returns the tokens as the arrays that `read_spaces` describes."""
    pictures = {} if tokens.crops is None else {"mem_crops": tokens.crops}
    return pictures | {
        "mem_id": tokens.id,
        "mem_kind": tokens.kind,
        "mem_level": tokens.level,
        "mem_position": tokens.position,
        "mem_extent": tokens.extent,
        "mem_label": tokens.label,
        "mem_occupancy": tokens.occupancy,
        "mem_age": tokens.age,
        "mem_confidence": tokens.confidence,
        "mem_visits": tokens.visits,
        "mem_frontier": tokens.frontier.astype(np.int8),
        "mem_path_distance": np.minimum(tokens.path_distance, np.float32(FAR)),
        "mem_feature": tokens.feature,
        "mem_mask": tokens.mask.astype(np.int8),
        "mem_place_id": np.array([tokens.place_id], np.int64),
    }


def make_with_memory(env_id: str, tokens: bool = True, **kwargs: Any) -> MemoryWrapper:
    """Makes a registered environment and puts a `MemoryWrapper` around it."""
    env = gymnasium.make(env_id, disable_env_checker=True, **kwargs)
    return MemoryWrapper(env, tokens=tokens)

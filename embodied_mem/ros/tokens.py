"""Memory tokens as JSON: what a policy in another process reads."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import LogError
from embodied_mem.geometry import Pose
from embodied_mem.log import messages, topics
from embodied_mem.ros.declaration import EVENT, Endpoint
from embodied_mem.ros.goals import goal_json, read_goal
from embodied_mem.types import Goal, MemoryTokens

TOKENS = Endpoint(
    "memory/tokens", topics.STRING, EVENT, "MemoryTokens of the newest write, its pose and the goal; JSON"
)


@dataclass(frozen=True, eq=False)
class Reading:
    """What was read of a memory after a write.

    Attributes:
        tokens: the memory's tokens, its pictures of the map included.
        stamp: of the write [ns].
        step: of the write.
        odom_T_base, map_T_odom: where the robot was.
        goal: with which it was read.
        is_first: the write began an episode.
    """

    tokens: MemoryTokens
    stamp: int
    step: int = 0
    odom_T_base: Pose = field(default_factory=Pose)
    map_T_odom: Pose = field(default_factory=Pose)
    goal: Goal | None = None
    is_first: bool = False


def tokens_message(reading: Reading) -> Any:
    """Makes a std_msgs/String of a reading; pictures of the map are compressed bytes in base64."""
    tokens = reading.tokens
    fields = {name: _plain(value) for name, value in vars(tokens).items() if name != "crops"}
    if tokens.crops is not None:
        packed = base64.b64encode(zlib.compress(np.ascontiguousarray(tokens.crops).tobytes(), 1))
        fields["crops"] = {"shape": list(tokens.crops.shape), "zlib": packed.decode()}
    return messages.json_string(
        {
            "stamp": reading.stamp,
            "step": reading.step,
            "is_first": reading.is_first,
            "odom_T_base": reading.odom_T_base.to_list(),
            "map_T_odom": reading.map_T_odom.to_list(),
            "goal": goal_json(reading.goal),
            **fields,
        }
    )


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def read_tokens(message: Any) -> Reading:
    """Reads a reading.

    Raises:
        LogError: it is none.
    """
    content = messages.read_json(message, TOKENS.topic)
    try:
        return Reading(
            tokens=_tokens(content),
            stamp=int(content["stamp"]),
            step=int(content["step"]),
            odom_T_base=Pose.from_list([float(v) for v in content["odom_T_base"]]),
            map_T_odom=Pose.from_list([float(v) for v in content["map_T_odom"]]),
            goal=read_goal(content["goal"]),
            is_first=bool(content["is_first"]),
        )
    except (LookupError, TypeError, ValueError, zlib.error) as error:
        raise LogError(f"{TOKENS.topic} holds no memory tokens ({error!r})") from None


def _tokens(content: dict[str, Any]) -> MemoryTokens:
    kinds = {
        name: value.dtype
        for name, value in vars(MemoryTokens.empty(0, 0)).items()
        if isinstance(value, np.ndarray)
    }
    shapes = {"feature": (len(content["id"]), -1)}
    values: dict[str, Any] = {
        name: np.array(content[name], np.float64 if kind.kind == "f" else kind).astype(kind)
        for name, kind in kinds.items()
    }
    values = {k: v.reshape(shapes[k]) if k in shapes and v.size else v for k, v in values.items()}
    crops: NDArray[np.uint8] | None = None
    if "crops" in content:
        data = zlib.decompress(base64.b64decode(content["crops"]["zlib"]))
        crops = np.frombuffer(data, np.uint8).reshape(content["crops"]["shape"]).copy()
    return MemoryTokens(**values, place_id=int(content["place_id"]), crops=crops)

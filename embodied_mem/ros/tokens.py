"""Memory tokens as JSON: what a policy in another process reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from embodied_mem.log import messages, topics
from embodied_mem.ros.declaration import EVENT, Endpoint
from embodied_mem.types import MemoryTokens

TOKENS = Endpoint("memory/tokens", topics.STRING, EVENT, "MemoryTokens of the newest write; JSON")


def tokens_message(tokens: MemoryTokens, stamp: int) -> Any:
    """Makes a std_msgs/String of tokens at a stamp [ns]; pictures of the map are not sent."""
    fields = {name: _plain(value) for name, value in vars(tokens).items() if name != "crops"}
    return messages.json_string({"stamp": stamp, **fields})


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def read_tokens(message: Any) -> tuple[MemoryTokens, int]:
    """Reads tokens and their stamp [ns].

    Raises:
        LogError: it is not JSON.
    """
    content = messages.read_json(message, TOKENS.topic)
    kinds = {
        name: value.dtype
        for name, value in vars(MemoryTokens.empty(0, 0)).items()
        if isinstance(value, np.ndarray)
    }
    shapes = {"feature": (len(content["id"]), -1)}
    values = {
        name: np.array(content[name], np.float64 if kind.kind == "f" else kind).astype(kind)
        for name, kind in kinds.items()
    }
    values = {k: v.reshape(shapes[k]) if k in shapes and v.size else v for k, v in values.items()}
    return MemoryTokens(**values, place_id=int(content["place_id"])), int(content["stamp"])

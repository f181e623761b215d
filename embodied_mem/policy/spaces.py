"""Gymnasium spaces as JSON, so that a checkpoint needs no pickle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError


def space_to_json(space: spaces.Space[Any]) -> dict[str, Any]:
    """Returns a space as JSON-serialisable values.

    Raises:
        ConfigError: a space that cannot be written.
    """
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "spaces": {key: space_to_json(part) for key, part in space.spaces.items()}}
    if isinstance(space, spaces.Box):
        bounds = {"low": _numbers(space.low), "high": _numbers(space.high)}
        return {"type": "Box", "shape": list(space.shape), "dtype": str(space.dtype), **bounds}
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"type": "MultiDiscrete", "nvec": space.nvec.tolist()}
    if isinstance(space, spaces.MultiBinary):
        return {"type": "MultiBinary", "shape": list(space.shape)}
    raise ConfigError(f"a checkpoint cannot hold a space of type {type(space).__name__}")


def space_from_json(values: Mapping[str, Any]) -> spaces.Space[Any]:
    """Reads what `space_to_json` wrote.

    Raises:
        ConfigError: an unknown type, or fields that do not fit it.
    """
    try:
        kind = values["type"]
        if kind == "Dict":
            # a mapping would be sorted by key
            return spaces.Dict([(key, space_from_json(part)) for key, part in values["spaces"].items()])
        if kind == "Box":
            dtype, shape = np.dtype(values["dtype"]), tuple(values["shape"])
            low, high = (_array(values[name], dtype, shape) for name in ("low", "high"))
            return spaces.Box(low, high, shape, dtype.type)
        if kind == "Discrete":
            return spaces.Discrete(values["n"], start=values["start"])
        if kind == "MultiDiscrete":
            return spaces.MultiDiscrete(values["nvec"])
        if kind == "MultiBinary":
            shape = values["shape"]
            return spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"not a space: {values!r} ({error})") from None
    raise ConfigError(f'unknown space type "{kind}"')


def _numbers(bound: NDArray[Any]) -> Any:
    """Returns a bound as one number where it is the same everywhere; infinities as text."""
    values = bound.ravel().tolist()
    values = [str(v) if isinstance(v, float) and math.isinf(v) else v for v in values]
    return values[0] if values and len(set(values)) == 1 else values


def _array(numbers: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    values = numbers if isinstance(numbers, list) else [numbers] * math.prod(shape)
    plain = [float(v) if isinstance(v, str) else v for v in values]
    return np.array(plain, dtype).reshape(shape)

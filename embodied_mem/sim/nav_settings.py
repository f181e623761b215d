"""Settings that navigation tasks are given, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from embodied_mem.configs import from_mapping
from embodied_mem.errors import ConfigError

Config = TypeVar("Config")


def settings(cls: type[Config], name: str, given: Any) -> Config:
    """Returns settings given as a config, a mapping, or None for the defaults.

    Raises:
        ConfigError: they are something else, or make no sense.
    """
    if given is None or isinstance(given, cls):
        return cls() if given is None else given
    if not isinstance(given, Mapping):
        raise ConfigError(f'{name} takes settings such as "{{width: 64}}", got "{given}"')
    return from_mapping(cls, given)


def check_whole(name: str, value: Any, least: int) -> None:
    """Raises `ConfigError` where a setting is no whole number, or smaller than the least that makes sense."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ConfigError(f'{name} must be a whole number, got "{value}"')
    if value < least:
        limit = f"be at least {least}" if least else "not be negative"
        raise ConfigError(f"{name} must {limit}, got {value}")


def check_numbers(goals: int, max_steps: int, revisit: float, success_radius: float) -> None:
    """Raises `ConfigError` where one of these settings of a navigation task makes no sense."""
    check_whole("goals", goals, 1)
    check_whole("max_steps", max_steps, 1)
    for name, value in (("revisit", revisit), ("success_radius", success_radius)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f'{name} must be a number, got "{value}"')
    if not 0.0 <= revisit <= 1.0 or not success_radius > 0.0:
        raise ConfigError("revisit must be in 0..1 and success_radius positive")

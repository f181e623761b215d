"""Configs: dataclasses from YAML and back, with errors that name the nearest valid key."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from embodied_mem.errors import ConfigError

T = TypeVar("T")


def from_mapping(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Builds a config dataclass from nested mappings.

    Args:
        cls: a dataclass whose fields are scalars, tuples, dicts or dataclasses.
        values: as read from YAML or JSON; missing keys take their defaults.
        where: the dotted path of this part, for messages.

    Raises:
        ConfigError: an unknown key (with the nearest valid one) or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or 'the config'} must be a mapping of keys to values, got {values!r}")
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls) if f.init]  # type: ignore[arg-type]
    for key in values:
        if key not in names:
            raise unknown_key(str(key), names, "key", where)
    try:
        return cls(**{key: _convert(hints[key], value, _join(where, key)) for key, value in values.items()})
    except TypeError as error:
        raise ConfigError(f"{where or 'the config'}: {error}") from None


def unknown_key(key: str, names: list[str], kind: str, where: str = "") -> ConfigError:
    """Returns the error for a key of that `kind` which is none of `names`: it tells the nearest."""
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.0)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    return ConfigError(f'unknown {kind} "{_join(where, key)}"{hint}')


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_mapping(typing.cast(Any, hint), value, where)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert_union([a for a in arguments if a is not type(None)], value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where} must be one of {', '.join(map(str, arguments))}, got {value!r}")
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        inner = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(inner) != len(value):
            raise ConfigError(f"{where} must hold {len(inner)} values, got {len(value)}")
        return tuple(_convert(t, v, where) for t, v in zip(inner, value))
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):
        # YAML 1.1 reads "3e-4" as a string.
        try:
            return float(value)
        except ValueError:
            pass
    expected = origin or hint
    wrong_bool = isinstance(value, bool) and expected is not bool
    if isinstance(expected, type) and (not isinstance(value, expected) or wrong_bool):
        raise ConfigError(f"{where} must be of type {expected.__name__}, got {value!r}")
    return value


def _convert_union(choices: list[Any], value: Any, where: str) -> Any:
    for choice in choices:
        try:
            return _convert(choice, value, where)
        except ConfigError as error:
            last = error
    raise last


def to_mapping(config: Any) -> dict[str, Any]:
    """Returns a config dataclass as nested dicts of plain values, ready for YAML or JSON."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        if isinstance(value, Mapping):
            return {str(k): plain(v) for k, v in value.items()}
        return str(value) if isinstance(value, Path) else value

    mapping = plain(config)
    assert isinstance(mapping, dict)
    return mapping


MOST_BYTES = 10_000_000
"""A larger file is no config."""


def load_config(cls: type[T], path: str | Path) -> T:
    """Reads a config dataclass from a YAML file.

    Raises:
        ConfigError: the file is missing, is not YAML, or does not fit the dataclass.
    """
    import yaml

    path = Path(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path} is too large for a config: {path.stat().st_size / 1e6:.0f} MB")
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())
        raise ConfigError(f"{path} is not a YAML file: {line}") from None
    try:
        return from_mapping(cls, values or {})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def save_config(config: Any, path: str | Path) -> None:
    """Writes a config dataclass as a YAML file that `load_config` reads back."""
    import yaml

    Path(path).write_text(yaml.safe_dump(to_mapping(config), sort_keys=False))

"""ROS parameters from config dataclasses: dotted names, defaults, descriptions and ranges."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from embodied_mem.configs import from_mapping
from embodied_mem.errors import ConfigError

T = TypeVar("T")


def limited(default: float, low: float, high: float, *, live: bool = False) -> Any:
    """Makes a field of a config dataclass with a range, for the parameter made of it.

    A live one may change while the node runs.
    """
    return dataclasses.field(default=default, metadata={"range": (low, high), "live": live})


@dataclass(frozen=True)
class Parameter:
    """One parameter of a node.

    Attributes:
        name: dotted path in the config.
        default: a bool, int, float, str, or a list of one of these.
        description: the docstring under the config's field.
        range: lowest and highest value of a number, or None.
        live: it may change while the node runs.
        kind: type of the value, or of the values of a list.
    """

    name: str
    default: Any
    description: str
    range: tuple[float, float] | None = None
    live: bool = False
    kind: type = str


def parameters(config: Any, prefix: str = "") -> Iterator[Parameter]:
    """Yields the parameters of a config dataclass, those of nested ones with dotted names."""
    kind: Any = type(config)
    texts, hints = field_docs(kind), typing.get_type_hints(kind)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        name = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from parameters(value, f"{name}.")
        elif isinstance(value, (bool, int, float, str)):
            facts = field.metadata
            text, is_live = texts.get(field.name, ""), bool(facts.get("live"))
            yield Parameter(name, value, text, facts.get("range"), is_live, type(value))
        elif isinstance(value, tuple):
            inner = typing.get_args(hints[field.name])[0]
            yield Parameter(name, list(value), texts.get(field.name, ""), kind=inner)


@functools.cache
def field_docs(cls: Any) -> Mapping[str, str]:
    """Returns the docstring under each field of a dataclass, on one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for node, following in zip(body.body, body.body[1:]):
        if isinstance(node, ast.AnnAssign) and isinstance(following, ast.Expr):
            text = ast.literal_eval(following.value) if isinstance(following.value, ast.Constant) else ""
            found[ast.unparse(node.target)] = " ".join(str(text).split())
    return found


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """Builds a config from dotted parameters.

    Raises:
        ConfigError: an unknown parameter, or a value that does not fit; it names the nearest one.
    """
    nested: dict[str, Any] = {}
    for name, value in values.items():
        part = nested
        *path, last = name.split(".")
        for key in path:
            part = part.setdefault(key, {})
        part[last] = value
    config = from_mapping(cls, nested)
    for parameter in parameters(config):
        if parameter.range is not None and not _inside(parameter.default, parameter.range):
            low, high = parameter.range
            raise ConfigError(f"{parameter.name} must be in {low}..{high}, got {parameter.default}")
    return config


def _inside(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def read_file(path: str | Path, node: str) -> dict[str, Any]:
    """Reads a ROS 2 parameter file: what it says for a node, and for all (`/**`), with dotted names.

    Raises:
        ConfigError: it cannot be read, or is no parameter file.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text()) or {}
    except OSError as error:
        raise ConfigError(f"cannot read the parameters {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a YAML file: {' '.join(str(error).split())}") from None
    values: dict[str, Any] = {}
    for key in ("/**", node, f"/{node}"):
        part = content.get(key) if isinstance(content, Mapping) else None
        if part is None:
            continue
        if not isinstance(part, Mapping) or not isinstance(part.get("ros__parameters"), Mapping):
            raise ConfigError(f'{path}: "{key}" lacks "ros__parameters:", as ROS 2 parameter files have it')
        values |= _flat(part["ros__parameters"])
    return values


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat

"""A node's settings while it is there: what its parameters are, and which changes are let through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embodied_mem.errors import ConfigError
from embodied_mem.ros.parameters import Parameter, build, parameters


class Settings:
    """The parameters of a node and their values.

    Args:
        kind: config dataclass that the parameters are made from.
        given: values that differ from its defaults, by dotted name.

    Raises:
        ConfigError: an unknown parameter, or a value that does not fit.
    """

    def __init__(self, kind: type, given: Mapping[str, Any]) -> None:
        self.kind = kind
        self.config: Any = build(kind, given)

    @property
    def parameters(self) -> list[Parameter]:
        """The parameters; their defaults are the values of now."""
        return list(parameters(self.config))

    @property
    def values(self) -> dict[str, Any]:
        """The values of now, by dotted name."""
        return {p.name: p.default for p in self.parameters}

    def change(self, changes: Mapping[str, Any], running: bool) -> None:
        """Changes values, all of them or none.

        Args:
            changes: new values by dotted name; those that are no setting of the node are passed over.
            running: only live parameters may change.

        Raises:
            ConfigError: a value does not fit, or may not change now.
        """
        values, live = self.values, {p.name for p in self.parameters if p.live}
        wanted = {name: _plain(value) for name, value in changes.items() if name in values}
        for name, value in wanted.items():
            if running and name not in live and value != values[name]:
                raise ConfigError(
                    f"{name} is read when the node is configured; deactivate and cleanup the node first, "
                    "or give it when the node is started"
                )
        self.config = build(self.kind, values | wanted)


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str)) or value is None else list(value)

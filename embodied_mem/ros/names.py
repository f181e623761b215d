"""Names of topics in a graph: namespace and remaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from embodied_mem.errors import ConfigError


@dataclass(frozen=True)
class Names:
    """How a node's names become those of the graph.

    Attributes:
        namespace: put before relative names.
        remaps: name as the node has it -> name in the graph.
    """

    namespace: str = ""
    remaps: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, namespace: str, remaps: Sequence[str]) -> Names:
        """Reads remaps as ROS 2 writes them: `from:=to`.

        Raises:
            ConfigError: one of them is not of that form.
        """
        pairs = {}
        for remap in remaps:
            source, separator, target = remap.partition(":=")
            if not (source and separator and target):
                raise ConfigError(
                    f'"{remap}" is no remap: write from:=to, for example cmd_vel:=/base/cmd_vel'
                )
            pairs[source] = target
        return cls(namespace.strip("/"), pairs)

    def resolve(self, name: str) -> str:
        """Returns the absolute name of a topic."""
        absolute = self._absolute(name)
        for source, target in self.remaps.items():
            if name == source or absolute == self._absolute(source):
                return self._absolute(target)
        return absolute

    def _absolute(self, name: str) -> str:
        if name.startswith("/"):
            return name
        return f"/{self.namespace}/{name}" if self.namespace else f"/{name}"

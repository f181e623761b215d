"""`bench memory`: writes, sizes, budget, crashes and recall, each a section of its own."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from embodied_mem.errors import ConfigError

SECTIONS = {
    "write": ("write", "keyframes per second with snapshots; how long the loop's thread is held"),
}
"""Name of a section: the module in this folder whose `measure()` makes it, and what it says."""


def bench_memory(sections: Sequence[str] = ()) -> dict[str, Any]:
    """Measures sections of the memory, all where none is named.

    Raises:
        ConfigError: there is no such section.
    """
    unknown = [name for name in sections if name not in SECTIONS]
    if unknown:
        raise ConfigError(f'no section "{unknown[0]}" of bench memory; there are: {", ".join(SECTIONS)}')
    chosen = [name for name in SECTIONS if name in sections or not sections]
    return {name: import_module(f"{__name__}.{SECTIONS[name][0]}").measure() for name in chosen}

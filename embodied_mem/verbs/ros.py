"""Run a node of the robot: on ROS 2, or on a machine that has only pip."""

from __future__ import annotations

import json as json_format
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from embodied_mem.errors import ConfigError
from embodied_mem.ros.config import (
    MemoryNodeConfig,
    PerceptionNodeConfig,
    PlayerConfig,
    RobotConfig,
)
from embodied_mem.ros.names import Names
from embodied_mem.ros.node import Node
from embodied_mem.ros.parameters import build, parameters, read_file


def _perception(config: Any) -> Node:
    from embodied_mem.ros.perception_node import PerceptionNode

    return PerceptionNode(config)


def _memory(config: Any) -> Node:
    from embodied_mem.ros.memory_node import MemoryNode

    return MemoryNode(config)


def _robot(config: Any) -> Node:
    from embodied_mem.ros.robot_node import RobotNode

    return RobotNode(config)


def _player(config: Any) -> Node:
    from embodied_mem.ros.player_node import PlayerNode

    return PlayerNode(config)


NODES: dict[str, tuple[type, Callable[[Any], Node]]] = {
    "robot": (RobotConfig, _robot),
    "perception": (PerceptionNodeConfig, _perception),
    "memory": (MemoryNodeConfig, _memory),
    "player": (PlayerConfig, _player),
}
"""Settings and maker of every node."""


def ros(
    node: Literal["robot", "perception", "memory", "player"],
    host: Literal["dds"] = "dds",
    params: Path | None = None,
    set: tuple[str, ...] = (),
    remap: tuple[str, ...] = (),
    namespace: str = "",
    use_sim_time: bool = False,
    table: bool = False,
) -> int:
    """Run a node of the robot in a ROS 2 graph.

    Example: embodied-mem ros robot --set file:=home.emem sensors.depth:=/cam/depth/image_raw

    Args:
        node: "robot" (perception, memory and policy in one process), "perception", "memory", or
            "player" (plays a bag).
        host: "dds" needs no ROS, only `pip install 'embodied-mem[ros]'`.
        params: a ROS 2 parameter file (YAML).
        set: parameters, as name:=value, one after another.
        remap: topics, as from:=to, one after another.
        namespace: put before relative names.
        use_sim_time: take the time from /clock.
        table: print the node's topics, services and parameters, and stop.
    """
    kind, make = NODES[node]
    values = read_file(params, node) if params is not None else {}
    made = make(build(kind, values | parse_values(set)))
    if table:
        print(json_format.dumps(as_table(made), indent=2))
        return 0
    names = Names.parse(namespace, remap)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    from embodied_mem.ros.dds_host import DdsHost

    DdsHost(made, names, use_sim_time=use_sim_time).run(stop)
    return 1 if made.failed.is_set() else 0


def parse_values(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Reads parameters as name:=value, with values in YAML.

    Raises:
        ConfigError: one of them is not of that form.
    """
    import yaml

    values = {}
    for pair in pairs:
        name, separator, text = pair.partition(":=")
        if not (name and separator):
            raise ConfigError(f'"{pair}" is no parameter: write name:=value, for example file:=home.emem')
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError:
            values[name] = text
        if values[name] is None:
            values[name] = ""
    return values


def as_table(node: Node) -> dict[str, Any]:
    """Returns a node's declaration as JSON-ready values."""
    declared = node.declaration
    return {
        "node": declared.name,
        "what": declared.what,
        "subscriptions": [{"topic": e.topic, "type": e.type, "what": e.what} for e in declared.subscriptions],
        "publications": [{"topic": e.topic, "type": e.type, "what": e.what} for e in node.publications],
        "services": [{"name": s.name, "what": s.what} for s in declared.services],
        "parameters": [
            {"name": p.name, "default": p.default, "range": p.range, "what": p.description}
            for p in parameters(declared.config)
        ],
    }

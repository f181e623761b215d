"""What a node tells about itself in one table: topics, services, parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Qos:
    """Quality of service of a topic.

    Attributes:
        reliable: lost messages are sent again.
        latched: late joiners get the last message (transient local).
        depth: messages kept (keep last).
    """

    reliable: bool = True
    latched: bool = False
    depth: int = 10


SENSOR = Qos(reliable=False, depth=5)
"""Images, scans: the newest counts (the preset of rmw_qos_profile_sensor_data)."""
EVENT = Qos()
"""Questions, commands, percepts: everything counts."""
STREAM = Qos(depth=200)
"""Transforms, odometry: often and small."""
LATCHED = Qos(latched=True, depth=1)
"""Maps, labels: what late joiners must get."""
STATIC = Qos(latched=True, depth=100)
"""Static transforms of several publishers."""


@dataclass(frozen=True)
class Endpoint:
    """A topic that a node subscribes to or publishes.

    Attributes:
        topic: name; a relative one lies in the node's namespace.
        type: ROS 2 type.
        qos: quality of service.
        what: what it is, in a line.
    """

    topic: str
    type: str
    qos: Qos
    what: str


@dataclass(frozen=True)
class Service:
    """A std_srvs/srv/Trigger service.

    Attributes:
        name: a relative one lies in the node's namespace.
        what: what it does, in a line.
    """

    name: str
    what: str


@dataclass(frozen=True)
class Declaration:
    """A node's table.

    Attributes:
        name: of the node.
        what: what it does, in a line.
        config: the settings that its parameters are made from.
        subscriptions, publications, services: its interfaces.
    """

    name: str
    what: str
    config: Any
    subscriptions: tuple[Endpoint, ...] = ()
    publications: tuple[Endpoint, ...] = ()
    services: tuple[Service, ...] = ()

"""Run a node of the robot: on ROS 2, or on a machine that has only pip."""

from __future__ import annotations

import dataclasses
import json as json_format
import shlex
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from embodied_mem.configs import from_mapping
from embodied_mem.errors import ConfigError
from embodied_mem.log import topics
from embodied_mem.ros.config import (
    MemoryNodeConfig,
    PerceptionNodeConfig,
    PlayerConfig,
    PolicyNodeConfig,
    RecorderConfig,
    RobotConfig,
    SimConfig,
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

    if not config.drive:
        return RobotNode(config)
    from embodied_mem.verbs.ros_brain import make_brain

    return RobotNode(config, make_brain(config.control))


def _policy(config: Any) -> Node:
    from embodied_mem.ros.policy_node import PolicyNode
    from embodied_mem.verbs.ros_brain import make_brain

    return PolicyNode(config, make_brain(config.control))


def _recorder(config: Any) -> Node:
    from embodied_mem.ros.recorder_node import RecorderNode

    return RecorderNode(config)


def _sim(config: Any) -> Node:
    from embodied_mem.ros.sim_node import SimNode
    from embodied_mem.sim import make as make_env
    from embodied_mem.sim.driven_world import DrivenWorld

    return SimNode(config, DrivenWorld(make_env(config.env), config.seed, config.steps or None))


def _player(config: Any) -> Node:
    from embodied_mem.ros.player_node import PlayerNode

    return PlayerNode(config)


NODES: dict[str, tuple[type, Callable[[Any], Node]]] = {
    "robot": (RobotConfig, _robot),
    "perception": (PerceptionNodeConfig, _perception),
    "memory": (MemoryNodeConfig, _memory),
    "policy": (PolicyNodeConfig, _policy),
    "recorder": (RecorderConfig, _recorder),
    "player": (PlayerConfig, _player),
    "sim": (SimConfig, _sim),
}
"""Settings and maker of every node."""


def ros(
    node: Literal["robot", "perception", "memory", "policy", "recorder", "player", "sim"],
    host: Literal["dds", "rclpy"] = "dds",
    params: Path | None = None,
    set: tuple[str, ...] = (),
    remap: tuple[str, ...] = (),
    namespace: str = "",
    use_sim_time: bool = False,
    world: str = "",
    bag: Path | None = None,
    table: bool = False,
    ros_args: str = "",
) -> int:
    """Run a node of the robot in a ROS 2 graph.

    Examples:
        embodied-mem ros robot --set file:=home.emem sensors.depth:=/cam/depth/image_raw
        embodied-mem ros robot --table                     # topics, services and parameters
        embodied-mem ros sim --set env:=EmbodiedMem/House-ObjectNav-v0 seed:=1 lockstep:=true
        embodied-mem ros player --set bag:=my_bag

    Args:
        node: "robot" (perception, memory and policy in one process), "perception", "memory",
            "policy" (drives by what the memory node shows), "recorder" (writes what they hear as
            MCAP), "player" (plays a bag), or "sim" (a simulated robot).
        host: "dds" needs no ROS, only `pip install 'embodied-mem[ros]'`; "rclpy" makes lifecycle nodes with
            parameters and services, where ROS 2 is.
        params: a ROS 2 parameter file (YAML).
        set: parameters, as name:=value, one after another.
        remap: topics, as from:=to, one after another.
        namespace: put before relative names.
        use_sim_time: take the time from /clock.
        world: a registered environment whose settings of perception and memory the node takes.
        bag: a bag whose topics, frames and settings the node takes.
        table: print the node's topics, services and parameters, and stop.
        ros_args: what follows --ros-args is for ROS 2 (rclpy alone): -p, -r, --params-file, --log-level.
    """
    kind, make = NODES[node]
    if ros_args and host != "rclpy":
        raise ConfigError("--ros-args needs --host rclpy; the DDS host takes --set, --remap and --params")
    values = read_file(params, node) if params is not None else {}
    fits = settings_of(world, kind) if world else settings_of_bag(bag, kind) if bag is not None else {}
    given = fits | values | parse_values(set)
    if table:
        print(json_format.dumps(as_table(make(build(kind, given))), indent=2))
        return 0
    names = Names.parse(namespace, remap)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if host == "rclpy":
        from embodied_mem.ros.rclpy_host import RclpyHost

        arguments = [*ros_arguments(names, use_sim_time), *shlex.split(ros_args)]
        return 0 if RclpyHost(node, kind, make, given, arguments).run(stop) else 1
    from embodied_mem.ros.dds_host import DdsHost

    made = make(build(kind, given))
    DdsHost(made, names, use_sim_time=use_sim_time).run(stop)
    return 1 if made.failed.is_set() else 0


def fold_ros_arguments(arguments: Sequence[str]) -> list[str]:
    """Makes one word of what stands between --ros-args and --, as launch files and `ros2 run` give it."""
    own: list[str] = []
    for_ros: list[str] = []
    into = own
    for word in arguments:
        if word == "--ros-args":
            into = for_ros
        elif word == "--" and into is for_ros:
            into = own
        else:
            into.append(word)
    return [*own, f"--ros-args={shlex.join(for_ros)}"] if for_ros else own


def ros_arguments(names: Names, use_sim_time: bool) -> list[str]:
    """Returns names and time as ROS 2 takes them."""
    found = [word for remap in names.remaps.items() for word in ("-r", ":=".join(remap))]
    if names.namespace:
        found += ["-r", f"__ns:=/{names.namespace}"]
    return [*found, *(("-p", "use_sim_time:=true") if use_sim_time else ())]


def settings_of(world: str, kind: type) -> dict[str, Any]:
    """Returns the parameters with which a node fits a registered environment.

    Raises:
        ConfigError: there is no such environment.
    """
    from embodied_mem.sim import make as make_env

    made = make_env(world)
    env: Any = made.unwrapped
    fits = {"perception": env.perception_config(), "memory": _memory_of(made)}
    names = {field.name for field in dataclasses.fields(kind)}
    found = {
        f"{part}.{p.name}": p.default
        for part, config in fits.items()
        if part in names
        for p in parameters(config)
    }
    if "sensors" in names:
        for role, rows in topics.CAMERA_TOPICS.items():
            image, info = (row.of("head") for row in rows)
            found |= {f"sensors.{role}": image.name, f"sensors.{role}_info": info.name}
        found["sensors.reliable"] = True
    return found


def _memory_of(env: Any) -> Any:
    """Returns the memory's settings for an environment, read as a policy that points needs it."""
    from embodied_mem.sim.pointing.pointing import pointing_of

    try:
        return pointing_of(env).memory_config
    except ConfigError:
        return env.unwrapped.memory_config()


def settings_of_bag(bag: Path, kind: type) -> dict[str, Any]:
    """Returns the parameters with which a node fits a bag, as `replay` finds them.

    Raises:
        LogError: it cannot be read, or lacks what a map needs.
        ConfigError: it has no transforms.
    """
    from embodied_mem.log.bag import BagSource
    from embodied_mem.log.inputs import CAMERA_ROLES
    from embodied_mem.log.reader import LogReader
    from embodied_mem.log.world import LoggedWorld

    names = {field.name for field in dataclasses.fields(kind)}
    found: dict[str, Any] = {}
    if "sensors" in names:
        with LogReader(bag) as reader:
            source = BagSource(reader)
            types = {name: info.type for name, info in reader.topics.items()}
        if source.odometry_link is not None:
            raise ConfigError(f"{bag} places the robot by odometry alone; a node needs it in /tf too")
        inputs = source.inputs
        found |= {f"sensors.{role}": getattr(inputs, role) for role in (*CAMERA_ROLES, "odom")}
        for role, kind_of in (("points", topics.POINT_CLOUD), ("scans", topics.LASER_SCAN)):
            found[f"sensors.{role}"] = [topic for topic in inputs.ranges if types[topic] == kind_of]
        found |= {f"sensors.{role}_frame": frame for role, frame in vars(source.frames).items()}
        found["sensors.reliable"] = True
    with LoggedWorld(bag) as world:
        for part, values in (("memory", world.memory_config), ("perception", world.perception_config)):
            if part in names and values is not None:
                config = from_mapping(type(getattr(kind(), part)), values)
                found |= {f"{part}.{p.name}": p.default for p in parameters(config)}
    return found


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

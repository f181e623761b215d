"""A robot that remembers: ros2 launch embodied_mem robot_launch.py memory:=/data/home.emem."""

from datetime import datetime
from typing import Any

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

TRUTH = ["true", "false"]
PATIENCE = "60"
"""How long [s] a node may work off what it has received before it is made to end."""
SHARED = ("/tf", "/tf_static")
"""Topics that a namespaced robot has in its namespace, as Nav2 does."""
SHOWN = ("voxels", "objects", "object_markers", "rooms", "grid", "labels")
"""What RViz looks at, below memory/."""


def robot(context: LaunchContext) -> list[Node]:
    """Returns the nodes for the arguments as they were given; those left empty are left out."""

    def of(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    def truth(argument: str, parameter: str) -> dict[str, Any]:
        return {parameter: of(argument) == "true"} if of(argument) else {}

    common = {"autostart": of("autostart") == "true", **truth("use_sim_time", "use_sim_time")}
    memory = {**({"file": of("memory")} if of("memory") else {}), **truth("same_map", "same_map")}
    control = {
        **({"control.policy": of("model")} if of("model") else {}),
        **truth("lockstep", "control.lockstep"),
    }
    drives = {"drive": True} if of("model") else {}
    drives |= truth("drive", "drive")
    record = {}
    if of("record") not in ("", "false"):
        dated = f"run-{datetime.now():%Y%m%d-%H%M%S}.mcap"
        record = {"record": dated if of("record") == "true" else of("record")}
    if of("composed") == "true":
        nodes = {"robot": memory | control | drives | record}
    else:
        nodes = {"perception": {}, "memory": memory}
        nodes |= {"policy": control} if drives.get("drive") else {}
        nodes |= {"recorder": {"file": record["record"]}} if record else {}
    files = [of("params_file")] if of("params_file") else []
    like = [word for name in ("world", "bag") if of(name) for word in (f"--{name}", of(name))]
    started = [
        Node(
            package="embodied_mem",
            executable=name,
            name=name,
            namespace=of("namespace"),
            parameters=[*files, common | given],
            remappings=[(topic, topic[1:]) for topic in SHARED if of("namespace")],
            arguments=like,
            ros_arguments=["--log-level", of("log_level")],
            output="screen",
            emulate_tty=True,
            sigterm_timeout=PATIENCE,
            sigkill_timeout=PATIENCE,
        )
        for name, given in nodes.items()
    ]
    topics = (*SHARED, *(f"/memory/{name}" for name in SHOWN))
    viewer = Node(
        package="rviz2",
        executable="rviz2",
        namespace=of("namespace"),
        arguments=["-d", of("rviz_config")],
        parameters=[{"use_sim_time": of("use_sim_time") == "true"}],
        remappings=[(topic, topic[1:]) for topic in topics if of("namespace")],
        condition=IfCondition(of("rviz")),
    )
    return [*started, viewer]


def generate_launch_description() -> LaunchDescription:
    """Returns the arguments and the nodes."""
    config = PathJoinSubstitution([FindPackageShare("embodied_mem"), "launch", "memory.rviz"])
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "params_file",
                default_value="",
                description="ROS 2 parameters (YAML): topics, frames, everything that "
                "`ros2 run embodied_mem robot --table` lists. The arguments below go before it.",
            ),
            DeclareLaunchArgument(
                "memory",
                default_value="",
                description="The memory's file (.emem), made where it is missing; in RAM where it is empty.",
            ),
            DeclareLaunchArgument(
                "same_map",
                default_value="",
                choices=["", *TRUTH],
                description="The map frame is that of the memory's file: the localiser has kept its map. "
                "Otherwise a memory that is opened again waits for /initialpose.",
            ),
            DeclareLaunchArgument(
                "model",
                default_value="",
                description="Who drives, through cmd_vel: goal, explore, or the folder of a trained policy.",
            ),
            DeclareLaunchArgument(
                "drive",
                default_value="",
                choices=["", *TRUTH],
                description="Let the policy drive; true where a model is given, unless it is said otherwise.",
            ),
            DeclareLaunchArgument(
                "lockstep",
                default_value="",
                choices=["", *TRUTH],
                description="One command after every observation: for a simulator that waits for it.",
            ),
            DeclareLaunchArgument(
                "record",
                default_value="false",
                description="Log what is seen, for `embodied-mem replay --verify`: true (run-DATE.mcap in "
                "this folder), false, or a path.",
            ),
            DeclareLaunchArgument(
                "namespace",
                default_value="",
                description="Namespace of the node and its topics; with one, /tf and /tf_static are taken "
                "from it too.",
            ),
            DeclareLaunchArgument(
                "use_sim_time",
                default_value="",
                choices=["", *TRUTH],
                description="Take the time from /clock.",
            ),
            DeclareLaunchArgument(
                "composed",
                default_value="true",
                choices=TRUTH,
                description="Everything in one process, by direct calls; false: nodes of their own for "
                "perception, memory, policy and recorder.",
            ),
            DeclareLaunchArgument(
                "autostart",
                default_value="true",
                choices=TRUTH,
                description="Configure and activate the node at once; otherwise `ros2 lifecycle set` does.",
            ),
            DeclareLaunchArgument(
                "world",
                default_value="",
                description="A registered environment, such as EmbodiedMem/House-MultiObjectNav-v0, whose "
                "topics and settings the node takes.",
            ),
            DeclareLaunchArgument(
                "bag",
                default_value="",
                description="A bag of the same robot, whose topics and frames the node takes.",
            ),
            DeclareLaunchArgument(
                "rviz", default_value="false", choices=TRUTH, description="Show the memory in RViz."
            ),
            DeclareLaunchArgument(
                "rviz_config", default_value=config, description="The view that RViz opens."
            ),
            DeclareLaunchArgument(
                "log_level",
                default_value="info",
                choices=["debug", "info", "warn", "error"],
                description="What the node tells on the console.",
            ),
            OpaqueFunction(function=robot),
        ]
    )

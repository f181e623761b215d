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
SHARED = ("/tf", "/tf_static")
"""Topics that a namespaced robot has in its namespace, as Nav2 does."""
SHOWN = ("voxels", "objects", "object_markers", "rooms", "grid", "labels")
"""What RViz looks at, below memory/."""


def robot(context: LaunchContext) -> list[Node]:
    """Returns the robot's node for the arguments as they were given; those left empty are left out."""

    def of(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    given: dict[str, Any] = {"autostart": of("autostart") == "true"}
    if of("memory"):
        given["file"] = of("memory")
    if of("model"):
        given |= {"drive": True, "control.policy": of("model")}
    if of("drive"):
        given["drive"] = of("drive") == "true"
    if of("same_map"):
        given["same_map"] = of("same_map") == "true"
    if of("record") not in ("", "false"):
        dated = f"run-{datetime.now():%Y%m%d-%H%M%S}.mcap"
        given["record"] = dated if of("record") == "true" else of("record")
    if of("lockstep"):
        given["control.lockstep"] = of("lockstep") == "true"
    if of("use_sim_time"):
        given["use_sim_time"] = of("use_sim_time") == "true"
    files = [of("params_file")] if of("params_file") else []
    world = [word for name in ("world", "bag") if of(name) for word in (f"--{name}", of(name))]
    return [
        Node(
            package="embodied_mem",
            executable="robot",
            name="robot",
            namespace=of("namespace"),
            parameters=[*files, given],
            remappings=[(name, name[1:]) for name in SHARED if of("namespace")],
            arguments=world,
            ros_arguments=["--log-level", of("log_level")],
            output="screen",
            emulate_tty=True,
        ),
        Node(
            package="rviz2",
            executable="rviz2",
            namespace=of("namespace"),
            arguments=["-d", of("rviz_config")],
            parameters=[{"use_sim_time": given.get("use_sim_time", False)}],
            remappings=[
                (name, name[1:])
                for name in (*SHARED, *(f"/memory/{topic}" for topic in SHOWN))
                if of("namespace")
            ],
            condition=IfCondition(of("rviz")),
        ),
    ]


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

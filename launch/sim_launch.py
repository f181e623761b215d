"""The simulator as a robot: ros2 launch embodied_mem sim_launch.py env:=EmbodiedMem/House-ObjectNav-v0."""

from typing import Any

from launch.actions import DeclareLaunchArgument, EmitEvent, IncludeLaunchDescription, OpaqueFunction
from launch.conditions import IfCondition
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

TRUTH = ["true", "false"]
PATIENCE = "60"
"""How long [s] a node may work off what it has received before it is made to end."""
PASSED_ON = ("params_file", "memory", "model", "drive", "lockstep", "record", "rviz", "autostart")
"""Arguments that are the robot's."""


def sim(context: LaunchContext) -> list[Node]:
    """Returns the simulator's node for the arguments as they were given."""

    def of(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    given: dict[str, Any] = {
        "env": of("env"),
        "seed": int(of("seed")),
        "steps": int(of("steps")),
        "speed": float(of("speed")),
    }
    if of("lockstep"):
        given["lockstep"] = of("lockstep") == "true"
    return [
        Node(
            package="embodied_mem",
            executable="sim",
            name="sim",
            parameters=[given],
            on_exit=[EmitEvent(event=Shutdown(reason="the world has ended"))],
            output="screen",
            emulate_tty=True,
            sigterm_timeout=PATIENCE,
            sigkill_timeout=PATIENCE,
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Returns the arguments, the simulator and the robot."""
    robot = PathJoinSubstitution([FindPackageShare("embodied_mem"), "launch", "robot_launch.py"])
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "env",
                default_value="EmbodiedMem/House-MultiObjectNav-v0",
                description="A registered navigation task.",
            ),
            DeclareLaunchArgument(
                "seed", default_value="0", description="Of the house, the start and the goals."
            ),
            DeclareLaunchArgument(
                "steps", default_value="0", description="The world ends after this many frames; 0: never."
            ),
            DeclareLaunchArgument(
                "speed", default_value="1.0", description="How many times faster than real time, at most."
            ),
            DeclareLaunchArgument(
                "lockstep",
                default_value="",
                choices=["", *TRUTH],
                description="The world waits for the command of every frame: the same run every time.",
            ),
            DeclareLaunchArgument(
                "robot",
                default_value="true",
                choices=TRUTH,
                description="Start the robot's node beside the world.",
            ),
            DeclareLaunchArgument(
                "params_file", default_value="", description="ROS 2 parameters (YAML) of the robot's node."
            ),
            DeclareLaunchArgument(
                "memory", default_value="", description="The memory's file (.emem); in RAM where it is empty."
            ),
            DeclareLaunchArgument(
                "model",
                default_value="goal",
                description="Who drives: goal, explore, or the folder of a trained policy.",
            ),
            DeclareLaunchArgument(
                "drive",
                default_value="true",
                choices=TRUTH,
                description="Let the policy drive; otherwise whoever publishes cmd_vel does.",
            ),
            DeclareLaunchArgument(
                "record",
                default_value="false",
                description="Log what is seen: true (run-DATE.mcap in this folder), false, or a path.",
            ),
            DeclareLaunchArgument(
                "rviz", default_value="false", choices=TRUTH, description="Show the memory in RViz."
            ),
            DeclareLaunchArgument(
                "autostart",
                default_value="true",
                choices=TRUTH,
                description="Configure and activate the robot's node at once.",
            ),
            OpaqueFunction(function=sim),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(robot),
                launch_arguments=[
                    *((name, LaunchConfiguration(name)) for name in PASSED_ON),
                    ("world", LaunchConfiguration("env")),
                    ("use_sim_time", "true"),
                ],
                condition=IfCondition(LaunchConfiguration("robot")),
            ),
        ]
    )

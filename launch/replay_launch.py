"""Rebuilds the memory of a recorded log: ros2 launch embodied_mem replay_launch.py bag:=/path/to/bag."""

from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import ExecutableInPackage

from launch import LaunchContext, LaunchDescription


def replay(context: LaunchContext) -> list[ExecuteProcess]:
    """Returns the process for the arguments as they were given; empty ones are left out."""
    out = LaunchConfiguration("out").perform(context)
    command = [
        ExecutableInPackage("embodied-mem", "embodied_mem"),
        "replay",
        LaunchConfiguration("bag"),
        *(["--out", out] if out else []),
        *(["--verify"] if LaunchConfiguration("verify").perform(context) == "true" else []),
    ]
    return [ExecuteProcess(cmd=command, name="replay", output="screen", emulate_tty=True)]


def generate_launch_description() -> LaunchDescription:
    """Returns the arguments and the one process."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "bag", description="The log: an MCAP file, a rosbag2 folder or a .db3 file."
            ),
            DeclareLaunchArgument(
                "out",
                default_value="",
                description="Folder for memory.emem and map.png; nothing is written where it is empty.",
            ),
            DeclareLaunchArgument(
                "verify",
                default_value="false",
                choices=["true", "false"],
                description="Compare the memory's digest with the one that the log recorded.",
            ),
            OpaqueFunction(function=replay),
        ]
    )

"""A bag through the nodes, then the digest: ros2 launch embodied_mem replay_launch.py bag:=my_bag."""

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare

from launch import Action, LaunchContext, LaunchDescription

TRUTH = ["true", "false"]
PATIENCE = "60"
"""How long [s] a node may take to end before it is made to."""
TRIGGER = "std_srvs/srv/Trigger"


def replay(context: LaunchContext) -> list[Action]:
    """Returns what the arguments ask for: nodes in a graph, or one process without one."""

    def of(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    again = [ExecutableInPackage("embodied-mem", "embodied_mem"), "replay", of("bag")]
    end = EmitEvent(event=Shutdown(reason="the bag has been replayed"))
    if of("nodes") == "false":
        out = ["--out", of("out")] if of("out") else []
        check = ["--verify"] if of("verify") == "true" else []
        return [_process([*again, *check, *out], "replay", end)]
    check = _process(again, "replay", end) if of("verify") == "true" else end
    digest = _process(["ros2", "service", "call", "/memory/digest", TRIGGER], "digest", check)
    player = Node(
        package="embodied_mem",
        executable="player",
        name="player",
        parameters=[{"bag": of("bag"), "rate": float(of("rate")), "clock": True, "wait": 60.0}],
        on_exit=[digest],
        sigterm_timeout=PATIENCE,
        sigkill_timeout=PATIENCE,
        output="screen",
        emulate_tty=True,
    )
    robot = PathJoinSubstitution([FindPackageShare("embodied_mem"), "launch", "robot_launch.py"])
    arguments = {
        "bag": of("bag"),
        "memory": f"{of('out')}/memory.emem" if of("out") else "",
        "params_file": of("params_file"),
        "rviz": of("rviz"),
        "use_sim_time": "true",
    }
    include = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(robot), launch_arguments=arguments.items()
    )
    return [include, player]


def _process(command: list[object], name: str, then: Action) -> ExecuteProcess:
    return ExecuteProcess(cmd=command, name=name, output="screen", emulate_tty=True, on_exit=[then])


def generate_launch_description() -> LaunchDescription:
    """Returns the arguments and what they ask for."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "bag", description="The log: an MCAP file, a rosbag2 folder or a .db3 file."
            ),
            DeclareLaunchArgument(
                "nodes",
                default_value="true",
                choices=TRUTH,
                description="Play the bag to the robot's node, message by message; false: rebuild the memory "
                "in one process, as fast as it goes (`embodied-mem replay`).",
            ),
            DeclareLaunchArgument(
                "rate", default_value="1.0", description="How many times faster than recorded."
            ),
            DeclareLaunchArgument(
                "params_file", default_value="", description="ROS 2 parameters (YAML) of the robot's node."
            ),
            DeclareLaunchArgument(
                "out",
                default_value="",
                description="Folder for memory.emem (and map.png, without nodes); nothing is written where "
                "it is empty.",
            ),
            DeclareLaunchArgument(
                "verify",
                default_value="false",
                choices=TRUTH,
                description="Rebuild the memory by `embodied-mem replay` afterwards, for its digest; "
                "without nodes, compare with the digest that the log recorded.",
            ),
            DeclareLaunchArgument(
                "rviz", default_value="false", choices=TRUTH, description="Show the memory in RViz."
            ),
            OpaqueFunction(function=replay),
        ]
    )

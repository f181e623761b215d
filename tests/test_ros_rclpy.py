"""The nodes on rclpy: lifecycle, parameters, services, launch files, and both hosts in one graph."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="these need ROS 2: source its setup.bash")
pytest.importorskip("cyclonedds", reason="the DDS host needs the cyclonedds wheel (x86-64)")

from graph import Graph, wait_for
from made_bags import make_bag
from test_ros_hosting import EYES
from test_ros_nodes import percept

from embodied_mem.log import messages
from embodied_mem.log.replay import replay
from embodied_mem.memory import Memory
from embodied_mem.ros import percepts
from embodied_mem.ros.config import ControlConfig
from embodied_mem.ros.dds_host import CLOCK
from embodied_mem.ros.declaration import LATCHED, Endpoint
from embodied_mem.ros.diagnostics import Health
from embodied_mem.ros.maps import MAPS
from embodied_mem.ros.pilot import TWIST_STAMPED, cmd_vel, twist
from embodied_mem.ros.questions import ANSWER, QUERY
from embodied_mem.verbs.ros import NODES

pytestmark = pytest.mark.ros

SEEN = [f"sensors.{name}:={getattr(EYES, name)}" for name in ("depth", "depth_info", "color", "color_info")]
SEEN += ["sensors.odom:=", "sensors.reliable:=true"]
ON_ROS = ("--host", "rclpy")


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    made = Graph(tmp_path)
    monkeypatch.setenv("ROS_DOMAIN_ID", str(made.domain))
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    yield made
    made.close()


class Client:
    """A ROS node of the test's own: calls services, keeps what it hears."""

    def __init__(self) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.context = rclpy.Context()
        self.context.init()
        self.node = rclpy.create_node("client", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.heard: dict[str, list[Any]] = {}

    def listen(self, endpoint: Endpoint) -> list[Any]:
        from embodied_mem.ros.rclpy_host import message_class, profile

        heard = self.heard.setdefault(endpoint.topic, [])
        kind, qos = message_class(endpoint.type), profile(endpoint.qos)
        self.node.create_subscription(kind, endpoint.topic, heard.append, qos)
        return heard

    def publish(self, topic: str, text: str) -> None:
        from std_msgs.msg import String

        publisher = self.node.create_publisher(String, topic, 10)
        self.wait(lambda: publisher.get_subscription_count(), f"nobody listens to {topic}")
        publisher.publish(String(data=text))

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client = self.node.create_client(kind, name)
        self.wait(client.service_is_ready, f"no service {name}")
        future = client.call_async(request)
        self.wait(future.done, f"{name} does not answer")
        return future.result()

    def wait(self, what: Any, why: str, timeout: float = 60.0) -> Any:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.05)
            found = what()
            if found:
                return found
        raise AssertionError(why)

    def trigger(self, name: str) -> tuple[bool, str]:
        from std_srvs.srv import Trigger

        answer = self.call(Trigger, name, Trigger.Request())
        return answer.success, answer.message

    def transition(self, node: str, name: str) -> bool:
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request()
        request.transition.label = name
        return bool(self.call(ChangeState, f"{node}/change_state", request).success)

    def state(self, node: str) -> str:
        from lifecycle_msgs.srv import GetState

        return str(self.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label)

    def set(self, node: str, **values: Any) -> list[Any]:
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request()
        for name, value in values.items():
            request.parameters.append(Parameter(name.replace("__", "."), value=value).to_parameter_msg())
        return list(self.call(SetParameters, f"{node}/set_parameters", request).results)

    def close(self) -> None:
        self.node.destroy_node()
        self.context.shutdown()


@pytest.fixture
def client(graph: Graph) -> Iterator[Client]:
    made = Client()
    yield made
    made.close()


# ---- messages


def all_messages() -> list[tuple[str, Any]]:
    """One message of every type that the nodes exchange."""
    memory = Memory()
    for step in range(3):
        memory.write(percept(step))
    found = [(e.type, message) for e, message in percepts.to_messages(percept(), ())]
    found += [(e.type, make(memory, 0.0)) for e, make in MAPS]
    health = Health("test")
    health.warn("a", "b")
    found.append(("diagnostic_msgs/msg/DiagnosticArray", health.message(5)))
    found.append((CLOCK.type, messages.make(CLOCK.type, clock=messages.time(12345))))
    found.append((TWIST_STAMPED, twist(cmd_vel(ControlConfig()), (0.1, -0.2), 7, "base_link")))
    return found


def test_every_message_is_the_same_to_ros_byte_for_byte():
    from rclpy.serialization import deserialize_message, serialize_message

    from embodied_mem.ros.rclpy_host import message_class

    seen = set()
    for kind, message in all_messages():
        data = messages.serialize(message, kind)
        there = deserialize_message(data, message_class(kind))
        assert serialize_message(there) == data, kind
        seen.add(kind)
    assert {"visualization_msgs/msg/MarkerArray", "nav_msgs/msg/OccupancyGrid"} <= seen
    assert {"vision_msgs/msg/Detection3DArray", "sensor_msgs/msg/PointCloud2"} <= seen


# ---- lifecycle, parameters, services


def test_a_node_waits_to_be_told_and_keeps_its_memory_through_transitions(graph: Graph, client: Client):
    options = (*ON_ROS, "--ros-args", "-p", "autostart:=false", "--")
    graph.start("robot", *SEEN, "file:=home.emem", options=options)
    assert client.state("robot") == "unconfigured"
    with Memory.open(graph.folder / "home.emem"):
        assert not client.transition("robot", "configure")
        assert client.state("robot") == "unconfigured" and "home.emem" in graph.log("robot")
    results = client.set("robot", memory__octree__resolution=0.1, file="other.emem")
    assert all(result.successful for result in results)
    assert client.transition("robot", "configure") and client.state("robot") == "inactive"
    assert client.trigger("memory/flush") == (True, "0 of 0 writes are on the disk")
    assert client.transition("robot", "activate") and client.state("robot") == "active"
    bag = make_bag(graph.folder / "bag.mcap", frames=8)
    graph.start("player", f"bag:={bag}", "wait:=60.0", options=ON_ROS)
    assert graph.processes["player"].wait(60) == 0
    wait_for(lambda: client.trigger("memory/save")[1].endswith("8 writes are on the disk"), 20.0)
    assert client.transition("robot", "deactivate") and client.transition("robot", "cleanup")
    assert client.state("robot") == "unconfigured"
    with Memory.open(graph.folder / "other.emem", read_only=True) as memory:
        assert memory.info()["writes"] == 8 and memory.config.octree.resolution == 0.1
    assert client.transition("robot", "configure") and client.transition("robot", "activate")
    assert graph.stop("robot") == 0


def test_parameters_are_described_limited_and_change_where_that_is_safe(graph: Graph, client: Client):
    from rcl_interfaces.srv import DescribeParameters, GetParameters

    options = (*ON_ROS, "--ros-args", "-p", "maps.period:=2", "-p", "memory.octree.resolution:=0.1", "--")
    graph.start("robot", *SEEN, options=options)
    wait_for(lambda: client.state("robot") == "active", 30.0)
    names = ["maps.period", "memory.octree.resolution", "perception.detector.labels", "sensors.depth"]
    got = client.call(GetParameters, "robot/get_parameters", GetParameters.Request(names=names)).values
    assert (got[0].double_value, got[1].double_value, got[3].string_value) == (2.0, 0.1, EYES.depth)
    asked = DescribeParameters.Request(names=names)
    told = client.call(DescribeParameters, "robot/describe_parameters", asked)
    period = told.descriptors[0]
    assert "at most this often" in period.description and period.floating_point_range[0].to_value == 60.0
    assert all(d.description for d in told.descriptors)
    (done,) = client.set("robot", maps__period=0.5)
    assert done.successful
    (fixed,) = client.set("robot", memory__octree__resolution=0.2)
    assert not fixed.successful and "cleanup" in fixed.reason
    (outside,) = client.set("robot", maps__period=100.0)
    assert not outside.successful
    assert graph.stop("robot") == 0


def test_what_is_wrong_with_parameters_is_said_in_one_line(graph: Graph):
    for words, said in (
        ("maps.perod:=2", 'did you mean "period"'),
        ("maps.period:=x", "maps.period must be"),
    ):
        graph.start("robot", options=(*ON_ROS, "--ros-args", "-p", words))
        assert graph.processes["robot"].wait(60) == 2
        assert said in graph.log("robot") and "Traceback" not in graph.log("robot")


# ---- both hosts in one graph


@pytest.mark.parametrize("hosts", [("rclpy", "dds"), ("dds", "rclpy")])
def test_nodes_of_both_hosts_serve_one_graph(hosts: tuple[str, str], graph: Graph, client: Client):
    bag = make_bag(graph.folder / "bag.mcap", frames=10)
    eye, mind = hosts
    markers = client.listen(Endpoint("memory/rooms", "visualization_msgs/msg/MarkerArray", LATCHED, ""))
    voxels = client.listen(Endpoint("memory/voxels", "sensor_msgs/msg/PointCloud2", LATCHED, ""))
    answers = client.listen(ANSWER)
    graph.start("memory", "file:=home.emem", options=("--host", mind))
    graph.start("perception", *SEEN, options=("--host", eye))
    client.publish(
        QUERY.topic, '{"ask": "info", "id": "first"}'
    )  # what comes before it listens is lost to it
    client.wait(lambda: answers, "no answer")
    graph.start("player", f"bag:={bag}", "wait:=60.0", options=("--host", mind))
    client.wait(lambda: any(v.width for v in voxels), "no voxels")
    client.wait(lambda: any(len(m.markers) > 1 for m in markers), "no markers of places")
    first, *rest = markers[-1].markers
    assert first.action == 3 and {m.ns for m in rest} & {"places", "rooms"}
    assert all(m.header.frame_id == "map" and m.color.a > 0 for m in rest)
    graph.processes["player"].wait(60)
    writes = 0
    for number in range(60):  # what has been played may still be on its way
        client.publish(QUERY.topic, json.dumps({"ask": "info", "id": number}))
        client.wait(lambda n=number: len(answers) > n + 1, "no answer")
        found = json.loads(answers[-1].data)
        assert found["id"] == number
        writes = found["writes"]
        if writes == 10:
            break
        time.sleep(0.5)
    assert writes == 10
    assert graph.stop("memory") == graph.stop("perception") == 0


# ---- launch files


def launched(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    command = ["ros2", "launch", "embodied_mem", *arguments]
    log = (folder / "launch.log").open("a")
    return subprocess.Popen(
        command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def ended(process: subprocess.Popen[str]) -> int:
    """Ends a launch as Ctrl-C does; whatever does not obey is killed."""
    process.send_signal(signal.SIGINT)
    try:
        return process.wait(60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def ros2(*words: str) -> str:
    done = subprocess.run(["ros2", *words], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@pytest.fixture
def installed() -> None:
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    try:
        get_package_share_directory("embodied_mem")
    except PackageNotFoundError:
        pytest.skip("the package is not in the workspace: colcon build, and source install/setup.bash")


def test_every_launch_file_tells_its_arguments(installed: None):
    assert {f"embodied_mem {name}" for name in NODES} <= set(
        ros2("pkg", "executables", "embodied_mem").splitlines()
    )
    for name, wanted in (
        ("robot", {"params_file", "memory", "model", "namespace", "rviz", "record", "autostart"}),
        ("sim", {"env", "seed", "memory", "drive", "record"}),
        ("replay", {"bag", "out", "verify", "rate"}),
    ):
        shown = ros2("launch", "embodied_mem", f"{name}_launch.py", "--show-args")
        assert wanted <= set(re.findall(r"^    '(\w+)':", shown, re.MULTILINE)), shown


def test_a_bag_through_the_nodes_gives_the_digest_of_replay(installed: None, graph: Graph):
    bag = make_bag(graph.folder / "bag.mcap", frames=10)
    process = launched("replay_launch.py", f"bag:={bag}", "verify:=true", folder=graph.folder)
    try:
        assert process.wait(120) == 0
    finally:
        ended(process) if process.poll() is None else None
    said = (graph.folder / "launch.log").read_text()
    digests = re.findall(r"\b[0-9a-f]{64}\b", said)
    assert digests == [replay(bag).digest] * 2, said
    assert "after 10 writes" in said


def test_a_house_behaves_as_a_robot_and_its_log_replays(installed: None, graph: Graph, client: Client):
    env = "EmbodiedMem/House-ObjectNav-v0"
    arguments = (f"env:={env}", "seed:=7", "memory:=home.emem", "record:=run.mcap", "speed:=2.0")
    process = launched("sim_launch.py", *arguments, folder=graph.folder)
    try:
        moved = client.listen(Endpoint("cmd_vel", TWIST_STAMPED, CLOCK.qos, ""))
        client.wait(lambda: any(m.twist.linear.x or m.twist.angular.z for m in moved), "it does not move", 90)
        assert {"/robot", "/sim"} <= set(ros2("node", "list", "--no-daemon").split())
        assert "active" in ros2("lifecycle", "get", "/robot")
        assert "true" in ros2("param", "get", "/robot", "drive").lower()
        assert "success=True" in ros2("service", "call", "/memory/save", "std_srvs/srv/Trigger")
        hertz = subprocess.run(
            ["timeout", "-s", "INT", "8", "ros2", "topic", "hz", "/head/depth/image_rect_raw"],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        assert "average rate" in hertz.stdout
    finally:
        code = ended(process)
    said = (graph.folder / "launch.log").read_text()
    assert code in (0, 1, 130) and "Traceback" not in said, said
    assert said.count("process has finished cleanly") == 2, said
    with Memory.open(graph.folder / "home.emem", read_only=True) as memory:
        result = replay(graph.folder / "run.mcap", verify=True)
        assert result.verified and result.digest == memory.digest() and memory.durable_seq == memory.sequence


def test_separate_nodes_drive_a_house_remember_and_record(installed: None, graph: Graph, client: Client):
    env = "EmbodiedMem/House-ObjectNav-v0"
    graph.start("sim", f"env:={env}", "seed:=7", options=ON_ROS)
    arguments = ("composed:=false", f"world:={env}", "model:=goal", "memory:=home.emem", "record:=run.mcap")
    process = launched("robot_launch.py", *arguments, "use_sim_time:=true", folder=graph.folder)
    try:
        moved = client.listen(Endpoint("cmd_vel", TWIST_STAMPED, CLOCK.qos, ""))
        client.wait(lambda: any(m.twist.linear.x or m.twist.angular.z for m in moved), "it does not move", 90)
        wanted = {"/perception", "/memory", "/policy", "/recorder", "/sim"}
        wait_for(
            lambda: wanted <= set(ros2("node", "list", "--no-daemon").split()), 60.0, "a node is missing"
        )
        wait_for(lambda: int(client.trigger("/memory/save")[1].split()[1]) > 5, 30.0, "nothing is remembered")
    finally:
        ended(process)
    said = (graph.folder / "launch.log").read_text()
    assert said.count("process has finished cleanly") == 4 and "Traceback" not in said, said
    with Memory.open(graph.folder / "home.emem", read_only=True) as memory:
        assert memory.info()["writes"] > 5
    assert replay(graph.folder / "run.mcap").frames > 5


@pytest.mark.data
def test_the_kitchen_through_ros_nodes(installed: None, graph: Graph, kitchen_bags: dict[str, Path]):
    for kind, bag in kitchen_bags.items():
        with_log = graph.folder / kind
        with_log.mkdir()
        process = launched("replay_launch.py", f"bag:={bag}", folder=with_log)
        try:
            assert process.wait(180) == 0
        finally:
            ended(process) if process.poll() is None else None
        said = (with_log / "launch.log").read_text()
        assert replay(bag).digest in said, said


def test_a_robot_in_a_namespace_is_asked_there(installed: None, graph: Graph, client: Client):
    process = launched("robot_launch.py", "namespace:=robot1", "memory:=home.emem", folder=graph.folder)
    try:
        assert wait_for(lambda: client.state("/robot1/robot") == "active", 30.0)
        assert client.trigger("/robot1/memory/flush")[0]
        answers = client.listen(replace(ANSWER, topic="/robot1/memory/answer"))
        client.publish("/robot1/memory/query", '{"ask": "info", "id": 1}')
        client.wait(lambda: answers, "no answer")
        topics = ros2("topic", "list", "--no-daemon").split()
        assert {"/robot1/tf", "/robot1/memory/voxels"} <= set(topics) and "/tf" not in topics
    finally:
        ended(process)
    assert (graph.folder / "home.emem").exists()

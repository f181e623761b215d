"""A host on rclpy: nodes as lifecycle nodes with parameters and services (Humble, Jazzy).

Messages stay bytes: subscriptions and publications are raw, so that what a node does with them is the same
here and on the DDS host. Nothing waits in a callback: services wait for the node's worker beside the
executor's one thread, and messages only go into the node's queue.

A reader takes the messages, not the executor: for every message the executor builds a wait set of all
entities anew in Python, which beside TF at 200 Hz takes a quarter of a core from the node's worker.
"""

from __future__ import annotations

import importlib
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

try:
    import rclpy
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
    from rclpy.callback_groups import CallbackGroup, ReentrantCallbackGroup
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
    from rclpy.parameter import Parameter as RosParameter
    from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
    from rclpy.signals import SignalHandlerOptions
    from rclpy.task import Future
    from std_srvs.srv import Trigger
except ImportError as missing:
    from embodied_mem.errors import EmbodiedMemError

    raise EmbodiedMemError(
        f"the rclpy host needs ROS 2 ({missing}): source its setup.bash, and use a virtual environment that "
        "sees ROS's packages (python3 -m venv --system-site-packages); without ROS 2 there is --host dds"
    ) from None

from embodied_mem.errors import ConfigError, EmbodiedMemError
from embodied_mem.ros.declaration import Endpoint, Qos, Service
from embodied_mem.ros.diagnostics import DIAGNOSTICS
from embodied_mem.ros.node import Node
from embodied_mem.ros.parameters import Parameter
from embodied_mem.ros.settings import Settings

SPIN_S = 0.1
"""How often [s] a host without messages looks whether it is to stop."""
READ_S = 0.002
"""How often [s] messages are taken."""
AUTOSTART = "autostart"
OTHERS = ("use_sim_time", "start_type_description_service", "qos_overrides.", AUTOSTART)
"""Parameters that are not the node's own."""
TYPES = {
    bool: RosParameter.Type.BOOL_ARRAY,
    int: RosParameter.Type.INTEGER_ARRAY,
    float: RosParameter.Type.DOUBLE_ARRAY,
    str: RosParameter.Type.STRING_ARRAY,
}
"""ROS type of a list, by that of its values."""


def profile(qos: Qos) -> Any:
    """Returns the rclpy profile of a quality of service."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=qos.depth,
        reliability=ReliabilityPolicy.RELIABLE if qos.reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if qos.latched else DurabilityPolicy.VOLATILE,
    )


def message_class(ros_type: str) -> Any:
    """Returns the class of a ROS 2 type, for example "std_msgs/msg/String".

    Raises:
        EmbodiedMemError: its package is not installed.
    """
    package, kind, name = ros_type.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), name)
    except (ImportError, AttributeError):
        hint = f"apt install ros-$ROS_DISTRO-{package.replace('_', '-')}"
        raise EmbodiedMemError(f"the messages {ros_type} are not installed: {hint}") from None


def descriptor(parameter: Parameter) -> Any:
    """Returns what `ros2 param describe` tells of a parameter."""
    known = ParameterDescriptor(name=parameter.name, description=parameter.description)
    known.dynamic_typing = isinstance(parameter.default, list)  # an empty list has no type
    if parameter.range is not None:
        low, high = parameter.range
        if parameter.kind is int:
            known.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=0)]
        else:
            known.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
    if not parameter.live:
        known.additional_constraints = "changes only while the node is unconfigured"
    return known


class _LeftToReader(CallbackGroup):
    """Subscriptions that the executor passes over."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        pass


class _Managed(LifecycleNode):
    """The ROS node; what happens in its transitions is the host's business."""

    host: RclpyHost

    def on_configure(self, state: Any) -> Any:
        return self.host.transition(self.host.configure)

    def on_activate(self, state: Any) -> Any:
        super().on_activate(state)
        done = self.host.transition(self.host.activate)
        if done != TransitionCallbackReturn.SUCCESS:
            super().on_deactivate(state)
        return done

    def on_deactivate(self, state: Any) -> Any:
        done = self.host.transition(self.host.deactivate)
        super().on_deactivate(state)
        return done

    def on_cleanup(self, state: Any) -> Any:
        self.host.transition(self.host.cleanup)  # the node is closed, whatever could not be written
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: Any) -> Any:
        return self.on_cleanup(state)


class RclpyHost:
    """Runs one node as a lifecycle node.

    Args:
        name: of the node, unless ROS arguments rename it.
        kind: config dataclass of the node; its parameters.
        make: makes the node.
        given: settings that differ from the dataclass's; ROS's parameters come on top.
        arguments: what ROS 2 is told: `-r`, `-p`, `--params-file`.

    Raises:
        EmbodiedMemError: a parameter is unknown or does not fit.
    """

    def __init__(
        self,
        name: str,
        kind: type,
        make: Callable[[Any], Node],
        given: Mapping[str, Any],
        arguments: Sequence[str] = (),
    ) -> None:
        self._make = make
        self._node: Node | None = None
        self._publishers: dict[str, Any] = {}
        self._subscriptions: list[tuple[str, Any]] = []
        self._end = threading.Event()
        self._reader: threading.Thread | None = None
        self._services: list[Any] = []
        self._reason = ""
        ros_arguments = ["--ros-args", *arguments] if arguments else []
        rclpy.init(args=ros_arguments, signal_handler_options=SignalHandlerOptions.NO)
        try:
            self.ros = _Managed(name, automatically_declare_parameters_from_overrides=True)
            self.ros.host = self
            self.autostart, self.settings = self._declare(kind, given)
        except BaseException:
            rclpy.try_shutdown()
            raise
        self._clock = self.ros.get_clock()
        self._group = ReentrantCallbackGroup()  # a service waits without keeping others waiting
        self._unheard = _LeftToReader()
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.ros)

    # ---- parameters

    def _declare(self, kind: type, given: Mapping[str, Any]) -> tuple[bool, Settings]:
        """Declares the parameters, and takes what was asked for."""
        asked = {
            name: parameter.value
            for name, parameter in self.ros.get_parameters_by_prefix("").items()
            if not name.startswith(OTHERS)
        }
        settings = Settings(kind, given)
        unknown = [name for name in asked if name not in settings.values]
        if unknown:
            Settings(kind, {unknown[0]: asked[unknown[0]]})  # says what is nearest
        settings.change({name: "" if value is None else value for name, value in asked.items()}, False)
        for name in asked:
            self.ros.undeclare_parameter(name)
        for parameter in settings.parameters:
            self.ros.declare_parameter(
                parameter.name, parameter.default, descriptor(parameter), ignore_override=True
            )
            if parameter.default == []:
                empty: Any = RosParameter(parameter.name, TYPES[parameter.kind], [])
                self.ros.set_parameters([empty])
        if not self.ros.has_parameter(AUTOSTART):
            text = "configure and activate the node as soon as it is there; otherwise it waits to be told"
            self.ros.declare_parameter(AUTOSTART, True, ParameterDescriptor(description=text))
        self.ros.add_on_set_parameters_callback(self._on_set)
        return bool(self.ros.get_parameter(AUTOSTART).value), settings

    def _on_set(self, changed: Sequence[Any]) -> Any:
        try:
            self.settings.change({p.name: p.value for p in changed}, self._node is not None)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if self._node is not None:
            self._node.adjust(self.settings.config)
        return SetParametersResult(successful=True)

    # ---- what the node calls

    def now(self) -> int:
        """Returns ROS time [ns]."""
        return int(self._clock.now().nanoseconds)

    def publish(self, topic: str, data: bytes) -> None:
        """Publishes a serialised message."""
        self._publishers[topic].publish(data)

    def listeners(self, topic: str) -> int:
        """Returns how many subscribe to a topic."""
        return int(self._publishers[topic].get_subscription_count())

    def resolve(self, topic: str) -> str:
        """Returns the name that a topic of the node has in the graph."""
        return str(self.ros.resolve_topic_name(topic))

    def log(self, level: str, text: str) -> None:
        """Tells the user, on the console and on /rosout."""
        logger = self.ros.get_logger()
        if level == "error":  # rclpy wants a line of code for every level
            logger.error(text)
        elif level == "warning":
            logger.warning(text)
        else:
            logger.info(text)

    # ---- transitions

    def transition(self, action: Callable[[], None]) -> Any:
        """Does what a transition asks for; a failure is told, and leaves the node where it was."""
        try:
            action()
        except EmbodiedMemError as error:
            self._reason = str(error)
        except Exception as error:
            self._reason = repr(error)
            self.log("error", traceback.format_exc())
        else:
            return TransitionCallbackReturn.SUCCESS
        self.log("error", self._reason)
        return TransitionCallbackReturn.FAILURE

    def configure(self) -> None:
        """Makes and opens the node, with its publishers and services."""
        node = self._make(self.settings.config)
        try:
            for endpoint in node.publications:
                self._publishers[endpoint.topic] = self._publisher(endpoint)
            node.start(self)
        except BaseException:
            self._destroy()
            raise
        self._node = node
        self._services = [
            self.ros.create_service(Trigger, s.name, self._server(s), callback_group=self._group)
            for s in node.declaration.services
        ]

    def _publisher(self, endpoint: Endpoint) -> Any:
        """A node that is not active publishes nothing but how it is."""
        kind, qos = message_class(endpoint.type), profile(endpoint.qos)
        if endpoint is DIAGNOSTICS:
            return self.ros.create_publisher(kind, endpoint.topic, qos)
        return self.ros.create_lifecycle_publisher(kind, endpoint.topic, qos)

    def _server(self, service: Service) -> Any:
        async def serve(request: Any, response: Any) -> Any:
            done = Future()
            assert self._node is not None
            asked = self._node.request(service.name)
            asked.add_done_callback(lambda _: (done.set_result(None), self._executor.wake()))
            await done
            error = asked.exception()
            response.success = error is None
            response.message = asked.result() if error is None else str(error)
            return response

        return serve

    def activate(self) -> None:
        """Subscribes, and lets the node work."""
        assert self._node is not None
        self._node.activate()
        self._subscriptions = [(e.topic, self._subscription(e)) for e in self._node.declaration.subscriptions]
        self._end.clear()
        self._reader = threading.Thread(target=self._read, args=[self._node], name="reader", daemon=True)
        self._reader.start()

    def _subscription(self, endpoint: Endpoint) -> Any:
        kind, qos = message_class(endpoint.type), profile(endpoint.qos)
        options: Any = {"raw": True, "callback_group": self._unheard}
        return self.ros.create_subscription(kind, endpoint.topic, lambda _: None, qos, **options)

    def _read(self, node: Node) -> None:
        """Hands the node what has come, topic by topic in the order of its table."""
        is_last = False
        try:
            while not is_last:
                is_last = self._end.wait(READ_S)
                for topic, subscription in self._subscriptions:
                    handle = subscription.handle
                    with handle:
                        while (taken := handle.take_message(subscription.msg_type, True)) is not None:
                            node.receive(topic, taken[0])
        except Exception as error:
            node.fail(error)  # a node that hears nothing must not look alive
            raise

    def deactivate(self) -> None:
        """Listens no more, and works off what has been received."""
        self._end.set()
        if self._reader is not None:
            self._reader.join()
            self._reader = None
        for _, subscription in self._subscriptions:
            self.ros.destroy_subscription(subscription)
        self._subscriptions = []
        if self._node is not None:
            self._node.deactivate()

    def cleanup(self) -> None:
        """Closes the node: everything is written."""
        self.deactivate()
        node, self._node = self._node, None
        try:
            if node is not None:
                node.stop()
        finally:
            self._destroy()

    def _destroy(self) -> None:
        for service in self._services:
            self.ros.destroy_service(service)
        for publisher in self._publishers.values():
            self.ros.destroy_lifecycle_publisher(publisher)
        self._services, self._publishers = [], {}

    # ---- running

    def run(self, stop: threading.Event) -> bool:
        """Runs the node until `stop` is set, or the node fails or has finished.

        Returns:
            False where the node has failed.

        Raises:
            EmbodiedMemError: the node could not be started, or what was left could not be written.
        """
        try:
            if self.autostart:
                self._must(self.ros.trigger_configure())
                self._must(self.ros.trigger_activate())
            while not stop.is_set() and not self._is_over():
                self._executor.spin_once(timeout_sec=SPIN_S)
            return self._node is None or not self._node.failed.is_set()
        finally:
            self.close()

    def _must(self, done: Any) -> None:
        if done != TransitionCallbackReturn.SUCCESS:
            raise EmbodiedMemError(self._reason)

    def _is_over(self) -> bool:
        node = self._node
        return node is not None and (node.failed.is_set() or node.finished.is_set())

    def close(self) -> None:
        """Closes the node, and leaves the graph.

        Raises:
            EmbodiedMemError: what was left could not be written.
        """
        try:
            self.cleanup()
        finally:
            self._executor.shutdown()
            self.ros.destroy_node()
            rclpy.try_shutdown()

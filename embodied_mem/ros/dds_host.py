"""A host for machines that have only pip: DDS by the `cyclonedds` wheel, CDR by `rosbags`.

Topics only: parameters come from a file, there are no services and no lifecycle. The wire is that of
ROS 2: topic names start with "rt/", type names read "std_msgs::msg::dds_::String_".
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from embodied_mem.errors import EmbodiedMemError
from embodied_mem.log import messages
from embodied_mem.ros.declaration import Endpoint, Qos
from embodied_mem.ros.names import Names
from embodied_mem.ros.node import Node

CLOCK = Endpoint("/clock", "rosgraph_msgs/msg/Clock", Qos(reliable=False, depth=1), "simulated time")
NS = 1_000_000_000
LOOPBACK = (
    "<CycloneDDS><Domain><General><Interfaces><NetworkInterface name='lo' multicast='false'/></Interfaces>"
    "<AllowMulticast>false</AllowMulticast><MaxMessageSize>65500B</MaxMessageSize>"
    "<FragmentSize>63000B</FragmentSize></General><Discovery><ParticipantIndex>auto</ParticipantIndex>"
    "<MaxAutoParticipantIndex>60</MaxAutoParticipantIndex><Peers><Peer address='127.0.0.1'/></Peers>"
    "</Discovery><Internal><SocketReceiveBufferSize max='16MB'/></Internal></Domain></CycloneDDS>"
)
"""CYCLONEDDS_URI for a graph that stays on this machine."""
TAKE = 64
"""Messages taken from a topic at a time."""


def _policies(qos: Qos) -> Any:
    from cyclonedds.core import Policy
    from cyclonedds.core import Qos as DdsQos

    # What late joiners get is a setting of its own in DDS; ROS 2 ties it to the depth.
    late = (
        [Policy.DurabilityService(0, Policy.History.KeepLast(qos.depth), -1, -1, -1)] if qos.latched else []
    )
    return DdsQos(
        *late,
        Policy.Reliability.Reliable(10 * NS) if qos.reliable else Policy.Reliability.BestEffort,
        Policy.Durability.TransientLocal if qos.latched else Policy.Durability.Volatile,
        Policy.History.KeepLast(qos.depth),
    )


class DdsHost:
    """Runs one node on DDS.

    Args:
        node: what to run.
        names: namespace and remaps.
        use_sim_time: take the time from /clock.
        domain: DDS domain; that of ROS_DOMAIN_ID where None.

    Raises:
        EmbodiedMemError: the wheel is missing.
    """

    def __init__(
        self,
        node: Node,
        names: Names | None = None,
        *,
        use_sim_time: bool = False,
        domain: int | None = None,
    ) -> None:
        try:
            from cyclonedds.core import GuardCondition, WaitSet
            from cyclonedds.domain import DomainParticipant
        except ImportError:
            raise EmbodiedMemError(
                "the DDS host needs the package cyclonedds; install it with `pip install 'embodied-mem[ros]'`"
            ) from None
        self.node = node
        self._names = names or Names()
        self._sim_time: int | None = 0 if use_sim_time else None
        number = int(os.environ.get("ROS_DOMAIN_ID", "0")) if domain is None else domain
        self._participant = DomainParticipant(number)
        self._topics: dict[str, Any] = {}
        self._waitset = WaitSet(self._participant)
        self._wake = GuardCondition(self._participant)
        self._waitset.attach(self._wake)
        self._writers = {e.topic: self._writer(e) for e in node.publications}
        self._readers: list[tuple[str, Any, Any]] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def _topic(self, endpoint: Endpoint) -> Any:
        from cyclonedds.topic import Topic

        from embodied_mem.ros.dds_type import raw_type

        name = "rt" + self._names.resolve(endpoint.topic)
        if name not in self._topics:
            self._topics[name] = Topic(self._participant, name, raw_type(endpoint.type))
        return self._topics[name]

    def _writer(self, endpoint: Endpoint) -> Any:
        from cyclonedds.pub import DataWriter

        return DataWriter(self._participant, self._topic(endpoint), qos=_policies(endpoint.qos))

    def _reader(self, endpoint: Endpoint) -> tuple[str, Any, Any]:
        from cyclonedds.core import InstanceState, ReadCondition, SampleState, ViewState
        from cyclonedds.sub import DataReader

        reader = DataReader(self._participant, self._topic(endpoint), qos=_policies(endpoint.qos))
        condition = ReadCondition(reader, ViewState.Any | SampleState.NotRead | InstanceState.Alive)
        self._waitset.attach(condition)
        return endpoint.topic, reader, condition

    # ---- what the node calls

    def now(self) -> int:
        """Returns ROS time [ns]."""
        return time.time_ns() if self._sim_time is None else self._sim_time

    def publish(self, topic: str, data: bytes) -> None:
        """Publishes a serialised message."""
        writer = self._writers[topic]
        writer.write(writer.topic.data_type(data=data))

    def listeners(self, topic: str) -> int:
        """Returns how many subscribe to a topic."""
        return int(self._writers[topic].get_publication_matched_status().current_count)

    def resolve(self, topic: str) -> str:
        """Returns the name of a topic in the graph."""
        return self._names.resolve(topic)

    def log(self, level: str, text: str) -> None:
        """Prints a line, as ROS 2 does."""
        print(f"[{level.upper()}] [{self.node.declaration.name}]: {text}", flush=True)

    # ---- running

    def start(self) -> None:
        """Starts the node and listens; returns at once."""
        self.node.start(self)
        wanted = list(self.node.declaration.subscriptions)
        if self._sim_time is not None:
            wanted.append(CLOCK)
        self._readers = [self._reader(e) for e in wanted]
        self.node.activate()
        self._thread = threading.Thread(target=self._listen, name="dds", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._stopping.is_set():
            self._waitset.wait(NS)
            for topic, reader, condition in self._readers:
                for sample in reader.take(N=TAKE, condition=condition):
                    if not hasattr(sample, "data"):
                        continue
                    if topic == CLOCK.topic and self._sim_time is not None:
                        self._set_time(sample.data)
                    else:
                        self.node.receive(topic, sample.data)

    def _set_time(self, data: bytes) -> None:
        clock = messages.deserialize(data, CLOCK.type, CLOCK.topic).clock
        self._sim_time = int(clock.sec) * NS + int(clock.nanosec)

    def stop(self) -> None:
        """Stops listening and closes the node; what was received is worked off first."""
        self._stopping.set()
        self._wake.set(True)
        if self._thread is not None:
            self._thread.join()
        self.node.stop()

    def run(self, stop: threading.Event) -> None:
        """Runs the node until `stop` is set, or the node fails or has finished.

        Raises:
            EmbodiedMemError: the node could not be started, or what was left could not be written.
        """
        self.start()
        try:
            while not (stop.wait(0.05) or self.node.failed.is_set() or self.node.finished.is_set()):
                pass
        finally:
            self.stop()

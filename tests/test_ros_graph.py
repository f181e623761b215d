"""The nodes as separate processes on the DDS host: what a robot without ROS would run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from embodied_mem.log.messages import header_stamp
from embodied_mem.memory import Memory
from embodied_mem.ros import percepts
from embodied_mem.ros.maps import MAPS
from embodied_mem.types import Query

pytest.importorskip("cyclonedds", reason="the DDS host needs the cyclonedds wheel (x86-64)")

from graph import KITCHEN, Graph, Probe, wait_for

from embodied_mem.ros.dds_host import DdsHost


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    made = Graph(tmp_path)
    yield made
    made.close()


@pytest.mark.data
def test_camera_to_answer_across_processes_that_die_and_return(graph: Graph, kitchen_bags: dict[str, Path]):
    bag = f"bag:={kitchen_bags['compressed']}"
    probe = Probe(listen=(percepts.INFO,))
    host = DdsHost(probe, domain=graph.domain)
    host.start()
    graph.start("perception", *KITCHEN)
    graph.start("memory", "file:=home.emem", "same_map:=true")
    graph.start("player", bag, "wait:=60.0", "rate:=0.6")
    heard = probe.heard[percepts.INFO.topic]
    try:
        wait_for(lambda: len(heard) >= 8, why="no percepts")
        before = wait_for(lambda: (found := probe.ask(ask="info"))["durable_sequence"] > 2 and found)

        graph.kill("memory")
        graph.start("memory", "file:=home.emem", "same_map:=true")
        after = wait_for(lambda: (found := probe.ask(ask="info"))["writes"] > before["writes"] and found)
        assert after["map_id"] == before["map_id"]
        assert after["sequence"] > before["durable_sequence"], "an acknowledged write is lost"

        graph.kill("perception")
        count = len(heard)
        graph.start("perception", *KITCHEN)
        wait_for(lambda: len(heard) > count, why="perception did not come back")

        graph.kill("player")
        graph.start("player", bag, "wait:=60.0", "rate:=2.0")
        count = len(heard)
        wait_for(lambda: len(heard) > count, why="the camera did not come back")

        found = probe.ask(kind="place", k=3)
        assert found["answers"] and all(a["kind"] == "place" for a in found["answers"])
        assert "error" in probe.ask(kindd="place")
    finally:
        host.stop()
    latched = tuple(endpoint for endpoint, _ in MAPS)
    late = Probe(listen=latched)
    host = DdsHost(late, domain=graph.domain)
    host.start()
    try:
        wait_for(lambda: all(late.heard[e.topic] for e in latched), why="a late joiner lacks a map")
    finally:
        host.stop()
    assert len(late.heard["memory/grid"][-1].data) > 100
    assert graph.stop("memory") == 0
    with Memory.open(graph.folder / "home.emem") as memory:
        assert memory.durable_seq == memory.sequence >= after["sequence"]
        assert memory.recall(Query(kind="place"))


def test_bench_ros_counts_what_a_camera_sends_and_what_is_remembered():
    from embodied_mem.verbs.bench_ros import CameraNode, Drive, _lost

    drive = Drive(3)
    assert [drive.at(i) for i in range(9)] == [0, 1, 2, 1, 0, 1, 2, 1, 0]
    node = CameraNode(drive)
    sent: list[tuple[str, bytes]] = []
    node.publish = lambda topic, message: sent.append((topic, b""))  # type: ignore[method-assign]
    node.host = SimpleNamespace(publish=lambda topic, data: sent.append((topic, data)))  # type: ignore[assignment]
    for tick in range(200):
        node._send(tick)
    count = Counter(topic for topic, _ in sent)
    depth = next(topic for topic in count if "depth/image" in topic)
    assert (count["/tf"], count["/odom"], count[depth], node.sent) == (200, 50, 30, 30)
    stamps = [header_stamp(data) for topic, data in sent if topic == depth]
    assert stamps == sorted(set(stamps)) and len(sent[-1]) == 2
    assert _lost({"accepted": "10"}, {"accepted": "400"}, 600) == 600 - 390 - 30
    assert _lost({}, {"accepted": "590"}, 600) == 0

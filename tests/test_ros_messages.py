"""Every message type that a node or a log uses, both ways: by rosbags, by our own conversions, by Cyclone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied_mem.geometry import Pose
from embodied_mem.log import images, messages, topics
from embodied_mem.log.clouds import cloud, read_cloud
from embodied_mem.ros import percepts
from embodied_mem.ros.config import (
    ControlConfig,
    MemoryNodeConfig,
    PerceptionNodeConfig,
    PolicyNodeConfig,
    RecorderConfig,
    RobotConfig,
    SensorConfig,
)
from embodied_mem.ros.driving import Brain, publications
from embodied_mem.ros.goals import GOAL, GOAL_POSE, goal_json, goal_of
from embodied_mem.ros.memory_node import MemoryNode
from embodied_mem.ros.perception_node import PerceptionNode
from embodied_mem.ros.percepts import PerceptReader
from embodied_mem.ros.policy_node import PolicyNode
from embodied_mem.ros.recorder_node import RecorderNode
from embodied_mem.ros.robot_node import RobotNode
from embodied_mem.ros.tokens import Reading, read_tokens, tokens_message
from embodied_mem.types import (
    Command,
    Detection,
    Goal,
    Image,
    Intrinsics,
    LabelMap,
    MemoryTokens,
    Percept,
    Scan,
)

EVERYTHING = SensorConfig(
    color="/camera/color/image_raw/compressed",
    semantic="/s",
    semantic_info="/s_info",
    boxes="/boxes",
    points=("/points",),
    scans=("/scan",),
)
BRAIN = Brain(None, None, sees=True)  # type: ignore[arg-type]


def types_in_use() -> list[str]:
    """Returns the types of every topic that a node declares or a log holds."""
    unstamped = ControlConfig(stamped=False)
    nodes = (
        PerceptionNode(PerceptionNodeConfig(sensors=EVERYTHING)),
        MemoryNode(MemoryNodeConfig()),
        RobotNode(RobotConfig(sensors=EVERYTHING, drive=True), BRAIN),
        PolicyNode(PolicyNodeConfig(sensors=EVERYTHING), BRAIN),
        PolicyNode(PolicyNodeConfig(ControlConfig(goal_poses=True), EVERYTHING), BRAIN),
        RecorderNode(RecorderConfig(sensors=EVERYTHING)),
    )
    endpoints = [e for node in nodes for e in (*node.declaration.subscriptions, *node.publications)]
    found = {e.type for e in (*endpoints, *publications(unstamped))}
    return sorted(found | {row.type for row in topics.TOPICS} | {"rosgraph_msgs/msg/Clock"})


TYPES = types_in_use()
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12)
LIMITS = {
    "bool": (0, 1),
    "octet": (0, 127),  # levels of diagnostics; rosbags takes them for signed
    "byte": (0, 127),
    "char": (0, 255),
    **{f"int{b}": (-(2 ** (b - 1)), 2 ** (b - 1) - 1) for b in (8, 16, 32, 64)},
    **{f"uint{b}": (0, 2**b - 1) for b in (8, 16, 32, 64)},
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """A strategy for the values of a field, as rosbags describes it."""
    node, detail = int(kind[0]), kind[1]
    if node == 1:
        return scalars(detail[0])
    if node == 2:
        return st.deferred(lambda: anything(detail))
    inner, count = detail
    low, high = (count, count) if node == 3 else (0, 2)
    listed = st.lists(values(inner), min_size=low, max_size=high)
    if int(inner[0]) == 1 and inner[1][0] != "string":
        dtype = {"octet": "uint8", "byte": "uint8", "char": "uint8"}.get(inner[1][0], inner[1][0])
        return listed.map(lambda found: np.array(found, dtype))
    return listed


def scalars(name: str) -> st.SearchStrategy[Any]:
    if name == "string":
        return TEXT
    if name == "bool":
        return st.booleans()
    if name in LIMITS:
        return st.integers(*LIMITS[name])
    return st.floats(width=int(name[5:]))


def anything(type_name: str) -> st.SearchStrategy[Any]:
    """A strategy for messages of a type."""
    parts = {field: values(kind) for field, kind in messages.fields(type_name)}
    return st.fixed_dictionaries(parts).map(lambda found: messages.make(type_name, **found))


def plain(value: Any) -> Any:
    """A message as nested lists that can be compared, NaN and -0.0 too."""
    if hasattr(value, "__msgtype__"):
        names = [name for name, _ in messages.fields(value.__msgtype__)]
        return [plain(getattr(value, name)) for name in names]
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return "nan" if np.isnan(value) else np.float64(value).tobytes()
    return value.item() if isinstance(value, np.generic) else value


@pytest.mark.parametrize("type_name", TYPES)
def test_every_type_survives_the_wire(type_name: str):
    @settings(max_examples=6, deadline=None)
    @given(message=anything(type_name))
    def check(message: Any) -> None:
        data = messages.serialize(message, type_name)
        back = messages.deserialize(data, type_name)
        assert plain(back) == plain(message)
        assert messages.serialize(back, type_name) == data

    check()


@pytest.mark.parametrize("type_name", TYPES)
def test_cyclone_puts_the_same_bytes_on_the_wire(type_name: str):
    pytest.importorskip("cyclonedds", reason="the DDS host needs the cyclonedds wheel (x86-64)")
    from embodied_mem.ros.dds_type import _nested

    def of_cyclone(value: Any) -> Any:
        if hasattr(value, "__msgtype__"):
            made = _nested(value.__msgtype__)()
            for name, _ in messages.fields(value.__msgtype__):
                setattr(made, name, of_cyclone(getattr(value, name)))
            return made
        if isinstance(value, np.ndarray):
            return value.tolist()
        return [of_cyclone(item) for item in value] if isinstance(value, list) else value

    @settings(max_examples=4, deadline=None)
    @given(message=anything(type_name))
    def check(message: Any) -> None:
        ours = messages.serialize(message, type_name)
        theirs = of_cyclone(message).serialize()
        end = len(theirs.rstrip(b"\0"))
        assert theirs[4:end] == ours[4:end] and not ours[end:].strip(b"\0")

    check()


# ---- our conversions

NUMBER = st.floats(-1e6, 1e6, width=64)
SEEDS = st.integers(0, 2**32 - 1)


def wired(message: Any, type_name: str) -> Any:
    return messages.deserialize(messages.serialize(message, type_name), type_name)


def pose_of(rng: np.random.Generator) -> Pose:
    turn = rng.normal(size=4)
    return Pose(rng.normal(size=3) * 10, turn / np.sqrt((turn * turn).sum()))


def percept_of(seed: int) -> Percept:
    """A percept with any of its parts there or not."""
    rng = np.random.default_rng(seed)
    some = lambda: bool(rng.random() < 0.5)  # noqa: E731
    view = Intrinsics(6, 4, *(rng.random(4) * 9), "plumb_bob", tuple(rng.normal(size=5).tolist()))
    scans, detections = [], []
    for _ in range(rng.integers(0, 3)):
        count = int(rng.integers(0, 20))
        scan = Scan(
            rng.normal(size=(count, 3)).astype(np.float32),
            rng.random(count) < 0.5,
            rng.integers(0, 3, count).astype(np.int32),
            rng.normal(size=3) if some() else None,
        )
        if some():
            image = Image(rng.random((4, 6)).astype(np.float32), view, pose_of(rng))
            pixels = rng.integers(0, 24, count).astype(np.int64)
            scan = Scan(
                scan.points, scan.hit, scan.labels, np.zeros(3), image, pixels, float(rng.random() * 9)
            )
        scans.append(scan)
    for _ in range(rng.integers(0, 3)):
        detections.append(
            Detection(
                int(rng.integers(0, 3)),
                rng.normal(size=3),
                rng.random(3),
                np.diag(rng.random(3)),
                float(rng.random()),
                "open" if some() else "",
                rng.random(4).astype(np.float32) if some() else None,
                float(rng.normal()) if some() else 0.0,
                float(rng.random()) if some() else 1.0,
            )
        )
    return Percept(
        stamp=int(rng.integers(0, 2**60)),
        step=int(rng.integers(0, 10**6)),
        odom_T_base=pose_of(rng),
        map_T_odom=pose_of(rng),
        covariance=rng.normal(size=(6, 6)) if some() else None,
        labels=LabelMap(("unknown", "mug", "café")),
        scans=tuple(scans),
        detections=tuple(detections),
        snapshot=rng.integers(0, 256, (3, 5, 3)).astype(np.uint8) if some() else None,
        embedding=rng.random(7).astype(np.float32) if some() else None,
        action=[None, 3, rng.normal(size=2)][int(rng.integers(3))],
        reward=float(rng.normal()),
        is_first=some(),
        event="episode_end" if some() else "",
        text="a note" if some() else "",
        source="rgbd",
    )


def alike(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(alike(x, y) for x, y in zip(a, b))
    if hasattr(a, "__dataclass_fields__"):
        return all(alike(getattr(a, name), getattr(b, name)) for name in a.__dataclass_fields__)
    return bool(a == b)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_percepts_of_any_kind_arrive_bit_for_bit(seed: int):
    percept = percept_of(seed)
    commands = (Command("note", {"text": "x"}),) if seed % 2 else ()
    reader = PerceptReader()
    for endpoint, message in percepts.to_messages(percept, commands):
        reader.push(endpoint.topic, wired(message, endpoint.type), 0)
    ((back, told),) = list(reader.take(0, 0))
    for name in percept.__dataclass_fields__:
        assert alike(getattr(percept, name), getattr(back, name)), name
    assert [(c["name"], c["arguments"]) for c in told] == [(c.name, dict(c.arguments)) for c in commands]


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_readings_of_any_kind_arrive_bit_for_bit(seed: int):
    rng = np.random.default_rng(seed)
    tokens = MemoryTokens.empty(5, 4)
    for name, value in vars(tokens).items():
        if isinstance(value, np.ndarray):
            made = (
                rng.integers(0, 2, value.shape) if value.dtype.kind in "ib" else rng.normal(size=value.shape)
            )
            object.__setattr__(tokens, name, made.astype(value.dtype))
    tokens.path_distance[rng.random(5) < 0.3] = np.inf
    if seed % 2:
        object.__setattr__(tokens, "crops", rng.integers(0, 256, (5, 8, 8)).astype(np.uint8))
    goal = None if seed % 3 == 0 else Goal(3, rng.normal(size=3) if seed % 3 == 1 else None, "wörter")
    reading = Reading(tokens, int(rng.integers(2**60)), 7, pose_of(rng), pose_of(rng), goal, bool(seed % 2))
    assert alike(reading, read_tokens(wired(tokens_message(reading), topics.STRING)))


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_poses_transforms_and_goals_arrive_bit_for_bit(seed: int):
    rng = np.random.default_rng(seed)
    pose, stamp = pose_of(rng), int(rng.integers(0, 2**31 * 10**9))
    moved = messages.tf_message([messages.transform("odom", "base_link", pose, stamp)])
    parent, child, at, back = messages.read_transform(wired(moved, topics.TF_MESSAGE).transforms[0])
    assert (parent, child, at, back.to_list()) == ("odom", "base_link", stamp, pose.to_list())
    odometry = wired(messages.odometry(pose, stamp), topics.ODOMETRY)
    assert messages.read_pose(odometry.pose.pose).to_list() == pose.to_list()
    goal = Goal(int(rng.integers(9)), pose.position, "go")
    message = wired(messages.json_string(goal_json(goal)), GOAL.type)
    assert alike(goal_of(GOAL.topic, message, "map"), goal)
    where = messages.make(GOAL_POSE.type, header=messages.header(stamp, "map"), pose=messages.pose(pose))
    found = goal_of(GOAL_POSE.topic, wired(where, GOAL_POSE.type), "map")
    assert found is not None and np.array_equal(found.position, pose.position)


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_images_cameras_labels_and_clouds_arrive_bit_for_bit(seed: int):
    rng = np.random.default_rng(seed)
    height, width = int(rng.integers(1, 9)), int(rng.integers(1, 9))
    for kind, encoding, data in (
        ("color", "rgb8", rng.integers(0, 256, (height, width, 3)).astype(np.uint8)),
        ("depth", "32FC1", rng.normal(size=(height, width)).astype(np.float32)),
        ("semantic", "32SC1", rng.integers(-9, 10**6, (height, width)).astype(np.int32)),
    ):
        back = images.DECODERS[kind](wired(messages.image(data, encoding, 1, "c"), topics.IMAGE), "t")
        assert alike(np.ascontiguousarray(data), back), kind
    view = Intrinsics(width, height, *(rng.random(4) * 99), "plumb_bob", tuple(rng.normal(size=5).tolist()))
    assert (
        messages.read_own_camera_info(wired(messages.camera_info(view, 1, "c"), topics.CAMERA_INFO)) == view
    )
    labels = LabelMap(("unknown", *(f"thing {i}" for i in range(seed % 5))))
    assert messages.read_label_info(wired(messages.label_info(labels, 1), topics.LABEL_INFO)) == labels
    rows = np.zeros(seed % 7, [("x", "<f4"), ("ring", "<u2"), ("t", "<f8")])
    for name in rows.dtype.names or ():
        rows[name] = rng.normal(size=len(rows)) * 100
    back = read_cloud(wired(cloud(rows, 1, "lidar"), topics.POINT_CLOUD))
    assert all(np.array_equal(back[name], rows[name]) for name in rows.dtype.names or ())

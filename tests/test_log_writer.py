"""What is written as a log reads back bit for bit."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from made_bags import MadeBag

from embodied_mem.errors import LogError
from embodied_mem.geometry import Pose
from embodied_mem.log import topics
from embodied_mem.log.messages import definition, deserialize, json_string, type_hash
from embodied_mem.log.reader import LogReader
from embodied_mem.log.world import LoggedWorld
from embodied_mem.log.writer import EpisodeWriter
from embodied_mem.types import (
    CameraFrame,
    Command,
    Detection,
    Goal,
    GridView,
    Image,
    Intrinsics,
    LabelMap,
    MemoryTokens,
    Observation,
    Percept,
    Receipt,
)

LABELS = LabelMap(("unknown", "wall", "green key"))


class Step:
    """A moment of the loop, as far as the writer looks at it."""

    def __init__(self, obs: Observation, verdict: str = "accepted", reason: str = "") -> None:
        self.obs = obs
        self.percept = Percept(obs.stamp, obs.step, obs.odom_T_base)
        self.receipt = Receipt(obs.step + 1, verdict, reason)
        self.tokens = MemoryTokens.empty(1, 1)


def pose(rng: np.random.Generator) -> Pose:
    q = rng.normal(size=4)
    return Pose(rng.normal(size=3) * 10, q / np.linalg.norm(q))


def grid_observation(step: int, rng: np.random.Generator) -> Observation:
    return Observation(
        stamp=step * 100_000_000,
        step=step,
        odom_T_base=pose(rng),
        labels=LABELS,
        grid=GridView(
            rng.integers(0, 11, (7, 7, 3)).astype(np.uint8),
            cell_size=0.1 + step,
            carrying=(5, 1) if step % 2 else None,
        ),
        goal=Goal(text="go to the green key"),
        action=None if step == 0 else step % 7,
        reward=float(rng.normal()),
        is_first=step == 0,
        terminated=step == 3,
        truncated=step == 2,
    )


def camera_image(kind: str, rng: np.random.Generator, base_T_camera: Pose, size: tuple[int, int]) -> Image:
    width, height = size
    if kind == "color":
        data = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    elif kind == "depth":
        data = rng.uniform(0.3, 9.0, (height, width)).astype(np.float32)
        data[0, :4] = [0.0, np.nan, np.inf, -np.inf]
    else:
        data = rng.integers(-1, 70_000, (height, width)).astype(np.int32)
    lens = ("plumb_bob", tuple(rng.normal(size=5).tolist())) if kind == "color" else ("", ())
    fx, fy, cx, cy = rng.uniform(20, 30, 4).tolist()
    return Image(data, Intrinsics(width, height, fx, fy, cx, cy, *lens), base_T_camera)


def camera_observation(step: int, rng: np.random.Generator, mounts: list[Pose]) -> Observation:
    front = CameraFrame(
        "camera",
        depth=camera_image("depth", rng, mounts[0], (13, 9)),
        color=camera_image("color", rng, mounts[1], (16, 12)),
        semantic=camera_image("semantic", rng, mounts[0], (13, 9)),
    )
    rear = CameraFrame("rear camera #2", depth=camera_image("depth", rng, pose(rng), (8, 6)))
    detection = Detection(
        label=2,
        position=rng.normal(size=3),
        extent=rng.uniform(size=3),
        covariance=rng.normal(size=(3, 3)),
        score=float(rng.uniform()),
        state="open" if step else "",
        embedding=rng.normal(size=8).astype(np.float32) if step != 1 else None,
        yaw=float(rng.normal()),
        visible=float(rng.uniform()),
    )
    return Observation(
        stamp=1_795_237_279_098_134_505 + step,
        step=step,
        odom_T_base=pose(rng),
        map_T_odom=pose(rng),
        covariance=rng.normal(size=(6, 6)),
        labels=LABELS if step == 0 else replace(LABELS, names=(*LABELS.names, f"new {step}")),
        cameras=(front, rear) if step else (front,),
        detections=(detection, replace(detection, label=1, embedding=None)),
        goal=Goal(2, rng.normal(size=3), 'say "hello"\n'),
        action=rng.normal(size=3),
        inputs=(("/left/depth", 12), ("/left/color", 17)) if step else (),
    )


def assert_same(a: object, b: object, where: str) -> None:
    """Compares two values bit for bit, through dataclasses, tuples and arrays."""
    if isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape, where
        assert a.tobytes() == b.tobytes(), where
    elif is_dataclass(a):
        assert type(a) is type(b), where
        for field in fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name), f"{where}.{field.name}")
    elif isinstance(a, tuple):
        assert isinstance(b, tuple) and len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b)):
            assert_same(x, y, f"{where}[{i}]")
    else:
        assert type(a) is type(b) and a == b, f"{where}: {a!r} is not {b!r}"


def write(path: Path, observations: list[Observation], digest: str | None = "abc") -> None:
    writer = EpisodeWriter(path, LABELS, {"octree": {"resolution": 1.0}})
    for obs in observations:
        writer(Step(obs))  # type: ignore[arg-type]
    writer.close(digest)


def read(path: Path) -> list[Observation]:
    with LoggedWorld(path) as world:
        observations = list(iter(world.observe, None))
        assert world.warnings == []
        return observations


def with_logged_inputs(obs: Observation, logged: Observation) -> Observation:
    """Replaces the inputs of an observation that named none by those that the log gives it."""
    assert logged.inputs and all(stamp == obs.stamp for _, stamp in logged.inputs)
    return replace(obs, inputs=logged.inputs)


def test_grid_observations_read_back_bit_for_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    written = [grid_observation(step, rng) for step in range(5)]
    write(tmp_path / "grid.mcap", written)
    logged = read(tmp_path / "grid.mcap")
    assert len(logged) == 5
    for a, b in zip(written, logged):
        assert_same(with_logged_inputs(a, b), b, f"step {a.step}")


def test_camera_observations_read_back_bit_for_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    mounts = [pose(rng), pose(rng)]
    written = [camera_observation(step, rng, mounts) for step in range(4)]
    write(tmp_path / "camera.mcap", written)
    logged = read(tmp_path / "camera.mcap")
    assert len(logged) == 4
    for a, b in zip(written, logged):
        assert_same(a if a.inputs else with_logged_inputs(a, b), b, f"step {a.step}")


def test_poses_that_are_not_numbers_read_back(tmp_path: Path) -> None:
    bad = Pose(np.array([np.nan, np.inf, 0.0]), np.array([0.0, 0.0, 0.0, np.nan]))
    write(tmp_path / "bad.mcap", [Observation(0, 0, odom_T_base=bad, map_T_odom=bad)])
    (obs,) = read(tmp_path / "bad.mcap")
    for logged in (obs.odom_T_base, obs.map_T_odom):
        np.testing.assert_array_equal(logged.to_list(), bad.to_list())


def test_commands_belong_to_the_step_that_follows_and_the_rest_trails(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    early, between, late = (Command("note", {"text": word}) for word in ("early", "between", "late"))
    with EpisodeWriter(tmp_path / "log.mcap") as writer:
        writer.command(early)
        writer(Step(grid_observation(10, rng)))  # type: ignore[arg-type]
        writer.command(between)
        # The loop applied it, and Memory.on_command told the writer: it is not written twice.
        writer(Step(replace(grid_observation(11, rng), commands=(between,))))  # type: ignore[arg-type]
        writer(Step(replace(grid_observation(12, rng), commands=(early,))))  # type: ignore[arg-type]
        writer.command(late)
    with LoggedWorld(tmp_path / "log.mcap") as world:
        commands = [obs.commands for obs in iter(world.observe, None)]
        assert commands == [(early,), (between,), (early,)]
        assert world.trailing_commands == (late,)
    with LogReader(tmp_path / "log.mcap") as reader:
        assert reader.start == 1_000_000_000  # the early command waits for the first step's time


def test_a_log_carries_settings_labels_and_digest(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    write(tmp_path / "log.mcap", [grid_observation(0, rng)])
    with LoggedWorld(tmp_path / "log.mcap") as world:
        assert world.has_ledger
        assert world.memory_config == {"octree": {"resolution": 1.0}}
        assert world.digest == "abc"
        assert world.observe() is not None
        assert world.labels == LABELS
        assert world.ledger_step is not None and world.ledger_step["verdict"] == "accepted"
    with EpisodeWriter(tmp_path / "text.mcap", config=json.dumps({"memory": {"a": 1}, "perception": {}})):
        pass
    with LoggedWorld(tmp_path / "text.mcap") as world:
        assert (world.memory_config, world.perception_config, world.digest) == ({"a": 1}, {}, None)
        assert world.observe() is None


def test_episodes_whose_stamps_start_anew_stay_in_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    written = [grid_observation(step, rng) for step in (0, 1, 2, 0, 1)]
    write(tmp_path / "two.mcap", written)
    logged = read(tmp_path / "two.mcap")
    assert [obs.step for obs in logged] == [0, 1, 2, 0, 1]
    for a, b in zip(written, logged):
        assert_same(with_logged_inputs(a, b), b, f"step {a.step}")
    with LogReader(tmp_path / "two.mcap") as reader:
        times = [m.log_time for m in reader.messages({topics.STEP.name})]
        assert times == sorted(times) and len(set(times)) == 5


def test_the_file_is_standard_ros2_mcap(tmp_path: Path) -> None:
    from mcap.reader import make_reader

    rng = np.random.default_rng(5)
    mounts = [pose(rng), pose(rng)]
    write(tmp_path / "log.mcap", [camera_observation(s, rng, mounts) for s in range(2)])
    table = {row.of("camera").name: row for row in topics.TOPICS}
    with (tmp_path / "log.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        assert summary is not None and {c.compression for c in summary.chunk_indexes} == {"zstd"}
        seen = set()
        for schema, channel, message in reader.iter_messages():
            assert channel.message_encoding == "cdr"
            assert schema is not None and schema.encoding == "ros2msg"
            assert schema.data.decode() == definition(schema.name)
            assert channel.metadata["topic_type_hash"] == type_hash(schema.name)
            if channel.topic in table:
                assert schema.name == table[channel.topic].type
                assert table[channel.topic].latched == (
                    '"durability": 1' in channel.metadata["offered_qos_profiles"]
                )
            deserialize(message.data, schema.name)
            seen.add(channel.topic)
    assert {"/tf", "/tf_static", "/odom", "/pose", "/camera/depth/image_rect_raw", "/labels"} <= seen
    assert "/memory/step" in seen and "/rear_camera__2/depth/camera_info" in seen


def test_rosbags_reads_what_we_write(tmp_path: Path) -> None:
    from rosbags.rosbag2 import Reader

    rng = np.random.default_rng(6)
    write(tmp_path / "log.mcap", [grid_observation(s, rng) for s in range(3)])
    with Reader(tmp_path / "log.mcap") as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
        durability = {c.topic: c.ext.offered_qos_profiles[0].durability.name for c in reader.connections}
        assert sum(1 for _ in reader.messages(reader.connections)) == sum(counts.values())
    assert counts["/memory/step"] == counts["/grid/view"] == counts["/tf"] == 3
    assert durability["/labels"] == "TRANSIENT_LOCAL" and durability["/tf"] == "VOLATILE"


def test_a_stamp_that_ros_cannot_hold_is_refused(tmp_path: Path) -> None:
    with EpisodeWriter(tmp_path / "log.mcap") as writer, pytest.raises(LogError, match="ROS 2 time"):
        writer(Step(Observation(-1, 0, Pose())))  # type: ignore[arg-type]


def test_a_closed_writer_says_so_and_a_bad_path_is_one_line(tmp_path: Path) -> None:
    writer = EpisodeWriter(tmp_path / "log.mcap")
    writer.close()
    writer.close()
    with pytest.raises(LogError, match="closed"):
        writer(Step(Observation(0, 0, Pose())))  # type: ignore[arg-type]
    (tmp_path / "file").write_text("")
    with pytest.raises(LogError, match="cannot write the log"):
        EpisodeWriter(tmp_path / "file" / "log.mcap")


def test_a_ledger_that_names_what_the_log_lacks_is_one_line(tmp_path: Path) -> None:
    from mcap.writer import Writer

    rng = np.random.default_rng(7)
    write(tmp_path / "log.mcap", [grid_observation(s, rng) for s in range(2)])
    with LogReader(tmp_path / "log.mcap") as reader, (tmp_path / "less.mcap").open("wb") as file:
        copy = Writer(file)
        copy.start("ros2")
        schemas = {t.type: copy.register_schema(t.type, "ros2msg", b"") for t in reader.topics.values()}
        channels = {n: copy.register_channel(n, "cdr", schemas[t.type]) for n, t in reader.topics.items()}
        for raw in reader.messages():
            if raw.topic != "/grid/view":
                copy.add_message(channels[raw.topic], raw.log_time, raw.data, raw.log_time)
        copy.finish()
    with LoggedWorld(tmp_path / "less.mcap") as world, pytest.raises(LogError, match=r"step 0 .*/grid/view"):
        world.observe()


def test_a_half_written_log_reads_up_to_its_last_whole_step(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    written = [grid_observation(s, rng) for s in range(400)]
    write(tmp_path / "log.mcap", written)
    whole = (tmp_path / "log.mcap").read_bytes()
    counts = []
    for part in (0.2, 0.4, 0.6):
        (tmp_path / "cut.mcap").write_bytes(whole[: math.floor(len(whole) * part)])
        with LoggedWorld(tmp_path / "cut.mcap") as world:
            logged = list(iter(world.observe, None))
            assert len(world.warnings) == 1 and "cut off" in world.warnings[0]
            assert world.digest is None
        for a, b in zip(written, logged):
            assert_same(with_logged_inputs(a, b), b, f"step {a.step}")
        counts.append(len(logged))
    assert 0 < counts[0] < counts[1] < counts[2] < 400
    (tmp_path / "cut.mcap").write_bytes(whole[:-100])
    with LoggedWorld(tmp_path / "cut.mcap") as world:
        assert sum(1 for _ in iter(world.observe, None)) == 400
        assert "cut off in its index" in world.warnings[0] and world.digest == "abc"


@pytest.mark.parametrize(
    ("topic", "value"),
    [
        ("/memory/step", {"step": 0}),
        ("/memory/step", [1, 2]),
        ("/memory/command", {"name": "note"}),
        ("/memory/digest", {"sum": "abc"}),
    ],
)
def test_a_ledger_of_another_hand_is_one_line(tmp_path: Path, topic: str, value: object) -> None:
    with MadeBag(tmp_path / "log.mcap") as bag:
        bag.put("/memory/config", topics.STRING, json_string({}), 0)
        bag.put(topic, topics.STRING, json_string(value), 1)
    with (
        pytest.raises(LogError, match="cannot be followed") as caught,
        LoggedWorld(tmp_path / "log.mcap") as world,
    ):
        world.observe()
    assert "\n" not in str(caught.value)


def test_a_killed_run_leaves_all_but_its_last_moments(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    written = [grid_observation(s, rng) for s in range(100)]
    writer = EpisodeWriter(tmp_path / "log.mcap", LABELS)
    for obs in written:
        writer(Step(obs))  # type: ignore[arg-type]
    # As a killed process leaves it: nothing has been closed.
    (tmp_path / "killed.mcap").write_bytes((tmp_path / "log.mcap").read_bytes())
    writer.close()
    with LoggedWorld(tmp_path / "killed.mcap") as world:
        logged = list(iter(world.observe, None))
        assert "cut off" in world.warnings[0]
    assert 85 < len(logged) < 100
    for a, b in zip(written, logged):
        assert_same(with_logged_inputs(a, b), b, f"step {a.step}")

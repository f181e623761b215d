"""One reader over MCAP files, rosbag2 folders and .db3 files, whole and damaged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from made_bags import MS, START, MadeBag, make_bag

from embodied_mem.errors import LogError
from embodied_mem.log.describe import describe_log
from embodied_mem.log.messages import json_string, serialize
from embodied_mem.log.reader import LogReader
from embodied_mem.log.topics import STRING
from embodied_mem.log.world import LoggedWorld


def write_strings(path: Path, times: list[int], **options: Any) -> Path:
    """Writes one String message per time [ms], in the given order."""
    with MadeBag(path, **options) as bag:
        for number, at in enumerate(times):
            bag.put("/even" if number % 2 == 0 else "/odd", STRING, json_string({"n": number}), at)
    return path


def contents(path: Path) -> list[tuple[str, int, bytes]]:
    with LogReader(path) as reader:
        return [(raw.topic, raw.log_time, raw.data) for raw in reader.messages()]


TIMES = [0, 10, 5, 5, 40, 30, 20, 60, 50, 5, 70, 80]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunk_size": 1},
        {"chunk_size": 100, "use_statistics": False},
        {"use_chunking": False},
        {"use_chunking": False, "use_statistics": False, "use_summary_offsets": False},
        {"chunk_size": 100, "repeat_channels": False, "repeat_schemas": False},
    ],
)
def test_messages_come_in_log_order_however_the_file_is_laid_out(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = write_strings(tmp_path / "log.mcap", TIMES, **options)
    expected = sorted(range(len(TIMES)), key=lambda n: (TIMES[n], n))
    with LogReader(path) as reader:
        assert reader.warnings == []
        assert (reader.start, reader.end, reader.count) == (START, START + 80 * MS, len(TIMES))
        assert {name: info.count for name, info in reader.topics.items()} == {"/even": 6, "/odd": 6}
        assert [(m.log_time - START) // MS for m in reader.messages()] == [TIMES[n] for n in expected]
        order = [serialize(json_string({"n": n}), STRING) for n in expected]
        assert [m.data for m in reader.messages()] == order
        assert [m.data for m in reader.messages({"/odd"})] == [d for n, d in zip(expected, order) if n % 2]


@pytest.mark.parametrize("options", [{"chunk_size": 100}, {"use_chunking": False}, {"chunk_size": 1 << 20}])
@pytest.mark.parametrize("compression", ["NONE", "ZSTD", "LZ4"])
def test_a_cut_file_is_read_up_to_the_cut(tmp_path: Path, options: dict[str, Any], compression: str) -> None:
    from mcap.writer import CompressionType

    options = {**options, "compression": CompressionType[compression]}
    path = write_strings(tmp_path / "log.mcap", list(range(0, 4000, 2)), **options)
    whole, everything = path.read_bytes(), contents(path)
    assert len(everything) == 2000
    counts = []
    for size in range(len(whole) // 7, len(whole), len(whole) // 7):
        path.write_bytes(whole[:size])
        with LogReader(path) as reader:
            assert len(reader.warnings) == 1 and "cut off" in reader.warnings[0]
            read = [tuple(raw) for raw in reader.messages()]
            assert len(read) == reader.count
        assert read == everything[: len(read)]
        counts.append(len(read))
    assert counts == sorted(counts) and counts[-1] > 0


def test_a_damaged_chunk_costs_that_chunk_and_a_warning(tmp_path: Path) -> None:
    path = write_strings(tmp_path / "log.mcap", list(range(300)), chunk_size=2000)
    everything = contents(path)
    data = bytearray(path.read_bytes())
    from mcap.reader import make_reader

    with path.open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None and len(summary.chunk_indexes) > 3
    second = summary.chunk_indexes[1]
    middle = second.chunk_start_offset + second.chunk_length // 2
    data[middle : middle + 20] = bytes(20)
    path.write_bytes(bytes(data))
    with LogReader(path) as reader:
        read = [tuple(raw) for raw in reader.messages()]
        assert len(reader.warnings) == 1 and "damaged chunk" in reader.warnings[0]
    assert 0 < len(read) < len(everything) and set(read) < set(everything)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("mode", ["none", "file", "message"])
def test_rosbag2_folders_are_read_with_every_storage_and_compression(
    tmp_path: Path, storage: str, mode: str
) -> None:
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=plugin)
    if mode != "none":
        writer.set_compression(CompressionMode[mode.upper()], CompressionFormat.ZSTD)
    payloads = [serialize(json_string({"n": n}), STRING) for n in range(20)]
    with writer:
        connection = writer.add_connection("/text", STRING, typestore=store)
        for n, payload in enumerate(payloads):
            writer.write(connection, START + n, payload)
    with LogReader(tmp_path / "bag") as reader:
        assert reader.format == storage
        assert [bytes(m.data) for m in reader.messages()] == payloads
        assert reader.warnings == []
    # Without its metadata, as a crashed recorder leaves it, the folder can be read all the same.
    (tmp_path / "bag" / "metadata.yaml").unlink()
    with LogReader(tmp_path / "bag") as reader:
        assert [bytes(m.data) for m in reader.messages()] == payloads
        assert "metadata.yaml" in reader.warnings[0]


def test_a_folder_of_several_files_is_read_through_even_if_the_last_is_empty(tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    bag.mkdir()
    for number in range(11):
        write_strings(bag / f"bag_{number}.mcap", [100 * number, 100 * number + 1])
    (bag / "bag_11.mcap").touch()
    with LogReader(bag) as reader:
        times = [m.log_time for m in reader.messages()]
        assert times == sorted(times) and len(times) == 22
        assert any("bag_11.mcap is empty" in w for w in reader.warnings)


def test_recorded_bags_of_every_kind_are_read(data_dir: Path) -> None:
    counts = {
        "kitchen_compressed": 621,
        "kitchen_raw": 76,
        "kitchen_raw/kitchen_raw_0.db3": 76,
        "talker_mcap": 20,
        "talker_sqlite3": 20,
        "cdr_test": 7,
        "topics_and_services.mcap": 13,
    }
    for name, count in counts.items():
        with LogReader(data_dir / "rosbags" / name) as reader:
            assert reader.count == sum(1 for _ in reader.messages()) == count, name
            assert reader.warnings == []


def test_bags_without_a_camera_are_one_clear_line(data_dir: Path) -> None:
    for name in ("talker_mcap", "talker_sqlite3", "cdr_test", "topics_and_services.mcap"):
        with pytest.raises(LogError, match="holds no depth image") as caught:
            LoggedWorld(data_dir / "rosbags" / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_not_a_log_is_one_clear_line(tmp_path: Path) -> None:
    import sqlite3

    (tmp_path / "empty.mcap").touch()
    (tmp_path / "text.mcap").write_text("hello, this is no log at all\n")
    (tmp_path / "short").write_bytes(b"\x89MC")
    (tmp_path / "ros1.bag").write_bytes(b"#ROSBAG V2.0\n" + bytes(100))
    (tmp_path / "folder").mkdir()
    (tmp_path / "cut.db3").write_bytes(b"SQLite format 3\0" + bytes(50))
    with sqlite3.connect(tmp_path / "other.db3") as other:
        other.execute("CREATE TABLE stars (name TEXT)")
    other.close()
    says = {
        "missing.mcap": "no such log",
        "empty.mcap": "is empty",
        "text.mcap": "is not a log",
        "short": "is not a log",
        "ros1.bag": "rosbags-convert",
        "folder": "neither .mcap nor .db3",
        "cut.db3": "not a rosbag2 recording",
        "other.db3": "not a rosbag2 recording",
    }
    for name, words in says.items():
        for opens in (LogReader, LoggedWorld, describe_log):
            with pytest.raises(LogError) as caught:
                opens(tmp_path / name)
            assert words in str(caught.value) and "\n" not in str(caught.value), name


def test_a_damaged_database_is_read_up_to_the_damage(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "bag.db3"
    shutil.copy(data_dir / "rosbags/kitchen_raw/kitchen_raw_0.db3", path)
    path.chmod(0o644)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size // 2 // 4096 * 4096)
    try:
        with LogReader(path) as reader:
            count = sum(1 for _ in reader.messages())
            assert count < 76 and "damaged" in reader.warnings[0]
    except LogError as error:
        assert "\n" not in str(error)


def test_a_log_is_described_from_its_index(kitchen_bags: dict[str, Path], tmp_path: Path) -> None:
    facts = describe_log(kitchen_bags["compressed"])
    assert facts["format"] == "mcap" and facts["messages"] == 621 and not facts["ledger"]
    assert facts["duration"] == pytest.approx(12.385, abs=0.001)
    assert {"name": "/odom", "type": "nav_msgs/msg/Odometry", "count": 100} in facts["topics"]
    assert describe_log(kitchen_bags["raw"])["format"] == "sqlite3"
    assert describe_log(make_bag(tmp_path / "bag.mcap", frames=3))["ledger"] is False

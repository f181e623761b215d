from __future__ import annotations

import dataclasses
from pathlib import Path

import grid_walk
import numpy as np
import pytest

from embodied_mem.errors import ConfigError, InputError
from embodied_mem.geometry import Pose
from embodied_mem.memory import GateConfig, Memory
from embodied_mem.types import Detection, Image, Intrinsics, Percept, Query


def remembering(steps: int = 5, **gate: float) -> Memory:
    memory = Memory(grid_walk.config(gate=GateConfig(**gate)))
    for step in range(steps):
        assert memory.write(grid_walk.percept(step)).verdict == "accepted"
    return memory


def refuses(memory: Memory, percept: Percept, *words: str) -> None:
    before = memory.digest()
    rejected = memory.info()["rejected"]
    receipt = memory.write(percept)
    assert receipt.verdict == "rejected" and receipt.episode_id == -1
    for word in words:
        assert word in receipt.reason
    assert memory.digest() == before
    assert memory.info()["rejected"] == rejected + 1
    assert memory.info()["last_rejection"] == receipt.reason
    assert memory.write(grid_walk.percept(40)).verdict == "accepted"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["odom_T_base", "map_T_odom"])
def test_a_pose_that_is_not_finite_changes_nothing(bad: float, where: str):
    pose = Pose(np.array([bad, 0.0, 0.0]))
    refuses(remembering(), grid_walk.percept(5, **{where: pose}), "NaN")


def test_a_pose_without_an_orientation_changes_nothing():
    refuses(remembering(), grid_walk.percept(5, odom_T_base=Pose(np.zeros(3), np.zeros(4))), "pose")


@pytest.mark.parametrize("step", [4, 2])
def test_a_stamp_that_is_not_later_changes_nothing(step: int):
    refuses(remembering(), grid_walk.percept(step), "not after")


def test_an_impossible_jump_changes_nothing_and_a_new_episode_may_start_elsewhere():
    memory = remembering(max_speed=15.0)
    far = Pose(np.array([100.0, 0.0, 0.0]))
    refuses(memory, grid_walk.percept(5, odom_T_base=far), "jumped", "15 m/s")
    elsewhere = grid_walk.percept(41, odom_T_base=far, is_first=True)
    assert memory.write(elsewhere).verdict == "accepted"


def test_jumps_pass_where_no_speed_is_given():
    far = Pose(np.array([100.0, 0.0, 0.0]))
    assert remembering().write(grid_walk.percept(5, odom_T_base=far)).verdict == "accepted"


@pytest.mark.parametrize(("index", "name"), [(0, "x"), (1, "y"), (5, "yaw")])
def test_a_pose_too_uncertain_changes_nothing(index: int, name: str):
    covariance = np.diag([0.01] * 6)
    covariance[index, index] = 4.0
    refuses(remembering(), grid_walk.percept(5, covariance=covariance), "uncertain", f"of {name} is 2.00")


def test_an_uncertain_height_or_tilt_does_not_matter():
    covariance = np.diag([0.01, 0.01, 1e6, 1e6, 1e6, 0.01])
    assert remembering().write(grid_walk.percept(5, covariance=covariance)).verdict == "accepted"


@pytest.mark.parametrize("covariance", [np.full((6, 6), np.nan), -np.eye(6), np.eye(3)])
def test_what_is_no_covariance_changes_nothing(covariance: np.ndarray):
    refuses(remembering(), grid_walk.percept(5, covariance=covariance), "covariance")


def test_nan_points_in_a_good_percept_are_dropped_and_counted():
    clean, dirty = remembering(), remembering()
    good = grid_walk.percept(5)
    scan = good.scans[0]
    bad_points = np.array([[np.nan, 0, 0], [0, np.inf, 0], [0, 0, -np.inf]], np.float32)
    spoilt = dataclasses.replace(
        scan,
        points=np.concatenate([bad_points, scan.points]),
        hit=np.concatenate([[True, False, True], scan.hit]),
        labels=np.concatenate([np.array([1, 0, 1], np.int32), scan.labels]),
    )
    clean.write(good)
    receipt = dirty.write(dataclasses.replace(good, scans=(spoilt,)))
    assert receipt.verdict == "accepted"
    assert dirty.info()["dropped_points"] == 3
    assert dirty.digest() == clean.digest()


@pytest.mark.parametrize("field", ["position", "extent", "covariance"])
def test_nan_detections_in_a_good_percept_are_dropped_and_counted(field: str):
    clean, dirty = remembering(), remembering()
    good = grid_walk.percept(5)
    bad = Detection(3, np.zeros(3), np.ones(3), np.eye(3))
    bad = dataclasses.replace(bad, **{field: np.full_like(getattr(bad, field), np.nan)})
    clean.write(good)
    dirty.write(dataclasses.replace(good, detections=(*good.detections, bad)))
    assert dirty.info()["dropped_detections"] == 1
    assert dirty.digest() == clean.digest()


@pytest.mark.parametrize("vector", [np.full(4, np.nan), np.zeros(4), np.ones(3), np.ones((2, 2))])
def test_embeddings_that_cannot_be_used_are_dropped_and_counted(vector: np.ndarray):
    memory = remembering()
    memory.write(grid_walk.percept(5, embedding=np.array([1, 0, 0, 0], np.float32)))
    receipt = memory.write(grid_walk.percept(6, embedding=vector.astype(np.float32)))
    entry = memory.episodes.entry(receipt.episode_id)
    assert entry is not None and entry.embedding is None
    assert memory.info()["dropped_embeddings"] == 1


IMAGE = Image(np.ones((3, 4), np.float32), Intrinsics(4, 3, 2.0, 2.0, 1.5, 1.0), Pose())


@pytest.mark.parametrize(
    "change",
    [
        {"points": np.zeros((4, 2), np.float32)},
        {"hit": np.zeros(3, bool)},
        {"labels": np.zeros(25, np.float32)},
        {"origin": np.zeros(2)},
        {"image": IMAGE},
        {"image": IMAGE, "pixels": np.full(25, 12)},
        {"image": dataclasses.replace(IMAGE, data=np.zeros((4, 3), np.float32)), "pixels": np.zeros(25, int)},
    ],
)
def test_a_scan_of_the_wrong_shape_is_refused_before_anything_changes(change: dict):
    memory = remembering()
    before = memory.digest()
    good = grid_walk.percept(5)
    with pytest.raises(InputError, match="scan"):
        memory.write(dataclasses.replace(good, scans=(dataclasses.replace(good.scans[0], **change),)))
    assert memory.digest() == before


def test_a_snapshot_of_the_wrong_shape_is_refused_before_anything_changes():
    memory = remembering()
    before = memory.digest()
    with pytest.raises(InputError, match="snapshot"):
        memory.write(grid_walk.percept(5, snapshot=np.zeros((4, 4), np.uint8)))
    assert memory.digest() == before


def test_negative_limits_are_refused():
    with pytest.raises(ConfigError, match=r"gate\.max_speed"):
        GateConfig(max_speed=-1.0)


def test_what_was_not_let_in_is_listed_with_its_reason_and_survives_the_file(tmp_path):
    path = tmp_path / "home.emem"
    with Memory.open(path, grid_walk.config()) as memory:
        memory.write(grid_walk.percept(3))
        memory.write(grid_walk.percept(2))
        memory.write(grid_walk.percept(5, odom_T_base=Pose(np.array([np.nan, 0.0, 0.0]))))
        for step in range(6, 60):
            memory.write(dataclasses.replace(grid_walk.percept(0), step=step, is_first=False))
    with Memory.open(path, read_only=True) as memory:
        listed = memory.info()["quarantine"]
        assert len(listed) == 32 and all(item["source"] == "grid" and item["reason"] for item in listed)
        assert listed[-1]["step"] == 59 and memory.info()["rejected"] == 56


def seen(step: int, embedder: str) -> Percept:
    view = np.arange(1.0, 9.0, dtype=np.float32)
    plain = grid_walk.percept(step, embedding=view, embedder=embedder)
    things = tuple(dataclasses.replace(d, embedding=view[:4]) for d in plain.detections)
    return dataclasses.replace(plain, detections=things)


def embedded(memory: Memory, step: int, embedder: str) -> bool:
    receipt = memory.write(seen(step, embedder))
    assert receipt.verdict == "accepted"
    entry = memory.episodes.entry(receipt.episode_id)
    assert entry is not None
    return entry.embedding is not None


def test_embeddings_of_another_maker_are_left_out_and_it_is_said(tmp_path):
    path = tmp_path / "home.emem"
    with Memory.open(path, grid_walk.config()) as memory:
        assert embedded(memory, 0, "clip 1")
        things = len(seen(1, "").detections)
        with pytest.warns(UserWarning, match='by "clip 2" are left out: .* by "clip 1"'):
            assert not embedded(memory, 1, "clip 2")
        assert memory.info()["dropped_embeddings"] == 1 + things
    with Memory.open(path, grid_walk.config(gate=GateConfig(relocalize=False))) as memory:
        assert memory.info()["embedders"] == {"views": "clip 1", "things": "clip 1", "refused": "clip 2"}
        assert not embedded(memory, 2, "clip 2")
        assert embedded(memory, 3, "clip 1") and embedded(memory, 4, "")


def test_embeddings_of_things_in_files_that_do_not_name_their_maker_are_not_compared(tmp_path):
    old = Path(__file__).with_name("schema_2.emem")
    path = tmp_path / "home.emem"
    path.write_bytes(old.read_bytes())
    with Memory.open(path) as memory:
        assert memory.info()["embedders"]["things"] == "unknown"
        assert memory.contents.embedders.comparable(seen(0, ""))[1] == 0
        with pytest.warns(UserWarning, match='by "unknown"'):
            left, count = memory.contents.embedders.comparable(seen(0, "today"))
        assert count == len(left.detections) > 0 and all(d.embedding is None for d in left.detections)
        assert left.embedding is not None  # views are embedded as they ever were


def test_an_image_is_not_looked_for_among_views_that_another_encoder_embedded():
    class Encoder:
        name = "clip 2"

        def image(self, image: np.ndarray) -> np.ndarray:
            return np.ones(8, np.float32)

    memory = Memory(grid_walk.config())
    memory.write(seen(0, "clip 1"))
    memory.encoder = Encoder()
    query = Query(like=np.zeros((4, 4, 3), np.uint8), kind="episode")
    with pytest.raises(InputError, match=r'"clip 1".*"clip 2"'):
        memory.recall(query)
    memory.encoder.name = "clip 1"
    assert memory.recall(query)

from __future__ import annotations

import json
import threading
from dataclasses import replace

import grid_walk
import numpy as np
import pytest
import zstandard
from scipy.spatial import cKDTree

from embodied_mem.errors import InputError, StoreError
from embodied_mem.geometry import Pose
from embodied_mem.memory import (
    EpisodeConfig,
    GateConfig,
    Memory,
    MemoryConfig,
    OctreeConfig,
    SceneConfig,
    SubmapConfig,
)
from embodied_mem.memory.submaps.correction import Correction
from embodied_mem.memory.submaps.keyframe import Keyframe, pack_keyframe, unpack_keyframe, unpack_sightings
from embodied_mem.memory.submaps.thin import one_per_voxel
from embodied_mem.types import Command, Detection, LabelMap, Percept, Query, Scan

LABELS = LabelMap(("unknown", "wall", "red mug"))
MUGS = np.array([[3.0, 2.0, 0.5], [-2.0, 3.0, 0.5], [-3.0, -2.5, 0.5], [2.5, -3.0, 0.5]])
STEPS = 60
S = 10**8
TWINS = SceneConfig(negative_evidence=False, moves=False)  # the mug that is out of view is not gone
ZSTD = b"\x28\xb5\x2f\xfd"


def config(**parts) -> MemoryConfig:
    return MemoryConfig(
        octree=OctreeConfig(resolution=0.1, max_range=8.0),
        **{"submaps": SubmapConfig(swap_after=5), "gate": GateConfig(relocalize=False), **parts},
    )


def room() -> np.ndarray:
    """Points on the walls of a room of 10 x 8 m."""
    u, z = np.meshgrid(np.linspace(-1, 1, 160), np.linspace(0.05, 1.0, 10))
    u, z = u.ravel(), z.ravel()
    sides = [(5 * u, np.full_like(u, s * 4.0), z) for s in (1, -1)]
    sides += [(np.full_like(u, s * 5.0), 4 * u, z) for s in (1, -1)]
    return np.concatenate([np.stack(side, axis=1) for side in sides])


def true_pose(step: int) -> Pose:
    angle = 2 * np.pi * step / STEPS
    return Pose.from_xyz_yaw(2 * np.cos(angle), 2 * np.sin(angle), 0.0, angle + np.pi / 2)


def drift(step: int) -> Pose:
    """The odometry's error: a metre and ten degrees at the end of the loop."""
    share, here = step / (STEPS - 1), true_pose(step).position
    turned = Pose.from_xyz_yaw(0, 0, 0, np.deg2rad(10) * share)
    return Pose(here - turned.rotate(here) + np.array([share, 0, 0]), turned.orientation)


def percept(step: int, drifted: bool) -> Percept:
    truth = true_pose(step)
    to_base = truth.inverse()
    points = to_base.transform(room())
    near = np.linalg.norm(points[:, :2], axis=1) < 4.5
    seen = to_base.transform(MUGS)
    return Percept(
        stamp=(step + 1) * S,
        step=step,
        odom_T_base=truth,
        map_T_odom=drift(step) if drifted else Pose(),
        labels=LABELS,
        scans=(
            Scan(
                points[near].astype(np.float32),
                np.ones(near.sum(), bool),
                np.ones(near.sum(), np.int32),
                np.array([0.0, 0.0, 0.4]),
            ),
        ),
        detections=tuple(
            Detection(2, p, np.full(3, 0.1), 0.0004 * np.eye(3))
            for p in seen
            if np.linalg.norm(p) < 3.0 and p[0] > 0
        ),
        is_first=step == 0,
        source="rgbd",
    )


def walked(drifted: bool, **parts) -> Memory:
    memory = Memory(config(**parts))
    for step in range(STEPS):
        memory.write(percept(step, drifted))
    return memory


def still(memory: Memory, count: int) -> None:
    last = percept(STEPS - 1, False)
    for _ in range(count):
        memory.write(replace(last, stamp=memory.stamp + S, scans=(), detections=()))


def anchors(memory: Memory) -> dict[int, Pose]:
    return {int(s): true_pose(int(s) // S - 1) for s in memory.episodes.stamps}


def near_share(these: np.ndarray, those: np.ndarray, reach: float) -> float:
    distance, _ = cKDTree(those).query(these, p=np.inf)
    return float((distance <= reach).mean())


@pytest.fixture(scope="module")
def right() -> Memory:
    return walked(False)


@pytest.fixture(scope="module")
def corrected() -> Memory:
    memory = walked(True)
    memory.correct(anchors(memory))
    still(memory, 5)
    return memory


def test_entries_are_where_right_poses_would_have_put_them(right: Memory, corrected: Memory):
    truth = np.array([true_pose(int(s) // S - 1).position for s in corrected.episodes.stamps])[:STEPS]
    wrong = walked(True).episodes.positions[:STEPS]
    assert np.abs(wrong - truth).max() > 0.9
    assert np.allclose(corrected.episodes.positions[:STEPS], truth, atol=1e-6)
    assert np.allclose(corrected.episodes.poses[0], right.episodes.poses[0], atol=1e-6)
    assert np.allclose(corrected.scene.trajectory()[1][-1], right.scene.trajectory()[1][-1], atol=1e-6)


def test_objects_are_within_five_centimetres(right: Memory, corrected: Memory):
    for thing in right.scene.objects("mug"):
        same = [np.linalg.norm(o.position - thing.position) for o in corrected.scene.objects("mug")]
        assert min(same) <= 0.05


def test_voxels_agree_with_those_of_right_poses(right: Memory, corrected: Memory):
    a, b, wrong = (m.octree.voxels().centers for m in (corrected, right, walked(True)))
    assert near_share(a, b, 0.101) >= 0.95 and near_share(b, a, 0.101) >= 0.95
    assert near_share(wrong, b, 0.101) < 0.8


def test_questions_are_answered_from_the_old_map_until_the_swap():
    memory = walked(True)
    before = memory.octree.digest()
    memory.correct(anchors(memory))
    assert memory.octree.digest() == before and memory.recall(Query(kind="object", label="mug"))
    still(memory, 4)
    assert memory.octree.digest() == before
    still(memory, 1)
    assert memory.octree.digest() != before


def test_the_caller_waits_for_no_scan_to_be_unpacked(monkeypatch: pytest.MonkeyPatch):
    memory = walked(True)
    before, threads = memory.octree.digest(), set()
    go_on = threading.Event()

    def unpack(payload: bytes) -> Keyframe:
        threads.add(threading.current_thread().name)
        assert go_on.wait(30)
        return unpack_keyframe(payload)

    monkeypatch.setattr("embodied_mem.memory.submaps.rebuild.unpack_keyframe", unpack)
    memory.correct(anchors(memory))  # returns although no scan can be unpacked yet
    rebuild = memory.contents.rebuild
    assert rebuild is not None and rebuild.is_running
    for _ in range(20):
        assert memory.recall(Query(kind="object", label="mug"))
    still(memory, 3)
    assert memory.octree.digest() == before and rebuild.is_running
    go_on.set()
    still(memory, 2)
    assert memory.octree.digest() != before and threads == {"rebuild"}


def test_submaps_of_the_former_format_are_read():
    told = next(p for p in (percept(step, True) for step in range(40)) if p.detections)
    keyframe = Keyframe.of(told, tuple(range(len(told.detections))), (3, 8), 0.1, True)
    new = pack_keyframe(keyframe)
    at = new.index(ZSTD)
    bare = pack_keyframe(replace(keyframe, looks=keyframe.looks[:0]))
    assert bare[0] == 2 and not unpack_keyframe(bare).detections()
    old = zstandard.compress(b"\x01" + bare[1 : bare.index(ZSTD)] + zstandard.decompress(new[at:]))
    assert np.array_equal(unpack_sightings(old).objects, unpack_sightings(new).objects)
    (a,), (b,) = unpack_keyframe(old).scans, unpack_keyframe(new).scans
    assert np.array_equal(a.points, b.points) and np.array_equal(a.hit, b.hit)
    with pytest.raises(StoreError, match="damaged"):
        unpack_keyframe(new[: at + 20])
    with pytest.raises(StoreError, match="damaged"):
        unpack_sightings(new[:10])


def test_what_a_keyframe_saw_comes_back_as_it_was_told():
    told = next(p for p in (percept(step, True) for step in range(40)) if p.detections)
    keyframe = unpack_sightings(
        pack_keyframe(Keyframe.of(told, tuple(range(len(told.detections))), (3, 8), 0.1, True))
    )
    assert len(keyframe.detections()) == len(told.detections) > 0
    for a, b in zip(keyframe.detections(), told.detections):
        assert np.array_equal(a.position, b.position) and np.allclose(a.covariance, b.covariance)
        assert np.allclose(a.extent, b.extent) and a.yaw == pytest.approx(b.yaw)
        assert a.visible == pytest.approx(b.visible)


def test_a_replayed_correction_gives_the_same_digest_at_every_step():
    told: list[Command] = []
    first, second = walked(True), walked(True)
    first.on_command.append(told.append)
    first.correct(anchors(first))
    (command,) = told
    second.apply(Command(command.name, json.loads(json.dumps(dict(command.arguments)))))
    for _ in range(6):
        assert first.digest() == second.digest()
        still(first, 1), still(second, 1)
    assert first.digest() == second.digest() != walked(True).digest()


@pytest.mark.parametrize("writes", [0, 2, 9])
def test_a_correction_survives_the_file_even_half_done(tmp_path, writes: int):
    path = tmp_path / "home.emem"
    with Memory.open(path, config()) as memory:
        for step in range(STEPS):
            memory.write(percept(step, True))
        memory.correct(anchors(memory))
        still(memory, writes)
    with Memory.open(path) as again:
        whole = walked(True)
        whole.correct(anchors(whole))
        still(whole, max(writes, 5))
        assert again.octree.digest() == whole.octree.digest()
        assert np.array_equal(again.episodes.poses[:STEPS], whole.episodes.poses[:STEPS])
        again.save(tmp_path / "copy.emem")
    with Memory.open(tmp_path / "copy.emem") as copy:
        assert copy.octree.digest() == whole.octree.digest()
        copy.correct(
            {int(s): true_pose(0) @ true_pose(int(s) // S - 1) for s in copy.episodes.stamps[:STEPS]}
        )
        assert copy.contents.rebuild is not None  # the copy brought the submaps along


def test_without_scans_the_voxels_themselves_are_moved(right: Memory):
    memory = walked(True, submaps=SubmapConfig(scans=False))
    memory.correct(anchors(memory))
    a, b = memory.octree.voxels().centers, right.octree.voxels().centers
    assert near_share(b, a, 0.201) > 0.9


def test_a_correction_below_a_voxel_leaves_the_octree_alone():
    memory = walked(False)
    before = memory.octree.digest()
    nudge = Pose.from_xyz_yaw(0.01, 0.0, 0.0, 0.0)
    memory.correct({int(s): nudge @ true_pose(int(s) // S - 1) for s in memory.episodes.stamps})
    assert memory.octree.digest() == before
    assert np.allclose(memory.episodes.positions[0], true_pose(0).position + np.array([0.01, 0, 0]))


@pytest.mark.parametrize(
    "wrong", [{}, {5: Pose()}, {10**12: Pose()}, {S: Pose(np.array([np.nan, 0.0, 0.0]))}]
)
def test_anchors_that_make_no_sense_change_nothing(wrong: dict[int, Pose]):
    memory = walked(False)
    before = memory.digest()
    with pytest.raises(InputError):
        memory.correct(wrong)
    assert memory.digest() == before


def test_between_anchors_the_motion_is_interpolated():
    before = np.array([Pose().to_list()] * 2)
    after = np.array([Pose().to_list(), Pose.from_xyz_yaw(2.0, 0.0, 0.0, 0.0).to_list()])
    correction = Correction(np.array([0, 100]), before, after)
    stamps = np.array([-5, 0, 25, 50, 100, 500])
    moved = correction.points(stamps, np.zeros((6, 3)))
    assert moved[:, 0].tolist() == [0.0, 0.0, 0.5, 1.0, 2.0, 2.0]


def test_a_submap_survives_its_bytes_within_a_fraction_of_a_voxel():
    told = next(p for p in (percept(step, True) for step in range(40)) if p.detections)
    keyframe = Keyframe.of(told, tuple(range(len(told.detections))), (3, 8), 0.1, True)
    back = unpack_keyframe(pack_keyframe(keyframe))
    (scan,), (kept,) = back.scans, keyframe.scans
    assert np.abs(scan.points - kept.points).max() < 0.001 and np.array_equal(scan.hit, kept.hit)
    assert np.array_equal(scan.labels, kept.labels) and back.stamp == told.stamp
    assert np.array_equal(back.objects, keyframe.objects) and len(kept.points) < len(told.scans[0].points)


def test_thinning_keeps_one_point_of_every_voxel():
    points = np.random.default_rng(0).uniform(-3, 3, (5000, 3)).astype(np.float32)
    hit = np.arange(5000) % 3 > 0
    chosen = one_per_voxel(points, hit, 0.5)
    keys = {(*v, h) for v, h in zip(np.floor(points / np.float32(0.5)).tolist(), hit.tolist())}
    kept = [
        (*v, h) for v, h in zip(np.floor(points[chosen] / np.float32(0.5)).tolist(), hit[chosen].tolist())
    ]
    assert len(kept) == len(set(kept)) and set(kept) == {tuple(k) for k in keys}


def test_a_reopened_memory_waits_for_a_pose_in_its_map(tmp_path):
    path = tmp_path / "home.emem"
    settings = grid_walk.config(gate=GateConfig(relocalize=True))
    with Memory.open(path, settings) as memory:
        for step in range(5):
            memory.write(grid_walk.percept(step))
    with Memory.open(path) as memory:
        receipt = memory.write(grid_walk.percept(5))
        assert receipt.verdict == "rejected" and "relocalize" in receipt.reason
        far = memory.relocalize(Pose.from_xyz_yaw(500.0, 0.0, 0.0, 0.0))
        assert far.verdict == "rejected" and "m from where" in far.reason
        assert memory.write(grid_walk.percept(6)).verdict == "rejected"
        assert memory.relocalize(grid_walk.percept(4).map_T_base).verdict == "accepted"
        assert memory.write(grid_walk.percept(7)).verdict == "accepted"


def test_an_object_seen_from_places_that_drifted_apart_is_fused_anew():
    """A close look and vague ones, between which the odometry had drifted by decimetres."""
    sigmas = (0.02, 0.15, 0.15, 0.15)
    right, wrong = Memory(), Memory()
    for step, sigma in enumerate(sigmas):
        true = Pose.from_xyz_yaw(0.5 * step, 0.0, 0.0, 0.0)
        at = np.array([1.5 + sigma, sigma, 0.5])
        seen = Detection(2, true.inverse().transform(at[None])[0], np.full(3, 0.1), sigma**2 * np.eye(3))
        told = Percept((step + 1) * S, step, true, labels=LABELS, detections=(seen,))
        right.write(told)
        wrong.write(replace(told, map_T_odom=Pose.from_xyz_yaw(0.08 * step, 0.0, 0.0, 0.0)))
    (truth,), (thing,) = right.scene.objects(), wrong.scene.objects()
    assert np.linalg.norm(thing.position - truth.position) > 0.002
    wrong.correct({(s + 1) * S: Pose.from_xyz_yaw(0.5 * s, 0.0, 0.0, 0.0) for s in range(len(sigmas))})
    (thing,) = wrong.scene.objects()
    assert np.linalg.norm(thing.position - truth.position) < 1e-6


def twins(true: Pose, step: int, things: np.ndarray) -> Percept:
    """A look at some mugs that are alike, and at the wall behind them."""
    y, z = np.meshgrid(np.linspace(-3, 3, 120), np.linspace(0.0, 2.0, 40))
    wall = np.stack([np.full(y.size, 6.0), y.ravel(), z.ravel()], axis=1)
    seen = true.inverse().transform(things)
    return Percept(
        (step + 1) * S,
        step,
        true,
        labels=LABELS,
        scans=(
            Scan(
                true.inverse().transform(wall).astype(np.float32),
                np.ones(len(wall), bool),
                np.ones(len(wall), np.int32),
                np.array([0.0, 0.0, 0.5]),
            ),
        ),
        detections=tuple(Detection(2, p, np.full(3, 0.1), 0.0004 * np.eye(3)) for p in seen),
        is_first=step == 0,
    )


def passed_twins() -> tuple[Memory, Memory, list[Pose]]:
    """Two mugs that stand 0.8 m apart, passed one after the other: the odometry slips by as much between."""
    settings = config(scene=TWINS, episodes=EpisodeConfig(distance=0.05))
    things = np.array([[3.0, 0.0, 0.5], [3.0, 0.8, 0.5]])
    right, wrong = Memory(settings), Memory(settings)
    poses = [Pose.from_xyz_yaw(0.0, 0.1 * step, 0.0, 0.0) for step in range(9)]
    for step, pose in enumerate(poses):
        told = twins(pose, step, things[[0 if step < 5 else 1]])
        right.write(told)
        slipped = replace(told, map_T_odom=Pose.from_xyz_yaw(0.0, -0.8 * (step >= 5), 0.0, 0.0))
        wrong.write(slipped)
    return right, wrong, poses


def test_twins_that_were_taken_for_one_are_two_again():
    right, wrong, poses = passed_twins()
    assert len(wrong.scene.objects()) == 1 and len(right.scene.objects()) == 2
    wrong.correct({(step + 1) * S: pose for step, pose in enumerate(poses)})
    assert len(wrong.scene.objects()) == 1  # until the swap
    still(wrong, 5)
    found, truth = wrong.scene.objects(), right.scene.objects()
    assert [o.id for o in found] == [o.id for o in truth] == [0, 1]
    for a, b in zip(found, truth):
        assert np.allclose(a.position, b.position, atol=1e-6) and a.count == b.count
    for thing in (0, 1):
        seen = [int(wrong.episodes.stamps[wrong.episodes.index(i)]) for i in wrong.episodes.seen_in(thing)]
        assert sorted(seen) == [(s + 1) * S for s in (range(5) if thing == 0 else range(5, 9))]
        spans = wrong.episodes.encounters.spans(thing)
        assert spans[0, 0] == min(seen) and spans[-1, 1] == max(seen)


def test_what_was_told_again_is_in_the_file_even_half_done(tmp_path):
    path = tmp_path / "home.emem"
    _, whole, poses = passed_twins()
    whole.save(path)
    anchored = {(step + 1) * S: pose for step, pose in enumerate(poses)}
    with Memory.open(path, config(scene=TWINS, episodes=EpisodeConfig(distance=0.05))) as memory:
        memory.correct(anchored)
        still(memory, 2)
    whole.correct(anchored)
    still(whole, 5)
    for _ in range(2):  # finished on opening, and then as it was stored
        with Memory.open(path) as again:
            assert [o.id for o in again.scene.objects()] == [0, 1]
            for a, b in zip(again.scene.objects(), whole.scene.objects()):
                assert np.array_equal(a.position, b.position) and a.last_seen == b.last_seen
            assert again.episodes.seen_in(1) == whole.episodes.seen_in(1)


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_thing_that_was_missed_elsewhere_is_there_again(is_gone: bool):
    """The odometry slips, and where the mug was thought to be nothing is; or it is really taken away."""
    mug, memory = np.array([[3.0, 0.0, 0.5]]), Memory(config())
    poses = [Pose.from_xyz_yaw(0.0, 0.1 * step, 0.0, 0.0) for step in range(10)]
    for step, pose in enumerate(poses):
        slip = Pose.from_xyz_yaw(0.0, 0.0 if is_gone or step < 4 else -1.5, 0.0, 0.0)
        seen = mug if step < 4 else mug[:0]
        memory.write(replace(twins(pose, step, seen), map_T_odom=slip))
    (thing,) = memory.scene.objects()
    assert thing.existence < 0.5
    nudged = [Pose.from_xyz_yaw(0.0, 0.05 * step, 0.0, 0.0) @ pose for step, pose in enumerate(poses)]
    if not is_gone:  # those looks were past the mug: it lay outside of the picture
        away = Pose.from_xyz_yaw(0.0, 0.0, 0.0, np.pi)
        nudged = [pose if step < 4 else pose @ away for step, pose in enumerate(nudged)]
    memory.correct({(step + 1) * S: pose for step, pose in enumerate(nudged)})
    still(memory, 5)
    (thing,) = memory.scene.objects()
    assert (thing.existence < 0.5) == is_gone


def test_who_turns_the_whole_map_changes_no_object_but_its_place():
    """Parts of a thing that are seen apart are moved apart by a turn, and are one thing's all the same."""
    memory = Memory(config())
    for step in range(8):
        pose = Pose.from_xyz_yaw(0.0, 0.1 * step, 0.0, 0.0)
        part = np.array([3.0, 0.4 * (step % 2), 0.5])  # a long thing, of which this half or that is seen
        seen = Detection(2, pose.inverse().transform(part[None])[0], np.full(3, 0.5), 0.01 * np.eye(3))
        memory.write(replace(twins(pose, step, MUGS[:0]), detections=(seen,)))
    (before,) = memory.scene.objects()
    turn = Pose.from_xyz_yaw(2.0, 1.0, 0.0, 1.0)
    told = {int(s): turn @ Pose.from_list(p) for s, p in zip(memory.episodes.stamps, memory.episodes.poses)}
    memory.correct(told)
    assert not memory.contents.doubts
    still(memory, 5)
    (after,) = memory.scene.objects()
    assert np.allclose(after.position, turn.transform(before.position[None])[0], atol=1e-9)
    assert (after.id, after.count, after.existence) == (before.id, before.count, before.existence)

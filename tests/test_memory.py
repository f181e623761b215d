from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import grid_walk
import numpy as np
import pytest

from embodied_mem.errors import ConfigError, InputError
from embodied_mem.geometry import Pose
from embodied_mem.memory import Memory, MemoryConfig, NavigationConfig, OctreeConfig, StoreConfig
from embodied_mem.memory.octree import Octree
from embodied_mem.perception import DepthConfig
from embodied_mem.perception.depth import depth_scan
from embodied_mem.types import Command, Goal, Image, Intrinsics, LabelMap, Percept, Query, Scan


def walked(steps: int = 30, memory: Memory | None = None, start: int = 0) -> Memory:
    memory = memory or Memory(grid_walk.config())
    for step in range(start, steps):
        assert memory.write(grid_walk.percept(step)).verdict == "accepted"
    return memory


def test_a_walk_ends_up_in_octree_scene_graph_and_episodes():
    memory = walked(len(grid_walk.CELLS))
    things = {t.name: t for t in memory.scene.objects()}
    assert set(things) == set(grid_walk.THINGS.values())
    for symbol, name in grid_walk.THINGS.items():
        (j,) = [j for j, row in enumerate(grid_walk.PLAN) if symbol in row]
        assert np.allclose(
            things[name].position, grid_walk.center(grid_walk.PLAN[j].index(symbol), j), atol=1e-6
        )
    assert len(memory.scene.rooms()) == 2
    for j, row in enumerate(grid_walk.PLAN):
        for i, symbol in enumerate(row):
            value = float(memory.octree.query(grid_walk.center(i, j)[None].astype(np.float32))[0])
            seen = any(max(abs(i - a), abs(j - b)) <= grid_walk.REACH for a, b in grid_walk.CELLS)
            assert np.isnan(value) if not seen else (value >= 0) == (symbol != ".")
    assert len(memory.episodes) >= 20
    assert memory.map_T_base.to_list() == grid_walk.percept(len(grid_walk.CELLS) - 1).map_T_base.to_list()


def test_the_same_writes_give_the_same_digest_and_others_another():
    assert walked().digest() == walked().digest()
    assert walked(29).digest() != walked(30).digest()
    other = Memory(grid_walk.config())
    for step in range(30):
        missing = ("green key",) if step == 29 else ()
        other.write(grid_walk.percept(step, missing=missing))
    assert (other.digest() != walked().digest()) == any(
        d.label == grid_walk.LABELS.id("green key") for d in grid_walk.percept(29).detections
    )


def test_reading_and_asking_change_nothing():
    quiet, busy = Memory(grid_walk.config()), Memory(grid_walk.config())
    for step in range(30):
        percept = grid_walk.percept(step)
        quiet.write(percept)
        busy.write(percept)
        busy.read(percept.map_T_base, Goal(label=3))
        busy.read(Pose(np.array([4.0, -3.0, 0.0])))
        busy.recall(Query(text="key"))
        busy.grid_map(), busy.info(), busy.digest()
    assert busy.digest() == quiet.digest()


def test_receipts_number_the_writes_and_name_the_entry():
    memory = Memory(grid_walk.config())
    receipts = [memory.write(grid_walk.percept(step)) for step in range(5)]
    assert [r.sequence for r in receipts] == [1, 2, 3, 4, 5] and memory.sequence == 5
    assert receipts[0].episode_id == 0 and receipts[1].episode_id == 1
    assert memory.durable_seq == 0
    memory.flush()


def test_the_memory_is_in_the_map_frame_wherever_odometry_started():
    def shifted(step: int) -> Percept:
        plain = grid_walk.percept(step)
        map_T_odom = Pose.from_xyz_yaw(3.0, -2.0, 0.0, np.pi / 2)
        return dataclasses.replace(
            plain, map_T_odom=map_T_odom, odom_T_base=map_T_odom.inverse() @ plain.odom_T_base
        )

    plain, moved = walked(20), Memory(grid_walk.config())
    for step in range(20):
        moved.write(shifted(step))
    assert np.allclose(moved.octree.voxels(free=True).centers, plain.octree.voxels(free=True).centers)
    assert np.array_equal(moved.octree.voxels(free=True).labels, plain.octree.voxels(free=True).labels)


def test_rays_clear_the_way_and_end_on_what_they_hit():
    memory = Memory(MemoryConfig(octree=OctreeConfig(resolution=0.1, max_range=3.0)))
    points = np.array([[2.05, 0.05, 0.05], [4.05, 0.55, 0.05]], np.float32)
    scan = Scan(points, np.array([True, True]), np.array([1, 1], np.int32), np.array([0.0, 0.05, 0.05]))
    labels = LabelMap(("unknown", "wall"))
    memory.write(Percept(1, 0, Pose(np.array([1.0, 0.0, 0.0])), labels=labels, scans=(scan,)))
    at = np.array([[3.05, 0.05, 0.05], [2.05, 0.05, 0.05], [3.55, 0.5, 0.05], [5.05, 0.55, 0.05]], np.float32)
    hit, way, _, beyond = memory.octree.query(at)
    assert hit > 0 and way < 0 and np.isnan(beyond)  # the second ray is longer than max_range


@pytest.mark.parametrize("mode", ["exact", "hybrid", "discretized"])
def test_a_depth_image_is_written_as_the_octree_writes_it(mode):
    settings = OctreeConfig(resolution=0.1, max_range=3.0, depth_mode=mode)
    memory, tree = Memory(MemoryConfig(octree=settings)), Octree(0.1)
    view = Intrinsics(40, 30, 30.0, 30.0, 19.5, 14.5)
    data = (2.0 + 0.05 * np.arange(40) + np.zeros((30, 1))).astype(np.float32)
    data[:5] = np.inf
    base_T_camera = Pose(np.array([0.2, 0.0, 1.0]), np.array([-0.5, 0.5, -0.5, 0.5]))
    names = np.where(np.arange(data.size) % 2, 1, 2).reshape(data.shape).astype(np.int32)
    semantic = Image(names, view, base_T_camera)
    scan = depth_scan(Image(data, view, base_T_camera), DepthConfig(edge_jump=0.0), semantic=semantic)
    pose = Pose(np.array([1.0, -2.0, 0.0]))
    labels = LabelMap(("unknown", "wall", "door"))
    memory.write(Percept(1, 0, pose, labels=labels, scans=(scan,)))
    tree.integrate_depth(
        data,
        view,
        pose @ base_T_camera,
        labels=np.where(np.isfinite(data), names, 0),
        stamp=1,
        max_range=3.0,
        mode=mode,
        drop_flying=False,
    )
    assert memory.octree.digest() == tree.digest() and tree.num_occupied > 0


def test_labels_of_several_sources_agree_by_name():
    memory = Memory(grid_walk.config())
    memory.write(grid_walk.percept(0))
    other = LabelMap(("unknown", "green key", "purple lamp", "wall", "grey door", "red ball", "blue box"))
    for step in range(1, 30):
        memory.write(grid_walk.percept(step, labels=other if step % 2 else grid_walk.LABELS))
    assert memory.labels.names == (*grid_walk.LABELS.names, "purple lamp")
    assert sorted(t.name for t in memory.scene.objects()) == sorted(grid_walk.THINGS.values())
    walls = memory.octree.label(grid_walk.center(7, 1)[None].astype(np.float32))[0]
    assert memory.labels.name(int(walls[0])) == "wall"


def test_label_ids_without_a_name_become_unknown():
    memory = Memory(grid_walk.config())
    percept = grid_walk.percept(0)
    scan = percept.scans[0]
    labels = np.where(scan.hit, 77, -1).astype(np.int32)
    memory.write(dataclasses.replace(percept, scans=(dataclasses.replace(scan, labels=labels),)))
    assert not memory.octree.voxels(free=True).labels.any()


def test_a_goal_is_meant_in_the_labels_of_the_newest_percept():
    memory = walked(12)
    other = LabelMap(("unknown", "green key", "grey door", "wall", "red ball", "blue box"))
    memory.write(grid_walk.percept(12, labels=other))
    percept = grid_walk.percept(12)
    named = memory.read(percept.map_T_base, Goal(label=other.id("green key")))
    goals = named.label[(named.feature[:, 0] > 0) & named.mask]
    assert [memory.labels.name(int(i)) for i in goals] == ["green key"]


def test_tokens_have_the_configured_width_also_where_nothing_is_known():
    memory = Memory(grid_walk.config())
    empty = memory.read(Pose())
    assert len(empty.mask) == memory.config.read.tokens and not empty.mask.any()
    tokens = walked(10).read(grid_walk.percept(9).map_T_base)
    assert tokens.mask.any() and np.isfinite(tokens.position).all() and tokens.place_id >= 0


def test_a_pose_that_is_not_finite_reads_at_the_newest_good_one():
    memory = walked(10)
    good, bad = memory.read(memory.map_T_base), memory.read(Pose(np.full(3, np.nan)))
    assert np.array_equal(good.position, bad.position) and good.place_id == bad.place_id


def test_the_grid_map_lets_doors_pass_and_walls_not():
    grid = walked(len(grid_walk.CELLS)).grid_map()

    def cell(i: int, j: int) -> int:
        x, y, _ = grid_walk.center(i, j)
        column, row = int(np.floor(x - grid.origin[0])), int(np.floor(y - grid.origin[1]))
        return int(grid.cells[row, column])

    assert (cell(7, 3), cell(3, 3), cell(7, 1), cell(2, 2)) == (0, 0, 100, 100)


def test_every_command_is_told_once_however_it_came():
    memory = walked(20)
    told: list[Command] = []
    memory.on_command.append(told.append)
    key = memory.scene.objects("key")[0].id
    memory.forget("object", key)
    memory.note("tea")
    memory.apply(Command("note", {"text": "coffee"}))
    memory.apply(Command("forget", {"kind": "episode", "id": 0}))
    assert [(c.name, dict(c.arguments)) for c in told] == [
        ("forget", {"kind": "object", "id": key}),
        ("note", {"text": "tea"}),
        ("note", {"text": "coffee"}),
        ("forget", {"kind": "episode", "id": 0}),
    ]
    json.dumps([dict(c.arguments) for c in told])


def test_commands_that_were_told_rebuild_the_same_memory():
    memory, copy = walked(15), walked(15)
    told: list[Command] = []
    memory.on_command.append(told.append)
    memory.forget("object", memory.scene.objects("key")[0].id)
    memory.note("the cat was here")
    for command in told:
        copy.apply(Command(command.name, json.loads(json.dumps(dict(command.arguments)))))
    walked(30, memory, 15)
    walked(30, copy, 15)
    assert copy.digest() == memory.digest() != walked(30).digest()


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (Command("forgive", {}), "forget, note"),
        (Command("forget", {"kind": "object"}), "id"),
        (Command("note", {"words": "x"}), "text"),
        (Command("note", {"text": ""}), "words"),
        (Command("forget", {"kind": "wall", "id": 1}), "object, episode"),
        (Command("forget", {"kind": "object", "id": 999}), "no object 999"),
        (Command("forget", {"kind": "episode", "id": 999}), "no episode 999"),
    ],
)
def test_a_command_that_makes_no_sense_changes_nothing_and_nobody_is_told(command: Command, word: str):
    memory = walked(10)
    told: list[Command] = []
    memory.on_command.append(told.append)
    before = memory.digest()
    with pytest.raises(InputError, match=word):
        memory.apply(command)
    assert told == [] and memory.digest() == before


def test_a_forgotten_object_that_is_seen_again_is_another():
    memory = walked(10)
    key = memory.scene.objects("key")[0].id
    memory.forget("object", key)
    assert memory.recall(Query(kind="object", label="key")) == []
    for step in range(60, 70):
        memory.write(grid_walk.percept(step))
    again = memory.recall(Query(kind="object", label="key"))
    assert len(again) <= 1 and all(a.id != key for a in again)


def test_info_is_json_and_tells_what_is_in_it():
    memory = walked(30)
    memory.write(grid_walk.percept(3))
    facts = json.loads(json.dumps(memory.info()))
    assert facts["objects"] == len(memory.scene.objects()) and facts["rooms"] == len(memory.scene.rooms())
    assert facts["voxels"] == len(memory.octree) and facts["episodes"] == len(memory.episodes)
    assert (facts["writes"], facts["rejected"]) == (30, 1)
    assert facts["first_stamp"] == grid_walk.STEP_NS and facts["last_stamp"] == 30 * grid_walk.STEP_NS
    assert "green key" in facts["labels"]
    assert facts["config"]["octree"]["resolution"] == 1.0
    assert facts["digest"] == memory.digest()
    assert "NaN" not in json.dumps(facts) and "Infinity" not in json.dumps(facts)


def test_an_empty_memory_can_be_described():
    facts = Memory().info()
    assert (facts["voxels"], facts["episodes"], facts["seconds"]) == (0, 0, 0.0)


def test_snapshots_come_back_as_images():
    memory = Memory(grid_walk.config())
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, :30] = (220, 30, 40)
    receipt = memory.write(grid_walk.percept(0, snapshot=image))
    back = memory.snapshot(receipt.episode_id)
    assert back is not None and back.shape == image.shape
    assert np.abs(back.astype(int) - image).mean() < 4
    assert memory.snapshot(77) is None
    memory.forget("episode", receipt.episode_id)
    assert memory.snapshot(receipt.episode_id) is None


def test_large_snapshots_are_made_smaller():
    memory = Memory(grid_walk.config())
    receipt = memory.write(grid_walk.percept(0, snapshot=np.zeros((600, 1280, 3), np.uint8)))
    back = memory.snapshot(receipt.episode_id)
    assert back is not None and back.shape == (300, 640, 3)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: OctreeConfig(resolution=0.0), r"octree\.resolution"),
        (lambda: OctreeConfig(miss=0.4), r"octree\.miss"),
        (lambda: OctreeConfig(clamp=(1.0, 2.0)), r"octree\.clamp"),
        (lambda: NavigationConfig(robot_height=0.1, step_height=0.2), "step_height"),
        (lambda: NavigationConfig(robot_radius=-1.0), r"navigation\.robot_radius"),
        (lambda: StoreConfig(compression=0), r"store\.compression"),
        (lambda: StoreConfig(max_pending=0), r"store\.max_pending"),
    ],
)
def test_wrong_settings_say_what_is_wrong(make, word: str):
    with pytest.raises(ConfigError, match=word):
        make()


def test_the_package_and_its_settings_are_imported_without_torch_or_opencv():
    code = "import embodied_mem.memory, sys; embodied_mem.memory.Memory; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "gymnasium", "open3d", "cv2", "rosbags", "pickle5"} & set(loaded.split())
    light = "import embodied_mem.memory, sys; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", light], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

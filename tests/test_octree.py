"""The octree's promises: labels, stamps, levels, ground plans, rays, files, and clear errors."""

from __future__ import annotations

import numpy as np
import pytest

from embodied_mem.errors import ConfigError, InputError, StoreError
from embodied_mem.memory.octree import Octree
from embodied_mem.memory.octree import segments as octree_segments
from embodied_mem.memory.octree import states as octree_states
from embodied_mem.memory.octree.blocks import block_keys
from embodied_mem.memory.octree.types import LogOddsSteps


def furnished(seed: int = 0) -> Octree:
    """A small map with labels, stamps and references, seen in three scans."""
    rng = np.random.default_rng(seed)
    tree = Octree(0.1)
    for stamp in (10, 20, 30):
        points = rng.uniform(-2, 2, (300, 3))
        tree.integrate(points, rng.uniform(-0.5, 0.5, 3), labels=rng.integers(0, 5, 300), stamp=stamp)
    found = tree.voxels()
    tree.refer(found.centers[::7], np.arange(len(found.centers[::7])))
    return tree


def test_integer_steps_hold_octomaps_log_odds_exactly():
    steps = LogOddsSteps.fit(0.85, -0.4, (-2.0, 3.5))
    assert (steps.hit, steps.miss, steps.lowest, steps.highest) == (17, -8, -40, 70)
    assert np.isclose(steps.unit, 0.05)


@pytest.mark.parametrize("hit, miss, clamp", [(2.0, -2.0, (-2.0, 2.0)), (9.0, -9.0, (-1.0, 1.0))])
def test_one_look_decides_where_a_hit_spans_the_clamp(hit, miss, clamp):
    tree = Octree(1.0, hit=hit, miss=miss, clamp=clamp)
    here = np.array([[0.5, 0.5, 0.5]])
    for seen in (True, False, False, True, True):
        tree.integrate_cells(here, np.array([seen]))
    assert tree.query(here)[0] == clamp[1]
    tree.clear([0, 0, 0], [1, 1, 1])
    tree.integrate_cells(here, np.array([False]))
    assert tree.query(here)[0] == clamp[0]


def test_unknown_is_nan_and_unlabelled_is_zero():
    tree = Octree()
    assert np.isnan(tree.query(np.zeros((2, 3)))).all()
    assert np.isnan(tree.query(np.array([[np.nan, 0, 0], [1e30, 0, 0]]), 6)).all()
    labels, weights = tree.label(np.zeros((2, 3)))
    assert labels.tolist() == weights.tolist() == [0, 0]
    assert len(tree) == 0 and tree.bounds() is None and len(tree.frontiers()) == 0
    assert tree.integrate(np.empty((0, 3)), [0, 0, 0]).points == 0
    assert tree.version == 0


def test_large_batches_of_queries_answer_as_small_ones_do():
    rng = np.random.default_rng(3)
    tree = Octree(0.1)
    for far in (0.0, 3.0, 500.0):  # the last one is too far away for a directory of all blocks
        tree.integrate(far + rng.uniform(-1, 1, (200, 3)), np.full(3, far))
        points = np.concatenate([rng.uniform(-1.5, 4.5, (20_000, 3)), far + rng.uniform(-1, 1, (20_000, 3))])
        points[::1000] = [np.nan, np.inf, -1e30]
        points = points.astype(np.float32)
        copy = Octree(0.1)  # it is never asked so much at once that it makes a directory
        copy.import_blocks(tree.export_blocks())
        small = np.concatenate([copy.query(part) for part in np.array_split(points, 2000)])
        np.testing.assert_array_equal(tree.query(points), small)
        assert np.isfinite(small).any() and np.isnan(small).any()


def test_labels_need_a_majority_and_leave_with_their_voxel():
    tree = Octree(1.0)
    here = np.array([[0.5, 0.5, 0.5]])
    for label in (3, 3, 7):
        tree.integrate_cells(here, np.array([True]), labels=np.array([label]))
    assert (tree.label(here)[0][0], tree.label(here)[1][0]) == (3, 1)
    for _ in range(2):
        tree.integrate_cells(here, np.array([True]), labels=np.array([7]))
    assert tree.label(here)[0][0] == 7
    while tree.query(here)[0] >= 0:
        tree.integrate_cells(here, np.array([False]))
    assert tree.label(here)[0][0] == 0


def test_a_label_that_was_out_of_view_for_an_hour_gives_way_to_the_next_one():
    second, hour = 10**9, 3600 * 10**9
    for away, label in ((hour // 2, 3), (2 * hour, 7)):
        tree = Octree(1.0)
        here, there = np.array([[0.5, 0.5, 0.5]]), np.array([[0.5, 0.5, 1.5]])
        for k in range(20):
            tree.integrate_cells(here, np.array([True]), labels=np.array([3]), stamp=k * second)
            tree.integrate_cells(there, np.array([True]), labels=np.array([3]), stamp=k * second)
        tree.integrate_cells(there, np.array([True]), stamp=away)  # seen, though not what it is
        for k in range(2):
            tree.integrate_cells(here, np.array([True]), labels=np.array([7]), stamp=away + k * second)
        assert tree.label(here)[0][0] == label
        tree.integrate_cells(there, np.array([True]), labels=np.array([7]), stamp=away + second)
        assert tree.label(there)[0][0] == label


def test_a_free_voxel_keeps_a_label_until_it_is_seen_without():
    tree = Octree(1.0)
    door = np.array([[0.5, 0.5, 0.5]])
    tree.integrate_cells(door, np.array([False]), labels=np.array([4]))
    assert tree.label(door)[0][0] == 4 and tree.query(door)[0] < 0
    tree.integrate_cells(door, np.array([False]))
    assert tree.label(door)[0][0] == 0


def test_stamps_and_changed_since():
    tree = Octree(1.0)
    a, b = np.array([[0.5, 0.5, 0.5]]), np.array([[20.5, 0.5, 0.5]])
    tree.integrate_cells(a, np.array([True]), stamp=100)
    tree.integrate_cells(b, np.array([True]), stamp=200)
    assert tree.voxels().stamps.tolist() == [100, 200]
    assert tree.changed_since(100).centers.tolist() == b.tolist()
    assert len(tree.changed_since(200)) == 0
    tree.integrate_cells(a, np.array([True]), stamp=300)
    assert tree.voxels().stamps.tolist() == [300, 200]


def test_what_looks_can_no_longer_change_is_still_seen_at_their_time():
    tree = Octree(1.0)
    points = np.array([[k + 0.5, 0.5, 0.5] for k in range(6)])
    for stamp in range(40):  # soon every voxel is at its clamp
        tree.integrate_cells(points, np.arange(6) < 3, labels=np.full(6, 7), stamp=stamp)
    before = tree.query(points).tolist()
    tree.integrate_cells(points[1:], np.arange(6)[1:] < 3, stamp=50)
    assert tree.query(points).tolist() == before
    assert tree.voxels(free=True).stamps[:3].tolist() == [39, 50, 50]
    tree.integrate_cells(points, np.ones(6, bool), stamp=60)  # and can still be changed
    assert (tree.query(points[3:]) > np.array(before)[3:]).all()


def test_evidence_fades_when_read_and_the_map_does_not_change():
    tree = Octree(1.0)
    here = np.array([[0.5, 0.5, 0.5], [9.5, 0.5, 0.5], [30.5, 0.5, 0.5]])
    tree.integrate_cells(here[:2], np.array([True, False]), stamp=5_000_000_000)
    fresh, digest = tree.query(here), tree.digest()
    later = tree.query(here, now=9_000_000_000, half_life=2.0)
    assert np.allclose(later[:2], fresh[:2] / 4) and np.isnan(later[2])
    assert (tree.query(here, now=1, half_life=2.0)[:2] == fresh[:2]).all()  # not older than now
    assert tree.digest() == digest and (tree.query(here)[:2] == fresh[:2]).all()
    for wrong in ({"now": 1}, {"now": 1, "half_life": 0.0}, {"now": 1, "half_life": 1.0, "level": 2}):
        with pytest.raises(InputError, match="decay"):
            tree.query(here, **wrong)


def test_references_stay_with_their_voxels():
    tree = Octree(1.0)
    points = np.array([[k + 0.5, 0.5, 0.5] for k in range(6)])
    tree.integrate_cells(points, np.ones(6, bool))
    assert tree.refer(points[[1, 4]], np.array([11, 44])) == 2
    tree.integrate_cells(points[[0, 2]], np.array([False, False]))
    tree.integrate_cells(points[[0, 2]], np.array([False, False]))
    tree.integrate_cells(points[[0, 2]], np.array([False, False]))
    found = tree.voxels()
    assert dict(zip(found.centers[:, 0].tolist(), found.references.tolist())) == {
        1.5: 11,
        3.5: -1,
        4.5: 44,
        5.5: -1,
    }
    assert tree.refer(points[[0]], np.array([9])) == 0


def test_ray_cast_stops_at_the_first_occupied_voxel():
    tree = Octree(0.1)
    wall = np.array([[1.05, y, z] for y in np.arange(-1, 1, 0.1) for z in np.arange(-1, 1, 0.1)]) + 1e-4
    tree.integrate(wall, [0, 0, 0], labels=np.full(len(wall), 6))
    directions = np.array([[1, 0, 0], [2, 0.4, -0.2], [-1, 0, 0], [0, 0, 0], [np.nan, 0, 1]])
    hits = tree.ray_cast([0.01, 0.01, 0.01], directions, 3.0)
    assert hits.hit.tolist() == [True, True, False, False, False]
    assert np.allclose(hits.points[:2, 0], 1.0, atol=1e-5)
    assert np.allclose(hits.distance[0], 0.99, atol=1e-5)
    assert hits.labels.tolist() == [6, 6, 0, 0, 0]
    assert np.allclose(hits.distance[2], 3.0)
    inside = tree.ray_cast(wall[:1], np.array([[0, 1, 0]]), 1.0)
    assert inside.hit[0] and inside.distance[0] == 0.0
    blocked = tree.ray_cast([0.01, 0.01, 0.01], directions[2:3], 3.0, stop_at_unknown=True)
    assert not blocked.hit[0] and blocked.distance[0] < 0.1
    short = tree.ray_cast([0.01, 0.01, 0.01], directions[:1], 0.5)
    assert not short.hit[0] and np.allclose(short.points[0], [0.51, 0.01, 0.01])


def test_traversable_looks_only_at_its_band():
    tree = Octree(0.1)
    low, table, lamp = [0.05, 0.05, 0.05], [0.15, 0.05, 0.75], [0.25, 0.05, 2.35]
    open_air = [[k * 0.1 + 0.05, 0.05, z] for k in range(4) for z in (0.45, 1.05)]
    points = np.array([low, table, lamp, *open_air])
    tree.integrate_cells(
        points, np.array([True] * 3 + [False] * len(open_air)), labels=np.array([0, 5] + [0] * 9)
    )
    plan = tree.traversable(0.0, robot_height=1.2, step_height=0.1)
    assert plan.cells.tolist() == [[0, 100, 0, 0]]
    assert plan.origin.tolist() == [0.0, 0.0] and plan.resolution == 0.1
    assert tree.traversable(0.0, robot_height=1.2, passable_labels=[5]).cells.tolist() == [[0, 0, 0, 0]]
    assert tree.traversable(0.0, robot_height=1.2, step_height=0.0).cells.tolist() == [[100, 100, 0, 0]]
    wide = tree.traversable(0.0, robot_height=1.2, robot_radius=0.15)
    assert wide.cells.tolist() == [[100, 100, 100, 0]]
    assert tree.traversable(50.0, robot_height=1.0).cells.shape == (0, 0)


def test_traversable_of_a_world_one_voxel_high():
    tree = Octree(1.0)
    cells = np.array([[0.5, -0.5, 0.5], [1.5, -0.5, 0.5], [1.5, -1.5, 0.5]])
    tree.integrate_cells(cells, np.array([False, True, False]))
    plan = tree.traversable(0.0, robot_height=1.0)
    assert plan.origin.tolist() == [0.0, -2.0]
    assert plan.cells.tolist() == [[-1, 0], [0, 100]]  # [iy, ix], y grows with iy


def test_traversable_keeps_storeys_apart():
    tree = Octree(0.5)
    ground, upstairs = np.array([[0.25, 0.25, 0.75]]), np.array([[0.25, 0.25, 3.75]])
    tree.integrate_cells(ground, np.array([False]))
    tree.integrate_cells(upstairs, np.array([True]))
    assert tree.traversable(0.0, robot_height=1.0).cells.tolist() == [[0]]
    assert tree.traversable(3.0, robot_height=1.0).cells.tolist() == [[100]]


def test_negative_coordinates_are_floored_and_bounds_are_tight():
    tree = Octree(0.5)
    tree.integrate_cells(np.array([[-0.01, -0.5, -0.51]]), np.array([True]))
    assert tree.voxels().centers.tolist() == [[-0.25, -0.25, -0.75]]
    lo, hi = tree.bounds()
    assert lo.tolist() == [-0.5, -0.5, -1.0] and hi.tolist() == [0.0, 0.0, -0.5]


def test_an_origin_inside_an_occupied_voxel_counts_as_passed_once():
    tree = Octree(0.1)
    origin = np.array([0.05, 0.05, 0.05])
    tree.integrate_cells(origin[None], np.array([True]))
    assert tree.query(origin[None])[0] == pytest.approx(0.85, abs=0.02)
    tree.integrate([[1.05, 0.05, 0.05], [0.05, 1.05, 0.05]], origin)
    assert tree.query(origin[None])[0] == pytest.approx(0.45, abs=0.02)  # one miss for both rays
    assert tree.num_occupied == 3
    found = tree.ray_cast(origin, np.array([[1.0, 0.0, 0.0]]), 5.0)
    assert found.hit[0] and found.distance[0] == 0.0
    tree.integrate(origin[None], origin)  # a ray of no length ends where it starts
    assert tree.query(origin[None])[0] == pytest.approx(1.3, abs=0.02)


def test_rays_that_hit_nothing_clear_to_the_range_and_end_on_nothing():
    tree = Octree(0.1)
    stats = tree.integrate([[8.05, 0.05, 0.05]], [0.05, 0.05, 0.05], hit=np.array([False]), max_range=3.0)
    assert (stats.free, stats.occupied, stats.dropped) == (30, 0, 0)
    assert (tree.query([[0.05, 0.05, 0.05], [2.95, 0.05, 0.05]]) < 0).all()
    assert np.isnan(tree.query([[3.15, 0.05, 0.05]])[0])
    beyond = Octree(0.1)
    assert beyond.integrate([[8.05, 0.05, 0.05]], [0.05, 0.05, 0.05], max_range=3.0) == stats
    assert beyond.digest() == tree.digest()


def test_maps_kilometres_away_and_long_rays():
    tree = Octree(0.05)
    for corner in np.array(np.meshgrid(*[[-2000.0, 2000.0]] * 3)).reshape(3, -1).T:
        tree.integrate(corner + np.array([[0.3, 0.2, 0.1], [80.0, 0, 0]]), corner + 0.01)
    assert len(tree.radius([2000.3, 2000.2, 2000.1], 0.1)) == 1
    assert tree.num_occupied == 16
    assert len(tree) > 8 * 1600
    assert len(tree.box([-2100] * 3, [2100] * 3, free=True)) == len(tree)


def test_version_and_export_name_what_changed():
    tree = furnished()
    before = tree.version
    tree.integrate_cells(np.array([[9.05, 9.05, 9.05]]), np.array([True]))
    assert tree.version > before
    changed = tree.export_blocks(before)
    assert len(changed) == 1 and changed[0] in tree.export_blocks()
    assert tree.export_blocks(tree.version) == []
    copy = Octree(0.1)
    copy.import_blocks(tree.export_blocks())
    assert copy.digest() == tree.digest()
    same, found = copy.voxels(free=True), tree.voxels(free=True)
    for name in ("centers", "log_odds", "labels", "stamps", "references"):
        assert (getattr(same, name) == getattr(found, name)).all()


def test_digest_is_about_the_map_not_its_history_of_rows():
    tree = furnished()
    scattered = Octree(0.1)
    rows = tree.export_blocks()
    for k in np.random.default_rng(1).permutation(len(rows)):
        scattered.import_blocks([rows[k]])
    assert scattered.digest() == tree.digest()
    assert furnished(1).digest() != tree.digest()
    scattered.integrate_cells(np.array([[50.0, 0, 0]]), np.array([True]))
    assert scattered.digest() != tree.digest()
    scattered.clear([49, -1, -1], [51, 1, 1])
    assert scattered.digest() == tree.digest()


def test_a_cleared_region_is_cleared_in_the_copy_too():
    tree = furnished()
    copy = Octree(0.1)
    copy.import_blocks(tree.export_blocks())
    before = tree.version
    assert tree.clear([-1, -1, -1], [1, 1, 1]) > 0
    copy.import_blocks(tree.export_blocks(before))
    assert copy.digest() == tree.digest()
    assert len(tree.box([-1, -1, -1], [1, 1, 1], free=True)) == 0
    assert len(tree) == len(copy) > 0


def test_saved_and_loaded_maps_are_the_same_and_go_on_alike(tmp_path):
    tree = furnished()
    tree.save(tmp_path / "map.octree")
    copy = Octree.load(tmp_path / "map.octree")
    assert copy.digest() == tree.digest() and copy.resolution == tree.resolution
    for each in (tree, copy):
        each.integrate(np.array([[1.0, 0.3, 0.2]]), [0, 0, 0], labels=np.array([2]), stamp=40)
    assert copy.digest() == tree.digest()


def test_three_state_files_keep_what_is_occupied_free_and_unknown(tmp_path):
    tree = furnished()
    tree.save(tmp_path / "full")
    tree.save(tmp_path / "states", three_state=True)
    copy = Octree.load(tmp_path / "states")
    found, same = tree.voxels(free=True), copy.voxels(free=True)
    assert (found.centers == same.centers).all()
    assert ((found.log_odds >= 0) == (same.log_odds >= 0)).all()
    assert set(np.round(same.log_odds, 3).tolist()) == {-2.0, 3.5}
    assert (tmp_path / "states").stat().st_size < 0.5 * (tmp_path / "full").stat().st_size
    copy.integrate([[1.0, 0.3, 0.2]], [0, 0, 0], labels=[2], stamp=40)
    assert copy.label([[1.0, 0.3, 0.2]])[0][0] == 2


@pytest.mark.parametrize("kind", ["empty", "noise", "all", "surface"])
def test_coded_states_come_back_as_they_were(kind):
    rng = np.random.default_rng(3)
    keys = np.sort(block_keys(rng.integers(-2, 3, (60, 3))))
    keys = np.unique(keys)[: 0 if kind == "empty" else None]
    three = np.full((len(keys), 512), 2, np.uint8)
    if kind == "noise":
        three = rng.integers(0, 3, three.shape).astype(np.uint8)
    elif kind == "surface":
        three[:, 100:] = 1
    coded = octree_states.encode_states(three, octree_states.preceding(keys))
    assert (octree_states.decode_states(coded, octree_states.preceding(keys)) == three).all()
    assert len(coded) < {"empty": 5, "noise": three.size * 0.27, "all": 200, "surface": 1500}[kind]


@pytest.mark.parametrize("three_state", [False, True])
def test_damaged_files_are_refused_whole(tmp_path, three_state):
    path = tmp_path / "map.octree"
    furnished().save(path, three_state=three_state)
    data = path.read_bytes()
    for cut in (0, 7, 20, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(StoreError):
            Octree.load(path)
    for at in range(0, len(data), max(1, len(data) // 40)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        with pytest.raises(StoreError):
            Octree.load(path)
    with pytest.raises(StoreError, match="cannot read"):
        Octree.load(tmp_path / "absent.octree")
    with pytest.raises(StoreError, match="cannot write"):
        furnished().save(tmp_path / "no" / "folder.octree")


def test_damaged_blocks_are_refused_and_leave_the_map_alone():
    tree = furnished()
    rows = tree.export_blocks()
    copy = Octree(0.1)
    copy.import_blocks(rows[:3])
    digest = copy.digest()
    key, payload = rows[5]
    for bad in (payload[:-1], payload[:40], payload[:100] + b"\x55" + payload[101:]):
        with pytest.raises(StoreError, match="damaged"):
            copy.import_blocks([*rows, (key, bad)])
        assert copy.digest() == digest


@pytest.mark.parametrize("scans", [3000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_records_are_reused_so_that_many_scans_do_not_leak(scans):
    rng = np.random.default_rng(3)
    tree = Octree(0.5)
    sizes = []
    for k in range(scans):
        points = rng.uniform(-4, 4, (40, 3))
        tree.integrate(points, rng.uniform(-2, 2, 3), labels=rng.integers(0, 4, 40), stamp=k)
        sizes.append(tree.nbytes)
    assert sizes[-1] <= 1.05 * max(sizes[:1000])
    segments = tree._store.records.segments
    assert segments.tail <= 1.3 * segments.held


def test_records_survive_that_their_pool_is_compacted(monkeypatch):
    trees = []
    for waste in (1.0, 1e9):
        monkeypatch.setattr(octree_segments, "WASTE", waste)
        trees.append(furnished())
        trees[-1].clear([-1, -1, -1], [1, 1, 1])
        for k in range(60):
            points = np.random.default_rng(k).uniform(-2, 2, (50, 3))
            trees[-1].integrate(points, [0, 0, 0], labels=np.arange(50) % 3, stamp=100 + k)
    assert trees[0].digest() == trees[1].digest()
    assert trees[0].nbytes < trees[1].nbytes


def test_memory_per_occupied_voxel_of_a_surface():
    rng = np.random.default_rng(0)
    tree = Octree(0.05)
    flat = rng.uniform(-3, 3, (200_000, 2))
    floor = np.column_stack([flat, np.full(len(flat), 0.02)])
    tree.integrate_cells(floor, np.ones(len(floor), bool), labels=np.full(len(floor), 1))
    assert tree.nbytes / tree.num_occupied < 30


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda t: t.integrate(np.zeros(3), [0, 0, 0]), r"shape \(N, 3\)"),
        (lambda t: t.integrate(np.zeros((2, 3), complex), [0, 0, 0]), "real numbers"),
        (lambda t: t.integrate(np.zeros((2, 3)), [0, 0]), "origin"),
        (lambda t: t.integrate(np.zeros((2, 3)), [np.nan, 0, 0]), "origin"),
        (lambda t: t.integrate(np.zeros((2, 3)), [np.inf, 0, 0]), "origin"),
        (lambda t: t.integrate(np.zeros((2, 3)), [0, 0, 0], max_range=0.0), "max_range"),
        (lambda t: t.integrate(np.zeros((2, 3)), [0, 0, 0], labels=[1]), "labels"),
        (lambda t: t.integrate(np.zeros((2, 3)), [0, 0, 0], labels=[1, -1]), "0..65535"),
        (lambda t: t.integrate(np.zeros((2, 3)), [0, 0, 0], hit=np.ones(2)), "bool"),
        (lambda t: t.integrate_cells(np.zeros((2, 3)), np.ones(3, bool)), "hit"),
        (lambda t: t.query(np.zeros((2, 2))), r"shape \(N, 3\)"),
        (lambda t: t.query(np.zeros((2, 3)), 17), "level"),
        (lambda t: t.box([0, 0], [1, 1, 1]), "lo"),
        (lambda t: t.ray_cast([0, 0, 0], np.ones((1, 3)), np.inf), "max_range"),
        (lambda t: t.refer(np.zeros((2, 3)), [1]), "references"),
    ],
)
def test_wrong_input_is_one_clear_error_and_changes_nothing(call, words):
    tree = Octree()
    with pytest.raises(InputError, match=words):
        call(tree)
    assert tree.version == 0 and len(tree) == 0


@pytest.mark.parametrize(
    "settings",
    [{"resolution": 0}, {"resolution": np.nan}, {"hit": -1}, {"miss": 0}, {"clamp": (1, 2)}, {"threads": 0}],
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ConfigError):
        Octree(**settings)

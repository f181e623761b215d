"""The octree is small, counts all that it takes, loses nothing as it grows, and reads its older files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied_mem.memory.octree import Octree
from embodied_mem.memory.octree import segments as octree_segments
from embodied_mem.memory.octree import stamps as octree_stamps
from embodied_mem.memory.octree.bench import bytes_per_voxel, house_scans
from embodied_mem.memory.octree.octants import UNKNOWN, load_blocks
from embodied_mem.memory.octree.segments import Segments

HERE = Path(__file__).parent
IS_RANDOM = settings().max_examples == 1000
QUICK = settings(deadline=None) if IS_RANDOM else settings(max_examples=60, deadline=None)


def test_a_house_takes_at_most_16_bytes_per_occupied_voxel_and_30_with_all_that_voxels_carry():
    found = bytes_per_voxel(house_scans(12, 320, 240))
    assert 4 < found["occupancy"] <= 16
    assert found["occupancy"] < found["stamps"] < found["labels"] < found["all"] <= 30


def arrays_of(thing: object, seen: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """All arrays that an object holds, however deep, by identity; of views what they look at."""
    if isinstance(thing, np.ndarray):
        while isinstance(thing.base, np.ndarray):
            thing = thing.base
        seen[id(thing)] = thing
    elif isinstance(thing, (tuple, list, dict)):
        for part in thing.values() if isinstance(thing, dict) else thing:
            arrays_of(part, seen)
    elif hasattr(thing, "__dict__"):
        for part in vars(thing).values():
            arrays_of(part, seen)
    return seen


def test_the_bytes_reported_are_those_of_every_array_that_the_map_holds():
    rng = np.random.default_rng(0)
    tree = Octree(0.1)
    for labels in (None, np.full(400, 3)):
        for stamp in (1, 2, 3):
            tree.integrate(rng.uniform(-3, 3, (400, 3)), [0, 0, 0], labels=labels, stamp=stamp)
            tree.query(rng.uniform(-3, 3, (50_000, 3))), tree.frontiers()
            tree.query(np.zeros((1, 3)), 5), tree.label(np.zeros((1, 3)), 2)
            tree.labelled([3])
            held = arrays_of([tree._levels, tree._labelled], {})
            small = 1 << 13  # heads of lists, the corner of a directory
            assert 0 <= sum(a.nbytes for a in held.values()) - tree.nbytes < small
    tree.refer(tree.voxels().centers[:5], np.arange(5))
    held = arrays_of([tree._levels, tree._labelled], {})  # which hold the store too
    assert 0 <= sum(a.nbytes for a in held.values()) - tree.nbytes < small


def test_growth_leaves_little_room_unused():
    tree = Octree(1.0)
    rng = np.random.default_rng(1)
    for k in range(60):
        points = rng.integers(-90, 90, (300, 3)) + 0.5
        tree.integrate_cells(points, rng.random(300) < 0.7, labels=rng.integers(0, 4, 300), stamp=k)
    store = tree._store
    assert store.count > 1000
    assert len(store.keys) <= 1.13 * store.count
    for pool, segments in (
        (store.log_odds.words, store._segments),
        (store.records.columns.labels, store.records.segments),
    ):
        assert segments.held <= segments.tail <= len(pool) <= 1.27 * segments.held + 64


STEP = st.integers(UNKNOWN, 127)
CORNER = st.tuples(*[st.integers(0, 7)] * 3)


@QUICK
@given(st.lists(st.tuples(CORNER, CORNER, st.sampled_from(["hit", "miss", "clear", "look"])), max_size=14))
def test_octants_that_become_uneven_and_even_again_are_stored_as_what_they_are(operations):
    tree = Octree(1.0)
    steps = tree._steps
    truth = np.full((2, 8, 8, 8), UNKNOWN, np.int64)  # two blocks, x = 0..7 and x = 8..15
    whole = truth.reshape(16, 8, 8)
    for stamp, (a, b, what) in enumerate(operations):
        lo, hi = np.minimum(a, b) * [2, 1, 1], np.maximum(a, b) * [2, 1, 1] + [1, 0, 0]
        part = whole[lo[0] : hi[0] + 1, lo[1] : hi[1] + 1, lo[2] : hi[2] + 1]
        if what == "clear":
            assert tree.clear(lo, hi + 1) == np.count_nonzero(part != UNKNOWN)
            part[:] = UNKNOWN
            continue
        cells = np.stack(np.meshgrid(*[np.arange(m, n + 1) for m, n in zip(lo, hi)], indexing="ij"), axis=-1)
        hit = np.full(cells.shape[:3], what == "hit")
        if what == "look":
            hit = cells.sum(axis=-1) % 3 == 0
        tree.integrate_cells(cells.reshape(-1, 3) + 0.5, hit.reshape(-1), stamp=stamp)
        after = np.where(part == UNKNOWN, 0, part) + np.where(hit, steps.hit, steps.miss)
        part[:] = np.clip(after, steps.lowest, steps.highest)
    store = tree._store
    keys = np.array([(1 << 62) | (1 << 41) | (1 << 20), (1 << 62) + (1 << 42) | (1 << 41) | (1 << 20)])
    rows = store.find(keys)
    there = rows >= 0
    assert (truth[~there] == UNKNOWN).all()
    assert (load_blocks(rows[there], store.log_odds).reshape(-1, 8, 8, 8) == truth[there]).all()
    octants = truth.reshape(2, 4, 2, 4, 2, 4, 2).transpose(0, 1, 3, 5, 2, 4, 6).reshape(2, 64, 8)
    uneven = (octants != octants[:, :, :1]).any(axis=2)
    words = np.packbits(uneven[there], axis=1, bitorder="little").view("<u8").ravel()
    assert (store.log_odds.uneven[rows[there]] == words).all()
    sizes = store.log_odds.sizes[rows[there]]
    assert (uneven[there].sum(axis=1) <= sizes).all() and (sizes <= uneven[there].sum(axis=1) + 3).all()
    # Every way to read a voxel finds the same.
    centers = np.stack(np.meshgrid(np.arange(16), np.arange(8), np.arange(8), indexing="ij"), -1) + 0.5
    flat, answers = whole.reshape(-1), tree.query(centers.reshape(-1, 3))
    assert (np.isnan(answers) == (flat == UNKNOWN)).all()
    assert np.allclose(answers[flat != UNKNOWN], flat[flat != UNKNOWN] * steps.unit)
    many = tree.query(np.tile(centers.reshape(-1, 3), (3, 1)))  # through the directory
    np.testing.assert_array_equal(many, np.tile(answers, 3))
    listed = tree.voxels(free=True)
    assert (listed.log_odds == answers[flat != UNKNOWN]).all()
    for level in (1, 2, 3):
        edge = 1 << level
        shape = (16 // edge, edge, 8 // edge, edge, 8 // edge, edge)
        nodes = whole.reshape(shape).max(axis=(1, 3, 5)).reshape(-1)
        found = tree.query(centers[::edge, ::edge, ::edge].reshape(-1, 3), level)
        np.testing.assert_array_equal(np.isnan(found), nodes == UNKNOWN)
        assert np.allclose(found[nodes != UNKNOWN], nodes[nodes != UNKNOWN] * steps.unit)


@pytest.mark.parametrize("waste", [1.0, octree_segments.WASTE])
@QUICK
@given(st.lists(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 40)), max_size=8), max_size=12))
def test_segments_never_overlap_and_keep_what_is_in_them(waste, rounds):
    saved, octree_segments.WASTE = octree_segments.WASTE, waste
    try:
        segments, pool = Segments(4, 12), np.zeros(0, np.int64)
        kept: dict[int, tuple[int, int]] = {}
        for k, wanted in enumerate(rounds):
            changes = dict(wanted)
            rows, counts = np.array(list(changes), np.int64), np.array(list(changes.values()), np.int64)
            slots = segments.refit(rows, counts, len(pool))
            if slots is not None:
                pool[: len(slots)] = pool[slots]
            pool = np.concatenate([pool, np.zeros(max(segments.tail - len(pool), 0), np.int64)])
            for row, count in changes.items():
                kept[row] = (k * 100 + row, count)
                pool[segments.starts[row] : segments.starts[row] + count] = k * 100 + row
                assert count <= segments.sizes[row] < count + 4
            used = np.zeros(len(pool), int)
            for row in range(12):
                part = slice(segments.starts[row], segments.starts[row] + segments.sizes[row])
                used[part] += 1
                assert row in kept or segments.sizes[row] == 0
            for row, (value, count) in kept.items():
                assert (pool[segments.starts[row] : segments.starts[row] + count] == value).all()
            assert used.max(initial=0) <= 1 and used.sum() == segments.held
    finally:
        octree_segments.WASTE = saved


def test_voxels_keep_their_stamps_when_the_table_of_stamps_forgets(monkeypatch):
    monkeypatch.setattr(octree_stamps, "SLACK", 3)
    tree = Octree(1.0)
    expected = {}
    rng = np.random.default_rng(2)
    for stamp in range(10, 400):
        cells = np.unique(rng.integers(0, 12, (4, 3)), axis=0)
        tree.integrate_cells(cells + 0.5, np.ones(len(cells), bool), stamp=stamp * 10**15)
        expected.update({tuple(c): stamp * 10**15 for c in cells.tolist()})
    found = tree.voxels()
    where = np.floor(found.centers).astype(int)
    assert dict(zip(map(tuple, where.tolist()), found.stamps.tolist())) == expected
    assert len(tree._store.records.stamps._values) < 2 * len(set(expected.values())) + 100


def test_a_map_pays_only_for_what_its_voxels_carry():
    cells = np.stack(np.meshgrid(*[np.arange(16)] * 3), axis=-1).reshape(-1, 3) + 0.5
    tree = Octree(1.0)
    tree.integrate_cells(cells, np.ones(len(cells), bool), stamp=7)
    held = tree._store.records
    assert not any(held.has(name) for name in ("labels", "stamps", "references"))
    assert set(tree.voxels().stamps.tolist()) == {7}
    assert set(tree.voxels().references.tolist()) == {-1} and not tree.label(cells)[0].any()
    one = cells[:1]
    tree.integrate_cells(one, np.array([True]), stamp=9)
    assert held.has("stamps") and not held.has("labels")
    assert sorted(set(tree.voxels().stamps.tolist())) == [7, 9]
    tree.refer(one, np.array([5]))
    tree.integrate_cells(one, np.array([True]), labels=np.array([3]), stamp=9)
    found = tree.box(one[0] - 0.5, one[0] + 0.5)
    assert (found.labels.tolist(), found.stamps.tolist(), found.references.tolist()) == ([3], [9], [5])
    unlabelled = Octree(1.0)
    unlabelled.integrate_cells(one, np.array([True]))
    assert unlabelled.traversable(0.0, robot_height=1.0, passable_labels=[0]).cells.tolist() == [[0]]
    assert unlabelled.traversable(0.0, robot_height=1.0, passable_labels=[3]).cells.tolist() == [[100]]
    others = tree.voxels().select(tree.voxels().stamps == 7)
    assert len(others) == len(cells) - 1 and not others.labels.any() and (others.references == -1).all()


def test_a_cleared_map_holds_no_log_odds_and_no_records():
    rng = np.random.default_rng(4)
    tree = Octree(0.1)
    for stamp in (1, 2):
        tree.integrate(rng.uniform(-2, 2, (500, 3)), [0, 0, 0], labels=np.full(500, 2), stamp=stamp)
    assert tree.clear([-9, -9, -9], [9, 9, 9]) > 1000
    store = tree._store
    assert store._segments.held == store.records.segments.held == 0
    assert len(tree) == tree.num_occupied == 0 and len(tree.voxels(free=True)) == 0
    assert tree.digest() == Octree(0.1).digest()
    size = tree.nbytes
    tree.integrate(rng.uniform(-1, 1, (500, 3)), [0, 0, 0], labels=np.full(500, 2), stamp=3)
    assert tree.nbytes <= 1.02 * size and len(tree) > 1000


def test_a_block_named_twice_is_what_it_was_last():
    tree, other, copy = Octree(1.0), Octree(1.0), Octree(1.0)
    tree.integrate_cells([[0.5, 0.5, 0.5]], np.array([True]), labels=[4], stamp=3)
    other.integrate_cells([[0.5, 0.5, 0.5], [1.5, 3.5, 0.5]], np.array([False, True]), stamp=5)
    copy.import_blocks([*tree.export_blocks(), *other.export_blocks()])
    assert copy.digest() == other.digest()


# Both files were written by the first release of their format.
OLD = {
    "format_2.octree": "7c73801e990bb06ae6308281e3bea0aa9e692388c76878012e03598c4815b708",
    "format_2_states.octree": "29f7f6f6a270a7b39b6897e78cffa2c156c958c3622947e71d977597824f86f5",
}


@pytest.mark.parametrize("name", OLD)
def test_files_written_before_open_and_are_written_the_same_again(name, tmp_path):
    tree = Octree.load(HERE / name)
    assert tree.digest().hex() == OLD[name]
    assert (len(tree), tree.num_occupied) == (1557, 177)
    tree.save(tmp_path / name, three_state="states" in name)
    assert (tmp_path / name).read_bytes() == (HERE / name).read_bytes()
    found = tree.voxels(free=True)
    if "states" not in name:
        assert set(found.stamps.tolist()) == {10, 20, 30, 40}
        assert np.count_nonzero(found.references >= 0) == 26
        assert tree.label([[0.05, 0.05, 0.05]])[0].tolist() == [4]


@pytest.mark.slow
def test_a_read_only_install_compiles_its_kernels_once_into_another_folder(tmp_path):
    package, cache = Path(octree_segments.__file__).parents[2], tmp_path / "cache"
    place = tmp_path / "site"
    shutil.copytree(package, place / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    inside = [place, *place.rglob("*")]
    for path in inside:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in inside}
    env = {**os.environ, "PYTHONPATH": str(place), "NUMBA_CACHE_DIR": str(cache)}
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    code = (
        "from embodied_mem.memory.octree import Octree, octree; octree.warm_up(); tree = Octree(0.1);"
        "tree.integrate([[1, 1, 1]], [0, 0, 0]); print(octree.__file__, tree.num_occupied)"
    )

    def compiled() -> dict[Path, int]:
        run = [sys.executable, "-c", code]
        done = subprocess.run(run, env=env, cwd=tmp_path, check=True, capture_output=True, text=True)
        where, occupied = done.stdout.split()
        assert Path(where).is_relative_to(place) and occupied == "1"
        return {path: path.stat().st_mtime_ns for path in cache.rglob("*.nbc")}

    first = compiled()
    assert first and compiled() == first
    # A superuser may write anywhere, so look: nothing was written beside the code.
    assert {path: path.stat().st_mtime_ns for path in [place, *place.rglob("*")]} == before
    for path in inside:
        path.chmod(0o755)

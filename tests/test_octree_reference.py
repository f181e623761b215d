"""The octree agrees with a brute-force reference, whatever it is fed."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from octree_reference import ReferenceOctree, voxel_of, voxels_passed

from embodied_mem.memory.octree import Octree
from embodied_mem.memory.octree import scan as octree_scan


@pytest.fixture(scope="module", params=["dense", "sparse"], autouse=True)
def kernels(request):
    """Every promise is kept by both ways to mark a scan."""
    few, octree_scan.FEW = octree_scan.FEW, 1 if request.param == "dense" else 1 << 30
    yield
    octree_scan.FEW = few


IS_RANDOM = settings().max_examples == 1000
QUICK = settings(deadline=None) if IS_RANDOM else settings(max_examples=60, deadline=None)

# Coordinates that hurt: on voxel faces, at zero, negative, tiny, and anything in between.
ON_GRID = st.integers(-24, 24).map(lambda k: k * 0.05)
COORDINATE = st.one_of(
    ON_GRID,
    st.integers(-12, 12).map(lambda k: k * 0.1 + 0.025),
    st.floats(-1.5, 1.5, width=32),
    st.sampled_from([0.0, -0.0, 1e-30, -1e-30, 1e-45]),
)
POINT = st.tuples(COORDINATE, COORDINATE, COORDINATE)
WILD = st.one_of(COORDINATE, st.sampled_from([math.nan, math.inf, -math.inf, 1e30, -4e5, 4.2e5, 3e38]))


def pair(resolution: float = 0.1) -> tuple[Octree, ReferenceOctree]:
    tree = Octree(resolution)
    steps = tree._steps
    return tree, ReferenceOctree(resolution, steps.hit, steps.miss, steps.lowest, steps.highest)


def assert_same(tree: Octree, reference: ReferenceOctree) -> None:
    found = tree.voxels(occupied=True, free=True)
    where = np.floor(found.centers.astype(np.float64) / tree.resolution).astype(int)
    steps = np.rint(found.log_odds / tree._steps.unit).astype(int)
    assert dict(zip(map(tuple, where.tolist()), steps.tolist())) == reference.steps
    labels, _ = tree.label(found.centers)
    assert (labels == found.labels).all()
    expected = [reference.labels.get(v, (0, 0)) for v in map(tuple, where.tolist())]
    weights = tree.label(found.centers)[1]
    assert list(zip(labels.tolist(), weights.tolist())) == expected
    occupied = found.log_odds >= 0
    stamps = [reference.stamps[v] for v in map(tuple, where[occupied].tolist())]
    assert found.stamps[occupied].tolist() == stamps
    assert len(tree) == len(reference.steps)
    assert tree.num_occupied == sum(s >= 0 for s in reference.steps.values())


@st.composite
def scans(draw, coordinate=COORDINATE):
    origin = draw(POINT)
    points = draw(st.lists(st.tuples(coordinate, coordinate, coordinate), max_size=12))
    n = len(points)
    hit = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    return np.array(points, np.float64).reshape(-1, 3), origin, np.array(hit, bool), np.array(labels, int)


@QUICK
@given(st.lists(scans(), max_size=4), st.sampled_from([math.inf, 0.3, 1.0, 1e-3]))
def test_scans_agree_with_the_reference(batch, max_range):
    tree, reference = pair()
    for stamp, (points, origin, hit, labels) in enumerate(batch):
        stats = tree.integrate(points, origin, hit=hit, labels=labels, stamp=stamp, max_range=max_range)
        expected = reference.integrate(points, origin, hit, labels, stamp, max_range)
        assert (stats.free, stats.occupied, stats.dropped) == expected
        assert stats.points == len(points)
    assert_same(tree, reference)


@QUICK
@given(scans(WILD))
def test_points_that_are_not_finite_or_off_the_world_are_dropped_and_counted(scan):
    points, origin, hit, labels = scan
    tree, reference = pair()
    stats = tree.integrate(points, origin, hit=hit, labels=labels, max_range=2.0)
    # 4e5 m is inside the world of 0.1 m voxels, the others are not.
    assert stats.dropped == int((~(np.abs(points) < 8.3e5).all(axis=1)).sum())
    assert (stats.free, stats.occupied, stats.dropped) == reference.integrate(
        points, origin, hit, labels, 0, 2.0
    )
    assert_same(tree, reference)


CELLS = st.lists(st.tuples(POINT, st.booleans(), st.integers(0, 3)), max_size=10)
CORNERS = st.tuples(POINT, POINT)


@QUICK
@given(st.lists(st.one_of(scans(), CELLS, CORNERS), max_size=10))
def test_any_sequence_of_operations_agrees_with_the_reference(operations):
    tree, reference = pair()
    for stamp, operation in enumerate(operations):
        if isinstance(operation, list):
            points = np.array([c[0] for c in operation], np.float64).reshape(-1, 3)
            hit = np.array([c[1] for c in operation], bool)
            labels = np.array([c[2] for c in operation], int)
            tree.integrate_cells(points, hit, labels=labels, stamp=stamp)
            reference.integrate_cells(points, hit, labels, stamp)
        elif len(operation) == 4:
            points, origin, hit, labels = operation
            tree.integrate(points, origin, hit=hit, labels=labels, stamp=stamp)
            reference.integrate(points, origin, hit, labels, stamp, math.inf)
        else:
            lo = np.minimum(*map(np.array, operation)) + 0.013
            hi = np.maximum(*map(np.array, operation)) + 0.013
            inside = [
                v for v in reference.steps if all(lo[a] <= (v[a] + 0.5) * 0.1 <= hi[a] for a in range(3))
            ]
            assert tree.clear(lo, hi) == len(inside)
            reference.clear(inside)
    assert_same(tree, reference)
    copy = Octree(0.1)
    copy.import_blocks(reversed(tree.export_blocks()))
    assert copy.digest() == tree.digest()
    assert_same(copy, reference)


@QUICK
@given(scans(), st.integers(1, 7), st.lists(POINT, min_size=1, max_size=6))
def test_inner_levels_answer_the_largest_log_odds_and_the_dominant_label(scan, level, points):
    tree, reference = pair()
    tree.integrate(scan[0], scan[1], hit=scan[2], labels=scan[3])
    reference.integrate(scan[0], scan[1], scan[2], scan[3], 0, math.inf)
    answers = tree.query(points, level)
    labels, weights = tree.label(points, level)
    for i, point in enumerate(points):
        steps, label, weight = reference.node(voxel_of(point, 0.1), level)
        assert np.isnan(answers[i]) if steps is None else answers[i] == np.float32(steps * tree._steps.unit)
        assert (labels[i], weights[i]) == (label, weight)


@QUICK
@given(scans(), POINT, POINT, st.floats(0.01, 2))
def test_box_and_radius_find_the_voxels_whose_centres_are_inside(scan, a, b, r):
    tree, reference = pair()
    tree.integrate(scan[0], scan[1], hit=scan[2])
    reference.integrate(scan[0], scan[1], scan[2], scan[3] * 0, 0, math.inf)
    lo, hi = np.minimum(a, b) + 0.013, np.maximum(a, b) + 0.013
    centre = {v: (np.array(v) + 0.5) * 0.1 for v in reference.steps}
    inside = {v for v, c in centre.items() if (lo <= c).all() and (c <= hi).all()}
    for flags in ({"occupied": True, "free": True}, {}, {"occupied": False, "free": True}):
        found = tree.box(lo, hi, **flags)
        want = {
            v
            for v in inside
            if flags.get("occupied" if reference.steps[v] >= 0 else "free", not flags)
            and (flags or reference.steps[v] >= 0)
        }
        assert {voxel_of(c, 0.1) for c in found.centers} == want
        assert len(found) == len(want)
    near = {v for v, c in centre.items() if math.dist(c, a) <= r - 1e-6}
    maybe = {v for v, c in centre.items() if math.dist(c, a) <= r + 1e-6}
    got = {voxel_of(c, 0.1) for c in tree.radius(a, r, free=True).centers}
    assert near <= got <= maybe


@QUICK
@given(scans())
def test_frontiers_are_free_voxels_beside_the_unknown(scan):
    tree, reference = pair()
    tree.integrate(scan[0], scan[1], hit=scan[2])
    reference.integrate(scan[0], scan[1], scan[2], scan[3] * 0, 0, math.inf)
    sides = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    want = {
        v
        for v, s in reference.steps.items()
        if s < 0 and any(tuple(np.add(v, d)) not in reference.steps for d in sides)
    }
    found = tree.frontiers()
    assert {voxel_of(c, 0.1) for c in found} == want
    assert len(found) == len(want)


def overlap(origin, end, voxel, resolution: float, margin: float) -> float:
    """Part of the segment inside a voxel that is widened by a margin [m], in rational arithmetic."""
    near, far = Fraction(0), Fraction(1)
    for o, e, v in zip(origin, end, voxel):
        o, e = Fraction(float(np.float32(o))), Fraction(float(np.float32(e)))
        low = v * Fraction(resolution) - Fraction(margin)
        high = (v + 1) * Fraction(resolution) + Fraction(margin)
        if o == e:
            if not low <= o <= high:
                return -1.0
            continue
        a, b = sorted(((low - o) / (e - o), (high - o) / (e - o)))
        near, far = max(near, a), min(far, b)
    return float(far - near)


@QUICK
@given(POINT, POINT)
def test_rays_visit_what_the_exact_segment_crosses_and_nothing_else(origin, end):
    passed = voxels_passed(origin, end, 0.1)
    tree = Octree(0.1)
    tree.integrate([end], origin, hit=np.array([False]))
    found = {voxel_of(c, 0.1) for c in tree.voxels(free=True).centers}
    assert found == set(passed)
    lo = np.minimum(voxel_of(origin, 0.1), voxel_of(end, 0.1)) - 1
    hi = np.maximum(voxel_of(origin, 0.1), voxel_of(end, 0.1)) + 2
    if np.prod(hi - lo) > 4000:
        return
    stop = voxel_of(end, 0.1)
    for voxel in np.ndindex(*(hi - lo)):
        v = tuple(int(c) for c in lo + voxel)
        # OctoMap may leave out the voxel before the end's where the end lies on the face between.
        at_end = overlap(end, end, v, 0.1, 1e-5) >= 0
        if v != stop and not at_end and overlap(origin, end, v, 0.1, -1e-5) > 0:
            assert v in found, f"{v} is crossed and was missed"
    for v in found:
        assert overlap(origin, end, v, 0.1, 1e-5) >= 0, f"{v} is not on the segment"


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [-1, 1])
def test_rays_along_an_axis_visit_one_line_of_voxels(axis, sign):
    tree = Octree(0.1)
    end = np.full(3, 0.05)
    end[axis] += sign * 1.0
    stats = tree.integrate([end], [0.05, 0.05, 0.05])
    assert (stats.free, stats.occupied) == (10, 1)
    lines = np.floor(tree.voxels(free=True).centers / 0.1).astype(int)
    assert (np.delete(lines, axis, axis=1) == 0).all()
    assert sorted(lines[:, axis].tolist()) == sorted(sign * k for k in range(11))


def run_of_operations(seed: int, count: int) -> tuple[Octree, dict[tuple[int, int, int], int]]:
    """Single-voxel evidence and clearings at random, in the octree and in a dictionary."""
    rng = np.random.default_rng(seed)
    tree, steps = Octree(1.0), {}
    s = tree._steps
    batch = 1000
    for _ in range(count // batch):
        lo = rng.integers(-4000, 4000, 3)
        voxels = lo + rng.integers(-20, 20, (batch, 3))
        hit = rng.random(batch) < 0.5
        tree.integrate_cells(voxels + 0.5, hit)
        wins: dict[tuple[int, int, int], bool] = {}
        for voxel, h in zip(map(tuple, voxels.tolist()), hit.tolist()):
            wins[voxel] = wins.get(voxel, False) or h
        for voxel, h in wins.items():
            after = steps.get(voxel, 0) + (s.hit if h else s.miss)
            steps[voxel] = min(max(after, s.lowest), s.highest)
        corner = lo + rng.integers(-20, 15, 3)
        tree.clear(corner, corner + 4)
        for x, y, z in np.ndindex(4, 4, 4):
            steps.pop((int(corner[0]) + x, int(corner[1]) + y, int(corner[2]) + z), None)
    return tree, steps


@pytest.mark.parametrize("count", [50_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_many_random_operations_agree_with_a_dictionary(count):
    tree, steps = run_of_operations(count, count)
    found = tree.voxels(free=True)
    where = np.floor(found.centers.astype(np.float64)).astype(int)
    got = np.rint(found.log_odds / tree._steps.unit).astype(int)
    assert dict(zip(map(tuple, where.tolist()), got.tolist())) == steps
    copy = Octree(1.0)
    copy.import_blocks(tree.export_blocks())
    assert copy.digest() == tree.digest()


@pytest.mark.parametrize("rays", [300, 3000])
def test_a_lidar_scan_of_80_metres_needs_no_box_around_it(rays):
    rng = np.random.default_rng(9)
    directions = rng.normal(size=(rays, 3)) * [1, 1, 0.1]
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    origin = np.array([1900.0, -1900.0, 2.0])
    points = (origin + directions * rng.uniform(2, 80, (rays, 1))).astype(np.float32)
    tree, reference = Octree(0.05), set()
    stats = tree.integrate(points, origin)
    assert stats.dropped == 0 and stats.points == rays
    hits = {voxel_of(p, 0.05) for p in points}
    assert stats.occupied == tree.num_occupied == len(hits)
    for point in points[:20]:
        reference.update(voxels_passed(tuple(origin), tuple(point), 0.05))
    passed = np.array(sorted(reference - hits))
    assert (tree.query((passed + 0.5) * 0.05) < 0).all()
    assert tree._byte_map.cells.nbytes < 1 << 25

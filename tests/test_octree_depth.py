"""Depth images: every ray exactly as if it were cast by itself, and the modes' other promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.memory.octree import Octree
from embodied_mem.memory.octree import image as octree_image
from embodied_mem.memory.octree import pixels as octree_pixels
from embodied_mem.memory.octree import scan as octree_scan
from embodied_mem.memory.octree.bench_scene import camera, house, poses, render
from embodied_mem.types import Intrinsics


@pytest.fixture(scope="module", params=["voxels", "rays", "both"], autouse=True)
def exact_kernels(request):
    """All ways to mark a depth image keep every promise."""
    usual = octree_image.WIDE
    octree_image.WIDE = {"voxels": 1e-6, "rays": 1e9, "both": 3.0}[request.param]

    yield
    octree_image.WIDE = usual


VIEW = Intrinsics(48, 36, 40.0, 41.0, 23.5, 17.5)


def lifted(depth, view: Intrinsics, pose: Pose):
    """The ends of the rays (N, 3) float32, without those that say nothing."""
    v, u = np.mgrid[0 : view.height, 0 : view.width]
    z = depth.astype(np.float64)
    ends = np.stack([(u - view.cx) / view.fx * z, (v - view.cy) / view.fy * z, z], axis=-1)
    used = np.isfinite(depth) & (depth > 0)
    return pose.transform(ends[used]).astype(np.float32), used


def images(rng: np.random.Generator, kind: str):
    depth = np.full((VIEW.height, VIEW.width), 1.5, np.float32)
    u, v = np.arange(VIEW.width), np.arange(VIEW.height)[:, None]
    if kind == "noise":
        depth = rng.uniform(0.02, 3.0, depth.shape)
    elif kind == "slant":
        depth = 0.3 + 0.05 * u + 0.02 * v
    elif kind == "edges":
        depth[8:20, 10:30] = 0.4
        depth[25:, ::7] = 0.8
    elif kind == "holes":
        depth = 1.0 + 0.3 * np.sin(u / 3.0) + 0.01 * v
        depth[rng.random(depth.shape) < 0.4] = 0.0
        depth[5, 5] = np.nan
    return (np.rint(depth * 1000) / 1000).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from(["noise", "slant", "edges", "holes", "flat"]),
    st.sampled_from([0.05, 0.21]),
    st.sampled_from([np.inf, 1.0, 2.5]),
    st.sampled_from([0.0, 300.0]),
    st.booleans(),
)
def test_exact_mode_marks_what_the_rays_of_all_pixels_mark(seed, kind, resolution, reach, away, aligned):
    rng = np.random.default_rng(seed)
    turn = [0.5, -0.5, 0.5, -0.5] if aligned else (q := rng.normal(size=4)) / np.linalg.norm(q)
    where = np.zeros(3) if aligned else rng.uniform(-1, 1, 3)
    pose = Pose(where + away, turn)
    depth = images(rng, kind)
    labels = rng.integers(0, 3, depth.shape).astype(np.int32)
    tree, plain = Octree(resolution), Octree(resolution)
    tree.integrate_depth(
        depth, VIEW, pose, labels=labels, max_range=reach, mode="exact", drop_flying=False, stamp=5
    )
    points, used = lifted(depth, VIEW, pose)
    plain.integrate(points, pose.position, labels=labels[used], max_range=reach, stamp=5)
    assert tree.digest() == plain.digest()
    assert len(tree) > 0


def test_exact_mode_on_a_house_is_exact():
    boxes, view = house(), camera(160, 120)
    for pose in poses(boxes, 4):
        depth = render(boxes, view, pose)
        tree, plain = Octree(0.05), Octree(0.05)
        tree.integrate_depth(depth, view, pose, max_range=5.0, mode="exact", drop_flying=False)
        points, _ = lifted(depth, view, pose)
        plain.integrate(points, pose.position, max_range=5.0)
        assert tree.digest() == plain.digest()


def test_threads_mark_all_of_a_scan_of_few_blocks_and_nothing_of_the_one_before():
    view = camera(160, 120)
    trees = [Octree(0.05, threads=n) for n in (1, 2)]
    for far in (4.0, 0.3, 0.5):  # many blocks, then too few to be worth a second thread
        depth = np.full((120, 160), far, np.float32)
        depth[40:80, 60:100] *= 0.6
        for tree in trees:
            tree.integrate_depth(depth, view, Pose(), max_range=5.0, mode="exact")
        assert trees[0].digest() == trees[1].digest()


def test_an_image_is_marked_alike_whatever_image_came_before():
    boxes, view = house(), camera(160, 120)
    used = Octree(0.05)
    for k, pose in enumerate(poses(boxes, 6)):
        depth = render(boxes, view, pose) * np.float32((1.0, 0.2, 0.6)[k % 3])
        fresh = Octree(0.05)
        for tree in (used, fresh):
            tree.integrate_depth(depth, view, pose, max_range=5.0, mode="exact")
        assert used.digest() == fresh.digest()
        used.clear([-99.0] * 3, [99.0] * 3)


@pytest.mark.parametrize("mode", ["exact", "hybrid", "discretized", "points"])
def test_maps_do_not_depend_on_the_number_of_threads(mode):
    boxes, view = house(), camera(160, 120)
    trees = [Octree(0.05, threads=n) for n in (1, 2, 5)]
    for pose in poses(boxes, 4):
        depth = render(boxes, view, pose)
        labels = (np.arange(depth.size) % 5).reshape(depth.shape).astype(np.int32)
        points, used = lifted(depth, view, pose)
        for tree in trees:
            if mode == "points":
                tree.integrate(points, pose.position, labels=labels[used], max_range=3.0)
            else:
                tree.integrate_depth(depth, view, pose, mode=mode, labels=labels)
    assert len({tree.digest() for tree in trees}) == 1 and len(trees[0]) > 0


@pytest.mark.parametrize("few", [1, 1 << 30])
def test_discretized_mode_casts_one_ray_per_voxel_of_surface(monkeypatch, few):
    monkeypatch.setattr(octree_scan, "FEW", few)
    boxes, view = house(), camera(160, 120)
    for pose in poses(boxes, 3):
        depth = render(boxes, view, pose)
        labels = np.full(depth.shape, 4, np.int32)
        tree, plain = Octree(0.05), Octree(0.05)
        tree.integrate_depth(depth, view, pose, labels=labels, max_range=3.0, drop_flying=False)
        points, _ = lifted(depth, view, pose)
        voxels = np.unique(np.floor(points.astype(np.float64) * (1.0 / 0.05)).astype(np.int64), axis=0)
        centres = ((voxels + 0.5) * 0.05).astype(np.float32)
        plain.integrate(centres, pose.position, labels=np.full(len(voxels), 4), max_range=3.0)
        assert tree.digest() == plain.digest()


def test_hybrid_mode_has_the_ends_of_exact_mode_and_no_voxel_that_it_has_not():
    boxes, view = house(), camera(400, 300)
    for pose in poses(boxes, 2):
        depth = render(boxes, view, pose)
        exact, hybrid = Octree(0.05), Octree(0.05)
        for tree, mode in ((exact, "exact"), (hybrid, "hybrid")):
            tree.integrate_depth(depth, view, pose, mode=mode, labels=np.ones(depth.shape, np.int32))
        mine, all_ = hybrid.voxels(), exact.voxels()
        assert (mine.centers == all_.centers).all() and (mine.labels == all_.labels).all()
        free = hybrid.voxels(occupied=False, free=True)
        assert (exact.query(free.centers) < 0).all()
        assert len(hybrid) > 0.97 * len(exact)


@pytest.mark.parametrize("mode", ["exact", "hybrid", "discretized"])
def test_pixels_that_see_nothing_clear_up_to_the_range(mode):
    depth = np.full((VIEW.height, VIEW.width), np.inf, np.float32)
    depth[:, :10] = [[0.0, np.nan, -np.inf, -1.0, 0.0] * 2]
    tree = Octree(0.1)
    stats = tree.integrate_depth(depth, VIEW, Pose(), max_range=2.0, mode=mode)
    assert stats.dropped == VIEW.height * 10 and stats.points == depth.size
    assert stats.occupied == 0 and stats.free > 0
    assert tree.query([[0.0, 0.0, 1.9]])[0] < 0 and np.isnan(tree.query([[0.0, 0.0, 2.2]])[0])
    assert np.isnan(tree.query([[-0.5, 0.0, 1.0]])[0])  # behind the pixels without a reading
    endless = Octree(0.1)
    assert endless.integrate_depth(depth, VIEW, Pose(), max_range=np.inf, mode=mode).dropped == depth.size


def test_flying_pixels_at_depth_edges_are_left_out():
    depth = np.full((VIEW.height, VIEW.width), 2.0, np.float32)
    depth[:, 20:] = 1.0
    depth[10, 19] = 1.5  # between both, beside the edge
    kinds = octree_pixels.pixel_kinds(depth, 0, True)
    assert kinds[10, 19] == 0 and (np.delete(kinds.reshape(-1), 10 * VIEW.width + 19) == 2).all()
    tree, raw = Octree(0.05), Octree(0.05)
    tree.integrate_depth(depth, VIEW, Pose(), mode="exact")
    raw.integrate_depth(depth, VIEW, Pose(), mode="exact", drop_flying=False)
    assert raw.num_occupied == tree.num_occupied + 1
    ramp = (1.0 + 0.02 * np.arange(VIEW.width) + np.zeros((VIEW.height, 1))).astype(np.float32)
    assert (octree_pixels.pixel_kinds(ramp, 0, True) == 2).all()  # a slanted wall is no edge


def test_the_flying_pixel_filter_removes_most_voxels_that_hang_in_the_air():
    boxes, hanging = house(), {True: 0, False: 0}
    for pose in poses(boxes, 3):
        fine = render(boxes, camera(320, 240), pose)
        # A sensor's pixel averages what it sees: where an edge crosses it, that is in the air.
        depth = fine.reshape(120, 2, 160, 2).mean(axis=(1, 3)).astype(np.float32)
        surface = Octree(0.05)
        surface.integrate_depth(fine, camera(320, 240), pose, mode="exact", drop_flying=False)
        true = surface.voxels().centers
        for drop in hanging:
            tree = Octree(0.05)
            tree.integrate_depth(depth, camera(160, 120), pose, mode="exact", drop_flying=drop)
            found = tree.voxels().centers
            hanging[drop] += int((cKDTree(true).query(found)[0] > 0.1).sum())
    assert hanging[False] > 100 and hanging[True] < 0.1 * hanging[False]


def test_images_farther_than_a_byte_map_are_marked_ray_by_ray():
    depth = np.full((VIEW.height, VIEW.width), 60.0, np.float32)
    depth[5:9, 5:9] = 3.0
    for mode in ("exact", "hybrid", "discretized"):
        tree = Octree(0.05)
        stats = tree.integrate_depth(depth, VIEW, Pose(), max_range=np.inf, mode=mode, drop_flying=False)
        assert stats.occupied > 1000 and stats.free > 1_000_000
    plain = Octree(0.05)
    plain.integrate(lifted(depth, VIEW, Pose())[0], np.zeros(3))
    exact = Octree(0.05)
    exact.integrate_depth(depth, VIEW, Pose(), max_range=np.inf, mode="exact", drop_flying=False)
    assert exact.digest() == plain.digest()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"depth": np.ones((4, 4), np.float32)}, "depth must be"),
        ({"depth": np.ones((36, 48), np.int32)}, "floats"),
        ({"intrinsics": Intrinsics(48, 36, 40, 40, 24, 18, "plumb_bob", (0.1,))}, "rectified"),
        ({"labels": np.ones((4, 4), np.int32)}, "labels"),
        ({"mode": "fast"}, "mode"),
        ({"max_range": 0.0}, "max_range"),
        ({"map_T_camera": Pose([np.nan, 0, 0])}, "finite"),
        ({"map_T_camera": Pose([5e5, 0, 0])}, "world"),
    ],
)
def test_wrong_images_are_one_clear_error(change, words):
    given_ = {"depth": np.ones((36, 48), np.float32), "intrinsics": VIEW, "map_T_camera": Pose(), **change}
    tree = Octree()
    with pytest.raises(InputError, match=words):
        tree.integrate_depth(**given_)
    assert tree.version == 0

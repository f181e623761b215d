"""The octree does what OctoMap does, voxel for voxel."""

from __future__ import annotations

import math

import numpy as np
import pytest

from embodied_mem.memory.octree import Octree

pyoctomap = pytest.importorskip("pyoctomap", reason="pyoctomap comes with the dev extra")


def octomap(resolution: float):
    tree = pyoctomap.OcTree(resolution)

    def probability(log_odds: float) -> float:
        return 1 / (1 + math.exp(-log_odds))

    tree.setProbHit(probability(0.85))
    tree.setProbMiss(probability(-0.4))
    tree.setClampingThresMin(probability(-2.0))
    tree.setClampingThresMax(probability(3.5))
    return tree


def leaves(tree, resolution: float) -> dict[tuple[int, int, int], float]:
    """All voxels of an OctoMap that is not pruned, with their log-odds."""
    return {
        tuple(math.floor(c / resolution) for c in leaf.getCoordinate()): leaf.current_node.getLogOdds()
        for leaf in tree.begin_leafs()
    }


def ours(tree: Octree) -> dict[tuple[int, int, int], float]:
    found = tree.voxels(free=True)
    where = np.floor(found.centers.astype(np.float64) / tree.resolution).astype(int)
    return dict(zip(map(tuple, where.tolist()), found.log_odds.tolist()))


def scan(rng: np.random.Generator, count: int, reach: float):
    origin = rng.uniform(-1.5, 1.5, 3).astype(np.float32)
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    points = (origin + directions * rng.uniform(0.0, reach, (count, 1))).astype(np.float32)
    return points, origin


@pytest.mark.parametrize("resolution", [0.05, 0.13, 1.0])
@pytest.mark.parametrize("max_range", [math.inf, 2.0])
def test_one_scan_has_exactly_the_voxels_of_octomap(resolution, max_range):
    for seed in range(4):
        points, origin = scan(np.random.default_rng(seed), 1500, 3.0)
        tree, peer = Octree(resolution), octomap(resolution)
        tree.integrate(points, origin, max_range=max_range)
        reach = -1.0 if math.isinf(max_range) else max_range
        peer.insertPointCloud(points.astype(np.float64), origin.astype(np.float64), reach, True, False)
        expected, found = leaves(peer, resolution), ours(tree)
        assert found.keys() == expected.keys()
        assert all((found[v] > 0) == (expected[v] > 0) for v in found)


def test_points_on_voxel_faces_and_rays_along_axes_are_octomaps_too():
    rng = np.random.default_rng(5)
    points = (rng.integers(-30, 31, (800, 3)) * 0.05).astype(np.float32)
    for origin in (np.zeros(3, np.float32), np.array([0.05, -0.1, 0.025], np.float32)):
        tree, peer = Octree(0.05), octomap(0.05)
        tree.integrate(points, origin)
        peer.insertPointCloud(points.astype(np.float64), origin.astype(np.float64), -1.0, True, False)
        expected, found = leaves(peer, 0.05), ours(tree)
        assert found.keys() == expected.keys()
        assert all((found[v] > 0) == (expected[v] > 0) for v in found)


def test_the_map_of_many_scans_agrees_with_octomap():
    rng = np.random.default_rng(7)
    surface = rng.normal(size=(2500, 3))
    surface *= 1.2 / np.linalg.norm(surface, axis=1)[:, None]
    tree, peer = Octree(0.1), octomap(0.1)
    for _ in range(25):
        origin = rng.uniform(-0.5, 0.5, 3).astype(np.float32)
        points = (surface + rng.normal(scale=0.02, size=surface.shape)).astype(np.float32)
        tree.integrate(points, origin)
        peer.insertPointCloud(points.astype(np.float64), origin.astype(np.float64), -1.0, True, False)
    expected, found = leaves(peer, 0.1), ours(tree)
    assert found.keys() == expected.keys()
    same = np.mean([(found[v] >= 0) == (expected[v] >= 0) for v in found])
    assert same >= 0.999
    # The integer steps hold OctoMap's numbers exactly, so that no drift builds up.
    assert max(abs(found[v] - expected[v]) for v in found) < 1e-4

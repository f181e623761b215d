"""Promises about scans with long rays: they need no box around them, and little memory beside the map."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from embodied_mem.memory import Octree
from embodied_mem.memory.octree import octree as octree_module

SCAN = """
import re
from pathlib import Path
import numpy as np
from embodied_mem.memory import Octree

def scan(count, at):
    rings, turns = np.meshgrid(np.radians(np.linspace(-24, 4, 64)), np.linspace(0, 2 * np.pi, count // 64))
    level = np.cos(rings)
    d = np.stack([level * np.cos(turns), level * np.sin(turns), np.sin(rings)], -1).reshape(-1, 3)
    walls = 20 + 15 * np.sin(3 * turns) + 60 * (np.cos(7 * turns) > 0)
    floor = np.where(d[:, 2] < 0, 1.8 / np.maximum(-d[:, 2], 1e-9), np.inf)
    return np.array([at, 0, 1.8]) + d * np.minimum(np.minimum(walls.ravel(), floor), 80.0)[:, None]

def megabytes():
    # Not getrusage's: that starts from what the process held that started this one.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

points = scan(2048, 0.0)
Octree(0.1).integrate(points, [0, 0, 1.8], labels=np.ones(len(points), np.int32), max_range=5.0)
before, tree = megabytes(), Octree(0.1)
for k in range(2):
    points = scan(100_000, 0.5 * k)
    labels = np.arange(len(points)) % 7
    stats = tree.integrate(points, [0.5 * k, 0, 1.8], labels=labels, stamp=k + 1, max_range=80.0)
    assert stats.points == len(points) and stats.dropped == 0 and stats.occupied > 5000
    print(megabytes() - before)
print(np.ptp(tree.voxels().centers, axis=0).max())
"""


def test_a_scan_of_80_metres_takes_some_hundred_megabytes_and_the_next_one_hardly_more():
    done = subprocess.run([sys.executable, "-c", SCAN], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    first, second, extent = map(float, done.stdout.split())
    assert extent > 100.0
    # A dense box around it alone has 1600 x 1600 x 120 voxels; so has none of the arrays that hold labels.
    assert 20.0 < first < 500.0
    assert second < first + 200.0


@pytest.mark.parametrize("cells", [False, True])
def test_a_scan_that_is_added_in_parts_gives_the_same_map(monkeypatch: pytest.MonkeyPatch, cells: bool):
    digests = set()
    for part in (1 << 15, 37):
        monkeypatch.setattr(octree_module, "PART", part)
        rng, tree = np.random.default_rng(4), Octree(0.1)
        for stamp in range(1, 6):
            points = rng.uniform(-40, 40, (400, 3)).astype(np.float32)
            labels = rng.integers(0, 4, 400) if stamp > 1 else None
            if cells:
                tree.integrate_cells(points, rng.random(400) < 0.6, labels=labels, stamp=stamp)
            else:
                hit = rng.random(400) < 0.8
                stats = tree.integrate(points, rng.uniform(-1, 1, 3), hit=hit, labels=labels, stamp=stamp)
                assert stats.occupied > 200
        digests.add(tree.digest())
    assert len(digests) == 1

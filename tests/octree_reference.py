"""The octree's meaning in plain Python dictionaries, one voxel at a time: slow and obvious."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

F = np.float32
WORLD = (1 << 23) - 16


def voxel_of(point, resolution: float) -> tuple[int, int, int]:
    return tuple(math.floor(float(F(c)) * (1.0 / resolution)) for c in point)


def voxels_passed(origin, end, resolution: float) -> list[tuple[int, int, int]]:
    """OctoMap's computeRayKeys: float32 direction, float64 crossings, the end left out."""
    origin, end = [F(c) for c in origin], [F(c) for c in end]
    here, stop = list(voxel_of(origin, resolution)), list(voxel_of(end, resolution))
    if here == stop:
        return []
    ray = [e - o for o, e in zip(origin, end)]
    length = F(math.sqrt(float(ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2])))
    if length == 0:
        return []
    ray = [float(r / length) for r in ray]
    step = [(r > 0) - (r < 0) for r in ray]
    t_next, t_delta = [math.inf] * 3, [math.inf] * 3
    for a in range(3):
        if step[a]:
            border = (here[a] + 0.5) * resolution + float(F(step[a] * resolution * 0.5))
            t_next[a] = (border - float(origin[a])) / ray[a]
            t_delta[a] = resolution / abs(ray[a])
    passed = [tuple(here)]
    while True:
        if t_next[0] < t_next[1]:
            a = 0 if t_next[0] < t_next[2] else 2
        else:
            a = 1 if t_next[1] < t_next[2] else 2
        here[a] += step[a]
        t_next[a] += t_delta[a]
        if here == stop or min(t_next) > float(length):
            return passed
        passed.append(tuple(here))


class ReferenceOctree:
    """Dictionaries by voxel: log-odds steps, stamps, and label votes."""

    def __init__(self, resolution: float, hit: int, miss: int, lowest: int, highest: int) -> None:
        self.resolution = resolution
        self.hit, self.miss, self.lowest, self.highest = hit, miss, lowest, highest
        self.steps: dict[tuple[int, int, int], int] = {}
        self.labels: dict[tuple[int, int, int], tuple[int, int]] = {}
        self.stamps: dict[tuple[int, int, int], int] = {}

    def marks(self, points, origin, hit, max_range: float):
        """Returns the free and hit voxels of a scan, the votes for labels by point, and the drops."""
        free, ends, ended, dropped = set(), set(), [], 0
        o = [F(c) for c in origin]
        for i, point in enumerate(points):
            end = [F(c) for c in point]
            ended.append(None)
            if not all(abs(float(c) * (1.0 / self.resolution)) < WORLD for c in end):
                dropped += 1
                continue
            ray = [e - s for s, e in zip(o, end)]
            far = math.sqrt(float(ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2]))
            reaches = bool(hit[i])
            if far > max_range:
                end = [s + r / F(far) * F(max_range) for s, r in zip(o, ray)]
                reaches = False
            free.update(voxels_passed(o, end, self.resolution))
            if reaches:
                ended[i] = voxel_of(end, self.resolution)
                ends.add(ended[i])
        return free - ends, ends, ended, dropped

    def integrate(self, points, origin, hit, labels, stamp: int, max_range: float):
        free, ends, ended, dropped = self.marks(points, origin, hit, max_range)
        votes: dict[tuple[int, int, int], list[int]] = {}
        for voxel, label in zip(ended, labels):
            if voxel is not None and label:
                votes.setdefault(voxel, []).append(int(label))
        self._apply(free, ends, votes, stamp)
        return len(free), len(ends), dropped

    def integrate_cells(self, points, hit, labels, stamp: int) -> None:
        where = [voxel_of(p, self.resolution) for p in points]
        ends = {v for v, h in zip(where, hit) if h}
        free = set(where) - ends
        votes: dict[tuple[int, int, int], list[int]] = {}
        for voxel, h, label in zip(where, hit, labels):
            if label and (h or voxel not in ends):
                votes.setdefault(voxel, []).append(int(label))
        self._apply(free, ends, votes, stamp)

    def _apply(self, free, ends, votes, stamp: int) -> None:
        for voxel in free | ends:
            change = self.hit if voxel in ends else self.miss
            value = self.steps.get(voxel, 0) + change
            self.steps[voxel] = min(max(value, self.lowest), self.highest)
            self.stamps[voxel] = stamp
            if voxel in votes:
                self._fuse(voxel, majority(votes[voxel]))
            elif self.steps[voxel] < 0:
                self.labels.pop(voxel, None)

    def _fuse(self, voxel, label: int) -> None:
        held, weight = self.labels.get(voxel, (0, 0))
        if held == label:
            self.labels[voxel] = (label, min(weight + 1, 255))
        elif weight <= 1:
            self.labels[voxel] = (label, 1)
        else:
            self.labels[voxel] = (held, weight - 1)

    def clear(self, voxels) -> None:
        for voxel in voxels:
            self.steps.pop(voxel, None)
            self.labels.pop(voxel, None)
            self.stamps.pop(voxel, None)

    def node(self, voxel, level: int) -> tuple[int | None, int, int]:
        """Returns the largest steps and the dominant label, with its count, of a node."""
        inside = [v for v in self.steps if all(a >> level == b >> level for a, b in zip(v, voxel))]
        names = Counter(self.labels[v][0] for v in inside if v in self.labels)
        label, weight = min(names.items(), key=lambda n: (-n[1], n[0])) if names else (0, 0)
        return max((self.steps[v] for v in inside), default=None), label, weight


def majority(votes: list[int]) -> int:
    """Boyer and Moore's majority candidate, in order."""
    held, count = 0, 0
    for vote in votes:
        if count == 0:
            held, count = vote, 1
        else:
            count += 1 if vote == held else -1
    return held

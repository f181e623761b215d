"""The octree against OctoMap: the same scans, interleaved, medians of CPU time in one process."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError, InputError
from embodied_mem.geometry import Pose
from embodied_mem.memory.octree import Octree, warm_up
from embodied_mem.memory.octree.bench_scene import camera, house, poses, render
from embodied_mem.types import Intrinsics

RESOLUTION, MAX_RANGE, ROUNDS = 0.05, 5.0, 3
TRIALS = 12
"""Of one thread and of several: the more, the likelier it is that all cores were free in one of them."""


@dataclass(frozen=True, eq=False)
class DepthScan:
    """One depth image of the workload.

    Attributes:
        depth: (H, W) float32 [m].
        view: the camera.
        pose: map_T_camera.
        points: (N, 3) float32 [m], the same in the map, for peers that take points.
    """

    depth: NDArray[np.float32]
    view: Intrinsics
    pose: Pose
    points: NDArray[np.float32]


def lift_points(depth: NDArray[np.float32], view: Intrinsics, pose: Pose) -> NDArray[np.float32]:
    """Returns the valid pixels of a depth image as (N, 3) float32 points in the map [m]."""
    v, u = np.mgrid[0 : view.height, 0 : view.width]
    z = depth.astype(np.float64)
    ends = np.stack([(u - view.cx) / view.fx * z, (v - view.cy) / view.fy * z, z], axis=-1)
    return pose.transform(ends[np.isfinite(depth) & (depth > 0)]).astype(np.float32)


def house_scans(count: int, width: int = 640, height: int = 480) -> list[DepthScan]:
    """Returns scans of the benchmark's own furnished house."""
    boxes, view = house(), camera(width, height)
    scans = []
    for pose in poses(boxes, count):
        depth = render(boxes, view, pose)
        scans.append(DepthScan(depth, view, pose, lift_points(depth, view, pose)))
    return scans


def folder_scans(folder: Path, count: int) -> list[DepthScan]:
    """Returns scans from frame-*.depth.png [mm], frame-*.pose.txt and camera-intrinsics.txt.

    Raises:
        ConfigError: the folder holds no such scans.
    """
    import cv2

    files = sorted(folder.glob("frame-*.depth.png"))
    matrix = folder / "camera-intrinsics.txt"
    if not files or not matrix.is_file():
        raise ConfigError(f"{folder} has no frame-*.depth.png with camera-intrinsics.txt")
    k = np.loadtxt(matrix)
    scans = []
    for file in files[:: max(1, len(files) // count)][:count]:
        raw = np.asarray(cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
        depth = np.where((raw > 0) & (raw < 65535), raw.astype(np.float32) / 1000, 0).astype(np.float32)
        view = Intrinsics(depth.shape[1], depth.shape[0], k[0, 0], k[1, 1], k[0, 2], k[1, 2])
        pose = Pose.from_matrix(np.loadtxt(str(file).replace(".depth.png", ".pose.txt")))
        scans.append(DepthScan(depth, view, pose, lift_points(depth, view, pose)))
    return scans


def octomap() -> Any:
    """Returns an empty OctoMap with the octree's numbers; `ConfigError` without pyoctomap."""
    try:
        import pyoctomap
    except ImportError:
        raise ConfigError("bench octree compares with pyoctomap: pip install embodied-mem[dev]") from None
    tree = pyoctomap.OcTree(RESOLUTION)
    for name, value in (
        ("ProbHit", 0.85),
        ("ProbMiss", -0.4),
        ("ClampingThresMin", -2.0),
        ("ClampingThresMax", 3.5),
    ):
        getattr(tree, f"set{name}")(1 / (1 + math.exp(-value)))
    return tree


def _peer_insert(tree: Any, scan: DepthScan, discretize: bool) -> None:
    points = scan.points.astype(np.float64)
    origin = scan.pose.position.astype(np.float32).astype(np.float64)
    tree.insertPointCloud(points, origin, MAX_RANGE, True, discretize)


def _depth(mode: str) -> Callable[[Octree, DepthScan], None]:
    def add(tree: Octree, scan: DepthScan) -> None:
        tree.integrate_depth(
            scan.depth, scan.view, scan.pose, max_range=MAX_RANGE, mode=mode, drop_flying=False
        )

    return add


def _points(tree: Octree, scan: DepthScan) -> None:
    tree.integrate(scan.points, scan.pose.position, max_range=MAX_RANGE)


def _cpu_ms(call: Callable[..., Any], *args: Any) -> float:
    start = time.thread_time()
    call(*args)
    return (time.thread_time() - start) * 1e3


def _race(
    scans: list[DepthScan], add: Callable[[Octree, DepthScan], None], discretize: bool
) -> dict[str, float]:
    """Builds both maps in turn, ROUNDS times; returns median CPU milliseconds per scan.

    A round is all scans into a new map: the turns are not shorter, or one map's scan would be
    timed with its data and code evicted from the caches by the other's.
    """
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):
        tree, peer = Octree(RESOLUTION), octomap()
        ours += [_cpu_ms(add, tree, scan) for scan in scans]
        theirs += [_cpu_ms(_peer_insert, peer, scan, discretize) for scan in scans]
    return {"ours": float(np.median(ours)), "peers": float(np.median(theirs))}


def _maps(scans: list[DepthScan]) -> tuple[Octree, Any]:
    tree, peer = Octree(RESOLUTION), octomap()
    for scan in scans:
        _depth("exact")(tree, scan)
        _peer_insert(peer, scan, False)
    peer.updateInnerOccupancy()
    return tree, peer


def _agreement(tree: Octree, peer: Any) -> dict[str, float]:
    """Returns the share of OctoMap's occupied and free voxels that are so here, of the union."""
    theirs: dict[tuple[int, int, int], bool] = {}
    for leaf in peer.begin_leafs():
        x, y, z = (math.floor(c / RESOLUTION) for c in leaf.getCoordinate())
        theirs[x, y, z] = leaf.current_node.getLogOdds() >= 0
    found = tree.voxels(free=True)
    where = np.floor(found.centers.astype(np.float64) / RESOLUTION).astype(np.int64)
    ours = dict(zip(map(tuple, where.tolist()), (found.log_odds >= 0).tolist()))
    result = {}
    for name, value in (("occupied", True), ("free", False)):
        a = {v for v, occupied in ours.items() if occupied == value}
        b = {v for v, occupied in theirs.items() if occupied == value}
        result[name] = len(a & b) / max(len(a | b), 1)
    return result


def _queries(tree: Octree, peer: Any) -> dict[str, float]:
    """Returns CPU milliseconds of 1e6 random point queries, each in one batch."""
    lo, hi = tree.bounds() or (np.zeros(3), np.ones(3))
    points = np.random.default_rng(0).uniform(lo, hi, (1_000_000, 3)).astype(np.float32)
    wide = points.astype(np.float64)
    ours = float(np.median([_cpu_ms(tree.query, points) for _ in range(5)]))
    return {"ours": ours, "peers": float(np.median([_cpu_ms(peer.getLabels, wide) for _ in range(3)]))}


def _boxes(tree: Octree, peer: Any) -> dict[str, float]:
    """Returns CPU milliseconds per 2 m box of occupied voxels."""
    middles = tree.voxels().centers[:: max(1, tree.num_occupied // 10)][:10].astype(np.float64)

    def ours(p: NDArray[np.float64]) -> None:
        for _ in range(10):
            tree.box(p - 1.0, p + 1.0)

    def theirs(p: NDArray[np.float64]) -> list[Any]:
        return [leaf.getCoordinate() for leaf in peer.begin_leafs_bbx(p - 1.0, p + 1.0)]

    return {
        "ours": float(np.median([_cpu_ms(ours, p) for p in middles])) / 10,
        "peers": float(np.median([_cpu_ms(theirs, p) for p in middles])),
    }


def _growth(scan: DepthScan) -> dict[str, float]:
    """Returns CPU milliseconds of one scan in maps of 1, 10 and 100 times its blocks."""
    result = {}
    for times in (1, 10, 100):
        tree = Octree(RESOLUTION)
        _depth("exact")(tree, scan)
        blocks = tree.export_blocks()
        for k in range(1, times):  # copies of the map, 400 m apart
            tree.import_blocks([(key + (k * 1000 << 42), payload) for key, payload in blocks])
        costs = [_cpu_ms(_depth("exact"), tree, scan) for _ in range(7)]
        result[f"{times}x"] = float(np.median(costs))
    return result


def bytes_per_voxel(scans: list[DepthScan]) -> dict[str, float]:
    """Returns the bytes allocated per occupied voxel, with the room kept for growth.

    Returns:
        "occupancy" of a map that was given depth images alone, "stamps" where each had its own
        stamp, "labels" with labels too, and "all" where every voxel also refers to an object.
    """
    found = {}
    tree = Octree(RESOLUTION)
    for name in ("occupancy", "stamps", "labels"):
        tree = Octree(RESOLUTION)
        for k, scan in enumerate(scans):
            labels = _labels(scan) if name == "labels" else None
            stamp = 0 if name == "occupancy" else k * 100_000_000
            tree.integrate_depth(
                scan.depth, scan.view, scan.pose, max_range=MAX_RANGE, labels=labels, stamp=stamp,
                mode="exact", drop_flying=False,
            )  # fmt: skip
        found[name] = tree.nbytes / max(tree.num_occupied, 1)
    centers = tree.voxels().centers
    tree.refer(centers, np.arange(len(centers)))
    found["all"] = tree.nbytes / max(tree.num_occupied, 1)
    return found


def _labels(scan: DepthScan) -> NDArray[np.int32]:
    """Labels the pixels of a scan by the cubic metre of the map in which they lie, (H, W) int32."""
    labels = np.zeros(scan.depth.shape, np.int32)
    seen = np.isfinite(scan.depth) & (scan.depth > 0)
    labels[seen] = np.floor(scan.points).astype(np.int64) @ np.array([1, 3, 7]) % 20 + 1
    return labels


def _file_bytes(tree: Octree, peer: Any) -> dict[str, int]:
    """Returns the sizes of the files of three states, of OctoMap's .bt, and of the whole map."""
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "map.octree", Path(folder) / "map.bt"
        tree.save(ours, three_state=True)
        peer.writeBinary(str(theirs))
        sizes = {"three_state": ours.stat().st_size, "bt": theirs.stat().st_size}
        tree.save(ours)
        sizes["full"] = ours.stat().st_size
    return sizes


def _speedup(one: Callable[[int], Any], many: Callable[[int], Any], count: int) -> float:
    """Returns how many times less wall time `many` takes for the parts 0..count-1 than `one`.

    Both take turns and the best of TRIALS counts for each part: other programs can only slow it down.
    """
    best = np.full((2, count), np.inf)
    for _ in range(TRIALS):
        for part in range(count):
            for which, call in enumerate((one, many)):
                start = time.perf_counter()
                call(part)
                best[which, part] = min(best[which, part], time.perf_counter() - start)
    return float(best[0].sum() / best[1].sum())


def _threads_speedups(scans: list[DepthScan], threads: int) -> dict[str, float]:
    """Returns the speed-up of several threads over one by mode, and of as many maps, a thread each."""
    modes = {"exact": _depth("exact"), "discretized": _depth("discretized"), "points": _points}
    found = {}
    for name, add in modes.items():
        trees = [Octree(RESOLUTION), Octree(RESOLUTION, threads=threads)]
        add(trees[0], scans[0]), add(trees[1], scans[0])
        found[name] = _speedup(
            lambda i, add=add, tree=trees[0]: add(tree, scans[i]),  # type: ignore[misc]
            lambda i, add=add, tree=trees[1]: add(tree, scans[i]),  # type: ignore[misc]
            len(scans),
        )
    add, apart = modes["exact"], [Octree(RESOLUTION) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:  # cores that share units or caches do not work twice as much
        found["ceiling"] = _speedup(
            lambda i: [add(tree, scans[i]) for tree in apart],
            lambda i: list(pool.map(lambda tree: add(tree, scans[i]), apart)),
            len(scans),
        )
    return found


def _workload(tree: Octree, scans: list[DepthScan], source: str, threads: int) -> dict[str, Any]:
    return {
        "scans": len(scans),
        "source": source,
        "image": list(scans[0].depth.shape),
        "resolution": RESOLUTION,
        "max_range": MAX_RANGE,
        "threads": threads,
        "occupied": tree.num_occupied,
        "known": len(tree),
        "blocks": len(tree.export_blocks()),
    }


def bench_octree(scans: Path | None = None, threads: int = 1, count: int = 12) -> dict[str, Any]:
    """Measures the octree against pyoctomap on depth images of a house, or of a folder.

    Args:
        scans: a folder of frame-*.depth.png, .pose.txt and camera-intrinsics.txt, or None.
        threads: threads whose speed-up over one is measured, at least two; the races use one.
        count: how many scans.

    Returns:
        one JSON-serialisable object: workload, ours and peers (CPU milliseconds), ratio,
        agreement, bytes_per_occupied_voxel (see `bytes_per_voxel`), file_bytes, frontiers_ms,
        threads_speedup (of exact scans; by mode in threads_speedups, whose ceiling is that of
        as many maps that share nothing, at once instead of one after the other), growth.

    Raises:
        ConfigError: pyoctomap is missing, or the folder has no scans.
        InputError: threads is not positive.
    """
    if threads < 1:
        raise InputError(f"threads must be positive, got {threads}")
    large = house_scans(count) if scans is None else folder_scans(Path(scans), count)
    warm_up()
    small = house_scans(count, 160, 120)
    races = {
        "full": _race(large, _depth("exact"), False),
        "discretized": _race(large, _depth("discretized"), True),
        "points": _race(large, _points, False),
        "small": _race(small, _depth("exact"), False),
    }
    tree, peer = _maps(large)
    races["query"], races["box"] = _queries(tree, peer), _boxes(tree, peer)
    agreement = _agreement(tree, peer)  # before writeBinary, which prunes the peer
    sizes = _file_bytes(tree, peer)
    speedups = _threads_speedups(large, max(threads, 2))
    frontier_ms = float(np.median([_cpu_ms(tree.frontiers) for _ in range(5)]))
    return {
        "workload": _workload(tree, large, "house" if scans is None else str(scans), threads),
        "ours": {name: race["ours"] for name, race in races.items()},
        "peers": {name: race["peers"] for name, race in races.items()},
        "ratio": {name: race["peers"] / race["ours"] for name, race in races.items()},
        "agreement": agreement,
        "bytes_per_occupied_voxel": bytes_per_voxel(large),
        "file_bytes": sizes,
        "frontiers_ms": frontier_ms,
        "frontiers_ms_per_5000_blocks": frontier_ms * 5000 / len(tree.export_blocks()),
        "threads_speedup": speedups["exact"],
        "threads_speedups": speedups,
        "growth": _growth(large[0]),
    }

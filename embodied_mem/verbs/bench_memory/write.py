"""Writes: keyframes per second, and how long the loop's thread waits for the file."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.geometry import Pose
from embodied_mem.memory import Memory, MemoryConfig
from embodied_mem.memory.store.archive import Archive
from embodied_mem.types import LabelMap, Percept, Scan
from embodied_mem.verbs.bench_memory.workload import Rooms, grid_config, images, keyframes, view_embeddings

KEYFRAMES = 3000
SCANS = 300
PACE = 300.0
"""Keyframes per second at which the loop's waits are measured."""


def measure() -> dict[str, Any]:
    """Returns `keyframes_per_s`, `held_ms`, `held_p99_ms` and the same for depth scans of a house.

    Images are copied while the loop waits, as a camera may overwrite them; those of messages and logs
    cannot be written and need no copy (`read_only_images`).

    "Held" is the time that `Memory.write` spends in the archive: copying what changed, handing it
    over, waiting. It is taken while keyframes come at PACE and the writer works; the sustained
    rate is that of keyframes as fast as they are taken, until all are on the disk.
    """
    frames = list(keyframes(KEYFRAMES, Rooms(), snapshots=True))
    config = grid_config()
    _write(frames[:200], config)  # kernels compile outside the clock
    fast, paced = _write(frames, config), _write(frames, config, PACE)
    images().flags.writeable = False
    frozen = _write(list(keyframes(KEYFRAMES, Rooms(), snapshots=True)), config, PACE)
    house = list(_house_scans(SCANS))
    depth = _write(house, MemoryConfig(), 30.0)
    return {
        "workload": {"keyframes": KEYFRAMES, "snapshot": [480, 640], "embedding": 128, "pace_per_s": PACE},
        "keyframes_per_s": fast["per_s"],
        "in_ram_keyframes_per_s": _in_ram(frames, config),
        "held_ms": paced["held_ms"],
        "held_p99_ms": paced["held_p99_ms"],
        "held_max_ms": paced["held_max_ms"],
        "read_only_images": {name: frozen[name] for name in ("held_ms", "held_p99_ms", "held_max_ms")},
        "bytes_per_keyframe": fast["bytes"] / KEYFRAMES,
        "depth_scans": {"workload": {"scans": SCANS, "points": 19200, "pace_per_s": 30.0}, **depth},
    }


def _house_scans(count: int) -> Iterable[Percept]:
    """Returns percepts of 160 x 120 depth images in the benchmark's furnished house, with snapshots."""
    from embodied_mem.memory.octree.bench import house_scans

    scans, vectors, pictures = house_scans(60, 160, 120), view_embeddings(60), images()
    labels = LabelMap(("unknown", "wall"))
    for step in range(count):
        scan = scans[step % len(scans)]
        points = scan.pose.inverse().transform(scan.points).astype(np.float32)
        hits, names = np.ones(len(points), bool), np.ones(len(points), np.int32)
        pose = Pose(scan.pose.position, scan.pose.orientation)
        yield Percept(
            (step + 1) * 100_000_000,
            step,
            pose,
            labels=labels,
            scans=(Scan(points, hits, names, np.zeros(3)),),
            snapshot=pictures[step % len(pictures)],
            embedding=vectors[step % len(vectors)],
        )


class _Held:
    """Adds up the time that a memory's archive takes of each write."""

    def __init__(self, archive: Archive) -> None:
        self.seconds = 0.0
        for name in ("wrote", "keep_snapshot"):
            setattr(archive, name, self._timed(getattr(archive, name)))

    def _timed(self, inner: Any) -> Any:
        def call(*args: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*args)
            finally:
                self.seconds += time.perf_counter() - start

        return call


def _write(frames: list[Percept], config: MemoryConfig, pace: float = 0.0) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.emem"
        held = []
        with Memory.open(path, config) as memory:
            assert memory._archive is not None
            watch = _Held(memory._archive)
            start = time.perf_counter()
            for number, percept in enumerate(frames):
                if pace:
                    time.sleep(max(0.0, start + number / pace - time.perf_counter()))
                watch.seconds = 0.0
                memory.write(percept)
                held.append(watch.seconds)
            memory.flush()
            wall = time.perf_counter() - start
        millis = 1e3 * np.array(held)
        return {
            "per_s": len(frames) / wall,
            "held_ms": float(millis.mean()),
            "held_p99_ms": float(np.quantile(millis, 0.99)),
            "held_max_ms": float(millis.max()),
            "bytes": float(path.stat().st_size),
        }


def _in_ram(frames: list[Percept], config: MemoryConfig) -> float:
    """Returns keyframes per second of a memory without a file and without snapshots."""
    from dataclasses import replace

    memory = Memory(replace(config, episodes=replace(config.episodes, snapshot_quality=0)))
    start = time.perf_counter()
    for percept in frames:
        memory.write(percept)
    return len(frames) / (time.perf_counter() - start)

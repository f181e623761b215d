"""Sizes: bytes on disk per entry, what int8 embeddings cost in recall, and how fast large files open."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.geometry import Pose
from embodied_mem.memory import Memory
from embodied_mem.memory.episodes.entries import Episode
from embodied_mem.memory.episodes.vectors import quantise, unit
from embodied_mem.types import Query
from embodied_mem.verbs.bench_memory.workload import STEP_NS, grid_config, know_objects, view_embeddings

SIZES = (10_000, 100_000, 1_000_000)
PLACES = 300


def measure() -> dict[str, Any]:
    """Returns `bytes_per_entry`, `first_answer_s` by number of entries, and `int8` beside float32."""
    sizes = {}
    for count in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            sizes[str(count)] = _size(Path(folder) / "size.emem", count)
    largest = sizes[str(SIZES[-1])]
    return {
        "workload": {"embedding": 128, "places": PLACES, "objects_seen_per_entry": 3},
        "bytes_per_entry": largest["bytes_per_entry"],
        "first_answer_s": largest["first_answer_s"],
        "by_entries": sizes,
        "int8": int8_recall(),
    }


def entries(count: int, seed: int = 0) -> Any:
    """Returns an iterator over entries of an agent that goes from place to place."""
    rng = np.random.default_rng(seed)
    vectors = view_embeddings(8192)
    codes = [quantise(vector) for vector in vectors]
    spots = rng.uniform(-30, 30, (PLACES, 2))
    wobble, yaws = rng.normal(0, 0.3, (8192, 2)), rng.uniform(-3, 3, 8192)
    for number in range(count):
        place = (number // 4) % PLACES
        x, y = (spots[place] + wobble[number % 8192]).tolist()
        yield Episode(
            id=number,
            stamp=(number + 1) * STEP_NS,
            step=number,
            pose=Pose.from_xyz_yaw(x, y, 0.0, float(yaws[number % 8192])),
            place_id=place,
            room_id=place // 20,
            object_ids=(place, place + PLACES, place + 2 * PLACES),
            embedding=codes[(number * 31) % 8192],
            action=number % 4,
            source="rgbd",
        )


def _size(path: Path, count: int) -> dict[str, float]:
    with Memory.open(path, grid_config()) as memory:
        know_objects(memory, 3 * PLACES)
        for entry in entries(count):
            memory.episodes.add(entry)
            if entry.id % 64 == 0:
                memory._done("accepted")
        memory._done("accepted")  # what no write was made for is not written
    size = path.stat().st_size
    like = view_embeddings(1, seed=5)[0]
    near = Query(near=(0.0, 0.0, 0.0), radius=8.0, like=like, kind="episode", k=10)
    opened, first = _first_answer(path, near, count)
    return {
        "bytes_per_entry": size / count,
        "open_s": opened,
        "first_answer_s": first,
        "first_unfiltered_answer_s": _first_answer(path, Query(like=like, kind="episode", k=10), count)[1],
        "first_answer_by_place_s": _first_answer(path, Query(place=3, kind="episode", k=10), count)[1],
    }


def _first_answer(path: Path, query: Query, count: int) -> tuple[float, float]:
    """Returns how long opening a file takes, and how long until a question is answered [s]."""
    start = time.perf_counter()
    with Memory.open(path, read_only=True) as memory:
        opened = time.perf_counter() - start
        answers = memory.recall(query)
        first = time.perf_counter() - start
        assert answers and len(memory.episodes) == count
    return opened, first


def int8_recall(count: int = 20_000, queries: int = 200, k: int = 10) -> dict[str, float]:
    """Returns how many of the 10 nearest by float32 are among the 10 nearest by int8, and the like."""
    vectors = view_embeddings(count)
    coarse = np.stack([unit(code) for code in map(quantise, vectors) if code is not None])
    asked = view_embeddings(queries, seed=0)[:, :] + 0.0
    asked += 0.3 * view_embeddings(queries, seed=9)
    found = 0.0
    for query in asked:
        exact = np.argsort(-(vectors @ query))[:k]
        found += len(np.intersect1d(exact, np.argsort(-(coarse @ query))[:k])) / k
    error = np.abs((vectors[:1000] @ asked.T) - (coarse[:1000] @ asked.T)).max()
    return {"recall_at_10": found / queries, "largest_error_of_a_cosine": float(error)}

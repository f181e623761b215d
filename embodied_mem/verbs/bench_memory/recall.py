"""Recall measured: latency by size beside brute force and LanceDB, poisoned records, learned utility."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.memory import Memory, MemoryConfig
from embodied_mem.memory.episodes.entries import Episode, Episodes
from embodied_mem.memory.episodes.vectors import quantise
from embodied_mem.types import NS_PER_S, Query

DIMENSIONS = 128
TOPICS = 500
"""Embeddings scatter around so many centres: what a robot sees repeats itself."""
SIDE = 60.0
"""Edge of the square the entries lie in [m]."""


def bench_recall(sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000), queries: int = 100) -> dict[str, Any]:
    """Times recall over place, time and embedding, and over all entries, by the number of entries.

    Args:
        sizes: numbers of entries.
        queries: so many queries of each kind are timed, one by one.

    Returns:
        `p99_ms` (filtered) and `unfiltered_p99_ms` by size; `by_size`: `filtered` and `unfiltered` with
        `p50_ms` and `p99_ms`, `kept_most` (the largest share of entries that the filters keep) and `exact`
        (the share of questions whose best k brute force finds too); `peers`: the times of others for the
        same questions, by size.
    """
    by_size = {str(size): _bench_size(size, queries) for size in sizes}
    return {
        "p99_ms": {size: found["filtered"]["p99_ms"] for size, found in by_size.items()},
        "unfiltered_p99_ms": {size: found["unfiltered"]["p99_ms"] for size, found in by_size.items()},
        "peers": {size: found.pop("peers") for size, found in by_size.items()},
        "by_size": by_size,
    }


def _bench_size(size: int, queries: int) -> dict[str, Any]:
    rng = np.random.default_rng(size)
    memory, vectors = scattered(size, rng)
    asked = [_question(memory, rng, vectors) for _ in range(queries)]
    kept = [_mask(memory, q).mean() for q in asked]
    peers: dict[str, Any] = {"numpy": {}, "lancedb": {}}
    report: dict[str, Any] = {"entries": size, "kept_most": float(np.max(kept)), "peers": peers}
    free = [Query(kind="episode", like=q.like, k=q.k) for q in asked]
    for name, listed in (("filtered", asked), ("unfiltered", free)):
        memory.recall(listed[0])
        report[name] = _times(listed, memory.recall)
        brute = NumpyPeer(memory)
        found = [{a.id for a in memory.recall(q)} == set(brute(q)) for q in listed[:20]]
        report[name]["exact"] = float(np.mean(found))
        peers["numpy"][name] = _times(listed[:20], brute)
    with tempfile.TemporaryDirectory() as folder:
        peer = lance_peer(memory, folder)
        if peer is not None:
            for name, listed in (("filtered", asked), ("unfiltered", free)):
                peer(listed[0])
                few = listed[:20]
                peers["lancedb"][name] = _times(few, peer)
    return report


def scattered(size: int, rng: np.random.Generator) -> tuple[Memory, NDArray[np.float32]]:
    """Returns a memory of `size` entries along a walk, and (size, D) float32 the vectors they came from."""
    config = MemoryConfig()
    memory = Memory(config)
    centers = rng.normal(size=(TOPICS, DIMENSIONS)).astype(np.float32)
    vectors = centers[rng.integers(0, TOPICS, size)] + rng.normal(size=(size, DIMENSIONS)).astype(np.float32)
    positions = np.cumsum(rng.normal(scale=0.4, size=(size, 2)), axis=0) % SIDE
    fill(memory.episodes, positions, vectors)
    memory.contents.stamp = int(memory.episodes.stamps[-1])
    return memory, vectors


def fill(episodes: Episodes, positions: NDArray[np.float64], vectors: NDArray[np.float32]) -> None:
    """Adds one entry per row, half a second apart; a place is a square of two metres."""
    cells = (positions // 2.0).astype(np.int64)
    places = cells[:, 0] + cells[:, 1] * 1000
    for i, (x, y) in enumerate(positions.tolist()):
        episodes.add(
            Episode(
                id=i,
                stamp=i * NS_PER_S // 2,
                step=i,
                pose=Pose(np.array([x, y, 0.0])),
                place_id=int(places[i]),
                embedding=quantise(vectors[i]),
                source="bench",
            )
        )


def _question(memory: Memory, rng: np.random.Generator, vectors: NDArray[np.float32]) -> Query:
    """Returns a query whose place and time keep a few percent of the entries, near a known vector."""
    count = len(vectors)
    target = int(rng.integers(0, count))
    like = vectors[target] + 0.5 * rng.normal(size=DIMENSIONS).astype(np.float32)
    half = count // 20  # a tenth of the time, whatever the place
    start = int(np.clip(target - half, 0, count - 2 * half - 1))
    stamps = memory.episodes.stamps
    x, y, _ = memory.episodes.positions[target].tolist()
    return Query(
        kind="episode",
        near=(x, y, 0.0),
        radius=SIDE / 3,
        since=int(stamps[start]),
        until=int(stamps[start + 2 * half]),
        like=like,
        k=10,
    )


def _mask(memory: Memory, query: Query) -> NDArray[np.bool_]:
    episodes = memory.episodes
    keep = np.ones(len(episodes), bool)
    if query.since is not None and query.until is not None:
        keep &= (episodes.stamps >= query.since) & (episodes.stamps <= query.until)
    if query.near is not None and query.radius is not None:
        delta = episodes.positions - np.array(query.near)
        keep &= (delta * delta).sum(axis=1) <= query.radius**2
    return keep


def _times(queries: list[Query], ask: Callable[[Query], Any]) -> dict[str, float]:
    seconds = []
    for query in queries:
        start = time.perf_counter()
        ask(query)
        seconds.append(time.perf_counter() - start)
    p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1e3
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


class NumpyPeer:
    """Brute force: boolean masks, then a float32 matrix product over what is left.

    Args:
        memory: whose entries it searches.
    """

    def __init__(self, memory: Memory) -> None:
        vectors = memory.episodes.vectors
        self._memory = memory
        self._unit = vectors.rows.astype(np.float32) * vectors.scales[:, None]  # (N, D)

    def __call__(self, query: Query) -> list[int]:
        """Returns the ids of the best k, by the mean of nearness and cosine."""
        rows = np.flatnonzero(_mask(self._memory, query))
        assert query.like is not None
        like = query.like / np.linalg.norm(query.like)
        score = np.maximum(self._unit[rows] @ like.astype(np.float32), 0.0).astype(np.float64)
        if query.near is not None:
            delta = self._memory.episodes.positions[rows] - np.array(query.near)
            score = (score + 1.0 / (1.0 + np.sqrt((delta * delta).sum(axis=1)))) / 2.0
        best = np.argsort(-score, kind="stable")[: query.k]
        return [int(i) for i in self._memory.episodes.ids[rows[best]]]


def lance_peer(memory: Memory, folder: str) -> Callable[[Query], list[int]] | None:
    """Returns the same question to LanceDB (flat, cosine, filters first); None where it is not installed.

    Its rank is by cosine alone: it knows no nearness.
    """
    try:
        import lancedb
        import pyarrow as pa
    except ImportError:
        return None
    episodes = memory.episodes
    unit = episodes.vectors.rows.astype(np.float32) * episodes.vectors.scales[:, None]
    flat = pa.FixedSizeListArray.from_arrays(pa.array(unit.reshape(-1)), DIMENSIONS)
    table = lancedb.connect(folder).create_table(
        "entries",
        pa.table(
            {
                "id": pa.array(episodes.ids),
                "stamp": pa.array(episodes.stamps),
                "x": pa.array(np.ascontiguousarray(episodes.positions[:, 0])),
                "y": pa.array(np.ascontiguousarray(episodes.positions[:, 1])),
                "vector": flat,
            }
        ),
    )

    def ask(query: Query) -> list[int]:
        search: Any = table.search(query.like)
        search = search.distance_type("cosine").limit(query.k)
        if query.near is not None and query.radius is not None:
            x, y, _ = query.near
            search = search.where(
                f"stamp >= {query.since} AND stamp <= {query.until} AND "
                f"(x - {x}) * (x - {x}) + (y - {y}) * (y - {y}) <= {query.radius**2}",
                prefilter=True,
            )
        return [int(row["id"]) for row in search.to_list()]

    return ask

"""The budget: a week of entries in 200 MB, and what is still known of every place."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.memory import Memory
from embodied_mem.memory.budget import EVERY, BudgetConfig
from embodied_mem.memory.episodes.entries import Episode
from embodied_mem.memory.upkeep import make_room
from embodied_mem.types import Query, Scan
from embodied_mem.verbs.bench_memory.size import PLACES, entries
from embodied_mem.verbs.bench_memory.workload import Rooms, grid_config, keyframes, know_objects

ENTRIES = 1_050_000
LIMIT = 200_000_000
POLICIES = ("place", "fifo")
MIXED = 3_000_000
"""Little room for 400 rooms: places, and the last entry of each, never go, and are most of what is left."""


def measure() -> dict[str, Any]:
    """Returns, by way of evicting: facts recalled, the largest size of the file, what was evicted."""
    found = {policy: week(policy, ENTRIES, LIMIT) for policy in POLICIES}
    with tempfile.TemporaryDirectory() as folder:
        facts, largest = mixed(Path(folder) / "mixed.emem", 12_000, 400, MIXED)
    return {
        "workload": {"entries": ENTRIES, "places": PLACES, "facts": PLACES, "limit": LIMIT},
        "place_recall": found["place"]["facts_recalled"],
        "fifo_recall": found["fifo"]["facts_recalled"],
        "largest_of_limit": max(each["largest_of_limit"] for each in found.values()),
        "by_policy": found,
        "all_kinds": {
            "workload": {"writes": 12_000, "rooms": 400, "limit": MIXED},
            "largest_of_limit": largest / MIXED,
            **{name: count for name, count in facts.items() if name.startswith("evicted")},
        },
    }


def mixed(path: Path, writes: int, rooms: int, limit: int) -> tuple[dict[str, Any], int]:
    """Walks through more rooms than a file may hold; returns what the memory says, and its largest size.

    Args:
        path: of the file.
        writes: so many keyframes with snapshots, which are noise.
        rooms: so many rooms with a thing in each, as high as wide.
        limit: bytes of the file.
    """
    config = grid_config(budget=BudgetConfig(limit))
    noise = np.random.default_rng(0).integers(0, 256, (16, 96, 96, 3), dtype=np.uint8)
    largest = 0
    with Memory.open(path, config) as memory:
        for step, percept in enumerate(keyframes(writes, Rooms(rooms))):
            scans = tuple(_higher(scan) for scan in percept.scans)
            memory.write(replace(percept, snapshot=noise[step % len(noise)], scans=scans))
            if step % EVERY == 0:
                largest = max(largest, _bytes(path))
        memory.flush()
        return memory.info(), max(largest, _bytes(path))


def _higher(scan: Scan, levels: int = 24) -> Scan:
    """Returns a scan of one layer of cells as one of several, one above the other."""
    up = np.arange(levels, dtype=np.float32)[:, None, None] * np.array([0, 0, 1], np.float32)
    points = (scan.points[None] + up).reshape(-1, 3)
    return Scan(points, np.tile(scan.hit, levels), np.tile(scan.labels, levels), scan.origin)


def week(policy: str, count: int, limit: int) -> dict[str, float]:
    """Writes entries and one fact per place, spread over the time; asks for each fact at the end.

    Args:
        policy: which entries go first.
        count: how many entries.
        limit: bytes of the file.
    """
    facts = dict(zip(np.linspace(0, count - 1, PLACES).astype(int).tolist(), _places(PLACES)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "week.emem"
        config = grid_config(budget=BudgetConfig(limit, policy))  # type: ignore[arg-type]
        start, largest = time.perf_counter(), 0
        with Memory.open(path, config) as memory:
            know_objects(memory, 3 * PLACES)
            for entry in entries(count):
                memory.episodes.add(_with_fact(entry, facts.get(entry.id)))
                if (entry.id + 1) % EVERY == 0:
                    for gone in make_room(memory.contents):
                        memory.drop_images(gone)
                    memory._done("accepted")
                    largest = max(largest, _bytes(path))
            memory.flush()
            seconds = time.perf_counter() - start
            largest = max(largest, _bytes(path))
            known = sum(_is_known(memory, place) for place in facts.values())
            covered = len(np.unique(memory.episodes.place_ids))
            facts_of = memory.info()
            clean = memory.check().is_clean
        return {
            "facts_recalled": known / len(facts),
            "places_covered": covered / PLACES,
            "entries_left": facts_of["episodes"],
            "evicted_entries": facts_of["evicted_entries"],
            "largest_of_limit": largest / limit,
            "bytes_at_the_end": path.stat().st_size,
            "check_is_clean": float(clean),
            "entries_per_s": count / seconds,
        }


def _places(count: int) -> list[int]:
    return np.random.default_rng(3).permutation(count).tolist()


def _with_fact(entry: Episode, place: int | None) -> Episode:
    return entry if place is None else replace(entry, place_id=place, text=f"spot {place} holds a mug")


def _is_known(memory: Memory, place: int) -> bool:
    answers = memory.recall(Query(place=place, text="holds a mug", kind="episode", k=1))
    return bool(answers) and f"spot {place} holds" in answers[0].text


def _bytes(path: Path) -> int:
    wal = path.with_name(path.name + "-wal")
    return path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)

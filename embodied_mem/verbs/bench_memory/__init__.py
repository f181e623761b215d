"""`bench memory`: writes, sizes, budget, crashes and recall, each a section of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from embodied_mem.errors import ConfigError

SECTIONS = {
    "budget": (
        "embodied_mem.verbs.bench_memory.budget:measure",
        "a week of entries in 200 MB: size of the file, facts recalled by place, each way of evicting",
    ),
    "crash": (
        "embodied_mem.verbs.bench_memory.crash:measure",
        "kill -9, power cuts, a full disk, a read-only file: what was lost",
    ),
    "size": (
        "embodied_mem.verbs.bench_memory.size:measure",
        "bytes on disk per entry; what int8 embeddings cost in recall; opening by number of entries",
    ),
    "write": (
        "embodied_mem.verbs.bench_memory.write:measure",
        "keyframes per second with snapshots; how long the loop's thread is held",
    ),
    "recall": (
        "embodied_mem.verbs.bench_memory.recall:bench_recall",
        "latency by size, with filters and without, beside brute force and LanceDB",
    ),
    "text": (
        "embodied_mem.verbs.bench_memory.text:measure",
        "questions in words over 100,000 notes, beside SQLite's FTS5",
    ),
    "utility": (
        "embodied_mem.verbs.bench_memory.utility:measure",
        "usefulness of answers to held-out questions after feedback, learned utility off and on",
    ),
    "trust": (
        "embodied_mem.verbs.bench_memory.trust:bench_trust",
        "poisoned records among the best answers, with consensus and without",
    ),
    "reanchor": (
        "embodied_mem.verbs.bench_memory.reanchor:bench_reanchor",
        "entries, objects and voxels of a house after a loop closure, against right poses",
    ),
}
"""Name of a section: the function that measures it, and what it says."""


def bench_memory(sections: Sequence[str] = ()) -> dict[str, Any]:
    """Measures sections of the memory, all where none is named.

    Returns:
        by section, in seconds and milliseconds as the names say; `peers`: what others take for the
        questions of `recall`, by size, and of `text`, in the same run; `wall_s` of each section.

    Raises:
        ConfigError: there is no such section.
    """
    unknown = [name for name in sections if name not in SECTIONS]
    if unknown:
        raise ConfigError(f'no section "{unknown[0]}" of bench memory; there are: {", ".join(SECTIONS)}')
    chosen = [name for name in SECTIONS if name in sections or not sections]
    report: dict[str, Any] = {}
    took = {}
    for name in chosen:
        module, function = SECTIONS[name][0].split(":")
        start = time.perf_counter()
        report[name] = getattr(import_module(module), function)()
        took[name] = time.perf_counter() - start
    peers = {**report.get("recall", {}).pop("peers", {})}
    if "text" in report:
        peers["sqlite_fts5"] = report["text"].pop("fts5")
    if peers:
        report["peers"] = peers
    return {**report, "wall_s": took}

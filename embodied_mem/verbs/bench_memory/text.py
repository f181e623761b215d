"""Words: questions in words over notes, by the memory's own index and by SQLite's FTS5, in the same run."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.geometry import Pose
from embodied_mem.memory import Memory, MemoryConfig
from embodied_mem.memory.episodes.entries import Episode
from embodied_mem.types import Query
from embodied_mem.verbs.bench_memory.workload import STEP_NS

NOTES = 100_000
"""As many as a million entries have where every tenth says something in words."""
VOCABULARY, WORDS = 3000, 7
QUERIES = 100


def measure(notes: int = NOTES, queries: int = QUERIES) -> dict[str, Any]:
    """Times questions of three words over notes of seven, the rare and the frequent as in a text.

    Returns:
        `first_answer_s` of a file just opened, `p50_ms` and `p99_ms` from then on (with filters,
        scores and evidence), and `words_p99_ms` for the ids alone; `fts5`: the same of an FTS5 table
        beside the file for the ids alone, and `bytes_per_note` of its index; `same`: the share of
        questions for which both find the same notes.
    """
    rng = np.random.default_rng(0)
    said = [f"w{number}" for number in range(VOCABULARY)]
    words = np.minimum(rng.zipf(1.3, (notes, WORDS)) - 1, VOCABULARY - 1)
    texts = [" ".join(said[n] for n in row) for row in words.tolist()]
    asked = [[said[n] for n in dict.fromkeys(row)] for row in rng.choice(words, queries)[:, :3].tolist()]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "notes.emem"
        with Memory.open(path, MemoryConfig()) as memory:
            for number, text in enumerate(texts):
                stamp = (number + 1) * STEP_NS
                memory.episodes.add(Episode(id=number, stamp=stamp, step=number, pose=Pose(), text=text))
            memory._done("accepted")
        start = time.perf_counter()
        with Memory.open(path, read_only=True) as memory:
            memory.recall(_query(asked[0]))
            own: dict[str, float] = {"first_answer_s": time.perf_counter() - start}
            own |= _times(asked, lambda line: memory.recall(_query(line)))

            def find(line: list[str]) -> set[int]:
                return {i for word in line for i in memory.episodes.with_word(word)}

            own["words_p99_ms"] = _times(asked, find)["p99_ms"]
            theirs, search = _fts5(Path(folder) / "fts5.db", texts, asked)
            same = [find(line) == search(line) for line in asked]
    return {
        "workload": {"notes": notes, "words_each": WORDS, "vocabulary": VOCABULARY, "queries": queries},
        **own,
        "fts5": theirs,
        "same": float(np.mean(same)),
    }


def _query(line: list[str]) -> Query:
    return Query(kind="episode", text=" ".join(line), k=10)


def _times(asked: list[list[str]], ask: Callable[[list[str]], Any]) -> dict[str, float]:
    seconds = []
    for line in asked:
        start = time.perf_counter()
        ask(line)
        seconds.append(time.perf_counter() - start)
    p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1e3
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def _fts5(
    path: Path, texts: list[str], asked: list[list[str]]
) -> tuple[dict[str, float], Callable[[list[str]], set[int]]]:
    """Returns what an index without contents takes, and what finds notes with any of some words."""
    database = sqlite3.connect(path)
    database.execute("CREATE VIRTUAL TABLE notes USING fts5(text, content='', tokenize='unicode61')")
    database.executemany("INSERT INTO notes(rowid, text) VALUES (?, ?)", enumerate(texts))
    database.commit()
    database.close()
    start = time.perf_counter()
    reader = sqlite3.connect(path)

    def search(line: list[str]) -> set[int]:
        found = reader.execute("SELECT rowid FROM notes WHERE notes MATCH ?", (" OR ".join(line),))
        return {number for (number,) in found}

    search(asked[0])
    first = time.perf_counter() - start
    times = _times(asked, search)
    return {
        "first_answer_s": first,
        "words_p99_ms": times["p99_ms"],
        "bytes_per_note": path.stat().st_size / len(texts),
    }, search

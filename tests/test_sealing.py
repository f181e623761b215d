"""Promises of sealed chunks: old entries lie in the file as blobs, and nobody can tell."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from embodied_mem.errors import StoreError
from embodied_mem.geometry import Pose
from embodied_mem.memory import Memory
from embodied_mem.memory.budget import BudgetConfig
from embodied_mem.memory.episodes.chunks import ALIVE, CHUNK, DETAILS, HEADS, PARTS, VECTORS, unpack_texts
from embodied_mem.memory.episodes.entries import Episode, Episodes
from embodied_mem.memory.episodes.sealing import AT_ONCE
from embodied_mem.memory.episodes.vectors import quantise
from embodied_mem.memory.store.check import check_file
from embodied_mem.types import Query
from embodied_mem.verbs.bench_memory.workload import grid_config, know_objects

SIZE = 8


class Disk:
    """The tables of a file, as the batches that were written into it leave them."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[int, bytes]] = {name: {} for name in ("episodes", *PARTS, ALIVE)}
        self.version = 1
        self.read: list[tuple[str, int]] = []

    def take(self, episodes: Episodes) -> None:
        tables, version = episodes.take_rows(self.version)(), episodes.version
        episodes.settle(version)
        self.version = version
        for name, rows in tables.items():
            for key, payload in rows:
                self.tables[name].pop(key, None)
                if payload:
                    self.tables[name][key] = payload

    def fetch(self, name: str, keys: list[int]) -> list[tuple[int, bytes]]:
        self.read += [(name, key) for key in keys]
        return [(key, self.tables[name][key]) for key in keys if key in self.tables[name]]

    def opened(self, episodes: Episodes) -> Episodes:
        again = Episodes()
        rows = {name: list(self.tables[name].items()) for name in ("episodes", HEADS, ALIVE)}
        again.restore(rows, self.fetch)
        again.next_id = episodes.next_id
        return again


def add(episodes: Episodes, rng: np.random.Generator, count: int) -> None:
    for _ in range(count):
        number = episodes.next_id
        has = number >= 40 and rng.random() < 0.9
        episodes.add(
            Episode(
                id=number,
                stamp=(number + 1) * 10**8,
                step=number,
                pose=Pose.from_xyz_yaw(*rng.normal(size=3).tolist(), 0.3),
                place_id=number // 50,
                object_ids=tuple(sorted(set(rng.integers(0, 30, 3).tolist()))),
                embedding=quantise(rng.normal(size=SIZE)) if has else None,
                action=[None, 3, np.array([0.5, 1.0])][number % 3],
                event="é" if number % 7 == 0 else "",
                text="tea time" if number % 11 == 0 else "",
                changes=((int(rng.integers(0, 30)), "the mug is gone"),) if number % 13 == 0 else (),
                source="camera",
                evidence=(number - 3, number - 2) if number % 64 == 63 else (),
            )
        )


def same(a: Episodes, b: Episodes) -> None:
    assert a.digest() == b.digest()
    assert [a.seen_in(i) for i in range(30)] == [b.seen_in(i) for i in range(30)]
    assert [a.with_word(word) for word in ("é", "tea", "gone")] == [
        b.with_word(word) for word in ("é", "tea", "gone")
    ]
    assert a.summaries() == b.summaries() and a.content_bytes == b.content_bytes
    assert np.array_equal(a.has_words, b.has_words)
    assert not len(a) or np.array_equal(a.embeddings, b.embeddings)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_done_to_entries_the_file_holds_them_as_they_are(seed: int):
    rng = np.random.default_rng(seed)
    episodes, disk = Episodes(), Disk()
    for _ in range(14):
        add(episodes, rng, int(rng.integers(1, 700)))
        some = rng.choice(episodes.ids, 5)
        what = int(rng.integers(0, 6))
        if what == 0:
            episodes.learn(some.tolist(), 1.0, 0.5)
        elif what == 1:
            episodes.remove(np.unique(rng.choice(episodes.ids, len(episodes) // 5)))
        elif what == 2:
            episodes.forget_object(int(rng.integers(0, 30)))
        elif what == 3:
            episodes.move(episodes.poses + 0.5)
        elif what == 4:
            episodes.remove(episodes.ids[episodes.ids < CHUNK].copy())
        else:
            episodes.use(some.tolist(), 10**15)
        disk.take(episodes)
        same(disk.opened(episodes), episodes)
        if rng.random() < 0.3:  # closed and opened again: the rest goes on from the file
            episodes = disk.opened(episodes)
            disk.version = episodes.version
    assert disk.tables[HEADS]
    assert all(key >> 10 not in disk.tables[HEADS] for key in disk.tables["episodes"])


def test_only_what_is_asked_for_is_read(tmp_path: Path):
    rng = np.random.default_rng(0)
    episodes, disk = Episodes(), Disk()
    add(episodes, rng, 8 * CHUNK)
    disk.take(episodes)
    again = disk.opened(episodes)
    assert len(again) == 8 * CHUNK and not disk.read
    again.vectors.some(np.arange(CHUNK, CHUNK + 10))
    assert disk.read == [(VECTORS, 1)]
    assert again.at(5 * CHUNK + 3).object_ids == episodes.at(5 * CHUNK + 3).object_ids
    assert {key for _, key in disk.read} == {1, 5}


def test_a_chunk_of_which_most_has_gone_is_written_anew_and_an_empty_one_removed():
    rng = np.random.default_rng(0)
    episodes, disk = Episodes(), Disk()
    add(episodes, rng, 6 * CHUNK)
    disk.take(episodes)
    before = len(disk.tables[VECTORS][1])
    episodes.remove(np.concatenate([np.arange(CHUNK), np.arange(CHUNK, CHUNK + 700)]))
    disk.take(episodes)
    assert all(0 not in disk.tables[name] for name in (*PARTS, ALIVE))
    assert len(disk.tables[VECTORS][1]) < 0.4 * before and 1 not in disk.tables[ALIVE]
    episodes.remove(np.arange(2 * CHUNK, 2 * CHUNK + 100))
    vectors = disk.tables[VECTORS][2]
    disk.take(episodes)
    assert disk.tables[VECTORS][2] is vectors and len(disk.tables[ALIVE][2]) == CHUNK // 8
    same(disk.opened(episodes), episodes)


def test_what_is_forgotten_is_in_no_part_of_the_file():
    rng = np.random.default_rng(0)
    episodes, disk = Episodes(), Disk()
    add(episodes, rng, 3 * CHUNK)
    disk.take(episodes)
    before = {name: len(disk.tables[name][1]) for name in PARTS}
    assert episodes.forget(CHUNK + 7)
    disk.take(episodes)
    opened = disk.opened(episodes)
    same(opened, episodes)
    assert len(disk.tables[VECTORS][1]) < before[VECTORS] and 1 not in disk.tables[ALIVE]
    ((_, texts),) = ((c, unpack_texts(c, p)) for c, p in disk.fetch(DETAILS, [1]))
    assert 7 not in texts.offsets and len(texts.offsets) == CHUNK - 1


def filled(path: Path, count: int = 3 * CHUNK) -> str:
    with Memory.open(path, grid_config()) as memory:
        know_objects(memory, 30)
        add(memory.episodes, np.random.default_rng(1), count)
        memory._done("accepted")
        return memory.digest()


def test_a_file_with_sealed_chunks_is_clean_and_the_same_memory(tmp_path: Path):
    path = tmp_path / "home.emem"
    digest = filled(path)
    assert check_file(path).is_clean and not check_file(path).problems
    with Memory.open(path, read_only=True) as memory:
        assert memory.digest() == digest
        memory.save(tmp_path / "copy.emem")
    with Memory.open(tmp_path / "copy.emem") as memory:
        assert memory.digest() == digest
        memory.forget("episode", 5)
        (answer,) = memory.recall(Query(kind="episode", text="tea", k=1))
        assert answer.why == "words found: tea"
    assert check_file(tmp_path / "copy.emem").is_clean
    with Memory.open(tmp_path / "copy.emem", read_only=True) as memory:
        assert memory.episodes.entry(5) is None and len(memory.episodes) == 3 * CHUNK - 1


@pytest.mark.parametrize("table", PARTS)
def test_a_damaged_part_of_a_chunk_is_named_and_repair_goes_on_without_it(tmp_path: Path, table: str):
    path = tmp_path / "home.emem"
    filled(path)
    database = sqlite3.connect(path)
    database.execute(f"UPDATE {table} SET payload = x'0102' WHERE id = 0")
    database.commit()
    database.close()
    with pytest.raises(StoreError, match=table), Memory.open(path, read_only=True) as memory:
        memory.digest()
    report = check_file(path, repair=True)
    assert report.is_clean and report.problems[0].startswith(f"{table} [0]")
    assert not check_file(path).problems
    with Memory.open(path) as memory:
        assert len(memory.episodes) == (2 if table == HEADS else 3) * CHUNK
        assert memory.recall(Query(kind="episode", like=np.ones(SIZE), k=3))
        memory.digest()


def test_what_a_burst_of_writes_leaves_unsealed_is_sealed_at_the_end(tmp_path: Path):
    path, wal = tmp_path / "home.emem", tmp_path / "home.emem-wal"
    config = grid_config(budget=BudgetConfig(10**8))
    with Memory.open(path, config) as memory:
        know_objects(memory, 30)
        add(memory.episodes, np.random.default_rng(1), 24 * CHUNK + 5)
        digest = memory.digest()
        memory._done("accepted")
        memory.flush()
        assert memory.episodes.backlog == 24 - 1 - AT_ONCE  # a batch seals only so many
        memory.compact()
        assert memory.episodes.backlog == 0 and wal.stat().st_size < 10**6
        assert memory.digest() == digest
        add(memory.episodes, np.random.default_rng(2), 24 * CHUNK)
        digest = memory.digest()
    database = sqlite3.connect(path)
    counts = [database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in (HEADS, "episodes")]
    database.close()
    assert counts == [47, CHUNK + 5]  # the newest stay rows of their own
    assert check_file(path).is_clean
    with Memory.open(path, read_only=True) as memory:
        assert memory.digest() == digest

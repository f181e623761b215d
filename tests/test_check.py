"""Promises of `check`, of older files, and of runs whose clock starts again."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import grid_walk
import numpy as np
import pytest

from embodied_mem.errors import StoreError
from embodied_mem.memory import Memory
from embodied_mem.memory.store.check import check_file
from embodied_mem.memory.store.store import SCHEMA
from embodied_mem.types import Query

OLD = Path(__file__).parent / "schema_1.emem"
"""Written by the release whose schema was 1: twelve steps of the grid walk and a note."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "home.emem"
    with Memory.open(path, grid_walk.config()) as memory:
        for step in range(20):
            memory.write(grid_walk.percept(step, snapshot=np.full((8, 8, 3), step, np.uint8)))
    return path


def spoil(path: Path, statement: str) -> None:
    database = sqlite3.connect(path)
    database.execute(statement)
    database.commit()
    database.close()


def test_a_whole_file_is_clean_also_while_it_is_written(path: Path):
    report = check_file(path)
    assert report.is_clean and not report.problems
    assert report.rows["episodes"] == 20 and report.rows["snapshots"] == 20
    with Memory.open(path) as memory:
        memory.write(grid_walk.percept(20))
        assert memory.check().rows["episodes"] == 21


@pytest.mark.parametrize("table", ["octree", "snapshots", "episodes", "encounters"])
def test_a_damaged_row_is_named_and_repair_goes_on_without_it(path: Path, table: str):
    spoil(path, f"UPDATE {table} SET payload = x'0102' WHERE id = (SELECT min(id) FROM {table})")
    report = check_file(path)
    assert not report.is_clean and report.problems[0].startswith(table)
    assert check_file(path, repair=True).is_clean
    assert check_file(path).is_clean and not check_file(path).problems
    with Memory.open(path) as memory:
        assert memory.write(grid_walk.percept(20)).verdict == "accepted"


def test_what_cannot_be_rebuilt_is_left_alone(path: Path):
    spoil(path, "UPDATE graph SET payload = x'00' WHERE kind = 'object'")
    before = path.read_bytes()
    assert not check_file(path, repair=True).is_clean
    assert path.read_bytes() == before


def test_an_image_of_no_entry_is_found_and_removed(path: Path):
    spoil(path, "UPDATE snapshots SET id = 999 WHERE id = 3")
    assert any("snapshot" in line for line in check_file(path).problems)
    assert check_file(path, repair=True).is_clean and not check_file(path).problems


def test_a_file_of_the_former_schema_opens_and_goes_on(tmp_path: Path):
    path = tmp_path / "old.emem"
    shutil.copy(OLD, path)
    with Memory.open(path, read_only=True) as memory:
        digest = memory.digest()
        assert len(memory.episodes) == 13 and memory.snapshot(4) is not None
        assert memory.recall(Query(text="old days"))[0].kind == "episode"
    assert path.read_bytes() == OLD.read_bytes()
    query = np.random.default_rng(7).normal(size=32).astype(np.float32)
    with Memory.open(path) as memory:
        assert memory.digest() == digest
        assert memory.recall(Query(like=query, kind="episode", k=1))[0].id == 7
        assert memory.relocalize(memory.map_T_base).verdict == "accepted"
        assert memory.write(grid_walk.percept(12)).verdict == "accepted"
        assert memory.check().is_clean
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
    database.close()


def test_a_file_of_schema_2_keeps_summaries_utilities_and_what_was_said(tmp_path: Path):
    path = tmp_path / "old.emem"
    shutil.copy(OLD.with_name("schema_2.emem"), path)
    with Memory.open(path) as memory:
        assert memory.episodes.summaries() == {13: tuple(range(9))}
        assert memory.episodes.utilities[3] == pytest.approx(0.3)
        assert np.array_equal(memory.episodes.used, memory.episodes.stamps)
        (answer,) = memory.recall(Query(text="former days", k=1))
        assert answer.id == 12
        digest = memory.digest()
    with Memory.open(path, read_only=True) as memory:
        assert memory.digest() == digest and memory.check().is_clean


def test_a_run_whose_clock_starts_again_is_laid_after_the_newest(path: Path):
    with Memory.open(path) as memory:
        newest = memory.stamp
        for step in range(5):
            assert memory.write(grid_walk.percept(step)).verdict == "accepted"
        (run,) = memory.info()["runs"]
        assert run["since"] == newest + 10**9 and memory.stamp == run["since"] + 4 * grid_walk.STEP_NS
    with Memory.open(path) as memory:  # the same run goes on, with the same offset
        assert memory.write(grid_walk.percept(5)).verdict == "accepted"
        assert memory.stamp == run["since"] + 5 * grid_walk.STEP_NS
        assert memory.write(grid_walk.percept(4)).verdict == "rejected"


def test_a_run_whose_clock_has_gone_on_keeps_its_stamps(path: Path):
    with Memory.open(path) as memory:
        memory.write(grid_walk.percept(0))
        assert memory.write(grid_walk.percept(500, is_first=True)).verdict == "accepted"
        assert memory.stamp == 501 * grid_walk.STEP_NS


def test_a_second_run_in_one_file_is_the_same_memory_as_in_ram(path: Path):
    plain = Memory(grid_walk.config())
    for step in [*range(20), *range(15)]:
        plain.write(grid_walk.percept(step, snapshot=np.full((8, 8, 3), step, np.uint8)))
    with Memory.open(path) as memory:
        for step in range(15):
            memory.write(grid_walk.percept(step))
        assert memory.digest() == plain.digest()


def test_a_file_that_is_no_memory_is_refused(tmp_path: Path):
    (tmp_path / "x.emem").write_bytes(b"hello" * 1000)
    with pytest.raises(StoreError, match="not a memory file"):
        check_file(tmp_path / "x.emem")

"""Promises of the byte budget: the file stays below it; what goes is chosen by config and counted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from embodied_mem.errors import ConfigError
from embodied_mem.geometry import Pose
from embodied_mem.memory import Memory
from embodied_mem.memory.budget import EVERY, BudgetConfig, choose, enforce, parse_bytes
from embodied_mem.memory.episodes.entries import Episode
from embodied_mem.types import Command, Query
from embodied_mem.verbs.bench_memory.budget import mixed
from embodied_mem.verbs.bench_memory.workload import Rooms, grid_config, keyframes


@pytest.mark.parametrize(
    ("text", "size"), [("2 GB", 2 * 10**9), ("1.5mb", 1_500_000), ("4 MiB", 4 << 20), (10**6, 10**6)]
)
def test_a_budget_is_written_as_people_write_it(text, size: int):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["much", "2 TB GB", "-1 GB", ""])
def test_a_budget_that_is_no_size_is_refused(tmp_path: Path, text: str):
    with pytest.raises(ConfigError, match="no size"):
        Memory.open(tmp_path / "home.emem", budget=text)


def test_a_budget_too_small_to_hold_anything_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="1 MB"):
        Memory.open(tmp_path / "home.emem", budget="3 kb")


def crowded(evict: str) -> Memory:
    """Forty entries at place 0, five at place 1, one each at places 2 to 9, one of them with words."""
    memory = Memory(grid_config(budget=BudgetConfig(10**6, evict)))
    where = [*range(2, 10), *[1] * 5, *[0] * 40]
    for number, place in enumerate(where):
        memory.episodes.add(
            Episode(
                number, (number + 1) * 10**9, number, memory.map_T_base, place, text="tea" * (number == 20)
            )
        )
    return memory


def test_place_coverage_thins_the_fullest_places_and_keeps_what_has_words():
    memory = crowded("place")
    gone = choose(memory._contents, 30)
    assert len(gone) == 30
    memory.episodes.remove(gone)
    _, counts = np.unique(memory.episodes.place_ids, return_counts=True)
    assert counts.tolist() == [10, 5, *[1] * 8]
    assert memory.episodes.entry(20) is not None
    assert 52 in memory.episodes.ids


def test_place_coverage_never_takes_the_last_entry_of_a_place():
    memory = crowded("place")
    gone = choose(memory._contents, 53)
    memory.episodes.remove(gone)
    assert sorted(memory.episodes.place_ids.tolist()) == list(range(10))


def test_fifo_takes_the_oldest_and_utility_the_least_useful():
    assert choose(crowded("fifo")._contents, 8).tolist() == list(range(8))
    memory = crowded("utility")
    memory.episodes.learn(range(10), 1.0, 0.5)
    memory.episodes.learn([30, 31], -1.0, 0.5)
    assert choose(memory._contents, 4).tolist() == [10, 11, 30, 31]


def test_lru_takes_what_was_written_or_recalled_longest_ago():
    told: list[Command] = []
    memory, replayed = (Memory(grid_config(budget=BudgetConfig(10**6, "lru"))) for _ in range(2))
    memory.on_command.append(told.append)
    frames = list(keyframes(60, Rooms(6)))
    for percept in frames[:50]:
        memory.write(percept)
    assert choose(memory._contents, 10).tolist() == list(range(10))
    view = frames[3].embedding
    assert view is not None
    answers = memory.recall(Query(kind="episode", like=view, until=frames[9].stamp, k=2))
    recalled = {answer.id for answer in answers}
    assert 3 in recalled and len(recalled) == 2 and not told
    for percept in frames[50:]:
        memory.write(percept)
    gone = choose(memory._contents, 10).tolist()
    assert gone == [i for i in range(12) if i not in recalled]
    (command,) = told
    assert command.name == "recalled" and set(command.arguments["entries"]) == recalled
    for number, percept in enumerate(frames):  # a replay knows it from the ledger
        if number == 50:
            replayed.apply(command)
        replayed.write(percept)
    assert replayed.digest() == memory.digest()


def test_recalling_is_not_noted_where_nothing_depends_on_it():
    memory = Memory(grid_config(budget=BudgetConfig(10**6, "place")))
    told: list[Command] = []
    memory.on_command.append(told.append)
    for percept in keyframes(5, Rooms(6)):
        memory.recall(Query(kind="episode"))
        memory.write(percept)
    assert not told and np.array_equal(memory.episodes.used, memory.episodes.stamps)


def test_removing_many_entries_leaves_the_others_as_they_were():
    memory, plain = crowded("fifo"), crowded("fifo")
    gone = np.array([0, 3, 4, 20, 52])
    memory.episodes.remove(gone)
    for entry_id in gone.tolist():
        plain.episodes.forget(entry_id)
    assert memory.digest() == plain.digest() and memory.episodes.with_word("tea") == []
    assert memory.episodes.content_bytes == plain.episodes.content_bytes
    fresh = Memory(grid_config())
    for entry in memory.episodes:
        fresh.episodes.add(entry)
    assert memory.episodes.content_bytes == fresh.episodes.content_bytes


def long_walk(memory: Memory, steps: int) -> None:
    for percept in keyframes(steps, Rooms(12)):
        memory.write(percept)


def test_the_file_stays_within_its_budget_and_says_what_went(tmp_path: Path):
    path, limit = tmp_path / "home.emem", 4_000_000
    wal, most = path.with_name(path.name + "-wal"), 0
    config = grid_config(budget=BudgetConfig(10**6, snapshots=0.8))
    with Memory.open(path, config, budget=limit) as memory:
        for step, percept in enumerate(keyframes(3200, Rooms(12))):
            noise = np.random.default_rng(step).integers(0, 256, (96, 96, 3), dtype=np.uint8)
            memory.write(dataclasses.replace(percept, snapshot=noise))
            if step % 100 == 0:
                memory.flush()
                most = max(most, path.stat().st_size + wal.stat().st_size)
        facts, digest = memory.info(), memory.digest()
        assert facts["evicted_entries"] > 0 and facts["evicted_snapshots"] > 0
        assert facts["evicted_entries"] + facts["episodes"] == memory.episodes.next_id >= 3200
        assert memory.config.budget.limit == limit
        assert memory.check().is_clean
    assert most <= 1.05 * limit and path.stat().st_size <= limit
    with Memory.open(path) as memory:
        assert memory.digest() == digest and memory.config.budget.limit == limit
        assert memory.info()["evicted_entries"] == facts["evicted_entries"]


def test_eviction_depends_on_the_writes_alone(tmp_path: Path):
    config = grid_config(budget=BudgetConfig(10**6))
    plain = Memory(config)
    long_walk(plain, 2600)
    assert plain.info()["evicted_entries"] > 0
    with Memory.open(tmp_path / "home.emem", config) as kept:
        long_walk(kept, 2600)
        assert kept.digest() == plain.digest()


@pytest.mark.slow
def test_every_kind_of_memory_goes_where_it_is_too_much(tmp_path: Path):
    path, limit = tmp_path / "home.emem", 3_000_000
    facts, largest = mixed(path, 2600, 400, limit)
    kinds = ("entries", "objects", "blocks", "snapshots")
    assert all(facts[f"evicted_{kind}"] > 0 for kind in kinds)
    assert largest <= 1.05 * limit
    with Memory.open(path) as memory:
        assert memory.check().is_clean and memory.info()["evicted_objects"] == facts["evicted_objects"]
        left = memory.scene.object_table
        assert 0 < len(left) < 400 and left.last_seen.max() > 0
        answer = memory.recall(Query(kind="object", k=1))[0]  # the newest are still known
        assert answer.age < 60


def test_voxels_and_trajectory_go_where_they_take_too_much():
    memory = Memory(grid_config(budget=BudgetConfig(10**6)))
    long_walk(memory, 640)
    before = (len(memory.octree), len(memory.scene.trajectory()[0]), len(memory.episodes.encounters))
    small = dataclasses.replace(memory.config, budget=BudgetConfig(10**6))
    object.__setattr__(small.budget, "limit", 12_000)
    memory._contents.config = small
    gone = enforce(memory._contents)
    assert gone is not None and gone.blocks > 0 and gone.positions > 0 and gone.objects
    assert all(memory.scene.object(i) is None for i in gone.objects)
    assert all(memory.episodes.encounters.last_between(i, None, None) is None for i in gone.objects)
    after = (len(memory.octree), len(memory.scene.trajectory()[0]), len(memory.episodes.encounters))
    assert all(a < b for a, b in zip(after, before))
    stamps, positions = memory.scene.trajectory()
    assert len(stamps) == len(positions) and stamps[-1] == memory.stamp


def test_compact_gives_back_what_removed_entries_held(tmp_path: Path):
    path = tmp_path / "home.emem"
    with Memory.open(path, grid_config()) as memory:
        long_walk(memory, 400)
        memory.flush()
        for entry_id in memory.episodes.ids[:300].tolist():
            memory.forget("episode", entry_id)
        digest = memory.digest()
        memory.compact()
        assert memory.digest() == digest
        small = path.stat().st_size
        memory.write(next(iter(keyframes(1, Rooms(12)))))
    with Memory.open(path, read_only=True) as memory:
        assert len(memory.episodes) == 101 and memory.check().is_clean
    assert path.stat().st_size <= small + 64 * 1024


def test_what_counts_towards_the_budget_is_the_same_after_reopening(tmp_path: Path):
    path = tmp_path / "home.emem"
    with Memory.open(path, grid_config()) as memory:
        memory.note("before there is an embedding: \u00fcber")
        long_walk(memory, 90)
        memory.forget("object", memory.scene.objects("cup")[0].id)
        size, digest = memory.episodes.content_bytes, memory.digest()
    with Memory.open(path) as memory:
        assert memory.episodes.content_bytes == size
        memory.episodes.remove(memory.episodes.ids[::2].copy())
        fresh = Memory(grid_config())
        for entry in memory.episodes:
            fresh.episodes.add(entry)
        assert memory.episodes.content_bytes == fresh.episodes.content_bytes
        assert memory.episodes.digest() != digest


def test_submaps_go_where_entries_may_not(monkeypatch):
    from embodied_mem.memory import budget

    monkeypatch.setattr(budget, "FILL", 0.4)
    memory = Memory(grid_config(budget=BudgetConfig(10**6)))
    for percept in keyframes(640, Rooms(110)):
        memory.write(percept)
    info, episodes = memory.info(), memory.episodes
    assert info["evicted_submaps"] > 0 and info["submap_bytes"] >= 0
    assert len(np.unique(episodes.place_ids)) > 0.9 * len(episodes)  # hardly anything but last entries
    kept = memory.contents.submaps.packed()
    assert min(kept) >= memory.contents.submaps.first > episodes.ids[0]
    assert set(kept) < set(episodes.ids.tolist())
    assert sum(map(len, kept.values())) == pytest.approx(info["submap_bytes"], rel=0.2)
    stamps, poses = episodes.stamps, episodes.poses
    memory.correct({int(stamps[-1]): Pose.from_list(poses[-1])})  # what has no submap moves all the same


def test_a_budget_that_places_fill_takes_nothing_more_and_says_why(monkeypatch):
    from embodied_mem.memory import budget

    memory = Memory(grid_config(budget=BudgetConfig(10**6)))
    percepts = keyframes(300, Rooms(6))
    for _ in range(EVERY - 1):
        memory.write(next(percepts))
    monkeypatch.setattr(budget, "PLACE_BYTES", 50_000)
    assert memory.write(next(percepts)).verdict == "accepted"
    refused = memory.write(next(percepts))
    assert refused.verdict == "rejected" and "budget of 1 MB is full" in refused.reason
    assert "larger" in refused.reason and memory.info()["rejected"] == 1
    monkeypatch.setattr(budget, "PLACE_BYTES", 350)  # there is room again, as with a larger budget
    assert memory.write(next(percepts)).verdict == "accepted"

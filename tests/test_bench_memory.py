"""Promises of `bench memory`: sections by name, and a workload that is what it says."""

from __future__ import annotations

import numpy as np
import pytest

from embodied_mem.errors import ConfigError
from embodied_mem.memory import Memory
from embodied_mem.verbs.bench_memory import SECTIONS, bench_memory
from embodied_mem.verbs.bench_memory.text import measure
from embodied_mem.verbs.bench_memory.workload import Rooms, grid_config, keyframes


def test_a_section_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(ConfigError, match=r"no section.*writing.*write"):
        bench_memory(["writing"])
    assert "write" in SECTIONS


def test_each_percept_of_the_walk_becomes_an_entry_with_rooms_and_things_around_it():
    memory = Memory(grid_config())
    frames = list(keyframes(80, Rooms(3)))
    receipts = [memory.write(percept) for percept in frames]
    assert all(r.episode_id == number for number, r in enumerate(receipts))
    assert len(memory.scene.rooms()) >= 3
    assert {t.name for t in memory.scene.objects()} == {"door", "cup", "lamp", "ball"}
    assert np.allclose(np.linalg.norm(frames[5].embedding), 1.0, atol=1e-5)


def test_words_are_found_where_sqlites_full_text_search_finds_them():
    found = measure(notes=5000, queries=30)
    assert found["same"] == 1.0
    assert found["first_answer_s"] > 0 and found["fts5"]["bytes_per_note"] > 0

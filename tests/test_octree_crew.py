"""Threads that do parts of a scan: all is done when they say so, failures reach the caller, none is left."""

from __future__ import annotations

import gc
import threading
import time

import numpy as np
import pytest

from embodied_mem.memory.octree import Octree, crew
from embodied_mem.memory.octree.crew import Crew


@pytest.mark.parametrize("spins", [0, crew.SPINS])
def test_all_works_are_done_when_it_returns_whether_threads_slept_or_not(monkeypatch, spins):
    monkeypatch.setattr(crew, "SPINS", spins)
    found, some = np.zeros(3, np.int64), Crew(2)

    def add(k: int) -> None:
        found[k] += 1

    for turn in range(300):
        some.do([lambda: add(1), lambda: add(2)], lambda: add(0))
        assert found.tolist() == [turn + 1] * 3
        if turn % 100 == 0:
            time.sleep(0.01)  # long enough to fall asleep


@pytest.mark.parametrize("who", ["own", "other"])
def test_a_failure_reaches_the_caller_once_the_others_are_done_and_the_next_work_is_done(who):
    some, done = Crew(1), []

    def fail() -> None:
        raise ValueError("broken")

    def slow() -> None:
        time.sleep(0.02)
        done.append(who)

    with pytest.raises(ValueError, match="broken"):
        some.do(*(([slow], fail) if who == "own" else ([fail], slow)))
    assert done == [who]
    some.do([slow], slow)
    assert done == [who] * 3


def test_the_threads_of_an_octree_end_with_it():
    before = set(threading.enumerate())
    tree = Octree(0.05, threads=3)
    points = np.random.default_rng(0).uniform(-2, 2, (20_000, 3)).astype(np.float32)
    tree.integrate(points, np.zeros(3))
    own = set(threading.enumerate()) - before
    assert len(own) == 2
    del tree
    gc.collect()
    for thread in own:
        thread.join(10.0)
    assert not any(thread.is_alive() for thread in own)

"""Threads that do parts of a scan: all is done when they say so, failures reach the caller, none is left."""

from __future__ import annotations

import gc
import threading
import time

import numpy as np
import pytest
from numba import njit

from embodied_mem.geometry import Pose
from embodied_mem.memory.octree import Octree, bench, crew, image
from embodied_mem.memory.octree.crew import (
    Crew,
    give_up,
    lower_at,
    make_gates,
    meet,
    take_part,
    take_share,
    take_side,
)
from embodied_mem.types import Intrinsics


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


def test_each_part_is_taken_once_and_nobody_leaves_a_gate_before_all_are_there():
    gates, some = make_gates(2), Crew(2)
    taken: list[list[int]] = [[], [], []]
    after = np.zeros(3, np.int64)

    def work(hand: int) -> None:
        part = take_part(gates, 0)
        while part < 500:
            taken[hand].append(part)
            part = take_part(gates, 0)
        assert meet(gates, 1, 3)
        after[hand] = sum(map(len, taken))

    some.do([lambda: work(1), lambda: work(2)], lambda: work(0))
    assert sorted(part for own in taken for part in own) == list(range(500))
    assert after.tolist() == [500] * 3


@pytest.mark.parametrize("hands", [1, 2, 3])
@pytest.mark.parametrize("parts", [0, 1, 500])
def test_threads_take_parts_from_both_ends_each_once(hands, parts):
    gates, some = make_gates(1), Crew(2)
    taken: list[list[int]] = [[], [], []]

    def work(hand: int) -> None:
        part = take_side(gates, 0, parts, hand)
        while part >= 0:
            taken[hand].append(part)
            part = take_side(gates, 0, parts, hand)

    some.do([lambda k=k: work(k) for k in range(1, hands)], lambda: work(0))
    assert sorted(part for own in taken for part in own) == list(range(parts))
    assert taken[0] == sorted(taken[0]) and taken[1] == sorted(taken[1], reverse=True)


@pytest.mark.parametrize("hands", [1, 2, 3])
@pytest.mark.parametrize("total", [0, 1, 1000])
def test_shares_cover_everything_once_and_become_smaller(hands, total):
    gates, some = make_gates(1), Crew(2)
    taken: list[list[tuple[int, int]]] = [[], [], []]

    def work(hand: int) -> None:
        first, last = take_share(gates, 0, total, 32, hand)
        while first < last:
            taken[hand].append((first, last))
            first, last = take_share(gates, 0, total, 32, hand)

    some.do([lambda k=k: work(k) for k in range(1, hands)], lambda: work(0))
    assert sorted(i for own in taken for share in own for i in range(*share)) == list(range(total))
    sizes = [last - first for first, last in taken[0]]
    assert sizes == sorted(sizes, reverse=True) and max(sizes, default=0) <= max(total // 4, 32)


@njit(nogil=True)
def _lower_all(numbers, values):
    for turn in range(values.shape[0]):
        for place in range(numbers.shape[0]):
            if numbers[place] > values[turn, place]:
                lower_at(numbers, place, values[turn, place])


def test_what_two_threads_lower_at_once_is_the_least_of_both():
    rng = np.random.default_rng(0)
    values = rng.random((2, 200, 500)).astype(np.float32)
    numbers = np.full(500, np.float32(2.0))
    Crew(1).do([lambda: _lower_all(numbers, values[1])], lambda: _lower_all(numbers, values[0]))
    assert (numbers == values.min(axis=(0, 1))).all()


def test_who_knows_that_all_is_done_does_not_wait_but_the_next_work_does():
    some, order = Crew(1), []

    def slow() -> None:
        time.sleep(0.2)
        order.append("slow")

    def through() -> bool:
        return True

    some.do([slow], through)
    assert order == []
    some.do([lambda: order.append("next")], lambda: None)
    assert order == ["slow", "next"]


def test_those_who_wait_for_a_thread_that_failed_are_let_go():
    gates, some, found = make_gates(1), Crew(1), []

    def fail() -> None:
        give_up(gates)

    some.do([fail], lambda: found.append(meet(gates, 0, 2)))
    assert found == [False]


@pytest.mark.parametrize("who", [0, 1])
def test_a_scan_of_which_a_thread_fails_says_so_and_the_next_one_is_right(monkeypatch, who):
    depth, view = np.full((240, 320), 3.0, np.float32), Intrinsics(320, 240, 260.0, 260.0, 159.5, 119.5)
    tree, alone = Octree(0.05, threads=2), Octree(0.05)
    whole = image.sweep

    def fail(*args) -> None:
        if args[-2] == who:
            raise MemoryError("no room")
        whole(*args)

    monkeypatch.setattr(image, "sweep", fail)
    with pytest.raises(MemoryError, match="no room"):
        tree.integrate_depth(depth, view, Pose(), mode="exact")
    monkeypatch.setattr(image, "sweep", whole)
    for one in (tree, alone):
        one.integrate_depth(depth, view, Pose(), mode="exact")
    assert tree.digest() == alone.digest()


@pytest.mark.parametrize("labelled", [False, True])
def test_a_scan_that_is_interrupted_in_its_kernel_leaves_a_whole_map(monkeypatch, labelled):
    scans = bench.house_scans(6, 160, 120)
    whole, broken = Octree(0.05, threads=2), Octree(0.05, threads=2)
    sweep, taken = image.sweep, 0

    def interrupted(*args):
        sweep(*args)
        if args[-2] == 0:  # signals reach the thread that called
            raise KeyboardInterrupt

    for k, scan in enumerate(scans * 3):
        labels = np.full(scan.depth.shape, k % 3 + 1, np.int32) if labelled else None
        for tree in (whole, broken):
            tree.integrate_depth(scan.depth, scan.view, scan.pose, mode="exact", labels=labels, stamp=k)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(image, "sweep", interrupted)
            broken.integrate_depth(scan.depth, scan.view, scan.pose, mode="exact", labels=labels, stamp=k)
        if broken.digest() != whole.digest():  # its evidence was taken, its labels were not
            taken += 1
            whole.integrate_depth(scan.depth, scan.view, scan.pose, mode="exact", stamp=k)
        assert broken.digest() == whole.digest()
    assert taken > 3

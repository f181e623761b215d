"""Threads that do parts of a scan, and are awake between them: to be woken costs as much as a part."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

Array = NDArray[Any]

SPINS = 200_000
"""How often a thread looks for work, some nanoseconds each, before it sleeps."""
MOMENT = 100_000
"""How often a thread looks on before it goes back to Python."""
PATIENCE, NAP = 300_000, 50
"""How often a thread at a gate looks for another before it leaves it the core, and for how long [us]."""
_POSIX = os.name != "nt"
_nap = (
    types.ExternalFunction("usleep", types.int32(types.uint32))
    if _POSIX
    else types.ExternalFunction("Sleep", types.void(types.uint32))  # of milliseconds
)


@intrinsic
def _load(typingctx: Any, counter: Any) -> Any:
    """Reads a (1,) int64 array that another thread writes to."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.load_atomic(array.data, "acquire", 8)

    return types.int64(counter), generate


@intrinsic
def _add(typingctx: Any, counter: Any, number: Any) -> Any:
    """Adds to a (1,) int64 array that other threads write to; returns what it was before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.atomic_rmw("add", array.data, args[1], "acq_rel")

    return types.int64(counter, types.int64), generate


@intrinsic
def lower_at(typingctx: Any, array: Any, place: Any, value: Any) -> Any:
    """Lowers a number of a float32 array, that other threads may lower too; none of them is negative."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = context.get_value_type(types.int32)
        # Floats that are not negative are ordered like their bits.
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        there = builder.bitcast(builder.gep(data, [args[1]]), whole.as_pointer())
        builder.atomic_rmw("min", there, builder.bitcast(args[2], whole), "monotonic")
        return context.get_dummy_value()

    return types.void(array, types.intp, types.float32), generate


@njit(cache=True, nogil=True)
def take_part(gates: Array, gate: int) -> int:
    """Returns the number of the next part of some work, of those that no thread has taken yet.

    Args:
        gates: of `make_gates`.
        gate: which of them.
    """
    return _add(gates[gate], 1)


@njit(cache=True, nogil=True)
def take_side(gates: Array, gate: int, parts: int, hand: int) -> int:
    """Returns the number of the next of some parts, -1 when all are taken; odd threads begin at the end.

    So two threads seldom write to the same cache lines, where neighbouring parts do.

    Args:
        gates: of `make_gates`.
        gate: which of them.
        parts: how many there are.
        hand: number of the thread.
    """
    here = gates[gate]
    if _add(here, 1) >= parts:
        return -1
    return parts - 1 - _add(here[2:], 1) if hand & 1 else _add(here[1:], 1)


@njit(cache=True, nogil=True)
def take_share(gates: Array, gate: int, total: int, least: int, hand: int) -> tuple[int, int]:
    """Takes some of the rest as `take_side` does, much of it at first and little in the end.

    Args:
        gates: of `make_gates`.
        gate: which of them.
        total: how many there are.
        least: how many are taken at least, if they are left.
        hand: number of the thread.

    Returns:
        the first one, and the one after the last one; the same number twice when all are taken.
    """
    here = gates[gate]
    size = max((total - _load(here)) // 4, least)
    size = min(size, total - _add(here, size))
    if size <= 0:
        return total, total
    if hand & 1:
        last = total - _add(here[2:], size)
        return last - size, last
    first = _add(here[1:], size)
    return first, first + size


@njit(cache=True, nogil=True)
def meet(gates: Array, gate: int, hands: int) -> bool:
    """Waits, awake, until so many threads have come here; returns False where one never will."""
    if hands > 1:
        here, failed, spins = gates[gate], gates[gates.shape[0] - 1], 0
        _add(here, 1)
        while _load(here) < hands:
            if _load(failed) > 0:
                return False
            spins += 1
            if spins > PATIENCE:
                _nap(NAP if _POSIX else 1)
    return True


@njit(cache=True, nogil=True)
def linger(gates: Array) -> None:
    """Stays away from the interpreter's lock for a moment: who is first to want it keeps others waiting."""
    failed = gates[gates.shape[0] - 1]
    for _ in range(MOMENT):
        if _load(failed) > 0:
            return


def make_gates(count: int) -> NDArray[np.int64]:
    """Returns (count + 1, 8) int64 zeros: counters, each in a cache line of its own; one is for `give_up`."""
    return np.zeros((count + 1, 8), np.int64)


def give_up(gates: NDArray[np.int64]) -> None:
    """Lets go those who wait at gates for a thread that has failed."""
    gates[-1, 0] = 1


@njit(cache=True, nogil=True)
def _changes(counter: Array, before: int, spins: int) -> bool:
    """Waits awake, without the interpreter's lock, until a counter changes; tells whether it has."""
    for _ in range(spins):  # noqa: SIM110, which Numba does not compile
        if _load(counter) != before:
            return True
    return False


class _Counter:
    """A number that one thread raises and another waits for."""

    def __init__(self) -> None:
        self.value = np.zeros(1, np.int64)
        self._ring = threading.Event()
        self._asleep = False

    def step(self) -> None:
        """Raises it; wakes who waits."""
        self.value[0] += 1
        if self._asleep:
            self._ring.set()

    def wait(self, before: int) -> None:
        """Returns when it is not `before` any more."""
        while self.value[0] == before and not _changes(self.value, before, SPINS):
            self._asleep = True
            if self.value[0] == before:
                self._ring.wait()
            self._asleep = False
            self._ring.clear()


class _Hand:
    """What a thread and who gives it work share."""

    def __init__(self) -> None:
        self.given, self.done = _Counter(), _Counter()
        self.count = 0
        self.work: Callable[[], Any] | None = None
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Does work as it comes, until there is none in it."""
        count = 0
        while True:
            self.given.wait(count)
            count += 1
            work, self.work = self.work, None
            if work is None:
                return
            try:
                work()
            except BaseException as failure:
                self.failure = failure
            del work  # or it lives as long as this thread waits
            self.done.step()

    def give(self, work: Callable[[], Any] | None) -> None:
        """Lets the thread do some work; None: end."""
        self.work = work
        self.count += 1
        self.given.step()

    def finish(self) -> None:
        """Returns when all work that was given is done."""
        self.done.wait(self.count - 1)


class Crew:
    """Some threads, started when they are first wanted."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._hands: list[_Hand] = []

    def do(self, works: Sequence[Callable[[], Any]], own: Callable[[], Any]) -> None:
        """Does some works, each on a thread, and one's own; returns, or raises, when all are done.

        Args:
            works: not more than there are threads.
            own: done by the calling thread; where it returns True, what the others work on is done too,
                and only the next call waits until they are ready again.
        """
        if not self._hands:
            self._start()
        hands, through = self._hands[: len(works)], False
        for hand, work in zip(hands, works):
            hand.finish()
            hand.give(work)
        try:
            through = own() is True
        finally:  # whatever happens here, nobody works any more once this has returned
            if not through:
                for hand in hands:
                    hand.finish()
        for hand in hands:
            failure, hand.failure = hand.failure, None
            if failure is not None:
                raise failure

    def _start(self) -> None:
        self._hands = [_Hand() for _ in range(self._count)]
        for hand in self._hands:
            threading.Thread(target=hand.run, name="octree", daemon=True).start()
            weakref.finalize(self, hand.give, None)

"""Threads that do parts of a scan, and are awake between them: to be woken costs as much as a part."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

Array = NDArray[Any]

SPINS = 200_000
"""How often a thread looks for work, some nanoseconds each, before it sleeps."""


@intrinsic
def _load(typingctx: Any, counter: Any) -> Any:
    """Reads a (1,) int64 array that another thread writes to."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.load_atomic(array.data, "acquire", 8)

    return types.int64(counter), generate


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
        self.given.step()


class Crew:
    """Some threads, started when they are first wanted."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._hands: list[_Hand] = []

    def do(self, works: list[Callable[[], Any]], own: Callable[[], Any]) -> None:
        """Does some works, each on a thread, and one's own; returns, or raises, when all are done.

        Args:
            works: not more than there are threads.
            own: done by the calling thread.
        """
        if not self._hands:
            self._start()
        hands = self._hands[: len(works)]
        before = [int(hand.done.value[0]) for hand in hands]
        for hand, work in zip(hands, works):
            hand.give(work)
        try:
            own()
        finally:  # whatever happens here, nobody works any more once this has returned
            for hand, count in zip(hands, before):
                hand.done.wait(count)
        for hand in hands:
            failure, hand.failure = hand.failure, None
            if failure is not None:
                raise failure

    def _start(self) -> None:
        self._hands = [_Hand() for _ in range(self._count)]
        for hand in self._hands:
            threading.Thread(target=hand.run, name="octree", daemon=True).start()
            weakref.finalize(self, hand.give, None)

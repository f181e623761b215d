"""Ctrl-C: long work stops where everything is whole, and says how it goes on."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Work was stopped by Ctrl-C; its text says what is there, and how to go on."""


class Wish:
    """Whether Ctrl-C was pressed: `is_asked` is to be looked at wherever the work can stop."""

    def __init__(self) -> None:
        self.is_asked = False


@contextmanager
def stopping(says: str = "") -> Iterator[Wish]:
    """Turns the first Ctrl-C within its body into a wish; the second one interrupts at once.

    Args:
        says: what is printed at the first; "" prints nothing.
    """
    wish = Wish()
    if threading.current_thread() is not threading.main_thread():  # only there are signals handled
        yield wish
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if wish.is_asked:
            raise KeyboardInterrupt
        wish.is_asked = True
        if says:
            print(f"\nembodied-mem: {says}", file=sys.stderr, flush=True)

    before: Any = signal.signal(signal.SIGINT, ask)
    try:
        yield wish
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def telling(how: str) -> Iterator[None]:
    """Adds to a Ctrl-C within its body what is there, and how to go on.

    Raises:
        Interrupted: in place of a KeyboardInterrupt that says nothing yet.
    """
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt:
        raise Interrupted(how) from None

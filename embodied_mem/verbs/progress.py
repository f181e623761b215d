"""How far a long work is: a bar with the rate and the time that is left, on stderr, in a terminal alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def progress(
    what: str, total: int | None, *, unit: str = "steps", shown: bool = True
) -> Iterator[Callable[[int], None]]:
    """Shows a bar while its body runs, and yields what is to be told the number done.

    Where stderr is no terminal (a pipe, a file, a test) nothing is shown.

    Args:
        what: is being done, in a word or two.
        total: how many there are to do; None where that is not known.
        unit: of what is counted, for the rate.
        shown: False shows nothing, for `--json`.
    """
    if not (shown and sys.stderr.isatty()):
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        """Steps per second, over the last half minute."""

        def render(self, task: Task) -> Text:
            of = "" if task.total is None else f"/{task.total:.0f}"
            rate = "" if not task.speed else f", {task.speed:.3g} {unit}/s"
            return Text(f"{task.completed:.0f}{of} {unit}{rate}")

    columns = [TextColumn(what), BarColumn(), Rate(), TimeRemainingColumn(compact=True), TextColumn("left")]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def replaying(log: Path, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Shows a bar over the steps of a log, as many as its index promises.

    Args:
        log: what is replayed.
        shown: False shows nothing.
    """
    total = steps_promised(log) if shown and sys.stderr.isatty() else None
    with progress("replaying", total, shown=shown) as on_step:
        yield on_step


def steps_promised(log: Path) -> int | None:
    """Returns how many steps a log's index promises; None where it cannot be told.

    Of a foreign bag it is the largest number of images on one topic.
    """
    from embodied_mem.errors import EmbodiedMemError
    from embodied_mem.log.describe import describe_log

    try:
        facts = describe_log(log)
    except EmbodiedMemError:  # the replay itself will say it
        return None
    if facts["ledger"]:
        return int(facts["steps"]) or None
    images = [t["count"] for t in facts["topics"] if t["type"].endswith(("/Image", "/CompressedImage"))]
    return max(images, default=None)

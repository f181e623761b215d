"""What is typed after a verb: parsed by the verb's signature and docstring; mistakes are said in one line."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from embodied_mem.errors import InputError

RULE = "─" * 10
"""What tyro draws between the parts of a complaint."""


def parse(
    function: Callable[..., int], prog: str, arguments: Sequence[str], *, positional: bool = True
) -> Callable[[], int]:
    """Reads arguments, and returns what is to be run.

    Args:
        function: its parameters are the options; its docstring is the help.
        prog: what the user typed so far.
        arguments: the rest.
        positional: arguments without a default are given by their place, without a name.

    Raises:
        InputError: the arguments make no sense.
        SystemExit: help was asked for, and has been printed.
    """
    import tyro

    @functools.wraps(function)
    def ready(*args: Any, **kwargs: Any) -> Any:
        return functools.partial(function, *args, **kwargs)

    markers: list[Any] = [tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone]
    if positional:
        markers.append(tyro.conf.PositionalRequiredArgs)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            call: Callable[[], int] = tyro.cli(
                ready, prog=prog, args=list(arguments), config=tuple(markers), description=describe(function)
            )
    except SystemExit as end:
        if end.code:
            raise InputError(complaint(said.getvalue(), prog)) from None
        raise
    sys.stderr.write(said.getvalue())
    return call


def describe(function: Callable[..., int]) -> str:
    """Returns a docstring up to its arguments: what it does, and the worked examples."""
    return (inspect.getdoc(function) or "").split("\nArgs:")[0].rstrip()


def complaint(box: str, prog: str) -> str:
    """Returns tyro's boxed complaint as one line, with the command that lists the options."""
    lines = [line.strip().strip("│").strip() for line in box.splitlines()]
    inner = " ".join("\n" if RULE in line else line for line in lines if line and line[0] not in "╭╰")
    parts = [" ".join(part.split()) for part in inner.split("\n")]
    said = parts[0]
    if len(parts) > 2 and parts[1].startswith("Perhaps you meant"):
        said += f"; {parts[1][0].lower()}{parts[1][1:]}"
    said = re.sub(rf"Missing from {re.escape(prog)}:", "missing:", said)
    return f"{said.rstrip('.')}; `{prog} --help` lists the options"

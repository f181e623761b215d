"""Shell completion: verbs, options and their choices, from the verbs' own signatures."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

from embodied_mem.verbs.completion_scripts import SCRIPTS

LONGEST = 90
"""Characters of what is shown beside an option."""


@dataclass(frozen=True)
class Option:
    """One option of a verb.

    Attributes:
        flag: "--steps"; "" for what is given by its place.
        what: one line about it.
        takes: "" (a switch), "file", "value", or "choice".
        choices: where it is a choice.
    """

    flag: str
    what: str
    takes: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Words:
    """What can follow a verb.

    Attributes:
        verb: its name.
        what: one line about it.
        options: in the order of `--help`; those given by their place first.
    """

    verb: str
    what: str
    options: tuple[Option, ...]


def completion(shell: Literal["bash", "zsh", "fish"]) -> int:
    """Print what completes verbs, options and file names in a shell.

    Examples:
        embodied-mem completion bash > ~/.local/share/bash-completion/completions/embodied-mem
        embodied-mem completion zsh  > ~/.zfunc/_embodied-mem        # with ~/.zfunc in $fpath
        embodied-mem completion fish > ~/.config/fish/completions/embodied-mem.fish
        source <(embodied-mem completion bash)                       # in this shell alone

    Args:
        shell: which one.
    """
    print(SCRIPTS[shell](list(all_words())), end="")
    return 0


def all_words() -> Iterator[Words]:
    """Yields every verb with its options; without them where it needs a package that is not there."""
    from embodied_mem.cli import VERBS

    for verb, (place, what) in VERBS.items():
        module, name = place.split(":")
        try:
            function = getattr(importlib.import_module(f"embodied_mem.verbs.{module}"), name)
            options = tuple(_train_options() if verb == "train" else _options(function))
        except ModuleNotFoundError:
            options = ()
        yield Words(verb, what, options)


def _options(function: Any) -> Iterator[Option]:
    """Yields what a verb's signature takes."""
    hints = typing.get_type_hints(function)
    about = _arguments_of(inspect.getdoc(function) or "")
    for name, parameter in inspect.signature(function).parameters.items():
        by_place = parameter.default is parameter.empty or name == "question"
        flag = "" if by_place else "-k" if name == "k" else f"--{name.replace('_', '-')}"
        takes, choices = _taken(hints[name])
        if name == "env":
            takes, choices = _environments()
        yield Option(flag, about.get(name, ""), takes, choices)


def _train_options() -> Iterator[Option]:
    """Yields the options of `train`: the config file, and every key that a config can have."""
    from embodied_mem.verbs.train import Outputs, TrainConfig

    yield Option("", "a file like those in sim_configs/", "file")
    yield from _fields(TrainConfig)
    yield from _fields(Outputs)


def _fields(config: type) -> Iterator[Option]:
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            yield from _fields(typing.cast(type, kind))
        else:
            takes, choices = _environments() if field.name == "env" else _taken(kind)
            yield Option(f"--{field.name.replace('_', '-')}", "", takes, choices)


def _taken(kind: Any) -> tuple[str, tuple[str, ...]]:
    """Returns what a type of an argument asks for, and the choices where there are some."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return "choice", tuple(map(str, inner))
    if origin in (typing.Union, types.UnionType, tuple):
        first = next(i for i in inner if i not in (type(None), Ellipsis))
        return _taken(first)
    if kind is bool:
        return "", ()
    return ("file" if kind is Path else "value"), ()


def _environments() -> tuple[str, tuple[str, ...]]:
    try:
        from embodied_mem.sim.registration import ENVIRONMENTS
    except ModuleNotFoundError:
        return "value", ()
    return "choice", tuple(entry.id for entry in ENVIRONMENTS)


def _arguments_of(doc: str) -> dict[str, str]:
    """Returns what a docstring says about each argument, as far as it fits a line."""
    found: dict[str, str] = {}
    last = ""
    for line in doc.partition("\nArgs:\n")[2].splitlines():
        name, colon, what = line.partition(": ")
        if colon and name.startswith("    ") and name.strip().isidentifier() and name[4] != " ":
            last = name.strip()
            found[last] = what
        elif last and line.startswith("        "):
            found[last] += f" {line.strip()}"
    return {name: shorten(what, LONGEST, placeholder=" ...") for name, what in found.items()}

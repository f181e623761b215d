"""The public API: what others may import is listed, so that it changes on purpose alone, and explained."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

LISTED = Path(__file__).with_name("public_api.txt")
MODULES = (
    "embodied_mem",
    "embodied_mem.errors",
    "embodied_mem.geometry",
    "embodied_mem.log.replay",
    "embodied_mem.log.world",
    "embodied_mem.log.writer",
    "embodied_mem.loop",
    "embodied_mem.memory",
    "embodied_mem.perception",
    "embodied_mem.policy",
    "embodied_mem.sim",
    "embodied_mem.sim.evaluation",
    "embodied_mem.sim.memory_wrapper",
    "embodied_mem.sim.world",
    "embodied_mem.types",
)
"""Modules whose names are promised. Everything else may move."""


def names_of(module: Any) -> list[str]:
    """What a module promises: its `__all__`, or what it defines without an underscore."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", module.__name__) == module.__name__
        if not inspect.ismodule(value) and (inspect.isclass(value) or callable(value) or name.isupper())
    )


def parameters(function: Any) -> list[str]:
    """The names of a function's parameters, as they may be given: `*` starts those by name alone."""
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []
    shown, starred = [], False
    for p in found:
        if p.name in ("self", "cls"):
            continue
        if p.kind is p.KEYWORD_ONLY and not starred:
            shown.append("*")
        starred = starred or p.kind in (p.KEYWORD_ONLY, p.VAR_POSITIONAL)
        shown.append(
            ("**" if p.kind is p.VAR_KEYWORD else "*" if p.kind is p.VAR_POSITIONAL else "") + p.name
        )
    return shown


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that this package defines, inherited ones too."""
    for name in sorted(dir(kind)):
        value = inspect.getattr_static(kind, name)
        function = getattr(value, "__func__", getattr(value, "fget", value))
        if (
            not name.startswith("_")
            and (getattr(function, "__module__", "") or "").startswith("embodied_mem")
            and inspect.isfunction(function)
        ):
            yield name, value


def promised() -> Iterator[str]:
    """One line per promised name, with the parameters of what can be called."""
    for path in MODULES:
        module = importlib.import_module(path)
        for name in names_of(module):
            value = getattr(module, name)
            if inspect.isclass(value) and (value.__module__ or "").startswith("embodied_mem"):
                yield f"{path}.{name}({', '.join(parameters(value))})"
                for member, found in members(value):
                    if isinstance(found, property):
                        yield f"{path}.{name}.{member}"
                    else:
                        function = getattr(found, "__func__", found)
                        yield f"{path}.{name}.{member}({', '.join(parameters(function))})"
            elif inspect.isfunction(value):
                yield f"{path}.{name}({', '.join(parameters(value))})"
            else:
                yield f"{path}.{name}"


def by_name(lines: Iterable[str]) -> dict[str, set[str]]:
    """Names, each with the parameters that it takes."""
    parts = [line.rstrip(")").partition("(") for line in lines]
    return {name: set(taken.split(", ")) - {"", "*"} for name, _, taken in parts}


def test_the_public_api_is_the_one_that_is_listed():
    listed = LISTED.read_text().splitlines()
    now, then = by_name(promised()), by_name(listed)
    gone = [name for name, taken in then.items() if name not in now or taken - now[name]]
    assert not gone, f"no longer there, which breaks its users: {gone}; see CONTRIBUTING, the public API"
    new = [f"{path}.{name}" for path in MODULES for name in names_of(importlib.import_module(path))]
    assert not set(new) - set(then), f"new, to be listed: {sorted(set(new) - set(then))}"
    assert listed == sorted(listed)


def explained() -> list[tuple[str, Any]]:
    """Every function and method of the promised modules, once."""
    seen: dict[int, tuple[str, Any]] = {}
    for path in MODULES:
        module = importlib.import_module(path)
        for name in names_of(module):
            value = getattr(module, name)
            if not (getattr(value, "__module__", "") or "").startswith("embodied_mem"):
                continue
            if inspect.isclass(value):
                seen.setdefault(id(value), (f"{path}.{name}", value))
                for member, found in members(value):
                    function = getattr(found, "__func__", getattr(found, "fget", found))
                    seen.setdefault(id(function), (f"{path}.{name}.{member}", function))
            elif inspect.isfunction(value):
                seen.setdefault(id(value), (f"{path}.{name}", value))
    return list(seen.values())


def test_everything_promised_is_explained():
    bare = [name for name, value in explained() if not inspect.getdoc(value)]
    assert not bare


def test_the_arguments_that_are_explained_are_those_that_there_are():
    wrong = []
    for name, value in explained():
        doc = inspect.getdoc(value) or ""
        if "\nArgs:\n" not in doc:
            continue
        section = re.split(r"\n(?=\S)", doc.split("\nArgs:\n")[1])[0]
        told = {
            part.strip("* ")
            for line in re.findall(r"^    ([\w*]+(?:, [\w*]+)*):", section, re.M)
            for part in line.split(",")
        }
        there = {p.lstrip("*") for p in parameters(value) if not p.startswith("_")} - {""}
        if told - there:
            wrong.append(f"{name} explains {sorted(told - there)}, which it does not take")
        if there - told:
            wrong.append(f"{name} takes {sorted(there - told)}, which it does not explain")
    assert not wrong, "\n".join(wrong)


def test_what_takes_several_arguments_explains_them():
    bare = []
    for name, value in explained():
        doc = inspect.getdoc(value) or ""
        count = len([p for p in parameters(value) if p != "*"])
        if count > 3 and not inspect.isclass(value) and "Args:" not in doc and not refers(doc):
            bare.append(name)
    assert not bare, "\n".join(bare)


def refers(doc: str) -> bool:
    """True where a docstring says where its arguments are explained."""
    return bool(re.search(r"; see `|as `|[Ss]ee `", doc))


@pytest.mark.parametrize("name", ["Memory", "Loop", "Query", "Observation"])
def test_the_top_of_the_package_has_what_a_first_program_needs(name: str):
    import embodied_mem as em

    assert name in em.__all__ and name in dir(em) and getattr(em, name).__doc__


def test_a_name_that_is_not_there_is_an_attribute_error():
    import embodied_mem as em

    with pytest.raises(AttributeError, match="Memori"):
        em.Memori  # noqa: B018


def test_types_are_part_of_the_package():
    import embodied_mem

    assert (Path(embodied_mem.__file__).parent / "py.typed").exists()


if __name__ == "__main__":
    LISTED.write_text("\n".join(sorted(promised())) + "\n")

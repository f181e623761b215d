"""Two runs, agents or settings side by side, with intervals."""

from __future__ import annotations

import json as json_format
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.errors import EmbodiedMemError, InputError
from embodied_mem.verbs.run_facts import RunFacts, read_run

ABSENT = "-"


def compare(runs: tuple[Path, ...], out: Path | None = None, json: bool = False) -> int:
    """Put runs side by side: evaluations, trainings with their curves, memories; differences with intervals.

    Where two evaluations played the same episodes, their difference is taken episode by episode (paired
    bootstrap, 95 %); otherwise both sides are resampled. Every run is compared with the first.

    Examples:
        embodied-mem eval explorer --env EmbodiedMem/MultiRoom-v0 --episodes 20 --json > explorer.json
        embodied-mem eval random   --env EmbodiedMem/MultiRoom-v0 --episodes 20 --json > random.json
        embodied-mem compare explorer.json random.json
        embodied-mem compare runs/memo runs/none --out compare.html
        embodied-mem compare monday.emem tuesday.emem

    Args:
        runs: two or more: folders that train, record or demo wrote, JSON files of eval or sweep, .emem files.
        out: an HTML page to write as well: the same tables, and the curves in one picture.
        json: print JSON.
    """
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise InputError(f"{out} cannot be written: name a file in a folder that exists")
    found = [run for path in runs for run in read_run(path)]
    if len(found) < 2:
        raise InputError("name two runs or more: embodied-mem compare RUN_A RUN_B")
    comparison = compare_runs(found)
    if json:
        print(json_format.dumps(comparison, indent=2))
    else:
        print("\n".join(in_words(comparison)))
    if out is not None:
        from embodied_mem.viz.report.comparison import comparison_page

        try:
            out.write_text(comparison_page(comparison), encoding="utf-8")
        except OSError as error:
            raise EmbodiedMemError(f"cannot write {out}: {error.strerror}") from None
        if not json:
            print(f"\n{out}")
    return 0


def compare_runs(runs: Sequence[RunFacts]) -> dict[str, Any]:
    """Returns a comparison of runs with the first of them, JSON-ready.

    Returns:
        `runs` (names, shortened as far as they stay different); `measures`: per measure `name`, `values`
        (a mean with its interval per run, or None) and `differences` (to the first run, `paired` or not);
        `settings` that differ; `curves` per run; `memories` and `labels` by name, and `same_memory`.

    Raises:
        InputError: the runs have nothing in common.
    """
    evaluated = [run.evaluation for run in runs]
    memories = [run.memory for run in runs]
    curves = [[dict(line) for line in run.curve] for run in runs]
    comparison = {
        "runs": _short([run.name for run in runs]),
        "measures": _measures(evaluated) if sum(e is not None for e in evaluated) > 1 else [],
        "settings": _settings(runs),
        "curves": curves if sum(map(bool, curves)) > 1 else [],
        "memories": [],
        "labels": [],
        "same_memory": None,
    }
    known = [memory for memory in memories if memory is not None]
    if len(known) > 1:
        facts = [name for name in known[0] if name not in ("digest", "labels")]
        comparison["memories"] = [
            {"name": name, "values": [None if m is None else m[name] for m in memories]} for name in facts
        ]
        labels = sorted({label for memory in known for label in memory["labels"]})
        comparison["labels"] = [
            {"name": label, "values": [None if m is None else m["labels"].get(label, 0) for m in memories]}
            for label in labels
        ]
        comparison["same_memory"] = len({memory["digest"] for memory in known}) == 1
    if not (comparison["measures"] or comparison["curves"] or comparison["memories"]):
        raise InputError(
            "these runs have nothing in common: compare evaluations with evaluations, trainings with "
            "trainings, memories with memories"
        )
    return comparison


def _short(names: Sequence[str]) -> list[str]:
    """Returns names without the ending, and the folders, that all of them share."""
    if len({Path(name).suffix for name in names}) == 1:
        names = [str(Path(name).with_suffix("")) for name in names]
    parts = [Path(name).parts for name in names]
    while len({p[0] for p in parts}) == 1 and all(len(p) > 1 for p in parts):
        parts = [p[1:] for p in parts]
    while len({p[-1] for p in parts}) == 1 and all(len(p) > 1 for p in parts):
        parts = [p[:-1] for p in parts]
    short = ["/".join(p) for p in parts]
    return short if len(set(short)) == len(short) else [f"{name} #{i}" for i, name in enumerate(short)]


def _measures(evaluated: Sequence[Mapping[str, Any] | None]) -> list[dict[str, Any]]:
    """Returns a row per measure that some evaluation has."""
    tables = [{} if e is None else _means(e) for e in evaluated]
    names = dict.fromkeys(name for table in tables for name in table)
    first = evaluated[0]
    return [
        {
            "name": name,
            "values": [table.get(name) for table in tables],
            "differences": [
                None if first is None or other is None else _difference(name, first, other)
                for other in evaluated[1:]
            ],
        }
        for name in names
    ]


def _means(evaluation: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the measures of an evaluation by name, each with mean and interval (None where unknown)."""
    found: dict[str, dict[str, Any]] = {}
    for name in ("success", "return"):
        if evaluation.get(name) is not None:
            found[name] = {"mean": evaluation[name], "interval": evaluation.get(f"{name}_interval")}
    inner = {"steps": evaluation.get("steps"), **(evaluation.get("measures") or {})}
    for name, value in inner.items():
        if isinstance(value, Mapping) and value.get("mean") is not None:
            found[name] = {"mean": value["mean"], "interval": value["interval"]}
    for name, value in (evaluation.get("counts") or {}).items():
        found[name] = {"mean": value, "interval": None}
    return found


def _difference(name: str, first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the difference (other less first) of a measure with its interval; None where it is unknown."""
    from embodied_mem.sim.evaluation import mean_interval

    a, b = (side.get("each") or {} for side in (first, other))
    if name not in a or name not in b:
        return None
    same_task = first.get("env") == other.get("env") and first.get("env_kwargs") == other.get("env_kwargs")
    by_seed = dict(zip(a["seed"], a[name]))
    pairs = [(by_seed[seed], value) for seed, value in zip(b["seed"], b[name]) if seed in by_seed]
    pairs = [(x, y) for x, y in pairs if x is not None and y is not None]
    if same_task and pairs:
        return {**mean_interval([y - x for x, y in pairs]), "paired": True, "episodes": len(pairs)}
    sides = [np.array([v for v in side[name] if v is not None], float) for side in (a, b)]
    if not all(map(len, sides)):
        return None
    return {**_unpaired(*sides), "paired": False, "episodes": min(map(len, sides))}


def _unpaired(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Returns the difference of two means, each side resampled by itself (percentile bootstrap, seeded)."""
    from embodied_mem.sim.evaluation import RESAMPLES

    rng = np.random.default_rng(0)
    drawn = [rng.choice(side, (RESAMPLES, len(side))).mean(axis=1) for side in (a, b)]
    low, high = np.quantile(drawn[1] - drawn[0], [0.025, 0.975])
    return {"mean": float(b.mean() - a.mean()), "interval": [float(low), float(high)]}


def _settings(runs: Sequence[RunFacts]) -> list[dict[str, Any]]:
    """Returns the settings that are not the same in all runs that have settings."""
    told = [run.settings for run in runs if run.settings]
    if len(told) < 2:
        return []
    rows = []
    for name in dict.fromkeys(name for settings in told for name in settings):
        values = [run.settings.get(name) if run.settings else None for run in runs]
        if len({repr(settings.get(name)) for settings in told}) > 1:
            rows.append({"name": name, "values": values})
    return rows


def in_words(comparison: Mapping[str, Any]) -> list[str]:
    """Returns a comparison as lines: one aligned table per part."""
    runs = comparison["runs"]
    lines: list[str] = []
    if comparison["measures"]:
        rows = [[row["name"], *map(cell, row["values"])] for row in comparison["measures"]]
        lines += [*_aligned(["", *runs], rows), "means with 95 % intervals", ""]
        rows = [
            [row["name"], *(cell(d, sign=True) for d in row["differences"])]
            for row in comparison["measures"]
            if any(row["differences"])
        ]
        if rows:
            lines += _aligned(["", *(f"{name} less {runs[0]}" for name in runs[1:])], rows)
            lines.append("* is a difference whose interval leaves out 0")
        lines.append(pairing(comparison["measures"]))
    for title, key in (("settings that differ", "settings"), ("memory", "memories"), ("objects", "labels")):
        if comparison[key]:
            rows = [
                [row["name"], *(ABSENT if v is None else str(v) for v in row["values"])]
                for row in comparison[key]
            ]
            lines += ["", *_aligned([title, *runs], rows)]
    if comparison["same_memory"] is not None:
        lines.append("the same memory, bit for bit" if comparison["same_memory"] else "different memories")
    if comparison["curves"]:
        lines += ["", *_aligned(["end of the curve", *runs], curve_ends(comparison["curves"]))]
    return lines


def cell(value: Mapping[str, Any] | None, *, sign: bool = False) -> str:
    """Returns a mean with its interval as text; a difference has a sign, and * where it is not 0."""
    if value is None or value["mean"] is None:
        return ABSENT
    number = "+.3f" if sign else ".3f"
    text = format(value["mean"], number)
    if value["interval"] is None:
        return text
    low, high = value["interval"]
    mark = "*" if sign and not low <= 0 <= high else ""
    return f"{text}{mark} [{low:{number}}, {high:{number}}]"


def pairing(measures: Sequence[Mapping[str, Any]]) -> str:
    """Returns on what the differences rest, in words."""
    found = [d for row in measures for d in row["differences"] if d is not None]
    if not found:
        return "no differences: these results do not tell their episodes one by one; evaluate anew"
    pairs = {d["episodes"] for d in found if d["paired"]}
    if len(pairs) and all(d["paired"] for d in found):
        return f"differences in pairs, over {max(pairs)} episodes that both sides played"
    if pairs:
        return "differences in pairs where both sides played the same episodes, else of the two means"
    return "differences of the two means: the sides did not play the same episodes"


def curve_ends(curves: Sequence[Sequence[Mapping[str, float]]]) -> list[list[str]]:
    """Returns rows (name, a value per run) with the last line of each curve."""
    names = dict.fromkeys(name for curve in curves for line in curve[-1:] for name in line)
    return [
        [name, *(f"{c[-1][name]:.4g}" if c and name in c[-1] else ABSENT for c in curves)] for name in names
    ]


def _aligned(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns a table as lines of equal columns."""
    table = [list(heads), *map(list, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(heads))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in table]

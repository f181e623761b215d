"""What a run left behind, whatever it was: an evaluation, a training with its curve, a memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embodied_mem.errors import InputError

MEMORY_FACTS = ("objects", "rooms", "places", "episodes", "voxels", "occupied_voxels", "writes", "rejected")
MOST_BYTES = 500_000_000
"""A larger file is no result."""
NO_SETTING = ("checkpoint", "seconds", "command", "curve", "evaluation", "each", "parameters", "hardware")
"""Keys of a result that are not settings."""


@dataclass(frozen=True)
class RunFacts:
    """What is known of one run.

    Attributes:
        name: what it is called in the comparison.
        settings: dotted name -> value.
        evaluation: as `embodied-mem eval --json` prints it, or None.
        curve: of the training, a mapping per line, or empty.
        memory: facts of the memory, `digest` and `labels` (label -> number of objects), or None.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] | None = None
    curve: tuple[Mapping[str, float], ...] = ()
    memory: Mapping[str, Any] | None = None


def read_run(path: Path) -> list[RunFacts]:
    """Reads a run's folder, a JSON file of `eval`, `train` or `sweep`, or an .emem file.

    Returns:
        one run; several where the file holds an evaluation at several horizons.

    Raises:
        InputError: no such file, or nothing in it that could be compared.
        EmbodiedMemError: a memory that cannot be read.
    """
    if not path.exists():
        raise InputError(f"no such run: {path}")
    if path.suffix == ".emem":
        return [RunFacts(str(path), memory=_memory(path))]
    if path.is_dir():
        return [_folder(path)]
    values = _json(path)
    listed = values if isinstance(values, list) else [values]
    if not listed or not all(isinstance(value, dict) for value in listed):
        raise InputError(f"{path} is no result of eval, train or sweep")
    found = [run for value in listed for run in _result(path, value)]
    if len(found) == 1:
        return found
    return [RunFacts(f"{run.name} #{i}", run.settings, run.evaluation) for i, run in enumerate(found)]


def _json(path: Path) -> Any:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path} is too large for a result: {path.stat().st_size / 1e6:.0f} MB")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise InputError(
            f"{path} cannot be read as JSON; compare folders of runs, .emem files, or what "
            "`embodied-mem eval ... --json > FILE` wrote"
        ) from None


def _result(path: Path, values: Mapping[str, Any]) -> Iterator[RunFacts]:
    """Yields the run of an evaluation, or those of a training's result (a sweep's has several horizons)."""
    name, evaluation = str(path), values.get("evaluation", values)
    if not isinstance(evaluation, Mapping):
        raise InputError(f"{path} holds no evaluation")
    settings = dict(flat({k: v for k, v in values.items() if k not in NO_SETTING}))
    if "return" in evaluation and "episodes" in evaluation:
        if evaluation is values:
            kept = ("agent", "checkpoint", "env", "env_kwargs", "memory", "seed")
            settings = dict(flat({k: values[k] for k in kept if k in values}))
        yield RunFacts(name, settings, evaluation, tuple(values.get("curve", ())))
        return
    horizons = {k: v for k, v in evaluation.items() if isinstance(v, Mapping) and "return" in v}
    if not horizons:
        raise InputError(f"{path} holds no evaluation")
    first = next(iter(horizons))
    yield RunFacts(name, settings, horizons[first], tuple(values.get("curve", ())))


def _folder(folder: Path) -> RunFacts:
    from embodied_mem.verbs.training_curve import read_curve

    result: Mapping[str, Any] = {}
    if (folder / "result.json").exists():
        found = _json(folder / "result.json")
        result = found if isinstance(found, dict) else {}
    curve = result.get("curve") or (
        read_curve(folder / "curve.csv") if (folder / "curve.csv").exists() else ()
    )
    memories = sorted(folder.glob("*.emem"))
    memory = _memory(memories[0]) if memories else None
    if not (result.get("evaluation") or curve or memory):
        raise InputError(f"{folder} holds no result.json, curve.csv or .emem file to compare")
    return RunFacts(str(folder), _settings(folder), result.get("evaluation"), tuple(curve), memory)


def _settings(folder: Path) -> dict[str, Any]:
    import yaml

    path = folder / "config.yaml"
    if not path.exists():
        return {}
    try:
        return dict(flat(yaml.safe_load(path.read_text(encoding="utf-8")) or {}))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"cannot read {path}: {' '.join(str(error).split())}") from None


def _memory(path: Path) -> dict[str, Any]:
    from embodied_mem.memory import Memory

    with Memory.open(path, read_only=True) as memory:
        info = memory.info()
        labels = Counter(thing.name for thing in memory.scene.objects() if thing.existence >= 0.5)
        facts = {name: info[name] for name in MEMORY_FACTS}
        megabytes = round(info["bytes_on_disk"] / 1e6, 3)
        return {
            **facts,
            "seconds": round(info["seconds"], 1),
            "megabytes": megabytes,
            "digest": info["digest"],
            "labels": dict(sorted(labels.items())),
        }


def flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of nested mappings as (dotted name, value)."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, values

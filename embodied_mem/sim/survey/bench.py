"""Measures the scene graph in unseen houses, beside baselines and with one idea less at a time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.sim.house.house import SPLITS
from embodied_mem.sim.survey.baselines import GreedyNearest, LastWriteWins
from embodied_mem.sim.survey.config import SurveyConfig
from embodied_mem.sim.survey.growth import time_growth
from embodied_mem.sim.survey.paths import PathScore, score_paths
from embodied_mem.sim.survey.recording import KINDS, survey_house
from embodied_mem.sim.survey.run import graph_variants, run_survey
from embodied_mem.sim.survey.score import Score


def bench_scene(
    houses: int = 30,
    split: str = "test",
    ablation: bool = False,
    config: SurveyConfig | None = None,
    folder: Path | None = None,
    keep: Path | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Shows a robot around houses and compares what it remembers with the truth.

    A third of the houses is explored once, a third twice, a third again after a night of changes. What
    the robot saw is recorded once (some seconds a house) and kept in a cache.

    Args:
        houses: how many.
        split: of `SPLITS`, from its first house on.
        ablation: also run the scene graph with one idea less at a time.
        config: of the tours.
        folder: of the recordings; `recording.cache_folder` where None.
        keep: file to which the counts of each house are added, and from which those of houses that it
            holds are taken: a long run can be cut off and goes on, or be shared out.
        seed: of the first house; that of the split where None.

    Returns:
        `objects`, `changes`, `rooms`, `paths`, `timing` [ms per keyframe; in it `growth`, in a building and
        in one ten times as large], `peers` by name, each with
        `objects` and `changes`; `workload`.
    """
    config = config or SurveyConfig()
    first = SPLITS[split][0] if seed is None else seed
    totals: dict[str, Score] = {}
    paths, times, frames = PathScore(), [], 0
    done = _kept(keep)
    for number in range(houses):
        kind = KINDS[(number + 2) % len(KINDS)]
        seed = first + (number % 3) * 10 + number // 3
        name = f"{seed} {kind} {ablation} {config.words()}"
        if name not in done:
            done[name] = _survey(seed, kind, config, ablation, folder)
            if keep is not None:
                with keep.open("a") as file:
                    file.write(json.dumps({"house": name, **done[name]}) + "\n")
        counts = done[name]
        times += counts["times"]
        frames += counts["keyframes"]
        for variant, values in counts["scores"].items():
            totals.setdefault(variant, Score()).add(Score(**values))
        for field, value in counts["paths"].items():
            setattr(paths, field, getattr(paths, field) + value)
        print(f"{number + 1}/{houses}: house {seed}, {kind}", file=sys.stderr, flush=True)
    own = totals.pop("memory")
    return {
        "workload": {"split": split, "first": first, "houses": houses, "keyframes": frames},
        **own.report(),
        "rooms": {
            "iou": float(np.mean(own.ious)),
            "kept": own.room_kept / max(own.room_updates, 1),
        },
        "paths": paths.report(),
        "timing": {
            "median_ms": 1e3 * float(np.median(times)),
            "p99_ms": 1e3 * float(np.quantile(times, 0.99)),
            "growth": time_growth(config.memory()),
        },
        "peers": {name: score.report() for name, score in totals.items()},
    }


def _survey(
    seed: int, kind: str, config: SurveyConfig, ablation: bool, folder: Path | None
) -> dict[str, Any]:
    """Returns the counts of one house as plain values."""
    survey = survey_house(seed, kind, config, folder)
    variants: dict[str, Any] = {
        "greedy nearest neighbour": GreedyNearest(),
        "last write wins": LastWriteWins(),
    }
    if ablation:
        variants |= graph_variants(config.memory().scene)
    watch: list[float] = []
    memory, scores = run_survey(survey, config, variants, watch)
    paths = PathScore()
    score_paths(paths, survey.after, memory)
    return {
        "keyframes": len(survey),
        "times": watch[5:],
        "paths": vars(paths),
        "scores": {name: vars(score) for name, score in scores.items()},
    }


def _kept(path: Path | None) -> dict[str, dict[str, Any]]:
    """Returns the counts in a file by house."""
    if path is None or not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {row.pop("house"): row for row in rows}

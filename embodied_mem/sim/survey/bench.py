"""Measures the scene graph in unseen houses, beside baselines and with one idea less at a time."""

from __future__ import annotations

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

    Returns:
        `objects`, `changes`, `rooms`, `paths`, `timing` [ms per keyframe; in it `growth`, in a building and
        in one ten times as large], `peers` by name, each with
        `objects` and `changes`; `workload`.
    """
    config = config or SurveyConfig()
    first = SPLITS[split][0]
    totals: dict[str, Score] = {}
    paths, times, frames = PathScore(), [], 0
    for number in range(houses):
        kind = KINDS[(number + 2) % len(KINDS)]
        seed = first + (number % 3) * 10 + number // 3
        survey = survey_house(seed, kind, config, folder)
        variants: dict[str, Any] = {
            "greedy nearest neighbour": GreedyNearest(),
            "last write wins": LastWriteWins(),
        }
        if ablation:
            variants |= graph_variants(config.memory().scene)
        watch: list[float] = []
        memory, scores = run_survey(survey, config, variants, watch)
        times += watch[5:]
        frames += len(survey)
        for name, score in scores.items():
            totals.setdefault(name, Score()).add(score)
        score_paths(paths, survey.after, memory)
        print(f"{number + 1}/{houses}: house {seed}, {kind}", file=sys.stderr, flush=True)
    own = totals.pop("memory")
    return {
        "workload": {"split": split, "houses": houses, "keyframes": frames},
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

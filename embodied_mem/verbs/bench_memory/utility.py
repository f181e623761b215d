"""Learned utility measured: feedback on some questions, usefulness of the answers to others."""

from __future__ import annotations

from typing import Any

import numpy as np

from embodied_mem.geometry import Pose
from embodied_mem.memory import Memory, MemoryConfig, RecallConfig
from embodied_mem.memory.episodes.entries import Episode
from embodied_mem.memory.episodes.vectors import quantise
from embodied_mem.types import NS_PER_S, Query

TASKS, RECORDS, DIMENSIONS, K = 50, 20, 128, 5
"""So many tasks, each with so many records of how it was tried; answers per question."""
WORKED = 0.3
"""Share of the attempts that worked; nothing in a record tells which."""
ROUNDS, ASKED = 6, 4
"""Times each task comes up while feedback is given, and afterwards."""
SEEDS = 5


def measure() -> dict[str, Any]:
    """Returns the share of answers that were useful to held-out questions, without and with utility.

    A record is the view of a task and how it was tried. Whether that worked is known to the simulated
    user alone, who says of each answer whether it was useful (with a share of wrong feedback). The
    held-out questions are other views of the same tasks; no feedback is given on them.

    Returns:
        `useful_in_top5` and `relevant_in_top5` (of the right task), each `off` and `on`, as the mean
        over seeds and the worst seed; `by_wrong_feedback` the same with more and more of it wrong.
    """
    by_noise = {str(noise): _over_seeds(noise) for noise in (0.1, 0.3, 0.5)}
    return {
        "workload": {"tasks": TASKS, "records": TASKS * RECORDS, "worked": WORKED, "seeds": SEEDS},
        **by_noise["0.1"],
        "by_wrong_feedback": by_noise,
    }


def _over_seeds(noise: float) -> dict[str, Any]:
    runs = {on: [_run(seed, noise, utility=on) for seed in range(SEEDS)] for on in (False, True)}
    report: dict[str, Any] = {}
    for index, name in enumerate(("useful_in_top5", "relevant_in_top5")):
        shares = {on: [run[index] for run in found] for on, found in runs.items()}
        report[name] = {
            "off": float(np.mean(shares[False])),
            "on": float(np.mean(shares[True])),
            "on_worst_seed": float(np.min(shares[True])),
        }
    return report


def _run(seed: int, noise: float, *, utility: bool) -> tuple[float, float]:
    """Returns the shares of held-out answers that were useful, and that were of the right task."""
    rng = np.random.default_rng(seed)
    memory = Memory(MemoryConfig(recall=RecallConfig(consensus=False, utility=utility)))
    tasks = rng.normal(size=(TASKS, DIMENSIONS))
    owners = rng.permutation(np.repeat(np.arange(TASKS), RECORDS))
    worked = rng.random(len(owners)) < WORKED
    for number, task in enumerate(owners.tolist()):
        view = tasks[task] + 0.5 * rng.normal(size=DIMENSIONS)
        memory.episodes.add(
            Episode(number, number * NS_PER_S, number, Pose(), embedding=quantise(view), source="camera")
        )
    useful = relevant = 0
    for number in range(ROUNDS + ASKED):
        for task in rng.permutation(TASKS).tolist():
            view = (tasks[task] + 0.5 * rng.normal(size=DIMENSIONS)).astype(np.float32)
            flips = rng.random(K) < noise  # drawn for both, so that both see the same questions
            answers = memory.recall(Query(kind="episode", like=view, k=K))
            good = [bool(worked[a.id]) and owners[a.id] == task for a in answers]
            if number >= ROUNDS:
                useful += sum(good)
                relevant += sum(bool(owners[a.id] == task) for a in answers)
            elif utility:
                for answer, is_good, flip in zip(answers, good, flips.tolist()):
                    memory.feedback(answer.recall_id, useful=is_good != flip)
    total = ASKED * TASKS * K
    return useful / total, relevant / total

"""Train several methods on one task, one run after another, and tabulate what came of it."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from embodied_mem.configs import load_config
from embodied_mem.errors import ConfigError
from embodied_mem.verbs.train import TrainConfig, run_training

METHODS: dict[str, dict[str, Any]] = {
    "none": {"policy": "none"},
    "gru": {"policy": "gru"},
    "window": {"policy": "window"},
    "full_context": {"policy": "full_context"},
    "hcam": {"policy": "hcam"},
    "memo": {"policy": "memo", "bank": "accumulate"},
    "memo-jitter": {"policy": "memo", "bank": "accumulate", "jitter": "memo"},
    "fifo": {"policy": "memo", "bank": "fifo"},
    "rewrite": {"policy": "memo", "bank": "rewrite"},
    "place": {"policy": "memo", "bank": "place", "slots": 64},
}
"""Methods by name, as settings that differ from the config's."""

CURVE_POINTS = 60
"""Points of a training curve that a row keeps."""


@dataclass(frozen=True)
class Run:
    """One row of the table.

    Attributes:
        config: what is trained; `policy` holds the method's settings.
        method: name in `METHODS`, and what it does without.
        row: the row's file.
        work: the folder of checkpoints, from which a run that was cut off goes on.
        command: what makes this row.
    """

    config: TrainConfig
    method: str
    row: Path
    work: Path
    command: str


def sweep(
    config: Path,
    methods: tuple[str, ...] = ("none", "gru", "memo", "rewrite"),
    seeds: tuple[int, ...] = (0, 1, 2),
    steps: int | None = None,
    horizon: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
    out: Path = Path("runs/results"),
    work: Path = Path("runs/sweep"),
) -> int:
    """Train methods on a task, seed by seed; runs that are done are skipped, cut-off ones go on.

    Examples:
        embodied-mem sweep sim_configs/passive_tmaze.yaml --methods none gru memo --seeds 0 1 2
        embodied-mem sweep sim_configs/passive_tmaze.yaml --horizon 2x 4x   # longer than it was trained on
        embodied-mem sweep sim_configs/house_sketch.yaml --methods gru memo --without memory_tokens
        embodied-mem compare runs/results/passive_tmaze/*-0.json

    Args:
        config: a training config; methods differ in what their name says and in nothing else.
        methods: of none, gru, window, full_context, hcam, memo, memo-jitter, fifo, rewrite, place.
        seeds: of the trainings.
        steps: environment steps, the config's where left out.
        horizon: multiples of the trained length at which to evaluate as well, such as 2x 4x.
        without: what policies that point are trained without: of memory_tokens, octree, objects.
        out: folder for one JSON row per run, and for the table over all of them.
        work: folder for checkpoints.
    """
    from embodied_mem.verbs.results import write_table

    for run in plan_runs(config, methods, seeds, steps, out, work, without):
        if run.row.exists():
            continue
        print(f"{run.method} seed {run.config.seed}: {run.config.total_steps} steps", flush=True)
        row = make_row(run, horizon)
        run.row.parent.mkdir(parents=True, exist_ok=True)
        run.row.write_text(json.dumps(row, indent=1) + "\n")
        print(write_table(out), flush=True)
    return 0


def plan_runs(
    config: Path,
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    steps: int | None,
    out: Path,
    work: Path,
    without: tuple[str, ...] = (),
) -> list[Run]:
    """Returns the runs of a sweep, all methods of a seed before the next seed.

    Trainings that imitate first learn from the same demonstrations.

    Raises:
        ConfigError: a method that is not known, or a config that does not load.
    """
    for method in methods:
        if method not in METHODS:
            raise ConfigError(f'no method "{method}"; methods: {", ".join(METHODS)}')
    base = load_config(TrainConfig, config)
    base = replace(base, total_steps=steps or base.total_steps)
    if without:
        base = replace(base, env_kwargs={**base.env_kwargs, "without": list(without)})
    if base.imitation.is_wanted:
        each = "-{seed}" if "{seed}" in base.imitation.teacher else ""  # teachers of their own
        shared = replace(base.imitation, collected=str(work / config.stem / f"demonstrations{each}"))
        base = replace(base, imitation=shared)
    runs = []
    for seed in seeds:
        for method in methods:
            settings = METHODS[method]
            called = "-without-".join([method, *without])
            name = f"{called}-{seed}"
            options = " ".join(f"--{key} {value}" for key, value in settings.items())
            options += f" --without {' '.join(without)}" if without else ""
            start = base.start.replace("{method}", called).replace("{seed}", str(seed))
            options += f" --start {start}" if start else ""
            runs.append(
                Run(
                    config=replace(base, seed=seed, start=start, policy=replace(base.policy, **settings)),
                    method=called,
                    row=out / config.stem / f"{name}.json",
                    work=work / config.stem / name,
                    command=f"embodied-mem train sim_configs/{config.name} {options} --seed {seed} "
                    f"--total-steps {base.total_steps}",
                )
            )
    return runs


def make_row(run: Run, horizon: tuple[str, ...]) -> dict[str, Any]:
    """Trains, or goes on training, and returns what the table needs to know of it."""
    from embodied_mem import __version__
    from embodied_mem.verbs.evaluate import evaluate_checkpoint, read_factor

    result = run_training(run.config, run.work, resume=True, progress_bar=True)
    beyond = {
        text: evaluate_checkpoint(
            run.work / "checkpoint", episodes=run.config.eval_episodes, factor=read_factor(text)
        )
        for text in horizon
    }
    facts = {"1x": result["evaluation"], **beyond}
    for evaluation in facts.values():
        evaluation.pop("checkpoint")
        evaluation.pop("each")  # a row is read by people too
    curve = result["curve"]
    stride = max(1, -(-len(curve) // CURVE_POINTS))
    return {
        "method": run.method,
        "seed": run.config.seed,
        "env": run.config.env,
        "env_kwargs": run.config.env_kwargs,
        "command": run.command,
        "version": __version__,
        "steps": result["steps"],
        "seconds": round(result["seconds"], 1),
        "parameters": result["parameters"],
        "hardware": f"{run.config.device}, {run.config.threads} thread(s), {platform.machine()}",
        "evaluation": facts,
        "curve": curve[::-1][::stride][::-1],
        **({"imitation": result["imitation"]} if "imitation" in result else {}),
    }

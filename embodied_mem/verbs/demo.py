"""The whole loop in one go: train, search, log, replay, ask."""

from __future__ import annotations

import json as json_format
import sysconfig
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodied_mem.errors import ConfigError
from embodied_mem.perception import PerceptionConfig
from embodied_mem.types import Query
from embodied_mem.verbs.interrupt import Interrupted
from embodied_mem.verbs.progress import progress

if TYPE_CHECKING:
    from rich.console import Console

    from embodied_mem.memory import Memory
    from embodied_mem.verbs.train import TrainConfig

WORLD = "EmbodiedMem/House-MultiObjectNav-v1"
WORLD_KWARGS: dict[str, Any] = {"split": "val"}
"""A house in which nothing was learned."""
SEARCHER = "house_nav"
"""The checkpoint that searches it."""
LIMIT = 800
"""Of steps."""
GOAL_FACTS = ("label", "given", "success", "shortest", "walked")
"""What the report says of a goal."""


def demo(out: Path = Path("runs/demo"), seed: int = 6, json: bool = False) -> int:
    """Train, search a house, log, replay and ask, in one go; leaves everything in OUT.

    Examples:
        embodied-mem demo                           # some two minutes; everything it made is in runs/demo
        embodied-mem demo --out runs/mine --seed 8  # another house
        embodied-mem report runs/demo               # one page about it

    Args:
        out: folder for the log, the memory, the picture, the report and the checkpoint.
        seed: of the training and of the house that is searched.
        json: print the report as JSON instead of the summary.
    """
    report = run_demo(out, seed=seed, quiet=json)
    if json:
        print(json_format.dumps(report, indent=2))
    return 0 if report["replay"]["verified"] else 1


def run_demo(out: Path, *, seed: int = 6, quiet: bool = False) -> dict[str, Any]:
    """Runs the five parts and writes `report.json` and everything it speaks of into `out`.

    Args:
        out: folder, made where it is missing.
        seed: of the training and of the house.
        quiet: print nothing.

    Returns:
        The report, JSON-ready.
    """
    from rich.console import Console

    console = Console(quiet=quiet, highlight=False, soft_wrap=True)
    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    console.print("[bold]embodied-mem demo[/]: train, search, log, replay, ask")
    report: dict[str, Any] = {"seed": seed, "training": _train(out, seed, console)}
    report["search"] = _search(out, seed, console)
    report["replay"] = _replay(out, console)
    report["questions"] = _ask(out, console)
    _write_config(out, seed)
    report["seconds"] = time.perf_counter() - start
    (out / "report.json").touch()
    report["files"] = sorted(p.name for p in out.iterdir())
    (out / "report.json").write_text(json_format.dumps(report, indent=2))
    console.print(f"\nDone in {report['seconds']:.0f} s. In {out}/: {', '.join(report['files'])}")
    return report


def find_config(name: str) -> Path:
    """Returns the path of a config of `sim_configs/`, in the checkout or where pip installed it.

    Raises:
        ConfigError: there is no such file.
    """
    places = [Path(__file__).parents[2], Path(sysconfig.get_path("data")) / "share" / "embodied_mem"]
    for place in places:
        if (place / "sim_configs" / name).is_file():
            return place / "sim_configs" / name
    raise ConfigError(f"no {name} in {' or '.join(str(p / 'sim_configs') for p in places)}")


def find_model(name: str) -> Path:
    """Returns the folder of a checkpoint of `models/`, in the checkout or where pip installed it.

    Raises:
        ConfigError: there is no such folder.
    """
    places = [Path(__file__).parents[2], Path(sysconfig.get_path("data")) / "share" / "embodied_mem"]
    for place in places:
        if (place / "models" / name / "config.json").is_file():
            return place / "models" / name
    raise ConfigError(f"no {name} in {' or '.join(str(p / 'models') for p in places)}")


def demo_config() -> TrainConfig:
    """Returns the training run of the demo: proof of memory."""
    from embodied_mem.configs import load_config
    from embodied_mem.verbs.train import TrainConfig

    return load_config(TrainConfig, find_config("proof_of_memory.yaml"))


def _write_config(out: Path, seed: int) -> None:
    """Writes every setting the demo ran with, defaults included."""
    import yaml

    from embodied_mem.configs import to_mapping

    with _open(out / "memory.emem") as memory:
        settings = {
            "train": to_mapping(replace(demo_config(), seed=seed)),
            "world": {"env": WORLD, "env_kwargs": WORLD_KWARGS, "seed": seed, "agent": SEARCHER},
            "memory": to_mapping(memory.config),
            "perception": to_mapping(PerceptionConfig()),
        }
    (out / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))


def _train(out: Path, seed: int, console: Console) -> dict[str, Any]:
    from embodied_mem.verbs.train import run_training

    config = replace(demo_config(), seed=seed)
    length = config.env_kwargs["length"]
    console.print(
        f"\n[bold]1. Learn to remember[/]: a cue at step 0, the choice at step {length}; segments of "
        f"{config.policy.segment_length} steps, {config.policy.summary_tokens} summary tokens each"
    )
    results = {}
    for name, policy in (("memory", config.policy), ("no memory", replace(config.policy, policy="none"))):
        folder = out if name == "memory" else out / "no_memory"
        results[name] = run_training(replace(config, policy=policy), folder, progress_bar=not console.quiet)
        evaluation = results[name]["evaluation"]
        low, high = evaluation["success_interval"]
        console.print(
            f"   {name:<9}  success {evaluation['success']:.3f}  95 % interval [{low:.3f}, {high:.3f}]  "
            f"({results[name]['steps']} steps, {results[name]['seconds']:.0f} s)"
        )
    return results


def _search(out: Path, seed: int, console: Console) -> dict[str, Any]:
    from embodied_mem.verbs.record import record_episode

    console.print(f"\n[bold]2. Search a house never seen[/]: {WORLD}, seed {seed}; by models/{SEARCHER}")
    ends: list[Any] = []
    with progress("   searching", LIMIT, shown=not console.quiet) as on_step:
        recording = record_episode(
            WORLD, out, seed=seed, steps=LIMIT, agent=str(find_model(SEARCHER)), env_kwargs=WORLD_KWARGS,
            on_step=on_step, on_end=ends.append,
        )  # fmt: skip
    if recording.stopped == "interrupted":
        raise Interrupted(f"the same command starts again; what is done is in {out}")
    goals = [{key: leg[key] for key in GOAL_FACTS} for leg in ends[0]["goals"]]
    for number, goal in enumerate(goals, start=1):
        if goal["given"]:
            end = f"found after {goal['walked']:.1f} m" if goal["success"] else "not found"
            console.print(f"   {number}. {goal['label']}: {end} (shortest way: {goal['shortest']:.1f} m)")
    with _open(recording.memory) as memory:
        facts = memory.info()
        from embodied_mem.viz.map_view import draw_map

        draw_map(memory, out / "map.png", title=f"{WORLD.split('/')[1]}, seed {seed}")
    counts = {key: facts[key] for key in ("voxels", "objects", "places", "rooms", "episodes")}
    console.print(f"   {recording.steps} steps ({recording.stopped}): " + _counts(counts))
    console.print(f"[bold]3. Logged[/] as MCAP with ROS 2 messages: {recording.log}")
    return {
        "env": WORLD, "steps": recording.steps, "stopped": recording.stopped, "digest": recording.digest,
        "log": str(recording.log), "memory": str(recording.memory), "goals": goals, **counts,
    }  # fmt: skip


def _counts(counts: dict[str, Any]) -> str:
    return ", ".join(f"{value} {key}" for key, value in counts.items())


def _open(path: Path) -> Memory:
    from embodied_mem.memory import Memory

    return Memory.open(path, read_only=True)


def _replay(out: Path, console: Console) -> dict[str, Any]:
    from embodied_mem.verbs.replay import replay_report

    console.print("\n[bold]4. Replay the log into a fresh memory[/]")
    report = replay_report(out / "episode.mcap", verify=True)
    console.print(f"   on-line  {report['recorded_digest']}\n   replay   {report['digest']}")
    console.print("   the same memory" if report["verified"] else "   [red]NOT the same memory[/]")
    return report


def _ask(out: Path, console: Console) -> list[dict[str, Any]]:
    from embodied_mem.verbs.query import as_json, in_words

    console.print("\n[bold]5. Ask the memory[/]")
    asked = []
    with _open(out / "memory.emem") as memory:
        for question, query in questions(memory):
            answers = memory.recall(query)
            console.print(f"   [italic]{question}[/]")
            for answer in answers:
                console.print(f"     {in_words(answer, memory.episodes.first_stamp)}")
            if not answers:
                console.print("     nothing in the memory matches")
            asked.append({"question": question, "answers": [as_json(a) for a in answers]})
    return asked


def questions(memory: Memory) -> list[tuple[str, Query]]:
    """Returns questions about what this memory can know of, in words and as queries."""
    things = memory.recall(Query(kind="object", k=1000))
    counts = Counter(thing.label for thing in things)
    thing = min(sorted(counts), key=lambda label: counts[label])  # the rarer, the harder to find again
    here = memory.scene.room_at(memory.map_T_base.position)
    since, until = (memory.episodes.stamp_of_step(step) for step in (40, 60))
    return [
        (f"Where did I last see the {thing}?", Query(kind="object", label=thing, k=1)),
        (f"What is in this room (room {here})?", Query(kind="object", room=here, k=10)),
        (
            "What did I see between step 40 and step 60?",
            Query(kind="object", since=since, until=until, k=20),
        ),
    ]

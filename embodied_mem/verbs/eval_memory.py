"""Ask the memory of a recorded episode questions whose answers are known."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Any

from embodied_mem.log.replay import rebuild
from embodied_mem.memory import Memory
from embodied_mem.verbs.memory_questions import Asked, ask_all, read_truth
from embodied_mem.verbs.progress import replaying


def eval_memory(
    log: Path,
    memory: Path | None = None,
    each: int = 40,
    seed: int = 0,
    wrong: bool = False,
    json: bool = False,
) -> int:
    """Ask the memory of a recorded episode what is known to be true, and report how often it is right.

    The answers are known from what a simulator noted beside the episode, which the memory never sees.

    Examples:
        embodied-mem record --env EmbodiedMem/House-ObjectNav-v0 --steps 250 --out runs/house
        embodied-mem eval-memory runs/house/episode.mcap --wrong   # also lists what it got wrong

    Args:
        log: an episode recorded in a house.
        memory: its memory; rebuilt from the log where it is left out.
        each: at most so many questions of each kind.
        seed: which questions, where there are more.
        wrong: list the questions that were answered wrongly.
        json: print JSON.
    """
    report = evaluate(log, memory, each, seed, shown=not json)
    if json:
        print(json_format.dumps(report, indent=2))
        return 0
    print(f"{report['right']} of {report['questions']} right ({report['accuracy']:.1%})")
    told = report["of_what_was_detected"]
    print(f"{told['right']} of {told['questions']} of what perception detected ({told['accuracy']:.1%})")
    for kind, part in report["kinds"].items():
        print(f"  {kind:<12} {part['right']:>3} of {part['questions']:<3} {part['accuracy']:.1%}")
    for item in report["wrong"] if wrong else ():
        print(f"  {item['words']} expected {item['expected']}, answered {item['answered']}")
    return 0


def evaluate(
    log: Path, path: Path | None = None, each: int = 40, seed: int = 0, *, shown: bool = False
) -> dict[str, Any]:
    """Returns `questions`, `right`, `accuracy`, the same by `kinds`, and the questions answered `wrong`.

    `of_what_was_detected` leaves out things that were in view, but that perception hardly or never told of.
    """
    truth = read_truth(log)
    with replaying(log, shown=shown) as on_step:
        memory = rebuild(log, on_step, [truth.note])
    if path is None:
        asked = ask_all(truth, memory, each, seed)
    else:
        with Memory.open(path, read_only=True) as held:
            asked = ask_all(truth, held, each, seed)
    kinds = {
        kind: _share([a for a in asked if a.kind == kind]) for kind in dict.fromkeys(a.kind for a in asked)
    }
    wrong = [
        {"kind": a.kind, "words": a.words, "expected": a.expected, "answered": a.answered}
        for a in asked
        if not a.is_right
    ]
    told = _share([a for a in asked if a.is_told])
    return {**_share(asked), "of_what_was_detected": told, "kinds": kinds, "wrong": wrong}


def _share(asked: list[Asked]) -> dict[str, Any]:
    right = sum(a.is_right for a in asked)
    return {"questions": len(asked), "right": right, "accuracy": right / max(len(asked), 1)}

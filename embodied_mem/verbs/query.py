"""Ask a memory file, and say the answers in words."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from embodied_mem.errors import InputError
from embodied_mem.memory import Memory
from embodied_mem.types import NS_PER_S, Query, Recall


def query(
    memory: Path,
    question: Annotated[str | None, tyro.conf.Positional] = None,
    label: str | None = None,
    near: tuple[float, float, float] | None = None,
    radius: float | None = None,
    since: str | None = None,
    until: str | None = None,
    room: str | None = None,
    text: str | None = None,
    kind: Literal["object", "place", "room", "episode", "surface"] | None = None,
    model: str | None = None,
    k: Annotated[int, tyro.conf.arg(name="k", aliases=["-k"])] = 5,
    json: bool = False,
) -> int:
    """Ask a memory file: what, where, when; in words, or by options.

    Examples:
        embodied-mem query runs/demo/memory.emem "where did I last see the kettle"
        embodied-mem query runs/demo/memory.emem --label kettle -k 1
        embodied-mem query runs/demo/memory.emem --kind object --since step:40 --until step:60
        embodied-mem query home.emem --near 2 1 0 --radius 1.5 --json

    Args:
        memory: an .emem file.
        question: in words; what fits no pattern is looked for by its words.
        label: words that the label must hold; "key" matches "green key".
        near: a point X Y Z in the map frame [m], with --radius.
        radius: how far from that point [m].
        since: seconds since the start (4.5), a step (step:40) or a date (2026-11-21T10:00:00Z).
        until: likewise.
        room: id of a room, or its name.
        text: words to look for in labels, events and notes.
        kind: what to look for; anything where it is left out.
        model: finds words by their meaning too: a folder with a model2vec model, or its name on the
            Hugging Face hub (pip install "embodied-mem[text]").
        k: how many answers at most.
        json: print JSON.
    """
    if radius is not None and near is None:
        raise InputError("--radius needs --near X Y Z")
    with Memory.open(memory, read_only=True) as opened:
        if model is not None:
            from embodied_mem.memory.recall.sentence_model import SentenceModel

            opened.use_sentences(SentenceModel(model))
        if question is not None:
            return _answer(opened, question, k, json)
        asked = Query(
            label=label,
            near=near,
            radius=radius,
            since=None if since is None else parse_time(since, opened),
            until=None if until is None else parse_time(until, opened),
            room=int(room) if room is not None and room.isdigit() else room,
            text=text,
            kind=kind,
            k=k,
        )
        answers = opened.recall(asked)
        first = opened.episodes.first_stamp
    if json:
        print(json_format.dumps({"answers": [as_json(answer) for answer in answers]}, indent=2))
    else:
        print("\n".join(in_words(a, first) for a in answers) or "nothing in the memory matches")
    return 0


def _answer(memory: Memory, question: str, k: int, json: bool) -> int:
    """Prints the answer to a question in words."""
    answer = memory.ask(question, k)
    if json:
        facts = {"understood": answer.understood or None, "sentence": answer.sentence}
        print(json_format.dumps(facts | {"answers": [as_json(a) for a in answer.answers]}, indent=2))
        return 0
    if not answer.understood:
        print("(no pattern fits this question; looked for its words)")
    print(answer.sentence)
    for found in answer.answers:
        print("  " + in_words(found, memory.episodes.first_stamp))
    return 0


def parse_time(text: str, memory: Memory) -> int:
    """Reads a time as a person types it, as [ns] of the memory's clock.

    Args:
        text: seconds since the memory's first entry ("4.5"), a step ("step:40"), or a date and
            time in ISO 8601 ("2026-11-21T10:00:00Z"; local time where no zone is given).
        memory: whose clock and steps are meant.

    Raises:
        InputError: the text is none of these.
    """
    if text.startswith("step:") and text[5:].isdigit():
        return memory.episodes.stamp_of_step(int(text[5:]))
    try:
        return memory.episodes.first_stamp + round(float(text) * NS_PER_S)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise InputError(
            f'"{text}" is not a time: give seconds since the start (4.5), a step (step:40) '
            "or a date (2026-11-21T10:00:00Z)"
        ) from None
    return round(moment.astimezone(timezone.utc).timestamp() * NS_PER_S)


def as_json(answer: Recall) -> dict[str, Any]:
    """Returns an answer as JSON-ready values."""
    return asdict(answer) | {"position": answer.position.tolist(), "evidence": list(answer.evidence)}


def in_words(answer: Recall, first_stamp: int) -> str:
    """Returns an answer as one line: what, when, where, on what evidence, and why it matched."""
    x, y, z = (float(v) for v in answer.position)
    where = f"at ({x:.1f}, {y:.1f}, {z:.1f}) m"
    if answer.room_id >= 0 and answer.kind != "room":
        where += f", room {answer.room_id}"
    step = f"step {answer.step}, " if answer.step >= 0 else ""
    shown = ", ".join(f"#{i}" for i in answer.evidence[:4])
    more = f" and {len(answer.evidence) - 4} more" if len(answer.evidence) > 4 else ""
    evidence = f"evidence: entries {shown}{more}" if shown else "no entry left as evidence"
    seconds = (answer.stamp - first_stamp) / NS_PER_S
    return f"{answer.text} | {step}{seconds:.1f} s | {where} | {evidence} | {answer.why}"

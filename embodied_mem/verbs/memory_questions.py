"""Questions with known answers, from what a simulator noted beside an episode."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.errors import InputError
from embodied_mem.log import topics
from embodied_mem.log.messages import deserialize, read_json
from embodied_mem.log.reader import LogReader
from embodied_mem.loop import Moment
from embodied_mem.memory import Memory
from embodied_mem.memory.recall.ask import HERE

PIXELS = 40
"""A thing with fewer pixels is not asked for, nor taken to have been seen."""
LOOKS = 3
"""A thing that was in view in fewer steps is not asked for."""
NEAR = 0.3
"""An answer this close to a thing's outline, seen from above, names its place [m]."""
AWAY = 0.5
"""An answer this close to where the robot was names its place [m]."""
LATE = 10
"""An answer this many steps off names the time."""


@dataclass(frozen=True)
class Asked:
    """One question and what became of it.

    Attributes:
        kind: "last_seen", "inventory", "visit", "whereabouts" or "changes".
        words: the question, as it was asked.
        expected: the true answer, in words.
        answered: the memory's, in words.
        is_right: whether the two agree.
        is_told: whether perception told the memory of it, in `LOOKS` steps; else only the camera saw it.
    """

    kind: str
    words: str
    expected: str
    answered: str
    is_right: bool
    is_told: bool = True


@dataclass(eq=False)
class Truth:
    """What the simulator noted.

    Attributes:
        frames: one mapping per step: step, robot (x, y, yaw), room, visible (id -> pixels), day.
        days: per day: its first step, things by id, rooms by id.
        told: in how many steps perception told of each thing, by its id.
    """

    frames: list[dict[str, Any]] = field(default_factory=list)
    days: list[dict[str, Any]] = field(default_factory=list)
    told: dict[int, int] = field(default_factory=dict)

    def note(self, moment: Moment) -> None:
        """Counts the things that a percept tells of: a listener of the loop that perceives the log."""
        percept, step = moment.percept, moment.obs.step
        begun = [day["things"] for day in self.days if day["first"] <= step]
        things, found = begun[-1] if begun else {}, set()
        for detection in percept.detections:
            at = percept.map_T_base.transform(detection.position[None])[0]
            label = percept.labels.name(detection.label)
            found |= {i for i, t in things.items() if t["label"] == label and _outside(t["rect"], at) <= NEAR}
        for thing_id in found:
            self.told[thing_id] = self.told.get(thing_id, 0) + 1

    def is_told(self, thing_ids: Iterable[int]) -> bool:
        """Whether perception told of one of some things in `LOOKS` steps."""
        return any(self.told.get(i, 0) >= LOOKS for i in thing_ids)

    def thing(self, frame: dict[str, Any], thing_id: int) -> dict[str, Any] | None:
        """Returns a thing as it is on the day of a frame."""
        found: dict[str, Any] | None = self.days[frame["day"]]["things"].get(thing_id)
        return found


def read_truth(log: Path) -> Truth:
    """Reads what the simulator noted beside an episode.

    Raises:
        InputError: the log holds nothing of that kind.
    """
    truth = Truth()
    with LogReader(log) as reader:
        if topics.GROUND_TRUTH.name not in reader.topics:
            raise InputError(
                f"{log} holds no ground truth to compare with; record one in a house: "
                "embodied-mem record --env EmbodiedMem/House-ObjectNav-v0"
            )
        for raw in reader.messages({topics.GROUND_TRUTH.name}):
            facts = read_json(deserialize(raw.data, topics.STRING, raw.topic), raw.topic)
            if "things" in facts:
                things = {int(t["id"]): t for t in facts.pop("things")}
                rooms = {int(r["id"]): r for r in facts.pop("rooms")}
                truth.days.append({"first": int(facts["step"]), "things": things, "rooms": rooms})
            seen = {int(i): int(n) for i, n in facts["visible"] if n >= PIXELS}
            truth.frames.append({**facts, "visible": seen, "day": len(truth.days) - 1})
    return truth


def ask_all(truth: Truth, memory: Memory, each: int, seed: int) -> list[Asked]:
    """Asks a memory everything that the truth has an answer to.

    Args:
        truth: what the simulator noted.
        memory: of the same episode.
        each: at most so many questions of each kind.
        seed: which ones, where there are more.
    """
    rng = np.random.default_rng(seed)
    makers: tuple[Callable[[Truth, Memory, Any], list[Asked]], ...] = (
        _last_seen, _inventory, _visits, _whereabouts, _changes,
    )  # fmt: skip
    asked = []
    for make in makers:
        questions = make(truth, memory, rng)
        chosen = sorted(rng.permutation(len(questions))[:each].tolist())
        asked += [questions[i] for i in chosen]
    return asked


def _looks(truth: Truth, until: int) -> dict[int, int]:
    """Returns in how many of the first frames each thing was in view."""
    counts: dict[int, int] = {}
    for frame in truth.frames[:until]:
        for thing_id in frame["visible"]:
            counts[thing_id] = counts.get(thing_id, 0) + 1
    return counts


def _last_seen(truth: Truth, memory: Memory, rng: Any) -> list[Asked]:
    known = {i for i, n in _looks(truth, len(truth.frames)).items() if n >= LOOKS}
    last: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for index, frame in enumerate(truth.frames):
        for thing_id in frame["visible"]:
            thing = truth.thing(frame, thing_id)
            if thing is not None and thing_id in known:
                last.setdefault(thing["label"], []).append((index, thing))
    asked = []
    for label, sights in sorted(last.items()):
        newest = max(index for index, _ in sights)
        fits = {t["id"]: t for index, t in sights if index >= newest - LATE}
        words = f"where did I last see the {label}?"
        answers = memory.ask(words).answers
        where = None if not answers else answers[0].position
        right = where is not None and any(_outside(t["rect"], where) <= NEAR for t in fits.values())
        expected = " or ".join(_at(t["center"]) for t in fits.values())
        told = "nowhere" if where is None else _at(where)
        asked.append(Asked("last_seen", words, expected, told, right, truth.is_told(fits)))
    return asked


def _inventory(truth: Truth, memory: Memory, rng: Any) -> list[Asked]:
    """Asks what was in a room when the robot left it, label by label, as many that were not there as were."""
    asked = []
    for room_id in sorted({frame["room"] for frame in truth.frames if frame["room"] >= 0}):
        inside = [i for i, frame in enumerate(truth.frames) if frame["room"] == room_id]
        last = truth.frames[inside[-1]]
        seen = {i for i, n in _looks(truth, inside[-1] + 1).items() if n >= LOOKS}
        things = truth.days[last["day"]]["things"]
        there = {t["label"] for i, t in things.items() if i in seen and t["room"] == room_id}
        hidden = {t["label"] for t in things.values() if t["room"] == room_id} - there
        elsewhere = sorted({t["label"] for i, t in things.items() if i in seen} - there - hidden)
        absent = [elsewhere[i] for i in rng.permutation(len(elsewhere))[: len(there)].tolist()]
        numbers = _room_numbers(truth.days[last["day"]]["rooms"][room_id], memory)
        if not there:
            continue
        told: set[str] = set()
        words = f"what was in a room not known at step {last['step']}?"
        for number in numbers:
            words = f"what was in room {number} at step {last['step']}?"
            told |= {answer.label for answer in memory.ask(words, k=100).answers}
        for label in sorted({*there, *absent}):
            expected, answered = label in there, label in told
            yes = ("not there", "there")
            mine = [
                i for i, t in things.items() if t["label"] == label and t["room"] == room_id and i in seen
            ]
            asked.append(
                Asked(
                    "inventory", f"{words} {label}?", yes[expected], yes[answered], expected == answered,
                    truth.is_told(mine) or not expected,
                )
            )  # fmt: skip
    return asked


def _room_numbers(room: dict[str, Any], memory: Memory) -> list[int]:
    """Returns the memory's numbers of a room: those that lie mostly in it, seen from above.

    A room that the memory has cut in two is asked for by both numbers; how well rooms are told
    apart is another question.
    """
    x0, y0, x1, y1 = room["rect"]
    found = []
    for candidate in memory.scene.rooms():
        low, high = candidate.position - candidate.extent / 2, candidate.position + candidate.extent / 2
        xs, ys = (np.linspace(low[i], high[i], 15) for i in (0, 1))
        points = [(x, y) for x in xs for y in ys if memory.scene.room_at((x, y, 0.0)) == candidate.id]
        inside = sum(x0 <= x <= x1 and y0 <= y <= y1 for x, y in points)
        if points and inside > len(points) / 2:
            found.append(candidate.id)
    return found


def _visits(truth: Truth, memory: Memory, rng: Any) -> list[Asked]:
    way = np.array([frame["robot"][:2] for frame in truth.frames])
    asked = []
    for index in rng.permutation(len(way))[:40].tolist():
        x, y = (round(float(v), 1) for v in way[index])
        near = np.flatnonzero(((way - (x, y)) ** 2).sum(axis=1) <= HERE**2)
        step = int(truth.frames[int(near[-1])]["step"])
        words = f"when was I last at ({x}, {y})?"
        answers = memory.ask(words).answers
        told = answers[0].step if answers else -1
        asked.append(Asked("visit", words, f"step {step}", f"step {told}", abs(told - step) <= LATE))
    return asked


def _whereabouts(truth: Truth, memory: Memory, rng: Any) -> list[Asked]:
    asked = []
    for index in rng.permutation(len(truth.frames))[:40].tolist():
        frame = truth.frames[index]
        x, y, _ = frame["robot"]
        words = f"where was I at step {frame['step']}?"
        answers = memory.ask(words).answers
        told = answers[0].position if answers else np.full(3, np.inf)
        right = math.hypot(float(told[0]) - x, float(told[1]) - y) <= AWAY
        asked.append(Asked("whereabouts", words, _at((x, y)), _at(told), right))
    return asked


def _changes(truth: Truth, memory: Memory, rng: Any) -> list[Asked]:
    """Asks what has changed since the newest day began, label by label, as many that stayed as changed."""
    if len(truth.days) < 2:
        return []
    before, after = truth.days[-2]["things"], truth.days[-1]["things"]
    first = truth.days[-1]["first"]
    start = next(i for i, frame in enumerate(truth.frames) if frame["step"] == first)
    known = {i for i, n in _looks(truth, start).items() if n >= LOOKS}
    today = truth.frames[start:]
    looks: dict[int, int] = {}
    for frame in today:
        for thing_id in frame["visible"]:
            looks[thing_id] = looks.get(thing_id, 0) + 1
    rooms_before = {frame["room"] for frame in truth.frames[:start]}
    changed, stayed = set(), set()
    for thing_id, thing in before.items():
        now = after.get(thing_id)
        if thing_id in known and (now is None or now["rect"] != thing["rect"]):
            if _was_looked_at(thing, today):
                changed.add(thing["label"])
        elif thing_id in known and looks.get(thing_id, 0) >= LOOKS:
            stayed.add(thing["label"])
    for thing_id, thing in after.items():
        is_new = thing_id not in before and looks.get(thing_id, 0) >= LOOKS
        if is_new and thing["room"] in rooms_before:
            changed.add(thing["label"])
    unsure = {t["label"] for i, t in before.items() if after.get(i, {}).get("rect") != t["rect"]}
    unsure |= {t["label"] for i, t in after.items() if i not in before}
    calm = sorted(stayed - unsure)
    same = [calm[i] for i in rng.permutation(len(calm))[: len(changed)].tolist()]
    words = f"what has changed since step {first}?"
    told = {answer.label for answer in memory.ask(words, k=100).answers}
    return [
        Asked(
            "changes", f"{words} {label}?", "changed" if label in changed else "the same",
            "changed" if label in told else "the same", (label in changed) == (label in told),
        )
        for label in sorted({*changed, *same})
    ]  # fmt: skip


def _was_looked_at(thing: dict[str, Any], frames: Sequence[dict[str, Any]]) -> bool:
    """True where the robot stood in the thing's room, near and facing its old place, in a few steps."""
    x, y = thing["center"][:2]
    count = 0
    for frame in frames:
        rx, ry, yaw = frame["robot"]
        bearing = math.remainder(math.atan2(y - ry, x - rx) - yaw, 2 * math.pi)
        close = 0.6 <= math.hypot(x - rx, y - ry) <= 3.0
        count += frame["room"] == thing["room"] and close and abs(bearing) < math.radians(30)
    return count >= LOOKS


def _outside(rect: Sequence[float], point: Any) -> float:
    x0, y0, x1, y1 = rect
    dx = max(x0 - float(point[0]), 0.0, float(point[0]) - x1)
    dy = max(y0 - float(point[1]), 0.0, float(point[1]) - y1)
    return math.hypot(dx, dy)


def _at(point: Any) -> str:
    return f"({float(point[0]):.1f}, {float(point[1]):.1f})"

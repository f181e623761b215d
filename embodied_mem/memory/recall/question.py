"""Questions in words: what they ask for, found by patterns, without a model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta, timezone
from typing import Literal

from embodied_mem.memory.episodes.entries import Episodes
from embodied_mem.types import NS_PER_S

Intent = Literal[
    "where", "when", "inventory", "visit", "changes", "whereabouts", "count", "rooms", "story", "text"
]

_UNITS = {"second": 1, "sec": 1, "s": 1, "minute": 60, "min": 60, "hour": 3600, "h": 3600, "day": 86400}
_EPOCH_NS = 10**17
"""Stamps beyond this are dates; smaller ones count from the start of a run."""
_DAY = timedelta(days=1)

_ARTICLE = r"(?:the|a|an|my|any|some|your|his|her|our)\s+"
_PATTERNS: tuple[tuple[Intent, str], ...] = (
    ("rooms", r"^(?:what|which|how many) rooms?\b(?P<rest>(?: (?:is|are|do you know|have you seen)\b.*)?)$"),
    ("story", r"^what (?:has |have |did )?(?:i |we |you |it )?(?:happen(?:ed)?|do|done)\b(?P<rest>.*)$"),
    ("story", r"^what (?:was|were) (?:i|we|you) doing\b(?P<rest>.*)$"),
    ("whereabouts", r"^where (?:was|were|am|are) (?:i|we|you)\b(?P<rest>.*)$"),
    ("visit", r"^when (?:was|were) (?:i|we|you)(?: last| ever|)(?P<rest>.*)$"),
    ("visit", r"^when did (?:i|we|you) (?:last )?(?:visit|enter|go to|come to)(?P<rest>.*)$"),
    ("visit", r"^have (?:i|we|you) (?:ever )?been (?P<rest>.*)$"),
    ("changes", r"^what(?:'s| is| has| have|) (?:changed|new|different|moved|gone|missing)(?P<rest>.*)$"),
    ("changes", r"^what (?:did )?change[ds]?(?P<rest>.*)$"),
    ("inventory", r"^(?:what|which (?:things|objects)) (?:is|are|was|were|do you see|lies|lay|stands|stood)"
     r"(?: there)?(?P<rest> (?:in|inside|at|on|around|near)\b.*|)$"),
    ("inventory", r"^(?:what|which (?:things|objects)) did (?:i|we|you) see(?P<rest>.*)$"),
    ("count", r"^how many (?P<subject>.+?)(?: (?:is|are|were|was|did|do|have)\b(?P<rest>.*))?$"),
    ("when", r"^when (?:did|have) (?:i|we|you) (?:last |first )?(?:see|seen|notice|find)(?P<subject>.+)$"),
    ("when", r"^when (?:was|were) (?P<subject>.+?) (?:last )?(?:seen|there|in view)(?P<rest>.*)$"),
    ("where", r"^where (?:did|have|had) (?:i|we|you) (?:last )?(?:see|seen|saw|leave|left|put|notice|find)"
     r"(?: last)?(?P<subject>.+)$"),
    ("where", r"^where(?:'s| is| are| was| were| can i find| do i find| did)(?P<subject>.+)$"),
    ("where", r"^(?:find|locate|look for|show me)(?P<subject> .+)$"),
    ("where", r"^(?:is|are|was|were) there(?: any| ever)?(?P<subject> .+)$"),
    ("where", r"^(?:have|did) (?:i|we|you) (?:ever )?(?:see|seen|saw|noticed?|find|found)(?P<subject> .+)$"),
    ("where", r"^do (?:i|we|you) know where(?P<subject> .+?)(?: (?:is|are))?$"),
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    """What a question asks for.

    Attributes:
        intent: "where" and "when" ask for a thing, "inventory" for what is somewhere, "visit" for
            when the agent was somewhere, "changes", "whereabouts" of the agent, "count", "rooms" there
            are, "story" of what happened; "text" where no pattern fits: its words are looked for.
        subject: the thing asked for, in its words, or "".
        room: words of a room, or "".
        beside: words of a thing on or near which something is asked for, or "".
        here: whether the agent's own place is meant.
        at: (x, y) [m] in the map frame, or None.
        since, until: time asked for [ns], or None.
        words: the question as it was asked.
    """

    intent: Intent
    subject: str
    room: str
    beside: str
    here: bool
    at: tuple[float, float] | None
    since: int | None
    until: int | None
    words: str


def parse(words: str, episodes: Episodes, now: int) -> Question:
    """Reads a question.

    Args:
        words: as a person types it.
        episodes: whose clock and steps are meant.
        now: the newest stamp [ns].
    """
    text = re.sub(r"\s+", " ", words.strip().lower()).rstrip("?!. ")
    text, at = _point(text)
    text, since, until = _time(text, episodes, now)
    for intent, pattern in _PATTERNS:
        found = re.match(pattern, text)
        if found is None:
            continue
        groups = found.groupdict()
        subject, rest = (groups.get("subject") or "").strip(), (groups.get("rest") or "").strip()
        here = bool(re.search(r"\b(?:here|this (?:place|room|spot))\b", f"{subject} {rest}"))
        subject, room = _room(subject)
        room = room or _room(f" {rest}")[1]
        subject = _bare(subject)
        if intent in ("where", "when", "count") and not subject:
            break
        beside = re.match(r"^(?:on|near|around|next to|by|at|under)\s+(?P<thing>.+)$", rest)
        thing = "" if beside is None or room or here else _bare(beside["thing"])
        if intent == "visit" and not (here or room or thing or at):
            break
        return Question(intent, subject, room, thing, here, at, since, until, words)
    return Question("text", "", "", "", False, at, since, until, words)


def _point(text: str) -> tuple[str, tuple[float, float] | None]:
    """Takes a point such as "at (2.5, -1)" out of a question [m]."""
    number = r"(-?\d+(?:\.\d+)?)"
    found = re.search(rf"\b(?:at|near|around|by|in) \(\s*{number}\s*,\s*{number}\s*\)", text)
    if found is None:
        return text, None
    return _without(text, found), (float(found[1]), float(found[2]))


def _bare(subject: str) -> str:
    subject = re.sub(r"\b(?:last|seen|located|now|currently|here|lying|please|again)\b", " ", subject)
    subject = re.sub(r"\s+", " ", subject).strip()
    return re.sub(f"^(?:{_ARTICLE})+", "", subject)


def _room(text: str) -> tuple[str, str]:
    """Splits "red mug in the kitchen" into the thing and the room; "room 3" stays as it is."""
    found = re.search(rf"\s(?:in|inside|of|into|to|the)?\s*(?:{_ARTICLE})?(?P<room>room \d+)\b", f" {text}")
    if found is None:
        found = re.search(rf"\s(?:in|inside|into|to)\s+(?:{_ARTICLE})?(?P<room>[\w ]+)$", f" {text}")
    if found is None:
        return text, ""
    room = re.sub(r"\b(?:this room|here|view|there|total|all)\b", "", found["room"]).strip()
    return f" {text}"[: found.start()].strip(), room


def _time(text: str, episodes: Episodes, now: int) -> tuple[str, int | None, int | None]:
    """Takes the words about time out of a question; returns the rest and the time meant."""

    def moment(found: re.Match[str], prefix: str = "") -> int:
        number = float(found[f"{prefix}n"])
        if found[f"{prefix}step"]:
            return episodes.stamp_of_step(int(number))
        return episodes.first_stamp + round(number * NS_PER_S)

    at = r"(?:(?P<{0}step>steps? )|t ?= ?)?(?P<{0}n>\d+(?:\.\d+)?)(?: ?s(?:econds?)?)?"
    one, two = at.format("a"), at.format("b")
    if found := re.search(rf"\b(?:between|from) {one} (?:and|to|until) {two}(?!\w)", text):
        start = moment(found, "a")
        end = episodes.stamp_of_step(int(float(found["bn"]))) if found["astep"] else moment(found, "b")
        return _without(text, found), start, end
    if found := re.search(rf"\b(?:since|after) {one}(?!\w)", text):
        return _without(text, found), moment(found, "a"), None
    if found := re.search(rf"\b(?:before|until|by|at|as of|up to) {one}(?![\w.])", text):
        return _without(text, found), None, moment(found, "a")
    units = "|".join(_UNITS)
    if found := re.search(rf"\b(?P<n>\d+(?:\.\d+)?|an?|one) (?P<unit>{units})s? ago\b", text):
        span = round(_number(found["n"]) * _UNITS[found["unit"]] * NS_PER_S)
        return _without(text, found), None, now - span
    if found := re.search(
        rf"\b(?:in|during|within|over) the (?:last|past) (?P<n>[\d.]+ )?(?P<unit>{units})s?\b", text
    ):
        span = round(_number(found["n"] or "1") * _UNITS[found["unit"]] * NS_PER_S)
        return _without(text, found), now - span, None
    if found := re.search(r"\b(?P<since>since )?(?P<day>yesterday|today|last night|overnight)\b", text):
        start, end = _day(found["day"], now)
        return _without(text, found), start, None if found["since"] else end
    return text, None, None


def _number(word: str) -> float:
    return 1.0 if word.strip() in ("a", "an", "one") else float(word)


def _without(text: str, found: re.Match[str]) -> str:
    return re.sub(r"\s+", " ", text[: found.start()] + text[found.end() :]).strip()


def _day(day: str, now: int) -> tuple[int, int]:
    """Returns the bounds of a day [ns]: a calendar day where stamps are dates, else 24 hours."""
    whole = 86400 * NS_PER_S
    if now > _EPOCH_NS:
        today = datetime.fromtimestamp(now / NS_PER_S, timezone.utc).date()
        midnight = datetime.combine(today, time(), timezone.utc)
        start = round(midnight.timestamp()) * NS_PER_S
        before = round((midnight - _DAY).timestamp()) * NS_PER_S
        return (
            (start, now) if day == "today" else (before, start - 1) if day == "yesterday" else (before, now)
        )
    return (now - whole, now) if day != "yesterday" else (now - 2 * whole, now - whole)

"""Answers to questions in words: a sentence, and the recalls that it rests on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.memory.contents import Contents
from embodied_mem.memory.recall.question import Question, parse
from embodied_mem.memory.recall.terms import Terms
from embodied_mem.memory.recall.words import content_words, words_of
from embodied_mem.types import NS_PER_S, Query, Recall

HERE = 1.5
"""The agent is "here" again when it is this close to where it is now [m]."""
BESIDE = 1.2
"""What lies this close to a thing is near it [m]."""
TOLD = 12
"""At most so many things that happened are told, the newest."""
CHANGE_WORDS = ("gone", "back", "now", "moved", "returned", "appeared")
"""Words of the events that make entries about changes."""

Recaller = Callable[[Query], list[Recall]]


@dataclass(frozen=True, eq=False)
class Answer:
    """What a question in words was taken for, and what came of it.

    Attributes:
        understood: what was asked for; "" where only the words could be looked for.
        sentence: the answer in words.
        answers: what it rests on, best first.
    """

    understood: str
    sentence: str
    answers: tuple[Recall, ...]


def ask(words: str, contents: Contents, recall: Recaller, k: int = 5) -> Answer:
    """Answers a question in words, by patterns; where none fits, its words are looked for.

    Args:
        words: the question.
        contents: the memory.
        recall: answers a `Query`.
        k: how many answers at most.

    Raises:
        InputError: the question is empty, or names a room that there is not.
    """
    if not words.strip():
        raise InputError('ask something, for example "where did I last see the red mug"')
    asked = parse(words, contents.episodes, contents.stamp or 0)
    asked = _without_unknown_room(asked, contents)
    return _Asked(asked, contents, _in_all_rooms(recall, contents), k).answer()


def _in_all_rooms(recall: Recaller, contents: Contents) -> Recaller:
    """Lets a name that several rooms bear, such as "bedroom", mean all of them."""

    def ask_all(query: Query) -> list[Recall]:
        wanted = query.room
        if not isinstance(wanted, str):
            return recall(query)
        rooms = [room.id for room in contents.scene.rooms() if room.name.lower() == wanted.lower()]
        if len(rooms) < 2:
            return recall(query)
        found = [answer for room in rooms for answer in recall(replace(query, room=room))]
        return sorted(found, key=lambda a: (-a.score, -a.stamp, a.id))[: query.k]

    return ask_all


def _without_unknown_room(asked: Question, contents: Contents) -> Question:
    """Takes words after "in" that name no room for what a thing lies near to: "the mug in the sink"."""
    if not asked.room or asked.room.startswith("room "):
        return asked
    wanted = set(words_of(asked.room))
    if any(wanted <= set(words_of(room.name)) for room in contents.scene.rooms()):
        return asked
    if contents.labels.matching(_head(asked.room, contents)):
        return replace(asked, room="", beside=asked.room)
    return asked


def _head(words: str, contents: Contents) -> str:
    """Returns the longest ending of some words that labels hold, or the words as they are."""
    parts = [w for w in words.split() if w not in ("the", "a", "an", "my")]
    for start in range(len(parts)):
        for form in (" ".join(parts[start:]), " ".join(words_of(" ".join(parts[start:])))):
            if contents.labels.matching(form):
                return form
    return words


class _Asked:
    """One question, being answered."""

    def __init__(self, asked: Question, contents: Contents, recall: Recaller, k: int) -> None:
        self.asked, self.contents, self.recall, self.k = asked, contents, recall, k
        self.now = contents.stamp or 0

    def answer(self) -> Answer:
        """Returns the answer by the intent of the question."""
        return {
            "where": self._where,
            "when": self._where,
            "inventory": self._inventory,
            "visit": self._visit,
            "changes": self._changes,
            "whereabouts": self._whereabouts,
            "count": self._count,
            "rooms": self._rooms,
            "story": self._story,
            "text": self._text,
        }[self.asked.intent]()

    # ---- things

    def _query(self, **terms: object) -> Query:
        q = self.asked
        room: int | str | None = None
        if q.room:
            room = self._room_id() if q.room.startswith("room ") and q.room[5:].isdigit() else q.room
        elif q.here:
            room = self.contents.scene.room_at(self.contents.pose.position)
            if room < 0:
                raise InputError("the newest pose is in no room that is known yet; name a room")
        near = self._beside()
        return Query(
            room=room,
            near=near,
            radius=None if near is None else BESIDE,
            since=q.since,
            until=q.until,
            **{"k": self.k, **terms},  # type: ignore[arg-type]
        )

    def _room_id(self) -> int:
        room = int(self.asked.room[5:])
        known = {r.id: r.name for r in self.contents.scene.rooms()}
        if room not in known:
            names = ", ".join(f"{name} ({i})" for i, name in known.items()) or "none yet"
            raise InputError(f"there is no room {room}; give one of: {names}")
        return room

    def _beside(self) -> tuple[float, float, float] | None:
        if self.asked.at is not None:
            x, y = self.asked.at
            return (x, y, float(self.contents.pose.position[2]))
        if not self.asked.beside:
            return None
        label = _head(self.asked.beside, self.contents)
        found = self.recall(Query(kind="object", label=label, k=1))
        if not found:
            raise InputError(f'nothing called "{self.asked.beside}" is in this memory')
        x, y, z = found[0].position.tolist()
        return (x, y, z)

    def _where(self) -> Answer:
        q, label = self.asked, _head(self.asked.subject, self.contents)
        if not self.contents.labels.matching(label):
            told = self._text()
            never = f'I have never seen anything called "{q.subject}". {self._hint()}'
            return told if told.answers else Answer(f'where "{q.subject}" is', never, ())
        query = self._query(label=label)
        found = self.recall(query)
        understood = f'{q.intent} was a thing whose label holds "{label}" last seen{self._bounds()}'
        if not found:
            return Answer(
                understood, f"I have not seen any {q.subject}{self._room_words(query)}{self._bounds()}.", ()
            )
        best = found[0]
        gone = " It is no longer there." if best.existence < 0.5 else ""
        heard = "" if label == q.subject else f' (nothing is called "{q.subject}")'
        sentence = f"I last saw the {best.label} {self._place(best)}, {self._ago(best.stamp)}{heard}.{gone}"
        return Answer(understood, sentence, tuple(found))

    def _inventory(self) -> Answer:
        query = self._query(kind="object", min_existence=0.5, k=max(self.k, 50))
        if self.asked.until is not None and self.asked.since is None:
            query = replace(query, until=None, as_of=self.asked.until)  # as it stood then
        found = self.recall(query)
        found += self.recall(replace(query, kind="surface"))
        names = sorted({a.label for a in found})
        where = self._room_words(query)
        understood = f"what is{where}{self._bounds()}"
        told = (
            f"I know of {_listed(names)}{where}{self._bounds()}." if names else f"I know of nothing{where}."
        )
        return Answer(understood, told, tuple(found))

    def _count(self) -> Answer:
        label = _head(self.asked.subject, self.contents)
        if not self.contents.labels.matching(label):
            return self._text()
        found = self.recall(self._query(kind="object", label=label, min_existence=0.5, k=1000))
        understood = f'how many objects have a label that holds "{label}"{self._bounds()}'
        told = f"I know of {len(found) or 'no'} {self.asked.subject}{self._bounds()}."
        return Answer(understood, told, tuple(found[: self.k]))

    def _rooms(self) -> Answer:
        found = self.recall(Query(kind="room", k=1000))
        names = sorted(room.name for room in self.contents.scene.rooms())
        told = f"I know of {len(names)} rooms: {_listed(names)}." if names else "I know of no rooms yet."
        return Answer("what rooms there are", told, tuple(found[: self.k]))

    # ---- the agent

    def _visit(self) -> Answer:
        entries, found = self.contents.episodes, self._query(kind="episode")
        room = found.room
        if room is not None and not self.asked.here:
            stays = self.recall(replace(found, k=1))
            understood = f"when the agent was last{self._room_words(found)}{self._bounds()}"
            told = f"I was there {self._ago(stays[0].stamp)}." if stays else "I have not been there."
            return Answer(understood, told, tuple(stays))
        near = np.array(found.near) if found.near is not None else self.contents.pose.position
        delta = entries.positions - near
        inside = (delta * delta).sum(axis=1) <= HERE**2
        last = len(inside) - 1
        if found.near is None:  # the stay that goes on is not the last one
            while last >= 0 and inside[last]:
                last -= 1
        rows = np.flatnonzero(inside[: last + 1])
        stamps = entries.stamps[rows]
        for bound, late in ((self.asked.since, False), (self.asked.until, True)):
            if bound is not None:
                keep = stamps <= bound if late else stamps >= bound
                rows, stamps = rows[keep], stamps[keep]
        understood = f"when the agent was last within {HERE:g} m of {_point(near)}{self._bounds()}"
        if not len(rows):
            return Answer(understood, "I have not been here before.", ())
        stamp = int(stamps[-1])
        x, y, z = near.tolist()
        found = Query(near=(x, y, z), radius=HERE, since=stamp, until=stamp, kind="episode", k=1)
        return Answer(understood, f"I was last here {self._ago(stamp)}.", tuple(self.recall(found)))

    def _whereabouts(self) -> Answer:
        found = self.recall(replace(self._query(kind="episode", k=1), room=None))
        understood = f"where the agent was{self._bounds() or ' last'}"
        if not found:
            return Answer(understood, "I remember nothing of that time.", ())
        return Answer(
            understood, f"I was {self._place(found[0])}, {self._ago(found[0].stamp)}.", tuple(found)
        )

    def _story(self) -> Answer:
        """The newest entries that say anything, in the order in which they happened."""
        episodes, q = self.contents.episodes, self.asked
        stamps, summaries = episodes.stamps, set(episodes.summary_rows.tolist())
        rows = [row for row in np.flatnonzero(episodes.has_words).tolist() if row not in summaries]
        rows = [row for row in rows if q.since is None or stamps[row] >= q.since]
        rows = [row for row in rows if q.until is None or stamps[row] <= q.until][-TOLD:]
        parts = [f"{episodes.sentence(row)} ({self._ago(int(stamps[row]))})" for row in rows]
        newest = [
            self.recall(Query(kind="episode", since=t, until=t, k=1)) for t in stamps[rows][::-1].tolist()
        ]
        told = f"{'; '.join(parts)}." if parts else "Nothing happened that I noted."
        return Answer(
            f"what happened{self._bounds()}", told, tuple(a for part in newest for a in part)[: self.k]
        )

    def _changes(self) -> Answer:
        query = self._query(kind="episode")
        noticed: dict[int, tuple[int, str]] = {}  # object -> stamp and words of its newest change
        for word in CHANGE_WORDS:
            for answer in self.recall(replace(query, text=word, k=1000)):
                entry = self.contents.episodes.entry(answer.id)
                for object_id, words in () if entry is None else entry.changes:
                    if not words.startswith("first saw") and answer.stamp >= noticed.get(object_id, (-1,))[0]:
                        noticed[object_id] = (answer.stamp, words)
        noticed.update(self._net_changes(query))
        order = sorted(noticed, key=lambda i: (-noticed[i][0], i))
        told = [f"{noticed[i][1]} ({self._ago(noticed[i][0])})" for i in order]
        things = {a.id: a for a in self.recall(Query(kind="object", k=100_000))} if order else {}
        understood = f"what changed{self._room_words(query)}{self._bounds()}"
        sentence = f"{'; '.join(told[:12])}." if told else "Nothing changed that I noticed."
        return Answer(understood, sentence, tuple(things[i] for i in order if i in things)[: self.k])

    def _net_changes(self, query: Query) -> dict[int, tuple[int, str]]:
        """Returns what the scene graph says has changed since the time asked for, by object."""
        if query.since is None:
            return {}
        said = {"appeared": "{} is new", "moved": "{} has moved", "disappeared": "{} is gone"}
        found = {}
        for change in self.contents.scene.changes(query.since):
            place = change.after if change.after is not None else change.before
            late = query.until is not None and change.noticed > query.until
            if place is None or late or not self._lies_in(query, place):
                continue
            found[change.object_id] = (change.noticed, said[change.kind].format(change.label))
        return found

    def _lies_in(self, query: Query, place: NDArray[np.float64]) -> bool:
        if query.near is not None and np.abs(place - np.array(query.near)).max() > BESIDE:
            return False
        terms = Terms(replace(query, since=None, until=None), self.contents)
        return terms.room_id is None or self.contents.scene.room_at(place) == terms.room_id

    # ---- words

    def _text(self) -> Answer:
        words = " ".join(content_words(self.asked.words))
        found = self.recall(Query(text=words, since=self.asked.since, until=self.asked.until, k=self.k))
        told = found[0].text if found else f"Nothing in the memory holds these words. {self._hint()}"
        return Answer("", told, tuple(found))

    def _hint(self) -> str:
        names = sorted({self.contents.object_name(int(i)) for i in self.contents.scene.object_table.ids})
        thing = next((name for name in names if name), "red mug")
        return f'Ask for example "where is the {thing}", "what rooms are there", "what happened".'

    def _bounds(self) -> str:
        q, first = self.asked, self.contents.episodes.first_stamp
        since, until = ((t - first) / NS_PER_S if t is not None else None for t in (q.since, q.until))
        if since is not None and until is not None:
            return f" between {since:.1f} s and {until:.1f} s"
        return (
            f" since {since:.1f} s"
            if since is not None
            else f" by {until:.1f} s"
            if until is not None
            else ""
        )

    def _room_words(self, query: Query) -> str:
        if query.room is None and self.asked.at is not None:
            return f" within {BESIDE:g} m of {_point(self.asked.at)}"
        if query.room is None:
            return f" near the {self.asked.beside}" if self.asked.beside else ""
        return f" in {'room ' if isinstance(query.room, int) else 'the '}{query.room}"

    def _place(self, answer: Recall) -> str:
        where = f"at {_point(answer.position)}"
        names = {room.id: room.name for room in self.contents.scene.rooms()}
        name = names.get(answer.room_id, "")
        return f"{where} in {'' if name.startswith('room ') else 'the '}{name}" if name else where

    def _ago(self, stamp: int) -> str:
        seconds = max(self.now - stamp, 0) / NS_PER_S
        if seconds < 0.05:
            return "just now"
        if seconds < 120:
            return f"{seconds:.1f} s ago"
        if seconds < 7200:
            return f"{seconds / 60:.0f} min ago"
        return f"{seconds / 3600:.1f} h ago"


def _point(position: object) -> str:
    x, y = (float(v) for v in np.asarray(position)[:2])
    return f"({x:.1f}, {y:.1f}) m"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

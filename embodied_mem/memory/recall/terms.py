"""The terms of a query: checked, named, and how well something meets them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.memory.contents import Contents
from embodied_mem.memory.recall.sentences import ALIKE, SentenceIndex
from embodied_mem.memory.recall.words import content_words, words_of
from embodied_mem.types import NS_PER_S, Query

KINDS = ("object", "place", "room", "episode", "surface")
LABELLED = ("object", "surface")
"""The kinds that have labels; surfaces are only asked for by a label or as such."""
HALF_LIFE_S = 60.0
"""Age [s] at which recency, the score of a query that ranks by nothing else, is one half."""


MAX_WORDS = 62
"""At most so many words of a question are looked for."""


@dataclass(eq=False)
class Candidate:
    """Something that passed the filters.

    Attributes:
        kind, id: what it is.
        label, text: its name, and what it is in a sentence.
        stamp: when it was last seen, or happened, within the time asked for [ns].
        position: (3,) float64 [m] in the map frame.
        place_id, room_id: where, or -1.
        matches: how well it meets each ranked term, in [0, 1].
        why: what made it match, in words.
        existence: in [0, 1].
        score: filled in by `Terms.score`.
        trust: in [0, 1]; None where it is that of the newest evidence.
        is_flagged: whether related entries agree on something else.
        source, step: of an entry; those of the newest evidence where `source` is None.
    """

    kind: str
    id: int
    label: str
    text: str
    stamp: int
    position: NDArray[np.float64]
    place_id: int
    room_id: int
    matches: list[float]
    why: list[str]
    existence: float = 1.0
    score: float = field(default=0.0)
    trust: float | None = None
    is_flagged: bool = False
    source: str | None = None
    step: int = -1


class Terms:
    """A query, checked against what the memory holds.

    Args:
        query: the question.
        contents: the memory.
        sentences: finds words by their meaning; None where there is no model.

    Raises:
        InputError: the question makes no sense.
    """

    def __init__(self, query: Query, contents: Contents, sentences: SentenceIndex | None = None) -> None:
        self.query = query
        self.sentences = sentences
        self._check()
        # Entries in which a label was seen are asked for by their kind.
        any_kind = KINDS[:-1] if query.label is None else LABELLED
        self.kinds = any_kind if query.kind is None else (query.kind,)
        self.since = query.since
        bounds = [t for t in (query.until, query.as_of) if t is not None]
        self.until = min(bounds) if bounds else None
        self.now = contents.stamp or 0
        self.labels = contents.labels
        self.label_ids = None if query.label is None else frozenset(contents.labels.matching(query.label))
        self.words = () if query.text is None else content_words(query.text)[:MAX_WORDS]
        self.near = None if query.near is None else np.asarray(query.near, np.float64)
        self.like = None if query.like is None else self._unit(query.like, contents.episodes.embedding_size)
        self.room_id = _room_id(query.room, contents)

    def _check(self) -> None:
        q = self.query
        _check_types(q)
        if q.kind is not None and q.kind not in KINDS:
            raise InputError(f'"{q.kind}" is no kind of memory; there are: {", ".join(KINDS)}')
        if q.k < 1:
            raise InputError(f"k must be at least 1, got {q.k}")
        if (q.radius is None) != (q.near is None):
            raise InputError("near and radius go together: give both, or neither")
        if q.radius is not None and not q.radius >= 0:
            raise InputError(f"radius must be zero or positive, got {q.radius}")
        if q.near is not None and (len(q.near) != 3 or not all(map(math.isfinite, q.near))):
            raise InputError(f"near must be three finite numbers, got {q.near}")
        if q.since is not None and q.until is not None and q.since > q.until:
            raise InputError(f"since ({q.since} ns) must not be later than until ({q.until} ns)")

    @staticmethod
    def _unit(vector: NDArray[np.float32], size: int) -> NDArray[np.float64]:
        wide = np.asarray(vector, np.float64)
        if wide.ndim != 1 or not np.isfinite(wide).all() or not wide.any():
            raise InputError("like must be a vector of finite numbers, not all zero")
        if size and len(wide) != size:
            raise InputError(
                f"like must hold {size} numbers, as the embeddings in this memory do, got {len(wide)}"
            )
        return wide / np.sqrt((wide * wide).sum())

    def check_where(self, contents: Contents) -> None:
        """Raises `InputError` where nothing is known of the room or the place asked for, not even its id."""
        episodes, scene, place = contents.episodes, contents.scene, self.query.place
        is_new = self.room_id is not None and scene.room_table.index(self.room_id) < 0
        if is_new and not (episodes.room_ids == self.room_id).any():
            names = ", ".join(f"{r.name} ({r.id})" for r in scene.rooms()) or "none yet"
            raise InputError(f"there is no room {self.room_id}; give one of: {names}")
        is_new = place is not None and scene.place_table.index(place) < 0
        if is_new and not (episodes.place_ids == place).any():
            ids = scene.place_table.ids
            known = f"their ids are from {ids[0]} to {ids[-1]}" if len(ids) else "there are none yet"
            raise InputError(f"there is no place {place}; {known}")

    @property
    def is_timed(self) -> bool:
        """Whether the time is limited."""
        return self.since is not None or self.until is not None

    def covers(self, stamp: int) -> bool:
        """Whether a stamp lies in the time asked for."""
        return (self.since is None or stamp >= self.since) and (self.until is None or stamp <= self.until)

    def place_fits(self, place_id: int, room_id: int) -> bool:
        """Whether something at a place, in a room, is where the query asks for."""
        q = self.query
        return (q.place is None or q.place == place_id) and (self.room_id is None or self.room_id == room_id)

    def judge(self, candidate: Candidate, text: str, embedding: NDArray[np.float32] | None = None) -> bool:
        """Adds to a candidate how well it meets the ranked terms; False where it misses one.

        Args:
            candidate: changed in place.
            text: its own words.
            embedding: its own embedding, or None.
        """
        return (
            self._judge_text(candidate, text)
            and self._judge_like(candidate, embedding)
            and self._judge_near(candidate)
        )

    def _judge_text(self, candidate: Candidate, text: str) -> bool:
        if not self.words:
            return self.query.text is None
        found = [word for word in self.words if word in words_of(text)]
        meaning = 0.0
        if self.sentences is not None and self.query.text is not None:
            meaning = self.sentences.cosine(self.query.text, text)
        return self.add_text(candidate, found, meaning)

    def shares(self, bits: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns (M,) shares of the words that are found, from their bits."""
        found = sum(((bits >> bit) & 1 for bit in range(len(self.words))), np.zeros(len(bits), np.int64))
        return np.asarray(found / max(len(self.words), 1), np.float64)

    def words_in(self, bits: int) -> list[str]:
        """Returns the words that some bits stand for."""
        return [word for bit, word in enumerate(self.words) if bits >> bit & 1]

    def add_text(self, candidate: Candidate, found: list[str], meaning: float = 0.0) -> bool:
        """Adds the words of the query that were found; False where they are too few: half or less.

        Args:
            candidate: changed in place.
            found: words of the query.
            meaning: cosine of what was asked and what is said, where a model tells.
        """
        share = len(found) / len(self.words)
        candidate.matches.append(max(share, meaning))
        if found or meaning < ALIKE:
            candidate.why.append(f"words found: {', '.join(found)}")
        if meaning >= ALIKE:
            candidate.why.append(f"similar in meaning {meaning:.2f}")
        return share > 0.5 or meaning >= ALIKE

    def _judge_like(self, candidate: Candidate, embedding: NDArray[np.float32] | None) -> bool:
        if self.like is None:
            return True
        if embedding is None or embedding.shape != self.like.shape:
            return False
        wide = embedding.astype(np.float64)
        length = np.sqrt((wide * wide).sum())
        self.add_like(candidate, float((wide * self.like).sum() / length) if length > 0 else 0.0)
        return True

    def add_like(self, candidate: Candidate, cosine: float) -> None:
        """Adds a similarity in [-1, 1]."""
        candidate.matches.append(max(cosine, 0.0))
        candidate.why.append(f"similarity {cosine:.3f}")

    def _judge_near(self, candidate: Candidate) -> bool:
        if self.near is None:
            return True
        delta = candidate.position - self.near
        distance = math.sqrt(float((delta * delta).sum()))
        return self.add_near(candidate, distance)

    def add_near(self, candidate: Candidate, distance: float) -> bool:
        """Adds a distance [m]; False where it is beyond the radius."""
        assert self.query.radius is not None
        candidate.matches.append(1.0 / (1.0 + distance))
        candidate.why.append(f"{distance:.1f} m away")
        return distance <= self.query.radius

    def score(self, candidate: Candidate) -> float:
        """Returns the mean of the ranked terms; recency where the query ranks by nothing."""
        if candidate.matches:
            return sum(candidate.matches) / len(candidate.matches)
        now = self.now if self.query.as_of is None else min(self.query.as_of, self.now)
        age = max(now - candidate.stamp, 0) / NS_PER_S
        return 1.0 / (1.0 + age / HALF_LIFE_S)


def _check_types(query: Query) -> None:
    """Raises `InputError` where a field is of another type than it must be, or a bound is out of range."""
    for name, kind, said in (
        ("k", Integral, "a whole number"),
        ("place", Integral, "the id of a place"),
        ("since", Integral, "a stamp in whole nanoseconds"),
        ("until", Integral, "a stamp in whole nanoseconds"),
        ("as_of", Integral, "a stamp in whole nanoseconds"),
        ("text", str, "words"),
        ("label", str, "words of a label's name"),
        ("radius", Real, "a number of metres"),
        ("min_trust", Real, "a number from 0 to 1"),
        ("min_existence", Real, "a number from 0 to 1"),
    ):
        value = getattr(query, name)
        if value is not None and not isinstance(value, kind):
            raise InputError(f"{name} must be {said}, got {value!r}")
    for name in ("min_trust", "min_existence"):
        if not 0.0 <= getattr(query, name) <= 1.0:
            raise InputError(f"{name} must be in 0..1, got {getattr(query, name)}")


def _room_id(room: int | str | None, contents: Contents) -> int | None:
    """Returns the id of a room that is given by its id, its name or words of it.

    Raises:
        InputError: no room, or more than one, has that name.
    """
    if room is None or isinstance(room, (int, np.integer)):
        return None if room is None else int(room)
    wanted = set(words_of(room))
    named = contents.scene.rooms()
    exact = [r for r in named if r.name.lower() == room.lower()]
    fits = exact or [r for r in named if wanted and wanted <= set(words_of(r.name))]
    if len(fits) == 1:
        return fits[0].id
    names = ", ".join(f"{r.name} ({r.id})" for r in (fits or named)) or "none yet"
    problem = f"{len(fits)} rooms are called" if fits else "there is no room called"
    raise InputError(f'{problem} "{room}"; give one of: {names}')

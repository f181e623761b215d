"""Recall of episodic entries: filters and similarity over whole columns at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.contents import Contents
from embodied_mem.memory.recall.config import RecallConfig
from embodied_mem.memory.recall.consensus import Contradiction, contradictions
from embodied_mem.memory.recall.rooms import room_of_place, rooms_of
from embodied_mem.memory.recall.search import most_similar, select
from embodied_mem.memory.recall.terms import HALF_LIFE_S, Candidate, Terms
from embodied_mem.memory.recall.words import words_of
from embodied_mem.types import NS_PER_S

_ALL = np.empty(0, np.int64)
_NOWHERE = np.zeros(3)


@dataclass(frozen=True, eq=False)
class _Words:
    """Which rows hold words that were asked for.

    Attributes:
        rows: (M,) int64, ascending.
        bits: (M,) int64, which of the words each holds.
    """

    rows: NDArray[np.int64]
    bits: NDArray[np.int64]

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns (K,) int64 bits of rows, 0 where they hold none of the words."""
        if not len(self.rows):
            return np.zeros(len(rows), np.int64)
        at = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.where(self.rows[at] == rows, self.bits[at], 0)


@dataclass(eq=False)
class _Found:
    """Rows that passed, and what they are ranked by.

    Attributes:
        rows: (M,) int64, ascending.
        scores: (M,) float64 columns of ranked terms in [0, 1], by the name of the term.
        distances: (M,) float64 [m] from the point asked for, or empty.
        cosines: (M,) float64, or empty.
        words: rows with words that were asked for.
        meanings: cosines of what is said and what was asked, by row.
        relevance, utility: (M,) float64 in [0, 1], the two phases.
        flags: contradictions, by row.
    """

    rows: NDArray[np.int64]
    scores: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    distances: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    cosines: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    words: _Words = field(default_factory=lambda: _Words(_ALL, _ALL))
    meanings: dict[int, float] = field(default_factory=dict)
    relevance: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    flags: dict[int, Contradiction] = field(default_factory=dict)

    def keep(self, chosen: NDArray[np.int64]) -> None:
        """Keeps some rows, in the order given."""
        self.rows = self.rows[chosen]
        self.scores = {name: column[chosen] for name, column in self.scores.items()}
        for name in ("distances", "cosines", "relevance"):
            column = getattr(self, name)
            setattr(self, name, column[chosen] if len(column) else column)


def recall_episodes(terms: Terms, contents: Contents) -> list[Candidate]:
    """Returns the best k episodic entries, best first.

    Args:
        terms: of the query.
        contents: the memory.
    """
    settings = contents.config.recall
    k = terms.query.k
    ranks_more = settings.utility or (settings.consensus and (terms.like is not None or bool(terms.words)))
    pool = max(settings.pool, 4 * k) if ranks_more else k
    found = _filter(terms, contents)
    _relevant(terms, contents, found, pool)
    if settings.consensus and ranks_more:
        found.flags = contradictions(contents.episodes, found.rows, settings.related, contents.object_name)
    _order(contents, found, settings)
    found.keep(np.arange(min(k, len(found.rows))))
    rooms = rooms_of(contents, found.rows).tolist()
    return [_candidate(terms, contents, found, i, rooms[i]) for i in range(len(found.rows))]


def _filter(terms: Terms, contents: Contents) -> _Found:
    episodes, query = contents.episodes, terms.query
    stamps = episodes.stamps
    first = 0 if terms.since is None else int(np.searchsorted(stamps, terms.since, side="left"))
    last = len(stamps) if terms.until is None else int(np.searchsorted(stamps, terms.until, side="right"))
    last = max(first, last)
    meanings = _meanings(terms, contents)
    listed, words = _listed(terms, contents, meanings)
    if listed is not None and not len(listed):
        return _Found(_ALL, {"text": np.empty(0)} if query.text is not None else {})
    size = last - first if listed is None else len(listed)
    filters = (query.place, terms.room_id, terms.near)
    if listed is None and query.min_trust <= 0 and all(f is None for f in filters):
        return _Found(_told(terms, contents, np.arange(first, last)))
    kept, squared = np.empty(size, np.int64), np.empty(size)
    near = terms.near is not None
    count = select(
        _ALL if listed is None else listed, first, last,
        episodes.place_ids, -2 if query.place is None else query.place,
        episodes.room_ids, room_of_place(contents) if terms.room_id is not None else _ALL,
        -2 if terms.room_id is None else terms.room_id,
        episodes.trusts, query.min_trust,
        episodes.positions, _NOWHERE if terms.near is None else terms.near,
        float(query.radius) if near and query.radius is not None else -1.0,
        kept, squared,
    )  # fmt: skip
    there = _told(terms, contents, kept[:count].copy())
    found = _Found(there)
    if near:
        if len(there) < count:
            squared[: len(there)] = squared[np.searchsorted(kept[:count], there)]
        found.distances = np.sqrt(squared[: len(there)])
        found.scores["near"] = 1.0 / (1.0 + found.distances)
    if query.text is not None:
        found.words, found.meanings = words, meanings
        found.scores["text"] = terms.shares(words.of(found.rows))
        if meanings:
            meant = np.array([meanings.get(row, 0.0) for row in found.rows.tolist()])
            found.scores["text"] = np.maximum(found.scores["text"], meant)
    return found


def _told(terms: Terms, contents: Contents, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns rows, ascending, without summaries where a moment is asked for: they are of a stretch."""
    if not terms.is_timed and (terms.like is not None or terms.query.text is not None):
        return rows
    summaries = contents.episodes.summary_rows
    if not len(summaries) or not len(rows):
        return rows
    at = np.minimum(np.searchsorted(rows, summaries), len(rows) - 1)
    keep = np.ones(len(rows), bool)
    keep[at[rows[at] == summaries]] = False
    return rows[keep]


def _meanings(terms: Terms, contents: Contents) -> dict[int, float]:
    """Returns the rows that say something similar to what was asked, where a model tells."""
    if terms.sentences is None or not terms.query.text:
        return {}
    rows, cosines = terms.sentences.similar(terms.query.text, contents.episodes)
    return dict(zip(rows.tolist(), cosines.tolist()))


def _listed(
    terms: Terms, contents: Contents, meanings: dict[int, float]
) -> tuple[NDArray[np.int64] | None, _Words]:
    """Returns the rows that labels and words leave, None for all, and the words found by row."""
    rows: NDArray[np.int64] | None = None
    words = _Words(_ALL, _ALL)
    if terms.label_ids is not None:
        rows = _rows_of(contents, _with_labels(terms, contents))
    if terms.query.text is not None:
        words = _with_words(terms, contents)
        found = words.rows if not meanings else np.union1d(words.rows, np.array([*meanings], np.int64))
        rows = found if rows is None else np.intersect1d(rows, found)
    return rows, words


def _rows_of(contents: Contents, ids: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    return np.searchsorted(contents.episodes.ids, np.asarray(ids, np.int64)).astype(np.int64)


def _with_labels(terms: Terms, contents: Contents) -> list[int]:
    table = contents.scene.object_table
    wanted = np.isin(table.labels, sorted(terms.label_ids or ()))
    ids = [int(i) for i in table.ids[wanted]]
    return sorted({entry for i in ids for entry in contents.episodes.seen_in(i)})


def _with_words(terms: Terms, contents: Contents) -> _Words:
    """Returns bits of the words found in events, notes and the names of what was seen, by row.

    Rows with too few of the words are left out.
    """
    episodes, table = contents.episodes, contents.scene.object_table
    postings: list[tuple[int, NDArray[np.int64]]] = [
        (1 << bit, episodes.ids_with_word(word)) for bit, word in enumerate(terms.words)
    ]
    for object_id, label in zip(table.ids.tolist(), table.labels.tolist()):
        names = words_of(contents.labels.name(label))
        mask = sum(1 << bit for bit, word in enumerate(terms.words) if word in names)
        if mask:
            postings.append((mask, np.array(episodes.seen_in(object_id), np.int64)))
    if not postings:
        return _Words(_ALL, _ALL)
    ids = np.sort(np.concatenate([p for _, p in postings]), kind="stable")  # which merges what is sorted
    ids = ids[np.flatnonzero(np.diff(ids, prepend=-1))]
    bits = np.zeros(len(ids), np.int64)
    for mask, held in postings:  # of which none names an entry twice
        bits[np.searchsorted(ids, held)] |= mask
    enough = terms.shares(bits) > 0.5
    return _Words(_rows_of(contents, ids[enough]), bits[enough])


def _relevant(terms: Terms, contents: Contents, found: _Found, pool: int) -> None:
    """Keeps the most relevant rows, best first; among equals the newest, then the lowest id."""
    stamps = contents.episodes.stamps
    columns = list(found.scores.values())
    if terms.like is not None:
        base = np.sum(columns, axis=0) if columns else np.empty(0)
        vectors = contents.episodes.vectors
        chosen, cosines = most_similar(found.rows, base, vectors, terms.like, pool)
        found.keep(chosen)
        found.cosines = cosines
        found.scores["like"] = np.maximum(cosines, 0.0)
        columns = list(found.scores.values())
    if columns:
        found.relevance = np.sum(columns, axis=0) / len(columns)
    else:
        # By recency: stamps do not descend, so the newest are the last; equal stamps stay together.
        rows = found.rows
        if len(rows) > pool:
            found.keep(np.flatnonzero(stamps[rows] >= stamps[rows[-pool]]))
        age = np.maximum(terms.now - stamps[found.rows], 0) / NS_PER_S
        found.relevance = 1.0 / (1.0 + age / HALF_LIFE_S)
    if len(found.rows) > 4 * pool:
        least = np.partition(found.relevance, len(found.rows) - pool)[len(found.rows) - pool]
        found.keep(np.flatnonzero(found.relevance >= least))
    order = np.lexsort((found.rows, -stamps[found.rows], -found.relevance))[:pool]
    found.keep(order)


def _order(contents: Contents, found: _Found, settings: RecallConfig) -> None:
    """Puts what the relevant entries were good for into their order, and what is flagged behind."""
    if not len(found.rows):
        return
    rank, behind = found.relevance, np.zeros(len(found.rows), bool)
    if settings.utility:
        # Relevance first: what is far less relevant than the best stays behind, however useful it
        # was elsewhere. Then both as standard scores among the rest (MemRL).
        behind = rank < settings.utility_floor * rank.max()
        weight, utility = settings.utility_weight, contents.episodes.utilities[found.rows]
        both = (1.0 - weight) * _standard(rank[~behind]) + weight * _standard(utility[~behind])
        rank = rank.copy()
        rank[~behind] = both
    flagged = np.array([row in found.flags for row in found.rows.tolist()])
    stamps = contents.episodes.stamps[found.rows]
    found.keep(np.lexsort((found.rows, -stamps, -rank, behind, flagged)))


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = float(values.std())
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)


def _reasons(terms: Terms) -> list[str]:
    query = terms.query
    why = [f'something labelled "{query.label}" was in view'] if query.label is not None else []
    why += ["it was at the time asked for"] if terms.is_timed else []
    why += [f"it was in room {query.room}"] if query.room is not None else []
    return why + ([f"it was at place {query.place}"] if query.place is not None else [])


def _candidate(terms: Terms, contents: Contents, found: _Found, index: int, room_id: int) -> Candidate:
    row = int(found.rows[index])
    entry = contents.episodes.at(row)
    names = [name for i in entry.object_ids if (name := contents.object_name(i))]
    changes = "; ".join(words for _, words in entry.changes)
    parts = [entry.event, entry.text, changes, f"in view: {', '.join(names)}" if names else ""]
    result = Candidate(
        kind="episode",
        id=entry.id,
        label="",
        text="; ".join(part for part in parts if part) or "on the way",
        stamp=entry.stamp,
        position=entry.pose.position.copy(),
        place_id=entry.place_id,
        room_id=room_id,
        matches=[],
        why=_reasons(terms),
        trust=entry.trust,
        source=entry.source,
        step=entry.step,
    )
    if "text" in found.scores:
        (bits,) = found.words.of(found.rows[index : index + 1]).tolist()
        terms.add_text(result, terms.words_in(bits), found.meanings.get(row, 0.0))
    if "like" in found.scores:
        terms.add_like(result, float(found.cosines[index]))
    if "near" in found.scores:
        terms.add_near(result, float(found.distances[index]))
    if contents.config.recall.utility and entry.utility:
        result.why.append(f"utility {entry.utility:+.2f}")
    flag = found.flags.get(row)
    if flag is not None:
        shown = ", ".join(f"#{i}" for i in flag.against[:3]) + (" ..." if len(flag.against) > 3 else "")
        result.why.append(f"contradicts {len(flag.against)} entries that agree ({shown})")
        result.trust = entry.trust * flag.support
        result.is_flagged = True
    return result

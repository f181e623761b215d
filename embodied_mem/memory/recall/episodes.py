"""Recall of episodic entries: filters and similarity over whole columns at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.contents import Contents
from embodied_mem.memory.recall.terms import HALF_LIFE_S, Candidate, Terms
from embodied_mem.memory.recall.words import words_of
from embodied_mem.types import NS_PER_S


@dataclass(eq=False)
class _Found:
    """Rows that passed, and what they are ranked by.

    Attributes:
        rows: (M,) int64.
        scores: (M,) float64 columns of ranked terms, by the name of the term.
        words: words found, by row.
    """

    rows: NDArray[np.int64]
    scores: dict[str, NDArray[np.float64]]
    words: dict[int, list[str]]


def recall_episodes(terms: Terms, contents: Contents) -> list[Candidate]:
    """Returns the best k episodic entries, in no order.

    Args:
        terms: of the query.
        contents: the memory.
    """
    found = _filter(terms, contents)
    rank = _rank(terms, contents, found)
    # Best first; among equals the newest, then the lowest id.
    order = np.lexsort((found.rows, -contents.episodes.stamps[found.rows], -rank))[: terms.query.k]
    return [_candidate(terms, contents, found, int(i)) for i in order]


def _filter(terms: Terms, contents: Contents) -> _Found:
    episodes, query = contents.episodes, terms.query
    stamps = episodes.stamps
    first = 0 if terms.since is None else int(np.searchsorted(stamps, terms.since, side="left"))
    last = len(stamps) if terms.until is None else int(np.searchsorted(stamps, terms.until, side="right"))
    rows = np.arange(first, max(first, last))
    if query.min_trust > 0:
        rows = rows[episodes.trusts[rows] >= query.min_trust]
    if query.place is not None:
        rows = rows[episodes.place_ids[rows] == query.place]
    if query.room is not None:
        rows = rows[rooms_of(contents, rows) == query.room]
    if terms.label_ids is not None:
        rows = rows[np.isin(episodes.ids[rows], _with_labels(terms, contents))]
    found = _Found(rows, {}, {})
    if query.text is not None:
        _filter_text(terms, contents, found)
    if terms.near is not None:
        _filter_near(terms, contents, found)
    if terms.like is not None:
        _filter_like(terms, contents, found)
    return found


def rooms_of(contents: Contents, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns (M,) int64 rooms of entries: of their places as they are known today, else as known then."""
    episodes = contents.episodes
    today = {place.id: place.room_id for place in contents.scene.places()}
    places, where = np.unique(episodes.place_ids[rows], return_inverse=True)
    by_place = np.array([today.get(place, -1) for place in places.tolist()], np.int64)
    known = by_place[where] if len(places) else np.empty(0, np.int64)
    return np.where(known >= 0, known, episodes.room_ids[rows])


def _objects_with(terms: Terms, contents: Contents) -> list[int]:
    table = contents.scene.object_table
    wanted = np.isin(table.labels, sorted(terms.label_ids or ()))
    return [int(i) for i in table.ids[wanted]]


def _with_labels(terms: Terms, contents: Contents) -> list[int]:
    ids = _objects_with(terms, contents)
    return sorted({entry for i in ids for entry in contents.episodes.seen_in(i)})


def _keep(found: _Found, keep: NDArray[np.bool_]) -> None:
    found.rows = found.rows[keep]
    found.scores = {name: column[keep] for name, column in found.scores.items()}


def _filter_text(terms: Terms, contents: Contents, found: _Found) -> None:
    """Looks for the words in events, notes and the names of the objects seen."""
    episodes, table = contents.episodes, contents.scene.object_table
    bits: dict[int, int] = {}
    for bit, word in enumerate(terms.words):
        for entry in episodes.with_word(word):
            bits[entry] = bits.get(entry, 0) | 1 << bit
    for object_id, label in zip(table.ids.tolist(), table.labels.tolist()):
        names = words_of(contents.labels.name(label))
        mask = sum(1 << bit for bit, word in enumerate(terms.words) if word in names)
        for entry in episodes.seen_in(object_id) if mask else ():
            bits[entry] = bits.get(entry, 0) | mask
    held = [bits.get(entry, 0) for entry in episodes.ids[found.rows].tolist()]
    found.words = {
        row: [word for bit, word in enumerate(terms.words) if mask >> bit & 1]
        for row, mask in zip(found.rows.tolist(), held)
        if mask
    }
    count = max(len(terms.words), 1)
    found.scores["text"] = np.array([mask.bit_count() / count for mask in held], np.float64)
    _keep(found, found.scores["text"] > 0.5)


def _filter_near(terms: Terms, contents: Contents, found: _Found) -> None:
    assert terms.near is not None and terms.query.radius is not None
    delta = contents.episodes.positions[found.rows] - terms.near
    distance = np.sqrt(delta[:, 0] ** 2 + delta[:, 1] ** 2 + delta[:, 2] ** 2)
    found.scores["near"] = distance
    _keep(found, distance <= terms.query.radius)


def _filter_like(terms: Terms, contents: Contents, found: _Found) -> None:
    assert terms.like is not None
    vectors = contents.episodes.embeddings
    if vectors.shape[1] == 0:
        _keep(found, np.zeros(len(found.rows), bool))
        return
    chosen = vectors[found.rows].astype(np.float32)  # (M, D)
    found.scores["like"] = (chosen @ terms.like.astype(np.float32)).astype(np.float64)
    _keep(found, np.any(chosen != 0, axis=1))


def _rank(terms: Terms, contents: Contents, found: _Found) -> NDArray[np.float64]:
    columns = dict(found.scores)
    if "near" in columns:
        columns["near"] = 1.0 / (1.0 + columns["near"])
    if "like" in columns:
        columns["like"] = np.maximum(columns["like"], 0.0)
    if columns:
        return np.sum(list(columns.values()), axis=0) / len(columns)
    age = np.maximum(terms.now - contents.episodes.stamps[found.rows], 0) / NS_PER_S
    return 1.0 / (1.0 + age / HALF_LIFE_S)


def _reasons(terms: Terms) -> list[str]:
    query = terms.query
    why = [f'something labelled "{query.label}" was in view'] if query.label is not None else []
    why += ["it was at the time asked for"] if terms.is_timed else []
    why += [f"it was in room {query.room}"] if query.room is not None else []
    return why + ([f"it was at place {query.place}"] if query.place is not None else [])


def _candidate(terms: Terms, contents: Contents, found: _Found, index: int) -> Candidate:
    row = int(found.rows[index])
    entry = contents.episodes.at(row)
    names = [thing.name for i in entry.object_ids if (thing := contents.scene.object(i)) is not None]
    changes = "; ".join(words for _, words in entry.changes)
    parts = [entry.event, entry.text, changes, f"in view: {', '.join(names)}" if names else ""]
    room_id = int(rooms_of(contents, np.array([row]))[0])
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
    )
    if "text" in found.scores:
        terms.add_text(result, found.words.get(row, []))
    if "like" in found.scores:
        terms.add_like(result, float(found.scores["like"][index]))
    if "near" in found.scores:
        terms.add_near(result, float(found.scores["near"][index]))
    return result

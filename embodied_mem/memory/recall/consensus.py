"""Consensus: entries that contradict what related entries agree on (after A-MemGuard).

Entries about the same thing are compared by what they claim: their words, else the names of what
they show. One that disagrees with a claim that others support far better is flagged. A lone new
claim stays flagged until a second one confirms it; a confirmed change, which nothing newer denies,
is believed. Nothing can be said of a thing that only one entry is about; entries without embeddings
are not compared, and a view without words and objects claims nothing: two places may look alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.episodes.entries import Episodes
from embodied_mem.memory.recall.words import content_words, words_of

AGREES = 0.5
"""Claims at least this alike say the same."""
MAJORITY = 0.5
"""Support below this share of the best supported claim is a contradiction."""
SAME_VIEW = 0.9
"""Views that say nothing in words must be this similar (cosine) to be of the same thing."""


@dataclass(frozen=True)
class Contradiction:
    """What an entry stands against.

    Attributes:
        support: share in [0, 1] of the support of the claim that is believed.
        against: ids of the entries that agree on something else, ascending.
    """

    support: float
    against: tuple[int, ...]


def contradictions(
    episodes: Episodes,
    rows: NDArray[np.int64],
    related: float,
    name_of: Callable[[int], str],
) -> dict[int, Contradiction]:
    """Returns what is flagged among some entries, by row.

    Args:
        episodes: all entries.
        rows: (M,) int64 rows of the entries to compare.
        related: least cosine of embeddings about the same thing.
        name_of: object id -> the name of its label.
    """
    texts = [episodes.text(int(row)) for row in rows]
    things = [episodes.object_ids(int(row)) for row in rows]
    claiming = np.flatnonzero([bool(text or seen) for text, seen in zip(texts, things)])
    if len(claiming) < 3 or not episodes.vectors.size:
        return {}
    rows = rows[claiming]
    words = [frozenset(content_words(texts[i])) if texts[i] else frozenset() for i in claiming]
    names = [frozenset(w for o in things[i] for w in words_of(name_of(o))) for i in claiming]
    relation, alike = _compare(episodes, rows, related, words, names)
    ids, stamps = episodes.ids[rows].tolist(), episodes.stamps[rows]
    support = np.where(relation, alike, 0.0).sum(axis=1)
    flagged: dict[int, Contradiction] = {}
    for i, row in enumerate(rows.tolist()):
        rivals = np.flatnonzero(relation[i] & (alike[i] < AGREES))
        if not len(rivals):
            continue
        best = int(rivals[np.argmax(support[rivals])])
        # Two others that agree are the least consensus there can be.
        if support[best] < AGREES or support[i] >= MAJORITY * support[best]:
            continue
        if _is_confirmed_change(i, stamps, relation, alike):
            continue
        camp = [best, *np.flatnonzero(relation[best] & (alike[best] >= AGREES)).tolist()]
        against = tuple(sorted(ids[j] for j in camp if relation[i, j] and alike[i, j] < AGREES))
        if len(against) >= 2:
            flagged[row] = Contradiction(float(support[i] / support[best]), against)
    return flagged


def _compare(
    episodes: Episodes,
    rows: NDArray[np.int64],
    related: float,
    words: list[frozenset[str]],
    names: list[frozenset[str]],
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Returns (M, M) which entries are about the same thing, and how alike their claims are."""
    codes, scales = episodes.vectors.some(np.sort(rows))
    unit = codes[rows].astype(np.float32) * scales[rows][:, None]  # (M, D)
    cosines = unit @ unit.T
    spoken, shown = (np.array([bool(c) for c in claims]) for claims in (words, names))
    speak = spoken[:, None] & spoken[None, :] & (cosines >= related)
    show = (shown & ~spoken)[:, None] & (shown & ~spoken)[None, :] & (cosines >= max(related, SAME_VIEW))
    for relation in (speak, show):
        np.fill_diagonal(relation, False)
    return speak | show, np.where(speak, _overlap(words, speak), _overlap(names, show))


def _overlap(claims: list[frozenset[str]], relation: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns (M, M) weighted overlap of sets, each row weighted among what it is related to.

    What all related claims hold, the thing they are about, distinguishes nothing and weighs little.
    """
    names = {word: i for i, word in enumerate(sorted({word for claim in claims for word in claim}))}
    table = np.zeros((len(claims), max(len(names), 1)))
    for row, claim in enumerate(claims):
        table[row, [names[word] for word in claim]] = 1.0
    group = relation.astype(np.float64) + np.eye(len(claims))  # (M, M)
    frequency = group @ table  # (M, W)
    weights = np.log((1.0 + group.sum(axis=1, keepdims=True)) / np.maximum(frequency, 1.0)) * (frequency > 0)
    shared = (weights * table) @ table.T
    either = (weights * table).sum(axis=1)[:, None] + weights @ table.T - shared
    return np.divide(shared, either, out=np.ones_like(shared), where=either > 1e-12)


def _is_confirmed_change(
    i: int, stamps: NDArray[np.int64], relation: NDArray[np.bool_], alike: NDArray[np.float64]
) -> bool:
    """True where others agree, and nothing that is newer than the first of them denies it."""
    friends = np.flatnonzero(relation[i] & (alike[i] >= AGREES))
    if not len(friends):
        return False
    first = min(int(stamps[friends].min()), int(stamps[i]))
    return not bool((relation[i] & (alike[i] < AGREES) & (stamps > first)).any())

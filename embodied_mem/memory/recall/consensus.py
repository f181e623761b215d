"""Consensus: entries that contradict what related entries agree on (after A-MemGuard).

Entries about the same thing are compared by what they claim: their words, else the objects they
show, else where they were. One that disagrees with a claim that others support far better is
flagged. A lone new claim stays flagged until a second one confirms it; a confirmed change, which
nothing newer denies, is believed. Nothing can be said of a thing that only one entry is about.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.episodes.entries import Episode, Episodes
from embodied_mem.memory.recall.words import content_words

AGREES = 0.5
"""Claims at least this alike say the same."""
MAJORITY = 0.5
"""Support below this share of the best supported claim is a contradiction."""
SAME_SPOT = 2.0
"""Entries without words or objects agree within about this distance [m]."""


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
    episodes: Episodes, rows: NDArray[np.int64], related: float, by_words: bool
) -> dict[int, Contradiction]:
    """Returns what is flagged among some entries, by row.

    Args:
        episodes: all entries.
        rows: (M,) int64 rows of the entries to compare.
        related: least cosine of embeddings about the same thing.
        by_words: entries without embeddings are about the same thing: they were found by words.
    """
    if len(rows) < 3:
        return {}
    entries = [episodes.at(int(row)) for row in rows]
    relation = _relation(episodes, rows, related, by_words)
    support_of = _agreement(entries)  # (M, M)
    support = np.where(relation, support_of, 0.0).sum(axis=1)
    flagged: dict[int, Contradiction] = {}
    for i, entry in enumerate(entries):
        rivals = np.flatnonzero(relation[i] & (support_of[i] < AGREES))
        if not len(rivals):
            continue
        best = int(rivals[np.argmax(support[rivals])])
        # Two others that agree are the least consensus there can be.
        if support[best] < AGREES or support[i] >= MAJORITY * support[best]:
            continue
        if _is_confirmed_change(i, entries, relation, support_of):
            continue
        camp = [best, *np.flatnonzero(relation[best] & (support_of[best] >= AGREES)).tolist()]
        against = tuple(sorted({entries[j].id for j in camp if support_of[i, j] < AGREES}))
        if len(against) >= 2:
            flagged[int(rows[i])] = Contradiction(float(support[i] / support[best]), against)
        del entry
    return flagged


def _relation(
    episodes: Episodes, rows: NDArray[np.int64], related: float, by_words: bool
) -> NDArray[np.bool_]:
    relation = np.full((len(rows), len(rows)), by_words)
    if episodes.vectors.size:
        scales = episodes.vectors.scales[rows]
        unit = episodes.vectors.rows[rows].astype(np.float32) * scales[:, None]  # (M, D)
        has = scales > 0
        both = has[:, None] & has[None, :]
        relation = np.where(both, (unit @ unit.T) >= related, relation)
    np.fill_diagonal(relation, False)
    return relation


def _agreement(entries: list[Episode]) -> NDArray[np.float64]:
    """Returns (M, M) how alike the claims of entries are, in [0, 1]; 0 on the diagonal."""
    count = len(entries)
    words = _weighted([frozenset(content_words(e.text)) if e.text else frozenset() for e in entries])
    things = _weighted([frozenset(str(i) for i in e.object_ids) for e in entries])
    positions = np.array([e.pose.position for e in entries])
    delta = positions[:, None, :] - positions[None, :, :]
    alike = np.exp(-(delta**2).sum(axis=2) / (2.0 * SAME_SPOT**2))
    for claims in (things, words):  # words say more than objects, objects more than the place
        overlap, present = claims
        both = present[:, None] & present[None, :]
        alike = np.where(both, overlap, alike)
    alike[np.arange(count), np.arange(count)] = 0.0
    return alike


def _weighted(claims: list[frozenset[str]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Returns (M, M) weighted overlap of sets, and (M,) which are not empty.

    What all hold distinguishes nothing and weighs little.
    """
    present = np.array([bool(claim) for claim in claims])
    frequency = Counter(word for claim in claims for word in claim)
    names = {word: i for i, word in enumerate(sorted(frequency))}
    table = np.zeros((len(claims), len(names)))
    for row, claim in enumerate(claims):
        for word in claim:
            table[row, names[word]] = 1.0
    total = max(int(present.sum()), 1)
    weights = (
        np.log((1.0 + total) / np.array([frequency[w] for w in names], np.float64)) if names else np.ones(0)
    )
    shared = (table * weights) @ table.T
    own = (table * weights).sum(axis=1)
    union = own[:, None] + own[None, :] - shared
    return np.divide(shared, union, out=np.ones_like(shared), where=union > 0), present


def _is_confirmed_change(
    i: int, entries: list[Episode], relation: NDArray[np.bool_], alike: NDArray[np.float64]
) -> bool:
    """True where everything that is newer agrees, and something newer or older confirms it."""
    others = np.flatnonzero(relation[i])
    newer = [j for j in others.tolist() if entries[j].stamp >= entries[i].stamp]
    if any(alike[i, j] < AGREES for j in newer):
        return False
    friends = [j for j in others.tolist() if alike[i, j] >= AGREES]
    oldest_friend = min((entries[j].stamp for j in [*friends, i]), default=0)
    denied = [j for j in others.tolist() if alike[i, j] < AGREES and entries[j].stamp > oldest_friend]
    return bool(friends) and not denied

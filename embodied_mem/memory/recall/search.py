"""Search over the columns of entries: exact filters in one pass, then the exact best by similarity.

The similarity pass works on integers (the stored int8 vectors against the query in int16), which
bounds how far its result can be from the true cosine; whatever the bound cannot exclude is
computed again in float64. So the answer is the exact one over the stored vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.episodes.vectors import Vectors

_INT32 = 2**31 - 1
_ROUNDING = 2e-6
"""More than what float32 scores can be off by."""

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def select(
    rows: Array,
    first: int,
    last: int,
    places: Array,
    place: int,
    rooms: Array,
    room_of_place: Array,
    room: int,
    trusts: Array,
    min_trust: float,
    positions: Array,
    near: Array,
    radius: float,
    kept: Array,
    squared: Array,
) -> int:
    """Finds the rows that pass every filter; returns their number.

    Args:
        rows: (R,) int64 rows to look at, ascending; empty for all from `first` to `last`.
        first: first row of the range.
        last: the row after it.
        places: (N,) int64 column.
        place: the wanted id; -2 for any.
        rooms: (N,) int64 column.
        room_of_place: (P,) int64 room of each place as known today, -1 unknown.
        trusts: (N,) float64 column.
        room: the wanted id; -2 for any.
        min_trust: lowest trust.
        positions: (N, 3) float64 column [m].
        near: (3,) float64 [m].
        radius: largest distance from `near` [m]; negative for any.
        kept: (R or last - first,) int64, written: the rows found.
        squared: likewise float64, written: squared distances from `near` [m^2].
    """
    count = 0
    listed = len(rows) > 0
    total = len(rows) if listed else last - first
    for i in range(total):
        row = rows[i] if listed else first + i
        if row < first or row >= last or trusts[row] < min_trust:
            continue
        if place != -2 and places[row] != place:
            continue
        if room != -2:
            at = places[row]
            known = room_of_place[at] if 0 <= at < len(room_of_place) else -1
            if (known if known >= 0 else rooms[row]) != room:
                continue
        if radius >= 0:
            x = positions[row, 0] - near[0]
            y = positions[row, 1] - near[1]
            z = positions[row, 2] - near[2]
            distance = x * x + y * y + z * z
            if distance > radius * radius:
                continue
            squared[count] = distance
        kept[count] = row
        count += 1
    return count


@njit(cache=True, nogil=True)
def _shortlist(
    rows: Array,
    first: int,
    base: Array,
    vectors: Array,
    scales: Array,
    query: Array,
    step: float,
    keep: int,
    margin: float,
    found: Array,
    scores: Array,
) -> int:
    """Appends rows that may be among the `keep` best; returns their number.

    A row is left out only where `keep` rows are better by more than `margin`.
    """
    best = np.full(keep, np.float32(-1.0))  # ascending
    count = 0
    size = vectors.shape[1]
    plain, listed = len(base) == 0, len(rows) > 0
    total = len(rows) if listed else len(scores)
    for i in range(total):
        row = rows[i] if listed else first + i
        scale = scales[row]
        if scale == 0:
            continue
        dot = np.int32(0)
        vector = vectors[row]
        for j in range(size):
            dot = np.int32(dot + np.int32(np.int32(vector[j]) * np.int32(query[j])))
        score = np.float32(max(np.float32(dot) * np.float32(scale * step), np.float32(0.0)))
        if not plain:
            score += np.float32(base[i])
        if score < best[0] - margin:
            continue
        found[count] = i
        scores[count] = score
        count += 1
        if score > best[0]:
            at = 0
            while at + 1 < keep and best[at + 1] < score:
                best[at] = best[at + 1]
                at += 1
            best[at] = score
    # What got in while little had been seen is looked at again.
    left = 0
    for i in range(count):
        if scores[i] >= best[0] - margin:
            found[left] = found[i]
            left += 1
    return left


def most_similar(
    rows: NDArray[np.int64],
    base: NDArray[np.float64],
    vectors: Vectors,
    query: NDArray[np.float64],
    keep: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns a superset of the `keep` best rows by `base` plus cosine, and their exact cosines.

    Args:
        rows: (M,) int64 rows, ascending.
        base: (M,) float64 what a row has beside its similarity; empty where it has nothing.
        vectors: of all rows.
        query: (D,) float64 of unit length.
        keep: how many are wanted.

    Returns:
        (C,) int64 indices into `rows`, ascending, and (C,) float64 cosines in [-1, 1].
    """
    if not len(rows) or not vectors.size:
        return np.empty(0, np.int64), np.empty(0)
    size = vectors.size
    steps = min(32767, _INT32 // (127 * size))
    step = float(np.abs(query).max()) / steps
    coarse = np.rint(query / step).astype(np.int16)
    # |q - coarse * step| <= step / 2 in each component, and a unit row's components sum to <= sqrt(D).
    margin = 2.0 * (0.5 * step * np.sqrt(size)) + _ROUNDING
    found = np.empty(len(rows), np.int64)
    scores = np.empty(len(rows), np.float32)
    first = int(rows[0])
    codes, scales = vectors.some(rows)
    dense = len(rows) == int(rows[-1]) - first + 1
    count = _shortlist(
        rows[:0] if dense else rows,
        first, base, codes, scales, coarse, step, min(keep, len(rows)), margin,
        found, scores,
    )  # fmt: skip
    chosen = found[:count].copy()
    picked = rows[chosen]
    wide = codes[picked].astype(np.float64)
    cosines = (wide * query).sum(axis=1) * _exact_scales(wide)
    return chosen, cosines


def _exact_scales(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1.0 / np.sqrt((rows * rows).sum(axis=1)))

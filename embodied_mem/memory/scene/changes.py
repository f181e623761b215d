"""What has changed since a time, each with the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.scene.association import likeness
from embodied_mem.memory.scene.evidence import SURELY_EMPTY
from embodied_mem.memory.scene.objects import Objects
from embodied_mem.memory.scene.stays import Stay
from embodied_mem.memory.scene.strays import MOSTLY
from embodied_mem.types import NS_PER_S, LabelMap

LOOKED = 3
"""Where a place had been seen without it fewer times, a new thing may have been overlooked."""
BESIDE = 0.4
"""So near to one that looks the same a new thing may be a part of it, unless its place was empty [m]."""
BULKY, WELL_KNOWN = 0.6, 8
"""What is larger than this along two axes is furniture [m]; seen fewer times, it may be a piece of some."""
FEW = 2
"""What was seen fewer times in its new place is not yet a change."""


@dataclass(frozen=True, eq=False)
class SceneChange:
    """One change of the world, as far as the memory saw it.

    Attributes:
        kind: "appeared", "moved" or "disappeared".
        object_id: whose.
        label: name of its label.
        before: (3,) float64 [m] where it was; None where it appeared.
        after: (3,) float64 [m] where it is; None where it disappeared.
        last_before: when it was last seen where it was [ns]; -1 where it appeared.
        noticed: when the change was noticed [ns].
        evidence: what speaks for it, in words.
    """

    kind: Literal["appeared", "moved", "disappeared"]
    object_id: int
    label: str
    before: NDArray[np.float64] | None
    after: NDArray[np.float64] | None
    last_before: int
    noticed: int
    evidence: tuple[str, ...]


def changes_since(objects: Objects, labels: LabelMap, since: int, least_move: float) -> list[SceneChange]:
    """Returns what has changed since a time, by object id.

    What was only seen for the first time is no change, unless its place had been seen empty before.

    Args:
        objects: the objects.
        labels: names of their labels.
        since: [ns].
        least_move: what lies this close to where it was has not moved [m].
    """
    found = (_change(objects, labels, row, since, least_move) for row in range(len(objects)))
    return [change for change in found if change is not None]


def _change(
    objects: Objects, labels: LabelMap, row: int, since: int, least_move: float
) -> SceneChange | None:
    history = objects.history(row)
    then = [s for s in history if s.valid_from <= since and (s.valid_to is None or s.valid_to > since)]
    then = [s for s in then if s.existence >= 0.5]  # others were never believed
    now = history[-1] if history[-1].valid_to is None else None
    own, name = int(objects.ids[row]), labels.name(int(objects.labels[row]))
    if now is not None and objects.log_odds[row] < 0.0:
        return None  # never believed
    least_count = _least_count(objects, row, objects.config.least_count)
    if then and now is None and int(objects.counts[row]) < least_count:
        return None
    if then and now is None:
        last = history[-1]
        evidence: tuple[str, ...] = (_seen("last seen there", last.last_seen), _looked(last))
        noticed = last.valid_to if last.valid_to is not None else last.last_seen
        return SceneChange(
            "disappeared", own, name, then[-1].position, None, last.last_seen, noticed, evidence
        )
    if now is None:
        return None
    count = f"seen {int(objects.counts[row])} times in all"
    if not then:
        if not _is_new(objects, row, now, since, least_move):
            return None
        looks = int(objects.fresh[row])
        often = "empty" if looks >= SURELY_EMPTY else f"{looks} times without it"
        evidence = (f"its place had been seen {often}", _seen("first seen there", now.valid_from), count)
        return SceneChange("appeared", own, name, None, now.position, -1, now.valid_from, evidence)
    before = then[-1]
    delta = now.position - before.position
    if now is before or float(np.sqrt((delta * delta).sum())) < least_move:
        return None
    evidence = (
        _seen("last seen where it was", before.last_seen),
        _looked(before),
        _seen("first seen where it is", now.valid_from),
        count,
    )
    return SceneChange(
        "moved", own, name, before.position, now.position, before.last_seen, now.valid_from, evidence
    )


def _least_count(objects: Objects, row: int, few: int) -> int:
    """Returns how often a thing must have been seen for a change to be told of it; `few` if it is small."""
    is_bulky = float(np.sort(objects.extents[row])[1]) > BULKY
    return max(few, WELL_KNOWN) if is_bulky and objects.config.least_count > 1 else few


def _is_new(objects: Objects, row: int, now: Stay, since: int, least_move: float) -> bool:
    """Whether what is somewhere since a time was not there before, as far as anyone looked."""
    looks, count = int(objects.fresh[row]), int(objects.counts[row])
    if now.valid_from <= since or looks < LOOKED or not objects.is_clear(row):
        return False
    if count < _least_count(objects, row, FEW):
        return False
    # What is back where it was, or where another that looks the same was, had only been overlooked.
    for other in np.flatnonzero(objects.labels == objects.labels[row]).tolist():
        if likeness(objects.embeddings[other], objects.embeddings[row]) < objects.config.move_likeness:
            continue
        for stay in objects.past[other]:
            delta = stay.position - now.position
            was_known = stay.valid_from <= since and stay.existence >= 0.5
            if was_known and float(np.sqrt((delta * delta).sum())) < least_move:
                return False
    if looks >= SURELY_EMPTY:
        return True
    if float(objects.best_views[row]) < MOSTLY:
        return False
    elder = (objects.labels == objects.labels[row]) & (objects.first_seen <= since) & (objects.since >= 0)
    delta = objects.positions[elder] - now.position
    return not ((delta * delta).sum(axis=1) < BESIDE * BESIDE).any()


def _seen(words: str, stamp: int) -> str:
    return f"{words} at {stamp / NS_PER_S:.2f} s"


def _looked(stay: Stay) -> str:
    times = "once" if stay.looks == 1 else f"{stay.looks} times"
    return f"its place was seen empty {times}" if stay.looks else "seen elsewhere"

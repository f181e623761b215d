"""Which things keep company: how much likelier one kind is in a room where another is, counted in houses."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from embodied_mem.sim.house.house import House
from embodied_mem.types import LabelMap

DOUBT = 2.0
"""So many rooms without company are added to those that were counted: rare kinds prove little."""


def company(houses: Iterable[House], labels: LabelMap) -> NDArray[np.float32]:
    """Returns (L, L) float32 log(P(first in a room | second in it) / P(first in a room)).

    0 where one of the kinds was never met, and of a kind with itself.

    Args:
        houses: of the training split.
        labels: ids of the kinds.
    """
    both, rooms = np.zeros((len(labels), len(labels))), 0
    for house in houses:
        for room in house.rooms:
            ids = sorted({labels.id(t.label) for t in house.things if t.room == room.id})
            both[np.ix_(ids, ids)] += 1
            rooms += 1
    alone = np.diag(both).copy()
    share = (alone + 0.5) / (rooms + 1.0)
    given = (both + DOUBT * share[:, None]) / (alone[None, :] + DOUBT)
    found = np.log(given / share[:, None])
    found[alone == 0] = found[:, alone == 0] = 0.0
    np.fill_diagonal(found, 0.0)
    table: NDArray[np.float32] = found.astype(np.float32)
    return table

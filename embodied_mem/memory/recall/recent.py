"""What was recalled lately, so that feedback and rewards can be credited to it; not remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from embodied_mem.errors import InputError
from embodied_mem.types import Recall

KEPT = 1024
"""Answers that feedback can still be given on."""
CREDITED = 4
"""Feedback on an answer reaches so many of the newest entries it rests on."""


class RecentRecalls:
    """Numbers answers, and knows for a while what each one rested on."""

    def __init__(self) -> None:
        self._next = 1
        self._new: dict[int, None] = {}
        self._kept: OrderedDict[int, tuple[int, tuple[int, ...]]] = OrderedDict()

    def number(self, answers: Sequence[Recall], stamp: int) -> list[Recall]:
        """Returns answers with their `recall_id`.

        Args:
            answers: of one query.
            stamp: when they were asked for, on the memory's clock [ns].
        """
        numbered = []
        for answer in answers:
            self._kept[self._next] = (stamp, answer.evidence[:CREDITED])
            self._new.update(dict.fromkeys(answer.evidence[:CREDITED]))
            numbered.append(replace(answer, recall_id=self._next))
            self._next += 1
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        while len(self._new) > KEPT:
            del self._new[next(iter(self._new))]
        return numbered

    def take_new(self) -> tuple[int, ...]:
        """Returns the entries that answers have rested on since this was last asked, ascending."""
        taken, self._new = tuple(sorted(self._new)), {}
        return taken

    def evidence(self, recall_id: int) -> tuple[int, ...]:
        """Returns the newest entries that an answer rested on.

        Raises:
            InputError: no such answer, or too long ago.
        """
        if recall_id not in self._kept:
            raise InputError(
                f"no recall {recall_id} among the last {KEPT} answers; ask again and use the new recall_id"
            )
        return self._kept[recall_id][1]

    def since(self, stamp: int) -> tuple[int, ...]:
        """Returns the entries that answers since a stamp [ns] rested on, ascending; each is told once."""
        chosen = [key for key, (asked, _) in self._kept.items() if asked >= stamp]
        entries = {i for key in chosen for i in self._kept[key][1]}
        return tuple(sorted(entries))

"""What made the embeddings that a memory holds: those of two makers look alike and mean nothing together."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from embodied_mem.errors import InputError
from embodied_mem.types import Percept

UNKNOWN = "unknown"
"""What made the embeddings of things in files that did not say so: no longer what makes them today."""


@dataclass
class Embedders:
    """Names of what made a memory's embeddings, each "" until the first that has a name.

    Attributes:
        views: what made those of entries.
        things: what made those of objects.
        refused: the newest other maker, whose embeddings were left out.
    """

    views: str = ""
    things: str = ""
    refused: str = ""

    def comparable(self, percept: Percept) -> tuple[Percept, int]:
        """Returns a percept without embeddings that others made than the memory's, and how many those were.

        Embeddings without a name are taken as they are: who makes them by hand knows what they are.
        """
        name, count, own = percept.embedder, 0, ""
        if not name:
            return percept, 0
        if percept.embedding is not None:
            self.views = self.views or name
            if self.views != name:
                percept, count, own = replace(percept, embedding=None), 1, self.views
        seen = sum(d.embedding is not None for d in percept.detections)
        if seen:
            self.things = self.things or name
            if self.things != name:
                plain = tuple(replace(d, embedding=None) for d in percept.detections)
                percept, count, own = replace(percept, detections=plain), count + seen, self.things
        if count and self.refused != name:
            self.refused = name
            warnings.warn(
                f'embeddings by "{name}" are left out: this memory\'s are by "{own}", '
                "and the two cannot be compared; start a new memory to have them",
                stacklevel=2,
            )
        return percept, count

    def check(self, encoder: object) -> None:
        """Raises `InputError` where an encoder with a name is not what made the embeddings of views."""
        name = getattr(encoder, "name", "")
        if name and self.views and name != self.views:
            raise InputError(
                f'the views in this memory were embedded by "{self.views}", memory.encoder is "{name}": they '
                "cannot be compared; set the encoder that made them, or ask by words and places"
            )

    def to_state(self) -> dict[str, str]:
        """Returns what goes to the file."""
        return asdict(self)

    @classmethod
    def of_state(cls, state: Mapping[str, Any] | None) -> Embedders:
        """Returns what `to_state` gave; of a file that does not say, `UNKNOWN` for things."""
        return cls(things=UNKNOWN) if state is None else cls(**{str(k): str(v) for k, v in state.items()})

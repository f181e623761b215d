"""What moves by itself is no object and no part of the map; that it was seen is an event."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embodied_mem.memory.scene.stays import SceneEvent
from embodied_mem.types import NS_PER_S, Detection, LabelMap

AWAY = 60 * NS_PER_S
"""What was not seen for so long has come anew [ns]."""


class Passers:
    """Keeps when each kind of thing that moves by itself was last seen.

    Attributes:
        last: label id -> stamp [ns].
    """

    def __init__(self) -> None:
        self.last: dict[int, int] = {}

    def see(self, moving: Sequence[Detection], labels: LabelMap, stamp: int) -> list[SceneEvent]:
        """Returns an event, in words, for each kind that has come.

        Args:
            moving: detections of what moves by itself.
            labels: names of their labels.
            stamp: [ns].
        """
        events = []
        seen = {d.label for d in moving if d.score > 0.0 and np.isfinite(d.position).all()}
        for label in sorted(seen):
            before = self.last.get(label)
            if before is None or stamp - before > AWAY:
                events.append(SceneEvent("met", -1, f"saw {labels.name(label)}"))
            self.last[label] = stamp
        return events

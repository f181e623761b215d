"""What the scene graph says of an object: where it is, where it was when, what happened to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Stay:
    """A time during which an object stayed where it was, in the state it was in.

    Attributes:
        position: (3,) float64 [m] in the map frame.
        state: its state in words, or "".
        valid_from: when it was first seen so [ns].
        valid_to: when it was first seen to be no longer so [ns]; None where it still holds.
        last_seen: when it was last seen so [ns].
        existence: the highest existence probability during that time.
        looks: how often its place was seen without it before that was believed.
    """

    position: NDArray[np.float64]
    state: str
    valid_from: int
    valid_to: int | None
    last_seen: int
    existence: float
    looks: int = 0


@dataclass(frozen=True, eq=False)
class SceneObject:
    """What is known of one object.

    Attributes:
        id: stable, never reused.
        label: label id; `name` is its name.
        position: (3,) float64 [m], the centre in the map frame.
        extent: (3,) float64 [m], edges of the axis-aligned box in the map frame.
        covariance: (3, 3) float64 [m^2] of the position.
        state: a state in words ("open"), or "".
        existence: probability in [0, 1] that it still is where it was last seen.
        first_seen, last_seen: [ns].
        count: number of detections.
        place_id, room_id: where it is, or -1.
        history: where it was when, oldest first.
        embedding: (D,) float32 or None.
        votes: (label id, weight) of everything it was taken for, the heaviest first.
        yaw: direction of its own box about z [rad], of its best view.
    """

    id: int
    label: int
    name: str
    position: NDArray[np.float64]
    extent: NDArray[np.float64]
    covariance: NDArray[np.float64]
    state: str
    existence: float
    first_seen: int
    last_seen: int
    count: int
    place_id: int
    room_id: int
    history: tuple[Stay, ...]
    embedding: NDArray[np.float32] | None = None
    votes: tuple[tuple[int, float], ...] = ()
    yaw: float = 0.0


@dataclass(frozen=True)
class SceneEvent:
    """Something that changed about an object.

    Attributes:
        kind: "appeared", "returned", "moved", "state", "gone", "merged", or "met" for what moves by itself.
        object_id: whose; -1 for what is no object.
        text: in words, for example "green key is gone".
    """

    kind: str
    object_id: int
    text: str

    def worded(self, name: str) -> SceneEvent:
        """Returns it in words.

        Args:
            name: of the object's label.
        """
        state = f", {self.text}" if self.text else ""
        words = {
            "appeared": f"first saw {name}{state}",
            "returned": f"{name} is back{state}",
            "state": f"{name} is now {self.text}",
            "gone": f"{name} is gone",
            "moved": f"{name} has moved",
            "merged": f"{name} was known twice",
        }
        return SceneEvent(self.kind, self.object_id, words[self.kind])

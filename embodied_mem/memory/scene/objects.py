"""Objects that persist: fusion, existence, and where each one was when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.scene.association import associate, inverse
from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.memory.scene.sightings import Sightings
from embodied_mem.memory.scene.stays import SceneEvent, SceneObject, Stay
from embodied_mem.memory.scene.visibility import sides_of

__all__ = ["CERTAIN", "Objects", "SceneEvent", "SceneObject", "Sightings", "Stay"]

CERTAIN = 4.0
"""Log-odds of existence stay within +-CERTAIN (0.018 to 0.982)."""
MEAN_COUNT = 20
"""Extents and embeddings are running means over about this many detections."""
AGAIN = 0.5
"""How much a second look from the same place counts."""
WHOLE = 0.85
"""What is visible to this part tells its size."""

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def _fuse(position: Array, covariance: Array, z: Array, noise: Array, floor: float) -> None:
    """Kalman update of a static point, in place; variances never fall below `floor`."""
    total = inverse(covariance + noise)
    gain = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                gain[i, j] += covariance[i, k] * total[k, j]
    fused = covariance.copy()
    moved = np.zeros(3)
    for i in range(3):
        for k in range(3):
            moved[i] += gain[i, k] * (z[k] - position[k])
            for j in range(3):
                fused[i, j] -= gain[i, k] * covariance[k, j]
    for i in range(3):
        position[i] += moved[i]
        for j in range(i, 3):
            covariance[i, j] = 0.5 * (fused[i, j] + fused[j, i])
            covariance[j, i] = covariance[i, j]
    for i in range(3):
        covariance[i, i] = max(covariance[i, i], floor)


@njit(cache=True, nogil=True)
def _grow(
    position: Array,
    extent: Array,
    z: Array,
    size: Array,
    away: Array,
    whole: bool,
    weight: float,
    slack: float,
) -> None:
    """Moves the faces of a box towards those of a sighting, in place.

    A face that sticks out is believed; one that falls short may be hidden, by the thing itself where it
    is on the far side: it counts only where the thing is seen whole and from that side.

    Args:
        position: (3,) centre of the box [m].
        extent: (3,) its edges [m].
        z: (3,) centre of the sighting [m].
        size: (3,) its edges [m].
        away: (3,) from the camera to the sighting.
        whole: whether nothing cuts the sighting.
        weight: of the sighting.
        slack: what sticks out further than this is not noise [m].
    """
    reach = np.sqrt(away[0] ** 2 + away[1] ** 2 + away[2] ** 2)
    for i in range(3):
        faces = np.empty(2)
        for k in range(2):
            side = 2.0 * k - 1.0
            face, told = position[i] + side * extent[i] / 2, z[i] + side * size[i] / 2
            out = side * (told - face)
            is_far = side * away[i] > 0.3 * reach
            if out > slack:
                face += max(weight, 0.5) * side * (out - slack / 2)
            elif out > 0.0 or (whole and not is_far):
                face += weight * side * out
            elif whole:
                face += 0.2 * weight * side * out
            faces[k] = face
        if faces[1] > faces[0]:
            position[i], extent[i] = (faces[0] + faces[1]) / 2, faces[1] - faces[0]


class Objects:
    """All objects, as parallel arrays in the order of their ids.

    Args:
        config: gates and rates.
    """

    def __init__(self, config: SceneConfig) -> None:
        self.config = config
        self.next_id = 0
        self.ids = np.empty(0, np.int64)
        self.labels = np.empty(0, np.int64)
        self.positions = np.empty((0, 3))
        self.extents = np.empty((0, 3))
        self.covariances = np.empty((0, 3, 3))
        self.yaws = np.empty(0)
        self.best_views = np.empty(0)  # visible fraction of the best view
        self.log_odds = np.empty(0)
        self.best_odds = np.empty(0)  # highest during the current stay
        self.first_seen = np.empty(0, np.int64)
        self.last_seen = np.empty(0, np.int64)
        self.since = np.empty(0, np.int64)  # start of the current stay, or -1 where it is gone
        self.counts = np.empty(0, np.int64)
        self.looks = np.empty(0, np.int64)  # how often its place was seen without it since it was last seen
        self.sides = np.empty(0, np.int64)  # bits: from which sides it was seen
        self.missed_from = np.empty((0, 2))  # where the sensor was when its place was last seen without it
        self.fresh = np.empty(0, np.int64)  # how often the place was seen without it before it was first seen there
        self.states: list[str] = []
        self.embeddings: list[NDArray[np.float32] | None] = []
        self.past: list[list[Stay]] = []
        self.votes: list[dict[int, float]] = []
        self.aliases: dict[int, int] = {}
        """Ids that proved to be another object's: id -> that object's."""
        self._hit = math.log(config.detection_rate / config.false_rate)
        self._prior = math.log(config.prior / (1.0 - config.prior))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def existence(self) -> NDArray[np.float64]:
        """(O,) float64 existence probabilities."""
        return 1.0 / (1.0 + np.exp(-self.log_odds))

    def index(self, object_id: int) -> int:
        """Returns the row of an id, or of the object it proved to be, or -1."""
        object_id = self.aliases.get(object_id, object_id)
        row = int(np.searchsorted(self.ids, object_id))
        return row if row < len(self.ids) and self.ids[row] == object_id else -1

    def history(self, row: int) -> tuple[Stay, ...]:
        """Returns where the object of a row was when, oldest first."""
        stays = list(self.past[row])
        if self.since[row] >= 0:
            stays.append(self._stay(row, None))
        return tuple(stays)

    def associate(self, seen: Sightings) -> NDArray[np.int64]:
        """Returns (D,) int64 rows of the objects that the sightings show, -1 for new ones."""
        known = (self.positions, self.extents, self.covariances, self.labels)
        return associate(seen, known, self.embeddings, self.config)

    def observe(
        self, seen: Sightings, rows: NDArray[np.int64], fresh: NDArray[np.int64], stamp: int
    ) -> tuple[NDArray[np.int64], list[SceneEvent]]:
        """Fuses sightings into objects and makes new ones.

        Args:
            seen: sightings.
            rows: (D,) of `associate`.
            fresh: (D,) int64: how often the place of a new sighting had been seen without it.
            stamp: [ns].

        Returns:
            (D,) int64 rows of the objects seen, and what changed about them, without texts' names.
        """
        rows = rows.copy()
        events: list[SceneEvent] = []
        sides = sides_of(seen.origin - seen.positions)
        for d, detection in enumerate(seen.detections):
            row = int(rows[d])
            if row >= 0:
                events += self._see_again(row, seen, d, stamp)
            else:
                row = self._append(seen, d, int(fresh[d]))
                rows[d] = row
                self._start_stay(row, detection.state, stamp)
                self.first_seen[row] = stamp
                events.append(SceneEvent("appeared", int(self.ids[row]), detection.state))
            self.sides[row] |= 1 << int(sides[d])
            self.log_odds[row] = min(self.log_odds[row] + self._hit * min(detection.score, 1.0), CERTAIN)
            self.best_odds[row] = max(self.best_odds[row], self.log_odds[row])
            self.last_seen[row] = max(self.last_seen[row], stamp)
            self.counts[row] += 1
            self.looks[row] = 0
            self._vote(row, int(seen.labels[d]), min(detection.score, 1.0))
            self._embed(row, detection.embedding)
        return rows, events

    def miss(
        self, rows: NDArray[np.int64], stamp: int, rate: float, origin: NDArray[np.float64]
    ) -> list[SceneEvent]:
        """Lowers the existence of objects whose place was seen without them.

        Args:
            rows: theirs.
            stamp: [ns].
            rate: how often they would have been detected if they were there.
            origin: (3,) where the sensor was [m].

        Returns:
            those now gone.
        """
        less = math.log((1.0 - rate) / (1.0 - min(self.config.false_rate, rate)))
        x, y = float(origin[0]), float(origin[1])
        events = []
        for row in rows.tolist():
            # What hides a thing from here hides it again: a second look from the same place says less.
            dx, dy = x - float(self.missed_from[row, 0]), y - float(self.missed_from[row, 1])
            is_again = self.looks[row] > 0 and dx * dx + dy * dy < self.config.viewpoint**2
            weight = AGAIN if is_again else 1.0
            self.missed_from[row] = x, y
            self.log_odds[row] = max(self.log_odds[row] + weight * less, -CERTAIN)
            self.looks[row] += 1
            if self.log_odds[row] < 0.0 and self.since[row] >= 0:
                self.past[row].append(self._stay(row, stamp))
                self.since[row] = -1
                events.append(SceneEvent("gone", int(self.ids[row]), ""))
        return events

    def forget(self, object_id: int) -> list[int]:
        """Removes an object and its history; returns the ids it had, which are not given again."""
        row = self.index(object_id)
        if row < 0:
            return []
        own = int(self.ids[row])
        self.drop(row)
        gone = [a for a, b in self.aliases.items() if b == own]
        for alias in gone:
            del self.aliases[alias]
        return [own, *gone]

    def drop(self, row: int) -> None:
        """Takes a row out of all arrays."""
        for name in _ARRAYS:
            setattr(self, name, np.delete(getattr(self, name), row, axis=0))
        for entries in (self.states, self.embeddings, self.past, self.votes):
            del entries[row]

    def absorb(self, row: int, other: int) -> None:
        """Makes the object of row `other` the same as that of `row`, which keeps its id; drops `other`."""
        own, gone = int(self.ids[row]), int(self.ids[other])
        for label, weight in self.votes[other].items():
            self.votes[row][label] = self.votes[row].get(label, 0.0) + weight
        self.labels[row] = _heaviest(self.votes[row])
        self.counts[row] += self.counts[other]
        self.aliases = {a: own if b == gone else b for a, b in self.aliases.items()} | {gone: own}
        self.drop(other)

    def take_over(self, row: int, other: int) -> None:
        """Puts the object of `row` where that of row `other` is: it has moved there."""
        for name in ("positions", "extents", "covariances", "log_odds", "best_odds", "last_seen", "since"):
            getattr(self, name)[row] = getattr(self, name)[other]
        for name in ("looks", "fresh", "yaws", "best_views", "sides", "missed_from"):
            getattr(self, name)[row] = getattr(self, name)[other]
        self.states[row] = self.states[other]
        self.past[row] += self.past[other]
        self.absorb(row, other)

    def _see_again(self, row: int, seen: Sightings, d: int, stamp: int) -> list[SceneEvent]:
        detection, events = seen.detections[d], []
        if self.since[row] < 0:
            # What was gone and is back starts from even odds: it was seen to have left.
            self.log_odds[row] = max(self.log_odds[row], 0.0)
            self._start_stay(row, detection.state, stamp)
            events.append(SceneEvent("returned", int(self.ids[row]), detection.state))
        elif detection.state != self.states[row]:
            self.past[row].append(self._stay(row, stamp))
            self._start_stay(row, detection.state, stamp)
            events.append(SceneEvent("state", int(self.ids[row]), detection.state))
        floor = self.config.position_floor**2
        # The robot's own error does not average out within a frame, but does over time.
        noise = seen.covariances[d] + np.eye(3) * self.config.pose_sigma**2
        whole = bool(seen.visible[d] >= WHOLE)
        weight = 1.0 / min(int(self.counts[row]) + 1, MEAN_COUNT)
        if self.config.gate_sigma > 0.0:
            before = self.positions[row].copy()
            _fuse(before, self.covariances[row], seen.positions[d], noise, floor)
            outside = seen.positions[d] - seen.origin
            _grow(
                self.positions[row],
                self.extents[row],
                seen.positions[d],
                seen.extents[d],
                outside,
                whole,
                weight,
                self.config.pose_sigma,
            )
        else:
            _fuse(self.positions[row], self.covariances[row], seen.positions[d], noise, floor)
            size = seen.extents[d] if whole else np.maximum(self.extents[row], seen.extents[d])
            self.extents[row] += weight * (size - self.extents[row])
        if seen.visible[d] > self.best_views[row]:
            self.best_views[row], self.yaws[row] = seen.visible[d], seen.yaws[d]
        return events

    def _stay(self, row: int, valid_to: int | None) -> Stay:
        # Rounded, because exp may differ in its last bit between machines and the digest must not.
        best = round(1.0 / (1.0 + math.exp(-float(self.best_odds[row]))), 6)
        since, last = int(self.since[row]), int(self.last_seen[row])
        looks = int(self.looks[row])
        return Stay(self.positions[row].copy(), self.states[row], since, valid_to, last, best, looks)

    def _start_stay(self, row: int, state: str, stamp: int) -> None:
        self.since[row] = stamp
        self.states[row] = state
        self.best_odds[row] = -CERTAIN

    def _vote(self, row: int, label: int, weight: float) -> None:
        votes = self.votes[row]
        votes[label] = votes.get(label, 0.0) + weight
        self.labels[row] = _heaviest(votes)

    def _embed(self, row: int, embedding: NDArray[np.float32] | None) -> None:
        if embedding is None:
            return
        new, old = np.asarray(embedding, np.float32), self.embeddings[row]
        if old is not None and old.shape == new.shape:
            new = old + (new - old) / np.float32(min(int(self.counts[row]), MEAN_COUNT))
        self.embeddings[row] = new

    def _append(self, seen: Sightings, d: int, fresh: int) -> int:
        values: dict[str, Any] = {
            "ids": self.next_id,
            "labels": seen.labels[d],
            "positions": seen.positions[d],
            "extents": seen.extents[d],
            "covariances": seen.covariances[d] + np.eye(3) * self.config.pose_sigma**2,
            "yaws": seen.yaws[d],
            "best_views": seen.visible[d],
            "log_odds": self._prior,
            "fresh": fresh,
        }
        self._add_row(values, "", None, [], {})
        self.next_id += 1
        return len(self.ids) - 1

    def _add_row(
        self,
        values: dict[str, Any],
        state: str,
        embedding: NDArray[np.float32] | None,
        past: list[Stay],
        votes: dict[int, float],
    ) -> None:
        for name in _ARRAYS:
            array = getattr(self, name)
            row = np.broadcast_to(np.asarray(values.get(name, 0), array.dtype), (1, *array.shape[1:]))
            setattr(self, name, np.concatenate([array, row]))
        self.states.append(state)
        self.embeddings.append(embedding)
        self.past.append(past)
        self.votes.append(votes)

    def row_payload(self, row: int) -> dict[str, Any]:
        """Returns everything about one object as plain values, for the store and the digest."""
        embedding = self.embeddings[row]
        payload: dict[str, Any] = {name: getattr(self, name)[row].tolist() for name in _ARRAYS}
        payload["state"] = self.states[row]
        payload["embedding"] = None if embedding is None else embedding.tolist()
        payload["votes"] = sorted(self.votes[row].items())
        payload["past"] = [
            [s.position.tolist(), s.state, s.valid_from, s.valid_to, s.last_seen, s.existence, s.looks]
            for s in self.past[row]
        ]
        return payload

    def restore(self, payloads: Sequence[dict[str, Any]]) -> None:
        """Replaces all objects by those of `row_payload`, in any order."""
        self.__init__(self.config)  # type: ignore[misc]
        for payload in sorted(payloads, key=lambda p: int(p["ids"])):
            past = [Stay(np.array(p), s, a, b, last, e, *n) for p, s, a, b, last, e, *n in payload["past"]]
            vector = payload["embedding"]
            embedding = None if vector is None else np.array(vector, np.float32)
            # Files of earlier versions have no votes: their objects had one label each.
            votes = payload.get("votes") or [[payload["labels"], float(payload["counts"])]]
            table = {int(label): float(weight) for label, weight in votes}
            self._add_row(payload, payload["state"], embedding, past, table)


def _heaviest(votes: dict[int, float]) -> int:
    return min(votes, key=lambda label: (-votes[label], label))


_ARRAYS = (
    "ids",
    "labels",
    "positions",
    "extents",
    "covariances",
    "yaws",
    "best_views",
    "log_odds",
    "best_odds",
    "first_seen",
    "last_seen",
    "since",
    "counts",
    "looks",
    "sides",
    "missed_from",
    "fresh",
)

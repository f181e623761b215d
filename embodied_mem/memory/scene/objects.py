"""Objects that persist: association, fusion, existence, and where each one was when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.types import Detection

CERTAIN = 4.0
"""Log-odds of existence stay within +-CERTAIN (0.018 to 0.982)."""
MEAN_COUNT = 20
"""Extents and embeddings are running means over about this many detections."""

Array = NDArray[Any]


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
    """

    position: NDArray[np.float64]
    state: str
    valid_from: int
    valid_to: int | None
    last_seen: int
    existence: float


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


@dataclass(frozen=True)
class SceneEvent:
    """Something that changed about an object.

    Attributes:
        kind: "appeared", "returned", "state" or "gone".
        object_id: whose.
        text: in words, for example "green key is gone".
    """

    kind: str
    object_id: int
    text: str


@njit(cache=True, nogil=True)
def _inverse(m: Array) -> Array:
    """Inverts a symmetric positive (3, 3) matrix by its cofactors."""
    c = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            a, b, d, e = (i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3
            c[j, i] = m[a, d] * m[b, e] - m[a, e] * m[b, d]
    determinant = m[0, 0] * c[0, 0] + m[0, 1] * c[1, 0] + m[0, 2] * c[2, 0]
    return c / determinant


@njit(cache=True, nogil=True)
def _fuse(position: Array, covariance: Array, z: Array, noise: Array, floor: float) -> None:
    """Kalman update of a static point, in place; variances never fall below `floor`."""
    total = _inverse(covariance + noise)
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
def _candidates(
    seen: Array, labels: Array, known: Array, known_labels: Array, gate: float
) -> tuple[Array, bool]:
    """Returns (D,) int64 rows of known objects in the gate, -1 for none, and whether that is one to one."""
    rows = np.full(seen.shape[0], -1, np.int64)
    taken = np.zeros(known.shape[0], np.bool_)
    for d in range(seen.shape[0]):
        for o in range(known.shape[0]):
            if labels[d] != known_labels[o]:
                continue
            x, y, z = seen[d, 0] - known[o, 0], seen[d, 1] - known[o, 1], seen[d, 2] - known[o, 2]
            if x * x + y * y + z * z <= gate:
                if rows[d] >= 0 or taken[o]:
                    return rows, False
                rows[d] = o
                taken[o] = True
    return rows, True


@dataclass(frozen=True, eq=False)
class Sightings:
    """Detections of one percept in the map frame, the unusable ones dropped.

    Attributes:
        labels: (D,) int64.
        positions, extents: (D, 3) float64 [m].
        covariances: (D, 3, 3) float64 [m^2].
        detections: what they were made from.
        dropped: number of detections with NaN, infinite or negative numbers.
    """

    labels: NDArray[np.int64]
    positions: NDArray[np.float64]
    extents: NDArray[np.float64]
    covariances: NDArray[np.float64]
    detections: tuple[Detection, ...]
    dropped: int

    @classmethod
    def of(cls, detections: Sequence[Detection], map_T_base: Pose, floor: float) -> Sightings:
        """Maps detections from the base to the map frame; variances are at least `floor` [m^2]."""
        kept = tuple(detections)
        arrays = cls._arrays(kept)
        usable = _are_usable(*arrays) & (np.array([d.score for d in kept]) > 0.0)
        if not usable.all():
            kept = tuple(d for d, good in zip(kept, usable.tolist()) if good)
            arrays = cls._arrays(kept)
        positions, extents, noise = arrays
        boxes, turned = np.empty_like(extents), np.empty_like(noise)
        _turn(map_T_base.rotation(), extents, noise, floor, boxes, turned)
        labels = np.array([d.label for d in kept], np.int64)
        return cls(labels, map_T_base.transform(positions), boxes, turned, kept, len(detections) - len(kept))

    @staticmethod
    def _arrays(detections: tuple[Detection, ...]) -> tuple[Array, Array, Array]:
        count = len(detections)
        positions = np.array([d.position for d in detections], np.float64).reshape(count, 3)
        extents = np.array([d.extent for d in detections], np.float64).reshape(count, 3)
        noise = np.array([d.covariance for d in detections], np.float64).reshape(count, 3, 3)
        return positions, extents, noise


@njit(cache=True, nogil=True)
def _turn(r: Array, extents: Array, noise: Array, floor: float, boxes: Array, turned: Array) -> None:
    """Boxes around turned boxes, and turned covariances with variances of at least `floor`."""
    for d in range(noise.shape[0]):
        for i in range(3):
            boxes[d, i] = 0.0
            for j in range(3):
                boxes[d, i] += abs(r[i, j]) * extents[d, j]
                turned[d, i, j] = 0.0
                for k in range(3):
                    for m in range(3):
                        turned[d, i, j] += r[i, k] * noise[d, k, m] * r[j, m]
        for i in range(3):
            turned[d, i, i] = max(turned[d, i, i], floor)


@njit(cache=True, nogil=True)
def _are_usable(positions: Array, extents: Array, noise: Array) -> Array:
    result = np.ones(positions.shape[0], np.bool_)
    for d in range(positions.shape[0]):
        for i in range(3):
            result[d] &= np.isfinite(positions[d, i]) and np.isfinite(extents[d, i]) and extents[d, i] >= 0.0
            for j in range(3):
                result[d] &= np.isfinite(noise[d, i, j])
    return result


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
        self.log_odds = np.empty(0)
        self.best_odds = np.empty(0)  # highest during the current stay
        self.first_seen = np.empty(0, np.int64)
        self.last_seen = np.empty(0, np.int64)
        self.since = np.empty(0, np.int64)  # start of the current stay, or -1 where it is gone
        self.counts = np.empty(0, np.int64)
        self.states: list[str] = []
        self.embeddings: list[NDArray[np.float32] | None] = []
        self.past: list[list[Stay]] = []
        self._hit = math.log(config.detection_rate / config.false_rate)
        self._miss = math.log((1.0 - config.detection_rate) / (1.0 - config.false_rate))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def existence(self) -> NDArray[np.float64]:
        """(O,) float64 existence probabilities."""
        return 1.0 / (1.0 + np.exp(-self.log_odds))

    def index(self, object_id: int) -> int:
        """Returns the row of an id, or -1."""
        row = int(np.searchsorted(self.ids, object_id))
        return row if row < len(self.ids) and self.ids[row] == object_id else -1

    def history(self, row: int) -> tuple[Stay, ...]:
        """Returns where the object of a row was when, oldest first."""
        stays = list(self.past[row])
        if self.since[row] >= 0:
            stays.append(self._stay(row, None))
        return tuple(stays)

    def associate(self, seen: Sightings) -> NDArray[np.int64]:
        """Returns (D,) int64 rows of the objects that the sightings show, -1 for new ones.

        Pairs of equal label within the gate; the assignment of least total squared distance.
        """
        gate = self.config.gate**2
        rows, is_clear = _candidates(seen.positions, seen.labels, self.positions, self.labels, gate)
        if is_clear:
            return rows
        from scipy.optimize import linear_sum_assignment

        delta = seen.positions[:, None, :] - self.positions[None, :, :]  # (D, O, 3)
        squared = delta[..., 0] ** 2 + delta[..., 1] ** 2 + delta[..., 2] ** 2
        fits = (squared <= gate) & (seen.labels[:, None] == self.labels[None, :])
        first, second = np.flatnonzero(fits.any(axis=1)), np.flatnonzero(fits.any(axis=0))
        part = fits[np.ix_(first, second)]
        # A pair outside the gate costs more than any set of pairs inside, so it is only a leftover.
        cost = np.where(part, squared[np.ix_(first, second)], gate * (len(first) + 1))
        rows[:] = -1
        for i, j in zip(*linear_sum_assignment(cost)):
            if part[i, j]:
                rows[first[i]] = second[j]
        return rows

    def observe(self, seen: Sightings, stamp: int) -> tuple[NDArray[np.int64], list[SceneEvent]]:
        """Fuses sightings into objects and makes new ones.

        Returns:
            (D,) int64 rows of the objects seen, and what changed about them, without texts' names.
        """
        rows = self.associate(seen)
        events: list[SceneEvent] = []
        for d, detection in enumerate(seen.detections):
            row = int(rows[d])
            if row >= 0:
                events += self._see_again(row, seen, d, stamp)
            else:
                row = self._append(seen, d)
                rows[d] = row
                self._start_stay(row, detection.state, stamp)
                self.first_seen[row] = stamp
                events.append(SceneEvent("appeared", int(self.ids[row]), detection.state))
            self.log_odds[row] = min(self.log_odds[row] + self._hit * min(detection.score, 1.0), CERTAIN)
            self.best_odds[row] = max(self.best_odds[row], self.log_odds[row])
            self.last_seen[row] = max(self.last_seen[row], stamp)
            self.counts[row] += 1
            self._embed(row, detection.embedding)
        return rows, events

    def miss(self, rows: NDArray[np.int64], stamp: int) -> list[SceneEvent]:
        """Lowers the existence of objects whose place was seen without them; returns those now gone."""
        events = []
        for row in rows.tolist():
            self.log_odds[row] = max(self.log_odds[row] + self._miss, -CERTAIN)
            if self.log_odds[row] < 0.0 and self.since[row] >= 0:
                self.past[row].append(self._stay(row, stamp))
                self.since[row] = -1
                events.append(SceneEvent("gone", int(self.ids[row]), ""))
        return events

    def forget(self, object_id: int) -> bool:
        """Removes an object and its history; its id is not given again. False where there is none."""
        row = self.index(object_id)
        if row < 0:
            return False
        for name in _ARRAYS:
            setattr(self, name, np.delete(getattr(self, name), row, axis=0))
        for entries in (self.states, self.embeddings, self.past):
            del entries[row]
        return True

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
        _fuse(self.positions[row], self.covariances[row], seen.positions[d], seen.covariances[d], floor)
        weight = 1.0 / min(int(self.counts[row]) + 1, MEAN_COUNT)
        self.extents[row] += weight * (seen.extents[d] - self.extents[row])
        return events

    def _stay(self, row: int, valid_to: int | None) -> Stay:
        # Rounded, because exp may differ in its last bit between machines and the digest must not.
        best = round(1.0 / (1.0 + math.exp(-float(self.best_odds[row]))), 6)
        since, last = int(self.since[row]), int(self.last_seen[row])
        return Stay(self.positions[row].copy(), self.states[row], since, valid_to, last, best)

    def _start_stay(self, row: int, state: str, stamp: int) -> None:
        self.since[row] = stamp
        self.states[row] = state
        self.best_odds[row] = -CERTAIN

    def _embed(self, row: int, embedding: NDArray[np.float32] | None) -> None:
        if embedding is None:
            return
        new, old = np.asarray(embedding, np.float32), self.embeddings[row]
        if old is not None and old.shape == new.shape:
            new = old + (new - old) / np.float32(min(int(self.counts[row]), MEAN_COUNT))
        self.embeddings[row] = new

    def _append(self, seen: Sightings, d: int) -> int:
        values: dict[str, Any] = {
            "ids": self.next_id,
            "labels": seen.labels[d],
            "positions": seen.positions[d],
            "extents": seen.extents[d],
            "covariances": seen.covariances[d],
        }
        self._add_row(values, "", None, [])
        self.next_id += 1
        return len(self.ids) - 1

    def _add_row(
        self, values: dict[str, Any], state: str, embedding: NDArray[np.float32] | None, past: list[Stay]
    ) -> None:
        for name in _ARRAYS:
            array = getattr(self, name)
            row = np.asarray(values.get(name, 0), array.dtype).reshape((1, *array.shape[1:]))
            setattr(self, name, np.concatenate([array, row]))
        self.states.append(state)
        self.embeddings.append(embedding)
        self.past.append(past)

    def row_payload(self, row: int) -> dict[str, Any]:
        """Returns everything about one object as plain values, for the store and the digest."""
        embedding = self.embeddings[row]
        payload: dict[str, Any] = {name: getattr(self, name)[row].tolist() for name in _ARRAYS}
        payload["state"] = self.states[row]
        payload["embedding"] = None if embedding is None else embedding.tolist()
        payload["past"] = [
            [s.position.tolist(), s.state, s.valid_from, s.valid_to, s.last_seen, s.existence]
            for s in self.past[row]
        ]
        return payload

    def restore(self, payloads: Sequence[dict[str, Any]]) -> None:
        """Replaces all objects by those of `row_payload`, in any order."""
        self.__init__(self.config)  # type: ignore[misc]
        for payload in sorted(payloads, key=lambda p: int(p["ids"])):
            past = [Stay(np.array(p), s, a, b, last, e) for p, s, a, b, last, e in payload["past"]]
            vector = payload["embedding"]
            embedding = None if vector is None else np.array(vector, np.float32)
            self._add_row(payload, payload["state"], embedding, past)


_ARRAYS = (
    "ids",
    "labels",
    "positions",
    "extents",
    "covariances",
    "log_odds",
    "best_odds",
    "first_seen",
    "last_seen",
    "since",
    "counts",
)

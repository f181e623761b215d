"""Objects that persist: fusion, existence, and where each one was when."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.scene.association import associate
from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.memory.scene.fusing import MEAN_COUNT, fuse_sighting
from embodied_mem.memory.scene.plain import plain_rows, rows_of
from embodied_mem.memory.scene.sightings import Sightings
from embodied_mem.memory.scene.stays import SceneEvent, SceneObject, Stay
from embodied_mem.memory.scene.strays import follow, is_elsewhere, put
from embodied_mem.memory.scene.visibility import sides_of
from embodied_mem.types import NS_PER_S

__all__ = ["CERTAIN", "Objects", "SceneEvent", "SceneObject", "Sightings", "Stay"]

MARGIN = 4.0
"""Farther away no object belongs to a sighting, however large both are [m]."""
CERTAIN = 4.0
"""Log-odds of existence stay within +-CERTAIN (0.018 to 0.982)."""
CLEAR = 0.6
"""This part of its votes tells what an object is."""
AGAIN = 0.7
"""How much a second look from the same place counts."""


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
        self.looked_at = np.empty(0, np.int64)  # when it was last seen, or its place without it
        self.counts = np.empty(0, np.int64)
        self.looks = np.empty(0, np.int64)  # how often its place was seen without it since it was last seen
        self.sides = np.empty(0, np.int64)  # bits: from which sides it was seen
        self.missed_from = np.empty((0, 2))  # where the sensor was when its place was last seen without it
        self.stray_count = np.empty(0, np.int64)  # sightings in a row that were elsewhere
        self.stray_at = np.empty((0, 3))  # their mean position
        self.stray_since = np.empty(0, np.int64)  # stamp of the first
        self.stray_gap = np.empty(0, np.int64)  # how long it had not been seen before that [ns]
        self.fresh = np.empty(0, np.int64)  # how often its place had been seen without it
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
        row = int(self.ids.searchsorted(object_id))
        return row if row < len(self.ids) and self.ids[row] == object_id else -1

    def history(self, row: int) -> tuple[Stay, ...]:
        """Returns where the object of a row was when, oldest first."""
        stays = list(self.past[row])
        if self.since[row] >= 0:
            stays.append(self._stay(row, None))
        return tuple(stays)

    def is_clear(self, row: int) -> bool:
        """Whether an object was mostly taken for what it is held for."""
        votes = self.votes[row]
        return max(votes.values()) >= CLEAR * sum(votes.values())

    def associate(self, seen: Sightings) -> NDArray[np.int64]:
        """Returns (D,) int64 rows of the objects that the sightings show, -1 for new ones."""
        if len(seen) == 0:
            return np.full(0, -1, np.int64)
        near = self.within(seen.positions.min(axis=0) - MARGIN, seen.positions.max(axis=0) + MARGIN)
        known = (self.positions[near], self.extents[near], self.covariances[near], self.labels[near])
        found = associate(seen, known, [self.embeddings[row] for row in near.tolist()], self.config)
        rows = np.full(len(seen), -1, np.int64)
        rows[found >= 0] = near[found[found >= 0]]
        return rows

    def within(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.int64]:
        """Returns the rows of objects whose centres lie between two corners, seen from above [m]."""
        x, y = self.positions[:, 0], self.positions[:, 1]
        return np.flatnonzero((x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1]))

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
            row, is_there = int(rows[d]), True
            if row >= 0:
                found, is_there = self._see_again(row, seen, d, stamp)
                events += found
            else:
                row = self._append(seen, d, int(fresh[d]))
                rows[d] = row
                self.start_stay(row, detection.state, stamp)
                self.first_seen[row] = stamp
                events.append(SceneEvent("appeared", int(self.ids[row]), detection.state))
            self.counts[row] += 1
            self._vote(row, int(seen.labels[d]), min(detection.score, 1.0))
            self._embed(row, detection.embedding)
            if not is_there:
                continue
            self.sides[row] |= 1 << int(sides[d])
            self.log_odds[row] = min(self.log_odds[row] + self._hit * min(detection.score, 1.0), CERTAIN)
            self.best_odds[row] = max(self.best_odds[row], self.log_odds[row])
            self.last_seen[row] = max(self.last_seen[row], stamp)
            self.looked_at[row] = self.last_seen[row]
            self.looks[row] = 0
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
            self._doubt(row, stamp)
            self.log_odds[row] = max(self.log_odds[row] + weight * less, -CERTAIN)
            self.looks[row] += 1
            if self.log_odds[row] < 0.0 and self.since[row] >= 0:
                self.leave(row, stamp)
                events.append(SceneEvent("gone", int(self.ids[row]), ""))
        return events

    def _doubt(self, row: int, stamp: int) -> None:
        """Lowers the existence of an object by how long nobody has looked for it [ns]."""
        away = (stamp - int(self.looked_at[row])) / NS_PER_S
        self.looked_at[row] = stamp
        if self.config.persistence > 0.0 and away > 0.0:
            odds = math.exp(float(self.log_odds[row]))
            stays = max(math.exp(-away / self.config.persistence) * odds / (1.0 + odds), 1e-9)
            self.log_odds[row] = round(math.log(stays / (1.0 - stays)), 9)

    def leave(self, row: int, stamp: int) -> None:
        """Ends the stay of an object where it is [ns]."""
        self.end_stay(row, stamp)
        self.since[row] = -1

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
        for name in (
            "looked_at",
            "looks",
            "fresh",
            "yaws",
            "best_views",
            "sides",
            "missed_from",
            "stray_count",
        ):
            getattr(self, name)[row] = getattr(self, name)[other]
        self.states[row] = self.states[other]
        self.past[row] += self.past[other]
        self.absorb(row, other)

    def become(self, row: int, other: Objects, there: int) -> None:
        """Makes the object of a row what that of row `there` of another table is; it keeps its id."""
        for name in _ARRAYS[1:]:
            getattr(self, name)[row] = getattr(other, name)[there]
        self.states[row], self.embeddings[row] = other.states[there], other.embeddings[there]
        self.past[row], self.votes[row] = list(other.past[there]), dict(other.votes[there])

    def begin_as(self, other: Objects, there: int) -> int:
        """Adds the object of row `there` of another table; returns the id that it has here."""
        self._add_row({"ids": self.next_id}, "", None, [], {})
        self.next_id += 1
        self.become(len(self.ids) - 1, other, there)
        return self.next_id - 1

    def place(self, row: int, other: Objects, there: int) -> None:
        """Puts the object of a row where that of row `there` of another table is."""
        for name in ("positions", "extents", "covariances"):
            getattr(self, name)[row] = getattr(other, name)[there]

    def _see_again(self, row: int, seen: Sightings, d: int, stamp: int) -> tuple[list[SceneEvent], bool]:
        """Fuses a sighting; returns what happened, and whether the object was where it is believed to be."""
        detection, own = seen.detections[d], int(self.ids[row])
        events: list[SceneEvent] = []
        strays = self.config.strays and is_elsewhere(self, row, seen, d, stamp)
        if self.since[row] < 0:
            # What was gone and is back starts from even odds: it was seen to have left.
            self.log_odds[row] = max(self.log_odds[row], 0.0)
            if strays:
                put(self, row, seen, d, seen.positions[d])
                strays = False
            self.start_stay(row, detection.state, stamp)
            events.append(SceneEvent("returned", own, detection.state))
        elif detection.state != self.states[row]:
            self.end_stay(row, stamp)
            self.start_stay(row, detection.state, stamp)
            events.append(SceneEvent("state", own, detection.state))
        if strays:
            moved = follow(self, row, seen, d)
            return [*events, *([SceneEvent("moved", own, self.states[row])] if moved else ())], moved
        self.stray_count[row] = 0
        known = self.positions[row], self.extents[row], self.covariances[row]
        fuse_sighting(known, seen, d, int(self.counts[row]), self.config, float(self.best_views[row]))
        if seen.visible[d] > self.best_views[row]:
            self.best_views[row], self.yaws[row] = seen.visible[d], seen.yaws[d]
        return events, True

    def _stay(self, row: int, valid_to: int | None) -> Stay:
        # Rounded, because exp may differ in its last bit between machines and the digest must not.
        best = round(1.0 / (1.0 + math.exp(-float(self.best_odds[row]))), 6)
        since, last = int(self.since[row]), int(self.last_seen[row])
        last = last if valid_to is None else min(last, valid_to)
        looks = int(self.looks[row])
        return Stay(self.positions[row].copy(), self.states[row], since, valid_to, last, best, looks)

    def end_stay(self, row: int, stamp: int) -> None:
        """Adds the stay that ends now to those of the past [ns]."""
        self.past[row].append(self._stay(row, stamp))

    def start_stay(self, row: int, state: str, stamp: int) -> None:
        """Begins a stay in a state, without any evidence for it yet [ns]."""
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

    def payloads(self) -> dict[int, dict[str, Any]]:
        """Returns everything about objects by id as plain values."""
        return self.take_payloads(self.ids.tolist())()

    def take_payloads(self, object_ids: list[int]) -> Callable[[], dict[int, dict[str, Any]]]:
        """Copies what `payloads` needs of some objects; returns what makes it, on any thread."""
        rows = rows_of(self.ids, (self.aliases.get(i, i) for i in object_ids))
        columns = [plain_rows(getattr(self, name), rows) for name in _ARRAYS]
        # Embeddings and stays are replaced where they change, never changed.
        varying = [
            (self.states[row], self.embeddings[row], dict(self.votes[row]), list(self.past[row]))
            for row in rows
        ]

        def make() -> dict[int, dict[str, Any]]:
            found = (dict(zip(_ARRAYS, values)) for values in zip(*columns))
            return {i: v | _varying(*more) for i, v, more in zip(object_ids, found, varying)}

        return make

    def restore(self, payloads: Sequence[dict[str, Any]]) -> None:
        """Replaces all objects by those of `payloads`, in any order."""
        self.__init__(self.config)  # type: ignore[misc]
        for payload in sorted(payloads, key=lambda p: int(p["ids"])):
            past = [Stay(np.array(p), s, a, b, last, e, *n) for p, s, a, b, last, e, *n in payload["past"]]
            vector = payload["embedding"]
            embedding = None if vector is None else np.array(vector, np.float32)
            # Files of earlier versions have no votes: their objects had one label each.
            votes = payload.get("votes") or [[payload["labels"], float(payload["counts"])]]
            table = {int(label): float(weight) for label, weight in votes}
            payload = {"looked_at": payload["last_seen"], **payload}  # which earlier versions did not note
            self._add_row(payload, payload["state"], embedding, past, table)


def _varying(
    state: str, embedding: NDArray[np.float32] | None, votes: dict[int, float], past: list[Stay]
) -> dict[str, Any]:
    return {
        "state": state,
        "embedding": None if embedding is None else embedding.tolist(),
        "votes": sorted(votes.items()),
        "past": [
            [s.position.tolist(), s.state, s.valid_from, s.valid_to, s.last_seen, s.existence, s.looks]
            for s in past
        ],
    }


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
    "looked_at",
    "since",
    "counts",
    "looks",
    "sides",
    "missed_from",
    "stray_count",
    "stray_at",
    "stray_since",
    "stray_gap",
    "fresh",
)

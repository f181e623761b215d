"""Edges between places: seen ones, bent ones and walked ones, and the shortest paths over them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Table = dict[int, dict[int, float]]
"""Id -> id -> length [m], in both directions."""


class Links:
    """Edges of the graph of places, by what they rest on.

    Attributes:
        seen: the straight line between the places is free.
        bent: the cells that are nearest to one touch those of the other; the way through them.
        walked: the agent went from one to the other, whatever the map says.
        steps: of walked edges, by (lower id, higher id): when [ns], and the (2, 3) positions [m] of the agent
            before and after it went over, on the side of the lower id first.
        changed: lower ids of the pairs that changed since the last export.
    """

    def __init__(self) -> None:
        self.seen: Table = {}
        self.bent: Table = {}
        self.walked: Table = {}
        self.steps: dict[tuple[int, int], tuple[int, Array]] = {}
        self.changed: set[int] = set()

    def replace(self, table: Table, chosen: Array, outside: bool, pairs: Array, lengths: Array) -> None:
        """Replaces all edges of some places by others.

        Args:
            table: `seen` or `bent`.
            chosen: (M,) bool by id: the places.
            outside: also their edges with other places; else only those among them.
            pairs: (E, 2) int64 ids.
            lengths: (E,) float64 [m].
        """
        found: Table = {}
        for (a, b), length in zip(pairs.tolist(), lengths.tolist()):
            found.setdefault(a, {})[b] = length
            found.setdefault(b, {})[a] = length
        for a in np.flatnonzero(chosen).tolist():
            old = table.get(a, {})
            new = {} if outside else {b: length for b, length in old.items() if not chosen[b]}
            new.update(found.get(a, {}))
            for b in old.keys() | new.keys() if new != old else ():
                if old.get(b) == new.get(b):
                    continue
                self.changed.add(min(a, b))
                if b in new:
                    table.setdefault(b, {})[a] = new[b]
                else:
                    table[b].pop(a, None)
            if new or old:
                table[a] = new

    def walk(self, a: int, b: int, ends: Array, step: Array, stamp: int) -> None:
        """Notes that the agent went from one place to another.

        Args:
            a: where it came from.
            b: where it went.
            ends: (2, 3) [m] their positions.
            step: (2, 3) [m] the agent's positions before and after it went over.
            stamp: [ns].
        """
        legs = np.stack([ends[0] - step[0], step[0] - step[1], step[1] - ends[1]])
        length = float(np.sqrt(legs[:, 0] ** 2 + legs[:, 1] ** 2 + legs[:, 2] ** 2).sum())
        self.walked.setdefault(a, {})[b] = length
        self.walked.setdefault(b, {})[a] = length
        self.steps[min(a, b), max(a, b)] = stamp, np.array(step if a < b else step[::-1])
        self.changed.add(min(a, b))

    def step(self, a: int, b: int) -> list[Array]:
        """Returns the (3,) positions [m] of the agent when it went from one to the other; empty if never."""
        held = self.steps.get((min(a, b), max(a, b)))
        return [] if held is None else list(held[1] if a < b else held[1][::-1])

    def remove(self, gone: Iterable[int]) -> None:
        """Removes places that have no more edges with others."""
        for place in gone:
            for table in (self.seen, self.bent):
                table.pop(place, None)
            self.changed.discard(place)

    def all(self, is_open: Callable[[int, int], bool] = lambda a, b: True) -> list[tuple[int, int, float]]:
        """Returns (a, b, length [m]) with a < b, sorted.

        What was only walked counts where the map has no way at all from one place to the other, and the
        shortest first.

        Args:
            is_open: whether the map leads from two places to where the agent went from one to the other.
        """
        found: dict[tuple[int, int], float] = {}
        part: dict[int, int] = {}

        def root(place: int) -> int:
            while part.get(place, place) != place:
                place = part[place]
            return place

        for table in (self.bent, self.seen):
            for a, others in table.items():
                for b, length in others.items():
                    if a > b:
                        continue
                    found[a, b] = length
                    low, high = sorted((root(a), root(b)))
                    part[a] = part[b] = part[high] = low
        steps = [(length, a, b) for a, others in self.walked.items() for b, length in others.items() if a < b]
        for length, a, b in sorted(steps):
            low, high = sorted((root(a), root(b)))
            if low != high and is_open(a, b):
                found[a, b] = length
                part[a] = part[b] = part[high] = low
        return [(a, b, length) for (a, b), length in sorted(found.items())]

    def path(
        self, start: int, goal: int, is_open: Callable[[int, int], bool] = lambda a, b: True
    ) -> list[int]:
        """Returns the ids on a shortest path, both ends included; empty where there is none.

        Args:
            start: id.
            goal: id.
            is_open: as for `all`.
        """
        near: dict[int, list[tuple[int, float]]] = {}
        for a, b, length in self.all(is_open):
            near.setdefault(a, []).append((b, length))
            near.setdefault(b, []).append((a, length))
        done: dict[int, int] = {}
        heap = [(0.0, start, start)]
        while heap:
            length, place, came = heapq.heappop(heap)
            if place in done:
                continue
            done[place] = came
            if place == goal:
                break
            for other, step in near.get(place, []):
                if other not in done:
                    heapq.heappush(heap, (length + step, other, place))
        if goal not in done:
            return []
        path = [goal]
        while path[-1] != start:
            path.append(done[path[-1]])
        return path[::-1]

    def take_payload(self, place: int) -> Callable[[], dict[str, list[list[Any]]]]:
        """Copies the edges from a place to those of higher id; returns what makes plain values of them."""
        tables = {"links": self.seen, "bent": self.bent, "walked": self.walked}
        held = {name: dict(table[place]) for name, table in tables.items() if table.get(place)}
        walked = [b for b in held.get("walked", ()) if b > place and (place, b) in self.steps]
        steps = {b: self.steps[place, b] for b in walked}  # which are replaced, never changed

        def make() -> dict[str, list[list[Any]]]:
            rows: dict[str, list[list[Any]]] = {
                name: sorted([b, length] for b, length in held.get(name, {}).items() if b > place)
                for name in tables
            }
            rows["steps"] = [
                [b, stamp, *where.ravel().tolist()] for b, (stamp, where) in sorted(steps.items())
            ]
            return rows

        return make

    def restore(self, place: int, payload: dict[str, Any]) -> None:
        """Sets the edges from a place to those of higher id."""
        for name, table in (("links", self.seen), ("bent", self.bent), ("walked", self.walked)):
            for b, length in payload.get(name, []):
                table.setdefault(place, {})[int(b)] = float(length)
                table.setdefault(int(b), {})[place] = float(length)
        for b, stamp, *where in payload.get("steps", []):
            self.steps[place, int(b)] = int(stamp), np.array(where, np.float64).reshape(2, 3)


def least(borders: Array) -> Array:
    """Returns (E, 5) int64: of (T, 5) borders the shortest of each pair, the first of equals."""
    key = (borders[:, 0] << 32) | borders[:, 1]
    order = np.lexsort((borders[:, 4], borders[:, 3], borders[:, 2], key))
    borders, key = borders[order], key[order]
    first = np.ones(len(key), bool)
    first[1:] = key[1:] != key[:-1]
    return np.asarray(borders[first])

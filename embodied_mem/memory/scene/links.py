"""Edges between places: seen ones, bent ones and walked ones, and the shortest paths over them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
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
        changed: lower ids of the pairs that changed since the last export.
    """

    def __init__(self) -> None:
        self.seen: Table = {}
        self.bent: Table = {}
        self.walked: Table = {}
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

    def walk(self, a: int, b: int, length: float) -> None:
        """Notes that the agent went from one place to another."""
        self.walked.setdefault(a, {})[b] = length
        self.walked.setdefault(b, {})[a] = length
        self.changed.add(min(a, b))

    def remove(self, gone: Iterable[int]) -> None:
        """Removes places that have no more edges with others."""
        for place in gone:
            for table in (self.seen, self.bent):
                table.pop(place, None)
            self.changed.discard(place)

    def all(self) -> list[tuple[int, int, float]]:
        """Returns (a, b, length [m]) with a < b, sorted.

        What was only walked counts where the map has no way at all from one place to the other.
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
        for a, others in self.walked.items():
            for b, length in others.items():
                if a < b and root(a) != root(b):
                    found[a, b] = length
        return [(a, b, length) for (a, b), length in sorted(found.items())]

    def path(self, start: int, goal: int) -> list[int]:
        """Returns the ids on a shortest path, both ends included; empty where there is none."""
        near: dict[int, list[tuple[int, float]]] = {}
        for a, b, length in self.all():
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

    def payload(self, place: int) -> dict[str, list[list[Any]]]:
        """Returns the edges from a place to those of higher id, as plain values."""
        tables = {"links": self.seen, "bent": self.bent, "walked": self.walked}
        return {
            name: [[b, length] for b, length in sorted(table.get(place, {}).items()) if b > place]
            for name, table in tables.items()
        }

    def restore(self, place: int, payload: dict[str, Any]) -> None:
        """Sets the edges from a place to those of higher id."""
        for name, table in (("links", self.seen), ("bent", self.bent), ("walked", self.walked)):
            for b, length in payload.get(name, []):
                table.setdefault(place, {})[int(b)] = float(length)
                table.setdefault(int(b), {})[place] = float(length)


def least(borders: Array) -> Array:
    """Returns (E, 5) int64: of (T, 5) borders the shortest of each pair, the first of equals."""
    key = (borders[:, 0] << 32) | borders[:, 1]
    order = np.lexsort((borders[:, 4], borders[:, 3], borders[:, 2], key))
    borders, key = borders[order], key[order]
    first = np.ones(len(key), bool)
    first[1:] = key[1:] != key[:-1]
    return np.asarray(borders[first])

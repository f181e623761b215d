"""The scene graph as rows for the store: what changed since a version, and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

from embodied_mem.errors import StoreError
from embodied_mem.memory.scene.alignment import Alignment
from embodied_mem.memory.scene.coverage import Coverage
from embodied_mem.memory.scene.objects import Objects
from embodied_mem.memory.scene.space import Space
from embodied_mem.memory.scene.trajectory import Trajectory

Row = tuple[str, int, bytes]
Key = tuple[str, int]


class SceneRows:
    """Keeps the version at which each row of a scene graph last changed.

    Objects, the trajectory and the coverage tell what they touch; places, rooms and floors keep a list of it.

    Args:
        objects: the scene graph's.
        space: the scene graph's.
        trajectory: the scene graph's.
        coverage: the scene graph's.
        alignment: the scene graph's.
    """

    def __init__(
        self,
        objects: Objects,
        space: Space,
        trajectory: Trajectory,
        coverage: Coverage,
        alignment: Alignment,
    ) -> None:
        self.objects, self.space = objects, space
        self.places, self.rooms = space.places, space.rooms
        self.trajectory, self.coverage, self.alignment = trajectory, coverage, alignment
        self._touched: dict[Key, int] = {}
        self._removed: dict[Key, int] = {}

    def touch(self, kind: str, ids: Iterable[int], version: int) -> None:
        """Notes that rows changed at a version."""
        for number in ids:
            self._touched.pop((kind, number), None)  # the newest last, for `_newer`
            self._touched[kind, number] = version
            self._removed.pop((kind, number), None)

    def remove(self, kind: str, ids: Iterable[int], version: int) -> None:
        """Notes that rows are no more."""
        for number in ids:
            self._touched.pop((kind, number), None)
            self._removed.pop((kind, number), None)
            self._removed[kind, number] = version

    def digest(self, meta: dict[str, Any]) -> bytes:
        """Returns a sha256 over all rows, sorted."""
        digest = hashlib.sha256()
        for (kind, number), payload in sorted(self._all(meta).items()):
            digest.update(f"{kind} {number} {len(payload)} ".encode())
            digest.update(payload)
        return digest.digest()

    def export(self, meta: dict[str, Any], version: int, since_version: int) -> Callable[[], list[Row]]:
        """Copies what changed after a version; returns what makes the rows of it, on any thread.

        A row is (kind, id, payload), with an empty payload where it is no more; they are sorted.

        Args:
            meta: what the scene graph keeps besides objects, places, rooms, trajectory and coverage.
            version: the version now.
            since_version: the version of an earlier export, or 0.
        """
        self._note_changes(version)
        take_rest = self._take(_newer(self._touched, since_version))
        result: list[Row] = [(*key, b"") for key in _newer(self._removed, since_version)]
        facts = self._facts(meta) if version > since_version else None

        def encode() -> list[Row]:
            held = take_rest()
            if facts is not None:
                held.append(("meta", 0, facts))
            made = [(k, n, p if isinstance(p, bytes) else _encode(p)) for k, n, p in held]
            return sorted(result + made)

        return encode

    def load(self, rows: Iterable[Row]) -> dict[str, Any] | None:
        """Restores everything but `meta`, which it returns; None where there are no rows.

        Raises:
            StoreError: a row that no export has written.
        """
        found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in ("meta", "object", "place", "room")}
        chunks: dict[str, dict[int, bytes]] = {"trajectory": {}, "coverage": {}, "floor": {}, "surface": {}}
        try:
            for kind, number, payload in rows:
                if kind in chunks and payload:
                    chunks[kind][number] = payload
                elif payload:
                    found[kind].append(json.loads(payload))
            self.objects.restore(found["object"])
            meta = found["meta"][0] if found["meta"] else {}
            self.space.restore(meta.get("space", {}), chunks["floor"], found["place"], found["room"])
            self.trajectory.restore(chunks["trajectory"])
            self.coverage.restore(chunks["coverage"])
            self.alignment.restore(chunks["surface"])
            if not found["meta"]:
                return None
            self.objects.next_id = int(meta["next_object"])
            self.places.next_id = int(meta["next_place"])
            self.rooms.next_id = int(meta["next_room"])
            version = int(meta["version"])
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise StoreError(f"the scene graph of this memory is damaged: {error!r}") from None
        self._touched = {key: version for key in self._all(meta) if key[0] != "meta"}
        return meta

    def _meta(self, meta: dict[str, Any]) -> bytes:
        return _encode(self._facts(meta))

    def _facts(self, meta: dict[str, Any]) -> dict[str, Any]:
        counters = {
            "next_object": self.objects.next_id,
            "next_place": self.places.next_id,
            "next_room": self.rooms.next_id,
            "space": self.space.meta(),
        }
        return {**meta, **counters}

    def _note_changes(self, version: int) -> None:
        """Takes over from places, rooms and floors which of their rows have changed."""
        places = (self.places.changed | self.places.links.changed).intersection(self.places.ids.tolist())
        floors = {(f.key(tile), f.payload(tile)) for f in self.space.floors for tile in f.touched}
        self.touch("place", sorted(places), version)
        self.touch("room", sorted(self.rooms.changed), version)
        self.touch("floor", sorted(key for key, payload in floors if payload), version)
        self.remove("floor", sorted(key for key, payload in floors if not payload), version)
        self.touch("surface", sorted(self.alignment.touched), version)
        self.alignment.touched.clear()
        for noted in (self.places.changed, self.places.links.changed, self.rooms.changed):
            noted.clear()
        for floor in self.space.floors:
            floor.touched.clear()

    def _all(self, meta: dict[str, Any]) -> dict[Key, bytes]:
        rows = {("meta", 0): self._meta(meta)}
        rows |= {("place", number): _encode(p) for number, p in self.places.payloads().items()}
        rows |= {("room", number): _encode(p) for number, p in self.rooms.payloads().items()}
        rows |= {("floor", f.key(tile)): f.payload(tile) for f in self.space.floors for tile in f.tiles()}
        rows |= {("object", number): _encode(p) for number, p in self.objects.payloads().items()}
        rows |= {("trajectory", number): chunk for number, chunk in self.trajectory.payloads().items()}
        rows |= {("surface", number): block for number, block in self.alignment.payloads().items()}
        rows |= {("coverage", number): block for number, block in self.coverage.payloads().items()}
        return rows

    def _take(self, keys: list[Key]) -> Callable[[], list[tuple[str, int, bytes | dict[str, Any]]]]:
        """Copies rows, one kind after the other; returns what makes plain values or bytes of them."""
        wanted: dict[str, list[int]] = {}
        for kind, number in keys:
            wanted.setdefault(kind, []).append(number)
        single: dict[str, Callable[[int], bytes | dict[str, Any]]] = {
            "trajectory": self.trajectory.payload,
            "coverage": self.coverage.payload,
            "surface": self.alignment.payload,
            "floor": self.space.floors.payload,
            "room": self.rooms.payload,
        }
        many = {"object": self.objects.take_payloads, "place": self.places.take_payloads}
        later = [(kind, many[kind](numbers)) for kind, numbers in wanted.items() if kind in many]
        ready = [
            (kind, n, single[kind](n)) for kind, numbers in wanted.items() if kind in single for n in numbers
        ]

        def make() -> list[tuple[str, int, bytes | dict[str, Any]]]:
            made = [(kind, n, payload) for kind, maker in later for n, payload in maker().items()]
            return [*ready, *made]

        return make


def _newer(changed: dict[Key, int], since_version: int) -> list[Key]:
    """Returns the keys that changed after a version; those that changed last stand last in the table."""
    found = []
    for key, at in reversed(changed.items()):
        if at <= since_version:
            break
        found.append(key)
    return found


def _encode(payload: dict[str, Any]) -> bytes:
    return json.dumps(payload, sort_keys=True, separators=(",", ":")).encode()

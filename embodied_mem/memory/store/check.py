"""Looks at every row of a memory file: checksums, formats and references; repairs what can be rebuilt."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embodied_mem.errors import StoreError
from embodied_mem.memory.config import MemoryConfig
from embodied_mem.memory.contents import LOADED, Contents
from embodied_mem.memory.episodes.chunks import (
    ALIVE,
    DETAILS,
    HEADS,
    OBJECTS,
    PARTS,
    VECTORS,
    living,
    unpack_heads,
)
from embodied_mem.memory.store.store import TABLES, Row, Store

Found = dict[str, list[Row]]

REBUILT = {
    "octree": "blocks of the map: they come back when the robot sees them again",
    "snapshots": "images of entries",
    "submaps": "submaps: scans that a correction of the past would use",
    "encounters": "times at which objects were in view",
    "episodes": "entries",
    "entry_heads": "chunks of up to 1024 entries",
    "entry_vectors": "embeddings of up to 1024 entries",
    "entry_objects": "lists of what was seen in up to 1024 entries",
    "entry_details": "words and actions of up to 1024 entries",
    "entry_alive": "notes of which entries were evicted",
}
"""What a memory can go on without, and what that is."""


@dataclass
class Report:
    """What was found.

    Attributes:
        rows: how many rows were looked at, by table.
        problems: one line each; empty where the file is clean.
        repaired: what was done about them, one line each.
    """

    rows: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found, or all of it has been repaired."""
        return not self.problems or bool(self.repaired)


def check_file(path: str | Path, *, repair: bool = False) -> Report:
    """Checks a memory file.

    Args:
        path: an `.emem` file; nobody may be writing it where it is to be repaired.
        repair: remove the rows that are damaged or refer to nothing, where the memory can go on
            without them. Nothing is removed where the file as a whole cannot be read.

    Raises:
        StoreError: it is not a memory file, or cannot be read at all.
    """
    report, tables, broken = _look(Store(Path(path), read_only=True))
    if repair and any(broken.values()) and not any(broken[n] for n in broken if n not in REBUILT):
        store = Store(Path(path))
        try:
            _repair(store, tables, broken, report)
        finally:
            store.close()
    return report


def _look(store: Store) -> tuple[Report, Found, Found]:
    """Reads all of a store and closes it; returns what was found, the whole rows, the broken keys."""
    report = Report()
    try:
        report.problems += store.integrity()
        tables: Found = {}
        broken: Found = {}
        for name in TABLES:
            tables[name], broken[name] = store.scan(name)
            report.rows[name] = len(tables[name]) + len(broken[name])
            report.problems += [f"{name} {list(key)}: the checksum is wrong" for key in broken[name]]
        _look_inside(tables, broken, report)
    finally:
        store.close()
    return report, tables, broken


def _look_inside(tables: Found, broken: Found, report: Report) -> None:
    """Reads the parts back and follows the references between them."""
    entries = _entries(tables, broken)
    for name in (VECTORS, OBJECTS, DETAILS, ALIVE):
        whole = {row[0] for row in tables[HEADS]}
        for number in (row[0] for row in tables[name] if row[0] not in whole):
            broken[name].append((number,))
            report.problems.append(f"{name} {[number]}: there is no such chunk")
    for name in ("snapshots", "submaps"):
        for number in (row[0] for row in tables[name]):
            if number not in entries:
                broken[name].append((number,))
                report.problems.append(f"{name} {[number]}: there is no such entry")
    if any(broken[name] for name in LOADED):
        return
    contents = Contents(MemoryConfig())
    parts = {name: {row[0]: row[1] for row in tables[name]} for name in PARTS}

    def fetch(name: str, keys: list[int]) -> list[tuple[int, bytes]]:
        return [(key, parts[name][key]) for key in keys if key in parts[name]]

    try:
        contents.restore({name: tables[name] for name in LOADED}, fetch)
        contents.episodes.vectors.need()
        contents.episodes.details.read_texts()
        strangers = contents.episodes.strangers(contents.scene.object_table.next_id)
    except StoreError as error:
        report.problems.append(f"the parts do not fit together: {error}")
        return
    report.problems += [f"entry {i}: there never was an object {thing}" for i, thing in strangers]


def _entries(tables: Found, broken: Found) -> set[int]:
    """Returns the ids of all entries; chunks that cannot be read are broken."""
    entries = {row[0] for row in tables["episodes"]}
    alive = {row[0]: row[1] for row in tables[ALIVE]}
    for chunk, payload in tables[HEADS]:
        try:
            entries.update(living(chunk, unpack_heads(chunk, payload), alive.get(chunk)).heads["id"].tolist())
        except StoreError:
            broken[HEADS].append((chunk,))
    tables[HEADS] = [row for row in tables[HEADS] if (row[0],) not in broken[HEADS]]
    return entries


def _repair(store: Store, tables: Found, broken: Found, report: Report) -> None:
    changes: dict[str, Any] = {name: [(*key, b"") for key in keys] for name, keys in broken.items() if keys}
    state = json.loads({row[0]: row[1] for row in tables["meta"]}["state"])
    state["encounters"], state["episodes"] = len(tables["encounters"]), len(_entries(tables, broken))
    changes["meta"] = [("state", json.dumps(state).encode())]
    store.put(changes)
    for name, keys in broken.items():
        if keys:
            report.repaired.append(f"removed {len(keys)} damaged {REBUILT[name]}")

"""What a memory itself has to say: map, rooms and objects, timeline, changes, questions and answers."""

from __future__ import annotations

import json
import tempfile
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.memory import Memory
from embodied_mem.memory.episodes.snapshots import encode_jpeg
from embodied_mem.types import NS_PER_S
from embodied_mem.viz.map_view import draw_map
from embodied_mem.viz.report.page import Section, facts, picture, table

MOST_MOMENTS = 24
"""Entries shown on the timeline."""
MOST_QUESTIONS, MOST_ROOMS = 12, 6
MOST_CHANGES = 200
THUMBNAIL = 320
"""Longer edge of a snapshot on the page [pixel]."""


def memory_sections(memory: Memory) -> list[Section]:
    """Returns the sections about a memory, in the order of the page."""
    return [
        _overview(memory),
        _map(memory),
        _contents(memory),
        _timeline(memory),
        _changes(memory),
        _questions(memory),
    ]


def _overview(memory: Memory) -> Section:
    info = memory.info()
    names = ("objects", "rooms", "places", "episodes", "voxels", "occupied_voxels")
    rows: list[tuple[str, object]] = [(name.replace("_", " "), info[name]) for name in names]
    rows += [
        ("duration", f"{info['seconds']:.1f} s"),
        ("writes", f"{info['writes']} accepted, {info['rejected']} rejected"),
        ("on disk", f"{info['bytes_on_disk'] / 1e6:.2f} MB"),
        ("digest", info["digest"]),
    ]
    return Section("Overview", facts(rows))


def _map(memory: Memory) -> Section:
    with tempfile.TemporaryDirectory() as folder:
        data = draw_map(memory, Path(folder) / "map.png").read_bytes()
    things = len(memory.scene.objects())
    described = f"Map from above: {len(memory.scene.rooms())} rooms, {things} objects and the agent's path"
    return Section("Map", picture(data, "png", described))


def _contents(memory: Memory) -> Section:
    contents = json.loads(memory.scene.to_json())
    groups = [(room["name"], f"{room['area']:g} m²", room["objects"]) for room in contents["rooms"]]
    if contents["objects"]:
        groups.append(("in no room", "", contents["objects"]))
    parts = []
    for name, area, things in groups:
        rows = "".join(f"<li>{escape(_thing(thing))}</li>" for thing in things)
        count = f"{len(things)} object{'' if len(things) == 1 else 's'}"
        about = ", ".join(filter(None, (area, count)))
        head = f"<summary>{escape(name)} ({escape(about)})</summary>"
        parts.append(f"<details open>{head}<ul>{rows}</ul></details>")
    return Section("Rooms and objects", "\n".join(parts) or "<p>No room and no object is known yet.</p>")


def _thing(thing: dict[str, Any]) -> str:
    x, y, z = thing["position"]
    state = f", {thing['state']}" if thing.get("state") else ""
    return f"{thing['label']} #{thing['id']}{state} at ({x:.1f}, {y:.1f}, {z:.1f}) m"


def _timeline(memory: Memory) -> Section:
    ids = memory.episodes.ids
    spread = np.linspace(0, len(ids) - 1, min(MOST_MOMENTS, len(ids)))
    items = [_moment(memory, int(ids[i])) for i in np.unique(spread.astype(int))]
    told = f'<p class="quiet">{len(items)} of {len(ids)} entries, evenly spread.</p>'
    return Section("Timeline", f'{told}<ol class="timeline">{"".join(items)}</ol>')


def _moment(memory: Memory, entry_id: int) -> str:
    """Returns one entry as an item of the timeline."""
    entry = memory.episodes.entry(entry_id)
    if entry is None:
        return ""
    x, y = entry.pose.position[:2]
    room = f", room {entry.room_id}" if entry.room_id >= 0 else ""
    seconds = _seconds(memory, entry.stamp)
    things = [memory.scene.object(i) for i in entry.object_ids]
    names = ", ".join(sorted({thing.name for thing in things if thing is not None}))
    lines = [f"<time>{seconds:.1f} s</time> at ({x:.1f}, {y:.1f}) m{room}"]
    lines += [escape(line) for line in (entry.event, entry.text) if line]
    lines += [f'<span class="quiet">sees {escape(names)}</span>'] if names else []
    image, shown = memory.snapshot(entry_id), ""
    if image is not None:
        shown = picture(encode_jpeg(image, 75, THUMBNAIL), "jpeg", f"Snapshot at {seconds:.1f} s")
    return f"<li>{shown}{'<br>'.join(lines)}</li>"


def _seconds(memory: Memory, stamp: int) -> float:
    return (stamp - memory.episodes.first_stamp) / NS_PER_S


def _changes(memory: Memory) -> Section:
    rows = []
    for entry_id in memory.episodes.ids.tolist():
        entry = memory.episodes.entry(entry_id)
        if entry is not None:
            seconds = round(_seconds(memory, entry.stamp), 1)
            rows += [(seconds, words, f"entry #{entry_id}") for _, words in entry.changes]
    if not rows:
        return Section("Changes", "<p>Nothing changed.</p>")
    heads = ("time [s]", "change", "evidence")
    caption = f"What appeared, moved or vanished: the newest {min(MOST_CHANGES, len(rows))} of {len(rows)}"
    return Section("Changes", table(caption, heads, rows[-MOST_CHANGES:]))


def _questions(memory: Memory) -> Section:
    names = list(dict.fromkeys(thing.name for thing in memory.scene.objects()))[:MOST_QUESTIONS]
    questions = [f"Where did I last see the {name}?" for name in names]
    questions += [f"What is in the {room.name}?" for room in memory.scene.rooms()[:MOST_ROOMS]]
    rows = []
    for question in questions:
        answer = memory.ask(question)
        evidence = dict.fromkeys(i for found in answer.answers for i in found.evidence)
        rows.append(
            (question, answer.sentence, ", ".join(f"#{i}" for i in list(evidence)[:4]) or "none left")
        )
    if not rows:
        return Section("Questions and answers", "<p>There is no object and no room to ask about.</p>")
    heads = ("question", "answer", "evidence")
    return Section("Questions and answers", table("Asked of the memory when this page was made", heads, rows))

"""Recall: one query over place, time, label, text and embedding, answered with provenance.

First exact filters, then a score in [0, 1] from whatever can be ranked (text, embedding,
nearness), else from recency. Equal scores: the newest first, then by kind and id, so that
the same memory gives the same answers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from embodied_mem.memory.contents import Contents
from embodied_mem.memory.episodes.entries import Episode
from embodied_mem.memory.recall.episodes import recall_episodes
from embodied_mem.memory.recall.rooms import rooms_of
from embodied_mem.memory.recall.sentences import SentenceIndex
from embodied_mem.memory.recall.surfaces import Seen, Surface, seen_surfaces
from embodied_mem.memory.recall.terms import KINDS, Candidate, Terms
from embodied_mem.memory.scene.graph import SceneObject
from embodied_mem.types import NS_PER_S, Query, Recall

EVIDENCE = 64
"""At most so many entries are named as evidence, the newest."""
LOOKED_AT = 8
"""So many of them are looked at for a snapshot."""


def recall(
    query: Query,
    contents: Contents,
    has_snapshot: Callable[[int], bool],
    sentences: SentenceIndex | None = None,
) -> list[Recall]:
    """Answers a query, best first.

    Args:
        query: every field that is given must hold.
        contents: the memory.
        has_snapshot: tells by its id whether an entry has an image.
        sentences: finds words by their meaning; None where there is no model.

    Raises:
        InputError: the query makes no sense, or names a room or a place that there is not.
    """
    terms = Terms(query, contents, sentences)
    sources = {"place": _places, "room": _rooms, "episode": recall_episodes}
    candidates = [c for kind in terms.kinds if kind in sources for c in sources[kind](terms, contents)]
    if "object" in terms.kinds or "surface" in terms.kinds:
        candidates += _things(terms, contents)
    for candidate in candidates:
        candidate.score = terms.score(candidate)
    candidates = _sorted(candidates, contents)
    answers = (_answer(candidate, terms, contents, has_snapshot) for candidate in candidates)
    kept = []
    for answer in answers:
        if answer.trust >= query.min_trust:
            kept.append(answer)
        if len(kept) == query.k:
            break
    if not kept:
        terms.check_where(contents)
    return kept


def _sorted(candidates: list[Candidate], contents: Contents) -> list[Candidate]:
    """Returns the candidates, best first; what is flagged goes last."""
    if contents.config.recall.utility and all(c.kind == "episode" for c in candidates):
        return candidates  # in the order of relevance and utility
    return sorted(candidates, key=lambda c: (c.is_flagged, -c.score, -c.stamp, KINDS.index(c.kind), c.id))


def _trust(candidate: Candidate, newest: Episode | None) -> float:
    if candidate.trust is not None:
        return candidate.trust
    return 1.0 if newest is None else newest.trust


def _things(terms: Terms, contents: Contents) -> list[Candidate]:
    """Returns objects, and what is known by its surface alone."""
    things = contents.scene.objects(as_of=terms.until, labels=contents.labels)
    seen = Seen((), {})
    labels = terms.label_ids
    if labels is None and terms.kinds == ("surface",):
        structure = contents.config.recall.structure
        labels = frozenset(i for i, name in enumerate(contents.labels.names) if name not in structure)
    if labels:
        seen = seen_surfaces(contents, labels, things, terms.since, terms.until)
    found = [_object(thing, terms, contents, seen.stamps.get(thing.id)) for thing in things]
    return [
        *(c for c in found if c is not None and "object" in terms.kinds),
        *(
            c
            for surface in (seen.surfaces if "surface" in terms.kinds else ())
            if (c := _surface(surface, terms, contents)) is not None
        ),
    ]


def _surface(surface: Surface, terms: Terms, contents: Contents) -> Candidate | None:
    scene, name = contents.scene, contents.labels.name(surface.label)
    place_id, room_id = scene.place_at(surface.position), scene.room_at(surface.position)
    if surface.existence < terms.query.min_existence or not terms.place_fits(place_id, room_id):
        return None
    candidate = Candidate(
        kind="surface",
        id=surface.id,
        label=name,
        text=f"{name}, known by its surface",
        stamp=surface.stamp,
        position=surface.position,
        place_id=place_id,
        room_id=room_id,
        matches=[],
        why=_reasons(terms.query),
        existence=surface.existence,
    )
    return candidate if terms.judge(candidate, name) else None


def _row_at(stamp: int, contents: Contents) -> int:
    """Returns the row of the entry that was the newest at a time; -1 before the first."""
    return int(np.searchsorted(contents.episodes.stamps, stamp, side="right")) - 1


def _reasons(query: Query) -> list[str]:
    why = [f'its label holds "{query.label}"'] if query.label is not None else []
    why += [f"it is in room {query.room}"] if query.room is not None else []
    return why + ([f"it is at place {query.place}"] if query.place is not None else [])


def _object(thing: SceneObject, terms: Terms, contents: Contents, surface: int | None) -> Candidate | None:
    """Judges an object; `surface` is when its surface was last seen, detected or not, or None."""
    query = terms.query
    if terms.label_ids is not None and thing.label not in terms.label_ids:
        return None
    if thing.existence < query.min_existence or not terms.place_fits(thing.place_id, thing.room_id):
        return None
    stamp, why = thing.last_seen, _reasons(query)
    if terms.is_timed:
        span = contents.episodes.encounters.last_between(thing.id, terms.since, terms.until)
        if span is None and surface is None:
            return None
        stamp = -1 if span is None else span[0]
        why.append("it was in view then")
    if surface is not None and surface > stamp:
        stamp = surface
        why.append("its surface was seen later than it was detected")
    gone = "; believed gone" if thing.existence < 0.5 else ""
    candidate = Candidate(
        kind="object",
        id=thing.id,
        label=thing.name,
        text=thing.name + (f", {thing.state}" if thing.state else "") + gone,
        stamp=stamp,
        position=thing.position,
        place_id=thing.place_id,
        room_id=thing.room_id,
        matches=[],
        why=why,
        existence=thing.existence,
    )
    return candidate if terms.judge(candidate, f"{thing.name} {thing.state}", thing.embedding) else None


def _places(terms: Terms, contents: Contents) -> list[Candidate]:
    if terms.label_ids is not None:
        return []
    found = []
    for place in contents.scene.places():
        stamp = _last_stay(terms, contents, "place", place.id, place.last_visit)
        if stamp is None or not terms.place_fits(place.id, place.room_id):
            continue
        times = "once" if place.visits == 1 else f"{place.visits} times"
        text = f"place {place.id}, " + (f"visited {times}" if place.visits else "never visited")
        candidate = Candidate(
            "place", place.id, "", text, stamp, place.position, place.id, place.room_id, [], _where(terms)
        )
        if terms.judge(candidate, text):
            found.append(candidate)
    return found


def _rooms(terms: Terms, contents: Contents) -> list[Candidate]:
    if terms.label_ids is not None:
        return []
    visits = {place.id: place.last_visit for place in contents.scene.places()}
    inside: dict[int, list[str]] = {}
    for thing in contents.scene.objects(as_of=terms.until, labels=contents.labels):
        if thing.existence >= 0.5:
            inside.setdefault(thing.room_id, []).append(thing.name)
    found = []
    for room in contents.scene.rooms():
        last = max((visits.get(i, -1) for i in room.place_ids), default=-1)
        stamp = _last_stay(terms, contents, "room", room.id, last)
        asked = terms.query.place is None or terms.query.place in room.place_ids
        if stamp is None or not asked or terms.room_id not in (None, room.id):
            continue
        things = ", ".join(inside.get(room.id, []))
        text = f"{room.name}, {room.area:.1f} m2" + (f", with {things}" if things else "")
        candidate = Candidate("room", room.id, "", text, stamp, room.position, -1, room.id, [], _where(terms))
        if terms.judge(candidate, text):
            found.append(candidate)
    return found


def _where(terms: Terms) -> list[str]:
    return ["the agent was there then"] if terms.is_timed else []


def _last_stay(terms: Terms, contents: Contents, kind: str, number: int, last_visit: int) -> int | None:
    """Returns when the agent was last at a place or in a room, within the time asked for."""
    if not terms.is_timed or (last_visit >= 0 and terms.covers(last_visit)):
        return last_visit if last_visit >= 0 else (None if terms.is_timed else contents.episodes.first_stamp)
    stamps = contents.episodes.stamps[_stays(contents, kind, number)]
    stamps = stamps[[terms.covers(stamp) for stamp in stamps.tolist()]] if len(stamps) else stamps
    return int(stamps[-1]) if len(stamps) else None


def _stays(contents: Contents, kind: str, number: int) -> np.ndarray:
    """Returns the rows of the entries made at a place or in a room, oldest first."""
    rows = np.arange(len(contents.episodes))
    where = contents.episodes.place_ids if kind == "place" else rooms_of(contents, rows)
    return np.flatnonzero(where == number)


def _evidence(candidate: Candidate, terms: Terms, contents: Contents) -> tuple[int, ...]:
    episodes = contents.episodes
    if candidate.kind == "episode":
        return (candidate.id, *episodes.summaries().get(candidate.id, ())[::-1])[:EVIDENCE]
    if candidate.kind == "object":
        since = terms.since
        if since is not None:
            # An encounter that began earlier may have its only entry at its beginning.
            span = episodes.encounters.last_between(candidate.id, since, terms.until)
            if span is not None and not episodes.seen_in(candidate.id, since, terms.until):
                since = min(since, span[1])
        return episodes.seen_in(candidate.id, since, terms.until)[:EVIDENCE]
    if candidate.kind == "surface":  # the entry that was the newest when it was seen
        row = _row_at(candidate.stamp, contents)
        return (int(episodes.ids[row]),) if row >= 0 else ()
    rows = _stays(contents, candidate.kind, candidate.id)
    ids = [int(episodes.ids[row]) for row in rows[::-1] if terms.covers(int(episodes.stamps[row]))]
    return tuple(ids[:EVIDENCE])


def _answer(
    candidate: Candidate, terms: Terms, contents: Contents, has_snapshot: Callable[[int], bool]
) -> Recall:
    evidence = _evidence(candidate, terms, contents)
    newest = contents.episodes.entry(evidence[0]) if evidence and candidate.source is None else None
    source = "" if newest is None else newest.source
    step = -1 if newest is None else newest.step
    return Recall(
        kind=candidate.kind,
        id=candidate.id,
        label=candidate.label,
        text=candidate.text,
        stamp=candidate.stamp,
        step=candidate.step if candidate.source is not None else contents.episodes.step_of(candidate.stamp),
        position=candidate.position,
        place_id=candidate.place_id,
        room_id=candidate.room_id,
        score=candidate.score,
        why="; ".join(candidate.why) or "the newest first",
        age=max(terms.now - candidate.stamp, 0) / NS_PER_S,
        source=candidate.source if candidate.source is not None else source,
        trust=_trust(candidate, newest),
        existence=candidate.existence,
        evidence=evidence,
        log_offset=step if candidate.source is None else candidate.step,
        snapshot=next((i for i in evidence[:LOOKED_AT] if has_snapshot(i)), -1),
    )

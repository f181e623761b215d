"""Every combination of filters answers as a plain loop over all entries and objects would."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embodied_mem.memory import Memory
from embodied_mem.memory.recall.words import content_words, words_of
from embodied_mem.types import Query
from embodied_mem.verbs.bench_memory.workload import STEP_NS, Rooms, grid_config, keyframes

FRAMES = 140


@pytest.fixture(scope="module")
def memory() -> Memory:
    memory = Memory(grid_config())
    for number, percept in enumerate(keyframes(FRAMES, Rooms(3), size=16)):
        memory.write(percept)
        if number % 20 == 7:
            memory.note(f"the {('red', 'blue')[number % 40 == 7]} mug was full")
    memory.consolidate()
    episodes = memory.episodes
    episodes._heads["trust"][: len(episodes)] = np.random.default_rng(0).choice(
        [0.2, 0.6, 1.0], len(episodes)
    )
    return memory


def maybe(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.one_of(st.none(), st.none(), st.none(), strategy)  # or nothing would be left


points = st.tuples(st.floats(0, 18), st.floats(0, 6), st.just(0.0))
moments = st.integers(0, FRAMES + 2).map(lambda n: n * STEP_NS)


@st.composite
def queries(draw) -> Query:
    near = draw(maybe(points))
    since, until = sorted(draw(st.tuples(moments, moments)))
    return Query(
        near=near,
        radius=None if near is None else draw(st.floats(0.5, 12)),
        room=draw(maybe(st.integers(0, 2))),
        place=draw(maybe(st.integers(0, 9))),
        since=draw(maybe(st.just(since))),
        until=draw(maybe(st.just(until))),
        as_of=draw(maybe(moments)),
        label=draw(maybe(st.sampled_from(["cup", "lamp", "door", "unicorn"]))),
        text=draw(maybe(st.sampled_from(["red mug", "blue mug full", "cup", "summary", "nothing"]))),
        like=draw(maybe(st.integers(0, 50).map(lambda n: np.random.default_rng(n).normal(size=16)))),
        min_trust=draw(st.sampled_from([0.0, 0.5, 0.9])),
        min_existence=draw(st.sampled_from([0.0, 0.5])),
        k=1000,
    )


def brute_entries(memory: Memory, q: Query) -> set[int]:
    """Ids of the entries that pass all filters, one entry at a time."""
    scene, found = memory.scene, set()
    until = min((t for t in (q.until, q.as_of) if t is not None), default=None)
    is_timed = q.since is not None or until is not None
    labels = None if q.label is None else set(memory.labels.matching(q.label))
    for entry in memory.episodes:
        names = [memory.object_name(i) for i in entry.object_ids]
        said = [entry.event, entry.text, *(words for _, words in entry.changes), *names]
        places = {place.id: place.room_id for place in scene.places()}
        room = places.get(entry.place_id, -1)
        room = room if room >= 0 else entry.room_id
        is_summary = bool(entry.evidence)
        tests = [
            q.since is None or entry.stamp >= q.since,
            until is None or entry.stamp <= until,
            q.place is None or entry.place_id == q.place,
            q.room is None or room == q.room,
            q.near is None or np.linalg.norm(entry.pose.position - np.array(q.near)) <= q.radius,
            labels is None
            or (not is_summary and any(memory.scene.object(i).label in labels for i in entry.object_ids)),
            q.like is None or entry.embedding is not None,
            entry.trust >= q.min_trust,
            not is_summary or (not is_timed and (q.text is not None or q.like is not None)),
        ]
        if q.text is not None:
            wanted = content_words(q.text)
            if is_summary:
                said = said[: len(said) - len(names)]
            held = set(words_of(" ".join(said)))
            tests.append(sum(word in held for word in wanted) > 0.5 * len(wanted))
        if all(tests):
            found.add(entry.id)
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(query=queries())
def test_entries_pass_all_filters_that_are_given_and_no_others(memory: Memory, query: Query):
    asked = Query(**{**vars(query), "kind": "episode"})
    answers = memory.recall(asked)
    ids = [answer.id for answer in answers]
    assert len(set(ids)) == len(ids)
    flagged = {answer.id for answer in answers if "contradicts" in answer.why}
    expected = brute_entries(memory, query)
    # What contradicts others is trusted less, and may fall below the least trust asked for.
    assert set(ids) <= expected and (expected == set(ids) or query.min_trust > 0 or flagged <= set(ids))
    if query.like is None:
        assert expected == set(ids)
    scores = [answer.score for answer in answers if answer.id not in flagged]
    assert scores == sorted(scores, reverse=True)
    for answer in answers:
        assert answer.why and answer.source in ("grid", "note", "consolidation") and answer.age >= 0
        assert answer.evidence[0] == answer.id and 0 <= answer.score <= 1


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(query=queries())
def test_objects_pass_all_filters_that_are_given_and_no_others(memory: Memory, query: Query):
    until = min((t for t in (query.until, query.as_of) if t is not None), default=None)
    labels = None if query.label is None else set(memory.labels.matching(query.label))
    expected = set()
    for thing in memory.scene.objects(as_of=until, labels=memory.labels):
        seen = memory.episodes.encounters.last_between(thing.id, query.since, until)
        wanted = content_words(query.text or "")
        held = words_of(f"{thing.name} {thing.state}")
        tests = [
            labels is None or thing.label in labels,
            thing.existence >= query.min_existence,
            query.place is None or thing.place_id == query.place,
            query.room is None or thing.room_id == query.room,
            (query.since is None and until is None) or seen is not None,
            query.near is None or np.linalg.norm(thing.position - np.array(query.near)) <= query.radius,
            query.text is None or sum(word in held for word in wanted) > 0.5 * len(wanted),
            query.like is None,  # the objects of this world have no embedding
        ]
        if all(tests):
            expected.add(thing.id)
    asked = Query(**{**vars(query), "kind": "object", "min_trust": 0.0})
    assert {answer.id for answer in memory.recall(asked)} == expected

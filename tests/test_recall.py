from __future__ import annotations

import grid_walk
import numpy as np
import pytest

from embodied_mem.errors import InputError
from embodied_mem.memory import EpisodeConfig, Memory
from embodied_mem.types import Query

S = grid_walk.STEP_NS
LAP = len(grid_walk.CELLS)


def stamp(step: int) -> int:
    return (step + 1) * S


@pytest.fixture(scope="module")
def memory() -> Memory:
    """A lap through both rooms; in the second half of it the red ball is gone."""
    memory = Memory(grid_walk.config(episodes=EpisodeConfig(gap=0.1)))  # one step: times are exact
    for step in range(LAP):
        fields = {"text": "it smells of coffee"} if step == 12 else {}
        if step >= 20:
            fields["missing"] = ("red ball",)
        percept = grid_walk.percept(step, **fields)
        memory.write(percept)
    return memory


def seen_at(name: str) -> list[int]:
    """Steps at which the hand-made world shows a thing."""
    label = grid_walk.LABELS.id(name)
    return [
        step
        for step in range(LAP)
        if any(d.label == label for d in grid_walk.percept(step).detections)
        and not (name == "red ball" and step >= 20)
    ]


def names(answers) -> list[str]:
    return [a.label for a in answers]


def test_where_did_i_last_see_the_green_key(memory: Memory):
    (answer,) = memory.recall(Query(kind="object", label="key", k=1))
    assert answer.label == "green key"
    assert np.allclose(answer.position, grid_walk.center(2, 2), atol=1e-6)
    assert answer.step == seen_at("green key")[-1]
    assert answer.stamp == stamp(answer.step)
    assert answer.age == pytest.approx((memory.stamp - answer.stamp) / 1e9)
    assert answer.source == "grid" and answer.trust == 1.0
    assert '"key"' in answer.why


def test_evidence_names_the_entries_in_which_it_was_seen_newest_first(memory: Memory):
    (answer,) = memory.recall(Query(kind="object", label="blue box"))
    assert answer.evidence and list(answer.evidence) == sorted(answer.evidence, reverse=True)
    for entry_id in answer.evidence:
        entry = memory.episodes.entry(entry_id)
        assert entry is not None and answer.id in entry.object_ids
    last = memory.episodes.entry(answer.evidence[0])
    assert last is not None and last.stamp <= answer.stamp


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("key", {"green key"}),
        ("green key", {"green key"}),
        ("Green", {"green key"}),
        ("red key", set()),
        ("unicorn", set()),
        ("", set()),
    ],
)
def test_labels_match_by_words(memory: Memory, words: str, expected: set[str]):
    assert set(names(memory.recall(Query(kind="object", label=words, k=10)))) == expected


def test_what_is_in_this_room(memory: Memory):
    rooms = [memory.scene.room_at(grid_walk.center(*cell)) for cell in ((2, 4), (12, 4))]
    assert rooms[0] != rooms[1] and min(rooms) >= 0
    left, right = (set(names(memory.recall(Query(kind="object", room=r, k=10)))) for r in rooms)
    assert "green key" in left and "blue box" not in left
    assert "blue box" in right and "green key" not in right


@pytest.mark.parametrize(("first", "last"), [(0, 5), (8, 15), (20, 24), (0, 0), (LAP - 1, LAP - 1)])
def test_what_did_i_see_between_two_steps(memory: Memory, first: int, last: int):
    query = Query(
        kind="object",
        since=memory.episodes.stamp_of_step(first),
        until=memory.episodes.stamp_of_step(last),
        k=10,
    )
    answers = memory.recall(query)
    expected = {
        name for name in grid_walk.THINGS.values() if set(seen_at(name)) & set(range(first, last + 1))
    }
    assert set(names(answers)) == expected
    for answer in answers:
        assert answer.step == max(s for s in seen_at(answer.label) if s <= last)
        assert answer.evidence
        entries = [memory.episodes.entry(i) for i in answer.evidence]
        assert all(entry is not None and answer.id in entry.object_ids for entry in entries)


def test_objects_are_answered_as_they_stood_at_a_time(memory: Memory):
    def ball(**terms):
        return memory.recall(Query(kind="object", label="ball", **terms))

    steps = seen_at("red ball")
    assert ball(as_of=stamp(steps[0] - 1)) == []
    (then,) = ball(as_of=stamp(steps[-1]))
    assert then.existence > 0.5 and then.step == steps[-1]
    (now,) = ball()
    assert now.existence < 0.5 and "gone" in now.text and now.stamp == stamp(steps[-1])
    assert ball(min_existence=0.5) == []
    assert all(
        e is not None and e.stamp <= stamp(steps[0]) for e in evidence(memory, ball(as_of=stamp(steps[0])))
    )


def evidence(memory: Memory, answers) -> list:
    return [memory.episodes.entry(i) for answer in answers for i in answer.evidence]


def test_the_last_sight_before_a_time_is_the_one_that_is_told(memory: Memory):
    first, *_, last = seen_at("green key")
    (early,) = memory.recall(Query(kind="object", label="key", as_of=stamp(first)))
    assert (early.step, last) == (first, seen_at("green key")[-1]) and first < last


def test_near_keeps_what_lies_within_the_radius_and_puts_the_nearest_first(memory: Memory):
    at = tuple(grid_walk.center(3, 3).tolist())
    answers = memory.recall(Query(kind="object", near=at, radius=100.0, k=10))
    distances = [float(np.linalg.norm(a.position - np.array(at))) for a in answers]
    assert distances == sorted(distances) and len(answers) == 4
    close = memory.recall(Query(kind="object", near=at, radius=2.0, k=10))
    assert names(close) == ["green key"]


@pytest.mark.parametrize("kind", ["object", "place", "room", "episode"])
def test_each_kind_can_be_asked_for_alone(memory: Memory, kind: str):
    answers = memory.recall(Query(kind=kind, k=4))
    assert answers and {a.kind for a in answers} == {kind}
    stamps = [a.stamp for a in answers]
    assert stamps == sorted(stamps, reverse=True)
    for answer in answers:
        assert answer.text and answer.why and np.isfinite(answer.position).all()
        assert 0.0 <= answer.score <= 1.0


def test_all_kinds_are_searched_where_none_is_named(memory: Memory):
    answers = memory.recall(Query(near=(3.5, -3.5, 0.0), radius=50.0, k=40))
    assert {a.kind for a in answers} == {"object", "place", "room", "episode"}
    assert [a.score for a in answers] == sorted((a.score for a in answers), reverse=True)


def test_a_label_alone_asks_for_objects(memory: Memory):
    answers = memory.recall(Query(label="green", k=20))
    assert [(a.kind, a.label) for a in answers] == [("object", "green key")]


def test_k_limits_the_answers(memory: Memory):
    assert [len(memory.recall(Query(k=k))) for k in (1, 3, 7)] == [1, 3, 7]


def test_text_finds_labels_events_and_notes(memory: Memory):
    (thing, *_) = memory.recall(Query(text="where did I last see the green key?"))
    assert (thing.kind, thing.label) == ("object", "green key")
    (noted,) = memory.recall(Query(kind="episode", text="coffee"))
    assert noted.step == 12 and "smells of coffee" in noted.text
    (start,) = memory.recall(Query(kind="episode", text="episode_start"))
    assert start.step == 0
    gone = memory.recall(Query(kind="episode", text="ball gone"))
    assert gone and gone[0].step >= 20
    assert memory.recall(Query(text="unicorn")) == []


def test_text_ranks_the_entry_with_more_of_the_words_first():
    memory = Memory(grid_walk.config())
    memory.write(grid_walk.percept(0))
    both = memory.note("the kettle is in the kitchen")
    memory.note("a kettle, an old mug and some tea")
    answers = memory.recall(Query(kind="episode", text="kettle kitchen"))
    assert [a.id for a in answers] == [both]
    assert "kettle, kitchen" in answers[0].why


def test_entries_in_which_a_label_was_in_view(memory: Memory):
    answers = memory.recall(Query(kind="episode", label="box", k=100))
    assert {a.step for a in answers} <= set(seen_at("blue box"))
    assert answers and all("blue box" in a.text for a in answers)


def test_entries_of_a_room_and_a_time(memory: Memory):
    room = memory.scene.room_at(grid_walk.center(12, 4))
    answers = memory.recall(Query(kind="episode", room=room, since=stamp(10), until=stamp(20), k=100))
    assert answers
    for answer in answers:
        assert answer.room_id == room and stamp(10) <= answer.stamp <= stamp(20)


def test_places_and_rooms_where_i_was_between_two_times(memory: Memory):
    left, right = (memory.scene.room_at(grid_walk.center(*cell)) for cell in ((2, 4), (12, 4)))
    (room,) = memory.recall(Query(kind="room", until=stamp(2)))
    assert room.id == left and room.stamp <= stamp(2)
    crossing = next(step for step, cell in enumerate(grid_walk.CELLS) if cell[0] > 9)
    (room,) = memory.recall(Query(kind="room", since=stamp(crossing), until=stamp(crossing + 2)))
    assert room.id == right
    places = memory.recall(Query(kind="place", since=stamp(crossing), until=stamp(crossing + 2), k=50))
    assert places and all(a.room_id == right for a in places)


def test_the_most_similar_view_comes_first():
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(40, 16)).astype(np.float32)
    memory = Memory(grid_walk.config())
    for step in range(40):
        memory.write(grid_walk.percept(step, embedding=vectors[step]))
    for step in (0, 7, 39):
        answers = memory.recall(Query(kind="episode", like=2.0 * vectors[step], k=5))
        assert answers[0].step == step and answers[0].score == pytest.approx(1.0, abs=1e-3)
        cosines = vectors @ vectors[step] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[step])
        assert [a.step for a in answers] == np.argsort(-cosines)[:5].tolist()
        within = memory.recall(Query(kind="episode", like=vectors[step], since=stamp(20), k=3))
        assert [a.step for a in within] == (20 + np.argsort(-cosines[20:])[:3]).tolist()


def test_a_memory_without_embeddings_answers_nothing_to_a_similarity(memory: Memory):
    assert memory.recall(Query(like=np.ones(4, np.float32))) == []


def test_an_empty_memory_answers_nothing():
    empty = Memory(grid_walk.config())
    assert empty.recall(Query()) == []
    assert empty.recall(Query(text="key", near=(0, 0, 0), radius=1.0, like=np.ones(3, np.float32))) == []


def test_recall_changes_nothing_and_answers_the_same_again(memory: Memory):
    before = memory.digest()
    first = [(a.kind, a.id, a.score, a.evidence) for a in memory.recall(Query(k=100))]
    assert first == [(a.kind, a.id, a.score, a.evidence) for a in memory.recall(Query(k=100))]
    assert memory.digest() == before


@pytest.mark.parametrize(
    ("query", "word"),
    [
        (Query(kind="cell"), "no kind"),
        (Query(k=0), "k must"),
        (Query(radius=1.0), "near"),
        (Query(near=(0, 0, 0), radius=-1.0), "radius"),
        (Query(near=(0, 0, 0)), "radius"),
        (Query(near=(0, np.nan, 0), radius=1.0), "finite"),
        (Query(since=2, until=1), "later"),
        (Query(like=np.zeros(3, np.float32)), "like"),
        (Query(like=np.ones((2, 2), np.float32)), "like"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused_in_one_line(memory: Memory, query: Query, word: str):
    with pytest.raises(InputError, match=word) as error:
        memory.recall(query)
    assert "\n" not in str(error.value)


def test_an_embedding_of_another_size_is_refused():
    memory = Memory(grid_walk.config())
    memory.write(grid_walk.percept(0, embedding=np.ones(4, np.float32)))
    with pytest.raises(InputError, match="4 numbers"):
        memory.recall(Query(like=np.ones(5, np.float32)))


def test_recall_is_the_same_after_reopening(memory: Memory, tmp_path):
    memory.save(tmp_path / "m.emem")
    queries = [
        Query(k=100),
        Query(kind="object", label="key"),
        Query(text="coffee"),
        Query(kind="object", since=stamp(8), until=stamp(15), k=10),
    ]
    with Memory.open(tmp_path / "m.emem", read_only=True) as copy:
        for query in queries:
            a, b = memory.recall(query), copy.recall(query)
            assert [(x.kind, x.id, x.score, x.stamp, x.evidence, x.text, x.room_id) for x in a] == [
                (x.kind, x.id, x.score, x.stamp, x.evidence, x.text, x.room_id) for x in b
            ]

from __future__ import annotations

import dataclasses

import grid_walk
import pytest

from embodied_mem.errors import InputError
from embodied_mem.memory import EpisodeConfig, Memory
from embodied_mem.memory.recall.question import parse
from embodied_mem.types import Query

S = grid_walk.STEP_NS
LAP = len(grid_walk.CELLS)


@pytest.fixture(scope="module")
def memory() -> Memory:
    """Two laps; in the second one the red ball is gone."""
    memory = Memory(grid_walk.config(episodes=EpisodeConfig(gap=0.1)))
    for step in range(2 * LAP):
        memory.write(grid_walk.percept(step, missing=("red ball",) if step >= 20 else ()))
    memory.note("the milk is in the fridge")
    return memory


@pytest.mark.parametrize(
    ("words", "intent", "subject", "room"),
    [
        ("where did I last see the red mug?", "where", "red mug", ""),
        ("Where is my red mug", "where", "red mug", ""),
        ("where are the keys in the kitchen", "where", "keys", "kitchen"),
        ("where did you leave the towel", "where", "towel", ""),
        ("find a blue box", "where", "blue box", ""),
        ("when did I last see the ball", "when", "ball", ""),
        ("when was the green key last seen", "when", "green key", ""),
        ("what is in the living room?", "inventory", "", "living room"),
        ("what was in room 3 at step 40", "inventory", "", "room 3"),
        ("which objects are in the kitchen", "inventory", "", "kitchen"),
        ("what changed", "changes", "", ""),
        ("what has changed in the kitchen since yesterday", "changes", "", "kitchen"),
        ("when was I last here", "visit", "", ""),
        ("when was I last in the bathroom", "visit", "", "bathroom"),
        ("where was I at step 12", "whereabouts", "", ""),
        ("how many mugs are there in the kitchen", "count", "mugs", "kitchen"),
        ("is there a bed in the kitchen", "where", "bed", "kitchen"),
        ("have I seen a cup?", "where", "cup", ""),
        ("do you know where the sink is", "where", "sink", ""),
        ("what rooms are there", "rooms", "", ""),
        ("how many rooms do you know", "rooms", "", ""),
        ("what happened in the last minute", "story", "", ""),
        ("what did I do", "story", "", ""),
        ("purple elephants dance", "text", "", ""),
        ("why is the sky blue", "text", "", ""),
    ],
)
def test_questions_are_understood(memory: Memory, words: str, intent: str, subject: str, room: str):
    asked = parse(words, memory.episodes, memory.stamp)
    assert (asked.intent, asked.subject, asked.room) == (intent, subject, room)


@pytest.mark.parametrize(
    ("words", "since", "until"),
    [
        ("where was I at step 12", None, 13 * S),
        ("what changed between step 4 and 9", 5 * S, 10 * S),
        ("what changed between 0.5 and 1.5 s", S + 5 * S, S + 15 * S),
        ("what changed since step 7", 8 * S, None),
        ("where was the key before 2 s", None, S + 20 * S),
        ("where was the key 1 second ago", None, 2 * LAP * S - 10 * S),
        ("what changed in the last 2 seconds", 2 * LAP * S - 20 * S, None),
        ("where is the key", None, None),
    ],
)
def test_times_are_understood(memory: Memory, words: str, since: int | None, until: int | None):
    asked = parse(words, memory.episodes, memory.stamp)
    assert (asked.since, asked.until) == (since, until)


def test_days_are_calendar_days_where_stamps_are_dates(memory: Memory):
    noon = 1_700_049_600_000_000_000 + 12 * 3600 * 10**9  # 15 November 2023 is a day of 86400 s
    day = 86400 * 10**9
    asked = parse("what changed yesterday", memory.episodes, noon)
    assert asked.since is not None and asked.until is not None
    assert asked.since % day == 0 and asked.until == asked.since + day - 1 and noon - asked.until < day


def test_a_thing_is_found_where_recall_finds_it(memory: Memory):
    answer = memory.ask("where did I last see the green key?")
    (expected,) = memory.recall(Query(kind="object", label="green key"))
    assert answer.understood and answer.answers[0].id == expected.id
    x, y = expected.position[:2]
    assert f"({x:.1f}, {y:.1f}) m" in answer.sentence and "green key" in answer.sentence
    assert memory.ask("where are the keys").answers[0].id == expected.id


def test_a_thing_that_is_gone_is_said_to_be(memory: Memory):
    assert "no longer there" in memory.ask("where is the red ball").sentence


def test_what_is_in_a_room_now_and_then(memory: Memory):
    room = memory.scene.room_at(grid_walk.center(2, 4))
    now, then = (memory.ask(f"what is in room {room}{when}") for when in ("", " at step 15"))
    assert "green key" in now.sentence and "red ball" not in now.sentence
    assert "red ball" in then.sentence


def test_when_i_was_here_before_leaves_out_the_stay_that_goes_on(memory: Memory):
    answer = memory.ask("when was I last here?")
    here = grid_walk.percept(2 * LAP - 1).map_T_base.position
    assert answer.answers and answer.answers[0].step < 2 * LAP - 3
    assert abs(answer.answers[0].position - here).max() <= 1.5


def test_when_i_was_last_at_a_point(memory: Memory):
    x, y, _ = grid_walk.center(13, 3)
    answer = memory.ask(f"when was I last at ({x}, {y})?").answers[0]
    near = [
        step
        for step in range(2 * LAP)
        if abs(grid_walk.percept(step).map_T_base.position[:2] - [x, y]).max() <= 1.0
    ]
    assert abs(answer.step - max(near)) <= 1


def test_what_changed_tells_what_went(memory: Memory):
    assert "red ball is gone" in memory.ask("what changed?").sentence
    assert "Nothing changed" in memory.ask("what changed between step 0 and 5").sentence


def test_how_many_and_where_was_i(memory: Memory):
    assert "1" in memory.ask("how many keys are there").sentence
    at = memory.ask("where was I at step 10").answers[0]
    assert at.step == 10


def test_a_question_without_a_pattern_is_answered_by_its_words_and_says_so(memory: Memory):
    answer = memory.ask("milk fridge")
    assert answer.understood == "" and "milk" in answer.answers[0].text
    assert memory.ask("purple elephants").answers == ()


@pytest.mark.parametrize(("words", "hint"), [("  ", "ask something"), ("what is in the sauna", "sauna")])
def test_what_cannot_be_answered_is_refused_in_one_line(memory: Memory, words: str, hint: str):
    with pytest.raises(InputError, match=hint) as error:
        memory.ask(words)
    assert "\n" not in str(error.value)


def test_what_happened_is_told_in_order(memory: Memory):
    answer = memory.ask("what happened")
    assert answer.sentence.endswith("the milk is in the fridge (just now).")
    assert answer.sentence.index("red ball is gone") < answer.sentence.index("milk")
    assert answer.answers and answer.answers[0].stamp == memory.stamp
    early = memory.ask("what happened before step 5").sentence
    assert "first saw" in early and "milk" not in early


def test_rooms_are_counted_and_named(memory: Memory):
    names = [room.name for room in memory.scene.rooms()]
    sentence = memory.ask("what rooms are there").sentence
    assert sentence.startswith(f"I know of {len(names)} rooms") and all(name in sentence for name in names)


def test_a_name_that_several_rooms_bear_means_all_of_them(memory: Memory, monkeypatch: pytest.MonkeyPatch):
    rooms = memory.scene.rooms()
    inside = {a.id for room in rooms for a in memory.recall(Query(kind="object", room=room.id, k=99))}
    same = [dataclasses.replace(room, name="kitchen") for room in rooms]
    monkeypatch.setattr(type(memory.scene), "rooms", lambda self: same)
    answer = memory.ask("what is in the kitchen", k=99)
    assert {a.id for a in answer.answers if a.existence >= 0.5} == {
        i for i in inside if memory.scene.object(i).existence >= 0.5
    }
    with pytest.raises(InputError, match="2 rooms are called"):
        memory.recall(Query(room="kitchen"))


def test_what_is_not_understood_is_answered_with_what_can_be_asked(memory: Memory):
    answer = memory.ask("purple elephants dance")
    assert not answer.understood and 'Ask for example "where is the' in answer.sentence
    assert memory.ask("how many unicorns are there").sentence.startswith("Nothing")

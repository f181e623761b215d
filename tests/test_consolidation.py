from __future__ import annotations

import json

import grid_walk
import numpy as np
import pytest

from embodied_mem.errors import InputError
from embodied_mem.memory import EpisodeConfig, Memory, RecallConfig
from embodied_mem.memory.episodes.entries import Episode
from embodied_mem.memory.episodes.vectors import quantise
from embodied_mem.types import Command, Query
from embodied_mem.verbs.bench_memory.workload import Rooms, grid_config, keyframes

LAP = len(grid_walk.CELLS)


def walked(steps: int = LAP, **parts) -> Memory:
    memory = Memory(grid_walk.config(**parts))
    rng = np.random.default_rng(0)
    for step in range(steps):
        memory.write(grid_walk.percept(step, embedding=rng.normal(size=8).astype(np.float32)))
    return memory


def test_summaries_cover_what_is_old_and_link_to_their_evidence():
    memory = walked()
    made = memory.consolidate(keep=5)
    assert len(made) >= 2
    covered = []
    for entry_id in made:
        summary = memory.episodes.entry(entry_id)
        assert summary is not None and summary.event == "summary" and summary.evidence
        parts = [memory.episodes.entry(i) for i in summary.evidence]
        assert all(part is not None for part in parts)
        assert {part.room_id for part in parts} == {summary.room_id}
        assert set(summary.object_ids) == {o for part in parts for o in part.object_ids}
        covered += summary.evidence
    assert len(covered) == len(set(covered)) and max(covered) < LAP - 5
    assert memory.consolidate(keep=5) == ()  # nothing is summarised twice


def test_a_summary_is_recalled_with_its_evidence():
    memory = walked()
    memory.consolidate(keep=0)
    (found, *_) = memory.recall(Query(kind="episode", text="summary", k=1))
    summary = memory.episodes.entry(found.id)
    assert summary is not None and found.evidence == (found.id, *summary.evidence[::-1])


def test_summaries_survive_the_file_and_commands_rebuild_them(tmp_path):
    memory, copy = walked(), walked()
    told: list[Command] = []
    memory.on_command.append(told.append)
    memory.consolidate(keep=10)
    memory.forget("episode", memory.episodes.summaries()[next(iter(memory.episodes.summaries()))][0])
    for command in told:
        copy.apply(Command(command.name, json.loads(json.dumps(dict(command.arguments)))))
    assert copy.digest() == memory.digest()
    memory.save(tmp_path / "m.emem")
    with Memory.open(tmp_path / "m.emem", read_only=True) as again:
        assert again.digest() == memory.digest()
        assert again.episodes.summaries() == memory.episodes.summaries()


def test_forgetting_takes_what_was_derived_with_it():
    memory = walked()
    memory.consolidate(keep=0)
    key = memory.scene.objects("key")[0]
    telling = [i for i in memory.episodes.summaries() if key.id in memory.episodes.entry(i).object_ids]
    assert telling
    memory.forget("object", key.id)
    assert all(memory.episodes.entry(i) is None for i in telling)
    assert memory.recall(Query(text="green key")) == []
    left = next(iter(memory.episodes.summaries()))
    evidence = memory.episodes.entry(left).evidence
    memory.forget("episode", evidence[0])
    assert memory.episodes.entry(left) is None and memory.episodes.entry(evidence[1]) is not None


def test_an_object_that_only_one_entry_tells_of_goes_with_it():
    memory = Memory(grid_walk.config())
    step = next(s for s in range(LAP) if any(d.label == 3 for d in grid_walk.percept(s).detections))
    receipt = memory.write(grid_walk.percept(step))
    assert memory.scene.objects("key")
    memory.forget("episode", receipt.episode_id)
    assert memory.scene.objects("key") == []


def test_feedback_ranks_what_was_useful_first_and_only_where_it_is_on():
    for on in (True, False):
        memory = walked(recall=RecallConfig(utility=on))
        first_view, second_view = memory.episodes.embeddings[[7, 12]].astype(np.float32)
        view = first_view / np.linalg.norm(first_view) + second_view / np.linalg.norm(second_view)
        query = Query(kind="episode", like=view, k=4)
        before = memory.recall(query)
        assert {before[0].id, before[1].id} == {7, 12}
        for _ in range(5):
            (second,) = [a for a in memory.recall(query) if a.id == before[1].id]
            (first,) = [a for a in memory.recall(query) if a.id == before[0].id]
            memory.feedback(second.recall_id, useful=True)
            memory.feedback(first.recall_id, useful=False)
        after = memory.recall(query)
        assert after[0].id == (before[1].id if on else before[0].id)


def test_a_reward_is_credited_to_what_was_recalled_before_it_as_a_command():
    memory = walked(20, recall=RecallConfig(utility=True))
    told: list[Command] = []
    memory.on_command.append(told.append)
    (answer,) = memory.recall(Query(kind="episode", k=1))
    memory.write(grid_walk.percept(20, reward=1.0))
    assert [c.name for c in told] == ["feedback"] and answer.id in told[0].arguments["entries"]
    assert memory.episodes.utilities[memory.episodes.index(answer.id)] > 0
    copy = walked(20, recall=RecallConfig(utility=True))
    copy.apply(told[0])
    copy.write(grid_walk.percept(20, reward=1.0))
    # The walks' embeddings are drawn alike, so that only the feedback could tell them apart.
    assert copy.episodes.utilities.tolist() == memory.episodes.utilities.tolist()


def test_feedback_on_an_unknown_recall_is_refused():
    with pytest.raises(InputError, match="recall 99"):
        walked(3).feedback(99, useful=True)


def test_summaries_are_made_after_so_many_entries_and_replay_makes_the_same(tmp_path):
    def written(path=None) -> Memory:
        config = grid_config(episodes=EpisodeConfig(consolidate=64))
        memory = Memory(config) if path is None else Memory.open(path, config)
        for percept in keyframes(300, Rooms(3)):
            memory.write(percept)
        return memory

    memory = written()
    summaries = memory.episodes.summaries()
    covered = sorted(memory.episodes.summarised())
    assert len(summaries) >= 5 and len(covered) == sum(map(len, summaries.values()))
    assert len(covered) >= 0.6 * 300 and not set(covered) & set(summaries)
    for evidence in summaries.values():
        rooms = {memory.episodes.entry(i).room_id for i in evidence}
        assert len(rooms) == 1
    with written(tmp_path / "home.emem") as filed:
        assert filed.digest() == memory.digest() == written().digest()
    never = Memory(grid_config(episodes=EpisodeConfig(consolidate=0)))
    for percept in keyframes(300, Rooms(3)):
        never.write(percept)
    assert not never.episodes.summaries()


def test_a_summary_is_told_for_words_and_never_for_a_moment():
    memory = Memory(grid_config(episodes=EpisodeConfig(consolidate=64)))
    for percept in keyframes(200, Rooms(3)):
        memory.write(percept)
    summaries = memory.episodes.summaries()
    told = memory.recall(Query(kind="episode", text="summary", k=50))
    assert {answer.id for answer in told} == set(summaries)
    for query in (
        Query(kind="episode", k=500),
        Query(kind="episode", until=memory.stamp, k=500),
        Query(kind="episode", near=(10.0, 3.0, 0.0), radius=50.0, k=500),
        Query(kind="episode", label="cup", k=500),
    ):
        answers = memory.recall(query)
        assert answers and not summaries.keys() & {answer.id for answer in answers}


def test_what_was_useful_elsewhere_does_not_push_out_what_is_relevant():
    memory = Memory(grid_walk.config(recall=RecallConfig(utility=True, consensus=False)))
    for number, view in enumerate([[1.0, 0.1, 0.0], [1.0, 0.0, 0.1], [0.0, 0.2, 1.0]]):
        embedding = quantise(np.array(view))
        memory.episodes.add(Episode(number, number * 10**9, number, memory.map_T_base, embedding=embedding))
    memory.apply(Command("feedback", {"entries": [2], "value": 1.0}))
    memory.apply(Command("feedback", {"entries": [0], "value": 0.5}))
    query = Query(kind="episode", like=np.array([1.0, 0.06, 0.05], np.float32), k=3)
    assert [answer.id for answer in memory.recall(query)] == [0, 1, 2]


def test_an_entry_is_forgotten_by_its_id_alone():
    memory = walked(10)
    memory.forget(4)
    assert memory.episodes.entry(4) is None
    with pytest.raises(InputError, match="no episode 4"):
        memory.forget("episode", 4)
    with pytest.raises(InputError, match=r"forget\(12\)"):
        memory.forget("object")

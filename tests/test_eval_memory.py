from __future__ import annotations

import json
from pathlib import Path

import pytest

from embodied_mem.errors import ConfigError, InputError
from embodied_mem.log.replay import replay
from embodied_mem.verbs.eval_memory import eval_memory, evaluate
from embodied_mem.verbs.memory_questions import Truth, ask_all, read_truth
from embodied_mem.verbs.record import record_episode

HOUSE = "EmbodiedMem/House-ObjectNav-v0"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory):
    return record_episode(HOUSE, tmp_path_factory.mktemp("days"), seed=3, steps=30, days=2)


def test_a_log_of_a_house_says_what_is_true_and_the_memory_never_sees_it(recording):
    truth = read_truth(recording.log)
    assert len(truth.frames) == recording.steps and len(truth.days) == 2
    assert truth.days[0]["things"] != truth.days[1]["things"]  # the night changed the house
    assert all(frame["visible"].keys() <= truth.days[frame["day"]]["things"].keys() for frame in truth.frames)
    assert replay(recording.log, verify=True).verified


def test_the_memory_of_an_episode_knows_what_was_seen(recording):
    report = evaluate(recording.log)
    assert {"last_seen", "visit", "whereabouts"} <= set(report["kinds"])
    assert report["questions"] == sum(part["questions"] for part in report["kinds"].values()) >= 60
    assert report["accuracy"] >= 0.95
    detected = report["of_what_was_detected"]
    assert 40 <= detected["questions"] < report["questions"] and detected["accuracy"] >= 0.95
    assert len(report["wrong"]) == report["questions"] - report["right"]
    assert report == evaluate(recording.log, recording.memory)  # rebuilt from the log, or from its file


def test_a_memory_of_something_else_is_not_right(recording, tmp_path: Path):
    from embodied_mem.memory import Memory

    truth = read_truth(recording.log)
    moved = Truth(
        [{**frame, "robot": [v + 50.0 for v in frame["robot"]]} for frame in truth.frames], truth.days
    )
    with Memory.open(recording.memory, read_only=True) as memory:
        asked = ask_all(moved, memory, 40, 0)
    assert not any(a.is_right for a in asked if a.kind in ("visit", "whereabouts"))


def test_the_verb_prints_json(recording, capsys: pytest.CaptureFixture[str]):
    assert eval_memory(recording.log, memory=recording.memory, json=True) == 0
    assert json.loads(capsys.readouterr().out)["questions"] >= 60


def test_a_log_without_ground_truth_is_refused_in_one_line(tmp_path: Path):
    plain = record_episode("EmbodiedMem/MultiRoom-v0", tmp_path, seed=3, steps=5)
    with pytest.raises(InputError, match="no ground truth") as error:
        evaluate(plain.log)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="nights"):
        record_episode("EmbodiedMem/MultiRoom-v0", tmp_path, days=2)

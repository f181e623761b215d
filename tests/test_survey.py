"""The survey of houses: recorded once, scored against the truth, better than its baselines."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from embodied_mem.sim.survey.baselines import GreedyNearest, LastWriteWins
from embodied_mem.sim.survey.config import SurveyConfig
from embodied_mem.sim.survey.recording import Survey, survey_house
from embodied_mem.sim.survey.run import run_survey
from embodied_mem.sim.survey.score import Score, score_objects
from embodied_mem.sim.survey.score_changes import score_changes

SMALL = SurveyConfig(width=128, image_height=96, stops=4.0, turns=8, step=1.0)


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Survey:
    return survey_house(3, "changed", SMALL, tmp_path_factory.mktemp("survey"))


@pytest.mark.slow
def test_a_recording_is_made_once_and_read_again(tmp_path):
    config = dataclasses.replace(SMALL, stops=9.0, turns=2, step=3.0)
    first = survey_house(3, "once", config, tmp_path)
    (path,) = tmp_path.iterdir()
    made = path.stat().st_mtime_ns
    second = survey_house(3, "once", config, tmp_path)
    assert path.stat().st_mtime_ns == made and len(list(tmp_path.iterdir())) == 1
    assert all(np.array_equal(first.frames[name], second.frames[name]) for name in first.frames)


def test_enough_things_cannot_be_told_apart_and_the_robot_gets_no_truth(survey: Survey):
    alike = [t for t in survey.before.things if t.label in survey.twins]
    assert len(alike) >= 0.3 * len(survey.before.things)
    assert len({(t.label, t.color) for t in alike}) == len(survey.twins)
    blind = dataclasses.replace(
        survey,
        frames={
            name: np.zeros_like(array) if name in ("source", "pixels", "truth") else array
            for name, array in survey.frames.items()
        },
    )
    for a, b in zip(survey.observations(), blind.observations()):
        assert len(a.detections) == len(b.detections) and a.odom_T_base.to_list() == b.odom_T_base.to_list()
        assert all(np.array_equal(p.position, q.position) for p, q in zip(a.detections, b.detections))


@pytest.mark.slow
def test_the_scene_graph_beats_its_baselines(survey: Survey):
    peers = {"greedy": GreedyNearest(), "last": LastWriteWins()}
    _, scores = run_survey(survey, SMALL, peers)
    figures = {name: score.report() for name, score in scores.items()}
    own = figures["memory"]
    for name in peers:
        assert own["objects"]["f1"] > figures[name]["objects"]["f1"] + 0.1, name
        assert own["objects"]["switches"] < figures[name]["objects"]["switches"]
        assert own["changes"]["precision"] > figures[name]["changes"]["precision"]
    assert own["objects"]["recall"] > 0.8 and own["objects"]["position_error"] < 0.12
    assert len(scores["memory"].ious) == len(survey.after.rooms)


def test_a_perfect_memory_scores_perfectly(survey: Survey):
    from embodied_mem.memory.scene.changes import SceneChange

    baseline = GreedyNearest()
    for obs in survey.observations():
        baseline.update(dataclasses.replace(_percept(obs), detections=()), None, None)
    assert baseline.objects() == []
    kinds = {"moved": "moved", "added": "appeared", "removed": "disappeared"}
    told = [
        SceneChange(
            kinds[c.kind],
            i,
            (c.before or c.after).label,
            None if c.before is None else np.array(c.before.center),
            None if c.after is None else np.array(c.after.center),
            0,
            0,
            (),
        )
        for i, c in enumerate(survey.changes)
    ]
    score = Score()
    score_changes(score, survey, told)
    score_objects(score, survey, [])
    report = score.report()
    assert report["changes"]["precision"] == 1.0 and score.noticed == score.true_changes
    assert report["objects"]["recall"] == 0.0 and score.missed > 0


def _percept(obs):
    from embodied_mem.perception import Perception

    return Perception(SMALL.perception())(obs)


def test_of_what_looks_the_same_any_pairing_is_right_and_a_swap_is_no_change(survey: Survey):
    from embodied_mem.memory.scene.changes import SceneChange
    from embodied_mem.sim.house.overnight import Change

    a = survey.before.things[0]
    label = a.label

    def at(x: float, number: int = 1):
        return dataclasses.replace(a, id=number, position=(x, 1.0, 0.0))

    def told(kind: str, before: float | None, after: float | None) -> SceneChange:
        ends = [None if x is None else np.array(at(x).center) for x in (before, after)]
        return SceneChange(kind, 0, label, ends[0], ends[1], 0, 0, ())

    def score(changes: tuple[Change, ...], reports: list[SceneChange], twins: tuple[str, ...]) -> Score:
        result, shown_all = Score(), np.array([(f, 1, 999) for f in range(len(survey))], np.int64)
        frames = {**survey.frames, "pixels": shown_all}
        score_changes(
            result, dataclasses.replace(survey, changes=changes, twins=twins, frames=frames), reports
        )
        return result

    # One left x = 1 for x = 5, another x = 5 for x = 9: to the eye one went from 1 to 9.
    chain = (Change("moved", at(1), at(5)), Change("moved", at(5, 2), at(9, 2)))
    alike = score(chain, [told("moved", 1, 9)], (label,))
    assert alike.right_changes == alike.told_changes == 1
    assert score(chain, [told("moved", 1, 9)], ()).right_changes == 0, "these can be told apart"
    twice = score(chain[:1], [told("moved", 1, 5), told("moved", 1, 5)], (label,))
    assert twice.right_changes == 1 and twice.told_changes == 2, "an end counts once"


@pytest.mark.slow
def test_a_benchmark_that_was_cut_off_goes_on_and_ends_the_same(tmp_path, monkeypatch, capsys):
    from embodied_mem.sim.survey import bench

    monkeypatch.setattr(bench, "time_growth", lambda config: {})
    config = dataclasses.replace(SMALL, stops=9.0, turns=4, step=3.0)
    keep = tmp_path / "houses.jsonl"
    bench.bench_scene(1, "val", False, config, tmp_path, keep)
    whole, again = (bench.bench_scene(2, "val", False, config, tmp_path, k) for k in (None, keep))
    assert len(keep.read_text().splitlines()) == 2
    for part in ("objects", "changes", "rooms", "workload", "peers"):
        assert str(whole[part]) == str(again[part])

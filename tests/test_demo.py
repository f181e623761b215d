from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from embodied_mem.configs import from_mapping
from embodied_mem.memory import Memory, MemoryConfig
from embodied_mem.types import Query
from embodied_mem.verbs import demo
from embodied_mem.verbs.train import TrainConfig


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The demo, with a training too short to learn from, and the beginning of a search."""
    short = replace(demo.demo_config(), total_steps=1600, eval_episodes=16)
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "demo_config", lambda: short)
        patch.setattr(demo, "LIMIT", 90)
        report = demo.run_demo(out, quiet=True)
    return out, report


def test_the_demo_leaves_everything_it_promises(run: tuple[Path, dict]):
    out, report = run
    for name in ("episode.mcap", "memory.emem", "map.png", "report.json", "config.yaml"):
        assert (out / name).stat().st_size > 0
    assert (out / "checkpoint" / "model.safetensors").exists()
    assert json.loads((out / "report.json").read_text()) == report
    assert set(report["files"]) == {p.name for p in out.iterdir()}


def test_the_demos_replay_gives_the_same_digest(run: tuple[Path, dict]):
    _, report = run
    assert report["replay"]["verified"] is True
    assert report["replay"]["digest"] == report["search"]["digest"]


def test_the_demos_config_is_whole_and_can_be_read_back(run: tuple[Path, dict]):
    out, _ = run
    settings = yaml.safe_load((out / "config.yaml").read_text())
    assert from_mapping(TrainConfig, settings["train"]).total_steps == 1600
    with Memory.open(out / "memory.emem", read_only=True) as memory:
        assert from_mapping(MemoryConfig, settings["memory"]) == memory.config


def test_the_demos_questions_are_answered_with_time_place_and_evidence(run: tuple[Path, dict]):
    out, report = run
    where, room, when = report["questions"]
    (thing,) = where["answers"]
    assert thing["label"] in where["question"] and thing["evidence"] and len(thing["position"]) == 3
    assert {a["room_id"] for a in room["answers"]} == {room["answers"][0]["room_id"]}
    assert all(40 <= a["step"] <= 60 for a in when["answers"]) and len(when["answers"]) > 3
    with Memory.open(out / "memory.emem", read_only=True) as memory:
        entries = memory.recall(Query(kind="episode", text=thing["label"], k=100))
    assert set(thing["evidence"]) <= {entry.id for entry in entries}


def test_both_trainings_report_success_with_intervals(run: tuple[Path, dict]):
    _, report = run
    for name in ("memory", "no memory"):
        evaluation = report["training"][name]["evaluation"]
        low, high = evaluation["success_interval"]
        assert 0 <= low <= evaluation["success"] <= high <= 1


def test_the_demo_searches_an_unseen_house_with_the_shipped_checkpoint(run: tuple[Path, dict]):
    out, report = run
    search = report["search"]
    assert len(search["goals"]) == 4 and search["goals"][0]["given"] and search["steps"] <= 90
    assert search["objects"] > 3 and search["voxels"] > 100_000
    with Memory.open(out / "memory.emem", read_only=True) as memory:
        assert memory.config.read.crops  # what the checkpoint reads of the memory is in the log's settings

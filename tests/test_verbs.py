from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

from embodied_mem.cli import VERBS, main
from embodied_mem.configs import to_mapping
from embodied_mem.log.writer import EpisodeWriter
from embodied_mem.loop import Loop
from embodied_mem.memory import Memory
from embodied_mem.perception import Perception, PerceptionConfig
from embodied_mem.sim.grid_memory import grid_memory_config
from embodied_mem.sim.world import EnvWorld
from embodied_mem.verbs.record import Recording, record_episode


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record_episode("EmbodiedMem/Playground-v0", tmp_path_factory.mktemp("run"), seed=7, steps=120)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def complains(result: tuple[int, str, str], *words: str) -> None:
    code, _, err = result
    assert code == 2
    assert err.startswith("embodied-mem: ") and err.count("\n") == 1
    for word in words:
        assert word in err


def test_help_lists_every_verb_and_each_verb_has_help(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for verb in VERBS:
        assert verb in out
        extra = ["sim_configs/proof_of_memory.yaml"] if verb == "train" else []
        arguments = [verb, *(str(Path(__file__).parents[1] / e) for e in extra), "--help"]
        assert run(capsys, *arguments)[0] == 0


def test_every_config_that_comes_with_the_package_can_be_trained_with_options(capsys):
    folder = Path(__file__).parents[1] / "sim_configs"
    found = 0
    for path in sorted(folder.glob("*.yaml")):
        code, out, _ = run(capsys, "train", path, "--help")
        assert code == 0 and "--total-steps" in out, path
        found += "--without" in out
    assert found >= 1  # parts of the memory that a policy is trained without


def test_a_mistyped_verb_names_the_nearest(capsys):
    complains(run(capsys, "repaly"), '"replay"')


def test_replay_verifies_a_recorded_episode(capsys, recording: Recording):
    code, out, _ = run(capsys, "replay", recording.log, "--verify", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["verified"] is True
    assert report["digest"] == recording.digest
    assert report["frames"] == recording.steps
    assert report["warnings"] == []
    assert report["timings"]["total"] > 0


def test_replay_writes_the_same_memory_into_a_folder(capsys, recording: Recording, tmp_path: Path):
    code, out, _ = run(capsys, "replay", recording.log, "--out", tmp_path, "--json")
    assert code == 0
    assert Path(json.loads(out)["memory"]).exists() and Path(json.loads(out)["map"]).exists()
    wanted = run(capsys, "query", recording.memory, "--label", "door", "--json")[1]
    assert run(capsys, "query", tmp_path / "memory.emem", "--label", "door", "--json")[1] == wanted


def test_a_truncated_log_is_replayed_up_to_the_cut_and_says_so(capsys, recording: Recording, tmp_path: Path):
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(recording.log.read_bytes()[: int(recording.log.stat().st_size * 0.6)])
    code, out, _ = run(capsys, "replay", cut, "--json")
    report = json.loads(out)
    assert code == 0
    assert 0 < report["frames"] < recording.steps
    assert any("cut" in w or "truncated" in w for w in report["warnings"])


def test_a_log_whose_digest_differs_fails_the_verification(capsys, tmp_path: Path):
    env = gymnasium.make("EmbodiedMem/Playground-v0", disable_env_checker=True)
    memory = Memory(grid_memory_config())
    writer = EpisodeWriter(tmp_path / "e.mcap", config=to_mapping(memory.config))
    Loop(EnvWorld(env, 7), Perception(PerceptionConfig()), memory, listeners=[writer]).run(1)
    writer.close("0" * 64)
    code, out, _ = run(capsys, "replay", tmp_path / "e.mcap", "--verify", "--json")
    assert code == 1
    assert json.loads(out)["verified"] is False


def test_info_tells_the_kind_of_each_file(capsys, recording: Recording):
    log = json.loads(run(capsys, "info", recording.log, "--json")[1])
    memory = json.loads(run(capsys, "info", recording.memory, "--json")[1])
    assert (log["kind"], memory["kind"]) == ("log", "memory")
    assert memory["objects"] > 0 and memory["voxels"] > 0
    code, out, _ = run(capsys, "info", recording.memory)
    assert code == 0 and "objects" in out
    for room in memory["contents"]["rooms"]:
        assert f"room {room['id']}" in out and room["name"] in out
        assert all(f"#{thing['id']} {thing['label']}" in out for thing in room["objects"])


def test_query_answers_by_label_place_and_time(capsys, recording: Recording):
    def ask(*arguments: object) -> list[dict]:
        code, out, _ = run(capsys, "query", recording.memory, *arguments, "--json")
        assert code == 0
        return json.loads(out)["answers"]

    doors = ask("--label", "door", "-k", 20)
    assert doors and all("door" in a["label"] for a in doors)
    x, y, z = doors[0]["position"]
    near = ask("--label", "door", "--near", x, y, z, "--radius", 0.1)
    assert [a["id"] for a in near] == [doors[0]["id"]]
    early = ask("--kind", "object", "--until", "step:0", "-k", 50)
    late = ask("--kind", "object", "-k", 50)
    assert 0 < len(early) < len(late)
    assert ask("--label", "unicorn") == []


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--since", "noon"], "is not a time"),
        (["--radius", "2"], "--near"),
        (["--near", "0", "0", "0"], "radius"),
    ],
)
def test_a_question_that_makes_no_sense_gives_one_line(capsys, recording: Recording, arguments, word):
    complains(run(capsys, "query", recording.memory, *arguments), word)


@pytest.mark.parametrize("verb", ["replay", "info", "query", "eval", "train"])
def test_a_missing_file_gives_one_line(capsys, verb: str, tmp_path: Path):
    complains(run(capsys, verb, tmp_path / "missing.emem"), "missing.emem")


@pytest.mark.parametrize("content", [b"", b"not a log at all\n" * 100, bytes(range(256)) * 40])
@pytest.mark.parametrize("name", ["a.mcap", "a.db3", "a.emem", "a.txt"])
def test_a_foreign_file_gives_one_line(capsys, tmp_path: Path, name: str, content: bytes):
    path = tmp_path / name
    path.write_bytes(content)
    complains(run(capsys, "info", path), name)
    complains(run(capsys, "replay", path), name)
    complains(run(capsys, "query", path), name)
    assert path.read_bytes() == content


def test_a_memory_from_a_newer_schema_is_refused_in_one_line(capsys, recording: Recording, tmp_path: Path):
    newer = tmp_path / "newer.emem"
    shutil.copy(recording.memory, newer)
    with sqlite3.connect(newer) as database:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        database.execute(f"PRAGMA user_version = {version + 1}")
    database.close()
    complains(run(capsys, "query", newer), "newer")


def test_an_unknown_config_key_names_the_nearest(capsys, tmp_path: Path):
    config = tmp_path / "c.yaml"
    config.write_text("policy:\n  segment_lenght: 8\n")
    complains(run(capsys, "train", config), "policy.segment_lenght", "segment_length")


def test_an_unknown_environment_gives_one_line(capsys, tmp_path: Path):
    complains(run(capsys, "record", "--env", "EmbodiedMem/Nowhere-v0", "--out", tmp_path), "Nowhere")


def test_a_trained_policy_can_be_evaluated_and_described(capsys, tmp_path: Path):
    config = Path(__file__).parents[1] / "sim_configs" / "proof_of_memory.yaml"
    arguments = ["--out", tmp_path, "--total-steps", 3200, "--eval-episodes", 20, "--json"]
    code, out, _ = run(capsys, "train", config, *arguments)
    assert code == 0
    trained = json.loads(out)
    code, out, _ = run(capsys, "eval", trained["checkpoint"], "--episodes", 20, "--json")
    assert code == 0
    again = json.loads(out)
    assert again["success"] == trained["evaluation"]["success"]
    low, high = again["success_interval"]
    assert low <= again["success"] <= high
    assert json.loads(run(capsys, "info", trained["checkpoint"], "--json")[1])["kind"] == "checkpoint"


def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "embodied_mem", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip()


def test_a_checkpoint_refuses_an_environment_with_other_observations_in_one_line(capsys):
    model = Path(__file__).parents[1] / "models" / "proof_of_memory"
    complains(run(capsys, "eval", model, "--env", "EmbodiedMem/MultiRoom-v0"), "was trained on observations")


def test_a_replay_takes_other_settings_from_a_file_and_says_so(capsys, recording: Recording, tmp_path: Path):
    settings = tmp_path / "settings.yaml"
    settings.write_text("memory:\n  octree: {resolution: 0.5}\n")
    code, out, _ = run(capsys, "replay", recording.log, "--settings", settings, "--verify", "--json")
    report = json.loads(out)
    assert code == 1 and report["verified"] is False and report["digest"] != recording.digest
    assert any("other settings" in warning for warning in report["warnings"])
    settings.write_text("perception:\n  onxx: {model: a.onnx}\n")
    complains(run(capsys, "replay", recording.log, "--settings", settings), "onxx", "onnx")
    complains(run(capsys, "replay", recording.log, "--settings", tmp_path / "absent.yaml"), "absent.yaml")

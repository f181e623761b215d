"""Ctrl-C: long work stops where everything is whole, says how it goes on, and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embodied_mem.cli import main
from embodied_mem.log.replay import replay
from embodied_mem.verbs.interrupt import Interrupted, stopping, telling
from embodied_mem.verbs.record import record_episode

CONFIG = Path(__file__).parents[1] / "sim_configs" / "proof_of_memory.yaml"


def interrupted(arguments: list[object], ready: Callable[[], bool]) -> tuple[int, str]:
    """Starts a verb, presses Ctrl-C once it is under way, and returns its exit code and last line."""
    command = [sys.executable, "-m", "embodied_mem", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return process.returncode, err.splitlines()[-1]


def lines_of(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def test_a_training_stops_says_how_to_go_on_and_goes_on(tmp_path: Path, capsys):
    out = tmp_path / "run"
    arguments = ["train", CONFIG, "--out", out, "--policy", "none"]
    arguments += ["--total-steps", 12_000, "--eval-episodes", 4]
    code, said = interrupted(arguments, lambda: lines_of(out / "curve.csv") >= 2)
    assert code == 130 and str(out / "resume.zip") in said and said.endswith("--resume`")
    before = [line.split(",")[0] for line in (out / "curve.csv").read_text().splitlines()]
    assert not (out / "result.json").exists()
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments), "--resume", "--json"])
    result = json.loads(capsys.readouterr().out)
    steps = [f"{line['step']:g}" for line in result["curve"]]
    assert end.value.code == 0 and result["steps"] >= 12_000
    assert steps[: len(before) - 1] == [f"{float(step):g}" for step in before[1:]]
    assert steps == sorted(set(steps), key=float)


def test_a_recording_that_is_stopped_leaves_a_log_and_a_memory_that_agree(tmp_path: Path):
    log = tmp_path / "episode.mcap"
    arguments = ["record", "--env", "EmbodiedMem/Playground-v0", "--agent", "random", "--out", tmp_path]
    code, said = interrupted(
        [*arguments, "--steps", 100_000], lambda: log.exists() and log.stat().st_size > 20_000
    )
    assert code == 130 and "whole" in said
    assert replay(log, verify=True).verified
    with pytest.raises(SystemExit) as end:
        main(["check", str(tmp_path / "memory.emem")])
    assert end.value.code == 0


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Ctrl-C does what it does in a terminal, even where the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_press_is_a_wish_and_the_second_stops_at_once(capsys):
    with stopping("stopping soon") as wish:
        press()
        assert wish.is_asked and "stopping soon" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            press()
    with pytest.raises(KeyboardInterrupt):  # afterwards it is what it was before
        press()


def test_work_that_cannot_go_on_says_what_is_there():
    with pytest.raises(Interrupted, match="nothing was written"), telling("nothing was written"):
        press()
    with pytest.raises(Interrupted, match="by the inner"), telling("outer"), telling("by the inner"):
        press()


@pytest.mark.parametrize("verb", ["replay", "eval"])
def test_a_verb_that_keeps_nothing_says_so(verb: str, tmp_path: Path, capsys, monkeypatch):
    if verb == "replay":
        log = record_episode("EmbodiedMem/Playground-v0", tmp_path, seed=7, steps=5).log
        arguments = ["replay", str(log)]
        monkeypatch.setattr("embodied_mem.log.replay.Loop.run", lambda self: press())
    else:
        arguments = ["eval", "random", "--env", "EmbodiedMem/MultiRoom-v0"]
        monkeypatch.setattr("embodied_mem.sim.evaluation.play", lambda *rest, **named: press())
    with pytest.raises(SystemExit) as end:
        main(arguments)
    err = capsys.readouterr().err
    assert end.value.code == 130 and err.startswith("embodied-mem: interrupted; nothing was")
    assert err.count("\n") == 1


def test_a_sweep_that_is_stopped_goes_on_where_it_was(tmp_path: Path, capsys, monkeypatch):
    from embodied_mem.verbs.training_record import TrainingRecord

    rollout_end = TrainingRecord._on_rollout_end

    def press_once(self: TrainingRecord) -> None:
        rollout_end(self)
        if not (tmp_path / "pressed").exists():
            (tmp_path / "pressed").touch()
            press()

    monkeypatch.setattr(TrainingRecord, "_on_rollout_end", press_once)
    config = tmp_path / "task.yaml"
    config.write_text(CONFIG.read_text() + "\neval_episodes: 4\n")
    folders = ["--out", str(tmp_path / "rows"), "--work", str(tmp_path / "work")]
    arguments = ["sweep", str(config), "--methods", "none", "--seeds", "0", "--steps", "6000", *folders]
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 130 and "the same command goes on" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(arguments)
    row = json.loads((tmp_path / "rows" / "task" / "none-0.json").read_text())
    assert end.value.code == 0 and row["steps"] >= 6000

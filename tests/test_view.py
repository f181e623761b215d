from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("rerun", reason="rerun-sdk is not installed (extra: viz)")

from embodied_mem.cli import main
from embodied_mem.errors import EmbodiedMemError
from embodied_mem.log.replay import replay
from embodied_mem.verbs.record import Recording, record_episode
from embodied_mem.verbs.view import write_rrd
from embodied_mem.viz.web_view import serving


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record_episode("EmbodiedMem/House-ObjectNav-v0", tmp_path_factory.mktemp("run"), seed=3, steps=45)


def shown(rrd: Path) -> str:
    """What Rerun's own reader finds in a recording."""
    command = [sys.executable, "-m", "rerun", "rrd"]
    subprocess.run([*command, "verify", str(rrd)], check=True, capture_output=True)
    return subprocess.run([*command, "print", str(rrd)], check=True, capture_output=True, text=True).stdout


def test_a_log_shows_cameras_map_objects_path_and_rewards(recording: Recording, tmp_path: Path):
    assert "45 steps" in write_rrd(recording.log, tmp_path / "run.rrd")
    found = shown(tmp_path / "run.rrd")
    for entity in (
        "world/voxels",
        "world/overhead",
        "world/objects",
        "world/places",
        "world/path",
        "world/agent",
    ):
        assert f"/{entity}" in found
    for entity in (
        "cameras/color",
        "cameras/depth",
        "cameras/labels",
        "run/reward",
        "run/events",
        "world/tokens",
    ):
        assert f"/{entity}" in found


def test_a_memory_shows_its_map_and_its_entries(recording: Recording, tmp_path: Path):
    write_rrd(recording.memory, tmp_path / "memory.rrd")
    found = shown(tmp_path / "memory.rrd")
    for entity in ("world/voxels", "world/objects", "world/rooms", "world/path", "run/events"):
        assert f"/{entity}" in found


def test_a_watched_replay_has_the_same_digest(recording: Recording):
    stamps: list[int] = []
    result = replay(
        recording.log, verify=True, watch=lambda memory: lambda moment: stamps.append(memory.stamp)
    )
    assert result.verified and len(stamps) == result.frames == 45


def test_the_browser_view_is_served_on_this_machine_and_kept_to_it(recording: Recording, tmp_path: Path):
    write_rrd(recording.memory, tmp_path / "memory.rrd")
    with serving(tmp_path / "memory.rrd", 0) as url:
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url, timeout=30) as page:
            policy = page.headers["Content-Security-Policy"]
            assert b"<html" in page.read()
        with urllib.request.urlopen(url.partition("?")[0] + "re_viewer.js", timeout=30) as script:
            assert script.status == 200
        allowed = {word for word in policy.split() if word.startswith(("http", "ws", "*"))}
        assert allowed == {"http://127.0.0.1:*", "ws://127.0.0.1:*"}
        data = int(url.rpartition("127.0.0.1:")[2].partition("/")[0])
        assert answers(data)
    assert ends(data)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ends(port: int) -> bool:
    return any(not answers(port) or time.sleep(0.1) for _ in range(200))


def test_a_port_that_is_taken_is_said(recording: Recording, tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(EmbodiedMemError, match="--port"), serving(recording.log, taken.getsockname()[1]):
            pass


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as end:
        main(["view", *map(str, arguments)])
    err = capsys.readouterr().err
    assert end.value.code == 2 and err.count("\n") == 1
    return err


def test_what_cannot_be_shown_is_said_in_one_line(recording: Recording, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert "--web" in complaint(capsys, recording.memory)
    assert "no such file" in complaint(capsys, tmp_path / "absent.mcap")
    (tmp_path / "text.mcap").write_text("not a log")
    complaint(capsys, tmp_path / "text.mcap", "--save", tmp_path / "x.rrd")
    assert "cannot be written" in complaint(capsys, recording.memory, "--save", tmp_path)

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import gymnasium
import numpy as np
import pytest

pytest.importorskip("rerun", reason="rerun-sdk is not installed (extra: viz)")

import rerun as rr

from embodied_mem.cli import main
from embodied_mem.errors import EmbodiedMemError
from embodied_mem.log.replay import replay
from embodied_mem.loop import Loop
from embodied_mem.memory import Memory
from embodied_mem.perception import Perception, PerceptionConfig
from embodied_mem.sim.explorer import Explorer
from embodied_mem.sim.grid_controller import GridController
from embodied_mem.sim.grid_memory import grid_memory_config
from embodied_mem.sim.world import EnvWorld
from embodied_mem.verbs.record import Recording, record_episode
from embodied_mem.verbs.view import Shown, show_live, write_rrd
from embodied_mem.viz.map_raster import label_color
from embodied_mem.viz.rerun_view import file_stream
from embodied_mem.viz.voxel_colors import voxel_colors
from embodied_mem.viz.web_view import data_address, serving


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


def test_questions_are_answered_in_the_map(recording: Recording, tmp_path: Path, capsys):
    arguments = ["view", recording.memory, "--ask", "what is in room 1", "--save", tmp_path / "asked.rrd"]
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments), "--colors", "height"])
    found = shown(tmp_path / "asked.rrd")
    assert end.value.code == 0 and "room 1" in capsys.readouterr().out
    assert "/world/recalls" in found and "/run/recalls" in found


def test_voxels_are_coloured_by_label_or_by_height(recording: Recording):
    with Memory.open(recording.memory, read_only=True) as memory:
        voxels = memory.octree.voxels()
        by_label = voxel_colors(voxels, memory.labels)
        by_height = voxel_colors(voxels, memory.labels, "height")
        bed = label_color(memory.labels, int(voxels.labels.max()))
    labelled = voxels.labels > 0
    np.testing.assert_array_equal(by_label[~labelled], by_height[~labelled])
    assert labelled.any() and (by_label[labelled] != by_height[labelled]).any()
    of_one = by_label[voxels.labels == voxels.labels.max()]
    np.testing.assert_array_equal(of_one, np.tile(np.round(255 * np.array(bed)), (len(of_one), 1)))


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy with a memory that has learned nothing: what it looks at can be shown all the same."""
    from embodied_mem.policy import MemoPPO

    env = gymnasium.make("EmbodiedMem/PlaygroundMemory-v0", disable_env_checker=True)
    model = MemoPPO(
        "MemoPolicy", env, width=16, heads=2, layers=1, segment_length=8, summary_tokens=1, n_steps=8
    )
    return model.export(
        tmp_path_factory.mktemp("policy") / "checkpoint", env_id="EmbodiedMem/PlaygroundMemory-v0"
    )


def test_a_policy_shows_at_which_tokens_it_looks(policy: Path, tmp_path: Path):
    assert "12 steps" in write_rrd(policy, tmp_path / "policy.rrd", Shown(steps=12))
    found = shown(tmp_path / "policy.rrd")
    for entity in ("world/attention", "run/attention", "world/tokens", "run/reward", "cameras/color/grid"):
        assert f"/{entity}" in found


def test_attention_is_what_the_reader_reads_with(policy: Path):
    import torch

    from embodied_mem.policy.checkpoint import load_policy
    from embodied_mem.policy.reader import MemoryReader

    network = load_policy(policy).network
    reader = next(module for module in network.modules() if isinstance(module, MemoryReader))
    generator = torch.Generator().manual_seed(0)
    obs = {
        key: torch.rand((3, *space.shape), generator=generator).round(decimals=2)
        for key, space in network.observation_space.spaces.items()
        if key.startswith("mem_")
    }
    obs["mem_mask"] = (obs["mem_mask"] > 0.5).float()
    x = torch.randn((3, 16), generator=generator)
    weights = reader.weights(x, obs)
    assert torch.allclose(weights.sum(1), torch.ones(3), atol=1e-6)
    assert (weights[:, 1:][obs["mem_mask"] == 0] == 0).all() and (weights[:, 0] > 0).all()
    reader.heads = 1  # one head: what is read is then the values' mean by these weights
    _, _, values, _ = reader._queries_and_tokens(x, obs)
    read = reader.out((reader.weights(x, obs)[:, None, None] @ values)[:, 0, 0])
    assert torch.allclose(reader(x, obs), read, atol=1e-5)


def test_a_policy_without_memory_tokens_is_refused_in_one_line(tmp_path: Path, capsys):
    model = Path(__file__).parents[1] / "models" / "proof_of_memory"
    assert "no memory tokens" in complaint(capsys, model, "--save", tmp_path / "x.rrd")


def test_a_memory_that_is_being_written_is_followed(tmp_path: Path, monkeypatch):
    """As `view --live` does while a robot, or `record` in another terminal, writes the file."""
    monkeypatch.setattr("embodied_mem.verbs.view.LOOK_EVERY", 0.0)
    path, out, looks = tmp_path / "home.emem", tmp_path / "live.rrd", []
    with Memory.open(path, grid_memory_config()) as memory:
        world = EnvWorld(gymnasium.make("EmbodiedMem/Playground-v0", disable_env_checker=True), 7)
        loop = Loop(world, Perception(PerceptionConfig()), memory, Explorer(), GridController())

        def walk_on() -> bool:
            looks.append(len(memory.episodes))
            loop.run(10)
            memory.flush()
            return len(looks) < 4

        walk_on()
        stream = file_stream("live", out)
        show_live(path, stream, goes_on=walk_on)
        stream.disconnect()
    found = shown(out)
    assert len(looks) == 4 and "/world/voxels" in found and "/world/objects" in found
    steps = count_rows(out, "/world/agent")
    assert steps >= 30  # what was written before the last look is there, each entry once
    assert steps <= looks[-1] + 10


def count_rows(rrd: Path, entity: str) -> int:
    """How many times something was logged to an entity, by Rerun's own reader."""
    command = [sys.executable, "-m", "rerun", "rrd", "print", "--entity", entity, str(rrd)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return sum(int(rows) for rows in re.findall(r"with (\d+) rows", text))


def test_a_stream_reaches_the_page_that_is_served():
    with serving(None, 0) as url:
        stream = rr.RecordingStream("test")
        stream.connect_grpc(data_address(url))
        stream.log("x", rr.TextLog("seen"))
        stream.flush(timeout_sec=20)  # raises where nobody listens
        stream.disconnect()


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

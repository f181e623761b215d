"""The memory built on-line and the memory rebuilt from the log of that run are the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from made_bags import copy_log, make_bag

import embodied_mem.sim  # noqa: F401
from embodied_mem.configs import to_mapping
from embodied_mem.errors import LogError
from embodied_mem.geometry import Pose
from embodied_mem.log import topics
from embodied_mem.log.describe import describe_log
from embodied_mem.log.replay import RGBD_MEMORY, ReplayResult, replay
from embodied_mem.log.world import LoggedWorld
from embodied_mem.log.writer import EpisodeWriter
from embodied_mem.loop import Loop
from embodied_mem.memory import Memory, MemoryConfig, OctreeConfig
from embodied_mem.perception import Perception, PerceptionConfig
from embodied_mem.sim.grid_memory import grid_memory_config
from embodied_mem.sim.world import EnvWorld
from embodied_mem.types import CameraFrame, Detection, Image, Intrinsics, LabelMap, Observation


class Wanderer:
    """Acts at random, by seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def act(self, obs: Any, tokens: Any, state: Any) -> tuple[int, None]:
        return int(self.rng.choice([0, 1, 2, 2, 2, 3, 5])), None


class Corridor:
    """A robot with an RGB-D camera that drives along a wall; its localisation steps half-way."""

    def __init__(self, steps: int) -> None:
        self._observations: Iterator[Observation] = (self._step(i) for i in range(steps))

    def observe(self) -> Observation | None:
        return next(self._observations, None)

    def act(self, action: Any) -> None:
        pass

    def _step(self, i: int) -> Observation:
        rng = np.random.default_rng(i)
        mount = Pose(np.array([0.1, 0.0, 0.3]), np.array([-0.5, 0.5, -0.5, 0.5]))
        camera = Intrinsics(32, 24, 25.0, 25.0, 15.5, 11.5, "plumb_bob", (0.05, -0.01, 0.0, 0.001, 0.0))
        depth = (2.0 + 0.3 * rng.uniform(size=(24, 32))).astype(np.float32)
        depth[:3] = [[0.0], [np.nan], [np.inf]]
        semantic = rng.integers(-1, 3, (24, 32)).astype(np.int32)
        color = rng.integers(0, 256, (24, 32, 3)).astype(np.uint8)
        turned = replace(camera, width=16, height=12, model="", coefficients=())
        side = Image(depth[::2, ::2].copy(), turned, Pose.from_xyz_yaw(0, 0.1 * i, 0.2, 0.5) @ mount)
        chair = Detection(2, np.array([1.5 - 0.1 * i, 0.2, 0.3]), np.full(3, 0.4), np.eye(3) * 0.01, 0.9)
        return Observation(
            stamp=1_700_000_000_000_000_000 + i * 123_456_789,
            step=i,
            odom_T_base=Pose.from_xyz_yaw(0.1 * i, 0.01 * i, 0.0, 0.03 * i),
            map_T_odom=Pose.from_xyz_yaw(0.0, 0.0, 0.0, 0.0)
            if i < 6
            else Pose.from_xyz_yaw(0.3, -0.1, 0, 0.1),
            covariance=np.eye(6) * 0.001,
            labels=LabelMap(("unknown", "wall", "chair")),
            cameras=(
                CameraFrame(
                    "camera",
                    Image(depth, camera, mount),
                    Image(color, camera, mount),
                    Image(semantic, camera, mount),
                ),
                CameraFrame("side", side),
            ),
            detections=(chair,) if i % 3 else (),
            action=np.array([0.1, 0.03]),
            is_first=i == 0,
        )


def run(path: Path, world: Any, config: MemoryConfig, policy: Any = None, steps: int = 60) -> str:
    """Runs the loop with a log, gives commands on the way, and returns the digest on-line."""
    memory = Memory(config)
    writer = EpisodeWriter(path, config=to_mapping(config))
    memory.on_command.append(writer.command)
    memory.note("before anything was seen")
    loop = Loop(world, Perception(PerceptionConfig()), memory, policy, listeners=[writer])
    for number in range(steps):
        if loop.step() is None:
            break
        if number % 10 == 5:
            memory.note(f"a note after step {number}")
        if number == 17:
            memory.forget("episode", int(memory.episodes.ids[0]))
    memory.note("the end")
    digest = memory.digest()
    writer.close(digest)
    return digest


def grid_log(path: Path, seed: int = 0, steps: int = 60) -> str:
    env = gymnasium.make("EmbodiedMem/MultiRoom-v0", disable_env_checker=True)
    return run(path, EnvWorld(env, seed), grid_memory_config(), Wanderer(seed), steps)


@pytest.mark.parametrize("seed", [0, 1])
def test_online_and_replayed_minigrid_memories_agree(tmp_path: Path, seed: int) -> None:
    digest = grid_log(tmp_path / "log.mcap", seed)
    result = replay(tmp_path / "log.mcap", verify=True)
    assert result.digest == digest == result.recorded_digest
    assert result.verified is True and result.warnings == () and result.rejected == 0
    assert result.frames == 60
    assert replay(tmp_path / "log.mcap").verified is None


def test_online_and_replayed_camera_memories_agree(tmp_path: Path) -> None:
    config = MemoryConfig(octree=OctreeConfig(resolution=0.1, max_range=4.0))
    digest = run(tmp_path / "log.mcap", Corridor(12), config)
    result = replay(tmp_path / "log.mcap", verify=True)
    assert result.digest == digest and result.verified is True and result.warnings == ()
    assert result.frames == 12


def test_a_log_of_a_replay_replays_to_the_same_memory(tmp_path: Path) -> None:
    digest = grid_log(tmp_path / "first.mcap")
    with LoggedWorld(tmp_path / "first.mcap") as world:
        memory = Memory(grid_memory_config())
        writer = EpisodeWriter(tmp_path / "second.mcap", config={"memory": to_mapping(memory.config)})
        memory.on_command.append(writer.command)
        Loop(world, Perception(PerceptionConfig()), memory, listeners=[writer]).run()
        for command in world.trailing_commands:
            memory.apply(command)
        writer.close(memory.digest())
    assert replay(tmp_path / "second.mcap", verify=True).verified is True
    assert replay(tmp_path / "second.mcap").digest == digest


def test_the_ledger_decides_not_the_order_of_stamps(tmp_path: Path) -> None:
    grid_log(tmp_path / "log.mcap", steps=30)

    def without_notes(topic: str, message: Any) -> Any:
        return None if topic == topics.COMMAND.name else message

    copy = copy_log(tmp_path / "log.mcap", tmp_path / "copy.mcap", without_notes)
    result = replay(copy, verify=True)
    assert result.frames == 30 and result.verified is False


def test_a_replay_writes_its_memory_and_its_map(tmp_path: Path) -> None:
    digest = grid_log(tmp_path / "log.mcap")
    for _ in range(2):  # the second replaces what the first left
        result = replay(tmp_path / "log.mcap", out=tmp_path / "out")
        assert result.memory is not None
        with Memory.open(result.memory, read_only=True) as memory:
            assert memory.digest() == digest
    assert result.picture is not None and result.picture.read_bytes().startswith(b"\x89PNG")
    parts = sum(result.timings[part] for part in ("world", "perceive", "write", "read", "save"))
    assert 0 < parts <= result.timings["total"]


def test_a_cut_log_is_replayed_up_to_the_cut_with_a_warning(tmp_path: Path) -> None:
    grid_log(tmp_path / "log.mcap", steps=200)
    whole = (tmp_path / "log.mcap").read_bytes()
    (tmp_path / "cut.mcap").write_bytes(whole[: len(whole) // 3])
    result = replay(tmp_path / "cut.mcap", verify=True)
    assert 0 < result.frames < 200
    assert result.verified is None and result.recorded_digest is None
    assert any("cut off" in w for w in result.warnings) and any("not verified" in w for w in result.warnings)
    assert replay(tmp_path / "cut.mcap").digest == result.digest
    (tmp_path / "nothing.mcap").write_bytes(whole[:200])
    with pytest.raises(LogError, match="cut"):
        replay(tmp_path / "nothing.mcap")


def test_a_verdict_that_differs_from_the_ledgers_is_told(tmp_path: Path) -> None:
    digest = grid_log(tmp_path / "log.mcap", steps=20)
    config = grid_memory_config()
    config = replace(config, gate=replace(config.gate, max_speed=0.001, jump_allowance=0.5))
    result = replay(tmp_path / "log.mcap", verify=True, config=config)
    assert result.verified is False and result.digest != digest and result.rejected > 0
    text = "; ".join(result.warnings)
    assert (
        "observations rejected, first at step" in text
        and "the log says accepted, the replay rejected" in text
    )
    assert "other settings" in text


def test_recorded_perception_settings_are_used(tmp_path: Path) -> None:
    config = RGBD_MEMORY
    perception = PerceptionConfig()
    perception = replace(perception, depth=replace(perception.depth, stride=3))
    memory = Memory(config)
    settings = {"memory": to_mapping(config), "perception": to_mapping(perception)}
    writer = EpisodeWriter(tmp_path / "log.mcap", config=json.dumps(settings))
    Loop(Corridor(5), Perception(perception), memory, listeners=[writer]).run()
    writer.close(memory.digest())
    assert replay(tmp_path / "log.mcap", verify=True).verified is True
    assert describe_log(tmp_path / "log.mcap")["settings"]["perception"]["depth"]["stride"] == 3


def test_a_log_is_described_with_its_ledger(tmp_path: Path) -> None:
    digest = grid_log(tmp_path / "log.mcap", steps=7)
    facts = describe_log(tmp_path / "log.mcap")
    assert (facts["ledger"], facts["steps"], facts["digest"]) == (True, 7, digest)
    assert facts["settings"]["octree"]["resolution"] == 1.0
    assert json.loads(json.dumps(facts)) == facts


def test_poses_that_are_not_numbers_are_rejected_with_a_reason(tmp_path: Path) -> None:
    path = make_bag(tmp_path / "bag.mcap", nan_at=2)
    result = replay(path)
    assert (result.frames, result.rejected) == (5, 1)
    assert any("NaN" in w and "step 2" in w for w in result.warnings)
    assert replay(path).digest == result.digest


@pytest.fixture(scope="module")
def kitchen_replays(
    kitchen_bags: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ReplayResult]:
    return {name: replay(bag, out=tmp_path_factory.mktemp(name)) for name, bag in kitchen_bags.items()}


@pytest.mark.parametrize("name", ["compressed", "raw"])
def test_two_replays_of_each_kitchen_bag_agree(
    kitchen_bags: dict[str, Path], kitchen_replays: dict[str, ReplayResult], name: str
) -> None:
    first, second = kitchen_replays[name], replay(kitchen_bags[name])
    assert first.digest == second.digest
    assert first.frames == {"compressed": 100, "raw": 12}[name]
    assert first.rejected == 0 and first.warnings == ()


@pytest.mark.parametrize("name", ["compressed", "raw"])
def test_replays_agree_where_the_localisation_steps_half_way(
    kitchen_bags: dict[str, Path],
    kitchen_replays: dict[str, ReplayResult],
    tmp_path: Path,
    name: str,
) -> None:
    seen = 0

    def step(topic: str, message: Any) -> Any:
        nonlocal seen
        if topic == "/tf":
            for item in message.transforms:
                if item.header.frame_id == "map":
                    seen += 1
                    if seen > {"compressed": 10, "raw": 1}[name]:
                        item.transform.translation.x += 0.5
                        item.transform.translation.y -= 0.25
        return message

    copy = copy_log(kitchen_bags[name], tmp_path / "stepped.mcap", step)
    with LoggedWorld(copy) as world:
        corrections = [obs.map_T_odom.position[0] for obs in iter(world.observe, None)]
    assert corrections == sorted(corrections) and set(corrections) == {0.2, 0.7}
    first, second = replay(copy), replay(copy)
    assert first.digest == second.digest
    assert first.digest != kitchen_replays[name].digest


def test_the_kitchen_becomes_a_plausible_map(
    kitchen_bags: dict[str, Path], kitchen_replays: dict[str, ReplayResult]
) -> None:
    result = kitchen_replays["compressed"]
    assert result.memory is not None and result.picture is not None
    memory = Memory.open(result.memory, read_only=True)
    voxels = memory.octree.voxels()
    occupied = voxels.centers[voxels.log_odds > 0]
    size = np.percentile(occupied, 99, axis=0) - np.percentile(occupied, 1, axis=0)
    assert 5_000 < len(occupied) < 60_000
    assert ((size > 1.5) & (size < 8.0)).all(), size  # a room, metres across
    # Frames agree with one another: what any of them saw lies where the whole map is occupied, and
    # the space that the camera passed through is free.
    perception = Perception(PerceptionConfig())
    with LoggedWorld(kitchen_bags["compressed"]) as world:
        for obs in iter(world.observe, None):
            if obs.step % 20:
                continue
            (scan,) = perception(obs).scans
            points = obs.map_T_base.transform(scan.points[scan.hit]).astype(np.float32)
            assert (memory.octree.query(points) > 0).mean() > 0.75
            assert scan.origin is not None
            camera = obs.map_T_base.transform(scan.origin[None]).astype(np.float32)
            assert not (memory.octree.query(camera) > 0).any()
    stamps, positions = memory.scene.trajectory()
    assert len(stamps) > 2 and np.isfinite(positions).all()
    assert len(memory.episodes) > 3

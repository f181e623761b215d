from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embodied_mem.geometry import Pose
from embodied_mem.log.replay import replay
from embodied_mem.loop import Loop
from embodied_mem.memory import Memory
from embodied_mem.perception import Perception, PerceptionConfig
from embodied_mem.sim.grid_memory import grid_memory_config
from embodied_mem.types import LabelMap, MemoryTokens, Observation, Percept, Query
from embodied_mem.verbs.record import record_episode


class Line:
    """A world of `length` observations along x, which keeps the actions it is given."""

    def __init__(self, length: int, nan_at: int = -1) -> None:
        self.length, self.nan_at = length, nan_at
        self.step = 0
        self.actions: list = []

    def observe(self) -> Observation | None:
        if self.step == self.length:
            return None
        x = np.nan if self.step == self.nan_at else float(self.step)
        self.step += 1
        stamp = self.step * 100_000_000
        return Observation(stamp, self.step, Pose(np.array([x, 0.0, 0.0])), is_first=self.step == 1)

    def act(self, action) -> None:
        self.actions.append(action)


class Counter:
    """A policy whose action is the number of steps its state has seen."""

    def act(self, obs: Observation, tokens: MemoryTokens, state):
        count = 0 if state is None else state
        return count, count + 1


def perceive(obs: Observation) -> Percept:
    return Percept(obs.stamp, obs.step, obs.odom_T_base, labels=LabelMap(), is_first=obs.is_first)


def test_the_loop_carries_the_policy_state_and_stops_where_the_world_ends():
    world = Line(5)
    loop = Loop(world, perceive, Memory(grid_memory_config()), Counter())
    assert loop.run() == 5
    assert world.actions == [0, 1, 2, 3, 4]
    assert loop.step() is None


def test_the_loop_stops_at_the_limit_and_goes_on_from_there():
    world = Line(5)
    loop = Loop(world, perceive, Memory(grid_memory_config()), Counter())
    assert loop.run(2) == 2
    assert loop.run() == 3
    assert world.actions == [0, 1, 2, 3, 4]


def test_a_nan_pose_is_rejected_with_a_reason_and_the_loop_goes_on():
    moments = []
    loop = Loop(
        Line(4, nan_at=2), perceive, Memory(grid_memory_config()), Counter(), listeners=[moments.append]
    )
    assert loop.run() == 4
    assert [m.receipt.verdict for m in moments] == ["accepted", "accepted", "rejected", "accepted"]
    assert moments[2].receipt.reason


@pytest.mark.parametrize("env_id", ["EmbodiedMem/Playground-v0", "EmbodiedMem/MultiRoom-v0"])
@pytest.mark.parametrize("agent", ["explorer", "random"])
def test_the_memory_built_on_line_and_the_one_replayed_have_the_same_digest(
    tmp_path: Path, env_id: str, agent: str
):
    recording = record_episode(env_id, tmp_path, seed=3, steps=120, agent=agent)
    result = replay(recording.log, verify=True)
    assert result.frames == recording.steps
    assert result.digest == recording.digest
    assert result.verified is True


def test_replaying_the_log_without_one_step_gives_another_digest(tmp_path: Path):
    long = record_episode("EmbodiedMem/Playground-v0", tmp_path / "a", seed=3, steps=40)
    short = record_episode("EmbodiedMem/Playground-v0", tmp_path / "b", seed=3, steps=39)
    assert replay(long.log).digest != replay(short.log).digest


def test_the_explorer_sees_almost_all_of_an_unseen_world_and_remembers_its_things(tmp_path: Path):
    recording = record_episode("EmbodiedMem/MultiRoom-v0", tmp_path, seed=4, steps=400)
    assert recording.stopped in ("explored", "terminated")
    with Memory.open(recording.memory, read_only=True) as memory:
        doors = memory.recall(Query(kind="object", label="door", k=20))
        assert len(doors) >= 5  # six rooms in a row
        assert len(memory.scene.rooms()) >= 5


def test_commands_given_during_the_run_are_in_the_ledger_and_replayed(tmp_path: Path):
    import gymnasium

    from embodied_mem.configs import to_mapping
    from embodied_mem.log.writer import EpisodeWriter
    from embodied_mem.sim.explorer import Explorer
    from embodied_mem.sim.grid_controller import GridController
    from embodied_mem.sim.world import EnvWorld

    memory = Memory(grid_memory_config())
    writer = EpisodeWriter(tmp_path / "e.mcap", config=to_mapping(memory.config))
    memory.on_command.append(writer.command)
    world = EnvWorld(gymnasium.make("EmbodiedMem/Playground-v0", disable_env_checker=True), seed=7)
    loop = Loop(world, Perception(PerceptionConfig()), memory, Explorer(), GridController(), [writer])
    loop.run(60)
    without = memory.digest()
    thing = memory.recall(Query(kind="object", k=1))[0]
    memory.forget("object", thing.id)
    memory.note("the cat was here")
    assert memory.digest() != without
    loop.run(20)
    memory.note("the end")
    digest = memory.digest()
    writer.close(digest)
    assert replay(tmp_path / "e.mcap", verify=True).digest == digest

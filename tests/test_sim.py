from __future__ import annotations

import math
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from embodied_mem.errors import ConfigError
from embodied_mem.sim import ENVIRONMENTS
from embodied_mem.sim.memory_wrapper import MemoryWrapper
from embodied_mem.sim.minigrid import STEP_NS, grid_pose
from embodied_mem.sim.proof_of_memory import ProofOfMemory
from embodied_mem.sim.world import EnvWorld

IDS = [entry.id for entry in ENVIRONMENTS if entry.needs is None]


@pytest.mark.parametrize("env_id", IDS)
def test_every_registered_environment_passes_check_env(env_id: str):
    env = gymnasium.make(env_id, disable_env_checker=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # check_env warns of unbounded boxes, which poses are
        wrapped = "Memory-v0" in env_id or "Pointing" in env_id
        check_env(env if wrapped else env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("env_id", IDS)
def test_the_same_seed_gives_the_same_episode(env_id: str):
    def episode() -> list:
        env = gymnasium.make(env_id, disable_env_checker=True)
        env.action_space.seed(3)
        obs, _ = env.reset(seed=11)
        seen = [obs]
        for _ in range(20):
            obs, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            seen.append((obs, reward, terminated, truncated))
            if terminated or truncated:
                break
        return seen

    assert _equal(episode(), episode())


def _equal(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b))
    return bool(np.array_equal(a, b))


@pytest.mark.parametrize("env_id", IDS)
def test_every_environment_says_what_it_is_under_the_usual_headings(env_id: str):
    env = gymnasium.make(env_id, disable_env_checker=True)
    text = type(env.unwrapped).__doc__ or ""
    headings = (
        "Description",
        "Action Space",
        "Observation Space",
        "Rewards",
        "Starting State",
        "Episode End",
        "Arguments",
        "Version History",
    )
    assert all(f"## {heading}" in text for heading in headings)


def test_a_constant_choice_in_proof_of_memory_is_right_half_the_time_and_the_cue_tells_always():
    env = ProofOfMemory(length=5)
    constant, cued = [], []
    for episode in range(200):
        obs, _ = env.reset(seed=episode)
        cue = obs[0]
        for _ in range(5):
            obs, reward, terminated, _, _ = env.step(0)
            assert obs[0] == 0 and reward == 0 and not terminated
        assert obs[2] == 1
        choose_cue = episode % 2 == 0
        _, reward, terminated, _, info = env.step(int(cue > 0) if choose_cue else 0)
        assert terminated and info["is_success"] == (reward > 0)
        (cued if choose_cue else constant).append(info["is_success"])
    assert all(cued)
    assert 0.3 < np.mean(constant) < 0.7


def test_a_corridor_without_steps_is_refused_in_one_line():
    with pytest.raises(ConfigError, match="length must be at least 1"):
        ProofOfMemory(length=0)


@pytest.mark.parametrize(("direction", "yaw"), [(0, 0.0), (1, -math.pi / 2), (2, math.pi), (3, math.pi / 2)])
def test_grid_poses_follow_rep_103(direction: int, yaw: float):
    pose = grid_pose(2, 3, direction)
    assert np.allclose(pose.position, [2.5, -3.5, 0.0])
    assert math.isclose(abs(pose.yaw), abs(yaw), abs_tol=1e-12)
    assert math.isclose(math.sin(pose.yaw), math.sin(yaw), abs_tol=1e-12)


def test_the_agent_moves_in_the_map_as_it_moves_in_the_grid():
    env = gymnasium.make("EmbodiedMem/Playground-v0", disable_env_checker=True).unwrapped
    env.reset(seed=1)
    for action in (2, 0, 2, 1, 2, 1, 2, 2):
        before = env.observation.map_T_base
        i, j = env.grid_env.agent_pos
        env.step(action)
        moved = tuple(env.grid_env.agent_pos) != (i, j)
        ahead = before.transform(np.array([1.0, 0.0, 0.0])) if moved else before.position
        assert np.allclose(env.observation.map_T_base.position, ahead)
        if action in (0, 1):
            turn = env.observation.map_T_base.yaw - before.yaw
            assert math.isclose(math.sin(turn), 1.0 if action == 0 else -1.0, abs_tol=1e-9)


def test_the_world_ends_with_the_episode_and_stamps_count_steps():
    world = EnvWorld(
        gymnasium.make("EmbodiedMem/Playground-v0", max_steps=5, disable_env_checker=True), seed=0
    )
    seen = []
    while (obs := world.observe()) is not None:
        seen.append(obs)
        world.act(0)
    assert [o.stamp for o in seen] == [i * STEP_NS for i in range(6)]
    assert seen[0].is_first and not seen[1].is_first
    assert seen[-1].truncated and world.observe() is None


def test_stopping_ends_the_world():
    world = EnvWorld(gymnasium.make("EmbodiedMem/Playground-v0", disable_env_checker=True), seed=0)
    assert world.observe() is not None
    world.act(None)
    assert world.observe() is None


def test_an_environment_that_cannot_be_observed_is_refused_in_one_line():
    with pytest.raises(ConfigError, match="gives no `observation`"):
        MemoryWrapper(gymnasium.make("EmbodiedMem/ProofOfMemory-v0"))


def test_the_memory_wrapper_starts_each_episode_empty_and_fills_it():
    env = gymnasium.make("EmbodiedMem/PlaygroundMemory-v0")
    first, _ = env.reset(seed=5)
    for _ in range(10):
        obs, *_ = env.step(env.action_space.sample())
    again, _ = env.reset(seed=5)
    assert _equal(first, again)
    assert first["mem_mask"].sum() > 0
    assert obs["mem_age"].max() > first["mem_age"].max()


def test_hiding_the_tokens_leaves_the_own_observation_alone():
    env = gymnasium.make("EmbodiedMem/PlaygroundMemory-v0", tokens=False)
    obs, _ = env.reset(seed=5)
    assert set(obs) == {"view", "pose"}


def test_the_token_space_can_be_sampled_and_holds_what_is_read():
    env = gymnasium.make("EmbodiedMem/MultiRoomMemory-v0")
    obs, _ = env.reset(seed=1)
    assert env.observation_space.contains(obs)
    assert env.observation_space.contains(env.observation_space.sample())

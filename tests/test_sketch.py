"""The sketch of the memory: what a robot sees from above, and that policies can learn in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("open3d")

import embodied_mem.sim  # noqa: E402, F401
from embodied_mem.errors import ConfigError  # noqa: E402
from embodied_mem.sim.agents import make_observable  # noqa: E402
from embodied_mem.sim.house.catalog import HOUSE_LABELS  # noqa: E402
from embodied_mem.sim.house.company import company  # noqa: E402
from embodied_mem.sim.house.house import make_house  # noqa: E402
from embodied_mem.sim.pointing.candidates import LOOK  # noqa: E402
from embodied_mem.sim.pointing.heuristic import heuristic_choice  # noqa: E402
from embodied_mem.sim.pointing.pointing import Pointing, pointing_of  # noqa: E402
from embodied_mem.sim.pointing.sketch import CELL, SketchMemory, make_sketch  # noqa: E402
from embodied_mem.sim.pointing.splits import TASK, episode_facts  # noqa: E402


@pytest.fixture(scope="module")
def env() -> Pointing:
    return pointing_of(make_sketch(goals=1, max_steps=300))


def test_nothing_is_known_of_a_room_that_was_not_looked_into(env: Pointing) -> None:
    env.reset(seed=4)
    memory, task = env.memory, env.unwrapped
    assert isinstance(memory, SketchMemory)
    before = memory.seen.copy()
    env.step(LOOK)
    assert memory.seen.sum() > before.sum() and (memory.seen >= before).all()  # a look around shows more
    here = task.house.layout.room_at(*task.robot.position[:2])
    for room in task.house.rooms:
        beside = any({here, room.id} == set(door.rooms) for door in task.house.doors)
        x0, y0, x1, y1 = (round(v / CELL) for v in room.rect)
        if room.id != here and not beside:
            away = np.hypot(*(np.array(room.rect).reshape(2, 2).mean(axis=0) - task.robot.position[:2]))
            assert memory.seen[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].mean() < (0.05 if away > 7.0 else 0.5)


def test_the_same_seed_gives_the_same_sketch_and_its_observations_fit_the_task(env: Pointing) -> None:
    runs = []
    for _ in range(2):
        observation, _ = env.reset(seed=5)
        trace = [observation]
        for _ in range(4):
            observation, *_ = env.step(heuristic_choice(observation))
            trace.append(observation)
        runs.append(trace)
    for first, second in zip(*runs):
        assert env.observation_space.contains(first)
        for key in first:
            np.testing.assert_array_equal(first[key], second[key])


def test_the_goal_can_be_found_in_the_sketch(env: Pointing) -> None:
    found = 0
    for seed in range(8):
        observation, _ = env.reset(seed=700 + seed)
        ended = False
        while not ended:
            observation, _, terminated, truncated, info = env.step(heuristic_choice(observation))
            ended = terminated or truncated
        found += bool(info["success"])
    assert found >= 3


def test_company_tells_kitchens_from_bathrooms() -> None:
    table = company([make_house(seed) for seed in range(9_000, 9_012)], HOUSE_LABELS)

    def together(a: str, b: str) -> float:
        return float(table[HOUSE_LABELS.id(a), HOUSE_LABELS.id(b)])

    assert together("toilet", "bathtub") > 0.5 > -0.5 > together("toilet", "fridge")
    assert together("kettle", "stove") > together("kettle", "bed")
    assert together("bed", "bed") == 0.0 and (table[0] == 0.0).all()


def test_trainings_learn_from_the_same_demonstrations_with_and_without_a_part(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from embodied_mem.policy.config import ImitationConfig, PolicyConfig
    from embodied_mem.sim.agents import make_agent
    from embodied_mem.verbs.train import TrainConfig, run_training

    task = {"env_id": "EmbodiedMem/House-Sketch-v0", "goals": 1, "max_steps": 60}
    config = TrainConfig(
        env="EmbodiedMem/House-Pointing-v0", env_kwargs=task, eval_env_kwargs={"split": "val"}, n_envs=1,
        total_steps=0, eval_episodes=2, policy=PolicyConfig(width=16, layers=1, heads=2, segment_length=8),
        imitation=ImitationConfig(
            sketched=3, epochs=1, lane_steps=4, lanes=2, houses=2, collected=str(tmp_path / "shared")
        ),
    )  # fmt: skip
    first = run_training(config, tmp_path / "whole")
    files = sorted((tmp_path / "shared").rglob("*.np*"))
    assert [f.name for f in files] == ["company_2.npy", "10000000.npz", "10000001.npz", "10000002.npz"]
    written = [f.stat().st_mtime_ns for f in files]
    blind = replace(config, env_kwargs={**task, "without": ["memory_tokens"]}, seed=1)
    second = run_training(blind, tmp_path / "blind")
    assert [f.stat().st_mtime_ns for f in files] == written  # of another seed too
    assert first["imitation"][0]["loss"] != second["imitation"][0]["loss"] and second["steps"] == 0
    assert second["evaluation"]["env_kwargs"] == {**blind.env_kwargs, "split": "val"}
    env = make_observable(TASK, split="val")
    for result, hidden in ((first, set()), (second, {"memory_tokens"})):
        assert set(make_agent(result["checkpoint"], env).policy.hidden) == hidden  # type: ignore[attr-defined]


def test_a_training_goes_through_imitation_a_round_of_its_own_and_rewards(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from embodied_mem.policy.config import ImitationConfig, PolicyConfig, PPOConfig
    from embodied_mem.verbs.train import TrainConfig, run_training

    task = {"env_id": "EmbodiedMem/House-Sketch-v0", "goals": 1, "max_steps": 60, "without": ["objects"]}
    config = TrainConfig(
        env="EmbodiedMem/House-Pointing-v0", env_kwargs=task, n_envs=2, total_steps=16, eval_episodes=1,
        policy=PolicyConfig(width=16, layers=1, heads=2, segment_length=8),
        ppo=PPOConfig(n_steps=4, n_epochs=1, minibatches=1, anchor_coef=0.1, critic_steps=8),
        imitation=ImitationConfig(
            sketched=3, rounds=1, round_sketched=2, round_demonstrations=1, epochs=1, lane_steps=4, lanes=2,
            houses=1,
        ),
    )  # fmt: skip
    result = run_training(config, tmp_path)
    assert [row["round"] for row in result["imitation"]] == [0, 1]
    assert [point["step"] for point in result["curve"]] == [8, 16] and result["steps"] == 16
    names = sorted(f.parent.name + "/" + f.stem for f in tmp_path.rglob("*.npz"))
    assert names == [
        "round_1/10500000", "sketch_0/10000000", "sketch_0/10000001", "sketch_0/10000002",
        "sketch_1/10000003", "sketch_1/10000004",
    ]  # fmt: skip
    imitated = (tmp_path / "imitated.zip").stat().st_mtime_ns
    (tmp_path / "result.json").unlink()
    again = run_training(replace(config), tmp_path, resume=True)  # past all of it: it only evaluates
    assert again["evaluation"] == result["evaluation"] and again["steps"] == 16
    assert (tmp_path / "imitated.zip").stat().st_mtime_ns == imitated
    with pytest.raises(ConfigError, match="has imitated: give --resume, or another folder"):
        run_training(config, tmp_path)
    other = replace(config, imitation=replace(config.imitation, epochs=2))
    for resume in (False, True):
        with pytest.raises(ConfigError, match="another config: give another folder"):
            run_training(other, tmp_path, resume=resume)
    assert (tmp_path / "imitated.zip").stat().st_mtime_ns == imitated
    (tmp_path / "imitated.zip").unlink()  # cut off before: what was shown is of use to other settings
    with pytest.raises(ConfigError, match="another task, seed or teacher"):
        run_training(replace(other, seed=1), tmp_path)
    shown = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("sketch_0/*.npz")}
    assert len(run_training(other, tmp_path)["imitation"]) == 4
    assert {f: f.stat().st_mtime_ns for f in tmp_path.rglob("sketch_0/*.npz")} == shown


def test_the_splits_are_what_they_were_frozen_as() -> None:
    frozen = json.loads((Path(__file__).parents[1] / "models" / "house_nav" / "splits.json").read_text())
    env = make_observable(TASK, split="val")
    for facts in frozen["first_episodes"]:
        assert episode_facts(env, facts["seed"]) == facts
    for split in ("val", "test", "test_fresh", "test_larger", "test_ten_goals"):
        assert frozen[split]["median_rooms"] >= 7 and frozen[split]["nearest_goal"] >= 4.0
        assert frozen[split]["goals_in_view"] == 0


def test_the_state_of_the_shipped_searcher_does_not_grow_with_its_life() -> None:
    from embodied_mem.policy import load_policy

    agent = load_policy(Path(__file__).parents[1] / "models" / "house_nav")
    space = agent.observation_space
    observation = {key: np.zeros(part.shape, part.dtype) for key, part in space.spaces.items()}
    observation["cand_mask"] += 1
    state, sizes = None, set()
    for _ in range(200):  # more than the segments that its bank keeps
        _, state = agent.act(observation, state)
        sizes.add(state.nbytes)
    assert len(sizes) == 1

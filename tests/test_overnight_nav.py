"""The house that changes overnight as a task: evening, night, and what was moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("open3d")

from embodied_mem.sim.agents import make_agent, make_observable  # noqa: E402
from embodied_mem.sim.days import NIGHT_NS  # noqa: E402
from embodied_mem.sim.evaluation import play  # noqa: E402

TASK = "EmbodiedMem/House-Overnight-v0"
FORWARD, FOUND, LEFT = 1, 0, 2


@pytest.fixture(scope="module")
def env() -> Any:
    return make_observable(TASK, evening_steps=20, max_steps=150, seen=0, split="val")


def test_in_the_evening_there_is_no_goal_and_in_the_morning_it_is_what_was_moved(env: Any) -> None:
    task = env.unwrapped
    observed, _ = env.reset(seed=3)
    evening = task.house
    for step in range(1, 21):
        assert task.is_evening and task.observation.goal is None and observed["goal"][0] == 0
        stamp = task.observation.stamp
        observed, reward, terminated, truncated, info = env.step(LEFT if step % 14 else FORWARD)
        assert reward == 0.0 and not terminated and not truncated
    obs, change = task.observation, task.change
    assert not task.is_evening and task.house is not evening
    assert obs.goal is not None and task.labels.name(obs.goal.label) == change.before.label
    assert obs.is_first and obs.stamp > stamp + NIGHT_NS and observed["goal"][0] == obs.goal.label
    assert change.kind == "moved" and info["seen_before"] >= 0 and info["moved"] > 0.0
    assert sum(t.label == change.before.label for t in task.house.things) == 1
    assert info["path_length"] == 0.0  # the evening's way does not count
    assert task.max_steps == 20 + 150  # the morning has its own limit


def test_found_in_the_evening_goes_to_bed(env: Any) -> None:
    env.reset(seed=4)
    _, reward, terminated, *_ = env.step(FOUND)
    assert not env.unwrapped.is_evening and reward == 0.0 and not terminated


def test_agents_make_their_rounds_and_then_look_for_it(env: Any) -> None:
    goals = []
    result = play(env, "explorer", 3, listeners=[lambda moment: goals.append(moment.obs.goal)])
    night = next(i for i, goal in enumerate(goals) if goal is not None)
    assert 0 < night <= 20 and all(goal is None for goal in goals[:night])
    assert all(goal is not None for goal in goals[night:]) and result.steps == len(goals) - 1
    oracle = play(env, "oracle", 3)
    assert oracle.info["success"] and oracle.info["spl"] > 0.9  # it needs no evening


def test_without_negative_evidence_is_a_setting_of_the_memory() -> None:
    with_it, without = make_observable(TASK), make_observable(TASK, negative_evidence=False)
    assert with_it.unwrapped.memory_config().scene.negative_evidence
    assert not without.unwrapped.memory_config().scene.negative_evidence
    assert not without.unwrapped.memory_config().scene.moves
    assert make_agent("heuristic", without).read is not None


def test_the_same_seed_gives_the_same_night(env: Any) -> None:
    found = []
    for _ in range(2):
        env.reset(seed=6)
        for _ in range(14):
            env.step(LEFT)
        env.step(FOUND)
        task = env.unwrapped
        found.append((task.goal_label, *np.round(task.robot.position, 6).tolist()))
    assert found[0] == found[1]

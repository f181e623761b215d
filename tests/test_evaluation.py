"""The evaluator of all worlds and its reference agents."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from embodied_mem.cli import main
from embodied_mem.errors import ConfigError, InputError
from embodied_mem.loop import Loop, Moment
from embodied_mem.memory import Memory
from embodied_mem.perception import Perception
from embodied_mem.sim.agents import make_agent, make_observable
from embodied_mem.sim.evaluation import (
    EpisodeResult,
    bootstrap,
    compare,
    evaluate_agent,
    mean_interval,
    play,
    summary,
    wilson,
)
from embodied_mem.sim.house.catalog import HOUSE_LABELS
from embodied_mem.sim.house.object_nav import MultiObjectNav, ObjectNav
from embodied_mem.sim.minigrid import MiniGridTask
from embodied_mem.sim.nav_measures import Leg, NavMeasures
from embodied_mem.types import Observation

TINY = {"house": {"rooms": (2, 2)}, "robot": {"width": 64, "image_height": 64}, "house_seed": 5}
GOALS = ("bed", "fridge", "sofa")


class Replayed:
    """A world that shows recorded observations, and notes what is done in it."""

    def __init__(self, observations: list[Observation]) -> None:
        self.left = list(observations)
        self.actions: list[object] = []

    def observe(self) -> Observation | None:
        return self.left.pop(0) if self.left else None

    def act(self, action: object) -> None:
        self.actions.append(action)


def test_agent_and_memory_are_functions_of_the_observations_alone():
    """Without an environment to ask for ground truth the agent does and remembers the same."""
    env = MultiObjectNav(goals=2, max_steps=60, goal_labels=GOALS, **TINY)
    moments: list[Moment] = []
    digests: list[str] = []
    result = play(env, "explorer", 3, listeners=[moments.append])
    world = Replayed([m.obs for m in moments])
    blind = MultiObjectNav(goals=2, goal_labels=GOALS, **TINY)  # never reset: it knows settings alone
    memory = Memory(blind.memory_config())
    actor = make_agent("explorer", blind, 3)
    perception = Perception(blind.perception_config())
    Loop(world, perception, memory, actor.policy, actor.controller).run()
    digests.append(memory.digest())
    assert world.actions[:-1] == [m.obs.action for m in moments[1:]] and len(moments) == result.steps + 1
    again = Memory(blind.memory_config())
    Loop(Replayed([m.obs for m in moments]), Perception(blind.perception_config()), again).run()
    assert again.digest() == digests[0]


def test_scrambled_instances_change_nothing_but_the_ground_truth():
    class Scrambled(ObjectNav):
        def _sense(self) -> None:
            super()._sense()
            ids = np.random.default_rng(0).integers(1, 999, self._view.instance.shape)
            self._view = replace(self._view, instance=ids.astype(np.int32))

    seen: list[list] = []
    for cls in (ObjectNav, Scrambled):
        moments: list[Moment] = []
        env = cls(max_steps=25, **TINY)
        play(env, "explorer", 1, listeners=[moments.append])
        seen.append([(m.obs.action, m.tokens.id.tolist(), m.receipt.sequence) for m in moments])
        for moment in moments:
            assert moment.obs.detections == ()
            assert {d.label for d in moment.percept.detections} <= set(range(len(HOUSE_LABELS)))
    assert seen[0] == seen[1]


def test_the_explorer_finds_what_it_looks_for_and_remembers_it():
    env = MultiObjectNav(goals=3, revisit=1.0, max_steps=400, goal_labels=GOALS, **TINY)
    result = play(env, "explorer", 0)
    goals = result.info["goals"]
    assert result.info["success"] and goals[2]["revisit"] and goals[2]["label"] == goals[0]["label"]
    assert goals[2]["spl"] > 0.5


def test_wiping_the_memory_leaves_the_first_goal_alone_and_costs_on_the_way_to_later_ones():
    env = MultiObjectNav(
        goals=3, revisit=1.0, max_steps=500, house={"rooms": (5, 5)}, robot={"width": 64, "image_height": 64}
    )
    sizes: dict[str, list[int]] = {"kept": [], "wiped": []}
    results = {
        side: play(env, "explorer", 3, side, [lambda m, s=side: sizes[s].append(m.receipt.sequence)])
        for side in sizes
    }
    kept, wiped = (results[side].info["goals"] for side in ("kept", "wiped"))
    assert kept[0] == wiped[0] and kept[0]["success"]
    assert kept[2]["revisit"] and kept[1]["spl"] > wiped[1]["spl"]
    assert sizes["kept"] == list(range(1, len(sizes["kept"]) + 1))  # one memory, one write a step
    assert sizes["wiped"].count(1) == sum(goal["given"] for goal in wiped) > 1  # a memory for each goal
    rows = compare([results["kept"]], [results["wiped"]])["goals"]
    assert [row["visit"] for row in rows] == ["first", "first", "revisit"] and rows[1]["spl"]["mean"] == (
        pytest.approx(kept[1]["spl"] - wiped[1]["spl"])
    )


@pytest.mark.parametrize("maze", ["MultiRoom-N2-S4-v0", "ObstructedMaze-1Dl-v0", "ObstructedMaze-1Dlhb-v0"])
def test_in_grid_worlds_the_explorer_opens_what_is_locked_and_the_oracle_knows_the_way(maze: str):
    env_id = f"EmbodiedMem/{maze}"
    found = {
        agent: summary(evaluate_agent(agent, env_id, 3, seed=0)) for agent in ("explorer", "oracle", "random")
    }
    assert found["oracle"]["success"] == found["explorer"]["success"] == 1.0
    assert found["oracle"]["measures"]["spl"]["mean"] == 1.0
    assert found["explorer"]["measures"]["spl"]["mean"] > 0.6
    assert found["random"]["measures"]["spl"]["mean"] < 0.3


def test_measures_of_grid_worlds_count_cells_and_bumps():
    env = MiniGridTask("MiniGrid-MultiRoom-N2-S4-v0")
    _, first = env.reset(seed=2)
    assert first["distance_to_goal"] == first["goals"][0]["shortest"] > 0 and first["path_length"] == 0
    infos = [env.step(2)[4] for _ in range(12)]
    assert infos[-1]["collisions"] > 0 and infos[-1]["collided"]
    assert infos[-1]["path_length"] + infos[-1]["collisions"] == 12
    assert "success" not in MiniGridTask("MiniGrid-Playground-v0").reset(seed=0)[1]


def test_oracles_in_houses_succeed_and_random_agents_do_not():
    settings = {"max_steps": 150, **TINY, "goal_labels": GOALS}
    oracle = [play(ObjectNav(**settings), "oracle", seed) for seed in range(3)]
    chance = [play(ObjectNav(**settings), "random", seed) for seed in range(3)]
    assert summary(oracle)["success"] == 1.0 and summary(oracle)["measures"]["spl"]["mean"] > 0.85
    assert summary(chance)["success"] < 1.0


def test_soft_spl_pays_for_progress_and_spl_for_success_alone():
    measures = NavMeasures([Leg("bed", shortest=4.0), Leg("sofa")])
    measures.walk(4.0)
    info = measures.info(1.0, 0, False)
    assert info["spl"] == 0.0 and info["soft_spl"] == pytest.approx(0.75 / 2)
    measures.current.success = True
    measures.index = 1
    measures.current.shortest = 2.0
    measures.walk(4.0)
    measures.current.success = True
    info = measures.info(0.0, 3, True)
    assert info["success"] and info["spl"] == info["soft_spl"] == pytest.approx(6.0 / 8.0)
    assert [goal["spl"] for goal in info["goals"]] == [1.0, 0.5]
    assert measures.info(np.inf, 0, False)["soft_spl"] <= 1.0


def _result(seed: int, spls: list[float]) -> EpisodeResult:
    legs = [
        {"label": "a", "revisit": i == 2, "given": True, "success": s > 0, "spl": s}
        for i, s in enumerate(spls)
    ]
    facts = dict.fromkeys(("soft_spl", "distance_to_goal", "path_length", "collisions"), 1.0)
    success = all(s > 0 for s in spls)
    info = {**facts, "goals": legs, "success": success, "is_success": success, "spl": float(np.mean(spls))}
    return EpisodeResult(seed, 10, 1.0, info)


def test_summaries_tell_goals_by_index_and_visit():
    report = summary([_result(0, [1.0, 0.5, 0.5]), _result(1, [1.0, 0.0, 0.0])])
    rows = {(row["goal"], row["visit"]): row for row in report["goals"]}
    assert set(rows) == {(1, "first"), (2, "first"), (3, "revisit")}
    assert rows[3, "revisit"]["success"] == 0.5 and rows[3, "revisit"]["spl"]["mean"] == 0.25
    assert report["success"] == 0.5 and report["success_interval"] == wilson(1, 2)


def test_pairs_find_a_difference_that_the_means_hide():
    rng = np.random.default_rng(0)
    hard = rng.random(30)
    kept = [_result(i, [min(1.0, h + 0.05)] * 3) for i, h in enumerate(hard)]
    wiped = [_result(i, [h] * 3) for i, h in enumerate(hard)]
    low, high = compare(kept, wiped)["spl_of_goals"]["interval"]
    assert 0.0 < low <= high <= 0.0501
    apart = [bootstrap([r.info["spl"] for r in side]) for side in (kept, wiped)]
    assert apart[0][0] < apart[1][1]  # the two intervals overlap


def test_intervals_leave_out_what_is_not_finite_and_say_so():
    assert mean_interval([1.0, np.inf, 3.0]) == {"mean": 2.0, "interval": [1.0, 3.0], "left_out": 1}
    assert mean_interval([np.inf])["mean"] is None


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["explorer"], "with --env"),
        (["explorer", "--env", "EmbodiedMem/Nowhere-v0"], "Nowhere"),
        (["explorer", "--env", "EmbodiedMem/ProofOfMemory-v0"], "gives no Observation"),
        (["explorer", "--env", "EmbodiedMem/MultiRoom-v0", "--seed", "-1"], "must not be negative"),
        (["explorer", "--env", "EmbodiedMem/MultiRoom-v0", "--episodes", "0"], "at least 1"),
        (["explorer", "--env", "EmbodiedMem/House-ObjectNav-v0", "--env-args", "rooms=3"], "rooms"),
        (["explorer", "--env", "EmbodiedMem/House-ObjectNav-v0", "--env-args", "seven"], "look like goals=3"),
        (["random", "--env", "EmbodiedMem/House-ObjectNav-v0", "--env-args", "house={a"], "bracket"),
        (["random", "--env", "EmbodiedMem/MultiRoom-v0", "--memory", "both"], "has no memory"),
        (["explorer", "--env", "EmbodiedMem/MultiRoom-v0", "--horizon", "2x"], "is for checkpoints"),
        (["oracle", "--env", "EmbodiedMem/Playground-v0"], "has no goal to know the way to"),
        (["teapot", "--env", "EmbodiedMem/MultiRoom-v0"], 'no agent "teapot"'),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["eval", *arguments])
    err = capsys.readouterr().err
    assert end.value.code == 2 and line in err and err.startswith("embodied-mem: ") and err.count("\n") == 1


def test_eval_prints_a_table_and_json_of_the_same(capsys: pytest.CaptureFixture[str]):
    arguments = ["eval", "explorer", "--env", "EmbodiedMem/MultiRoom-N2-S4-v0", "--episodes", "2"]
    outputs = []
    for extra in (["--json"], [], ["--memory", "both", "--json"]):
        with pytest.raises(SystemExit) as end:
            main([*arguments, *extra])
        assert end.value.code == 0
        outputs.append(capsys.readouterr().out)
    report = json.loads(outputs[0])
    assert report["success"] == 1.0 and report["memory"] == "kept" and report["episodes"] == 2
    assert "success 1.000" in outputs[1] and "spl" in outputs[1]
    both = json.loads(outputs[2])
    assert both["kept_less_wiped"]["spl"]["mean"] == 0.0 and both["wiped"]["success"] == 1.0


def test_unknown_agents_are_refused():
    env = make_observable("EmbodiedMem/MultiRoom-v0")
    with pytest.raises(ConfigError, match="unknown agent"):
        make_agent("teapot", env)
    with pytest.raises(InputError, match="at least 1"):
        evaluate_agent("random", "EmbodiedMem/MultiRoom-v0", 0)


def test_an_evaluation_goes_on_where_it_was_cut_off_and_pools_parts(tmp_path, capsys, monkeypatch):
    kept = tmp_path / "episodes.jsonl"
    base = ["eval", "random", "--env", "EmbodiedMem/MultiRoom-N2-S4-v0", "--json"]

    def run(*extra: str) -> dict:
        with pytest.raises(SystemExit) as end:
            main([*base, *extra])
        out = capsys.readouterr()
        assert end.value.code == 0, out.err
        return json.loads(out.out)

    whole = run("--episodes", "4", "--seed", "7")
    for part in ("9", "7"):
        run("--episodes", "2", "--seed", part, "--resume", str(kept))
    with kept.open("a") as file:
        file.write('{"facts": {"agent": "ran')  # cut off
    count = len(kept.read_text().splitlines())
    monkeypatch.setattr("embodied_mem.sim.evaluation.play", None)  # nothing is played again
    assert run("--episodes", "4", "--seed", "7", "--resume", str(kept)) == whole and count == 5
    monkeypatch.undo()
    run("--episodes", "1", "--seed", "11", "--resume", str(kept))
    kept.write_text("something else\n" + kept.read_text())
    with pytest.raises(SystemExit):
        main([*base, "--resume", str(kept)])
    assert "line 1: no result of an evaluation" in capsys.readouterr().err

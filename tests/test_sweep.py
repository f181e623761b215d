"""Promises of `sweep`: a row per run, none twice, cut-off runs go on, and a table one can recompute."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from embodied_mem.configs import load_config, save_config
from embodied_mem.errors import ConfigError, InputError
from embodied_mem.policy import PolicyConfig, PPOConfig, load_policy
from embodied_mem.policy.config import ImitationConfig
from embodied_mem.policy.demonstrations import Demonstration
from embodied_mem.sim.dark_key_to_door import DarkKeyToDoor
from embodied_mem.verbs import sweep as sweep_module
from embodied_mem.verbs.horizon import horizon, read_stretches
from embodied_mem.verbs.results import interval, iqm, measure, write_table
from embodied_mem.verbs.sweep import METHODS, plan_runs, sweep
from embodied_mem.verbs.train import TrainConfig, run_training

SMALL = TrainConfig(
    env="EmbodiedMem/DarkKeyToDoor-v0", env_kwargs={"size": 3, "trial_steps": 20}, n_envs=2, total_steps=80,
    eval_episodes=3, policy=PolicyConfig(width=16, heads=2, segment_length=5), ppo=PPOConfig(n_steps=20),
)  # fmt: skip


def test_a_sweep_writes_a_row_per_run_and_does_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "small.yaml"
    save_config(SMALL, config)
    arguments: dict[str, Any] = {
        "methods": ("none", "place"), "seeds": (0, 1), "horizon": ("2x",), "out": tmp_path / "out",
        "work": tmp_path / "work",
    }  # fmt: skip
    assert sweep(config, **arguments) == 0
    rows = sorted((tmp_path / "out" / "small").glob("*.json"))
    assert [row.stem for row in rows] == ["none-0", "none-1", "place-0", "place-1"]
    row = json.loads(rows[2].read_text())
    assert row["steps"] == 80 and row["parameters"] > 1000 and row["seconds"] > 0
    assert "--bank place --slots 64 --seed 0 --total-steps 80" in row["command"]
    assert row["evaluation"]["2x"]["env_kwargs"]["trial_steps"] == 40
    beyond = row["evaluation"]["2x"]
    assert len(beyond["stretches"]["doors"]) == 2
    assert sum(beyond["stretches"]["doors"]) == pytest.approx(beyond["counts"]["doors"])
    assert beyond["stretches"]["doors"][1] == beyond["late_counts"]["doors"]
    assert [point["step"] for point in row["curve"]] == [40, 80]
    assert "another task" not in (tmp_path / "out" / "README.md").read_text()
    table = (tmp_path / "out" / "README.md").read_text()
    assert (
        "## small: doors" in table and "| place | 0, 1 | 80 |" in table and "| minutes | 1x | 2x |" in table
    )
    capsys.readouterr()
    monkeypatch.setattr(sweep_module, "make_row", lambda *_: pytest.fail("a run that is done was done again"))
    assert sweep(config, **arguments) == 0 and capsys.readouterr().out == ""


def row_of(method: str, seed: int, stretches: list[float]) -> dict[str, Any]:
    beyond = {"stretches": {"doors": stretches}, "steps": {"mean": 20.0 * len(stretches)}}
    once = {"stretches": {}, "steps": {"mean": 20.0}}
    return {"method": method, "seed": seed, "evaluation": {"1x": once, f"{len(stretches)}x": beyond}}


def test_a_figure_shows_what_methods_achieve_beyond_their_training(tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    with pytest.raises(InputError, match="sweep with --horizon"):
        horizon(rows, tmp_path / "out.png")
    for row in (
        row_of("gru", 0, [5, 4, 3, 3]), row_of("gru", 1, [6, 5, 5, 4]), row_of("memo", 0, [7, 2, 1, 0]),
    ):  # fmt: skip
        (rows / f"{row['method']}-{row['seed']}.json").write_text(json.dumps(row))
    assert read_stretches(rows) == (
        "doors", 20, {"gru": [[5, 4, 3, 3], [6, 5, 5, 4]], "memo": [[7, 2, 1, 0]]}
    )  # fmt: skip
    assert horizon(rows, tmp_path / "out.png") == 0
    picture = cv2.imread(str(tmp_path / "out.png"))
    assert picture.shape[1] > 600 and (picture != 255).any(axis=2).mean() > 0.02
    (rows / "none-0.json").write_text(json.dumps(row_of("none", 0, [1, 1])))
    with pytest.raises(InputError, match="different horizons"):
        horizon(rows, tmp_path / "out.png")
    (rows / "none-0.json").write_text("[]")
    with pytest.raises(InputError, match=r"none-0\.json is no row"):
        horizon(rows, tmp_path / "out.png")


class Stop(BaseCallback):
    def _on_step(self) -> bool:
        if self.num_timesteps > 60:
            raise KeyboardInterrupt
        return True


def test_a_training_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embodied_mem.verbs.training_record.SAVE_EVERY", 1)
    config = replace(SMALL, total_steps=160)
    with pytest.raises(KeyboardInterrupt):
        run_training(config, tmp_path, callback=Stop())
    result = run_training(config, tmp_path, resume=True)
    assert result["steps"] == 160
    steps = [line["step"] for line in result["curve"]]
    assert steps == [40, 80, 120, 160], "the curve has every rollout once"
    assert all(a["seconds"] < b["seconds"] for a, b in zip(result["curve"], result["curve"][1:]))
    with pytest.raises(ConfigError, match="another config"):
        run_training(replace(config, seed=1), tmp_path, resume=True)


def test_a_resumed_training_is_as_far_in_its_curriculum_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, int]] = []
    begin = DarkKeyToDoor._begin_trial

    def watch(env: DarkKeyToDoor) -> None:
        begin(env)
        begun.append((id(env), env._trials))

    monkeypatch.setattr(DarkKeyToDoor, "_begin_trial", watch)
    monkeypatch.setattr("embodied_mem.verbs.training_record.SAVE_EVERY", 1)
    curriculum = {"size": 4, "trial_steps": 5, "min_area": 2, "area_trials": 30}
    config = replace(SMALL, env="EmbodiedMem/DarkKeyToDoor-v0", env_kwargs=curriculum, total_steps=80)
    with pytest.raises(KeyboardInterrupt):
        run_training(config, tmp_path, callback=Stop())
    begun.clear()
    run_training(config, tmp_path, resume=True)
    first = begun[0][0]
    trials = [number for env, number in begun if env == first]
    assert trials[:4] == [0, 4, 5, 6], "made; 20 calls of each in trials of 5 were saved; and on"


def test_methods_differ_in_what_their_name_says(tmp_path: Path) -> None:
    config = tmp_path / "small.yaml"
    save_config(SMALL, config)
    runs = plan_runs(config, tuple(METHODS), (3,), None, tmp_path, tmp_path)
    assert len({str(run.config.policy) for run in runs}) == len(METHODS)
    assert {run.config.ppo for run in runs} == {SMALL.ppo} and {run.config.seed for run in runs} == {3}
    with pytest.raises(ConfigError, match='no method "lstm"'):
        plan_runs(config, ("lstm",), (0,), None, tmp_path, tmp_path)


def test_students_of_one_teacher_share_its_trials_and_those_of_another_do_not(tmp_path: Path) -> None:
    for teacher, folders in (("one", {"demonstrations"}), ("gru-{seed}", {"demonstrations-{seed}"})):
        config = tmp_path / "small.yaml"
        save_config(
            replace(SMALL, imitation=ImitationConfig(demonstrations=2, teacher=teacher, epochs=1)), config
        )
        runs = plan_runs(config, ("memo", "rewrite"), (3, 4), None, tmp_path, tmp_path)
        assert {Path(run.config.imitation.collected).name for run in runs} == folders


def test_a_seed_has_a_teacher_of_its_own(tmp_path: Path) -> None:
    for seed in (3, 4):  # two teachers of one task
        config = replace(SMALL, seed=seed, policy=replace(SMALL.policy, policy="gru"))
        run_training(config, tmp_path / f"gru-{seed}")
    taught = replace(
        SMALL,
        total_steps=0,
        imitation=ImitationConfig(
            demonstrations=2, teacher=str(tmp_path / "gru-{seed}" / "checkpoint"), epochs=1,
            lane_steps=20, lanes=1,
            collected=str(tmp_path / "by-{seed}"),
        ),
    )  # fmt: skip
    preferred = {}
    for seed in (3, 4):
        run_training(replace(taught, seed=seed), tmp_path / f"memo-{seed}")
        (first, _) = sorted((tmp_path / f"by-{seed}").glob("*/*.npz"))
        preferred[seed] = Demonstration.load(first).preferences[0]
    assert not np.allclose(preferred[3], preferred[4])


def test_a_training_starts_with_what_another_one_of_its_method_and_seed_learned(tmp_path: Path) -> None:
    easy = replace(SMALL, env_kwargs={"size": 3, "trial_steps": 10}, seed=3)
    run_training(easy, tmp_path / "easy" / "gru-3")
    before = load_policy(tmp_path / "easy" / "gru-3" / "checkpoint")
    config = tmp_path / "hard.yaml"
    still = replace(SMALL.ppo, learning_rate=1e-9)
    save_config(replace(SMALL, start=f"{tmp_path}/easy/{{method}}-{{seed}}/checkpoint", ppo=still), config)
    memo, gru = plan_runs(config, ("memo", "gru"), (3,), None, tmp_path, tmp_path)
    assert f"--start {tmp_path}/easy/gru-3/checkpoint" in gru.command
    with pytest.raises(ConfigError, match="memo-3"):  # not trained yet
        run_training(memo.config, memo.work)
    with pytest.raises(ConfigError, match="policy memo, and this training gru"):
        run_training(replace(gru.config, start=str(tmp_path / "easy" / "gru-3" / "checkpoint")), gru.work)
    with pytest.raises(ConfigError, match="only `embodied-mem sweep` knows"):
        run_training(load_config(TrainConfig, config), memo.work)
    own = replace(memo.config, start=f"{tmp_path}/easy/gru-{{seed}}/checkpoint")
    larger = {"size": 4, "trial_steps": 20}
    with pytest.raises(ConfigError, match="sees"):
        run_training(replace(own, env_kwargs=larger), memo.work)
    run_training(own, memo.work)
    after = load_policy(memo.work / "checkpoint").network.state_dict()
    for name, weight in before.network.state_dict().items():
        assert torch.allclose(weight, after[name], atol=1e-6), name


def test_the_table_tells_the_interquartile_mean_and_its_interval(tmp_path: Path) -> None:
    assert iqm([0, 1, 2, 100]) == 1.5 and iqm([3.0]) == 3.0
    low, high = interval(list(np.arange(20.0)))
    assert 4 < low < 9.5 < high < 15
    assert interval([2.0, 2.0, 2.0]) == (2.0, 2.0)
    evaluation = {"success": None, "return": 3.0, "counts": {"doors": 7}, "late_counts": {"doors": 2}}
    assert measure(evaluation) == ("doors", 7.0) and measure(evaluation, late=True) == ("doors", 2.0)
    assert measure({"success": 0.5, "return": 1.0, "counts": {}}) == ("success", 0.5)
    folder = tmp_path / "task"
    folder.mkdir()
    for seed, success in enumerate((0.5, 1.0)):
        row = {
            "method": "gru", "seed": seed, "steps": 1000, "parameters": 5, "seconds": 60,
            "evaluation": {"1x": {"success": success, "return": 0.0, "counts": {}}},
        }  # fmt: skip
        (folder / f"gru-{seed}.json").write_text(json.dumps(row))
    (folder / "notes.md").write_text("Seed 1 was lucky.\n")
    table = write_table(tmp_path)
    assert "| gru | 0, 1 | 1,000 | 5 | 1.0 | 0.75 [0.50, 1.00] |" in table
    assert "## task: success\n\nSeed 1 was lucky.\n\n| method" in table


def test_a_curriculum_ends_where_the_policy_is_evaluated_and_the_table_says_so(tmp_path: Path) -> None:
    config = tmp_path / "short.yaml"
    kwargs = {"length": 6, "min_length": 1, "lengths": "log"}
    task = replace(SMALL, env="EmbodiedMem/PassiveTMaze-v0", env_kwargs=kwargs)
    save_config(replace(task, eval_env_kwargs={"min_length": None, "lengths": "uniform"}), config)
    assert sweep(config, ("none",), (0,), out=tmp_path / "out", work=tmp_path / "work", horizon=("2x",)) == 0
    row = json.loads((tmp_path / "out" / "short" / "none-0.json").read_text())
    assert row["env_kwargs"] == kwargs
    fixed = {"min_length": None, "lengths": "uniform"}
    assert row["evaluation"]["1x"]["env_kwargs"] == {"length": 6, **fixed}
    assert row["evaluation"]["2x"]["env_kwargs"] == {"length": 12, **fixed}
    assert row["evaluation"]["1x"]["steps"]["mean"] == 7 and row["evaluation"]["2x"]["steps"]["mean"] == 13
    table = (tmp_path / "out" / "README.md").read_text()
    assert "trained in another task than they were evaluated in: min_length 1 (there None)" in table

"""`compare`: runs side by side, with the evaluator's statistics."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from embodied_mem.cli import main
from embodied_mem.memory import Memory
from embodied_mem.sim.evaluation import mean_interval
from embodied_mem.verbs.compare import compare_runs
from embodied_mem.verbs.run_facts import RunFacts, read_run


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def evaluation(values: list[float], first_seed: int = 100, env: str = "A") -> dict:
    mean = mean_interval(values)
    return {
        "agent": "explorer",
        "env": env,
        "env_kwargs": {},
        "episodes": len(values),
        "success": None,
        "return": mean["mean"],
        "return_interval": mean["interval"],
        "measures": None,
        "counts": {},
        "each": {"seed": [first_seed + i for i in range(len(values))], "return": values},
    }


def facts(name: str, values: list[float], **kwargs: object) -> RunFacts:
    return RunFacts(name, evaluation=evaluation(values, **kwargs))  # type: ignore[arg-type]


def test_two_agents_that_played_the_same_episodes_are_compared_in_pairs(capsys, tmp_path: Path):
    for agent in ("oracle", "random"):
        arguments = ["eval", agent, "--env", "EmbodiedMem/MultiRoom-v0", "--episodes", 3, "--json"]
        code, out, _ = run(capsys, *arguments)
        assert code == 0
        (tmp_path / f"{agent}.json").write_text(out)
    page = tmp_path / "page.html"
    files = (tmp_path / "oracle.json", tmp_path / "random.json")
    code, out, _ = run(capsys, "compare", *files, "--json", "--out", page)
    found = json.loads(out)
    assert code == 0 and found["runs"] == ["oracle", "random"]
    steps = next(row for row in found["measures"] if row["name"] == "steps")
    each = [json.loads(file.read_text())["each"]["steps"] for file in files]
    assert steps["differences"][0]["mean"] == pytest.approx(np.mean(np.subtract(each[1], each[0])))
    assert steps["differences"][0]["paired"] and steps["differences"][0]["episodes"] == 3
    assert [row["values"] for row in found["settings"] if row["name"] == "agent"] == [["oracle", "random"]]
    code, out, _ = run(capsys, "compare", *files)
    assert code == 0 and "random less oracle" in out and "in pairs, over 3 episodes" in out
    check_page(page.read_text())


def check_page(text: str) -> None:
    class Reader(HTMLParser):
        links: list[str] = []

        def handle_starttag(self, tag: str, attrs: list) -> None:
            self.links += [value for name, value in attrs if name in ("src", "href")]

    reader = Reader()
    reader.feed(text)
    assert all(link.startswith(("#", "data:")) for link in reader.links)
    assert "<h2" in text and "</html>" in text


def test_pairs_say_more_than_means():
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 10, 40)  # how hard an episode is, far more than what the agents differ by
    a, b = hard.tolist(), (hard + 1 + rng.normal(0, 0.1, 40)).tolist()
    paired = compare_runs([facts("a", a), facts("b", b)])["measures"][0]["differences"][0]
    apart = compare_runs([facts("a", a), facts("b", b, first_seed=999)])["measures"][0]["differences"][0]
    assert paired["paired"] and not apart["paired"]
    assert paired["interval"][0] > 0.9 and paired["interval"][1] < 1.1
    assert apart["interval"][0] < 0 < apart["interval"][1]
    assert paired["mean"] == pytest.approx(apart["mean"])


def test_the_interval_of_unpaired_means_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        sides = [
            facts("a", rng.normal(0, 1, 40).tolist()),
            facts("b", rng.normal(0.5, 2, 50).tolist(), env="B"),
        ]
        low, high = compare_runs(sides)["measures"][0]["differences"][0]["interval"]
        covered += low <= 0.5 <= high
    assert covered >= 52  # of 60, with 95 % each: fewer have a chance below 1 in 100


def test_episodes_of_another_task_do_not_pair():
    found = compare_runs([facts("a", [1.0, 2.0]), facts("b", [1.0, 2.0], env="B")])
    assert not found["measures"][0]["differences"][0]["paired"]


def test_memories_are_compared_by_what_they_hold(capsys, tmp_path: Path):
    Memory().save(tmp_path / "a.emem")
    Memory().save(tmp_path / "b.emem")
    code, out, _ = run(capsys, "compare", tmp_path / "a.emem", tmp_path / "b.emem", "--json")
    found = json.loads(out)
    assert code == 0 and found["same_memory"] is True and found["runs"] == ["a", "b"]
    assert {"objects", "rooms", "voxels"} <= {row["name"] for row in found["memories"]}


def test_trainings_are_compared_with_their_curves_and_settings(tmp_path: Path):
    for name, policy in (("memo", "memo"), ("none", "none")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.yaml").write_text(f"env: A\npolicy:\n  policy: {policy}\n  width: 8\n")
        (folder / "curve.csv").write_text("step,seconds,return,success\n10,1.0,0.5,\n20,2.0,0.75,0.5\n")
    runs = [r for name in ("memo", "none") for r in read_run(tmp_path / name)]
    found = compare_runs(runs)
    assert found["settings"] == [{"name": "policy.policy", "values": ["memo", "none"]}]
    assert found["curves"][0][-1] == {"step": 20.0, "seconds": 2.0, "return": 0.75, "success": 0.5}


def test_the_rows_that_the_repository_ships_can_be_compared(capsys):
    rows = sorted((Path(__file__).parents[1] / "models/results/proof_of_memory").glob("*-0.json"))
    code, out, _ = run(capsys, "compare", *rows)
    assert code == 0 and "success" in out and "end of the curve" in out


@pytest.mark.parametrize("content", ["", "[]", "[1]", "{}", '{"evaluation": {"1x": 3}}', "\0\1"])
def test_what_cannot_be_compared_is_said_in_one_line(capsys, tmp_path: Path, content: str):
    (tmp_path / "x.json").write_text(content)
    (tmp_path / "y.json").write_text(json.dumps(evaluation([1.0])))
    for arguments in (
        [tmp_path / "x.json", tmp_path / "y.json"],
        [tmp_path / "absent", tmp_path / "y.json"],
        [tmp_path, tmp_path / "y.json"],
        [tmp_path / "y.json"],
        [tmp_path / "y.json", tmp_path / "y.json", "--out", tmp_path],
    ):
        code, _, err = run(capsys, "compare", *arguments)
        assert code == 2 and err.count("\n") == 1

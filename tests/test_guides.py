"""Every code block of every guide runs, in a new user's order, in an empty folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from embodied_mem.cli import main
from embodied_mem.verbs.guide import GUIDES, guide

NAMES = get_args(get_type_hints(guide)["name"])
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.M | re.S)
SMALLER = [
    (r"10_000", "64"),
    (
        r"^(embodied-mem train .*?)( --total-steps \d+)?$",
        r"\1 --n-envs 4 --n-steps 25 --total-steps 100 --eval-episodes 4",
    ),
    (r"policy_kwargs=", "n_steps=64, policy_kwargs="),
    (r"--episodes \d+", "--episodes 4"),
]
"""What takes minutes is done in seconds: fewer steps, the same commands."""


def blocks(name: str) -> list[tuple[str, str, str]]:
    """The language, the file's name if it has one, and the text of each block."""
    text = (GUIDES / f"{name}.md").read_text()
    for pattern, other in SMALLER:
        text = re.sub(pattern, other, text, flags=re.M)
    return BLOCK.findall(text)


@pytest.mark.parametrize("name", NAMES)
def test_every_block_of_a_guide_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    known: dict[str, Any] = {"__name__": f"guide_{name}"}
    assert blocks(name)
    for language, file, text in blocks(name):
        if file:
            Path(file).write_text(text)
        elif language == "python":
            exec(compile(text, f"{name}.md", "exec"), known)
        else:
            assert language == "sh"
            for line in text.splitlines():
                words = shlex.split(line)
                assert words[0] == "embodied-mem"
                with pytest.raises(SystemExit) as end:
                    main(words[1:])
                assert end.value.code == 0, (line, capsys.readouterr().err)
    said = capsys.readouterr().out
    for promise in PROMISED[name]:
        assert promise in said or Path(promise).exists(), promise


PROMISED: dict[str, list[str]] = {
    "train": ["runs/memo/checkpoint/model.safetensors", "compare.html", "runs/playground/model.safetensors"],
    "deploy": ["subscriptions"],
    "replay": ["runs/replayed/map.png", "verified: the same memory", "run.rrd", "the same memory: True"],
    "ask": ["I last saw the", "play.html", "evidence"],
    "extend": ["the wall is hit: True", "mug at (3.0, 0.0", "my_rooms:Corridor-v0"],
}
"""What a reader sees, or finds in the folder, in the end."""


def test_the_guides_are_the_ones_that_the_verb_names(capsys):
    assert {path.stem for path in GUIDES.glob("*.md")} == set(NAMES)
    with pytest.raises(SystemExit) as end:
        main(["guide", "ask"])
    assert end.value.code == 0 and capsys.readouterr().out == (GUIDES / "ask.md").read_text()

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
PROGRAMS = [block for block in re.findall(r"```python\n(.*?)```", README, re.S) if block.startswith("import")]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.split("\n")[1])
def test_the_programs_of_the_readme_run(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.chdir(tmp_path)
    exec(program.replace("10_000", "128"), {})
    assert any(tmp_path.rglob("*.emem")) or any(tmp_path.rglob("model.safetensors"))


def test_the_files_that_the_readme_names_are_there():
    root = Path(__file__).parents[1]
    for name in re.findall(r"`((?:embodied_mem|sim_configs|launch|models)/[\w/.]*)`", README):
        assert (root / name).exists(), name
    for link in re.findall(r"\]\(([\w./]+)\)", README):
        assert (root / link).exists(), link

"""What a user types: help with examples, mistakes in one line, completion, exit codes."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from embodied_mem.arguments import describe
from embodied_mem.cli import VERBS, main
from embodied_mem.verbs.completion import all_words


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def examples_of(text: str) -> list[str]:
    return [
        line.split("  #")[0].strip() for line in text.splitlines() if line.startswith("    embodied-mem ")
    ]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_worked_examples_whose_options_exist(verb: str, capsys):
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    shown = examples_of(out)
    assert any(example.split()[1] == verb for example in shown)
    known = {words.verb: {o.flag for o in words.options} for words in all_words()}
    for example in shown:
        words = shlex.split(example.split(" > ")[0].split(" && ")[0])
        for flag in (w for w in words[2:] if w.startswith("-")):
            assert flag in known[words[1]], example


@pytest.mark.parametrize("verb", [v for v in VERBS if v != "train"])
def test_every_argument_is_explained(verb: str):
    module, name = VERBS[verb][0].split(":")
    function = getattr(importlib.import_module(f"embodied_mem.verbs.{module}"), name)
    assert describe(function).split("\n")[0].endswith(".")
    options = next(words.options for words in all_words() if words.verb == verb)
    assert all(option.what for option in options), [o for o in options if not o.what]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["record", "--stepz", "4"], "--stepz"),
        (["record", "--steps", "x"], "--steps"),
        (["info"], "missing"),
        (["bench", "nothing"], "'nothing'"),
        (["export", "x.emem", "--to", "docx"], "docx"),
        (["train"], "CONFIG.yaml"),
        (["query", "--near", "1", "2"], "--near"),
        (["completion", "tcsh"], "tcsh"),
    ],
)
def test_a_mistyped_option_is_said_in_one_line(capsys, arguments: list[str], said: str):
    code, _, err = run(capsys, *arguments)
    assert code == 2 and err.count("\n") == 1 and said in err
    assert f"`embodied-mem {arguments[0]} --help`" in err and "│" not in err


def complete(script: Path, *words: str) -> list[str]:
    """What bash offers after these words; the last one is being typed."""
    shell = shutil.which("bash")
    assert shell is not None
    typed = " ".join(shlex.quote(w) for w in words)
    code = (
        f"source {shlex.quote(str(script))}; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; "
        '_embodied_mem; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run([shell, "--norc", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[:-1]


def test_bash_completes_verbs_options_choices_and_files(capsys, tmp_path: Path, monkeypatch):
    code, out, _ = run(capsys, "completion", "bash")
    script = tmp_path / "script"
    script.write_text(out)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my home.emem").touch()
    assert code == 0
    assert complete(script, "embodied-mem", "rep") == ["replay", "report"]
    assert complete(script, "embodied-mem", "record", "--se") == ["--seed"]
    assert complete(script, "embodied-mem", "record", "--agent", "") == ["explorer", "oracle", "random"]
    assert complete(script, "embodied-mem", "record", "--env", "EmbodiedMem/Play") == [
        "EmbodiedMem/Playground-v0",
        "EmbodiedMem/PlaygroundMemory-v0",
    ]
    assert "ply" in complete(script, "embodied-mem", "export", "x.emem", "--to", "")
    assert complete(script, "embodied-mem", "info", "my") == ["my home.emem"]
    assert "--segment-length" in complete(script, "embodied-mem", "train", "x.yaml", "--seg")
    assert complete(script, "embodied-mem", "bench", "oc") == ["octree"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_every_option_too(capsys, shell: str, tmp_path: Path):
    code, out, _ = run(capsys, "completion", shell)
    assert code == 0
    for words in all_words():
        assert re.search(rf"\b{words.verb}\b", out)
        for option in words.options:
            assert (option.flag if shell == "zsh" else option.flag.lstrip("-")) in out
    program = shutil.which(shell)
    if program is not None:  # its own parser; the text is checked either way
        (tmp_path / "script").write_text(out)
        subprocess.run([program, "-n", str(tmp_path / "script")], check=True)

"""Whatever a verb is handed, a user reads one line that says what is wrong, and nothing is broken."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from embodied_mem.cli import VERBS, main

LOCKED = Path("/proc/sys/net/ipv4/route/flush")
"""A file that nobody may read, not even root, whom a file's mode does not stop."""

READERS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "train": (["train", "{}"], (".yaml",)),
    "sweep": (["sweep", "{}", "--out", "{out}", "--work", "{out}"], (".yaml",)),
    "horizon": (["horizon", "{}", "--out", "{out}.png"], ("",)),
    "eval": (["eval", "{}"], ("",)),
    "compare": (["compare", "{}", "{}"], (".json", ".emem", ".mcap")),
    "replay": (["replay", "{}"], (".mcap", ".db3", "")),
    "query": (["query", "{}", "where is the key"], (".emem", ".mcap")),
    "eval-memory": (["eval-memory", "{}"], (".mcap",)),
    "eval-memory --memory": (["eval-memory", "{}", "--memory", "{}"], (".emem",)),
    "info": (["info", "{}"], (".emem", ".mcap", "")),
    "check": (["check", "{}"], (".emem",)),
    "view": (["view", "{}", "--save", "{out}.rrd"], (".emem", ".mcap", "")),
    "report": (["report", "{}", "--out", "{out}.html"], (".emem", "")),
    "serve": (["serve", "{}"], (".emem",)),
    "strip": (["strip", "{}", "--out", "{out}.png"], (".mcap", "")),
    "export": (["export", "{}", "--to", "json", "--out", "{out}.json"], (".emem", ".mcap")),
    "export --to minari": (["export", "{}", "--to", "minari", "--out", "{out}"], (".mcap", ".emem")),
    "export --to rerun": (["export", "{}", "--to", "rerun", "--out", "{out}.rrd"], (".mcap",)),
    "bench octree": (["bench", "octree", "--scans", "{}"], ("",)),
    "ros": (["ros", "robot", "--table", "--params", "{}"], (".yaml",)),
}
"""What reads a file, by verb, and the endings that the file may have."""

WRITERS: dict[str, list[str]] = {
    "demo": ["demo", "--out", "{}"],
    "train": ["train", "proof_of_memory", "--out", "{}"],
    "record": ["record", "--env", "EmbodiedMem/Playground-v0", "--steps", "2", "--out", "{}"],
    "export-house": ["export-house", "--out", "{}"],
}
"""What writes into a folder."""

NO_FILE = {"guide", "completion", "doctor"}


def missing(path: Path) -> None:
    """There is nothing."""


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("Dear diary,\ntoday I met a robot: it forgot me.\n" * 50)


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 64)


def folder(path: Path) -> None:
    path.mkdir()


def unreadable(path: Path) -> None:
    if os.geteuid() != 0:
        path.write_text("secret")
        path.chmod(0)
    elif LOCKED.exists():
        path.symlink_to(LOCKED)
    else:
        pytest.skip("root may read every file of this machine")


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 42)  # 4 TB, all of it a hole


def said(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    err = capsys.readouterr().err
    assert end.value.code == 2, (arguments, end.value.code)
    assert err.startswith("embodied-mem: ") and err.count("\n") == 1 and len(err) < 600, err
    return err


@pytest.mark.parametrize("spoil", [missing, empty, text, noise, folder, unreadable, huge])
@pytest.mark.parametrize("verb", READERS)
def test_a_file_that_cannot_be_used_is_said_in_one_line(
    verb: str, spoil: Callable[[Path], None], tmp_path: Path, capsys
):
    template, endings = READERS[verb]
    for ending in endings:
        path = tmp_path / f"given{ending}"
        spoil(path)
        before = path.lstat() if path.exists() else None
        arguments = [part.format(path, out=tmp_path / "out") for part in template]
        if fine(verb, spoil, ending):
            continue
        assert "given" in said(capsys, arguments)
        assert before is None or path.lstat().st_size == before.st_size
        assert not list(tmp_path.glob("out*")), "something was left behind"


def fine(verb: str, spoil: Callable[[Path], None], ending: str) -> bool:
    """An empty parameter file changes nothing, and an empty config is one with the defaults."""
    return spoil is empty and ending == ".yaml"


@pytest.mark.parametrize("verb", WRITERS)
def test_a_folder_that_is_a_file_is_said_in_one_line_and_kept(verb: str, tmp_path: Path, capsys):
    path = tmp_path / "given"
    path.write_text("mine")
    assert "given" in said(capsys, [part.format(path) for part in WRITERS[verb]])
    assert path.read_text() == "mine"


def test_every_verb_that_takes_a_file_is_tried():
    tried = {words[0] for words, _ in READERS.values()} | {words[0] for words in WRITERS.values()}
    assert tried | NO_FILE == set(VERBS)

"""Promises of the store under kill -9, power cuts, a full disk and a file that must not be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from embodied_mem.verbs.bench_memory import crash


@pytest.mark.parametrize("count", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_kill_minus_9_at_any_moment_loses_nothing_acknowledged(tmp_path: Path, count: int):
    found = crash.kills(tmp_path, count)
    assert found["writes"] > 20
    assert (found["lost"], found["out_of_step"], found["unclean"]) == (0, 0, 0)


def test_kill_minus_9_while_a_backlog_is_sealed_loses_nothing(tmp_path: Path):
    found = crash.sealing_kills(tmp_path, 3)
    assert (found["lost"], found["unclean"]) == (0, 0)


def test_a_power_cut_in_the_wal_or_in_a_checkpoint_loses_nothing_synced(tmp_path: Path):
    found = crash.power_cuts(tmp_path, 12)
    assert (found["cuts"], found["lost"], found["out_of_step"], found["unclean"]) == (12, 0, 0, 0)


def test_a_disk_that_fills_up_is_said_in_one_line_and_loses_nothing_acknowledged(tmp_path: Path):
    found = crash.full_disk(tmp_path)
    assert found["acknowledged"] > 1 and found["lost"] == 0 and found["unclean"] == 0
    assert "full.emem" in found["said"] and "\n" not in found["said"] and "disk" in found["said"]


def test_a_file_that_must_not_be_written_can_be_read(tmp_path: Path):
    for parent in [tmp_path, *tmp_path.parents[:2]]:
        parent.chmod(0o755)
    found = crash.read_only_file(tmp_path)
    assert found["reads"] and "home.emem" in found["said"] and "cannot" in found["said"]

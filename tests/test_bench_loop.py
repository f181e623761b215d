"""Promises of `bench loop`: all parts of the loop are measured, in MiniGrid and in houses."""

from __future__ import annotations

import pytest

from embodied_mem.verbs.bench_loop import PARTS, bench_loop


def test_both_worlds_are_measured_part_by_part_and_reading_after_a_long_life_too():
    report = bench_loop(12, life=3000, train=False)
    for world, wanted in ((report, "Playground"), (report["house"], "House")):
        assert wanted in world["workload"]["env"] and world["workload"]["steps"] == 12
        assert sum(world["split"][part]["share"] for part in PARTS) == pytest.approx(1.0)
        assert world["steps_per_second_without_world"] > world["steps_per_second"] > 0
        assert all(0 < world["split"][part]["median_ms"] <= world["split"][part]["p99_ms"] for part in PARTS)
    before, after = report["house"]["read"]["house"], report["house"]["read"]["long_life"]
    assert after["entries"] == before["entries"] + 3000 > 3000
    assert after["positions"] > 1000 and after["objects"] == before["objects"] > 0
    assert 0 < after["median_ms"] <= after["p99_ms"]

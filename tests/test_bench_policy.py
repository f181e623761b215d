"""Promises of `bench policy`: it times what it says it times."""

from __future__ import annotations

import pytest
import torch

from embodied_mem.verbs import bench_policy

torch.set_num_threads(1)


@pytest.mark.parametrize("bank", ["accumulate", "rewrite"])
def test_streaming_is_timed_by_age_and_its_state_is_weighed(bank: str) -> None:
    report = bench_policy.time_streaming({"bank": bank, "width": 16, "heads": 2}, [100, 400], 1)
    size = report["memory_bytes"]
    assert (size["100"] == size["400"]) == (bank == "rewrite")
    assert all(ms > 0 for ms in report["ms"].values()) and report["boundary_ratio"] > 0


def test_the_peer_has_about_as_many_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_policy, "N_ENVS", 2)
    memo = bench_policy.count_parameters(bench_policy.make_policy(bank="rewrite"))
    peer = bench_policy.count_parameters(bench_policy.make_recurrent_ppo(memo))
    assert 0.8 < peer / memo < 1.25


def test_training_is_timed_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_policy, "N_ENVS", 2)
    monkeypatch.setattr(bench_policy, "N_STEPS", 16)
    models = {name: bench_policy.make_policy(policy=name) for name in ("none", "gru")}
    report = bench_policy.time_training(models, 2)
    assert models["gru"].num_timesteps == 3 * 2 * 16
    for facts in report.values():
        assert facts["sps"] > 0 and 0 < facts["rollout_share"] < 1

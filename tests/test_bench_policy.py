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
    memo = bench_policy.count_parameters(bench_policy.make_policy("short_trials", bank="rewrite"))
    peer = bench_policy.count_parameters(bench_policy.make_recurrent_ppo("short_trials", memo))
    assert 0.8 < peer / memo < 1.25


def test_training_is_timed_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_policy, "N_ENVS", 2)
    monkeypatch.setattr(bench_policy, "N_STEPS", 16)
    models = {name: bench_policy.make_policy("short_trials", policy=name) for name in ("none", "gru")}
    report = bench_policy.time_training(models, 2)
    assert models["gru"].num_timesteps == 3 * 2 * 16
    for facts in report.values():
        assert facts["sps"] > 0 and 0 < facts["rollout_share"] < 1


def test_the_bare_network_is_timed_on_what_training_passes_through_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("N_ENVS", 4), ("N_STEPS", 16), ("MINIBATCHES", 2)):
        monkeypatch.setattr(bench_policy, name, value)
    model = bench_policy.make_policy("long_trials", bank="rewrite", segment_length=5)
    model.learn(4 * 16 * 2)
    before = [p.detach().clone() for p in model.policy.parameters()]
    assert bench_policy.time_bare(model, 1) > 0
    assert all(torch.equal(a, b) for a, b in zip(before, model.policy.parameters()))


def test_the_crossover_lies_between_the_lengths_measured() -> None:
    assert bench_policy.crossover({"100": 0.5, "200": 0.75, "400": 1.25}) == pytest.approx(300.0)
    assert bench_policy.crossover({"100": 1.5, "200": 2.0}) == 100.0
    assert bench_policy.crossover({"100": 0.5, "200": 0.9}) is None


def test_bounded_methods_are_followed_to_the_oldest_age_and_others_are_not() -> None:
    assert bench_policy.ages_of("rewrite", 100_000) == [1000, 100_000]
    assert bench_policy.ages_of("full_context", 100_000) == [1000, 4000]
    assert bench_policy.ages_of("memo", 500) == [500]

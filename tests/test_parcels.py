"""Parcels: what only happened cannot be seen, and pays who remembers it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

import embodied_mem.sim  # noqa: E402, F401
from embodied_mem.errors import ConfigError  # noqa: E402
from embodied_mem.sim.pointing import parcels  # noqa: E402
from embodied_mem.sim.pointing.parcels import HouseParcels  # noqa: E402


@pytest.fixture(autouse=True)
def few_houses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcels, "HOUSES", 2)


def play(env: HouseParcels, seed: int, remembers: bool) -> tuple[float, dict[str, Any]]:
    """Tries the nearest thing not known to be empty; of what happened it knows today alone, or all."""
    observation, _ = env.reset(seed=seed)
    empty: set[int] = set()
    known: int | None = None
    total, ended = 0.0, False
    info: dict[str, Any] = {}
    while not ended:
        if observation["inner_start"][0] and not remembers:
            empty, known = set(), None
        choices = [i for i in range(env.count) if i not in empty]
        chosen = (
            known if known is not None else min(choices, key=lambda i: float(observation["things"][i, 0]))
        )
        observation, reward, ended, _, info = env.step(chosen)
        total += reward
        assert int(observation["last"][0]) == chosen and env.observation_space.contains(observation)
        if observation["status"][0]:
            known = chosen
        else:
            empty.add(chosen)
    return total, info


def test_who_remembers_goes_straight_to_the_parcel_and_who_does_not_searches_every_day() -> None:
    env = HouseParcels(days=6)
    remembered = [play(env, seed, True) for seed in range(12)]
    forgotten = [play(env, seed, False) for seed in range(12)]
    assert all(info["success"] for _, info in remembered)
    assert np.mean([info["success"] for _, info in forgotten]) < 0.6
    assert max(info["visits"] for _, info in remembered) <= (8 + 5) / 6
    assert np.mean([r for r, _ in remembered]) > np.mean([r for r, _ in forgotten]) + 1.0


def test_nothing_that_is_seen_tells_where_the_parcel_is_or_what_is_locked() -> None:
    env = HouseParcels()
    seen, _ = env.reset(seed=3)
    order = [i for i in range(env.count) if i not in env.parcels]
    assert not env.locked & {*env.parcels} and len(env.locked) == 3
    env.parcels, env.locked = (order[0],), frozenset(order[1:4])
    moved = env._observe()
    for key, value in seen.items():
        np.testing.assert_array_equal(value, moved[key])


def test_a_trial_is_the_same_from_the_same_seed_and_lasts_its_days() -> None:
    env, other = HouseParcels(days=3), HouseParcels(days=3, tokens=False)
    first, second = env.reset(seed=5)[0], env.reset(seed=5)[0]
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])
    assert first["things"][:, 0].max() > 0.0 and not other.reset(seed=5)[0]["things"].any()
    wrong = next(i for i in range(env.count) if i not in env.parcels and i not in env.locked)
    days = [env.step(wrong)[0]["inner_start"][0] for _ in range(2 * env.count)]
    assert days == [0.0] * (2 * env.count - 1) + [1.0]  # a parcel that is not found in time is lost
    assert env.step(env.parcels[0])[2] is False
    *_, ended, _, info = env.step(env.parcels[0])
    assert ended and info["success"] and info["visits"] == (2 * env.count + 2) / 3


@pytest.mark.parametrize("wrong", [{"things": 1}, {"locked": 7}, {"days": 0}, {"split": "tast"}])
def test_settings_that_make_no_sense_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        HouseParcels(**wrong)


def test_with_several_kinds_a_day_wants_one_of_them_and_each_lies_where_it_always_did() -> None:
    env = HouseParcels(kinds=3, days=10)
    seen, _ = env.reset(seed=1)
    at: dict[int, int] = {}
    ended = False
    while not ended:
        kind, place = int(seen["wanted"].argmax()), env.wanted_at
        assert at.setdefault(kind, place) == place and env._at != place
        other = next(p for p in env.parcels if p != place)
        seen, reward, *_ = env.step(other)
        assert seen["status"][env.parcels.index(other)] == 1.0 and reward <= 0.0  # it is not what is wanted
        seen, reward, ended, _, _ = env.step(place)
        assert reward > 0.0 and env.observation_space.contains(seen)
    assert len(at) == 3 and len(set(at.values())) == 3
    with pytest.raises(ConfigError, match="kinds"):
        HouseParcels(things=6, locked=3, kinds=3)


def test_who_goes_by_its_preferences_remembers() -> None:
    env = HouseParcels(kinds=3, days=10)
    for seed in range(8):
        env.reset(seed=seed)
        ended, tried, calls = False, set(), 0
        while not ended:
            preferred = env.preferences()
            assert preferred.sum() == pytest.approx(1.0)
            chosen = int(preferred.argmax())
            assert chosen not in tried or (chosen == env.wanted_at and preferred[chosen] == 1.0)
            tried.add(chosen)
            calls += 1
            *_, ended, _, _ = env.step(chosen)
        assert calls <= env.days + env.count


def test_a_task_with_preferences_of_its_own_can_be_imitated(tmp_path: Path) -> None:
    from embodied_mem.policy.demonstrations import Demonstration
    from embodied_mem.sim.pointing.collection import choose_astray, collect

    collect(lambda: HouseParcels(kinds=3, days=4), tmp_path, range(3), {"teacher": choose_astray})
    found = [Demonstration.load(path) for path in sorted(tmp_path.glob("*.npz"))]
    assert len(found) == 3
    for episode in found:
        steps = len(episode)
        assert episode.preferences.shape == (steps, 8) and episode.observations["wanted"].shape == (steps, 3)
        assert (episode.durations == 1).all() and episode.rewards.max() > 0.0

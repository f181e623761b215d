"""What simulated sensors get wrong: as often as they say, and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest

from embodied_mem.errors import ConfigError
from embodied_mem.geometry import Pose

pytest.importorskip("gymnasium")
pytest.importorskip("open3d")

from embodied_mem.sim.house.config import NoiseConfig
from embodied_mem.sim.house.robot import Odometry
from embodied_mem.sim.mistakes import PoseError, mistaken_labels


def test_things_are_missed_and_mistaken_as_often_as_is_said_and_walls_never() -> None:
    rng = np.random.default_rng(0)
    instance = np.repeat(np.arange(40), 5).reshape(1, -1)
    label = np.where(instance < 30, 4 + instance % 3, 1).astype(np.int32)
    missed = wrong = 0
    for _ in range(400):
        found = mistaken_labels(label, instance, (4, 5, 6, 7), 0.05, 0.1, rng)
        things = found.reshape(40, 5)
        assert (things == things[:, :1]).all() and (
            things[30:] == 1
        ).all()  # a thing as a whole, or not at all
        missed += int((things[:30, 0] == 0).sum())
        wrong += int((things[:30, 0] != label.reshape(40, 5)[:30, 0]).sum() - (things[:30, 0] == 0).sum())
    assert missed / 12_000 == pytest.approx(0.1, abs=0.015)
    assert wrong / 12_000 == pytest.approx(0.05 * 3 / 4, abs=0.01)  # a kind is mistaken for itself too


def test_a_localiser_errs_slowly_and_never_more_than_it_says() -> None:
    error = PoseError(0.05, math.radians(1.0), 50.0, np.random.default_rng(0))
    truth = Pose.from_xyz_yaw(3.0, 4.0, 0.0, 0.5)
    found = [error.step(truth) for _ in range(20_000)]
    x, yaw = np.array([p.position[0] - 3.0 for p in found]), np.array([p.yaw - 0.5 for p in found])
    assert x.std() == pytest.approx(0.05, rel=0.15) and np.degrees(yaw.std()) == pytest.approx(1.0, rel=0.15)
    assert np.corrcoef(x[:-50], x[50:])[0, 1] == pytest.approx(math.exp(-1), abs=0.1)
    robot = Odometry(NoiseConfig(position=0.05, heading=1.0), truth, np.random.default_rng(1))
    first = robot.pose.position.copy()
    for _ in range(500):
        robot.count(0.25, 0.0, truth)
    assert (
        0.0 < np.abs(first - truth.position).max() < 0.3
        and np.abs(robot.pose.position - truth.position).max() < 0.3
    )


def test_noise_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="like odometry or like a localiser"):
        NoiseConfig(odometry=0.1, position=0.1)
    with pytest.raises(ConfigError, match="nor above 1 together"):
        NoiseConfig(missed=0.7, wrong_label=0.4)

"""What sensors of a simulated robot get wrong: labels of things, and where the robot is."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose


class PoseError:
    """The slowly varying error of a localised robot: x, y and heading drift about zero.

    Each is a first-order Gauss-Markov process.

    Args:
        position: standard deviation of the error of x and of y [m].
        heading: standard deviation of the error of the heading [rad].
        steps: after so many steps an error has become another one: its correlation fell to 1/e.
        rng: draws it.
    """

    def __init__(self, position: float, heading: float, steps: float, rng: np.random.Generator) -> None:
        self._keep = math.exp(-1.0 / steps)
        self._sigma = np.array([position, position, heading])
        self._rng = rng
        self._now = self._sigma * rng.standard_normal(3)

    def step(self, truth: Pose) -> Pose:
        """Returns the pose as the localiser has it, and lets the error vary."""
        x, y, yaw = self._now.tolist()
        fresh = math.sqrt(1.0 - self._keep**2) * self._sigma * self._rng.standard_normal(3)
        self._now = self._keep * self._now + fresh
        p = truth.position
        return Pose.from_xyz_yaw(p[0] + x, p[1] + y, p[2], truth.yaw + yaw)


def mistaken_labels(
    label: NDArray[np.int32],
    instance: NDArray[np.integer],
    things: Collection[int],
    wrong: float,
    missed: float,
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    """Returns a label image in which some things have another label, and others none.

    Args:
        label: (H, W) label ids.
        instance: (H, W) numbers of the things.
        things: label ids of things; whatever else is in the picture is recognised.
        wrong: probability of a thing to have the label of another kind, in this image.
        missed: probability of a thing to have no label (0).
        rng: draws.
    """
    is_thing = np.isin(label, list(things))
    found = label.copy()
    kinds = sorted(things)
    for number in np.unique(instance[is_thing]).tolist():
        draw, other = rng.random(), kinds[int(rng.integers(len(kinds)))]
        if draw < wrong + missed:
            found[is_thing & (instance == number)] = 0 if draw < missed else other
    return found

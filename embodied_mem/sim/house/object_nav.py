"""ObjectNav in houses: go to something of a category, once or one after another."""

from __future__ import annotations

from typing import Any

from embodied_mem.sim.house.house_nav import HouseNav


class ObjectNav(HouseNav):
    """Find something of a category in a furnished house that was never seen before.

    ## Description
    A procedural house of 4 to 8 rooms and a corridor with furniture and objects where people keep
    them; a round robot with one RGB-D camera and a label image. ObjectNav after Batra et al. (2020):
    go to any thing of the goal's category and say so.

    ## Action Space
    `Discrete(6)`: 0 found, 1 forward 0.25 m (it stops at what is in the way and does not slide), 2 turn
    left 30 degrees, 3 turn right, 4 look up 30 degrees, 5 look down.

    ## Observation Space
    A `Dict` of `rgb` (H, W, 3) uint8, `depth` (H, W, 1) float32 planar [m] (0: no reading; cut at the
    sensor's range), `semantic` (H, W, 1) int32 label ids, `pose` (5,) float32: x, y [m], sine and
    cosine of the yaw, the camera's tilt [rad], and `goal` (1,) int64 label id. `observation` gives the
    same as an `embodied_mem.types.Observation`, where depth out of range is +inf. Instance ids and
    true distances are only in `view` and `info`.

    ## Rewards
    Every step: the way that the robot came closer to the nearest goal [m], less 0.01. 2.5 for found
    where it is true.

    ## Starting State
    A house of the split (or `house_seed`), a category of it, and a free pose at least 2 m from the goal,
    all drawn from the seed.

    ## Episode End
    Saying found ends the episode; it is a success within `success_radius` of a thing of the category in
    its room, seen from above. Truncated after `max_steps`. `info` has success, spl, soft_spl,
    distance_to_goal, path_length and collisions.

    ## Arguments
    * `max_steps=500`, `split="train"`, `house_seed=None`, `success_radius=1.0`, `goal_labels=None`,
      `house` (`HouseConfig`), `robot` (`RobotConfig`: image size, field of view, turn angle, noise).
    * `control="velocity"`: actions are `Box(-1, 1, (3,))`, velocity ahead and angular velocity as fractions
      of `robot.max_speed` and `robot.max_turn_rate`, and above 0 for found; a step takes 0.1 s.
    * `change_at=None`, `changes` (`ChangeConfig`): objects are moved, added and removed before that step;
      the environment's `changes` has the truth about it.
    * `reset(options={"house": 7, "nights": 1})`: which house, and how often it changed overnight.

    ## Version History
    * v0: first version.
    """

    def __init__(self, max_steps: int = 500, **kwargs: Any) -> None:
        super().__init__(goals=1, max_steps=max_steps, **kwargs)


class MultiObjectNav(HouseNav):
    """Find things of several categories, one after another, in one house.

    ## Description
    As ObjectNav, but the next goal is given when one was found, after MultiON (Wani et al. 2020): who
    remembers what was passed on the way, and where an earlier goal was, needs shorter ways.

    ## Action Space
    That of ObjectNav; 0 says that the current goal is found.

    ## Observation Space
    That of ObjectNav; `goal` is the current one.

    ## Rewards
    Those of ObjectNav, for every goal.

    ## Starting State
    That of ObjectNav; the goals after the first are drawn too, each with probability `revisit` one of
    the earlier ones again.

    ## Episode End
    With the last goal found, with a wrong found, or after `max_steps`. `info["success"]` needs all goals;
    `spl` compares with the sum of the shortest ways from where each goal was given; `goals` lists every
    goal so far with success, spl and whether it is a revisit.

    ## Arguments
    * `goals=4`, `revisit=0.3`, `max_steps=1500`, otherwise those of ObjectNav.
    * `goal_steps=None`: a goal not found within so many steps, or wrongly said to be found, is followed by
      the next, and the episode goes on.
    * `start_distance=2`, `hidden_start=False`: how far away the first goal is at least [m], and whether it
      must be out of view; `robot.noise` has the errors of sensors and of the pose.

    ## Version History
    * v1: as v0, with sensors and a pose that err as in `bench scene` (5 cm, 1 degree, 5 % of the things in an
      image with a wrong label, 10 % missed, noisy depth), and a first goal out of view, at least 4 m away.
    * v0: first version.
    """

    def __init__(self, goals: int = 4, revisit: float = 0.3, max_steps: int = 1500, **kwargs: Any) -> None:
        super().__init__(goals=goals, max_steps=max_steps, revisit=revisit, **kwargs)

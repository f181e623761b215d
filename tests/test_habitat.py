"""House and habitat-sim show the same world: pictures, distances and motions of exported houses.

Needs habitat-sim, which comes by conda or from source, never by pip.
"""

from __future__ import annotations

import itertools
import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from embodied_mem.cli import main
from embodied_mem.errors import ConfigError
from embodied_mem.geometry import Pose
from embodied_mem.log.replay import replay
from embodied_mem.sim import make
from embodied_mem.sim.evaluation import evaluate_agent, summary
from embodied_mem.sim.habitat.config import HabitatConfig
from embodied_mem.sim.habitat.object_nav import HabitatMultiObjectNav, HabitatObjectNav
from embodied_mem.sim.habitat.simulator import INSTALL
from embodied_mem.sim.habitat.site import HabitatSite, shared_site
from embodied_mem.sim.house.config import RobotConfig
from embodied_mem.sim.house.export import export_house
from embodied_mem.sim.house.house import House, make_house
from embodied_mem.sim.house.object_nav import MultiObjectNav, ObjectNav
from embodied_mem.sim.house.renderer import Camera, scene_of
from embodied_mem.sim.house.robot import Action, Robot, camera_mount
from embodied_mem.verbs.record import record_episode

pytestmark = pytest.mark.habitat
habitat_sim = pytest.importorskip("habitat_sim", reason=INSTALL)

SEEDS = (31, 10_231, 11_531)
"""A house of each split; what they are compared by was worked out on others."""
POSES = 20
WALKS = 20
CAMERA = Camera(128, 128, 79.0)
MAX_DEPTH = 10.0
SMALL = {"width": 48, "image_height": 36}
ROBOT = RobotConfig()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("houses")
    for seed in SEEDS:
        export_house(make_house(seed), out)
    return out


@pytest.fixture(params=SEEDS, ids=lambda seed: f"house_{seed}")
def both(request: pytest.FixtureRequest, folder: Path) -> tuple[House, HabitatSite]:
    site = shared_site(HabitatConfig(str(folder)), f"house_{request.param}")
    return make_house(request.param), site


def free_points(house: House, count: int, seed: int) -> np.ndarray:
    """Returns (count, 2) positions that the robot can be at, a little away from everything."""
    plan, rng = house.floor_plan, np.random.default_rng(seed)
    cells = np.flatnonzero(plan.main_part)
    points = plan.centers[rng.permutation(cells)]
    return points[plan.clearance(points) > plan.radius + 0.03][:count]


def poses(house: House) -> Iterator[Pose]:
    rng = np.random.default_rng(house.seed)
    for x, y in free_points(house, POSES, 1):
        base = Pose.from_xyz_yaw(x, y, 0.0, rng.uniform(-math.pi, math.pi))
        yield base @ camera_mount(0.9, math.radians(30.0 * rng.integers(-1, 2)))


def test_pictures_agree_from_twenty_poses(both: tuple[House, HabitatSite]):
    house, site = both
    depth, label, instance, color = [], [], [], []
    for pose in poses(house):
        ours = CAMERA.view(scene_of(house), pose, MAX_DEPTH)
        theirs = site.view(CAMERA, pose, MAX_DEPTH)
        with np.errstate(invalid="ignore"):
            near = np.abs(ours.depth - theirs.depth) <= 0.02
        depth.append((near | (ours.depth == theirs.depth)).mean())
        label.append((ours.label == theirs.label).mean())
        things = (ours.instance < 1_000_000) & (ours.instance > 0)
        same = np.where(things, ours.instance == theirs.instance, ours.label == theirs.label)
        instance.append(same.mean())
        apart = np.abs(ours.color.astype(int) - theirs.color.astype(int)).max(axis=-1)
        color.append((apart <= 2).mean())
    print(f"house {house.seed}:", *(f"{np.mean(v):.4f}" for v in (depth, label, instance, color)))
    assert len(depth) == POSES
    assert np.mean(depth) >= 0.99 and np.mean(label) >= 0.99 and np.mean(instance) >= 0.99
    assert np.mean(color) >= 0.98


def test_geodesic_distances_agree(both: tuple[House, HabitatSite]):
    house, site = both
    points = free_points(house, 2 * POSES, 2)
    ratios, straight = [], 0
    for a, b in zip(points[:POSES], points[POSES:]):
        ours = house.floor_plan.geodesic(a, b)
        theirs = site.ground.geodesic(np.array([*a, 0.0]), np.array([*b, 0.0]))
        ratios.append(theirs / ours)
        if house.floor_plan.sees(a, b):  # any-angle: what is in sight is as far as it looks
            straight += 1
            assert ours == pytest.approx(math.dist(a, b)) and theirs == pytest.approx(
                math.dist(a, b), rel=0.01
            )
    print(f"house {house.seed}: {min(ratios):.4f} to {max(ratios):.4f}, {straight} in sight")
    assert np.abs(np.array(ratios) - 1.0).max() <= 0.05


def test_every_step_ends_at_the_same_place(both: tuple[House, HabitatSite]):
    """The floor that habitat-sim walks on is the house's own, not one like it."""
    house, site = both
    plan, rng = house.floor_plan, np.random.default_rng(house.seed)
    cells, blocked = np.flatnonzero(plan.main_part), 0
    for cell in rng.choice(cells, 500):
        start, yaw = plan.centers[cell], float(rng.uniform(-math.pi, math.pi))
        ours, stopped = plan.advance(start, yaw, 0.25)
        theirs, also = site.ground.advance(np.array([*start, 0.0]), yaw, 0.25)
        assert math.dist(ours, theirs[:2]) <= 1e-3 and stopped == also
        blocked += stopped
    assert blocked > 40


def walks(house: House, count: int = 100) -> Iterator[tuple[np.ndarray, float, list[Action]]]:
    """Yields starts and actions of which at least a fifth are blocked, as a robot's that knows nothing."""
    starts = free_points(house, 100, 3)
    for seed in itertools.count():
        rng = np.random.default_rng([house.seed, seed])
        start, yaw = starts[rng.integers(100)], float(rng.uniform(-math.pi, math.pi))
        drawn = rng.choice([Action.FORWARD, Action.LEFT, Action.RIGHT], count, p=[0.6, 0.26, 0.14])
        actions = [Action(int(a)) for a in drawn]
        if follow(Robot(ROBOT, house.floor_plan, start, yaw), actions)[1] >= 0.2:
            yield start, yaw, actions


def follow(robot: Robot, actions: list[Action]) -> tuple[Robot, float]:
    """Returns the robot at the end, and the share of the steps that were blocked."""
    blocked = [robot.act(action)[2] for action in actions]
    return robot, float(np.mean(blocked))


def test_the_same_actions_end_at_the_same_place(both: tuple[House, HabitatSite]):
    house, site = both
    apart, turned, blocks, ways = [], [], [], []
    for start, yaw, actions in itertools.islice(walks(house), WALKS):
        ours, _ = follow(Robot(ROBOT, house.floor_plan, start, yaw), actions)
        theirs, stopped = follow(site.robot(ROBOT, start, yaw), actions)
        apart.append(math.dist(ours.position, theirs.position[:2]))
        turned.append(abs(math.remainder(ours.yaw - theirs.yaw, 2 * math.pi)))
        blocks.append(stopped)
        ways.append(theirs.path_length)
    print(
        f"house {house.seed}: {len(apart)} walks, at most {max(apart):.6f} m apart, "
        f"{min(blocks):.2f} to {max(blocks):.2f} blocked, {np.mean(ways):.1f} m long"
    )
    assert len(apart) == WALKS and min(blocks) >= 0.2
    assert max(apart) <= 0.05 and max(turned) <= math.radians(1.0)


def test_things_have_the_boxes_and_rooms_of_the_house(both: tuple[House, HabitatSite]):
    house, site = both
    found = {thing.id: thing for thing in site.things}
    assert site.labels == house.labels
    for thing in house.things:
        there = found[thing.id]
        assert there.label == thing.label and thing.room in there.regions
        assert np.allclose(there.rect, thing.rect, atol=0.02) and there.bottom == pytest.approx(
            thing.position[2], abs=0.02
        )


def test_goals_are_as_far_and_reached_in_the_same_places(both: tuple[House, HabitatSite]):
    house, site = both
    agree, apart = [], []
    for label in house.labels[::4]:
        field = house.distances_to(label, 1.0)
        for x, y in free_points(house, 12, 5):
            ours = house.floor_plan.look_up(field, (x, y))
            theirs = site.distance(label, 1.0, np.array([x, y, 0.0]))
            # The house's field has cells of 5 cm, so within two of them of the margin either may be right.
            agree.append((ours <= 0.1) == (theirs <= 0.1) or abs(ours - 0.1) <= 0.1)
            apart.append(abs(ours - theirs) - 0.05 * ours)
    # Where a goal's disc just touches a free corner, only the one's cells may have a place there.
    assert all(agree) and np.mean(np.array(apart) <= 0.15) >= 0.98


def test_the_environment_passes_check_env(folder: Path):
    for name in ("Habitat-ObjectNav-v0", "Habitat-MultiObjectNav-v0"):
        env = make(f"EmbodiedMem/{name}", habitat=str(folder), robot=SMALL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_env(env.unwrapped, skip_render_check=True)


def episode(env: gymnasium.Env, seed: int) -> list[Any]:
    env.action_space.seed(3)
    obs, info = env.reset(seed=seed)
    seen = [obs, info["scene"]]
    for _ in range(25):
        action = int(env.action_space.sample())
        obs, reward, terminated, truncated, _ = env.step(action or int(Action.FORWARD))
        seen += [obs, reward, terminated, truncated]
    return seen


def test_the_same_seed_gives_the_same_episode_also_beside_others(folder: Path):
    first = HabitatObjectNav(str(folder), robot=SMALL)
    alone = episode(first, 5)
    other = HabitatObjectNav(str(folder), robot={"width": 40, "image_height": 40})
    other.reset(seed=6)
    again = episode(HabitatObjectNav(str(folder), robot=SMALL), 5)
    for a, b in zip(alone, again):
        if isinstance(a, dict):
            assert all(np.array_equal(a[key], b[key]) for key in a)
        else:
            assert a == b
    assert {first.reset(seed=s)[1]["scene"] for s in range(12)} == {f"house_{seed}" for seed in SEEDS}


def test_who_knows_the_way_succeeds_with_an_spl_near_one(folder: Path):
    results = evaluate_agent("oracle", f"habitat:{folder}", 3, env_kwargs={"robot": SMALL, "goals": 2})
    told = summary(results)
    print(f"oracle: success {told['success']}, SPL {told['measures']['spl']['mean']:.3f}")
    assert told["success"] == 1.0 and told["measures"]["spl"]["mean"] > 0.85


def test_an_episode_goes_the_same_way_in_the_house_and_in_habitat(folder: Path):
    """The same goals from the same start: the way that the oracle finds, and what it is worth."""
    site_env = HabitatMultiObjectNav(str(folder), robot=SMALL)
    house_env = MultiObjectNav(robot=SMALL)
    for seed in SEEDS:
        house = make_house(seed)
        (x, y), goals = free_points(house, 1, 8)[0], list(house.labels[1:9:3])
        told = []
        for env, where in ((house_env, {"house": seed}), (site_env, {"scene": f"house_{seed}"})):
            env.reset(seed=1, options={**where, "goals": goals, "start": (x, y, 0.5)})
            done, agent = False, env.oracle()
            while not done:
                action, _ = agent.act(env.observation, None, None)
                _, _, terminated, truncated, info = env.step(action)
                done = terminated or truncated
            told.append(info)
        ours, theirs = told
        print(f"house {seed}: SPL {ours['spl']:.3f} and {theirs['spl']:.3f}, {ours['path_length']:.1f} m")
        assert ours["success"] and theirs["success"]
        assert [leg["label"] for leg in theirs["goals"]] == goals
        assert theirs["path_length"] == pytest.approx(ours["path_length"], rel=0.15)
        assert theirs["spl"] == pytest.approx(ours["spl"], abs=0.1)


def test_the_explorer_is_evaluated_with_the_memory_kept_and_wiped(folder: Path, capsys):
    settings = ["goals=2", "max_steps=60", "scene=house_31", "robot={width: 48, image_height: 48}"]
    rest = ["--memory", "both", "--env-args", *settings, "--json"]
    with pytest.raises(SystemExit) as done:
        main(["eval", "explorer", "--env", f"habitat:{folder}", "--episodes", "2", *rest])
    told = json.loads(capsys.readouterr().out)
    assert done.value.code == 0 and told["episodes"] == 2
    assert told["measures"]["path_length"]["mean"] > 1.0
    kept, wiped = told["goals"][0], told["wiped"]["goals"][0]
    assert kept == wiped  # until the first goal is found the memory is the same: the episodes are pairs
    assert "spl_of_goals" in told["kept_less_wiped"]


def test_observations_are_those_of_the_house(folder: Path):
    env, house_env = HabitatObjectNav(str(folder), scene="house_31"), ObjectNav(house_seed=31)
    env.reset(seed=1)
    house_env.reset(seed=1)
    ours, theirs = house_env.observation, env.observation
    assert env.observation_space == house_env.observation_space
    assert ours.labels == theirs.labels and type(ours) is type(theirs)
    a, b = ours.cameras[0], theirs.cameras[0]
    for name in ("depth", "color", "semantic"):
        left, right = getattr(a, name), getattr(b, name)
        assert left.data.dtype == right.data.dtype and left.data.shape == right.data.shape
        assert left.intrinsics == right.intrinsics
        assert np.allclose(left.base_T_camera.matrix(), right.base_T_camera.matrix())


def test_a_recorded_run_replays_to_the_same_digest(folder: Path, tmp_path: Path):
    run = record_episode(f"habitat:{folder}", tmp_path / "run", seed=2, steps=40)
    report = replay(run.log)
    assert run.steps == 40 and report.digest == run.digest


def test_bad_input_is_told_in_one_line(folder: Path, tmp_path: Path, capsys):
    with pytest.raises(ConfigError, match='no scene "house_32"; did you mean "house_31"'):
        HabitatObjectNav(str(folder), scene="house_32")
    env = HabitatObjectNav(str(folder), scene="house_31", goal_labels=("sofa",), robot=SMALL)
    with pytest.raises(ConfigError, match='no scene "nowhere"'):
        env.reset(seed=0, options={"scene": "nowhere"})
    lacking = sorted(set(env.labels.names[4:]) - set(make_house(31).labels))
    env = HabitatObjectNav(str(folder), scene="house_31", goal_labels=tuple(lacking), robot=SMALL)
    with pytest.raises(ConfigError, match="the scene house_31 has none of the goals"):
        env.reset(seed=0)
    (tmp_path / "empty.scene_dataset_config.json").write_text("{}")
    with pytest.raises(SystemExit) as done:
        main(["record", "--env", f"habitat:{tmp_path}", "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert done.value.code == 2 and error.count("\n") == 1 and "no scenes" in error

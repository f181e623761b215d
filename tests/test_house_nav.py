"""ObjectNav and MultiObjectNav in houses."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest

import embodied_mem.sim  # noqa: F401
from embodied_mem.errors import ConfigError, InputError
from embodied_mem.geometry import Pose
from embodied_mem.log.messages import deserialize
from embodied_mem.log.reader import LogReader
from embodied_mem.log.replay import replay
from embodied_mem.loop import Loop
from embodied_mem.memory import GridMap, Memory
from embodied_mem.perception import Perception
from embodied_mem.sim.base_controller import BaseController
from embodied_mem.sim.explorer import Subgoal
from embodied_mem.sim.house.catalog import HOUSE_LABELS
from embodied_mem.sim.house.object_nav import MultiObjectNav, ObjectNav
from embodied_mem.sim.house.renderer import scene_of
from embodied_mem.sim.house.robot import Action
from embodied_mem.sim.memory_wrapper import MemoryWrapper
from embodied_mem.sim.world import EnvWorld
from embodied_mem.types import Observation
from embodied_mem.verbs.record import record_episode

SMALL = {"width": 32, "image_height": 24}


def oracle(env: ObjectNav | MultiObjectNav) -> int:
    """Returns the next action along the true shortest way: what no robot could know."""
    plan, robot = env.house.floor_plan, env.robot
    goal = env.unwrapped.observation.goal
    label = HOUSE_LABELS.name(goal.label)
    field = env.house.distances_to(label, env.success_radius)
    if plan.look_up(field, robot.position) <= 0.1:
        return Action.FOUND
    # The turn after which a step ahead leads nearest to the goal.
    turn = math.radians(env.robot_config.turn)
    count = round(2 * math.pi / turn)
    ends = [plan.advance(robot.position, robot.yaw + k * turn, 0.25)[0] for k in range(count)]
    best = int(np.argmin([plan.look_up(field, end) for end in ends]))
    if best == 0:
        return Action.FORWARD
    return Action.LEFT if best <= count // 2 else Action.RIGHT


def run_oracle(env: ObjectNav | MultiObjectNav, seed: int) -> tuple[dict, float]:
    _, info = env.reset(seed=seed)
    total, done = 0.0, False
    while not done:
        _, reward, terminated, truncated, info = env.step(oracle(env))
        total += reward
        done = terminated or truncated
    return info, total


def test_who_knows_the_way_succeeds_with_an_spl_near_one():
    env = ObjectNav(robot=SMALL)
    infos = [run_oracle(env, seed)[0] for seed in range(8)]
    assert sum(info["success"] for info in infos) >= 7
    assert np.mean([info["spl"] for info in infos]) > 0.8
    assert len({info["house"] for info in infos}) > 4


def test_measures_follow_their_definitions():
    env = ObjectNav(robot=SMALL)
    _, first = env.reset(seed=3)
    info, total = run_oracle(env, 3)
    steps = env.observation.step
    assert info["success"] and info["is_success"] and info["goals_found"] == 1
    expected = first["distance_to_goal"] / max(first["distance_to_goal"], info["path_length"])
    assert info["spl"] == pytest.approx(expected) and info["soft_spl"] == pytest.approx(expected)
    assert total == pytest.approx(first["distance_to_goal"] - info["distance_to_goal"] + 2.5 - 0.01 * steps)
    assert first["distance_to_goal"] >= 2.0 and info["distance_to_goal"] <= 0.1


def test_a_wrong_found_ends_the_episode_without_success():
    for cls in (ObjectNav, MultiObjectNav):
        env = cls(robot=SMALL)
        env.reset(seed=1)
        _, reward, terminated, _, info = env.step(Action.FOUND)
        assert terminated and not info["success"] and info["spl"] == 0.0 and reward < 0


def test_several_goals_follow_each_other_and_some_come_again():
    env = MultiObjectNav(goals=4, revisit=0.8, robot=SMALL)
    revisits = 0
    for seed in range(4):
        info, _ = run_oracle(env, seed)
        labels = [goal["label"] for goal in info["goals"]]
        assert all(a != b for a, b in pairwise(labels))
        for i, goal in enumerate(info["goals"]):
            assert goal["revisit"] == (goal["label"] in labels[:i])
        if info["success"]:
            assert len(labels) == info["goals_found"] == 4 and info["spl"] > 0.6
            assert all(goal["success"] and 0 < goal["spl"] <= 1 for goal in info["goals"])
        revisits += sum(goal["revisit"] for goal in info["goals"])
    assert revisits >= 3


def test_a_goal_that_is_not_found_in_time_is_followed_by_the_next():
    env = MultiObjectNav(goals=4, revisit=0.0, robot=SMALL, goal_steps=3)
    env.reset(seed=2)
    told = [env.step(action) for action in (Action.LEFT, Action.LEFT, Action.LEFT, Action.FOUND, Action.LEFT)]
    assert [info["goal_index"] for *_, info in told] == [0, 0, 1, 2, 2]  # out of time; wrongly found
    assert not any(terminated for _, _, terminated, _, _ in told)
    for _ in range(5):
        *_, terminated, _, info = env.step(Action.LEFT)
    assert info["goal_index"] == 3 and terminated  # the last one ran out of time too
    assert info["goals_found"] == 0 and not info["success"]


def test_the_episode_is_truncated_at_its_limit():
    env = ObjectNav(max_steps=3, robot=SMALL)
    env.reset(seed=0)
    assert [env.step(Action.LEFT)[3] for _ in range(3)] == [False, False, True]


def test_the_observation_holds_what_a_robot_has_and_no_ground_truth():
    env = ObjectNav(robot=SMALL)
    env.reset(seed=2)
    env.step(Action.FORWARD)
    obs = env.observation
    assert obs.detections == () and obs.goal.position is None and obs.grid is None
    frame = obs.cameras[0]
    assert np.array_equal(frame.semantic.data, env.view.label)
    images = (frame.depth.data, frame.color.data, frame.semantic.data)
    assert not any(np.array_equal(image, env.view.instance) for image in images)
    assert frame.semantic.data.max() < len(HOUSE_LABELS) < env.view.instance.max()
    names = {field.name for field in dataclasses.fields(Observation)}
    assert not any("instance" in name for name in names)
    assert frame.depth.intrinsics.cx == (32 - 1) / 2
    assert obs.action == Action.FORWARD and obs.stamp == 100_000_000
    assert np.allclose(obs.map_T_base.position[:2], env.robot.position)


def test_looking_up_tilts_the_camera_and_stops_at_its_limit():
    env = ObjectNav(robot=SMALL)
    env.reset(seed=0)
    for expected in (30, 60, 60):
        env.step(Action.UP)
        assert math.degrees(env.robot.tilt) == pytest.approx(expected)
    ahead = env.observation.cameras[0].depth.base_T_camera.rotate(np.array([0.0, 0.0, 1.0]))
    assert ahead[2] == pytest.approx(math.sin(math.radians(60)))


def test_environments_of_one_house_share_its_meshes():
    envs = [ObjectNav(house_seed=5, robot=SMALL) for _ in range(3)]
    for seed, env in enumerate(envs):
        env.reset(seed=seed)
    assert len({id(scene_of(env.house)) for env in envs}) == 1
    assert len({tuple(env.robot.position) for env in envs}) == 3


def test_nights_change_the_house_and_keep_its_plan():
    env = ObjectNav(house_seed=5, robot=SMALL)
    env.reset(seed=0)
    evening = env.house
    env.reset(seed=0, options={"nights": 1})
    assert env.house.things != evening.things and env.house.rooms == evening.rooms


def test_noise_is_seeded_and_reaches_the_observation_alone():
    noise = {"depth": 0.005, "dropout": 0.02, "odometry": 0.05}
    clean, first, second = (
        ObjectNav(robot={**SMALL, **extra}) for extra in ({}, {"noise": noise}, {"noise": noise})
    )
    for env in (clean, first, second):
        env.reset(seed=9)
        for action in (1, 2, 1, 3, 1, 1):
            env.step(action)
    assert clean.observation.covariance is None and first.observation.covariance.shape == (6, 6)
    depth = [env.observation.cameras[0].depth.data for env in (clean, first, second)]
    assert np.array_equal(depth[1], depth[2]) and not np.array_equal(depth[0], depth[1])
    assert np.array_equal(first.observation.map_T_base.position, second.observation.map_T_base.position)
    assert not np.array_equal(first.observation.map_T_base.position[:2], first.robot.position)
    assert np.array_equal(clean.robot.position, first.robot.position)
    assert np.array_equal(clean.view.depth, first.view.depth)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"split": "holiday"}, 'no split "holiday"'),
        ({"house_seed": -3}, "must not be negative, got -3"),
        ({"max_steps": 0}, "must be at least 1"),
        ({"robot": {"wheels": 3}}, 'unknown key "wheels"'),
        ({"robot": {"hfov": 200.0}}, "hfov must be in"),
        ({"house_seed": "abc"}, 'house_seed must be a whole number, got "abc"'),
        ({"robot": 5}, "robot takes settings such as"),
        ({"success_radius": "near"}, 'success_radius must be a number, got "near"'),
        ({"goal_labels": 5}, "goal_labels takes categories such as"),
        ({"changes": {"moved": -1}}, "counts must not be negative"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings: dict, line: str):
    with pytest.raises(ConfigError, match=line):
        ObjectNav(**settings)


def test_goals_that_do_not_exist_are_refused_in_one_line():
    with pytest.raises(InputError, match='no label "unicorn"'):
        ObjectNav(goal_labels=("unicorn",))
    env = ObjectNav(house_seed=5, goal_labels=("washing machine",), house={"furniture": (), "objects": ()})
    with pytest.raises(ConfigError, match="has none of the goals washing machine"):
        env.reset(seed=0)


def test_the_memory_wrapper_takes_the_settings_that_fit_a_house():
    env = MemoryWrapper(ObjectNav(robot=SMALL))
    obs, _ = env.reset(seed=0)
    assert env.memory.config.octree.resolution == 0.05
    assert obs["mem_frontier"].sum() > 0 and obs["rgb"].shape == (24, 32, 3)


def test_the_explorer_sees_most_of_a_house_and_bumps_into_little_of_it():
    env = ObjectNav(house_seed=5, house={"rooms": (2, 3)}, robot={"width": 64, "image_height": 64})
    memory = Memory(env.memory_config())
    world = EnvWorld(env, 0)
    perception = Perception(env.perception_config())
    steps = Loop(world, perception, memory, env.explorer(), env.controller()).run(250)
    plan, grid = env.house.floor_plan, memory.grid_map()
    centers = plan.centers[np.flatnonzero(plan.main_part)]
    index = np.floor((centers - grid.origin) / grid.resolution).astype(int)
    inside = ((index >= 0) & (index < grid.cells.shape[::-1])).all(axis=1)
    known = grid.cells[index[inside, 1], index[inside, 0]] == 0
    assert known.sum() / len(centers) > 0.8
    assert env.robot.collisions < 0.05 * steps + 3


@pytest.mark.parametrize("agent", ["explorer", "random"])
def test_a_recorded_episode_replays_to_the_same_memory(tmp_path, agent: str):
    recording = record_episode(
        "EmbodiedMem/House-ObjectNav-v0", tmp_path / "run", seed=2, steps=25, agent=agent
    )
    result = replay(recording.log, verify=True)
    assert result.verified is True and result.digest == recording.digest
    assert result.frames == recording.steps and not result.warnings


def test_registered_houses_can_be_made_with_settings():
    env = gymnasium.make("EmbodiedMem/House-MultiObjectNav-v0", goals=2, robot=SMALL, split="test")
    obs, info = env.reset(seed=0)
    assert obs["rgb"].shape == (24, 32, 3) and 11_000 <= info["house"] < 12_000


def test_the_memory_of_an_explored_house_knows_its_things():
    env = ObjectNav(house_seed=5, house={"rooms": (2, 3)})
    memory = Memory(env.memory_config())
    perception = Perception(env.perception_config())
    Loop(EnvWorld(env, 0), perception, memory, env.explorer(), env.controller()).run(150)
    found = set()
    for thing in env.house.things:
        for known in memory.scene.objects(label=thing.label, labels=memory.labels):
            if math.dist(known.position[:2], thing.center[:2]) < 0.5:
                found.add(thing.id)
    assert len(found) >= 0.5 * len(env.house.things)


def test_the_house_can_change_within_an_episode_and_the_truth_is_told():
    def run(seed: int) -> ObjectNav:
        env = ObjectNav(house_seed=5, change_at=4, changes={"moved": 2}, robot=SMALL)
        env.reset(seed=seed)
        evening = env.house
        for step in range(1, 7):
            _, reward, _, _, info = env.step(Action.LEFT)
            assert (env.house is evening) == (step < 4) and bool(env.changes) == (step >= 4)
            assert reward == pytest.approx(-0.01)  # what others do is no progress
        assert math.isfinite(info["distance_to_goal"])
        before, after = ({t.id: t for t in h.things} for h in (evening, env.house))
        for change in env.changes:
            if change.kind == "moved":
                assert before[change.before.id] != after[change.after.id]
            elif change.kind == "added":
                assert change.after.id in after and change.after.id not in before
            else:
                assert change.before.id in before and change.before.id not in after
        told = {(c.before or c.after).id for c in env.changes}
        assert {i for i in before.keys() | after.keys() if before.get(i) != after.get(i)} == told
        return env

    first, second = run(2), run(2)
    assert first.changes == second.changes and len(first.changes) >= 3
    assert np.array_equal(first.view.instance, second.view.instance)


def test_who_is_stuck_in_one_direction_tries_the_others():
    cells = np.full((60, 60), 100, np.int8)
    cells[29:31, 28:] = 0  # the map knows one way, straight ahead
    grid = GridMap(cells, np.array([-1.5, -1.5]), 0.05, 0.0)
    controller, at, headings = BaseController(), Pose.from_xyz_yaw(0.0, 0.0, 0.0, 0.0), []
    for _ in range(48):
        memory: Any = SimpleNamespace(map_T_base=at, grid_map=lambda: grid)
        action = controller.step(Subgoal(np.array([1.3, 0.0, 0.0])), memory)
        turn = {Action.LEFT: 1, Action.RIGHT: -1}.get(Action(action), 0) * math.radians(30.0)
        at = Pose.from_xyz_yaw(0.0, 0.0, 0.0, at.yaw + turn)  # it never gets anywhere
        if action == Action.FORWARD:
            headings.append(round(math.degrees(at.yaw)) % 360)
    assert headings[:3] in ([0, 30, 330], [0, 330, 30])  # nearest to where it wants to go first
    assert set(headings) == set(range(0, 360, 30))


@pytest.mark.parametrize(("rows", "short"), [(40, True), (4, False)])
def test_it_goes_close_past_things_only_where_that_saves_a_detour(rows, short):
    cells = np.zeros((rows + 24, 60), np.int8)
    cells[: rows + 10, 30] = 100  # a wall with a narrow gap, and a wide way around its end
    cells[5:7, 30] = 0
    grid = GridMap(cells, np.zeros(2), 0.05, 0.0)
    pose, there = Pose.from_xyz_yaw(1.2, 0.3, 0.0, 0.0), np.array([1.8, 0.3, 0.0])
    memory: Any = SimpleNamespace(map_T_base=pose, grid_map=lambda: grid)
    _, path = BaseController()._way(Subgoal(there), pose, memory)
    assert (len(path) < 20) == short and np.allclose(path[-1], there, atol=0.05)


@pytest.mark.parametrize("where", [0.0, 50.0, 130.0, 180.0, 275.0])
def test_what_is_reached_and_unproven_is_looked_at_without_a_step(where):
    def ray_cast(eyes, rays, reach, **_):
        """Nothing is in the way."""
        return SimpleNamespace(
            points=eyes, hit=np.zeros(len(eyes), bool), labels=np.zeros(len(eyes), int),
            distance=np.full(len(eyes), reach),
        )  # fmt: skip

    octree = SimpleNamespace(resolution=0.05, ray_cast=ray_cast)
    heading = math.radians(where)
    thing = np.array([0.7 * math.cos(heading), 0.7 * math.sin(heading), 0.5])
    subgoal = Subgoal(thing, np.full(3, 0.1), radius=0.85, limit=0.95, watched=True)
    controller, at, seen = BaseController(), Pose.identity(), []
    for _ in range(14):
        action = controller.step(subgoal, SimpleNamespace(map_T_base=at, octree=octree))
        turn = {Action.LEFT: 1, Action.RIGHT: -1}[Action(action)] * math.radians(30.0)
        at = Pose.from_xyz_yaw(0.0, 0.0, 0.0, at.yaw + turn)
        ahead = at.inverse().transform(thing)
        seen.append(abs(math.degrees(math.atan2(ahead[1], ahead[0]))) <= 45.0 + 1e-6)
    assert seen.index(True) <= 5 and all(seen[6:])  # from then on it stays in view
    done = dataclasses.replace(subgoal, then=int(Action.FOUND))
    assert controller.step(done, SimpleNamespace(map_T_base=at, octree=octree)) == Action.FOUND


def test_velocity_control_drives_arcs_and_stops_at_walls():
    env = ObjectNav(house_seed=5, control="velocity", robot=SMALL)
    env.reset(seed=0)
    assert env.action_space.shape == (3,)
    yaw, position = env.robot.yaw, env.robot.position.copy()
    env.step(np.array([0.0, 1.0, -1.0], np.float32))
    assert math.remainder(env.robot.yaw - yaw, 2 * math.pi) == pytest.approx(math.radians(9.0), abs=1e-6)
    assert np.array_equal(env.robot.position, position)
    for _ in range(150):
        _, _, terminated, _, info = env.step(np.array([1.0, 0.0, -1.0], np.float32))
        assert not terminated
    assert (
        info["collided"] and info["path_length"] < 15.0 and env.house.floor_plan.is_free(env.robot.position)
    )
    assert env.observation.action.shape == (3,)
    _, _, terminated, _, _ = env.step(np.array([0.0, 0.0, 1.0], np.float32))
    assert terminated
    with pytest.raises(ConfigError, match="discrete steps"):
        env.controller()


@pytest.mark.parametrize(("turn", "count"), [(30.0, 12), (15.0, 24)])
def test_a_full_circle_of_turns_leads_back(turn: float, count: int):
    env = ObjectNav(house_seed=5, robot={**SMALL, "turn": turn})
    env.reset(seed=0)
    yaw, view = env.robot.yaw, env.view.label.copy()
    for _ in range(count):
        env.step(Action.RIGHT)
    assert math.remainder(env.robot.yaw - yaw, 2 * math.pi) == pytest.approx(0.0, abs=1e-9)
    assert (env.view.label == view).mean() > 0.99


def test_environments_side_by_side_hold_one_copy_of_a_house():
    envs = gymnasium.vector.SyncVectorEnv([lambda: ObjectNav(house_seed=5, robot=SMALL) for _ in range(6)])
    observations, _ = envs.reset(seed=0)
    assert observations["rgb"].shape == (6, 24, 32, 3)
    envs.step(np.full(6, Action.FORWARD))
    assert len({id(scene_of(env.unwrapped.house)) for env in envs.envs}) == 1
    assert len({id(env.unwrapped.house.floor_plan) for env in envs.envs}) == 1


def test_a_recorded_house_has_a_pose_for_every_stamp_and_a_calibration_for_every_image(tmp_path):
    recording = record_episode(
        "EmbodiedMem/House-ObjectNav-v0", tmp_path / "run", seed=2, steps=12, agent="explorer"
    )
    stamps: dict[str, list[int]] = {}
    transforms: dict[tuple[str, str], list[int]] = {}
    frames: dict[str, str] = {}
    log = LogReader(recording.log)
    for message in log.messages():
        content = deserialize(message.data, log.topics[message.topic].type)
        for tf in getattr(content, "transforms", ()):
            pair = (tf.header.frame_id, tf.child_frame_id)
            transforms.setdefault(pair, []).append(_nanoseconds(tf.header.stamp))
        if message.topic.startswith("/head/"):
            stamps.setdefault(message.topic, []).append(_nanoseconds(content.header.stamp))
            frames[message.topic] = content.header.frame_id
    images = [topic for topic in stamps if "image" in topic]
    assert len(images) == 3
    for topic in images:
        info = topic.rsplit("/", 1)[0] + "/camera_info"
        assert stamps[topic] == stamps[info] and len(stamps[topic]) == recording.steps
        assert frames[topic] == frames[info] and ("base_link", frames[topic]) in transforms
        for pair in (("map", "odom"), ("odom", "base_link")):
            assert stamps[topic] == transforms[pair]


def _nanoseconds(stamp) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def test_a_given_episode_has_the_goals_and_the_start_that_were_given():
    env = MultiObjectNav(house_seed=7)
    env.reset(seed=1)
    labels, plan = env.house.labels, env.house.floor_plan
    x, y = plan.centers[np.flatnonzero(plan.main_part)[5]]
    goals = [labels[2], labels[0], labels[2]]
    for seed in (1, 2):
        _, info = env.reset(seed=seed, options={"goals": goals, "start": (x, y, 0.5)})
        assert [(leg["label"], leg["revisit"]) for leg in info["goals"]] == [
            (goals[0], False),
            (goals[1], False),
            (goals[2], True),
        ]
        assert env.robot.position.tolist() == [x, y] and env.robot.yaw == 0.5
    for options, line in (
        ({"goals": ["unicorn"]}, "house 7 has no unicorn; it has: "),
        ({"goals": []}, "house 7 has no goals"),
        ({"start": (1.0, 2.0)}, "start must be x, y and yaw"),
        ({"start": (1.0, math.nan, 0.0)}, "start must be x, y and yaw"),
    ):
        with pytest.raises(ConfigError, match=line):
            env.reset(seed=1, options=options)

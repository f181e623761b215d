"""Pointing: what can be chosen, how it is carried out, and that a deployed agent does as the trained one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from embodied_mem.errors import ConfigError
from embodied_mem.geometry import Pose
from embodied_mem.types import TOKEN_KINDS, Goal, MemoryTokens, Observation

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("open3d")

from embodied_mem.sim.agents import make_observable  # noqa: E402
from embodied_mem.sim.evaluation import play  # noqa: E402
from embodied_mem.sim.explorer import Subgoal  # noqa: E402
from embodied_mem.sim.pointing.candidates import (  # noqa: E402
    CANDIDATES,
    LOOK,
    PARTS,
    READ,
    decision_observation,
    hide,
    without,
)
from embodied_mem.sim.pointing.errand import Errand, ErrandConfig, Errands  # noqa: E402
from embodied_mem.sim.pointing.heuristic import heuristic_choice  # noqa: E402
from embodied_mem.sim.pointing.pointing import Pointing, make_pointing, pointing_of  # noqa: E402
from embodied_mem.sim.standing import in_room, in_sight  # noqa: E402

FRONTIER, OBJECT, PLACE = 0, READ.frontiers, READ.frontiers + READ.objects
GOAL = CANDIDATES - READ.goals
TASK = "EmbodiedMem/House-MultiObjectNav-v0"


def look_at(x: float = 0.0, y: float = 0.0, label: int = 3, step: int = 0) -> Observation:
    pose = Pose.from_xyz_yaw(x, y, 0.0, 0.0)
    return Observation(stamp=step, step=step, odom_T_base=pose, goal=Goal(label=label, text="find it"))


def tokens_with(*entries: tuple[int, str, float, dict[str, float]]) -> MemoryTokens:
    """Returns tokens with (slot, kind, metres ahead, further fields) each."""
    tokens = MemoryTokens.empty(READ.tokens, READ.feature_size)
    for slot, kind, ahead, fields in entries:
        tokens.mask[slot] = True
        tokens.kind[slot] = TOKEN_KINDS.index(kind)
        tokens.position[slot] = (ahead, 0.0, 0.0)
        tokens.path_distance[slot] = ahead
        tokens.frontier[slot] = kind == "cell"
        tokens.id[slot] = fields.get("id", slot)
        tokens.confidence[slot] = fields.get("confidence", 1.0)
        tokens.feature[slot, 0] = fields.get("goal", 0.0)
    pictures = np.zeros((5 * len(READ.crops), READ.crop_pixels, READ.crop_pixels), np.uint8)
    return replace(tokens, crops=pictures)


def test_an_errand_to_a_frontier_ends_where_it_is_none_any_more() -> None:
    errand = Errand(FRONTIER, look_at(), tokens_with((FRONTIER, "cell", 2.0, {})), ErrandConfig())
    assert errand.next(look_at(), tokens_with((FRONTIER, "cell", 2.0, {}))) is not None
    assert errand.next(look_at(), tokens_with((FRONTIER, "cell", 2.3, {}))) is not None  # it receded a little
    assert errand.next(look_at(), tokens_with((FRONTIER, "cell", 5.0, {}))) is None  # that is another one
    assert errand.outcome == "reached"


def test_an_errand_is_interrupted_by_news_of_the_goal_and_by_nothing_else() -> None:
    before = tokens_with((FRONTIER, "cell", 2.0, {}), (OBJECT, "object", 3.0, {"id": 7}))
    errand = Errand(FRONTIER, look_at(), before, ErrandConfig(trust=0.5))
    assert errand.next(look_at(), before) is not None
    doubtful = tokens_with(
        (FRONTIER, "cell", 2.0, {}), (OBJECT, "object", 3.0, {"goal": 1, "confidence": 0.4})
    )
    assert errand.next(look_at(), doubtful) is not None
    seen = tokens_with((FRONTIER, "cell", 2.0, {}), (OBJECT, "object", 3.0, {"goal": 1, "confidence": 0.6}))
    assert errand.next(look_at(), seen) is None
    assert errand.outcome == "interrupted"


def test_an_errand_ends_with_its_budget_and_with_its_goal() -> None:
    tokens = tokens_with((FRONTIER, "cell", 2.0, {}))
    errand = Errand(FRONTIER, look_at(), tokens, ErrandConfig(budget=3))
    assert [errand.next(look_at(), tokens) is None for _ in range(4)] == [False, False, False, True]
    assert errand.outcome == "spent" and errand.is_in_vain
    errand = Errand(FRONTIER, look_at(label=3), tokens, ErrandConfig())
    assert errand.next(look_at(label=3), tokens) is not None
    assert errand.next(look_at(label=4), tokens) is None and errand.outcome == "found"


def test_a_thing_that_the_goal_names_is_said_to_be_found_once_it_is_reached() -> None:
    tokens = tokens_with((OBJECT, "object", 2.0, {"goal": 1}), (OBJECT + 1, "object", 2.0, {}))
    wanted = Errand(OBJECT, look_at(), tokens, ErrandConfig(found=5)).next(look_at(), tokens)
    other = Errand(OBJECT + 1, look_at(), tokens, ErrandConfig(found=5)).next(look_at(), tokens)
    assert wanted.then == 5 and other.then is None


def test_a_thing_is_not_said_to_be_found_until_it_was_seen_often_enough() -> None:
    errands = Errands(ErrandConfig(found=5, proof=3, budget=20))
    seen = tokens_with((OBJECT, "object", 2.0, {"goal": 1}))
    unseen = tokens_with((OBJECT, "object", 2.0, {"goal": 1}))
    unseen.age[OBJECT] = 1.0  # remembered, not in view
    errands.next(look_at(step=0), seen)
    errands.start(OBJECT, look_at(step=0), seen)
    said = [errands.next(look_at(step=step), t).then for step, t in enumerate([seen, unseen, seen, seen])]
    assert said == [None, None, None, 5]
    again = [errands.next(look_at(step=3), unseen).then for _ in range(2)]
    assert again == [5, 5]  # what was proven stays so
    other = Errands(ErrandConfig(found=5, proof=3))
    other.next(look_at(step=0), seen)
    other.start(OBJECT, look_at(step=0), seen)
    assert [other.next(look_at(step=0), seen).then for _ in range(5)] == [None] * 5  # one step is one look


def test_what_dwindles_as_it_is_looked_at_is_not_said_to_be_found() -> None:
    def said(kind: str, voxels: tuple[int, ...]) -> list[Any]:
        errands, slot = Errands(ErrandConfig(found=5, proof=3)), OBJECT if kind == "object" else GOAL
        seen = [tokens_with((slot, kind, 2.0, {"goal": 1})) for _ in voxels]
        for tokens, count in zip(seen, voxels):
            tokens.frontier[slot], tokens.visits[slot] = False, np.log1p(count)
        errands.next(look_at(step=0), seen[0])
        errands.start(slot, look_at(step=0), seen[0])
        return [errands.next(look_at(step=step), tokens).then for step, tokens in enumerate(seen)]

    assert said("cell", (20, 24, 24, 30)) == [None, None, 5, 5]
    assert said("cell", (20, 16, 12, 9)) == [None] * 4  # other images say that it is something else
    assert said("cell", (20, 16, 16, 16, 16)) == [None] * 4 + [5]
    assert said("object", (2, 2, 1, 1)) == [None, None, 5, 5]  # these have been thought about already


def test_what_is_left_in_the_map_of_a_thing_that_was_not_seen_for_long_is_no_sighting() -> None:
    def said(hours: float, apart: float) -> list[Any]:
        errands = Errands(ErrandConfig(found=5, proof=3, same=0.6))
        tokens = tokens_with((OBJECT, "object", 2.0, {"goal": 1}), (GOAL, "cell", 2.0 + apart, {"goal": 1}))
        tokens.frontier[GOAL], tokens.visits[GOAL] = False, np.log1p(20)
        tokens.age[OBJECT] = np.log1p(3600.0 * hours)
        errands.next(look_at(step=0), tokens)
        errands.start(OBJECT, look_at(step=0), tokens)
        return [errands.next(look_at(step=step), tokens).then for step in range(4)]

    assert said(12.0, 0.3) == [None] * 4  # only the map says so: it stood there yesterday
    assert said(0.5, 0.3) == [None, None, 5, 5]
    assert said(0.0, 0.3) == [None, None, 5, 5]


def test_who_goes_to_one_cube_of_a_thing_goes_on_to_the_one_beside_it() -> None:
    def tokens_at(x: float, number: int) -> MemoryTokens:
        tokens = tokens_with((GOAL, "cell", x, {"goal": 1, "id": number}))
        tokens.frontier[GOAL] = False
        return tokens

    for beside, goes_on in ((2.4, True), (3.2, False)):
        errand = Errand(GOAL, look_at(), tokens_at(2.0, 7), ErrandConfig())
        assert errand.next(look_at(), tokens_at(2.0, 7)) is not None
        subgoal = errand.next(look_at(), tokens_at(beside, 8))  # the first one is not shown any more
        assert (subgoal is not None) == goes_on and errand.outcome == ("" if goes_on else "gone")


def test_an_object_that_was_seen_often_and_lately_is_said_to_be_found_at_once() -> None:
    def said(kind: str, times: int, seconds: float) -> Any:
        errands = Errands(ErrandConfig(found=5, proof=3, familiar=6, recent=30.0))
        slot = OBJECT if kind == "object" else GOAL
        tokens = tokens_with((slot, kind, 2.0, {"goal": 1}))
        tokens.frontier[slot], tokens.visits[slot] = False, np.log1p(times)
        tokens.age[slot] = np.log1p(seconds)
        errands.next(look_at(step=0), tokens)
        errands.start(slot, look_at(step=0), tokens)
        return errands.next(look_at(step=0), tokens)

    assert said("object", 6, 29.0).then == 5
    assert said("object", 5, 29.0).then is None and said("object", 5, 29.0).watched
    assert said("object", 6, 40.0).then is None  # it may be gone
    assert said("cell", 30, 0.0).then is None  # voxels are no sightings


def test_who_comes_back_to_what_was_left_half_done_finishes_it() -> None:
    def steps_to(slot: int, x: float, errands: Errands) -> int:
        """Chooses a frontier and follows it until another choice is due, a step of 0.25 m at a time."""

        def tokens_at(x: float) -> MemoryTokens:
            tokens = tokens_with(*((s, "cell", 1.0, {}) for s in (FRONTIER, FRONTIER + 1)))
            tokens.position[FRONTIER : FRONTIER + 2, 0] = np.array([-20.0, 20.0]) - x
            tokens.path_distance[: FRONTIER + 2] = np.abs(tokens.position[: FRONTIER + 2, 0])
            return tokens

        errands.start(slot, look_at(x), tokens_at(x))
        for step in range(200):
            if errands.next(look_at(x), tokens_at(x)) is None:
                return step
            x += 0.25 if slot else -0.25
            if abs(x) > 19.0:
                return step
        return 200

    errands = Errands(ErrandConfig(budget=16))
    assert steps_to(FRONTIER, 0.0, errands) == 16 and errands.outcome == "spent"
    assert steps_to(FRONTIER, -4.0, errands) == 16  # nothing else was chosen between: it may think again
    assert steps_to(FRONTIER + 1, -8.0, errands) == 16
    assert steps_to(FRONTIER, -4.0, errands) > 50


def test_beside_unknown_floor_it_comes_nearer_before_it_says_found_from_afar() -> None:
    config = ErrandConfig(found=5, proof=1, budget=1, patience=0)
    thing = (OBJECT, "object", 2.0, {"goal": 1})
    for away, limit in ((0.5, config.reach), (4.0, config.limit)):
        tokens = tokens_with(thing, (FRONTIER, "cell", 2.0, {}))
        tokens.position[FRONTIER] = tokens.position[OBJECT] + np.array([away, 0.0, 0.0])
        tokens.extent[FRONTIER] = 0.5
        errands = Errands(config)
        errands.next(look_at(step=0), tokens)
        errands.start(OBJECT, look_at(step=0), tokens)
        assert errands.next(look_at(step=0), tokens).limit == limit
        assert errands.next(look_at(step=1), tokens) is None  # it came no nearer: next time afar will do
        errands.start(OBJECT, look_at(step=1), tokens)
        assert errands.next(look_at(step=1), tokens).limit == config.limit


def test_a_part_of_the_goal_that_is_in_sight_is_the_goal_in_sight() -> None:
    def sees(label: int, met: float, part: float) -> bool:
        """Looks at a thing 1 m ahead; something 0.3 m before its middle, or nearer, is in the way."""
        hit = SimpleNamespace(
            points=np.array([[met, 0.0, 0.9]]), hit=np.array([True]), labels=np.array([label]),
            distance=np.array([met]),
        )  # fmt: skip
        octree = SimpleNamespace(ray_cast=lambda *_, **__: hit, resolution=0.05)
        thing = Subgoal(np.array([1.0, 0.0, 0.9]), np.full(3, 0.1), 0.6, label=7, part=part)
        return bool(in_sight(SimpleNamespace(octree=octree), np.zeros((1, 3)), thing, 0.9)[0])  # type: ignore[arg-type]

    assert sees(7, 0.7, 0.4) and not sees(7, 0.7, 0.0)
    assert not sees(6, 0.7, 0.4) and not sees(7, 0.3, 0.4)  # another thing; the same kind elsewhere


def test_a_thing_behind_a_door_is_in_the_next_room() -> None:
    def is_there(wall: float, thickness: float = 0.1) -> bool:
        """Looks at a thing on the floor 1 m ahead, with the wall over a door in between."""

        def ray_cast(eyes: np.ndarray, rays: np.ndarray, reach: float) -> SimpleNamespace:
            assert (eyes[:, 2] > 2.05).all() and (rays[:, 2] == 0.0).all()  # over doors, and level
            hit = np.full(len(eyes), wall < reach)
            points = eyes + rays * np.float32(wall)
            return SimpleNamespace(points=points, hit=hit, distance=np.where(hit, wall, reach))

        thing = Subgoal(np.array([1.0, 0.0, 0.1]), np.array([thickness, 0.3, 0.2]), 0.6)
        memory: Any = SimpleNamespace(octree=SimpleNamespace(ray_cast=ray_cast, resolution=0.05))
        return bool(in_room(memory, np.zeros((1, 3)), thing)[0])

    assert not is_there(0.5) and is_there(3.0)
    assert not is_there(0.8) and is_there(0.8, thickness=0.4)  # it stands at that wall, or hangs on it


def test_what_was_gone_to_in_vain_is_not_offered_again_while_there_is_something_else() -> None:
    errands, obs = Errands(ErrandConfig(budget=1)), look_at()
    both = tokens_with((FRONTIER, "cell", 2.0, {}), (FRONTIER + 1, "cell", 9.0, {}))
    assert errands.offer(obs, both)[[FRONTIER, FRONTIER + 1, LOOK]].all()
    errands.start(FRONTIER, obs, both)
    assert errands.next(obs, both) is not None and errands.next(obs, both) is None
    assert errands.offer(obs, both)[[FRONTIER, FRONTIER + 1]].tolist() == [False, True]
    one = tokens_with((FRONTIER, "cell", 2.0, {}))
    assert errands.offer(obs, one)[FRONTIER]  # better than nothing


def test_a_place_that_cannot_be_reached_is_not_gone_to_again_and_again() -> None:
    errands, obs = Errands(ErrandConfig(budget=2, patience=3)), look_at()
    tokens = tokens_with(
        (PLACE, "place", 2.0, {}), (PLACE + 1, "place", 9.0, {}), (OBJECT, "object", 2.0, {})
    )

    assert errands.offer(obs, tokens)[[PLACE, PLACE + 1, OBJECT]].all()

    def try_it(choice: int) -> list[bool]:
        errands.start(choice, obs, tokens)
        while errands.next(obs, tokens) is not None:
            pass
        return errands.offer(obs, tokens)[[PLACE, PLACE + 1, OBJECT]].tolist()

    assert try_it(PLACE) == [False, True, True]  # the thing there can be looked at yet
    assert try_it(PLACE + 1) == [False, False, True]
    assert try_it(LOOK) == [False, False, True]
    assert try_it(LOOK)[0]  # its turn again


def test_places_and_things_where_the_agent_is_are_not_offered_but_the_goal_is() -> None:
    tokens = tokens_with(
        (OBJECT, "object", 0.1, {}), (OBJECT + 1, "object", 0.1, {"goal": 1}), (PLACE, "place", 0.1, {}),
        (PLACE + 1, "place", 3.0, {}),
    )  # fmt: skip
    offered = Errands(ErrandConfig()).offer(look_at(), tokens)
    assert offered[[OBJECT, OBJECT + 1, PLACE, PLACE + 1]].tolist() == [False, True, False, True]


def test_the_heuristic_prefers_the_known_goal_then_the_nearest_frontier() -> None:
    def choose(*entries: tuple[int, str, float, dict[str, float]]) -> int:
        tokens, obs = tokens_with(*entries), look_at()
        offered = Errands(ErrandConfig()).offer(obs, tokens)
        return heuristic_choice(decision_observation(obs, tokens, offered, "none"))

    frontiers = ((FRONTIER, "cell", 5.0, {}), (FRONTIER + 1, "cell", 2.0, {}))
    assert choose(*frontiers, (OBJECT, "object", 9.0, {"goal": 1})) == OBJECT
    assert choose(*frontiers, (OBJECT, "object", 1.0, {})) == FRONTIER + 1
    assert choose() == LOOK


def test_hidden_parts_leave_no_trace_in_the_observation() -> None:
    entries = ((FRONTIER, "cell", 2.0, {}), (OBJECT, "object", 3.0, {"goal": 1}))
    tokens, obs = tokens_with(*entries), look_at()
    assert tokens.crops is not None
    tokens.crops[:] = 255

    def observe(*hidden: str) -> dict[str, np.ndarray]:
        offered = Errands(ErrandConfig()).offer(obs, without(tokens, hidden))
        return decision_observation(obs, tokens, offered, "none", hidden)

    assert observe()["mem_mask"].sum() == 2 and observe()["cand_mask"].sum() == 3
    bare = observe("memory_tokens")
    assert bare["mem_mask"].sum() == 0 and bare["cand_mask"].sum() == 3 and bare["mem_crops"].any()
    assert not observe("octree")["mem_crops"].any()
    blind = observe("objects")
    assert blind["cand_mask"][OBJECT] == 0 and blind["mem_mask"][OBJECT] == 0
    assert not blind["mem_crops"][4::5].any() and blind["mem_crops"][0].any()
    with pytest.raises(ConfigError, match="there are: memory_tokens, octree, objects"):
        without(tokens, ("eyes",))


def test_who_learns_without_a_part_learns_from_the_same_decisions() -> None:
    goal, other = (OBJECT, "object", 3.0, {"goal": 1}), (OBJECT + 1, "object", 1.0, {})
    entries = ((FRONTIER, "cell", 2.0, {}), goal, other)
    tokens, obs = tokens_with(*entries), look_at()
    assert tokens.crops is not None
    tokens.crops[:] = 255
    offered = Errands(ErrandConfig()).offer(obs, tokens)
    whole = decision_observation(obs, tokens, offered, "none")
    for part in PARTS:
        fewer = Errands(ErrandConfig()).offer(obs, without(tokens, [part]))
        expected, shown = decision_observation(obs, tokens, fewer, "none", [part]), hide(whole, [part])
        for key in ("mem_mask", "mem_crops", "cand_mask"):
            np.testing.assert_array_equal(shown[key], expected[key])
        many = hide({key: np.stack([value, value]) for key, value in whole.items()}, [part])
        np.testing.assert_array_equal(many["cand_mask"][1], expected["cand_mask"])
    assert hide(whole, ())["mem_mask"].sum() == 3 and whole["mem_crops"].all()


@pytest.fixture(scope="module")
def env() -> Pointing:
    return make_pointing(TASK, goals=1, max_steps=60)


def test_a_decision_lasts_as_long_as_it_says_and_earns_the_discounted_rewards(env: Pointing) -> None:
    observation, _ = env.reset(seed=3)
    rewards: list[float] = []
    task, inner = env.env, env.env.step
    try:
        task.step = lambda action: (lambda result: (rewards.append(result[1]), result)[1])(inner(action))
        observation, total, _, _, info = env.step(heuristic_choice(observation))
    finally:
        del task.step
    assert len(rewards) == info["duration"] >= 1
    assert total == pytest.approx(sum(env.gamma**i * r for i, r in enumerate(rewards)))
    assert env.observation_space.contains(observation)


def test_the_same_seed_gives_the_same_decisions(env: Pointing) -> None:
    runs = []
    for _ in range(2):
        observation, _ = env.reset(seed=5)
        trace = [observation]
        for _ in range(3):
            observation, *_ = env.step(heuristic_choice(observation))
            trace.append(observation)
        runs.append(trace)
    for first, second in zip(*runs):
        for key in first:
            np.testing.assert_array_equal(first[key], second[key])


def test_what_is_not_offered_stands_for_a_look_around(env: Pointing) -> None:
    observation, _ = env.reset(seed=5)
    missing = int(np.flatnonzero(observation["cand_mask"] == 0)[0])
    told = env.step(missing)
    env.reset(seed=5)
    for first, second in zip(told[0].values(), env.step(LOOK)[0].values()):
        np.testing.assert_array_equal(first, second)


def test_it_is_counted_what_was_gone_to_for_a_goal_and_where_it_looked_around() -> None:
    errands = Errands(ErrandConfig(budget=2, circle=1))
    there = ((PLACE, "place", 0.2, {}), (PLACE + 1, "place", 9.0, {}))
    tokens = tokens_with(*there)
    errands.offer(look_at(), tokens)
    for choice in (PLACE, PLACE + 1, LOOK):
        errands.start(choice, look_at(), tokens)
        while errands.next(look_at(0.4), tokens) is not None:
            pass
    assert errands.outcome == "reached"
    tried = errands.tried(look_at(), tokens)  # the farther place was not reached: it is on the way there
    assert tried[[PLACE, PLACE + 1, LOOK]] == pytest.approx([np.log(2.0), 0.0, np.log(2.0)])
    errands.offer(look_at(label=4), tokens)  # another goal: what was looked for there was another thing
    assert errands.tried(look_at(label=4), tokens)[[PLACE, LOOK]] == pytest.approx([0.0, np.log(2.0)])


def test_only_navigation_tasks_can_be_pointed_at() -> None:
    with pytest.raises(ConfigError, match="navigation task"):
        make_pointing("EmbodiedMem/ProofOfMemory-v0")
    with pytest.raises(ConfigError, match="House-Pointing-v0"):
        pointing_of(gymnasium.make("EmbodiedMem/ProofOfMemory-v0"))


def test_the_teacher_prefers_nothing_that_is_not_offered(
    env: Pointing,
) -> None:
    from embodied_mem.sim.pointing.teacher import Teacher

    teacher = Teacher(env)
    env.reset(seed=7)
    for _ in range(4):
        assert env.moment is not None
        known = teacher.distances(env.moment, env.offered)
        costs = Teacher(env).costs(env.moment, env.offered, known)
        preferences = teacher.preferences(env.moment, env.offered)
        assert preferences.sum() == pytest.approx(1.0, abs=1e-5)
        assert (preferences[~env.offered] == 0.0).all()
        assert np.isinf(costs[:CANDIDATES][~env.offered[:CANDIDATES]]).all()
        _, _, terminated, truncated, _ = env.step(int(np.argmax(preferences)))
        if terminated or truncated:
            break


def test_the_deployed_agent_takes_the_very_steps_that_it_took_in_its_task() -> None:
    pytest.importorskip("torch")
    from embodied_mem.loop import Loop
    from embodied_mem.memory import Memory
    from embodied_mem.perception import Perception
    from embodied_mem.sim.pointing.agent import PointingAgent
    from embodied_mem.sim.pointing.pointing import errand_config, pointing_memory
    from embodied_mem.sim.world import EnvWorld

    class Nearest:
        """Stands for a network: the same answer to the same observation."""

        def act(self, observation: dict[str, np.ndarray], state: int | None) -> tuple[int, int]:
            return heuristic_choice(observation), (state or 0) + 1

    env = make_pointing(TASK, goals=2, max_steps=120)
    observation, _ = env.reset(seed=11)
    choices, ended = 0, False
    while not ended:
        observation, _, terminated, truncated, info = env.step(heuristic_choice(observation))
        choices, ended = choices + 1, terminated or truncated
    digest = env.memory.digest()

    task = gymnasium.make(TASK, goals=2, max_steps=120, disable_env_checker=True)
    world = EnvWorld(task, 11)
    agent = PointingAgent(Nearest(), errand_config(task))  # type: ignore[arg-type]
    unwrapped = task.unwrapped
    perception = Perception(unwrapped.perception_config())  # type: ignore[attr-defined]
    controller = unwrapped.controller()  # type: ignore[attr-defined]
    loop = Loop(world, perception, Memory(pointing_memory(task)), agent, controller)
    loop.run()
    assert world.result is not None
    assert world.result[4]["path_length"] == info["path_length"]
    assert loop.memory.digest() == digest
    assert loop.state.decisions == choices + (loop.state.errands.steps == 0)


def test_a_checkpoint_that_points_plays_in_the_loop_of_the_evaluator(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from embodied_mem.policy import MemoPPO
    from embodied_mem.sim.evaluation import evaluate_agent

    env = make_pointing(TASK, goals=1, max_steps=40)
    model = MemoPPO(
        "MemoPolicy", env, n_steps=8, width=32, layers=1, segment_length=8, summary_tokens=2, seed=0
    )
    folder = str(model.export(tmp_path / "checkpoint", env_id="EmbodiedMem/House-Pointing-v0"))
    kwargs = {"goals": 1, "max_steps": 40}
    (kept,) = evaluate_agent(folder, TASK, 1, 3, env_kwargs=kwargs)
    (again,) = evaluate_agent(folder, TASK, 1, 3, env_kwargs=kwargs)
    (blind,) = evaluate_agent(folder, TASK, 1, 3, env_kwargs=kwargs, without=("objects", "octree"))
    assert kept.info["path_length"] == again.info["path_length"]
    assert kept.steps <= 40 and {"spl", "goals"} <= set(blind.info)
    with pytest.raises(ConfigError, match="no goals to point at"):
        evaluate_agent(folder, "EmbodiedMem/MultiRoom-v0", 1, 3)


def test_the_heuristic_plays_as_an_agent_beside_trained_ones() -> None:
    settings = {"goals": 1, "max_steps": 40, "house_seed": 4, "robot": {"width": 48, "image_height": 48}}
    env = make_observable(TASK, **settings)
    played = play(env, "heuristic", 3)
    assert 0 < played.steps <= 40 and played.info["path_length"] > 0.0
    again = play(env, "heuristic", 3)
    assert played.info == again.info
    with pytest.raises(ConfigError, match="navigation task"):
        play(make_observable("EmbodiedMem/MultiRoom-v0"), "heuristic", 0)

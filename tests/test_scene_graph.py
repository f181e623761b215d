"""Objects that persist, negative evidence, history, digest, and what the store gets."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from ascii_world import FOUR_ROOMS, LABELS, STEP_NS, TWO_ROOMS, AsciiWorld, detection, grid_of, percept

from embodied_mem.errors import ConfigError, InputError, StoreError
from embodied_mem.geometry import Pose
from embodied_mem.memory.octree import Octree
from embodied_mem.memory.read_config import ReadConfig
from embodied_mem.memory.reading import read_tokens
from embodied_mem.memory.scene.graph import SceneConfig, SceneGraph
from embodied_mem.memory.scene.visibility import shown_by_label
from embodied_mem.types import Percept, Scan

KEY, BALL, DOOR = (LABELS.id(name) for name in ("green key", "red ball", "grey door"))
CERTAIN = SceneConfig(diagonal=False, detection_rate=0.999, false_rate=0.001)
TOUR = [
    (2, 8), (3, 8), (4, 7), (5, 7), (6, 7), (6, 7), (7, 7), (8, 8), (9, 7), (9, 6), (9, 5), (9, 5), (9, 4),
    (9, 3), (8, 2), (7, 2), (7, 2), (6, 2), (5, 2), (4, 2), (3, 3), (3, 4), (3, 5), (3, 5), (3, 6), (3, 7),
]  # fmt: skip


def cells_scan(*cells: tuple[float, float]) -> Scan:
    """Free cells, seen from a base at (0.5, 0.5)."""
    points = np.array([(x - 0.5, y - 0.5, 0.5) for x, y in cells], np.float32)
    return Scan(points, np.zeros(len(points), bool), np.zeros(len(points), np.int32))


def tour(
    scene: SceneGraph, read: bool = False, start: int = 0, world: AsciiWorld | None = None
) -> AsciiWorld:
    world = world or AsciiWorld(FOUR_ROOMS, TOUR[0])
    for x, y in TOUR[start:]:
        world.walk(x, y)
        seen, grid = world.observe()
        scene.update(seen, world.tree, grid)
        if read:
            read_tokens(world.tree, scene, None, seen.map_T_base, None, ReadConfig(), seen.stamp)
            scene.objects(), scene.rooms(), scene.places(), scene.to_json()
            scene.export_rows()
    return world


# ---- objects


def test_an_object_seen_again_is_one_object_known_better() -> None:
    scene, rng = SceneGraph(), np.random.default_rng(0)
    tree = Octree(0.05)
    for step in range(30):
        x, y = rng.normal(2.0, 0.05), rng.normal(1.0, 0.05)
        pose = Pose.from_xyz_yaw(0.3 * step / 30, 0.0, 0.0, 0.4)
        at = pose.inverse().transform(np.array([x, y, 0.8]))
        seen = detection(KEY, at[0], at[1], z=at[2], sigma=0.05)
        scene.update(Percept(step, step, pose, labels=LABELS, detections=(seen,)), tree, None)
    (thing,) = scene.objects()
    assert np.abs(thing.position - [2.0, 1.0, 0.8]).max() < 0.03
    assert thing.count == 30 and thing.first_seen == 0 and thing.last_seen == 29
    assert 0.0199**2 < thing.covariance[0, 0] < 0.025**2
    assert thing.existence > 0.95 and thing.name == "green key"


def test_like_things_side_by_side_stay_two_by_the_best_assignment() -> None:
    # Greedy matching would give the second key to the first sighting, which leaves the other out.
    scene = SceneGraph(SceneConfig(gate=0.5))
    scene.update(
        percept(0, 0, 0, detections=(detection(KEY, 1.0, 0), detection(KEY, 1.6, 0))), Octree(0.05), None
    )
    second = percept(1, 0, 0, detections=(detection(KEY, 1.35, 0), detection(KEY, 2.05, 0)))
    changes = scene.update(second, Octree(0.05), None)
    assert changes.seen_objects == (0, 1) and changes.new_objects == ()
    assert len(scene.objects()) == 2


def test_unlike_things_never_become_one() -> None:
    scene = SceneGraph()
    scene.update(percept(0, detections=(detection(KEY, 1, 0),)), Octree(1.0), None)
    changes = scene.update(percept(1, detections=(detection(BALL, 1, 0),)), Octree(1.0), None)
    assert changes.new_objects == (1,)
    assert [o.name for o in scene.objects()] == ["green key", "red ball"]
    assert [o.id for o in scene.objects("key")] == [0]
    assert [o.id for o in scene.objects(BALL)] == [1]
    assert scene.objects("teapot") == []


def test_a_place_seen_empty_makes_its_object_doubtful_and_then_gone() -> None:
    scene, tree = SceneGraph(), Octree(1.0)
    scene.update(percept(0, detections=(detection(KEY, 2.0, 0.0, z=0.5),)), tree, None)
    beliefs = [scene.objects()[0].existence]
    events = []
    for step in range(1, 4):
        changes = scene.update(percept(step, scans=(cells_scan((2.5, 0.5), (3.5, 0.5)),)), tree, None)
        beliefs.append(scene.objects()[0].existence)
        events += [e.text for e in changes.events]
    assert beliefs == sorted(beliefs, reverse=True) and beliefs[0] > 0.9 and beliefs[-1] < 0.1
    assert events == ["green key is gone"]
    (key,) = scene.objects()
    assert key.history[-1].valid_to is not None and key.last_seen == 0


def test_one_look_is_enough_where_detections_are_certain() -> None:
    world, scene = AsciiWorld(TWO_ROOMS, (3, 2)), SceneGraph(CERTAIN)
    for letter in ("", "k"):
        world.remove(letter)
        seen, grid = world.observe()
        changes = scene.update(seen, world.tree, grid)
    assert [e.kind for e in changes.events] == ["gone"]
    assert scene.objects("key")[0].existence < 0.1
    assert scene.objects("door")[0].existence > 0.9


def test_what_is_out_of_view_or_under_the_agent_is_not_missed() -> None:
    scene, tree = SceneGraph(), Octree(1.0)
    scene.update(percept(0, detections=(detection(KEY, 2.0, 0.0), detection(BALL, 0.0, 0.0))), tree, None)
    before = [o.existence for o in scene.objects()]
    for step in range(1, 5):
        scene.update(percept(step, scans=(cells_scan((0.5, 0.5), (1.5, 0.5), (9.5, 0.5)),)), tree, None)
    assert [o.existence for o in scene.objects()] == before


@pytest.mark.parametrize(("depth", "is_gone"), [(4.0, True), (1.0, False), (2.0, False)])
def test_rays_through_an_objects_place_count_and_occluded_ones_do_not(depth: float, is_gone: bool) -> None:
    scene, tree = SceneGraph(), Octree(0.05)
    mug = detection(KEY, 2.0, 0.0, z=1.0)
    scene.update(percept(0, 0, 0, detections=(mug,)), tree, None)
    side, up = np.meshgrid(np.linspace(-0.5, 0.5, 60), np.linspace(-0.5, 0.5, 60))
    rays = np.stack([np.ones_like(side), side, up], axis=-1).reshape(-1, 3) * depth + [0.0, 0.0, 1.0]
    wall = Scan(
        rays.astype(np.float32), np.ones(3600, bool), np.zeros(3600, np.int32), np.array([0.0, 0.0, 1.0])
    )
    for step in range(1, 4):
        scene.update(percept(step, 0, 0, scans=(wall,)), tree, None)
    assert (scene.objects()[0].existence < 0.5) == is_gone


@pytest.mark.parametrize("config", [CERTAIN, SceneConfig()])
def test_what_was_gone_and_is_back_keeps_its_id_and_its_history(config: SceneConfig) -> None:
    scene, tree = SceneGraph(config), Octree(1.0)
    key = detection(KEY, 2.0, 0.0)
    empty = cells_scan((2.5, 0.5))
    texts, gone = [], 0
    looks = [{"detections": (key,)}, *[{"scans": (empty,)}] * 5, {}, {"detections": (key,)}]
    for step, kwargs in enumerate(looks):
        changes = scene.update(percept(step, **kwargs), tree, None)
        texts += [e.text for e in changes.events]
        gone = step if "gone" in {e.kind for e in changes.events} else gone
    assert texts == ["first saw green key", "green key is gone", "green key is back"]
    (thing,) = scene.objects()
    assert thing.id == 0 and thing.existence > 0.5
    stays = [(s.valid_from, s.valid_to) for s in thing.history]
    assert stays == [(0, gone * STEP_NS), (7 * STEP_NS, None)]


def test_as_of_answers_where_and_how_things_were() -> None:
    scene, tree = SceneGraph(CERTAIN), Octree(1.0)
    for step, state in enumerate(["locked", "closed", "closed", "open"]):
        door = detection(DOOR, 2.0, 0.0, state)
        extra = (detection(BALL, 4.0, 0.0),) if step >= 2 else ()
        scene.update(percept(step, detections=(door, *extra)), tree, None)
    scene.update(percept(4, scans=(cells_scan((4.5, 0.5)),)), tree, None)

    def states(stamp: int) -> list[tuple[str, str, bool]]:
        return [(o.name, o.state, o.existence > 0.5) for o in scene.objects(as_of=stamp)]

    assert states(-1) == []
    assert states(0) == [("grey door", "locked", True)]
    assert states(STEP_NS) == [("grey door", "closed", True)]
    assert states(3 * STEP_NS) == [("grey door", "open", True), ("red ball", "", True)]
    assert states(4 * STEP_NS) == [("grey door", "open", True), ("red ball", "", False)]
    door = scene.objects("door", as_of=2 * STEP_NS)[0]
    assert [s.state for s in door.history] == ["locked", "closed"] and door.last_seen == 2 * STEP_NS


def test_forgotten_objects_are_gone_for_good_and_ids_are_not_reused() -> None:
    scene, tree = SceneGraph(), Octree(1.0)
    scene.update(percept(0, detections=(detection(KEY, 2, 0), detection(BALL, 3, 0))), tree, None)
    before = scene.digest()
    assert scene.forget_object(0) and not scene.forget_object(0)
    assert scene.digest() != before and scene.object(0) is None
    assert [o.id for o in scene.objects()] == [1]
    assert scene.update(percept(1, detections=(detection(KEY, 2, 0),)), tree, None).new_objects == (2,)


def test_unusable_detections_are_dropped_and_what_is_known_stays() -> None:
    scene, tree = SceneGraph(), Octree(1.0)
    scene.update(percept(0, detections=(detection(KEY, 2, 0),)), tree, None)
    bad = (
        detection(KEY, np.nan, 0),
        detection(KEY, 2, 0, sigma=np.inf),
        detection(KEY, 2, 0, score=0.0),
        detection(BALL, 5, 0, score=0.7),
    )
    changes = scene.update(percept(1, detections=bad), tree, None)
    assert changes.dropped == 3 and changes.new_objects == (1,)
    assert np.isfinite([o.position for o in scene.objects()]).all()


def test_a_pose_that_is_not_finite_is_refused_and_changes_nothing() -> None:
    scene = SceneGraph()
    scene.update(percept(0, detections=(detection(KEY, 2, 0),)), Octree(1.0), None)
    before = scene.digest()
    with pytest.raises(InputError, match="not finite"):
        scene.update(percept(1, float("nan"), 0), Octree(1.0), None)
    assert scene.digest() == before


# ---- the whole graph


def test_an_exploration_finds_rooms_with_their_objects() -> None:
    scene = SceneGraph(CERTAIN)
    tour(scene)
    assert len(scene.rooms()) == 4
    key, ball, goal = (scene.objects(name)[0] for name in ("key", "ball", "goal"))
    assert len({key.room_id, ball.room_id, goal.room_id}) == 3
    assert scene.room_of(key.id) == scene.room_at((1.5, 8.5)) == key.room_id
    assert len(scene.objects("door")) == 4
    assert {d.state for d in scene.objects("door")} == {"open"}
    path = scene.path(key.place_id, ball.place_id)
    assert path[0] == key.place_id and path[-1] == ball.place_id
    stamps, positions = scene.trajectory()
    assert len(stamps) == len(positions) and (np.diff(stamps) > 0).all()
    assert (np.abs(np.diff(positions, axis=0)).sum(axis=1) > 0.5).all()


def test_json_lists_rooms_with_their_objects() -> None:
    scene = SceneGraph(CERTAIN)
    tour(scene)
    graph = json.loads(scene.to_json())
    found = {room["name"]: [thing["label"] for thing in room["objects"]] for room in graph["rooms"]}
    assert "green key" in found["green key room"] and "red ball" in found["red ball room"]
    total = sum(len(things) for things in found.values()) + len(graph["objects"])
    assert total == len(scene.objects())


def test_new_places_are_told_once() -> None:
    scene, world = SceneGraph(CERTAIN), AsciiWorld(FOUR_ROOMS, TOUR[0])
    arrivals = []
    for x, y in TOUR + TOUR[::-1]:
        world.walk(x, y)
        seen, grid = world.observe()
        changes = scene.update(seen, world.tree, grid)
        assert changes.place_id == scene.agent_place >= 0
        arrivals += [changes.place_id] if changes.new_place else []
    assert len(arrivals) == len(set(arrivals)) > 3
    assert {p.id for p in scene.places() if p.visits} == set(arrivals)


def test_the_same_writes_give_the_same_digest_however_much_is_read() -> None:
    silent, asked = SceneGraph(CERTAIN), SceneGraph(CERTAIN)
    tour(silent)
    tour(asked, read=True)
    assert silent.digest() == asked.digest()
    other = SceneGraph(CERTAIN)
    tour(other, start=1)
    assert other.digest() != silent.digest()


@pytest.mark.parametrize("config", [CERTAIN, SceneConfig(diagonal=False, room_every=3)])
@pytest.mark.parametrize("cut", [1, 6, 11, 17, 25])
@pytest.mark.parametrize("with_map", [False, True])
def test_a_restored_scene_graph_goes_on_as_if_never_interrupted(config, cut: int, with_map: bool) -> None:
    whole, first, second = (SceneGraph(config) for _ in range(3))
    tour(whole)
    world = AsciiWorld(FOUR_ROOMS, TOUR[0])
    for x, y in TOUR[:cut]:
        world.walk(x, y)
        seen, grid = world.observe()
        first.update(seen, world.tree, grid)
    second.import_rows(first.export_rows())
    assert second.digest() == first.digest() and second.version == first.version
    if with_map:
        second.use_grid_map(grid)
        assert second.digest() == first.digest()
        assert [o.place_id for o in second.objects()] == [o.place_id for o in first.objects()]
    assert second.edges() == first.edges() and second.to_json() == first.to_json()
    tour(second, start=cut, world=world)
    assert second.digest() == whole.digest()


def test_a_map_cleared_between_writes_gives_the_same_with_and_without_an_interruption() -> None:
    digests: list[list[bytes]] = []
    for interrupted in (False, True):
        scene, world = SceneGraph(CERTAIN), AsciiWorld(FOUR_ROOMS, TOUR[0])
        tour(scene, world=world)
        world.tree.clear([8.0, 1.0, 0.0], [12.0, 4.0, 1.0])
        grid = world.tree.traversable(0.0, robot_height=1.0, step_height=0.0, passable_labels=(2,))
        before = scene.digest()
        if interrupted:
            rows, scene = scene.export_rows(), SceneGraph(CERTAIN)
            scene.import_rows(rows)
            scene.use_grid_map(grid)
        digests.append([])
        for _ in range(3):
            seen, grid = world.observe()
            scene.update(seen, world.tree, grid)
            digests[-1].append(scene.digest())
        assert before not in digests[-1]
    assert digests[0] == digests[1]


def test_exporting_only_what_changed_keeps_a_copy_up_to_date() -> None:
    scene, copy = SceneGraph(CERTAIN), {}
    world, version, sizes = AsciiWorld(FOUR_ROOMS, TOUR[0]), 0, []
    for step, (x, y) in enumerate(TOUR):
        world.walk(x, y)
        seen, grid = world.observe()
        scene.update(seen, world.tree, grid)
        if step == 12:
            scene.forget_object(scene.objects("ball")[0].id)
        if step % 3:
            continue
        rows = scene.export_rows(version)
        sizes.append(len(rows))
        version = scene.version
        for kind, number, payload in rows:
            if payload:
                copy[kind, number] = payload
            else:
                copy.pop((kind, number), None)
        again = SceneGraph(CERTAIN)
        again.import_rows([(*key, payload) for key, payload in copy.items()])
        assert again.digest() == scene.digest()
    assert scene.export_rows(scene.version) == []
    assert min(sizes[1:]) < len(copy) / 2


def test_damaged_rows_are_named_as_such() -> None:
    for rows in (
        [("meta", 0, b"{")],
        [("object", 0, b"{}")],
        [("teapot", 0, b"{}")],
        [("trajectory", 0, b"abc")],
    ):
        with pytest.raises(StoreError, match="damaged"):
            SceneGraph().import_rows(rows)


def test_an_empty_scene_graph_answers() -> None:
    scene = SceneGraph()
    assert scene.objects() == [] and scene.places() == [] and scene.rooms() == [] and scene.edges() == []
    assert scene.place_at((0, 0, 0)) == scene.room_at((0, 0, 0)) == scene.room_of(3) == -1
    assert scene.path(0, 1) == [] and scene.trajectory()[1].shape == (0, 3)
    again = SceneGraph()
    again.import_rows(scene.export_rows())
    assert again.digest() == scene.digest()


@pytest.mark.parametrize(
    ("key", "value"), [("gate", 0.0), ("false_rate", 0.95), ("room_every", 0), ("room_area", -1.0)]
)
def test_wrong_settings_are_named(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=key):
        SceneConfig(**{key: value})


def calls_of_a_step(world: AsciiWorld, scene: SceneGraph, x: int, y: int) -> int:
    """How many functions, Python's and C's, one step of the scene graph and one reading call."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    world.walk(x, y)
    seen, grid = world.observe()
    sys.setprofile(count)
    try:
        scene.update(seen, world.tree, grid)
        read_tokens(world.tree, scene, None, seen.map_T_base, None, ReadConfig(), seen.stamp)
    finally:
        sys.setprofile(None)
    return calls


def test_a_step_in_a_grid_world_stays_cheap_however_long_the_walk() -> None:
    """Counted in calls, not in seconds: a count is the same on a busy machine."""
    world, scene = AsciiWorld(FOUR_ROOMS, TOUR[0]), SceneGraph(CERTAIN)
    rounds = [[calls_of_a_step(world, scene, x, y) for x, y in TOUR + TOUR[::-1]] for _ in range(6)]
    assert max(rounds[-1]) <= 1.1 * max(rounds[1])  # known ground costs what it cost the first time
    assert np.median(rounds[-1]) < 2000  # about 1,100; one loop over the grid's cells would be thousands


def test_a_leap_is_no_walk() -> None:
    scene, grid = SceneGraph(CERTAIN), grid_of("###########\n#....#....#\n###########")
    scene.update(percept(0, 1.5, 1.5), Octree(1.0), grid)
    scene.update(percept(1, 8.5, 1.5), Octree(1.0), grid)
    assert scene.path(scene.place_at((1.5, 1.5)), scene.place_at((8.5, 1.5))) == []


def test_what_its_pixels_show_is_not_missed_though_the_detector_left_it_out():
    """A bed, cut by a door frame: large things show themselves by their labels, small ones do not."""
    y, z = np.meshgrid(np.linspace(-0.7, 0.7, 60), np.linspace(0.1, 0.6, 30))
    face = np.stack([np.full(y.size, 2.6), y.ravel(), z.ravel()], axis=1).astype(np.float32)
    origin, hit = np.array([0.0, 0.0, 1.0]), np.ones(len(face), bool)
    bed, small = np.array([[3.0, 0.0, 0.35]]), np.array([[2.6, 0.0, 0.35]])
    for label, positions, extents, is_shown in (
        (5, bed, np.array([[1.0, 1.5, 0.6]]), True),
        (6, bed, np.array([[1.0, 1.5, 0.6]]), False),  # something else is in its place
        (5, small, np.array([[0.2, 0.3, 0.3]]), False),  # the robot's error is too large a part of it
    ):
        scan = Scan(face, hit, np.full(len(face), 5, np.int32), origin)
        labels = np.array([label])
        assert shown_by_label([scan], Pose(), positions, extents, labels).tolist() == [is_shown]
        nothing = Scan(face, hit, np.zeros(len(face), np.int32), origin)
        assert not shown_by_label([nothing], Pose(), positions, extents, labels).any()
    turned = Pose.from_xyz_yaw(1.0, 2.0, 0.0, 0.5)
    places = turned.transform(bed)
    box = np.array([[1.7, 1.8, 0.6]])
    scan = Scan(face, hit, np.full(len(face), 5, np.int32), origin)
    assert shown_by_label([scan], turned, places, box, np.array([5])).all()


def test_the_wall_behind_a_desks_legs_does_not_speak_against_it():
    """Most rays pass below its top; they end at the back of its box, or in its middle where it is gone."""
    position, extent = np.array([[3.0, 0.0, 0.37]]), np.array([[0.7, 1.2, 0.74]])
    y, z = (part.ravel() for part in np.meshgrid(np.linspace(-0.55, 0.55, 40), np.linspace(0.05, 0.7, 40)))
    top = np.stack([np.full(60, 2.8), np.linspace(-0.5, 0.5, 60), np.full(60, 0.72)], axis=1)
    labels = np.concatenate([np.full(60, 5), np.zeros(len(y))]).astype(np.int32)
    for depth, is_shown in ((3.3, True), (3.0, False)):
        behind = np.stack([np.full(len(y), depth), y, z], axis=1)
        points = np.concatenate([top, behind]).astype(np.float32)
        scan = Scan(points, np.ones(len(points), bool), labels, np.array([0.0, 0.0, 1.0]))
        shown = shown_by_label([scan], Pose(), position, extent, np.array([5]))
        assert shown.tolist() == [is_shown]

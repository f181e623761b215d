"""Memory tokens: fixed width, the nearest frontier always among them, relevant things first."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from ascii_world import FOUR_ROOMS, LABELS, AsciiWorld, detection, grid_of, percept

from embodied_mem.errors import ConfigError
from embodied_mem.geometry import Pose
from embodied_mem.memory.navigation import cell_of, distance_field, frontier_cells, shortest_path
from embodied_mem.memory.octree import Octree
from embodied_mem.memory.octree.types import GridMap
from embodied_mem.memory.read_config import ReadConfig
from embodied_mem.memory.reading import read_tokens
from embodied_mem.memory.scene.graph import SceneConfig, SceneGraph
from embodied_mem.types import TOKEN_KINDS, Goal, MemoryTokens

CONFIG = SceneConfig(diagonal=False, detection_rate=0.999, false_rate=0.001)
CELL, PLACE, OBJECT, ROOM, EPISODE = range(1, 6)


def of_kind(tokens: MemoryTokens, kind: int) -> np.ndarray:
    return np.flatnonzero(tokens.mask & (tokens.kind == kind))


def explored(steps: int = 400):
    """Walks to the nearest frontier, by the tokens alone, until there is none."""
    world, scene = AsciiWorld(FOUR_ROOMS, (2, 8)), SceneGraph(CONFIG)
    for _ in range(steps):
        seen, grid = world.observe()
        scene.update(seen, world.tree, grid)
        pose = seen.map_T_base
        tokens = read_tokens(world.tree, scene, None, pose, None, ReadConfig(), seen.stamp)
        chosen = np.flatnonzero(tokens.mask & tokens.frontier)
        if len(chosen) == 0:
            return world, scene, grid, tokens, pose
        target = pose.transform(tokens.position[chosen[np.argmin(tokens.path_distance[chosen])]])
        path = shortest_path(grid, pose.position, target)
        assert len(path) > 1
        y, x = cell_of(grid_of(FOUR_ROOMS), path[1])
        world.walk(x, y)
    raise AssertionError("not explored")


def test_going_to_the_nearest_frontier_explores_everything() -> None:
    world, scene, grid, tokens, _ = explored()
    assert grid.cells.shape == world.letters.shape
    assert (grid.cells >= 0).all()
    assert len(scene.rooms()) == 4 and len(scene.objects()) == 7
    assert not tokens.frontier.any()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("diagonal", [False, True])
def test_the_nearest_reachable_frontier_is_always_there(seed: int, diagonal: bool) -> None:
    rng = np.random.default_rng(seed)
    cells = rng.choice(np.array([0, 0, 0, 0, 0, 0, 100, 100, -1], np.int8), (30, 40))
    grid = GridMap(cells, np.array([-3.0, 2.0]), 0.5, 0.0)
    free = np.argwhere(cells == 0)
    y, x = free[rng.integers(len(free))]
    pose = Pose.from_xyz_yaw(-3.0 + (x + 0.5) * 0.5, 2.0 + (y + 0.5) * 0.5, 0.1, 0.7)
    scene = SceneGraph(SceneConfig(diagonal=diagonal))
    config = ReadConfig(frontiers=2)
    tokens = read_tokens(Octree(0.5), scene, None, pose, None, config, 0, grid_map=grid)
    chosen = of_kind(tokens, CELL)
    assert tokens.frontier[chosen].all() and len(chosen) <= 2
    field = distance_field(grid, pose.position, diagonal)
    all_frontiers = frontier_cells(grid)
    reachable = [float(field[cell_of(grid, p)]) for p in all_frontiers]
    assert float(tokens.path_distance[chosen].min()) == pytest.approx(min(reachable), rel=1e-6)
    known = {cell_of(grid, p) for p in all_frontiers}
    for slot in chosen:
        position = pose.transform(tokens.position[slot])
        assert cell_of(grid, position) in known
        assert tokens.path_distance[slot] == pytest.approx(float(field[cell_of(grid, position)]), rel=1e-6)
        iy, ix = cell_of(grid, position)
        np.testing.assert_allclose(position[:2], [-3.0 + (ix + 0.5) * 0.5, 2.0 + (iy + 0.5) * 0.5], atol=1e-5)


def test_door_cells_with_the_unknown_behind_are_frontiers() -> None:
    scene, grid = SceneGraph(CONFIG), grid_of("####\n#.D?\n####")
    tokens = read_tokens(
        Octree(1.0), scene, None, Pose.from_xyz_yaw(1.5, 1.5, 0, 0), None, ReadConfig(), 0, grid
    )
    (slot,) = of_kind(tokens, CELL)
    np.testing.assert_allclose(tokens.position[slot], [1.0, 0.0, 0.0], atol=1e-6)
    assert tokens.path_distance[slot] == 1.0


def test_tokens_have_fixed_width_and_slots_per_kind() -> None:
    _, scene, _, tokens, _ = explored()
    config = ReadConfig()
    assert tokens.mask.shape == (32,) and tokens.position.shape == (32, 3) and tokens.feature.shape == (32, 4)
    expected = [CELL] * 8 + [OBJECT] * 12 + [PLACE] * 6 + [ROOM] * 2 + [EPISODE] * 4
    present = np.flatnonzero(tokens.mask)
    assert tokens.kind[present].tolist() == [expected[i] for i in present]
    assert len(of_kind(tokens, OBJECT)) == 7 and len(of_kind(tokens, PLACE)) == config.places
    for name in ("id", "kind", "label", "position", "extent", "confidence", "visits", "feature"):
        assert not getattr(tokens, name)[~tokens.mask].any()
    assert np.isinf(tokens.path_distance[~tokens.mask]).all()
    assert tokens.kind.dtype == np.int64 and tokens.position.dtype == np.float32
    assert tokens.place_id == scene.agent_place
    assert len(TOKEN_KINDS) == 6


def test_objects_carry_what_is_known_of_them() -> None:
    world, scene, grid, tokens, pose = explored()
    for slot in of_kind(tokens, OBJECT):
        thing = scene.object(int(tokens.id[slot]))
        assert thing is not None
        np.testing.assert_allclose(pose.transform(tokens.position[slot]), thing.position, atol=1e-5)
        assert tokens.label[slot] == thing.label and tokens.confidence[slot] == pytest.approx(thing.existence)
        seconds = (world.step - 1) * 0.1 - thing.last_seen / 1e9
        assert tokens.age[slot] == pytest.approx(np.log1p(seconds), rel=1e-5)
        assert np.isfinite(tokens.path_distance[slot])
        is_solid = thing.name in ("green key", "red ball") or thing.state == "closed"
        assert (tokens.occupancy[slot] > 0.5) == is_solid
        assert tokens.feature[slot].tolist() == [
            0.0,
            float(thing.state == "open"),
            float(thing.state == "closed"),
            0.0,
        ]
    key = scene.objects("key")[0]
    (slot,) = (s for s in of_kind(tokens, OBJECT) if tokens.id[s] == key.id)
    beside = distance_field(grid, pose.position)[[6, 8, 7, 7], [2, 2, 1, 3]].min()  # around cell (2, 7)
    assert tokens.path_distance[slot] == pytest.approx(beside + 1.0)


def test_what_the_goal_names_comes_first_however_far() -> None:
    world, scene, _, _, pose = explored()
    config = ReadConfig(objects=1)
    for goal in (Goal(text="get the green key"), Goal(label=LABELS.id("green key"))):
        tokens = read_tokens(world.tree, scene, None, pose, goal, config, 0)
        (slot,) = of_kind(tokens, OBJECT)
        assert LABELS.name(int(tokens.label[slot])) == "green key" and tokens.feature[slot, 0] == 1.0
    ball = scene.objects("ball")[0]
    tokens = read_tokens(world.tree, scene, None, pose, Goal(position=ball.position), config, 0)
    assert tokens.id[of_kind(tokens, OBJECT)].tolist() == [ball.id]
    tokens = read_tokens(world.tree, scene, None, pose, None, config, 0)
    nearest = min(scene.objects(), key=lambda o: float(np.linalg.norm(o.position - pose.position)))
    assert tokens.id[of_kind(tokens, OBJECT)].tolist() == [nearest.id]


def test_places_that_were_not_visited_for_long_come_first() -> None:
    world, scene, _, _, pose = explored()
    places = scene.place_table
    evening = scene.trajectory_table.start
    morning = evening + 12 * 3600 * 10**9

    def shown(stale: float) -> np.ndarray:
        config = ReadConfig(places=4, stale=stale)
        tokens = read_tokens(world.tree, scene, None, pose, None, config, morning)
        return tokens.id[of_kind(tokens, PLACE)]

    nearest = shown(3600.0)
    np.testing.assert_array_equal(nearest, shown(0.0))  # none was visited this morning
    places.last_visits[np.isin(places.ids, nearest[:2])] = morning - 60 * 10**9
    np.testing.assert_array_equal(nearest, shown(0.0))
    np.testing.assert_array_equal(shown(3600.0)[:2], nearest[2:])
    assert not np.isin(shown(3600.0), nearest[:2]).any()
    places.last_visits[:] = morning
    np.testing.assert_array_equal(nearest, shown(3600.0))


def test_the_agents_own_room_comes_first() -> None:
    world, scene, _, _, _ = explored()
    for x, y in [(2.5, 1.5), (2.5, 7.5), (10.5, 7.5)]:
        tokens = read_tokens(world.tree, scene, None, Pose.from_xyz_yaw(x, y, 0, 0), None, ReadConfig(), 0)
        rooms = of_kind(tokens, ROOM)
        assert tokens.id[rooms[0]] == scene.room_at((x, y)) and len(rooms) == 2


def test_the_newest_episodes_come_newest_first() -> None:
    world, scene, _, _, pose = explored()
    episodes = SimpleNamespace(
        ids=np.arange(10, 16),
        stamps=np.arange(6) * 10**9,
        positions=np.arange(18.0).reshape(6, 3),
        trusts=np.linspace(0.5, 1.0, 6),
    )
    tokens = read_tokens(world.tree, scene, episodes, pose, None, ReadConfig(), 6 * 10**9)
    slots = of_kind(tokens, EPISODE)
    assert tokens.id[slots].tolist() == [15, 14, 13, 12]
    np.testing.assert_allclose(tokens.age[slots], np.log1p([1, 2, 3, 4]), rtol=1e-6)
    np.testing.assert_allclose(pose.transform(tokens.position[slots])[0], [15, 16, 17], atol=1e-4)
    few = SimpleNamespace(
        **{name: getattr(episodes, name)[:1] for name in ("ids", "stamps", "positions", "trusts")}
    )
    assert len(of_kind(read_tokens(world.tree, scene, few, pose, None, ReadConfig(), 0), EPISODE)) == 1


def test_what_is_gone_is_left_out() -> None:
    world, scene, _, _, _ = explored()
    world.remove("g")
    world.at = (3, 2)
    seen, grid = world.observe()
    scene.update(seen, world.tree, grid)
    tokens = read_tokens(world.tree, scene, None, seen.map_T_base, None, ReadConfig(), seen.stamp)
    assert LABELS.id("goal") not in tokens.label[of_kind(tokens, OBJECT)]
    assert len(of_kind(tokens, OBJECT)) == 6


def test_reading_changes_nothing_and_repeats_itself() -> None:
    world, scene, _, _, pose = explored()
    before = scene.digest()
    first, second = (read_tokens(world.tree, scene, None, pose, None, ReadConfig(), 7) for _ in range(2))
    for name in vars(first):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert scene.digest() == before


def test_cubes_with_the_goals_label_come_nearest_first_and_tell_where_its_voxels_are() -> None:
    tree, scene, grid = Octree(0.5), SceneGraph(), grid_of("......\n" * 6)
    at = np.array(
        [[1.25, 1.25, 0.25], [1.75, 1.25, 0.25], [5.25, 5.25, 0.25], [3.25, 1.25, 0.25]], np.float32
    )
    tree.integrate_cells(at, np.ones(4, bool), labels=np.array([2, 2, 2, 1]), stamp=5 * 10**9)
    config, pose = ReadConfig(goals=4, tokens=36), Pose.from_xyz_yaw(0.5, 0.5, 0, 0)

    def cubes(goal: Goal | None, config: ReadConfig = config) -> tuple[MemoryTokens, np.ndarray]:
        tokens = read_tokens(tree, scene, None, pose, goal, config, 6 * 10**9, grid)
        return tokens, np.flatnonzero(tokens.mask & (tokens.kind == CELL) & ~tokens.frontier)

    tokens, slots = cubes(Goal(label=2))
    found = pose.transform(tokens.position[slots])
    np.testing.assert_allclose(found, [[1.5, 1.25, 0.25], [5.25, 5.25, 0.25]], atol=1e-5)
    np.testing.assert_allclose(tokens.extent[slots], [[1.0, 0.5, 0.5], [0.5, 0.5, 0.5]])
    assert tokens.feature[slots, 0].tolist() == [1.0, 1.0] and tokens.label[slots].tolist() == [2, 2]
    assert tokens.confidence[slots].tolist() == [0.75, 0.5] and (tokens.level[slots] == 3).all()
    assert tokens.path_distance[slots[0]] < tokens.path_distance[slots[1]] < np.inf
    assert tokens.age[slots] == pytest.approx(np.log(2.0))
    for goal, settings in ((None, config), (Goal(label=7), config), (Goal(label=2), ReadConfig())):
        assert len(cubes(goal, settings)[1]) == 0
    tree.integrate_cells(at[2:3].repeat(4, axis=0), np.zeros(4, bool), stamp=7 * 10**9)
    for _ in range(9):  # what is gone is no goal any more
        tree.integrate_cells(at[2:3], np.zeros(1, bool), stamp=7 * 10**9)
    assert len(cubes(Goal(label=2))[1]) == 1


def test_fringes_do_not_crowd_out_the_thing_itself() -> None:
    tree, scene, grid = Octree(0.5), SceneGraph(), grid_of("......\n" * 6)
    x, y = np.meshgrid(np.arange(0.25, 6.0, 0.5), [1.25, 5.25, 5.75])
    at = np.stack([x.ravel(), y.ravel(), np.full(x.size, 0.25)], axis=1).astype(np.float32)
    labels = np.where((at[:, 1] > 5.0) | (at[:, 0] % 2.0 < 0.5), 2, 1)  # far away many, here one in each cube
    tree.integrate_cells(at, np.ones(len(at), bool), labels=labels, stamp=5 * 10**9)
    config, pose = ReadConfig(goals=2, tokens=36), Pose.from_xyz_yaw(0.5, 0.5, 0, 0)
    tokens = read_tokens(tree, scene, None, pose, Goal(label=2), config, 6 * 10**9, grid)
    slots = np.flatnonzero(tokens.mask & (tokens.kind == CELL) & ~tokens.frontier)
    assert len(slots) == 2 and (tokens.confidence[slots] > 0.9).all()
    assert (pose.transform(tokens.position[slots])[:, 1] > 5.0).all()


def test_an_empty_memory_gives_empty_tokens() -> None:
    tokens = read_tokens(Octree(1.0), SceneGraph(), None, Pose(), None, ReadConfig(), 0)
    assert not tokens.mask.any() and tokens.place_id == -1


def test_embeddings_fill_the_rest_of_the_feature() -> None:
    scene = SceneGraph()
    things = (
        detection(3, 1, 0, embedding=np.array([0.5, -1.0, 2.0], np.float32)),
        detection(4, 2, 0, embedding=np.array([3.0], np.float32)),
    )
    scene.update(percept(0, detections=things), Octree(1.0), None)
    tokens = read_tokens(Octree(1.0), scene, None, Pose(), None, ReadConfig(feature_size=6), 0)
    features = tokens.feature[of_kind(tokens, OBJECT)]
    assert features.tolist() == [[0, 0, 0, 0, 0.5, -1.0], [0, 0, 0, 0, 3.0, 0.0]]
    assert np.isinf(tokens.path_distance).all()  # no map, no way


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens": 65}, "1..64"),
        ({"tokens": 16}, "do not fit"),
        ({"objects": -1}, "objects"),
        ({"feature_size": 3}, "feature_size"),
        ({"min_existence": 1.5}, "min_existence"),
        ({"reach": -1.0}, "reach"),
        ({"stale": np.inf}, "stale"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ReadConfig(**settings)


def test_labelled_lists_the_occupied_voxels_of_some_labels_and_no_others() -> None:
    rng = np.random.default_rng(0)
    tree = Octree(0.1)
    points = rng.uniform(-2, 2, (500, 3)).astype(np.float32)
    names = rng.integers(0, 6, 500)
    tree.integrate_cells(points, np.ones(500, bool), labels=names, stamp=3)
    tree.integrate_cells(points[:50], np.zeros(50, bool), labels=names[:50], stamp=4)
    for _ in range(9):
        tree.integrate_cells(points[:50], np.zeros(50, bool), stamp=4)
    everything = tree.voxels()
    for wanted in ([2], [1, 5], [9]):
        found, expected = tree.labelled(wanted), everything.select(np.isin(everything.labels, wanted))
        assert np.array_equal(found.centers, expected.centers)
        assert np.array_equal(found.labels, expected.labels) and np.array_equal(found.stamps, expected.stamps)
    assert len(tree.labelled([2])) > 50 and len(tree.labelled([9])) == 0


def test_the_voxels_of_labels_are_those_of_the_newest_map_whatever_was_asked_before():
    tree, rng = Octree(0.1), np.random.default_rng(3)
    for stamp in range(1, 12):
        points = rng.uniform(-4, 4, (300, 3))
        tree.integrate(points, [0, 0, 0], labels=rng.integers(0, 5, 300), stamp=stamp)
        if stamp == 6:
            tree.clear([-1, -1, -1], [2, 2, 2])
        everything = tree.voxels()
        for wanted in ([2], [1, 3]) if stamp % 2 else ([2], []):
            expected = everything.select(np.isin(everything.labels, wanted))
            assert np.array_equal(tree.labelled(wanted).centers, expected.centers)
            blocks = np.floor(expected.centers.astype(np.float64) / 0.8).astype(np.int64)
            found, counts = np.unique(blocks[:, ::-1], axis=0, return_counts=True)
            held = tree.labelled_blocks(wanted)
            assert np.array_equal(held.coords[:, ::-1], found) and np.array_equal(held.counts, counts)
            for k in range(0, len(found), 7):
                inside = (blocks[:, ::-1] == found[k]).all(axis=1)
                assert np.array_equal(held.lo[k], expected.centers[inside].min(axis=0))
                assert np.array_equal(held.hi[k], expected.centers[inside].max(axis=0))
                assert held.stamps[k] == expected.stamps[inside].max()
                assert held.labels[k] == expected.labels[inside][0]

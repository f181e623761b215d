from __future__ import annotations

import numpy as np
import pytest

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.perception import GRID_LABELS, GridPerception
from embodied_mem.perception.grid import COLORS, OBJECTS, STATES
from embodied_mem.types import Detection, GridView, LabelMap, Observation

EMPTY = (OBJECTS.index("empty"), 0, 0)


def cell(thing: str, color: str = "grey", state: str = "open") -> tuple[int, int, int]:
    return OBJECTS.index(thing), COLORS.index(color), STATES.index(state)


def view_of(things: dict, size: int = 7, fill=EMPTY, **kwargs) -> GridView:
    cells = np.empty((size, size, 3), np.uint8)
    cells[:] = fill
    for place, symbol in things.items():
        cells[place] = symbol
    return GridView(cells, **kwargs)


def perceive(view: GridView, perception: GridPerception | None = None, **kwargs):
    kwargs = {"stamp": 0, "step": 0, "odom_T_base": Pose(), "labels": GRID_LABELS} | kwargs
    return (perception or GridPerception())(Observation(grid=view, **kwargs))


def at(scan, x: float, y: float, z: float = 0.5) -> tuple[bool, str]:
    index = np.flatnonzero((scan.points == np.array([x, y, z], np.float32)).all(axis=1))
    assert len(index) == 1, "exactly one piece of evidence for the cell"
    return bool(scan.hit[index[0]]), GRID_LABELS.name(int(scan.labels[index[0]]))


def test_the_table_of_symbols_is_minigrids():
    from minigrid.core import constants

    assert {name: i for i, name in enumerate(OBJECTS)} == constants.OBJECT_TO_IDX
    assert {name: i for i, name in enumerate(COLORS)} == constants.COLOR_TO_IDX
    assert {name: i for i, name in enumerate(STATES)} == constants.STATE_TO_IDX


def test_cells_ahead_are_along_x_and_cells_on_the_left_along_y():
    # The agent is at column 3 of the last row, 6, and looks towards row 0.
    scan = perceive(view_of({(3, 4): cell("wall"), (1, 6): cell("lava", "red")})).scans[0]
    assert scan.origin is None
    assert at(scan, 2, 0) == (True, "wall")
    assert at(scan, 0, 2) == (True, "lava")
    assert at(scan, 0, 0) == (False, "unknown")
    assert len(scan.points) == 49
    assert scan.points.dtype == np.float32 and scan.labels.dtype == np.int32


def test_unseen_cells_give_no_evidence():
    scan = perceive(view_of({(3, 5): EMPTY}, fill=(0, 0, 0))).scans[0]
    assert sorted(map(tuple, scan.points.tolist())) == [(0.0, 0.0, 0.5), (1.0, 0.0, 0.5)]
    assert not scan.hit.any()


@pytest.mark.parametrize(
    ("symbol", "hit", "label"),
    [
        (cell("wall"), True, "wall"),
        (cell("door", "red", "closed"), True, "red door"),
        (cell("door", "red", "locked"), True, "red door"),
        (cell("door", "red", "open"), False, "red door"),
        (cell("key", "green"), True, "green key"),
        (cell("ball", "blue"), True, "blue ball"),
        (cell("box", "purple"), True, "purple box"),
        (cell("lava", "red"), True, "lava"),
        (cell("goal", "green"), False, "goal"),
        (cell("floor", "blue"), False, "blue floor"),
        (cell("agent", "red"), False, "unknown"),
        (EMPTY, False, "unknown"),
    ],
)
def test_each_kind_of_cell_is_free_or_occupied_and_named(symbol, hit, label):
    assert at(perceive(view_of({(3, 3): symbol})).scans[0], 3, 0) == (hit, label)


def test_things_are_detected_with_their_state_and_walls_and_lava_are_not():
    things = {
        (2, 2): cell("door", "yellow", "locked"),
        (4, 3): cell("key", "green"),
        (5, 5): cell("goal", "green"),
        (0, 0): cell("wall"),
        (6, 6): cell("lava", "red"),
    }
    found = {GRID_LABELS.name(d.label): d for d in perceive(view_of(things)).detections}
    assert set(found) == {"yellow door", "green key", "goal"}
    assert found["yellow door"].state == "locked"
    assert found["green key"].state == ""
    np.testing.assert_array_equal(found["yellow door"].position, [4, 1, 0.5])
    np.testing.assert_array_equal(found["green key"].position, [3, -1, 0.5])
    np.testing.assert_array_equal(found["goal"].extent, [1, 1, 1])
    assert np.linalg.eigvalsh(found["goal"].covariance).min() > 0


def test_what_the_agent_carries_is_neither_an_obstacle_nor_a_detection():
    # MiniGrid draws the carried object into the agent's own cell.
    view = view_of({(3, 6): cell("key", "green")}, carrying=(OBJECTS.index("key"), COLORS.index("green")))
    percept = perceive(view)
    assert percept.detections == ()
    assert at(percept.scans[0], 0, 0) == (False, "unknown")


def test_a_door_stays_a_door_while_the_agent_stands_in_it_and_turns_there():
    perception = GridPerception()
    ahead = view_of({(3, 5): cell("door", "red", "open")})
    perceive(ahead, perception, odom_T_base=Pose.from_xyz_yaw(0.5, -0.5, 0, 0), is_first=True)
    for step, yaw in enumerate((0.0, np.pi / 2, np.pi)):
        percept = perceive(
            view_of({}), perception, step=step + 1, odom_T_base=Pose.from_xyz_yaw(1.5, -0.5, 0, yaw)
        )
        assert at(percept.scans[0], 0, 0) == (False, "red door")
    behind = perceive(view_of({}), perception, odom_T_base=Pose.from_xyz_yaw(2.5, -0.5, 0, np.pi))
    assert at(behind.scans[0], 0, 0) == (False, "unknown")


def test_a_new_episode_knows_nothing_of_the_last_ones_view():
    perception = GridPerception()
    perceive(view_of({(3, 5): cell("door", "red", "open")}), perception, is_first=True)
    here = Pose.from_xyz_yaw(1, 0, 0, 0)
    percept = perceive(view_of({}), perception, odom_T_base=here, is_first=True)
    assert at(percept.scans[0], 0, 0) == (False, "unknown")


def test_the_cell_the_agent_has_moved_into_is_free_whatever_stood_there():
    perception = GridPerception()
    perceive(view_of({(3, 5): cell("ball", "blue")}), perception, is_first=True)
    percept = perceive(view_of({}), perception, odom_T_base=Pose.from_xyz_yaw(1, 0, 0, 0))
    assert at(percept.scans[0], 0, 0) == (False, "unknown")


def test_taking_and_putting_down_are_events_with_a_sentence():
    perception = GridPerception()
    key = (OBJECTS.index("key"), COLORS.index("green"))
    steps = [
        ({"carrying": None}, {"is_first": True}),
        ({"carrying": key}, {}),
        ({"carrying": key}, {}),
        ({"carrying": None}, {}),
        ({"carrying": None}, {"terminated": True}),
    ]
    made = [perceive(view_of({}, **v), perception, **o) for v, o in steps]
    assert [p.event for p in made] == ["episode_start", "picked_up", "", "put_down", "episode_end"]
    assert [p.text for p in made] == ["", "picked up the green key", "", "put down the green key", ""]


def test_positions_and_extents_scale_with_the_cell_size():
    percept = perceive(view_of({(3, 4): cell("box", "red")}, cell_size=0.5))
    assert at(percept.scans[0], 1.0, 0.0, 0.25) == (True, "red box")
    np.testing.assert_array_equal(percept.detections[0].extent, [0.5, 0.5, 0.5])


def test_detections_from_outside_are_passed_on_by_the_name_of_their_label():
    outside = Detection(1, np.array([2.0, 0, 0]), np.ones(3), np.eye(3))
    percept = perceive(view_of({}), labels=LabelMap(("unknown", "cat")), detections=(outside,))
    assert percept.labels.names[: len(GRID_LABELS)] == GRID_LABELS.names
    assert [percept.labels.name(d.label) for d in percept.detections] == ["cat"]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (np.zeros((7, 7, 2), np.uint8), r"\(V, V, 3\)"),
        (np.zeros((6, 6, 3), np.uint8), "odd"),
        (np.full((7, 7, 3), 11, np.uint8), "object type 11"),
        (np.full((7, 7, 3), 8, np.uint8), "colour 8"),
    ],
)
def test_a_view_that_is_not_minigrids_is_refused_in_one_line(cells, message):
    with pytest.raises(InputError, match=message) as error:
        perceive(GridView(cells))
    assert "\n" not in str(error.value)


def true_cell(env, i: int, j: int) -> tuple[int, int, int]:
    thing = env.grid.get(i, j)
    return (1, 0, 0) if thing is None else thing.encode()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_cell_seen_in_minigrid_lands_where_minigrid_has_it(seed: int):
    """The whole chain of conventions: view, base frame, map frame, against the simulator's own grid."""
    from embodied_mem.sim.minigrid import MiniGridTask

    task = MiniGridTask("MiniGrid-Playground-v0")
    task.reset(seed=seed)
    perception = GridPerception()
    rng = np.random.default_rng(seed)
    seen: set[str] = set()
    for _ in range(60):
        obs, env = task.observation, task.grid_env
        percept = perception(obs)
        scan = percept.scans[0]
        centers = obs.map_T_base.transform(scan.points)
        for center, hit, label in zip(centers, scan.hit, scan.labels):
            i, j = int(np.floor(center[0])), int(np.floor(-center[1]))
            np.testing.assert_allclose(center, [i + 0.5, -(j + 0.5), 0.5], atol=1e-6)
            if (i, j) == tuple(env.agent_pos):
                assert not hit
                continue
            kind, color, state = true_cell(env, i, j)
            name = (
                OBJECTS[kind]
                if OBJECTS[kind] in ("wall", "goal", "lava")
                else f"{COLORS[color]} {OBJECTS[kind]}"
            )
            name = "unknown" if OBJECTS[kind] == "empty" else name
            open_door = OBJECTS[kind] == "door" and STATES[state] == "open"
            assert hit == (OBJECTS[kind] not in ("empty", "floor", "goal") and not open_door)
            assert GRID_LABELS.name(int(label)) == name
            seen.add(name)
        task.step(int(rng.choice([0, 1, 2, 2, 2, 3, 5])))
    assert {"wall", "unknown"} < seen

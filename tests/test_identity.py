"""Objects keep their identity: moves, duplicates, false labels, changes and relations."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from embodied_mem.geometry import Pose
from embodied_mem.memory.octree import Octree
from embodied_mem.memory.scene.graph import SceneConfig, SceneGraph
from embodied_mem.types import Detection, LabelMap, Percept, Scan

LABELS = LabelMap(("unknown", "mug", "table", "book", "person"))
MUG, TABLE, BOOK, PERSON = 1, 2, 3, 4
S = 1_000_000_000
CONFIG = SceneConfig(gate_sigma=3.5, pose_sigma=0.05, label_noise=0.05, prior=0.05, detection_rate=0.7)


def seen(label: int, x: float, y: float, z: float = 0.8, size: float = 0.1, **more) -> Detection:
    extent = np.full(3, size)
    return Detection(label, np.array([x, y, z]), extent, np.eye(3) * 0.03**2, 0.9, **more)


def through(*places: tuple[float, float, float]) -> Scan:
    """Makes rays that go through places and end two metres behind them."""
    origin = np.array([0.0, 0.0, 0.9])
    rng = np.random.default_rng(0)
    points = [
        origin + (np.array(p) + rng.uniform(-0.02, 0.02, 3) - origin) * (1 + 2.0 / np.linalg.norm(p))
        for p in places
        for _ in range(20)
    ]
    return Scan(
        np.array(points, np.float32), np.ones(len(points), bool), np.zeros(len(points), np.int32), origin
    )


class Walk:
    """A robot that stands at the origin, with an octree that knows the free space."""

    def __init__(self, config: SceneConfig = CONFIG) -> None:
        self.scene, self.tree, self.step = SceneGraph(config), Octree(0.05), 0

    def look(self, *detections: Detection, scans: tuple[Scan, ...] = (), times: int = 1):
        for _ in range(times):
            for scan in scans:
                self.tree.integrate(scan.points, scan.origin, stamp=self.step * S)
            percept = Percept(
                self.step * S, self.step, Pose(), labels=LABELS, scans=scans, detections=detections
            )
            changes = self.scene.update(percept, self.tree, None)
            self.step += 1
        return changes


def test_a_moved_object_keeps_its_id_and_its_history():
    walk, old, new = Walk(), (2.0, 0.5, 0.8), (2.0, -0.8, 0.8)
    walk.look(seen(MUG, *old), scans=(through(new),), times=4)
    (mug,) = walk.scene.objects("mug")
    walk.look(scans=(through(old, new),), times=5)
    assert walk.scene.object(mug.id).existence < 0.5
    changes = walk.look(seen(MUG, *new), times=3)
    (now,) = walk.scene.objects("mug")
    assert (
        now.id == mug.id and np.allclose(now.position, new, atol=0.02) and changes.seen_objects == (mug.id,)
    )
    first, second = now.history
    assert np.allclose(first.position, old, atol=0.02) and first.valid_to == 7 * S
    assert second.valid_from == 9 * S and second.valid_to is None
    (past,) = walk.scene.objects("mug", as_of=2 * S)
    assert np.allclose(past.position, old, atol=0.02)
    (change,) = walk.scene.changes(since=3 * S)
    assert change.kind == "moved" and change.object_id == mug.id and change.last_before == 3 * S
    assert np.allclose(change.before, old, atol=0.02) and np.allclose(change.after, new, atol=0.02)
    assert any("seen empty" in words for words in change.evidence)


def test_a_move_is_found_too_when_the_new_place_is_seen_first():
    walk, old, new = Walk(), (2.0, 0.5, 0.8), (2.0, -0.8, 0.8)
    walk.look(seen(MUG, *old), scans=(through(new),), times=4)
    walk.look(seen(MUG, *new), times=3)
    assert len(walk.scene.objects("mug")) == 2
    second = walk.scene.objects("mug")[1].id
    walk.look(seen(MUG, *new), scans=(through(old),), times=5)
    (mug,) = walk.scene.objects("mug")
    assert mug.id == 0 and len(mug.history) == 2
    assert walk.scene.object(second).id == 0, "the other id is the same object's now"
    assert walk.scene.changes(since=3 * S)[0].kind == "moved"


def test_what_looks_different_has_not_moved_but_is_another():
    walk, old, new = Walk(), (2.0, 0.5, 0.8), (2.0, -0.8, 0.8)
    red, blue = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    walk.look(seen(MUG, *old, embedding=red), scans=(through(new),), times=4)
    walk.look(scans=(through(old, new),), times=5)
    walk.look(seen(MUG, *new, embedding=blue), times=3)
    assert len(walk.scene.objects("mug")) == 2
    assert sorted(c.kind for c in walk.scene.changes(since=3 * S)) == ["appeared", "disappeared"]


def test_what_is_seen_for_the_first_time_is_no_change():
    walk = Walk()
    walk.look(times=2)
    walk.look(seen(MUG, 2.0, 0.5), times=3)
    assert walk.scene.changes(since=1) == [] and len(walk.scene.objects("mug")) == 1


def test_a_wrong_label_is_outvoted_and_makes_no_second_object():
    walk = Walk()
    for label in (BOOK, MUG, MUG, TABLE, MUG):
        walk.look(seen(label, 2.0, 0.5))
    (mug,) = walk.scene.objects()
    assert mug.name == "mug" and mug.count == 5 and mug.votes[0][0] == MUG


def test_two_halves_prove_to_be_one_when_the_whole_is_seen():
    walk = Walk()

    def part(x: float, width: float, visible: float) -> Detection:
        extent = np.array([width, 0.8, 0.7])
        return Detection(TABLE, np.array([x, 2.0, 0.35]), extent, np.eye(3) * 0.0025, 0.9, visible=visible)

    walk.look(part(-0.7, 0.4, 0.5))
    walk.look(part(0.7, 0.4, 0.5))
    assert len(walk.scene.objects("table")) == 2
    walk.look(part(0.0, 1.8, 1.0), times=3)
    (table,) = walk.scene.objects("table")
    assert table.id == 0 and walk.scene.object(1).id == 0
    assert abs(table.position[0]) < 0.15


def test_two_that_are_seen_side_by_side_stay_two():
    walk = Walk()
    walk.look(seen(BOOK, 2.0, 0.0), seen(BOOK, 2.0, 0.2), times=10)
    walk.look(seen(BOOK, 2.0, 0.1), times=1)
    assert len(walk.scene.objects("book")) == 2


def test_people_never_become_objects_but_events():
    walk = Walk()
    person = seen(PERSON, 2.0, 0.0, size=0.6)
    first = walk.look(person, seen(MUG, 2.0, 0.5))
    again = walk.look(person, seen(MUG, 2.0, 0.5), times=3)
    assert [o.name for o in walk.scene.objects()] == ["mug"]
    assert "saw person" in [e.text for e in first.events] and again.events == ()
    restored = SceneGraph(CONFIG)
    restored.import_rows(walk.scene.export_rows())
    assert restored.digest() == walk.scene.digest() and restored.passers.last == {PERSON: 3 * S}
    walk.step += 100
    assert [e.kind for e in walk.look(person).events] == ["met"]


def test_a_person_in_view_leaves_no_voxel_and_one_line_in_the_episodes():
    from embodied_mem.memory import Memory

    memory = Memory()
    scan = wall(2.0)
    labels = np.zeros(len(scan.points), np.int32)
    labels[:9600] = PERSON
    scan = dataclasses.replace(scan, labels=labels)
    person = seen(PERSON, 2.0, 0.0, size=0.6)
    memory.write(Percept(S, 0, Pose(), labels=LABELS, scans=(scan,), detections=(person,)))
    assert not (memory.octree.voxels(occupied=True).labels == memory.labels.id("person")).any()
    rest = dataclasses.replace(
        scan, points=scan.points[9600:], hit=scan.hit[9600:], labels=scan.labels[9600:]
    )
    other = Memory()
    other.write(Percept(S, 0, Pose(), labels=LABELS, scans=(rest,)))
    assert memory.octree.digest() == other.octree.digest()
    assert memory.scene.objects() == [] and "saw person" in str(memory.episodes.entry(0))


def test_relations_come_from_geometry():
    walk = Walk()
    table = Detection(TABLE, np.array([2.0, 0.0, 0.35]), np.array([1.0, 1.0, 0.7]), np.eye(3) * 1e-3, 0.9)
    walk.look(table, seen(MUG, 2.0, 0.1, 0.75), seen(BOOK, 2.0, 0.4, 0.75), times=4)
    ids = {o.name: o.id for o in walk.scene.objects()}
    of_mug = {(r.kind, r.other) for r in walk.scene.relations(ids["mug"])}
    assert of_mug == {("on", ids["table"]), ("next to", ids["book"])}
    assert walk.scene.relations(99) == []


def test_the_graph_is_exported(tmp_path):
    walk = Walk()
    walk.look(seen(MUG, 2.0, 0.5), times=3)
    walk.scene.to_json(tmp_path / "graph.json")
    tree = json.loads((tmp_path / "graph.json").read_text())
    assert tree["objects"][0]["label"] == "mug" and tree["objects"][0]["relations"] == []
    networkx = pytest.importorskip("networkx")
    graph = walk.scene.to_networkx()
    assert isinstance(graph, networkx.DiGraph) and graph.nodes["object", 0]["name"] == "mug"


def test_the_graph_goes_to_spark_dsg_and_back(tmp_path):
    dsg = pytest.importorskip("spark_dsg")
    walk = Walk()
    walk.look(seen(MUG, 2.0, 0.5), times=3)
    walk.scene.to_spark_dsg(tmp_path / "graph.json")
    graph = dsg.DynamicSceneGraph.load(str(tmp_path / "graph.json"))
    assert graph.get_node(dsg.NodeSymbol("O", 0)).attributes.name == "mug"


def test_a_restored_graph_still_knows_who_was_together_and_who_is_who():
    walk, old, new = Walk(), (2.0, 0.5, 0.8), (2.0, -0.8, 0.8)
    walk.look(seen(MUG, *old), scans=(through(new),), times=4)
    walk.look(seen(MUG, *new), times=3)
    walk.look(seen(BOOK, 2.0, 0.0), seen(BOOK, 2.0, 0.2), scans=(through(old),), times=5)
    again = SceneGraph(CONFIG)
    again.import_rows(walk.scene.export_rows())
    assert again.digest() == walk.scene.digest()
    assert again.object(1).id == 0 and again.identity.together == walk.scene.identity.together
    assert len(again.changes(since=3 * S)) == len(walk.scene.changes(since=3 * S)) == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"position": np.array([np.nan, 0, 0])},
        {"extent": np.array([0.1, -1.0, 0.1])},
        {"score": 0.0},
        {"yaw": np.nan},
        {"visible": np.inf},
    ],
)
def test_unusable_detections_are_dropped_and_lose_nothing(bad):
    walk = Walk()
    good = seen(MUG, 2.0, 0.5)
    walk.look(good, times=3)
    before = walk.scene.object(0)
    changes = walk.look(dataclasses.replace(seen(BOOK, 2.0, -0.5), **bad))
    assert changes.dropped == 1 and len(walk.scene.objects()) == 1
    assert walk.scene.object(0).existence == before.existence


def test_zero_size_unknown_labels_and_views_of_nothing_do_no_harm():
    walk = Walk()
    walk.look(seen(MUG, 2.0, 0.5, size=0.0), seen(77, 2.0, -0.5), times=3)
    walk.look()
    walk.look(
        scans=(Scan(np.empty((0, 3), np.float32), np.empty(0, bool), np.empty(0, np.int32), np.zeros(3)),)
    )
    assert len(walk.scene.objects()) == 2 and np.isfinite([o.position for o in walk.scene.objects()]).all()


def test_two_detections_of_one_object_in_a_frame_end_as_one():
    walk = Walk()
    walk.look(seen(MUG, 2.0, 0.5), times=5)
    walk.look(seen(MUG, 2.0, 0.5), seen(MUG, 2.01, 0.5))
    walk.look(seen(MUG, 2.0, 0.5), times=3)
    believed = [o for o in walk.scene.objects() if o.existence >= 0.5]
    assert [o.id for o in believed] == [0]


def test_a_detector_that_hallucinates_at_20_percent_is_not_believed_and_loses_nothing():
    walk, rng = Walk(), np.random.default_rng(0)
    real = [seen(MUG, 2.0, 0.5), seen(BOOK, 2.5, -0.5), seen(TABLE, 3.0, 1.0, 0.4, size=0.7)]
    invented = 0
    for _ in range(60):
        false = []
        if rng.random() < 3 * 0.2:
            x, y, z = rng.uniform((1.0, -2.0, 0.0), (4.0, 2.0, 1.5))
            false.append(seen(int(rng.integers(1, 4)), x, y, z, size=float(rng.uniform(0.1, 0.5))))
        invented += len(false)
        walk.look(*real, *false)
    believed = [o for o in walk.scene.objects() if o.existence >= 0.5]
    assert invented > 25
    assert [(o.id, o.name) for o in believed[:3]] == [(0, "mug"), (1, "book"), (2, "table")]
    assert len(believed) <= 3 + invented // 5
    assert np.allclose(believed[0].position, [2.0, 0.5, 0.8], atol=0.05)


def test_a_stamp_in_the_past_is_refused_and_changes_nothing():
    from embodied_mem.memory import Memory

    memory = Memory()
    memory.write(Percept(5 * S, 0, Pose(), labels=LABELS, detections=(seen(MUG, 2.0, 0.5),)))
    before = memory.digest()
    receipt = memory.write(Percept(4 * S, 1, Pose(), labels=LABELS, detections=(seen(BOOK, 2.0, 0.5),)))
    assert receipt.verdict == "rejected" and memory.digest() == before


HOME = SceneConfig(
    gate_sigma=3.5,
    pose_sigma=0.08,
    label_noise=0.05,
    prior=0.05,
    detection_rate=0.7,
    notice_rate=0.85,
    viewpoint=0.4,
    least_likeness=0.8,
    move_likeness=0.95,
)


def wall(distance: float, origin: tuple[float, float, float] = (0.0, 0.0, 0.9)) -> Scan:
    """Makes dense rays in the direction of x that end at a wall."""
    y, z = np.meshgrid(np.linspace(-1.5, 1.5, 160), np.linspace(-1.0, 1.0, 120))
    rays = np.stack([np.ones(y.size), y.ravel() / 2, z.ravel() / 2], axis=1) * distance
    points = (rays + np.array(origin)).astype(np.float32)
    return Scan(points, np.ones(len(points), bool), np.zeros(len(points), np.int32), np.array(origin))


def test_what_moved_a_hand_further_keeps_its_id_and_has_moved():
    walk = Walk(HOME)
    walk.look(seen(MUG, 2.0, 0.5), times=5)
    walk.look(seen(MUG, 2.0, 0.23), times=4)
    (mug,) = walk.scene.objects("mug")
    assert mug.id == 0 and np.allclose(mug.position, [2.0, 0.23, 0.8], atol=0.03)
    (change,) = walk.scene.changes(since=4 * S)
    assert change.kind == "moved" and change.last_before <= 5 * S
    assert np.allclose(change.before, [2.0, 0.5, 0.8], atol=0.03)


def test_what_is_only_seen_in_part_has_moved_when_it_is_seen_far_off_again_and_again():
    walk, old, new = Walk(HOME), (2.0, 0.5), (2.0, 0.85)
    walk.look(seen(BOOK, *old, size=0.2), times=4)
    walk.look(seen(BOOK, *new, size=0.15, visible=0.5), times=2)  # perhaps of another one
    (book,) = walk.scene.objects("book")
    assert np.allclose(book.position[:2], old, atol=0.03) and walk.scene.changes(3 * S) == []
    walk.look(seen(BOOK, *new, size=0.15, visible=0.5), times=3)
    (change,) = walk.scene.changes(3 * S)
    assert change.kind == "moved" and change.object_id == book.id
    assert np.allclose(change.before[:2], old, atol=0.03) and np.allclose(change.after[:2], new, atol=0.03)


def test_what_lies_on_another_shelf_has_moved_and_is_not_a_taller_thing():
    walk = Walk(HOME)
    walk.look(seen(BOOK, 2.0, 0.5, 0.8), times=5)
    walk.look(seen(BOOK, 2.0, 0.5, 1.1), times=4)
    (book,) = walk.scene.objects("book")
    (change,) = walk.scene.changes(since=4 * S)
    assert change.kind == "moved" and np.allclose(book.position, [2.0, 0.5, 1.1], atol=0.03)
    assert book.extent[2] < 0.15


def test_a_sighting_elsewhere_is_none_of_the_old_place():
    walk = Walk(HOME)
    walk.look(seen(MUG, 2.0, 0.5), times=3)
    walk.look(seen(MUG, 2.0, 0.22))
    o = walk.scene.object_table
    assert (
        o.counts[0] == 4
        and o.last_seen[0] == 2 * S
        and np.allclose(o.positions[0], [2.0, 0.5, 0.8], atol=0.01)
    )


NIGHT = 8 * 3600


def test_after_a_night_a_thing_is_believed_less_and_few_looks_tell_that_it_is_gone():
    for persistence, pause, looks in ((4 * 86_400.0, NIGHT, 3), (4 * 86_400.0, 10, 5), (0.0, NIGHT, 5)):
        walk = Walk(dataclasses.replace(HOME, persistence=persistence))
        walk.look(seen(MUG, 2.0, 0.0, 0.9, size=0.3), times=5)
        walk.step += pause
        walk.look(scans=(through((2.0, 0.0, 0.9)),), times=looks - 1)
        assert walk.scene.objects()[0].existence >= 0.5, (persistence, pause)
        walk.look(scans=(through((2.0, 0.0, 0.9)),))
        assert walk.scene.objects()[0].existence < 0.5, (persistence, pause)
        back = SceneGraph(walk.scene.config)
        back.import_rows(walk.scene.export_rows())
        assert back.digest() == walk.scene.digest()


def test_while_the_robot_looks_on_nothing_that_has_a_twin_moves_but_overnight_it_does():
    for pause, kinds in ((30, ["disappeared"]), (NIGHT, ["moved"])):
        walk, old, new = (
            Walk(dataclasses.replace(HOME, persistence=4 * 86_400.0)),
            (2.0, 0.8, 0.8),
            (2.0, -0.8, 0.8),
        )
        walk.look(seen(MUG, *old), scans=(through(new),), times=6)
        walk.step += pause
        walk.look(seen(MUG, *new), times=4)
        walk.look(seen(MUG, *new), scans=(through(old),), times=8)
        told = sorted(c.kind for c in walk.scene.changes(since=5 * S))
        assert told == kinds or told == sorted([*kinds, "appeared"]), (pause, told)


def test_a_piece_that_size_could_explain_moves_nothing():
    walk = Walk(HOME)
    walk.look(seen(TABLE, 2.5, 0.5, size=0.6), times=4)
    walk.look(seen(TABLE, 2.5, 0.7, size=0.2, visible=0.4), times=12)  # its one end
    assert walk.scene.changes(3 * S) == [] and len(walk.scene.objects()) == 1


def test_a_move_is_found_too_when_the_new_place_was_first_believed_a_little_elsewhere():
    walk, old, new = Walk(HOME), (2.0, 0.8, 0.8), (2.0, -0.8, 0.8)
    walk.look(seen(MUG, *old), scans=(through(new, (2.0, -0.55, 0.8)),), times=6)
    walk.look(seen(MUG, 2.0, -0.55), times=3)
    walk.look(seen(MUG, *new), times=4)
    assert (
        len(walk.scene.objects("mug")) == 2 and walk.scene.objects("mug")[1].history[0].valid_to is not None
    )
    walk.look(seen(MUG, *new), scans=(through(old),), times=8)
    (mug,) = walk.scene.objects("mug")
    (change,) = walk.scene.changes(since=5 * S)
    assert mug.id == 0 and change.kind == "moved"
    assert np.allclose(change.before, old, atol=0.03) and np.allclose(change.after, new, atol=0.03)


def test_a_single_sighting_that_strays_moves_nothing():
    walk = Walk(HOME)
    walk.look(seen(MUG, 2.0, 0.5), times=5)
    walk.look(seen(MUG, 2.0, 0.25))
    walk.look(seen(MUG, 2.0, 0.5), times=2)
    (mug,) = walk.scene.objects("mug")
    assert np.allclose(mug.position, [2.0, 0.5, 0.8], atol=0.01) and len(mug.history) == 1


def test_a_piece_with_a_wrong_label_is_told_by_its_colour():
    red, blue = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    for color, count in ((red, 1), (blue, 2)):
        walk = Walk(HOME)
        walk.look(seen(TABLE, 2.0, 0.5, size=0.8, embedding=red), times=5)
        walk.look(seen(BOOK, 1.65, 0.5, size=0.1, embedding=color, visible=0.5))
        assert len(walk.scene.objects()) == count


def test_another_colour_in_the_same_place_is_another_thing():
    red, blue = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    walk = Walk(HOME)
    walk.look(seen(MUG, 2.0, 0.5, embedding=red), times=5)
    walk.look(seen(MUG, 2.0, 0.4, embedding=blue), times=5)
    assert len(walk.scene.objects("mug")) == 2


def test_a_missing_thing_is_missed_less_by_a_second_look_from_the_same_place():
    odds = []
    for viewpoint in (0.0, 0.4):
        walk = Walk(dataclasses.replace(HOME, viewpoint=viewpoint))
        walk.look(seen(MUG, 2.0, 0.0, 0.9, size=0.3), times=5)
        walk.look(scans=(wall(4.0),), times=2)
        odds.append(walk.scene.object_table.log_odds[0])
    assert odds[0] < odds[1] - 0.2 < 4.0 - 1.2


def test_what_stands_behind_a_wall_is_not_missed_through_it():
    for distance, is_missed in ((1.6, False), (1.9, False), (2.05, True)):
        walk = Walk(HOME)
        walk.look(seen(TABLE, 2.3, 0.0, 0.9, size=0.6), times=5)
        walk.look(scans=(wall(distance),), times=4)
        assert (walk.scene.object_table.looks[0] > 0) == is_missed, distance


def test_from_a_side_it_was_never_seen_from_a_thing_is_not_missed():
    walk = Walk(HOME)
    walk.look(seen(TABLE, 2.0, 0.0, 0.9, size=0.6), times=5)
    back = Pose.from_xyz_yaw(4.0, 0.0, 0.0, np.pi)
    for step in range(10, 14):
        scan = wall(2.0)  # a surface where it stands: it may hide it, or be it
        walk.scene.update(Percept(step * S, step, back, labels=LABELS, scans=(scan,)), walk.tree, None)
    assert walk.scene.object_table.looks[0] == 0


def test_a_place_seen_often_without_a_thing_tells_that_it_is_new():
    for looks, kinds in ((6, ["appeared"]), (1, [])):
        walk = Walk(HOME)
        walk.look(scans=(wall(2.0),), times=looks)
        walk.look(seen(MUG, 2.04, 0.0, 0.9), scans=(wall(2.0),), times=4)
        assert [c.kind for c in walk.scene.changes(since=(looks - 1) * S)] == kinds
        again = SceneGraph(HOME)
        again.import_rows(walk.scene.export_rows())
        assert again.digest() == walk.scene.digest() and len(again.coverage) == len(walk.scene.coverage) > 0


def test_what_was_only_overlooked_for_a_while_has_not_appeared():
    walk, away = Walk(HOME), (2.0, 0.9, 0.9)
    walk.look(seen(MUG, 2.0, 0.0, 0.9, size=0.3), scans=(through(away),), times=5)
    walk.look(scans=(wall(4.0),), times=9)
    assert walk.scene.objects("mug")[0].existence < 0.5
    walk.look(seen(MUG, 2.0, 0.0, 0.9, size=0.3), seen(BOOK, *away, size=0.2), times=5)
    (change,) = walk.scene.changes(since=12 * S)
    assert change.kind == "appeared" and change.label == "book"


def test_a_part_beside_its_like_is_no_new_thing_unless_its_place_was_empty():
    for empty, kinds in ((False, []), (True, ["appeared"])):
        walk, part = Walk(HOME), (2.04, 0.3, 0.9)
        walk.look(seen(MUG, 2.04, 0.0, 0.9), scans=(through(part) if empty else wall(2.0),), times=6)
        walk.look(seen(MUG, 2.04, 0.0, 0.9), seen(MUG, *part), times=4)
        assert len(walk.scene.objects("mug")) == 2
        assert [c.kind for c in walk.scene.changes(since=5 * S)] == kinds


def test_few_sightings_of_furniture_tell_of_no_change():
    for count, kinds in ((4, []), (9, ["disappeared"])):
        walk = Walk(dataclasses.replace(HOME, least_count=3))
        walk.look(seen(TABLE, 2.0, 0.0, 0.9, size=0.8), times=count)
        walk.look(scans=(wall(4.0),), times=9)
        assert walk.scene.objects("table")[0].existence < 0.5
        assert [c.kind for c in walk.scene.changes(since=(count - 1) * S)] == kinds


def test_who_looks_through_a_place_in_view_sees_no_less_than_who_only_has_it_in_view():
    odds = []
    for distance in (2.05, 4.0):
        walk = Walk(HOME)
        walk.look(seen(MUG, 2.0, 0.0, 0.9, size=0.3), times=5)
        walk.look(scans=(wall(distance),))
        odds.append(walk.scene.object_table.log_odds[0])
    assert odds[1] <= odds[0] < 4.0

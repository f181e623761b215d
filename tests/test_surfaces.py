"""Promises about things that never became objects: their surface tells where they are."""

from __future__ import annotations

import numpy as np
import pytest

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.memory import Memory
from embodied_mem.types import Detection, LabelMap, Percept, Query, Scan

LABELS = LabelMap(("unknown", "wall", "fridge", "mug"))
FRIDGE, MUG = np.array([2.0, 0.5, 0.8]), np.array([1.5, -0.6, 0.9])


def surface(at: np.ndarray, size: float, label: int) -> tuple[np.ndarray, np.ndarray]:
    """Points on a square across the x axis, and their labels."""
    steps = np.arange(-size / 2, size / 2 + 1e-6, 0.02)
    y, z = np.meshgrid(steps, steps)
    points = at + np.stack([np.zeros(y.size), y.ravel(), z.ravel()], axis=1)
    return points.astype(np.float32), np.full(len(points), label, np.int32)


def look(memory: Memory, step: int, *seen, detections: tuple[Detection, ...] = ()) -> None:
    points, labels = (np.concatenate(parts) for parts in zip(*seen))
    scan = Scan(points, np.ones(len(points), bool), labels, np.zeros(3))
    pose = Pose.from_xyz_yaw(0.3 * (step % 2), 0.0, 0.0, 0.0)
    scan = Scan(pose.inverse().transform(points).astype(np.float32), scan.hit, labels, np.zeros(3))
    memory.write(Percept((step + 1) * 10**9, step, pose, labels=LABELS, scans=(scan,), detections=detections))


def mug_seen(step: int) -> Detection:
    """The mug as a detector tells of it, in the base frame of a step."""
    return Detection(3, MUG - [0.3 * (step % 2), 0, 0], np.full(3, 0.1), 1e-4 * np.eye(3))


@pytest.fixture
def memory() -> Memory:
    """A mug detected in the first two of four looks, in all of which it is in view beside a fridge."""
    memory = Memory()
    wall = surface(np.array([3.0, 0.0, 1.0]), 1.5, 1)
    for step in range(4):
        told = (mug_seen(step),) if step < 2 else ()
        look(memory, step, wall, surface(FRIDGE, 0.6, 2), surface(MUG, 0.12, 3), detections=told)
    return memory


def test_what_was_never_detected_is_found_by_its_surface(memory: Memory):
    assert not memory.scene.objects("fridge")
    (answer,) = memory.recall(Query(label="fridge"))
    assert answer.kind == "surface" and answer.label == "fridge" and answer.step == 3
    assert np.abs(answer.position - FRIDGE).max() <= 0.1
    assert answer.evidence == (3,) and answer.existence > 0.5
    told = memory.ask("where did I last see the fridge?")
    assert told.sentence.startswith("I last saw the fridge at (2.0, 0.5)")


def test_an_object_was_last_seen_when_its_surface_was(memory: Memory):
    (mug,) = memory.recall(Query(label="mug"))
    assert mug.kind == "object" and mug.step == 3 and "surface" in mug.why
    assert memory.scene.object(mug.id).last_seen == 2 * 10**9


def test_surfaces_are_asked_for_by_themselves_and_walls_are_none(memory: Memory):
    assert [a.label for a in memory.recall(Query(kind="surface"))] == ["fridge"]
    assert memory.recall(Query(kind="surface", near=(2.0, 0.5, 0.8), radius=0.3))[0].label == "fridge"
    assert not memory.recall(Query(kind="surface", near=(0.0, 5.0, 0.8), radius=0.3))
    assert {a.kind for a in memory.recall(Query(k=50))} <= {"object", "place", "room", "episode"}
    assert memory.recall(Query(label="wall"))[0].kind == "surface"


def test_a_few_voxels_are_no_thing():
    memory = Memory()
    look(memory, 0, surface(FRIDGE, 0.01, 2))
    assert not memory.recall(Query(label="fridge"))


def test_what_was_seen_later_is_not_told_as_of_earlier(memory: Memory):
    fridge = surface(FRIDGE, 0.6, 2)
    look(memory, 4, surface(FRIDGE + np.array([0.0, 3.0, 0.0]), 0.6, 2))
    assert len(memory.recall(Query(label="fridge"))) == 2
    (answer,) = memory.recall(Query(label="fridge", as_of=4 * 10**9))
    assert np.abs(answer.position - FRIDGE).max() <= 0.1
    assert not memory.recall(Query(label="fridge", until=3 * 10**9))
    look(memory, 5, fridge)
    assert memory.recall(Query(label="fridge", k=1))[0].step == 5


def test_what_is_forgotten_leaves_no_surface(memory: Memory):
    memory.forget("object", memory.scene.objects("mug")[0].id)
    assert not memory.recall(Query(label="mug")) and not memory.octree.labelled((3,)).labels.size
    assert memory.recall(Query(label="fridge"))
    stamps = memory.episodes.stamps.tolist()
    shift = Pose.from_xyz_yaw(1.0, 0.0, 0.0, 0.0)
    memory.correct({t: shift @ Pose.from_list(p) for t, p in zip(stamps, memory.episodes.poses.tolist())})
    step = 10
    while memory.contents.rebuild_left:
        look(memory, step, surface(FRIDGE, 0.6, 2))
        step += 1
    assert step > 10
    assert not memory.recall(Query(label="mug"))


def test_asking_changes_nothing(memory: Memory):
    before = memory.digest()
    memory.recall(Query(label="fridge"))
    memory.ask("what is there?")
    assert memory.digest() == before


@pytest.mark.parametrize(
    "query", [Query(room=99), Query(place=999, kind="episode"), Query(room=77, label="mug")]
)
def test_a_room_or_a_place_that_there_is_not_is_named_as_such(memory: Memory, query: Query):
    with pytest.raises(InputError, match=r"there is no (room|place) -?\d+; "):
        memory.recall(query)


def test_a_thing_with_an_unknown_name_has_never_been_seen(memory: Memory):
    answer = memory.ask("where did I last see the unicorn?")
    assert answer.sentence.startswith('I have never seen anything called "unicorn"') and not answer.answers
    assert answer.understood


def test_things_a_hand_apart_stay_two():
    memory = Memory()
    here, beside = surface(FRIDGE, 0.6, 2), surface(FRIDGE + np.array([0.0, 0.8, 0.0]), 0.6, 2)
    seen = Detection(2, FRIDGE, np.array([0.05, 0.2, 0.2]), 1e-4 * np.eye(3))
    look(memory, 0, here, detections=(seen,))
    look(memory, 2, beside)
    newest, older = memory.recall(Query(label="fridge"))
    assert (newest.kind, newest.step) == ("surface", 2) and (older.kind, older.step) == ("object", 0)

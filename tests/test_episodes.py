from __future__ import annotations

import hashlib

import grid_walk
import numpy as np
import pytest

from embodied_mem.errors import ConfigError, InputError, StoreError
from embodied_mem.geometry import Pose
from embodied_mem.memory import EpisodeConfig, Episodes, Memory
from embodied_mem.memory.episodes.encounters import Encounters
from embodied_mem.memory.episodes.row import HEAD
from embodied_mem.memory.episodes.vectors import unit
from embodied_mem.memory.scene.graph import SceneChanges, SceneEvent
from embodied_mem.types import NS_PER_S, Percept


def standing(step: int, *, x: float = 0.0, yaw: float = 0.0, **fields) -> Percept:
    return Percept((step + 1) * NS_PER_S // 10, step, Pose.from_xyz_yaw(x, 0.0, 0.0, yaw), **fields)


def changes(*seen: int, new: tuple[int, ...] = (), new_place: bool = False, events=()) -> SceneChanges:
    return SceneChanges(new, seen, 0, new_place, 0, events)


def started(**config) -> Episodes:
    episodes = Episodes(EpisodeConfig(**config))
    assert episodes.observe(standing(0, is_first=True), changes()) == 0
    return episodes


def test_standing_still_makes_no_entries():
    episodes = started()
    assert [episodes.observe(standing(i), changes()) for i in range(1, 50)] == [-1] * 49
    assert len(episodes) == 1


@pytest.mark.parametrize("config", [{"distance": 0.5}, {"distance": 1.0}])
def test_moving_makes_an_entry_every_so_many_metres(config: dict):
    episodes = started(**config)
    made = [episodes.observe(standing(i, x=0.1 * i), changes()) >= 0 for i in range(1, 41)]
    assert sum(made) == round(4.0 / config["distance"])


@pytest.mark.parametrize("direction", [1, -1])
def test_turning_makes_an_entry_every_so_many_radians(direction: int):
    episodes = started(angle=0.5)
    made = [episodes.observe(standing(i, yaw=direction * 0.1 * i), changes()) >= 0 for i in range(1, 31)]
    assert sum(made) == 6


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"event": "door_opened"}, {}),
        ({"text": "the cat was here"}, {}),
        ({"reward": -0.5}, {}),
        ({}, {"new": (7,)}),
        ({}, {"new_place": True}),
        ({}, {"events": (SceneEvent("gone", 3, "green key is gone"),)}),
        ({"is_first": True}, {}),
    ],
)
def test_what_is_new_or_happens_makes_an_entry(fields: dict, what: dict):
    assert started().observe(standing(1, **fields), changes(**what)) == 1


def test_an_object_makes_an_entry_when_it_comes_into_view_and_not_while_it_stays():
    episodes = started(gap=0.25)
    views = [(), (5,), (5,), (), (5,), (), (), (), (5,), (5,)]
    made = [episodes.observe(standing(i + 1), changes(*seen)) >= 0 for i, seen in enumerate(views)]
    assert made == [False, True, False, False, False, False, False, False, True, False]
    assert episodes.seen_in(5) == (2, 1)


def test_an_entry_holds_what_there_was_to_know():
    episodes = Episodes()
    percept = Percept(
        5_000, 3, Pose.from_xyz_yaw(1.0, 2.0, 3.0, 0.5), event="pickup", text="heavy", source="grid",
        action=np.array([0.1, -2.0]), reward=0.25, embedding=np.array([3.0, 4.0], np.float32),
    )  # fmt: skip
    made = SceneChanges((2,), (9, 2, 9), 4, True, 6, (SceneEvent("appeared", 2, "first saw key"),))
    entry = episodes.entry(episodes.observe(percept, made))
    assert entry is not None
    assert (entry.stamp, entry.step, entry.place_id, entry.room_id) == (5_000, 3, 4, 6)
    assert entry.pose.to_list() == percept.map_T_base.to_list()
    assert entry.object_ids == (2, 9)
    assert np.array_equal(np.asarray(entry.action), [0.1, -2.0])
    assert (entry.reward, entry.event, entry.text, entry.source) == (0.25, "pickup", "heavy", "grid")
    assert entry.changes == ((2, "first saw key"),)
    assert entry.embedding is not None and np.allclose(unit(entry.embedding), [0.6, 0.8], atol=5e-3)
    assert entry.trust == 1.0


@pytest.mark.parametrize("action", [None, 4, np.int64(-2), np.array(3), np.array([1.5]), np.array([])])
def test_every_kind_of_action_comes_back_as_it_was(action):
    episodes = Episodes()
    episodes.observe(standing(0, action=action, is_first=True), changes())
    kept = restored(episodes).at(0).action
    if action is None:
        assert kept is None
    elif np.ndim(action) == 0:
        assert kept == int(action)
    else:
        assert isinstance(kept, np.ndarray) and np.array_equal(kept, action)


def busy(count: int = 200) -> Episodes:
    rng = np.random.default_rng(0)
    episodes = Episodes()
    for i in range(count):
        percept = standing(i, x=0.3 * i, event="é" if i % 7 == 0 else "", reward=float(i % 3))
        if i >= 10 and i % 2:
            object.__setattr__(percept, "embedding", rng.normal(size=8).astype(np.float32))
        seen = tuple(rng.integers(0, 12, 3).tolist())
        events = (SceneEvent("state", int(seen[0]), f"object {seen[0]} is now open"),) if i % 5 == 0 else ()
        episodes.observe(percept, changes(*seen, events=events))
    return episodes


def restored(episodes: Episodes) -> Episodes:
    copy = Episodes(episodes.config)
    copy.import_rows(episodes.export_rows())
    copy.encounters.import_rows(episodes.encounters.export_rows())
    return copy


def test_exported_entries_come_back_with_the_same_digest():
    episodes = busy()
    copy = restored(episodes)
    assert len(copy) == len(episodes) == 200
    assert copy.digest() == episodes.digest()
    assert copy.seen_in(3) == episodes.seen_in(3)
    assert np.array_equal(copy.embeddings, episodes.embeddings)


def test_exporting_since_a_version_gives_what_changed_and_no_more():
    episodes = busy(20)
    version, encounters = episodes.version, episodes.encounters.version
    rows = dict(episodes.export_rows())
    spans = dict(episodes.encounters.export_rows())
    episodes.observe(standing(20, x=9.0), changes(1))
    episodes.forget(4)
    episodes.forget_object(2)
    changed = episodes.take_rows(version)()["episodes"]
    assert len(changed) < 20
    for number, payload in changed:
        rows[number] = payload
    for number, payload in episodes.encounters.export_rows(encounters):
        spans[number] = payload
    assert sorted((i, p) for i, p in rows.items() if p) == episodes.export_rows()
    assert sorted((i, p) for i, p in spans.items() if p) == episodes.encounters.export_rows()
    assert rows[4] == b""


def test_a_damaged_entry_is_found_out():
    number, payload = busy(3).export_rows()[1]
    for spoilt in (
        payload[:-1],
        payload + b"x",
        payload[:60],
        b"",
        payload[: HEAD.itemsize] + b"\xff" * 4 + payload[HEAD.itemsize + 4 :],
    ):
        with pytest.raises(StoreError, match="damaged"):
            Episodes().import_rows([(number, spoilt)])
    with pytest.raises(StoreError, match="damaged"):
        Episodes().import_rows([(number + 1, payload)])


def test_forgetting_an_entry_removes_it_everywhere_and_its_id_is_not_given_again():
    episodes = busy(30)
    last = int(episodes.ids[-1])
    words = list(episodes.with_word("é"))
    assert episodes.forget(words[1]) and episodes.forget(last)
    assert not episodes.forget(last)
    assert episodes.entry(last) is None and len(episodes) == 28
    assert words[1] not in episodes.with_word("é")
    assert all(last not in episodes.seen_in(i) for i in range(12))
    assert episodes.observe(standing(40, x=99.0), changes()) == last + 1
    assert restored(episodes).digest() == episodes.digest()


def test_forgetting_an_object_leaves_no_trace_of_it():
    memory = Memory(grid_walk.config())
    for step in range(30):
        memory.write(grid_walk.percept(step))
    key = memory.scene.objects("key")[0]
    assert memory.episodes.seen_in(key.id)
    before = len(memory.episodes)
    memory.forget("object", key.id)
    assert memory.episodes.seen_in(key.id) == () and len(memory.episodes) == before
    assert memory.episodes.encounters.last_between(key.id, None, None) is None
    assert not memory.episodes.with_word("key")
    assert all(b"key" not in payload for _, payload in memory.episodes.export_rows())


def test_snapshots_are_not_digested_and_everything_else_is():
    def digest(**fields) -> bytes:
        episodes = Episodes()
        episodes.observe(standing(0, **{"is_first": True, **fields}), changes(1))
        return episodes.digest()

    plain = digest()
    assert digest(snapshot=np.zeros((4, 4, 3), np.uint8)) == plain
    others = [
        digest(text="a"), digest(event="a"), digest(source="a"), digest(reward=1.0), digest(action=1),
        digest(x=1.0), digest(embedding=np.ones(2, np.float32)),
    ]  # fmt: skip
    assert len({plain, *others}) == 1 + len(others)
    assert len(plain) == hashlib.sha256().digest_size


def test_encounters_tell_when_an_object_was_in_view():
    encounters = Encounters(gap=2)
    seen = {1: [0, 1, 2, 10, 11, 30], 2: [5]}
    for stamp in range(40):
        encounters.observe([i for i, stamps in seen.items() if stamp in stamps], stamp)
    assert encounters.spans(1).tolist() == [[0, 2], [10, 11], [30, 30]]
    assert encounters.last_between(1, None, None) == (30, 30)
    assert encounters.last_between(1, 11, 29) == (11, 10)
    assert encounters.last_between(1, 3, 9) is None
    assert encounters.last_between(1, 31, None) is None
    assert encounters.last_between(1, None, 1) == (1, 0)
    assert encounters.last_between(2, 5, 5) == (5, 5)
    assert encounters.last_between(3, None, None) is None


def test_steps_and_stamps_are_converted_both_ways():
    episodes = Episodes(EpisodeConfig(distance=10.0))
    for i in range(100):
        episodes.observe(standing(i, x=0.3 * i), changes())
    assert len(episodes) < 10
    for step in (0, 1, 17, 40, 60, 99):
        stamp = (step + 1) * NS_PER_S // 10
        assert episodes.stamp_of_step(step) == stamp
        assert episodes.step_of(stamp) == step
    assert episodes.stamp_of_step(200) > episodes.stamp_of_step(99)
    assert episodes.stamp_of_step(-5) < episodes.first_stamp


def test_a_step_is_looked_for_in_the_newest_run():
    episodes = Episodes()
    for run in range(2):
        for i in range(50):
            stamp = NS_PER_S * (1 + 100 * run) + i * NS_PER_S // 10
            pose = Pose.from_xyz_yaw(float(i), 0.0, 0.0, 0.0)
            episodes.observe(Percept(stamp, i, pose, is_first=i == 0), changes())
    assert episodes.stamp_of_step(20) == NS_PER_S * 103
    assert episodes.step_of(NS_PER_S * 3) == 20


def test_an_empty_table_answers():
    episodes = Episodes()
    assert (len(episodes), episodes.first_stamp, episodes.stamp_of_step(3), episodes.step_of(3)) == (
        0,
        0,
        0,
        -1,
    )
    assert episodes.entry(0) is None and list(episodes) == [] and episodes.seen_in(0) == ()


def test_a_note_is_an_entry_in_words_at_the_newest_moment():
    memory = Memory(grid_walk.config())
    for step in range(3):
        memory.write(grid_walk.percept(step))
    entry = memory.episodes.entry(memory.note("the cat sleeps here"))
    assert entry is not None
    assert (entry.text, entry.event, entry.stamp, entry.step) == (
        "the cat sleeps here",
        "note",
        memory.stamp,
        2,
    )
    with pytest.raises(InputError, match="words"):
        memory.note("  ")


@pytest.mark.parametrize("bad", [{"distance": -1.0}, {"snapshot_quality": 101}, {"snapshot_size": 0}])
def test_wrong_settings_are_refused(bad: dict):
    with pytest.raises(ConfigError, match="episodes"):
        EpisodeConfig(**bad)

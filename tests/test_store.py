from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import grid_walk
import numpy as np
import pytest

from embodied_mem.errors import ConfigError, StoreError
from embodied_mem.memory import GateConfig, Memory, OctreeConfig, StoreConfig
from embodied_mem.memory.store.store import SCHEMA, Store
from embodied_mem.memory.store.writer import StoreWriter
from embodied_mem.types import LabelMap, Query

EAGER = StoreConfig(commit_interval=0.0)


def write(memory: Memory, first: int, last: int, **fields) -> None:
    for step in range(first, last):
        assert memory.write(grid_walk.percept(step, **fields)).verdict == "accepted"


def in_ram(steps: int) -> str:
    memory = Memory(grid_walk.config())
    write(memory, 0, steps)
    return memory.digest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home.emem"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A closed memory file and its digest."""
    path = tmp_path_factory.mktemp("store") / "finished.emem"
    with Memory.open(path, grid_walk.config()) as memory:
        for step in range(40):
            vector = np.random.default_rng(step).normal(size=32).astype(np.float32)
            image = np.full((24, 32, 3), step, np.uint8)
            memory.write(grid_walk.percept(step, embedding=vector, snapshot=image))
        memory.note("the end")
        return path, memory.digest()


# ---- keeping


@pytest.mark.parametrize("interval", [0.0, 0.05, 10.0])
def test_a_reopened_memory_is_the_same(path: Path, interval: float):
    with Memory.open(path, grid_walk.config(store=StoreConfig(commit_interval=interval))) as memory:
        write(memory, 0, 30)
        memory.forget("object", memory.scene.objects("key")[0].id)
        memory.forget("episode", 3)
        digest, identity, facts = memory.digest(), memory.map_id, memory.info()
    for read_only in (True, False):
        with Memory.open(path, read_only=read_only) as memory:
            assert memory.digest() == digest and memory.map_id == identity
            same = ("labels", "config", "writes", "commands", "sequence", "last_stamp", "voxels", "objects")
            assert all(memory.info()[key] == facts[key] for key in same)
            assert memory.durable_seq == memory.sequence == 32


def test_a_memory_that_was_closed_and_reopened_goes_on_as_if_it_had_not(path: Path):
    for first in range(0, 50, 7):
        with Memory.open(path, grid_walk.config()) as memory:
            write(memory, first, min(first + 7, 50))
    with Memory.open(path) as memory:
        assert memory.digest() == in_ram(50)


def test_ids_go_on_after_the_newest_was_forgotten(path: Path):
    with Memory.open(path, grid_walk.config()) as memory:
        write(memory, 0, 10)
        newest = int(memory.episodes.ids[-1])
        memory.forget("episode", newest)
    with Memory.open(path) as memory:
        assert memory.note("after") == newest + 1


@pytest.mark.parametrize("kind", ["object", "episode"])
def test_what_is_forgotten_first_thing_after_reopening_stays_forgotten(path: Path, kind: str):
    with Memory.open(path, grid_walk.config()) as memory:
        write(memory, 0, 30)
    with Memory.open(path) as memory:
        memory.forget(kind, memory.scene.objects("key")[0].id if kind == "object" else 3)
        digest = memory.digest()
    with Memory.open(path, read_only=True) as memory:
        assert memory.digest() == digest


def test_ram_memory_saves_to_a_file_that_goes_on(tmp_path: Path, path: Path):
    memory = Memory(grid_walk.config())
    write(memory, 0, 20, snapshot=np.full((8, 8, 3), 90, np.uint8))
    memory.save(path)
    write(memory, 20, 30)
    with Memory.open(path) as copy:
        assert copy.map_id == memory.map_id
        assert copy.snapshot(4) is not None
        write(copy, 20, 30)
        assert copy.digest() == memory.digest() == in_ram(30)
        copy.save(tmp_path / "third.emem")
    with Memory.open(tmp_path / "third.emem", read_only=True) as third:
        assert third.digest() == memory.digest() and third.snapshot(4) is not None
    with pytest.raises(StoreError, match="exists already"):
        memory.save(path)


def test_a_file_that_was_closed_is_one_file(path: Path):
    with Memory.open(path, grid_walk.config()) as memory:
        write(memory, 0, 10)
    with Memory.open(path, read_only=True) as memory:
        memory.recall(Query())
    assert list(path.parent.iterdir()) == [path]


def test_reading_only_leaves_the_file_as_it_is(finished):
    path, digest = finished
    before = path.read_bytes()
    with Memory.open(path, read_only=True) as memory:
        assert memory.digest() == digest
        memory.snapshot(0), memory.recall(Query(text="end")), memory.read(memory.map_T_base)
        for change in (lambda: memory.write(grid_walk.percept(90)), lambda: memory.note("x")):
            with pytest.raises(StoreError, match="read-only"):
                change()
    assert path.read_bytes() == before


def test_snapshots_are_in_the_file_and_go_with_their_entry(path: Path):
    with Memory.open(path, grid_walk.config()) as memory:
        write(memory, 0, 5, snapshot=np.full((8, 8, 3), 200, np.uint8))
        early = memory.snapshot(2)
        assert early is not None and abs(int(early.mean()) - 200) < 5
        memory.forget("episode", 2)
    with Memory.open(path) as memory:
        assert memory.snapshot(2) is None
        assert memory.snapshot(3) is not None


def test_an_image_that_nobody_can_change_is_not_copied(path: Path, monkeypatch: pytest.MonkeyPatch):
    copied = []
    copy = StoreWriter._copy
    monkeypatch.setattr(StoreWriter, "_copy", lambda self, image: copied.append(1) or copy(self, image))
    pixels = np.full((8, 8, 3), 40, np.uint8)
    frozen = np.frombuffer(pixels.tobytes(), np.uint8).reshape(8, 8, 3)
    view = pixels[:]
    view.flags.writeable = False  # yet who has `pixels` can write
    with Memory.open(path, grid_walk.config()) as memory:
        for step, image in enumerate((frozen, pixels, view)):
            memory.write(grid_walk.percept(step, snapshot=image))
        pixels[:] = 200
        shown = [memory.snapshot(step) for step in range(3)]
    assert len(copied) == 2 and all(image is not None and abs(image.mean() - 40) < 3 for image in shown)


def test_what_was_forgotten_is_no_longer_among_the_bytes_of_a_closed_file(path: Path):
    secret = "the-safe-is-behind-the-picture"
    with Memory.open(path, grid_walk.config()) as memory:
        for step in range(60):
            memory.write(grid_walk.percept(step))
            memory.note(f"{secret} {step} " + "x" * 9000)
        memory.flush()
        assert secret.encode() in path.read_bytes() + path.with_name(path.name + "-wal").read_bytes()
        for entry in [e.id for e in memory.episodes if secret in e.text]:
            memory.forget(entry)
    assert secret.encode() not in path.read_bytes()


def test_a_percepts_image_may_be_overwritten_after_the_write(path: Path):
    image = np.full((8, 8, 3), 200, np.uint8)
    with Memory.open(path, grid_walk.config(store=StoreConfig(commit_interval=60.0))) as memory:
        memory.write(grid_walk.percept(0, snapshot=image))
        memory.write(grid_walk.percept(1, snapshot=image))
        image[:] = 0
        memory.flush()
        assert memory.snapshot(1).mean() > 190


def test_rejected_writes_are_counted_in_the_file(path: Path):
    with Memory.open(path, grid_walk.config()) as memory:
        write(memory, 0, 3)
        memory.write(grid_walk.percept(1))
    with Memory.open(path) as memory:
        assert (memory.info()["writes"], memory.info()["rejected"]) == (3, 1)
        assert "not after" in memory.info()["last_rejection"]


def test_labels_and_settings_travel_in_the_file(path: Path):
    labels = LabelMap((*grid_walk.LABELS.names, "lamp"))
    given = grid_walk.config(gate=GateConfig(max_speed=3.5))
    with Memory.open(path, given) as memory:
        write(memory, 0, 1, labels=labels)
    with Memory.open(path) as memory:
        assert memory.labels == labels and memory.config == given
    changed = grid_walk.config(gate=GateConfig(max_speed=4.5))
    with Memory.open(path, changed):
        pass
    with Memory.open(path) as memory:
        assert memory.config == changed
    with pytest.raises(ConfigError, match=r"resolution=1\.0"):
        Memory.open(path, type(given)(octree=OctreeConfig(resolution=0.5)))
    assert not path.with_name(path.name + "-lock").exists()


# ---- durability


def test_a_write_is_acknowledged_once_it_is_in_the_file(path: Path):
    with Memory.open(path, grid_walk.config(store=StoreConfig(commit_interval=60.0))) as memory:
        first = memory.write(grid_walk.percept(0))
        memory.flush()
        assert memory.durable_seq == first.sequence == 1
        write(memory, 1, 10)
        assert memory.durable_seq == 1
        with Memory.open(path, read_only=True) as other:
            assert other.digest() == in_ram(1)
        memory.flush()
        assert memory.durable_seq == 10
        with Memory.open(path, read_only=True) as other:
            assert other.digest() == memory.digest()


def test_writes_become_durable_without_a_flush(path: Path):
    with Memory.open(path, grid_walk.config(store=EAGER)) as memory:
        deadline = time.monotonic() + 20
        step = 0
        while memory.durable_seq < 5 and time.monotonic() < deadline:
            memory.write(grid_walk.percept(step))
            step += 1
            time.sleep(0.005)
        assert memory.durable_seq >= 5


CHILD = """
import sys
import grid_walk
from embodied_mem.memory import Memory, StoreConfig
config = grid_walk.config(store=StoreConfig(commit_interval=0.0))
with Memory.open(sys.argv[1], config) as memory:
    step, told = memory.sequence, -1
    while True:
        memory.write(grid_walk.percept(step))
        step += 1
        if memory.durable_seq != told:
            told = memory.durable_seq
            print(told, flush=True)
"""


def test_kill_minus_9_loses_nothing_that_was_acknowledged(path: Path):
    rng = np.random.default_rng(11)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    reached = 0
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert child.stdout is not None
        told = [int(child.stdout.readline()) for _ in range(3)]
        time.sleep(float(rng.uniform(0.0, 0.4)))
        child.kill()
        told += [int(line) for line in child.stdout.read().split("\n")[:-1]]
        child.wait()
        with Memory.open(path, read_only=True) as memory:
            assert memory.sequence >= max(told) > reached
            # Octree, graph and episodes are those of one and the same number of writes.
            assert memory.digest() == in_ram(memory.sequence)
            reached = memory.sequence


def test_after_a_power_cut_all_parts_are_of_one_moment(tmp_path: Path, path: Path):
    wal = path.with_name(path.name + "-wal")
    with Memory.open(path, grid_walk.config(store=EAGER)) as memory:
        write(memory, 0, 10)
        memory.flush()
        safe = wal.stat().st_size
        for step in range(10, 20):
            memory.write(grid_walk.percept(step))
            memory.flush()
        database, log = path.read_bytes(), wal.read_bytes()
    assert len(log) > safe
    digests = {n: in_ram(n) for n in range(10, 21)}
    found = set()
    rng = np.random.default_rng(5)
    for number, cut in enumerate(sorted(rng.integers(safe, len(log) + 1, 12).tolist())):
        copy = tmp_path / f"cut{number}.emem"
        copy.write_bytes(database)
        # What was written after the last sync may be missing or garbage.
        garbage = rng.integers(0, 256, min(4096, len(log) - cut), dtype=np.uint8).tobytes()
        copy.with_name(copy.name + "-wal").write_bytes(log[:cut] + garbage)
        with Memory.open(copy) as cut_off:
            assert cut_off.digest() == digests[cut_off.sequence]
            found.add(cut_off.sequence)
    assert min(found) >= 10 and len(found) > 2


def test_a_transaction_is_in_the_file_whole_or_not_at_all(path: Path):
    store = Store.create(path, {"meta": [("a", b"1")]})
    with pytest.raises(StoreError):
        store.put({"episodes": [(1, b"x")], "graph": [("object", 1, b"y")], "octree": [("no int", b"z")]})
    assert store.load(["episodes", "graph", "meta"]) == {"episodes": [], "graph": [], "meta": [("a", b"1")]}
    store.put({"episodes": [(1, b"x"), (2, b"y")], "octree": [(7, b"z" * 1000)]})
    store.put({"episodes": [(1, b""), (2, b"new")]})
    assert store.load(["episodes", "octree"]) == {"episodes": [(2, b"new")], "octree": [(7, b"z" * 1000)]}
    assert store.get("episodes", 2) == b"new" and store.get("episodes", 1) is None
    store.close()


def test_the_loop_waits_for_the_disk_only_when_far_too_much_has_gathered(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    opened, put = threading.Event(), Store.put

    def slow(self: Store, tables) -> None:
        assert opened.wait(20)
        put(self, tables)

    monkeypatch.setattr(Store, "put", slow)
    config = grid_walk.config(store=StoreConfig(commit_interval=0.0, max_pending=10))
    memory = Memory.open(path, config)
    done: list[int] = []

    def run() -> None:
        for step in range(100):
            memory.write(grid_walk.percept(step))
            done.append(step)

    loop = threading.Thread(target=run)
    loop.start()
    while len(done) < 20:
        time.sleep(0.01)
    time.sleep(0.3)
    # One batch is being written, one of 10 waits, and 10 more have gathered: then the loop waits.
    assert 20 <= len(done) <= 22 and loop.is_alive()
    assert memory.durable_seq == 0
    opened.set()
    loop.join(20)
    assert len(done) == 100
    memory.close()
    with Memory.open(path) as again:
        assert again.digest() == in_ram(100)


# ---- what can be wrong with a file


def refuses(path: Path, *words: str, **how) -> None:
    for read_only in (True, False):
        with pytest.raises(StoreError) as error:
            Memory.open(path, read_only=read_only, **how)
        assert "\n" not in str(error.value)
        for word in (path.name, *words):
            assert word in str(error.value)
        assert not path.with_name(path.name + "-lock").exists()


@pytest.mark.parametrize("content", [b"hello, world\n" * 400, bytes(range(256)) * 64, b"x"])
def test_a_foreign_file_is_refused_and_left_alone(path: Path, content: bytes):
    path.write_bytes(content)
    refuses(path, "is not a memory file")
    assert path.read_bytes() == content and list(path.parent.iterdir()) == [path]


def test_a_foreign_database_is_refused_and_left_alone(path: Path):
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE t (x)")
    database.commit()
    database.close()
    before = path.read_bytes()
    refuses(path, "is not a memory file")
    assert path.read_bytes() == before


def test_a_file_of_a_newer_schema_is_refused(path: Path, finished):
    shutil.copy(finished[0], path)
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    database.close()
    refuses(path, "newer", "update")


def test_a_missing_file_can_be_created_but_not_read(path: Path, tmp_path: Path):
    with pytest.raises(StoreError, match="no such file"):
        Memory.open(path, read_only=True)
    with pytest.raises(StoreError, match="no such folder"):
        Memory.open(tmp_path / "nowhere" / "home.emem")
    with pytest.raises(StoreError, match="not a file"):
        Memory.open(tmp_path)
    path.touch()
    with pytest.raises(StoreError, match="empty"):
        Memory.open(path, read_only=True)
    with Memory.open(path) as memory:
        assert memory.sequence == 0


def test_damage_anywhere_is_found_or_harmless(path: Path, finished):
    whole = finished[0].read_bytes()
    rng = np.random.default_rng(2)
    refused = 0
    for _ in range(80):
        spoilt = bytearray(whole)
        at, length = int(rng.integers(100, len(whole))), int(rng.integers(1, 600))
        spoilt[at : at + length] = rng.integers(
            0, 256, len(spoilt[at : at + length]), dtype=np.uint8
        ).tobytes()
        path.write_bytes(spoilt)
        try:
            with Memory.open(path, read_only=True) as memory:
                assert memory.digest() == finished[1]
        except StoreError as error:
            assert "\n" not in str(error) and path.name in str(error)
            refused += 1
    assert refused >= 8


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_file_cut_short_is_refused(path: Path, finished, share: float):
    whole = finished[0].read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    refuses(path)


def test_a_second_writer_is_refused_and_readers_are_not(path: Path):
    with Memory.open(path, grid_walk.config()) as memory:
        write(memory, 0, 3)
        memory.flush()
        with pytest.raises(StoreError, match="being written by another program"):
            Memory.open(path)
        code = "import sys; from embodied_mem.memory import Memory; Memory.open(sys.argv[1])"
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
        assert done.returncode != 0 and "being written by another program" in done.stderr
        with Memory.open(path, read_only=True) as reader:
            assert reader.sequence == 3
        write(memory, 3, 6)
    with Memory.open(path) as memory:
        assert memory.digest() == in_ram(6)


def test_a_full_disk_is_said_in_one_line_and_what_was_acknowledged_is_kept(path: Path):
    memory = Memory.open(path, grid_walk.config(store=EAGER))
    write(memory, 0, 10)
    memory.flush()
    database = memory._archive.store._db
    database.execute(f"PRAGMA max_page_count = {database.execute('PRAGMA page_count').fetchone()[0] + 2}")
    rng = np.random.default_rng(0)
    with pytest.raises(StoreError, match="disk is full") as error:
        for step in range(10, 400):
            noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            memory.write(grid_walk.percept(step, snapshot=noise))
            memory.flush()
    assert "\n" not in str(error.value)
    safe = memory.durable_seq
    assert safe >= 10
    assert memory.recall(Query(kind="object"))
    with pytest.raises(StoreError, match="disk is full"):
        memory.write(grid_walk.percept(500))
    with pytest.raises(StoreError, match="disk is full"):
        memory.close()
    with Memory.open(path) as again:
        assert again.sequence == safe and again.digest() == in_ram(safe)


def test_what_went_wrong_first_is_what_is_raised(path: Path):
    with pytest.raises(ZeroDivisionError), Memory.open(path, grid_walk.config(store=EAGER)) as memory:
        write(memory, 0, 2)
        memory.flush()
        memory._archive.store._db.execute("DROP TABLE graph")
        memory.write(grid_walk.percept(2))
        raise ZeroDivisionError


def test_a_closed_memory_answers_but_takes_nothing_more(path: Path):
    memory = Memory.open(path, grid_walk.config())
    write(memory, 0, 5)
    memory.close()
    memory.close()
    assert memory.recall(Query(kind="object")) and memory.digest() == in_ram(5)
    with pytest.raises(StoreError, match="closed"):
        memory.write(grid_walk.percept(5))
    memory.flush()


def test_a_place_that_cannot_be_written_is_said_in_one_line(path: Path):
    path.with_name(path.name + "-lock").mkdir()
    with pytest.raises(StoreError, match=r"cannot write beside .*Is a directory"):
        Memory.open(path)


def test_the_file_holds_no_pickle_and_its_blocks_are_compressed(finished):
    database = sqlite3.connect(finished[0])
    for table in ("meta", "graph", "episodes", "encounters", "octree", "snapshots"):
        payloads = [row[0] for row in database.execute(f"SELECT payload FROM {table}")]
        assert payloads and not any(p.startswith(b"\x80\x04") for p in payloads)
        if table == "octree":
            assert all(p.startswith(b"\x28\xb5\x2f\xfd") for p in payloads)
    database.close()

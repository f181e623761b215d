"""Crashes: kill -9, power cuts, a full disk, a file that cannot be written: is anything lost?"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.errors import StoreError
from embodied_mem.memory import Memory, MemoryConfig, StoreConfig
from embodied_mem.memory.episodes.chunks import CHUNK
from embodied_mem.memory.store.check import check_file
from embodied_mem.types import Percept
from embodied_mem.verbs.bench_memory.size import PLACES, entries
from embodied_mem.verbs.bench_memory.workload import Rooms, grid_config, images, keyframes, know_objects

KILLS = 200
SEALING_KILLS, BACKLOG = 10, 24 * 1024
CUTS = 40
FRAMES = 12_000
NOBODY = 65534
PAGE = 4096


def measure() -> dict[str, Any]:
    """Returns `lost` (acknowledged writes that were not there, of all kills and cuts) and its parts."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        killed = kills(Path(folder), KILLS)
        sealed = sealing_kills(Path(folder), SEALING_KILLS)
        cut = power_cuts(Path(folder), CUTS)
        full, read_only = full_disk(Path(folder)), read_only_file(Path(folder))
    return {
        "lost": killed["lost"] + sealed["lost"] + cut["lost"] + full["lost"],
        "out_of_step": killed["out_of_step"] + cut["out_of_step"],
        "unclean": killed["unclean"] + sealed["unclean"] + cut["unclean"] + full["unclean"],
        "kills": killed,
        "sealing_kills": sealed,
        "power_cuts": cut,
        "full_disk": full,
        "read_only": read_only,
    }


def _frames(count: int) -> list[Percept]:
    small = images(4)[:, ::8, ::8].copy()
    return [replace(p, snapshot=small[k % 4]) for k, p in enumerate(keyframes(count, Rooms()))]


def _config() -> MemoryConfig:
    return grid_config(store=StoreConfig(commit_interval=0.0))


class _Twin:
    """A memory without a file that takes the same writes, and so tells what a file must hold."""

    def __init__(self, frames: list[Percept]) -> None:
        self._frames = frames
        self._memory = Memory(_config())

    def digest(self, sequence: int) -> str:
        """Returns the digest after so many writes; they can only grow."""
        while self._memory.sequence < sequence:
            self._memory.write(self._frames[self._memory.sequence])
        return self._memory.digest() if self._memory.sequence == sequence else "another"


def _write_on(path: Path, frames: list[Percept], told: int) -> None:
    """Writes for ever, and tells each new durable number; runs in a process that will be killed."""
    with Memory.open(path, _config()) as memory:
        newest = -1
        while True:
            memory.write(frames[memory.sequence])
            if memory.durable_seq != newest:
                newest = memory.durable_seq
                os.write(told, newest.to_bytes(8, "little"))


def _fork(work: Callable[[int], None]) -> tuple[Any, int]:
    """Starts a process that does some work with the writing end of a pipe; returns it and the other end."""
    ours, theirs = os.pipe()
    child = multiprocessing.get_context("fork").Process(target=work, args=(theirs,), daemon=True)
    child.start()
    os.close(theirs)
    return child, ours


def kills(folder: Path, count: int, seed: int = 0) -> dict[str, int]:
    """Kills a writing process `count` times at random moments, a new file every 20 times.

    Returns:
        `kills`, `writes` (that were acknowledged), and how many acknowledged writes were `lost`, how
        often parts were `out_of_step` with the number of writes, and how often a check was `unclean`.
    """
    rng = np.random.default_rng(seed)
    frames = _frames(FRAMES)
    found = {"kills": count, "writes": 0, "lost": 0, "out_of_step": 0, "unclean": 0}
    twin = _Twin(frames)
    for number in range(count):
        path = folder / f"killed{number // 20}.emem"
        if number % 20 == 0:
            twin = _Twin(frames)
        child, pipe = _fork(partial(_write_on, path, frames))
        first = os.read(pipe, 8)  # it has begun to write
        time.sleep(float(rng.uniform(0.0, 0.25)))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        told = first
        while more := os.read(pipe, 1 << 16):
            told += more
        os.close(pipe)
        durable = int.from_bytes(told[len(told) // 8 * 8 - 8 : len(told) // 8 * 8], "little")
        _judge(path, durable, twin, found)
        found["writes"] += durable if number % 20 == 19 or number == count - 1 else 0
    return found


def sealing_kills(folder: Path, count: int, seed: int = 2) -> dict[str, int]:
    """Kills a process while it closes a file and seals a backlog of entries, until all is sealed.

    Returns:
        `kills`, how often entries were `lost` or another, how often a check was `unclean`, and how often
        some of the backlog was sealed and some was not (`between`).
    """
    rng = np.random.default_rng(seed)
    path, found = folder / "sealing.emem", {"kills": count, "lost": 0, "unclean": 0, "between": 0}
    with Memory.open(path, _config()) as memory:
        know_objects(memory, 3 * PLACES)
        memory._done("accepted")
    for _ in range(count):

        def work(told: int) -> None:
            memory = Memory.open(path, _config())
            for entry in islice(entries(memory.episodes.next_id + BACKLOG), memory.episodes.next_id, None):
                memory.episodes.add(entry)
            memory._done("accepted")
            memory.flush()
            os.write(told, memory.digest().encode())
            memory.close()
            os._exit(0)

        child, pipe = _fork(work)
        digest = os.read(pipe, 64).decode()
        time.sleep(float(rng.uniform(0.0, 0.2)))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        os.close(pipe)
        with Memory.open(path, read_only=True) as memory:
            found["lost"] += memory.digest() != digest
            found["between"] += 0 < memory.episodes.backlog < BACKLOG // CHUNK - 1
        found["unclean"] += not check_file(path).is_clean
    return found


def _judge(path: Path, durable: int, twin: _Twin, found: dict[str, int]) -> None:
    with Memory.open(path, read_only=True) as memory:
        found["lost"] += max(durable - memory.sequence, 0)
        found["out_of_step"] += memory.digest() != twin.digest(memory.sequence)
    found["unclean"] += not check_file(path).is_clean


def power_cuts(folder: Path, count: int, seed: int = 1) -> dict[str, int]:
    """Damages what had been written after the last sync, in the WAL and in the database.

    The WAL is cut at a random byte and garbage follows; or the database's pages that a checkpoint
    was writing are garbage, and the WAL is still there.
    """
    rng = np.random.default_rng(seed)
    frames = _frames(240)
    path, wal = folder / "cut.emem", folder / "cut.emem-wal"
    with Memory.open(path, _config()) as memory:
        for percept in frames[:40]:
            memory.write(percept)
        memory.flush()
        _checkpoint(path)
        memory.write(frames[40])
        memory.flush()
        synced, safe = memory.durable_seq, wal.stat().st_size
        for percept in frames[41:80]:
            memory.write(percept)
            memory.flush()
        newest = memory.durable_seq
        database, log = path.read_bytes(), wal.read_bytes()
        _checkpoint(path)
        after = path.read_bytes()
    found = {"cuts": count, "lost": 0, "out_of_step": 0, "unclean": 0}
    digests = dict(_digests(frames, synced, newest))
    for number in range(count):
        copy = folder / f"cut{number}.emem"
        if number % 2:
            at, least = int(rng.integers(safe, len(log) + 1)), synced
            garbage = rng.integers(0, 256, min(8192, len(log) - at), dtype=np.uint8).tobytes()
            files = (database, log[:at] + garbage)
        else:
            files, least = (_half_written(database, after, rng), log), newest
        copy.write_bytes(files[0])
        copy.with_name(copy.name + "-wal").write_bytes(files[1])
        with Memory.open(copy) as memory:
            found["lost"] += max(least - memory.sequence, 0)
            found["out_of_step"] += memory.digest() != digests.get(memory.sequence)
        found["unclean"] += not check_file(copy).is_clean
    return found


def _digests(frames: list[Percept], first: int, last: int) -> list[tuple[int, str]]:
    twin = _Twin(frames)
    return [(n, twin.digest(n)) for n in range(first, last + 1)]


def _checkpoint(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    other.close()


def _half_written(before: bytes, after: bytes, rng: np.random.Generator) -> bytes:
    """Returns a database in which a checkpoint was cut off: some pages old, some new, some garbage."""
    pages = []
    for at in range(0, len(after), PAGE):
        old, new = before[at : at + PAGE], after[at : at + PAGE]
        which = int(rng.integers(3)) if old != new else 1
        noise = rng.integers(0, 256, PAGE, dtype=np.uint8).tobytes()
        pages.append((old, new, old[: PAGE // 2] + noise[PAGE // 2 :] if old else noise)[which])
    return b"".join(pages)


def full_disk(folder: Path) -> dict[str, Any]:
    """Writes until the file may not grow any more; what was acknowledged before must be there."""
    path, frames = folder / "full.emem", _frames(2000)

    def work(told: int) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with Memory.open(path, _config()) as memory:
            memory.write(frames[0])
            memory.flush()
            resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
            said = ""
            while not said:
                try:
                    memory.write(frames[memory.sequence])
                except StoreError as error:
                    said = str(error)
            os.write(told, memory.durable_seq.to_bytes(8, "little") + said.encode())
            os._exit(0)

    child, pipe = _fork(work)
    told = b""
    while more := os.read(pipe, 1 << 16):
        told += more
    child.join()
    os.close(pipe)
    durable, said = int.from_bytes(told[:8], "little"), told[8:].decode().replace(str(path), path.name)
    with Memory.open(path, read_only=True) as memory:
        lost = max(durable - memory.sequence, 0)
    return {
        "acknowledged": durable,
        "lost": lost,
        "unclean": int(not check_file(path).is_clean),
        "said": said,
    }


def read_only_file(folder: Path) -> dict[str, Any]:
    """Opens a file that must not be written, as a user without rights to it."""
    place = folder / "read_only"
    place.mkdir()
    path = place / "home.emem"
    with Memory.open(path, _config()) as memory:
        for percept in _frames(10):
            memory.write(percept)
        digest = memory.digest()
    path.chmod(0o444)
    place.chmod(0o555)

    def work(told: int) -> None:
        if os.getuid() == 0:
            os.setuid(NOBODY)
        try:
            Memory.open(path)
            said = "opened for writing"
        except StoreError as error:
            said = str(error).replace(str(folder), "")
        with Memory.open(path, read_only=True) as memory:
            os.write(told, bytes([memory.digest() == digest]) + said.encode())
        os._exit(0)

    child, pipe = _fork(work)
    told = os.read(pipe, 1 << 16)
    child.join()
    os.close(pipe)
    place.chmod(0o755)
    shutil.rmtree(place)
    return {"reads": bool(told[:1] == b"\x01"), "said": told[1:].decode()}

"""Rebuilding a memory from a log: the one loop, over a logged world."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from embodied_mem.configs import from_mapping
from embodied_mem.errors import EmbodiedMemError, LogError
from embodied_mem.log.world import LoggedWorld
from embodied_mem.loop import Loop, Moment
from embodied_mem.memory import Memory, MemoryConfig, OctreeConfig
from embodied_mem.perception import Perception, PerceptionConfig

RGBD_MEMORY = MemoryConfig(octree=OctreeConfig(resolution=0.05, max_range=5.0))
"""The memory's settings for a foreign bag, which records none."""


@dataclass(frozen=True)
class ReplayResult:
    """What a replay came to.

    Attributes:
        digest: of the rebuilt memory.
        recorded_digest: the digest that the log records, or None.
        verified: whether the two agree; None where that was not asked for, or cannot be told.
        frames: observations replayed.
        rejected: observations that the memory's gate did not let in.
        warnings: what could not be read or was left out, one line each.
        timings: seconds by part: "world", "perceive", "write", "read", "save", "total".
        memory: the .emem file written, or None.
        picture: the map drawn, or None.
        objects: how many the memory knows of.
    """

    digest: str
    recorded_digest: str | None
    verified: bool | None
    frames: int
    rejected: int
    warnings: tuple[str, ...]
    timings: Mapping[str, float]
    memory: Path | None = None
    picture: Path | None = None
    objects: int = 0


def replay(
    log: str | Path,
    *,
    out: str | Path | None = None,
    verify: bool = False,
    config: MemoryConfig | None = None,
    perception: PerceptionConfig | None = None,
    remap: Mapping[str, str] | None = None,
    mask: str | Path | None = None,
    on_step: Callable[[int], None] | None = None,
    watch: Callable[[Memory], Callable[[Moment], None]] | None = None,
) -> ReplayResult:
    """Rebuilds the memory of a log.

    Our own logs bring the memory's settings with them and follow their ledger; a foreign bag is
    mapped with `RGBD_MEMORY`. The same log gives the same digest on one machine.

    Args:
        log: an MCAP file, a rosbag2 folder, or a .db3.
        out: folder for `memory.emem` and `map.png`, made where it is missing; those of an earlier
            replay in it are replaced. Nothing is written where it is None.
        verify: compare with the digest that the log records.
        config: the memory's settings, instead of the recorded or default ones.
        perception: perception's settings, likewise.
        remap: role -> topic for a foreign bag: color, depth, semantic, color_info, depth_info,
            semantic_info, boxes, odom, points, scan; depth2, scan2, ... for further ones.
        mask: an image that is not black where the first camera of a foreign bag sees the robot itself.
        on_step: told the number of observations done.
        watch: given the memory, returns one more listener of the loop, such as a viewer.

    Raises:
        LogError: the log cannot be used.
        ConfigError: recorded settings or a remap cannot be understood.
    """
    start = time.perf_counter()
    seconds: dict[str, float] = defaultdict(float, world=0.0, perceive=0.0, write=0.0, read=0.0, save=0.0)
    with LoggedWorld(log, remap, mask) as world:
        memory = Memory(config or _recorded_config(world))
        sees = perception or from_mapping(PerceptionConfig, world.perception_config or {})
        verdicts = _Verdicts(world, on_step)
        loop = Loop(
            _timed_parts(world, seconds, observe="world"),
            _timed(Perception(sees), seconds, "perceive"),
            _timed_parts(memory, seconds, write="write", read="read"),
            listeners=[verdicts, watch(memory)] if watch else [verdicts],
        )
        loop.run()
        for command in world.trailing_commands:
            memory.apply(command)
        if verdicts.frames == 0:
            reasons = "; ".join(world.warnings)
            raise LogError(f"{log} holds nothing to replay{f' ({reasons})' if reasons else ''}")
        digest = memory.digest()
        warnings = [*world.warnings, *verdicts.warnings()]
        others = config is not None or perception is not None
        verified = _verify(digest, world, warnings, others) if verify else None
        saved, picture = None, None
        if out is not None:
            saved, picture = _timed(_save, seconds, "save")(memory, Path(out), str(log), warnings)
        seconds["total"] = time.perf_counter() - start
        return ReplayResult(
            digest=digest,
            recorded_digest=world.digest,
            verified=verified,
            frames=verdicts.frames,
            rejected=verdicts.rejected,
            objects=len(memory.scene.objects()),
            warnings=tuple(warnings),
            timings=dict(seconds),
            memory=saved,
            picture=picture,
        )


def rebuild(
    log: str | Path,
    on_step: Callable[[int], None] = lambda steps: None,
    listeners: Sequence[Callable[[Moment], None]] = (),
) -> Memory:
    """Returns the memory that a log gives, in RAM.

    Args:
        log: an MCAP file, a rosbag2 folder, or a .db3.
        on_step: told the number of observations done.
        listeners: told every moment.

    Raises:
        LogError: the log cannot be used.
    """
    with LoggedWorld(log) as world:
        memory = Memory(_recorded_config(world))
        perception = Perception(from_mapping(PerceptionConfig, world.perception_config or {}))
        Loop(world, perception, memory, listeners=[_Verdicts(world, on_step), *listeners]).run()
        for command in world.trailing_commands:
            memory.apply(command)
    return memory


def _recorded_config(world: LoggedWorld) -> MemoryConfig:
    if world.memory_config is None:
        return RGBD_MEMORY
    return from_mapping(MemoryConfig, world.memory_config, "/memory/config")


class _Verdicts:
    """Counts steps, and compares the gate's verdicts with the ledger's."""

    def __init__(self, world: LoggedWorld, on_step: Callable[[int], None] | None) -> None:
        self.frames = 0
        self.rejected = 0
        self._world = world
        self._on_step = on_step
        self._first_rejection = ""
        self._first_difference = ""

    def __call__(self, moment: Moment) -> None:
        self.frames += 1
        step, receipt = moment.obs.step, moment.receipt
        if receipt.verdict != "accepted":
            self.rejected += 1
            self._first_rejection = self._first_rejection or f"step {step}: {receipt.reason}"
        ledger = self._world.ledger_step
        if ledger is not None and ledger["verdict"] != receipt.verdict and not self._first_difference:
            reason = ledger["reason"] or receipt.reason
            self._first_difference = (
                f"at step {step} the log says {ledger['verdict']}, the replay {receipt.verdict} ({reason})"
            )
        if self._on_step is not None:
            self._on_step(self.frames)

    def warnings(self) -> list[str]:
        lines = []
        if self.rejected:
            lines.append(
                f"{self.rejected} of {self.frames} observations rejected, first at {self._first_rejection}"
            )
        return [*lines, self._first_difference] if self._first_difference else lines


def _verify(digest: str, world: LoggedWorld, warnings: list[str], other_config: bool) -> bool | None:
    if world.digest is None:
        warnings.append("not verified: the log records no digest")
        return None
    if other_config:
        warnings.append("the memory was rebuilt with other settings than the recorded ones")
    return digest == world.digest


def _save(memory: Memory, out: Path, log: str, warnings: list[str]) -> tuple[Path, Path | None]:
    """Writes memory.emem and map.png; without what draws it, the picture is left out."""
    out.mkdir(parents=True, exist_ok=True)
    path, picture = out / "memory.emem", out / "map.png"
    for stale in (*out.glob("memory.emem*"), picture):
        stale.unlink(missing_ok=True)
    memory.save(path)
    try:
        from embodied_mem.viz.map_view import draw_map

        draw_map(memory, picture, title=Path(log).stem)
    except ImportError as error:
        warnings.append(f"no map.png: {error}; install the extra: pip install embodied-mem[viz]")
        return path, None
    except EmbodiedMemError as error:
        warnings.append(f"no map.png: {error}")
        return path, None
    return path, picture


def _timed(function: Callable[..., Any], seconds: dict[str, float], part: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[part] += time.perf_counter() - start

    return call


def _timed_parts(owner: Any, seconds: dict[str, float], **parts: str) -> Any:
    """Returns a stand-in for a world or a memory whose named methods are timed."""
    names = {"observe": "act", "write": "apply"}
    methods = {name: _timed(getattr(owner, name), seconds, part) for name, part in parts.items()}
    methods |= {other: getattr(owner, other) for name, other in names.items() if name in parts}
    return SimpleNamespace(**methods)

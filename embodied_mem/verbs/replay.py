"""Rebuild the memory of a log, and compare it with what the log says it was."""

from __future__ import annotations

import json as json_format
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embodied_mem.errors import ConfigError
from embodied_mem.memory import MemoryConfig
from embodied_mem.perception import PerceptionConfig
from embodied_mem.verbs.interrupt import telling
from embodied_mem.verbs.progress import replaying


@dataclass(frozen=True)
class ReplaySettings:
    """Settings that a log does not bring with it, or that are to be others."""

    memory: MemoryConfig | None = None
    """Of the memory; the recorded ones, or those for cameras, where left out."""
    perception: PerceptionConfig | None = None
    """Of perception; likewise."""
    body_mask: str = ""
    """An image that is not black where the first camera of a foreign bag sees the robot itself."""


def replay(
    log: Path,
    out: Path | None = None,
    verify: bool = False,
    remap: tuple[str, ...] = (),
    settings: Path | None = None,
    json: bool = False,
) -> int:
    """Rebuild the memory of a log: an MCAP file, a rosbag2 folder or a .db3.

    Examples:
        embodied-mem replay runs/demo/episode.mcap --verify    # the recorded digest again, or exit code 1
        embodied-mem replay my_bag/ --out runs/my_bag          # memory.emem and map.png from a rosbag2 folder
        embodied-mem replay my_bag/ --remap depth:=/cam/depth/image_raw color:=/cam/color/image_raw
        embodied-mem replay my_bag/ --remap points:=/velodyne_points depth2:=/rear/depth/image_raw

    Args:
        log: what to replay.
        out: folder for memory.emem and map.png; nothing is written where it is left out.
        verify: compare the digest with the one recorded in the log; exit code 1 unless they agree.
        remap: inputs by hand, as role:=topic, for example depth:=/cam/depth/image_raw.
        settings: a YAML file with other settings under `memory` and `perception`, such as a detector's.
        json: print JSON: digest, frames, warnings, timings.
    """
    report = replay_report(log, out=out, verify=verify, remap=remap, settings=settings, progress=not json)
    if json:
        print(json_format.dumps(report, indent=2))
    else:
        print("\n".join(_lines(report)))
    return 1 if verify and report["verified"] is not True else 0


def replay_report(
    log: Path,
    *,
    out: Path | None = None,
    verify: bool = False,
    remap: tuple[str, ...] = (),
    settings: Path | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Replays a log and returns JSON-ready facts about it.

    Args:
        log: an MCAP file, a rosbag2 folder or a .db3.
        out: folder for memory.emem and map.png, or None.
        verify: compare the digest with the recorded one.
        remap: inputs by hand, as role:=topic.
        settings: a YAML file for `ReplaySettings`, or None.
        progress: show a bar on a terminal.

    Raises:
        LogError: the log cannot be used.
        ConfigError: the settings cannot be understood.
    """
    from embodied_mem.configs import load_config
    from embodied_mem.log.replay import replay as run

    chosen = ReplaySettings() if settings is None else load_config(ReplaySettings, settings)
    nothing = "nothing was written; the same command starts again"
    with telling(nothing), replaying(log, shown=progress) as on_step:
        result = run(
            log,
            out=out,
            verify=verify,
            config=chosen.memory,
            perception=chosen.perception,
            remap=parse_remaps(remap),
            mask=chosen.body_mask or None,
            on_step=on_step,
        )
    return {
        "log": str(log),
        "digest": result.digest,
        "recorded_digest": result.recorded_digest,
        "verified": result.verified,
        "frames": result.frames,
        "rejected": result.rejected,
        "objects": result.objects,
        "warnings": list(result.warnings),
        "timings": dict(result.timings),
        "memory": None if result.memory is None else str(result.memory),
        "map": None if result.picture is None else str(result.picture),
    }


def parse_remaps(remaps: tuple[str, ...]) -> dict[str, str]:
    """Reads `role:=topic` pairs.

    Raises:
        ConfigError: one of them is not of that form.
    """
    pairs = {}
    for remap in remaps:
        role, separator, topic = remap.partition(":=")
        if not (role and separator and topic):
            raise ConfigError(
                f'"{remap}" is no remap: write role:=topic, for example depth:=/cam/depth/image_raw'
            )
        pairs[role] = topic
    return pairs


def _lines(report: dict[str, Any]) -> list[str]:
    lines = [f"warning: {warning}" for warning in report["warnings"]]
    lines.append(
        f"{report['frames']} frames, {report['rejected']} rejected, {report['timings']['total']:.1f} s"
    )
    if not report["objects"]:
        lines.append(
            "no objects: the log has neither label images nor detections, or they show none; "
            "`embodied-mem guide replay` tells how to run a detector"
        )
    lines.append(f"digest    {report['digest']}")
    if report["recorded_digest"]:
        lines.append(f"recorded  {report['recorded_digest']}")
    if report["verified"] is not None:
        lines.append("verified: the same memory" if report["verified"] else "NOT the same memory")
    lines += [f"{key:<8}  {report[key]}" for key in ("memory", "map") if report[key]]
    return lines

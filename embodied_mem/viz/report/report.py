"""The report of a run's folder, or of a memory alone."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from embodied_mem.errors import InputError
from embodied_mem.memory import Memory
from embodied_mem.types import NS_PER_S
from embodied_mem.viz.report.memory_sections import memory_sections
from embodied_mem.viz.report.page import page
from embodied_mem.viz.report.run_sections import run_sections

SINCE_2001 = 1_000_000_000 * NS_PER_S
"""Stamps from here on are dates; smaller ones are a simulator's clock [ns]."""


def write_report(source: Path, out: Path) -> list[str]:
    """Writes one self-contained HTML page.

    Args:
        source: a run's folder, with a memory (`*.emem`), curves, results or settings in it; or an
            .emem file.
        out: the file to write.

    Returns:
        the titles of its sections.

    Raises:
        InputError: there is nothing to report on.
        EmbodiedMemError: the memory cannot be read.
    """
    if not source.exists():
        raise InputError(f"no such run: {source}")
    memories = [source] if source.is_file() else sorted(source.glob("*.emem"))
    sections, subtitle = [], ""
    for path in memories[:1]:
        with Memory.open(path, read_only=True) as memory:
            sections += memory_sections(memory)
            subtitle = _when(memory)
    if source.is_dir():
        sections += run_sections(source)
    if not sections:
        raise InputError(f"{source} holds no memory, curve, result or setting to report on")
    name = source.name or str(source)
    out.write_text(page(f"embodied-mem: {name}", subtitle, sections), encoding="utf-8")
    return [section.title for section in sections]


def _when(memory: Memory) -> str:
    if not len(memory.episodes):
        return "an empty memory"
    first, last = memory.episodes.first_stamp, memory.stamp
    if first >= SINCE_2001:
        return f"from {_date(first)} to {_date(last)}"
    return f"{(last - first) / NS_PER_S:.1f} s of a simulator's clock"


def _date(stamp: int) -> str:
    return datetime.fromtimestamp(stamp / NS_PER_S, timezone.utc).isoformat(" ", "seconds")

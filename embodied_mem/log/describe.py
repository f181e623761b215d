"""What is in a log, told without decoding its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from embodied_mem.log import topics
from embodied_mem.log.ledger import LedgerSource
from embodied_mem.log.reader import LogReader
from embodied_mem.types import NS_PER_S


def describe_log(path: str | Path) -> dict[str, Any]:
    """Returns JSON-ready facts about a log, from its index.

    Returns:
        `format`, `messages`, `start` [ns], `duration` [s], `ledger` (True for our own logs), for
        those `steps`, `digest` and `settings`; `topics` (name, type, count), `warnings`.

    Raises:
        LogError: it is not a log.
    """
    with LogReader(path) as reader:
        facts: dict[str, Any] = {
            "format": reader.format,
            "messages": reader.count,
            "start": reader.start,
            "duration": (reader.end - reader.start) / NS_PER_S,
            "ledger": LedgerSource.recognises(reader),
        }
        if facts["ledger"]:
            ledger = LedgerSource(reader)
            steps = reader.topics.get(topics.STEP.name)
            facts["steps"] = 0 if steps is None else steps.count
            facts["digest"] = ledger.digest
            facts["settings"] = ledger.config
        facts["topics"] = [
            {"name": info.name, "type": info.type, "count": info.count}
            for _, info in sorted(reader.topics.items())
        ]
        facts["warnings"] = list(reader.warnings)
        return facts

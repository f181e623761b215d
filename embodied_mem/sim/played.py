"""Episodes that were played already, in a file: evaluations go on where they were cut off, and are pooled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.errors import InputError
from embodied_mem.sim.evaluation import EpisodeResult

HEAD = '{"facts": '
"""What every line begins with."""


class Played:
    """Results by seed in a file of JSON lines, which several evaluations can share.

    Args:
        path: the file; it need not be there yet.
        facts: JSON-ready settings that a result must have been played with to count.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path = path
        self._facts = json.loads(json.dumps(facts))
        self._results: dict[int, EpisodeResult] = {}
        try:
            lines = path.read_text().splitlines() if path.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {path}: {error}") from None
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                result = EpisodeResult(row["seed"], row["steps"], row["total_reward"], row["info"])
                fits = row["facts"] == self._facts
            except (ValueError, KeyError, TypeError):
                if line.startswith(HEAD):  # whoever wrote it was cut off
                    continue
                raise InputError(f"{path}, line {number}: no result of an evaluation") from None
            if fits:
                self._results[result.seed] = result

    def get(self, seed: int) -> EpisodeResult | None:
        """Returns the result of a seed, None where it has not been played."""
        return self._results.get(seed)

    def add(self, result: EpisodeResult) -> None:
        """Appends a result.

        Raises:
            InputError: the file cannot be written.
        """
        row = {"facts": self._facts, "seed": result.seed, "steps": result.steps}
        line = json.dumps({**row, "total_reward": result.total_reward, "info": result.info}, default=_plain)
        try:
            cut_off = self.path.exists() and self.path.read_bytes()[-1:] not in (b"", b"\n")
            with self.path.open("a") as file:
                file.write(("\n" if cut_off else "") + line + "\n")
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from None


def _plain(value: Any) -> Any:
    """Turns NumPy's numbers and arrays into what JSON knows."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"no JSON for {type(value).__name__}")

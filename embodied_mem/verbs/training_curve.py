"""The curve of a training, as `curve.csv` keeps it."""

from __future__ import annotations

import csv
from pathlib import Path

from embodied_mem.errors import InputError


def read_curve(path: Path) -> list[dict[str, float]]:
    """Returns the lines of a curve: step, seconds, and the means of return, success and counts.

    Raises:
        InputError: the file is no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                {k: float(v) for k, v in row.items() if v not in (None, "")} for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is no curve of a training: {error}") from None

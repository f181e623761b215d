"""Rows of tables as plain values, taken while another thread works."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def plain_rows(table: NDArray[Any], rows: list[int]) -> list[Any]:
    """Returns rows of a table as plain values.

    Of a table with several columns numpy takes rows without the interpreter's lock, however few they are:
    where the writer's thread works that may cost a switch of threads. One by one costs less.
    """
    if table.ndim > 1:
        return [table[row].tolist() for row in rows]
    values: list[Any] = table[rows].tolist()
    return values


def rows_of(ids: NDArray[np.int64], wanted: Iterable[int]) -> list[int]:
    """Returns the rows of ids that are in a sorted column; as `plain_rows`, with the interpreter's lock."""
    held: list[int] = ids.tolist()
    return [bisect_left(held, number) for number in wanted]

"""Rows of a pass in few, well-filled bins, so that attention wastes little on padding.

Rows of one pass differ in length: trials end early, segments are jittered. A bin is as long as the
longest row and holds several; tokens see their own row only. Slots belong to a bin as keys, so that a
bin has at most one row that holds slots.

    row 0  o o o o o o q q        bin 0  o o o o o o q q
    row 1  o o o                  bin 1  o o o|o o|o q q
    row 2  o q q            ->
    row 3  o o
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embodied_mem.policy.attention import Grid

FULL = 0.8
"""Rows that fill their places as well as this are left as they are."""


@dataclass(frozen=True, eq=False)
class Packing:
    """Where R rows stand in B bins of W places.

    Attributes:
        bin: (R,) int64, the bin of each row.
        start: (R,) int64, its first place there.
        anchor: (B,) int64, the row whose slots a bin has, any row where it has none.
        row: (B, W) int64, the row at each place, -1 where there is none.
        width: W.
    """

    bin: Tensor
    start: Tensor
    anchor: Tensor
    row: Tensor
    width: int

    @property
    def identity(self) -> bool:
        """Tells whether every row has a bin of its own, in order."""
        return len(self.row) == len(self.bin)

    def column(self) -> Tensor:
        """Returns the number (B, W) of each place in its row; 0 where there is none."""
        place = torch.arange(self.width, device=self.row.device)
        return torch.where(self.row < 0, 0, place - self.start[self.row.clamp(min=0)])

    def mask(self) -> Tensor:
        """Returns which places (B, W, W) see which: those of their row that do not come later."""
        earlier = torch.ones(self.width, self.width, dtype=torch.bool, device=self.row.device).tril()
        return (self.row[:, :, None] == self.row[:, None]) & earlier

    def grid(self, row: Tensor, column: Tensor) -> Grid:
        """Returns the grid of packed tokens (V,) that are number `column` (V,) of `row` (V,)."""
        place = self.bin[row] * self.width + self.start[row] + column
        return Grid.of(place, len(self.row), self.width)


def pack_rows(length: Tensor, holds: Tensor | None) -> Packing:
    """Packs rows of `length` (R,) int64; those where `holds` (R,) is True have slots (None: all)."""
    sizes = length.cpu().numpy()
    rows, width = len(sizes), int(sizes.max())
    if holds is None or sizes.sum() > FULL * rows * width:
        bins, start = np.arange(rows), np.zeros(rows, np.int64)
    else:
        bins, start = _first_fit(sizes, holds.cpu().numpy(), width)
        if bins.max() + 1 == rows:  # nothing is won: keep the order
            bins, start = np.arange(rows), np.zeros(rows, np.int64)
    anchor = np.zeros(bins.max() + 1, np.int64)
    anchor[bins[::-1]] = np.arange(rows)[::-1]
    if holds is not None:
        held = np.flatnonzero(holds.cpu().numpy())
        anchor[bins[held]] = held
    offset = np.arange(width)
    at = np.full((len(anchor), width), -1, np.int64)
    row, column = np.nonzero(offset < sizes[:, None])
    at[bins[row], start[row] + column] = row
    bin_, start_, anchor_, row_ = (torch.from_numpy(p).to(length.device) for p in (bins, start, anchor, at))
    return Packing(bin_, start_, anchor_, row_, width)


def _first_fit(
    sizes: NDArray[np.int64], holds: NDArray[np.bool_], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns bin and first place of each row: first fit, by falling length; rows with slots open bins."""
    bins, start = np.zeros(len(sizes), np.int64), np.zeros(len(sizes), np.int64)
    first = np.flatnonzero(holds)
    bins[first] = np.arange(len(first))
    free = np.full(len(sizes), width)
    free[: len(first)] -= sizes[first]
    rest = np.flatnonzero(~holds)
    for row in rest[np.argsort(-sizes[rest], kind="stable")]:
        chosen = int((free >= sizes[row]).argmax())
        bins[row], start[row] = chosen, width - free[chosen]
        free[chosen] -= sizes[row]
    return bins, start

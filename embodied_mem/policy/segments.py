"""How a rollout is cut into segments, and packed so that training needs few large passes.

A rollout holds, per environment, pieces of trials; each piece is a *row* and is cut into
segments. Rows depend on each other in nothing, so pass k of training runs segment k of all
rows at once. Rows are sorted by their number of segments: those that go on are a prefix.

    time  0 1 2 3 4 5 6 7        row 0: [0 1 2] [3 4 5]      pass 0: [0 1 2]    pass 1: [3 4 5]
    start x . . . . . x .   ->   row 1: [6 7]           ->           [6 7 -]
    close . . x . . x . .
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SegmentPass:
    """Segment k of every row that has one.

    Attributes:
        steps: (R, L) int64, index of each step into the flattened (time, environment) grid; 0 where padded.
        length: (R,) int64, steps in each segment.
        closed: (R,) bool, True where the segment was closed by its last step.
        take: (V,) int64, the steps that are there, as indices into the flattened (R, L).
        grid: (V,) int64, their indices into the flattened (time, environment) grid.
        following: how many rows, from the first, have a segment k + 1.
    """

    steps: Tensor
    length: Tensor
    closed: Tensor
    take: Tensor
    grid: Tensor
    following: int


@dataclass(frozen=True, eq=False)
class SegmentPlan:
    """A rollout's rows and the passes over them.

    Attributes:
        passes: one `SegmentPass` per segment index.
        env: (R,) int64, the environment of each row.
        carried: (R,) bool, True for a row that continues a trial begun before the rollout.
        last: (R,) bool, True for the last row of its environment.
        prefix: time steps before the rollout's first (the raw steps of open segments).
    """

    passes: tuple[SegmentPass, ...]
    env: Tensor
    carried: Tensor
    last: Tensor
    prefix: int


def plan_segments(
    starts: NDArray[np.bool_],
    closes: NDArray[np.bool_],
    prefix: NDArray[np.int64] | None = None,
    *,
    last_only: bool = False,
    device: torch.device | str = "cpu",
) -> SegmentPlan:
    """Packs a rollout into passes.

    Args:
        starts: (T, N), True where a trial starts.
        closes: (T, N), True where a step closes its segment.
        prefix: (N,) raw steps of the segment that was open when the rollout began. They are
            right-aligned in max(prefix) time steps before the rollout's first.
        last_only: plan only the last row of each environment.
        device: where the indices go.
    """
    steps, envs = starts.shape
    prefix = np.zeros(envs, np.int64) if prefix is None else prefix
    before = int(prefix.max(initial=0))
    time = np.arange(before + steps)[:, None]  # (E, 1)
    valid = time >= before - prefix  # (E, N)
    close = np.concatenate([np.zeros((before, envs), bool), closes])
    row_begin = np.concatenate([np.zeros((before, envs), bool), starts])
    row_begin[before - prefix, np.arange(envs)] = True
    segment_begin = row_begin.copy()
    segment_begin[1:] |= close[:-1]
    segment_begin &= valid

    slot = time - np.maximum.accumulate(
        np.where(segment_begin, time, 0), axis=0
    )  # (E, N) place in the segment
    segment = np.cumsum(segment_begin, axis=0)
    segment = segment - np.maximum.accumulate(np.where(row_begin, segment, 0), axis=0)  # index in the row
    row = np.cumsum(row_begin, axis=0)  # (E, N), from 1 within its environment
    rows_of_env = row[-1]
    row = row - 1 + np.cumsum(rows_of_env) - rows_of_env
    if last_only:
        valid = valid & (row == row[-1])

    t, n = np.nonzero(valid)
    rows, segment, slot, close = row[t, n], segment[t, n], slot[t, n], close[t, n]
    rank, row_ids, segments_of_row = _rank_rows(rows, segment)
    env_of_row = np.repeat(np.arange(envs), rows_of_env)[row_ids]
    first_row = np.cumsum(rows_of_env) - rows_of_env
    carried = (row_ids == first_row[env_of_row]) & ~starts[0, env_of_row]

    to = torch.device(device)
    passes = _make_passes(rank[rows], segment, slot, close, t * envs + n, segments_of_row, to)
    return SegmentPlan(
        passes=passes,
        env=torch.from_numpy(env_of_row).to(to),
        carried=torch.from_numpy(carried).to(to),
        last=torch.from_numpy(row_ids == row[-1][env_of_row]).to(to),
        prefix=before,
    )


def _rank_rows(
    rows: NDArray[np.int64], segment: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Ranks rows by falling number of segments; returns rank by row id, row ids and segments by rank."""
    count = np.zeros(rows.max() + 1, np.int64)
    np.maximum.at(count, rows, segment + 1)
    row_ids = np.argsort(-count, kind="stable")
    row_ids = row_ids[count[row_ids] > 0]
    rank = np.zeros_like(count)
    rank[row_ids] = np.arange(len(row_ids))
    return rank, row_ids, count[row_ids]


def _make_passes(
    rank: NDArray[np.int64],
    segment: NDArray[np.int64],
    slot: NDArray[np.int64],
    close: NDArray[np.bool_],
    grid: NDArray[np.int64],
    segments_of_row: NDArray[np.int64],
    device: torch.device,
) -> tuple[SegmentPass, ...]:
    order = np.argsort(segment, kind="stable")
    bounds = np.searchsorted(segment[order], np.arange(segments_of_row[0] + 1))
    passes = []
    for k in range(len(bounds) - 1):
        mine = order[bounds[k] : bounds[k + 1]]
        count = int((segments_of_row > k).sum())
        longest = int(slot[mine].max()) + 1
        steps = np.zeros((count, longest), np.int64)
        steps[rank[mine], slot[mine]] = grid[mine]
        closed = np.zeros(count, bool)
        closed[rank[mine][close[mine]]] = True
        arrays = (
            steps,
            np.bincount(rank[mine], minlength=count),
            closed,
            rank[mine] * longest + slot[mine],
            grid[mine],
        )
        tensors = [torch.from_numpy(a).to(device) for a in arrays]
        passes.append(SegmentPass(*tensors, following=int((segments_of_row > k + 1).sum())))  # type: ignore[misc]
    return tuple(passes)


def draw_lengths(
    count: int, fixed: int, bounds: tuple[int, int], jitter: np.random.Generator | None, like: Tensor
) -> Tensor:
    """Returns the lengths (count,) of new segments: drawn from `bounds`, both included, or `fixed`."""
    if jitter is None:
        return torch.full((count,), fixed, dtype=like.dtype, device=like.device)
    return torch.from_numpy(jitter.integers(bounds[0], bounds[1] + 1, count)).to(like)


def fixed_closes(
    starts: NDArray[np.bool_], length: int, prefix: NDArray[np.int64] | None = None
) -> NDArray[np.bool_]:
    """Returns the (T, N) closes of segments that are all `length` steps long, from each trial's start.

    A segment that is already open with `prefix` (N,) steps is closed when it has `length` steps, or at once.
    """
    steps, envs = starts.shape
    time = np.arange(steps)[:, None]
    begun = np.maximum.accumulate(np.where(starts, time + 1, 0), axis=0)  # 0: begun before the rollout
    held = np.zeros(envs, np.int64) if prefix is None else np.minimum(prefix, length - 1)
    place = np.where(
        begun > 0, time + 1 - begun, time + held
    )  # (T, N) steps since the trial's or segment's start
    return place % length == length - 1

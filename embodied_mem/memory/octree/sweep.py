"""What the rays of a depth image mark, from their ends on: one kernel, which each thread runs for its share.

Threads meet between the stages without the interpreter's lock: to hand that over takes longer than a stage.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.asking import Desk, ask_share
from embodied_mem.memory.octree.crew import meet, take_part
from embodied_mem.memory.octree.frame import Frame
from embodied_mem.memory.octree.gathering import mark_ends
from embodied_mem.memory.octree.pixels import mark_surfaces
from embodied_mem.memory.octree.pyramid import look
from embodied_mem.memory.octree.tails import follow_tails, mark_left
from embodied_mem.memory.octree.view import View, Work

Array = NDArray[Any]

GATES = 7
_SURFACES, _LOOKED, _SHARES, _ASKED, _TAILS, _FOLLOWED, _ENDS = range(GATES)
"""Which gate is whose: parts are taken there, or threads meet there."""
PARTS, LARGE = 8, 6
"""In how many parts blocks are asked for each thread, and how many of those it does at first."""
CHUNK = 8192
"""Rays of a part."""


class Rays(NamedTuple):
    """The rays of a depth image, and what is written about them.

    Attributes:
        points: (3, N) float32, their ends [m].
        kinds: (N,) uint8: 0 no ray, 1 clears, 2 hits.
        ends: (N,) int32, filled with the cells in which they end, 0 for none.
        starts: (T, N) float32, for each thread: from which depth on they are followed [m].
        left: (T, N) int64, for each thread: those that are walked one by one.
        counts: (T,) int64, how many those are.
    """

    points: Array
    kinds: Array
    ends: Array
    starts: Array
    left: Array
    counts: Array


class Sight(NamedTuple):
    """How far parts of a depth image see.

    Attributes:
        levels: of `pyramid_layout`.
        sight: of `look`, whose first level is the depths of the rays' ends, -1 where there is no ray.
        rest: of `look`.
        least: likewise.
        seen: likewise.
        opened: likewise.
        found: (4,) float64, what `look` returns.
    """

    levels: Array
    sight: Array
    rest: Array
    least: Array
    seen: Array
    opened: Array
    found: Array


class Choice(NamedTuple):
    """What to follow.

    Attributes:
        voxel: width of a voxel as seen from 1 m [px].
        follow: rays are followed through what lies beyond this depth and is not settled [m].
        share: where more of the rays than this end beyond there, the last voxels of all those are followed.
        settle: whether to find out about each voxel.
    """

    voxel: float
    follow: float
    share: float
    settle: bool


@njit(cache=True, nogil=True)
def _look(sight: Sight, work: Work, choice: Choice, starts: Array) -> None:
    """Calls `look`; keeps what it returns."""
    height, width = sight.levels[0, 1], sight.levels[0, 2]
    tailed, limit, first, coarser = look(
        sight.sight, sight.levels, work, choice.voxel, choice.follow, choice.share, choice.settle,
        starts.reshape((height, width)), sight.rest, sight.least, sight.seen, sight.opened,
    )  # fmt: skip
    sight.found[0], sight.found[1], sight.found[2], sight.found[3] = np.float64(tailed), limit, first, coarser


@njit(cache=True, nogil=True)
def _ask(
    rays: Rays, sight: Sight, choice: Choice, camera: View, work: Work, frame: Frame, shape: Array,
    cells: Array, desk: Desk, gates: Array, hand: int, hands: int
) -> None:  # fmt: skip
    """Asks about a large share of the blocks, then about small ones while there are any."""
    tailed, limit, firsts = sight.found[0] > 0.0, sight.found[1], sight.found[2:].astype(np.int64)
    reach, total = sight.sight[: rays.kinds.shape[0]], PARTS * hands if hands > 1 else 1
    share = np.array([hand * LARGE, LARGE, total]) if hands > 1 else np.array([0, 1, 1])
    while share[0] < total:
        ask_share(
            camera, work, reach, sight.sight, sight.seen, sight.opened, firsts, sight.levels, shape,
            frame.strides, cells, share, limit, choice.follow, choice.settle or tailed, rays.starts[hand],
            desk.asked, desk.left,
        )  # fmt: skip
        share[0], share[1] = total, 1
        if hands > 1:
            share[0] = hands * LARGE + take_part(gates, _SHARES)


@njit(cache=True, nogil=True)
def sweep(
    rays: Rays, sight: Sight, choice: Choice, camera: View, work: Work, frame: Frame, shape: Array,
    cells: Array, desk: Desk, gates: Array, hand: int, hands: int
) -> None:  # fmt: skip
    """Marks the voxels that the rays of all pixels pass, and those in which they end.

    Args:
        rays: where they end.
        sight: its first level is filled.
        choice: what to follow.
        camera: the view.
        work: what `prepare_work` made of it, with scratch for this thread.
        frame: the byte map's geometry.
        shape: (3,) int64 blocks of the byte map along each axis.
        cells: the byte map.
        desk: scratch for this thread.
        gates: of `make_gates`, zero: GATES of them, for all threads.
        hand: number of this thread, from 0 on.
        hands: how many there are; each must run this or `give_up`, or the others wait.
    """
    size, inverse = rays.kinds.shape[0], frame.inverse
    if hand == 0:
        _look(sight, work, choice, rays.starts[0])
    else:  # what threads lower, each lowers in an array of its own
        rays.starts[hand][:] = np.float32(work.certain)
    at = take_part(gates, _SURFACES) * CHUNK
    while at < size:
        last = min(at + CHUNK, size)
        mark_surfaces(rays.points, rays.kinds, frame.lo, frame.strides, inverse, cells, rays.ends, at, last)
        at = take_part(gates, _SURFACES) * CHUNK
    if not meet(gates, _LOOKED, hands):
        return
    _ask(rays, sight, choice, camera, work, frame, shape, cells, desk, gates, hand, hands)
    if not meet(gates, _ASKED, hands):
        return
    reach, left = sight.sight[:size], rays.left[hand]
    rays.counts[hand] = follow_tails(
        rays.points, reach, rays.starts, frame, cells, gates, _TAILS, CHUNK, left
    )
    if not meet(gates, _FOLLOWED, hands):
        return
    if hand == 0:  # by one thread: a ray puts back what was in the voxel of its end
        for k in range(hands):
            which = rays.left[k, : rays.counts[k]]
            mark_left(rays.points, reach, rays.starts[0], frame, cells, which)
    if not meet(gates, _ENDS, hands):
        return
    mark_ends(cells, rays.ends[size * hand // hands : size * (hand + 1) // hands])

"""A depth image becomes marks: one kernel, which each thread runs for its share.

Threads meet between the stages without the interpreter's lock: to hand that over takes longer than a stage.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.experimental import structref
from numpy.typing import NDArray

from embodied_mem.memory.octree.asking import Desk, ask_blocks
from embodied_mem.memory.octree.crew import linger, meet, take_share, take_side
from embodied_mem.memory.octree.evidence import TURN, Intake, note_part, take_in
from embodied_mem.memory.octree.frame import Frame, frame_of
from embodied_mem.memory.octree.gathering import Touched, mark_ends, take_blocks, touched_blocks
from embodied_mem.memory.octree.kernels import BIAS
from embodied_mem.memory.octree.pixels import Picture, lift_rows, mark_surfaces
from embodied_mem.memory.octree.pyramid import look_far, look_near
from embodied_mem.memory.octree.room import (
    Room,
    blocks_in,
    camera_in,
    count_blocks,
    is_ready,
    span_room,
)
from embodied_mem.memory.octree.tails import follow_tails, mark_left
from embodied_mem.memory.octree.view import View, Work, prepare_work

Array = NDArray[Any]

GATES = 14
(
    _LIFT, _LIFTED, _SPANNED, _SURFACES, _LOOKED, _BLOCKS, _ASKED, _TAILS, _FOLLOWED, _LEFT, _ENDED, _TOUCHED,
    _TURNS, _TAKEN,
) = range(GATES)  # fmt: skip
"""Which gate is whose: parts are taken there, or threads meet there."""
LEAST, CHUNK = 32, 4096
"""Blocks that a thread takes at least, and rays that it takes at a time."""
PAD = 64
"""As in `dense`."""


class Rays(NamedTuple):
    """The rays of a depth image, and what is written about them.

    Attributes:
        points: (3, N) float32, filled with their ends [m].
        kinds: (N,) uint8, filled: 0 no ray, 1 clears, 2 hits.
        ends: (N,) int32, filled with the cells in which they end, 0 for none.
        starts: (N,) float32, from which depth on they are followed [m].
        left: (T, N) int64, for each thread: those that are walked one by one.
        counts: (T,) int64, how many those are.
        bounds: (T, 7) float64, for each thread: what `lift_rows` returned.
    """

    points: Array
    kinds: Array
    ends: Array
    starts: Array
    left: Array
    counts: Array
    bounds: Array


class Sight(NamedTuple):
    """How far parts of a depth image see.

    Attributes:
        levels: of `pyramid_layout`.
        sight: of `look_far`; the first level is filled with the depths of the rays' ends, -1 for no ray.
        rest: of `look_far`.
        least: of `look_near`.
        seen: of `look_far`.
        opened: of `look_near`.
        found: (4,) float64, what both return.
    """

    levels: Array
    sight: Array
    rest: Array
    least: Array
    seen: Array
    opened: Array
    found: Array


@structref.register
class SeatType(types.StructRef):
    """The type of a `Seat` in kernels."""


class Seat(structref.StructRefProxy):
    """What a thread works on and writes to: to hand it to a kernel takes no longer than one array.

    Attributes:
        rays: of the image.
        sight: likewise.
        room: where it lies.
        ring: of `prepare_work`.
        desk: scratch for this thread.
        found: the blocks with marks.
    """


structref.define_proxy(Seat, SeatType, ["rays", "sight", "room", "ring", "desk", "found"])


@njit(cache=True)
def make_seat(rays: Rays, sight: Sight, room: Room, ring: Array, desk: Desk, found: Touched) -> Seat:
    """Returns the `Seat` of its attributes."""
    return Seat(rays, sight, room, ring, desk, found)


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
def _look(
    rays: Rays, sight: Sight, work: Work, choice: Choice, frame: Frame, cells: Array, gates: Array, hand: int
) -> None:
    """Marks the voxels in which rays end on a surface, and prepares what is asked with.

    The first thread begins with how far the image sees; how near is the last part of the others' work.
    """
    size, found = rays.kinds.shape[0], sight.found
    if hand == 0:
        height, width = sight.levels[0, 1], sight.levels[0, 2]
        tailed, limit, first = look_far(
            sight.sight, sight.levels, work, choice.voxel, choice.follow, choice.share, choice.settle,
            rays.starts.reshape((height, width)), sight.rest, sight.seen,
        )  # fmt: skip
        found[0], found[1], found[2] = np.float64(tailed), limit, first
    parts = (size + CHUNK - 1) // CHUNK + 1
    part = take_side(gates, _SURFACES, parts, hand)
    while part >= 0:
        first, last = part * CHUNK, min((part + 1) * CHUNK, size)
        if part == parts - 1:
            found[3] = look_near(sight.sight[:size], sight.levels, work, sight.least, sight.opened)
        else:
            mark_surfaces(
                rays.points, rays.kinds, frame.lo, frame.strides, frame.inverse, cells, rays.ends, first, last
            )
        part = take_side(gates, _SURFACES, parts, hand)


@njit(cache=True, nogil=True)
def _ask(
    rays: Rays, sight: Sight, choice: Choice, camera: View, work: Work, frame: Frame, shape: Array,
    cells: Array, desk: Desk, gates: Array, hand: int, hands: int
) -> None:  # fmt: skip
    """Asks about blocks, some at a time where there are other threads."""
    tailed, limit, firsts = sight.found[0] > 0.0, sight.found[1], sight.found[2:].astype(np.int64)
    reach, total = sight.sight[: rays.kinds.shape[0]], shape[0] * shape[1] * shape[2]
    least = LEAST if hands > 1 else total
    first, last = take_share(gates, _BLOCKS, total, least, hand)
    while first < last:
        ask_blocks(
            camera, work, reach, sight.sight, sight.seen, sight.opened, firsts, sight.levels, shape,
            frame.strides, cells, first, last, limit, choice.follow, choice.settle or tailed, rays.starts,
            desk.asked, desk.left,
        )  # fmt: skip
        first, last = take_share(gates, _BLOCKS, total, least, hand)


@njit(cache=True, nogil=True)
def _lift(
    picture: Picture, rays: Rays, sight: Sight, room: Room, cells: Array, gates: Array, hand: int, hands: int
) -> bool:
    """Finds where rays end, and the byte map around them; returns False where there is none."""
    height, width = picture.depth.shape
    size = height * width
    kinds, points = rays.kinds.reshape((height, width)), rays.points.reshape((3, height, width))
    reach, bounds = sight.sight[:size].reshape((height, width)), rays.bounds[hand]
    found = lift_rows(picture, kinds, points, reach, gates, _LIFT, hand)
    bounds[0], bounds[1], bounds[2], bounds[3], bounds[4], bounds[5] = found[:6]
    bounds[6] = found[6]
    if not meet(gates, _LIFTED, hands):
        return False
    if hand == 0:
        span_room(rays.bounds, cells.shape[0], room)
    return meet(gates, _SPANNED, hands) and is_ready(room)


@njit(cache=True, nogil=True)
def _follow(
    rays: Rays, reach: Array, frame: Frame, cells: Array, gates: Array, hand: int, hands: int
) -> bool:
    """Marks the last voxels that rays pass, and those in which they end; False where a thread failed."""
    size = rays.kinds.shape[0]
    rays.counts[hand] = follow_tails(
        rays.points, reach, rays.starts, frame, cells, gates, _TAILS, CHUNK, hand, rays.left[hand]
    )
    if not meet(gates, _FOLLOWED, hands):
        return False
    if hand == 0:  # by one thread: a ray puts back what was in the voxel of its end
        for k in range(hands):
            which = rays.left[k, : rays.counts[k]]
            mark_left(rays.points, reach, rays.starts, frame, cells, which)
    if not meet(gates, _LEFT, hands):
        return False
    mark_ends(cells, rays.ends[size * hand // hands : size * (hand + 1) // hands])
    return meet(gates, _ENDED, hands)


@njit(cache=True, nogil=True)
def _take(
    room: Room, cells: Array, found: Touched, intake: Intake, gates: Array, hand: int, hands: int
) -> bool:
    """Takes the marks out of the byte map, which is zero afterwards, and into the map if that is ready.

    Returns:
        whether all threads have.
    """
    if hand == 0:
        cells[:PAD] = 0
        count = touched_blocks(cells, room.shape, room.lo, BIAS, found)
        count_blocks(room, count)
        take_in(intake, found.keys, count)
    if not meet(gates, _TOUCHED, hands):
        return False
    count, marks = blocks_in(room), found.marks.view(np.uint8)
    turns = (count + TURN - 1) // TURN
    turn = take_side(gates, _TURNS, turns, hand)
    while turn >= 0:
        first, last = turn * TURN, min((turn + 1) * TURN, count)
        take_blocks(cells, room.shape, found, first, last)
        note_part(intake, marks, first, last, hand)
        turn = take_side(gates, _TURNS, turns, hand)
    through = meet(gates, _TAKEN, hands)
    if hand > 0:
        linger(gates)
    return through


@njit(cache=True, nogil=True)
def sweep(
    picture: Picture, choice: Choice, seat: Seat, intake: Intake, whole: Array, gates: Array, hand: int,
    hands: int
) -> bool:  # fmt: skip
    """Marks the voxels that the rays of all pixels pass, and those in which they end; takes the marks.

    Where the map is ready for it they are added to it as well.

    Args:
        picture: the image.
        choice: what to follow.
        seat: the rays and how far they see are filled; what room is `READY` has been lifted; the blocks
            that have marks are as many as `room.blocks`, if it is `READY` then.
        intake: the map to add them to.
        whole: the cells there are, zero.
        gates: of `make_gates`, zero: GATES of them, for all threads.
        hand: number of this thread, from 0 on.
        hands: how many there are; each must run this or `give_up`, or the others wait.

    Returns:
        True where all threads are through with it.
    """
    rays, sight, room, desk = seat.rays, seat.sight, seat.room, seat.desk
    if not (is_ready(room) or _lift(picture, rays, sight, room, whole, gates, hand, hands)):
        return False
    frame = frame_of(room.lo, room.shape, room.strides, picture.origin, room.resolution, np.inf)
    cells, camera = whole[: np.int64(room.cells[0])], camera_in(room, frame, picture)
    work = prepare_work(camera, seat.ring)
    _look(rays, sight, work, choice, frame, cells, gates, hand)
    if not meet(gates, _LOOKED, hands):
        return False
    _ask(rays, sight, choice, camera, work, frame, room.shape, cells, desk, gates, hand, hands)
    if meet(gates, _ASKED, hands):
        reach = sight.sight[: rays.kinds.shape[0]]
        if _follow(rays, reach, frame, cells, gates, hand, hands):
            return _take(room, cells, seat.found, intake, gates, hand, hands)
    return False

"""Numba kernels that add a scan's evidence to the log-odds of its blocks, in the map or on the way there."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.experimental import structref
from numpy.typing import NDArray

from embodied_mem.memory.octree.crew import take_part
from embodied_mem.memory.octree.kernels import insert_rows
from embodied_mem.memory.octree.lanes import bits_between
from embodied_mem.memory.octree.octants import UNKNOWN, LogOdds, Masks, load_block, settle_block
from embodied_mem.memory.octree.records import some_older
from embodied_mem.memory.octree.segments import FITS

Array = NDArray[Any]

HIT = 2
"""As in `kernels`."""
TURN = 32
"""Blocks that a thread takes at a time."""
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_LOWEST = np.uint64(0x0101010101010101)
"""The lowest bit of each byte."""


class Notes(NamedTuple):
    """What is noted about a scan's blocks while its evidence is added.

    Attributes:
        rows: (R,) int64, filled with their rows in the map; a scan with more blocks is not taken.
        wanted: (R,) int64, filled with FITS or the words that a block needs.
        before: (R, 8) uint64, filled with the voxels noted before, if there are records; (0, 8) otherwise.
        seen: (R, 8) uint64, filled with the voxels observed, likewise.
        counts: (T, 2) int64, filled: voxels that got a miss and a hit, in each thread.
        facts: (3,) int64: 0, set to 1 where the scan's evidence is added; the scan's stamp [ns]; how many
            blocks it has, if so.
    """

    rows: Array
    wanted: Array
    before: Array
    seen: Array
    counts: Array
    facts: Array

    @classmethod
    def make(cls, blocks: int, recorded: int, threads: int) -> Notes:
        """Returns room for so many blocks, and for so many of voxels that have records."""
        rows, wanted = np.empty((2, blocks), np.int64)
        before, seen = np.empty((2, recorded, 8), np.uint64)
        return cls(rows, wanted, before, seen, np.zeros((threads, 2), np.int64), np.zeros(3, np.int64))

    @property
    def is_taken(self) -> bool:
        """Whether the scan's evidence has been added."""
        return bool(self.facts[0])

    @property
    def stamp(self) -> int:
        """The scan's stamp [ns]."""
        return int(self.facts[1])

    @property
    def blocks(self) -> int:
        """How many blocks the scan has, where its evidence has been added."""
        return int(self.facts[2])


@structref.register
class IntakeType(types.StructRef):
    """The type of an `Intake` in kernels."""


class Intake(structref.StructRefProxy):
    """The blocks of a map to which a scan's evidence is added by the threads that have found it.

    To hand it to a kernel takes no longer than one array; that of its parts would take as long as ten
    blocks' evidence.

    Attributes:
        table: of `BlockStore`.
        keys: likewise; there is room for as many blocks.
        stamps: likewise [ns].
        used: (1,) int64, how many blocks the map has.
        log_odds: those of all blocks.
        masks: likewise.
        steps: (4,) int64: hit, miss, lower and upper clamp, in steps of log-odds.
        recorded: whether voxels have records.
        stamped: whether those have stamps.
        notes: about the scan's blocks.
    """


structref.define_proxy(
    Intake,
    IntakeType,
    ["table", "keys", "stamps", "used", "log_odds", "masks", "steps", "recorded", "stamped", "notes"],
)


@njit(cache=True)
def make_intake(
    table: Array, keys: Array, stamps: Array, used: Array, log_odds: LogOdds, masks: Masks, steps: Array,
    recorded: bool, stamped: bool, notes: Notes
) -> Intake:  # fmt: skip
    """Returns the `Intake` of its attributes."""
    return Intake(table, keys, stamps, used, log_odds, masks, steps, recorded, stamped, notes)


@cache
def no_intake() -> tuple[Intake, Notes]:
    """Returns one that takes no scan, and is never written to."""
    notes, none = Notes.make(0, 0, 1), np.empty(0, np.int64)
    words, masks = np.empty(0, np.uint64), np.empty((0, 8), np.uint64)
    starts, sizes = np.empty(0, np.int32), np.empty(0, np.int16)
    log_odds = LogOdds(words, np.empty((0, 64), np.int8), starts, sizes, words)
    parts = np.empty((0, 2), np.int64), none, none, none, log_odds, Masks(masks, masks, masks)
    return make_intake(*parts, none, False, False, notes), notes


@njit(cache=True, nogil=True)
def _add_evidence(steps: Array, marks: Array, i: int, table: Array) -> None:
    """Adds a scan's marks to the log-odds of a block, without a branch."""
    lowest, highest = np.int8(table[2]), np.int8(table[3])
    hit, miss = np.int8(table[0]), np.int8(table[1])
    # Limits before the sum instead of after it: so it fits eight bits, of which most are added at once.
    most, least = np.int8(max(table[3] - table[0], -128)), np.int8(min(table[2] - table[1], 127))
    for k in range(512):
        mark, before = marks[i, k], steps[k]
        known = np.int8(0) if before == np.int8(UNKNOWN) else before
        up, down = np.int8(min(known, most) + hit), np.int8(max(known, least) + miss)
        up, down = max(up, lowest), min(max(down, lowest), highest)
        after = up if mark & np.uint8(HIT) else down
        steps[k] = after if mark else before


@njit(cache=True, nogil=True)
def _differ(values: Array, others: Array) -> bool:
    """Tells whether any of 64 words differ."""
    differs = _ZERO
    for j in range(64):
        differs |= values[j] ^ others[j]
    return differs != _ZERO


@njit(cache=True, nogil=True)
def _sum_bytes(word: int) -> int:
    """Adds up the eight bytes of a uint64."""
    pairs = (word & np.uint64(0x00FF00FF00FF00FF)) + ((word >> np.uint64(8)) & np.uint64(0x00FF00FF00FF00FF))
    return np.int64((pairs * np.uint64(0x0001000100010001)) >> np.uint64(48))


@njit(cache=True, nogil=True)
def see_voxels(marks: Array, seen: Array) -> None:
    """Fills (M, 8) uint64 masks with the voxels observed, from (M, 512) uint8 marks of two bits."""
    bits = marks.view(np.int8)
    for i in range(marks.shape[0]):
        for x in range(8):
            seen[i, x] = bits_between(bits[i], 64 * x, 1, 127)


@njit(cache=True, nogil=True)
def add_part(
    rows: Array, marks: Array, log_odds: LogOdds, masks: Masks, table: Array, wanted: Array, first: int,
    last: int
) -> tuple[int, int]:  # fmt: skip
    """Adds a scan's evidence to the log-odds and the states of some of its blocks.

    Args:
        rows: (M,) int64 row of each block of the scan.
        marks: (M, 512) uint8; HIT wins over FREE. The words of blocks that do not fit are left
            there, for `store_blocks`.
        log_odds: of the map, changed in place.
        masks: of the map, changed in place.
        table: (4,) int64: hit, miss, lower and upper clamp, in steps of log-odds.
        wanted: (M,) int64, filled with FITS or the words that a block needs.
        first: the first block.
        last: the one after the last one.

    Returns:
        of those blocks, voxels that got a miss, voxels that got a hit.
    """
    observed, hits = 0, 0
    values, before, packed = np.empty(64, np.uint64), np.empty(64, np.uint64), np.empty(64, np.uint64)
    steps = values.view(np.int8)
    words = marks.view(np.uint64)
    for i in range(first, last):
        some, ended = _ZERO, _ZERO  # counts of up to 64 in each byte
        for j in range(64):
            word = words[i, j]
            some += (word | (word >> _ONE)) & _LOWEST
            ended += (word >> _ONE) & _LOWEST
        observed += _sum_bytes(some)
        hits += _sum_bytes(ended)
        load_block(log_odds, rows[i], values)
        before[:] = values
        _add_evidence(steps, marks, i, table)
        wanted[i] = FITS
        if _differ(values, before):  # not where all has been seen for long
            wanted[i] = settle_block(log_odds, rows[i], values, masks, packed)
        if wanted[i] != FITS:
            words[i, : wanted[i]] = packed[: wanted[i]]
    return observed - hits, hits


@njit(cache=True, nogil=True)
def add_marks(
    rows: Array, marks: Array, log_odds: LogOdds, masks: Masks, table: Array, wanted: Array, gates: Array
) -> tuple[int, int]:
    """Does what `add_part` does with as many of the blocks as it gets.

    Args:
        rows: of `add_part`.
        marks: likewise.
        log_odds: likewise.
        masks: likewise.
        table: likewise.
        wanted: likewise.
        gates: of `crew.make_gates`; TURN blocks are taken at a time, at the first one.

    Returns:
        as `add_part`.
    """
    misses, hits = 0, 0
    first = take_part(gates, 0) * TURN
    while first < rows.shape[0]:
        last = min(first + TURN, rows.shape[0])
        some, ended = add_part(rows, marks, log_odds, masks, table, wanted, first, last)
        misses += some
        hits += ended
        first = take_part(gates, 0) * TURN
    return misses, hits


@njit(cache=True, nogil=True)
def take_in(intake: Intake, keys: Array, count: int) -> None:
    """Finds the rows of a scan's blocks, made where absent, and takes the scan if all is ready for it.

    It is not where the map has to grow, or its voxels have to get stamps of their own.

    Args:
        intake: its notes are filled, but for what `note_part` fills.
        keys: (M,) int64, of which the first ones are the blocks'.
        count: how many those are.
    """
    notes = intake.notes
    if count == 0 or count > notes.rows.shape[0]:
        return
    rows, used, noted = notes.rows[:count], intake.used, intake.masks.noted
    room = min(intake.keys.shape[0], intake.table.shape[0] // 2)
    first = used[0]
    found, used[0] = insert_rows(intake.table, keys[:count], rows, first, room)
    for i in range(found):
        if rows[i] >= first:
            intake.keys[rows[i]] = keys[i]
    if found < count or (not intake.stamped and some_older(rows, intake.stamps, noted, notes.facts[1])):
        return
    if intake.recorded:
        for i in range(count):
            notes.before[i] = noted[rows[i]]
    notes.counts[:], notes.facts[0], notes.facts[2] = 0, 1, count


@njit(cache=True, nogil=True)
def note_part(intake: Intake, marks: Array, first: int, last: int, hand: int) -> None:
    """Adds the evidence of the blocks from `first` to before `last`, if the scan is taken.

    Args:
        intake: of `take_in`.
        marks: (M, 512) uint8; see `add_part`.
        first: the first block.
        last: the one after the last one.
        hand: number of the thread.
    """
    notes = intake.notes
    if notes.facts[0] == 0:
        return
    if intake.recorded:
        see_voxels(marks[first:last], notes.seen[first:last])
    misses, hits = add_part(
        notes.rows, marks, intake.log_odds, intake.masks, intake.steps, notes.wanted, first, last
    )
    notes.counts[hand, 0] += misses
    notes.counts[hand, 1] += hits

"""What noted voxels have of their own: label and weight, last-observed stamp, object reference.

A block's records lie together in one pool, in the order of the bits of its noted mask.
The pool has only those columns that say something: a map without labels, or whose voxels
all have their block's stamp, does not pay for them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.lanes import bits_between
from embodied_mem.memory.octree.segments import Segments, roomy
from embodied_mem.memory.octree.stamps import Stamps
from embodied_mem.memory.octree.words import count_bits, trailing_zeros

Array = NDArray[Any]

UNIT = 4
"""Records are allotted to blocks in multiples of this."""
LONG_NS = 3600 * 10**9
"""Out of view for so long, things may have changed [ns]."""
_LAST_LABEL = np.iinfo(np.int32).max
_KINDS = {"labels": np.uint16, "weights": np.uint8, "stamps": np.int32, "references": np.int32}
_NOTHING = {"labels": 0, "weights": 0, "stamps": 0, "references": -1}


class Columns(NamedTuple):
    """The pool of records; columns that the map has no need of are empty.

    Attributes:
        labels: (R,) uint16 label ids, 0 unknown.
        weights: (R,) uint8, by how many scans the label leads (at most 255).
        stamps: (R,) int32 number of the stamp of the voxel's last observation.
        references: (R,) int32 object ids, -1 none.
        starts: (B,) int32 the first record of each block.
    """

    labels: Array
    weights: Array
    stamps: Array
    references: Array
    starts: Array


class Records:
    """The records of a map's noted voxels.

    Attributes:
        columns: the pool.
        segments: which part of it each block has.
        stamps: what the numbers in the column of stamps stand for.
    """

    def __init__(self, rows: int) -> None:
        self.segments = Segments(UNIT, rows)
        self.stamps = Stamps()
        self._size = 0
        empty = {name: np.empty(0, kind) for name, kind in _KINDS.items()}
        self.columns = Columns(**empty, starts=self.segments.starts)

    def grow(self, rows: int) -> None:
        """Makes room for so many blocks."""
        self.segments.grow(rows)
        self.columns = self.columns._replace(starts=self.segments.starts)

    def has(self, name: str) -> bool:
        """Tells whether there is a column."""
        return len(getattr(self.columns, name)) > 0

    def keep(self, name: str, noted: NDArray[np.uint64]) -> None:
        """Adds a column, of records that say nothing yet, unless it is there.

        Args:
            name: of the column; weights come with labels.
            noted: (B', 8) uint64 masks of all blocks in use.
        """
        if self.has(name):
            return
        if not self._size:
            counts = count_records(noted)
            some = np.flatnonzero(counts)
            self.segments.refit(some, counts[some], 0)
            self._size = max(self.segments.tail, 64)
        for column in ("labels", "weights") if name == "labels" else (name,):
            fresh = np.full(self._size, _NOTHING[column], _KINDS[column])
            self.columns = self.columns._replace(**{column: fresh})

    def lay(self, rows: NDArray[np.int64], before: NDArray[np.uint64], noted: NDArray[np.uint64]) -> None:
        """Moves the records of blocks to where their new noted masks want them.

        Args:
            rows: (M,) int64, each once.
            before: (M, 8) uint64 the masks that they had.
            noted: (M, 8) uint64 the masks that they have.
        """
        if not self._size:
            return
        changed = (before != noted).any(axis=1)
        rows, before, noted = rows[changed], before[changed], noted[changed]
        counts = count_records(noted)
        lifted = self._empty(int(counts.sum()))
        _lift(rows, before, noted, self.columns, lifted)
        misfit = self.segments.misfits(rows, counts)
        slots = self.segments.refit(rows[misfit], counts[misfit], self._size)
        if slots is not None:
            for column in self.columns[:-1]:
                if len(column):
                    column[: len(slots)] = column[slots]
        if self.segments.tail > self._size:
            self._extend(roomy(self.segments.tail))
        _drop(rows, counts, lifted, self.columns)

    def _empty(self, count: int) -> Columns:
        """Returns as many records, in those columns that there are, to be filled."""
        sizes = {name: count if self.has(name) else 0 for name in _KINDS}
        empty = {name: np.empty(sizes[name], kind) for name, kind in _KINDS.items()}
        return Columns(**empty, starts=self.segments.starts)

    def _extend(self, size: int) -> None:
        for name, kind in _KINDS.items():
            if self.has(name):
                more = np.full(size - self._size, _NOTHING[name], kind)
                grown = np.concatenate([getattr(self.columns, name), more])
                self.columns = self.columns._replace(**{name: grown})
        self._size = size

    def observe(
        self,
        rows: NDArray[np.int64],
        seen: NDArray[np.uint64],
        noted: NDArray[np.uint64],
        names: NDArray[np.int32],
        stamp: int,
    ) -> None:
        """Stamps and labels the noted voxels that a scan observed; see `_observe`."""
        number = 0
        if self.has("stamps"):
            self.stamps.forget(self.columns.stamps[: self.segments.tail])
            number = self.stamps.number(stamp)
        _observe(rows, seen, noted, names, self.columns, number, self.stamps.values, stamp - LONG_NS)

    @property
    def used(self) -> bool:
        """Whether there is any column."""
        return self._size > 0

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        columns = sum(column.nbytes for column in self.columns[:-1])
        return columns + self.segments.nbytes + self.stamps.nbytes


@njit(cache=True, nogil=True)
def count_records(noted: Array) -> Array:
    """Returns (M,) int64, how many records blocks of (M, 8) uint64 noted masks have."""
    counts = np.zeros(noted.shape[0], np.int64)
    for i in range(noted.shape[0]):
        for x in range(8):
            counts[i] += count_bits(noted[i, x])
    return counts


@njit(cache=True, nogil=True)
def some_older(rows: Array, stamps: Array, noted: Array, stamp: int) -> bool:
    """Tells whether any of the blocks that were last observed at another stamp has noted voxels."""
    for i in range(rows.shape[0]):
        r = rows[i]
        if stamps[r] != stamp:
            for x in range(8):
                if noted[r, x]:
                    return True
    return False


@njit(cache=True, nogil=True)
def name_voxels(seen: Array, names: Array, named: Array) -> None:
    """Finds which voxels that a scan observed have a label.

    Args:
        seen: (M, 8) uint64, the voxels observed.
        names: (M, 512) int32 labels voted for.
        named: (M, 8) uint64, filled.
    """
    for i in range(seen.shape[0]):
        for x in range(8):
            named[i, x] = seen[i, x] & bits_between(names[i], 64 * x, 1, _LAST_LABEL)


@njit(cache=True, nogil=True)
def _lift(rows: Array, before: Array, noted: Array, columns: Columns, lifted: Columns) -> None:
    """Takes the records of blocks out, in the order in which they will be wanted.

    Args:
        rows: (M,) int64.
        before: (M, 8) uint64 of which voxels there are records.
        noted: (M, 8) uint64 of which voxels there will be; new ones say nothing.
        columns: the pool.
        lifted: filled.
    """
    labelled, stamped = columns.labels.shape[0] > 0, columns.stamps.shape[0] > 0
    referred = columns.references.shape[0] > 0
    new = 0
    for i in range(rows.shape[0]):
        old = np.int64(columns.starts[rows[i]])
        for x in range(8):
            either = before[i, x] | noted[i, x]
            while either:
                bit = either & (~either + np.uint64(1))
                either ^= bit
                kept = before[i, x] & bit != np.uint64(0)
                if noted[i, x] & bit:
                    if labelled:
                        lifted.labels[new] = columns.labels[old] if kept else 0
                        lifted.weights[new] = columns.weights[old] if kept else 0
                    if stamped:
                        lifted.stamps[new] = columns.stamps[old] if kept else 0
                    if referred:
                        lifted.references[new] = columns.references[old] if kept else -1
                    new += 1
                old += kept


@njit(cache=True, nogil=True)
def _drop(rows: Array, counts: Array, lifted: Columns, columns: Columns) -> None:
    """Puts records that were lifted into the segments of their blocks; `counts` are theirs."""
    n = 0
    for i in range(rows.shape[0]):
        first, size = np.int64(columns.starts[rows[i]]), counts[i]
        for k in range(size):
            if columns.labels.shape[0] > 0:
                columns.labels[first + k] = lifted.labels[n + k]
                columns.weights[first + k] = lifted.weights[n + k]
            if columns.stamps.shape[0] > 0:
                columns.stamps[first + k] = lifted.stamps[n + k]
            if columns.references.shape[0] > 0:
                columns.references[first + k] = lifted.references[n + k]
        n += size


@njit(cache=True, nogil=True)
def _observe(
    rows: Array, seen: Array, noted: Array, names: Array, columns: Columns, number: int, stamps: Array,
    long_ago: int
) -> None:  # fmt: skip
    """Stamps and labels the noted voxels that a scan observed.

    A label is a running majority: a scan that agrees raises its weight by one, one that
    disagrees lowers it, and at zero the new label takes over. What a voxel was said to be
    before it was out of view for long weighs no more than one scan.

    Args:
        rows: (M,) int64.
        seen: (M, 8) uint64 voxels observed by this scan.
        noted: (M, 8) uint64 voxels that have records.
        names: (M, 512) int32 labels voted for by this scan, or (0, 512).
        columns: changed in place.
        number: of the scan's stamp.
        stamps: (S,) int64 stamps by their numbers [ns].
        long_ago: what was last observed before that was out of view for long [ns].
    """
    voted, stamped = names.shape[0] > 0, columns.stamps.shape[0] > 0
    for i in range(rows.shape[0]):
        first = np.int64(columns.starts[rows[i]])
        for x in range(8):
            todo = noted[i, x] & seen[i, x]
            while todo:
                bit = todo & (~todo + np.uint64(1))
                todo ^= bit
                s = first + count_bits(noted[i, x] & (bit - np.uint64(1)))
                if stamped:
                    if columns.labels.shape[0] > 0 and stamps[columns.stamps[s]] < long_ago:
                        columns.weights[s] = min(columns.weights[s], 1)
                    columns.stamps[s] = number
                name = names[i, x * 64 + trailing_zeros(bit)] if voted else np.int32(0)
                if name > 0 and name == columns.labels[s]:
                    columns.weights[s] = min(columns.weights[s] + 1, 255)
                elif name > 0 and columns.weights[s] <= 1:
                    columns.labels[s] = name
                    columns.weights[s] = 1
                elif name > 0:
                    columns.weights[s] -= 1
            first += count_bits(noted[i, x])


@njit(cache=True, nogil=True)
def record_slots(rows: Array, local: Array, noted: Array, starts: Array) -> Array:
    """Finds the records of voxels.

    Args:
        rows: (N,) int64, -1 for none.
        local: (N,) int64 index within the block.
        noted: (B, 8) uint64 masks of voxels with records.
        starts: (B,) int32 of `Columns`.

    Returns:
        (N,) int64 index into the pool, -1 where the voxel has no record.
    """
    slots = np.full(rows.shape[0], -1, np.int64)
    for i in range(rows.shape[0]):
        r = rows[i]
        if r < 0:
            continue
        word, shift = local[i] >> 6, np.uint64(local[i] & 63)
        if (noted[r, word] >> shift) & np.uint64(1):
            rank = np.int64(starts[r])
            for x in range(word):
                rank += count_bits(noted[r, x])
            below = (np.uint64(1) << shift) - np.uint64(1)
            slots[i] = rank + count_bits(noted[r, word] & below)
    return slots


@njit(cache=True, nogil=True)
def list_slots(rows: Array, chosen: Array, noted: Array, starts: Array) -> Array:
    """Lists the records of voxels of blocks, in order.

    Args:
        rows: (M,) int64.
        chosen: (M, 8) uint64 masks of the voxels.
        noted: (B, 8) uint64 masks of voxels with records.
        starts: (B,) int32 of `Columns`.

    Returns:
        (V,) int64 index into the pool, -1 where the voxel has no record.
    """
    slots = np.empty(count_records(chosen).sum(), np.int64)
    n = 0
    for i in range(rows.shape[0]):
        first = np.int64(starts[rows[i]])
        for x in range(8):
            todo, own = chosen[i, x], noted[rows[i], x]
            while todo:
                bit = todo & (~todo + np.uint64(1))
                todo ^= bit
                slots[n] = first + count_bits(own & (bit - np.uint64(1))) if own & bit else -1
                n += 1
            first += count_bits(own)
    return slots


@njit(cache=True, nogil=True)
def list_records(rows: Array, noted: Array, starts: Array) -> tuple[Array, Array]:
    """Lists the records of blocks, in order.

    Returns:
        counts (M,) int64 of records per block, and slots (sum of counts,) int64 in the pool.
    """
    counts = np.zeros(rows.shape[0], np.int64)
    for i in range(rows.shape[0]):
        for x in range(8):
            counts[i] += count_bits(noted[rows[i], x])
    slots = np.empty(counts.sum(), np.int64)
    n = 0
    for i in range(rows.shape[0]):
        for k in range(counts[i]):
            slots[n] = np.int64(starts[rows[i]]) + k
            n += 1
    return counts, slots


@njit(cache=True, nogil=True)
def label_masks(rows: Array, wanted: Array, noted: Array, columns: Columns) -> Array:
    """Builds the masks of noted voxels whose label is wanted; there must be labels.

    Args:
        rows: (M,) int64.
        wanted: (65536,) bool by label id.
        noted: (B, 8) uint64 masks of voxels with records.
        columns: those records.

    Returns:
        (M, 8) uint64.
    """
    found = np.zeros((rows.shape[0], 8), np.uint64)
    for i in range(rows.shape[0]):
        s = np.int64(columns.starts[rows[i]])
        for x in range(8):
            todo = noted[rows[i], x]
            while todo:
                bit = todo & (~todo + np.uint64(1))
                todo ^= bit
                if wanted[columns.labels[s]]:
                    found[i, x] |= bit
                s += 1
    return found


@njit(cache=True, nogil=True)
def renew_label_masks(
    versions: Array, since: int, wanted: Array, noted: Array, occupied: Array, columns: Columns, found: Array
) -> Array:
    """Builds the masks of occupied voxels whose label is wanted anew for the blocks that have changed.

    Args:
        versions: (B,) int64 of the blocks.
        since: version after which blocks have changed.
        wanted: (65536,) bool by label id.
        noted: (B', 8) uint64 masks of voxels with records.
        occupied: (B', 8) uint64 masks.
        columns: the records; there must be labels.
        found: (B', 8) uint64, changed in place.

    Returns:
        (M,) int64 rows of all blocks that have such voxels.
    """
    rows = np.empty(versions.shape[0], np.int64)
    count = 0
    for i in range(versions.shape[0]):
        some = np.uint64(0)
        if versions[i] > since:
            s = np.int64(columns.starts[i])
            for x in range(8):
                todo, mask = noted[i, x], np.uint64(0)
                while todo:
                    bit = todo & (~todo + np.uint64(1))
                    todo ^= bit
                    if wanted[columns.labels[s]]:
                        mask |= bit
                    s += 1
                found[i, x] = mask & occupied[i, x]
        for x in range(8):
            some |= found[i, x]
        if some:
            rows[count] = i
            count += 1
    return rows[:count]

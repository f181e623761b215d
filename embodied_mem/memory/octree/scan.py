"""From a scan to the marks of its blocks: sparse kernels for any scan, dense ones where they are faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.octree import dense, gathering, kernels
from embodied_mem.memory.octree.asking import Desk
from embodied_mem.memory.octree.crew import Crew, make_gates
from embodied_mem.memory.octree.frame import Frame, frame_of

Kept = TypeVar("Kept")

FEW = 512
"""Scans of fewer points are marked sparsely; the marks are the same."""


CELLS = 1 << 22
"""Cells of a byte map at first: what is not written to takes no memory, and pages once written to stay."""
WORTH = 150_000
"""Work that takes one thread less than this is not worth waking another one for [ns]."""
_NO_NAMES = np.empty((0, 512), np.int32)


class Marks(NamedTuple):
    """The blocks that a scan touches.

    Attributes:
        keys: (M,) int64 packed block keys.
        marks: (M, 512) uint8 of FREE and HIT bits.
        names: (V, 512) int32 labels voted for, or (0, 512) where no labels were given.
        dropped: points not used.
        slots: (M,) int32 which row of the names is a block's, -1 for none; None: each block has its own.
    """

    keys: NDArray[np.int64]
    marks: NDArray[np.uint8]
    names: NDArray[np.int32]
    dropped: int
    slots: NDArray[np.int32] | None = None

    def parts(self, size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int32]]]:
        """Gives keys, marks and names of at most so many blocks at a time: (m, 512) names, or (0, 512)."""
        for first in range(0, len(self.keys), size):
            part = slice(first, first + size)
            names = self.names[part]
            if self.slots is not None and len(self.names):
                own = self.slots[part]
                names = np.zeros((len(own), 512), np.int32)
                names[own >= 0] = self.names[own[own >= 0]]
            yield self.keys[part], self.marks[part], names


class ByteMap:
    """A scan's bounding box, one byte per voxel; zero between scans, and kept for the next one.

    Attributes:
        threads: how many may work.
        cells: all there are, uint8.
        lo: (3,) int64, its first voxel.
        shape: (3,) int64, its blocks along each axis.
        strides: (3,) int64, its cells per voxel along each axis.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._crew = Crew(threads - 1)
        self.cells = np.zeros(CELLS, np.uint8)
        self._first = np.zeros(0, np.int32)
        self._touched = gathering.Touched.room_for(0)
        self._desks: list[Desk] = []
        self._zeros: dict[str, NDArray[Any]] = {}
        self._kept: dict[str, tuple[tuple[int, ...], Any]] = {}
        self.lo = np.zeros(3, np.int64)
        self.shape = np.zeros(3, np.int64)
        self.strides = np.ones(3, np.int64)

    def spread(self, work: Callable[[int, int], Any], size: int, each: float = 300.0) -> None:
        """Calls work(first, last) for parts of range(size), on the threads there are.

        The kernels that the work calls release the GIL. `each` says about how long an item takes
        [ns]: with less than WORTH in all, one thread is quicker.
        """
        hands = max(min(self.hands(size * each), size), 1)
        self.share(lambda k: work(size * k // hands, size * (k + 1) // hands), hands)

    def join(self, work: Callable[[NDArray[np.int64]], Any], cost: float) -> None:
        """Calls work(gates) on the threads there are; with it each takes parts at the first gate.

        So a thread that comes late does not keep the others waiting. `cost` says about how long all
        of it takes one thread [ns].
        """
        gates = make_gates(1)
        self.share(lambda _: work(gates), self.hands(cost))

    def share(self, work: Callable[[int], Any], hands: int) -> None:
        """Calls work(0), work(1), ... on so many threads, of which the caller is the first: see `Crew.do`."""
        if hands > 1:
            self._crew.do([partial(work, k) for k in range(1, hands)], partial(work, 0))
        else:
            work(0)

    def hands(self, work: float) -> int:
        """Returns how many threads some work is worth that takes one of them so long [ns]."""
        return 1 if work < WORTH else self.threads

    def cast(
        self,
        points: NDArray[np.float32],
        hit: NDArray[np.bool_],
        frame: Frame,
        cells: NDArray[np.uint8],
    ) -> NDArray[np.int32]:
        """Marks the voxels that rays pass; returns the cells in which they end, (N,) int32.

        A ray restores the voxel of its end, so that each thread needs a byte map of its own.
        """
        ends, whole = np.empty(len(points), np.int32), np.empty(0, np.float32)
        spare = [self._zeroed(f"cells {k}", len(cells)) for k in range(1, self.threads)]
        maps = [cells, *spare]

        def part(first: int, last: int) -> None:
            own = maps.pop()
            dense.mark_rays(points[first:last], hit[first:last], whole, frame, own, ends[first:last])

        self.spread(part, len(points), 150)
        for own in spare:
            gathering.move_marks(own, cells)
        return ends

    def _zeroed(self, name: str, size: int) -> NDArray[np.uint8]:
        """Returns the first `size` bytes of an array that is zero, if its user leaves it so."""
        held = self._zeros.get(name)
        if held is None or len(held) < size:
            held = self._zeros[name] = np.zeros(size, np.uint8)
        return held[:size]

    def scratch(self, name: str, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
        """Returns an array to write to, the same one for the next scan of this shape.

        Fresh arrays of megabytes cost more in page faults than the work done in them.
        """
        return self.keep(name, lambda: np.empty(shape, kind), *shape)

    def keep(self, name: str, make: Callable[[], Kept], *key: int) -> Kept:
        """Returns what `make` returned for the last scan, or makes it anew for another key."""
        held = self._kept.get(name)
        if held is None or held[0] != key:
            held = self._kept[name] = key, make()
        return held[1]

    def cover(self, lo: NDArray[np.int64], hi: NDArray[np.int64]) -> NDArray[np.uint8] | None:
        """Covers the voxels from lo to hi, by whole blocks; returns the zeroed cells, None for too many."""
        first, shape, strides, size = gathering.span_blocks(lo, hi)
        if not self.grow(size):
            return None
        self.lo, self.shape, self.strides = first, shape, strides
        return self.cells[: int(size)]

    def grow(self, size: float) -> bool:
        """Makes room for so many cells; returns False where they are too many."""
        if size >= dense.MAX_CELLS:
            return False
        if len(self.cells) < size:
            self.cells = np.zeros(min(2 * int(size), dense.MAX_CELLS), np.uint8)
        return True

    def forget(self) -> None:
        """Takes other cells: a scan has failed, and these may be not zero."""
        self.cells = np.zeros(len(self.cells), np.uint8)

    def frame(self, origin: NDArray[np.float32], max_range: float, resolution: float) -> Frame:
        """Returns the geometry that the kernels need."""
        return frame_of(self.lo, self.shape, self.strides, origin, resolution, max_range)

    def take(self, cells: NDArray[np.uint8], ends: NDArray[np.int32], labels: NDArray[np.int32]) -> Any:
        """Takes the touched blocks out: keys, marks, names; the cells are zero again."""
        found = self.touched()
        count = gathering.touched_blocks(cells, self.shape, self.lo, kernels.BIAS, found)
        self.spread(lambda i, j: gathering.take_blocks(cells, self.shape, found, i, j), count, 150)
        cells[: dense.PAD] = 0
        found = found.part(count)
        return found.keys, found.marks.view(np.uint8), self.vote(found.which, self.shape, ends, labels)

    def vote(
        self,
        which: NDArray[np.int64],
        shape: NDArray[np.int64],
        ends: NDArray[np.int32],
        labels: NDArray[np.int32],
    ) -> NDArray[np.int32]:
        """Returns the labels of blocks' voxels, (M, 512) int32; (0, 512) without labels.

        Args:
            which: (M,) int64 numbers of the blocks.
            shape: (3,) int64, how many there are along each axis.
            ends: (N,) int32 cells in which rays end.
            labels: (N,) int32 of those, or (0,).
        """
        if not len(labels):
            return _NO_NAMES
        names, votes = np.zeros((2, len(which), 512), np.int32)
        slots = np.empty(int(shape.prod()), np.int32)
        gathering.vote_labels(ends, labels, which, shape, slots, names, votes)
        return names

    def touched(self) -> gathering.Touched:
        """Returns room for the blocks of all cells; what it holds lasts until the next scan."""
        if len(self._touched.which) * 512 < len(self.cells):
            self._touched = gathering.Touched.room_for(-(-len(self.cells) // 512))
        return self._touched

    def desks(self, hands: int) -> list[Desk]:
        """Returns what so many threads write to while they ask pixels."""
        while len(self._desks) < hands:
            self._desks.append(Desk.make())
        return self._desks[:hands]

    def first(self) -> NDArray[np.int32]:
        """Returns an int32 zero for each cell, to be zero again after use."""
        if len(self._first) < len(self.cells):
            self._first = np.zeros(len(self.cells), np.int32)
        return self._first


def mark(
    points: NDArray[np.float32],
    hit: NDArray[np.bool_],
    labels: NDArray[np.int32],
    origin: NDArray[np.float32],
    max_range: float,
    resolution: float,
    cast: bool,
    byte_map: ByteMap,
) -> Marks:
    """Marks the voxels of a scan; see `kernels.mark_scan` for the arguments."""
    if cast and len(points) >= FEW:
        lo, hi, dropped = gathering.scan_bounds(points, origin, max_range, resolution, kernels.WORLD)
        cells = byte_map.cover(lo, hi)
        if cells is not None:
            ends = byte_map.cast(points, hit, byte_map.frame(origin, max_range, resolution), cells)
            gathering.mark_ends(cells, ends)
            keys, marks, names = byte_map.take(cells, ends, labels)
            return Marks(keys, marks, names, int(dropped))
    scan, count, dropped = kernels.mark_scan(points, hit, labels, origin, max_range, resolution, cast)
    names = scan.names[: scan.used[0]]
    return Marks(scan.keys[:count], scan.marks[:count], names, int(dropped), scan.slots[:count])

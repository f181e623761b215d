"""Numba kernels for depth images: which voxels do pixels see through?

Rays of neighbouring pixels pass the same voxels over and over. So it is the octree's nodes
that are asked here, not the rays: blocks of 8^3 voxels, their cubes of 4^3 and octants of 2^3, then voxels.
A node is free if the pixels all over it see beyond it, and it is left alone if none of them
sees that far; a voxel is free if the ray of the pixel at its centre passes it and ends beyond
it. The few voxels between are listed, for `settling`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.nodes import OPEN, PART, WHOLE, Nodes, Sheet, judge_nodes, nodes_on
from embodied_mem.memory.octree.settling import settle_voxels
from embodied_mem.memory.octree.view import Unsettled, View, Work
from embodied_mem.memory.octree.voxels import ask_voxels, voxel_sheet, voxels_on

Array = NDArray[Any]

PAD = 64
"""As in `dense`."""
BATCH = 256
"""Blocks that are judged at once. What is not settled of as many must fit `Unsettled`, and a count of all
their octants 16 bits."""
ENOUGH = 8192
"""Voxels that are not settled yet and fit the caches: with more, they are settled before more are listed."""
_ALL8, _ALL4, _ALL2 = np.uint64(0x0101010101010101), np.uint32(0x01010101), np.uint16(0x0101)
"""Eight, four and two cells FREE."""


class Asked(NamedTuple):
    """Scratch for one thread: a batch of blocks, their cubes, their octants, and those to be asked about.

    Attributes:
        blocks, cubes, octants: nodes of 8^3, 4^3 and 2^3 voxels.
        kept: (4, N) int32, nodes by state.
        voxels: of octants.
    """

    blocks: Sheet
    cubes: Sheet
    octants: Sheet
    kept: Array
    voxels: Sheet

    @classmethod
    def make(cls) -> Asked:
        """Allots it."""
        blocks, cubes, octants = (Sheet.of_nodes(many * BATCH) for many in (1, 8, 64))
        return cls(blocks, cubes, octants, np.empty((4, 64 * BATCH), np.int32), voxel_sheet(64 * BATCH))


class Desk(NamedTuple):
    """What a thread writes to while it asks."""

    asked: Asked
    left: Unsettled

    @classmethod
    def make(cls) -> Desk:
        """Allots it."""
        return cls(Asked.make(), Unsettled.room_for(512 * BATCH + ENOUGH + 1))


@njit(cache=True, nogil=True)
def _list_blocks(first: int, last: int, shape: Array, blocks: Nodes) -> int:
    """Lists a batch of the blocks from `first` to before `last`, counted z fastest; returns how many."""
    size, plane, row = min(last - first, BATCH), shape[1] * shape[2], shape[2]
    for n in range(size):
        block = first + n
        blocks.x[n], blocks.y[n] = block // plane * 8, block // row % shape[1] * 8
        blocks.z[n] = block % row * 8
    return size


@njit(cache=True, nogil=True)
def _sort_nodes(nodes: Nodes, count: int, kept: Array, sizes: Array) -> None:
    """Lists the nodes of each state in a row of `kept`; `sizes` (4,) is filled with how many."""
    states, sums = nodes.states, np.uint64(0)  # four counts of 16 bits: to count in memory takes longer
    for n in range(count):
        state = states[n]
        shift = np.uint64(16 * state)
        kept[state, (sums >> shift) & np.uint64(0xFFFF)] = n
        sums += np.uint64(1) << shift
    for state in range(4):
        sizes[state] = (sums >> np.uint64(16 * state)) & np.uint64(0xFFFF)


@njit(cache=True, nogil=True)
def _fill_nodes(
    items: Array, free: int, edge: int, strides: Array, nodes: Nodes, kept: Array, size: int
) -> None:
    """Marks FREE all voxels of chosen nodes.

    Args:
        items: the byte map, `edge` cells at a time.
        free: as many cells, FREE.
        edge: of the nodes [voxels].
        strides: (3,) int64 cells per voxel along each axis.
        nodes: of one level.
        kept: which ones.
        size: how many.
    """
    sx, sy, xs, ys, zs = strides[0] // edge, strides[1] // edge, nodes.x, nodes.y, nodes.z
    for k in range(size):
        n = kept[k]
        corner = PAD // edge + xs[n] * sx + ys[n] * sy + zs[n] // edge
        for x in range(edge):
            for y in range(edge):
                items[corner + x * sx + y * sy] |= free


@njit(cache=True, nogil=True)
def _split_nodes(half: int, nodes: Nodes, kept: Array, size: int, parts: Nodes, found: int) -> int:
    """Lists the eight parts, of `half` voxels, of chosen nodes after `found` others; returns how many now."""
    xs, ys, zs = nodes.x, nodes.y, nodes.z
    px, py, pz = parts.x, parts.y, parts.z
    for k in range(size):
        n = kept[k]
        x, y, z = xs[n], ys[n], zs[n]
        for q in range(8):
            px[found + q] = x + (q >> 2) * half
            py[found + q] = y + ((q >> 1) & 1) * half
            pz[found + q] = z + (q & 1) * half
        found += 8
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def _ask_blocks(
    view: View, work: Work, reach: Array, seen: Array, opened: Array, firsts: Array, levels: Array,
    shape: Array, strides: Array, cells: Array, first: int, last: int, limit: float, asked: Asked,
    left: Unsettled
) -> tuple[int, int]:  # fmt: skip
    """Asks about blocks, from `first` on; the other arguments as for `ask_blocks`.

    Returns:
        the block to go on with, `last` unless there was no more room in `left`; and how many voxels
        are not settled.
    """
    blocks, cubes, octants = nodes_on(asked.blocks), nodes_on(asked.cubes), nodes_on(asked.octants)
    kept, voxels = asked.kept, voxels_on(asked.voxels)
    sx, sy, pairs, sizes = strides[0] >> 1, strides[1] >> 1, cells.view(np.uint16), np.zeros(4, np.int64)
    count = 0
    while first < last:
        size = _list_blocks(first, last, shape, blocks)
        if count > ENOUGH or count + 512 * size >= left.cells.shape[0]:
            break
        first += size
        judge_nodes(view, work, 8, limit, firsts[1], levels, seen, opened, blocks, size)
        _sort_nodes(blocks, size, kept, sizes)
        _fill_nodes(cells.view(np.uint64), _ALL8, 8, strides, blocks, kept[OPEN], sizes[OPEN])
        found = _split_nodes(4, blocks, kept[WHOLE], sizes[WHOLE], cubes, 0)
        found = _split_nodes(4, blocks, kept[PART], sizes[PART], cubes, found)
        judge_nodes(view, work, 4, limit, firsts[1], levels, seen, opened, cubes, found)
        _sort_nodes(cubes, found, kept, sizes)
        _fill_nodes(cells.view(np.uint32), _ALL4, 4, strides, cubes, kept[OPEN], sizes[OPEN])
        found = _split_nodes(2, cubes, kept[WHOLE], sizes[WHOLE], octants, 0)
        found = _split_nodes(2, cubes, kept[PART], sizes[PART], octants, found)
        judge_nodes(view, work, 2, limit, firsts[1], levels, seen, opened, octants, found)
        _sort_nodes(octants, found, kept, sizes)
        _fill_nodes(pairs, _ALL2, 2, strides, octants, kept[OPEN], sizes[OPEN])
        for state in (WHOLE, PART):
            count = ask_voxels(
                view, work, state == WHOLE, octants, kept[state], sizes[state], firsts[0], levels, reach,
                seen, limit, pairs, sx, sy, voxels, count, left,
            )  # fmt: skip
    return first, count


@njit(cache=True, nogil=True, error_model="numpy")
def ask_blocks(
    view: View, work: Work, reach: Array, sight: Array, seen: Array, opened: Array, firsts: Array,
    levels: Array, shape: Array, strides: Array, cells: Array, first: int, last: int, limit: float,
    follow: float, settle: bool, starts: Array, asked: Asked, left: Unsettled
) -> None:  # fmt: skip
    """Marks FREE the voxels that the pixels at their centres see through, in some blocks of the byte map.

    Blocks do not depend on each other: threads may take different ones, with scratch of their own.

    Args:
        view: the camera.
        work: what `prepare_work` made of it.
        reach: (H * W,) float32 planar depth of the rays' ends, -1 where there is no ray.
        sight: of `farthest_pyramid`.
        seen: of `spread_pyramid`.
        opened: likewise, of the negated depths.
        firsts: (2,) int64, the first level for which `seen` is filled, and `opened`.
        levels: of `pyramid_layout`.
        shape: (3,) int64 blocks of the byte map along each axis.
        strides: (3,) int64 cells per voxel along each axis.
        cells: the byte map, in which the rays' ends are marked HIT already.
        first: first block, counted z fastest.
        last: the one after the last block.
        limit: what lies wholly beyond this depth is left alone [m].
        follow: of `settle_voxels` [m].
        settle: whether to settle what pixels do not.
        starts: of `settle_voxels`.
        asked: scratch.
        left: likewise.
    """
    while first < last:
        first, count = _ask_blocks(
            view, work, reach, seen, opened, firsts, levels, shape, strides, cells, first, last, limit,
            asked, left,
        )  # fmt: skip
        if settle:
            settle_voxels(view, work, reach, sight, levels, cells, starts, left, count, follow)

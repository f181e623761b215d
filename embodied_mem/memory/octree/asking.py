"""Numba kernels for depth images: which voxels do pixels see through?

Rays of neighbouring pixels pass the same voxels over and over. So it is the octree's nodes
that are asked here, not the rays: blocks of 8^3 voxels, then their cubes of 4^3, then voxels.
A node is free if the pixels all over it see beyond it, and it is left alone if none of them
sees that far; a voxel is free if the ray of the pixel at its centre passes it and ends beyond
it. The few voxels between are listed, for `settling`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.octree.cubes import ROOM, Cubes, ask_cubes
from embodied_mem.memory.octree.nodes import HIDDEN, OPEN, PART, Nodes, judge_nodes
from embodied_mem.memory.octree.settling import settle_voxels
from embodied_mem.memory.octree.view import Unsettled, View, Work, make_scratch

Array = NDArray[Any]

PAD = 64
"""As in `dense`."""
RUN = 2
"""Neighbouring blocks that one thread asks before it leaves as many to each of the others."""
BATCH = 128
"""Blocks that are judged at once; a multiple of RUN. What is not settled of as many must fit `Unsettled`."""
_ALL8, _ALL4 = np.uint64(0x0101010101010101), np.uint32(0x01010101)
"""All cells of a word, and of half a word, FREE."""


class Asked(NamedTuple):
    """Scratch for one thread: a batch of blocks, cubes of those, and cubes whose voxels are asked."""

    blocks: Nodes
    halves: Nodes
    cubes: Cubes

    @classmethod
    def make(cls) -> Asked:
        """Allots it."""
        return cls(Nodes.room_for(BATCH), Nodes.room_for(8 * BATCH), Cubes.make())


class Desk(NamedTuple):
    """What a thread writes to while it asks."""

    asked: Asked
    left: Unsettled
    scratch: tuple[Array, ...]

    @classmethod
    def make(cls) -> Desk:
        """Allots it."""
        return cls(Asked.make(), Unsettled.room_for(2 * BATCH * 512), make_scratch())


@njit(cache=True, nogil=True)
def _list_blocks(first: int, share: Array, shape: Array, blocks: Nodes) -> int:
    """Lists a batch of a share's blocks, from its block `first` on; returns how many."""
    own, turn, n = share[1] * RUN, share[2] * RUN, 0
    total, plane, row = shape[0] * shape[1] * shape[2], shape[1] * shape[2], shape[2]
    for i in range(first, first + BATCH):
        block = i // own * turn + share[0] * RUN + i % own  # counted z fastest
        if block >= total:
            break
        blocks.x[n], blocks.y[n] = block // plane * 8, block // row % shape[1] * 8
        blocks.z[n] = block % row * 8
        n += 1
    return n


@njit(cache=True, nogil=True)
def _split_blocks(words: Array, sx: int, sy: int, blocks: Nodes, count: int, halves: Nodes) -> int:
    """Marks FREE the blocks that are OPEN; lists the cubes of those that are not HIDDEN either.

    Args:
        words: the byte map, eight cells at a time.
        sx: words per voxel along x.
        sy: words per voxel along y.
        blocks: judged.
        count: how many.
        halves: filled with cubes.

    Returns:
        how many cubes.
    """
    found = 0
    for n in range(count):
        state = blocks.states[n]
        if state == HIDDEN:
            continue
        x, y, z = blocks.x[n], blocks.y[n], blocks.z[n]
        if state == OPEN:
            corner = (PAD >> 3) + x * sx + y * sy + (z >> 3)
            for i in range(64):
                words[corner + (i >> 3) * sx + (i & 7) * sy] |= _ALL8
            continue
        for q in range(8):
            halves.x[found + q] = x + ((q >> 2) << 2)
            halves.y[found + q] = y + (((q >> 1) & 1) << 2)
            halves.z[found + q] = z + ((q & 1) << 2)
        found += 8
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def _open_cubes(
    view: View, work: Work, first: int, levels: Array, reach: Array, seen: Array, limit: float, quads: Array,
    sx: int, sy: int, halves: Nodes, found: int, cubes: Cubes, count: int, left: Unsettled
) -> int:  # fmt: skip
    """Marks FREE the cubes that are OPEN; asks about the voxels of those that are not HIDDEN either.

    Args:
        view: of `ask_share`.
        work: likewise.
        first: the first level for which `seen` is filled.
        levels: likewise.
        reach: likewise.
        seen: likewise.
        limit: likewise.
        quads: the byte map, four cells at a time.
        sx: quads per voxel along x.
        sy: quads per voxel along y.
        halves: cubes, judged.
        found: how many.
        cubes: scratch.
        count: voxels listed so far.
        left: where to list them.

    Returns:
        how many are listed now.
    """
    kept, sizes = cubes.nodes, cubes.sizes
    states, xs, ys, zs = halves.states, halves.x, halves.y, halves.z
    for n in range(found):
        state = states[n]
        if state == HIDDEN:
            continue
        x, y, z = np.int64(xs[n]), np.int64(ys[n]), np.int64(zs[n])
        if state == OPEN:
            corner = (PAD >> 2) + x * sx + y * sy + (z >> 2)
            for i in range(16):
                quads[corner + (i >> 2) * sx + (i & 3) * sy] |= _ALL4
            continue
        kind = np.int64(state == PART)
        size = sizes[kind]
        kept[kind, size] = n
        sizes[kind] = size + 1
        if size + 1 == ROOM:
            count = ask_cubes(
                view, work, kind, ROOM, halves, kept[kind], first, levels, reach, seen, limit, quads, sx, sy, cubes, count,
                left,
            )
            sizes[kind] = 0
    for kind in range(2):
        if sizes[kind]:
            count = ask_cubes(
                view, work, kind, sizes[kind], halves, kept[kind], first, levels, reach, seen, limit, quads, sx, sy, cubes,
                count, left,
            )  # fmt: skip
            sizes[kind] = 0
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def _ask_blocks(
    view: View, work: Work, reach: Array, seen: Array, opened: Array, firsts: Array, levels: Array,
    shape: Array, strides: Array, cells: Array, first: int, share: Array, limit: float, asked: Asked,
    left: Unsettled
) -> tuple[int, int]:  # fmt: skip
    """Asks about the blocks of a share, from its block `first` on; the other arguments as for `ask_share`.

    Returns:
        the share's block to go on with, -1 unless there was no more room in `left`; and how many
        voxels are not settled.
    """
    sx, sy, words, quads = strides[0], strides[1], cells.view(np.uint64), cells.view(np.uint32)
    blocks, halves, cubes = asked.blocks, asked.halves, asked.cubes
    count = 0
    while True:
        size = _list_blocks(first, share, shape, blocks)
        if size == 0:
            return -1, count
        judge_nodes(view, work, 8, limit, firsts[1], levels, seen, opened, blocks, size)
        found = _split_blocks(words, sx >> 3, sy >> 3, blocks, size, halves)
        if count + 64 * found >= left.cells.shape[0]:
            return first, count
        first += BATCH
        if found:
            judge_nodes(view, work, 4, limit, firsts[1], levels, seen, opened, halves, found)
            count = _open_cubes(
                view, work, firsts[0], levels, reach, seen, limit, quads, sx >> 2, sy >> 2, halves, found,
                cubes, count, left,
            )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def ask_share(
    view: View, work: Work, reach: Array, sight: Array, seen: Array, opened: Array, firsts: Array,
    levels: Array, shape: Array, strides: Array, cells: Array, share: Array, limit: float, follow: float,
    settle: bool, starts: Array, asked: Asked, left: Unsettled
) -> None:  # fmt: skip
    """Marks FREE the voxels that the pixels at their centres see through, in a share of the byte map.

    Blocks do not depend on each other: threads may take different ones, with scratch of their own.
    Shares take turns, RUN blocks for each of their parts, so that about as much is in each part.

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
        share: (3,) int64: its first part, how many it has, and how many parts there are in all.
        limit: what lies wholly beyond this depth is left alone [m].
        follow: of `settle_voxels` [m].
        settle: whether to settle what pixels do not.
        starts: of `settle_voxels`.
        asked: scratch.
        left: likewise.
    """
    first = 0
    while first >= 0:
        first, count = _ask_blocks(
            view, work, reach, seen, opened, firsts, levels, shape, strides, cells, first, share, limit, asked,
            left,
        )  # fmt: skip
        if settle:
            settle_voxels(view, work, reach, sight, levels, cells, starts, left, count, follow)

"""The octree as an OctoMap binary tree (`.bt`): what is occupied, free and unknown.

The format is OctoMap's (Hornung et al., "OctoMap: An Efficient Probabilistic 3D Mapping Framework
Based on Octrees", 2013): a text header, then the inner nodes in depth-first order, each with two
bits for each of its eight children.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.memory import Memory

DEPTH = 16
"""Levels of an OctoMap tree: its keys have 16 bits an axis."""
FREE, OCCUPIED, INNER = 1, 2, 3
"""The codes of a child; 0 is unknown."""


def write_octomap_bt(memory: Memory, path: Path) -> str:
    """Writes every known voxel, occupied or free, pruned as OctoMap prunes.

    Args:
        memory: an open memory.
        path: the file to write.

    Returns:
        what was written, in words.

    Raises:
        InputError: the map reaches farther from the origin than the 32,768 voxels of OctoMap's keys.
    """
    tree = memory.octree
    voxels = tree.voxels(occupied=True, free=True)
    cells = np.floor(voxels.centers.astype(np.float64) / tree.resolution).astype(np.int64) + (1 << DEPTH - 1)
    if len(cells) and (cells.min() < 0 or cells.max() >= 1 << DEPTH):
        reach = tree.resolution * (1 << DEPTH - 1)
        raise InputError(
            f"OctoMap's keys reach {reach:g} m from the origin at this resolution; this map goes farther"
        )
    states = np.where(voxels.log_odds >= 0, OCCUPIED, FREE).astype(np.uint8)
    inner, children, nodes = _inner_nodes(_morton(cells), states)
    header = [
        "# Octomap OcTree binary file",
        "# (feel free to add / change comments, but leave the first line as it is!)",
        "#",
        "id OcTree",
        f"size {nodes}",
        f"res {tree.resolution:.17g}",
        "data",
    ]
    path.write_bytes(("\n".join(header) + "\n").encode() + children[inner].astype("<u2").tobytes())
    return f"{len(voxels)} known voxels in {nodes} nodes"


def _morton(cells: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Interleaves (N, 3) indices of 16 bits; x is the lowest bit, as in OctoMap's child index."""
    codes = np.zeros(len(cells), np.uint64)
    for axis in range(3):
        bits = cells[:, axis].astype(np.uint64)
        for shift, mask in ((32, 0xFFFF00000000FFFF), (16, 0x00FF0000FF0000FF), (8, 0xF00F00F00F00F00F)):
            bits = (bits | bits << np.uint64(shift)) & np.uint64(mask)
        bits = (bits | bits << np.uint64(4)) & np.uint64(0x30C30C30C30C30C3)
        bits = (bits | bits << np.uint64(2)) & np.uint64(0x9249249249249249)
        codes |= bits << np.uint64(axis)
    return codes


def _inner_nodes(
    codes: NDArray[np.uint64], states: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Builds the tree from its leaves upward.

    Args:
        codes: (N,) Morton codes of the voxels.
        states: (N,) their states, FREE or OCCUPIED.

    Returns:
        (M,) the depth-first order of the inner nodes, (M,) the two-bit codes of their children, and the
        number of all nodes.
    """
    order = np.argsort(codes)
    codes, states = codes[order], states[order]
    starts, depths, children = [], [], []
    nodes = len(codes)
    for depth in range(DEPTH - 1, -1, -1):
        parents, first = np.unique(codes >> np.uint64(3), return_index=True)
        shifts = 2 * (codes & np.uint64(7)).astype(np.int64)
        of_child = states.astype(np.int64) << shifts
        coded = np.add.reduceat(of_child, first) if len(first) else of_child
        uniform = np.isin(coded, (0x5555, 0xAAAA)) & (
            depth > 0
        )  # eight leaves alike: one leaf in their place
        nodes += len(parents) - 8 * int(uniform.sum())
        starts.append(parents[~uniform] << np.uint64(3 * (DEPTH - depth)))
        depths.append(np.full(int((~uniform).sum()), depth))
        children.append(coded[~uniform])
        codes = parents
        states = np.where(uniform, coded & 3, INNER).astype(np.uint8)
    order = np.lexsort((np.concatenate(depths), np.concatenate(starts)))
    return order, np.concatenate(children), nodes

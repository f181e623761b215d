"""Coarser levels of the octree: largest log-odds and dominant label of inner nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.octree import kernels, masks
from embodied_mem.memory.octree.blocks import BlockStore, block_coords, block_keys
from embodied_mem.memory.octree.octants import node_maxima

BLOCK_LEVEL = 3
"""Level of the nodes that are blocks: 8 voxels on an edge."""


@dataclass(frozen=True, eq=False)
class Nodes:
    """All nodes of one level, at one version of the tree.

    Attributes:
        keys: (M,) int64, sorted: packed coordinates of the nodes above blocks; empty at and below
            the level of blocks.
        log_odds: (M,) int8 maxima, above blocks only.
        labels: (M,) int32 dominant label of a node's noted voxels, 0 where none is labelled.
        weights: (M,) int32 by how many voxels.
    """

    keys: NDArray[np.int64]
    log_odds: NDArray[np.int8]
    labels: NDArray[np.int32]
    weights: NDArray[np.int32]


class Levels:
    """Answers for inner nodes; what is above blocks is rebuilt when the tree has changed."""

    def __init__(self, store: BlockStore) -> None:
        self._store = store
        self._version = -1
        self._nodes: dict[int, Nodes] = {}

    def log_odds(
        self, points: NDArray[np.float32], inverse: float, level: int, version: int
    ) -> NDArray[np.int8]:
        """Returns (N,) int8 largest log-odds step of the nodes around points, -128 unknown."""
        rows, local = kernels.locate(points, inverse, self._store.table)
        if level <= BLOCK_LEVEL:
            return node_maxima(rows, local, level, self._store.log_odds)
        nodes = self._at(level, version)
        found = _search(nodes.keys, points, inverse, level)
        return np.where(found >= 0, nodes.log_odds[found], np.int8(-128)).astype(np.int8)

    def labels(
        self, points: NDArray[np.float32], inverse: float, level: int, version: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Returns the dominant labels (N,) of the nodes around points, and by how many voxels."""
        nodes = self._at(level, version)
        if level > BLOCK_LEVEL:
            found = _search(nodes.keys, points, inverse, level)
        else:
            rows, local = kernels.locate(points, inverse, self._store.table)
            found = np.where(rows >= 0, rows * _parts(level) + _part(local, level), -1)
        inside = found >= 0
        return (
            np.where(inside, nodes.labels[found], 0).astype(np.int32),
            np.where(inside, nodes.weights[found], 0).astype(np.int32),
        )

    @property
    def nbytes(self) -> int:
        """Bytes that the answers prepared since the last change take."""
        return sum(a.nbytes for n in self._nodes.values() for a in (n.keys, n.log_odds, n.labels, n.weights))

    def _at(self, level: int, version: int) -> Nodes:
        if version != self._version:
            self._nodes.clear()
            self._version = version
        if level not in self._nodes:
            self._nodes[level] = self._build(level)
        return self._nodes[level]

    def _build(self, level: int) -> Nodes:
        store, count = self._store, self._store.count
        if level > BLOCK_LEVEL:
            coords = block_coords(store.keys[:count])
            shifted = block_keys((coords >> (level - BLOCK_LEVEL)).reshape(-1, 3))
            keys, node_of_row = np.unique(shifted, return_inverse=True)
            maxima = np.full(len(keys) + 1, -128, np.int8)
            rows, first = np.arange(count), np.zeros(count, np.int64)
            np.maximum.at(maxima, node_of_row, node_maxima(rows, first, BLOCK_LEVEL, store.log_odds))
        else:
            keys, maxima = np.empty(0, np.int64), np.empty(0, np.int8)
            node_of_row = np.arange(count, dtype=np.int64)
        size = len(keys) if level > BLOCK_LEVEL else count * _parts(level)
        labels, weights = np.zeros(size + 1, np.int32), np.zeros(size + 1, np.int32)
        which, local, names = self._labelled_voxels()
        node = node_of_row[which]
        if level <= BLOCK_LEVEL:
            node = node * _parts(level) + _part(local, level)
        pairs, votes = np.unique(node << 16 | names, return_counts=True)
        # The last of a node's pairs wins: most votes, and of equals the smallest label.
        order = np.lexsort((-(pairs & 0xFFFF), votes, pairs >> 16))
        labels[pairs[order] >> 16] = pairs[order] & 0xFFFF
        weights[pairs[order] >> 16] = votes[order]
        return Nodes(keys, maxima, labels, weights)

    def _labelled_voxels(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        store = self._store
        if not store.records.has("labels"):
            none = np.empty(0, np.int64)
            return none, none, none
        rows = np.arange(store.count, dtype=np.int64)
        which, local = masks.list_voxels(store.masks.noted[: store.count])
        _, slots = store.list_records(rows)
        names = store.records.columns.labels[slots].astype(np.int64)
        labelled = names > 0
        return which[labelled], local[labelled], names[labelled]


def _parts(level: int) -> int:
    """Returns how many nodes of a level are in a block."""
    return 8 ** (BLOCK_LEVEL - level)


def _part(local: NDArray[np.int64], level: int) -> NDArray[np.int64]:
    """Returns which of its block's nodes of a level a voxel is in."""
    edge = BLOCK_LEVEL - level
    x, y, z = local >> (6 + level), (local >> (3 + level)) & (7 >> level), (local & 7) >> level
    return (x << (2 * edge)) | (y << edge) | z


def _search(
    keys: NDArray[np.int64], points: NDArray[np.float32], inverse: float, level: int
) -> NDArray[np.int64]:
    """Returns the (N,) index of the node above blocks around points, -1 where there is none."""
    voxels = np.floor(points.astype(np.float64) * inverse)
    inside: NDArray[np.bool_] = np.all(np.abs(voxels) < kernels.WORLD, axis=1)
    coords = np.where(inside[:, None], voxels, 0).astype(np.int64)
    wanted = block_keys(coords >> level)
    found = np.searchsorted(keys, wanted)
    found[found == len(keys)] = 0
    inside &= np.append(keys, -1)[found] == wanted
    return np.where(inside, found, -1)

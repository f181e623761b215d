"""The voxels with some labels, kept up to date where the map changes: policies ask at every step."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.octree.blocks import BlockStore
from embodied_mem.memory.octree.records import label_masks


class Labelled:
    """Masks of the occupied voxels that have one of the labels last asked for.

    Args:
        store: the blocks.
    """

    def __init__(self, store: BlockStore) -> None:
        self._store = store
        self._labels: tuple[int, ...] = ()
        self._wanted = np.zeros(65536, np.bool_)
        self._version = -1
        self._masks = np.empty((0, 8), np.uint64)
        self._some = np.empty(0, np.bool_)

    def find(self, labels: Iterable[int], version: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Returns the rows of blocks with such voxels, sorted by key, and their (M, 8) uint64 masks.

        Args:
            labels: label ids.
            version: of the octree; what has changed since the last question is looked at anew.
        """
        store, asked = self._store, tuple(labels)
        if not store.records.has("labels"):
            return np.empty(0, np.int64), np.empty((0, 8), np.uint64)
        if asked != self._labels:
            self._wanted[list(self._labels)] = False
            self._wanted[list(asked)] = True
            self._labels, self._version = asked, -1
        if store.count > len(self._some):
            size = len(store.versions)
            self._masks, self._some = np.zeros((size, 8), np.uint64), np.zeros(size, np.bool_)
            self._version = -1
        rows = np.flatnonzero(store.versions[: store.count] > self._version)
        if len(rows):
            chosen = label_masks(rows, self._wanted, store.masks.noted, store.records.columns)
            chosen &= store.masks.occupied[rows]
            self._masks[rows], self._some[rows] = chosen, chosen.any(axis=1)
        self._version = version
        rows = np.flatnonzero(self._some[: store.count])
        rows = rows[np.argsort(store.keys[rows], kind="stable")]
        return rows, self._masks[rows]

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self._wanted.nbytes + self._masks.nbytes + self._some.nbytes

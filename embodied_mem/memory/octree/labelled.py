"""The voxels with some labels, kept up to date where the map changes: policies ask at every step."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.octree.blocks import BlockStore
from embodied_mem.memory.octree.records import renew_label_masks


class Labelled:
    """Masks of the occupied voxels that have one of the labels last asked for.

    Args:
        store: the blocks.
    """

    def __init__(self, store: BlockStore) -> None:
        self._store = store
        self._labels: tuple[int, ...] | None = None
        self._wanted = np.empty(0, np.bool_)
        self._version = -1
        self._masks = np.empty((0, 8), np.uint64)

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
            self._wanted = np.zeros(65536, np.bool_)
            self._wanted[list(asked)] = True
            self._labels, self._version = asked, -1
        if store.count > len(self._masks):
            self._masks = np.zeros((len(store.versions), 8), np.uint64)
            self._version = -1
        rows = renew_label_masks(
            store.versions[: store.count],
            self._version,
            self._wanted,
            store.masks.noted,
            store.masks.occupied,
            store.records.columns,
            self._masks,
        )
        self._version = version
        if len(rows) > 1:
            rows = rows[np.argsort(store.keys[rows], kind="stable")]
        return rows, self._masks[rows]

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self._wanted.nbytes + self._masks.nbytes

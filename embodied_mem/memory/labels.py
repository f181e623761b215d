"""Label ids of many sources, as ids of one memory: by name, first come, first id."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from embodied_mem.types import LabelMap, Percept, Scan


class Relabel:
    """Maps the label ids of percepts to the ids of a memory's own `LabelMap`.

    Args:
        labels: the memory's labels; they grow with what comes.
    """

    def __init__(self, labels: LabelMap) -> None:
        self.labels = labels
        self._source = labels
        self._table = np.arange(len(labels), dtype=np.int32)
        self._is_identity = True

    def percept(self, percept: Percept) -> Percept:
        """Returns a percept whose labels are the memory's; ids without a name become 0, unknown."""
        self._learn(percept.labels)
        scans = tuple(self._scan(scan) for scan in percept.scans)
        detections = tuple(
            d if self.label(d.label) == d.label else replace(d, label=self.label(d.label))
            for d in percept.detections
        )
        return replace(percept, labels=self.labels, scans=scans, detections=detections)

    def label(self, label: int) -> int:
        """Returns the memory's id of a label id of the newest percept, 0 where it has no name."""
        return int(self._table[label]) if 0 <= label < len(self._table) else 0

    def _scan(self, scan: Scan) -> Scan:
        labels = scan.labels
        if not labels.size:
            return scan
        named = int(labels.min()) >= 0 and int(labels.max()) < len(self._table)
        if named and self._is_identity:
            return scan
        known = labels if named else np.where((labels >= 0) & (labels < len(self._table)), labels, 0)
        return replace(scan, labels=self._table[known])

    def _learn(self, source: LabelMap) -> None:
        if source is self._source or source == self._source:
            return
        ids = {name: i for i, name in enumerate(self.labels.names)}
        for name in source.names:
            ids.setdefault(name, len(ids))
        if len(ids) > len(self.labels):
            self.labels = LabelMap(tuple(ids))
        self._source = source
        self._table = np.array([ids[name] for name in source.names], np.int32)
        self._is_identity = bool((self._table == np.arange(len(self._table))).all())

"""Label maps of several sensors made one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embodied_mem.types import Detection, LabelMap, Scan


def join_labels(first: LabelMap, second: LabelMap) -> tuple[LabelMap, NDArray[np.int32]]:
    """Joins two label maps by name; the ids of the first stay.

    Returns:
        the joint map, and the (len(second),) int32 table from ids of the second to its ids.
    """
    if first == second:
        return first, np.arange(len(first), dtype=np.int32)
    known = set(first.names)
    joint = LabelMap(first.names + tuple(name for name in second.names if name not in known))
    ids = {name: i for i, name in enumerate(joint.names)}
    return joint, np.array([ids[name] for name in second.names], np.int32)


def relabel_ids(labels: NDArray[np.integer], table: NDArray[np.int32]) -> NDArray[np.int32]:
    """Maps label ids of any shape through a table; ids outside the table become 0, unknown."""
    known = (labels >= 0) & (labels < len(table))
    return np.where(known, table[np.where(known, labels, 0)], 0).astype(np.int32)


def relabel_detections(detections: Sequence[Detection], table: NDArray[np.int32]) -> tuple[Detection, ...]:
    """Maps the labels of detections through a table."""
    return tuple(dataclasses.replace(d, label=int(relabel_ids(np.array(d.label), table))) for d in detections)


def relabel_scans(scans: Sequence[Scan], table: NDArray[np.int32]) -> tuple[Scan, ...]:
    """Maps the labels of scans through a table."""
    return tuple(dataclasses.replace(s, labels=relabel_ids(s.labels, table)) for s in scans)

"""The gate: what may change the memory, and why something may not.

It looks at a percept and at the newest pose and stamp in the memory, and at nothing else,
so that a replay comes to the same verdicts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.memory.config import GateConfig
from embodied_mem.memory.embedders import Embedders
from embodied_mem.types import NS_PER_S, Detection, Image, Percept, Scan


@dataclass(frozen=True, eq=False)
class Cleaned:
    """A percept without what cannot be used.

    Attributes:
        percept: finite numbers only.
        points: scan points that were dropped.
        detections: detections that were dropped.
        embeddings: embeddings that were dropped, of the view or of a detection.
    """

    percept: Percept
    points: int
    detections: int
    embeddings: int


class Gate:
    """Judges percepts before they change anything.

    Args:
        config: what is let in.
    """

    def __init__(self, config: GateConfig) -> None:
        self.config = config

    def objection(self, percept: Percept, stamp: int | None, pose: Pose) -> str:
        """Returns why a percept may not be written, in words a person can act on; "" where it may.

        Args:
            percept: what is to be written.
            stamp: the newest stamp in the memory [ns]; None where it is empty.
            pose: `map_T_base` at that stamp.
        """
        if not (percept.odom_T_base.is_finite and percept.map_T_odom.is_finite):
            return "the pose holds NaN or infinite numbers; check odometry and localisation"
        if stamp is not None and percept.stamp <= stamp:
            return (
                f"the stamp {percept.stamp} ns is not after {stamp} ns, the newest in this memory; "
                "a new run needs later stamps"
            )
        return self._uncertain(percept) or self._jump(percept, stamp, pose)

    def misplaced(self, pose: Pose, positions: NDArray[np.float64]) -> str:
        """Returns why a pose cannot be where a reopened memory goes on; "" where it can.

        Args:
            pose: `map_T_base`, as the localiser or a person gives it.
            positions: (N, 3) where the agent has been [m].
        """
        if not pose.is_finite:
            return "the pose holds NaN or infinite numbers"
        delta = positions - pose.position
        nearest = float(np.sqrt((delta * delta).sum(axis=1).min())) if len(positions) else 0.0
        if nearest <= self.config.relocalize_reach:
            return ""
        return (
            f"the pose is {nearest:.1f} m from where this memory's agent has been, more than "
            f"{self.config.relocalize_reach:g} m; is it a pose in this map?"
        )

    def _uncertain(self, percept: Percept) -> str:
        if percept.covariance is None:
            return ""
        variances = np.diagonal(np.asarray(percept.covariance, np.float64))
        if variances.shape != (6,) or not np.isfinite(variances).all() or (variances < 0).any():
            return "the pose's covariance is not a finite (6, 6) matrix with a positive diagonal"
        sigmas = np.sqrt(variances)
        limits = ((0, "x", "m"), (1, "y", "m"), (5, "yaw", "rad"))
        for index, name, unit in limits:
            limit = self.config.max_yaw_sigma if unit == "rad" else self.config.max_position_sigma
            if 0 < limit < sigmas[index]:
                return (
                    f"the pose is too uncertain: standard deviation of {name} is {sigmas[index]:.2f} {unit}, "
                    f"more than {limit:g} {unit}"
                )
        return ""

    def _jump(self, percept: Percept, stamp: int | None, pose: Pose) -> str:
        if stamp is None or percept.is_first or self.config.max_speed <= 0:
            return ""
        delta = percept.map_T_base.position - pose.position
        distance = math.sqrt(float((delta * delta).sum()))
        seconds = (percept.stamp - stamp) / NS_PER_S
        if distance <= self.config.jump_allowance + self.config.max_speed * seconds:
            return ""
        return (
            f"the pose jumped {distance:.2f} m in {seconds:.2f} s, faster than "
            f"{self.config.max_speed:g} m/s; check the localisation"
        )


def check_shapes(percept: Percept) -> None:
    """Raises `InputError` where an array has the wrong shape or type, before anything has changed."""
    for scan in percept.scans:
        count = len(scan.points)
        if scan.points.shape != (count, 3) or scan.points.dtype.kind != "f":
            raise InputError(f"a scan's points must be (N, 3) float, got {_named(scan.points)}")
        if scan.hit.shape != (count,) or scan.hit.dtype != np.bool_:
            raise InputError(f"a scan's hit must be ({count},) bool, got {_named(scan.hit)}")
        if scan.labels.shape != (count,) or scan.labels.dtype.kind not in "iu":
            raise InputError(f"a scan's labels must be ({count},) integers, got {_named(scan.labels)}")
        if scan.origin is not None and scan.origin.shape != (3,):
            raise InputError(f"a scan's origin must be three numbers, got {_named(scan.origin)}")
        if scan.image is not None:
            _check_pixels(scan, scan.image)
    for d in percept.detections:
        if (d.position.shape, d.extent.shape, d.covariance.shape) != ((3,), (3,), (3, 3)):
            shapes = ", ".join(_named(a) for a in (d.position, d.extent, d.covariance))
            raise InputError(f"a detection needs position (3,), extent (3,), covariance (3, 3); got {shapes}")
    image = percept.snapshot
    if image is not None and (image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8):
        raise InputError(f"a snapshot must be (H, W, 3) uint8, got {_named(image)}")


def _check_pixels(scan: Scan, image: Image) -> None:
    view, pixels = image.intrinsics, scan.pixels
    if image.data.shape != (view.height, view.width) or image.data.dtype.kind != "f":
        raise InputError(
            f"a scan's image must be ({view.height}, {view.width}) float, got {_named(image.data)}"
        )
    if pixels is None or pixels.shape != scan.hit.shape or pixels.dtype.kind not in "iu":
        raise InputError(f"a scan with an image needs pixels: {scan.hit.shape} integers")
    if pixels.size and (pixels.min() < 0 or pixels.max() >= image.data.size):
        raise InputError(f"a scan's pixels must lie in 0..{image.data.size - 1}")


def _named(array: NDArray[Any]) -> str:
    return f"{array.shape} {array.dtype}"


def clean(percept: Percept, embedding_size: int, embedders: Embedders) -> Cleaned:
    """Drops NaN and infinite points, detections and embeddings from an otherwise good percept.

    Args:
        percept: with a good pose.
        embedding_size: size D that embeddings of views must have; 0 where there is none yet.
        embedders: what made the embeddings that there are; those that others made are dropped too.
    """
    percept, embeddings = embedders.comparable(percept)
    points = detections = 0
    scans = []
    for scan in percept.scans:
        if not np.isfinite(scan.points.sum()):  # one pass; a sum that overflows is looked at closely
            finite = np.isfinite(scan.points[:, 0]) & np.isfinite(scan.points[:, 1])
            finite &= np.isfinite(scan.points[:, 2])
            points += len(finite) - int(finite.sum())
            scan = Scan(scan.points[finite], scan.hit[finite], scan.labels[finite], scan.origin)
        if scan.origin is None or np.isfinite(scan.origin).all():
            scans.append(scan)
        else:
            points += len(scan.points)
    kept = []
    for detection in percept.detections:
        if not _usable(detection):
            detections += 1
            continue
        if detection.embedding is not None and not np.isfinite(detection.embedding).all():
            embeddings += 1
            detection = replace(detection, embedding=None)
        kept.append(detection)
    view = percept.embedding
    if view is not None and not (
        view.ndim == 1 and np.isfinite(view).all() and embedding_size in (0, len(view)) and view.any()
    ):
        embeddings += 1
        view = None
    if points or detections or embeddings:
        percept = replace(percept, scans=tuple(scans), detections=tuple(kept), embedding=view)
    return Cleaned(percept, points, detections, embeddings)


def _usable(detection: Detection) -> bool:
    numbers = (
        *detection.position.tolist(),
        *detection.extent.tolist(),
        *detection.covariance.ravel().tolist(),
        detection.score,
    )
    return all(map(math.isfinite, numbers)) and min(detection.extent.tolist()) >= 0.0

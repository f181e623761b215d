"""LiDARs and laser scanners: sensor_msgs/PointCloud2 and LaserScan as points with what they mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import LogError
from embodied_mem.log import topics
from embodied_mem.log.clouds import cloud, read_cloud
from embodied_mem.types import Cloud

Points = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""(N, 3) float32 [m] in the sensor's frame, and (N,) bool: a surface was met."""

RANGE_TYPES = (topics.POINT_CLOUD, topics.LASER_SCAN)
_OWN = np.dtype({"names": ["x", "y", "z", "hit", "pad"], "formats": ["<f4", "<f4", "<f4", "u1", "(3,)u1"]})


def read_ranges(message: Any, topic: str) -> Points:
    """Reads a PointCloud2 or a LaserScan.

    Raises:
        LogError: a cloud without x, y and z.
    """
    return _read_scan(message) if hasattr(message, "ranges") else _read_points(message, topic)


def _read_points(message: Any, topic: str) -> Points:
    """Reads a cloud; NaN and infinite points, which unordered returns leave behind, are left out."""
    rows = read_cloud(message)
    names = rows.dtype.names or ()
    if not {"x", "y", "z"} <= set(names):
        raise LogError(f"{topic} holds points with the fields {', '.join(names)}, without x, y and z")
    points = np.stack([rows[axis].astype(np.float32) for axis in "xyz"], axis=-1)
    kept = np.isfinite(points).all(axis=1) & points.any(axis=1)  # drivers fill gaps with zeros
    hit = rows["hit"].astype(bool) if "hit" in names else np.ones(len(points), bool)
    return np.ascontiguousarray(points[kept]), hit[kept]


def _read_scan(message: Any) -> Points:
    """Reads a scan as REP-117 says: +inf is free up to `range_max`, -inf, NaN and the rest is nothing."""
    ranges = np.asarray(message.ranges, np.float32)
    angles = float(message.angle_min) + np.arange(len(ranges)) * float(message.angle_increment)
    low, high = np.float32(message.range_min), np.float32(message.range_max)
    with np.errstate(invalid="ignore"):
        hit = (ranges >= low) & (ranges <= high) & (ranges > 0)
    kept = hit | (ranges == np.inf)
    reach = np.where(hit, ranges, high)[kept].astype(np.float64)
    at = angles[kept]
    points = np.stack([np.cos(at) * reach, np.sin(at) * reach, np.zeros(len(at))], axis=-1)
    finite = np.isfinite(points).all(axis=1)
    return points[finite].astype(np.float32), hit[kept][finite]


def ranges_message(value: Cloud, stamp: int, frame: str) -> Any:
    """Makes the PointCloud2 from which `read_ranges` reads the same points again."""
    rows = np.zeros(len(value.points), _OWN)
    rows["x"], rows["y"], rows["z"] = value.points.T
    rows["hit"] = value.hit
    return cloud(rows[["x", "y", "z", "hit"]], stamp, frame)

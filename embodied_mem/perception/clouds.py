"""Clouds of LiDARs and laser scanners to points in the base frame."""

from __future__ import annotations

import numpy as np

from embodied_mem.errors import InputError
from embodied_mem.perception.config import CloudConfig
from embodied_mem.types import Cloud, Scan


def cloud_scan(cloud: Cloud, config: CloudConfig) -> Scan:
    """Turns a cloud into range evidence; all arithmetic is element-wise.

    Args:
        cloud: in the sensor's frame.
        config: ranges and thinning.

    Raises:
        InputError: arrays of the wrong shape, or a sensor whose pose is not finite.
    """
    points, hit = cloud.points, cloud.hit
    if points.ndim != 2 or points.shape[1] != 3 or hit.shape != (len(points),):
        raise InputError(f"{cloud.name}: points {points.shape} and hit {hit.shape} do not fit together")
    if not cloud.base_T_sensor.is_finite:
        raise InputError(f"{cloud.name}: the sensor's pose holds NaN or infinite numbers")
    step = -(-len(points) // config.max_points) if len(points) else 1
    points, hit = points[::step].astype(np.float64), hit[::step]
    distance = np.sqrt(points[:, 0] ** 2 + points[:, 1] ** 2 + points[:, 2] ** 2)
    kept = distance >= max(config.min_range, 1e-3)
    points, hit, distance = points[kept], hit[kept], distance[kept]
    is_near = distance <= config.max_range
    scale = np.where(is_near, 1.0, config.max_range / distance)
    placed = cloud.base_T_sensor.transform(points * scale[:, None]).astype(np.float32)
    labels = np.zeros(len(placed), np.int32)
    return Scan(placed, hit & is_near, labels, origin=cloud.base_T_sensor.position)

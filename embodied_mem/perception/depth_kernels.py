"""Numba kernels on depth images: which readings are believed, and the points that they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

_NO_READING = np.float32(65.535)
_NEAR_IT = np.float32(0.0005)
_NAN = np.float32(np.nan)


@njit(cache=True, nogil=True)
def _known(z: Any) -> Any:
    """Returns a reading, NaN where it is none (REP-117)."""
    if np.isfinite(z) and z > np.float32(0.0) and abs(z - _NO_READING) > _NEAR_IT:
        return z
    return _NAN


@njit(cache=True, nogil=True)
def _floats(before: Any, z: Any, after: Any, jump: Any) -> bool:
    """Tells whether a reading lies between its neighbours, far from both; never beside a NaN."""
    first, second, bound = np.float32(z - before), np.float32(after - z), np.float32(z * jump)
    return (first > bound and second > bound) or (first < -bound and second < -bound)


@njit(cache=True, nogil=True)
def mark_floating(depth: Array, jump: Any, floats: Array) -> None:
    """Marks readings that float between a near and a far surface, along rows or columns.

    Args:
        depth: (H, W) float32 [m].
        jump: float32, fraction of the depth.
        floats: (H, W) bool, filled.
    """
    height, width = depth.shape
    known = np.empty((height, width), np.float32)
    for v in range(height):
        for u in range(width):
            known[v, u] = _known(depth[v, u])
    for v in range(height):
        for u in range(width):
            z = known[v, u]
            is_so = 0 < u < width - 1 and _floats(known[v, u - 1], z, known[v, u + 1], jump)
            is_so = is_so or (0 < v < height - 1 and _floats(known[v - 1, u], z, known[v + 1, u], jump))
            floats[v, u] = is_so


@njit(cache=True, nogil=True)
def list_points(
    z: Array,
    floats: Array,
    x: Array,
    y: Array,
    length: Array,
    limits: tuple[float, float],
    rotation: Array,
    position: Array,
    points: Array,
    hit: Array,
    index: Array,
    used: Array,
) -> int:
    """Lists the points of a depth image in the base frame, in row-major order.

    Args:
        z: (H, W) float32 planar depth [m].
        floats: (H, W) bool, readings to leave out; those of +inf are used all the same.
        x: (H, W) float64, the ray of a pixel is (x, y, 1); NaN where the lens shows nothing.
        y: (H, W) float64.
        length: (H, W) float64, of the ray.
        limits: nearest reading that is used and farthest one that is a hit [m along the ray].
        rotation: (3, 3) float64 base_R_camera.
        position: (3,) float64 of the camera in the base frame [m].
        points: (H * W, 3) float32, filled.
        hit: (H * W,) bool, filled.
        index: (H * W,) int64, filled: which pixel a point is.
        used: (H, W) float32 zeros, set to the readings that are used.

    Returns:
        the number of points.
    """
    height, width = z.shape
    r = rotation
    count = 0
    for v in range(height):
        for u in range(width):
            reading = z[v, u]
            if not np.isfinite(x[v, u]):
                continue
            if reading != np.inf and (floats[v, u] or not _known(reading) > np.float32(0.0)):
                continue
            distance = np.float64(reading) * length[v, u]
            if not distance >= limits[0]:
                continue
            is_hit = distance <= limits[1]
            ahead = np.float64(reading) if is_hit else limits[1] / length[v, u]
            a, b = x[v, u] * ahead, y[v, u] * ahead
            for i in range(3):
                points[count, i] = r[i, 0] * a + r[i, 1] * b + r[i, 2] * ahead + position[i]
            hit[count] = is_hit
            index[count] = v * width + u
            used[v, u] = reading
            count += 1
    return count


@njit(cache=True, nogil=True)
def pick_labels(image: Array, index: Array, hit: Array, count: int) -> Array:
    """Returns (N,) int32 labels of the pixels that hit something; those of `count` or more are unknown, 0.

    Args:
        image: (H, W) int32 label ids, contiguous.
        index: (N,) int64 pixels.
        hit: (N,) bool.
        count: number of known labels.
    """
    labels = np.empty(index.shape[0], np.int32)
    flat = image.reshape(-1)
    for i in range(index.shape[0]):
        label = flat[index[i]]
        labels[i] = label if hit[i] and 0 <= label < count else 0
    return labels


@njit(cache=True, nogil=True)
def find_things(
    semantic: Array, depth: Array, x: Array, wanted: Array, max_range: Any, things: Array, near: Array
) -> None:
    """Finds the pixels of wanted labels, and those with a reading in range.

    Args:
        semantic: (H, W) int32 label ids.
        depth: (H, W) float32 [m].
        x: (H, W) float64, NaN where the lens shows nothing.
        wanted: (L,) bool by label id.
        max_range: float32 [m].
        things: (H, W) int32, filled: the label id where it is wanted, else 0.
        near: (H, W) bool, filled.
    """
    for v in range(semantic.shape[0]):
        for u in range(semantic.shape[1]):
            label = semantic[v, u]
            things[v, u] = label if 0 <= label < wanted.shape[0] and wanted[label] else 0
            z = _known(depth[v, u])
            near[v, u] = z <= max_range and np.isfinite(x[v, u])


@njit(cache=True, nogil=True)
def list_things(part: Array, things: Array, near: Array, whole: Array) -> tuple[Array, Array]:
    """Lists the pixels of the regions that are to be kept, region by region, by label and then by number.

    Args:
        part: (H, W) int64 numbers of regions, 0 none.
        things: (H, W) int32 label ids, one for each region.
        near: (H, W) bool, pixels that may be listed.
        whole: (P + 1,) bool: regions to list.

    Returns:
        (N,) int64 flat pixels, and (R + 1,) int64 where in them each region begins, and their number.
    """
    flat, near, labels = part.reshape(-1), near.reshape(-1), things.reshape(-1)
    count, label = np.zeros(whole.shape[0], np.int64), np.zeros(whole.shape[0], np.int64)
    total = 0
    for i in range(flat.shape[0]):
        p = flat[i]
        if near[i] and whole[p]:
            count[p] += 1
            label[p] = labels[i]
            total += 1
    some = np.flatnonzero(count > 0)
    order = some[np.argsort(label[some] * whole.shape[0] + some)]
    starts, at = np.zeros(len(order) + 1, np.int64), np.zeros(whole.shape[0], np.int64)
    for k in range(len(order)):
        at[order[k]] = starts[k]
        starts[k + 1] = starts[k] + count[order[k]]
    pixels = np.empty(total, np.int64)
    for i in range(flat.shape[0]):
        p = flat[i]
        if near[i] and whole[p]:
            pixels[at[p]] = i
            at[p] += 1
    return pixels, starts

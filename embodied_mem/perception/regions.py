"""Connected regions of images: neighbouring pixels of one label and about the same depth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def _root(parents: Array, i: int) -> int:
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@njit(cache=True, nogil=True)
def _regions(label: Array, depth: Array, jump: float, part: Array) -> int:
    """Numbers the regions of an image from 1 on, in the order of their first pixels."""
    height, width = label.shape
    parents = np.arange(height * width + 1)
    for v in range(height):
        for u in range(width):
            z = depth[v, u]
            if label[v, u] == 0 or not np.isfinite(z) or not z > 0.0:
                continue
            for k in range(2):
                y, x = v - k, u - 1 + k
                if y < 0 or x < 0 or label[y, x] != label[v, u]:
                    continue
                other = depth[y, x]
                if np.isfinite(other) and other > 0.0 and abs(z - other) <= jump * min(z, other):
                    a, b = _root(parents, v * width + u), _root(parents, y * width + x)
                    parents[max(a, b)] = min(a, b)
    number = np.zeros(height * width, np.int64)
    count = 0
    for v in range(height):
        for u in range(width):
            z = depth[v, u]
            if label[v, u] == 0 or not np.isfinite(z) or not z > 0.0:
                part[v, u] = 0
                continue
            root = _root(parents, v * width + u)
            if root == v * width + u:
                count += 1
                number[root] = count
            part[v, u] = number[root]
    return count


@njit(cache=True, nogil=True)
def _outlines(part: Array, depth: Array, jump: float, count: int) -> Array:
    """Returns (count + 1, 4) int64 by region: pixels, outline, hidden outline, outline at the border."""
    height, width = part.shape
    result = np.zeros((count + 1, 4), np.int64)
    for v in range(height):
        for u in range(width):
            p = part[v, u]
            if p == 0:
                continue
            result[p, 0] += 1
            for k in range(4):
                y, x = v + (k == 0) - (k == 1), u + (k == 2) - (k == 3)
                if y < 0 or x < 0 or y >= height or x >= width:
                    result[p, 1] += 1
                    result[p, 3] += 1
                elif part[y, x] != p:
                    result[p, 1] += 1
                    if depth[y, x] < depth[v, u] * (1.0 - jump) and depth[y, x] > 0.0:
                        result[p, 2] += 1
    return result


def connected_pixels(
    label: NDArray[np.integer], depth: NDArray[np.float32], depth_jump: float
) -> NDArray[np.int64]:
    """Returns (H, W) int64: which region each pixel belongs to, from 1 on; 0 where the label is 0.

    Args:
        label: (H, W) label ids; 0 is no object.
        depth: (H, W) float32 [m]; pixels without a reading belong to nothing.
        depth_jump: neighbours whose depths differ by more than this fraction are apart.
    """
    part = np.empty(label.shape, np.int64)
    _regions(np.ascontiguousarray(label), np.ascontiguousarray(depth), depth_jump, part)
    return part


def outlines(part: NDArray[np.int64], depth: NDArray[np.float32], depth_jump: float) -> NDArray[np.int64]:
    """Returns (P + 1, 4) int64 by region: pixels, sides of its outline, those hidden, those at the border.

    Args:
        part: (H, W) of `connected_pixels`.
        depth: (H, W) float32 [m].
        depth_jump: as in `connected_pixels`.
    """
    return np.asarray(_outlines(part, np.ascontiguousarray(depth), depth_jump, int(part.max(initial=0))))

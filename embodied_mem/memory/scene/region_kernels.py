"""Numba kernels on regions of a grid map: connected pieces, borders, overlaps, boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def components(mask: Array, least: float, labels: Array, first: int) -> int:
    """Labels 4-connected pieces of at least `least` cells from `first` on; returns the next label."""
    height, width = mask.shape
    done = np.zeros((height, width), np.bool_)
    stack = np.empty(height * width, np.int64)
    for y in range(height):
        for x in range(width):
            if done[y, x] or not mask[y, x]:
                continue
            stack[0] = y * width + x
            done[y, x] = True
            count, at = 1, 0
            while at < count:
                cy, cx = stack[at] // width, stack[at] % width
                at += 1
                for k in range(4):
                    ny, nx = cy + (k == 0) - (k == 1), cx + (k == 2) - (k == 3)
                    if 0 <= ny < height and 0 <= nx < width and mask[ny, nx] and not done[ny, nx]:
                        done[ny, nx] = True
                        stack[count] = ny * width + nx
                        count += 1
            if count >= least:
                for i in range(count):
                    labels[stack[i] // width, stack[i] % width] = first
                first += 1
    return first


@njit(cache=True, nogil=True)
def joined(labels: Array, count: int, border: float) -> Array:
    """Returns (count,) int32: labels with a common border of more than `border` pairs become the least."""
    shared = np.zeros((count, count), np.int64)
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            a = labels[y, x]
            if a < 0:
                continue
            if x + 1 < width and labels[y, x + 1] >= 0:
                shared[a, labels[y, x + 1]] += 1
            if y + 1 < height and labels[y + 1, x] >= 0:
                shared[a, labels[y + 1, x]] += 1
    roots = np.arange(count).astype(np.int32)
    for a in range(count):
        for b in range(a):
            if shared[a, b] + shared[b, a] > border and roots[a] != roots[b]:
                low, high = min(roots[a], roots[b]), max(roots[a], roots[b])
                for c in range(count):
                    if roots[c] == high:
                        roots[c] = low
    return roots


@njit(cache=True, nogil=True)
def gateways(labels: Array, count: int, room: Array) -> Array:
    """Returns (G,) int64 flat cells: of each border of two labels the roomiest, the first of equals."""
    height, width = labels.shape
    best = np.full((count, count), -1, np.int64)
    for y in range(height):
        for x in range(width):
            a = labels[y, x]
            if a < 0:
                continue
            for k in range(2):
                ny, nx = y + (k == 0), x + (k == 1)
                if ny >= height or nx >= width or labels[ny, nx] < 0 or labels[ny, nx] == a:
                    continue
                low, high = min(a, labels[ny, nx]), max(a, labels[ny, nx])
                known = best[low, high]
                if known < 0 or room[y, x] > room[known // width, known % width]:
                    best[low, high] = y * width + x
    flat = best.reshape(-1)
    return flat[flat >= 0]


@njit(cache=True, nogil=True)
def renumber(labels: Array, count: int) -> int:
    """Numbers the labels in the order in which they come up, in place; returns how many there are."""
    new = np.full(count, -1, np.int32)
    number = 0
    flat = labels.reshape(-1)
    for n in range(flat.size):
        if flat[n] >= 0:
            if new[flat[n]] < 0:
                new[flat[n]] = number
                number += 1
            flat[n] = new[flat[n]]
    return number


@njit(cache=True, nogil=True)
def overlaps(labels: Array, count: int, old: Array, dy: int, dx: int, rows: int) -> Array:
    """Returns (count, rows) int64: cells that new labels share with old ones, shifted by (dy, dx)."""
    result = np.zeros((count, rows), np.int64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            oy, ox = y + dy, x + dx
            if labels[y, x] >= 0 and 0 <= oy < old.shape[0] and 0 <= ox < old.shape[1] and old[oy, ox] >= 0:
                result[labels[y, x], old[oy, ox]] += 1
    return result


@njit(cache=True, nogil=True)
def nearest_label(rows: Array, y: int, x: int, reach: float) -> int:
    """Returns the label nearest to a cell within `reach` cells, the first of equals, or -1."""
    height, width = rows.shape
    best, label = reach * reach + 1e-9, -1
    r = int(reach)
    for ny in range(max(y - r, 0), min(y + r + 1, height)):
        for nx in range(max(x - r, 0), min(x + r + 1, width)):
            squared = float((ny - y) ** 2 + (nx - x) ** 2)
            if rows[ny, nx] >= 0 and (squared < best or (squared == best and rows[ny, nx] < label)):
                best, label = squared, rows[ny, nx]
    return label


@njit(cache=True, nogil=True)
def measure(labels: Array, count: int, room: Array) -> Array:
    """Returns (count, 6) int64 per label: cells, roomiest flat cell, lowest and highest y and x."""
    result = np.zeros((count, 6), np.int64)
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            if label < 0:
                continue
            m = result[label]
            best = m[1]
            if m[0] == 0:
                m[1], m[2], m[3], m[4], m[5] = y * width + x, y, y, x, x
            elif room[y, x] > room[best // width, best % width]:
                m[1] = y * width + x
            m[0] += 1
            m[2], m[3] = min(m[2], y), max(m[3], y)
            m[4], m[5] = min(m[4], x), max(m[5], x)
    return result

"""Which sighting shows which object: gated optimal assignment.

The cost of a pair is the squared Mahalanobis distance, plus what a wrong label, little overlap of the
boxes and another look cost; pairs outside the gate are no pairs (Bar-Shalom, "Tracking and Data
Association"; the assignment of least total cost by Jonker and Volgenant's method).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.memory.scene.sightings import Sightings

Array = NDArray[Any]
LOOK_COST = 20.0
"""What it costs to look entirely different (cosine 0)."""
APART_COST = 2.0
"""What it costs if the boxes do not overlap."""
SIMILAR_SIZE = 0.5
"""Things taken for something else have at least this part of the size, along every axis,"""
SAME_LOOK = 0.9
"""or they look like it: they are partly seen."""


@njit(cache=True, nogil=True)
def inverse(m: Array) -> Array:
    """Inverts a symmetric positive (3, 3) matrix by its cofactors."""
    c = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            a, b, d, e = (i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3
            c[j, i] = m[a, d] * m[b, e] - m[a, e] * m[b, d]
    determinant = m[0, 0] * c[0, 0] + m[0, 1] * c[1, 0] + m[0, 2] * c[2, 0]
    return c / determinant


@njit(cache=True, nogil=True)
def overlap(p: Array, e: Array, q: Array, f: Array) -> tuple[float, float]:
    """Returns the volumes that two axis-aligned boxes share: over their union, and over the smaller."""
    shared, first, second = 1.0, 1.0, 1.0
    for i in range(3):
        a, b = max(e[i], 0.02), max(f[i], 0.02)
        low, high = max(p[i] - a / 2, q[i] - b / 2), min(p[i] + a / 2, q[i] + b / 2)
        shared *= max(high - low, 0.0)
        first *= a
        second *= b
    return shared / (first + second - shared), shared / min(first, second)


@njit(cache=True, nogil=True)
def _apart(p: Array, e: Array, q: Array, f: Array) -> float:
    """Returns the square of how far the smaller box sticks out of the larger one, axis by axis."""
    squared = 0.0
    for i in range(3):
        squared += max(abs(p[i] - q[i]) - abs(e[i] - f[i]) / 2, 0.0) ** 2
    return squared


@njit(cache=True, nogil=True)
def _mahalanobis(p: Array, e: Array, q: Array, f: Array, covariance: Array) -> float:
    """Returns the squared Mahalanobis distance of boxes at p and q with extents e and f."""
    delta = p - q
    for i in range(3):
        # What is seen of a thing lies anywhere in its box: boxes in each other are not apart.
        free = abs(e[i] - f[i]) / 2
        delta[i] = np.sign(delta[i]) * max(abs(delta[i]) - free, 0.0)
    weight = inverse(covariance)
    cost = 0.0
    for i in range(3):
        for j in range(3):
            cost += delta[i] * weight[i, j] * delta[j]
    return cost


@njit(cache=True, nogil=True)
def _of_a_size(e: Array, f: Array) -> bool:
    """Tells whether no edge of one box is much shorter than the other's."""
    for i in range(3):
        a, b = max(e[i], 0.04), max(f[i], 0.04)
        if min(a, b) < SIMILAR_SIZE * max(a, b):
            return False
    return True


@njit(cache=True, nogil=True)
def pair_costs(
    positions: Array,
    extents: Array,
    covariances: Array,
    labels: Array,
    known: Array,
    known_extents: Array,
    known_covariances: Array,
    known_labels: Array,
    gate: float,
    limit: float,
    pose_variance: float,
    label_cost: float,
) -> tuple[Array, Array]:
    """Returns (P, 3) int64 pairs in the gate and (P,) float64 costs without looks.

    A pair is a sighting, an object, and 1 where only the same look speaks for it: the label is another
    one and the size too.

    Args:
        positions: (D, 3) of the sightings [m].
        extents: (D, 3) [m].
        covariances: (D, 3, 3) [m^2].
        labels: (D,) int64.
        known: (O, 3) positions of the objects [m].
        known_extents: (O, 3) [m].
        known_covariances: (O, 3, 3) [m^2].
        known_labels: (O,) int64.
        gate: [m].
        limit: largest squared Mahalanobis distance; 0: the squared distance counts, within the gate.
        pose_variance: of the robot's position [m^2].
        label_cost: of a wrong label; negative where labels are never wrong.
    """
    pairs, costs = [], []
    for d in range(positions.shape[0]):
        for o in range(known.shape[0]):
            same = labels[d] == known_labels[o]
            if not same and label_cost < 0.0:
                continue
            if limit <= 0.0:
                delta = positions[d] - known[o]
                cost = delta[0] ** 2 + delta[1] ** 2 + delta[2] ** 2
                if cost > gate * gate:
                    continue
            elif _apart(positions[d], extents[d], known[o], known_extents[o]) > gate * gate:
                continue
            else:
                total = covariances[d] + known_covariances[o]
                for i in range(3):
                    total[i, i] += pose_variance
                cost = _mahalanobis(positions[d], extents[d], known[o], known_extents[o], total)
                if cost > limit:
                    continue
                common, _ = overlap(positions[d], extents[d], known[o], known_extents[o])
                cost += APART_COST * (1.0 - common)
            doubtful = 0
            if not same:
                doubtful = 0 if _of_a_size(extents[d], known_extents[o]) else 1
                cost += label_cost
            pairs.append((d, o, doubtful))
            costs.append(cost)
    result = np.empty((len(pairs), 3), np.int64)
    values = np.empty(len(pairs))
    for i in range(len(pairs)):
        result[i, 0], result[i, 1], result[i, 2] = pairs[i]
        values[i] = costs[i]
    return result, values


def likeness(a: NDArray[np.float32] | None, b: NDArray[np.float32] | None, unknown: float = 1.0) -> float:
    """Returns the cosine of two embeddings; `unknown` where one is missing or they cannot be compared."""
    if a is None or b is None or a.shape != b.shape:
        return unknown
    x, y = a.astype(np.float64), b.astype(np.float64)
    length = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / length if length > 0.0 else unknown


def associate(
    seen: Sightings,
    known: tuple[Array, Array, Array, Array],
    looks: Sequence[NDArray[np.float32] | None],
    config: SceneConfig,
) -> NDArray[np.int64]:
    """Returns (D,) int64 rows of the objects that the sightings show, -1 for new ones.

    Args:
        seen: sightings.
        known: positions, extents, covariances and labels of the objects.
        looks: their embeddings.
        config: gates.
    """
    rows = np.full(len(seen), -1, np.int64)
    limit = config.gate_sigma**2
    pairs, costs = pair_costs(
        seen.positions,
        seen.extents,
        seen.covariances,
        seen.labels,
        *known,
        config.gate,
        limit,
        config.pose_sigma**2,
        config.label_cost,
    )
    if len(pairs) == 0:
        return rows
    for k, (d, o, doubtful) in enumerate(pairs.tolist()):
        look = seen.detections[d].embedding if config.use_looks else None
        like = likeness(look, looks[o])
        if like < config.least_likeness or (doubtful and likeness(look, looks[o], 0.0) < SAME_LOOK):
            costs[k] = np.inf
        costs[k] += LOOK_COST * (1.0 - like)
    most = config.most_cost if limit > 0.0 else np.inf
    pairs, costs = pairs[costs <= most], costs[costs <= most]
    first, i = np.unique(pairs[:, 0], return_inverse=True)
    second, j = np.unique(pairs[:, 1], return_inverse=True)
    if len(first) == len(second) == len(pairs):
        rows[pairs[:, 0]] = pairs[:, 1]
        return rows
    if config.greedy:
        return _greedy(rows, pairs, costs)
    from scipy.optimize import linear_sum_assignment

    # A pair outside the gate costs more than any set of pairs inside, so it is only a leftover.
    outside = (costs.max(initial=0.0) + 1.0) * (len(first) + 1)
    matrix = np.full((len(first), len(second)), outside)
    matrix[i.reshape(-1), j.reshape(-1)] = costs
    for a, b in zip(*linear_sum_assignment(matrix)):
        if matrix[a, b] < outside:
            rows[first[a]] = second[b]
    return rows


def _greedy(rows: NDArray[np.int64], pairs: Array, costs: Array) -> NDArray[np.int64]:
    """Gives each sighting, in their order, the nearest object that is left."""
    taken: set[int] = set()
    for d in np.unique(pairs[:, 0]).tolist():
        mine = np.flatnonzero(pairs[:, 0] == d)
        for k in mine[np.argsort(costs[mine], kind="stable")].tolist():
            o = int(pairs[k, 1])
            if o not in taken:
                taken.add(o)
                rows[d] = o
                break
    return rows

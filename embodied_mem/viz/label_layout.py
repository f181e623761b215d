"""Placing of text labels so that they hide neither each other nor what they name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RINGS = (0.0, 0.6, 1.4, 2.6, 4.2, 6.2)
"""Distances of the candidate places from the marker, in text heights."""
DIRECTIONS = 16


@dataclass(frozen=True, eq=False)
class Label:
    """A text to be placed.

    Attributes:
        x: position of what it names [px].
        y: position of what it names [px].
        width: of the text [px].
        height: of the text [px].
        clear: radius around (x, y) that the text leaves free [px].
        spots: (S, 2) where its centre may lie, the nearer to (x, y) the better [px]; None for a place
            beside (x, y).
        avoid: (M, 4) boxes that this text in particular should rather not cover [px].
    """

    x: float
    y: float
    width: float
    height: float
    clear: float
    spots: NDArray[np.float64] | None = None
    avoid: NDArray[np.float64] | None = None


def place_labels(
    labels: Sequence[Label],
    obstacles: NDArray[np.float64],
    bounds: Sequence[float],
    path: NDArray[np.float64] | None = None,
) -> list[tuple[float, float] | None]:
    """Chooses the centre of every text, one after the other, each at its cheapest candidate.

    Args:
        labels: texts, the important ones first.
        obstacles: (M, 4) boxes left, bottom, right, top that texts should not cover [px].
        bounds: left, bottom, right, top of the picture [px].
        path: (P, 2) points of a line that texts should rather not cover [px].

    Returns:
        centres [px] in the order of the labels; None for a text that fits nowhere.
    """
    placed = np.empty((0, 4))
    points = np.empty((0, 2)) if path is None else path
    result: list[tuple[float, float] | None] = []
    for label in labels:
        centers, cost = _candidates(label)
        boxes = _boxes(centers, label)
        outside = (
            (boxes[:, 0] < bounds[0])
            | (boxes[:, 1] < bounds[1])
            | (boxes[:, 2] > bounds[2])
            | (boxes[:, 3] > bounds[3])
        )
        taken = _overlap(boxes, placed) / (label.width * label.height)
        hidden = _overlap(boxes, obstacles) / max(label.height**2, 1.0)
        over = (
            (points[None, :, 0] > boxes[:, None, 0])
            & (points[None, :, 0] < boxes[:, None, 2])
            & (points[None, :, 1] > boxes[:, None, 1])
            & (points[None, :, 1] < boxes[:, None, 3])
        )
        cost = cost + 6.0 * hidden + 2.0 * over.any(axis=1)
        if label.avoid is not None:
            cost = cost + 12.0 * _overlap(boxes, label.avoid) / (label.width * label.height)
        cost[outside | (taken > 0.02)] = np.inf
        best = int(np.argmin(cost))
        if not np.isfinite(cost[best]):
            result.append(None)
            continue
        placed = np.concatenate([placed, boxes[best : best + 1]])
        result.append((float(centers[best, 0]), float(centers[best, 1])))
    return result


def _candidates(label: Label) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns (C, 2) centres that a text may have, and (C,) what they cost."""
    if label.spots is not None:
        away = np.hypot(label.spots[:, 0] - label.x, label.spots[:, 1] - label.y)
        return label.spots, away / (4.0 * label.height)
    centers, cost = [], []
    for ring in RINGS:
        gap = label.clear + ring * label.height
        for i in range(DIRECTIONS):
            angle = 2 * math.pi * i / DIRECTIONS
            c, s = math.cos(angle), math.sin(angle)
            # The nearest point of the text's box lies on the ring.
            centers.append((label.x + c * (gap + label.width / 2), label.y + s * (gap + label.height / 2)))
            # Beside is easier to read than above or below, and right than left.
            cost.append(ring + 0.25 * abs(s) + 0.1 * (c < 0) + 0.05)
    return np.array(centers), np.array(cost)


def _boxes(centers: NDArray[np.float64], label: Label) -> NDArray[np.float64]:
    half = np.array([label.width / 2, label.height / 2])
    return np.concatenate([centers - half, centers + half], axis=1)


def _overlap(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (C,) the area of each box that lies under the others [px^2]."""
    lo = np.maximum(boxes[:, None, :2], others[None, :, :2])
    hi = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    sides = np.maximum(hi - lo, 0.0)
    return np.asarray((sides[..., 0] * sides[..., 1]).sum(axis=1))

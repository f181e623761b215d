"""Boxes in images: vision_msgs/Detection2DArray to and from `Box`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from embodied_mem.geometry import Pose
from embodied_mem.log import messages, topics
from embodied_mem.types import Box, LabelMap


def read_boxes(message: Any, labels: LabelMap) -> tuple[tuple[Box, ...], LabelMap]:
    """Reads boxes, of which the surest hypothesis counts, and the labels with the names that are new.

    A class_id that is a known label id stands for it; anything else is a name.
    """
    boxes = []
    for item in message.detections:
        if not item.results:
            continue
        best = max(item.results, key=lambda result: float(result.hypothesis.score)).hypothesis
        name, score = str(best.class_id).strip().lower(), float(best.score)
        at = item.bbox.center.position
        center, size = np.array([at.x, at.y]), np.array([item.bbox.size_x, item.bbox.size_y])
        if not name or not np.isfinite([*center, *size]).all() or not 0.0 < score <= 1.0:
            continue
        if name.isdecimal() and int(name) < len(labels):
            label = int(name)
        else:
            labels = labels if name in labels.names else LabelMap((*labels.names, name))
            label = labels.id(name)
        if label:
            boxes.append(Box(label, center, size, score))
    return tuple(boxes), labels


def boxes_message(boxes: Sequence[Box], stamp: int, frame: str) -> Any:
    """Makes a vision_msgs/Detection2DArray whose class_ids are label ids."""
    base = messages.header(stamp, frame)
    items = []
    for box in boxes:
        (x, y), (width, height) = box.center.tolist(), box.size.tolist()
        at = messages.make("vision_msgs/msg/Point2D", x=x, y=y)
        bbox = messages.make(
            "vision_msgs/msg/BoundingBox2D",
            center=messages.make("vision_msgs/msg/Pose2D", position=at, theta=0.0),
            size_x=width,
            size_y=height,
        )
        found = messages.hypothesis(str(int(box.label)), box.score, Pose(), np.zeros((6, 6)))
        items.append(
            messages.make("vision_msgs/msg/Detection2D", header=base, results=[found], bbox=bbox, id="")
        )
    return messages.make(topics.DETECTIONS_2D, header=base, detections=items)

"""An observation as standard ROS 2 messages: what logs hold and what a simulated robot sends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from embodied_mem.geometry import Pose
from embodied_mem.log import messages, topics
from embodied_mem.log.boxes import boxes_message
from embodied_mem.log.ranges import ranges_message
from embodied_mem.log.topics import Topic
from embodied_mem.types import CameraFrame, GridView, Image, LabelMap, Observation

Sent = tuple[Topic, Any, bool]
"""Topic, message, and whether the message is one that a step consumes."""


class ObservationMessages:
    """Turns observations into messages; labels and camera mounts come when they change.

    Attributes:
        labels: those sent last, or None.
    """

    def __init__(self) -> None:
        self.labels: LabelMap | None = None
        self._mounts: dict[str, Pose] = {}

    def of(self, obs: Observation) -> Iterator[Sent]:
        """Yields the messages of everything that an observation holds."""
        if obs.labels != self.labels:
            self.labels = obs.labels
            yield topics.LABELS, messages.label_info(obs.labels, obs.stamp), False
        stamp = obs.stamp
        map_T_odom = messages.transform(topics.MAP_FRAME, topics.ODOM_FRAME, obs.map_T_odom, stamp)
        odom_T_base = messages.transform(topics.ODOM_FRAME, topics.BASE_FRAME, obs.odom_T_base, stamp)
        yield topics.TF, messages.tf_message([map_T_odom, odom_T_base]), True
        yield topics.ODOM, messages.odometry(obs.odom_T_base, stamp), True
        pose = messages.make(
            topics.POSE_WITH_COVARIANCE,
            header=messages.header(stamp, topics.MAP_FRAME),
            pose=messages.pose_with_covariance(obs.map_T_base, obs.covariance),
        )
        yield topics.POSE, pose, obs.covariance is not None  # without a covariance it is to look at
        for camera in obs.cameras:
            yield from self._camera(camera, stamp)
        for cloud in obs.clouds:
            row = topics.CLOUD.of(camera_namespace(cloud.name))
            yield from self._mount(row.frame, cloud.base_T_sensor, stamp)
            yield row, ranges_message(cloud, stamp, row.frame), True
        if obs.grid is not None:
            yield from _grid(obs.grid, stamp)
        if obs.detections:
            yield topics.DETECTIONS, messages.detections(obs.detections, stamp), True
            embeddings = messages.embedding_array(obs.detections)
            if embeddings is not None:
                yield topics.DETECTION_EMBEDDINGS, embeddings, True
        yield from _task(obs)

    def _camera(self, camera: CameraFrame, stamp: int) -> Iterator[Sent]:
        namespace = camera_namespace(camera.name)
        for kind, (image_row, info_row) in topics.CAMERA_TOPICS.items():
            image: Image | None = getattr(camera, kind)
            if image is None:
                continue
            image_topic, info_topic = image_row.of(namespace), info_row.of(namespace)
            yield from self._mount(image_topic.frame, image.base_T_camera, stamp)
            yield info_topic, messages.camera_info(image.intrinsics, stamp, info_topic.frame), True
            yield image_topic, _image(kind, image, stamp, image_topic.frame), True
        if camera.boxes:
            row = topics.BOXES.of(namespace)
            yield row, boxes_message(camera.boxes, stamp, row.frame), True

    def _mount(self, frame: str, base_T_camera: Pose, stamp: int) -> Iterator[Sent]:
        """Yields where a camera sits, at first and whenever that changes."""
        known = self._mounts.get(frame)
        if known is None or known.to_list() != base_T_camera.to_list():
            self._mounts[frame] = base_T_camera
            mount = messages.transform(topics.BASE_FRAME, frame, base_T_camera, stamp)
            yield topics.TF_STATIC, messages.tf_message([mount]), False


def _image(kind: str, image: Image, stamp: int, frame: str) -> Any:
    data = image.data
    if kind == "color":
        return messages.image(np.asarray(data, np.uint8), "rgb8", stamp, frame)
    if kind == "depth":
        return messages.image(np.asarray(data, np.float32), "32FC1", stamp, frame)
    labels = np.asarray(data, np.int32)
    if labels.size and (labels.min() < 0 or labels.max() > 65535):
        return messages.image(labels, "32SC1", stamp, frame)
    return messages.image(labels.astype(np.uint16), "16UC1", stamp, frame)


def _grid(grid: GridView, stamp: int) -> Iterator[Sent]:
    # An image's rows are the grid's rows; `cells` is indexed [column, row].
    rows = np.ascontiguousarray(grid.cells.transpose(1, 0, 2))
    yield topics.GRID_VIEW, messages.image(rows, "8UC3", stamp, topics.BASE_FRAME), True
    carrying = None if grid.carrying is None else [int(v) for v in grid.carrying]
    content = {"cell_size": float(grid.cell_size), "carrying": carrying}
    yield topics.GRID_INFO, messages.json_string(content), True


def _task(obs: Observation) -> Iterator[Sent]:
    """Yields goal, action, reward and the episode's bounds."""
    if obs.goal is not None:
        goal = obs.goal
        position = None if goal.position is None else np.asarray(goal.position, np.float64)
        content = {"text": goal.text, "label": int(goal.label), "position": position}
        yield topics.GOAL, messages.json_string(content), True
    if isinstance(obs.action, (int, np.integer)):
        yield topics.ACTION, messages.make(topics.INT64, data=int(obs.action)), True
    elif obs.action is not None:
        vector = np.asarray(obs.action, np.float64).reshape(-1)
        yield topics.ACTION_VECTOR, messages.multi_array(vector, topics.FLOAT64_ARRAY, ("action",)), True
    yield topics.REWARD, messages.make(topics.FLOAT64, data=float(obs.reward)), True
    episode = {
        "is_first": bool(obs.is_first),
        "terminated": bool(obs.terminated),
        "truncated": bool(obs.truncated),
    }
    yield topics.EPISODE, messages.json_string(episode), True


def camera_namespace(name: str) -> str:
    """Returns a camera's name as a ROS 2 name: letters, digits and underscores."""
    cleaned = re.sub(r"\W", "_", name, flags=re.ASCII)
    return cleaned if re.match(r"[A-Za-z]", cleaned) else f"camera_{cleaned}".rstrip("_")

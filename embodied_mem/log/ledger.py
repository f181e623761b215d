"""Our own logs as observations: the ledger says what was consumed together.

One `/memory/step` closes each step: whatever came on the topics it names since the step before is
that step's observation. Commands in between belong to the step that follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import LogError
from embodied_mem.geometry import Pose
from embodied_mem.log import images, topics
from embodied_mem.log.boxes import read_boxes
from embodied_mem.log.mcap_file import RawMessage
from embodied_mem.log.messages import (
    deserialize,
    header_stamp,
    read_detections,
    read_json,
    read_label_info,
    read_multi_array,
    read_own_camera_info,
    read_transform,
)
from embodied_mem.log.ranges import read_ranges
from embodied_mem.log.reader import LogReader
from embodied_mem.types import CameraFrame, Cloud, Command, Goal, GridView, Image, LabelMap, Observation

_WITH_HEADER = {
    topics.IMAGE,
    topics.CAMERA_INFO,
    topics.ODOMETRY,
    topics.POSE_WITH_COVARIANCE,
    topics.DETECTIONS_2D,
    topics.DETECTIONS_3D,
    topics.POINT_CLOUD,
}


class LedgerSource:
    """Reads observations from a log that `EpisodeWriter` wrote.

    Args:
        reader: the log.

    Attributes:
        config: the settings that were recorded, or None.
        digest: the digest of the memory at the end, or None where the log has none.
        trailing: commands after the last step.
        step: the ledger's entry of the newest observation.
    """

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self.config: dict[str, Any] | None = self._latched(topics.CONFIG)
        digest = self._latched(topics.DIGEST)
        self.digest: str | None = None if digest is None else str(digest["digest"])
        self.labels = LabelMap()
        self.trailing: list[Command] = []
        self.step: dict[str, Any] = {}
        self._static: dict[str, Pose] = {}

    @staticmethod
    def recognises(reader: LogReader) -> bool:
        """True where a log has a ledger, even if it was cut before its first step."""
        return any(
            topic.name in reader.topics and reader.topics[topic.name].type == topic.type
            for topic in (topics.STEP, topics.CONFIG)
        )

    def _latched(self, topic: topics.Topic) -> Any:
        value = None
        if topic.name in self._reader.topics:
            for raw in self._reader.messages({topic.name}):
                value = read_json(deserialize(raw.data, topic.type, topic.name), topic.name)
        return value

    def observations(self) -> Iterator[Observation]:
        """Yields one observation per step of the ledger.

        Raises:
            LogError: the log lacks something that its ledger names.
        """
        window: dict[str, list[RawMessage]] = {}
        for raw in self._reader.messages():
            if raw.topic == topics.TF_STATIC.name:
                for item in deserialize(raw.data, topics.TF_MESSAGE, raw.topic).transforms:
                    _, child, _, pose = read_transform(item)
                    self._static[child] = pose
            elif raw.topic == topics.LABELS.name:
                self.labels = read_label_info(deserialize(raw.data, topics.LABEL_INFO, raw.topic))
            elif raw.topic == topics.COMMAND.name:
                value = read_json(deserialize(raw.data, topics.STRING, raw.topic), raw.topic)
                self.trailing.append(Command(value["name"], value["arguments"]))
            elif raw.topic == topics.STEP.name:
                self.step = read_json(deserialize(raw.data, topics.STRING, raw.topic), raw.topic)
                commands, self.trailing = tuple(self.trailing), []
                consumed = _Consumed(self.step, window, self._reader)
                yield _observation(self.step, consumed, self.labels, self._static, commands)
                window = {}
            else:
                window.setdefault(raw.topic, []).append(raw)


class _Consumed:
    """The messages that one step of the ledger names, by topic."""

    def __init__(self, step: dict[str, Any], window: dict[str, list[RawMessage]], reader: LogReader) -> None:
        self._reader = reader
        self._messages: dict[str, RawMessage] = {}
        for topic, stamp in step["inputs"]:
            candidates = window.get(topic, [])
            if topic in reader.topics and reader.topics[topic].type in _WITH_HEADER:
                candidates = [raw for raw in candidates if header_stamp(raw.data) == stamp]
            if not candidates:
                raise LogError(
                    f"{reader.path}: step {step['step']} of the ledger names {topic} at {stamp} ns, "
                    "which the log does not hold"
                )
            self._messages[topic] = candidates[-1]

    def __contains__(self, topic: str) -> bool:
        return topic in self._messages

    def read(self, topic: str) -> Any:
        """Returns the deserialised message of a topic, or None."""
        raw = self._messages.get(topic)
        return None if raw is None else deserialize(raw.data, self._reader.topics[topic].type, topic)

    def read_json(self, topic: str) -> Any:
        """Returns the JSON of a topic, or None."""
        message = self.read(topic)
        return None if message is None else read_json(message, topic)


def _observation(
    step: dict[str, Any],
    consumed: _Consumed,
    labels: LabelMap,
    static: dict[str, Pose],
    commands: tuple[Command, ...],
) -> Observation:
    poses = {
        child: pose for _, child, _, pose in map(read_transform, consumed.read(topics.TF.name).transforms)
    }
    episode = consumed.read_json(topics.EPISODE.name)
    detections = consumed.read(topics.DETECTIONS.name)
    embeddings = consumed.read(topics.DETECTION_EMBEDDINGS.name)
    reward = consumed.read(topics.REWARD.name)
    rows = None if embeddings is None else read_multi_array(embeddings)
    return Observation(
        stamp=int(step["stamp"]),
        step=int(step["step"]),
        odom_T_base=poses[topics.BASE_FRAME],
        map_T_odom=Pose.from_list([float(v) for v in step["map_T_odom"]]),
        covariance=_covariance(consumed),
        labels=labels,
        cameras=tuple(
            _camera(consumed, namespace, name, static, labels) for namespace, name in step["cameras"]
        ),
        clouds=tuple(_cloud(consumed, namespace, name, static) for namespace, name in step.get("clouds", ())),
        grid=_grid(consumed),
        detections=() if detections is None else read_detections(detections, rows),
        goal=_goal(consumed),
        action=_action(consumed),
        reward=0.0 if reward is None else float(reward.data),
        is_first=bool(episode["is_first"]),
        terminated=bool(episode["terminated"]),
        truncated=bool(episode["truncated"]),
        inputs=tuple((str(t), int(s)) for t, s in step.get("sources", step["inputs"])),
        commands=commands,
    )


def _covariance(consumed: _Consumed) -> NDArray[np.float64] | None:
    message = consumed.read(topics.POSE.name)
    return None if message is None else np.array(message.pose.covariance, np.float64).reshape(6, 6)


def _cloud(consumed: _Consumed, namespace: str, name: str, static: dict[str, Pose]) -> Cloud:
    topic = topics.CLOUD.of(namespace).name
    message = consumed.read(topic)
    points, hit = read_ranges(message, topic)
    return Cloud(name, points, hit, static[message.header.frame_id])


def _camera(
    consumed: _Consumed, namespace: str, name: str, static: dict[str, Pose], labels: LabelMap
) -> CameraFrame:
    found: dict[str, Image] = {}
    for kind, (image, info) in topics.CAMERA_TOPICS.items():
        image, info = image.of(namespace), info.of(namespace)
        message = consumed.read(image.name)
        if message is not None:
            data: NDArray[Any] = images.DECODERS[kind](message, image.name)
            camera = read_own_camera_info(consumed.read(info.name))
            found[kind] = Image(data, camera, static[message.header.frame_id])
    boxes = consumed.read(topics.BOXES.of(namespace).name)
    return CameraFrame(name, **found, boxes=() if boxes is None else read_boxes(boxes, labels)[0])


def _grid(consumed: _Consumed) -> GridView | None:
    message = consumed.read(topics.GRID_VIEW.name)
    if message is None:
        return None
    rows = images.raw_pixels(message, topics.GRID_VIEW.name)  # (row, column, 3)
    info = consumed.read_json(topics.GRID_INFO.name)
    carrying = info["carrying"]
    return GridView(
        cells=np.ascontiguousarray(rows.transpose(1, 0, 2)),
        cell_size=float(info["cell_size"]),
        carrying=None if carrying is None else (int(carrying[0]), int(carrying[1])),
    )


def _goal(consumed: _Consumed) -> Goal | None:
    value = consumed.read_json(topics.GOAL.name)
    if value is None:
        return None
    position = value["position"]
    return Goal(
        label=int(value["label"]),
        position=None if position is None else np.array([float(v) for v in position]),
        text=str(value["text"]),
    )


def _action(consumed: _Consumed) -> NDArray[np.float64] | int | None:
    discrete = consumed.read(topics.ACTION.name)
    if discrete is not None:
        return int(discrete.data)
    vector = consumed.read(topics.ACTION_VECTOR.name)
    return None if vector is None else np.asarray(read_multi_array(vector), np.float64)

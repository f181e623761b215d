"""A foreign bag as observations: no ledger, so its messages are put together by stamp.

A depth image drives a frame. It waits, in log time, until TF covers its stamp and its partners
have had their chance, so that a replay does what a robot would have done; frames leave in the
order of their stamps.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import LogError
from embodied_mem.geometry import Pose
from embodied_mem.log import images, topics
from embodied_mem.log.camera import read_intrinsics
from embodied_mem.log.inputs import Inputs, Survey, choose_inputs, is_static, survey, tf_topics
from embodied_mem.log.mcap_file import RawMessage
from embodied_mem.log.messages import (
    DamagedMessageError,
    deserialize,
    header_stamp,
    read_label_info,
    read_pose,
    read_transform,
    stamp_ns,
)
from embodied_mem.log.reader import LogReader
from embodied_mem.log.tf import Frames, TfBuffer, find_frames
from embodied_mem.types import NS_PER_S, CameraFrame, Image, LabelMap, Observation

PATIENCE_NS = NS_PER_S
"""How long [ns] of log time a frame waits for TF and partners."""
TOLERANCE_NS = NS_PER_S // 20
"""How far apart [ns] the stamps of depth and colour may lie."""
TF_SLACK_NS = NS_PER_S // 10
"""How far [ns] beyond the last odometry transform a frame may lie."""


@dataclass
class _Track:
    """Messages of one topic that may still be wanted, by arrival; the newest is always kept."""

    name: str
    type: str
    expected: bool = True  # False: comes seldom (latched), so that nobody waits for it
    items: list[tuple[int, RawMessage]] = field(default_factory=list)

    def add(self, raw: RawMessage) -> None:
        self.items.append((header_stamp(raw.data), raw))

    def reached(self, stamp: int) -> bool:
        return not self.expected or any(s >= stamp for s, _ in self.items)

    def nearest(self, stamp: int) -> tuple[int, RawMessage] | None:
        return min(self.items, key=lambda item: (abs(item[0] - stamp), item[0]), default=None)

    def forget_before(self, stamp: int) -> None:
        if len(self.items) > 1 and self.items[0][0] < stamp:
            kept = [item for item in self.items[:-1] if item[0] >= stamp]
            self.items = [*kept, self.items[-1]]


class BagSource:
    """Reads observations from a log without a ledger.

    Args:
        reader: the log.
        remap: role -> topic, overriding what is chosen.

    Attributes:
        inputs: the topics that are read, by role.
        frames: map, odom and base.

    Raises:
        LogError: no depth image, no CameraInfo, no TF.
        ConfigError: a remap names an unknown role.
    """

    def __init__(self, reader: LogReader, remap: dict[str, str] | None = None) -> None:
        self._reader = reader
        everything = tf_topics(reader)
        found = survey(reader, everything)
        self.inputs: Inputs = choose_inputs(found, reader, remap)
        self._tf_topics = tf_topics(reader, self.inputs.depth)
        if self._tf_topics != everything:
            found = survey(reader, self._tf_topics)
        self._odometry_link = self._place_odometry(found, forced="odom" in (remap or {}))
        try:
            self.frames: Frames = find_frames(
                found.tree, found.images[self.inputs.depth].frame, self._odometry_pairs(found)
            )
        except LogError as error:
            raise LogError(f"{reader.path}: {error}") from None
        self._has_map = self.frames.map != self.frames.odom
        self._tf = TfBuffer()
        self._map_covariance: NDArray[np.float64] | None = None
        self._labels = LabelMap()
        self._dropped: Counter[str] = Counter()
        self._damaged: Counter[str] = Counter()
        self._count = 0
        self._tracks = {
            name: _Track(name, reader.topics[name].type, self._is_frequent(name))
            for role, name in vars(self.inputs).items()
            if name and role != "depth"
        }

    def _is_frequent(self, topic: str) -> bool:
        return 2 * self._reader.topics[topic].count >= self._reader.topics[self.inputs.depth].count

    def _odometry_pairs(self, found: Survey) -> list[tuple[str, str]]:
        first = [found.odometry[self.inputs.odom]] if self.inputs.odom else []
        return first + list(found.odometry.values())

    def _place_odometry(self, found: Survey, forced: bool) -> tuple[str, str] | None:
        """Lets an odometry topic stand in where TF does not place the base; returns its link."""
        if not self.inputs.odom:
            return None
        parent, child = found.odometry[self.inputs.odom]
        child = child or found.tree.ancestors(found.images[self.inputs.depth].frame)[-1]
        if not parent or parent == child or (found.tree.has_parent(child) and not forced):
            return None
        found.tree.add(parent, child, 0, Pose())
        if not forced:
            self._reader.warnings.append(f'no TF places "{child}": its pose is taken from {self.inputs.odom}')
        return parent, child

    def observations(self) -> Iterator[Observation]:
        """Yields one observation per depth image that can be placed, ordered by stamp.

        Raises:
            LogError: an image contradicts its CameraInfo, or not one image can be placed.
        """
        pending: list[tuple[int, int, RawMessage]] = []
        wanted = {n for n, i in self._reader.topics.items() if i.count and self._is_wanted(n, i.type)}
        number = 0
        for raw in self._reader.messages(wanted):
            try:
                if raw.topic == self.inputs.depth:
                    heapq.heappush(pending, (header_stamp(raw.data), number, raw))
                    number += 1
                else:
                    self._take(raw)
            except DamagedMessageError:
                self._damaged[raw.topic] += 1
                continue
            while pending and self._is_due(pending[0], raw.log_time):
                yield from self._make(*heapq.heappop(pending)[::2])
            self._forget(min((p[0] for p in pending), default=None))
        while pending:
            yield from self._make(*heapq.heappop(pending)[::2])
        self._report(number)

    def _is_wanted(self, name: str, type_name: str) -> bool:
        if self._reader.topics[name].serialization != "cdr":
            return False
        if type_name == topics.POSE_WITH_COVARIANCE:
            # rviz publishes /initialpose: what a person clicked, not what a localiser found.
            return "initialpose" not in name
        return name in self._tf_topics or type_name == topics.LABEL_INFO or name in vars(self.inputs).values()

    def _take(self, raw: RawMessage) -> None:
        type_name = self._reader.topics[raw.topic].type
        if type_name == topics.TF_MESSAGE:
            for item in deserialize(raw.data, type_name, raw.topic).transforms:
                parent, child, stamp, pose = read_transform(item)
                if self._odometry_link is None or child != self._odometry_link[1]:
                    self._tf.add(parent, child, stamp, pose, static=is_static(raw.topic))
        elif type_name == topics.POSE_WITH_COVARIANCE:
            message = deserialize(raw.data, type_name, raw.topic)
            if message.header.frame_id.lstrip("/") == self.frames.map:
                self._map_covariance = np.array(message.pose.covariance, np.float64).reshape(6, 6)
        elif type_name == topics.LABEL_INFO:
            self._labels = read_label_info(deserialize(raw.data, type_name, raw.topic))
        else:
            self._tracks[raw.topic].add(raw)
            if raw.topic == self.inputs.odom and self._odometry_link is not None:
                message = deserialize(raw.data, type_name, raw.topic)
                self._tf.add(*self._odometry_link, stamp_ns(message.header), read_pose(message.pose.pose))

    def _is_due(self, frame: tuple[int, int, RawMessage], now: int) -> bool:
        stamp, _, raw = frame
        if now > raw.log_time + PATIENCE_NS:
            return True
        odom, base = self.frames.odom, self.frames.base
        if not (self._tf.is_connected(odom, base) and self._tf.covers(odom, base, stamp)):
            return False
        return all(track.reached(stamp) for track in self._tracks.values())

    def _forget(self, pending: int | None) -> None:
        for track in self._tracks.values():
            if track.items:
                oldest = track.items[-1][0] - 2 * PATIENCE_NS
                track.forget_before((oldest if pending is None else min(oldest, pending)) - TOLERANCE_NS)

    def _make(self, stamp: int, raw: RawMessage) -> Iterator[Observation]:
        """Yields the observation of a depth image; nothing, but a count, where it has no place."""
        slack = TF_SLACK_NS
        odom_T_base = self._tf.lookup(self.frames.odom, self.frames.base, stamp, slack)
        map_T_odom = self._tf.newest(self.frames.map, self.frames.odom) if self._has_map else Pose()
        if odom_T_base is None:
            return self._drop(f"no {self.frames.odom} -> {self.frames.base} at their stamp")
        if map_T_odom is None:
            return self._drop(f"no {self.frames.map} -> {self.frames.odom} had come yet")
        consumed = [(raw.topic, stamp)]
        depth = self._image("depth", raw, stamp, consumed)
        if depth is None:
            return
        partners: dict[str, Image | None] = {}
        for role in ("color", "semantic"):
            found = self._partner(role, stamp)
            if found is not None:
                consumed.append((found[1].topic, found[0]))
                partners[role] = self._image(role, found[1], stamp, consumed)
        frame = CameraFrame(_camera_name(self.inputs.depth), depth, **partners)
        self._count += 1
        yield Observation(
            stamp=stamp,
            step=self._count - 1,
            odom_T_base=odom_T_base,
            map_T_odom=map_T_odom,
            covariance=self._covariance(stamp, consumed),
            labels=self._labels,
            cameras=(frame,),
            is_first=self._count == 1,
            inputs=tuple(consumed),
        )

    def _drop(self, why: str, role: str = "depth") -> None:
        self._dropped[f"{role} images left out: {why}"] += 1

    def _partner(self, role: str, stamp: int) -> tuple[int, RawMessage] | None:
        topic = getattr(self.inputs, role)
        found = self._tracks[topic].nearest(stamp) if topic else None
        return found if found is not None and abs(found[0] - stamp) <= TOLERANCE_NS else None

    def _image(self, role: str, raw: RawMessage, stamp: int, consumed: list[tuple[str, int]]) -> Image | None:
        """Decodes an image with its camera and its pose; None, and a count, where that fails."""
        info_topic = getattr(self.inputs, f"{role}_info")
        found = self._tracks[info_topic].nearest(header_stamp(raw.data))
        if found is None:
            self._drop(f"no CameraInfo on {info_topic} had come yet", role)
            return None
        try:
            message = deserialize(raw.data, self._reader.topics[raw.topic].type, raw.topic)
            info = deserialize(found[1].data, topics.CAMERA_INFO, info_topic)
            data: NDArray[Any] = images.DECODERS[role](message, raw.topic)
        except DamagedMessageError:
            self._damaged[raw.topic] += 1
            return None
        optical = message.header.frame_id.lstrip("/") or info.header.frame_id.lstrip("/")
        base_T_camera = self._tf.lookup(self.frames.base, optical, stamp, slack=None)
        if base_T_camera is None:
            self._drop(f"no {self.frames.base} -> {optical} in TF", role)
            return None
        if not base_T_camera.is_finite:
            self._drop(f"{self.frames.base} -> {optical} in TF is not finite", role)
            return None
        consumed.append((info_topic, found[0]))
        size = (data.shape[1], data.shape[0])
        return Image(data, read_intrinsics(info, size, raw.topic, info_topic), base_T_camera)

    def _covariance(self, stamp: int, consumed: list[tuple[str, int]]) -> NDArray[np.float64] | None:
        """Returns the localiser's covariance; odometry's only where it is all there is.

        Odometry's covariance tells how far it has drifted, not how well the map's pose is known.
        """
        if self._map_covariance is not None:
            return self._map_covariance
        if self._has_map or not self.inputs.odom:
            return None
        found = self._tracks[self.inputs.odom].nearest(stamp)
        if found is None or abs(found[0] - stamp) > TOLERANCE_NS:
            return None
        message = deserialize(found[1].data, topics.ODOMETRY, self.inputs.odom)
        consumed.append((self.inputs.odom, found[0]))
        covariance = np.array(message.pose.covariance, np.float64).reshape(6, 6)
        return covariance if covariance.any() else None

    def _report(self, total: int) -> None:
        reasons = [f"{n} {what}" for what, n in sorted(self._dropped.items())]
        reasons += [f"{n} damaged messages on {topic} left out" for topic, n in sorted(self._damaged.items())]
        if self._count == 0 and total:
            raise LogError(f"{self._reader.path}: {'; '.join(reasons)}")
        self._reader.warnings.extend(reasons)


def _camera_name(depth_topic: str) -> str:
    """Returns the namespace of a camera: "camera" of /camera/camera/depth/image_raw."""
    return depth_topic.strip("/").split("/")[0]

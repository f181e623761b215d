"""Puts the messages of one RGB-D camera together by stamp: of a bag, or of a robot as they arrive.

A depth image drives a frame. It waits until TF covers its stamp and its partners have had their
chance; frames leave in the order of their stamps. A bag's time is its log time, a robot's is the time
of arrival, so that a replay does what the robot did.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.log import images, topics
from embodied_mem.log.camera import read_intrinsics
from embodied_mem.log.inputs import Inputs, is_static
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
from embodied_mem.log.tf import Frames, TfBuffer
from embodied_mem.types import NS_PER_S, CameraFrame, Image, LabelMap, Observation

PATIENCE_NS = NS_PER_S
"""How long [ns] a frame waits for TF and partners."""
TOLERANCE_NS = NS_PER_S // 20
"""How far apart [ns] the stamps of depth and colour may lie."""
TF_SLACK_NS = NS_PER_S // 10
"""How far [ns] beyond the last odometry transform a frame may lie."""


@dataclass
class _Track:
    """Messages of one topic that may still be wanted, by arrival; the newest is always kept."""

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


class FrameSync:
    """Turns messages into observations.

    Args:
        types: ROS 2 type of every topic that will be given to `push`.
        inputs: the topics of the camera and of odometry.
        frames: map, odom and base.
        expected: topics that a frame waits for; what is not among them comes seldom.
        odometry_link: (parent, child) where the odometry topic stands in for TF.
        patience: how long a frame waits [ns].

    Attributes:
        count: observations made.
        waiting: frames that have not been decided on.
        dropped: reasons for which images were left out, and how many.
        damaged: topics with messages that could not be decoded, and how many.
    """

    def __init__(
        self,
        types: Mapping[str, str],
        inputs: Inputs,
        frames: Frames,
        expected: Collection[str] = (),
        odometry_link: tuple[str, str] | None = None,
        patience: int = PATIENCE_NS,
    ) -> None:
        self.inputs, self.frames, self.patience = inputs, frames, patience
        self.count = 0
        self.dropped: Counter[str] = Counter()
        self.damaged: Counter[str] = Counter()
        self._types = types
        self._odometry_link = odometry_link
        self._has_map = frames.map != frames.odom
        self._tf = TfBuffer()
        self._map_covariance: NDArray[np.float64] | None = None
        self._labels = LabelMap()
        self._pending: list[tuple[int, int, RawMessage]] = []
        self._number = 0
        self._tracks = {
            name: _Track(name in expected) for role, name in vars(inputs).items() if name and role != "depth"
        }

    @property
    def waiting(self) -> int:
        """Frames that have not been decided on."""
        return len(self._pending)

    @property
    def images(self) -> int:
        """Depth images taken in."""
        return self._number

    def push(self, raw: RawMessage) -> Iterator[Observation]:
        """Takes a message in; yields the observations that are now complete, ordered by stamp.

        Raises:
            LogError: an image contradicts its CameraInfo.
        """
        try:
            if raw.topic == self.inputs.depth:
                heapq.heappush(self._pending, (header_stamp(raw.data), self._number, raw))
                self._number += 1
            else:
                self._take(raw)
        except DamagedMessageError:
            self.damaged[raw.topic] += 1
            return
        yield from self.advance(raw.log_time)

    def advance(self, now: int) -> Iterator[Observation]:
        """Yields the observations that are due at a time [ns]."""
        while self._pending and self._is_due(self._pending[0], now):
            yield from self._make(*heapq.heappop(self._pending)[::2])
        self._forget(min((p[0] for p in self._pending), default=None))

    def flush(self) -> Iterator[Observation]:
        """Yields what still waits, as far as it can be placed."""
        while self._pending:
            yield from self._make(*heapq.heappop(self._pending)[::2])

    def discard_waiting(self) -> int:
        """Lets the oldest waiting frame go; returns its stamp [ns]."""
        stamp, _, _ = heapq.heappop(self._pending)
        return stamp

    def rewind(self, stamp: int) -> None:
        """Forgets what is later than a stamp [ns]: the clock has jumped back to it."""
        self._pending.clear()
        self._tf.forget_after(stamp + self.patience)
        for track in self._tracks.values():
            # The newest stays: a CameraInfo may come only once.
            track.items = [i for i in track.items[:-1] if i[0] <= stamp + self.patience] + track.items[-1:]

    def _take(self, raw: RawMessage) -> None:
        type_name = self._types[raw.topic]
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
        if now > raw.log_time + self.patience:
            return True
        odom, base = self.frames.odom, self.frames.base
        if not (self._tf.is_connected(odom, base) and self._tf.covers(odom, base, stamp)):
            return False
        return all(track.reached(stamp) for track in self._tracks.values())

    def _forget(self, pending: int | None) -> None:
        for track in self._tracks.values():
            if track.items:
                oldest = track.items[-1][0] - 2 * self.patience
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
        self.count += 1
        yield Observation(
            stamp=stamp,
            step=self.count - 1,
            odom_T_base=odom_T_base,
            map_T_odom=map_T_odom,
            covariance=self._covariance(stamp, consumed),
            labels=self._labels,
            cameras=(frame,),
            is_first=self.count == 1,
            inputs=tuple(consumed),
        )

    def _drop(self, why: str, role: str = "depth") -> None:
        self.dropped[f"{role} images left out: {why}"] += 1

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
            message = deserialize(raw.data, self._types[raw.topic], raw.topic)
            info = deserialize(found[1].data, topics.CAMERA_INFO, info_topic)
            data: NDArray[Any] = images.DECODERS[role](message, raw.topic)
        except DamagedMessageError:
            self.damaged[raw.topic] += 1
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

    def complaints(self) -> list[str]:
        """Returns what was left out so far, one line each."""
        reasons = [f"{n} {what}" for what, n in sorted(self.dropped.items())]
        return reasons + [f"{n} damaged messages on {t} left out" for t, n in sorted(self.damaged.items())]


def _camera_name(depth_topic: str) -> str:
    """Returns the namespace of a camera: "camera" of /camera/camera/depth/image_raw."""
    return depth_topic.strip("/").split("/")[0]

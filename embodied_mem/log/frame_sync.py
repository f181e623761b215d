"""Puts the messages of a robot's sensors together by stamp: of a bag, or as they arrive.

A depth image drives a frame; where there is no depth camera, a LiDAR or a laser scanner does. It waits
until TF covers its stamp and its partners have had their chance; frames leave in the order of their
stamps. A bag's time is its log time, a robot's is the time of arrival, so that a replay does what the
robot did.

Further cameras and range sensors are placed where they were at their own stamps: odometry says how far
the base has moved in between.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError
from embodied_mem.geometry import Pose
from embodied_mem.log import images, topics
from embodied_mem.log.boxes import read_boxes
from embodied_mem.log.camera import read_intrinsics
from embodied_mem.log.inputs import CameraInputs, Inputs, is_static
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
from embodied_mem.log.ranges import read_ranges
from embodied_mem.log.tf import Frames, TfBuffer
from embodied_mem.types import NS_PER_S, CameraFrame, Cloud, Image, LabelMap, Observation

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
    silent: bool = False  # somebody has waited for it in vain
    items: list[tuple[int, RawMessage]] = field(default_factory=list)

    def add(self, raw: RawMessage) -> None:
        self.items.append((header_stamp(raw.data), raw))
        self.silent = False

    def reached(self, stamp: int) -> bool:
        return not self.expected or self.silent or any(s >= stamp for s, _ in self.items)

    def nearest(self, stamp: int) -> tuple[int, RawMessage] | None:
        return min(self.items, key=lambda item: (abs(item[0] - stamp), item[0]), default=None)

    def newest(self, after: int, until: int) -> tuple[int, RawMessage] | None:
        return max((item for item in self.items if after < item[0] <= until), default=None)

    def forget_before(self, stamp: int) -> None:
        if len(self.items) > 1 and self.items[0][0] < stamp:
            kept = [item for item in self.items[:-1] if item[0] >= stamp]
            self.items = [*kept, self.items[-1]]


@dataclass(frozen=True)
class _Moment:
    """What the parts of one observation share.

    Attributes:
        stamp: of the observation [ns].
        odom_T_base: there.
        driver: the message that makes it.
        consumed: (topic, stamp) of every message taken, in order; it grows.
    """

    stamp: int
    odom_T_base: Pose
    driver: RawMessage
    consumed: list[tuple[str, int]]


class FrameSync:
    """Turns messages into observations.

    Args:
        types: ROS 2 type of every topic that will be given to `push`.
        inputs: the topics of the sensors and of odometry.
        frames: map, odom and base.
        expected: topics that a frame waits for; what is not among them comes seldom.
        odometry_link: (parent, child) where the odometry topic stands in for TF.
        patience: how long a frame waits [ns].
        mask: (H, W) bool, where the first camera sees the robot itself.

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
        mask: NDArray[np.bool_] | None = None,
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
        self._mask = mask
        self._tracks = {name: _Track(name in expected) for name in inputs.topics if name != inputs.driver}
        self._names = _distinct([c.depth or c.color for c in inputs.cameras])
        self._range_names = _distinct(list(inputs.ranges))
        self._range_stamps = dict.fromkeys(inputs.ranges, -1)

    @property
    def waiting(self) -> int:
        """Frames that have not been decided on."""
        return len(self._pending)

    @property
    def images(self) -> int:
        """Messages taken in that make frames: depth images, mostly."""
        return self._number

    def push(self, raw: RawMessage) -> Iterator[Observation]:
        """Takes a message in; yields the observations that are now complete, ordered by stamp.

        Raises:
            LogError: an image contradicts its CameraInfo.
        """
        try:
            if raw.topic == self.inputs.driver:
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
        self._range_stamps = dict.fromkeys(self.inputs.ranges, -1)
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
            for track in self._tracks.values():
                track.silent |= not track.reached(stamp)
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
        """Yields the observation that a message makes; nothing, but a count, where it has no place."""
        slack = TF_SLACK_NS
        odom_T_base = self._tf.lookup(self.frames.odom, self.frames.base, stamp, slack)
        map_T_odom = self._tf.newest(self.frames.map, self.frames.odom) if self._has_map else Pose()
        if odom_T_base is None:
            return self._drop(f"no {self.frames.odom} -> {self.frames.base} at their stamp")
        if map_T_odom is None:
            return self._drop(f"no {self.frames.map} -> {self.frames.odom} had come yet")
        moment = _Moment(stamp, odom_T_base, raw, [(raw.topic, stamp)])
        found = [self._frame(n, c, moment) for n, c in zip(self._names, self.inputs.cameras)]
        clouds = [self._cloud(n, t, moment) for n, t in zip(self._range_names, self.inputs.ranges)]
        if (found[0] if self.inputs.depth else clouds[0]) is None:
            return
        frames, labels = self._boxed(found, moment)
        self.count += 1
        yield Observation(
            stamp=stamp,
            step=self.count - 1,
            odom_T_base=odom_T_base,
            map_T_odom=map_T_odom,
            covariance=self._covariance(stamp, moment.consumed),
            labels=labels,
            cameras=frames,
            clouds=tuple(cloud for cloud in clouds if cloud is not None),
            is_first=self.count == 1,
            inputs=tuple(moment.consumed),
        )

    def _drop(self, why: str, what: str = "") -> None:
        what = what or ("depth images" if self.inputs.depth else "scans")
        self.dropped[f"{what} left out: {why}"] += 1

    def _partner(self, topic: str, moment: _Moment, stamp: int) -> tuple[int, RawMessage] | None:
        """Returns the message of a topic nearest to a stamp, where it is near enough."""
        if topic == moment.driver.topic:
            return moment.stamp, moment.driver
        found = self._tracks[topic].nearest(stamp) if topic else None
        return found if found is not None and abs(found[0] - stamp) <= TOLERANCE_NS else None

    def _frame(self, name: str, topics_of: CameraInputs, moment: _Moment) -> CameraFrame | None:
        """Puts one camera's images together: colour and labels go with the depth, if there is any."""
        main = self._partner(topics_of.depth or topics_of.color, moment, moment.stamp)
        if main is None:
            return None
        made: dict[str, Any] = {}  # Image or None
        for role in ("depth", "color", "semantic"):
            found = self._partner(getattr(topics_of, role), moment, main[0])
            if found is None:
                continue
            if found[1] is not moment.driver:
                moment.consumed.append((found[1].topic, found[0]))
            # The first camera's parts are taken to be of one moment, as drivers stamp them.
            at = moment.stamp if topics_of is self.inputs and self.inputs.depth else found[0]
            made[role] = self._image(role, getattr(topics_of, f"{role}_info"), found[1], at, moment)
            if role == "depth" and made[role] is None:
                return None
        if topics_of is self.inputs and self._mask is not None and made.get("depth") is not None:
            made["depth"] = _masked(made["depth"], self._mask)
        return CameraFrame(name, **made) if any(made.values()) else None

    def _image(self, role: str, info_topic: str, raw: RawMessage, at: int, moment: _Moment) -> Image | None:
        """Decodes an image with its camera and its pose; None, and a count, where that fails."""
        found = self._tracks[info_topic].nearest(header_stamp(raw.data))
        if found is None:
            self._drop(f"no CameraInfo on {info_topic} had come yet", f"{role} images")
            return None
        try:
            message = deserialize(raw.data, self._types[raw.topic], raw.topic)
            info = deserialize(found[1].data, topics.CAMERA_INFO, info_topic)
            data: NDArray[Any] = images.DECODERS[role](message, raw.topic)
        except DamagedMessageError:
            self.damaged[raw.topic] += 1
            return None
        optical = message.header.frame_id.lstrip("/") or info.header.frame_id.lstrip("/")
        base_T_camera = self._place(optical, at, moment, f"{role} images")
        if base_T_camera is None:
            return None
        moment.consumed.append((info_topic, found[0]))
        size = (data.shape[1], data.shape[0])
        return Image(data, read_intrinsics(info, size, raw.topic, info_topic), base_T_camera)

    def _place(self, frame: str, at: int, moment: _Moment, what: str) -> Pose | None:
        """Returns where a sensor was at a stamp, in the moment's base frame, or None, and counts it."""
        base, odom = self.frames.base, self.frames.odom
        base_T_sensor = self._tf.lookup(base, frame, at, slack=None)
        if base_T_sensor is None:
            self._drop(f"no {base} -> {frame} in TF", what)
            return None
        if at != moment.stamp:
            then = self._tf.lookup(odom, base, at, TF_SLACK_NS)
            if then is None:
                self._drop(f"no {odom} -> {base} at their stamp", what)
                return None
            base_T_sensor = moment.odom_T_base.inverse() @ then @ base_T_sensor
        if not base_T_sensor.is_finite:
            self._drop(f"{base} -> {frame} in TF is not finite", what)
            return None
        return base_T_sensor

    def _cloud(self, name: str, topic: str, moment: _Moment) -> Cloud | None:
        """Takes the newest message of a range sensor until now, each once."""
        if topic == moment.driver.topic:
            found: tuple[int, RawMessage] | None = (moment.stamp, moment.driver)
        else:
            since = max(self._range_stamps[topic], moment.stamp - self.patience)
            found = self._tracks[topic].newest(since, moment.stamp)
        if found is None:
            return None
        self._range_stamps[topic] = found[0]
        try:
            message = deserialize(found[1].data, self._types[topic], topic)
            points, hit = read_ranges(message, topic)
        except DamagedMessageError:
            self.damaged[topic] += 1
            return None
        base_T_sensor = self._place(
            message.header.frame_id.lstrip("/"), found[0], moment, f"scans on {topic}"
        )
        if base_T_sensor is None:
            return None
        if topic != moment.driver.topic:
            moment.consumed.append((topic, found[0]))
        return Cloud(name, points, hit, base_T_sensor)

    def _boxed(
        self, found: list[CameraFrame | None], moment: _Moment
    ) -> tuple[tuple[CameraFrame, ...], LabelMap]:
        """Returns the frames there are, with the boxes that were found in them, and the labels' names."""
        frames, labels = [], self._labels
        for frame, topics_of in zip(found, self.inputs.cameras):
            if frame is None:
                continue
            partner = self._partner(topics_of.boxes, moment, moment.stamp)
            if partner is not None:
                try:
                    message = deserialize(partner[1].data, topics.DETECTIONS_2D, topics_of.boxes)
                except DamagedMessageError:
                    self.damaged[topics_of.boxes] += 1
                else:
                    boxes, labels = read_boxes(message, labels)
                    frame = replace(frame, boxes=boxes)
                    moment.consumed.append((topics_of.boxes, partner[0]))
            frames.append(frame)
        return tuple(frames), labels

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


def _distinct(names: Sequence[str]) -> list[str]:
    """Returns names of sensors by their topics: "camera" of /camera/camera/depth/image_raw."""
    short = [name.strip("/").split("/")[0] for name in names]
    return [name if short.index(name) == i else f"{name}_{i + 1}" for i, name in enumerate(short)]


def _masked(depth: Image, mask: NDArray[np.bool_]) -> Image:
    if depth.data.shape != mask.shape:
        raise ConfigError(
            f"the mask is {mask.shape[1]}x{mask.shape[0]}, the depth images are "
            f"{depth.data.shape[1]}x{depth.data.shape[0]}"
        )
    return replace(depth, data=np.where(mask, np.float32(0), depth.data))

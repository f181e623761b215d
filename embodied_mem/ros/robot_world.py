"""A robot as the loop's `World`: messages in, observations out, actions to whoever carries them out."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from embodied_mem.geometry import Pose
from embodied_mem.log import topics
from embodied_mem.log.camera import read_mask
from embodied_mem.log.frame_sync import FrameSync
from embodied_mem.log.mcap_file import RawMessage
from embodied_mem.log.messages import header_stamp
from embodied_mem.log.tf import Frames
from embodied_mem.ros.config import SensorConfig
from embodied_mem.ros.declaration import EVENT, LATCHED, SENSOR, STATIC, STREAM, Endpoint, Qos
from embodied_mem.types import NS_PER_S, Goal, Observation

FUTURE_NS = NS_PER_S
"""A stamp this far [ns] ahead of the clock is wrong."""
BACK_NS = NS_PER_S
"""A stamp this far [ns] behind the newest says that the clock has jumped back."""

SENSOR_INPUTS = ("color", "depth", "semantic")


def image_type(topic: str) -> str:
    """Returns the type of an image topic, by its name."""
    is_compressed = topic.rsplit("/", 1)[-1] in ("compressed", "compressedDepth")
    return topics.COMPRESSED_IMAGE if is_compressed else topics.IMAGE


def sensor_endpoints(config: SensorConfig) -> tuple[Endpoint, ...]:
    """Returns the subscriptions that a robot's observations are made of."""
    images = Qos(reliable=config.reliable, depth=SENSOR.depth)
    # In this order a host hands on what has arrived: what a frame needs comes before what makes it due.
    found = [
        Endpoint("labels", topics.LABEL_INFO, LATCHED, "names of the labels"),
        Endpoint("/tf_static", topics.TF_MESSAGE, STATIC, "where sensors sit"),
        Endpoint("pose", topics.POSE_WITH_COVARIANCE, EVENT, "covariance of the pose in the map"),
    ]
    inputs = config.inputs
    for camera in reversed(inputs.cameras):
        if camera.boxes:
            found.append(Endpoint(camera.boxes, topics.DETECTIONS_2D, images, "boxes in the colour images"))
        for role in SENSOR_INPUTS:
            topic, info = getattr(camera, role), getattr(camera, f"{role}_info")
            if topic:
                found.append(Endpoint(info, topics.CAMERA_INFO, images, f"CameraInfo of the {role} images"))
                found.append(Endpoint(topic, image_type(topic), images, f"{role} images"))
    if config.odom:
        found.append(Endpoint(config.odom, topics.ODOMETRY, STREAM, "odometry"))
    found += [Endpoint(topic, topics.POINT_CLOUD, images, "a LiDAR's points") for topic in config.points]
    found += [Endpoint(topic, topics.LASER_SCAN, images, "a laser scanner's scan") for topic in config.scans]
    # Two cameras may share a CameraInfo.
    return (*{e.topic: e for e in found}.values(), Endpoint("/tf", topics.TF_MESSAGE, STREAM, "transforms"))


class RobotWorld:
    """Gives a robot's observations as they become complete.

    Args:
        config: topics and frames.
        act: carries out an action, or takes none where None.

    Attributes:
        goal: the current goal; it travels with every observation.
    """

    def __init__(self, config: SensorConfig, act: Callable[[Any], None] | None = None) -> None:
        self.config = config
        self.goal: Goal | None = None
        self._act = act
        self._ready: deque[Observation] = deque()
        self._inputs = config.inputs
        self._mask = None if not config.body_mask else read_mask(Path(config.body_mask))
        self._what = "depth images" if config.depth else "scans"
        self._newest = -1
        self.restarts = 0
        self.refused = 0
        self._sync = self._new_sync()

    def _new_sync(self) -> FrameSync:
        c = self.config
        awaited = {getattr(camera, role) for camera in self._inputs.cameras for role in SENSOR_INPUTS}
        return FrameSync(
            {e.topic: e.type for e in sensor_endpoints(c)},
            self._inputs,
            Frames(map=c.map_frame, odom=c.odom_frame, base=c.base_frame),
            awaited - {"", self._inputs.driver},
            patience=round(c.patience * NS_PER_S),
            mask=self._mask,
        )

    def adjust(self, config: SensorConfig) -> None:
        """Takes other patience; topics and frames stay."""
        self.config = config
        self._sync.patience = round(config.patience * NS_PER_S)

    @property
    def is_ready(self) -> bool:
        """True where `observe` has something to give."""
        return bool(self._ready)

    @property
    def next_pose(self) -> Pose:
        """`map_T_base` of the next observation; there must be one."""
        return self._ready[0].map_T_base

    @property
    def waiting(self) -> int:
        """Frames that wait for TF or their partners."""
        return self._sync.waiting

    @property
    def complaints(self) -> list[str]:
        """What was left out so far, one line each."""
        return self._sync.complaints()

    @property
    def frames(self) -> tuple[int, int]:
        """Images or scans received that make frames, and observations made of them."""
        return self._sync.images, self._sync.count

    def push(self, topic: str, data: bytes, now: int) -> None:
        """Takes a message in.

        Args:
            topic: as it was declared.
            data: CDR bytes.
            now: when it arrived [ns].

        Raises:
            LogError: an image contradicts its CameraInfo.
        """
        if topic == self._inputs.driver and len(data) >= 12 and not self._is_sane(data, now):
            return
        self._take(self._sync.push(RawMessage(topic, now, data)))
        while self._sync.waiting > self.config.max_waiting:
            self._sync.discard_waiting()
            self._sync.dropped[f"{self._what} left out: too many wait for TF"] += 1

    def _is_sane(self, data: bytes, now: int) -> bool:
        stamp = header_stamp(data)
        if stamp == self._newest:
            return False  # sent twice
        if stamp > now + FUTURE_NS:
            self.refused += 1
            why = "their stamps are in the future; set the clocks" if now else "nobody has told /clock yet"
            self._sync.dropped[f"{self._what} left out: {why}"] += 1
            return False
        if stamp < self._newest - BACK_NS:
            self.restarts += 1
            self._sync.rewind(stamp)
            self._newest = stamp
        self._newest = max(self._newest, stamp)
        return True

    def advance(self, now: int) -> None:
        """Lets go of frames whose patience has ended at a time [ns]."""
        self._take(self._sync.advance(now))

    def _take(self, found: Any) -> None:
        self._ready.extend(found)

    def observe(self) -> Observation | None:
        """Returns the next observation, or None where none is complete."""
        if not self._ready:
            return None
        obs = self._ready.popleft()
        return dataclasses.replace(obs, goal=self.goal)

    def act(self, action: Any) -> None:
        """Hands an action on."""
        if self._act is not None:
            self._act(action)

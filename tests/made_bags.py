"""Foreign bags for tests: what a robot would have recorded, with whatever names it uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.log import messages, topics
from embodied_mem.log.reader import LogReader
from embodied_mem.types import Intrinsics

START = 1_700_000_000 * 10**9
MS = 1_000_000
OPTICAL = Pose(np.array([0.1, 0.0, 0.3]), np.array([-0.5, 0.5, -0.5, 0.5]))
"""base_T_camera of a camera that looks forward."""


class MadeBag:
    """Writes an MCAP file message by message; `at` is the log time in milliseconds."""

    def __init__(self, path: Path, **options: Any) -> None:
        from mcap.writer import Writer

        self.path = path
        self.file = path.open("wb")
        self.writer = Writer(self.file, **options)
        self.writer.start("ros2")
        self.schemas: dict[str, int] = {}
        self.channels: dict[str, int] = {}

    def __enter__(self) -> MadeBag:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.finish()
        self.file.close()

    def raw(self, topic: str, type_name: str, data: bytes, log_time: int) -> None:
        if type_name not in self.schemas:
            text = messages.definition(type_name) if messages.knows(type_name) else ""
            self.schemas[type_name] = self.writer.register_schema(type_name, "ros2msg", text.encode())
        if topic not in self.channels:
            self.channels[topic] = self.writer.register_channel(topic, "cdr", self.schemas[type_name])
        self.writer.add_message(self.channels[topic], log_time, data, log_time)

    def put(self, topic: str, type_name: str, message: Any, at: float) -> None:
        self.raw(topic, type_name, messages.serialize(message, type_name), stamp(at))

    def tf(self, parent: str, child: str, pose: Pose, at: float, stamped: float | None = None) -> None:
        moved = messages.transform(parent, child, pose, stamp(at if stamped is None else stamped))
        self.put("/tf", topics.TF_MESSAGE, messages.tf_message([moved]), at)

    def static(self, parent: str, child: str, pose: Pose, at: float = 0) -> None:
        message = messages.tf_message([messages.transform(parent, child, pose, stamp(at))])
        self.put("/tf_static", topics.TF_MESSAGE, message, at)

    def image(
        self,
        topic: str,
        data: NDArray[Any],
        encoding: str,
        frame: str,
        at: float,
        stamped: float | None = None,
    ) -> None:
        message = messages.image(data, encoding, stamp(at if stamped is None else stamped), frame)
        self.put(topic, topics.IMAGE, message, at)

    def info(
        self,
        topic: str,
        camera: Intrinsics,
        frame: str,
        at: float,
        stamped: float | None = None,
        **changes: Any,
    ) -> None:
        message = messages.camera_info(camera, stamp(at if stamped is None else stamped), frame)
        for name, value in changes.items():
            setattr(message, name, value)
        self.put(topic, topics.CAMERA_INFO, message, at)

    def odometry(self, topic: str, pose: Pose, at: float, **changes: Any) -> None:
        message = messages.odometry(pose, stamp(at))
        for name, value in changes.items():
            target, _, field = name.rpartition("__")
            setattr(getattr(message, target) if target else message, field, value)
        self.put(topic, topics.ODOMETRY, message, at)


def stamp(at: float) -> int:
    """Stamp [ns] of a time in milliseconds since the bag's start."""
    return START + round(at * MS)


def along_x(x: float) -> Pose:
    return Pose(np.array([x, 0.0, 0.0]))


CAMERA = Intrinsics(8, 6, 10.0, 10.0, 3.5, 2.5)


def depth_image(value: float = 1500) -> NDArray[np.uint16]:
    return np.full((6, 8), value, np.uint16)


def color_image(value: int = 100) -> NDArray[np.uint8]:
    return np.full((6, 8, 3), value, np.uint8)


def make_bag(path: Path, frames: int = 5, **flags: Any) -> Path:
    """Makes a bag like a RealSense on a robot: 10 Hz, odometry at 20 Hz, map -> odom at the start.

    Flags: `tf`, `map`, `info`, `color` (False leaves them out), `nan_at` (frame whose odometry is
    NaN), `depth` (a function of the frame's number giving the image), `camera` (the CameraInfo).
    """
    optical = "camera_color_optical_frame"
    with MadeBag(path) as bag:
        if flags.get("tf", True):
            bag.static("base_link", "camera_link", along_x(0.1))
            bag.static("camera_link", optical, Pose(np.array([0, 0, 0.3]), OPTICAL.orientation))
            if flags.get("map", True):
                bag.tf("map", "odom", along_x(10.0), 0)
        for i in range(frames):
            at = 100.0 * i
            if flags.get("tf", True):
                for k in (0, 50):
                    x = np.nan if flags.get("nan_at") == i else (at + k) / 1000
                    bag.tf("odom", "base_link", along_x(x), at + k)
            if flags.get("info", True):
                camera = flags.get("camera", CAMERA)
                bag.info("/camera/aligned_depth_to_color/camera_info", camera, optical, at + 50, at)
                bag.info("/camera/color/camera_info", camera, optical, at + 50, at)
            depth = flags.get("depth", lambda _: depth_image())(i)
            bag.image("/camera/aligned_depth_to_color/image_raw", depth, "16UC1", optical, at + 50, at)
            if flags.get("color", True):
                bag.image("/camera/color/image_raw", color_image(i), "rgb8", optical, at + 50, at)
    return path


def copy_log(source: Path, target: Path, change: Any) -> Path:
    """Copies any log to MCAP; `change(topic, message)` may return another message or None to leave it out.

    Only TF is deserialised for `change`; other messages come as bytes.
    """
    with LogReader(source) as reader, MadeBag(target) as bag:
        for raw in reader.messages():
            type_name = reader.topics[raw.topic].type
            is_tf = type_name == topics.TF_MESSAGE
            message = messages.deserialize(raw.data, type_name) if is_tf else raw.data
            message = change(raw.topic, message)
            if message is not None:
                data = messages.serialize(message, type_name) if is_tf else message
                bag.raw(raw.topic, type_name, data, raw.log_time)
    return target

"""A foreign bag as observations: no ledger, so its messages are put together by stamp."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import LogError
from embodied_mem.geometry import Pose
from embodied_mem.log import topics
from embodied_mem.log.frame_sync import FrameSync
from embodied_mem.log.inputs import Inputs, Survey, choose_inputs, survey, tf_topics
from embodied_mem.log.reader import LogReader
from embodied_mem.log.tf import Frames, find_frames
from embodied_mem.types import Observation


class BagSource:
    """Reads observations from a log without a ledger.

    Args:
        reader: the log.
        remap: role -> topic, overriding what is chosen.
        mask: (H, W) bool, where the first camera sees the robot itself.

    Attributes:
        inputs: the topics that are read, by role.
        frames: map, odom and base.
        odometry_link: (parent, child) where an odometry topic stands in for TF, or None.

    Raises:
        LogError: no depth image or range sensor, no CameraInfo, no TF.
        ConfigError: a remap names an unknown role.
    """

    def __init__(
        self,
        reader: LogReader,
        remap: dict[str, str] | None = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> None:
        self._reader = reader
        everything = tf_topics(reader)
        found = survey(reader, everything)
        self.inputs: Inputs = choose_inputs(found, reader, remap)
        self._tf_topics = tf_topics(reader, self.inputs.driver)
        if self._tf_topics != everything:
            found = survey(reader, self._tf_topics)
        self.odometry_link = self._place_odometry(found, forced="odom" in (remap or {}))
        try:
            frame = self._driver_frame(found)
            self.frames: Frames = find_frames(found.tree, frame, self._odometry_pairs(found))
        except LogError as error:
            raise LogError(f"{reader.path}: {error}") from None
        self._sync = FrameSync(
            {name: info.type for name, info in reader.topics.items()},
            self.inputs,
            self.frames,
            {name for name in self.inputs.topics if self._is_awaited(name)},
            self.odometry_link,
            mask=mask,
        )

    def _is_awaited(self, topic: str) -> bool:
        """True where a frame waits for a topic: it comes often, and is no range sensor, whose past counts."""
        often = 2 * self._reader.topics[topic].count >= self._reader.topics[self.inputs.driver].count
        return often and topic not in self.inputs.ranges

    def _driver_frame(self, found: Survey) -> str:
        return (found.images | found.ranges)[self.inputs.driver].frame

    def _odometry_pairs(self, found: Survey) -> list[tuple[str, str]]:
        first = [found.odometry[self.inputs.odom]] if self.inputs.odom else []
        return first + list(found.odometry.values())

    def _place_odometry(self, found: Survey, forced: bool) -> tuple[str, str] | None:
        """Lets an odometry topic stand in where TF does not place the base; returns its link."""
        if not self.inputs.odom:
            return None
        parent, child = found.odometry[self.inputs.odom]
        child = child or found.tree.ancestors(self._driver_frame(found))[-1]
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
        wanted = {n for n, i in self._reader.topics.items() if i.count and self._is_wanted(n, i.type)}
        for raw in self._reader.messages(wanted):
            yield from self._sync.push(raw)
        yield from self._sync.flush()
        reasons = self._sync.complaints()
        if self._sync.count == 0 and self._sync.images:
            raise LogError(f"{self._reader.path}: {'; '.join(reasons)}")
        self._reader.warnings.extend(reasons)

    def _is_wanted(self, name: str, type_name: str) -> bool:
        if self._reader.topics[name].serialization != "cdr":
            return False
        if type_name == topics.POSE_WITH_COVARIANCE:
            # rviz publishes /initialpose: what a person clicked, not what a localiser found.
            return "initialpose" not in name
        return name in self._tf_topics or type_name == topics.LABEL_INFO or name in self.inputs.topics

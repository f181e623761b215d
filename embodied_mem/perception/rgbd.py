"""Perception of RGB-D cameras and of range sensors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.perception.boxes import BoxLifter
from embodied_mem.perception.camera import check_image
from embodied_mem.perception.clouds import cloud_scan
from embodied_mem.perception.config import (
    BoxConfig,
    CloudConfig,
    DepthConfig,
    DetectorConfig,
    EmbedderConfig,
    MarkerConfig,
    OnnxConfig,
    SnapshotConfig,
)
from embodied_mem.perception.depth import depth_scan
from embodied_mem.perception.detectors import SemanticDetector
from embodied_mem.perception.embedding import ColorHistogram
from embodied_mem.perception.image_model import ImageModel
from embodied_mem.perception.markers import MarkerDetector
from embodied_mem.perception.onnx import OnnxDetector
from embodied_mem.types import CameraFrame, Observation, Percept, Scan


class RgbdPerception:
    """Turns depth, colour and label images into range evidence and snapshots.

    Every camera with a depth image gives one scan in the base frame, through that image's own
    calibration and pose; a label image, of the same or of another camera, names its points. Objects
    detected outside are passed on; detectors add those that they find in label and colour images.

    Args:
        config: which readings are believed.
        snapshot: which colour images are offered to the memory.
        detector: which labels are objects.
        markers: which markers are looked for.
        onnx: the network that looks for objects.
        embedder: the network that says what things and views look like.
        boxes: which boxes of detectors outside are believed.
        clouds: which readings of range sensors are believed.
    """

    def __init__(
        self,
        config: DepthConfig | None = None,
        snapshot: SnapshotConfig | None = None,
        detector: DetectorConfig | None = None,
        markers: MarkerConfig | None = None,
        onnx: OnnxConfig | None = None,
        embedder: EmbedderConfig | None = None,
        boxes: BoxConfig | None = None,
        clouds: CloudConfig | None = None,
    ) -> None:
        self.config = config or DepthConfig()
        self.snapshot = snapshot or SnapshotConfig()
        self.embedder = ImageModel(embedder) if embedder and embedder.model else None
        self.detector = SemanticDetector(detector, self.embedder) if detector and detector.labels else None
        self.boxes = BoxLifter(boxes or BoxConfig(), self.embedder)
        self.clouds = clouds or CloudConfig()
        self.namers: list[MarkerDetector | OnnxDetector] = []
        """Detectors that bring labels of their own."""
        if markers and markers.dictionary:
            self.namers.append(MarkerDetector(markers))
        if onnx and onnx.model:
            self.namers.append(OnnxDetector(onnx, self.embedder))

    def __call__(self, obs: Observation) -> Percept:
        """Perceives one observation.

        Raises:
            InputError: an image's size contradicts its calibration, or a camera's pose is not finite.
        """
        event = "episode_start" if obs.is_first else ""
        detections, labels = obs.detections, obs.labels
        if self.detector is not None:
            for camera in obs.cameras:
                detections += self.detector(camera, obs.labels)
        for camera in obs.cameras:
            detections += self.boxes(camera)
        for namer in self.namers:
            for camera in obs.cameras:
                more, labels = namer(camera, labels)
                detections += more
        snapshot = self._snapshot(obs)
        return Percept(
            stamp=obs.stamp,
            step=obs.step,
            odom_T_base=obs.odom_T_base,
            map_T_odom=obs.map_T_odom,
            covariance=obs.covariance,
            labels=labels,
            scans=(
                *(self._scan(c, len(obs.labels)) for c in obs.cameras if c.depth is not None),
                *(cloud_scan(cloud, self.clouds) for cloud in obs.clouds),
            ),
            detections=detections,
            snapshot=snapshot,
            embedding=None if snapshot is None or self.embedder is None else self.embedder.image(snapshot),
            action=obs.action,
            reward=obs.reward,
            is_first=obs.is_first,
            event="episode_end" if obs.terminated or obs.truncated else event,
            source=_source(obs),
            embedder=(self.embedder or ColorHistogram).name,
        )

    def _scan(self, camera: CameraFrame, label_count: int) -> Scan:
        assert camera.depth is not None
        return depth_scan(
            camera.depth, self.config, semantic=camera.semantic, label_count=label_count, name=camera.name
        )

    def _snapshot(self, obs: Observation) -> NDArray[np.uint8] | None:
        if self.snapshot.every == 0 or obs.step % self.snapshot.every:
            return None
        for camera in obs.cameras:
            if camera.color is not None:
                check_image(camera.color, f"{camera.name}: colour")
                return reduce_image(camera.color.data, self.snapshot.max_width)
        return None


def _source(obs: Observation) -> str:
    if obs.cameras:
        return "rgbd"
    return "ranges" if obs.clouds else "detections" if obs.detections else ""


def reduce_image(image: NDArray[np.uint8], max_width: int) -> NDArray[np.uint8]:
    """Reduces an (H, W, 3) uint8 image by a whole factor, averaging, to at most `max_width` columns.

    Raises:
        InputError: not an (H, W, 3) uint8 image.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"a colour image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
    factor = -(-image.shape[1] // max_width)
    if factor <= 1:
        return image
    height, width = image.shape[0] // factor, image.shape[1] // factor
    cut = image[: height * factor, : width * factor]
    total = np.zeros((height, width, 3), np.uint32)
    for i in range(factor):
        for j in range(factor):
            total += cut[i::factor, j::factor]
    return ((total + factor * factor // 2) // (factor * factor)).astype(np.uint8)

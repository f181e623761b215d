"""Any object detector in ONNX format that gives boxes like YOLO's, run by OpenCV, lifted by depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError
from embodied_mem.perception.boxes import lift_box
from embodied_mem.perception.camera import check_image, same_view
from embodied_mem.perception.config import OnnxConfig
from embodied_mem.perception.embedding import ColorHistogram, Embedder
from embodied_mem.types import CameraFrame, Detection, LabelMap


class OnnxDetector:
    """Finds objects by a detection network and lifts their boxes to 3-D by depth.

    The network takes (1, 3, S, S) float32 RGB in [0, 1] and gives (1, 4 + C, N) or (1, N, 4 + C): centre x
    and y, width, height in pixels of its input, and C class scores: what YOLOv8 and its kin export.

    Args:
        config: the file, its classes, thresholds.
        embedder: says what things look like.

    Raises:
        ConfigError: no such file, or one that OpenCV cannot read.
    """

    def __init__(self, config: OnnxConfig, embedder: Embedder | None = None) -> None:
        import cv2

        self.config = config
        self.embedder = embedder or ColorHistogram()
        if not Path(config.model).is_file():
            raise ConfigError(f"onnx.model: no such file: {config.model}")
        try:
            self._net: Any = cv2.dnn.readNetFromONNX(str(config.model))
        except cv2.error as error:
            raise ConfigError(f"OpenCV cannot read {config.model}: {error.err}") from None

    def __call__(self, camera: CameraFrame, labels: LabelMap) -> tuple[tuple[Detection, ...], LabelMap]:
        """Returns the objects that one camera sees, in the base frame, and labels that name them.

        Args:
            camera: needs colour and depth of the same view; without them there is nothing to find.
            labels: names of the label ids.

        Raises:
            InputError: an image's size contradicts its calibration.
        """
        color, depth = camera.color, camera.depth
        if color is None or depth is None or not same_view(depth, color):
            return (), labels
        check_image(color, f"{camera.name}: colour")
        check_image(depth, f"{camera.name}: depth")
        boxes, classes, scores = self.boxes(color.data)
        names = [self.config.classes[i] for i in classes.tolist()]
        labels = LabelMap((*labels.names, *dict.fromkeys(n for n in names if n not in labels.names)))
        found = []
        for box, name, score in zip(boxes, names, scores.tolist()):
            thing = lift_box(
                box, labels.id(name), float(score), color, depth, self.config.max_range, self.embedder
            )
            if thing is not None:
                found.append(thing)
        return tuple(found), labels

    def boxes(
        self, image: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
        """Returns boxes (B, 4) x0, y0, x1, y1 [px], classes (B,) and scores (B,), the surest first.

        Raises:
            ConfigError: the network gives something else than boxes and scores of these classes.
        """
        import cv2

        height, width = image.shape[:2]
        size, count = self.config.input_size, len(self.config.classes)
        scale = size / max(height, width)
        square = np.full((size, size, 3), 114, np.uint8)
        small = cv2.resize(image, (round(width * scale), round(height * scale)))
        square[: small.shape[0], : small.shape[1]] = small
        self._net.setInput(cv2.dnn.blobFromImage(square, 1 / 255.0))
        output = np.asarray(self._net.forward(), np.float64)
        rows = output.reshape(output.shape[-2:]) if output.shape[:-2].count(1) == output.ndim - 2 else output
        if rows.ndim == 2 and rows.shape[0] == 4 + count:
            rows = rows.T
        if rows.ndim != 2 or rows.shape[1] != 4 + count:
            raise ConfigError(
                f"the network gives {output.shape}, not 4 + {count} numbers a box; check onnx.classes"
            )
        best = rows[:, 4:].argmax(axis=1)
        scores = rows[np.arange(len(rows)), 4 + best]
        keep = np.flatnonzero(scores >= self.config.score)
        centre, half = rows[keep, :2] / scale, rows[keep, 2:4] / scale / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1)
        wide = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        chosen = cv2.dnn.NMSBoxesBatched(
            wide.tolist(), scores[keep].tolist(), best[keep].tolist(), self.config.score, self.config.overlap
        )
        order = np.asarray(chosen, np.int64).reshape(-1)
        return boxes[order], best[keep][order].astype(np.int64), scores[keep][order]

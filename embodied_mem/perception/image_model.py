"""The image part of CLIP and its like, in ONNX format, run by OpenCV: vectors of things and of views."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError
from embodied_mem.perception.config import EmbedderConfig


class ImageModel:
    """An `Embedder` of things, and an `ImageEncoder` of views for `Memory.encoder`.

    The network takes (1, 3, S, S) float32, RGB less a mean and by a deviation, and gives (1, D): what CLIP's,
    SigLIP's and DINO's image encoders are exported as.

    Args:
        config: the file, its input.

    Raises:
        ConfigError: no such file, or one that OpenCV cannot read.
    """

    def __init__(self, config: EmbedderConfig) -> None:
        import cv2

        self.config = config
        if not Path(config.model).is_file():
            raise ConfigError(f"embedder.model: no such file: {config.model}")
        try:
            self._net: Any = cv2.dnn.readNetFromONNX(str(config.model))
        except cv2.error as error:
            raise ConfigError(f"OpenCV cannot read {config.model}: {error.err}") from None
        self.name = _name(config)
        """Tells this network, and what it is fed, from others: the file's name and a checksum."""

    def __call__(self, image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Returns (D,) float32 of length 1; what is not the thing is shown in the network's mean colour.

        Args:
            image: (H, W, 3) uint8 RGB, cut out around the thing.
            mask: (H, W) bool: its pixels.
        """
        mean = np.round(np.array(self.config.mean) * 255.0).astype(np.uint8)
        return self.image(np.where(mask[..., None], image, mean))

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the (D,) float32 embedding, of length 1, of an (H, W, 3) uint8 RGB image.

        Raises:
            ConfigError: the network gives something else than one vector.
        """
        import cv2

        height, width = image.shape[:2]
        edge, size = max(height, width), self.config.input_size
        mean, deviation = np.array(self.config.mean), np.array(self.config.deviation)
        square = np.empty((edge, edge, 3), np.uint8)
        square[:] = np.round(mean * 255.0).astype(np.uint8)
        top, left = (edge - height) // 2, (edge - width) // 2
        square[top : top + height, left : left + width] = image
        method = cv2.INTER_AREA if edge > size else cv2.INTER_CUBIC
        small = cv2.resize(square, (size, size), interpolation=method)
        planes = ((small / 255.0 - mean) / deviation).astype(np.float32).transpose(2, 0, 1)[None]
        self._net.setInput(np.ascontiguousarray(planes))
        output = np.asarray(self._net.forward(), np.float64)
        if output.size != max(output.shape):
            raise ConfigError(f"the network of embedder.model gives {output.shape}, not one vector")
        vector = output.reshape(-1)
        length = np.sqrt((vector * vector).sum())
        return np.asarray(vector / max(length, 1e-12), np.float32)


def _name(config: EmbedderConfig) -> str:
    sha = hashlib.sha256(repr((config.input_size, tuple(config.mean), tuple(config.deviation))).encode())
    with Path(config.model).open("rb") as file:
        while piece := file.read(1 << 20):
            sha.update(piece)
    return f"{Path(config.model).name} {sha.hexdigest()[:12]}"

"""Snapshots: small JPEG images of the moments that became episodic entries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError


def encode_jpeg(image: NDArray[np.uint8], quality: int, size: int) -> bytes:
    """Returns an image as JPEG.

    Args:
        image: (H, W, 3) uint8 RGB.
        quality: 1 to 100.
        size: longest edge [px]; larger images are made smaller.

    Raises:
        InputError: the image has another shape or type.
    """
    import cv2

    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise InputError(f"a snapshot must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
    longest = max(image.shape[:2])
    if longest > size:
        height, width = (max(1, round(edge * size / longest)) for edge in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    # Contiguous pixels: OpenCV copies others one by one, which takes longer than the encoding.
    pixels = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise InputError(f"cannot encode a snapshot of shape {image.shape}")
    return data.tobytes()


def decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    """Returns (H, W, 3) uint8 RGB of what `encode_jpeg` made.

    Raises:
        InputError: the bytes are no image.
    """
    import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError("the snapshot is not an image")
    return np.ascontiguousarray(image[..., ::-1]).astype(np.uint8, copy=False)

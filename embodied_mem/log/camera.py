"""The camera of an image from its CameraInfo, checked against the image."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError, InputError, LogError
from embodied_mem.perception.camera import intrinsics_from_camera_info
from embodied_mem.types import Intrinsics


def read_intrinsics(info: Any, size: tuple[int, int], topic: str, info_topic: str) -> Intrinsics:
    """Reads a sensor_msgs/CameraInfo, with region of interest and binning folded in.

    Args:
        info: the message.
        size: (width, height) [px] of the image.
        topic: of the image, for the error.
        info_topic: of the CameraInfo, for the error.

    Raises:
        LogError: the image is not of the size that its CameraInfo says, or that is unusable.
    """
    roi = info.roi
    try:
        intrinsics = intrinsics_from_camera_info(
            width=int(info.width),
            height=int(info.height),
            k=info.k,
            d=info.d,
            model=str(info.distortion_model),
            r=info.r,
            p=info.p,
            roi=(int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height)),
            binning=(int(info.binning_x), int(info.binning_y)),
            rectified=is_rectified(topic),
        )
    except InputError as error:
        raise LogError(f"{info_topic}: {error}") from None
    if (intrinsics.width, intrinsics.height) != size:
        raise LogError(
            f"{topic} holds images of {size[0]}x{size[1]}, but {info_topic} describes a camera of "
            f"{intrinsics.width}x{intrinsics.height}; choose the right one with --remap"
        )
    return intrinsics


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Reads an image of where a camera sees the robot itself: (H, W), True where it is not black.

    Raises:
        ConfigError: there is none.
    """
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.exists() else None
    if image is None:
        raise ConfigError(f"cannot read the mask {path}; it must be an image")
    return np.asarray(image) > 0


def is_rectified(topic: str) -> bool:
    """True for images that the camera's driver has rectified already: `image_rect`, `image_rect_color`.

    CameraInfo itself does not tell: image_raw and image_rect share one (image_proc).
    """
    name = topic.removesuffix("/compressedDepth").removesuffix("/compressed").rsplit("/", 1)[-1]
    return "rect" in re.split(r"[_\W]+", name.lower())
